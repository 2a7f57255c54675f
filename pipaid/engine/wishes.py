"""Wishes become orders: a template's intents, sized, judged by the gate and put among the effects."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import msgspec
from attrs import define, field

from pipaid.engine.alarms import PriceAlarm
from pipaid.engine.allocation import Room, entry_quantity, reserve_price
from pipaid.engine.holdings import MINUTE_MS, Holdings, reserve_of
from pipaid.engine.intents import levels_objection
from pipaid.engine.risk import FALLEN, Approved, Gate, Refused, gates, review
from pipaid.engine.telling import blocked_event, placed_event
from pipaid.engine.template import Alarm, CancelEntries, Conclude, Consult, Enter, Exit, ExitAll, Intent, Protect
from pipaid.engine.tracing import Trace
from pipaid.model.ident import client_order_id, derived_id, order_id
from pipaid.model.instrument import Instrument
from pipaid.model.money import ZERO, plain, price_on_tick
from pipaid.model.order import Execution, Order, OrderType
from pipaid.model.position import CloseReason, Direction, Position

# Orders are made outside the budget of the callback that wished for them, and every strategy waits meanwhile. This is
# more than any ladder needs; an entry refused for it costs next to nothing.
ENTRIES_AT_ONCE_MAX: Final = 256
ENTRY_EVERY_MS: Final = 2_000
REFUSALS_AT_ONCE_MAX: Final = 128
SIZE: Final = "size"
MIN_TRADE_AMOUNT: Final = "min_trade_amount"
TOO_SMALL: Final = (SIZE, MIN_TRADE_AMOUNT)
UNTIL_ENTERED: Final = -1


class Nonsense(Exception):
    """A template returned something that is no intent, or contradicts itself."""


@define(eq=False)
class Wishes(Holdings):
    """Carry intents: each becomes orders and cancellations among the effects, or a refusal that is told."""

    _trace: Trace | None = field(default=None, init=False)
    _refusals: int = field(default=0, init=False)
    _blocked: dict[tuple[str, str], int] = field(factory=dict[tuple[str, str], int], init=False)

    def _carry(self, intent: Intent, wisher: str) -> None:
        if self._trace is not None:
            self._trace.intend(intent)
        match intent:
            case Enter():
                self._enter(intent)
            case Exit():
                self._exit(intent)
            case ExitAll():
                for position in list(self.positions.values()):
                    if position.symbol == intent.symbol:
                        self._exit(Exit(position_id=position.id, reason=intent.reason))
            case CancelEntries():
                self._cancel_entries(intent)
            case Protect():
                self._protect(intent, wisher)
            case Alarm():
                self._set_alarm(intent)
            case Consult() | Conclude():
                # Of these an evaluation takes care.
                pass

    def _changes(self) -> tuple[object, ...]:
        """Return what differs once a wish changed anything: it may be one for what is on its way already."""
        out, brain = self._effects, self.brain
        return len(out.place), len(out.cancel), tuple(out.positions.values()), brain.exits, brain.alarms

    def _enter(self, intent: Enter) -> None:
        if self._refusals >= REFUSALS_AT_ONCE_MAX:
            self._refuse(intent.symbol, Refused("entry_flood", f"{REFUSALS_AT_ONCE_MAX} refusals at once", "more"))
            return
        if intent.tag and self.alive(intent.symbol, intent.tag):
            return
        if self._flooded_ms() + ENTRY_EVERY_MS > ENTRIES_AT_ONCE_MAX * ENTRY_EVERY_MS:
            pace = f"{ENTRIES_AT_ONCE_MAX} entries at once, then {MINUTE_MS // ENTRY_EVERY_MS} a minute"
            self._refuse(intent.symbol, Refused("entry_flood", pace, "more"))
            return
        market = intent.type is OrderType.MARKET
        instrument = self.instruments[intent.symbol]
        price = self.quotes.price(intent.symbol) if market else instrument.price(intent.price or ZERO)
        refused = _priced(intent, price, instrument)
        if refused is not None:
            self._refuse(intent.symbol, refused)
            return
        # Others of the account, and the one before of the same decision, are judged by what the book says.
        self._expose()
        self._rebase()
        room = Room(self._room(intent.symbol), ZERO if intent.risk is None else self.equity(intent.symbol))
        quantity = entry_quantity(intent, price=price, instrument=instrument, room=room, market=market)
        if quantity == ZERO:
            self._refuse(intent.symbol, Refused(SIZE, f"at least {instrument.lot_size} on the lot", "0"))
            return
        if intent.notional_min is not None and quantity * price < intent.notional_min:
            refused = Refused(MIN_TRADE_AMOUNT, plain(intent.notional_min), plain(quantity * price))
            self._refuse(intent.symbol, refused)
            return
        order = self._entry_order(intent, quantity, price)
        reserve = reserve_price(price, market=market)
        situation = self._situation(intent.symbol, room.notional)
        if self._trace is not None and self._trace.rehearsed:
            self._trace.gates.extend(gates(order, reserve=reserve, situation=situation, book=self.book))
        judged = self._trace.judging(order) if self._trace is not None else None
        verdict = review(
            order, reserve=reserve, instrument=instrument, situation=situation, book=self.book, judged=judged
        )
        self._settle_verdict(order.symbol, verdict, reserve)

    def _rebase(self) -> None:
        """Reckon a fall from here on once the pause that it led to is over."""
        brain = self.brain
        if 0 < brain.fallen_until_ms <= self.quotes.now_ms:
            here = sum(brain.run_pnl.values(), ZERO) + min(ZERO, self.unrealised())
            self.brain = msgspec.structs.replace(brain, run_peak=here, fallen_until_ms=0)
            self._dirty = True

    def _flooded_ms(self) -> int:
        """Return how long it takes until the entries made so far count no more."""
        return min(max(0, self.brain.entries_until_ms - self.quotes.now_ms), ENTRIES_AT_ONCE_MAX * ENTRY_EVERY_MS)

    def probe(self, symbol: str) -> list[Gate]:
        """Return what every gate would say to the smallest entry that the symbol's filters allow."""
        instrument = self.instruments[symbol]
        price = self.quotes.price(symbol)
        if price <= ZERO:
            return []
        least = max(instrument.quantity_min, instrument.lot_size, instrument.notional_min / price)
        quantity = price_on_tick(least, instrument.lot_size, up=True)
        wish = Enter(symbol=symbol, direction=Direction.LONG, quantity=quantity)
        order = self._entry_order(wish, quantity, price)
        situation = self._situation(symbol, self._room(symbol))
        return gates(order, reserve=reserve_of(order), situation=situation, book=self.book)

    def _entry_order(self, intent: Enter, quantity: Decimal, price: Decimal) -> Order:
        instrument = self.instruments[intent.symbol]
        number = self.brain.orders_made + 1
        return self._order(
            number,
            position_id=derived_id("pos", self.strategy.id, number),
            symbol=intent.symbol,
            side=intent.direction.entry_side,
            type=intent.type,
            quantity=quantity,
            price=price,
            reduce_only=False,
            tag=intent.tag,
            reason=intent.reason,
            stop_price=_reachable(intent.stop_price, instrument),
            take_profit_price=_reachable(intent.take_profit_price, instrument),
        )

    def _exit(self, intent: Exit) -> None:
        position = self.positions.get(intent.position_id)
        if position is None:
            return
        instrument = self.instruments[position.symbol]
        price = None if intent.price is None else instrument.price(intent.price)
        if price == ZERO:
            raise Nonsense(
                f"exit of {position.symbol} at {intent.price}, which is below the tick {instrument.tick_size}"
            )
        self._pend(position, None)
        if price is None:
            self._withdraw_entry_of(position)
        standing = self.working_exit(position.id)
        if standing is not None:
            enough = standing.remaining >= position.quantity
            if standing.type is OrderType.MARKET:
                # What leaves at the market is on its way and is not called back; what it leaves over follows it.
                self._pend(position, None if enough else intent)
            elif price is None or standing.price != price or standing.cancelling or not enough:
                self._pend(position, intent)
                self._cancel(standing, "engine")
            return
        self._reduce(
            position,
            type=OrderType.MARKET if price is None else OrderType.LIMIT,
            quantity=position.quantity,
            price=self.quotes.price(position.symbol) if price is None else price,
            reason=intent.reason,
        )

    def _pend(self, position: Position, intent: Exit | None) -> None:
        """Remember an exit that has to wait, or forget it."""
        exits = self.brain.exits
        if exits.get(position.id) == intent:
            return
        kept = {key: value for key, value in exits.items() if key != position.id}
        self.brain = msgspec.structs.replace(
            self.brain, exits=kept if intent is None else {**kept, position.id: intent}
        )
        self.interest_changed.add(position.symbol)

    def _withdraw_entry_of(self, position: Position) -> None:
        """Cancel the entry that still works for a lot which is being left."""
        for order in self.orders_of(position.id):
            if not order.reduce_only:
                self._cancel(order, "engine")

    def _reduce(
        self,
        position: Position,
        *,
        type: OrderType,
        quantity: Decimal,
        price: Decimal,
        reason: CloseReason,
        detail: str = "",
    ) -> None:
        if quantity <= ZERO:
            return
        order = self._order(
            self.brain.orders_made + 1,
            position_id=position.id,
            symbol=position.symbol,
            side=position.direction.exit_side,
            type=type,
            quantity=quantity,
            price=price,
            reduce_only=True,
            tag=position.tag,
            reason=reason.value,
            detail=detail,
        )
        verdict = review(
            order,
            reserve=price,
            instrument=self.instruments[position.symbol],
            situation=None,
            book=self.book,
        )
        self._settle_verdict(order.symbol, verdict, price)

    def _cancel_entries(self, intent: CancelEntries) -> None:
        for order in list(self.orders.values()):
            wanted = intent.tags is None or order.tag in intent.tags
            if wanted and order.symbol == intent.symbol and not order.reduce_only:
                self._cancel(order, "engine")

    def _set_alarm(self, intent: Alarm) -> None:
        nowhere = intent.below is None and intent.above is None
        alarm = PriceAlarm(self.quotes.step, intent.below, intent.above, intent.exits)
        self._wait_for(intent.symbol, None if nowhere else alarm)

    def _protect(self, intent: Protect, wisher: str) -> None:
        position = self.positions.get(intent.position_id)
        if position is None:
            return
        trouble = levels_objection(position.direction, intent.stop_price, intent.take_profit_price)
        if trouble is not None:
            raise Nonsense(f"{wisher} returned {intent!r:.300}: {trouble}")
        instrument = self.instruments[position.symbol]
        stop = _reachable(intent.stop_price, instrument)
        target = _reachable(intent.take_profit_price, instrument)
        if (stop, target) != (position.stop_price, position.take_profit_price):
            position = msgspec.structs.replace(position, stop_price=stop, take_profit_price=target)
            self._hold(position)
        self._guard(position)

    def _guard(self, position: Position, detail: str = "") -> None:
        """Rest stop and target at the desk for all that is open, and withdraw those at other prices."""
        standing = self.orders_of(position.id)
        if position.stop_price is None and position.take_profit_price is None and not standing:
            return
        levels = (
            (OrderType.STOP, position.stop_price, CloseReason.STOP_LOSS),
            (OrderType.TAKE_PROFIT, position.take_profit_price, CloseReason.TAKE_PROFIT),
        )
        prices = {kind: price for kind, price, _ in levels}
        covered = dict.fromkeys(prices, ZERO)
        for order in standing:
            if order.reduce_only and order.type in covered:
                if order.price != prices[order.type]:
                    self._cancel(order, "engine")
                elif not order.cancelling:
                    covered[order.type] += order.remaining
        for kind, price, reason in levels:
            if price is not None:
                missing = position.quantity - covered[kind]
                self._reduce(position, type=kind, quantity=missing, price=price, reason=reason, detail=detail)

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

    def _order(self, number: int, **fields: Any) -> Order:
        strategy = self.strategy
        run = strategy.run
        lot = self.positions.get(fields["position_id"])
        return Order(
            id=order_id(strategy.id, number),
            client_order_id=client_order_id(strategy.account, strategy.id, number),
            strategy_id=strategy.id,
            account=strategy.account,
            # A late fill of the run before may have opened a lot of the other mode: its exits belong there.
            dry_run=self.dry_run if lot is None else lot.dry_run,
            run_id=run.id if run is not None else "",
            leverage=self.leverage,
            market_step=self.quotes.step,
            placed_at_ms=self.quotes.now_ms,
            **fields,
        )

    def _settle_verdict(self, symbol: str, verdict: Approved | Refused, reserve: Decimal) -> None:
        if isinstance(verdict, Refused):
            self._refuse(symbol, verdict)
            return
        order = verdict.order
        if order.reduce_only:
            self.brain = msgspec.structs.replace(self.brain, orders_made=self.brain.orders_made + 1)
        else:
            self._count_entry(order, reserve)
            self._stakes.work(order, reserve)
            for rule in TOO_SMALL:
                self._blocked.pop((symbol, rule), None)
        self._exposed = False
        self._list(order)
        self._effects.orders[order.id] = order
        self._effects.place.append(verdict)
        self._tell(placed_event, order)
        if self._trace is not None:
            self._trace.ordered(order)

    def _count_entry(self, order: Order, reserve: Decimal) -> None:
        brain, now_ms = self._today(), self.quotes.now_ms
        minute = tuple([at for at in brain.order_times_ms if at > now_ms - MINUTE_MS])
        if self.limits.orders_per_minute_max is not None:
            minute = (*minute, now_ms)
        self.brain = msgspec.structs.replace(
            brain,
            orders_made=brain.orders_made + 1,
            day_orders=brain.day_orders + 1,
            order_times_ms=minute,
            entries_until_ms=now_ms + self._flooded_ms() + ENTRY_EVERY_MS,
        )
        self._tell_rate(order, reserve)
        self._tell_deeds()

    def _refuse(self, symbol: str, refused: Refused) -> None:
        self._refusals += 1
        self.book.refusals[refused.rule] += 1
        if refused.rule == FALLEN and self.limits.drawdown_pause_ms:
            until_ms = self.quotes.now_ms + self.limits.drawdown_pause_ms
            self.brain = msgspec.structs.replace(
                self.brain,
                fallen_until_ms=until_ms,
                cooldown_until_ms=max(self.brain.cooldown_until_ms, until_ms),
            )
            self._dirty = True
        if self._trace is not None:
            self._trace.refused(refused)
        key = (symbol, refused.rule)
        # What is too small is so at the next candle as well: it is told once until something is entered.
        lasting = refused.rule in TOO_SMALL
        candle = UNTIL_ENTERED if lasting else self.quotes.now_ms // self.strategy.in_effect.timeframe.ms
        if self._blocked.get(key) == candle:
            return
        self._blocked[key] = candle
        self._tell(blocked_event, symbol, refused)

    def _cancel(self, order: Order, reason: str) -> None:
        if order.cancelling:
            return
        cancelling = msgspec.structs.replace(order, cancelling=True, detail=reason)
        self._keep(cancelling)
        self._effects.cancel.append(cancelling)


def _priced(intent: Enter, price: Decimal, instrument: Instrument) -> Refused | None:
    """Return the refusal of an entry without a price, or with a stop or target that its price has passed."""
    if not price > ZERO:
        if intent.type is OrderType.MARKET:
            return Refused("stale_data", "fresh prices", "none yet")
        return Refused("venue_filter", "PRICE_FILTER", f"{intent.price} is below the tick {instrument.tick_size}")
    sign = intent.direction.sign
    for name, level, side in (("stop", intent.stop_price, sign), ("target", intent.take_profit_price, -sign)):
        if level is not None and not side * (price - level) > ZERO:
            return Refused("protection", f"{name} {'below' if side > 0 else 'above'} {plain(price)}", plain(level))
    return None


def _reachable(price: Decimal | None, instrument: Instrument) -> Decimal | None:
    """Return the nearest price on the tick; one that comes to zero is never reached and none at all."""
    return None if price is None else instrument.price(price) or None
