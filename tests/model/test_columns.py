"""Candles as columns: exact to the last digit, and nothing goes in that cannot be true."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipaid.errors import InvalidParameter
from pipaid.model.candle import Candle, CandleBuilder
from pipaid.model.columns import EXACT_MAX, Candles, exact_units
from pipaid.model.instrument import MINUTE_MS, Timeframe

START_MS = 1_700_006_400_000
SYMBOL = "BTCUSDT"


def columns(*rows: str, at: list[int] | None = None, step_ms: int = MINUTE_MS) -> dict[str, Any]:
    """Return columns of rows such as `"100 102 99 101 5"`."""
    table = np.array([[float(cell) for cell in row.split()] for row in rows]).reshape(len(rows), 5)
    places = at if at is not None else list(range(len(rows)))
    names = ("open", "high", "low", "close", "volume")
    return {
        "time_ms": [START_MS + place * step_ms for place in places],
        **{name: table[:, number] for number, name in enumerate(names)},
    }


def made(*rows: str, at: list[int] | None = None, **fields: Any) -> Candles:
    return Candles.from_rows(SYMBOL, Timeframe.M1, **{**columns(*rows, at=at), **fields})


@st.composite
def listed(draw: st.DrawFn) -> list[Candle]:
    """Draw candles as they are published: decimals of a tick, minutes left out, spikes and flat stretches."""
    decimals = draw(st.integers(0, 8))
    candles: list[Candle] = []
    minute = START_MS // MINUTE_MS
    for _ in range(draw(st.integers(1, 40))):
        minute += draw(st.sampled_from((1, 1, 1, 2, 61)))
        low, first, last, high = sorted(draw(st.lists(st.integers(1, 10**7), min_size=4, max_size=4)))
        opened, top, bottom, closed = (Decimal(each).scaleb(-decimals) for each in (first, high, low, last))
        volume = Decimal(draw(st.integers(0, 10**6))).scaleb(-draw(st.integers(0, 8)))
        candles.append(Candle(SYMBOL, Timeframe.M1, minute * MINUTE_MS, opened, top, bottom, closed, volume))
    return candles


def columns_of(candles: list[Candle]) -> Candles:
    return Candles.from_rows(
        SYMBOL,
        Timeframe.M1,
        time_ms=[each.open_time_ms for each in candles],
        open=[float(each.open) for each in candles],
        high=[float(each.high) for each in candles],
        low=[float(each.low) for each in candles],
        close=[float(each.close) for each in candles],
        volume=[float(each.volume) for each in candles],
    )


@given(listed())
def test_what_went_through_floats_comes_back_exactly(candles: list[Candle]) -> None:
    found = columns_of(candles)

    assert list(found) == candles
    for name in ("open", "high", "low", "close", "volume"):
        assert found.floats(name).tolist() == [float(getattr(each, name)) for each in candles]


@given(listed(), st.sampled_from([Timeframe.M5, Timeframe.H1, Timeframe.D1]))
def test_larger_candles_are_those_that_are_built_one_by_one(candles: list[Candle], timeframe: Timeframe) -> None:
    builder = CandleBuilder(SYMBOL, timeframe)
    built = [larger for candle in candles for larger in builder.add(candle)]

    found = list(columns_of(candles).larger(timeframe))

    # The last one may still be forming.
    assert found[: len(built)] == built
    assert len(found) - len(built) in (0, 1)


@given(listed(), st.data())
def test_joining_is_the_same_in_any_order_and_twice_is_once(candles: list[Candle], data: st.DataObject) -> None:
    cut, back = (data.draw(st.integers(1, len(candles))) for _ in range(2))
    early, late = columns_of(candles[:cut]), columns_of(candles[-back:])

    both = early.joined(late)

    assert list(both) == list(late.joined(early)) == list(both.joined(late))
    assert list(both) == sorted({*candles[:cut], *candles[-back:]}, key=lambda each: each.open_time_ms)


def test_a_candle_that_differs_is_refused_unless_it_is_to_replace_the_old_one() -> None:
    old = made("100 102 99 101 5", "101 101 101 101 1")
    new = made("101 101 100.5 101 1", at=[1])

    with pytest.raises(InvalidParameter, match=r"1 candles differ .* 2023-11-15T00:01:00Z: 101.0/.* instead of 101"):
        old.joined(new)
    assert old.joined(new, replace=True).candle(1).low == Decimal("100.5")


@pytest.mark.parametrize(
    ("rows", "at", "told"),
    [
        (["1 1 1 1 1", "1 1 1 1 1"], [1, 0], "candle 1 at 2023-11-15T00:00:00Z: the time goes back"),
        (["1 1 1 1 1", "1 1 1 1 1"], [0, 0], "candle 1 at .* a second candle of this time"),
        (["0 1 0 1 1"], None, "candle 0 at .* a price is not above zero"),
        (["2 1 1 1 1"], None, "high and low do not enclose open and close"),
        (["1 1 1 1 -1"], None, "the volume is below zero"),
        (["1 1 1 nan 1"], None, "candle 0: close is nan, not a number"),
        (["1 inf 1 1 1"], None, "candle 0: high is inf, not a number"),
        ([], None, "no candles"),
        (["0.1234567890123 1 0.1 1 1"], None, "more than 12 decimals"),
    ],
)
def test_what_cannot_be_true_is_named(rows: list[str], at: list[int] | None, told: str) -> None:
    with pytest.raises(InvalidParameter, match=told):
        made(*rows, at=at)


def test_only_the_first_of_many_faults_are_told_and_the_others_counted() -> None:
    with pytest.raises(InvalidParameter, match=r"candle 9 at .*; and 90 more$"):
        made(*["2 1 1 1 1"] * 100)


def test_a_gap_is_a_fault_that_candles_may_have() -> None:
    candles = made(*["1 1 1 1 1"] * 3, at=[0, 1, 61])

    (gap,) = candles.faults()

    assert str(gap) == "candle 2 at 2023-11-15T01:01:00Z: 59 candles are missing since 2023-11-15T00:01:00Z"


def test_the_timeframe_is_told_by_the_times() -> None:
    rows = ["1 1 1 1 1"] * 3
    assert Candles.from_rows(SYMBOL, None, **columns(*rows, step_ms=300_000)).timeframe is Timeframe.M5
    with pytest.raises(InvalidParameter, match="120 s apart, which is none of 1m, 5m"):
        Candles.from_rows(SYMBOL, None, **columns(*rows, step_ms=120_000))
    with pytest.raises(InvalidParameter, match="not a multiple of 5m"):
        Candles.from_rows(SYMBOL, Timeframe.M5, **columns(*rows))


def test_times_may_be_datetime64_or_whole_floats() -> None:
    rows = columns("1 1 1 1 1", "1 1 1 1 1")
    plain = Candles.from_rows(SYMBOL, None, **rows)
    for times in (np.array(rows["time_ms"], dtype="datetime64[ms]"), np.array(rows["time_ms"], dtype=float)):
        assert list(Candles.from_rows(SYMBOL, None, **{**rows, "time_ms": times})) == list(plain)
    with pytest.raises(InvalidParameter, match="no whole number of ms"):
        made("1 1 1 1 1", time_ms=[0.5])
    with pytest.raises(InvalidParameter, match="UTC milliseconds, or datetime64"):
        made("1 1 1 1 1", time_ms=["noon"])
    with pytest.raises(InvalidParameter, match="different lengths: 1, 2"):
        made("1 1 1 1 1", time_ms=[0, 60_000])


def test_noise_in_volumes_is_rounded_and_in_prices_refused() -> None:
    assert made("1 1 1 1 0.30000000000000004").candle(0).volume == Decimal("0.3")
    with pytest.raises(InvalidParameter, match="round the prices"):
        made("0.30000000000000004 1 0.3 1 1")


def test_between_takes_the_start_and_leaves_the_end_out() -> None:
    candles = made(*["1 1 1 1 1"] * 5)

    assert candles.between(START_MS + MINUTE_MS, START_MS + 3 * MINUTE_MS).time_ms.tolist() == [
        START_MS + MINUTE_MS,
        START_MS + 2 * MINUTE_MS,
    ]
    assert len(candles.between(START_MS + MINUTE_MS, START_MS)) == 0


@given(st.lists(st.tuples(st.integers(0, EXACT_MAX // 10**6), st.integers(0, 6)), min_size=1))
def test_decimals_become_whole_units_exactly_and_as_floats_would(numbers: list[tuple[int, int]]) -> None:
    values = [Decimal(number).scaleb(-places) for number, places in numbers]
    units, decimals = exact_units(SYMBOL, values, 6)

    assert [Decimal(int(each)).scaleb(-decimals) for each in units] == values
    assert decimals == max(0, *(-int(each.normalize().as_tuple().exponent) for each in values))


@pytest.mark.parametrize(
    "number", ["0.0000000000001", "107731.00000000001", "1e16", "2251799813685248", "1e-30", "1e300"]
)
def test_decimals_that_do_not_fit_are_refused_and_none_is_rounded(number: str) -> None:
    with pytest.raises(InvalidParameter, match="more than 12 decimals, or more than 15 digits"):
        exact_units(SYMBOL, [Decimal(number), Decimal(1)], 12)


def test_volumes_give_up_the_decimals_for_which_there_is_no_room() -> None:
    units, decimals = exact_units(SYMBOL, [Decimal("2000000000.12345678"), Decimal("0.1")], 8, rounds=True)

    assert (units.tolist(), decimals) == ([2_000_000_000_123_457, 100_000], 6)


def test_candles_whose_prices_fit_no_common_step_are_not_joined() -> None:
    small = made("0.000000000101 0.000000000101 0.000000000101 0.000000000101 1", at=[1])
    large = made("107731.5 107731.5 107731.5 107731.5 1")
    for one, other in ((small, large), (large, small)):
        with pytest.raises(InvalidParameter, match=r"prices up to 107731\.5 and prices of 12 decimals"):
            one.joined(other)


@given(listed(), st.integers(1, 39))
def test_parts_are_joined_to_the_whole_in_either_order(candles: list[Candle], place: int) -> None:
    assume(place < len(candles))
    head, tail = columns_of(candles[:place]), columns_of(candles[place:])

    assert list(head.joined(tail)) == list(tail.joined(head)) == candles
    assert list(head.joined(tail).joined(tail)) == candles


def test_volumes_that_fit_no_common_step_are_joined_in_one_that_has_room() -> None:
    fine, coarse = made("1 1 1 1 0.12345678", at=[1]), made("1 1 1 1 2000000000000")
    for joined in (fine.joined(coarse), coarse.joined(fine)):
        assert [each.volume for each in joined] == [Decimal(2_000_000_000_000), Decimal("0.123")]
    assert len(coarse.joined(fine).joined(fine)) == 2
