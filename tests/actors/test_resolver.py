"""A resolver ends doubt by evidence only, whatever the desk is able to show."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

import actors.resolver as resolver_module
from actors.resolver import PATIENCE_S, Resolver
from pipaid.engine.quotes import Quotes
from pipaid.errors import Unavailable
from pipaid.model.order import BookedFill, Fill, Order, OrderFact, OrderStatus, Side
from pipaid.venues.simulated import CAPABILITIES
from pipaid.venues.venue import Confirmed, OrderView, Outcome, Refused
from pipaid.wire.activity import Activity
from tests.actors.desks import EXPIRING, SILENCE, Box, HandDesk, LossyDesk
from tests.actors.homes import TrioClock, at_home
from tests.builders import (
    OTHER,
    START_MS,
    STRATEGY_ID,
    enter,
    limit,
    make_fill,
    make_order,
    plan,
    scripted,
)

pytestmark = pytest.mark.usefixtures("logged")

EXPIRES_MS = START_MS + 5_000


@define(eq=False)
class Bureau:
    """A resolver between a desk and a strategy; `booked` are the fills that the journal has."""

    quotes: Quotes = field(factory=lambda: Quotes(now_ms=START_MS))
    box: Box = field(factory=lambda: Box(STRATEGY_ID))
    booked: set[str] = field(factory=set[str])
    agreeing: bool = True
    desk: HandDesk = field(factory=lambda: HandDesk(Activity()))
    resolver: Resolver = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.resolver = Resolver(
            name="paper",
            desk=self.desk,
            quotes=self.quotes,
            clock=TrioClock(),
            deliver=lambda _, fact: self.box.tell(fact),
            unbooked=self.unbooked,
            agrees=self.agrees,
        )

    async def unbooked(self, fills: Sequence[Fill]) -> list[Fill]:
        await trio.lowlevel.checkpoint()
        return [fill for fill in fills if fill.id not in self.booked]

    async def agrees(self, _: str) -> bool:
        await trio.lowlevel.checkpoint()
        return self.agreeing

    def show(self, order: Order, fact: OrderFact, *fills: Fill, filled: str | None = None) -> None:
        """Have the venue know an order."""
        total = sum((fill.quantity for fill in fills), Decimal(0)) if filled is None else Decimal(filled)
        self.desk.shown[order.client_order_id] = OrderView(
            client_order_id=order.client_order_id, symbol=order.symbol, fact=fact, filled=total, fills=fills
        )

    def later(self, ms: int) -> None:
        self.quotes.now_ms = START_MS + ms


def bureau_of(**can: Any) -> Bureau:
    """Return a bureau whose desk can do this and that; its requests take their time."""
    return Bureau(desk=HandDesk(Activity(), capabilities=msgspec.structs.replace(EXPIRING, **can)))


def part(order: Order, number: int, quantity: str) -> Fill:
    return make_fill(order, id=f"f{number}", quantity=Decimal(quantity))


# Denials.


async def test_a_denial_counts_only_when_the_request_can_no_longer_be_accepted() -> None:
    bureau = Bureau()
    bureau.resolver.doubt(make_order(), EXPIRES_MS)
    for ms in (0, 4_999, 5_000, 6_000):
        bureau.later(ms)
        await bureau.resolver.ask()
    assert (bureau.box.letters, len(bureau.resolver.doubts)) == ([], 1)

    bureau.later(6_001)
    await bureau.resolver.ask()

    assert bureau.box.heard == ["pp0001 deny"]
    assert bureau.resolver.doubts == {}


async def test_the_fence_is_judged_before_the_question() -> None:
    bureau = Bureau()
    bureau.resolver.doubt(make_order(), EXPIRES_MS)
    bureau.desk.meanwhile = lambda: bureau.later(7_000)
    await bureau.resolver.ask()
    assert bureau.box.letters == []

    await bureau.resolver.ask()
    assert bureau.box.heard == ["pp0001 deny"]


async def test_a_denial_by_a_desk_that_acts_in_the_call_is_believed_at_once() -> None:
    bureau = Bureau(desk=HandDesk(Activity(), capabilities=CAPABILITIES))
    bureau.resolver.doubt(make_order(), EXPIRES_MS)
    await bureau.resolver.ask()

    assert bureau.box.heard == ["pp0001 deny"]
    assert bureau.desk.calls == ["?pp0001"]


@pytest.mark.parametrize("answer", [Refused("-2011 unknown order sent"), Confirmed()])
async def test_where_requests_do_not_expire_a_denial_counts_after_long_patience_and_a_recall(
    autojump_clock: MockClock, answer: Outcome
) -> None:
    bureau = bureau_of(request_expiry=False)
    bureau.desk.cancel_with = lambda _: answer
    bureau.resolver.doubt(make_order(), EXPIRES_MS)
    bureau.later(3_600_000)
    await bureau.resolver.ask()
    await trio.sleep(PATIENCE_S)
    await bureau.resolver.ask()
    assert bureau.desk.calls == ["?pp0001", "?pp0001"]

    await trio.sleep(0.1)
    await bureau.resolver.ask()
    assert (bureau.desk.calls[-2:], bureau.box.letters) == (["?pp0001", "-pp0001"], [])
    await bureau.resolver.ask()

    assert (bureau.desk.calls[-1], bureau.box.heard) == ("?pp0001", ["pp0001 deny"])


async def test_a_recall_whose_answer_is_lost_is_made_again(autojump_clock: MockClock) -> None:
    bureau = bureau_of(request_expiry=False)
    bureau.desk.cancel_with = lambda _: SILENCE
    bureau.resolver.doubt(make_order(), EXPIRES_MS)
    await trio.sleep(PATIENCE_S + 1)
    await bureau.resolver.ask()
    await bureau.resolver.ask()

    assert bureau.desk.calls == ["?pp0001", "-pp0001", "?pp0001", "-pp0001"]
    assert bureau.box.letters == []


async def test_what_a_recall_finds_is_adopted(autojump_clock: MockClock) -> None:
    bureau = bureau_of(request_expiry=False)
    order = make_order()
    bureau.resolver.doubt(order, EXPIRES_MS)
    await trio.sleep(PATIENCE_S + 1)
    await bureau.resolver.ask()
    bureau.show(order, OrderFact.CANCEL, part(order, 1, "0.3"))
    await bureau.resolver.ask()

    assert bureau.box.heard == ["pp0001 fill! 0.3", "pp0001 cancel"]


@pytest.mark.parametrize("expiry", [True, False])
async def test_what_the_venue_had_once_needs_no_patience_and_no_recall(expiry: bool) -> None:
    bureau = bureau_of(request_expiry=expiry)
    bureau.resolver.doubt(make_order(status=OrderStatus.OPEN), EXPIRES_MS)
    bureau.later(6_001)
    await bureau.resolver.ask()

    assert (bureau.desk.calls, bureau.box.heard) == (["?pp0001"], ["pp0001 deny"])


async def test_cancelling_again_and_again_does_not_move_the_fence() -> None:
    bureau = Bureau()
    bureau.resolver.doubt(make_order(status=OrderStatus.UNKNOWN), EXPIRES_MS)
    for ms in (1_000, 3_000, 6_001):
        bureau.later(ms)
        bureau.resolver.doubt(make_order(status=OrderStatus.UNKNOWN, cancelling=True), EXPIRES_MS + ms)
    await bureau.resolver.ask()

    assert bureau.box.heard == ["pp0001 deny"]


async def test_silence_of_the_venue_is_no_denial() -> None:
    bureau = Bureau()
    bureau.resolver.doubt(make_order(), EXPIRES_MS)
    bureau.later(60_000)
    bureau.desk.outage = Unavailable("the line is dead")
    await bureau.resolver.ask()

    assert (bureau.box.letters, len(bureau.resolver.doubts)) == ([], 1)


# What is found.


async def test_what_is_found_working_is_acknowledged_before_any_fence() -> None:
    bureau = Bureau()
    order = make_order()
    bureau.resolver.doubt(order, EXPIRES_MS)
    bureau.show(order, OrderFact.ACK)
    await bureau.resolver.ask()

    assert bureau.box.heard == ["pp0001 ack"]
    assert bureau.resolver.doubts == {}


@pytest.mark.parametrize(
    ("fact", "end"),
    [
        (OrderFact.FILL, ["pp0001 ack"]),
        (OrderFact.COMPLETE, []),
        (OrderFact.CANCEL, ["pp0001 cancel"]),
        (OrderFact.EXPIRE, ["pp0001 expire"]),
    ],
)
async def test_what_is_found_filled_is_told_fill_by_fill_and_its_end_last(fact: OrderFact, end: list[str]) -> None:
    bureau = Bureau()
    order = make_order()
    bureau.resolver.doubt(order, EXPIRES_MS)
    bureau.show(order, fact, part(order, 1, "0.4"), part(order, 2, "0.1"))
    await bureau.resolver.ask()

    assert bureau.box.heard == ["pp0001 fill! 0.4", "pp0001 fill! 0.1", *end]


async def test_fills_that_the_journal_has_are_not_told_again() -> None:
    bureau = Bureau(booked={"f1"})
    order = make_order(filled=Decimal("0.4"), status=OrderStatus.OPEN)
    bureau.resolver.doubt(order, EXPIRES_MS)
    bureau.show(order, OrderFact.COMPLETE, part(order, 1, "0.4"), part(order, 2, "0.6"))
    await bureau.resolver.ask()

    assert bureau.box.heard == ["pp0001 fill! 0.6"]


async def test_a_doubt_that_comes_up_while_the_venue_answers_outlives_the_answer() -> None:
    bureau = Bureau()
    order = make_order()
    bureau.resolver.doubt(order, EXPIRES_MS)
    bureau.show(order, OrderFact.ACK)
    bureau.desk.meanwhile = lambda: bureau.resolver.doubt(order, EXPIRES_MS + 1)
    await bureau.resolver.ask()

    assert bureau.resolver.doubts.keys() == {"pp0001"}


async def test_a_full_list_of_doubts_says_so(monkeypatch: pytest.MonkeyPatch, logged: list[Any]) -> None:
    monkeypatch.setattr(resolver_module, "DOUBTS_MAX", 2)
    bureau = Bureau()
    for number in range(3):
        bureau.resolver.doubt(make_order(number), EXPIRES_MS)
    bureau.resolver.doubt(make_order(0), EXPIRES_MS)

    assert (list(bureau.resolver.doubts), bureau.resolver.postponed) == (["pp0000", "pp0001"], 1)
    assert [entry["order_id"] for entry in logged if entry["event"] == "doubt.postponed"] == ["ord_2"]


async def test_many_doubts_are_asked_about_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver_module, "ASKED_AT_ONCE", 2)
    bureau = Bureau()
    for number in range(5):
        bureau.resolver.doubt(make_order(number), EXPIRES_MS)
    for _ in range(5):
        await bureau.resolver.ask()

    assert bureau.desk.calls == [f"?pp000{number}" for number in (*range(5), *range(5))]


async def test_a_venue_that_does_not_answer_is_not_asked_about_everything(logged: list[Any]) -> None:
    bureau = Bureau()
    for number in range(3):
        bureau.resolver.doubt(make_order(number), EXPIRES_MS)
    bureau.desk.outage = OSError("unreachable")
    await bureau.resolver.ask()
    await bureau.resolver.ask()

    assert [entry["order_id"] for entry in logged if entry["event"] == "desk.silent"] == ["ord_0", "ord_1"]
    assert list(bureau.resolver.doubts) == ["pp0002", "pp0000", "pp0001"]


# Desks that cannot look an order up.


async def test_without_lookup_an_open_order_is_found_among_the_open_ones() -> None:
    bureau = bureau_of(lookup_by_client_id=False)
    order = make_order()
    bureau.resolver.doubt(order, EXPIRES_MS)
    bureau.show(order, OrderFact.FILL, part(order, 1, "0.4"))
    await bureau.resolver.ask()

    assert bureau.box.heard == ["pp0001 fill! 0.4", "pp0001 ack"]
    assert bureau.desk.calls == []


@pytest.mark.parametrize(
    ("quantity", "heard"),
    [("0.4", ["pp0001 fill! 0.4", "pp0001 cancel"]), ("1", ["pp0001 fill! 1"]), (None, ["pp0001 deny"])],
)
async def test_without_lookup_what_has_ended_is_read_off_the_fills_once_nothing_more_can_come(
    quantity: str | None, heard: list[str]
) -> None:
    bureau = bureau_of(lookup_by_client_id=False)
    order = make_order()
    bureau.resolver.doubt(order, EXPIRES_MS)
    fills = () if quantity is None else (part(order, 1, quantity),)
    bureau.show(order, OrderFact.CANCEL, *fills)
    await bureau.resolver.ask()
    assert bureau.box.letters == []

    bureau.later(6_001)
    await bureau.resolver.ask()

    assert (bureau.box.heard, bureau.resolver.doubts) == (heard, {})


async def test_without_lookup_and_fills_a_denial_is_believed_only_while_the_positions_agree() -> None:
    bureau = bureau_of(lookup_by_client_id=False, fills_since=False)
    bureau.agreeing = False
    bureau.resolver.doubt(make_order(), EXPIRES_MS)
    bureau.later(6_001)
    await bureau.resolver.ask()
    assert bureau.box.letters == []

    bureau.agreeing = True
    await bureau.resolver.ask()
    assert bureau.box.heard == ["pp0001 deny"]


async def test_without_lookup_and_fills_agreement_proves_nothing_where_two_doubts_may_cancel_out() -> None:
    bureau = bureau_of(lookup_by_client_id=False, fills_since=False)
    bureau.resolver.doubt(make_order(1), EXPIRES_MS)
    bureau.resolver.doubt(make_order(2, side=Side.SELL), EXPIRES_MS)
    bureau.resolver.doubt(make_order(3, symbol=OTHER), EXPIRES_MS)
    bureau.later(6_001)
    await bureau.resolver.ask()

    assert bureau.box.heard == ["pp0003 deny"]


async def test_the_run_asks_and_survives_outages(autojump_clock: MockClock) -> None:
    bureau = Bureau()
    order = make_order()
    bureau.desk.outage = OSError("unreachable")
    bureau.resolver.doubt(order, EXPIRES_MS)
    async with trio.open_nursery() as nursery:
        await nursery.start(bureau.resolver.run)
        await trio.sleep(100)
        assert bureau.box.letters == []

        bureau.desk.outage = None
        bureau.show(order, OrderFact.ACK)
        await trio.sleep(1)
        assert bureau.box.heard == ["pp0001 ack"]
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

        await home.resolver.ask()
        await home.settle()
        await home.auditor.reconcile(frozenset({order.client_order_id}), patience=lambda: None)
        await home.auditor.reconcile(frozenset({order.client_order_id}), patience=lambda: None)
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
        await home.resolver.ask()
        await home.settle()
        assert home.orders(strategy.id)[0].status is OrderStatus.UNKNOWN

        await home.close()
        await home.resolver.ask()
        await home.settle()

        assert home.orders(strategy.id) == []
        assert home.stored("order", Order)[0].status is OrderStatus.ABSENT
        assert desks[0].venue.waiting == 0


async def test_an_entry_that_arrives_after_its_denial_is_adopted_and_withdrawn(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    desks: list[LossyDesk] = []
    parts = {"make_desk": lossy(desks, default="late")}
    async with at_home(tmp_path, scripted(on_candle=plan([limit("90")])), **parts) as home:
        strategy = await home.deploy()
        await home.close()
        await home.close()
        await home.resolver.ask()
        await home.settle()
        assert home.orders(strategy.id) == []

        await desks[0].arrive()
        await home.auditor.compare_orders()
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
        await home.resolver.ask()
        await home.settle()

        await desks[0].arrive()
        await home.trade()

        assert [lot.quantity for lot in home.lots(strategy.id)] == [Decimal(1)]
        assert home.stored("order", Order)[0].status is OrderStatus.FILLED
        assert home.bucket.total == 0
