"""A gateway sends what leads out before what leads in, tells what became of it, and loses nothing on the way."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest
import trio
from attrs import define, field
from trio.testing import wait_all_tasks_blocked

import actors.gateway as gateway_module
from actors.actor import OrderNews
from actors.gateway import ENTRIES_AT_ONCE, REQUESTS_AT_ONCE, Gateway
from pipaid.engine.quotes import Quotes
from pipaid.engine.risk import Approved
from pipaid.model.order import Execution, FundingPaid, Order, OrderFact, Side
from pipaid.model.stray import Stray, StrayKind
from pipaid.storage.store import Committed
from pipaid.venues.simulated import CAPABILITIES
from pipaid.venues.venue import Outcome, Reconnected, Refused
from pipaid.wire.activity import Activity
from tests.actors.controls import SetClock
from tests.actors.desks import EXPIRING, PROOF, SILENCE, Box, HandDesk, approved, leaving
from tests.builders import START_MS, STRATEGY_ID, SYMBOL, execution, make_fill, make_order

pytestmark = pytest.mark.usefixtures("logged")


@define(eq=False)
class Post:
    """A gateway between a desk and two strategies."""

    activity: Activity = field(factory=Activity)
    boxes: dict[str, Box] = field(factory=lambda: {name: Box(name) for name in (STRATEGY_ID, "strat_2")})
    lots: dict[str, str] = field(factory=dict[str, str])
    owners: dict[str, str] = field(factory=dict[str, str])
    doubts: dict[str, int] = field(factory=dict[str, int])
    strays: list[Stray] = field(factory=list[Stray])
    ended: list[str] = field(factory=list[str])
    interruptions: list[int] = field(factory=list[int])
    clock: SetClock = field(factory=SetClock)
    desk: HandDesk = field(init=False)
    gateway: Gateway = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.desk = HandDesk(self.activity)
        self.gateway = Gateway(
            name="paper",
            dry=True,
            desk=self.desk,
            quotes=Quotes(now_ms=START_MS),
            clock=self.clock,
            activity=self.activity,
            inbox=lambda strategy_id: self.boxes.get(strategy_id),
            owner_of_order=self.owners.get,
            owner_of_position=self.lots.get,
            doubt=self.doubt,
            reconnected=lambda: self.interruptions.append(len(self.heard)),
            ended=self.ended.append,
            stray=self.strays.append,
        )

    def doubt(self, order: Order, expires_at_ms: int) -> None:
        self.doubts[order.client_order_id] = expires_at_ms

    def know(self, order: Order) -> Order:
        self.owners[order.client_order_id] = order.strategy_id
        return order

    def send(self, *orders: Approved) -> None:
        for each in orders:
            self.gateway.send(each, PROOF, self.clock.monotonic_s())

    @property
    def heard(self) -> list[str]:
        return self.boxes[STRATEGY_ID].heard

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.gateway.run)
            yield
            await self.quiet()
            nursery.cancel_scope.cancel()

    async def quiet(self) -> None:
        with trio.fail_after(10):
            await self.activity.idle()


def filled(order: Order, fact: OrderFact = OrderFact.COMPLETE) -> Execution:
    fill = make_fill(order)
    return Execution(client_order_id=order.client_order_id, fact=fact, time_ms=START_MS, fill=fill)


async def test_cancellations_go_first_then_exits_then_entries() -> None:
    post = Post()
    post.send(approved(1), leaving(2), approved(3), leaving(4))
    post.gateway.cancel(make_order(9), PROOF)
    post.gateway.cancel(make_order(8), PROOF)
    async with post.running():
        await post.quiet()

    assert post.desk.calls == ["-pp0009", "-pp0008", "pp0002", "pp0004", "pp0001", "pp0003"]


async def test_after_each_start_entries_wait_until_the_desk_is_reconciled() -> None:
    post = Post()
    post.gateway.awaits_reconciliation = True
    post.send(approved(1), leaving(2))
    async with post.running():
        await trio.testing.wait_all_tasks_blocked()
        before = list(post.desk.calls)
        post.gateway.let_enter()
    post.send(approved(3))
    post.gateway.stopped = "killed"
    async with post.running():
        await post.quiet()

    assert (before, post.desk.calls) == (["pp0002"], ["pp0002", "pp0001"])
    assert post.heard[-1] == "pp0003 refuse"


async def test_what_comes_during_a_call_takes_its_place_by_rank() -> None:
    post = Post()
    post.desk.gate = trio.Event()
    async with post.running():
        post.send(approved(1), approved(2))
        await wait_all_tasks_blocked()
        post.send(leaving(3))
        post.gateway.cancel(make_order(4), PROOF)
        post.desk.gate.set()
        await post.quiet()

    assert post.desk.calls == ["pp0001", "-pp0004", "pp0003", "pp0002"]


def slow_post() -> Post:
    """Return a gateway whose desk is waited for."""
    post = Post()
    post.desk.capabilities = EXPIRING
    post.desk.gate = trio.Event()
    return post


async def test_an_answer_that_stays_away_holds_nobody_else_up() -> None:
    post = slow_post()
    async with post.running():
        post.send(approved(1, position_id="pos_1"))
        await wait_all_tasks_blocked()
        post.send(leaving(2, position_id="pos_2"), approved(3, position_id="pos_3"))
        post.gateway.cancel(make_order(4, position_id="pos_4"), PROOF)
        await wait_all_tasks_blocked()

        assert sorted(post.desk.calls) == ["-pp0004", "pp0001", "pp0002", "pp0003"]
        post.desk.gate.set()


async def test_of_one_lot_one_request_is_under_way_at_a_time() -> None:
    post = slow_post()
    async with post.running():
        post.send(approved(1, position_id="pos_1"))
        await wait_all_tasks_blocked()
        # Asked about an order that has not come yet, a venue would know nothing, and take it afterwards.
        post.gateway.cancel(make_order(1, position_id="pos_1"), PROOF)
        post.send(leaving(2, position_id="pos_1"))
        await wait_all_tasks_blocked()
        assert post.desk.calls == ["pp0001"]

        post.desk.gate.set()
        await post.quiet()
        assert post.desk.calls == ["pp0001", "-pp0001", "pp0002"]


async def test_however_many_entries_hang_there_is_a_way_out() -> None:
    post = slow_post()
    async with post.running():
        post.send(*(approved(number, position_id=f"pos_{number}") for number in range(1, 101)))
        await wait_all_tasks_blocked()
        assert len(post.desk.calls) == ENTRIES_AT_ONCE

        post.send(*(leaving(number, position_id=f"pos_{number}") for number in range(201, 301)))
        await wait_all_tasks_blocked()
        assert len(post.desk.calls) == REQUESTS_AT_ONCE
        assert post.desk.calls[ENTRIES_AT_ONCE:] == ["pp0201", "pp0202", "pp0203", "pp0204"]

        post.desk.gate.set()
        await post.quiet()
        assert len(set(post.desk.calls)) == len(post.desk.calls) == 200


async def test_an_order_whose_cancellation_overtakes_it_is_never_sent() -> None:
    post = Post()
    post.desk.gate = trio.Event()
    async with post.running():
        post.send(approved(1), approved(2), leaving(3))
        await wait_all_tasks_blocked()
        post.gateway.cancel(make_order(2), PROOF)
        post.desk.gate.set()
        await post.quiet()

    assert post.desk.calls == ["pp0003", "pp0001"]
    assert post.heard == ["pp0003 ack", "pp0001 ack", "pp0002 refuse"]
    (news,) = post.boxes[STRATEGY_ID].letters
    assert isinstance(news, OrderNews)
    assert news.facts[2][2] == "never sent: withdrawn before its turn came"


async def test_the_kill_switch_refuses_waiting_entries_with_proof_and_lets_exits_through() -> None:
    post = Post()
    post.desk.gate = trio.Event()
    async with post.running():
        post.send(leaving(1), approved(2), leaving(3), approved(4))
        await wait_all_tasks_blocked()
        post.gateway.stopped = "kill switch: drill"
        post.desk.gate.set()
        await post.quiet()
        assert (post.gateway.sent, post.gateway.waiting) == (2, 0)

    assert post.desk.calls == ["pp0001", "pp0003"]
    assert post.heard == ["pp0001 ack", "pp0003 ack", "pp0002 refuse", "pp0004 refuse"]
    assert not any(post.gateway.carries(f"pp000{number}") for number in range(1, 5))


async def test_news_of_one_round_are_one_letter_a_strategy() -> None:
    post = Post()
    post.send(approved(1), approved(2, strategy_id="strat_2"), approved(3))
    async with post.running():
        await post.quiet()

    assert [len(box.letters) for box in post.boxes.values()] == [1, 1]
    assert post.heard == ["pp0001 ack", "pp0003 ack"]


async def test_a_round_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "NEWS_MAX", 2)
    post = Post()
    post.send(*(approved(number) for number in range(5)))
    async with post.running():
        await post.quiet()

    letters = post.boxes[STRATEGY_ID].letters
    assert [len(letter.facts) for letter in letters if isinstance(letter, OrderNews)] == [2, 2, 1]


async def test_an_unknown_outcome_is_doubt_and_never_a_refusal() -> None:
    post = Post()
    post.desk.place_with = lambda _: SILENCE
    post.send(approved(1))
    async with post.running():
        await post.quiet()

    assert post.heard == ["pp0001 lose"]
    assert post.doubts == {"pp0001": START_MS + 5_000}


async def test_a_refusal_is_told_with_its_proof() -> None:
    post = Post()
    post.desk.place_with = lambda _: Refused("-2010 insufficient balance")
    post.send(approved(1))
    async with post.running():
        await post.quiet()

    (news,) = post.boxes[STRATEGY_ID].letters
    assert news == OrderNews((("pp0001", OrderFact.REFUSE, "-2010 insufficient balance"),))
    assert post.doubts == {}


async def test_a_call_that_raises_leaves_doubt_and_the_next_life_sends_the_rest() -> None:
    post = Post()

    def break_down(order: Order) -> Outcome:
        if order.client_order_id == "pp0002":
            raise ValueError("an answer that nobody can read")
        return SILENCE

    post.desk.place_with = break_down
    post.send(approved(1), approved(2), approved(3))
    with pytest.RaisesGroup(ValueError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(post.gateway.run)
    assert post.heard == ["pp0001 lose"]
    assert post.activity.count == 1

    async with post.running():
        await post.quiet()

    assert post.desk.calls == ["pp0001", "pp0002", "pp0003"]
    assert post.doubts.keys() == {"pp0001", "pp0002", "pp0003"}


async def test_a_call_that_is_cancelled_leaves_doubt() -> None:
    post = Post()
    post.desk.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(post.gateway.run)
        post.send(approved(1))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert post.doubts.keys() == {"pp0001"}
    assert post.activity.count == 0


async def test_a_cancellation_that_is_cut_short_leaves_doubt() -> None:
    post = Post()
    post.desk.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(post.gateway.run)
        post.gateway.cancel(make_order(1), PROOF)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert post.doubts.keys() == {"pp0001"}
    assert post.activity.count == 0


@pytest.mark.parametrize("answer", [Refused("-2011 unknown order sent"), SILENCE])
async def test_a_cancellation_that_is_not_taken_says_nothing_of_the_order_and_the_venue_is_asked(
    answer: Outcome,
) -> None:
    post = Post()
    post.desk.cancel_with = lambda _: answer
    async with post.running():
        post.gateway.cancel(make_order(1), PROOF)
        await post.quiet()

    assert (post.heard, list(post.doubts)) == ([], ["pp0001"])


async def test_a_desk_that_acts_in_the_call_has_told_the_end_of_what_it_does_not_cancel() -> None:
    post = Post()
    post.desk.capabilities = CAPABILITIES
    post.desk.cancel_with = lambda _: Refused("it is not working")
    async with post.running():
        post.gateway.cancel(make_order(1), PROOF)
        await post.quiet()

    assert (post.heard, post.doubts) == ([], {})


async def test_an_order_is_carried_until_its_answer_is_there_and_so_is_its_cancellation() -> None:
    post = Post()
    post.desk.gate = trio.Event()
    async with post.running():
        post.send(approved(1), approved(2))
        await wait_all_tasks_blocked()
        post.gateway.cancel(make_order(3), PROOF)
        assert all(post.gateway.carries(f"pp000{number}") for number in (1, 2, 3))
        post.desk.gate.set()
        await post.quiet()

    assert not any(post.gateway.carries(f"pp000{number}") for number in (1, 2, 3))


async def test_executions_find_the_strategy_whose_mark_the_order_bears_however_late_they_come() -> None:
    post = Post()
    order = post.know(make_order(1))
    async with post.running():
        post.desk.report(filled(order, OrderFact.FILL))
        post.desk.report(filled(order))
        post.desk.report(Execution(client_order_id=order.client_order_id, fact=OrderFact.CANCEL, time_ms=START_MS))
        post.desk.report(filled(order))
        await post.quiet()

    assert post.heard == ["pp0001 fill! 1", "pp0001 complete! 1", "pp0001 cancel!", "pp0001 complete! 1"]
    assert (post.strays, post.ended) == ([], ["pp0001"])


async def test_what_nobody_owns_is_put_aside_and_says_why() -> None:
    post = Post()
    paid = FundingPaid(id="f1", position_id="pos_9", symbol=SYMBOL, amount=Decimal("-0.3"), time_ms=START_MS)
    async with post.running():
        post.desk.report(filled(make_order(7, side=Side.SELL)))
        post.desk.report(filled(post.know(make_order(8, strategy_id="strat_gone"))))
        post.desk.report(paid)
        post.desk.report(Execution(client_order_id="pp0009", fact=OrderFact.CANCEL, time_ms=START_MS))
        await post.quiet()

    assert [(stray.kind, stray.quantity, stray.strategy_id, stray.reason) for stray in post.strays] == [
        (StrayKind.FILL, Decimal(-1), "", "neither an order nor a lot of ours"),
        (StrayKind.FILL, Decimal(1), "strat_gone", "its strategy does not run"),
        (StrayKind.FUNDING, Decimal("-0.3"), "", "neither an order nor a lot of ours"),
    ]


async def test_what_the_venue_does_by_itself_finds_its_owner_by_the_lot() -> None:
    post = Post()
    post.lots["pos_1"] = "strat_2"
    closing = make_fill(make_order(1), client_order_id="autoclose-1")
    paid = FundingPaid(id="f1", position_id="pos_1", symbol="BTCUSDT", amount=closing.fee, time_ms=START_MS)
    async with post.running():
        post.desk.report(execution(closing, "pos_1"))
        post.desk.report(paid)
        await post.quiet()

    assert post.boxes["strat_2"].heard == ["autoclose-1 fill! 1", "pos_1 paid"]


async def test_an_interruption_of_the_stream_is_told_in_its_place() -> None:
    post = Post()
    post.know(make_order(1))
    async with post.running():
        post.desk.report(filled(make_order(1), OrderFact.FILL))
        post.desk.report(Reconnected("the line was dead"))
        post.desk.report(filled(make_order(1)))
        await post.quiet()

    assert (post.interruptions, len(post.heard)) == ([1], 2)


# Strategies without room.


async def test_a_strategy_without_room_delays_nobody_and_loses_nothing() -> None:
    post = Post()
    post.boxes[STRATEGY_ID].room = trio.Event()
    post.know(make_order(1))
    async with post.running():
        post.desk.report(filled(make_order(1), OrderFact.FILL))
        post.send(approved(1), approved(2, strategy_id="strat_2"))
        post.desk.report(filled(post.know(make_order(3, strategy_id="strat_2"))))
        post.desk.report(filled(make_order(1)))
        await wait_all_tasks_blocked()
        assert sorted(post.boxes["strat_2"].heard) == ["pp0002 ack", "pp0003 complete! 1"]
        assert (post.heard, post.gateway.delivery.late, post.activity.count) == ([], 3, 3)

        post.boxes[STRATEGY_ID].room.set()
        await post.quiet()

    assert sorted(post.heard) == ["pp0001 ack", "pp0001 complete! 1", "pp0001 fill! 1"]
    assert post.heard.index("pp0001 fill! 1") < post.heard.index("pp0001 complete! 1")


async def test_what_waits_for_room_waits_over_a_restart_of_the_gateway() -> None:
    post = Post()
    box = post.boxes[STRATEGY_ID]
    box.room = trio.Event()
    post.know(make_order(1))
    async with trio.open_nursery() as nursery:
        await nursery.start(post.gateway.run)
        post.desk.report(filled(make_order(1)))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert (box.letters, post.activity.count) == ([], 1)

    async with post.running():
        await wait_all_tasks_blocked()
        box.room.set()
        await post.quiet()

    assert post.heard == ["pp0001 complete! 1"]


async def test_more_than_may_wait_is_dropped_and_the_venue_is_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "LATE_MAX", 2)
    post = Post()
    post.boxes[STRATEGY_ID].room = trio.Event()
    post.know(make_order(1))
    async with post.running():
        for _ in range(3):
            post.desk.report(filled(make_order(1), OrderFact.FILL))
        await wait_all_tasks_blocked()
        assert (post.gateway.delivery.dropped, len(post.interruptions)) == (1, 1)
        post.boxes[STRATEGY_ID].room.set()
        await post.quiet()

    assert len(post.heard) == 2


async def test_what_waits_for_a_strategy_that_is_dismissed_is_put_aside() -> None:
    post = Post()
    box = post.boxes[STRATEGY_ID]
    box.room = trio.Event()
    post.know(make_order(1))
    async with post.running():
        post.desk.report(filled(make_order(1), OrderFact.FILL))
        post.desk.report(filled(make_order(1)))
        await wait_all_tasks_blocked()
        del post.boxes[STRATEGY_ID]
        box.room.set()
        await post.quiet()

    assert (len(box.letters), len(post.strays)) == (1, 1)


async def test_nothing_is_sent_without_the_proof_of_a_commit() -> None:
    post = Post()
    with pytest.raises(AssertionError):
        post.gateway.send(approved(1), Committed(n=0, events=()), 0.0)

    assert post.gateway.waiting == 0
