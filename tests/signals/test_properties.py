"""What is true of signals whatever the candles: opposites exclude each other, and neither scale nor mirror matters."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

import numpy as np
import pytest
from msgspec.structs import replace

from pipaid.model.candle import Candle
from pipaid.model.columns import Candles
from pipaid.model.instrument import Timeframe
from pipaid.signals.catalogue.lookup import SIGNALS, rule
from pipaid.signals.columns import Columns, Truths
from tests.signals.candles import candles_of, restless
from tests.signals.drawn import default_params, default_rules

COUNT = 1_500
# Both sides may be true: an extreme may be recent on both, a flat market lies on both stops, patterns add up.
NOT_OPPOSITE = {"aroon_up_trend", "chandelier_long_stop_hit", "volatility_stop_upper"}
OPPOSITE_WORDS = (
    ("_up", "_down"),
    ("bullish", "bearish"),
    ("overbought", "oversold"),
    ("upper", "lower"),
    ("positive", "negative"),
    ("_above", "_below"),
    ("_long", "_short"),
    ("high_", "low_"),
    ("white_soldiers", "black_crows"),
    ("morning", "evening"),
    ("bottoms", "tops"),
    ("piercing_line", "dark_cloud_cover"),
    ("dragonfly", "gravestone"),
    ("hammer", "shooting_star"),
    ("inverted_hammer", "hanging_man"),
)
# Patterns are recent for so many candles.
RECENT = 5
# These compare with a number of price units.
IN_PRICE_UNITS = ("ao_", "force_", "eom_")


def opposite(name: str) -> str | None:
    """Return the signal that says the opposite, if there is one."""
    for one, other in OPPOSITE_WORDS:
        for here, there in ((one, other), (other, one)):
            if here in name and name.replace(here, there) in SIGNALS:
                return name.replace(here, there)
    return None


PAIRS = sorted({(name, other) for name in SIGNALS if (other := opposite(name)) is not None and name < other})
EXCLUSIVE = [pair for pair in PAIRS if not NOT_OPPOSITE & set(pair) and SIGNALS[pair[0]].group != "patterns"]
MIRRORED = [pair for pair in PAIRS if SIGNALS[pair[0]].group == "patterns"]


@lru_cache(maxsize=1)
def made() -> list[Candle]:
    return restless(COUNT, seed=7)


@lru_cache(maxsize=1)
def columns() -> Columns:
    return Columns(Candles.from_candles(made()))


def said(name: str, of: Columns, anchor: float | None = None) -> Truths:
    signal = SIGNALS[name]
    first = float(of.candles.floats("close")[0]) if anchor is None else anchor
    asked = rule(name, default_params(signal), timeframe=Timeframe.H1, anchor=first if signal.anchored else None)
    return of.holds(asked.condition)


def test_most_signals_have_an_opposite() -> None:
    assert len(EXCLUSIVE) >= 60
    assert len(MIRRORED) >= 14


@pytest.mark.parametrize(("one", "other"), EXCLUSIVE)
def test_opposites_are_never_true_together(one: str, other: str) -> None:
    assert not (said(one, columns()) & said(other, columns())).any()


@pytest.mark.parametrize(("one", "other"), MIRRORED)
def test_a_mirrored_market_shows_the_mirrored_pattern(one: str, other: str) -> None:
    level = Decimal(2_000)
    mirrored = [
        replace(each, open=level - each.open, high=level - each.low, low=level - each.high, close=level - each.close)
        for each in made()
    ]
    turned = Columns(Candles.from_candles(mirrored))
    differ = said(one, columns()) != said(other, turned)

    # Where a wick is just as long as it must be, the last bit of a price decides; it shows for as long as it is recent.
    assert differ.mean() <= 0.004 * (RECENT if SIGNALS[one].type == "FILTER" else 1)


@pytest.mark.parametrize("name", [name for name in SIGNALS if not name.startswith(IN_PRICE_UNITS)])
def test_prices_twice_as_high_say_the_same(name: str) -> None:
    candles = columns().candles
    prices = [getattr(candles, each) * 2 for each in ("open", "high", "low", "close")]
    doubled = Candles.of(
        candles.symbol,
        candles.timeframe,
        [candles.time_ms, *prices, candles.volume],
        price_decimals=candles.price_decimals,
        volume_decimals=candles.volume_decimals,
    )

    assert np.array_equal(said(name, columns()), said(name, Columns(doubled)))


@pytest.mark.parametrize("count", [1, 2, 3, 400])
@pytest.mark.parametrize("volume", [0, 1])
def test_candles_without_any_movement_raise_nothing_and_cross_nothing(count: int, volume: int) -> None:
    still = [replace(each, volume=Decimal(volume)) for each in candles_of(["1.1"] * count)]
    of = Columns(Candles.from_candles(still))
    for name, asked in default_rules(Timeframe.H1, anchor=1.1).items():
        held = of.holds(asked.condition)
        assert len(held) == count
        if SIGNALS[name].type == "TRIGGER":
            assert not held.any(), name
