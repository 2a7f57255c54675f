"""What a strategy holds: its orders, lots, memory and the figures that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec
from attrs import define, field

from pipaid.engine.alarms import PriceAlarm
from pipaid.engine.allocation import capital_by_symbol, reserve_price
from pipaid.engine.book import Book, Deeds
from pipaid.engine.effects import Brain, DayFigures, Effects
from pipaid.engine.quotes import Quotes
from pipaid.engine.risk import Situation, StrategyLimits, likeness_of
from pipaid.engine.schedule import Schedule
from pipaid.engine.stakes import Gains, Stakes
from pipaid.engine.template import WISHED_EXITS, Template
from pipaid.model.event import EventData
from pipaid.model.instrument import Instrument
from pipaid.model.moment import utc_day
from pipaid.model.money import ZERO
from pipaid.model.order import Order, OrderStatus, OrderType
from pipaid.model.position import Position
from pipaid.model.strategy import Run, Status, Strategy
from pipaid.signals.series import History

MINUTE_MS: Final = 60_000


@define(eq=False)
class Holdings:
    """Hold one strategy's state.

    `orders` holds working orders by client order id, `positions` open lots by id, both oldest first;
    `entries_closed` says why nothing may be opened although the strategy is deployed, or is empty; `interest_changed`
    collects the symbols whose `interest` differs since the caller last looked. Where nobody listens, neither events nor
    evaluations are told (`tells`).
    """

    strategy: Strategy
    template: Template
    instruments: Mapping[str, Instrument]
    series: Mapping[str, History]
    quotes: Quotes
    book: Book
    limits: StrategyLimits
    schedule: Schedule = field(factory=Schedule, kw_only=True)
    brain: Brain = field(factory=Brain)
    orders: dict[str, Order] = field(factory=dict[str, Order])
    positions: dict[str, Position] = field(factory=dict[str, Position])
    capital: dict[str, Decimal] = field(init=False)
    entries_closed: str = field(default="", init=False)
    interest_changed: set[str] = field(factory=set[str], init=False)
    tells: bool = field(default=True, init=False)
    _out: Effects | None = field(default=None, init=False)
    _dirty: bool = field(default=False, init=False)
    _exposed: bool = field(default=False, init=False)
    _by_lot: dict[str, dict[str, None]] = field(factory=dict[str, dict[str, None]], init=False)
    _stakes: Stakes = field(factory=Stakes, init=False)
    _gains: Gains = field(factory=Gains, init=False)

    def __attrs_post_init__(self) -> None:
        run = self.strategy.run
        capital = run.capital if run is not None else self.strategy.in_effect.capital
        self.capital = capital_by_symbol(self.template, self.strategy.in_effect.symbols, capital)
        for position in self.positions.values():
            self._count_lot(position)
            self.book.note_opening(position.symbol, position.id, position.opened_at_ms)
        for order in self.orders.values():
            self._list(order)
            if not order.reduce_only:
                reserve = reserve_of(order)
                self._stakes.work(order, reserve)
                self._tell_rate(order, reserve)
        self._expose()
        self._tell_deeds()

    @property
    def _effects(self) -> Effects:
        assert self._out is not None, "a session decides only inside a fact"
        return self._out

    def _tell(self, make: Callable[..., EventData], *facts: Any) -> None:
        """Add an event, made of what it is about, if anybody listens."""
        if self.tells:
            self._effects.event(make(*facts))

    @property
    def scheduled(self) -> bool:
        """Tell whether the template decides at occasions, and not at candles."""
        return self.schedule.occasions is not None

    def tends(self, symbol: str) -> bool:
        """Tell whether maintenance of what is held on a symbol has fallen due."""
        return False

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
        return (
            self.capital[symbol]
            + self.brain.run_pnl.get(symbol, ZERO)
            + self._gains.at(symbol, self.quotes.price(symbol))
        )

    def unrealised(self) -> Decimal:
        """Return the profit of all open lots at the last prices, with what their closed parts and fees came to."""
        gains, quotes = self._gains, self.quotes
        return sum((gains.at(symbol, quotes.price(symbol)) for symbol in gains.symbols()), ZERO)

    def working_exit(self, position_id: str) -> Order | None:
        """Return the working exit order that was wished for on a position, if any."""
        for order in self.orders_of(position_id):
            if order.reduce_only and order.type in WISHED_EXITS:
                return order
        return None

    def orders_of(self, position_id: str) -> list[Order]:
        """Return the working orders that open or leave a position, oldest first."""
        return [self.orders[client_id] for client_id in self._by_lot.get(position_id, ())]

    def acknowledged(self, order: Order) -> Order:
        """Return a durable order with what the venue acknowledged since the last commit, which nobody else knows."""
        known = self.orders.get(order.client_order_id)
        if known is None or order.status is not OrderStatus.INTENDED or known.status is not OrderStatus.OPEN:
            return order
        return msgspec.structs.replace(order, status=OrderStatus.OPEN)

    def alive(self, symbol: str, tag: str) -> bool:
        """Tell whether an entry works, or a position is open, under a template's own word for it."""
        return self._stakes.tagged(symbol, tag)

    def may_not_enter(self) -> str:
        """Return why nothing may be opened now by the strategy's own standing or its account's, or nothing."""
        status = self.strategy.status
        own = self.entries_closed or ("" if status is Status.DEPLOYED else status.value)
        return own or self.book.blocked or self.book.tripped

    def exposure(self) -> Decimal:
        """Return the notional at risk: open lots, and working entries at their worst price."""
        return self.book.exposure(self.strategy.id).total

    def _keep(self, order: Order) -> None:
        self._effects.orders[order.id] = order
        self._exposed = False
        if not order.working:
            if self.orders.pop(order.client_order_id, None) is not None:
                self._unlist(order)
            if not order.reduce_only:
                self._stakes.end(order)
            return
        if not order.reduce_only:
            self._stakes.work(order, reserve_of(order))
        last = next(reversed(self.orders), "")
        self._list(order)
        if order.client_order_id < last and next(reversed(self.orders)) == order.client_order_id:
            # One that was given up has come back: it takes its old place, as after a restart.
            self.orders = dict(sorted(self.orders.items()))
            self._by_lot[order.position_id] = dict(sorted(self._by_lot[order.position_id].items()))

    def _list(self, order: Order) -> None:
        self.orders[order.client_order_id] = order
        self._by_lot.setdefault(order.position_id, {})[order.client_order_id] = None

    def _unlist(self, order: Order) -> None:
        siblings = self._by_lot[order.position_id]
        del siblings[order.client_order_id]
        if not siblings:
            del self._by_lot[order.position_id]

    def _hold(self, position: Position) -> None:
        self._effects.positions[position.id] = position
        self._count_lot(position)
        youngest = next(reversed(self.positions.values()), position)
        fresh = position.id not in self.positions
        self.positions[position.id] = position
        if fresh and seniority(position) < seniority(youngest):
            # Positions opened in the same millisecond stand in the order in which a restart would read them.
            self.positions = {each.id: each for each in sorted(self.positions.values(), key=seniority)}

    def _drop(self, position: Position) -> None:
        """Let go of a lot that has come to its end."""
        del self.positions[position.id]
        self._stakes.leave(position)
        self._gains.leave(position)
        self._exposed = False

    def _count_lot(self, position: Position) -> None:
        self._stakes.hold(position)
        self._gains.hold(position)
        self._exposed = False

    def _wait_for(self, symbol: str, alarm: PriceAlarm | None) -> None:
        """Put an alarm in the place of the symbol's earlier one, or take that away; equal levels change nothing."""
        alarms = self.brain.alarms
        before = alarms.get(symbol)
        if before is None if alarm is None else before is not None and _levels(before) == _levels(alarm):
            return
        kept = {key: each for key, each in alarms.items() if key != symbol}
        self.brain = msgspec.structs.replace(self.brain, alarms=kept if alarm is None else {**kept, symbol: alarm})
        self.interest_changed.add(symbol)
        self._dirty = True

    def _room(self, symbol: str) -> Decimal:
        return self.capital[symbol] * self.leverage - self._stakes.bound.get(symbol, ZERO)

    def _expose(self) -> None:
        """Tell the account's book what is at risk, if that has changed since it was told."""
        if self._exposed:
            return
        self._exposed = True
        if self.orders or self.positions:
            self.book.set_exposure(self.strategy.id, self._stakes.exposure(len(self.orders)))
        else:
            self.book.forget(self.strategy.id)

    def _tell_rate(self, entry: Order, reserve: Decimal) -> None:
        self.book.rates.add(entry.client_order_id, entry.placed_at_ms, entry.quantity * reserve, likeness_of(entry))

    def _tell_deeds(self) -> None:
        self.book.note_deeds(self.strategy.id, deeds_of(self.brain, self.strategy.run))

    def _begin_run(self) -> None:
        """Forget the figures of the run before; those of the day stay, each mode's its own."""
        if (brain := self._today()).dry_run is not self.dry_run:
            kept = DayFigures(brain.day, brain.day_trades, brain.day_orders, brain.day_pnl)
            today = brain.other_mode if brain.other_mode.day == brain.day else DayFigures()
            brain = msgspec.structs.replace(
                brain,
                dry_run=self.dry_run,
                day_trades=today.trades,
                day_orders=today.orders,
                day_pnl=today.pnl,
                other_mode=DayFigures() if brain.dry_run is None else kept,
                cooldown_until_ms=0,
                losses_ms=(),
            )
        self.brain = msgspec.structs.replace(brain, run_pnl={}, run_peak=ZERO, fallen_until_ms=0)
        self._tell_deeds()

    def _count_trade(self, position: Position) -> None:
        brain, pnl, now_ms = self._today(), position.pnl, self.quotes.now_ms
        run_pnl = {**brain.run_pnl, position.symbol: brain.run_pnl.get(position.symbol, ZERO) + pnl}
        tally = brain.tally.with_trade(pnl)
        # Those before the last ones that count are forgotten.
        most = max((pause.losses for pause in self.limits.pauses), default=0)
        losses_ms = (*brain.losses_ms, now_ms)[-most:] if pnl < ZERO and most else ()
        paused = [pause.until_ms(losses_ms, now_ms) for pause in self.limits.pauses]
        self.brain = msgspec.structs.replace(
            brain,
            tally=msgspec.structs.replace(
                tally, fees=tally.fees + position.fees, funding=tally.funding + position.funding
            ),
            run_pnl=run_pnl,
            run_peak=max(brain.run_peak, sum(run_pnl.values(), ZERO)),
            day_trades=brain.day_trades + 1,
            day_pnl=brain.day_pnl + pnl,
            losses_ms=losses_ms,
            cooldown_until_ms=max(brain.cooldown_until_ms, now_ms + self.limits.cooldown_ms, *paused),
        )
        self._tell_deeds()
        self._effects.book = self.book

    def _today(self) -> Brain:
        """Return the memory with the day's figures of today: those of another day are gone."""
        day = utc_day(self.quotes.now_ms)
        if self.brain.day == day:
            return self.brain
        return msgspec.structs.replace(self.brain, day=day, day_trades=0, day_orders=0, day_pnl=ZERO)

    def _situation(self, symbol: str, room: Decimal) -> Situation:
        brain, now_ms = self._today(), self.quotes.now_ms
        status, skipped = self.strategy.status, self.schedule.params.skip_hours
        peak = sum(self.capital.values(), brain.run_peak)
        fall = brain.run_peak - sum(brain.run_pnl.values(), ZERO) - min(ZERO, self.unrealised())
        return Situation(
            now_ms=now_ms,
            day=brain.day,
            may_enter=self.entries_closed or ("" if status is Status.DEPLOYED else status.value),
            stale=self.quotes.is_stale(symbol),
            frozen=self.quotes.is_frozen(self.book.name, symbol),
            last_price=self.quotes.price(symbol),
            limits=self.limits,
            skip_hours=skipped,
            hour=self.schedule.local_hour(now_ms) if skipped else None,
            room=room,
            equity_drawdown_pct=max(ZERO, fall) / peak if peak else ZERO,
            trades_today=brain.day_trades,
            pnl_today=brain.day_pnl,
            cooldown_until_ms=brain.cooldown_until_ms,
            loss_pct=self._lost_pct() if self.limits.loss_pct_max is not None else ZERO,
            orders_last_minute=len([at for at in brain.order_times_ms if at > now_ms - MINUTE_MS]),
        )

    def _lost_pct(self) -> Decimal:
        """Return which share of the capital is gone, at the last prices; what was gained is below zero."""
        capital = sum(self.capital.values(), ZERO)
        gained = sum(self.brain.run_pnl.values(), ZERO) + self.unrealised()
        return -gained / capital if capital else ZERO


def deeds_of(brain: Brain, run: Run | None) -> Deeds:
    """Return what a strategy's memory says that its account counts."""
    return Deeds(
        run_id=run.id if run is not None else "",
        day=brain.day,
        day_pnl=brain.day_pnl,
        day_orders=brain.day_orders,
        pnl=brain.tally.pnl,
    )


def other_deeds_of(brain: Brain) -> Deeds:
    """Return what a strategy's memory says of the day in the mode in which it does not run now."""
    other = brain.other_mode
    return Deeds(day=other.day, day_pnl=other.pnl, day_orders=other.orders)


def reserve_of(entry: Order) -> Decimal:
    """Return the price at which an entry is counted until it is filled."""
    return reserve_price(entry.price, market=entry.type is OrderType.MARKET)


def _levels(alarm: PriceAlarm) -> tuple[Decimal | None, Decimal | None]:
    return alarm.below, alarm.above


def seniority(position: Position) -> tuple[int, str]:
    """Return a position's place among a strategy's: the older first."""
    return position.opened_at_ms, position.id
