"""A resolver ends doubt by evidence only, adopts what turns up late, and freezes what the books cannot explain."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

import actors.resolver as resolver_module
from actors.resolver import Resolver
from pipaid.engine.quotes import Quotes
from pipaid.errors import Unavailable
from pipaid.model.order import BookedFill, Fill, Order, OrderFact, OrderStatus
from pipaid.model.position import Direction, Position
from pipaid.venues.simulated import CAPABILITIES
from pipaid.venues.venue import OrderView
from pipaid.wire.activity import Activity
from tests.actors.desks import Box, HandDesk, LossyDesk
from tests.actors.homes import TrioClock, at_home
from tests.builders import (
    OTHER,
    START_MS,
    STRATEGY_ID,
    SYMBOL,
    enter,
    limit,
    make_fill,
    make_order,
    make_position,
    plan,
    scripted,
)

pytestmark = pytest.mark.usefixtures("logged")

EXPIRES_MS = START_MS + 5_000


@define(eq=False)
class Bureau:
    """A resolver between a desk and a strategy."""

    quotes: Quotes = field(factory=lambda: Quotes(now_ms=START_MS))
    box: Box = field(factory=lambda: Box(STRATEGY_ID))
    lots: list[Position] = field(factory=list[Position])
    over: list[str] = field(factory=list[str])
    desk: HandDesk = field(factory=lambda: HandDesk(Activity()))
    resolver: Resolver = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.resolver = Resolver(
            name="paper",
            desk=self.desk,
            quotes=self.quotes,
            clock=TrioClock(),
            activity=Activity(),
            inbox=lambda strategy_id: self.box if strategy_id == STRATEGY_ID else None,
            lots=lambda: self.lots,
            ended=self.over.append,
        )

    def show(self, order: Order, fact: OrderFact, *fills: Fill, filled: str | None = None) -> None:
        """Have the venue know an order."""
        total = sum((fill.quantity for fill in fills), Decimal(0)) if filled is None else Decimal(filled)
        self.desk.shown[order.client_order_id] = OrderView(
            client_order_id=order.client_order_id, symbol=order.symbol, fact=fact, filled=total, fills=fills
        )

    def later(self, ms: int) -> None:
        self.quotes.now_ms = START_MS + ms


def part(order: Order, number: int, quantity: str) -> Fill:
    return make_fill(order, id=f"f{number}", quantity=Decimal(quantity))


# Doubt.


async def test_a_denial_counts_only_when_the_request_can_no_longer_be_accepted() -> None:
    bureau = Bureau()
    bureau.resolver.doubt(make_order(), EXPIRES_MS)
    for ms in (0, 4_999, 5_000, 6_000):
        bureau.later(ms)
        await bureau.resolver._ask()
    assert (bureau.box.letters, len(bureau.resolver.doubts)) == ([], 1)

    bureau.later(6_001)
    await bureau.resolver._ask()

    assert bureau.box.heard == ["pp0001 deny"]
    assert (bureau.resolver.doubts, bureau.over) == ({}, ["pp0001"])
    assert bureau.resolver.tombstones.keys() == {"pp0001"}


async def test_the_fence_is_judged_before_the_question() -> None:
    bureau = Bureau()
    bureau.resolver.doubt(make_order(), EXPIRES_MS)
    bureau.desk.meanwhile = lambda: bureau.later(7_000)
    await bureau.resolver._ask()
    assert bureau.box.letters == []

    await bureau.resolver._ask()
    assert bureau.box.heard == ["pp0001 deny"]


async def test_a_desk_whose_requests_never_linger_is_believed_at_once() -> None:
    bureau = Bureau(desk=HandDesk(Activity(), capabilities=CAPABILITIES))
    bureau.resolver.doubt(make_order(), EXPIRES_MS)
    await bureau.resolver._ask()

    assert bureau.box.heard == ["pp0001 deny"]


async def test_silence_of_the_venue_is_no_denial() -> None:
    bureau = Bureau()
    bureau.resolver.doubt(make_order(), EXPIRES_MS)
    bureau.later(60_000)
    bureau.desk.outage = Unavailable("the line is dead")
    await bureau.resolver._ask()

    assert (bureau.box.letters, len(bureau.resolver.doubts)) == ([], 1)


async def test_what_is_found_working_is_acknowledged_before_any_fence() -> None:
    bureau = Bureau()
    order = make_order()
    bureau.resolver.doubt(order, EXPIRES_MS)
    bureau.show(order, OrderFact.ACK)
    await bureau.resolver._ask()

    assert bureau.box.heard == ["pp0001 ack"]
    assert (bureau.resolver.doubts, bureau.over) == ({}, [])


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        (OrderFact.FILL, ["pp0001 fill! 0.4", "pp0001 fill! 0.1"]),
        (OrderFact.CANCEL, ["pp0001 fill! 0.4", "pp0001 fill! 0.1", "pp0001 cancel"]),
        (OrderFact.EXPIRE, ["pp0001 fill! 0.4", "pp0001 fill! 0.1", "pp0001 expire"]),
    ],
)
async def test_what_is_found_filled_is_told_fill_by_fill(fact: OrderFact, expected: list[str]) -> None:
    bureau = Bureau()
    order = make_order()
    bureau.resolver.doubt(order, EXPIRES_MS)
    bureau.show(order, fact, part(order, 1, "0.4"), part(order, 2, "0.1"))
    await bureau.resolver._ask()

    assert bureau.box.heard == expected
    assert bureau.over == ([] if fact is OrderFact.FILL else ["pp0001"])


async def test_fills_that_the_order_has_are_not_told_again() -> None:
    bureau = Bureau()
    order = make_order(filled=Decimal("0.4"), status=OrderStatus.OPEN)
    bureau.show(order, OrderFact.COMPLETE, part(order, 1, "0.4"), part(order, 2, "0.6"))

    assert await bureau.resolver.reconcile([order]) == 1
    assert bureau.box.heard == ["pp0001 fill! 0.6"]


async def test_a_venue_that_has_forgotten_the_oldest_fills_is_understood() -> None:
    bureau = Bureau()
    order = make_order(filled=Decimal("0.4"), status=OrderStatus.OPEN)
    bureau.show(order, OrderFact.COMPLETE, part(order, 2, "0.3"), part(order, 3, "0.3"), filled="1")

    await bureau.resolver.reconcile([order])

    assert bureau.box.heard == ["pp0001 fill! 0.3", "pp0001 fill! 0.3"]


async def test_the_start_denies_nothing_that_may_still_be_on_its_way() -> None:
    bureau = Bureau()
    assert await bureau.resolver.reconcile([make_order()]) == 0
    assert bureau.resolver.doubts.keys() == {"pp0001"}

    bureau.later(6_001)
    await bureau.resolver._ask()
    assert bureau.box.heard == ["pp0001 deny"]


async def test_an_open_order_that_the_venue_has_forgotten_is_cancelled() -> None:
    bureau = Bureau(desk=HandDesk(Activity(), capabilities=CAPABILITIES))
    await bureau.resolver.reconcile([make_order(status=OrderStatus.OPEN)])

    assert bureau.box.heard == ["pp0001 cancel"]


# What turns up late.


async def test_an_order_proven_absent_that_works_after_all_is_adopted_once() -> None:
    bureau = Bureau()
    order = make_order()
    bureau.resolver.doubt(order, EXPIRES_MS)
    bureau.later(6_001)
    await bureau.resolver._ask()
    bureau.show(order, OrderFact.FILL, part(order, 1, "0.4"))

    await bureau.resolver._look_for_late()
    await bureau.resolver._look_for_late()

    assert bureau.box.heard == ["pp0001 deny", "pp0001 ack!", "pp0001 fill! 0.4"]


async def test_tombstones_last_a_day_and_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver_module, "TOMBSTONES_MAX", 2)
    bureau = Bureau(desk=HandDesk(Activity(), capabilities=CAPABILITIES))
    await bureau.resolver.reconcile([make_order(number) for number in range(4)])
    assert list(bureau.resolver.tombstones) == ["pp0002", "pp0003"]

    bureau.later(86_400_001)
    await bureau.resolver._look_for_late()
    assert not bureau.resolver.tombstones


# Positions.


async def test_what_differs_twice_is_frozen_until_it_agrees_again() -> None:
    bureau = Bureau(lots=[make_position(1), make_position(2, direction=Direction.SHORT, entry_quantity=Decimal("0.4"))])
    resolver, quotes = bureau.resolver, bureau.quotes
    bureau.desk.held = {SYMBOL: Decimal("0.6")}
    await resolver.compare()
    await resolver.compare()
    assert resolver.frozen == frozenset()

    bureau.desk.held = {SYMBOL: Decimal("0.6"), OTHER: Decimal(-2)}
    await resolver.compare()
    assert not quotes.is_frozen("paper", OTHER)
    await resolver.compare()
    assert quotes.is_frozen("paper", OTHER)
    assert not quotes.is_frozen("paper", SYMBOL)
    assert not quotes.is_frozen("simulated", OTHER)
    assert resolver.unassigned == {OTHER: Decimal(-2)}

    bureau.desk.held[OTHER] = Decimal(-1)
    await resolver.compare()
    assert quotes.is_frozen("paper", OTHER)
    del bureau.desk.held[OTHER]
    await resolver.compare()
    assert not quotes.is_frozen("paper", OTHER)


async def test_differences_that_move_are_fills_on_their_way() -> None:
    bureau = Bureau()
    for number in range(10):
        bureau.desk.held = {SYMBOL: Decimal(number)}
        await bureau.resolver.compare()

    assert bureau.resolver.frozen == frozenset()


async def test_the_run_asks_looks_and_compares_and_survives_outages(autojump_clock: MockClock) -> None:
    bureau = Bureau()
    order = make_order()
    bureau.desk.outage = OSError("unreachable")
    bureau.desk.held = {SYMBOL: Decimal(1)}
    bureau.resolver.doubt(order, EXPIRES_MS)
    bureau.resolver.tombstones["pp0002"] = (make_order(2), START_MS + 1_000_000)
    async with trio.open_nursery() as nursery:
        await nursery.start(bureau.resolver.run)
        await trio.sleep(100)
        assert bureau.box.letters == []

        bureau.desk.outage = None
        bureau.show(order, OrderFact.ACK)
        await trio.sleep(1)
        assert bureau.box.heard == ["pp0001 ack"]
        await trio.sleep(100)
        assert bureau.resolver.frozen == {SYMBOL}
        nursery.cancel_scope.cancel()


# All the way through.


def lossy(desks: list[LossyDesk], **fields: Any) -> Any:
    def make(venue: Any) -> LossyDesk:
        desks.append(LossyDesk(venue, **fields))
        return desks[-1]

    return make


async def test_an_entry_whose_answer_was_lost_is_found_and_its_fill_booked_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    desks: list[LossyDesk] = []
    parts = {"make_desk": lossy(desks, default="answer")}
    async with at_home(tmp_path, scripted(on_candle=plan([enter()])), **parts) as home:
        strategy = await home.deploy()
        await home.close()
        (order,) = home.orders(strategy.id)
        assert order.status is OrderStatus.UNKNOWN
        await home.trade()
        assert len(home.lots(strategy.id)) == 1

        await home.resolver._ask()
        await home.settle()
        await home.resolver.reconcile([order])
        await home.resolver.reconcile([order])
        await home.settle()

        assert [booked.order_id for booked in home.stored("fill", BookedFill)] == [order.id]
        assert home.session(strategy.id).brain.tally.fills == 1
        assert home.member(strategy.id).failures.total == 0
        assert home.resolver.doubts == {}


async def test_an_entry_that_never_arrived_is_denied_and_made_good_by_nobody(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    desks: list[LossyDesk] = []
    parts = {"make_desk": lossy(desks, default="request")}
    async with at_home(tmp_path, scripted(on_candle=plan([enter()])), **parts) as home:
        strategy = await home.deploy()
        await home.close()
        (order,) = home.orders(strategy.id)
        await home.resolver._ask()
        await home.settle()
        assert home.orders(strategy.id)[0].status is OrderStatus.UNKNOWN

        await home.close()
        await home.resolver._ask()
        await home.settle()

        assert home.orders(strategy.id) == []
        assert home.stored("order", Order)[0].status is OrderStatus.ABSENT
        assert desks[0].venue.waiting == 0
        assert order.client_order_id not in home.gateway._owners


async def test_an_entry_that_arrives_after_its_denial_is_adopted_and_withdrawn(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    desks: list[LossyDesk] = []
    parts = {"make_desk": lossy(desks, default="late")}
    async with at_home(tmp_path, scripted(on_candle=plan([limit("90")])), **parts) as home:
        strategy = await home.deploy()
        await home.close()
        await home.close()
        await home.resolver._ask()
        await home.settle()
        assert home.orders(strategy.id) == []

        await desks[0].arrive()
        await home.resolver._look_for_late()
        await home.settle()

        assert home.orders(strategy.id) == []
        assert home.stored("order", Order)[0].status is OrderStatus.CANCELLED
        assert await desks[0].open_orders() == []


async def test_an_entry_that_fills_after_its_denial_is_booked(tmp_path: Path, autojump_clock: MockClock) -> None:
    desks: list[LossyDesk] = []
    parts = {"make_desk": lossy(desks, default="late")}
    async with at_home(tmp_path, scripted(on_candle=plan([enter()])), **parts) as home:
        strategy = await home.deploy()
        await home.close()
        await home.close()
        await home.resolver._ask()
        await home.settle()

        await desks[0].arrive()
        await home.trade()

        assert [lot.quantity for lot in home.lots(strategy.id)] == [Decimal(1)]
        assert home.stored("order", Order)[0].status is OrderStatus.FILLED
        assert home.gateway.unassigned == 0


async def test_a_disputed_symbol_takes_no_entries_whatever_the_market_says_until_the_books_agree(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    template = scripted(on_candle=lambda view: [enter()] if not view.positions else [])
    async with at_home(tmp_path, template) as home:
        strategy = await home.deploy()
        alien = make_order(7, strategy_id="somebody else", symbol=SYMBOL)
        await home.venue.place(alien, expires_at_ms=0)
        await home.trade("100")
        await home.resolver.compare()
        await home.resolver.compare()

        await home.trade("100")
        await home.close()
        assert home.orders(strategy.id) == []
        assert home.told(strategy.id)[-1] == "risk_blocked"

        home.venue.forget_lots([alien.position_id])
        await home.resolver.compare()
        await home.close()
        assert len(home.orders(strategy.id)) == 1


async def test_lots_of_a_strategy_that_is_being_mended_are_still_ours(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    wishes = plan([enter()])

    def on_candle(view: Any) -> Any:
        if view.positions:
            raise ValueError("again and again")
        return wishes(view)

    async with at_home(tmp_path, scripted(on_candle=on_candle)) as home:
        await home.deploy()
        await home.close()
        await home.trade()
        await home.end_minute()
        await wait_all_tasks_blocked()
        assert home.roster._late()
        await home.resolver.compare()
        await home.resolver.compare()

        assert home.resolver.frozen == frozenset()
