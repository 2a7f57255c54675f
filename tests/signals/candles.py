"""Candles for tests: built from closes, drawn at random, or read from the real EURUSD hours."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import Random

from hypothesis import strategies as st

from pipaid.model.candle import Candle
from pipaid.model.instrument import Timeframe


def make_candle(
    close: Decimal | str | float,
    *,
    index: int = 0,
    high: Decimal | str | None = None,
    low: Decimal | str | None = None,
    timeframe: Timeframe = Timeframe.H1,
) -> Candle:
    """Return a candle of EURUSD; without extremes it opened where it closed."""
    last = Decimal(str(close))
    top = last if high is None else Decimal(str(high))
    bottom = last if low is None else Decimal(str(low))
    return Candle("EURUSD", timeframe, index * timeframe.ms, last, top, bottom, last, Decimal(1))


def candles_of(closes: Iterable[Decimal | str | float], *, start: int = 0) -> list[Candle]:
    """Return candles without extremes, one after another."""
    return [make_candle(close, index=start + offset) for offset, close in enumerate(closes)]


def eurusd_hours(path: Path, *, count: int | None = None) -> list[Candle]:
    """Read the real hours, oldest first; hours in which nothing was traded are missing in the file."""
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))[:count]
    return [_read(row) for row in rows]


def _read(row: dict[str, str]) -> Candle:
    opened = datetime.fromisoformat(row[""]).replace(tzinfo=UTC)
    prices = [Decimal(row[name]) for name in ("Open", "High", "Low", "Close", "Volume")]
    return Candle("EURUSD", Timeframe.H1, int(opened.timestamp()) * 1000, *prices)


@st.composite
def walks(draw: st.DrawFn, *, count: int, gap_max: int = 1, first_max: int = 40) -> Sequence[Candle]:
    """Draw a random walk of candles; up to `gap_max` - 1 candles are missing between two."""
    steps = draw(st.lists(st.tuples(st.integers(-30, 30), st.integers(0, 9), st.integers(0, 9)), min_size=count,
                          max_size=count))  # fmt: skip
    gaps = draw(st.lists(st.integers(1, gap_max), min_size=count, max_size=count))
    index = draw(st.integers(0, first_max))
    close = Decimal("100.00")
    candles: list[Candle] = []
    for (step, up, down), gap in zip(steps, gaps, strict=True):
        opened, close = close, max(Decimal("1.00"), close + Decimal(step) / 20)
        high = max(opened, close) + Decimal(up) / 20
        low = max(Decimal("0.05"), min(opened, close) - Decimal(down) / 20)
        start = index * Timeframe.H1.ms
        candles.append(Candle("EURUSD", Timeframe.H1, start, opened, high, low, close, Decimal(up)))
        index += gap
    return candles


@st.composite
def storms(draw: st.DrawFn, *, decimals_min: int = 0) -> Sequence[Candle]:
    """Draw candles of up to 12 decimals: calm, flat, wild and huge stretches, spikes and gaps."""
    step = Decimal(1).scaleb(-draw(st.integers(decimals_min, 12)))
    close = 50_000
    index = draw(st.integers(0, 40))
    candles: list[Candle] = []
    kinds = st.tuples(
        st.sampled_from(["calm", "flat", "wild", "spike", "huge"]), st.integers(1, 15), st.integers(0, 12)
    )
    for kind, length, gap in draw(st.lists(kinds, min_size=1, max_size=6)):
        index += gap
        if gap:
            close = max(1, close + draw(st.integers(-40_000, 40_000)))
        reach = {"calm": 7, "flat": 0, "wild": 40_000, "spike": 3, "huge": 0}[kind]
        for number in range(length):
            opened, close = close, max(1, close + draw(st.integers(-reach, reach)))
            top = max(opened, close) + draw(st.integers(0, reach))
            huge = kind == "huge" or (kind == "spike" and not number)
            last = draw(st.integers(2**49, 2**51 - 1)) if huge else close
            candles.append(
                Candle(
                    "EURUSD",
                    Timeframe.H1,
                    index * Timeframe.H1.ms,
                    opened * step,
                    max(top, last) * step,
                    min(opened, close) * step,
                    last * step,
                    step,
                )
            )
            index += 1
    return candles


def restless(count: int, *, seed: int = 1) -> list[Candle]:
    """Return hours of all kinds: calm, trending and wild ones, flat stretches, gaps, and hours without any volume."""
    chance = Random(seed)
    cent = Decimal("0.01")
    close, index = Decimal(100), 24 * 11
    candles: list[Candle] = []
    while len(candles) < count:
        kind = chance.choice(["calm", "calm", "up", "down", "wild", "wild", "flat", "still"])
        drift = {"up": 0.004, "down": -0.004}.get(kind, 0.0)
        reach = {"wild": 0.05, "flat": 0.0, "still": 0.0}.get(kind, 0.006)
        for _ in range(chance.randint(3, 60 if reach else 25)):
            opened = close
            if reach and chance.random() < 0.2:
                opened *= Decimal(1 + chance.gauss(0.0, reach))
            drawn = close * Decimal(1 + drift + chance.gauss(0.0, reach) * (reach > 0))
            close = min(max(drawn, Decimal(20)), Decimal(900)).quantize(cent)
            opened = opened.quantize(cent)
            wicks = [Decimal(abs(chance.gauss(0.0, reach)) * chance.choice([0, 0.2, 1])) * close for _ in range(2)]
            high, low = max(opened, close) + wicks[0].quantize(cent), min(opened, close) - wicks[1].quantize(cent)
            volume = Decimal(0 if kind == "still" or chance.random() < 0.03 else chance.randint(1, 5_000))
            low = max(low, Decimal(1))
            candles.append(Candle("EURUSD", Timeframe.H1, index * Timeframe.H1.ms, opened, high, low, close, volume))
            index += 1 if chance.random() < 0.98 else chance.randint(2, 30)
    return candles[:count]
