"""Rule strategies: which rules there may be, when they enter and leave, how much, and what holds them back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from pipaid.engine.backtest import run
from pipaid.engine.fees import FEE_BPS_DEFAULT
from pipaid.engine.params import filled, params_schema, structure_params
from pipaid.engine.trial import Trial
from pipaid.errors import InvalidParameter
from pipaid.model.backtest import BacktestResult
from pipaid.model.candle import Candle
from pipaid.model.instrument import Timeframe
from pipaid.model.position import CloseReason
from pipaid.signals.catalogue.lookup import SIGNALS
from pipaid.signals.series import Series
from templates.rules import Rules
from tests.signals.candles import walks
from tests.templates.test_backtests import backtest
from tests.templates.test_wakes import drawn_rules

ROOT = Path(__file__).parents[2]
HOUR_MS = 3_600_000
# The create body of the first rule strategy that was ever published, as far as it is params.
PUBLISHED: dict[str, Any] = {
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
}
# Turns up where the close rises after it did not; it holds wherever the close rises.
TURN = {
    "name": "sma_cross_up",
    "signal_type": "TRIGGER",
    "timeframe": "1h",
    "params": {"window_fast": 1, "window_slow": 2},
}
RISES = {"name": "price_above_ema", "signal_type": "FILTER", "timeframe": "1h", "params": {"window": 2}}
FALLS = {**TURN, "name": "sma_cross_down"}
FREE = {"max_open_positions": 10, "max_drawdown_pct": None, "max_trades_per_day": None, "cooldown_bars": None}


def structured(raw: Any, timeframe: Timeframe = Timeframe.H1) -> Any:
    return structure_params(Rules, raw, symbols=("EURUSD",), timeframe=timeframe, capital=Decimal(10_000))


def mistakes(raw: Any, timeframe: Timeframe = Timeframe.H1) -> dict[str, str]:
    with pytest.raises(InvalidParameter) as refused:
        structured(raw, timeframe)
    return dict(refused.value.details)


def rules(**more: Any) -> dict[str, Any]:
    execution = {"stop_loss_calculation": "fixed", "stop_loss_pct": "0.5", "cooldown_bars": 0}
    return {"entry": [TURN, RISES], "execution_config": {**execution, **more.pop("execution", {})}, **more}


def hours(closes: Iterable[object], *, span: str = "0") -> list[Candle]:
    """Return candles that open where the one before closed, and reach as far above and below as `span` says."""
    candles: list[Candle] = []
    last = None
    for index, told in enumerate(closes):
        close, reach = Decimal(str(told)), Decimal(span)
        opened = close if last is None else last
        high, low = max(opened, close) + reach, min(opened, close) - reach
        candles.append(Candle("EURUSD", Timeframe.H1, index * HOUR_MS, opened, high, low, close, Decimal(1)))
        last = close
    return candles


def played(raw: dict[str, Any], candles: Sequence[Candle], **more: Any) -> BacktestResult:
    """Play rules over candles with no caps but their own."""
    return run(backtest(Rules, raw, candles, capital=10_000, fee_bps=0, **more).plan())


def trial_of(raw: dict[str, Any], candles: Sequence[Candle]) -> Trial:
    plan = backtest(Rules, raw, candles, capital=10_000, fee_bps=0).plan()
    params = {name: value for name, value in plan.definition.params.items() if name != "risk"}
    definition = msgspec.structs.replace(plan.definition, params=params, leverage=1)
    trial = Trial(evolve(plan, definition=definition), lambda _: None)
    trial.start()
    trial.walk()
    return trial


# Which rules there may be.


def test_the_published_strategy_is_taken_as_it_is() -> None:
    params = structured(PUBLISHED)

    assert [rule.name for rule in params.entry] == ["rsi_oversold", "is_above_sma"]
    assert params.exit == ()
    assert filled(params)["reward_factor"] == filled(params)["execution_config"]["reward_factor"] == 2


@pytest.mark.parametrize(
    ("entry", "exit_", "composition", "refused"),
    [
        ([TURN, RISES], [], "strict", ""),
        ([RISES, TURN], [FALLS], "strict", ""),
        ([TURN, RISES], [RISES, FALLS], "strict", ""),
        ([TURN], [], "strict", "entry"),
        ([RISES], [], "strict", "entry"),
        ([], [], "strict", "entry"),
        ([TURN, TURN], [], "strict", "entry"),
        ([TURN, RISES, RISES], [], "strict", "entry"),
        ([TURN, RISES], [RISES], "strict", "exit"),
        ([TURN, RISES], [FALLS, FALLS], "strict", "exit"),
        ([TURN, RISES], [FALLS, RISES, RISES], "strict", "exit"),
        ([TURN], [], "extended", ""),
        ([TURN, RISES, RISES], [RISES, RISES], "extended", ""),
        ([TURN, RISES], [FALLS, RISES, RISES], "extended", ""),
        ([RISES, RISES], [], "extended", "entry"),
        ([TURN, FALLS], [], "extended", "entry"),
        ([TURN], [FALLS, FALLS], "extended", "exit"),
    ],
)
def test_there_are_so_many_rules_of_each_kind(
    entry: list[Any], exit_: list[Any], composition: str, refused: str
) -> None:
    raw = {"entry": entry, "exit": exit_, "composition": composition}

    if refused:
        assert set(mistakes(raw)) == {refused}
    else:
        structured(raw)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("entry[0].name", "rsi_oversld", "did you mean rsi_oversold"),
        ("entry[0].name", "funding_flip_positive", "funding rates"),
        ("entry[0].name", None, "must be a text"),
        ("entry[0].timeframe", "2h", "5m, 15m, 30m, 1h, 4h, 1d"),
        ("entry[0].timeframe", "1m", "5m, 15m, 30m, 1h, 4h, 1d"),
        ("entry[0].timeframe", "15m", "must be at least the strategy's, 1h, got 15m"),
        ("entry[0].signal_type", "EVENT", "must be one of TRIGGER, FILTER"),
        ("entry[0].params.window", 101, "from 2 to 100"),
        ("entry[0].params.windows", 5, "is no param of rsi_oversold"),
        ("entry[0].weight", 5, "is unknown"),
        ("reward_factor", 0.89, "from 0.9 to 10"),
        ("reward_factor", 10.1, "from 0.9 to 10"),
        ("composition", "loose", "strict, extended"),
        ("execution_config.atr_period", 14.0, "must be a whole number"),
        ("execution_config.max_risk_per_trade", "1%", "must be a decimal"),
        ("execution_config.stop_loss_calculation", "trailing", "dynamic_atr, fixed"),
        ("execution_config.atr_short_weight", 0.7, "is not implemented"),
        ("execution_config.max_hold_time_hours", 12, "is unknown"),
        ("execution_config.cooldown_config.2h", {}, "is unknown"),
        ("execution_config.cooldown_config.1h.long_loss_limit", 0, "from 1 to 100"),
    ],
)
def test_what_is_wrong_is_named_by_its_path_with_what_is_allowed(path: str, value: Any, says: str) -> None:
    raw = msgspec.json.decode(msgspec.json.encode({**PUBLISHED, "execution_config": {"cooldown_config": {"1h": {}}}}))
    *parents, last = path.replace("[0]", ".0").split(".")
    place: Any = raw
    for part in parents:
        place = place[int(part)] if part.isdecimal() else place[part]
    place[last] = value

    found = mistakes(raw)

    assert set(found) == {path}
    assert says in found[path]


def test_a_trigger_is_no_filter() -> None:
    raw = {"entry": [TURN, {**FALLS, "signal_type": "FILTER"}]}

    assert "never lasts" in mistakes(raw)["entry[1].signal_type"]


def test_a_target_told_in_two_places_is_told_once() -> None:
    for top, inner, wanted in ((None, 3, 3), (3, None, 3), (3, 3, 3), (2.0, 4.5, 4.5), (None, None, 2)):
        raw = {**PUBLISHED, "execution_config": {} if inner is None else {"reward_factor": inner}}
        raw.pop("reward_factor")
        if top is not None:
            raw["reward_factor"] = top
        assert filled(structured(raw))["execution_config"]["reward_factor"] == wanted

    contradictory = {**PUBLISHED, "reward_factor": 3, "execution_config": {"reward_factor": 4}}
    assert set(mistakes(contradictory)) == {"execution_config.reward_factor"}


def test_the_defaults_are_those_of_the_file_that_ships() -> None:
    shipped = msgspec.json.decode((ROOT / "config" / "trading_defaults.json").read_bytes())
    backtests = shipped.pop("backtest_defaults")
    groups = ("risk_management", "position_limits", "volatility_settings", "trading_rules", "time_based_exits")

    assert tuple(shipped) == groups
    flat = {name: value for group in shipped.values() for name, value in group.items()}
    without = {"slippage_pct", "fee_pct"}
    made = filled(structured({"entry": PUBLISHED["entry"]}))["execution_config"]
    assert flat == {name: value for name, value in made.items() if name not in without}
    assert backtests == {"fee_bps": str(FEE_BPS_DEFAULT), "slippage_bps": "0"}


def test_the_schema_tells_nested_params() -> None:
    schema = msgspec.json.decode(msgspec.json.encode(params_schema(Rules)))["properties"]

    assert schema["entry"]["items"]["properties"]["signal_type"]["enum"] == ["TRIGGER", "FILTER"]
    assert schema["entry"]["items"]["required"] == ["name", "signal_type", "timeframe"]
    assert schema["execution_config"]["properties"]["atr_period"]["default"] == 14
    assert schema["execution_config"]["properties"]["max_risk_per_trade"]["type"] == ["number", "string"]
    assert "atr_short_weight" not in schema["execution_config"]["properties"]
    cooldowns = schema["execution_config"]["properties"]["cooldown_config"]["properties"]
    assert set(cooldowns["4h"]["properties"]) == {
        "short_loss_limit",
        "long_loss_limit",
        "short_window_bars",
        "long_window_bars",
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(list(SIGNALS)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "signal_type", "timeframe", "params", "entry", "1h", "window", "cooldown_config"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=200)
@given(raw=drawn_rules(["1h", "4h", "1D"]), key=st.sampled_from(["entry", "exit", "execution_config"]), junk=JSON)
def test_whatever_is_sent_is_taken_or_refused_by_name(raw: dict[str, Any], key: str, junk: Any) -> None:
    structured(raw)

    refused = refusal_of({**raw, key: junk})

    assert refused is None or {name.partition(".")[0].partition("[")[0] for name, _ in refused.details} == {key}


def refusal_of(raw: dict[str, Any]) -> InvalidParameter | None:
    try:
        structured(raw)
    except InvalidParameter as refused:
        return refused
    return None


# When it enters and leaves, and how much.


def test_a_published_trade_is_reproduced() -> None:
    # Each candle spans 22.43, so that two average true ranges are 44.86.
    closes = [Decimal(2243)] * 20 + [Decimal(2240), Decimal(2243)]
    candles = [
        Candle("EURUSD", Timeframe.H1, index * HOUR_MS, close, Decimal("2254.43"), Decimal(2232), close, Decimal(1))
        for index, close in enumerate([*closes, Decimal(2243)])
    ]

    trial = trial_of({"entry": [TURN, RISES]}, candles)

    (lot,) = trial.session.positions.values()
    assert lot.entry_price == Decimal(2243)
    assert lot.stop_price is not None
    assert lot.take_profit_price is not None
    distance = lot.entry_price - lot.stop_price
    assert distance == Decimal("44.86")
    assert lot.take_profit_price - lot.entry_price == Decimal("89.72")
    # To the lot, which is a thousandth.
    assert Decimal(100) - Decimal("0.001") * distance < lot.quantity * distance <= Decimal(100)


def test_a_fixed_stop_is_a_share_of_the_entry() -> None:
    trial = trial_of(rules(execution={"stop_loss_pct": 0.05}, reward_factor=3), hours([100, 99, 100, 100]))

    (lot,) = trial.session.positions.values()
    assert (lot.stop_price, lot.take_profit_price) == (Decimal(95), Decimal(115))
    assert lot.quantity * 5 == 100


@pytest.mark.parametrize(
    ("limits", "quantity"),
    [
        ({}, "20"),
        ({"max_units_per_trade": 7}, "7"),
        ({"max_trade_amount": "550"}, "5.5"),
        ({"max_risk_per_trade": 0.1}, "99.009"),  # All the capital, less what a moving market may cost.
    ],
)
def test_an_entry_is_cut_down_to_what_is_allowed(limits: dict[str, Any], quantity: str) -> None:
    trial = trial_of(rules(execution={"stop_loss_pct": 0.05, **limits}), hours([100, 99, 100, 100]))

    (lot,) = trial.session.positions.values()
    assert lot.quantity == Decimal(quantity)


def test_an_entry_that_is_too_small_is_refused_by_name() -> None:
    raw = rules(execution={"stop_loss_pct": 0.05, "max_trade_amount": 400, "min_trade_amount": 401})

    trial = trial_of(raw, hours([100, 99, 100, 100]))

    assert not trial.session.positions
    assert trial.session.book.refusals == {"min_trade_amount": 1}


def test_less_is_risked_while_it_is_more_volatile_than_wanted() -> None:
    closes = [100, 101, 99, 101, 99, 100, 100]
    usual, less, more = (
        trial_of(
            rules(
                execution={
                    "stop_loss_pct": 0.05,
                    "enable_volatility_adjustment": adjusts,
                    "target_volatility": target,
                    "volatility_window": 4,
                    "max_open_positions": 1,
                }
            ),
            hours([*[100] * 5, *closes]),
        )
        for adjusts, target in ((False, 0.001), (True, 0.001), (True, 0.5))
    )

    (first,), (second,), (third,) = (list(trial.session.positions.values()) for trial in (usual, less, more))
    assert second.quantity < first.quantity / 2
    assert third.quantity == first.quantity


def test_a_filter_as_a_trigger_enters_only_where_it_begins() -> None:
    rising = {**RISES, "signal_type": "TRIGGER"}
    raw = {**rules(), "entry": [rising, RISES]}

    result = played(raw, hours([100, 99, 100, 101, 102, 103, 102, 101, 102, 103]))

    assert [fill.time_ms // HOUR_MS for fill in result.fills] == [3, 9]


def test_a_trigger_of_a_larger_candle_opens_one_position_while_that_candle_is_the_last() -> None:
    raw = {**rules(execution={"max_open_positions": 5}), "entry": [{**TURN, "timeframe": "4h"}, RISES]}
    # Four hours fall, four rise; then the filter holds at the second and the third hour after.
    closes = [100, 99, 98, 97, 97, 98, 99, 98, 97, 98, 99, 100, 101, 102]

    result = played(raw, hours([*[100] * 8, *closes]))

    assert [fill.time_ms // HOUR_MS for fill in result.fills] == [18]


def test_a_trigger_whose_position_is_closed_again_opens_no_other() -> None:
    raw = {**rules(execution={"max_hold_bars": 1}), "entry": [{**TURN, "timeframe": "4h"}, RISES]}
    closes = [100, 99, 98, 97, 97, 98, 99, 100, 101, 102, 103, 104]

    result = played(raw, hours([*[100] * 8, *closes]))

    assert [fill.side.value for fill in result.fills] == ["buy", "sell"]


@pytest.mark.parametrize(("cooldown", "sides"), [(0, ["buy", "buy", "sell"]), (24, ["buy", "sell"])])
def test_where_something_is_left_nothing_is_entered_if_there_is_a_pause_after_it(
    cooldown: int, sides: list[str]
) -> None:
    raw = rules(execution={"max_hold_bars": 2, "cooldown_bars": cooldown})

    result = played(raw, hours([100, 99, 100, 99, 100, 100]))

    assert sorted(fill.side.value for fill in result.fills) == sides


def test_positions_are_left_by_rule() -> None:
    raw = rules(exit=[FALLS])

    result = played(raw, hours([100, 99, 100, 101, 100, 100, 100]))

    assert [(fill.side.value, fill.time_ms // HOUR_MS) for fill in result.fills] == [("buy", 3), ("sell", 5)]


@pytest.mark.parametrize(
    ("limits", "closes", "left_at"),
    [
        ({"max_hold_bars": 3}, [100, 99, 100, 101, 102, 103, 104, 105, 106], 6),
        ({"exit_on_loss_after_bars": 2}, [100, 99, 100, 99, 98, 97, 96, 95, 94], 5),
        ({"exit_on_loss_after_bars": 2}, [100, 99, 100, 101, 101, 101, 100, 99, 99], 8),
        ({"exit_on_profit_after_bars": 2}, [100, 99, 100, 101, 104, 104, 105, 105, 105], 7),
        ({"exit_on_profit_after_bars": 2, "profit_threshold_pct": 0.01}, [100, 99, 100, 101, 101, 101, 101], 5),
    ],
)
def test_positions_are_left_in_time(limits: dict[str, Any], closes: list[int], left_at: int) -> None:
    result = played(rules(execution={**limits, "max_open_positions": 1}), hours(closes))

    (trade,) = result.trades
    assert trade.exit_time_ms // HOUR_MS == left_at
    assert trade.reason == CloseReason.TIME_EXIT


# Whatever the rules.


@settings(max_examples=60)
@given(
    raw=drawn_rules(["1h", "4h"]),
    candles=walks(count=100, gap_max=3),
    start=st.booleans(),
)
def test_what_is_skipped_changes_nothing_of_rules(raw: dict[str, Any], candles: Sequence[Candle], start: bool) -> None:
    began = candles[20].open_time_ms if start else None
    plan = backtest(Rules, raw, candles, start=began).plan()

    every, skipped = run(plan, driver="callback"), run(plan, driver="skipping")

    assert skipped.fills == every.fills
    assert skipped.digest == every.digest
    assert skipped.refusals == every.refusals


def test_a_thousand_strategies_on_the_same_signals_cost_one_computation_each() -> None:
    series = Series("EURUSD", Timeframe.H1)
    for number in range(1_000):
        params = structured(rules(execution={"atr_period": 2 + number % 3, "max_hold_bars": 1 + number}))
        template = Rules(params)
        for feature in template.features():
            series.retain(feature)
        for condition in template.wakes().flat:
            series.watch(condition, number)

    # Two averages of the trigger, the close and the average of the filter, the moment, and three true ranges.
    assert series.computed == 8
    for candle in hours([100, 99, 100]):
        series.append(candle)
    assert len(series.due()) == 1_000


@pytest.mark.parametrize(("closes", "held"), [((10, 9, 8, 11), (True, False)), ((10, 12, 13, 9), (False, True))])
def test_a_record_says_which_rules_held(closes: Sequence[int], held: tuple[bool, bool]) -> None:
    session = trial_of(rules(exit=[FALLS]), hours(closes)).session

    told = session.rehearse("EURUSD").reasons

    rises, falls = held
    assert told == {
        "enter: sma_cross_up (TRIGGER, 1h)": rises,
        "enter: price_above_ema (FILTER, 1h)": rises,
        "leave: sma_cross_down (TRIGGER, 1h)": falls,
    }
