"""A strategy's actor: durable first, one decision at a time, each fact booked once, and no command done twice."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actors.recorder as recorder_module
from actors.actor import OrderNews
from pipaid.engine.effects import Brain, Effects
from pipaid.engine.session import Session
from pipaid.errors import InvalidState, Unavailable
from pipaid.model.ident import client_order_id
from pipaid.model.order import BookedFill, Execution, Order, OrderFact, OrderStatus
from pipaid.model.strategy import Status
from pipaid.venues.venue import Closed
from tests.actors.homes import ACCOUNT, Home, at_home
from tests.builders import (
    OTHER,
    START_MS,
    SYMBOL,
    enter,
    execution,
    limit,
    make_candle,
    make_fill,
    make_order,
    plan,
    scripted,
)

pytestmark = pytest.mark.usefixtures("logged")


async def filled(home: Home, **fields: Any) -> tuple[str, Order]:
    """Deploy a strategy whose only entry is filled."""
    strategy = await home.deploy(**fields)
    await home.close()
    (order,) = home.orders(strategy.id)
    await home.trade()
    assert len(home.lots(strategy.id)) == 1
    return strategy.id, order


def booked(home: Home) -> list[str]:
    return [each.fill.id for each in home.stored("fill", BookedFill)]


# Durable first.


async def test_an_order_is_in_the_journal_before_it_leaves(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter()]))) as home:
        sent: list[bool] = []
        place = home.venue.place

        async def placing(order: Order, *, expires_at_ms: int) -> Any:
            sent.append(home.journal.get("order", order.id) is not None)
            return await place(order, expires_at_ms=expires_at_ms)

        watched: Any = Watched(home.venue, place=placing)
        home.gateway.desk = watched
        await home.deploy()
        await home.close()

        assert sent == [True]


class Watched:
    """Something real, with a test's own version of some of its methods."""

    def __init__(self, inner: Any, **methods: Any) -> None:
        self._inner, self._methods = inner, methods

    def __getattr__(self, name: str) -> Any:
        return self._methods[name] if name in self._methods else getattr(self._inner, name)


async def test_what_the_market_says_during_a_commit_is_decided_on_afterwards(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    seen: list[int] = []

    def on_candle(view: Any) -> Any:
        seen.append(view.now_ms)
        return [enter(quantity=Decimal("0.1"))]

    async with at_home(tmp_path, scripted(on_candle=on_candle)) as home:
        strategy = await home.deploy()
        actor = home.actor(strategy.id)
        await home.close()
        # As if a decision were still on its way to the disk.
        actor.mailbox.hold()
        await home.end_minute()
        await home.end_minute()
        await wait_all_tasks_blocked()
        assert (len(seen), list(actor.missed)) == (1, [SYMBOL])

        actor.mailbox.release()
        actor.mailbox.alarm()
        await home.settle()

        assert (len(seen), actor.missed) == (2, {})


async def test_nobody_calls_the_session_while_its_first_decision_is_made_durable(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_start=plan([enter()]))) as home:
        draft = await home.draft()
        busy: list[bool] = []
        commit = home.recorder.commit

        async def committing(batch: Any) -> Any:
            actor = home.member(draft.id).actor
            if actor is not None and any(record.entity == "order" for record in batch.records):
                busy.append(home.actor(draft.id).busy)
            return await commit(batch)

        home.recorder = cast("Any", Watched(home.recorder, commit=committing))
        await home.lifecycle.deploy(None, draft.id, capital=None, leverage=None, dry_run=True)
        await home.settle()

        assert busy == [True]


# Facts, once each.


async def test_a_fill_that_is_told_again_while_its_order_works_changes_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([limit("90")]))) as home:
        strategy = await home.deploy()
        await home.close()
        (order,) = home.orders(strategy.id)
        actor = home.actor(strategy.id)
        # The second time it would still fit, the third time it would not.
        fill = make_fill(order, id="f1", quantity=Decimal("0.5"))
        for _ in range(3):
            await actor.deliver(execution(fill))
        await home.settle()

        assert [lot.quantity for lot in home.lots(strategy.id)] == [Decimal("0.5")]
        assert booked(home) == ["f1"]
        assert (home.member(strategy.id).failures.total, actor.session.strategy.status) == (0, Status.DEPLOYED)


async def test_a_fill_that_is_told_again_and_would_be_too_much_changes_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([limit("90")]))) as home:
        strategy = await home.deploy()
        await home.close()
        (order,) = home.orders(strategy.id)
        fill = make_fill(order, id="f1", quantity=Decimal("0.6"))
        for _ in range(2):
            await home.actor(strategy.id).deliver(execution(fill))
        await home.settle()

        assert [lot.quantity for lot in home.lots(strategy.id)] == [Decimal("0.6")]
        assert home.member(strategy.id).failures.total == 0


async def test_a_fill_that_is_told_again_after_the_end_changes_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter()]))) as home:
        strategy_id, _ = await filled(home)
        (fill,) = home.stored("fill", BookedFill)
        await home.actor(strategy_id).deliver(execution(fill.fill))
        await home.settle()

        assert booked(home) == [fill.fill.id]
        assert home.member(strategy_id).failures.total == 0


async def test_a_late_fill_of_an_ended_order_is_booked(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([limit("90")]))) as home:
        strategy = await home.deploy()
        await home.close()
        (order,) = home.orders(strategy.id)
        actor = home.actor(strategy.id)
        await actor.deliver(OrderNews(((order.client_order_id, OrderFact.CANCEL, ""),)))
        await actor.deliver(execution(make_fill(order, id="late", quantity=Decimal("0.3"))))
        await home.settle()

        assert home.orders(strategy.id) == []
        assert [lot.quantity for lot in home.lots(strategy.id)] == [Decimal("0.3")]
        assert home.stored("order", Order)[0].status is OrderStatus.CANCELLED


@pytest.mark.parametrize("end", [OrderFact.CANCEL, OrderFact.EXPIRE])
async def test_the_end_of_what_has_ended_is_no_news(end: OrderFact, tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([limit("90")]))) as home:
        strategy = await home.deploy()
        await home.close()
        (order,) = home.orders(strategy.id)
        actor = home.actor(strategy.id)
        await actor.deliver(OrderNews(((order.client_order_id, OrderFact.CANCEL, ""),)))
        await actor.deliver(Execution(client_order_id=order.client_order_id, fact=end, time_ms=START_MS))
        await home.settle()

        assert home.session(strategy.id).strategy.status is Status.DEPLOYED
        assert home.told(strategy.id).count("order_cancelled") == 1


async def test_an_execution_of_an_order_nobody_placed_is_logged_and_nothing_else(
    tmp_path: Path, autojump_clock: MockClock, logged: list[Any]
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy()
        alien = Execution(client_order_id="alien", fact=OrderFact.CANCEL, time_ms=START_MS)
        await home.actor(strategy.id).deliver(alien)
        await home.settle()

        assert home.session(strategy.id).strategy.status is Status.DEPLOYED
    (entry,) = [entry for entry in logged if entry["event"] == "fact.unassigned"]
    assert "alien" in entry["fact"]


async def test_a_fact_that_cannot_be_true_halts_once_and_stays_in_the_log(
    tmp_path: Path, autojump_clock: MockClock, logged: list[Any]
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([limit("90")]))) as home:
        strategy = await home.deploy()
        await home.close()
        (order,) = home.orders(strategy.id)
        too_much = make_fill(order, id="f1", quantity=Decimal(7))
        await home.actor(strategy.id).deliver(execution(too_much))
        await home.settle()

        assert home.member(strategy.id).strategy.status is Status.ERROR
        fault = home.member(strategy.id).strategy.fault
        assert fault is not None
        assert (fault.code, booked(home)) == ("INVARIANT_BROKEN", [])
        assert home.told(strategy.id).count("error") == 1
        assert home.actor(strategy.id).waiting == 0
        assert [(stray.id, stray.strategy_id) for stray in home.bucket.found.values()] == [("f1", strategy.id)]
    (impossible,) = [entry for entry in logged if entry["event"] == "fact.impossible"]
    assert "quantity=Decimal('7')" in impossible["fact"]


async def test_a_fill_of_no_order_and_no_lot_is_put_aside_and_halts_nobody(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy()
        never_made = make_fill(make_order(client_order_id=client_order_id(ACCOUNT, strategy.id, 77)), id="f1")
        liquidation = make_fill(make_order(client_order_id="autoclose-pos_9"), id="f2")
        await home.actor(strategy.id).deliver(execution(never_made))
        await home.actor(strategy.id).deliver(execution(liquidation, "pos_9"))
        await home.settle()

        assert list(home.bucket.found) == ["f1", "f2"]
        assert home.member(strategy.id).failures.total == 0


async def test_a_fill_told_again_while_its_order_works_costs_no_new_start(
    tmp_path: Path, autojump_clock: MockClock, logged: list[Any]
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([limit("90")]))) as home:
        strategy = await home.deploy()
        await home.close()
        (order,) = home.orders(strategy.id)
        told = execution(make_fill(order, id="f1", quantity=Decimal("0.4")))
        for _ in range(3):
            await home.actor(strategy.id).deliver(told)
        await home.settle()

        assert booked(home) == ["f1"]
        assert home.lots(strategy.id)[0].quantity == Decimal("0.4")
    assert not [entry for entry in logged if entry["event"] == "fact.repeated"]


async def test_facts_that_come_while_the_actor_is_down_are_dealt_with_afterwards(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([limit("90")], [limit("80")]))) as home:
        strategy = await home.deploy()
        await home.close()
        (order,) = home.orders(strategy.id)
        actor = home.actor(strategy.id)
        actor._crash(ValueError("a crash from anywhere"))
        await actor.deliver(execution(make_fill(order, id="f1")))
        await home.end_minute()
        await wait_all_tasks_blocked()
        assert (actor.loaded, actor.waiting) == (False, 1)

        await home.settle()

        assert len(home.lots(strategy.id)) == 1
        assert [each.price for each in home.orders(strategy.id)] == [Decimal(80)]
        assert home.member(strategy.id).failures.total == 1


# Commands.


async def test_a_command_is_durable_before_it_is_answered(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy()
        await home.actor(strategy.id).perform(lambda session: session.on_trigger())

        assert home.stored("brain", Brain)[0].runs_made == 1


async def test_a_refusal_is_the_askers_and_harms_nobody(tmp_path: Path, autojump_clock: MockClock) -> None:
    def refuse(session: Session) -> Effects:
        raise InvalidState("not now")

    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy()
        with pytest.raises(InvalidState, match="not now"):
            await home.actor(strategy.id).perform(refuse)

        assert home.member(strategy.id).failures.total == 0


async def test_a_command_that_crashes_is_answered_and_never_repeated(tmp_path: Path, autojump_clock: MockClock) -> None:
    done: list[int] = []

    def break_down(session: Session) -> Effects:
        done.append(1)
        raise ZeroDivisionError("oops")

    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy()
        with pytest.raises(Unavailable, match="oops"):
            await home.actor(strategy.id).perform(break_down)
        await home.settle()

        assert (done, home.member(strategy.id).failures.total) == ([1], 1)
        assert home.actor(strategy.id).loaded


async def test_commands_that_wait_are_carried_out_after_a_crash(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy()
        actor = home.actor(strategy.id)
        actor._crash(ValueError("a crash from anywhere"))
        await actor.perform(lambda session: session.on_trigger())

        assert home.stored("brain", Brain)[0].runs_made == 1


async def test_a_full_mailbox_refuses_commands_and_makes_facts_wait(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy()
        actor = home.actor(strategy.id)
        actor.mailbox.letters_max = 2
        actor.mailbox.hold()
        news = OrderNews((("nobody", OrderFact.ACK, ""),))
        await actor.deliver(news)
        await actor.deliver(news)
        with pytest.raises(Unavailable, match="try again"):
            await actor.perform(lambda session: session.on_trigger())
        home.nursery.start_soon(actor.deliver, news)
        await wait_all_tasks_blocked()
        assert actor.waiting == 2

        actor.mailbox.release()
        await home.settle()
        assert actor.waiting == 0


async def test_a_retired_actor_answers_everybody_and_holds_nobody_up(tmp_path: Path, autojump_clock: MockClock) -> None:
    refusals: list[str] = []

    async def ask(action: Any) -> None:
        with pytest.raises(Unavailable) as refused:
            await action()
        refusals.append(refused.value.message)

    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy()
        actor = home.actor(strategy.id)
        actor.mailbox.hold()
        actor.mailbox.letters_max = 2
        news = OrderNews((("nobody", OrderFact.ACK, ""),))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, lambda: actor.perform(lambda session: session.on_trigger()))
            nursery.start_soon(ask, lambda: actor.until(lambda _: False))
            await wait_all_tasks_blocked()
            await actor.deliver(news)
            nursery.start_soon(actor.deliver, news)
            await wait_all_tasks_blocked()
            await home.roster.dismiss(home.member(strategy.id))
        await ask(lambda: actor.perform(lambda session: session.on_trigger()))
        await actor.deliver(news)

        assert len(refusals) == 3
        assert all("not running any more" in refusal for refusal in refusals)
        assert home.activity.count == 0


# Starting anew.


async def test_a_reload_keeps_the_mailbox(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([limit("90")]))) as home:
        strategy = await home.deploy()
        await home.close()
        (order,) = home.orders(strategy.id)
        actor = home.actor(strategy.id)
        before = actor.session
        actor.mailbox.hold()
        await actor.deliver(execution(make_fill(order, id="f1")))
        home.nursery.start_soon(actor.reload)
        await wait_all_tasks_blocked()
        actor.mailbox.release()
        await home.settle()

        assert actor.session is not before
        assert len(home.lots(strategy.id)) == 1


async def test_a_reload_during_a_load_is_not_lost(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy()
        actor = home.actor(strategy.id)
        load, gate, loads = actor.load, trio.Event(), list[int]()

        async def slowly() -> Session:
            loads.append(1)
            session = await load()
            await gate.wait()
            return session

        actor.load = slowly
        home.nursery.start_soon(actor.reload)
        await wait_all_tasks_blocked()
        home.nursery.start_soon(actor.reload)
        await wait_all_tasks_blocked()
        gate.set()
        await home.settle()

        assert len(loads) == 2


async def test_what_was_missed_on_a_symbol_that_is_gone_is_forgotten(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy()
        actor = home.actor(strategy.id)
        actor.missed["XRPUSDT"] = None
        await actor.reload()
        await home.settle()

        assert (actor.missed, home.member(strategy.id).failures.total) == ({}, 0)


async def test_a_crash_in_a_later_part_of_a_sweep_commits_the_parts_before(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    crashes = [1]

    def on_candle(view: Any) -> Any:
        if view.symbol == OTHER and crashes:
            crashes.pop()
            raise ValueError("the second symbol")
        return [enter(symbol=view.symbol, quantity=Decimal("0.1"))]

    async with at_home(tmp_path, scripted(on_candle=on_candle)) as home:
        strategy = await home.deploy(symbols=(SYMBOL, OTHER))
        candles = (make_candle(0, "100"), make_candle(0, "100", OTHER))
        await home.market.say(Closed(candles[0].close_time_ms, candles))
        await home.settle()

        assert sorted(order.symbol for order in home.orders(strategy.id)) == [SYMBOL, OTHER]
        assert home.member(strategy.id).failures.total == 1
        decided = [msgspec.json.decode(row.data, type=Order) for row in home.journal.rows("order")]
        assert len(decided) == 2


async def test_a_recorder_that_takes_no_more_holds_no_actor_for_ever(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_home(tmp_path, scripted(on_candle=lambda _: [limit("90", tag="one")])) as home:
        strategy = await home.deploy()
        with monkeypatch.context() as full:
            full.setattr(recorder_module, "PENDING_MAX", 0)
            await home.close()
        assert home.member(strategy.id).failures.total == 1
        assert home.orders(strategy.id) == []

        await home.close()

        assert len(home.orders(strategy.id)) == 1
        assert home.member(strategy.id).strategy.status is Status.DEPLOYED
