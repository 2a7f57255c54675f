"""Rules of any signal of the catalogue: taken, played alike in both ways, and those that add up returns begin anew."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipaid.engine.backtest import run
from pipaid.model.candle import Candle
from pipaid.signals.catalogue.declare import SignalType
from pipaid.signals.catalogue.lookup import SIGNALS
from templates.rules import Rules, RulesState
from tests.signals.candles import walks
from tests.templates.test_backtests import backtest
from tests.templates.test_rules import RISES, hours, played, rules, structured, trial_of

# What has no default needs something.
NEEDED = {"window_fast": 3, "window_slow": 8, "window": 5}
FILTERS = [name for name, signal in SIGNALS.items() if signal.type is SignalType.FILTER]


def rule_of(name: str, signal_type: str, timeframe: str) -> dict[str, Any]:
    params = {knob.name: NEEDED[knob.name] for knob in SIGNALS[name].knobs if knob.required}
    return {"name": name, "signal_type": signal_type, "timeframe": timeframe, "params": params}


def any_rule(names: Sequence[str], signal_type: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(rule_of, st.sampled_from(names), st.just(signal_type), st.sampled_from(["1h", "4h", "1D"]))


@pytest.mark.parametrize("name", SIGNALS)
def test_every_signal_can_be_a_rule(name: str) -> None:
    other = rule_of("natr_low_volatility", "FILTER", "4h")
    params = structured({"entry": [rule_of(name, "TRIGGER", "1h"), other]})

    template = Rules(params)

    assert template.features()
    wakes = template.wakes()
    assert wakes.every if SIGNALS[name].anchored else len(wakes.flat) == 1


@settings(max_examples=60)
@given(
    candles=walks(count=150, gap_max=3),
    entry=st.tuples(any_rule(list(SIGNALS), "TRIGGER"), any_rule(FILTERS, "FILTER")),
    exit_=st.none() | any_rule(list(SIGNALS), "TRIGGER"),
)
def test_rules_of_any_signals_are_played_alike_in_both_ways(
    candles: Sequence[Candle], entry: tuple[dict[str, Any], ...], exit_: dict[str, Any] | None
) -> None:
    raw = {**rules(), "entry": list(entry), "exit": [] if exit_ is None else [exit_]}
    plan = backtest(Rules, raw, candles).plan()

    every, skipped = run(plan, driver="callback"), run(plan, driver="skipping")

    assert skipped.digest == every.digest
    assert skipped.refusals == every.refusals


def test_returns_add_up_from_the_deployment_on() -> None:
    gained = {"name": "cumulative_return_target", "signal_type": "TRIGGER", "timeframe": "1h", "params": {"target": 10}}
    raw = {**rules(), "entry": [gained, RISES]}
    # It falls by half before it is deployed, and rises by a tenth and more after that.
    candles = hours([100, 50, 51, 54, 56, 57])

    late = played(raw, candles, start=candles[2].open_time_ms)
    whole = played(raw, candles)

    assert [fill.time_ms for fill in late.fills] == [candles[5].open_time_ms]
    assert whole.fills == ()


def test_the_price_at_deployment_survives_a_restart() -> None:
    gained: dict[str, Any] = {
        "name": "cumulative_return_positive",
        "signal_type": "TRIGGER",
        "timeframe": "1h",
        "params": {},
    }
    trial = trial_of({**rules(), "entry": [gained, RISES]}, hours([100, 99, 98, 99, 100, 101, 102]))

    assert trial.session.brain.state == {"EURUSD": trial.session.template.state["EURUSD"]}
    state = trial.session.template.state["EURUSD"]
    assert isinstance(state, RulesState)
    assert state.anchor == 100.0
    assert [lot.entry_price for lot in trial.session.positions.values()] == [Decimal(101)]
