"""A rule strategy in a whole daemon: created, foretold, deployed on paper, explained, and refused by path."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from pipaid.errors import InvalidParameter
from tests.surfaces.daemon import CALM, Daemon, running

PUBLISHED: dict[str, Any] = {
    "template_id": "tpl_rules",
    "symbols": ["BTCUSDT"],
    "timeframe": "1h",
    "capital": "10000.00",
    "params": {
        "entry": [
            {
                "name": "rsi_oversold",
                "signal_type": "TRIGGER",
                "timeframe": "1h",
                "params": {"window": 14, "threshold": 30},
            },
            {"name": "is_above_sma", "signal_type": "FILTER", "timeframe": "1h", "params": {"window": 50}},
        ],
        "exit": [],
        "reward_factor": 2.0,
    },
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Generator[Daemon]:
    with running(tmp_path_factory.mktemp("rules"), CALM) as found:
        yield found


def test_the_published_strategy_is_told_that_its_rules_never_held_together(daemon: Daemon) -> None:
    made = daemon.ask("strategy.create", name="published", **PUBLISHED)

    assert made["params"] == PUBLISHED["params"]
    (note,) = made["notes"]
    assert note.startswith("BTCUSDT: the entry rules never held together in the 2880 candles of 1h from 2025-02-01")
    # Only who made or changed it is told; its shape is that of every other from then on.
    assert "notes" not in daemon.ask("strategy.get", id=made["id"])
    (again,) = daemon.ask("strategy.update", id=made["id"], symbols=["ETHUSDT"])["notes"]
    assert again.startswith("ETHUSDT: ")


def test_rules_of_several_timeframes_trade_on_paper_and_are_explained(daemon: Daemon) -> None:
    rise = {"name": "price_above_ema", "params": {"window": 2}}
    params = {
        "entry": [
            {**rise, "signal_type": "TRIGGER", "timeframe": "5m"},
            {**rise, "signal_type": "FILTER", "timeframe": "30m"},
        ],
        "execution_config": {"cooldown_bars": 0},
    }
    made = daemon.ask("strategy.create", name="several", **{**PUBLISHED, "timeframe": "5m", "params": params})

    deployed = daemon.ask("strategy.deploy", id=made["id"], dry_run=True)
    why = daemon.ask("strategy.why", id=made["id"])

    assert "came to hold together" in made["notes"][0]
    assert deployed["status"] == "deployed"
    assert {"ema[2] 5m", "ema[2] 30m", "atr[14] 5m"} <= set(why["features"])
    assert all(value is not None for value in why["features"].values())


def test_what_is_wrong_with_rules_is_refused_by_path(daemon: Daemon) -> None:
    entry = [{**PUBLISHED["params"]["entry"][0], "params": {"window": 1}}]

    with pytest.raises(InvalidParameter) as refused:
        daemon.ask("strategy.create", name="wrong", **{**PUBLISHED, "params": {"entry": entry}})

    assert {name for name, _ in refused.value.details} == {"entry", "entry[0].params.window"}


def test_strategies_are_deployed_on_the_six_published_timeframes(daemon: Daemon) -> None:
    with pytest.raises(InvalidParameter, match="one of 1m, 5m, 15m, 1h, 4h, 1d"):
        daemon.ask("strategy.create", name="half an hour", **{**PUBLISHED, "timeframe": "30m"})
