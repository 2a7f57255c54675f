"""The portfolio: the kill switch stops first and waits for nobody, latches and caps outlive restarts, breakers hold."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.portfolio import Portfolio, SavedCaps
from pipaid.engine.book import BookMemory, Caps
from pipaid.errors import InvalidState, Unavailable
from pipaid.model.moment import iso_millis
from pipaid.model.position import Position
from pipaid.model.strategy import Status
from tests.actors.homes import ACCOUNT, Home, at_home
from tests.actors.test_strategy import Watched
from tests.builders import enter, limit, plan, scripted

pytestmark = pytest.mark.usefixtures("logged")

ENTERING = scripted(on_candle=lambda view: [] if view.positions else [enter(tag="one")])


async def kill(home: Home, *, close_positions: bool = False) -> None:
    await home.portfolio.activate("a drill", by="somebody", close_positions=close_positions)
    await home.settle()


# The kill switch.


async def test_entries_stop_before_the_latch_is_durable(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        seen: list[tuple[str, str]] = []
        real = home.recorder

        async def commit(batch: Any) -> Any:
            seen.append((home.books[True].blocked, home.gateway.stopped))
            return await real.commit(batch)

        home.portfolio.writer = cast("Any", Watched(real, commit=commit))
        await kill(home)

        assert seen[0] == ("kill switch: a drill", "kill switch: a drill")


async def test_it_stops_even_if_nothing_can_be_made_durable(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, ENTERING) as home:
        strategy = await home.deploy()

        async def commit(batch: Any) -> Any:
            await trio.lowlevel.checkpoint()
            raise Unavailable("the journal is gone")

        home.portfolio.writer = cast("Any", Watched(home.recorder, commit=commit))
        with pytest.raises(Unavailable):
            await kill(home)
        await home.close()

        assert home.orders(strategy.id) == []


async def test_it_withdraws_entries_and_keeps_what_protects(tmp_path: Path, autojump_clock: MockClock) -> None:
    template = scripted(on_candle=plan([enter(stop_price=Decimal(80)), limit("90")]))
    async with at_home(tmp_path, template) as home:
        strategy = await home.deploy()
        await home.close()
        await home.trade()
        await kill(home)

        assert [order.type.value for order in home.orders(strategy.id)] == ["stop"]
        assert len(home.lots(strategy.id)) == 1
        await home.trade("75")
        assert home.lots(strategy.id) == []


async def test_it_closes_positions_when_asked(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, ENTERING) as home:
        strategies = [await home.deploy(f"number {number}") for number in range(3)]
        await home.close()
        await home.trade()
        await kill(home, close_positions=True)
        await home.trade()

        assert [home.lots(each.id) for each in strategies] == [[], [], []]
        assert {lot.reason.value for lot in home.stored("position", Position) if lot.reason} == {"risk"}


async def test_one_full_mailbox_keeps_no_other_from_withdrawing(
    tmp_path: Path, autojump_clock: MockClock, logged: list[Any]
) -> None:
    async with at_home(tmp_path, scripted(on_candle=lambda _: [limit("90", tag="one")])) as home:
        strategies = [await home.deploy(f"number {number}") for number in range(3)]
        await home.close()
        crowded = home.actor(strategies[0].id)
        crowded.mailbox.letters_max = 0
        await home.portfolio.activate("a drill", by="somebody", close_positions=False)
        assert home.desk_orders() == []

        crowded.mailbox.letters_max = 10
        crowded.mailbox._make_room()
        await home.settle()
        assert [len(home.orders(each.id)) for each in strategies] == [0, 0, 0]
    (told,) = [entry for entry in logged if entry["event"] == "kill.incomplete"]
    assert told["strategy_id"] == strategies[0].id


async def test_a_strategy_that_is_being_mended_withdraws_when_it_is_back(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([limit("90")]))) as home:
        strategy = await home.deploy()
        await home.close()
        actor = home.actor(strategy.id)
        load, gate = actor.load, trio.Event()

        async def slowly() -> Any:
            await gate.wait()
            return await load()

        actor.load = slowly
        actor._crash(ValueError("a crash from anywhere"))
        await wait_all_tasks_blocked()
        before = trio.current_time()
        await home.portfolio.activate("a drill", by="somebody", close_positions=False)
        assert 0 < trio.current_time() - before < 11

        gate.set()
        await home.settle()
        assert home.orders(strategy.id) == []


async def test_the_latch_outlives_a_restart_until_it_is_released(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, ENTERING) as home:
        strategy = await home.deploy()
        await kill(home)

    async with at_home(tmp_path, ENTERING) as home:
        await home.close()
        assert home.orders(strategy.id) == []
        assert (home.portfolio.active, home.portfolio.kill.reason) == (True, "a drill")

        await trio.sleep(1)
        await home.portfolio.deactivate(by="somebody")
        await home.close()
        assert len(home.orders(strategy.id)) == 1
        turns = await home.portfolio.logs(10)
        assert [(turn.action, turn.by) for turn in turns] == [("deactivate", "somebody"), ("activate", "somebody")]

    async with at_home(tmp_path, ENTERING) as home:
        assert not home.portfolio.active


async def test_releasing_needs_something_to_release(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        with pytest.raises(InvalidState, match="not active"):
            await home.portfolio.deactivate(by="somebody")


async def test_nothing_is_released_before_that_is_durable(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        await kill(home)
        real, blocked = home.recorder, list[str]()

        async def commit(batch: Any) -> Any:
            # Somebody else changes the caps at that very moment.
            home.portfolio.reconfigure(Caps())
            blocked.append(home.books[True].blocked)
            raise Unavailable("the journal is gone")

        home.portfolio.writer = cast("Any", Watched(real, commit=commit))
        with pytest.raises(Unavailable):
            await home.portfolio.deactivate(by="somebody")

        assert blocked == ["kill switch: a drill"]
        assert home.portfolio.active


async def test_whoever_stops_again_during_a_release_wins(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        await kill(home)
        real, begun = home.recorder, list[Any]()

        async def commit(batch: Any) -> Any:
            begun.append(batch)
            if len(begun) > 1:
                return await real.commit(batch)
            # While the release is on its way to the disk, somebody else throws the switch.
            real.submit(batch)
            return await home.portfolio.activate("not yet", by="another", close_positions=False)

        home.portfolio.writer = cast("Any", Watched(real, commit=commit))
        await home.portfolio.deactivate(by="one")

        assert home.portfolio.kill.reason == "not yet"
        assert home.books[True].blocked == "kill switch: not yet"
        row = home.journal.get("latch", "kill")
        assert row is not None
        assert msgspec.json.decode(row.data)["reason"] == "not yet"


async def test_draining_lets_exits_through_only(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, ENTERING) as home:
        strategy = await home.deploy()
        home.portfolio.drain()
        await home.close()

        assert (home.orders(strategy.id), home.gateway.stopped) == ([], "")


# The breaker.


async def test_a_breaker_closes_stays_closed_over_a_restart_and_needs_a_person(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    caps = Caps(drawdown_pct_max=Decimal("0.01"))
    async with at_home(tmp_path, scripted(on_candle=plan([enter(stop_price=Decimal(95))]))) as home:
        home.portfolio.reconfigure(caps)
        strategy = await home.deploy()
        await home.close()
        await home.trade("100")
        await home.trade("80")
        book = home.books[True]
        assert "drawdown" in book.tripped
        assert [latch.value for latch in home.portfolio.risk().latches] == [book.tripped]

    async with at_home(tmp_path, ENTERING) as home:
        assert "drawdown" in home.books[True].tripped
        await home.close("80")
        assert home.orders(strategy.id) == []
        await home.portfolio.deactivate(by="somebody")
        await home.close("80")
        assert len(home.orders(strategy.id)) == 1
        stored = home.journal.get("book", "paper")
        assert stored is not None
        assert msgspec.json.decode(stored.data, type=BookMemory).tripped == ""

    async with at_home(tmp_path, ENTERING) as home:
        assert home.books[True].tripped == ""


async def test_a_breaker_shows_as_a_condition_with_its_moment_from_one_life_to_the_next_until_it_is_opened(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter(stop_price=Decimal(95))]))) as home:
        await home.nursery.start(home.portfolio.run)
        home.portfolio.reconfigure(Caps(drawdown_pct_max=Decimal("0.01")))
        await home.deploy()
        await home.close()
        await home.trade("100")
        await trio.sleep(60)
        assert home.conditions.current() == ()
        before = iso_millis(home.world.clock.now_us() // 1000)
        await home.trade("80")
        await trio.sleep(1)

        (latch,) = home.portfolio.risk().latches
        after = iso_millis(home.world.clock.now_us() // 1000)
        (shown,) = home.conditions.current()
        assert before <= latch.tripped_at < after
        assert (shown.condition, shown.blocks_entries) == ("drawdown", False)
        assert shown.detail == f"paper, since {latch.tripped_at}: {home.books[True].tripped}"
        assert "pipaid kill deactivate" in shown.remedy
        # The other account goes on.
        assert home.books[False].blocked == ""

    await trio.sleep(3_600)
    async with at_home(tmp_path, ENTERING) as home:
        await home.nursery.start(home.portfolio.run)
        assert home.conditions.current()[0].detail == shown.detail
        assert [each.tripped_at for each in home.portfolio.risk().latches] == [latch.tripped_at]
        await home.portfolio.deactivate(by="somebody")
        assert home.conditions.current() == ()
        assert home.portfolio.risk().latches == ()
        await home.settle()
        turns = [(turn.condition, turn.turn) for turn in await home.conditions.turns(10)]
        assert turns == [("drawdown", "left"), ("drawdown", "entered")] * 2

    async with at_home(tmp_path, ENTERING) as home:
        await home.nursery.start(home.portfolio.run)
        assert home.conditions.current() == ()


async def test_a_breaker_that_a_tighter_cap_closes_is_journalled_and_lets_nothing_through(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([], [enter()]))) as home:
        home.nursery.start_soon(home.portfolio.run)
        home.portfolio.reconfigure(Caps(drawdown_pct_max=Decimal("0.2")))
        strategy = await home.deploy()
        book = home.books[True]
        book.base, book.fall = book.capital, book.capital * Decimal("0.15")
        await home.close()
        assert book.tripped == ""

        await home.portfolio.set_caps({"portfolio_drawdown_max": "0.1"}, by="somebody")
        assert "portfolio drawdown" in book.tripped
        await home.close()
        await trio.sleep(1)

        assert home.orders(strategy.id) == []
        stored = home.journal.get("book", "paper")
        assert stored is not None
        assert msgspec.json.decode(stored.data, type=BookMemory).tripped == book.tripped


async def test_what_large_strategies_lost_is_not_held_against_a_small_one_deployed_after_them(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    caps = Caps(drawdown_pct_max=Decimal("0.01"))
    losing = scripted(on_candle=plan([enter(stop_price=Decimal(95))]))
    async with at_home(tmp_path, losing) as home:
        home.portfolio.reconfigure(caps)
        large = await home.deploy("large", capital=Decimal(40_000))
        await home.close()
        await home.trade("100")
        # What is paused may still lose, and its capital counts for as long.
        await home.lifecycle.pause(ACCOUNT, large.id, close_positions=False)
        await home.deploy("small", capital=Decimal(500))
        await home.trade("94")
        book = home.books[True]
        assert book.fall > 5
        assert (book.capital, book.tripped) == (Decimal(40_500), "")

        await home.lifecycle.stop(ACCOUNT, large.id, close_positions=False)
        assert (book.capital, book.tripped) == (Decimal(500), "")

    async with at_home(tmp_path, scripted()) as home:
        home.portfolio.reconfigure(caps)
        await home.close("94")
        assert (home.books[True].base, home.books[True].tripped) == (Decimal(40_500), "")


async def test_of_caps_changed_at_once_none_is_lost_and_none_is_loosened_unasked(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        refused: list[str] = []

        async def change(**values: Any) -> None:
            try:
                await home.portfolio.set_caps(values, by="somebody")
            except InvalidState as trouble:
                refused.append(trouble.message)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(change, exposure_max="100"))
            nursery.start_soon(partial(change, open_orders_max=3))
        caps = home.books[True].caps
        assert (caps.exposure_max, caps.open_orders_max) == (Decimal(100), 3)
        assert refused == []

        # Each would have tightened what was in force when it was asked for.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(change, daily_loss_max="50"))
            nursery.start_soon(partial(change, daily_loss_max="90"))
        assert home.books[True].caps.daily_loss_max == 50


async def test_a_breaker_is_told_once(tmp_path: Path, autojump_clock: MockClock, logged: list[Any]) -> None:
    async with at_home(tmp_path, scripted()) as home:
        await home.nursery.start(home.portfolio.run)
        home.books[True].tripped = "a fall"
        await trio.sleep(10)

    assert [entry["reason"] for entry in logged if entry["event"] == "portfolio.tripped"] == ["a fall"]


# Caps.


async def test_caps_set_at_run_time_are_durable_and_go_before_the_configuration(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        home.portfolio.reconfigure(Caps(order_notional_max=Decimal(500), leverage_max=5))
        await home.portfolio.set_caps({"order_notional_max": Decimal(50)}, by="somebody")
        assert home.books[False].caps.order_notional_max == 50
        assert home.portfolio.risk().order_notional_max == "50"
        assert len(list(home.journal.rows("audit"))) == 1

    async with at_home(tmp_path, scripted()) as home:
        home.portfolio.reconfigure(Caps(order_notional_max=Decimal(500), leverage_max=5))
        caps = home.books[True].caps
        assert (caps.order_notional_max, caps.leverage_max) == (Decimal(50), 5)
        assert home.stored("setting", SavedCaps)[0].values == {"order_notional_max": "50"}


def portfolio(home: Home, configured: Caps) -> Portfolio:
    home.portfolio.reconfigure(configured)
    return home.portfolio


async def test_configured_caps_are_in_force_and_shown_as_configured(tmp_path: Path, autojump_clock: MockClock) -> None:
    configured = Caps(
        hedging_allowed=False,
        open_positions_max=3,
        rate_limit_max_trades=2,
        rate_limit_window_hours=Decimal(6),
        orders_per_day_max=9,
        drawdown_pct_max=Decimal("0.2"),
    )
    async with at_home(tmp_path, scripted()) as home:
        shown = portfolio(home, configured).risk()

        assert home.books[True].caps == configured
        assert (shown.hedging_allowed, shown.position_limit_enabled, shown.max_open_positions) == (False, True, 3)
        assert (shown.rate_limit_enabled, shown.rate_limit_max_trades) == (True, 2)
        assert (shown.rate_limit_window_hours, shown.portfolio_drawdown_max) == ("6", "0.2")


async def test_switches_bring_their_limits_in_and_out_of_force(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        book = home.books[True]
        assert (book.caps.open_positions_max, book.caps.rate_limit_max_trades, book.caps.drawdown_pct_max) == (
            None,
            None,
            None,
        )
        on = {"position_limit_enabled": True, "rate_limit_enabled": True, "drawdown_check_enabled": True}
        await home.portfolio.set_caps(on, by="somebody")
        assert (book.caps.open_positions_max, book.caps.rate_limit_max_trades) == (5, 3)
        assert book.caps.drawdown_pct_max == Decimal("0.1")

        await home.portfolio.set_caps(dict.fromkeys(on, False), by="somebody", looser=on)
        assert (book.caps.open_positions_max, book.caps.rate_limit_max_trades) == (None, None)


async def test_caps_that_cannot_be_made_durable_change_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:

        async def commit(batch: Any) -> Any:
            await trio.lowlevel.checkpoint()
            raise Unavailable("the journal is gone")

        home.portfolio.writer = cast("Any", Watched(home.recorder, commit=commit))
        with pytest.raises(Unavailable):
            await home.portfolio.set_caps({"leverage_max": 2}, by="somebody")

        assert home.portfolio.risk().leverage_max is None


async def test_a_strategy_halted_meanwhile_is_withdrawn_like_all(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, ENTERING) as home:
        strategy = await home.deploy()
        await home.close()
        await home.trade()
        await home.lifecycle.halt(None, strategy.id, code="SIM_HALT", message="a drill")
        await kill(home, close_positions=True)
        await home.trade()

        assert home.member(strategy.id).strategy.status is Status.ERROR
        assert home.lots(strategy.id) == []
