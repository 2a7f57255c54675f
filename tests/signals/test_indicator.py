"""Indicators equal their definitions, one candle at a time, on drawn and on real candles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import sqrt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipaid.model.candle import Candle
from pipaid.signals.features import make_indicator
from pipaid.signals.indicator import INDICATORS, Sample
from tests.signals.candles import candles_of, eurusd_hours, make_candle, walks

Definition = Callable[[Sequence[Sample], int], float | None]


def values(name: str, params: tuple[int | float, ...], candles: Sequence[Candle]) -> list[float | None]:
    """Return an indicator's value at each candle, and check that `previous` is always the value before."""
    indicator = make_indicator(name, params)
    found: list[float | None] = []
    for candle in candles:
        indicator.update(Sample.of(candle))
        assert indicator.previous == (found[-1] if found else None)
        found.append(indicator.value)
    return found


def sma(past: Sequence[Sample], n: int) -> float | None:
    return sum(sample.close for sample in past[-n:]) / n if len(past) >= n else None


def stddev(past: Sequence[Sample], n: int) -> float | None:
    mean = sma(past, n)
    return None if mean is None else sqrt(sum((sample.close - mean) ** 2 for sample in past[-n:]) / n)


def zscore(past: Sequence[Sample], n: int) -> float | None:
    closes = [sample.close for sample in past[-n:]]
    if len(past) < n or len(set(closes)) == 1:
        return None
    mean, deviation = sma(past, n), stddev(past, n)
    assert mean is not None
    assert deviation is not None
    return (closes[-1] - mean) / deviation


def ema(past: Sequence[Sample], n: int) -> float | None:
    level = past[0].close
    for sample in past[1:]:
        level += 2 / (n + 1) * (sample.close - level)
    return level if len(past) >= n else None


def true_ranges(past: Sequence[Sample]) -> list[float]:
    closes = [past[0].open, *(sample.close for sample in past)]
    spans = [max(s.high, before) - min(s.low, before) for s, before in zip(past, closes, strict=False)]
    return [past[0].high - past[0].low, *spans[1:]]


def atr(past: Sequence[Sample], n: int) -> float | None:
    spans = true_ranges(past)
    if len(past) < n:
        return None
    level = sum(spans[:n]) / n
    for span in spans[n:]:
        level = (level * (n - 1) + span) / n
    return level


def rsi(past: Sequence[Sample], n: int) -> float | None:
    up = down = 0.0
    for before, sample in pairwise(past):
        change = sample.close - before.close
        up = (up * (n - 1) + max(change, 0.0)) / n
        down = (down * (n - 1) + max(-change, 0.0)) / n
    if len(past) < n:
        return None
    return 100 * up / (up + down) if up + down else 50.0


def highest(past: Sequence[Sample], n: int) -> float | None:
    return max(sample.high for sample in past[-n:]) if len(past) >= n else None


def lowest(past: Sequence[Sample], n: int) -> float | None:
    return min(sample.low for sample in past[-n:]) if len(past) >= n else None


def channel_high(past: Sequence[Sample], n: int) -> float | None:
    return highest(past[:-1], n)


def channel_low(past: Sequence[Sample], n: int) -> float | None:
    return lowest(past[:-1], n)


DEFINITIONS: dict[str, Definition] = {
    function.__name__: function
    for function in (sma, stddev, zscore, ema, atr, rsi, highest, lowest, channel_high, channel_low)
}


@pytest.mark.parametrize("name", DEFINITIONS)
@given(candles=walks(count=40), window=st.integers(1, 15))
def test_an_indicator_is_what_its_definition_says(name: str, candles: Sequence[Candle], window: int) -> None:
    samples = [Sample.of(candle) for candle in candles]

    found = values(name, (window,), candles)

    for count, value in enumerate(found, 1):
        expected = DEFINITIONS[name](samples[:count], window)
        assert value == (None if expected is None else pytest.approx(expected, rel=1e-9, abs=1e-9))


@pytest.mark.parametrize("name", DEFINITIONS)
def test_an_indicator_is_what_its_definition_says_on_real_hours(name: str, eurusd_hours_csv: Path) -> None:
    candles = eurusd_hours(eurusd_hours_csv, count=300)
    samples = [Sample.of(candle) for candle in candles]

    found = values(name, (20,), candles)

    for count in range(1, len(candles) + 1, 7):
        expected = DEFINITIONS[name](samples[:count], 20)
        value = found[count - 1]
        assert value == (None if expected is None else pytest.approx(expected, rel=1e-9, abs=1e-12))


def test_rsi_by_hand() -> None:
    # Gains 0, 1, 0 and losses 0, 0, 0.5, smoothed by one half from zero: 0.5 to 0, then 0.25 to 0.25.
    assert values("rsi", (2,), candles_of([10, 11, 10.5])) == [None, 100.0, 50.0]


def test_rsi_of_a_price_that_never_moves_is_fifty() -> None:
    assert values("rsi", (3,), candles_of([7, 7, 7, 7])) == [None, None, 50.0, 50.0]


def test_ema_by_hand() -> None:
    # Seeded with the first close, a third of which is left after each step of a window of 2.
    assert values("ema", (2,), candles_of([3, 6, 9])) == [None, pytest.approx(5.0), pytest.approx(23 / 3)]


def test_atr_by_hand() -> None:
    candles = [
        make_candle(10, index=0, high="11", low="9"),
        make_candle(12, index=1, high="13", low="12"),
        make_candle(8, index=2, high="9", low="8"),
    ]

    # True ranges 2, then 13 - 10, then 12 - 8.
    assert values("true_range", (), candles) == [2.0, 3.0, 4.0]
    assert values("atr", (2,), candles) == [None, 2.5, 3.25]


def test_a_flat_window_has_exactly_no_deviation_whatever_came_before() -> None:
    wild = [100_000, 0.01] * 500
    flat = [123.45] * 20

    assert values("stddev", (20,), candles_of([*wild, *flat]))[-1] == 0.0
    assert values("zscore", (20,), candles_of([*wild, *flat]))[-1] is None
    assert values("sma", (20,), candles_of([*wild, *flat]))[-1] == 123.45


def test_a_small_deviation_is_exact_after_large_prices() -> None:
    calm = [50_000.01, 50_000.02] * 10

    found = values("stddev", (20,), candles_of([*[1_000_000, 1] * 1000, *calm]))[-1]

    assert found == pytest.approx(0.005, rel=1e-6)


def test_a_period_begins_with_the_candle_that_closes_at_its_start() -> None:
    candles = candles_of([1, 1, 1, 1], start=2)  # Hours that close at 3, 4, 5 and 6 o'clock.

    assert values("period", (4 * 3_600_000, 0), candles) == [0.0, 1.0, 1.0, 1.0]
    assert values("period", (4 * 3_600_000, 2 * 3_600_000), candles) == [0.0, 0.0, 0.0, 1.0]


def test_rungs_count_the_marks_below_the_close() -> None:
    closes = [99, 100, 100.01, 110, 119.99, 120.01, 200]

    # Marks at 100, 110 and 120; a close on a mark has not left it.
    assert values("arithmetic_rung", (100.0, 130.0, 4, 0.0), candles_of(closes)) == [0, 0, 1, 1, 2, 3, 3]
    # Marks halfway between the levels 1, 10 and 100.
    assert values("geometric_rung", (1.0, 100.0, 3, 0.5), candles_of([5, 6, 54, 56])) == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("nonsense", ()),
        ("ema", ()),
        ("ema", (1, 2)),
        ("close", (1,)),
        ("ema", (0,)),
        ("ema", (-3,)),
        ("ema", (2.5,)),
        ("ema", (float("nan"),)),
        ("ema", (float("inf"),)),
        ("ema", (2_001,)),
        ("period", (0, 0)),
        ("arithmetic_rung", (0.0, 1.0, 2, 0.0)),
        ("arithmetic_rung", (1.0, 2.0, 1, 0.0)),
        ("arithmetic_rung", (1.0, 2.0, 2, 1.5)),
    ],
)
def test_an_unknown_name_and_bad_params_are_refused_by_name(name: str, params: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=name):
        make_indicator(name, params)


def test_every_indicator_has_a_test_of_its_definition() -> None:
    others = {"close", "true_range", "period", "arithmetic_rung", "geometric_rung"}

    assert set(INDICATORS) == set(DEFINITIONS) | others
