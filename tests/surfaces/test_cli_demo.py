"""The demo: it starts from nothing, shows strategies trade, ends as it is told and leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import psutil
import pytest

from tests.surfaces.daemons import command, in_terminal, pipaid


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Return a folder for temporary files that is empty before and has to be afterwards."""
    folder = tmp_path / "t"
    folder.mkdir()
    return folder


def daemons_of(folder: Path) -> list[int]:
    """Return the processes that were started on a state below a folder."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if str(folder) in str(process.info["cmdline"]) and process.pid != os.getpid()
    ]


def test_it_ends_by_itself_and_at_least_four_strategies_traded(temporary: Path) -> None:
    ended = pipaid("demo", "--seconds", "8", cwd=temporary, TMPDIR=str(temporary))

    assert ended.code == 0, ended.err
    assert any(f"{traded} of 6 strategies traded" in ended.out for traded in (4, 5, 6))
    assert "commits/s" in ended.out
    assert list(temporary.iterdir()) == []
    assert daemons_of(temporary) == []


def test_programs_get_the_summary_alone(temporary: Path) -> None:
    ended = pipaid("demo", "--seconds", "7", "--json", cwd=temporary, TMPDIR=str(temporary))

    results = msgspec.json.decode(ended.out)["data"]
    assert ended.code == 0, ended.err
    assert len(results) == 6
    assert sum(result["fills"] > 0 for result in results) >= 4


def test_ctrl_c_leaves_the_terminal_clean_and_nothing_behind(temporary: Path) -> None:
    ended = in_terminal(command("admin", "demo"), until="order_filled", TMPDIR=str(temporary))

    assert ended.code == 0, ended.out
    assert "what the strategies did" in ended.out.rpartition("\x1b[?1049l")[2]
    assert "Traceback" not in ended.out
    assert list(temporary.iterdir()) == []
    assert daemons_of(temporary) == []


def test_a_state_that_was_named_is_kept(temporary: Path) -> None:
    state = temporary / "state"

    pipaid("demo", "--seconds", "1", "--state", str(state), TMPDIR=str(temporary))

    assert pipaid("journal", "verify", "--state", str(state)).code == 0
    assert [path.name for path in temporary.iterdir()] == ["state"]


def test_too_little_trading_is_a_failure(temporary: Path) -> None:
    ended = pipaid("demo", "--seconds", "2", PIPAID__MARKET__SPEED="1", TMPDIR=str(temporary))

    assert ended.code == 1
    assert "strategies traded, 4 should have" in ended.err


def test_a_daemon_that_cannot_start_is_told_with_its_own_words(temporary: Path) -> None:
    ended = pipaid("demo", "--seconds", "2", PIPAID__MARKET__SPEED="fast", TMPDIR=str(temporary))

    assert ended.code == 6
    assert "market.speed" in ended.err
    assert list(temporary.iterdir()) == []
