"""Why a strategy did what it did: a past evaluation computed anew from stored candles and journalled state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
from attrs import frozen

from pipaid.engine.assembly import Memory, Surroundings, assemble
from pipaid.engine.book import Book, Caps
from pipaid.engine.quotes import Quotes
from pipaid.engine.risk import Gate, Refused, text_of
from pipaid.engine.session import Session
from pipaid.engine.spending import Spending
from pipaid.engine.template import Consult, Template
from pipaid.engine.tracing import SO_ALREADY, Trace, told
from pipaid.model.candle import Candle
from pipaid.model.instrument import Instrument
from pipaid.model.moment import iso_millis, iso_seconds
from pipaid.model.money import plain
from pipaid.model.order import Order
from pipaid.model.position import Position
from pipaid.model.report import CandleSeen, GateVerdict, Why
from pipaid.model.run import Cause, Evaluation, RunStatus
from pipaid.model.strategy import Status, Strategy
from pipaid.signals.series import Feature, Series

# What these gates see is the whole account's, and of that nobody keeps what it was at every moment.
OF_THE_ACCOUNT: Final = frozenset(
    {
        "account_exposure", "account_positions", "account_orders", "account_daily_loss", "orders_per_day",
        "orders_per_second", "orders_per_minute", "notional_per_minute", "hedging", "trade_rate",
    }
)  # fmt: skip
NOT_RECOLLECTED: Final = "not recollected"


@frozen
class Standing:
    """Where a strategy stood at a moment, since when (zero if that is not known) and why."""

    status: Status
    since_ms: int = 0
    why: str = ""

    @property
    def words(self) -> str:
        """Say it, unless it was deployed."""
        if self.status is Status.DEPLOYED:
            return ""
        since = f" since {iso_seconds(self.since_ms)}" if self.since_ms else ""
        how = "in error" if self.status is Status.ERROR else self.status.value
        return f"it was {how}{since}" + (f": {self.why}" if self.why else "")


@frozen(kw_only=True)
class Past:
    """What was known at a moment: the memory as the journal has it, the series as it stood, the caps in force now.

    `kept` is the evaluation that was recorded of that moment, if one was: what it says was really so. `asked` tells
    whether the template was asked without wishing anything, if anybody remembers.
    """

    at_ms: int
    memory: Memory
    series: Series
    instrument: Instrument
    caps: Caps
    blocked: str
    kept: Evaluation | None = None
    standing: Standing | None = None
    asked: bool | None = None

    def refusals(self) -> list[dict[str, Any]]:
        """Return what was refused then, as it was recorded."""
        return self._recorded("risk", "refusals")

    def orders(self) -> list[dict[str, Any]]:
        """Return what was ordered then, as it was recorded."""
        return self._recorded("order", "orders")

    def gates(self) -> dict[str, dict[str, str]]:
        """Return what the gates that were on said of the first entries, by rule; of several entries, of the first."""
        said = [gate for entry in self._recorded("risk", "entries") for gate in entry["gates"]]
        return {gate["gate"]: gate for gate in reversed(said)}

    def intents(self) -> tuple[dict[str, Any], ...]:
        """Return what was wished then, as it was recorded."""
        return tuple(self._recorded("signal", "intents"))

    def refused_by(self, rule: str) -> bool:
        """Tell whether a gate is recorded to have refused."""
        return any(no["rule"] == rule for no in self.refusals())

    def _recorded(self, step_name: str, what: str) -> list[dict[str, Any]]:
        steps = self.kept.steps if self.kept is not None else ()
        return [each for step in steps if step.step_name == step_name for each in step.output.get(what, ())]


def recollect(strategy: Strategy, template: type[Template], past: Past, *, shield: Callable[..., Any]) -> Session:
    """Return a scratch session as of a moment; `shield` runs the template's code, here and in all that follows.

    A strategy that was halted since is judged as it would have been before.
    """
    status = _standing(strategy, past).status
    halted = status is Status.ERROR
    strategy = msgspec.structs.replace(strategy, status=Status.DEPLOYED if halted else status)
    symbol = past.series.symbol
    candle = past.series.last
    prices: dict[str, Decimal] = {} if candle is None else {symbol: candle.close}
    series = {name: Series(name, past.series.timeframe) for name in strategy.in_effect.symbols}
    series[symbol] = past.series
    around = Surroundings(
        instruments=dict.fromkeys(strategy.in_effect.symbols, past.instrument),
        series=series,
        quotes=Quotes(now_ms=past.at_ms if candle is None else candle.close_time_ms, prices=prices),
        tariffs=None,
        book=Book(caps=past.caps, blocked=past.blocked if past.kept is None or past.refused_by("kill_switch") else ""),
    )
    session: Session = shield(assemble, strategy, template, past.memory, around)
    session.shield = shield
    if halted:
        session.entries_closed = Status.ERROR.value
    return session


def warmed(session: Session, series: Series) -> Iterator[Feature]:
    """Yield what a session reads of a past series, each made from all the candles: that takes long."""
    conditions = (*session.wakes.flat, *session.wakes.holding)
    asked = (*session.features, *(feature for condition in conditions for feature in condition.features))
    for feature in dict.fromkeys(asked):
        series.feature(feature)
        yield feature


def explain(strategy: Strategy, session: Session, past: Past) -> Why:
    """Evaluate the last candle of a past series with its scratch session, and tell everything it met.

    Where the moment was recorded, the record wins over what is computed; the account's own gates are known from nowhere
    else, because the scratch session stands alone.
    """
    standing = _standing(strategy, past)
    symbol = past.series.symbol
    candle = past.series.last
    if past.kept is not None and past.kept.status is RunStatus.FAILED:
        # What it broke down over then, it would break down over now.
        trace = Trace(cause=past.kept.cause, symbol=symbol, at_ms=past.at_ms, rehearsed=True)
    else:
        trace = session.rehearse(symbol, start=past.kept is not None and past.kept.cause is Cause.DEPLOY)
    gates = trace.gates or session.probe(symbol)
    return Why(
        id=strategy.id,
        symbol=symbol,
        at=iso_millis(session.quotes.now_ms),
        candle=None if candle is None else _seen(candle),
        status=standing.status.value,
        features=trace.features,
        rules=trace.reasons,
        gates=tuple(_judged(gates, past)),
        decision=_decision(session, trace, past, standing),
        intents=past.intents() or tuple(told(wish) for wish in trace.wished),
        run_id=past.kept.id if past.kept is not None else None,
        run_status=past.kept.status.value if past.kept is not None else None,
    )


def _standing(strategy: Strategy, past: Past) -> Standing:
    """Return where the strategy stood, as far as that is known; an evaluation that was recorded found it at work."""
    told = past.standing
    if told is None and (past.at_ms < strategy.deployed_at_ms or not strategy.deployed_at_ms):
        return Standing(Status.DRAFT)
    if past.kept is not None and not past.refused_by("status"):
        return told if told is not None and told.status is Status.PAUSED else Standing(Status.DEPLOYED)
    if told is not None:
        return told
    return Standing(Status.DEPLOYED if strategy.status is Status.ERROR else strategy.status)


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
    """Yield what each gate said, as far as it is known: recorded then, of an entry or of several, or computed here."""
    recorded = past.refusals()
    known = past.gates()
    for gate in gates:
        no = next((no for no in recorded if no["rule"] == gate.rule), None)
        if no is not None:
            recorded.remove(no)
            yield _recorded(no)
            continue
        if gate.rule in known:
            yield GateVerdict(**known[gate.rule])
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


def _decision(session: Session, trace: Trace, past: Past, standing: Standing) -> str:
    if past.kept is not None:
        return _done(past, past.kept)
    words, plan = standing.words, session.schedule.occasions
    holds = any(lot.symbol == past.series.symbol for lot in past.memory.positions)
    if words and not (standing.status is Status.PAUSED and holds):
        return f"nothing: {words}"
    if plan is not None:
        # What is decided at an occasion is recorded, whatever it is, and kept for a while.
        if plan.passed(past.at_ms - past.at_ms % 1_000 - 1, past.at_ms) is not None:
            return f"nothing is known of this occasion ({plan.plan}): no record of it is kept"
        next_ms = plan.after(past.at_ms)
        due = "none comes any more" if next_ms is None else f"the next one is at {iso_seconds(next_ms)}"
        return f"nothing: it is asked at occasions alone ({plan.plan}); {due}"
    decision = _imagined(trace, past)
    return f"{decision}; {words}" if words else decision


def _done(past: Past, kept: Evaluation) -> str:
    """Say what came of an evaluation that was recorded."""
    done = [f"ordered {each['side']} {plain(Decimal(each['qty']))} {kept.symbol}" for each in past.orders()]
    done += [Refused(no["rule"], no["limit"], no["value"]).told for no in past.refusals()]
    if kept.status in (RunStatus.FAILED, RunStatus.RUNNING) or (kept.status is RunStatus.SKIPPED and not done):
        done.append(f"{kept.status}: {kept.detail}" if kept.detail else kept.status.value)
    held = f"hold: {kept.detail}" if kept.detail else "hold"
    return "; ".join(done) or ("a change to working orders" if kept.status is RunStatus.COMPLETED else held)


def _imagined(trace: Trace, past: Past) -> str:
    """Say what an evaluation would have come to of which nothing was recorded."""
    if past.series.last is None:
        return "nothing: no candle had closed yet"
    if not trace.wished and trace.concluded is not None:
        return f"{trace.concluded.status}: {trace.concluded.reason}"
    if not trace.wished:
        return "hold" if past.asked is not False else "hold: nothing that it waits for held, so it was not asked"
    questions = [f"ask {wish.model} of {wish.provider}" for wish in trace.wished if isinstance(wish, Consult)]
    parts: list[str] = [] if trace.refusals else questions
    for order in trace.orders:
        what = "reduce by" if order.reduce_only else "enter with"
        parts.append(f"{what} a {order.type.value} {order.side.value} of {plain(order.quantity)} {order.symbol}")
    parts.extend(no.told for no in trace.refusals)
    text = "; ".join(parts) or ("a change to working orders" if trace.changed else f"hold: {SO_ALREADY}")
    if all(order.reduce_only for order in trace.orders) and not questions:
        return text
    return f"it would {text}, unless the account's caps refused: nothing was recorded of this moment"
