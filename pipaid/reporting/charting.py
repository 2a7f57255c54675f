"""What the charts of a report draw, thinned out until a browser can, with a line that says what was left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final, TypeVar

import msgspec
import numpy as np

from pipaid.model.backtest import BacktestResult, BacktestTrade, LevelSpan
from pipaid.model.columns import Candles
from pipaid.model.instrument import Timeframe
from pipaid.model.moment import DAY_MS
from pipaid.model.money import ZERO
from pipaid.model.order import Fill

# How much one page can hold and a browser still draws at once.
CURVE_POINTS_MAX: Final = 4_000
OVERVIEW_CANDLES_MAX: Final = 2_500
MARKED_TRADES_MAX: Final = 1_000
LEVELS_MAX: Final = 1_500
SYMBOLS_MAX: Final = 50

Thing = TypeVar("Thing")


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """Equity and its fall from the peak so far at some moments, and the share of each day with an open position."""

    time_ms: list[int]
    equity: list[float]
    drawdown: list[float]
    day_ms: list[int]
    exposure: list[float]


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """Candles as small numbers: times in steps from one to the next, prices as differences in units.

    Of each candle: open from the close before (of the first: from zero), high, low and close from the open.
    """

    timeframe: str
    step_ms: int
    start_ms: int
    decimals: int
    steps: list[int]
    prices: list[int]


class Level(msgspec.Struct, frozen=True, array_like=True):
    """A resting price from one moment to another."""

    kind: str
    price: float
    from_ms: int
    until_ms: int


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """A trade as points of a chart; `sign` is +1 for long."""

    id: int
    sign: int
    entry_ms: int
    entry: float
    exit_ms: int
    exit: float
    pnl: float


class SymbolChart(msgspec.Struct, frozen=True, kw_only=True):
    """What is drawn of one symbol, and what of it is not."""

    symbol: str
    candles: Block | None
    marks: list[Mark]
    levels: list[Level]
    notes: list[str]


def curve_of(result: BacktestResult) -> Curve:
    """Return the curve of equity, whose falls are those from one point to another: candles between may lie deeper."""
    points = thinned(result.equity_curve, CURVE_POINTS_MAX)
    peak = points[0][1] if points else ZERO
    falls: list[float] = []
    for _, equity in points:
        peak = max(peak, equity)
        falls.append(round(max(-1.0, float((equity - peak) / peak)), 6) if peak > ZERO else 0.0)
    days = exposure_by_day(result.fills, result.equity_curve[0][0], result.equity_curve[-1][0]) if points else {}
    return Curve(
        time_ms=[at_ms for at_ms, _ in points],
        equity=[float(equity) for _, equity in points],
        drawdown=falls,
        day_ms=list(days),
        exposure=list(days.values()),
    )


def symbol_charts(result: BacktestResult, candles: Mapping[str, Candles]) -> list[SymbolChart]:
    """Return a chart for each symbol, those with candles, trades or levels, in the order of the alphabet."""
    trades: defaultdict[str, list[BacktestTrade]] = defaultdict(list)
    levels: defaultdict[str, list[LevelSpan]] = defaultdict(list)
    for trade in result.trades:
        trades[trade.symbol].append(trade)
    for level in result.levels:
        levels[level.symbol].append(level)
    known = sorted({*candles, *trades, *levels})[:SYMBOLS_MAX]
    left_out = f"{result.levels_left_out:,} levels came after the first {len(result.levels):,} and were not kept."
    general = [left_out] if result.levels_left_out else []
    return [
        _symbol_chart(symbol, candles.get(symbol), trades[symbol], levels[symbol], general=general) for symbol in known
    ]


def fitted(candles: Candles, most: int) -> Candles:
    """Return the candles in the smallest timeframe in which there are not too many; of the largest, the last ones."""
    larger = candles
    for timeframe in Timeframe:
        if timeframe.ms >= candles.timeframe.ms:
            larger = candles.larger(timeframe)
            if len(larger) <= most:
                return larger
    return larger.between(int(larger.time_ms[-most]), int(larger.time_ms[-1]) + 1)


def block_of(candles: Candles) -> Block:
    """Return candles as the page carries them."""
    step_ms = candles.timeframe.ms
    before = np.concatenate((np.zeros(1, dtype=np.int64), candles.close[:-1]))
    prices = np.stack(
        (candles.open - before, candles.high - candles.open, candles.low - candles.open, candles.close - candles.open)
    )
    start_ms = int(candles.time_ms[0])
    return Block(
        timeframe=candles.timeframe.value,
        step_ms=step_ms,
        start_ms=start_ms,
        decimals=candles.price_decimals,
        steps=(np.diff(candles.time_ms, prepend=start_ms) // step_ms).tolist(),
        prices=prices.T.ravel().tolist(),
    )


def level_of(span: LevelSpan) -> Level:
    """Return a level as the page carries it."""
    return Level(span.kind, float(span.price), span.from_ms, span.until_ms)


def thinned(things: Sequence[Thing], most: int) -> Sequence[Thing]:
    """Return at most so many of them, evenly spread, with the first and the last."""
    if len(things) <= most:
        return things
    return [things[int(each)] for each in np.linspace(0, len(things) - 1, most)]


def exposure_by_day(fills: Iterable[Fill], first_ms: int, last_ms: int) -> dict[int, float]:
    """Return the share of each UTC day, from its begin on, in which something was held (net, of any symbol)."""
    days = range(first_ms // DAY_MS * DAY_MS, max(last_ms, first_ms + 1), DAY_MS)
    held_ms = dict.fromkeys(days, 0)
    for from_ms, until_ms in _held(fills, last_ms):
        at_ms = max(from_ms, first_ms)
        while at_ms < min(until_ms, last_ms):
            day = at_ms // DAY_MS * DAY_MS
            end_ms = min(day + DAY_MS, until_ms, last_ms)
            held_ms[day] += end_ms - at_ms
            at_ms = end_ms
    lengths = {day: min(day + DAY_MS, last_ms) - max(day, first_ms) for day in days}
    return {day: round(held_ms[day] / lengths[day], 4) if lengths[day] else 0.0 for day in days}


def merged_levels(levels: Iterable[LevelSpan], gap_ms: int) -> list[Level]:
    """Return levels with those of one kind and price joined that no more than a gap lies between."""
    joined: list[Level] = []
    for span in sorted(levels, key=lambda each: (each.kind, each.price, each.from_ms)):
        level, last = level_of(span), joined[-1] if joined else None
        if last and (last.kind, last.price) == (level.kind, level.price) and level.from_ms - last.until_ms <= gap_ms:
            joined[-1] = Level(last.kind, last.price, last.from_ms, max(last.until_ms, level.until_ms))
        else:
            joined.append(level)
    return joined


def _symbol_chart(
    symbol: str,
    candles: Candles | None,
    trades: Sequence[BacktestTrade],
    levels: Sequence[LevelSpan],
    *,
    general: Sequence[str],
) -> SymbolChart:
    notes: list[str] = []
    shown = None
    if candles is None or not len(candles):
        notes.append(f"The candles of {symbol} were not handed to the report.")
    else:
        shown = fitted(candles, OVERVIEW_CANDLES_MAX)
        notes.append(_candle_note(candles, shown))
    marks = thinned(trades, MARKED_TRADES_MAX)
    if len(marks) < len(trades):
        notes.append(f"{len(marks):,} of {len(trades):,} trades are marked, evenly spread over time.")
    lines = merged_levels(levels, shown.timeframe.ms if shown else 0)
    if len(lines) > LEVELS_MAX:
        notes.append(f"{LEVELS_MAX:,} of {len(lines):,} levels are drawn: those that rested longest.")
        longest = sorted(lines, key=lambda each: each.until_ms - each.from_ms, reverse=True)[:LEVELS_MAX]
        lines = sorted(longest, key=lambda each: each.from_ms)
    notes.extend(general)
    return SymbolChart(
        symbol=symbol,
        candles=block_of(shown) if shown else None,
        marks=[_mark(trade) for trade in marks],
        levels=lines,
        notes=notes,
    )


def _candle_note(candles: Candles, shown: Candles) -> str:
    if len(shown) == len(candles):
        return f"All {len(candles):,} candles of {candles.timeframe} are drawn."
    left = "" if shown.time_ms[0] <= candles.time_ms[0] else "; earlier ones are left out"
    return f"{len(candles):,} candles of {candles.timeframe} are drawn as {len(shown):,} of {shown.timeframe}{left}."


def _mark(trade: BacktestTrade) -> Mark:
    return Mark(
        trade.id,
        trade.side.sign,
        trade.entry_time_ms,
        float(trade.entry_price),
        trade.exit_time_ms,
        float(trade.exit_price),
        float(trade.pnl),
    )


def _held(fills: Iterable[Fill], last_ms: int) -> list[tuple[int, int]]:
    """Return from when until when something was held."""
    held: dict[str, Decimal] = {}
    spans: list[tuple[int, int]] = []
    since_ms: int | None = None
    for fill in sorted(fills, key=lambda each: each.time_ms):
        left = held.pop(fill.symbol, ZERO) + fill.side.sign * fill.quantity
        if left:
            held[fill.symbol] = left
        if held and since_ms is None:
            since_ms = fill.time_ms
        elif not held and since_ms is not None:
            spans.append((since_ms, fill.time_ms))
            since_ms = None
    return spans if since_ms is None else [*spans, (since_ms, max(last_ms, since_ms))]
