"""Rehearsals: a whole daemon on a market of the test, where an operator lets one thing after the other go wrong."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, MutableMapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from actors.daemon import Daemon
from actors.rehearsal import Rehearsal
from actors.watchdog import BlackBox, Guard
from pipaid.config import Config, Declaration
from pipaid.config import sections as section
from pipaid.engine.template import Enter
from pipaid.errors import InvalidParameter, InvalidState
from pipaid.model.candle import MarketTrade
from pipaid.model.fault import Fault
from pipaid.model.instrument import Timeframe
from pipaid.model.operation import OPERATIONS, decode_request
from pipaid.model.order import BookedFill, Order, OrderStatus
from pipaid.model.report import DaemonStatus, FaultList
from pipaid.model.strategy import Status
from pipaid.plugins import Catalogue
from pipaid.seams import SystemRandom, World
from pipaid.venues.faults import Faults, UnreliableDesk
from pipaid.venues.interrupted import UnreliableMarket
from pipaid.venues.opening import SimulatedVenues
from pipaid.venues.venue import Closed, Market
from pipaid.wire.activity import Activity
from pipaid.wire.caller import Caller, Role
from pipaid.wire.lines import Peer
from tests.actors.desks import HandDesk
from tests.actors.homes import HandMarket, TrioClock
from tests.builders import MINUTE_MS, OTHER, START_MS, SYMBOL, enter, limit, make_candle, scripted
from tests.storage.journals import open_journal
from tests.worlds import GivenEnv

pytestmark = pytest.mark.usefixtures("logged")

ME = Caller(role=Role.OPERATE, peer=Peer(pid=1, uid=0))
# Longer than anything may be late, silent or in doubt, and than the venue is compared with the books once more.
LONG_S = 100
Logged = list[MutableMapping[str, Any]]


@define(eq=False)
class HandVenues(SimulatedVenues):
    """The simulated venue on a market that the test moves."""

    market_of: HandMarket = field(factory=HandMarket)

    def market(self, wanted: section.Market, world: World, activity: Activity, **known: Any) -> Market:
        super().market(wanted, world, activity, **known)
        return UnreliableMarket(self.market_of, Faults(SystemRandom(seed=1)))


@define(eq=False)
class Stage:
    """A daemon with one strategy on its paper desk, which wishes at each close what the test put there."""

    daemon: Daemon
    market: HandMarket
    wishes: list[tuple[Enter, ...]]
    price: str = "100"

    async def ask(self, name: str, **args: Any) -> Any:
        """Ask for an operation as the control socket does."""
        return await self.daemon.control.operations[name](ME, decode_request(OPERATIONS[name], args))

    async def fault(self, kind: Fault, times: int = 1, at: str = "paper") -> None:
        await self.ask("sim.fault", kind=kind.value, times=times, at=at)

    async def happened(self) -> dict[str, int]:
        listed: FaultList = await self.ask("sim.faults")
        return {row.kind: row.happened for row in listed.data if row.happened}

    async def told(self) -> list[str]:
        """Return what the status says of rehearsals; the machine that runs the test may have troubles of its own."""
        status: DaemonStatus = await self.ask("status")
        return [line for line in status.degraded if line.startswith("rehearsal: ")]

    async def wish(self, *intents: Enter) -> None:
        """Have the strategy wish something at the next close, and wait until its order went wherever it goes."""
        self.wishes.append(intents)
        await trio.sleep(MINUTE_MS / 1000)

    @property
    def line(self) -> UnreliableDesk:
        desk = self.daemon.posts[True].desk
        assert isinstance(desk, UnreliableDesk)
        return desk

    def orders(self) -> list[Order]:
        """Return the orders in the journal, in the order in which they were placed."""
        rows = [msgspec.json.decode(row.data, type=Order) for row in self.daemon.journal.rows("order")]
        return sorted(rows, key=lambda order: (order.placed_at_ms, order.id))

    def order(self) -> Order:
        (order,) = self.orders()
        return order

    def booked(self) -> list[str]:
        rows = self.daemon.journal.rows("fill")
        return sorted(msgspec.json.decode(row.data, type=BookedFill).fill.id for row in rows)

    async def filled(self) -> list[str]:
        return sorted(fill.id for fill in await self.line.venue.fills_since(0))

    async def assert_books_agree(self) -> None:
        """Hold the journal against the venue: the same fills, and nothing in doubt, frozen or under way."""
        post = self.daemon.posts[True]
        assert self.booked() == await self.filled()
        assert (dict(post.resolver.doubts), post.auditor.frozen) == ({}, frozenset())
        with trio.fail_after(LONG_S):
            await self.daemon.activity.idle()

    async def play(self) -> None:
        """Let the market trade every second and close its candles."""
        while True:
            await trio.sleep_until(math.floor(trio.current_time()) + 1)
            now_ms = START_MS + round(trio.current_time() * 1000)
            await self.market.say(MarketTrade(SYMBOL, now_ms, Decimal(self.price), Decimal(1_000)))
            if now_ms % MINUTE_MS == 0:
                index = (now_ms - START_MS) // MINUTE_MS - 1
                candles = (make_candle(index, self.price), make_candle(index, self.price, OTHER))
                await self.market.say(Closed(now_ms, candles))


@asynccontextmanager
async def on_stage(folder: Path, desk: section.Desk | None = None) -> AsyncGenerator[Stage]:
    """Run a daemon until the block is left."""
    wishes = list[tuple[Enter, ...]]()
    script = scripted(on_candle=lambda _: wishes.pop(0) if wishes else ())
    config = Config(
        daemon=section.Daemon(state_dir=folder),
        desk=desk or section.Desk(),
        stream=section.Stream(enabled=False),
        declarations=(
            Declaration(
                name="the one on stage", template_id=script.id, symbols=(SYMBOL,), timeframe=Timeframe.M1,
                capital=Decimal(10_000), params={}, deploy=True, dry_run=True,
            ),
        ),
    )  # fmt: skip
    world = World(clock=TrioClock(), random=SystemRandom(seed=1), env=GivenEnv())
    venues, box, journal = HandVenues(), BlackBox(folder / "blackbox"), open_journal(folder)
    daemon = Daemon(
        config, world, journal, Guard(world.clock), box, venues,
        catalogue=Catalogue(templates={script.id: script}), threaded=False,
    )  # fmt: skip
    try:
        await daemon.build()
        stage = Stage(daemon, venues.market_of, wishes)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(daemon.supervisor.run)
            # The market is not played before there is somebody to hear it, however long its doors take to open.
            members = daemon.roster.members
            while not any(each.strategy.status is Status.DEPLOYED for each in members.values()):  # noqa: ASYNC110
                await trio.sleep(0.01)
            nursery.start_soon(stage.play)
            minute_s = MINUTE_MS / 1000
            await trio.sleep_until((math.floor(trio.current_time() / minute_s) + 1) * minute_s + 1)
            yield stage
            nursery.cancel_scope.cancel()
    finally:
        box.close()
        journal.close()


# What becomes of an entry at the market.


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (Fault.LOST, OrderStatus.ABSENT),
        (Fault.UNANSWERED, OrderStatus.FILLED),
        (Fault.LATE, OrderStatus.FILLED),
        (Fault.GARBLED, OrderStatus.FILLED),
        (Fault.BANNED, OrderStatus.REJECTED),
        (Fault.REFUSED, OrderStatus.REJECTED),
        (Fault.DROPPED, OrderStatus.FILLED),
        (Fault.DOUBLED, OrderStatus.FILLED),
        (Fault.DELAYED, OrderStatus.FILLED),
        (Fault.SILENT, OrderStatus.FILLED),
        (Fault.CUT, OrderStatus.FILLED),
        (Fault.OUTAGE, OrderStatus.FILLED),
    ],
)
async def test_whatever_goes_wrong_the_journal_learns_what_the_venue_did(
    kind: Fault, status: OrderStatus, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with on_stage(tmp_path) as stage:
        await stage.fault(kind)

        await stage.wish(enter())
        await trio.sleep(LONG_S)

        assert stage.order().status is status
        assert len(await stage.filled()) == (status is OrderStatus.FILLED)
        assert await stage.happened() == {kind.value: 1}
        await stage.assert_books_agree()


async def test_after_a_503_the_order_is_where_the_venue_has_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with on_stage(tmp_path) as stage:
        await stage.fault(Fault.BROKEN, times=6)

        for _ in range(6):
            await stage.wish(enter())
        await trio.sleep(LONG_S)

        ended = {order.status for order in stage.orders()}
        assert ended == {OrderStatus.FILLED, OrderStatus.ABSENT}
        assert await stage.happened() == {"broken": 6}
        await stage.assert_books_agree()


async def test_a_late_request_that_has_expired_ends_absent(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with on_stage(tmp_path, section.Desk(request_expiry=True)) as stage:
        await stage.fault(Fault.LATE, times=6)

        for _ in range(6):
            await stage.wish(enter())
        await trio.sleep(LONG_S)

        assert OrderStatus.ABSENT in {order.status for order in stage.orders()}
        await stage.assert_books_agree()


@pytest.mark.parametrize("kind", [Fault.LOST, Fault.UNANSWERED, Fault.LATE, Fault.GARBLED, Fault.REFUSED])
async def test_a_cancellation_that_goes_wrong_leaves_no_order_behind_unseen(
    kind: Fault, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with on_stage(tmp_path) as stage:
        await stage.wish(limit("90"))
        await stage.fault(kind)
        await stage.ask("kill.activate", reason="rehearsal")
        await trio.sleep(LONG_S)

        working = {each.order.client_order_id for each in stage.line.venue.book.orders()}
        assert stage.order().working is (stage.order().client_order_id in working)
        assert await stage.happened() == {kind.value: 1}
        await stage.assert_books_agree()


# Market data.


@pytest.mark.parametrize("kind", [Fault.DROPPED, Fault.DOUBLED, Fault.DELAYED, Fault.SILENT, Fault.CUT])
async def test_whatever_becomes_of_market_data_every_candle_is_known_in_the_end(
    kind: Fault, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with on_stage(tmp_path) as stage:
        times = 1 if kind is Fault.SILENT else 150
        await stage.fault(kind, times, at="market")
        await trio.sleep(5 * MINUTE_MS / 1000)

        feed = stage.daemon.feed
        series = await feed.series(SYMBOL, Timeframe.M1)
        assert series.index == feed.quotes.now_ms // MINUTE_MS - 1
        assert (feed.mended > 0) is (kind in (Fault.DROPPED, Fault.CUT))
        assert await stage.happened() == {kind.value: times}
        assert SYMBOL not in feed.quotes.stale


async def test_prices_grow_stale_while_the_market_data_is_silent(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with on_stage(tmp_path) as stage:
        await stage.fault(Fault.SILENT, at="market")

        await trio.sleep(15)
        assert SYMBOL in stage.daemon.quotes.stale
        await trio.sleep(10)

        assert SYMBOL not in stage.daemon.quotes.stale


async def test_a_market_refuses_faults_of_requests(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with on_stage(tmp_path) as stage:
        with pytest.raises(InvalidParameter, match="kind must be one of dropped, doubled"):
            await stage.fault(Fault.LOST, at="market")


# What is set, and who is told of it.


async def test_a_fault_is_ordered_at_both_desks_unless_one_is_named(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with on_stage(tmp_path) as stage:
        both: FaultList = await stage.ask("sim.fault", kind="lost", times=3)
        one: FaultList = await stage.ask("sim.fault", kind="lost", at="simulated")

        assert [(row.at, row.ordered) for row in both.data] == [("paper", 3), ("simulated", 3)]
        assert [(row.at, row.ordered) for row in one.data] == [("simulated", 4)]


async def test_the_listing_has_every_kind_at_each_desk_with_its_meaning(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with on_stage(tmp_path, section.Desk(faults=section.Faults(late=Decimal("0.25")))) as stage:
        listed: FaultList = await stage.ask("sim.faults")

        at_desks = [(desk, kind.value) for desk in ("paper", "simulated") for kind in Fault]
        in_data = [("market", kind) for kind in ("dropped", "doubled", "delayed", "silent", "cut", "outage")]
        assert [(row.at, row.kind) for row in listed.data] == at_desks + in_data
        assert all(row.means for row in listed.data)
        assert {row.kind: row.share for row in listed.data if row.share != "0"} == {"late": "0.25"}


async def test_status_says_that_it_is_a_rehearsal_for_as_long_as_faults_are_set(
    tmp_path: Path, autojump_clock: MockClock, logged: Logged
) -> None:
    async with on_stage(tmp_path, section.Desk(faults=section.Faults(doubled=Decimal("0.01")))) as stage:
        await stage.fault(Fault.LOST, times=2)

        assert await stage.told() == [
            "rehearsal: paper is set to faults: lost next 2 times, doubled 0.01 of the time",
            "rehearsal: simulated is set to faults: doubled 0.01 of the time",
        ]
        assert [each["detail"] for each in logged if each["event"] == "faults.set"] == [
            "rehearsal: paper is set to faults: doubled 0.01 of the time",
            "rehearsal: simulated is set to faults: doubled 0.01 of the time",
        ]

        await stage.ask("sim.calm")

        assert await stage.told() == []


async def test_calm_ends_what_was_set_and_lists_what_happened(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with on_stage(tmp_path, section.Desk(faults=section.Faults(late=Decimal(1)))) as stage:
        await stage.fault(Fault.REFUSED)
        await stage.wish(enter())

        calm: FaultList = await stage.ask("sim.calm")
        await stage.wish(enter())
        await trio.sleep(LONG_S)

        assert [(row.kind, row.share, row.ordered, row.happened) for row in calm.data] == [("refused", "0", 0, 1)]
        assert [order.status for order in stage.orders()] == [OrderStatus.REJECTED, OrderStatus.FILLED]


async def test_without_faults_nothing_is_said_of_them(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with on_stage(tmp_path) as stage:
        assert await stage.told() == []
        assert (await stage.ask("sim.calm")).data == ()


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ({}, "kind"),
        ({"kind": "plague"}, "kind"),
        ({"kind": "lost", "times": 0}, "times"),
        ({"kind": "lost", "times": 10**9}, "times"),
        ({"kind": "lost", "at": "venue"}, "at"),
    ],
)
def test_a_fault_that_there_is_not_is_refused(args: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        decode_request(OPERATIONS["sim.fault"], args)

    assert [name for name, _ in refused.value.details] == [named]


@pytest.mark.parametrize(
    "make_desks", [dict, lambda: {"paper": HandDesk(Activity())}], ids=["no desk", "a desk that is not simulated"]
)
async def test_at_a_venue_that_is_not_simulated_nothing_goes_wrong_by_request(
    make_desks: Callable[[], dict[str, Any]],
) -> None:
    rehearsal = Rehearsal(make_desks())

    for args in ({"kind": "lost"}, {"kind": "lost", "at": "paper"}, {"kind": "silent", "at": "market"}):
        asked: Any = decode_request(OPERATIONS["sim.fault"], args)
        with pytest.raises(InvalidState, match="not simulated"):
            await rehearsal.sim_fault(ME, asked)
    nothing: Any = decode_request(OPERATIONS["sim.faults"], {})
    assert (await rehearsal.sim_faults(ME, nothing)).data == ()
    assert rehearsal.told() == []


def test_every_fault_can_be_configured() -> None:
    shares: dict[str, Any] = {kind.value: Decimal("0.05") for kind in Fault}

    every = section.Faults(**shares)

    assert every.shares() == dict.fromkeys(Fault, Decimal("0.05"))
    assert section.Faults().shares() == {}
