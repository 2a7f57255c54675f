"""What a backtest comes to: fills and closed lots as they happen, and the equity that follows from them at the end."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import accumulate
from typing import Any, Final

import numpy as np
from attrs import define, field

from pipaid.engine.effects import Effects
from pipaid.engine.fees import TRAILING_MS, Fees
from pipaid.engine.metrics import CALENDAR_DAYS, measure
from pipaid.engine.played import Track
from pipaid.engine.standing import liquidation_price, lot_of
from pipaid.model.backtest import BacktestResult, BacktestTrade, LevelKind, LevelSpan
from pipaid.model.instrument import Instrument
from pipaid.model.moment import DAY_MS, iso_seconds
from pipaid.model.money import ZERO, average, plain
from pipaid.model.order import Fill, FundingPaid, Order, OrderType
from pipaid.model.position import Position
from pipaid.model.strategy import StrategyDefinition

# A report can draw no more than this, and a grid over years has millions.
SPANS_MAX: Final = 20_000
# The equity at every candle is looked at in pieces of so many days, which bounds the memory that takes.
PIECE_MS: Final = 64 * DAY_MS


@define(eq=False)
class Outcome:
    """Write down what a trial does; `result` adds it up. Amounts are in quote currency."""

    definition: StrategyDefinition
    tracks: Mapping[str, Track]
    fees: Fees
    refusals: Counter[str]
    instruments: Mapping[str, Instrument]
    fills: list[Fill] = field(factory=list[Fill])
    closed: list[Position] = field(factory=list[Position])
    open: dict[str, Position] = field(factory=dict[str, Position])
    funding: list[FundingPaid] = field(factory=list[FundingPaid])
    _spans: dict[str, LevelSpan] = field(factory=dict[str, LevelSpan])
    _left_out: int = 0
    _traded: deque[tuple[int, Decimal]] = field(factory=deque[tuple[int, Decimal]])
    _volume: Decimal = ZERO

    def note(self, effects: Effects, now_ms: int) -> None:
        """Write down one decision."""
        for booked in effects.fills:
            self.fills.append(booked.fill)
            if self.fees.moves:
                notional = booked.fill.quantity * booked.fill.price
                self._traded.append((booked.fill.time_ms, notional))
                self._volume += notional
        for position in effects.positions.values():
            if position.is_open:
                self.open[position.id] = position
            else:
                self.open.pop(position.id, None)
                self.closed.append(position)
        for order in effects.orders.values():
            self.note_level(order, now_ms)

    def volume(self, now_ms: int) -> Decimal:
        """Return what was traded in the trailing 30 days."""
        while self._traded and self._traded[0][0] <= now_ms - TRAILING_MS:
            self._volume -= self._traded.popleft()[1]
        return self._volume

    def note_level(self, order: Order, now_ms: int) -> None:
        """Write down where an order rests, and until when."""
        if order.type is OrderType.MARKET:
            return
        span = self._spans.get(order.id)
        if span is None and len(self._spans) < SPANS_MAX:
            self._spans[order.id] = LevelSpan(
                symbol=order.symbol,
                kind=_kind(order),
                price=order.price,
                from_ms=order.placed_at_ms,
                until_ms=0 if order.working else now_ms,
                position_id=order.position_id,
            )
        elif not order.working:
            if span is None:
                self._left_out += 1
            else:
                self._spans[order.id] = _until(span, now_ms)

    def _levels(self, last_ms: int) -> tuple[LevelSpan, ...]:
        """Return where orders rested, and where lots would have been liquidated, as far as there is room."""
        levels = [span if span.until_ms else _until(span, last_ms) for span in self._spans.values()]
        for lot in (*self.closed, *self.open.values()):
            price = liquidation_price(lot_of(lot), self.instruments[lot.symbol])
            if price <= ZERO:
                continue
            if len(levels) >= SPANS_MAX:
                self._left_out += 1
                continue
            span = LevelSpan(
                symbol=lot.symbol,
                kind="liquidation",
                price=price,
                from_ms=lot.opened_at_ms,
                until_ms=lot.closed_at_ms or last_ms,
                position_id=lot.id,
            )
            levels.append(span)
        return tuple(levels)

    # The end.

    def result(self, config: dict[str, Any]) -> BacktestResult:
        """Add everything up; lots still open are marked to the last close."""
        tracks = self.tracks.values()
        first_ms = min(int(track.candles.time_ms[track.begin]) for track in tracks)
        last_ms = max(int(track.candles.time_ms[track.end - 1]) + track.candles.timeframe.ms for track in tracks)
        trades = tuple(_trade(number, lot) for number, lot in enumerate(self.closed, 1))
        moves = _Moves.of(self.fills, self.funding)
        curve = self._curve(moves, first_ms, last_ms)
        capital, drawdown = self.definition.capital, self._drawdown(moves, first_ms, last_ms)
        return BacktestResult(
            config=config | {"start": iso_seconds(first_ms), "end": iso_seconds(last_ms)},
            metrics=measure(curve, trades, capital=capital, max_drawdown=drawdown),
            metrics_365=measure(curve, trades, capital=capital, max_drawdown=drawdown, days_per_year=CALENDAR_DAYS),
            equity_curve=curve,
            trades=trades,
            fills=tuple(self.fills),
            levels=self._levels(last_ms),
            levels_left_out=self._left_out,
            refusals=dict(sorted(self.refusals.items())),
            candles=sum(track.end - track.begin for track in tracks),
            exposure_ms=self._exposure_ms(last_ms),
            funding=sum((paid.amount for paid in self.funding), ZERO),
            digest=_digest(self.fills, trades, curve),
        )

    def _curve(self, moves: _Moves, first_ms: int, last_ms: int) -> tuple[tuple[int, Decimal], ...]:
        """Return the exact equity at the beginning, at each UTC midnight in between and at the last close."""
        midnights = range(first_ms - first_ms % DAY_MS + DAY_MS, last_ms, DAY_MS)
        points = [(time_ms, self._equity(moves, time_ms)) for time_ms in (*midnights, last_ms)]
        return ((first_ms, self.definition.capital), *points)

    def _equity(self, moves: _Moves, time_ms: int) -> Decimal:
        total = self.definition.capital
        for symbol, track in self.tracks.items():
            held, cash = moves.before(symbol, time_ms)
            total += cash
            if held:
                total += held * (track.mark_at(time_ms) or ZERO)
        return total

    def _drawdown(self, moves: _Moves, first_ms: int, last_ms: int) -> Decimal:
        """Return the deepest fall below the running peak as a share of it, over the closes of all candles."""
        capital = float(self.definition.capital)
        peak, deepest = capital, 0.0
        moved = {symbol: (track, moves.times(symbol), *moves.columns(symbol)) for symbol, track in self.tracks.items()}
        for start_ms in range(first_ms, last_ms, PIECE_MS):
            end_ms = min(start_ms + PIECE_MS, last_ms)
            pieces = [_closes(track, start_ms, end_ms) for track in self.tracks.values()]
            alike = all(np.array_equal(pieces[0], each) for each in pieces[1:])
            times = pieces[0] if alike else np.unique(np.concatenate(pieces))
            if not len(times):
                continue
            equity = np.full(len(times), capital)
            for track, moments, held, cash in moved.values():
                at = np.searchsorted(moments, times)
                equity += cash[at] + held[at] * track.closes_at(times)
            peaks = np.maximum(np.maximum.accumulate(equity), peak)
            deepest = min(deepest, float(((equity - peaks) / peaks).min()))
            peak = float(peaks[-1])
        return Decimal(repr(deepest))

    def _exposure_ms(self, last_ms: int) -> int:
        spans = sorted((lot.opened_at_ms, lot.closed_at_ms or last_ms) for lot in (*self.closed, *self.open.values()))
        total, reached = 0, 0
        for begun_ms, ended_ms in spans:
            total += max(0, ended_ms - max(begun_ms, reached))
            reached = max(reached, ended_ms)
        return total


@define(eq=False)
class _Moves:
    """What each symbol's fills and funding did to quantity and cash, in the order of time."""

    by_symbol: dict[str, tuple[list[int], list[Decimal], list[Decimal]]]

    @classmethod
    def of(cls, fills: Iterable[Fill], funding: Iterable[FundingPaid]) -> _Moves:
        moves: dict[str, list[tuple[int, Decimal, Decimal]]] = {}
        for fill in fills:
            quantity = fill.side.sign * fill.quantity
            cash = -quantity * fill.price - fill.fee
            moves.setdefault(fill.symbol, []).append((fill.time_ms, quantity, cash))
        for paid in funding:
            moves.setdefault(paid.symbol, []).append((paid.time_ms, ZERO, paid.amount))
        by_symbol: dict[str, tuple[list[int], list[Decimal], list[Decimal]]] = {}
        for symbol, each in moves.items():
            each.sort(key=lambda move: move[0])
            quantities = accumulate((quantity for _, quantity, _ in each), initial=ZERO)
            amounts = accumulate((amount for _, _, amount in each), initial=ZERO)
            by_symbol[symbol] = [time_ms for time_ms, _, _ in each], list(quantities), list(amounts)
        return cls(by_symbol)

    def before(self, symbol: str, time_ms: int) -> tuple[Decimal, Decimal]:
        """Return what was held and what cash had moved before a moment: what fills at it comes after its close."""
        if symbol not in self.by_symbol:
            return ZERO, ZERO
        times, held, cash = self.by_symbol[symbol]
        at = bisect_left(times, time_ms)
        return held[at], cash[at]

    def times(self, symbol: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return the moments of a symbol's moves."""
        return np.array(self.by_symbol.get(symbol, ([], [], []))[0], dtype=np.int64)

    def columns(self, symbol: str) -> tuple[Any, Any]:
        """Return the same as floats, by how many moves went before."""
        _, held, cash = self.by_symbol.get(symbol, ([], [ZERO], [ZERO]))
        return np.array(held, dtype=np.float64), np.array(cash, dtype=np.float64)


def _closes(track: Track, start_ms: int, end_ms: int) -> Any:
    """Return the moments after one and up to another at which candles of a track close."""
    step_ms = track.candles.timeframe.ms
    times = track.candles.time_ms[track.begin : track.end]
    first, last = np.searchsorted(times, (start_ms - step_ms + 1, end_ms - step_ms + 1))
    return times[first:last] + step_ms


def _kind(order: Order) -> LevelKind:
    if not order.reduce_only:
        return "entry"
    return "stop" if order.type is OrderType.STOP else "target"


def _until(span: LevelSpan, time_ms: int) -> LevelSpan:
    return LevelSpan(
        symbol=span.symbol,
        kind=span.kind,
        price=span.price,
        from_ms=span.from_ms,
        until_ms=time_ms,
        position_id=span.position_id,
    )


def _trade(number: int, lot: Position) -> BacktestTrade:
    return BacktestTrade(
        id=number,
        position_id=lot.id,
        side=lot.direction.entry_side,
        symbol=lot.symbol,
        entry_time_ms=lot.opened_at_ms,
        entry_price=average(lot.entry_value, lot.entry_quantity),
        exit_time_ms=lot.closed_at_ms,
        exit_price=average(lot.exit_value, lot.exit_quantity),
        qty=lot.entry_quantity,
        pnl=lot.pnl,
        fee=lot.fees,
        reason=lot.reason.value if lot.reason is not None else "",
    )


def _digest(fills: Iterable[Fill], trades: Iterable[BacktestTrade], curve: Iterable[tuple[int, Decimal]]) -> str:
    """Digest what happened, to the last digit; equal for equal inputs, however they were played."""
    digest = hashlib.blake2b(digest_size=16)
    for fill in fills:
        digest.update(
            f"{fill.time_ms} {fill.symbol} {fill.side} {plain(fill.quantity)} {plain(fill.price)} ".encode()
            + f"{plain(fill.fee)}\n".encode()
        )
    for trade in trades:
        digest.update(f"{trade.exit_time_ms} {trade.symbol} {plain(trade.pnl)} {trade.reason}\n".encode())
    for time_ms, equity in curve:
        digest.update(f"{time_ms} {plain(equity)}\n".encode())
    return digest.hexdigest()
