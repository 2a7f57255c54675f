"""`pipaid backtest` as a program: interrupted amid years of candles, it ends at once and leaves nothing behind."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.bench.longrun import declare, store_swings
from tests.surfaces.daemons import command, in_terminal

SYMBOLS = ("ONEUSDT", "TWOUSDT", "SIXUSDT")
# So many that it plays for half a minute at least, should nobody stop it.
MINUTES = 1_000_000
CURSOR_SHOWN = "\x1b[?25h"


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("candles")
    store_swings(folder, SYMBOLS, MINUTES)
    declare(folder, SYMBOLS)
    return folder


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_backtest_ends_at_once_and_leaves_nothing_behind(
    candles: Path, tmp_path: Path, ending: signal.Signals
) -> None:
    before = sorted(candles.rglob("*"))
    words = command("admin", "backtest", str(candles / "long.toml"), "--data", str(candles))

    ended = in_terminal(
        [*words, "--report", str(tmp_path / "out.html")], until="1 %", ending=ending, TMPDIR=str(tmp_path)
    )

    assert ended.code == 130
    assert "100 %" not in ended.out
    assert "Traceback" not in ended.out
    assert CURSOR_SHOWN in ended.out
    assert sorted(candles.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []
