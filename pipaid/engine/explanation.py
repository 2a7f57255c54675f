"""Why a strategy did what it did: a past evaluation computed anew from stored candles and journalled state."""

from __future__ import annotations

from decimal import Decimal

import msgspec
from attrs import frozen

from pipaid.engine.assembly import Memory, Surroundings, assemble
from pipaid.engine.book import Book, Caps
from pipaid.engine.quotes import Quotes
from pipaid.engine.risk import text_of
from pipaid.engine.template import Template
from pipaid.engine.tracing import Trace, told
from pipaid.model.candle import Candle
from pipaid.model.instrument import Instrument
from pipaid.model.moment import iso_millis
from pipaid.model.money import plain
from pipaid.model.order import Order
from pipaid.model.position import Position
from pipaid.model.report import CandleSeen, GateVerdict, Why
from pipaid.model.strategy import Status, Strategy
from pipaid.signals.series import Series


@frozen(kw_only=True)
class Past:
    """What was known at a moment: the memory as the journal has it, the series as it stood, the caps in force now.

    `run_id` names the evaluation that was kept of that moment, if one was; `start` tells that it was the first one.
    """

    at_ms: int
    memory: Memory
    series: Series
    instrument: Instrument
    caps: Caps
    blocked: str
    run_id: str | None = None
    start: bool = False


def explain(strategy: Strategy, template: type[Template], past: Past) -> Why:
    """Evaluate the last candle of a past series with a scratch session, and tell everything it met.

    It runs the template's code: the caller puts a budget on it. A strategy that was halted since is judged as it would
    have been before.
    """
    if past.at_ms < strategy.deployed_at_ms or not strategy.deployed_at_ms:
        strategy = msgspec.structs.replace(strategy, status=Status.DRAFT)
    elif strategy.status is Status.ERROR:
        strategy = msgspec.structs.replace(strategy, status=Status.DEPLOYED)
    symbol = past.series.symbol
    candle = past.series.last
    prices: dict[str, Decimal] = {} if candle is None else {symbol: candle.close}
    quotes = Quotes(now_ms=past.at_ms if candle is None else candle.close_time_ms, prices=prices)
    series = {name: Series(name, past.series.timeframe) for name in strategy.in_effect.symbols}
    series[symbol] = past.series
    around = Surroundings(
        instruments=dict.fromkeys(strategy.in_effect.symbols, past.instrument),
        series=series,
        quotes=quotes,
        book=Book(caps=past.caps, blocked=past.blocked),
    )
    session = assemble(strategy, template, past.memory, around)
    features = {
        f"{feature.name}{list(feature.params)}": past.series.feature(feature).value for feature in session.features
    }
    trace = session.rehearse(symbol, start=past.start)
    gates = trace.gates or session.probe(symbol)
    return Why(
        id=strategy.id,
        symbol=symbol,
        at=iso_millis(quotes.now_ms),
        candle=None if candle is None else _seen(candle),
        features=features,
        gates=tuple(
            GateVerdict(gate=gate.rule, verdict=gate.verdict, limit=text_of(gate.limit), value=text_of(gate.value))
            for gate in gates
        ),
        decision=_decision(trace, candle),
        intents=tuple(told(wish) for wish in trace.wished),
        run_id=past.run_id,
    )


def memory_at(memory: Memory, positions: list[Position], orders: list[Order], at_ms: int) -> Memory:
    """Return what a strategy held at a moment, from all that it ever held: lots open then, orders working then."""
    held = tuple(
        msgspec.structs.replace(lot, closed_at_ms=0, exit_quantity=Decimal(0), exit_value=Decimal(0), reason=None)
        for lot in positions
        if lot.opened_at_ms < at_ms and (lot.is_open or lot.closed_at_ms > at_ms)
    )
    working = tuple(
        msgspec.structs.replace(order, filled=Decimal(0), filled_value=Decimal(0))
        for order in orders
        if order.placed_at_ms < at_ms and (order.working or order.ended_at_ms > at_ms)
    )
    return Memory(brain=memory.brain, orders=working, positions=held)


def _seen(candle: Candle) -> CandleSeen:
    return CandleSeen(
        open_time=iso_millis(candle.open_time_ms),
        open=plain(candle.open),
        high=plain(candle.high),
        low=plain(candle.low),
        close=plain(candle.close),
        volume=plain(candle.volume),
    )


def _decision(trace: Trace, candle: Candle | None) -> str:
    if candle is None:
        return "nothing: no candle had closed yet"
    if not trace.wished:
        return "hold"
    parts: list[str] = []
    for order in trace.orders:
        what = "reduce by" if order.reduce_only else "enter with"
        parts.append(f"{what} a {order.type.value} {order.side.value} of {plain(order.quantity)} {order.symbol}")
    parts.extend(f"refused by {no.rule}: {no.value} against {no.limit}" for no in trace.refusals)
    return "; ".join(parts) or "a change to working orders"
