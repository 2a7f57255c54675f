"""Why a strategy did what it did: a past evaluation computed anew from stored candles and journalled state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
from attrs import frozen

from pipaid.engine.assembly import Memory, Surroundings, assemble
from pipaid.engine.book import Book, Caps
from pipaid.engine.quotes import Quotes
from pipaid.engine.risk import Gate, text_of
from pipaid.engine.spending import Spending
from pipaid.engine.template import Consult, Template
from pipaid.engine.tracing import Trace, told
from pipaid.model.candle import Candle
from pipaid.model.instrument import Instrument
from pipaid.model.moment import iso_millis
from pipaid.model.money import plain
from pipaid.model.order import Order
from pipaid.model.position import Position
from pipaid.model.report import CandleSeen, GateVerdict, Why
from pipaid.model.run import Evaluation
from pipaid.model.strategy import Status, Strategy
from pipaid.signals.series import Series

# What these gates see is the whole account's, and of that nobody keeps what it was at every moment.
OF_THE_ACCOUNT: Final = frozenset(
    {
        "account_exposure", "account_positions", "account_orders", "account_daily_loss", "orders_per_day",
        "orders_per_second", "orders_per_minute", "notional_per_minute", "hedging", "trade_rate",
    }
)  # fmt: skip
NOT_RECOLLECTED: Final = "not recollected"


@frozen(kw_only=True)
class Past:
    """What was known at a moment: the memory as the journal has it, the series as it stood, the caps in force now.

    `kept` is the evaluation that was recorded of that moment, if one was: what it says was really so.
    """

    at_ms: int
    memory: Memory
    series: Series
    instrument: Instrument
    caps: Caps
    blocked: str
    kept: Evaluation | None = None

    def refusals(self) -> list[dict[str, Any]]:
        """Return what was refused then, as it was recorded."""
        return self._recorded("risk", "refusals")

    def orders(self) -> list[dict[str, Any]]:
        """Return what was ordered then, as it was recorded."""
        return self._recorded("order", "orders")

    def refused_by(self, rule: str) -> bool:
        """Tell whether a gate is recorded to have refused."""
        return any(no["rule"] == rule for no in self.refusals())

    def _recorded(self, step_name: str, what: str) -> list[dict[str, Any]]:
        steps = self.kept.steps if self.kept is not None else ()
        return [each for step in steps if step.step_name == step_name for each in step.output.get(what, ())]


def explain(strategy: Strategy, template: type[Template], past: Past) -> Why:
    """Evaluate the last candle of a past series with a scratch session, and tell everything it met.

    It runs the template's code: the caller puts a budget on it. A strategy that was halted since is judged as it would
    have been before. Where the moment was recorded, the record wins over what is computed; the account's own gates are
    known from nowhere else, because the scratch session stands alone.
    """
    if past.at_ms < strategy.deployed_at_ms or not strategy.deployed_at_ms:
        strategy = msgspec.structs.replace(strategy, status=Status.DRAFT)
    elif strategy.status is Status.ERROR or (past.kept is not None and not past.refused_by("status")):
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
        tariffs=None,
        book=Book(caps=past.caps, blocked=past.blocked if past.kept is None or past.refused_by("kill_switch") else ""),
    )
    session = assemble(strategy, template, past.memory, around)
    trace = session.rehearse(symbol, start=past.kept is not None and past.kept.cause == "deploy")
    gates = trace.gates or session.probe(symbol)
    return Why(
        id=strategy.id,
        symbol=symbol,
        at=iso_millis(quotes.now_ms),
        candle=None if candle is None else _seen(candle),
        features=trace.features,
        rules=trace.reasons,
        gates=tuple(_judged(gates, past)),
        decision=_decision(trace, candle, past),
        intents=tuple(told(wish) for wish in trace.wished),
        run_id=past.kept.id if past.kept is not None else None,
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
    # Which models were being asked then, and what that had cost, is not known any more.
    brain = msgspec.structs.replace(memory.brain, questions={}, spending=Spending())
    return Memory(brain=brain, orders=working, positions=held)


def _seen(candle: Candle) -> CandleSeen:
    return CandleSeen(
        open_time=iso_millis(candle.open_time_ms),
        open=plain(candle.open),
        high=plain(candle.high),
        low=plain(candle.low),
        close=plain(candle.close),
        volume=plain(candle.volume),
    )


def _judged(gates: Sequence[Gate], past: Past) -> Iterator[GateVerdict]:
    """Yield what each gate said, as far as it is known: computed here, or recorded then."""
    recorded = past.refusals()
    for gate in gates:
        no = next((no for no in recorded if no["rule"] == gate.rule), None)
        if no is not None:
            recorded.remove(no)
            yield _recorded(no)
            continue
        verdict, value = gate.verdict, text_of(gate.value)
        ordered = past.kept is not None and not past.refusals()
        if verdict != "off" and gate.rule in OF_THE_ACCOUNT:
            verdict, value = "passed" if ordered else NOT_RECOLLECTED, f"this strategy alone: {value}"
        elif verdict == "refused" and past.kept is not None:
            # It did not refuse then: its limit is that of today.
            verdict = "passed" if ordered else NOT_RECOLLECTED
        yield GateVerdict(gate=gate.rule, verdict=verdict, limit=text_of(gate.limit), value=value)
    yield from map(_recorded, recorded)


def _recorded(no: dict[str, Any]) -> GateVerdict:
    return GateVerdict(gate=no["rule"], verdict="refused", limit=no["limit"], value=no["value"])


def _decision(trace: Trace, candle: Candle | None, past: Past) -> str:
    if past.kept is not None:
        done = [f"ordered {each['side']} {plain(Decimal(each['qty']))} {past.kept.symbol}" for each in past.orders()]
        done += [f"refused by {no['rule']}: {no['value']} against {no['limit']}" for no in past.refusals()]
        return "; ".join(done) or ("a change to working orders" if past.kept.status == "completed" else "hold")
    if candle is None:
        return "nothing: no candle had closed yet"
    if not trace.wished:
        return "hold" if trace.concluded is None else f"{trace.concluded.status}: {trace.concluded.reason}"
    questions = [f"ask {wish.model} of {wish.provider}" for wish in trace.wished if isinstance(wish, Consult)]
    parts: list[str] = [] if trace.refusals else questions
    for order in trace.orders:
        what = "reduce by" if order.reduce_only else "enter with"
        parts.append(f"{what} a {order.type.value} {order.side.value} of {plain(order.quantity)} {order.symbol}")
    parts.extend(f"refused by {no.rule}: {no.value} against {no.limit}" for no in trace.refusals)
    text = "; ".join(parts) or "a change to working orders"
    if all(order.reduce_only for order in trace.orders) and not questions:
        return text
    return f"it would {text}, unless the account's caps refused: nothing was recorded of this moment"
