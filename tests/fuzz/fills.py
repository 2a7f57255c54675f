"""Fill sequences: in whatever order, how often and how wrong fills arrive, positions are their exact sum."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any, Final

import msgspec
from attrs import define, field

from pipaid.engine.effects import Effects
from pipaid.engine.template import Intent, View
from pipaid.errors import InvariantBroken
from pipaid.model.order import Execution, Fill, Order, OrderFact, OrderStatus, OrderType
from pipaid.model.position import Direction, Position
from tests.builders import (
    OTHER,
    Bench,
    Repeated,
    enter,
    execution,
    held,
    make_bench,
    make_definition,
    make_fill,
    make_strategy,
    scripted,
)
from tests.fuzz.target import Target

Step = tuple[str, int, int, int]
Case = list[Step]

STEPS_MAX: Final = 14
CAPITAL: Final = Decimal(100_000)
_FACTS: Final = (OrderFact.ACK, OrderFact.LOSE, OrderFact.REFUSE, OrderFact.CANCEL, OrderFact.EXPIRE, OrderFact.DENY)
_WEIGHTS: Final = {
    "enter": 5, "exit": 2, "fill": 12, "again": 3, "twin": 1, "odd": 2, "fact": 4, "crash": 1, "look": 1,
}  # fmt: skip
_ENDED: Final = (OrderFact.CANCEL, OrderFact.EXPIRE)
_ENDED_UNFILLED: Final = (OrderStatus.CANCELLED, OrderStatus.EXPIRED)
# What makes a fill one that cannot be true.
_ODD: Final[tuple[dict[str, Any], ...]] = (
    {"quantity": Decimal("NaN")},
    {"quantity": Decimal("Infinity")},
    {"quantity": Decimal(0)},
    {"quantity": Decimal(-1)},
    {"quantity": Decimal(10**12)},
    {"price": Decimal("NaN")},
    {"price": Decimal("-Infinity")},
    {"price": Decimal(0)},
    {"price": Decimal(-100)},
    {"fee": Decimal("NaN")},
    {"symbol": OTHER},
)


def make(chance: Random) -> Case:
    """Return what happens, one step after the other."""
    names = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=chance.randrange(2, STEPS_MAX))
    return [("enter", 0, 1_000, 0)] + [
        (name, chance.randrange(100), chance.randrange(1, 2_000), chance.randrange(-50, 100)) for name in names
    ]


def check(case: Case) -> None:
    """Let it happen to a session, and hold the session to a naive account at the end, and anew after a crash."""
    account = Account()
    for name, pick, amount, more in case:
        getattr(account, name)(pick, amount, more)
    account.compare()
    account.crash(0, 0, 0)
    account.compare()


_wishes: list[Callable[[View], Intent]] = []


def _wish(view: View) -> list[Intent]:
    wished = [wish(view) for wish in _wishes]
    _wishes.clear()
    return wished


_TEMPLATE: Final = scripted(on_candle=_wish)


@define
class Account:
    """A session with its journal, and beside it what an accountant would write down."""

    bench: Bench = field(factory=lambda: _bench())
    # By lot: what is held, and what has been earned so far.
    net: dict[str, Fraction] = field(factory=dict[str, Fraction])
    cash: dict[str, Fraction] = field(factory=dict[str, Fraction])
    filled: dict[str, Fraction] = field(factory=dict[str, Fraction])
    told: list[tuple[Fill, str]] = field(factory=list[tuple[Fill, str]])
    booked: dict[str, Fill] = field(factory=dict[str, Fill])

    # What happens; each takes a choice, an amount in thousandths and something more.

    def enter(self, pick: int, amount: int, more: int) -> None:
        """Wish an entry at a candle's close."""
        direction = Direction.LONG if pick % 3 else Direction.SHORT
        quantity, tag = Decimal(amount) / 1_000, f"t{len(self.bench.placed)}"
        limited = {"type": OrderType.LIMIT, "price": Decimal(100)} if more % 2 else {}
        _wishes.append(lambda _: enter(direction=direction, quantity=quantity, tag=tag, **limited))
        self.bench.close(Decimal(100) + Decimal(more) / 10)

    def exit(self, pick: int, amount: int, more: int) -> None:
        """Wish to leave a lot."""
        _wishes.append(lambda view: held(view.positions[pick % len(view.positions)]))
        if not self.bench.lots:
            _wishes.clear()
        self.bench.close(Decimal(100) + Decimal(more) / 10)

    def fill(self, pick: int, amount: int, more: int) -> None:
        """Fill some of an order, all of it, or more than there is."""
        order = self._picked(pick)
        quantity = min(order.remaining, Decimal(amount) / 1_000) if amount % 5 else order.remaining
        if amount % 31 == 0:
            quantity = order.remaining + Decimal("0.001")
        price, fee = Decimal(100) + Decimal(more * amount) / 10_000, Decimal(more * amount) / 10**8
        if more % 11 == 0:
            # More digits than the usual 28, as an instrument of many decimals may bring them.
            price += Decimal("123456789.123456789123456789") * amount
            quantity = min(quantity, order.remaining - Decimal("0.000000012345678912"))
        self.tell(make_fill(order, id=f"f{len(self.told)}", quantity=quantity, price=price, fee=fee), order)

    def again(self, pick: int, amount: int, more: int) -> None:
        """Tell of a fill that was told before."""
        if self.told:
            fill, position_id = self.told[pick % len(self.told)]
            self._deliver(execution(fill, position_id), self._order_of(fill))

    def twin(self, pick: int, amount: int, more: int) -> None:
        """Tell of something else under a number that was used before."""
        if self.told:
            before, _ = self.told[pick % len(self.told)]
            order = self._picked(more)
            self.tell(make_fill(order, id=before.id, quantity=Decimal(amount) / 1_000), order)

    def odd(self, pick: int, amount: int, more: int) -> None:
        """Tell of a fill that cannot be true."""
        order = self._picked(pick)
        wrong = _ODD[amount % len(_ODD)] if more % 7 else {"side": order.side.opposite}
        self.tell(make_fill(order, **{"id": f"f{len(self.told)}", **wrong}), order)

    def fact(self, pick: int, amount: int, more: int) -> None:
        """Tell what became of an order without a fill, whether that can be or not."""
        order = self._picked(pick)
        fact = _FACTS[amount % len(_FACTS)]
        before = self._state()
        try:
            if more % 2:
                self.bench.news(order, fact)
            else:
                self._deliver(Execution(client_order_id=order.client_order_id, fact=fact, time_ms=0), order)
        except InvariantBroken:
            self.bench.rebuild()
            assert self._state() == before

    def crash(self, pick: int, amount: int, more: int) -> None:
        """Start anew from the journal."""
        self.bench.rebuild()

    def look(self, pick: int, amount: int, more: int) -> None:
        """Compare before the end."""
        self.compare()

    def tell(self, fill: Fill, order: Order) -> None:
        """Tell of a fill; it is booked if it can be true and is new, and else leaves no trace."""
        self.told.append((fill, order.position_id))
        self._deliver(execution(fill, order.position_id), order)

    # What must come of it.

    def _deliver(self, told: Execution, order: Order) -> None:
        """Do what the shell around a session does with a report of the venue."""
        bench, fill = self.bench, told.fill
        expected = fill is not None and self._can_be(fill, order)
        if order.client_order_id not in bench.session.orders:
            if fill is not None and fill.id in self.booked:
                return
            if told.fact in _ENDED and order.status in _ENDED_UNFILLED:
                return
            bench.session.adopt(order)
        before = self._state()
        lot = bench.session.positions.get(order.position_id)
        room = lot.quantity if lot is not None else Decimal(0)
        try:
            effects = bench.settle(bench.session.on_execution(told))
        except (InvariantBroken, Repeated):
            bench.rebuild()
            assert not expected, f"{fill} was not booked"
            assert self._state() == before, "what was refused left a trace"
            return
        if fill is not None:
            assert expected, f"{fill} was booked"
            self._note(fill, order, room, effects)

    def _can_be(self, fill: Fill, order: Order) -> bool:
        figures = (fill.quantity, fill.price, fill.fee)
        sound = all(figure.is_finite() for figure in figures) and min(fill.quantity, fill.price) > 0
        if not sound or fill.id in self.booked or (fill.symbol, fill.side) != (order.symbol, order.side):
            return False
        if order.status in (OrderStatus.FILLED, OrderStatus.REJECTED):
            return False
        return self.filled.get(order.id, Fraction(0)) + Fraction(fill.quantity) <= Fraction(order.quantity)

    def _note(self, fill: Fill, order: Order, room: Decimal, effects: Effects) -> None:
        """Write a fill down: an exit's lot takes what there is room for with the whole fee, the rest is nobody's."""
        (booked,) = effects.fills
        assert booked.fill == fill
        self.booked[fill.id] = fill
        taken = min(fill.quantity, room) if order.reduce_only else fill.quantity
        stray = fill.quantity - taken
        assert booked.unassigned == stray == sum(order.side.sign * each.quantity for each in effects.strays)
        lot, sign = booked.position_id, order.side.sign
        self.filled[order.id] = self.filled.get(order.id, Fraction(0)) + Fraction(fill.quantity)
        if taken:
            self.net[lot] = self.net.get(lot, Fraction(0)) + sign * Fraction(taken)
            earned = -sign * Fraction(taken) * Fraction(fill.price) - Fraction(fill.fee)
            self.cash[lot] = self.cash.get(lot, Fraction(0)) + earned

    def compare(self) -> None:
        """Hold positions, orders and figures of session and journal to the account."""
        bench, journal = self.bench, self.bench.journal
        lots = [msgspec.json.decode(row.data, type=Position) for row in self._rows("position")]
        assert {lot.id for lot in lots} == set(self.net)
        closed = [lot for lot in lots if lot.closed_at_ms or lot.id not in bench.session.positions]
        for lot in lots:
            assert lot.direction.sign * Fraction(lot.quantity) == self.net[lot.id], lot
        for lot in closed:
            assert self.net[lot.id] == 0
            assert Fraction(lot.pnl) == self.cash[lot.id], lot
        held_now = {lot.id: lot for lot in lots if lot not in closed}
        assert held_now == bench.session.positions
        for row in self._rows("order"):
            order = msgspec.json.decode(row.data, type=Order)
            assert Fraction(order.filled) == self.filled.get(order.id, Fraction(0)), order
        assert {row.key for row in self._rows("fill")} == set(self.booked)
        tally = bench.session.brain.tally
        assert (tally.fills, tally.trades) == (len(self.booked), len(closed))
        assert Fraction(tally.pnl) == sum((self.cash[lot.id] for lot in closed), Fraction(0))
        assert len({event.data for event in journal.events if event.name == "order_filled"}) == len(self.booked)

    def _rows(self, entity: str) -> list[Any]:
        return [row for (name, _), row in self.bench.journal.rows.items() if name == entity]

    def _state(self) -> Any:
        session = self.bench.session
        return dict(session.positions), session.brain.tally, len(self._rows("fill"))

    def _picked(self, pick: int) -> Order:
        """Return one of all orders there have ever been, the newest ones as likely as all before them."""
        placed = self.bench.placed
        number = len(placed) - 1 - pick % 2 if pick % 3 else pick
        placed_order = placed[number % len(placed)]
        return self._known(placed_order.client_order_id)

    def _order_of(self, fill: Fill) -> Order:
        return self._known(fill.client_order_id)

    def _known(self, client_id: str) -> Order:
        order = self.bench.session.orders.get(client_id)
        if order is not None:
            return order
        found = [msgspec.json.decode(row.data, type=Order) for row in self._rows("order")]
        return next(order for order in found if order.client_order_id == client_id)


def _bench() -> Bench:
    _wishes.clear()
    return make_bench(_TEMPLATE, strategy=make_strategy(make_definition(capital=CAPITAL)))


TARGET: Final = Target(name="fills", make=make, check=check)
