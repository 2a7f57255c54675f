"""One strategy's brain: facts in, effects out; synchronous, deterministic, without clock or I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Final

import msgspec
from attrs import define, field

from pipaid.engine import ledger
from pipaid.engine.alarms import PriceAlarm, Touch
from pipaid.engine.asking import answered, is_left_out, nothing_wished
from pipaid.engine.consulting import AT_WORK
from pipaid.engine.effects import Effects
from pipaid.engine.rings import Occasion, Ring
from pipaid.engine.telling import cancelled_event, closed_event, filled_event, opened_event
from pipaid.engine.template import WISHED_EXITS, Exit, Intent, Wakes
from pipaid.engine.timers import Timers
from pipaid.errors import InvariantBroken
from pipaid.model.ident import derived_id
from pipaid.model.money import ZERO
from pipaid.model.order import BookedFill, Execution, Fill, FundingPaid, Order, OrderFact, OrderType, follow
from pipaid.model.position import CloseReason, Direction, Position
from pipaid.model.run import Cause
from pipaid.model.strategy import Status, Strategy
from pipaid.model.stray import stray_fill
from pipaid.signals.series import EVERY, Condition, closed_from

AUTO_CLOSE: Final = "autoclose-"
# Stands in the detail of a protective order that takes the place of one the venue lost.
AGAIN: Final = "again"


@define(eq=False)
class Session(Timers):
    """Decide on each fact.

    A fact that changes something returns Effects; the caller makes them durable and then carries them out. `wakes` is
    what the template declared when the session was put together; it is not asked again.
    """

    wakes: Wakes = field(default=Wakes(every=True), kw_only=True)
    _adopted: dict[str, Order] = field(factory=dict[str, Order], init=False)

    def interest(self, symbol: str) -> tuple[Condition, ...]:
        """Return the conditions on which to call `on_candle` for a symbol."""
        if not self._heeds(symbol):
            return ()
        holding = self._holding(symbol)
        if self.scheduled:
            return (EVERY,) if holding and self._overdue(symbol) else ()
        wakes = self.wakes
        if wakes.every or (holding and (wakes.holding_every or self._overdue(symbol))):
            return (EVERY,)
        if not holding or wakes.aged_ms is None:
            return wakes.holding if holding else wakes.flat
        oldest_ms = min(lot.opened_at_ms for lot in self.positions.values() if lot.symbol == symbol)
        return (*wakes.holding, closed_from(oldest_ms + wakes.aged_ms))

    def alarm(self, symbol: str) -> PriceAlarm | None:
        """Return the levels whose touch is to be told to `on_price`."""
        alarm = self.brain.alarms.get(symbol)
        if alarm is None:
            return None
        guards = alarm.exits and self.strategy.status is Status.ERROR and self._holding(symbol)
        return alarm if guards or self._heeds(symbol) else None

    # Facts.

    def on_occasion(self, occasion: Occasion) -> Effects | None:
        """Decide on what the market says: a closed candle, a touched alarm, or the time."""
        match occasion:
            case Touch():
                return self.on_price(occasion)
            case Ring():
                return self.on_due()
            case str():
                return self.on_candle(occasion)

    def on_start(self, cause: Cause = Cause.DEPLOY) -> Effects:
        """Decide at deployment, once per symbol in the order of the definition."""
        self._begin()
        self._forsake("it was deployed anew")
        self._begin_run()
        run, waits = self.strategy.run, self._waits_for_occasion()
        if run is not None:
            self._begin_timers(run.started_at_ms)
        for symbol in self.strategy.in_effect.symbols:
            self.interest_changed.add(symbol)
            if not waits:
                self._evaluate(symbol, cause, self.template.on_start)
        self.brain = msgspec.structs.replace(self.brain, started=run.id if run is not None else "")
        return self._finish(force=True)

    def on_candle(self, symbol: str, wished: Iterable[Intent] | None = None) -> Effects | None:
        """Decide at the close of the symbol's last candle; a candle already decided on changes nothing.

        `wished` is what the template wishes at it, if it has been asked already.
        """
        if self.strategy.status not in AT_WORK:
            return None
        if self.brain.evaluated.get(symbol, 0) >= self.series[symbol].closed_ms:
            return None
        self._begin()
        for overdue in self._overdue(symbol):
            self._exit(overdue)
        # Where there is a schedule, a candle only lets exits be wished again.
        callback = nothing_wished if self.scheduled else self.template.on_candle
        self._evaluate(symbol, Cause.CANDLE, callback if wished is None else answered(callback, wished))
        effects = self._finish()
        return None if effects.empty else effects

    def on_trades(self, symbol: str, wished: Iterable[Intent], callback: str) -> Effects | None:
        """Decide what the template wishes at market trades, about which it has been asked by one of its callbacks."""
        if self.strategy.status not in AT_WORK:
            return None
        self._begin()
        self._evaluate(symbol, Cause.TRADE, answered(getattr(self.template, callback), wished))
        effects = self._finish()
        return None if effects.empty else effects

    def on_price(self, touch: Touch) -> Effects | None:
        """Decide on a price that touched the symbol's alarm and uses it up; any other changes nothing."""
        symbol, alarm = touch.symbol, self.alarm(touch.symbol)
        sides = {position.direction for position in self.positions.values() if position.symbol == symbol}
        level = None if alarm is None else alarm.met(touch, upper_first=sides == {Direction.SHORT})
        if level is None:
            return None
        self._begin()
        self._wait_for(symbol, None)
        if self.strategy.status is Status.ERROR:
            self._leave_all(symbol, level)
        else:
            self._evaluate(symbol, Cause.PRICE, self.template.on_price, level)
        return self._finish()

    def _leave_all(self, symbol: str, level: Decimal) -> None:
        """Close a symbol's lots at the level that was to guard them; the template cannot be asked any more."""
        lots = [position for position in self.positions.values() if position.symbol == symbol]
        gains = sum((lot.unrealised(level) for lot in lots), ZERO) > ZERO
        for lot in lots:
            reason = CloseReason.TAKE_PROFIT if gains else CloseReason.STOP_LOSS
            self._exit(Exit(position_id=lot.id, reason=reason))

    def on_released(self) -> Effects | None:
        """Decide on every symbol when entries that were withdrawn from outside may be made again."""
        if self.strategy.status is not Status.DEPLOYED:
            return None
        self._begin()
        for symbol in self.strategy.in_effect.symbols:
            self._evaluate(symbol, Cause.RELEASE, self.template.on_released)
        return self._finish()

    def on_trigger(self) -> Effects:
        """Decide on every symbol's last candle because somebody asked; caps hold as ever."""
        self._begin()
        for symbol in self.strategy.in_effect.symbols:
            self._evaluate(symbol, Cause.TRIGGER, self.template.on_candle)
        return self._finish(force=True)

    def on_execution(self, execution: Execution) -> Effects:
        """Book what the venue reports of an order."""
        self._begin()
        client_id = execution.client_order_id
        order = self.orders.get(client_id) or self._adopted.pop(client_id, None)
        if order is None and execution.client_order_id.startswith(AUTO_CLOSE):
            order = self._auto_close(execution)
        if order is None:
            raise InvariantBroken(f"strategy {self.strategy.id} has no order {execution.client_order_id}")
        if execution.fill is not None:
            self._book_fill(order, execution.fill)
        else:
            self._book_fact(order, execution.fact, execution.detail)
        return self._finish()

    def on_outcomes(self, facts: Iterable[tuple[str, OrderFact, str]]) -> Effects | None:
        """Book what is known of orders after sending them: acknowledged, refused, lost or denied."""
        deciding = False
        for client_id, fact, detail in facts:
            order = self.orders.get(client_id)
            if order is None:
                continue
            if fact is OrderFact.ACK:
                self._acknowledge(order)
                continue
            if not deciding:
                self._begin()
                deciding = True
            self._book_fact(order, fact, detail)
        return self._finish() if deciding else None

    def _acknowledge(self, order: Order) -> None:
        """Take note that the venue has an order: a restart would ask it again, so the next commit is early enough."""
        status = follow(order.status, OrderFact.ACK)
        if status is not order.status:
            self.orders[order.client_order_id] = msgspec.structs.replace(order, status=status)
            self._unsaved[order.client_order_id] = None

    def on_cancel_lost(self, client_id: str) -> Effects | None:
        """Ask again for a cancellation that did not come to pass, if it is still waited for."""
        order = self.orders.get(client_id)
        if order is None or not order.cancelling:
            return None
        self._begin()
        self._effects.cancel.append(order)
        return self._finish()

    def on_funding(self, paid: FundingPaid) -> Effects | None:
        """Book funding on a lot, once per settlement time."""
        position = self.positions.get(paid.position_id)
        if position is None or position.funded_at_ms >= paid.time_ms:
            return None
        self._begin()
        self._hold(ledger.funded(position, paid.amount, paid.time_ms))
        return self._finish()

    def adopt(self, order: Order) -> None:
        """Take back an ended order, so that the late fact about it that comes next can be booked."""
        assert not order.working, f"order {order.id} is {order.status} and was never let go"
        self._adopted[order.client_order_id] = order

    # Commands.

    def withdraw(self, reason: str, *, entries_only: bool) -> Effects:
        """Ask for the cancellation of every working order, and let no exit wait; or of every entry only."""
        self._begin()
        if not entries_only:
            self.brain = msgspec.structs.replace(self.brain, exits={})
        self._withdraw(reason, entries_only=entries_only)
        return self._finish(force=True)

    def close_positions(self, reason: CloseReason) -> Effects:
        """Close every open position at the market, and withdraw what would open more."""
        self._begin()
        self._withdraw("pause" if reason is CloseReason.PAUSE_CLOSE else "engine", entries_only=True)
        for position in list(self.positions.values()):
            self._exit(Exit(position_id=position.id, reason=reason))
        return self._finish(force=True)

    def become(self, strategy: Strategy, *, withdraw_entries: str = "", guard: bool = False) -> Effects:
        """Take on a changed strategy record (status, run, fault); the caller adds the event that tells of it.

        With `guard`, what protects its lots rests again, should it have been withdrawn before.
        """
        self.strategy = strategy
        self.interest_changed.update(strategy.in_effect.symbols)
        self._begin()
        self._effects.strategy = strategy
        self._effects.strategy_changed = True
        if strategy.status not in AT_WORK:
            self._forsake(f"the strategy is {strategy.status}")
        if withdraw_entries:
            self._withdraw(withdraw_entries, entries_only=True)
        if guard:
            for position in list(self.positions.values()):
                self._guard(position, AGAIN)
        return self._finish(force=True)

    # Booking.

    def _book_fact(self, order: Order, fact: OrderFact, detail: str) -> None:
        before, status = order, follow(order.status, fact)
        if fact in (OrderFact.FILL, OrderFact.COMPLETE):
            raise InvariantBroken(f"order {order.id} is said to be filled, but by no fill")
        if status is before.status and (fact is OrderFact.ACK or not before.working):
            return
        if fact is OrderFact.ACK and before.working:
            self._acknowledge(order)
            return
        order = msgspec.structs.replace(order, status=status, detail=_detail(before, detail))
        if order.working:
            self._keep(order)
            if not before.working:
                self._withdraw_risen(order)
            return
        order = msgspec.structs.replace(order, ended_at_ms=self.quotes.now_ms)
        self._keep(order)
        self._tell(cancelled_event, order, fact, before.detail if before.cancelling else "")
        if order.reduce_only:
            self._exit_ended(order, fact)
        else:
            self._entry_ended(order)

    def _book_fill(self, order: Order, fill: Fill) -> None:
        before = order
        position = self.positions.get(order.position_id)
        if position is None and order.filled > ZERO and not order.reduce_only:
            # The lot it opened is closed already: what comes this late is a lot of its own.
            order = msgspec.structs.replace(order, position_id=derived_id("pos", order.position_id, fill.id))
            if order.client_order_id in self.orders:
                self._unlist(before)
                self._list(order)
        order = ledger.filled_order(order, fill)
        self._keep(order)
        stray = ZERO
        if order.reduce_only:
            part, stray = ledger.fitting(position, fill)
            position = position if position is None or part is None else ledger.left(position, part)
        else:
            position = ledger.entered(position or ledger.opened_position(order, fill.time_ms), fill)
        self._note_fill(order, fill, stray)
        if position is None:
            return
        fresh = position.id not in self.positions
        self._hold(position)
        if not order.reduce_only:
            if fresh:
                self._tell(opened_event, position)
                self.interest_changed.add(position.symbol)
                self.book.note_opening(position.symbol, position.id, position.opened_at_ms)
            self._guard(position)
        if not before.working:
            self._withdraw_risen(order)
        self._after_fill(order, position, fill)

    def _note_fill(self, order: Order, fill: Fill, stray: Decimal) -> None:
        if stray:
            reason = f"it left lot {order.position_id}, of which nothing was left"
            self._effects.strays.append(stray_fill(fill, stray, self.book.name, reason, strategy_id=self.strategy.id))
        trade_id = derived_id("trd", order.position_id)
        self._effects.fills.append(
            BookedFill(
                fill=fill,
                strategy_id=self.strategy.id,
                order_id=order.id,
                position_id=order.position_id,
                dry_run=order.dry_run,
                trade_id=trade_id,
                unassigned=stray,
            )
        )
        tally = self.brain.tally
        self.brain = msgspec.structs.replace(self.brain, tally=msgspec.structs.replace(tally, fills=tally.fills + 1))
        self._tell(filled_event, order, fill, trade_id)

    def _after_fill(self, order: Order, position: Position, fill: Fill) -> None:
        if position.quantity == ZERO:
            reason = ledger.close_reason(order, fill)
            if all(other.reduce_only for other in self.orders_of(position.id)):
                self._close(position, reason, fill.time_ms)
                return
            # The lot is closed for good when its entry has ended: until then it may grow again.
            self._hold(msgspec.structs.replace(position, reason=reason))
            self._withdraw_entry_of(position)
        if order.working:
            return
        if order.reduce_only:
            self._exit_ended(order, OrderFact.COMPLETE)
        else:
            self._entry_ended(order)

    def _withdraw(self, reason: str, *, entries_only: bool) -> None:
        for order in list(self.orders.values()):
            if not (entries_only and order.reduce_only):
                self._cancel(order, reason)

    def _withdraw_risen(self, order: Order) -> None:
        """Cancel what works although it was proven absent, unless it leaves a lot that is still there."""
        if order.working and not (order.reduce_only and order.position_id in self.positions):
            self._cancel(order, "engine")

    def _entry_ended(self, order: Order) -> None:
        position = self.positions.get(order.position_id)
        if order.filled > ZERO and position is not None:
            if position.quantity == ZERO:
                self._close(position, position.reason or CloseReason.EXIT_RULE, self.quotes.now_ms)
            else:
                self._react(position.symbol, self.template.on_opened, position)
        elif order.filled == ZERO and not order.cancelling:
            self._react(order.symbol, self.template.on_entry_lost, order.tag)

    def _exit_ended(self, order: Order, fact: OrderFact) -> None:
        """Go on with the exit that waited for this one; make up for one that was lost."""
        position = self.positions.get(order.position_id)
        if position is None:
            return
        waiting = self.brain.exits.get(position.id)
        lost = fact is not OrderFact.COMPLETE and not order.cancelling
        if order.type not in WISHED_EXITS:
            if lost:
                self._guard_again(position, order, fact)
        elif waiting is not None:
            self._exit(waiting)
        elif lost:
            # It is wished again at the next candle: a venue that refuses is not to be asked without end.
            price = order.price if order.type is OrderType.LIMIT else None
            self._pend(position, Exit(position_id=position.id, price=price, reason=CloseReason(order.reason)))

    def _guard_again(self, position: Position, order: Order, fact: OrderFact) -> None:
        """Rest a lost stop or target anew; leave at the market if the venue refuses the stop or loses it again."""
        hopeless = fact is OrderFact.REFUSE or order.detail.startswith(AGAIN)
        if not hopeless:
            self._guard(position, AGAIN)
        elif order.type is OrderType.STOP:
            self._exit(Exit(position_id=position.id, reason=CloseReason.STOP_LOSS))

    def _close(self, position: Position, reason: CloseReason, time_ms: int) -> None:
        position = ledger.closed(position, reason, time_ms)
        self._effects.positions[position.id] = position
        self._pend(position, None)
        self._drop(position)
        self.interest_changed.add(position.symbol)
        self._count_trade(position)
        self._tell(closed_event, position)
        self._react(position.symbol, self.template.on_closed, position)

    def _react(self, symbol: str, callback: Callable[..., Iterable[Intent]], fact: object) -> None:
        if is_left_out(callback) or self.strategy.status not in AT_WORK:
            return
        state = self.template.state.get(symbol)
        self._call(symbol, callback, fact)
        if self.template.state.get(symbol) is not state:
            self._dirty = True


def _detail(order: Order, detail: str) -> str:
    """Return an order's detail after some news: what was noted about it on purpose stays."""
    if not detail or order.cancelling:
        return order.detail or detail
    return f"{AGAIN}: {detail}" if order.detail.startswith(AGAIN) else detail
