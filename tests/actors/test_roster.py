"""The roster mends what strategies do to themselves, gives up what cannot be mended, and brings all back."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.actor import Intensity, told_cause
from actors.watchdog import Overrun
from pipaid.engine.template import Intent, View
from pipaid.errors import Unavailable
from pipaid.model.order import BookedFill, Order, OrderStatus
from pipaid.model.strategy import Status, Strategy
from tests.actors.homes import HandMarket, Home, at_home
from tests.builders import START_MS, SYMBOL, enter, execution, limit, make_fill, plan, scripted

pytestmark = pytest.mark.usefixtures("logged")


def breaking(trouble: Callable[[], BaseException], times: int, *wishes: Any) -> Callable[..., Any]:
    """Return a callback that raises so many times, and then wishes once."""
    left = [times]

    def callback(*_: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise trouble()
        return plan_left.pop(0) if plan_left else ()

    plan_left = [list(wishes)] if wishes else []
    return callback


def oops() -> BaseException:
    return ValueError("oops")


def fault(home: Home, strategy: Strategy) -> tuple[str, str]:
    found = home.member(strategy.id).strategy.fault
    assert found is not None
    return found.code, found.message


WILD: list[Callable[[], BaseException]] = [
    oops,
    lambda: SystemExit(1),
    KeyboardInterrupt,
    GeneratorExit,
    RecursionError,
    lambda: BaseExceptionGroup("several", [ValueError("a"), SystemExit()]),
    lambda: ValueError("\ud800 cannot be stored"),
]


@pytest.mark.parametrize("trouble", WILD, ids=lambda trouble: type(trouble()).__name__)
@pytest.mark.parametrize("where", ["on_candle", "on_start", "on_opened"])
async def test_whatever_a_callback_raises_is_mended_and_hurts_no_neighbour(
    where: str, trouble: Callable[[], BaseException], tmp_path: Path, autojump_clock: MockClock
) -> None:
    def once(view: View) -> list[Intent]:
        return [] if view.positions else [enter(tag="one")]

    callbacks: dict[str, Any] = {"on_candle": once}
    if where == "on_candle":
        callbacks["on_candle"] = breaking(trouble, 2, enter())
    else:
        callbacks[where] = breaking(trouble, 2)
    sound = scripted(on_candle=plan([enter()]), id="tpl_sound")
    async with at_home(tmp_path, [scripted(**callbacks), sound]) as home:
        strategy = await home.deploy("wild")
        neighbour = await home.deploy("sound", template_id="tpl_sound")
        await home.close()
        await home.trade()

        assert home.member(strategy.id).failures.total == 2
        assert [len(home.lots(each.id)) for each in (strategy, neighbour)] == [1, 1]
        assert home.member(strategy.id).strategy.status is Status.DEPLOYED
        assert home.member(neighbour.id).failures.total == 0
        assert len(home.stored("fill", BookedFill)) == 2


async def test_restarts_wait_longer_each_time_and_end_in_error_with_the_cause(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    crashes: list[float] = []

    def on_candle(_: Any) -> Any:
        crashes.append(trio.current_time())
        raise ValueError("the wave function collapsed")

    async with at_home(tmp_path, scripted(on_start=plan([limit("90")]), on_candle=on_candle)) as home:
        strategy = await home.deploy()
        assert len(home.orders(strategy.id)) == 1
        await home.close()

        waits = [after - before for before, after in pairwise(crashes)]
        assert len(crashes) == 6
        for number, wait in enumerate(waits):
            assert 0.05 * 2**number <= wait <= 0.1 * 2**number
        assert home.member(strategy.id).strategy.status is Status.ERROR
        code, message = fault(home, strategy)
        assert code == "ENGINE_CRASH"
        assert message.startswith("ValueError: the wave function collapsed (in on_candle, test_roster.py line ")
        assert home.told(strategy.id)[-2:] == ["error", "order_cancelled"]
        assert await home.venue.open_orders() == []
        stored = home.stored("strategy", Strategy)[0]
        assert (stored.status, stored.fault) == (Status.ERROR, home.member(strategy.id).strategy.fault)


async def test_failures_far_apart_never_end_in_error(tmp_path: Path, autojump_clock: MockClock) -> None:
    turns = iter(range(100))

    def on_candle(_: Any) -> Any:
        if next(turns) % 2 == 0:
            raise ValueError("every other time")
        return ()

    async with at_home(tmp_path, scripted(on_candle=on_candle), intensity=Intensity(restarts_max=1)) as home:
        strategy = await home.deploy()
        for _ in range(5):
            await home.close()
            await trio.sleep(601)

        assert home.member(strategy.id).failures.total == 5
        assert home.member(strategy.id).strategy.status is Status.DEPLOYED


async def test_a_lockstep_market_waits_for_no_back_off(tmp_path: Path, autojump_clock: MockClock) -> None:
    template = scripted(on_candle=breaking(oops, 5, enter()))
    async with at_home(tmp_path, template, lockstep=True) as home:
        strategy = await home.deploy()
        before = trio.current_time()
        await home.close()

        assert len(home.orders(strategy.id)) == 1
        assert trio.current_time() == before


async def test_overruns_have_a_limit_of_their_own(tmp_path: Path, autojump_clock: MockClock) -> None:
    template = scripted(on_candle=breaking(lambda: Overrun(1, 900, blocked=False), 100))
    async with at_home(tmp_path, template) as home:
        strategy = await home.deploy()
        await home.close()

        assert home.member(strategy.id).failures.total == 3
        assert fault(home, strategy)[0] == "CALLBACK_OVERRUN"


async def test_an_outage_is_no_fault_of_the_definition(tmp_path: Path, autojump_clock: MockClock) -> None:
    template = scripted(on_candle=breaking(lambda: Unavailable("the journal has too much to do"), 1, enter()))
    async with at_home(tmp_path, template) as home:
        strategy = await home.deploy()
        await home.close()

        assert home.member(strategy.id).strategy.status is Status.DEPLOYED
        assert len(home.orders(strategy.id)) == 1


async def test_what_is_halted_keeps_its_position_and_goes_on_booking(tmp_path: Path, autojump_clock: MockClock) -> None:
    steps = plan([enter(stop_price=Decimal(90))])

    def on_candle(view: Any) -> Any:
        if view.positions:
            raise ValueError("no nerve for positions")
        return steps(view)

    async with at_home(tmp_path, scripted(on_candle=on_candle)) as home:
        strategy = await home.deploy()
        await home.close()
        await home.trade("100")
        await home.close()
        assert home.member(strategy.id).strategy.status is Status.ERROR
        assert [order.type.value for order in home.orders(strategy.id)] == ["stop"]

        await home.trade("85")

        assert home.lots(strategy.id) == []
        assert home.told(strategy.id)[-1] == "position_closed"
        assert home.activity.count == 0


async def test_a_crash_between_two_fills_loses_and_repeats_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    template = scripted(on_candle=plan([limit("90", quantity=Decimal(2))]), on_opened=breaking(oops, 3))
    async with at_home(tmp_path, template) as home:
        strategy = await home.deploy()
        await home.close()
        (order,) = home.orders(strategy.id)
        actor = home.actor(strategy.id)
        for number in (1, 2):
            await actor.deliver(execution(make_fill(order, id=f"f{number}", quantity=Decimal(1))))
        await home.settle()

        assert [lot.quantity for lot in home.lots(strategy.id)] == [Decimal(2)]
        assert len(home.stored("fill", BookedFill)) == 2
        assert home.member(strategy.id).failures.total == 3


# Loading.


async def test_a_template_that_is_gone_halts_its_strategies_and_not_the_start(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter()]))) as home:
        strategy = await home.deploy()
        await home.close()
        await home.trade()
        market = home.market

    other = scripted(id="tpl_other")
    for _ in range(2):
        market = HandMarket(time_ms=market.time_ms)
        async with at_home(tmp_path, other, market=market) as home:
            await home.settle()
            member = home.member(strategy.id)
            assert (member.strategy.status, fault(home, strategy)[0]) == (Status.ERROR, "INVALID_PARAMETER")
            assert len(home.lots(strategy.id)) == 1
            assert home.told(strategy.id).count("error") <= 1


async def test_a_symbol_that_is_gone_halts_its_strategies_and_not_the_start(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter()]))) as home:
        strategy = await home.deploy()
        market = home.market

    market = HandMarket(time_ms=START_MS + 3_600_000, delisted={SYMBOL})
    async with at_home(tmp_path, scripted(), market=market) as home:
        await home.settle()
        assert home.member(strategy.id).strategy.status is Status.ERROR
        assert "not listed" in fault(home, strategy)[1]

        market.delisted.clear()
        await home.lifecycle.reset(None, strategy.id)
        assert home.member(strategy.id).strategy.status is Status.PAUSED


async def test_reset_forgives_the_failures_before_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=breaking(oops, 7))) as home:
        strategy = await home.deploy()
        await home.close()
        assert home.member(strategy.id).strategy.status is Status.ERROR
        await home.lifecycle.reset(None, strategy.id)
        await home.lifecycle.deploy(None, strategy.id, capital=None, leverage=None, dry_run=True)
        await home.close()

        assert home.member(strategy.id).strategy.status is Status.DEPLOYED
        assert home.member(strategy.id).failures.total == 7


# Restarts.


async def test_a_restart_brings_back_lots_orders_and_figures(tmp_path: Path, autojump_clock: MockClock) -> None:
    template = scripted(on_candle=plan([enter(stop_price=Decimal(90)), limit("80")]))
    async with at_home(tmp_path, template) as home:
        strategy = await home.deploy()
        await home.close()
        await home.trade()
        lots, orders, time_ms = home.lots(strategy.id), home.orders(strategy.id), home.market.time_ms
        assert (len(lots), len(orders)) == (1, 2)

    async with at_home(tmp_path, scripted(), market=HandMarket(time_ms=time_ms)) as home:
        await home.settle()
        assert home.lots(strategy.id) == lots
        assert [order.id for order in home.orders(strategy.id)] == [order.id for order in orders]
        assert home.told(strategy.id) == ["resumed"]
        await home.trade("85")
        assert home.lots(strategy.id) == []
        assert home.bucket.total == 0


async def test_a_cancellation_that_died_on_its_way_is_asked_for_anew(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([limit("90")]))) as home:
        strategy = await home.deploy()
        await home.close()
        (order,) = home.orders(strategy.id)

    withdrawn = msgspec.structs.replace(order, status=OrderStatus.OPEN, cancelling=True, detail="pause")
    async with at_home(tmp_path, scripted()) as home:
        # The journal knew of the wish to cancel, and the desk of nothing.
        await home.actor(strategy.id).perform(lambda session: _rewritten(session, withdrawn))
    async with at_home(tmp_path, scripted()) as home:
        await home.settle()

        assert home.orders(strategy.id) == []
        assert await home.venue.open_orders() == []
        assert home.stored("order", Order)[0].status is OrderStatus.CANCELLED


def _rewritten(session: Any, order: Order) -> Any:
    effects = session.on_trigger()
    effects.orders[order.id] = order
    return effects


async def test_a_roster_that_is_restarted_itself_keeps_actors_and_letters(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([limit("90")]))) as home:
        await home.settle()
        strategy = await home.deploy()
        await home.close()
        (order,) = home.orders(strategy.id)
        actor = home.actor(strategy.id)
        async with trio.open_nursery() as second:
            # The life before: its supervisor stops it with a letter unread.
            assert home.roster._nursery is not None
            actor.mailbox.hold()
            await actor.deliver(execution(make_fill(order, id="f1")))
            home.member(strategy.id).scope.cancel()
            await wait_all_tasks_blocked()
            actor.mailbox.release()

            await second.start(home.roster.run)
            await home.settle()

            assert home.actor(strategy.id) is actor
            assert len(home.lots(strategy.id)) == 1
            await home.close()
            assert home.member(strategy.id).failures.total == 0
            await home.settle()
            second.cancel_scope.cancel()


async def test_a_book_counts_the_capital_of_those_who_may_still_lose(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        first = await home.deploy("first", capital=Decimal(1000))
        await home.deploy("second", capital=Decimal(500))
        assert home.books[True].capital == 1500

        await home.lifecycle.pause(None, first.id, close_positions=False)
        assert home.books[True].capital == 1500

    async with at_home(tmp_path, scripted()) as home:
        assert home.books[True].capital == 1500
        await home.lifecycle.stop(None, first.id, close_positions=False)
        assert home.books[True].capital == 500

    async with at_home(tmp_path, scripted()) as home:
        assert home.books[True].capital == 500


async def test_funding_and_liquidation_find_an_owner_that_is_being_mended(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter()]))) as home:
        strategy = await home.deploy()
        await home.close()
        await home.trade()
        (lot,) = home.lots(strategy.id)
        home.actor(strategy.id)._crash(ValueError("a crash from anywhere"))

        assert home.roster.owner_of_position(lot.id) == strategy.id
        closing = make_fill(home.stored("order", Order)[0], id="liq", client_order_id="autoclose-1")
        closing = msgspec.structs.replace(closing, side=closing.side.opposite, quantity=lot.quantity, liquidation=True)
        home.venue._report([execution(closing, lot.id)])
        home.venue.forget_lots([lot.id])
        await home.settle()

        assert home.lots(strategy.id) == []
        assert home.bucket.total == 0


def test_a_cause_is_told_with_its_place_and_never_fails() -> None:
    class Unreadable(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    with pytest.raises(ValueError, match="oops") as caught:
        raise ValueError("oops")

    assert "ValueError: oops (in test_a_cause_is_told_with_its_place" in told_cause(caught.value)
    assert told_cause(Unreadable()) == "Unreadable: its message cannot be read"
    assert told_cause(ValueError()) == "ValueError: no message"
    group = BaseExceptionGroup("g", [ValueError("a"), BaseExceptionGroup("h", [SystemExit(3)])])
    assert told_cause(group) == "2 errors: ValueError: a; SystemExit: 3"


async def test_what_a_strategy_holds_counts_while_it_is_being_mended(tmp_path: Path, autojump_clock: MockClock) -> None:
    locked: list[int] = []
    entering = scripted(on_candle=plan([enter()]))

    class Unassembled(entering):  # type: ignore[misc, valid-type]
        id = entering.id

        def features(self) -> Any:
            if locked:
                raise ValueError("its model file is locked")
            return ()

    async with at_home(tmp_path, Unassembled, intensity=Intensity(backoff_min_s=10.0)) as home:
        strategy = await home.deploy()
        await home.close()
        await home.trade()
        held = home.books[True].value
        assert held > 0

        locked.append(1)
        home.actor(strategy.id)._crash(ValueError("a crash"))
        await trio.sleep(15)
        assert not home.actor(strategy.id).loaded
        assert home.books[True].value == held

        locked.clear()
        await trio.sleep(60)
        assert home.actor(strategy.id).loaded
        assert home.books[True].value == held
