"""The desk of the simulated venue: client ids, updates in order that count as activity, no memory of its own."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from pipaid.engine.matching import MatchingBook, Report, Terms
from pipaid.model.order import Execution, FundingPaid, Order, OrderFact, OrderType, Side
from pipaid.venues.simulated import ENDED_KEPT, FILLS_KEPT, SimulatedDesk
from pipaid.venues.venue import (
    Closed,
    Confirmed,
    Desk,
    Funding,
    Opened,
    OrderView,
    Outcome,
    Ranged,
    Reconnected,
    Refused,
    Unknown,
)
from pipaid.wire.activity import Activity
from tests.engine.paper import INSTRUMENT, SYMBOL, Journal, make_candle, make_exit, make_order, make_trade

D = Decimal


def make_desk(**terms: Decimal) -> SimulatedDesk:
    return SimulatedDesk(MatchingBook({SYMBOL: INSTRUMENT}, Terms(**terms)), Activity())


async def placed(desk: SimulatedDesk, *orders: Order) -> list[Any]:
    return [await desk.place(order, expires_at_ms=0) for order in orders]


def play(desk: SimulatedDesk, index: int, prices: str, volume: str = "10") -> None:
    candle = make_candle(index, prices, volume)
    desk.on_market(Opened(candle.open_time_ms, {SYMBOL: candle.open}))
    desk.on_market(Ranged(candle.open_time_ms, (candle,)))
    desk.on_market(Closed(candle.close_time_ms, (candle,)))


async def taken(desk: SimulatedDesk) -> list[Report]:
    """Take what waits, and deal with it."""
    updates = desk.updates()
    reports = [each for _ in range(desk.waiting) if not isinstance(each := await updates.__anext__(), Reconnected)]
    desk.activity.end(len(reports))
    return reports


async def test_the_desk_keeps_the_protocol() -> None:
    desk: Desk = make_desk()

    assert desk.capabilities.lookup_by_client_id
    assert len("autoclose-pos_0123456789ab") <= desk.capabilities.max_id_len


async def test_an_order_is_confirmed_filled_and_told_of() -> None:
    desk = make_desk()

    assert await placed(desk, make_order(1)) == [Confirmed()]
    play(desk, 0, "100 100 100 100")

    (report,) = await taken(desk)
    assert isinstance(report, Execution)
    assert (report.client_order_id, report.fact) == ("pp0001", OrderFact.COMPLETE)
    assert await desk.positions() == {SYMBOL: D(1)}


@pytest.mark.parametrize(
    ("unique", "while_working", "when_ended", "bought"),
    [("forever", Unknown, Unknown, 1), ("open", Unknown, Confirmed, 2), ("none", Confirmed, Confirmed, 3)],
)
async def test_a_client_id_may_be_used_again_as_the_venue_has_it(
    unique: Any, while_working: type[Outcome], when_ended: type[Outcome], bought: int
) -> None:
    desk = make_desk()
    desk.capabilities = msgspec.structs.replace(desk.capabilities, id_unique=unique)
    order = make_order(1)

    outcomes = await placed(desk, order, order)
    play(desk, 0, "100 100 100 100")
    outcomes += await placed(desk, order)
    play(desk, 1, "100 100 100 100")

    assert [type(each) for each in outcomes] == [Confirmed, while_working, when_ended]
    assert sum(desk.book.net().values()) == bought
    assert {each.client_order_id for each in await taken(desk) if isinstance(each, Execution)} == {"pp0001"}


async def test_an_expired_request_is_refused_where_requests_expire() -> None:
    desk = make_desk()
    desk.capabilities = msgspec.structs.replace(desk.capabilities, request_expiry=True)
    play(desk, 0, "100 100 100 100")

    assert isinstance(await desk.place(make_order(1), expires_at_ms=desk.now_ms), Confirmed)
    assert isinstance(await desk.place(make_order(2), expires_at_ms=desk.now_ms - 1), Refused)


async def test_what_the_filters_forbid_is_refused_with_its_proof() -> None:
    desk = make_desk()

    (outcome,) = await placed(desk, make_order(1, quantity=D("0.0001")))

    assert isinstance(outcome, Refused)
    assert outcome.proof.startswith("LOT_SIZE")
    assert await desk.lookup(make_order(1)) is None


async def test_a_cancellation_is_told_by_an_execution_and_a_second_one_is_refused() -> None:
    desk = make_desk()
    order = make_order(1, type=OrderType.LIMIT, price=D(90))
    await placed(desk, order)

    assert await desk.cancel(order) == Confirmed()
    assert isinstance(await desk.cancel(order), Refused)

    (report,) = await taken(desk)
    assert isinstance(report, Execution)
    assert report.fact is OrderFact.CANCEL


async def test_lookup_tells_how_far_an_order_is_while_it_works_and_after() -> None:
    desk = make_desk(fill_ratio_max=D("0.05"))
    order = make_order(1, type=OrderType.LIMIT, price=D(99))
    await placed(desk, order)
    views: list[OrderView | None] = []

    for index in range(4):
        views.append(await desk.lookup(order))
        play(desk, index, "100 100 98 98", volume="8")

    assert [(view.fact, view.filled, len(view.fills)) for view in views if view is not None] == [
        (OrderFact.ACK, D(0), 0),
        (OrderFact.FILL, D("0.4"), 1),
        (OrderFact.FILL, D("0.8"), 2),
        (OrderFact.COMPLETE, D(1), 3),
    ]
    fills = await desk.fills_since(make_candle(1, "1 1 1 1").open_time_ms)
    assert [fill.quantity for fill in fills] == [D("0.4"), D("0.2")]


async def test_updates_come_in_order_to_a_reader_that_waits_and_count_as_activity() -> None:
    desk = make_desk()
    seen: list[str] = []

    async def read() -> None:
        async for update in desk.updates():
            assert isinstance(update, Execution)
            seen.append(f"{update.client_order_id} {update.fact}")
            desk.activity.end()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        await placed(desk, make_order(1))
        play(desk, 0, "100 100 100 100")
        assert desk.activity.count == 1
        await placed(desk, *(make_exit(n, 1, type=kind, price=D(98)) for n, kind in ((2, "stop"), (3, "limit"))))
        play(desk, 1, "98 99 97 98")
        assert desk.activity.count == 2
        await desk.activity.idle()
        assert seen == ["pp0001 complete", "pp0002 complete", "pp0003 expire"]
        nursery.cancel_scope.cancel()


async def test_funding_and_trades_reach_the_book() -> None:
    desk = make_desk()
    await placed(desk, make_order(1, side=Side.SELL))
    desk.on_market(make_trade(0, "100"))
    desk.on_market(Funding(make_trade(9, "1").time_ms, SYMBOL, D("0.0001"), D(100)))

    filled, paid = await taken(desk)

    assert isinstance(filled, Execution)
    assert filled.fact is OrderFact.COMPLETE
    assert isinstance(paid, FundingPaid)
    assert paid.amount == D("0.01")


async def test_a_restored_desk_knows_what_the_journal_knew() -> None:
    before, journal = make_desk(), Journal()
    entry, stop = make_order(1), make_exit(2, 1, type=OrderType.STOP, price=D(95))
    journal.orders |= {order.client_order_id: order for order in (entry, stop)}
    await placed(before, entry)
    play(before, 0, "100 100 100 100")
    journal.book(list(await taken(before)))
    await placed(before, stop)
    after = make_desk()

    now_ms = make_candle(1, "1 1 1 1").open_time_ms
    after.restore(journal.working(), journal.positions.values(), {SYMBOL: D(100)}, now_ms)

    assert await after.positions() == await before.positions() == {SYMBOL: D(1)}
    assert await after.open_orders() == await before.open_orders()
    play(before, 1, "100 100 94 94")
    play(after, 1, "100 100 94 94")
    assert await taken(after) == await taken(before)


async def test_a_restored_desk_tells_the_end_of_what_lost_its_lot() -> None:
    desk = make_desk()

    desk.restore([make_exit(2, 1)], [], {}, 7)

    (report,) = await taken(desk)
    assert isinstance(report, Execution)
    assert (report.client_order_id, report.fact, report.time_ms) == ("pp0002", OrderFact.EXPIRE, 7)


async def test_what_ended_is_remembered_within_bounds() -> None:
    desk = make_desk()
    order = make_order(1, type=OrderType.LIMIT, price=D(90))
    for number in range(ENDED_KEPT + 1):
        numbered = msgspec.structs.replace(order, client_order_id=f"n{number}")
        await placed(desk, numbered)
        await desk.cancel(numbered)

    assert await desk.lookup(msgspec.structs.replace(order, client_order_id="n0")) is None
    assert await desk.lookup(msgspec.structs.replace(order, client_order_id="n1")) is not None


async def test_fills_are_remembered_within_bounds() -> None:
    desk = make_desk()
    for number in range(FILLS_KEPT + 1):
        await placed(desk, make_order(number + 1))
    desk.on_market(make_trade(0, "100"))

    assert len(await desk.fills_since(0)) == FILLS_KEPT


async def test_a_place_that_is_cancelled_before_its_turn_changes_nothing() -> None:
    desk = make_desk()
    with trio.CancelScope() as scope:
        scope.cancel()
        await desk.place(make_order(1), expires_at_ms=0)
        pytest.fail("a cancelled call went on")

    assert scope.cancelled_caught
    assert await desk.open_orders() == []
