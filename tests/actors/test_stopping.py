"""Stopping comes first and is journalled second: what rests is taken back whether or not that is durable."""

from __future__ import annotations

from collections.abc import MutableMapping
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actors.gateway as gateway_module
from actors.portfolio import KillState
from pipaid.errors import Unavailable
from pipaid.model.order import Execution, Order, OrderFact, OrderStatus
from pipaid.model.record import Batch
from pipaid.storage.store import JournalLost, JournalTaken
from pipaid.venues.venue import Refused
from tests.actors.desks import PROOF, SILENCE, approved, leaving
from tests.actors.homes import Home, at_home
from tests.actors.test_gateway import Post
from tests.actors.test_portfolio import ENTERING
from tests.actors.test_strategy import Watched
from tests.builders import START_MS, STRATEGY_ID, enter, limit, make_order, plan, scripted

pytestmark = pytest.mark.usefixtures("logged")

Logged = list[MutableMapping[str, Any]]
RESTING = scripted(on_candle=lambda _: [limit("90", tag="one")])


def resting(number: int, **fields: Any) -> Order:
    """Return an entry that works at the desk."""
    return make_order(number, status=OrderStatus.OPEN, **fields)


def stopped(post: Post) -> None:
    """Stop everything."""
    post.owners["pp0001"] = STRATEGY_ID
    post.gateway.stopped = "a drill"


# The gateway.


async def test_nothing_is_taken_back_without_a_commit_unless_everything_is_stopped() -> None:
    post = Post()
    post.owners["pp0001"] = STRATEGY_ID
    async with post.running():
        await post.gateway.withdraw([resting(1)])
        assert post.desk.calls == []

        post.gateway.cancel(resting(1), PROOF)
        await post.quiet()

    assert post.desk.calls == ["-pp0001"]


async def test_entries_that_may_rest_are_taken_back_and_nothing_else_is() -> None:
    post = Post()
    stopped(post)
    post.send(approved(3))
    never_sent = make_order(4)

    await post.gateway.withdraw(
        [resting(1), resting(2, reduce_only=True), make_order(3), never_sent, resting(5, dry_run=False)]
    )

    assert post.desk.calls == ["-pp0001"]


async def test_many_are_taken_back_side_by_side_while_a_call_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "WITHDRAWN_AT_ONCE", 64)
    post = Post()
    async with post.running():
        post.desk.gate = trio.Event()
        post.send(leaving(500))
        await wait_all_tasks_blocked()
        stopped(post)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(post.gateway.withdraw, [resting(number) for number in range(200)])
            await wait_all_tasks_blocked()

            assert post.desk.calls[0] == "pp0500"
            assert len(post.desk.calls) == 1 + 64
            post.desk.gate.set()

    assert sorted(post.desk.calls[1:]) == [f"-pp{number:04d}" for number in range(200)]


async def test_a_cancellation_that_becomes_durable_later_is_not_sent_a_second_time() -> None:
    post = Post()
    stopped(post)
    async with post.running():
        await post.gateway.withdraw([resting(1)])
        post.gateway.cancel(make_order(1), PROOF)
        await post.quiet()
        post.desk.report(Execution(client_order_id="pp0001", fact=OrderFact.CANCEL, time_ms=START_MS))
        await post.quiet()

        assert post.desk.calls == ["-pp0001"]
        assert post.heard == ["pp0001 cancel!"]


async def test_what_the_desk_refused_to_take_back_may_be_asked_for_again() -> None:
    post = Post()
    stopped(post)
    post.desk.cancel_with = lambda _: Refused("not now")
    async with post.running():
        await post.gateway.withdraw([resting(1)])
        post.gateway.cancel(make_order(1), PROOF)
        await post.quiet()

    assert post.desk.calls == ["-pp0001", "-pp0001"]
    assert post.doubts.keys() == {"pp0001"}


async def test_one_that_is_not_answered_is_in_doubt() -> None:
    post = Post()
    stopped(post)
    post.desk.cancel_with = lambda order: SILENCE
    await post.gateway.withdraw([resting(1)])
    post.desk.gate = trio.Event()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(post.gateway.withdraw, [resting(2)])
            await wait_all_tasks_blocked()
            scope.cancel()

    assert sorted(post.doubts) == ["pp0001", "pp0002"]


async def test_what_was_not_asked_for_before_the_deadline_is_still_cancelled_by_its_strategy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gateway_module, "WITHDRAWN_AT_ONCE", 2)
    post = Post()
    post.gateway.stopped = "a drill"
    post.desk.gate = trio.Event()
    entries = [resting(number) for number in range(1, 5)]
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(post.gateway.withdraw, entries)
            await wait_all_tasks_blocked()
            scope.cancel()
    post.desk.gate.set()
    async with post.running():
        for order in entries:
            post.gateway.cancel(order, PROOF)
        await post.quiet()

    assert sorted(post.desk.calls[2:]) == ["-pp0001", "-pp0002", "-pp0003", "-pp0004"]


async def test_an_entry_that_was_on_its_way_is_taken_back_when_it_arrives() -> None:
    post = Post()
    post.desk.gate = trio.Event()
    async with post.running():
        post.send(approved(1))
        await wait_all_tasks_blocked()
        post.gateway.stopped = "a drill"
        post.desk.gate.set()
        await post.quiet()
        post.gateway.cancel(make_order(1), PROOF)
        await post.quiet()

    assert post.desk.calls == ["pp0001", "-pp0001"]


# The kill switch and the journal.


def without_journal(home: Home, error: BaseException | None = None) -> None:
    """Let the portfolio's commits fail, or never come to an end."""

    async def commit(batch: Batch) -> Any:
        if error is None:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        raise error or AssertionError

    home.portfolio.writer = cast("Any", Watched(home.recorder, commit=commit))


async def test_a_kill_takes_everything_back_although_the_journal_does_not_answer(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, RESTING, kill_file=tmp_path / "KILL") as home:
        strategies = [await home.deploy(f"number {number}") for number in range(3)]
        await home.close()
        assert len(home.desk_orders()) == 3
        without_journal(home)
        async with trio.open_nursery() as nursery:

            async def kill() -> None:
                with pytest.raises(Unavailable, match="KILL keeps it over a restart"):
                    await home.portfolio.activate("a drill", by="somebody", close_positions=False)

            begun_s = trio.current_time()
            nursery.start_soon(kill)
            await wait_all_tasks_blocked()
            assert (home.desk_orders(), trio.current_time()) == ([], begun_s)

        assert (tmp_path / "KILL").exists()
        await home.settle()
        assert [home.orders(each.id) for each in strategies] == [[], [], []]
        reasons = [e["data"]["reason"] for each in strategies for e in home.frames(each.id, "order_cancelled")]
        assert reasons == ["engine"] * 3


async def test_a_kill_that_was_not_written_is_in_force_from_the_first_moment_of_the_next_life(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    file = tmp_path / "KILL"
    async with at_home(tmp_path, ENTERING, kill_file=file) as home:
        strategy = await home.deploy()
        without_journal(home, JournalLost("the disk is full"))
        with pytest.raises(Unavailable):
            await home.portfolio.activate("a drill", by="somebody", close_positions=False)

    async with at_home(tmp_path, ENTERING, kill_file=file) as home:
        assert home.books[True].blocked == f"kill switch: the file {file} exists"
        await home.nursery.start(home.portfolio.run)
        await home.settle()
        await home.close()
        assert home.orders(strategy.id) == []
        file.unlink()

    async with at_home(tmp_path, ENTERING, kill_file=file) as home:
        assert (home.portfolio.active, home.portfolio.kill.activated_by) == (True, "file")
        await home.portfolio.deactivate(by="somebody")
        # The first minute was decided on by the life before.
        await home.close()
        await home.close()
        assert len(home.orders(strategy.id)) == 1


async def test_what_a_kill_could_not_withdraw_is_withdrawn_by_the_next_life(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, RESTING) as home:
        strategy = await home.deploy()
        await home.close()
        # The latch is durable, and then the machine dies.
        await home.portfolio._save(KillState(is_active=True, reason="a drill"), "activate", reason="a drill", by="me")

    async with at_home(tmp_path, RESTING) as home:
        assert len(home.orders(strategy.id)) == 1
        await home.nursery.start(home.portfolio.run)
        await home.settle()
        assert (home.orders(strategy.id), home.desk_orders()) == ([], [])


async def test_a_kill_that_is_undone_before_it_has_withdrawn_is_no_failure(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, RESTING) as home:
        strategy = await home.deploy()
        await home.close()

        async def commit(batch: Batch) -> Any:
            # Another operator's release, which waited for the disk, takes effect in the meantime.
            home.portfolio.kill = KillState()
            home.portfolio.heed()
            return await home.recorder.commit(batch)

        home.portfolio.writer = cast("Any", Watched(home.recorder, commit=commit))
        shown = await home.portfolio.activate("a drill", by="somebody", close_positions=False)
        await home.settle()

        assert not shown.is_active
        assert home.gateway.stopped == ""
        assert home.orders(strategy.id) == []


async def test_a_file_that_cannot_be_made_is_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(), kill_file=tmp_path / "no folder" / "KILL") as home:
        without_journal(home, JournalLost("the disk is full"))

        with pytest.raises(Unavailable, match=r"ends with this process, for .* could not be made"):
            await home.portfolio.activate("a drill", by="somebody", close_positions=False)

        assert home.books[True].blocked == "kill switch: a drill"


async def test_without_a_journal_entries_are_taken_back_and_what_protects_stays(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    template = scripted(on_candle=plan([enter(stop_price=Decimal(80)), limit("90")]))
    async with at_home(tmp_path, template) as home:
        strategy = await home.deploy()
        await home.close()
        await home.trade()
        protecting = [order for order in home.orders(strategy.id) if order.reduce_only]
        assert (len(home.desk_orders()), len(protecting)) == (2, 1)

        await home.portfolio.forsake(JournalLost("the disk is full"))

        assert home.desk_orders() == [order.client_order_id for order in protecting]
        assert (home.books[True].blocked, home.gateway.stopped) == ("the disk is full", "the disk is full")


async def test_what_rests_is_left_to_the_daemon_that_took_the_journal(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, RESTING) as home:
        await home.deploy()
        await home.close()

        await home.portfolio.forsake(JournalTaken("another daemon took it"))

        assert len(home.desk_orders()) == 1
        assert (home.books[True].blocked, home.gateway.stopped) == ("another daemon took it",) * 2


async def test_a_desk_that_does_not_answer_holds_up_the_end_for_a_bounded_time(
    tmp_path: Path, autojump_clock: MockClock, logged: Logged
) -> None:
    async with at_home(tmp_path, RESTING) as home:
        await home.deploy()
        await home.close()

        async def hang(orders: Any) -> None:
            await trio.sleep_forever()

        home.portfolio.gateways = [cast("Any", Watched(home.gateway, withdraw=hang))]
        begun_s = trio.current_time()
        await home.portfolio.forsake(JournalLost("the disk is full"))

        assert trio.current_time() - begun_s == pytest.approx(3, abs=0.1)
        home.portfolio.gateways = [home.gateway]
    assert [entry["deadline_s"] for entry in logged if entry["event"] == "withdrawal.incomplete"] == [3.0]
