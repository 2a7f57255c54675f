"""Lifecycle commands: one at a time per strategy, durable before they are answered, and undone where they fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.errands import CLOSE_DEADLINE_S
from pipaid.errors import DuplicateName, ExchangeError, InvalidParameter, InvalidState, NotFound, PipaidError
from pipaid.model.order import Order, OrderStatus, OrderType
from pipaid.model.position import Position
from pipaid.model.strategy import Status, Strategy
from pipaid.storage.store import JournalRefused
from pipaid.venues.simulated import SimulatedDesk
from tests.actors.desks import EXPIRING, SILENCE, LossyDesk
from tests.actors.homes import ACCOUNT, Home, at_home
from tests.actors.test_strategy import Watched
from tests.builders import OTHER, SYMBOL, enter, limit, make_definition, plan, scripted

pytestmark = pytest.mark.usefixtures("logged")


async def holding(home: Home, **fields: Any) -> Strategy:
    """Deploy a strategy that opens one lot."""
    strategy = await home.deploy(**fields)
    await home.close()
    await home.trade()
    assert len(home.lots(strategy.id)) == 1
    return strategy


def stored(home: Home, strategy: Strategy) -> Strategy:
    (found,) = [each for each in home.stored("strategy", Strategy) if each.id == strategy.id]
    assert isinstance(found, Strategy)
    return found


def failing_commits(home: Home, trouble: BaseException, entity: str) -> None:
    """Let every commit fail that touches an entity."""
    real = home.recorder

    async def commit(batch: Any) -> Any:
        if any(record.entity == entity for record in batch.records):
            await trio.lowlevel.checkpoint()
            raise trouble
        return await real.commit(batch)

    home.lifecycle.writer = cast("Any", Watched(real, commit=commit))


# Names.


async def test_a_name_is_taken_while_its_commit_is_under_way(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        outcomes: list[str] = []

        async def create() -> None:
            try:
                outcomes.append((await home.draft("the one")).status.value)
            except DuplicateName as refused:
                outcomes.append(refused.code)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(create)

        assert sorted(outcomes) == ["DUPLICATE_NAME"] * 4 + ["draft"]
        assert len(home.stored("strategy", Strategy)) == 1


async def test_a_name_is_given_back_when_its_commit_fails(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        kept = await home.draft("kept")
        failing_commits(home, JournalRefused("no"), "name")
        with pytest.raises(JournalRefused):
            await home.draft("wanted")
        with pytest.raises(JournalRefused):
            await home.lifecycle.update(ACCOUNT, kept.id, {"name": "wanted"})
        home.lifecycle.writer = home.recorder

        assert home.roster.names == {(ACCOUNT, "kept"): kept.id}
        assert (await home.draft("wanted")).definition.name == "wanted"


async def test_a_command_that_is_cut_off_during_its_commit_is_known_all_the_same(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        real, scope = home.recorder, trio.CancelScope()

        async def commit(batch: Any) -> Any:
            scope.cancel()
            return await real.commit(batch)

        home.lifecycle.writer = cast("Any", Watched(real, commit=commit))
        with scope:
            await home.draft("cut off")
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught

        (member,) = home.roster.members.values()
        assert home.roster.names == {(ACCOUNT, "cut off"): member.strategy.id}
        assert [each.id for each in home.stored("strategy", Strategy)] == [member.strategy.id]


async def test_a_renamed_strategy_frees_its_name_and_keeps_the_new_one_for_good(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy("before")
        await home.lifecycle.pause(ACCOUNT, strategy.id, close_positions=False)
        await home.lifecycle.update(ACCOUNT, strategy.id, {"name": "after", "capital": Decimal(700)})
        await home.draft("before")

        await home.lifecycle.stop(ACCOUNT, strategy.id, close_positions=False)

        assert stored(home, strategy).definition.name == "after"
        assert stored(home, strategy).definition.capital == 700
        await home.lifecycle.delete(ACCOUNT, strategy.id)
        assert set(home.roster.names) == {(ACCOUNT, "before")}


# One at a time.


@pytest.mark.parametrize("winner", ["pause", "stop", "trigger"])
async def test_of_commands_at_once_one_wins_and_the_others_are_told(
    winner: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy()
        lifecycle = home.lifecycle
        commands: dict[str, Callable[[], Awaitable[Any]]] = {
            "pause": lambda: lifecycle.pause(ACCOUNT, strategy.id, close_positions=False),
            "stop": lambda: lifecycle.stop(ACCOUNT, strategy.id, close_positions=False),
            "trigger": lambda: lifecycle.trigger(ACCOUNT, strategy.id),
        }
        refusals: list[str] = []

        async def lose(name: str) -> None:
            with pytest.raises(InvalidState) as refused:
                await commands[name]()
            refusals.append(refused.value.message)

        home.actor(strategy.id).mailbox.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(commands[winner])
            await wait_all_tasks_blocked()
            for name in commands:
                nursery.start_soon(lose, name)
            await wait_all_tasks_blocked()
            home.actor(strategy.id).mailbox.release()

        assert len(refusals) == 3
        assert all(f"while its {winner} is under way" in refusal for refusal in refusals)
        assert home.member(strategy.id).transit == ""


async def test_a_command_waits_for_a_strategy_that_is_being_mended(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter()])), dry=False) as home:
        strategy = await holding(home)
        await home.lifecycle.pause(ACCOUNT, strategy.id, close_positions=False)
        home.actor(strategy.id)._crash(ValueError("a crash from anywhere"))

        with pytest.raises(InvalidState, match=r"the other mode.*`pipaid deploy strat_.* --no-dry-run`"):
            await home.lifecycle.deploy(ACCOUNT, strategy.id, capital=None, leverage=None, dry_run=True)
        with pytest.raises(InvalidState, match="1 live positions are open"):
            await home.lifecycle.delete(ACCOUNT, strategy.id)


async def test_a_pause_is_kept_through_a_crash_that_follows_at_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    def on_candle(view: Any) -> Any:
        raise ValueError("on every candle")

    async with at_home(tmp_path, scripted(on_candle=on_candle), lockstep=True) as home:
        strategy = await home.deploy()
        actor = home.actor(strategy.id)
        actor.mailbox.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: home.lifecycle.pause(ACCOUNT, strategy.id, close_positions=False))
            await wait_all_tasks_blocked()
            await home.end_minute()
            await wait_all_tasks_blocked()
            actor.mailbox.release()
        await home.settle()

        assert home.member(strategy.id).strategy.status in (Status.PAUSED, Status.ERROR)
        assert stored(home, strategy).status is home.member(strategy.id).strategy.status


# Deploy.


async def test_the_mode_does_not_change_while_positions_are_open(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter()]))) as home:
        strategy = await holding(home)
        await home.lifecycle.pause(ACCOUNT, strategy.id, close_positions=False)
        with pytest.raises(InvalidState, match="the other mode"):
            await home.lifecycle.deploy(ACCOUNT, strategy.id, capital=None, leverage=None, dry_run=False)

        assert home.member(strategy.id).strategy.status is Status.PAUSED
        await home.lifecycle.deploy(ACCOUNT, strategy.id, capital=None, leverage=None, dry_run=True)
        assert home.member(strategy.id).strategy.status is Status.DEPLOYED


async def test_a_definition_that_does_not_fit_any_more_is_not_deployed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        draft = await home.draft()
        with pytest.raises(InvalidParameter, match="capital"):
            await home.lifecycle.deploy(ACCOUNT, draft.id, capital=Decimal(1), leverage=None, dry_run=True)

        assert (home.member(draft.id).strategy.status, home.member(draft.id).actor) == (Status.DRAFT, None)


async def test_what_is_held_keeps_its_symbol_and_template(tmp_path: Path, autojump_clock: MockClock) -> None:
    templates = [scripted(on_candle=plan([enter()])), scripted(id="tpl_other")]
    async with at_home(tmp_path, templates) as home:
        strategy = await holding(home)
        await home.lifecycle.pause(ACCOUNT, strategy.id, close_positions=False)
        for changes in ({"symbols": (OTHER,)}, {"template_id": "tpl_other"}):
            with pytest.raises(InvalidState, match=f"{SYMBOL} cannot be removed|template cannot change"):
                await home.lifecycle.update(ACCOUNT, strategy.id, changes)

        assert stored(home, strategy).definition == strategy.definition


# Pause and stop.


async def test_pause_withdraws_entries_and_keeps_positions(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter(stop_price=Decimal(80)), limit("90")]))) as home:
        strategy = await holding(home)
        await home.lifecycle.pause(ACCOUNT, strategy.id, close_positions=False)
        await home.settle()

        assert len(home.lots(strategy.id)) == 1
        assert [order.type.value for order in home.orders(strategy.id)] == ["stop"]


async def test_pause_with_close_is_answered_when_everything_is_closed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=lambda view: [] if view.positions else [enter()])) as home:
        strategy = await holding(home)
        answered: list[Strategy] = []

        async def pause() -> None:
            answered.append(await home.lifecycle.pause(ACCOUNT, strategy.id, close_positions=True))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pause)
            await wait_all_tasks_blocked()
            await home.end_minute()
            await wait_all_tasks_blocked()
            assert answered == []
            await home.trade()

        assert [each.status for each in answered] == [Status.PAUSED]
        assert (home.lots(strategy.id), home.orders(strategy.id)) == ([], [])
        assert home.told(strategy.id)[-2:] == ["position_closed", "paused"]


@pytest.mark.parametrize("command", ["pause", "stop"])
async def test_a_close_that_is_not_confirmed_is_told_and_takes_effect(
    command: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter()]))) as home:
        strategy = await holding(home)
        before = trio.current_time()
        with pytest.raises(ExchangeError, match="did not confirm every close"):
            await getattr(home.lifecycle, command)(ACCOUNT, strategy.id, close_positions=True)

        assert trio.current_time() - before >= CLOSE_DEADLINE_S
        # Stopped is for good; until what closes it is through, somebody has to look after it.
        assert stored(home, strategy).status is Status.PAUSED
        assert [order.reduce_only for order in home.orders(strategy.id)] == [True]
        await home.trade()
        assert home.lots(strategy.id) == []
        if command == "stop":
            await home.lifecycle.stop(ACCOUNT, strategy.id, close_positions=True)
            assert stored(home, strategy).status is Status.STOPPED


def doubtful(home_of: dict[str, LossyDesk]) -> Callable[[SimulatedDesk], LossyDesk]:
    """Make a desk where every order is on its way for longer than anybody waits, and put it where a test finds it."""

    def make(venue: SimulatedDesk) -> LossyDesk:
        able = msgspec.structs.replace(EXPIRING, request_expiry=False)
        home_of["desk"] = LossyDesk(venue, default="late", capabilities=able)
        return home_of["desk"]

    return make


@pytest.mark.parametrize("command", ["stop", "delete"])
async def test_nobody_walks_away_from_an_order_that_may_still_be_filled(
    command: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    desks: dict[str, LossyDesk] = {}
    entering = scripted(on_candle=plan([limit("100", stop_price=Decimal(90))]))
    async with at_home(tmp_path, entering, make_desk=doubtful(desks)) as home:
        strategy = await home.deploy()
        await home.close()
        assert [order.status for order in home.orders(strategy.id)] == [OrderStatus.UNKNOWN]
        if command == "delete":
            await home.lifecycle.pause(ACCOUNT, strategy.id, close_positions=False)

        with pytest.raises((ExchangeError, InvalidState), match="confirm"):
            await leave(home, command, strategy)

        assert stored(home, strategy).status is Status.PAUSED
        assert home.books[True].orders == 1
        # It arrives and is filled after all: whoever wanted it still looks after it.
        desks["desk"].default = ""
        await desks["desk"].arrive()
        await home.trade("100")
        assert [lot.quantity for lot in home.lots(strategy.id)] == [1]
        assert [order.type for order in home.orders(strategy.id)] == [OrderType.STOP]
        assert home.bucket.found == {}

        await leave(home, command, strategy)


async def leave(home: Home, command: str, strategy: Strategy) -> None:
    """End a strategy one way or the other."""
    if command == "stop":
        await home.lifecycle.stop(ACCOUNT, strategy.id, close_positions=False)
    else:
        await home.lifecycle.delete(ACCOUNT, strategy.id)


async def test_what_protects_rests_again_when_an_end_is_not_confirmed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    desks: dict[str, LossyDesk] = {}
    entering = scripted(on_candle=plan([enter(stop_price=Decimal(90))]))
    async with at_home(tmp_path, entering, make_desk=doubtful(desks)) as home:
        desks["desk"].default = ""
        strategy = await holding(home)
        desks["desk"].cancels.append(SILENCE)
        with pytest.raises(ExchangeError, match="end of every order"):
            await home.lifecycle.stop(ACCOUNT, strategy.id, close_positions=False)

        stops = [order for order in home.orders(strategy.id) if order.type is OrderType.STOP]
        assert [order.cancelling for order in stops] == [True, False]
        await home.trade("89")
        assert home.lots(strategy.id) == []


async def test_the_mode_does_not_change_while_an_order_may_still_be_filled(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    entering = scripted(on_candle=plan([limit("100", stop_price=Decimal(90))]))
    async with at_home(tmp_path, entering, make_desk=doubtful({})) as home:
        strategy = await home.deploy()
        await home.close()
        await home.lifecycle.pause(ACCOUNT, strategy.id, close_positions=False)

        with pytest.raises(InvalidState, match="orders of the other mode may still be filled"):
            await home.lifecycle.deploy(ACCOUNT, strategy.id, capital=None, leverage=None, dry_run=False)


async def test_stop_cancels_reports_what_is_left_and_leaves_no_dispute(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter(stop_price=Decimal(80)), limit("90")]))) as home:
        strategy = await holding(home)
        await home.lifecycle.stop(ACCOUNT, strategy.id, close_positions=False)
        await home.auditor.compare_positions()
        await home.auditor.compare_positions()

        assert home.member(strategy.id).actor is None
        assert home.member(strategy.id).figures()[1] == 1
        assert await home.venue.open_orders() == []
        assert home.told(strategy.id)[-1] == "stopped"
        assert home.auditor.frozen == frozenset()
        assert {order.working for order in home.stored("order", Order)} == {False}

    async with at_home(tmp_path, scripted()) as home:
        assert home.member(strategy.id).figures()[1] == 1
        await home.auditor.compare_positions()
        await home.auditor.compare_positions()
        assert home.auditor.frozen == frozenset()


# Delete, reset, halt.


async def test_paper_positions_go_with_their_strategy(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter()]))) as home:
        strategy = await holding(home)
        await home.lifecycle.pause(ACCOUNT, strategy.id, close_positions=False)
        await home.lifecycle.delete(ACCOUNT, strategy.id)

        assert (home.roster.members, home.roster.names) == ({}, {})
        assert home.stored("position", Position) == []
        assert await home.venue.positions() == {}
        with pytest.raises(NotFound):
            await home.lifecycle.pause(ACCOUNT, strategy.id, close_positions=False)

    async with at_home(tmp_path, scripted()) as home:
        assert home.roster.members == {}
        assert home.roster.number == 1


async def test_live_positions_forbid_deleting_until_the_strategy_is_stopped(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter()])), dry=False) as home:
        strategy = await holding(home)
        await home.lifecycle.pause(ACCOUNT, strategy.id, close_positions=False)
        with pytest.raises(InvalidState, match="close them before deleting"):
            await home.lifecycle.delete(ACCOUNT, strategy.id)
        assert home.actor(strategy.id).loaded

        await home.lifecycle.stop(ACCOUNT, strategy.id, close_positions=False)
        await home.lifecycle.delete(ACCOUNT, strategy.id)
        assert home.roster.members == {}


async def test_halt_and_reset_lead_into_error_and_back(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter(), limit("90")]))) as home:
        strategy = await holding(home)
        await home.lifecycle.halt(ACCOUNT, strategy.id, code="SIM_HALT", message="a drill")
        await home.settle()
        assert stored(home, strategy).status is Status.ERROR
        assert (home.orders(strategy.id), len(home.lots(strategy.id))) == ([], 1)

        await home.lifecycle.reset(ACCOUNT, strategy.id)

        assert (stored(home, strategy).status, stored(home, strategy).fault) == (Status.PAUSED, None)
        assert len(home.lots(strategy.id)) == 1


async def test_a_draining_daemon_changes_nothing_but_may_halt(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy()
        home.lifecycle.closed = "draining"
        with pytest.raises(PipaidError, match="draining"):
            await home.lifecycle.create(ACCOUNT, make_definition(name="new"))
        await home.lifecycle.halt(ACCOUNT, strategy.id, code="SIM_HALT", message="a drill")

        assert home.member(strategy.id).strategy.status is Status.ERROR


async def test_the_account_of_others_is_not_even_there(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy()
        for act in (home.lifecycle.trigger, home.lifecycle.delete, home.lifecycle.reset):
            with pytest.raises(NotFound):
                await act("acct_other", strategy.id)
