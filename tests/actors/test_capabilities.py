"""What is promised of orders holds on every class of venue, as far as the venue can show it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.resolver import PATIENCE_S
from pipaid.model.candle import MarketTrade
from pipaid.model.order import BookedFill, Execution, Order, OrderStatus
from pipaid.model.position import CloseReason
from pipaid.venues.simulated import CAPABILITIES
from pipaid.venues.venue import Capabilities, Confirmed, DeskUpdate, Outcome, Reconnected, Refused
from tests.actors.desks import SILENCE, LossyDesk
from tests.actors.homes import Home, at_home
from tests.builders import OTHER, SYMBOL, enter, limit, plan, scripted

pytestmark = pytest.mark.usefixtures("logged")

EXPIRY_S = 6
SOON_S = 35


def of_class(*, lookup: bool = True, fills: bool = True, expiry: bool = True, unique: Any = "open") -> Capabilities:
    return msgspec.structs.replace(
        CAPABILITIES,
        acts_in_call=False,
        lookup_by_client_id=lookup,
        fills_since=fills,
        request_expiry=expiry,
        id_unique=unique,
    )


def told(can: Capabilities) -> str:
    """Name a class."""
    if can.acts_in_call:
        return "paper"
    able = (can.lookup_by_client_id, "lookup"), (can.fills_since, "fills"), (can.request_expiry, "expiry")
    return "-".join([can.id_unique, *(word for has, word in able if has)])


UNIQUE = ("forever", "open", "none", "open", "forever", "none", "open", "none")
CLASSES = [
    CAPABILITIES,
    *(
        of_class(lookup=lookup, fills=fills, expiry=expiry, unique=unique)
        for (lookup, fills, expiry), unique in zip(
            product((True, False), repeat=3),
            ("forever", "open", "none", "open", "forever", "none", "open", "none"),
            strict=True,
        )
    ),
]
every_class = pytest.mark.parametrize("can", CLASSES, ids=told)


def lost(_: DeskUpdate) -> str:
    return "lost"


def held(_: DeskUpdate) -> str:
    return "held"


def shows_fills(can: Capabilities) -> bool:
    """Tell whether a venue can show what was filled of an order that has ended."""
    return can.lookup_by_client_id or can.fills_since


@asynccontextmanager
async def trading(
    tmp_path: Path, can: Capabilities, *wishes: Any, **line: Any
) -> AsyncGenerator[tuple[Home, LossyDesk]]:
    """Run a home whose desk is of a class, at the end of a line, with everything that compares by itself."""
    desks: list[LossyDesk] = []

    def make(venue: Any) -> LossyDesk:
        desks.append(LossyDesk(venue, capabilities=can, **line))
        return desks[-1]

    async with at_home(tmp_path, scripted(on_candle=plan(*wishes)), make_desk=make) as home:
        await home.nursery.start(home.resolver.run)
        await home.nursery.start(home.auditor.run)
        yield home, desks[0]


async def pass_time(home: Home, seconds: float) -> None:
    """Let clock and venue go on together, without a trade in what is held."""
    for _ in range(round(seconds)):
        await trio.sleep(1)
        await home.trade(symbol=OTHER)


async def begin(home: Home) -> tuple[str, Order]:
    """Deploy a strategy and return its first order."""
    strategy = await home.deploy()
    await home.close()
    (order,) = home.orders(strategy.id)
    return strategy.id, order


def status_of(home: Home, order: Order) -> OrderStatus:
    stored: dict[str, Order] = {each.id: each for each in home.stored("order", Order)}
    return stored[order.id].status


def booked(home: Home) -> list[tuple[str, Decimal]]:
    return [(each.order_id, each.fill.quantity) for each in home.stored("fill", BookedFill)]


# Requests and answers.


@every_class
@pytest.mark.parametrize("fate", ["answer", "request", "late"])
async def test_an_unknown_order_is_never_sent_again(
    tmp_path: Path, autojump_clock: MockClock, can: Capabilities, fate: str
) -> None:
    async with trading(tmp_path, can, [limit("90")], default=fate) as (home, desk):
        strategy_id, order = await begin(home)
        await pass_time(home, 2)
        await desk.arrive()
        await pass_time(home, 10)

        assert desk.placed == [order.client_order_id]
        if fate != "request" and not (fate == "late" and can.acts_in_call):
            assert [each.status for each in home.orders(strategy_id)] == [OrderStatus.OPEN]
        assert home.member(strategy_id).failures.total == 0


@every_class
async def test_a_denial_is_believed_when_the_order_cannot_be_accepted_any_more_and_not_before(
    tmp_path: Path, autojump_clock: MockClock, can: Capabilities
) -> None:
    async with trading(tmp_path, can, [limit("90")], default="request") as (home, desk):
        strategy_id, order = await begin(home)
        reserved = home.session(strategy_id).exposure()
        fence_s = 0 if can.acts_in_call else EXPIRY_S if can.request_expiry else round(PATIENCE_S)
        if fence_s:
            await pass_time(home, fence_s - 1)
            assert status_of(home, order) is OrderStatus.UNKNOWN
            assert home.session(strategy_id).exposure() == reserved > 0
        await pass_time(home, 4)

        assert status_of(home, order) is OrderStatus.ABSENT
        assert home.session(strategy_id).exposure() == 0
        assert desk.placed == [order.client_order_id]


@every_class
async def test_what_arrives_after_its_denial_is_withdrawn_over_a_restart_too(
    tmp_path: Path, autojump_clock: MockClock, can: Capabilities
) -> None:
    async with trading(tmp_path, can, [limit("90")], default="late") as (home, desk):
        _, order = await begin(home)
        await pass_time(home, 70)
        assert status_of(home, order) is OrderStatus.ABSENT
        late, time_ms = list(desk.late), home.market.time_ms

    async with trading(tmp_path, can) as (home, desk):
        home.market.time_ms = time_ms
        desk.late = late
        await desk.arrive()
        await pass_time(home, 12)

        assert status_of(home, order) is OrderStatus.CANCELLED
        assert home.desk_orders() == []


async def test_more_doubts_than_fit_are_settled_all_the_same(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.resolver.DOUBTS_MAX", 1)
    wishes = [limit(price, quantity=Decimal("0.1")) for price in ("90", "91", "92", "93")]
    async with trading(tmp_path, of_class(), wishes, default="request") as (home, desk):
        strategy = await home.deploy()
        await home.close()
        assert (len(home.orders(strategy.id)), len(home.resolver.doubts), home.resolver.postponed) == (4, 1, 3)
        await pass_time(home, 60)

        assert home.orders(strategy.id) == []
        assert {each.status for each in home.stored("order", Order)} == {OrderStatus.ABSENT}
        assert len(desk.placed) == 4


# The stream.


@every_class
async def test_a_fill_that_the_stream_lost_is_booked_once_or_freezes_what_it_moved(
    tmp_path: Path, autojump_clock: MockClock, can: Capabilities
) -> None:
    async with trading(tmp_path, can, [limit("90")], reports=lost) as (home, _):
        strategy_id, order = await begin(home)
        await home.trade("90")
        await pass_time(home, SOON_S)

        if shows_fills(can):
            assert booked(home) == [(order.id, Decimal(1))]
            assert [lot.quantity for lot in home.lots(strategy_id)] == [Decimal(1)]
            assert (status_of(home, order), home.auditor.frozen) == (OrderStatus.FILLED, frozenset())
        else:
            await pass_time(home, 10)
            assert status_of(home, order) is not OrderStatus.CANCELLED
            assert home.auditor.amounts == {SYMBOL: Decimal(1)}


@every_class
async def test_a_fill_lost_before_a_cancellation_is_booked_after_it_or_freezes_what_it_moved(
    tmp_path: Path, autojump_clock: MockClock, can: Capabilities
) -> None:
    def loses_fills(update: DeskUpdate) -> str:
        return "lost" if isinstance(update, Execution) and update.fill is not None else ""

    async with trading(tmp_path, can, [limit("90")], reports=loses_fills) as (home, _):
        home.venue.book.terms = msgspec.structs.replace(home.venue.book.terms, fill_ratio_max=Decimal("0.4"))
        strategy_id, order = await begin(home)
        await home.trade("90", quantity="1")
        await home.actor(strategy_id).perform(lambda session: session.withdraw("engine", entries_only=True))
        await pass_time(home, SOON_S + 10)

        if shows_fills(can) or can.acts_in_call:
            assert booked(home) == [(order.id, Decimal("0.4"))]
            assert home.auditor.frozen == frozenset()
        else:
            assert home.auditor.amounts == {SYMBOL: Decimal("0.4")}
        assert status_of(home, order) is OrderStatus.CANCELLED


@every_class
async def test_an_end_that_the_stream_lost_is_noticed(
    tmp_path: Path, autojump_clock: MockClock, can: Capabilities
) -> None:
    async with trading(tmp_path, can, [limit("90")], reports=lost) as (home, desk):
        strategy_id, order = await begin(home)
        await desk.cancel(order)
        await pass_time(home, 20)

        assert status_of(home, order) is OrderStatus.CANCELLED
        assert home.orders(strategy_id) == []


@every_class
async def test_a_cancellation_answered_by_unknown_order_ends_nothing_by_itself(
    tmp_path: Path, autojump_clock: MockClock, can: Capabilities
) -> None:
    """The order was filled, its report is still on the way, and the venue answers -2011."""
    async with trading(tmp_path, can, [limit("90")], reports=held) as (home, desk):
        strategy_id, order = await begin(home)
        await home.trade("90")
        await home.actor(strategy_id).perform(lambda session: session.withdraw("engine", entries_only=True))
        await home.settle()
        assert status_of(home, order) is not OrderStatus.CANCELLED

        desk.let_go()
        await pass_time(home, SOON_S)
        assert (status_of(home, order), booked(home)) == (OrderStatus.FILLED, [(order.id, Decimal(1))])


@every_class
@pytest.mark.parametrize("answer", [SILENCE, Refused("429: too many requests"), Confirmed()])
async def test_a_cancellation_that_was_lost_is_asked_for_again_by_itself(
    tmp_path: Path, autojump_clock: MockClock, can: Capabilities, answer: Outcome
) -> None:
    async with trading(tmp_path, can, [limit("90")]) as (home, desk):
        strategy_id, order = await begin(home)
        desk.cancels = [answer, answer]
        await home.actor(strategy_id).perform(lambda session: session.withdraw("engine", entries_only=True))
        await home.settle()
        assert home.desk_orders() == [order.client_order_id]
        await pass_time(home, SOON_S)

        assert home.desk_orders() == []
        assert status_of(home, order) is OrderStatus.CANCELLED


@every_class
@pytest.mark.parametrize("newest_first", [False, True])
async def test_reports_that_come_late_twice_and_out_of_order_are_booked_once(
    tmp_path: Path, autojump_clock: MockClock, can: Capabilities, newest_first: bool
) -> None:
    async with trading(tmp_path, can, [limit("90")], reports=held) as (home, desk):
        home.venue.book.terms = msgspec.structs.replace(home.venue.book.terms, fill_ratio_max=Decimal("0.4"))
        strategy_id, order = await begin(home)
        await home.trade("90", quantity="1")
        await home.trade("90", quantity="1")
        await desk.cancel(order)
        await home.settle()
        desk.held += desk.held
        assert len(desk.held) == 6
        desk.let_go(newest_first=newest_first)
        await pass_time(home, SOON_S)

        assert booked(home) == [(order.id, Decimal("0.4")), (order.id, Decimal("0.4"))]
        assert sum(lot.quantity for lot in home.lots(strategy_id)) == Decimal("0.8")
        assert status_of(home, order) is OrderStatus.CANCELLED
        assert (home.member(strategy_id).failures.total, home.auditor.frozen) == (0, frozenset())


@every_class
async def test_what_was_missed_is_asked_for_as_soon_as_the_stream_is_back(
    tmp_path: Path, autojump_clock: MockClock, can: Capabilities
) -> None:
    async with trading(tmp_path, can, [limit("90")], reports=lost) as (home, desk):
        _, order = await begin(home)
        await home.trade("90")
        desk.let_go()
        desk.say(Reconnected("the line was dead"))
        await home.settle()
        await pass_time(home, 3)

        assert bool(booked(home)) is can.fills_since
        assert (status_of(home, order) is OrderStatus.FILLED) is can.fills_since


async def test_a_strategy_in_back_off_with_a_full_mailbox_holds_up_nobody_and_loses_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_start=lambda _: [limit("90")])) as home:
        stuck, free = await home.deploy("one"), await home.deploy("other")
        await home.close()
        home.venue.book.terms = msgspec.structs.replace(home.venue.book.terms, fill_ratio_max=Decimal("0.001"))
        await home.trade("90", quantity="1")
        home.actor(stuck.id).mailbox.letters_max = 2
        home.actor(stuck.id)._crash(ValueError("a crash from anywhere"))
        for _ in range(20):
            await home.market.say(MarketTrade(SYMBOL, home.market.time_ms + 1_000, Decimal(90), Decimal(1)))
            await wait_all_tasks_blocked()
        assert not home.actor(stuck.id).loaded
        assert home.gateway.delivery.late > 0
        assert home.session(free.id).brain.tally.fills == 21

        await home.settle()
        assert home.session(stuck.id).brain.tally.fills == 21
        assert home.gateway.delivery.dropped == 0


# The start.


def written(home: Home) -> list[tuple[str, str, bytes]]:
    """Return all that the journal holds of trading."""
    entities = ("strategy", "brain", "order", "position", "fill", "stray", "desk", "book")
    return [(entity, row.key, row.data) for entity in entities for row in home.journal.rows(entity)]


@every_class
async def test_to_reconcile_twice_changes_nothing(tmp_path: Path, autojump_clock: MockClock, can: Capabilities) -> None:
    wishes = [limit("90"), limit("80")], [enter(tag="other")]
    async with trading(tmp_path, can, *wishes, default="answer", reports=lost) as (home, _):
        strategy = await home.deploy()
        await home.close()
        await home.trade("90")
        orders = frozenset(order.client_order_id for order in home.orders(strategy.id))
        await home.auditor.reconcile(orders, patience=lambda: None)
        await home.resolver.ask()
        await home.settle()
        # What differed until its fills were booked is entered again.
        await home.auditor.compare_positions()
        assert home.auditor.frozen == frozenset() or not shows_fills(can)
        await home.settle()
        fills, lots = booked(home), home.lots(strategy.id)
        before = written(home)
        await home.auditor.reconcile(orders, patience=lambda: None)
        await home.resolver.ask()
        await home.settle()

        assert (booked(home), home.lots(strategy.id)) == (fills, lots)
        if shows_fills(can):
            assert written(home) == before


@every_class
async def test_an_alien_order_and_its_fill_are_put_aside_and_nobody_is_hurt(
    tmp_path: Path, autojump_clock: MockClock, can: Capabilities
) -> None:
    async with trading(tmp_path, can, [limit("90")]) as (home, desk):
        strategy_id, order = await begin(home)
        alien = msgspec.structs.replace(order, client_order_id="web_1", position_id="pos_web", price=Decimal(95))
        await home.venue.place(alien, expires_at_ms=0)
        await pass_time(home, 6)
        assert list(home.bucket.found) == ["web_1"]
        await home.trade("95")
        await pass_time(home, SOON_S)

        assert booked(home) == []
        assert [stray.client_order_id for stray in home.bucket.found.values()] == ["web_1"]
        assert home.auditor.amounts == {SYMBOL: Decimal(1)}
        assert [each.id for each in home.orders(strategy_id)] == [order.id]
        assert desk.placed == [order.client_order_id]


@every_class
async def test_what_is_frozen_may_still_be_left(tmp_path: Path, autojump_clock: MockClock, can: Capabilities) -> None:
    async with trading(tmp_path, can, [enter()], [enter()]) as (home, _):
        strategy_id, order = await begin(home)
        await home.trade()
        alien = msgspec.structs.replace(order, client_order_id="web_1", position_id="pos_web", market_step=0)
        await home.venue.place(alien, expires_at_ms=0)
        await home.trade()
        await pass_time(home, SOON_S)
        assert home.auditor.frozen == {SYMBOL}
        await home.close()
        assert home.orders(strategy_id) == []

        await home.actor(strategy_id).perform(lambda session: session.close_positions(CloseReason.MANUAL))
        await home.settle()
        await home.trade()
        assert home.lots(strategy_id) == []
        assert home.auditor.amounts == {SYMBOL: Decimal(1)}
