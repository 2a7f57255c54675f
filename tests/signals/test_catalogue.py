"""What a signal takes and refuses, and how it is asked of a series: live, by column, on its edge."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipaid import sdk
from pipaid.errors import InvalidParameter
from pipaid.model.instrument import Timeframe
from pipaid.signals.catalogue.declare import SignalType
from pipaid.signals.catalogue.lookup import EXTERNAL, SIGNALS, Rule, checked, find, rule
from pipaid.signals.columns import Columns
from pipaid.signals.series import Condition, Feature, Series, met
from tests.signals.candles import candles_of
from tests.signals.drawn import default_params
from tests.signals.test_columns import columns_of


def refusal(name: str, params: dict[str, Any], **more: Any) -> str:
    with pytest.raises(InvalidParameter) as refused:
        rule(name, params, timeframe=Timeframe.H1, **more)
    return refused.value.message


def published() -> list[tuple[str, str, str, str]]:
    """Return group, type, name and params of each signal as they are published."""
    lines = Path(__file__).with_name("registry.txt").read_text(encoding="utf-8").splitlines()
    heads = [re.fullmatch(r"(\w+) (TRIGGER|FILTER) (\w+)\((.*)\)", line) for line in lines]
    return [(head[1], head[2], head[3], head[4]) for head in heads if head is not None]


def test_the_catalogue_is_what_is_published() -> None:
    assert len(published()) == 223
    assert [(group, kind, name) for group, kind, name, _ in published()] == [
        (signal.group, signal.type, signal.name) for signal in SIGNALS.values()
    ]


@pytest.mark.parametrize(("name", "params"), [(name, params) for _, _, name, params in published()])
def test_each_signal_takes_the_published_params(name: str, params: str) -> None:
    words = re.findall(r"(\w+)(!|=)(\(.*?\)|[^\[,]*)(?:\[([^.]+(?:\.\d+)?)\.\.([^\]]+)\])?", params)
    told = {word[0]: word[1:] for word in words}

    knobs = SIGNALS[name].knob
    assert list(knobs) == list(told)
    for param, (mark, default, low, high) in told.items():
        knob = knobs[param]
        assert knob.required == (mark == "!")
        assert knob.required or str(knob.default).removesuffix(".0") == default
        assert (knob.low, knob.high) == (float(low) if low else None, float(high) if high else None)


def test_a_signal_without_params_takes_its_defaults() -> None:
    asked = rule("rsi_oversold", timeframe=Timeframe.H1)

    assert asked.params == {"window": 14, "threshold": 30.0}
    assert asked.type is SignalType.FILTER
    assert asked.condition == Condition("below", Feature("rsi", (14,)), 30.0)


def test_older_names_of_params_are_understood() -> None:
    assert checked(find("rsi_oversold"), {"period": 7})["window"] == 7
    assert checked(find("rsi_oversold"), {"lookback": 8})["window"] == 8
    values = checked(find("sma_cross_up"), {"short_period": 5, "long_period": 9})
    assert values == {"window_fast": 5, "window_slow": 9}
    for params in ({"window": 7, "period": 8}, {"period": 8, "window": 7}):
        assert "period is another name of window, which is given as well" in refusal("rsi_oversold", params)


@pytest.mark.parametrize(
    ("name", "params", "told"),
    [
        ("rsi_oversold", {"windw": 3}, "windw is no param of rsi_oversold; it takes window, threshold"),
        ("rsi_oversold", {"window": 1}, "window must be a whole number from 2 to 100, got 1"),
        ("rsi_oversold", {"window": 2.5}, "window must be a whole number from 2 to 100, got 2.5"),
        ("rsi_oversold", {"window": True}, "window must be a whole number from 2 to 100, got True"),
        ("rsi_oversold", {"threshold": "50.1"}, "threshold must be a number from 0 to 50, got '50.1'"),
        ("rsi_oversold", {"threshold": float("nan")}, "threshold must be a number from 0 to 50, got nan"),
        ("sma_cross_up", {"window_fast": 3}, "window_slow is required: a whole number from 1 to 200"),
        ("sma_cross_up", {"window_fast": 9, "window_slow": 9}, "window_fast must be less than window_slow"),
        (
            "sma_crossover",
            {"window_fast": 3, "window_slow": 9, "direction": "up"},
            "direction must be bullish or beari",
        ),
    ],
)
def test_what_a_param_cannot_be_is_refused_by_name(name: str, params: dict[str, Any], told: str) -> None:
    assert told in refusal(name, params)


@pytest.mark.parametrize(
    "value",
    [10**400, -(10**4_000), "1e999999", "sNaN", "nan", "-Infinity", "9" * 10_000, "", "0x10", None, [], {}, [14], 1e308,
     Decimal("NaN"), Decimal("1e-999999"), float("-inf")],
)  # fmt: skip
@pytest.mark.parametrize("param", ["window", "threshold"])
def test_whatever_is_no_number_within_the_bounds_is_refused_by_name(param: str, value: Any) -> None:
    if (param, value) == ("threshold", Decimal("1e-999999")):
        # It is next to zero, and that is allowed.
        assert checked(find("rsi_oversold"), {param: value})[param] == 0.0
        return
    with pytest.raises(InvalidParameter) as refused:
        checked(find("rsi_oversold"), {param: value})

    assert [field for field, _ in refused.value.details] == [f"params.{param}"]
    assert len(refused.value.message) < 300


def test_of_many_mistakes_only_some_are_told() -> None:
    with pytest.raises(InvalidParameter) as refused:
        checked(find("rsi_oversold"), {f"{number:0100}": number for number in range(1_000)})

    assert len(refused.value.details) == 20
    assert len(refused.value.message) < 5_000


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(InvalidParameter) as refused:
        rule("sma_cross_up", {"window_fast": 0, "window": 3}, timeframe=Timeframe.H1)

    assert [field for field, _ in refused.value.details] == [
        "params.window",
        "params.window_fast",
        "params.window_slow",
    ]


def test_an_unknown_name_gets_a_near_one() -> None:
    assert "did you mean rsi_oversold" in refusal("rsi_oversld", {})
    assert "signals list" in refusal("zzzzzz", {})


@pytest.mark.parametrize("name", sorted(EXTERNAL))
def test_signals_of_other_data_name_what_is_missing(name: str) -> None:
    assert EXTERNAL[name] in refusal(name, {})


def test_a_trigger_is_no_filter_and_a_filter_as_trigger_is_its_edge() -> None:
    assert "is a TRIGGER" in refusal("rsi_cross_up", {}, type="FILTER")
    assert "must be TRIGGER or FILTER" in refusal("rsi_cross_up", {}, type="filter")
    assert rule("rsi_oversold", timeframe=Timeframe.H1, type="TRIGGER").condition.edge
    assert not rule("rsi_cross_up", timeframe=Timeframe.H1, type="TRIGGER").condition.edge


def test_an_edge_holds_where_a_filter_begins_to() -> None:
    asked = rule("is_above_sma", {"window": 2}, timeframe=Timeframe.H1, type="TRIGGER")

    assert both_ways(asked, [1, 2, 3, 2, 2, 3, 4, 1]) == [1, 5]


def test_a_direction_is_of_any_case() -> None:
    params = {"window_fast": 1, "window_slow": 2, "direction": "BEARISH"}

    assert both_ways(rule("sma_crossover", params, timeframe=Timeframe.H1), [1, 2, 3, 2, 2, 3]) == [3]


def both_ways(asked: Rule, closes: list[float]) -> list[int]:
    """Return at which candles a rule holds, the same live, by hand and by column."""
    candles = candles_of(closes)
    held = Columns(columns_of(candles)).holds(asked.condition).nonzero()[0].tolist()
    series = Series("EURUSD", Timeframe.H1)
    series.watch(asked.condition, "me")
    due: list[int] = []
    by_hand: list[int] = []
    for place, candle in enumerate(candles):
        series.append(candle)
        due += [place] * len(series.due())
        by_hand += [place] * met(asked.condition, series.feature)
    assert held == due == by_hand
    return due


def test_an_edge_of_what_is_none_of_the_comparisons_is_refused() -> None:
    with pytest.raises(ValueError, match="have an edge"):
        Condition("cross_above", edge=True)


@pytest.mark.parametrize("name", sorted(SIGNALS))
def test_no_signal_is_true_without_candles_and_none_raises(name: str) -> None:
    signal = SIGNALS[name]
    given = {knob.name: 3 + place for place, knob in enumerate(signal.knobs) if knob.required}
    asked = rule(name, given, timeframe=Timeframe.H1, anchor=1.0 if signal.anchored else None)

    assert not Columns(columns_of(candles_of([1])).between(10**13, 10**14)).holds(asked.condition).any()


def test_scripts_ask_a_signal_of_a_column() -> None:
    candles = columns_of(candles_of([1, 2, 3, 2, 2, 3, 4, 1]))

    assert sdk.signal("is_above_sma", candles, window=2).nonzero()[0].tolist() == [1, 2, 5, 6]
    assert sdk.signal("is_above_sma", candles, window=2, as_trigger=True).nonzero()[0].tolist() == [1, 5]
    assert sdk.signal("cumulative_return_positive", candles, threshold=100).nonzero()[0].tolist() == [2, 5, 6]
    with pytest.raises(InvalidParameter, match="windw is no param"):
        sdk.signal("is_above_sma", candles, windw=2)


def test_a_longer_period_counts_from_the_close_of_its_last_candle_on() -> None:
    # Days close at 1, 2, 3 and so on; the average of one day turns at once.
    closes = [1.0 + max(0, hour) // 24 if hour % 24 == 23 else 50.0 for hour in range(24 * 40)]
    candles = columns_of(candles_of(closes))
    held = sdk.signal("multi_tf_trend_bullish", candles, higher_tf="1D", window=2)

    assert held.nonzero()[0].tolist() == list(range(24 * 3 - 1, len(closes)))
    begun = sdk.signal("multi_tf_trend_bullish", candles, higher_tf="1D", window=2, as_trigger=True)
    assert begun.nonzero()[0].tolist() == [24 * 3 - 1]


def test_a_week_begins_on_monday() -> None:
    # The epoch was a Thursday, so the first week is one of four days.
    candles = columns_of(candles_of(range(100, 100 + 24 * 7 * 8)))
    held = sdk.signal("multi_tf_trend_bullish", candles, window=2)

    assert held.argmax() == 24 * (4 + 7 * 2) - 1


def test_a_longer_period_is_made_of_whole_candles() -> None:
    assert rule("multi_tf_trend_bullish", timeframe=Timeframe.H1).timeframe is Timeframe.D1
    assert rule("multi_tf_trend_bullish", {"higher_tf": "4H"}, timeframe=Timeframe.H1).timeframe is Timeframe.H4
    assert rule("multi_tf_trend_bullish", {"higher_tf": "15min"}, timeframe=Timeframe.M5).timeframe is Timeframe.M15
    assert "must be made of whole 1h candles, got 15m" in refusal("multi_tf_trend_bullish", {"higher_tf": "15m"})
    assert "must be one of 1m, 5m" in refusal("multi_tf_trend_bullish", {"higher_tf": "1M"})


@pytest.mark.parametrize("name", sorted(SIGNALS))
def test_each_param_is_taken_at_both_bounds_and_refused_beyond_them(name: str) -> None:
    signal = SIGNALS[name]
    for knob in signal.knobs:
        if knob.kind not in ("whole", "number"):
            continue
        assert knob.low is not None
        assert knob.high is not None
        step = 1 if knob.kind == "whole" else 1e-6
        for value, allowed in (
            (knob.low, True),
            (knob.high, True),
            (knob.low - step, False),
            (knob.high + step, False),
        ):
            try:
                checked(signal, {**default_params(signal), knob.name: value})
                refused: tuple[str, ...] = ()
            except InvalidParameter as refusal:
                refused = tuple(what for field, what in refusal.details if field == f"params.{knob.name}")
            # At a bound, a fast window may still be too slow for the other's default.
            told = [what for what in refused if "must be less than" not in what]
            assert bool(told) != allowed, (knob.name, value)
            assert allowed or knob.allowed() in told[0]
