"""Wishes become orders: a template's intents, sized, judged by the gate and put among the effects."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from attrs import define, field

from pipaid.engine.allocation import Room, entry_quantity, reserve_price
from pipaid.engine.holdings import MINUTE_MS, Holdings
from pipaid.engine.risk import Approved, Refused, review
from pipaid.engine.telling import placed_event
from pipaid.engine.template import CancelEntries, Enter, Exit, Intent, Protect, required
from pipaid.engine.tracing import Trace
from pipaid.engine.view import WISHED_EXITS
from pipaid.model.event import RiskBlocked
from pipaid.model.ident import client_order_id, derived_id
from pipaid.model.money import ZERO
from pipaid.model.order import Order, OrderType
from pipaid.model.position import CloseReason, Position


class Nonsense(Exception):
    """A template returned something that is no intent, or contradicts itself."""


@define(eq=False)
class Wishes(Holdings):
    """Carry intents: each becomes orders and cancellations among the effects, or a refusal that is told."""

    _trace: Trace | None = field(default=None, init=False)
    _pending_exits: dict[str, Exit] = field(factory=dict, init=False)
    _blocked: dict[tuple[str, str], int] = field(factory=dict, init=False)

    def _carry(self, intent: Intent, wisher: str) -> None:
        if isinstance(intent, Enter):
            self._enter(intent)
        elif isinstance(intent, Exit):
            self._exit(intent)
        elif isinstance(intent, CancelEntries):
            self._cancel_entries(intent)
        elif isinstance(intent, Protect):
            self._protect(intent)
        else:
            raise Nonsense(f"{wisher} returned {intent!r:.80}, which is no intent")

    def _enter(self, intent: Enter) -> None:
        trouble = required(intent)
        if trouble is not None:
            raise Nonsense(f"entry on {intent.symbol}: {trouble}")
        if intent.symbol not in self.capital:
            raise Nonsense(f"entry on {intent.symbol}, which is not one of the strategy's symbols")
        if intent.tag and self._alive(intent.symbol, intent.tag):
            return
        market = intent.type is OrderType.MARKET
        instrument = self.instruments[intent.symbol]
        last = self.quotes.price(intent.symbol)
        price = last if market else instrument.price(intent.price or ZERO)
        if not price > ZERO:
            self._refuse(intent.symbol, Refused("stale_data", "fresh prices", "none yet"))
            return
        room = Room(self._room(intent.symbol), self.equity(intent.symbol))
        quantity = entry_quantity(intent, price=price, instrument=instrument, room=room, market=market)
        if quantity == ZERO:
            self._refuse(intent.symbol, Refused("size", f"at least {instrument.lot_size} on the lot", "0"))
            return
        order = self._entry_order(intent, quantity, price)
        verdict = review(
            order,
            reserve=reserve_price(price, market=market),
            instrument=instrument,
            situation=self._situation(intent.symbol, room.notional),
            book=self.book,
        )
        self._settle_verdict(order.symbol, verdict)

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
            stop_price=None if intent.stop_price is None else instrument.price(intent.stop_price),
            take_profit_price=None if intent.take_profit_price is None else instrument.price(intent.take_profit_price),
        )

    def _exit(self, intent: Exit) -> None:
        position = self.positions.get(intent.position_id)
        if position is None:
            return
        instrument = self.instruments[position.symbol]
        price = None if intent.price is None else instrument.price(intent.price)
        standing = self.working_exit(position.id)
        if standing is not None:
            same = standing.type is OrderType.MARKET if price is None else standing.price == price
            if same and standing.quantity - standing.filled >= position.quantity:
                return
            self._pending_exits[position.id] = intent
            self._cancel(standing, "engine")
            return
        self._reduce(
            position,
            type=OrderType.MARKET if price is None else OrderType.LIMIT,
            quantity=position.quantity,
            price=self.quotes.price(position.symbol) if price is None else price,
            reason=intent.reason,
        )

    def _reduce(
        self, position: Position, *, type: OrderType, quantity: Decimal, price: Decimal, reason: CloseReason
    ) -> None:
        if quantity == ZERO:
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
        )
        verdict = review(
            order,
            reserve=price,
            instrument=self.instruments[position.symbol],
            situation=self._situation(position.symbol, ZERO),
            book=self.book,
        )
        self._settle_verdict(order.symbol, verdict)

    def _cancel_entries(self, intent: CancelEntries) -> None:
        for order in list(self.orders.values()):
            wanted = intent.tags is None or order.tag in intent.tags
            if wanted and order.symbol == intent.symbol and not order.reduce_only:
                self._cancel(order, "engine")

    def _protect(self, intent: Protect) -> None:
        position = self.positions.get(intent.position_id)
        if position is None:
            return
        for order in list(self.orders.values()):
            if order.position_id == position.id and order.reduce_only and order.type not in WISHED_EXITS:
                self._cancel(order, "engine")
        instrument = self.instruments[position.symbol]
        position = msgspec.structs.replace(
            position,
            stop_price=None if intent.stop_price is None else instrument.price(intent.stop_price),
            take_profit_price=None if intent.take_profit_price is None else instrument.price(intent.take_profit_price),
        )
        self._hold(position)
        self._guard(position, position.quantity)

    def _guard(self, position: Position, quantity: Decimal) -> None:
        """Rest the lot's stop and target at the desk for a quantity that has just become open."""
        if position.stop_price is not None:
            self._reduce(
                position,
                type=OrderType.STOP,
                quantity=quantity,
                price=position.stop_price,
                reason=CloseReason.STOP_LOSS,
            )
        if position.take_profit_price is not None:
            self._reduce(
                position,
                type=OrderType.TAKE_PROFIT,
                quantity=quantity,
                price=position.take_profit_price,
                reason=CloseReason.TAKE_PROFIT,
            )

    def _order(self, number: int, **fields: Any) -> Order:
        strategy = self.strategy
        run = strategy.run
        return Order(
            id=derived_id("ord", strategy.id, number),
            client_order_id=client_order_id(strategy.account, strategy.id, number),
            strategy_id=strategy.id,
            account=strategy.account,
            dry_run=self.dry_run,
            run_id=run.id if run is not None else "",
            leverage=self.leverage,
            market_step=self.quotes.step,
            placed_at_ms=self.quotes.now_ms,
            **fields,
        )

    def _settle_verdict(self, symbol: str, verdict: Approved | Refused) -> None:
        if isinstance(verdict, Refused):
            self._refuse(symbol, verdict)
            return
        order = verdict.order
        minute = tuple(at for at in self.brain.order_times_ms if at > self.quotes.now_ms - MINUTE_MS)
        if not order.reduce_only and self.limits.orders_per_minute_max is not None:
            minute = (*minute, self.quotes.now_ms)
        self.brain = msgspec.structs.replace(self.brain, orders_made=self.brain.orders_made + 1, order_times_ms=minute)
        if not order.reduce_only:
            self.book.rates.add(self.quotes.now_ms, order.quantity * order.price)
        self.orders[order.client_order_id] = order
        self._effects.orders[order.id] = order
        self._effects.place.append(verdict)
        self._effects.event(placed_event(order))
        if not order.reduce_only:
            self._expose_entry(order)
        if self._trace is not None:
            self._trace.ordered(order)

    def _refuse(self, symbol: str, refused: Refused) -> None:
        if self._trace is not None:
            self._trace.refused(refused)
        key = (symbol, refused.rule)
        candle = self.quotes.now_ms // self.strategy.in_effect.timeframe.ms
        if self._blocked.get(key) == candle:
            return
        self._blocked[key] = candle
        self._effects.event(RiskBlocked(rule=refused.rule, symbol=symbol, limit=refused.limit, value=refused.value))

    def _cancel(self, order: Order, reason: str) -> None:
        if order.cancelling:
            return
        cancelling = msgspec.structs.replace(order, cancelling=True, detail=reason)
        self._keep(cancelling)
        self._effects.cancel.append(cancelling)
