"""What a strategy holds: its orders, lots, memory and the figures that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from attrs import define, field

from pipaid.engine.allocation import capital_by_symbol, reserve_price
from pipaid.engine.effects import Brain, Effects
from pipaid.engine.quotes import Quotes
from pipaid.engine.risk import Book, Situation, StrategyExposure, StrategyLimits, exposure_of
from pipaid.engine.template import Template
from pipaid.engine.view import WISHED_EXITS
from pipaid.model.instrument import Instrument
from pipaid.model.moment import utc_day
from pipaid.model.money import ZERO
from pipaid.model.order import Order, OrderType
from pipaid.model.position import Position
from pipaid.model.strategy import Status, Strategy
from pipaid.signals.series import Series

MINUTE_MS: Final = 60_000


@define(eq=False)
class Holdings:
    """Hold one strategy's state.

    `orders` holds working orders by client order id, `positions` open lots by id, both oldest first;
    `entries_closed` says why nothing may be opened although the strategy is deployed, or is empty.
    """

    strategy: Strategy
    template: Template
    instruments: Mapping[str, Instrument]
    series: Mapping[str, Series]
    quotes: Quotes
    book: Book
    limits: StrategyLimits
    brain: Brain = field(factory=Brain)
    orders: dict[str, Order] = field(factory=dict)
    positions: dict[str, Position] = field(factory=dict)
    capital: dict[str, Decimal] = field(init=False)
    entries_closed: str = field(default="", init=False)
    _out: Effects | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        run = self.strategy.run
        capital = run.capital if run is not None else self.strategy.in_effect.capital
        self.capital = capital_by_symbol(self.template, self.strategy.in_effect.symbols, capital)
        self._expose()

    @property
    def _effects(self) -> Effects:
        assert self._out is not None, "a session decides only inside a fact"
        return self._out

    @property
    def leverage(self) -> int:
        """Return the leverage in effect."""
        run = self.strategy.run
        return run.leverage if run is not None else self.strategy.in_effect.leverage

    @property
    def dry_run(self) -> bool:
        """Tell whether the current run is simulated."""
        return self.strategy.run is None or self.strategy.run.dry_run

    def equity(self, symbol: str) -> Decimal:
        """Return the symbol's capital plus the run's realised and unrealised profit on it."""
        total = self.capital[symbol] + self.brain.run_pnl.get(symbol, ZERO)
        for position in self.positions.values():
            if position.symbol == symbol:
                mark = self.quotes.price(symbol) or position.entry_price
                total += position.unrealised(mark) + position.pnl
        return total

    def unrealised(self) -> Decimal:
        """Return the profit of all open lots at the last prices, with what their closed parts and fees came to."""
        total = ZERO
        for position in self.positions.values():
            mark = self.quotes.price(position.symbol) or position.entry_price
            total += position.unrealised(mark) + position.pnl
        return total

    def working_exit(self, position_id: str) -> Order | None:
        """Return the working exit order that was wished for on a position, if any."""
        for order in self.orders.values():
            if order.position_id == position_id and order.reduce_only and order.type in WISHED_EXITS:
                return order
        return None

    def may_not_enter(self) -> str:
        """Return why nothing may be opened now by the strategy's own standing or its account's, or nothing."""
        status = self.strategy.status
        own = self.entries_closed or ("" if status is Status.DEPLOYED else status.value)
        return own or self.book.blocked or self.book.tripped

    def exposure(self) -> Decimal:
        """Return the notional at risk: open lots, and working entries at their worst price."""
        return self.book.exposure(self.strategy.id).total if self.orders or self.positions else ZERO

    def _keep(self, order: Order) -> None:
        self._effects.orders[order.id] = order
        if order.working:
            self.orders[order.client_order_id] = order
        else:
            self.orders.pop(order.client_order_id, None)

    def _hold(self, position: Position) -> None:
        self._effects.positions[position.id] = position
        self.positions[position.id] = position

    def _alive(self, symbol: str, tag: str) -> bool:
        return any(
            order.tag == tag and order.symbol == symbol and not order.reduce_only for order in self.orders.values()
        ) or any(position.tag == tag and position.symbol == symbol for position in self.positions.values())

    def _room(self, symbol: str) -> Decimal:
        bound = ZERO
        for order in self.orders.values():
            if order.symbol == symbol and not order.reduce_only:
                bound += order.remaining * reserve_price(order.price, market=order.type is OrderType.MARKET)
        for position in self.positions.values():
            if position.symbol == symbol:
                bound += position.quantity * position.entry_price
        return self.capital[symbol] * self.leverage - bound

    def _expose(self) -> None:
        entries = [
            (order, reserve_price(order.price, market=order.type is OrderType.MARKET))
            for order in self.orders.values()
            if not order.reduce_only
        ]
        if not entries and not self.positions:
            self.book.forget(self.strategy.id)
            return
        self.book.set_exposure(self.strategy.id, exposure_of(list(self.positions.values()), entries))

    def _expose_entry(self, order: Order) -> None:
        """Count a new entry at once, so that the next one of the same decision is judged with it."""
        own = self.book.exposure(self.strategy.id)
        reserve = reserve_price(order.price, market=order.type is OrderType.MARKET)
        self.book.set_exposure(
            self.strategy.id,
            StrategyExposure(
                positions=own.positions,
                position_value=own.position_value,
                entries=own.entries + 1,
                entry_value=own.entry_value + order.quantity * reserve,
            ),
        )

    def _situation(self, symbol: str, room: Decimal) -> Situation:
        brain, now_ms = self.brain, self.quotes.now_ms
        today = brain.day == utc_day(now_ms)
        status = self.strategy.status
        capital = sum(self.capital.values(), ZERO)
        drawdown = brain.run_peak - sum(brain.run_pnl.values(), ZERO) - min(ZERO, self.unrealised())
        return Situation(
            now_ms=now_ms,
            day=utc_day(now_ms),
            may_enter=self.entries_closed or ("" if status is Status.DEPLOYED else status.value),
            stale=symbol in self.quotes.stale,
            last_price=self.quotes.price(symbol),
            limits=self.limits,
            room=room,
            equity_drawdown_pct=max(ZERO, drawdown) / capital if capital else ZERO,
            trades_today=brain.day_trades if today else 0,
            pnl_today=brain.day_pnl if today else ZERO,
            cooldown_until_ms=brain.cooldown_until_ms,
            orders_last_minute=sum(1 for at in brain.order_times_ms if at > now_ms - MINUTE_MS),
        )
