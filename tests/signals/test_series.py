"""Values depend on candles and time alone, never on when a feature was made; subscribers are told once and in order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipaid.model.candle import Candle
from pipaid.model.instrument import Timeframe
from pipaid.signals.series import BLOCK, EVERY, Condition, Feature, Series
from tests.signals.candles import candles_of, eurusd_hours, make_candle, walks

FEATURES = (
    Feature("ema", (5,)),
    Feature("rsi", (4,)),
    Feature("atr", (3,)),
    Feature("sma", (6,)),
    Feature("stddev", (6,)),
    Feature("zscore", (4,)),
    Feature("highest", (5,)),
    Feature("channel_low", (5,)),
    Feature("true_range"),
    Feature("period", (4 * 3_600_000, 0)),
)
CLOSE = Feature("close")
HOUR_MS = Timeframe.H1.ms

Readings = dict[int, list[tuple[float | None, float | None]]]


def make_series(candles: Sequence[Candle] = (), *, block: int = 8) -> Series:
    """Return a series that has taken the candles."""
    series = Series("EURUSD", Timeframe.H1, block=block)
    for candle in candles:
        series.append(candle)
    return series


def readings(
    series: Series, candles: Sequence[Candle], *, retained_from: int = 0, features: Sequence[Feature] = FEATURES
) -> Readings:
    """Feed candles, retain the features before the given one, and return what they show from then on by candle."""
    found: Readings = {}
    for number, candle in enumerate(candles):
        if number == retained_from:
            for feature in features:
                series.retain(feature)
        series.append(candle)
        if number >= retained_from:
            indicators = [series.feature(feature) for feature in features]
            found[series.index] = [(indicator.value, indicator.previous) for indicator in indicators]
    return found


@given(candles=walks(count=60, gap_max=10), late=st.integers(0, 59), block=st.sampled_from([4, 7, 8, 16]))
def test_a_feature_made_late_equals_one_made_early(candles: Sequence[Candle], late: int, block: int) -> None:
    early = readings(make_series(block=block), candles)

    for index, shown in readings(make_series(block=block), candles, retained_from=late).items():
        assert shown == early[index]


@given(candles=walks(count=60, gap_max=10), stop=st.integers(1, 59), block=st.sampled_from([4, 7, 8, 16]))
def test_a_restart_from_the_anchor_reproduces_every_bit(candles: Sequence[Candle], stop: int, block: int) -> None:
    whole = readings(make_series(block=block), candles)
    history, rest = candles[:stop], candles[stop:]

    anchor_ms = Series.anchor_ms(history[-1].close_time_ms, Timeframe.H1, block=block)
    series = make_series([candle for candle in history if candle.open_time_ms >= anchor_ms], block=block)
    again = [series.retain(feature) for feature in FEATURES]

    assert [(one.value, one.previous) for one in again] == whole[series.index]
    for index, shown in readings(series, rest).items():
        assert shown == whole[index]


@given(candles=walks(count=40, gap_max=3), extra=st.integers(0, 39))
def test_more_history_than_needed_changes_nothing_from_the_next_block_on(candles: Sequence[Candle], extra: int) -> None:
    whole = readings(make_series(), candles)
    shorter = readings(make_series(), candles[extra:])

    settled = {
        index: shown
        for index, shown in shorter.items()
        if index // 8 >= candles[extra].open_time_ms // HOUR_MS // 8 + 2
    }
    for index, shown in settled.items():
        assert shown == whole[index]


@given(
    candles=walks(count=50, gap_max=2),
    comings=st.lists(st.tuples(st.integers(0, 49), st.integers(0, 49), st.integers(0, 9)), max_size=12),
)
def test_features_that_come_and_go_disturb_no_other(
    candles: Sequence[Candle], comings: list[tuple[int, int, int]]
) -> None:
    expected = readings(make_series(), candles)
    series = make_series()
    held: list[Feature] = []
    for number, candle in enumerate(candles):
        for start, end, which in comings:
            if number == start <= end:
                series.retain(FEATURES[which])
                held.append(FEATURES[which])
            elif number == end > start and FEATURES[which] in held:
                series.release(FEATURES[which])
                held.remove(FEATURES[which])
        series.append(candle)
        for feature in held:
            indicator = series.feature(feature)
            assert (indicator.value, indicator.previous) == expected[series.index][FEATURES.index(feature)]


def test_real_hours_give_the_same_bits_early_late_and_after_a_restart(eurusd_hours_csv: Path) -> None:
    candles = eurusd_hours(eurusd_hours_csv)
    features = (Feature("ema", (200,)), Feature("rsi", (14,)), Feature("atr", (14,)), Feature("zscore", (50,)))
    early = readings(make_series(block=512), candles, features=features)
    late = readings(make_series(block=512), candles, retained_from=2_345, features=features)
    anchor_ms = Series.anchor_ms(candles[3_000].open_time_ms, Timeframe.H1, block=512)
    history = [candle for candle in candles if candle.open_time_ms >= anchor_ms]
    restarted = readings(make_series(block=512), history, features=features)

    assert all(early[index] == shown for index, shown in late.items())
    after = [index for index in restarted if index >= candles[3_000].open_time_ms // HOUR_MS]
    assert len(after) == 2_000
    assert all(early[index] == restarted[index] for index in after)


def test_the_anchor_is_the_start_of_the_block_before() -> None:
    def anchor_index(closed: int) -> int:
        return Series.anchor_ms((closed + 1) * HOUR_MS, Timeframe.H1) // HOUR_MS

    assert anchor_index(3 * BLOCK) == 2 * BLOCK
    assert anchor_index(3 * BLOCK - 1) == BLOCK
    assert anchor_index(BLOCK) == 0
    assert anchor_index(5) == 0
    # A moment within a candle is as good as its start: the candle in progress does not count.
    assert Series.anchor_ms((3 * BLOCK + 1) * HOUR_MS + 59, Timeframe.H1) == 2 * BLOCK * HOUR_MS


def test_columns_are_bounded_to_two_blocks_and_agree_with_the_candles() -> None:
    candles = [make_candle(100 + index, index=index, high=str(101 + index)) for index in range(100)]
    series = make_series()

    lengths: list[int] = []
    for candle in candles:
        series.append(candle)
        lengths.append(series.length)

    assert max(lengths) == 16
    assert series.last is candles[-1]
    assert series.index == 99
    assert list(series.time_ms) == [candle.open_time_ms for candle in candles[-series.length :]]
    assert list(series.close) == [float(candle.close) for candle in candles[-series.length :]]
    assert list(series.high) == [float(candle.high) for candle in candles[-series.length :]]
    assert len(series.open) == len(series.low) == len(series.volume) == series.length


def test_a_candle_that_is_not_newer_or_not_its_own_is_refused() -> None:
    series = make_series(candles_of([1, 2, 3]))

    for stranger in (
        make_candle(1, index=2),
        make_candle(1, index=0),
        make_candle(1, index=500, timeframe=Timeframe.M5),
        msgspec.structs.replace(make_candle(1, index=9), symbol="GBPUSD"),
    ):
        with pytest.raises(ValueError, match="does not follow"):
            series.append(stranger)
    assert series.length == 3


def test_a_feature_that_nobody_retains_is_forgotten_at_the_next_block() -> None:
    series = make_series(candles_of(range(1, 10), start=1))
    kept, unkept = Feature("ema", (3,)), Feature("ema", (4,))
    series.retain(kept)
    series.retain(kept)
    series.release(kept)
    first = series.feature(unkept)

    for candle in candles_of([10.0], start=10):
        series.append(candle)
    assert series.feature(unkept) is first

    for candle in candles_of(range(11, 20), start=11):
        series.append(candle)
    assert series.feature(unkept) is not first
    assert series.feature(kept).value is not None


def test_what_is_made_of_a_window_goes_on_through_the_blocks_unless_too_few_candles_are_left() -> None:
    series = make_series(candles_of([1]))
    window, endless = Feature("sma", (3,)), Feature("ema", (3,))
    first = [series.retain(feature) for feature in (window, endless)]

    for candle in candles_of(range(2, 18), start=1):
        series.append(candle)
    assert series.feature(window) is first[0]
    assert series.feature(endless) is not first[1]

    series.append(make_candle(1, index=80))
    assert series.feature(window) is not first[0]
    assert series.feature(window).value is None


def test_to_release_more_often_than_retained_is_a_bug() -> None:
    series = make_series(candles_of([1, 2]))
    feature = Feature("sma", (2,))
    series.retain(feature)
    series.release(feature)

    with pytest.raises(KeyError):
        series.release(feature)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (Condition("above", CLOSE, 5.0), [False, False, True, True, False, False]),
        (Condition("below", CLOSE, 5.0), [True, False, False, False, False, True]),
        (Condition("at_least", CLOSE, 5.0), [False, True, True, True, True, False]),
        (Condition("at_most", CLOSE, 5.0), [True, True, False, False, True, True]),
        (Condition("cross_above", CLOSE, 5.0), [False, False, True, False, False, False]),
        (Condition("cross_below", CLOSE, 5.0), [False, False, False, False, False, True]),
        (Condition("changes", CLOSE), [False, True, True, False, True, True]),
        (EVERY, [True, True, True, True, True, True]),
        (Condition("above", CLOSE, Feature("sma", (3,))), [False, False, True, True, False, False]),
        (Condition("cross_above", CLOSE, Feature("sma", (2,))), [False, False, False, False, False, False]),
    ],
)
def test_a_condition_holds_as_defined(condition: Condition, holds: list[bool]) -> None:
    series = make_series()
    series.watch(condition, "somebody")

    told: list[bool] = []
    for candle in candles_of([4, 5, 6, 6, 5, 3]):
        series.append(candle)
        told.append(list(series.due()) == ["somebody"])

    assert told == holds


@given(candles=walks(count=40, gap_max=2))
def test_crossings_of_two_lines_are_what_they_are_called(candles: Sequence[Candle]) -> None:
    fast, slow = Feature("ema", (2,)), Feature("ema", (5,))
    series = make_series()
    series.watch(Condition("cross_above", fast, slow), "up")
    series.watch(Condition("cross_below", fast, slow), "down")

    for candle in candles:
        series.append(candle)
        a, b = series.feature(fast), series.feature(slow)
        up = down = False
        if a.previous is not None and b.previous is not None and a.value is not None and b.value is not None:
            up = a.previous <= b.previous and a.value > b.value
            down = a.previous >= b.previous and a.value < b.value
        assert list(series.due()) == [name for name, crossed in (("up", up), ("down", down)) if crossed]


def test_subscribers_are_told_once_and_in_the_order_in_which_they_came() -> None:
    series = make_series()
    low, high = Condition("above", CLOSE, 1.0), Condition("above", CLOSE, 10.0)
    series.watch(high, "first")
    series.watch(low, "second")
    series.watch(high, "second")
    series.watch(low, "third")
    series.watch(low, "first")

    series.append(make_candle(5, index=0))
    assert list(series.due()) == ["first", "second", "third"]

    series.append(make_candle(50, index=1))
    assert list(series.due()) == ["first", "second", "third"]


def test_who_changes_what_it_watches_keeps_its_place() -> None:
    series = make_series(candles_of([5]))
    flat, holding = Condition("above", CLOSE, 1.0), Condition("above", CLOSE, 2.0)
    for name in ("first", "second"):
        series.watch(flat, name)

    series.watch(holding, "first")
    series.unwatch(flat, "first")
    assert list(series.due()) == ["first", "second"]

    series.unwatch(holding, "first")
    series.watch(holding, "first")
    assert list(series.due()) == ["second", "first"]


def test_to_watch_twice_counts_once_and_to_unwatch_nothing_does_no_harm() -> None:
    series = make_series(candles_of([5]))
    condition = Condition("above", Feature("sma", (1,)), Feature("ema", (1,)))
    series.watch(condition, "somebody")
    series.watch(condition, "somebody")
    series.watch(EVERY, "somebody")
    series.unwatch(condition, "nobody")
    series.unwatch(condition, "somebody")
    series.unwatch(condition, "somebody")

    assert list(series.due()) == ["somebody"]
    with pytest.raises(KeyError):
        series.release(Feature("sma", (1,)))


def test_nothing_is_due_before_the_first_candle() -> None:
    series = make_series()
    series.watch(EVERY, "somebody")

    assert list(series.due()) == []


def test_a_watch_survives_the_blocks() -> None:
    series = make_series()
    series.watch(Condition("above", Feature("ema", (3,)), 0.5), "somebody")

    for candle in candles_of([1.0] * 64):
        series.append(candle)
        assert list(series.due()) == (["somebody"] if series.index >= 2 else [])
