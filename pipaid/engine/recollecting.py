"""What a whole daemon did over recorded candles, out of its journal, added up like any other backtest."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import accumulate

from attrs import frozen

from pipaid.engine.backtest import config_of
from pipaid.engine.outcome import Outcome
from pipaid.engine.plan import Plan
from pipaid.engine.played import Track
from pipaid.model.backtest import BacktestResult
from pipaid.model.money import ZERO
from pipaid.model.order import Fill, FundingPaid, Order
from pipaid.model.position import Position


@frozen(kw_only=True)
class Journaled:
    """What a journal holds of one strategy, in any order, and how many entries which rule refused."""

    fills: Sequence[Fill]
    positions: Sequence[Position]
    orders: Sequence[Order]
    refusals: Mapping[str, int]


def recollected(plan: Plan, journaled: Journaled) -> BacktestResult:
    """Return what came of a plan that a daemon has played."""
    tracks = {
        symbol: Track.of(plan.candles[symbol], plan.definition.timeframe, plan.begin_ms, plan.end_ms)
        for symbol in plan.definition.symbols
    }
    outcome = Outcome(plan.definition, tracks, plan.fees, Counter(journaled.refusals), plan.instruments)
    outcome.fills.extend(sorted(journaled.fills, key=lambda fill: (fill.time_ms, fill.symbol, fill.id)))
    for lot in sorted(journaled.positions, key=lambda lot: (lot.closed_at_ms, lot.opened_at_ms, lot.id)):
        if lot.is_open:
            outcome.open[lot.id] = lot
        else:
            outcome.closed.append(lot)
    for order in sorted(journaled.orders, key=lambda order: (order.placed_at_ms, order.id)):
        outcome.note_level(order, order.ended_at_ms)
    outcome.funding.extend(_settled(plan, tracks, outcome.fills))
    return outcome.result(config_of(plan, "replay"))


def _settled(plan: Plan, tracks: Mapping[str, Track], fills: Sequence[Fill]) -> Iterator[FundingPaid]:
    """Yield when funding was settled: a journal keeps the sum for each lot, and no moments."""
    for symbol, rates in plan.funding.items():
        own = [fill for fill in fills if fill.symbol == symbol]
        held = list(accumulate((fill.side.sign * fill.quantity for fill in own), initial=ZERO))
        times = [fill.time_ms for fill in own]
        for time_ms, rate in sorted(rates):
            quantity: Decimal = held[bisect_left(times, time_ms)]
            mark = tracks[symbol].mark_at(time_ms) if symbol in tracks else None
            if mark is not None and quantity and plan.begin_ms <= time_ms < plan.end_ms:
                amount = -quantity * mark * rate
                yield FundingPaid(id="", position_id="", symbol=symbol, amount=amount, time_ms=time_ms)
