"""Sessions of one account under everything a venue may do, held to a naive account of the cash and to their journal."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipaid.engine.assembly import Surroundings, assemble
from pipaid.engine.book import Book, Caps
from pipaid.engine.effects import Effects
from pipaid.engine.stakes import exposure_of
from pipaid.engine.template import CancelEntries, Intent, Protect, View
from pipaid.model.event import EventDraft, OrderFilled, OrderPlaced, PositionClosed, PositionOpened
from pipaid.model.order import BookedFill, Order, OrderFact, OrderStatus, OrderType
from pipaid.model.position import CloseReason, Direction
from pipaid.model.strategy import Status
from tests.builders import (
    MINUTE_MS,
    OTHER,
    SYMBOL,
    Bench,
    enter,
    execution,
    held,
    limit,
    make_bench,
    make_definition,
    make_fill,
    make_order,
    make_run,
    make_strategy,
    scripted,
)

CAPITAL = Decimal(1000)
LEVERAGE = 2
SIDES = (Direction.LONG, Direction.SHORT)
# What may become of a working order without a fill, by what is known of it.
ENDINGS = {
    OrderStatus.INTENDED: (OrderFact.REFUSE, OrderFact.EXPIRE, OrderFact.CANCEL, OrderFact.DENY),
    OrderStatus.UNKNOWN: (OrderFact.REFUSE, OrderFact.EXPIRE, OrderFact.CANCEL, OrderFact.DENY),
    OrderStatus.OPEN: (OrderFact.EXPIRE, OrderFact.CANCEL),
}


def churn(view: View) -> Iterator[Intent]:
    """Wish something different at every candle, by nothing but what the view shows."""
    assert view.candle is not None
    turn = int(view.candle.close * 10) + view.candle.open_time_ms // MINUTE_MS + len(view.positions)
    side = SIDES[turn % 2]
    away = side.sign * Decimal(turn % 7 + 1)
    levels = {
        "stop_price": view.price - side.sign * 30 if turn % 3 else None,
        "take_profit_price": view.price + side.sign * 40 if turn % 5 == 0 else None,
    }
    if turn % 4 == 0:
        yield enter(symbol=view.symbol, direction=side, notional=Decimal(100 + turn * 37 % 1500), **levels)
    if turn % 3 == 0:
        price = str(view.price - away)
        yield limit(price, symbol=view.symbol, direction=side, tag=f"t{turn % 4}", notional=Decimal(150), **levels)
    if turn % 6 == 1:
        yield CancelEntries(symbol=view.symbol, tags=None if turn % 4 else frozenset({"t1", "t2"}))
    for number, position in enumerate(view.positions):
        move = (turn + number) % 8
        if move == 0:
            yield held(position, reason=CloseReason.TIME_EXIT)
        elif move == 1:
            yield held(position, price=view.price + position.direction.sign * 5)
        elif move == 2:
            yield Protect(position_id=position.id, stop_price=view.price - position.direction.sign * 20)


def again(view: View, fact: Any) -> Iterator[Intent]:
    """React now and then: enter anew where something ended."""
    if len(view.positions) % 2:
        yield limit(str(view.price), symbol=view.symbol, tag="again", notional=Decimal(40))


CHURN = scripted(on_candle=churn, on_closed=again, on_entry_lost=again, on_opened=again)


class Account(RuleBasedStateMachine):
    """Two strategies share a book; a venue fills, loses, refuses and repeats; a crash may come at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Book(name="paper", caps=Caps(exposure_max=Decimal(2600), open_orders_max=60))
        self.benches: list[Bench] = []
        self.cash: dict[str, Fraction] = {}
        self.net: dict[str, Fraction] = {}
        self.fills = 0
        self.late = False

    @initialize()
    def deploy(self) -> None:
        for number in (1, 2):
            definition = make_definition(capital=CAPITAL, leverage=LEVERAGE, symbols=(SYMBOL, OTHER)[:number])
            run = make_run(id=f"run_{number}", capital=CAPITAL, leverage=LEVERAGE)
            strategy = make_strategy(definition, id=f"strat_{number}", number=number, run=run)
            self.benches.append(make_bench(CHURN, book=self.book, strategy=strategy))

    # What happens.

    @rule(who=st.integers(0, 1), symbol=st.sampled_from([SYMBOL, OTHER]), step=st.integers(-60, 60))
    def candle(self, who: int, symbol: str, step: int) -> None:
        bench = self.benches[who]
        if symbol in bench.series:
            price = max(Decimal(50), bench.quotes.price(symbol) + Decimal(step) / 10)
            self.decided(bench, bench.close(price, symbol))

    @rule(who=st.integers(0, 1), pick=st.integers(0, 99), share=st.integers(1, 4), fee=st.integers(-5, 50))
    def fill(self, who: int, pick: int, share: int, fee: int) -> None:
        bench = self.benches[who]
        order = self.picked(bench, pick)
        if order is None:
            return
        most = order.remaining
        if order.reduce_only:
            lot = bench.session.positions.get(order.position_id)
            if lot is None:  # What names a lot that is gone is ended by the desk.
                self.decided(bench, bench.end(order, OrderFact.EXPIRE, "its lot is gone"))
                return
            most = min(most, lot.quantity)
        if most > 0:
            part = max(Decimal("0.001"), (most * share / 4).quantize(Decimal("0.001")))
            self.executed(bench, order, min(part, most), Decimal(fee) / 1000)

    @rule(who=st.integers(0, 1), pick=st.integers(0, 99), which=st.integers(0, 3))
    def end(self, who: int, pick: int, which: int) -> None:
        bench = self.benches[who]
        order = self.picked(bench, pick)
        if order is not None:
            facts = ENDINGS[order.status]
            self.decided(bench, bench.end(order, facts[which % len(facts)], "so it goes"))

    @rule(who=st.integers(0, 1), pick=st.integers(0, 99), lost=st.booleans())
    def answer(self, who: int, pick: int, lost: bool) -> None:
        bench = self.benches[who]
        order = self.picked(bench, pick)
        if order is not None:
            self.decided(bench, bench.news(order, OrderFact.LOSE if lost else OrderFact.ACK))

    @rule(who=st.integers(0, 1), pick=st.integers(0, 99))
    def confirm_cancellation(self, who: int, pick: int) -> None:
        bench = self.benches[who]
        asked = [order for order in bench.working if order.cancelling]
        if asked:
            self.decided(bench, bench.end(asked[pick % len(asked)]))

    @rule(who=st.integers(0, 1), pick=st.integers(0, 99))
    def lose_cancellation(self, who: int, pick: int) -> None:
        bench = self.benches[who]
        order = self.picked(bench, pick)
        if order is not None:
            bench.settle(bench.session.on_cancel_lost(order.client_order_id))

    @rule(who=st.integers(0, 1), pick=st.integers(0, 99))
    def late_fill(self, who: int, pick: int) -> None:
        bench = self.benches[who]
        late = [
            order
            for order in bench.journal.read("order", Order, "ended")
            if order.remaining > 0
            and not order.reduce_only
            and order.status in (OrderStatus.CANCELLED, OrderStatus.EXPIRED, OrderStatus.ABSENT)
        ]
        if late:
            order = late[pick % len(late)]
            self.late = True
            bench.session.adopt(order)
            self.executed(bench, order, Decimal("0.001"), Decimal(0))

    @rule(who=st.integers(0, 1), pick=st.integers(0, 99), price=st.integers(40, 160))
    def liquidate(self, who: int, pick: int, price: int) -> None:
        bench = self.benches[who]
        lots = [lot for lot in bench.lots if lot.quantity > 0]
        if pick < 10 and lots:
            lot = lots[pick % len(lots)]
            order = make_order(
                client_order_id=f"autoclose-{lot.id}",
                symbol=lot.symbol,
                side=lot.direction.exit_side,
                position_id=lot.id,
                price=Decimal(price),
                quantity=lot.quantity,
                reduce_only=True,
            )
            self.executed(bench, order, lot.quantity, Decimal("0.01"), liquidation=True)

    @rule(who=st.integers(0, 1), pick=st.integers(0, 99), amount=st.integers(-300, 300))
    def fund(self, who: int, pick: int, amount: int) -> None:
        bench = self.benches[who]
        if bench.lots:
            lot = bench.lots[pick % len(bench.lots)]
            paid = Decimal(amount) / 1000
            if lot.funded_at_ms < bench.quotes.now_ms:
                self.cash[lot.id] += Fraction(paid)
            bench.fund(lot, str(paid), bench.quotes.now_ms)

    @rule(who=st.integers(0, 1))
    def close_everything(self, who: int) -> None:
        bench = self.benches[who]
        self.decided(bench, bench.settle(bench.session.close_positions(CloseReason.PAUSE_CLOSE)))

    @rule(who=st.integers(0, 1))
    def pause(self, who: int) -> None:
        self.become(self.benches[who], Status.PAUSED, withdraw_entries="pause")

    @rule(who=st.integers(0, 1))
    def go_on(self, who: int) -> None:
        self.become(self.benches[who], Status.DEPLOYED)

    @rule(ms=st.sampled_from([1, 1000, MINUTE_MS, 86_400_000]))
    def wait(self, ms: int) -> None:
        for bench in self.benches:
            bench.wait(ms)

    @rule(who=st.integers(0, 1))
    def crash(self, who: int) -> None:
        self.benches[who].rebuild()

    @rule()
    def restart(self) -> None:
        """Start the whole daemon anew: the book's memory comes from the journal, the rest from its sessions."""
        before = self.book
        self.book = Book(name="paper", caps=before.caps)
        self.book.recall(before.memory())
        for bench in self.benches:
            bench.book = self.book
            bench.rebuild()
        same = ("value", "positions", "orders", "exposures", "symbols", "day_orders", "day_pnl", "pnl", "peak")
        assert {name: getattr(self.book, name) for name in same} == {name: getattr(before, name) for name in same}

    @precondition(lambda self: self.benches)
    @rule(who=st.integers(0, 1), step=st.integers(-60, 60))
    def decide_like_one_rebuilt(self, who: int, step: int) -> None:
        """A session that was never stopped and one put together from the journal decide the same."""
        bench = self.benches[who]
        twin, known = twin_of(bench), len(bench.journal.events)
        bench.close(max(Decimal(50), bench.quotes.price(SYMBOL) + Decimal(step) / 10))
        candle = bench.series[SYMBOL].last
        assert candle is not None
        twin.quotes = twin.session.quotes
        twin.quotes.now_ms, twin.quotes.step = bench.quotes.now_ms, bench.quotes.step
        twin.quotes.prices = dict(bench.quotes.prices)
        twin.series[SYMBOL].append(candle)
        twin.settle(twin.session.on_candle(SYMBOL))
        assert plainly(twin.session.orders) == plainly(bench.session.orders)
        assert plainly(twin.session.positions) == plainly(bench.session.positions)
        assert twin.session.brain.exits == bench.session.brain.exits
        assert numbered(twin.journal.events) == numbered(bench.journal.events[known:])

    # What is to be seen of it.

    def picked(self, bench: Bench, pick: int) -> Order | None:
        return bench.working[pick % len(bench.working)] if bench.working else None

    def become(self, bench: Bench, status: Status, **more: Any) -> None:
        bench.strategy = msgspec.structs.replace(bench.strategy, status=status)
        self.decided(bench, bench.settle(bench.session.become(bench.strategy, **more)))

    def executed(self, bench: Bench, order: Order, quantity: Decimal, fee: Decimal, **fields: Any) -> None:
        self.fills += 1
        fill = make_fill(
            order, id=f"fill_{self.fills}", quantity=quantity, fee=fee, time_ms=bench.quotes.now_ms, **fields
        )
        before = set(bench.session.positions)
        effects = bench.settle(bench.session.on_execution(execution(fill, order.position_id)))
        (booked,) = effects.fills
        lot = booked.position_id
        assert lot in before or not order.reduce_only
        sign = order.side.sign
        self.net[lot] = self.net.get(lot, Fraction(0)) + sign * Fraction(quantity)
        self.cash[lot] = self.cash.get(lot, Fraction(0)) - sign * Fraction(quantity) * Fraction(fill.price)
        self.cash[lot] -= Fraction(fee)
        self.decided(bench, effects)

    def decided(self, bench: Bench, effects: Effects) -> None:
        told = [event.data for event in effects.events]
        placed = {data.order_id for data in told if isinstance(data, OrderPlaced)}
        assert placed == {approved.order.id for approved in effects.place}
        filled = [index for index, data in enumerate(told) if isinstance(data, OrderFilled)]
        for index, data in enumerate(told):
            if isinstance(data, PositionOpened):
                assert filled
                assert filled[-1] < index
            if isinstance(data, PositionClosed) and filled:
                assert filled[-1] < index

    def check(self) -> None:
        """Hold everything that must always be true against what is."""
        self.every_lot_is_the_sum_of_its_fills()
        self.the_tally_is_the_sum_of_the_trades()
        self.no_strategy_is_beyond_its_capital()
        self.the_book_is_the_sum_of_its_sessions()
        self.the_journal_holds_what_the_sessions_hold()
        self.every_guarded_lot_has_its_stop()

    @invariant()
    def every_lot_is_the_sum_of_its_fills(self) -> None:
        for bench in self.benches:
            for lot in (*bench.lots, *bench.trades):
                assert lot.direction.sign * Fraction(lot.quantity) == self.net[lot.id]
            for trade in bench.trades:
                assert trade.quantity == 0
                assert Fraction(trade.pnl) == self.cash[trade.id]
            lots = {lot.id for lot in (*bench.lots, *bench.trades)}
            assert {fill.position_id for fill in bench.journal.read("fill", BookedFill)} == lots

    @invariant()
    def the_tally_is_the_sum_of_the_trades(self) -> None:
        for bench in self.benches:
            tally, trades = bench.session.brain.tally, bench.trades
            assert tally.trades == len(trades)
            assert Fraction(tally.pnl) == sum((self.cash[trade.id] for trade in trades), Fraction(0))
            assert tally.fills == len(bench.journal.read("fill", BookedFill))

    @invariant()
    def no_strategy_is_beyond_its_capital(self) -> None:
        """Only what fills after its end, when its room may have been given away, can carry a strategy over."""
        for bench in self.benches:
            if not self.late:
                assert bench.session.exposure() <= CAPITAL * LEVERAGE
                for symbol, capital in bench.session.capital.items():
                    assert bound_on(bench, symbol) <= capital * LEVERAGE

    @invariant()
    def the_book_is_the_sum_of_its_sessions(self) -> None:
        value, positions, orders = Decimal(0), 0, 0
        for bench in self.benches:
            session = bench.session
            entries = [(order, worst(order)) for order in session.orders.values() if not order.reduce_only]
            own = exposure_of(list(session.positions.values()), entries, orders=len(session.orders))
            assert self.book.exposure(bench.strategy.id) == own
            value, positions, orders = value + own.total, positions + own.count, orders + own.orders
        assert (self.book.value, self.book.positions, self.book.orders) == (value, positions, orders)

    @invariant()
    def what_is_looked_up_is_what_is_held(self) -> None:
        for bench in self.benches:
            session = bench.session
            lots, orders = list(session.positions.values()), list(session.orders.values())
            alive = {(each.symbol, each.tag) for each in lots}
            alive |= {(order.symbol, order.tag) for order in orders if not order.reduce_only}
            for symbol, tag in {(order.symbol, order.tag) for order in orders} | alive:
                assert session.alive(symbol, tag) == (bool(tag) and (symbol, tag) in alive)
            for lot_id in {order.position_id for order in orders} | {lot.id for lot in lots}:
                assert session.orders_of(lot_id) == [order for order in orders if order.position_id == lot_id]
            gained = sum((lot.unrealised(session.quotes.price(lot.symbol)) + lot.pnl for lot in lots), Decimal(0))
            assert abs(session.unrealised() - gained) < Decimal("1e-12")

    @invariant()
    def the_journal_holds_what_the_sessions_hold(self) -> None:
        for bench in self.benches:
            memory = bench.journal.memory()
            positions = {lot.id: lot for lot in memory.positions}
            assert positions == bench.session.positions
            working = {order.id: settled(order) for order in memory.orders}
            assert working == {order.id: settled(order) for order in bench.working}

    @invariant()
    def every_guarded_lot_has_its_stop(self) -> None:
        for bench in self.benches:
            for lot in bench.lots:
                leaving = bench.session.working_exit(lot.id) is not None or lot.id in bench.session.brain.exits
                if lot.stop_price is not None and not leaving:
                    stops = [
                        order.remaining
                        for order in bench.working
                        if order.position_id == lot.id
                        and order.type is OrderType.STOP
                        and order.price == lot.stop_price
                    ]
                    assert sum(stops, Decimal(0)) >= lot.quantity


def bound_on(bench: Bench, symbol: str) -> Decimal:
    """Return what is bound on a symbol, working orders and those of unknown fate at their worst."""
    lots = sum((lot.open_value for lot in bench.lots if lot.symbol == symbol), Decimal(0))
    entries = [order for order in bench.working if order.symbol == symbol and not order.reduce_only]
    return lots + sum((order.remaining * worst(order) for order in entries), Decimal(0))


def worst(order: Order) -> Decimal:
    return order.price * (Decimal("1.01") if order.type is OrderType.MARKET else 1)


def settled(order: Order) -> Order:
    """Return an order without what an acknowledgement alone changes, which is journalled with the next decision."""
    known = OrderStatus.INTENDED if order.status in (OrderStatus.OPEN, OrderStatus.UNKNOWN) else order.status
    return msgspec.structs.replace(order, status=known)


def plainly(held: dict[str, Any]) -> list[Any]:
    """Return orders or positions in their order, the former without their acknowledgements."""
    return [settled(each) if isinstance(each, Order) else each for each in held.values()]


def numbered(events: list[EventDraft]) -> list[EventDraft]:
    """Return the events that carry a number."""
    return [event for event in events if not event.opt_in]


def twin_of(bench: Bench) -> Bench:
    """Put a second session together from the journal of the first, with a book of its own in the same state."""
    book = Book(name=bench.book.name, caps=bench.book.caps, rates=bench.book.rates)
    for strategy_id, share in bench.book.exposures.items():
        if strategy_id != bench.strategy.id:
            book.set_exposure(strategy_id, share)
    twin = make_bench(bench.template, book=book, strategy=bench.strategy)
    twin.journal.rows = dict(bench.journal.rows)
    twin.quotes.now_ms, twin.quotes.prices = bench.quotes.now_ms, dict(bench.quotes.prices)
    around = Surroundings(instruments=twin.instruments, series=twin.series, quotes=twin.quotes, book=book)
    twin.session = assemble(twin.strategy, twin.template, twin.journal.memory(), around)
    return twin


TestAccount = Account.TestCase
TestAccount.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)

# How often each thing happens in a storm.
WEATHER = {
    "candle": 16, "fill": 14, "answer": 4, "end": 3, "confirm_cancellation": 6, "lose_cancellation": 1,
    "liquidate": 2, "fund": 2, "close_everything": 1, "pause": 1, "go_on": 4, "wait": 1, "crash": 2, "restart": 1,
    "decide_like_one_rebuilt": 6,
}  # fmt: skip
DRAWS: dict[str, Callable[[Random], Any]] = {
    "who": lambda chance: chance.randrange(2),
    "symbol": lambda chance: chance.choice((SYMBOL, OTHER)),
    "step": lambda chance: chance.randint(-60, 60),
    "pick": lambda chance: chance.randrange(100),
    "share": lambda chance: chance.randint(1, 4),
    "fee": lambda chance: chance.randint(-5, 50),
    "which": lambda chance: chance.randrange(4),
    "lost": lambda chance: chance.random() < 0.3,
    "price": lambda chance: chance.randint(40, 160),
    "amount": lambda chance: chance.randint(-300, 300),
    "ms": lambda chance: chance.choice((1, 1000, MINUTE_MS, 86_400_000)),
}


@pytest.mark.parametrize("seed", range(16))
def test_a_storm_breaks_nothing(seed: int) -> None:
    account, chance = Account(), Random(seed)
    weather = {**WEATHER, "late_fill": 2 * (seed % 2)}  # Without them no cap is ever exceeded.
    account.deploy()

    for _ in range(400):
        (name,) = chance.choices(list(weather), list(weather.values()))
        action = getattr(account, name)
        wanted = inspect.signature(action).parameters
        action(**{parameter: DRAWS[parameter](chance) for parameter in wanted})
        account.check()

    assert account.fills > 50
    assert sum(len(bench.trades) for bench in account.benches) > 5
