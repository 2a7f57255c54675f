"""Params are checked with every mistake named, and published as a schema that says what the checks do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipaid.engine.guards import RiskParams
from pipaid.engine.params import param_specs, params_schema, structure_params, structure_risk
from pipaid.errors import InvalidParameter
from pipaid.model.instrument import Instrument
from pipaid.plugins import load_templates
from pipaid.sdk import Template, Timeframe
from templates.analyst import Analyst
from templates.breakout import Breakout
from templates.dca import Dca
from templates.grid import Grid
from templates.meanrev import MeanReversion
from templates.momentum import Momentum
from templates.rules import Rules
from tests.templates.driver import EURO

GOOD: dict[type[Template], dict[str, Any]] = {
    Grid: {"grid_levels": 8, "upper_price": "120", "lower_price": "100"},
    Dca: {"interval": "1d", "buy_amount": "100"},
    Momentum: {},
    MeanReversion: {},
    Breakout: {},
    Rules: {
        "entry": [
            {"name": "rsi_oversold", "signal_type": "TRIGGER", "timeframe": "1h"},
            {"name": "is_above_sma", "signal_type": "FILTER", "timeframe": "1h", "params": {"window": 50}},
        ]
    },
    Analyst: {"llm_provider": "main", "llm_model": "some-model"},
}
# Who asks nobody needs none.
ASKING = frozenset(GOOD[Analyst])

# Template, param, least and largest value that is taken, values just outside; written from the documented ranges.
RANGES: list[tuple[type[Template], str, object, object, tuple[object, ...]]] = [
    (Grid, "grid_levels", 2, 200, (1, 201)),
    (Grid, "rebalance_threshold", "0", "0.5", ("-0.01", "0.51")),
    (Grid, "stop_loss_pct", "0", "1", ("-0.01", "1.01")),
    (Grid, "take_profit_pct", "0", "1", ("-0.01", "1.01")),
    (Grid, "lower_price", "0.01", "119.99", ("0", "-1", "120")),
    (Dca, "buy_amount", "0.1", "1000", ("0", "1000.01")),
    (Dca, "max_buys", 1, 10_000, (-1, 10_001)),
    (Dca, "take_profit_pct", "0", "10", ("-0.1", "10.1")),
    (Dca, "stop_loss_pct", "0", "10", ("-0.1", "10.1")),
    (Momentum, "fast", 2, 25, (1, 26, 201)),
    (Momentum, "slow", 13, 400, (12, 401)),
    (Momentum, "rsi_period", 2, 100, (1, 101)),
    (Momentum, "rsi_min", "0", "100", ("-1", "100.1")),
    (Momentum, "atr_period", 2, 100, (1, 101)),
    (Momentum, "stop_atr", "0.1", "20", ("0.09", "20.1")),
    (Momentum, "take_atr", "0", "50", ("-0.1", "50.1")),
    (Momentum, "risk_per_trade", "0.0001", "0.2", ("0", "0.00009", "0.21")),
    (MeanReversion, "window", 5, 500, (4, 501)),
    (MeanReversion, "entry_z", "0.6", "6", ("0.4", "0.5", "6.1")),
    (MeanReversion, "exit_z", "0", "1.9", ("-0.1", "2", "3.1")),
    (MeanReversion, "stop_z", "0", "12", ("-0.1", "12.1")),
    (MeanReversion, "max_hold_bars", 0, 10_000, (-1, 10_001)),
    (Breakout, "lookback", 2, 500, (1, 501)),
    (Breakout, "exit_lookback", 1, 500, (0, 501)),
    (Breakout, "atr_period", 2, 100, (1, 101)),
    (Breakout, "stop_atr", "0.1", "20", ("0.09", "20.1")),
    (Analyst, "confidence_threshold", "0", "1", ("-0.01", "1.01")),
    (Analyst, "candles_shown", 4, 200, (3, 201)),
    (Analyst, "maintenance_interval_minutes", 1, 10_080, (0, 10_081)),
    (Analyst, "budget_tokens_per_day", 0, 10**9, (-1, 10**9 + 1)),
    (Analyst, "tokens_max", 64, 32_000, (63, 32_001)),
    (Analyst, "patience_s", 1, 600, (0, 601)),
    (Analyst, "stop_distance_min", "0", "0.19", ("-0.1", "0.2", "1.1")),
    (Analyst, "stop_distance_max", "0.001", "1", ("0", "1.1")),
    (Analyst, "price_move_max", "0.0001", "1", ("0", "1.1")),
    (Analyst, "reward_factor", "0.9", "10", ("0.8", "10.1")),
]

DEFAULTS: dict[type[Template], dict[str, object]] = {
    Grid: {"rebalance_threshold": "0.01", "spacing": "arithmetic", "side": "long", "stop_loss_pct": "0",
           "take_profit_pct": "0"},
    Dca: {"max_buys": 0, "take_profit_pct": "0", "stop_loss_pct": "0"},
    Momentum: {"fast": 12, "slow": 26, "rsi_period": 14, "rsi_min": "55", "atr_period": 14, "stop_atr": "2",
               "take_atr": "4", "risk_per_trade": "0.01", "allow_short": False},
    MeanReversion: {"window": 20, "entry_z": "2", "exit_z": "0.5", "stop_z": "4", "max_hold_bars": 200,
                    "risk_per_trade": "0.01", "allow_short": False},
    Breakout: {"lookback": 24, "exit_lookback": 12, "atr_period": 14, "stop_atr": "2", "risk_per_trade": "0.01",
               "allow_short": False},
    Rules: {"exit": [], "reward_factor": 2, "composition": "strict"},
    Analyst: {"execution_mode": "llm_only", "strategy_type": "prompt", "llm_provider": None, "llm_model": None,
              "custom_prompt": None, "symbols_note": None,
              "context_tfs": [], "candles_shown": 48, "confidence_threshold": 0.7, "allow_short": True,
              "stop_distance_min": "0.0005", "stop_distance_max": "0.2", "price_move_max": "0.01",
              "maintenance_enabled": False, "maintenance_interval_minutes": 60, "budget_money_per_day": "1",
              "budget_tokens_per_day": 500_000, "tokens_max": 1_024, "patience_s": 60, "entry": [], "exit": [],
              "reward_factor": 2, "composition": "strict"},
}  # fmt: skip


def structured(
    kind: type[Template],
    raw: dict[str, Any],
    *,
    symbols: tuple[str, ...] = ("EURUSD",),
    capital: int = 1000,
    timeframe: Timeframe = Timeframe.M5,
    instruments: dict[str, Instrument] | None = None,
) -> Any:
    """Structure params for a strategy with ordinary surroundings."""
    return structure_params(
        kind, raw, symbols=symbols, timeframe=timeframe, capital=Decimal(capital), instruments=instruments
    )


def mistakes(call: Callable[[], object]) -> dict[str, str]:
    """Return the fields a call refuses, with the reasons."""
    with pytest.raises(InvalidParameter) as refused:
        call()
    assert all(field in refused.value.message for field, _ in refused.value.details)
    return dict(refused.value.details)


@pytest.mark.parametrize(("kind", "name", "least", "largest", "outside"), RANGES)
def test_a_range_is_taken_to_its_ends_and_not_beyond(
    kind: type[Template], name: str, least: object, largest: object, outside: tuple[object, ...]
) -> None:
    for value in (least, largest):
        structured(kind, {**GOOD[kind], name: value})
    for value in outside:
        found = mistakes(partial(structured, kind, {**GOOD[kind], name: value}))
        # A pair out of order is told at the smaller side.
        assert set(found) & {name, "fast", "exit_z", "stop_distance_min"}


@pytest.mark.parametrize("kind", GOOD)
def test_defaults_are_the_documented_ones(kind: type[Template]) -> None:
    properties = params_schema(kind)["properties"]
    own = {name: schema["default"] for name, schema in properties.items() if "default" in schema}

    assert own == DEFAULTS[kind]
    params = structured(kind, GOOD[kind])
    for name, (attribute, spec) in param_specs(kind.params_type).items():
        if name in own and name not in ASKING:
            expected = () if spec.kind == "list" else spec.parse(own[name])
            assert getattr(params, attribute.name) == expected


@pytest.mark.parametrize(
    "value", [0.5, float("nan"), "0,5", "1e-2", "NaN", "Infinity", "", " 1", "٠.٥", True, None, [], {}, "0." + "1" * 19]
)
def test_a_decimal_is_a_plain_string_or_a_whole_number(value: object) -> None:
    assert set(mistakes(lambda: structured(Grid, {**GOOD[Grid], "rebalance_threshold": value}))) == {
        "rebalance_threshold"
    }


@pytest.mark.parametrize("value", ["8", 8.0, True, None, "eight", 10**30])
def test_a_whole_number_is_one(value: object) -> None:
    assert set(mistakes(lambda: structured(Grid, {**GOOD[Grid], "grid_levels": value}))) == {"grid_levels"}


@pytest.mark.parametrize("value", ["yes", 1, "true", None])
def test_a_flag_is_true_or_false(value: object) -> None:
    assert set(mistakes(lambda: structured(Momentum, {"allow_short": value}))) == {"allow_short"}


@pytest.mark.parametrize("value", ["LONG", "", 1, None, ["long"]])
def test_a_choice_is_one_of_its_words(value: object) -> None:
    found = mistakes(lambda: structured(Grid, {**GOOD[Grid], "side": value}))

    assert found["side"].startswith("must be one of long, short, neutral")


def test_every_mistake_is_named_at_once() -> None:
    raw = {
        "upper_price": "100",
        "lower_price": "120",
        "rebalance_threshold": 0.01,
        "spacing": "crooked",
        "colour": "blue",
        "risk": {"max_open_positions": 0, "max_drawdown_pct": "1.5", "cooldown_candles": 3, "max_daily_loss": "-1"},
    }

    assert mistakes(lambda: structured(Grid, raw)).keys() == {
        "grid_levels",
        "rebalance_threshold",
        "spacing",
        "colour",
        "lower_price",
        "risk.max_open_positions",
        "risk.max_drawdown_pct",
        "risk.cooldown_candles",
        "risk.max_daily_loss",
    }


def test_mistakes_of_params_and_of_their_surroundings_are_told_together() -> None:
    raw = {"interval": "5m", "buy_amount": "2000", "unknown": 1}

    found = mistakes(lambda: structured(Dca, raw, timeframe=Timeframe.H1))

    assert found.keys() == {"interval", "buy_amount", "unknown"}


@pytest.mark.parametrize("kind", GOOD)
def test_a_strategy_without_symbols_is_somebody_elses_refusal(kind: type[Template]) -> None:
    assert isinstance(structured(kind, GOOD[kind], symbols=()), kind.params_type)


def test_a_missing_field_is_called_so() -> None:
    assert mistakes(lambda: structured(Dca, {})) == {"interval": "is required", "buy_amount": "is required"}


def test_what_is_told_is_bounded() -> None:
    with pytest.raises(InvalidParameter) as refused:
        structured(Momentum, {f"{'x' * 1000}{number}": "y" * 10_000 for number in range(1000)})

    assert len(refused.value.details) <= 100
    assert len(refused.value.message) < 100_000


def test_averaging_is_held_against_capital_symbols_and_venue() -> None:
    def amount(value: str, **around: Any) -> dict[str, str]:
        return mistakes(lambda: structured(Dca, {"interval": "1d", "buy_amount": value}, **around))

    two = ("EURUSD", "GBPUSD")
    assert amount("501", symbols=two)["buy_amount"].startswith("must be at most the capital of each symbol (500.00)")
    assert "minimum notional 5" in amount("4.99", instruments={"EURUSD": EURO})["buy_amount"]
    assert "set max_buys" in amount("0.09", capital=1000)["buy_amount"]


def test_a_grid_is_held_against_tick_and_least_notional() -> None:
    coarse = msgspec.structs.replace(EURO, tick_size=Decimal(5))

    assert "tick" in mistakes(lambda: structured(Grid, GOOD[Grid], instruments={"EURUSD": coarse}))["grid_levels"]
    found = mistakes(
        lambda: structured(Grid, {**GOOD[Grid], "grid_levels": 200}, capital=900, instruments={"EURUSD": EURO})
    )
    assert "minimum notional 5" in found["grid_levels"]


def test_a_grid_has_no_level_that_the_tick_makes_nothing() -> None:
    raw = {**GOOD[Grid], "lower_price": "0.000001"}

    found = mistakes(lambda: structured(Grid, raw, instruments={"EURUSD": EURO}))

    assert found == {"lower_price": "is no price of EURUSD, whose tick is 0.00001"}


def test_a_neutral_grid_has_no_target() -> None:
    raw = {**GOOD[Grid], "side": "neutral", "take_profit_pct": "0.1"}

    assert mistakes(lambda: structured(Grid, raw)).keys() == {"take_profit_pct"}


def test_caps_are_laid_over_the_defaults_of_the_template() -> None:
    risk = structure_risk(Momentum, {"fast": 3, "risk": {"cooldown_bars": 5, "max_trades_per_day": None}})

    assert risk.cooldown_candles == 5
    assert risk.max_trades_per_day is None
    assert risk.max_open_positions == Momentum.risk_defaults.max_open_positions == 10
    assert structure_risk(Momentum, {}) == Momentum.risk_defaults


@pytest.mark.parametrize("risk", [None, [], "none", 3])
def test_caps_are_an_object(risk: object) -> None:
    assert mistakes(lambda: structured(Momentum, {"risk": risk})).keys() == {"risk"}
    assert mistakes(lambda: structure_risk(Momentum, {"risk": risk})).keys() == {"risk"}


@pytest.mark.parametrize("kind", GOOD)
def test_the_caps_of_a_template_are_in_its_schema(kind: type[Template]) -> None:
    risk = params_schema(kind)["properties"]["risk"]["properties"]

    assert set(risk) == {
        "max_open_positions",
        "max_trades_per_day",
        "max_position_notional",
        "max_daily_loss",
        "max_drawdown_pct",
        "cooldown_bars",
        "max_order_rate",
    }
    raw = {"risk": {name: schema["default"] for name, schema in risk.items()}}
    assert structure_risk(kind, raw) == kind.risk_defaults
    assert kind.risk_defaults.max_drawdown_pct is not None


@pytest.mark.parametrize("kind", load_templates().templates.values())
def test_a_schema_describes_every_param(kind: type[Template]) -> None:
    schema = msgspec.json.decode(msgspec.json.encode(params_schema(kind)))

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == {*param_specs(kind.params_type), "risk", "schedule"}
    assert all(knob["description"] for knob in schema["properties"].values())
    assert set(schema["required"]) == set(GOOD[kind]) - ASKING


def test_the_schema_tells_how_a_schedule_is_written() -> None:
    schedule = params_schema(Grid)["properties"]["schedule"]
    knobs = schedule["properties"]

    assert (schedule["required"], schedule["additionalProperties"]) == ([], False)
    assert knobs["trigger"]["enum"] == ["candle_close", "interval", "cron"]
    assert {name: knob.get("default") for name, knob in knobs.items()} == {
        "trigger": "candle_close", "interval_minutes": None, "cron": None, "timezone": "UTC", "skip_hours": [],
        "skip_hours_timezone": None,
    }  # fmt: skip
    hours = knobs["skip_hours"]
    assert (hours["type"], hours["items"], hours["maxItems"], hours["uniqueItems"]) == (
        "array", {"type": "integer", "minimum": 0, "maximum": 23}, 24, True,
    )  # fmt: skip


def test_mistakes_of_a_schedule_are_named_beside_those_of_the_template() -> None:
    raw = {**GOOD[Grid], "grid_levels": 1, "schedule": {"trigger": "cron", "cron": "61 * * * *", "skip_hours": [24]}}

    assert mistakes(lambda: structured(Grid, raw)) == {
        "grid_levels": "must be from 2 to 200, got 1",
        "schedule.cron": "bad minute in '61 * * * *'",
        "schedule.skip_hours": "must be from 0 to 23, got 24",
    }


@given(data=st.data())
def test_what_the_schema_allows_for_whole_numbers_the_check_takes(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(list(GOOD)))
    whole = {name: knob for name, knob in params_schema(kind)["properties"].items() if knob.get("type") == "integer"}
    assume(whole)
    name = data.draw(st.sampled_from(sorted(whole)))
    value = data.draw(st.integers(whole[name]["minimum"] - 3, whole[name]["maximum"] + 3))
    _, spec = param_specs(kind.params_type)[name]

    inside = whole[name]["minimum"] <= value <= whole[name]["maximum"]

    if inside:
        assert spec.parse(value) == value
    else:
        with pytest.raises(ValueError, match="must be from"):
            spec.parse(value)


def test_params_cannot_be_changed() -> None:
    params = structured(Momentum, {})

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        params.fast = 3
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        RiskParams().max_open_positions = 3  # type: ignore[misc]  # That is what must not work.


@given(raw=st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
), name=st.sampled_from(["interval", "buy_amount", "max_buys", "risk", "x"]))  # fmt: skip
def test_no_value_does_worse_than_to_be_refused(raw: object, name: str) -> None:
    try:
        params = structured(Dca, {**GOOD[Dca], name: raw})
    except InvalidParameter as refused:
        told = [field.partition(".")[0] for field, _ in refused.details]
    else:
        told = []
        assert isinstance(params, Dca.params_type)

    assert set(told) <= {name}


def test_what_was_prepared_leaves_the_first_check_nothing_to_build() -> None:
    code = """
from tests.templates.test_params import GOOD, structured
from pipaid.engine import params, schedule
params.prepare(GOOD)
before = params._structurer.cache_info().misses, schedule.known_zones.cache_info().misses
for template, given in GOOD.items():
    structured(template, {**given, "schedule": {"skip_hours": [1], "skip_hours_timezone": "Europe/Rome"}})
assert before == (params._structurer.cache_info().misses, schedule.known_zones.cache_info().misses)
assert min(before) == 1 < max(before)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
