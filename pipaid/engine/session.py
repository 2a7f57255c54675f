"""One strategy's brain: facts in, effects out; synchronous, deterministic, without clock or I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

import msgspec
from attrs import define, field

from pipaid.engine import ledger
from pipaid.engine.effects import Effects, dropped_run, run_id
from pipaid.engine.telling import cancelled_event, closed_event, filled_event, opened_event
from pipaid.engine.template import Exit, Intent
from pipaid.engine.tracing import Trace
from pipaid.engine.view import SymbolView
from pipaid.engine.wishes import Nonsense, Wishes
from pipaid.errors import InvariantBroken
from pipaid.model.ident import derived_id
from pipaid.model.moment import utc_day
from pipaid.model.money import ZERO
from pipaid.model.order import BookedFill, Execution, Fill, FundingPaid, Order, OrderFact, OrderType, follow
from pipaid.model.position import CloseReason, Position
from pipaid.model.strategy import Status, Strategy
from pipaid.signals.series import EVERY, Condition

AUTO_CLOSE: Final = "autoclose-"
INTENTS_MAX: Final = 512


@define(eq=False)
class Session(Wishes):
    """Decide on each fact.

    A fact that changes something returns Effects; the caller makes them durable and then carries them out.
    `interest_changed` collects the symbols whose `interest` differs since the caller last looked.
    """

    interest_changed: set[str] = field(factory=set, init=False)
    _dirty: bool = field(default=False, init=False)

    def interest(self, symbol: str) -> tuple[Condition, ...]:
        """Return the conditions on which to call `on_candle` for a symbol."""
        status = self.strategy.status
        if status not in (Status.DEPLOYED, Status.PAUSED):
            return ()
        holding = any(position.symbol == symbol for position in self.positions.values())
        if status is Status.PAUSED and not holding:
            return ()
        wakes = self.template.wakes()
        if wakes.every or (holding and wakes.holding_every):
            return (EVERY,)
        return wakes.holding if holding else wakes.flat

    # Facts.

    def on_start(self, cause: str = "deploy") -> Effects:
        """Decide at deployment, once per symbol in the order of the definition."""
        with self._deciding():
            self.brain = msgspec.structs.replace(self.brain, run_pnl={}, run_peak=ZERO)
            for symbol in self.strategy.in_effect.symbols:
                self.interest_changed.add(symbol)
                self._evaluate(symbol, cause, self.template.on_start)
            run = self.strategy.run
            self.brain = msgspec.structs.replace(self.brain, started=run.id if run is not None else "")
            return self._finish(force=True)

    def on_candle(self, symbol: str) -> Effects | None:
        """Decide at the close of the symbol's last candle; a candle already decided on changes nothing."""
        candle = self.series[symbol].last
        if candle is None or self.strategy.status not in (Status.DEPLOYED, Status.PAUSED):
            return None
        if self.brain.evaluated.get(symbol, 0) >= candle.close_time_ms:
            return None
        with self._deciding():
            self._evaluate(symbol, "candle", self.template.on_candle)
            effects = self._finish()
            return None if effects.empty else effects

    def on_trigger(self) -> Effects:
        """Decide on every symbol's last candle because somebody asked; caps hold as ever."""
        with self._deciding():
            for symbol in self.strategy.in_effect.symbols:
                self._evaluate(symbol, "trigger", self.template.on_candle)
            return self._finish(force=True)

    def on_execution(self, execution: Execution) -> Effects:
        """Book what the venue reports of an order."""
        with self._deciding():
            order = self.orders.get(execution.client_order_id)
            if order is None and execution.client_order_id.startswith(AUTO_CLOSE):
                order = self._auto_close(execution)
            if order is None:
                raise InvariantBroken(f"strategy {self.strategy.id} has no order {execution.client_order_id}")
            if execution.fill is not None:
                self._book_fill(order, execution.fill)
            else:
                self._book_fact(order, execution.fact, execution.detail)
            return self._finish()

    def on_outcomes(self, facts: Iterable[tuple[str, OrderFact, str]]) -> Effects:
        """Book what is known of orders after sending them: acknowledged, refused, lost or denied."""
        with self._deciding():
            for client_id, fact, detail in facts:
                order = self.orders.get(client_id)
                if order is not None:
                    self._book_fact(order, fact, detail)
            return self._finish()

    def on_cancel_refused(self, client_id: str) -> Effects | None:
        """Note that the venue kept an order that was to be cancelled; a later wish may ask again."""
        order = self.orders.get(client_id)
        if order is None or not order.cancelling:
            return None
        with self._deciding():
            self._keep(msgspec.structs.replace(order, cancelling=False))
            return self._finish()

    def on_funding(self, paid: FundingPaid) -> Effects | None:
        """Book funding on a lot, once per settlement time."""
        position = self.positions.get(paid.position_id)
        if position is None or position.funded_at_ms >= paid.time_ms:
            return None
        with self._deciding():
            self._hold(ledger.funded(position, paid.amount, paid.time_ms))
            return self._finish()

    def adopt(self, order: Order) -> None:
        """Take back an ended order, so that a late fact about it can be booked."""
        self.orders[order.client_order_id] = order

    # Commands.

    def withdraw(self, reason: str, *, entries_only: bool) -> Effects:
        """Ask for the cancellation of every working order, or of every entry."""
        with self._deciding():
            self._withdraw(reason, entries_only=entries_only)
            return self._finish(force=True)

    def close_positions(self, reason: CloseReason) -> Effects:
        """Close every open position at the market, and withdraw what would open more."""
        with self._deciding():
            self._withdraw("pause", entries_only=True)
            for position in list(self.positions.values()):
                self._exit(Exit(position_id=position.id, reason=reason))
            return self._finish(force=True)

    def become(self, strategy: Strategy, *, withdraw_entries: str = "") -> Effects:
        """Take on a changed strategy record (status, run, fault); the caller adds the event that tells of it."""
        self.strategy = strategy
        self.interest_changed.update(strategy.in_effect.symbols)
        with self._deciding():
            self._effects.strategy = strategy
            self._effects.strategy_changed = True
            if withdraw_entries:
                self._withdraw(withdraw_entries, entries_only=True)
            return self._finish(force=True)

    # Deciding.

    def _deciding(self) -> _Deciding:
        return _Deciding(self)

    def _finish(self, *, force: bool = False) -> Effects:
        effects = self._effects
        if force or self._dirty or not effects.empty:
            self.brain = msgspec.structs.replace(self.brain, at_ms=self.quotes.now_ms, state=dict(self.template.state))
            effects.brain = self.brain
            self._dirty = False
        if effects.orders or effects.positions:
            self._expose()
        return effects

    def _evaluate(self, symbol: str, cause: str, callback: Callable[[SymbolView], Iterable[Intent]]) -> None:
        candle = self.series[symbol].last
        state = self.template.state.get(symbol)
        trace = self._trace = Trace(cause=cause, symbol=symbol, at_ms=self.quotes.now_ms)
        try:
            self._call(symbol, callback)
        finally:
            self._trace = None
        if candle is not None and cause in ("candle", "deploy"):
            evaluated = {**self.brain.evaluated, symbol: candle.close_time_ms}
            self.brain = msgspec.structs.replace(self.brain, evaluated=evaluated)
        if self.template.state.get(symbol) is not state:
            self._dirty = True
        if trace.decided or cause == "trigger":
            self._record(trace)

    def _call(self, symbol: str, callback: Callable[..., Iterable[Intent]], *facts: Any) -> None:
        wishes = callback(SymbolView(self, symbol), *facts)
        if wishes is None:
            raise Nonsense(f"{_named(callback)} returned None; return intents, or () for none")
        try:
            intents = list(islice(wishes, INTENTS_MAX + 1))
        except TypeError as trouble:
            raise Nonsense(f"{_named(callback)} returned {type(wishes).__name__}: {trouble}") from None
        if len(intents) > INTENTS_MAX:
            raise Nonsense(f"{_named(callback)} returned more than {INTENTS_MAX} intents at once")
        for intent in intents:
            if self._trace is not None:
                self._trace.intend(intent)
            self._carry(intent, _named(callback))

    def _record(self, trace: Trace) -> None:
        number = self.brain.runs_made + 1
        self.brain = msgspec.structs.replace(self.brain, runs_made=number)
        self._effects.runs.append(
            trace.evaluation(run_id(self.strategy.id, number), self.strategy, self.series[trace.symbol].last)
        )
        dropped = dropped_run(number)
        if dropped is not None:
            self._effects.runs_dropped.append(dropped)

    # Booking.

    def _book_fact(self, order: Order, fact: OrderFact, detail: str) -> None:
        status = follow(order.status, fact)
        asked = order.cancelling
        order = msgspec.structs.replace(order, status=status, detail=detail or order.detail)
        if order.working:
            self._keep(order)
            return
        order = msgspec.structs.replace(order, ended_at_ms=self.quotes.now_ms)
        self._keep(order)
        self._effects.event(
            cancelled_event(order, fact, asked=asked, paused=self.strategy.status is not Status.DEPLOYED)
        )
        self._ended(order, asked=asked)

    def _book_fill(self, order: Order, fill: Fill) -> None:
        position = self.positions.get(order.position_id)
        order = ledger.filled_order(order, fill)
        self._keep(order)
        if order.reduce_only:
            if position is None:
                raise InvariantBroken(f"order {order.id} reduces position {order.position_id}, which is not open")
            position = ledger.left(position, fill)
        else:
            fresh = position is None
            position = ledger.entered(position or ledger.opened_position(order, fill.time_ms), fill)
        trade_id = derived_id("trd", order.position_id)
        self._effects.fills.append(
            BookedFill(
                fill=fill,
                strategy_id=self.strategy.id,
                order_id=order.id,
                position_id=position.id,
                dry_run=order.dry_run,
                trade_id=trade_id,
            )
        )
        self.brain = msgspec.structs.replace(
            self.brain, tally=msgspec.structs.replace(self.brain.tally, fills=self.brain.tally.fills + 1)
        )
        self._effects.event(filled_event(order, fill, trade_id))
        self._hold(position)
        if not order.reduce_only:
            if fresh:
                self._effects.event(opened_event(position))
                self.interest_changed.add(position.symbol)
            self._guard(position, fill.quantity)
        self._after_fill(order, position, fill)

    def _after_fill(self, order: Order, position: Position, fill: Fill) -> None:
        entry_working = any(
            other.position_id == position.id and not other.reduce_only for other in self.orders.values()
        )
        if position.quantity == ZERO and position.exit_quantity > ZERO:
            if entry_working:
                self._withdraw_entry_of(position)
            else:
                self._close(position, _reason(order, fill), fill.time_ms)
                return
        if not order.working:
            self._ended(order, asked=False)

    def _withdraw_entry_of(self, position: Position) -> None:
        """Cancel the entry that still works for a lot which has already been left."""
        for order in list(self.orders.values()):
            if order.position_id == position.id and not order.reduce_only:
                self._cancel(order, "engine")

    def _withdraw(self, reason: str, *, entries_only: bool) -> None:
        for order in list(self.orders.values()):
            if not (entries_only and order.reduce_only):
                self._cancel(order, reason)

    def _ended(self, order: Order, *, asked: bool) -> None:
        position = self.positions.get(order.position_id)
        if not order.reduce_only:
            if order.filled > ZERO and position is not None:
                if position.quantity == ZERO:
                    self._close(position, CloseReason.EXIT_RULE, self.quotes.now_ms)
                else:
                    self._react(position.symbol, self.template.on_opened, position)
            elif order.filled == ZERO and not asked:
                self._react(order.symbol, self.template.on_entry_lost, order.tag)
            return
        pending = self._pending_exits.pop(order.position_id, None)
        if pending is not None and position is not None:
            self._exit(pending)

    def _close(self, position: Position, reason: CloseReason, time_ms: int) -> None:
        position = ledger.closed(position, reason, time_ms)
        self._effects.positions[position.id] = position
        del self.positions[position.id]
        self._pending_exits.pop(position.id, None)
        self.interest_changed.add(position.symbol)
        self._count_trade(position)
        self._effects.event(closed_event(position))
        for order in list(self.orders.values()):
            if order.position_id == position.id:
                self._cancel(order, "engine")
        self._react(position.symbol, self.template.on_closed, position)

    def _count_trade(self, position: Position) -> None:
        brain, pnl = self.brain, position.pnl
        day = utc_day(self.quotes.now_ms)
        today = brain.day == day
        run_pnl = {**brain.run_pnl, position.symbol: brain.run_pnl.get(position.symbol, ZERO) + pnl}
        tally = brain.tally.with_trade(pnl)
        self.brain = msgspec.structs.replace(
            brain,
            tally=msgspec.structs.replace(
                tally, fees=tally.fees + position.fees, funding=tally.funding + position.funding
            ),
            run_pnl=run_pnl,
            run_peak=max(brain.run_peak, sum(run_pnl.values(), ZERO)),
            day=day,
            day_trades=(brain.day_trades if today else 0) + 1,
            day_pnl=(brain.day_pnl if today else ZERO) + pnl,
            cooldown_until_ms=max(brain.cooldown_until_ms, self.quotes.now_ms + self.limits.cooldown_ms),
        )
        self.book.note_pnl(day, pnl)

    def _react(self, symbol: str, callback: Callable[..., Iterable[Intent]], fact: object) -> None:
        if self.strategy.status not in (Status.DEPLOYED, Status.PAUSED):
            return
        state = self.template.state.get(symbol)
        self._call(symbol, callback, fact)
        if self.template.state.get(symbol) is not state:
            self._dirty = True

    def _auto_close(self, execution: Execution) -> Order | None:
        """Make the record of a closing order that the venue placed by itself: a liquidation."""
        fill = execution.fill
        position = self.positions.get(execution.position_id)
        if fill is None or position is None:
            return None
        number = self.brain.orders_made + 1
        self.brain = msgspec.structs.replace(self.brain, orders_made=number)
        order = self._order(
            number,
            position_id=position.id,
            symbol=position.symbol,
            side=fill.side,
            type=OrderType.MARKET,
            quantity=fill.quantity,
            price=fill.price,
            reduce_only=True,
            tag=position.tag,
            reason=CloseReason.LIQUIDATION.value,
        )
        return msgspec.structs.replace(order, client_order_id=execution.client_order_id)


class _Deciding:
    """Open the session's effects for one fact, and drop them if the fact could not be dealt with."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    def __enter__(self) -> None:
        session = self._session
        session._out = Effects(session.strategy, session.quotes.now_ms)

    def __exit__(self, *_: object) -> None:
        self._session._out = None


def _named(callback: Callable[..., object]) -> str:
    return getattr(callback, "__qualname__", repr(callback))


def _reason(order: Order, fill: Fill) -> CloseReason:
    if fill.liquidation:
        return CloseReason.LIQUIDATION
    return CloseReason(order.reason) if order.reason else CloseReason.EXIT_RULE
