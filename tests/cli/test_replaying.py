"""`--driver replay`: a daemon of its own comes to the very bytes that the other drivers come to, and leaves nothing."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from decimal import Decimal
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import pytest

from pipaid.backtesting import Backtest
from pipaid.cli import replaying
from pipaid.cli.child import Child, running
from pipaid.cli.replaying import replay
from pipaid.cli.terminal import Terminal
from pipaid.config import Config, load_config
from pipaid.errors import BacktestFailed, InvalidParameter
from pipaid.model.backtest import BacktestResult
from pipaid.model.reply import StrategyObject
from pipaid.seams import World
from tests.cli.test_backtesting import DECLARED, fact, played, rates
from tests.cli.test_downloading import streams
from tests.scenarios.recordings import MINUTE_MS, START_MS, write_recording
from tests.scenarios.test_three_drivers import CASES, candles_of, definition_of

MINUTES = 1_200
BROKEN = """
from attrs import frozen
from pipaid.sdk import Template

@frozen(kw_only=True)
class Nothing:
    pass

class Broken(Template):
    id = "tpl_broken"
    description = "Fails."
    params_type = Nothing

    def on_candle(self, view):
        raise RuntimeError("no more")
"""


@pytest.fixture(autouse=True)
def left_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the directories of daemons made in a folder that is empty afterwards; the paths of sockets must be short."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "mkdtemp", partial(tempfile.mkdtemp, dir=folder))
        yield
        monkeypatch.undo()
        assert list(Path(folder).iterdir()) == []


def with_world(terminal: Terminal, **variables: str) -> Terminal:
    return attrs.evolve(terminal, variables={**os.environ, **variables})


def both(backtest: Backtest) -> tuple[BacktestResult, BacktestResult]:
    """Return what the replay and what the callback came to."""
    shares: list[float] = []
    replayed = replay(with_world(streams().terminal), backtest, shares.append).raw
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    return replayed, backtest.run(driver="callback").raw


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_replay_comes_to_what_the_callback_comes_to(name: str, tmp_path: Path) -> None:
    definition = definition_of(name)
    write_recording(tmp_path, minutes=MINUTES, seed=5, symbols=definition.symbols)
    # So often that there is always something to settle it on, and more is paid than received.
    due = [(START_MS + minute * MINUTE_MS, Decimal(minute % 70 - 20) / 1_000_000) for minute in range(0, MINUTES, 10)]

    replayed, called = both(
        Backtest(
            template=definition.template_id,
            params=definition.params,
            candles={symbol: candles_of(tmp_path, symbol) for symbol in definition.symbols},
            timeframe=definition.timeframe,
            leverage=definition.leverage,
            slippage_bps="2",
            fee_model="match_exchange",
            venue="binance-usdm",
            funding=dict.fromkeys(definition.symbols, due),
            start=START_MS + 100 * MINUTE_MS,
            end=START_MS + 1_100 * MINUTE_MS,
        )
    )

    assert replayed.funding == called.funding != 0
    assert replayed.equity_curve == called.equity_curve
    assert replayed.metrics == called.metrics
    assert replayed.refusals == called.refusals
    assert sorted(map(told, replayed.fills)) == sorted(map(told, called.fills))
    assert len(replayed.fills) > 5


def told(fill: Any) -> tuple[Any, ...]:
    return fill.time_ms, fill.symbol, fill.side, fill.quantity, fill.price, fill.fee


def test_the_command_tells_the_same_to_the_byte(tmp_path: Path) -> None:
    path = rates(tmp_path, "BTCUSDT-a.csv", "time,rate\n2023-11-15T16:00:00Z,0.001\n")
    asked: dict[str, Any] = {"as_json": True, "since": "2023-11-15T10:00:00Z", "funding": (path,)}

    called = played(tmp_path, driver="callback", **asked).out.getvalue()

    assert played(tmp_path, driver="replay", **asked).out.getvalue() == called
    assert len(json.loads(called)["trades"]) > 5


def test_what_is_set_for_another_daemon_does_not_reach_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPAID__RISK__DAEMON__REDUCE_ONLY", "true")

    assert fact(played(tmp_path, driver="replay"), "fills") == fact(played(tmp_path), "fills") != "0"


def test_a_daemon_that_has_not_read_its_declarations_yet_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, strategies = count(), Terminal.strategies

    def late(terminal: Terminal) -> Iterator[StrategyObject]:
        return strategies(terminal) if next(asked) else iter(())

    monkeypatch.setattr(Terminal, "strategies", late)

    assert fact(played(tmp_path, driver="replay"), "fills") == fact(played(tmp_path), "fills") != "0"


def test_the_daemon_of_a_replay_serves_nobody_on_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Config] = []

    def seen(terminal: Terminal, config: Path, state: Path) -> AbstractContextManager[Child]:
        given.append(load_config(config, World()))
        return running(terminal, config, state)

    monkeypatch.setattr(replaying, "running", seen)
    played(tmp_path, driver="replay", since="2023-11-15T12:00:00Z", until="2023-11-15T13:00:00Z")

    assert [(each.http.mode, each.stream.enabled) for each in given] == [("off", False)]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"fee_model": "tiered_maker_taker"}, "the desk of a replay charges no tiered_maker_taker"),
        ({"capital": "1"}, "must be at least 100 for tpl_momentum"),
        ({"text": DECLARED.replace("fast = 3", "fast = 900")}, "fast"),
    ],
)
def test_what_cannot_be_replayed_is_refused(tmp_path: Path, given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidParameter, match=complaint):
        played(tmp_path, driver="replay", **given)


def test_candles_other_than_minutes_are_not_replayed(tmp_path: Path) -> None:
    write_recording(tmp_path, minutes=600, seed=5, symbols=("BTCUSDT",))
    candles = candles_of(tmp_path, "BTCUSDT").larger(definition_of("momentum of many").timeframe)

    with pytest.raises(InvalidParameter, match="a replay plays 1m candles, and those of BTCUSDT are 5m"):
        replay(streams().terminal, Backtest(template="tpl_momentum", candles={"BTCUSDT": candles}), lambda _: None)


def test_a_template_that_fails_ends_the_replay_with_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "plugin"
    (home / "broken-1.dist-info").mkdir(parents=True)
    (home / "broken_template.py").write_text(BROKEN, encoding="utf-8")
    (home / "broken-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    entry = "[pipaid.templates]\ntpl_broken = broken_template:Broken\n"
    (home / "broken-1.dist-info" / "entry_points.txt").write_text(entry, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(home), *sys.path])
    monkeypatch.setitem(sys.modules, "broken_template", None)
    del sys.modules["broken_template"]
    write_recording(tmp_path, minutes=600, seed=5, symbols=("BTCUSDT",))
    backtest = Backtest(
        template="tpl_broken", candles={"BTCUSDT": candles_of(tmp_path, "BTCUSDT")}, capital=Decimal(1_000)
    )

    with pytest.raises(BacktestFailed, match=r"tpl_broken failed at .*no more"):
        replay(with_world(streams().terminal, PYTHONPATH=str(home)), backtest, lambda _: None)
