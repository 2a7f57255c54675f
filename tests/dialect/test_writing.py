"""Bodies of both forms become definitions: which symbol, which candles, how much, and every bad field by name."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipaid.dialect.refusing import code_of
from pipaid.dialect.shapes import CreateAsked, UpdateAsked
from pipaid.dialect.writing import CANDLES, changes_of, definition_of
from pipaid.errors import InvalidParameter
from pipaid.model.instrument import Timeframe
from pipaid.model.parsing import parse_request
from pipaid.model.strategy import StrategyDefinition
from tests.builders import make_definition, make_instrument

LISTED = {
    symbol: make_instrument(symbol, base=base, quote=quote)
    for symbol, base, quote in (
        ("BTCUSDT", "BTC", "USDT"), ("BTCEUR", "BTC", "EUR"), ("ETHUSDT", "ETH", "USDT"), ("SOLEUR", "SOL", "EUR"),
        ("SOLBUSD", "SOL", "BUSD"),
    )
}  # fmt: skip
TRIGGER = {
    "name": "rsi_oversold",
    "signal_type": "TRIGGER",
    "timeframe": "1h",
    "params": {"window": 14, "threshold": 30},
}
FILTER = {"name": "is_above_sma", "signal_type": "FILTER", "timeframe": "1h", "params": {"window": 50}}
# As it is published.
SEED: dict[str, Any] = {
    "name": "BTC RSI Strategy", "asset": "BTC", "entry": [TRIGGER, FILTER], "exit": [], "reward_factor": 2.0,
}  # fmt: skip
ANALYST: dict[str, Any] = {
    "name": "Harmonic",
    "strategy_type": "prompt",
    "execution_mode": "multi_agent",
    "primary_tf": "H1",
    "symbols": ["BTCUSDT"],
    "maintenance_enabled": True,
    "llm_provider": "anthropic",
    "llm_model": "some-model",
}


def defined(body: dict[str, Any]) -> StrategyDefinition:
    asked = parse_request(CreateAsked, msgspec.json.decode(msgspec.json.encode(body)))
    assert isinstance(asked, CreateAsked)
    return definition_of(asked, LISTED)


def changed(before: StrategyDefinition, **body: Any) -> dict[str, Any]:
    asked = parse_request(UpdateAsked, {"id": "strat_1", **msgspec.json.decode(msgspec.json.encode(body))})
    assert isinstance(asked, UpdateAsked)
    return changes_of(before, asked, LISTED)


def mistakes_in(body: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidParameter) as refused:
        defined(body)
    return dict(refused.value.details)


def rules(*timeframes: str) -> list[dict[str, Any]]:
    return [{**TRIGGER, "timeframe": timeframe} for timeframe in timeframes]


def test_the_published_body_is_a_strategy_of_rules() -> None:
    assert defined(SEED) == StrategyDefinition(
        name="BTC RSI Strategy",
        template_id="tpl_rules",
        params={"entry": [TRIGGER, FILTER], "exit": [], "reward_factor": 2.0, "execution_config": {}},
        symbols=("BTCUSDT",),
        timeframe=Timeframe.H1,
        capital=Decimal(10_000),
        leverage=1,
    )


def test_what_may_be_left_out_has_its_default() -> None:
    bare = defined({name: SEED[name] for name in ("name", "asset", "entry")})

    assert bare == defined(SEED)


def test_a_body_of_the_other_form_is_a_question_to_a_model() -> None:
    assert defined(ANALYST) == StrategyDefinition(
        name="Harmonic",
        template_id="tpl_analyst",
        params={
            "strategy_type": "prompt", "execution_mode": "multi_agent", "maintenance_enabled": True,
            "llm_provider": "anthropic", "llm_model": "some-model",
        },
        symbols=("BTCUSDT",),
        timeframe=Timeframe.H1,
        capital=Decimal(10_000),
        leverage=1,
    )  # fmt: skip


def test_a_question_may_come_after_rules_and_with_all_else_that_the_template_takes() -> None:
    more = {"confidence_threshold": 0.8, "execution_mode": "hybrid_validator", "schedule": {"timezone": "Asia/Tokyo"}}
    made = defined(
        {
            **ANALYST, "execution_mode": "rule_then_llm", "entry": [TRIGGER, FILTER], "strategy_params": more,
            "execution_config": {"initial_balance": 500}, "skip_hours": [1],
        }
    )  # fmt: skip

    assert (made.template_id, made.capital, made.params["entry"]) == (
        "tpl_analyst", Decimal(500), [TRIGGER, FILTER],
    )  # fmt: skip
    # What has a field of its own is taken from there.
    assert (made.params["execution_mode"], made.params["confidence_threshold"]) == ("rule_then_llm", 0.8)
    assert made.params["schedule"] == {"timezone": "Asia/Tokyo", "skip_hours": [1]}
    assert changed(made, strategy_params={"tokens_max": 99})["params"] == {**made.params, "tokens_max": 99}
    assert defined({**ANALYST, "strategy_params": {"schedule": 5}, "skip_hours": [1]}).params["schedule"] == {
        "skip_hours": [1]
    }


def test_when_it_is_asked_is_said_under_one_param() -> None:
    hours = {
        "trigger_type": "interval",
        "interval_minutes": 30,
        "skip_hours": [22, 23],
        "skip_hours_timezone": "Europe/Rome",
    }
    before = defined({**ANALYST, **hours})

    assert before.params["schedule"] == {
        "trigger": "interval", "interval_minutes": 30, "skip_hours": [22, 23], "skip_hours_timezone": "Europe/Rome",
    }  # fmt: skip
    assert changed(before, interval_minutes=45)["params"] == {
        **before.params, "schedule": {**before.params["schedule"], "interval_minutes": 45},
    }  # fmt: skip
    # With another trigger, what went with the one before is gone; what is shown may be sent back, null and all.
    for told in ({}, {"interval_minutes": None}):
        assert changed(before, trigger_type="candle_close", **told)["params"]["schedule"] == {
            "trigger": "candle_close", "skip_hours": [22, 23], "skip_hours_timezone": "Europe/Rome",
        }  # fmt: skip
    nightly = defined({**ANALYST, "strategy_params": {"schedule": {"trigger": "cron", "cron": "0 3 * * *"}}})
    assert changed(nightly, trigger_type="interval", interval_minutes=5)["params"]["schedule"] == {
        "trigger": "interval", "interval_minutes": 5,
    }  # fmt: skip
    assert changed(nightly, skip_hours=[1])["params"]["schedule"] == {
        "trigger": "cron", "cron": "0 3 * * *", "skip_hours": [1],
    }  # fmt: skip
    # It is the same for any template.
    grid = make_definition(template_id="tpl_grid")
    assert changed(grid, skip_hours=[3])["params"] == {**grid.params, "schedule": {"skip_hours": [3]}}


@pytest.mark.parametrize(
    ("asset", "symbol"), [("BTC", "BTCUSDT"), ("BTCEUR", "BTCEUR"), ("ETH", "ETHUSDT"), ("SOL", "SOLEUR")]
)
def test_an_asset_is_traded_against_the_usual_quote_if_it_is(asset: str, symbol: str) -> None:
    assert defined({**SEED, "asset": asset}).symbols == (symbol,)


@pytest.mark.parametrize(
    ("entry", "exit", "timeframe"),
    [
        (["1h", "1h"], [], "1h"),
        (["1D", "4h"], ["15m"], "15m"),
        (["1D", "1D"], [], "1d"),
        (["30m", "1h"], [], "15m"),
        (["H4", "M15"], [], "15m"),
    ],
)
def test_rules_are_decided_on_in_the_shortest_candles_that_one_of_them_needs(
    entry: list[str], exit: list[str], timeframe: str
) -> None:
    assert defined({**SEED, "entry": rules(*entry), "exit": rules(*exit)}).timeframe == timeframe


@given(st.lists(st.sampled_from(sorted(CANDLES)), min_size=1, max_size=16))
def test_no_rule_has_candles_that_the_ones_decided_on_do_not_make_up(timeframes: list[str]) -> None:
    decided = defined({**SEED, "entry": rules(*timeframes)}).timeframe

    assert all(CANDLES[each].ms % decided.ms == 0 for each in timeframes)
    assert decided in {CANDLES[each] for each in timeframes}


@pytest.mark.parametrize(
    ("balance", "capital"),
    [(2_500, "2500"), (2500.5, "2500.5"), ("123.45", "123.45"), (10_000.0, "10000")],
)
def test_the_balance_is_the_capital(balance: object, capital: str) -> None:
    definition = defined({**SEED, "execution_config": {"initial_balance": balance, "atr_period": 7}})

    assert definition.capital == Decimal(capital)
    assert definition.params["execution_config"] == {"initial_balance": balance, "atr_period": 7}


def test_a_reward_factor_may_stand_in_either_place_and_the_outer_one_counts() -> None:
    inner = {"name": "x", "asset": "BTC", "entry": [TRIGGER], "execution_config": {"reward_factor": 3}}

    assert defined(inner).params["reward_factor"] == 3
    assert defined({**inner, "reward_factor": 1.5}).params["reward_factor"] == 1.5


@pytest.mark.parametrize("left_out", ["name", "asset", "entry"])
def test_a_field_that_is_missing_is_named_as_missing(left_out: str) -> None:
    mistakes = mistakes_in({name: value for name, value in SEED.items() if name != left_out})

    assert list(mistakes) == [left_out]
    assert code_of("INVALID_PARAMETER", list(mistakes.values())) == "MISSING_FIELD"


def test_everything_that_is_missing_is_named_at_once() -> None:
    assert list(mistakes_in({})) == ["name", "asset", "entry"]
    assert list(mistakes_in({"strategy_type": "prompt"})) == ["name", "symbols", "primary_tf"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"asset": "DOGE"}, "asset"),
        ({"asset": "btc"}, "asset"),
        ({"entry": []}, "entry"),
        ({"entry": "rsi"}, "entry"),
        ({"entry": [7]}, "entry"),
        ({"entry": [{**TRIGGER, "timeframe": "3m"}]}, "entry[0].timeframe"),
        ({"entry": [{**TRIGGER, "timeframe": 60}]}, "entry[0].timeframe"),
        ({"exit": [{**TRIGGER, "timeframe": "1w"}]}, "exit[0].timeframe"),
        ({"entry": [TRIGGER] * 17}, "entry"),
        ({"reward_factor": 0}, "reward_factor"),
        ({"reward_factor": "2"}, "reward_factor"),
        ({"execution_config": []}, "execution_config"),
        ({"execution_config": {"initial_balance": 0}}, "execution_config.initial_balance"),
        ({"execution_config": {"initial_balance": -1}}, "execution_config.initial_balance"),
        ({"execution_config": {"initial_balance": "NaN"}}, "execution_config.initial_balance"),
        ({"execution_config": {"initial_balance": "Infinity"}}, "execution_config.initial_balance"),
        ({"execution_config": {"initial_balance": True}}, "execution_config.initial_balance"),
        ({"execution_config": {"initial_balance": 1e300}}, "execution_config.initial_balance"),
        ({"execution_config": {"initial_balance": None}}, "execution_config.initial_balance"),
        ({"llm_model": "x"}, "llm_model"),
        ({"symbols": ["BTCUSDT"]}, "symbols"),
        ({"status": "live"}, "status"),
        ({"leverage": 21}, "leverage"),
    ],
)
def test_a_bad_field_is_named_and_is_not_called_missing(changes: dict[str, Any], field: str) -> None:
    mistakes = mistakes_in({**SEED, **changes})

    assert list(mistakes) == [field]
    assert code_of("INVALID_PARAMETER", list(mistakes.values())) == "VALIDATION_ERROR"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"strategy_type": "code"}, "strategy_type"),
        ({"strategy_type": "python"}, "strategy_type"),
        ({"execution_mode": "guess"}, "execution_mode"),
        ({"primary_tf": "30m"}, "primary_tf"),
        ({"symbols": ["EUR/USD"]}, "symbols"),
        ({"asset": "BTC"}, "asset"),
        ({"strategy_params": []}, "strategy_params"),
        ({"execution_config": {"initial_balance": 0}}, "execution_config.initial_balance"),
        ({"module_path": "os"}, "module_path"),
        ({"trigger_type": "cron"}, "trigger_type"),
        ({"interval_minutes": 0}, "interval_minutes"),
        ({"skip_hours": [24]}, "skip_hours"),
        ({"skip_hours": list(range(24)) * 2}, "skip_hours"),
    ],
)
def test_a_bad_field_of_the_other_form_is_named(changes: dict[str, Any], field: str) -> None:
    assert list(mistakes_in({**ANALYST, **changes})) == [field]


@pytest.mark.parametrize("timeframe", ["7h", 60, ["1h"]])
def test_a_timeframe_that_there_is_not_is_shown_beside_those_there_are(timeframe: object) -> None:
    reason = mistakes_in({**SEED, "entry": [{**TRIGGER, "timeframe": timeframe}]})["entry[0].timeframe"]

    assert reason == f"must be one of 5m, 15m, 30m, 1h, 4h, 1D, got {timeframe!r}"


def test_a_rule_without_its_timeframe_is_a_missing_field() -> None:
    bare = {name: value for name, value in TRIGGER.items() if name != "timeframe"}
    mistakes = mistakes_in({**SEED, "entry": [TRIGGER, bare]})

    assert list(mistakes) == ["entry[1].timeframe"]
    assert code_of("INVALID_PARAMETER", list(mistakes.values())) == "MISSING_FIELD"


def test_a_change_replaces_what_it_names_and_leaves_the_rest() -> None:
    before = defined(SEED)

    assert changed(before) == {}
    assert changed(before, name="other", asset="ETH") == {"name": "other", "symbols": ("ETHUSDT",)}
    assert changed(before, reward_factor=3) == {"params": {**before.params, "reward_factor": 3}}
    assert changed(before, exit=rules("5m")) == {
        "params": {**before.params, "exit": rules("5m")}, "timeframe": Timeframe.M5,
    }  # fmt: skip
    assert changed(before, execution_config={"initial_balance": 50}) == {
        "params": {**before.params, "execution_config": {"initial_balance": 50}}, "capital": Decimal(50),
    }  # fmt: skip


def test_a_question_to_a_model_is_changed_by_its_own_fields() -> None:
    before = defined(ANALYST)

    assert changed(before, llm_model="other", primary_tf="M15", symbols=["ETHUSDT"]) == {
        "params": {**before.params, "llm_model": "other"},
        "timeframe": Timeframe.M15,
        "symbols": ("ETHUSDT",),
    }


def test_params_of_other_templates_are_not_changed_here() -> None:
    before = make_definition(template_id="tpl_grid")

    assert changed(before, name="x", capital="500") == {"name": "x", "capital": Decimal(500)}
    with pytest.raises(InvalidParameter) as refused:
        changed(before, entry=rules("1h"), llm_model="x")
    assert [name for name, _ in refused.value.details] == ["entry", "llm_model"]
    for wrong in ({"asset": "DOGE"}, {"asset": "BTC", "symbols": ["BTCUSDT"]}):
        with pytest.raises(InvalidParameter):
            changed(before, **wrong)
