"""How fast the kill switch stops a busy daemon in which a strategy spins, on a healthy disk and on a full one."""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec
import trio
from attrs import define, field, frozen

from actors.daemon import JOURNAL, Daemon
from actors.process import live_on, tune_interpreter
from actors.vitals import Watchdog
from actors.watchdog import BlackBox, Guard
from pipaid.config import Config, Declaration
from pipaid.config import sections as section
from pipaid.logs import configure
from pipaid.model.instrument import Timeframe
from pipaid.model.order import Order
from pipaid.plugins import Catalogue
from pipaid.sdk import Direction, Enter, Exit, Intent, OrderType, Template, View
from pipaid.seams import SystemRandom, World
from pipaid.storage.sqlite import SqliteJournal
from pipaid.venues.opening import MatchingDesk, SimulatedVenues
from pipaid.venues.simulated import SimulatedDesk
from pipaid.venues.venue import Outcome
from tests.bench.child import answer, in_child
from tests.bench.figure import Figure, Goal, Size, percentile
from tests.surfaces.faults import fail

SYMBOL: Final = "BTCUSDT"
RUNGS: Final = 25
TRADERS: Final = 20
# Ten candles a second: the traders enter and leave all the time, and the spinning one spins at each.
SPEED: Final = 600.0
WAIT_S_MAX: Final = 60.0
CHILD_S_MAX: Final = 600.0
# No entry at all after the kill counts as one so soon.
SOON_S: Final = 1e-6
# How long everybody trades before the switch is thrown.
BUSY_S: Final = 0.3
# How long one looks for entries that should not be there any more.
WATCHED_S: Final = 1.0
SENDS_MS_MAX: Final = 250.0
WITHDRAWN_MS_MAX: Final = 1_000.0


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What one child does: how many entries rest, and how often the switch is thrown; once if the disk is `full`."""

    state: str
    resting: int
    kills: int
    full: bool


def measure(size: Size) -> list[Figure]:
    """Throw the switch again and again in one daemon, and once in each of others whose disk fills up at that moment."""
    with tempfile.TemporaryDirectory(prefix="pipaid-bench-") as folder:
        work = Work(state=f"{folder}/healthy", resting=size.resting, kills=size.kills, full=False)
        healthy = in_child("kills", work, timeout_s=CHILD_S_MAX)
        full = [
            in_child("kills", Work(state=f"{folder}/{number}", resting=size.resting, kills=1, full=True))
            for number in range(size.kills_full)
        ]
    sent = [each["sends_max_ms"] for each in full]
    withdrawn = [each["withdrawn_max_ms"] for each in full]
    return [
        _figure("last entry sent after the kill, p99", (healthy["sends_p99_ms"],), SENDS_MS_MAX, f"{size.kills} kills"),
        _figure(
            f"cancellations of {size.resting:,} entries sent, slowest", (healthy["withdrawn_max_ms"],), WITHDRAWN_MS_MAX
        ),
        _figure(
            "disk full: last entry sent after the kill, p99", (percentile(sent, 0.99),), SENDS_MS_MAX,
            f"{size.kills_full} daemons",
        ),
        _figure(f"disk full: cancellations of {size.resting:,} entries sent", tuple(withdrawn), WITHDRAWN_MS_MAX),
    ]  # fmt: skip


def _figure(name: str, values: tuple[float, ...], goal_ms: float, note: str = "") -> Figure:
    return Figure(name=name, unit="ms", values=values, goal=Goal(goal_ms, at_most=True), note=note)


def main(arguments: str) -> None:
    """Run a daemon, throw its switch and answer with the times."""
    work = msgspec.json.decode(arguments, type=Work)
    answer(trio.run(_killed, work))


# Who trades.


@frozen
class NoParams:
    """No knobs."""


class Ladder(Template):
    """Let entries rest below the price."""

    id = "tpl_ladder"
    description = "Rests."
    params_type = NoParams

    def on_candle(self, view: View) -> Iterator[Intent]:
        """Put every rung that is missing into its place."""
        standing = {entry.tag for entry in view.entries}
        for rung in range(RUNGS):
            if (tag := f"rung {rung}") not in standing:
                price = view.price * (90 - rung) / 100
                yield Enter(
                    symbol=view.symbol, direction=Direction.LONG, type=OrderType.LIMIT, price=price,
                    notional=Decimal(100), tag=tag,
                )  # fmt: skip


class Restless(Template):
    """Enter at one candle and leave at the next."""

    id = "tpl_restless"
    description = "Trades."
    params_type = NoParams

    def on_candle(self, view: View) -> Iterable[Intent]:
        """Leave what is held, or enter."""
        if view.positions:
            return [Exit(position_id=position.id) for position in view.positions]
        return [Enter(symbol=view.symbol, direction=Direction.LONG, notional=Decimal(100), tag="once")]


class Spinning(Template):
    """Never come back."""

    id = "tpl_spinning"
    description = "Spins."
    params_type = NoParams

    def on_start(self, view: View) -> Iterable[Intent]:
        """Begin in peace."""
        return ()

    def on_candle(self, view: View) -> Iterable[Intent]:
        """Spin."""
        while True:
            pass


CATALOGUE: Final = Catalogue(templates={each.id: each for each in (Ladder, Restless, Spinning)})


def _declarations(resting: int) -> Iterator[Declaration]:
    kinds = [*[Ladder] * -(-resting // RUNGS), *[Restless] * TRADERS, Spinning]
    for number, kind in enumerate(kinds):
        yield Declaration(
            name=f"{kind.__name__.lower()} {number}",
            template_id=kind.id,
            symbols=(SYMBOL,),
            timeframe=Timeframe.M1,
            capital=Decimal(20_000),
            params={},
            deploy=True,
            source=f"kills:{number}",
        )


# What is sent.


@define(eq=False)
class Watch:
    """When entries and cancellations were sent (monotonic seconds); `up` once enough rest, `down` when none do."""

    enough: int
    entries: list[float] = field(factory=list[float])
    cancelled: dict[str, float] = field(factory=dict[str, float])
    resting: dict[str, None] = field(factory=dict[str, None])
    up: trio.Event = field(factory=trio.Event)
    down: trio.Event = field(factory=trio.Event)

    def rest(self, client_id: str) -> None:
        """Note an entry that rests from now on."""
        self.resting[client_id] = None
        if len(self.resting) >= self.enough:
            self.up.set()

    def end(self, client_id: str) -> None:
        """Note that it does not."""
        self.resting.pop(client_id, None)
        if not self.resting:
            self.down.set()


class TimedDesk(SimulatedDesk):
    """A simulated desk that notes what comes and when."""

    watch: Watch

    async def place(self, order: Order, *, expires_at_ms: int) -> Outcome:
        """Note an entry, and one that rests."""
        if not order.reduce_only:
            self.watch.entries.append(time.monotonic())
            if order.type is OrderType.LIMIT:
                self.watch.rest(order.client_order_id)
        return await super().place(order, expires_at_ms=expires_at_ms)

    async def cancel(self, order: Order) -> Outcome:
        """Note a cancellation."""
        self.watch.cancelled.setdefault(order.client_order_id, time.monotonic())
        self.watch.end(order.client_order_id)
        return await super().cancel(order)


@define(eq=False)
class TimedVenues(SimulatedVenues):
    """The simulated venue with its desks under watch."""

    watch: Watch

    def desk(self, *given: Any, **named: Any) -> MatchingDesk:
        """Return a desk that is watched."""
        line: Any = super().desk(*given, **named)
        desk = TimedDesk(line.venue.book, line.venue.activity)
        desk.watch = self.watch
        return desk


# What is measured.


async def _killed(work: Work) -> dict[str, float]:
    state = Path(work.state)
    state.mkdir(exist_ok=True)
    world = World()
    configure(clock=world.clock, variables={}, level="error", format="json")
    config = Config(
        daemon=section.Daemon(state_dir=state),
        market=section.Market(symbols=(SYMBOL,), speed=SPEED, start="2025-06-01T00:00:00Z"),
        stream=section.Stream(enabled=False),
        supervision=section.Supervision(restarts_max=1_000_000, backoff_min_s=0.001, backoff_max_s=0.001),
        guard=section.Guard(overruns_max=1_000_000),
        declarations=tuple(_declarations(work.resting)),
    )
    journal = SqliteJournal.open(state / JOURNAL, disk=world.disk, clock=world.clock, pid=world.env.pid())
    box = BlackBox(state / "blackbox")
    guard = Guard(world.clock, box=box)
    guard.open()
    tune_interpreter(guard)
    venues = TimedVenues(Watch(work.resting))
    try:
        daemon = Daemon(config, world, journal, guard, box, venues=venues, catalogue=CATALOGUE)
        await daemon.build()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(live_on, daemon, Watchdog(box, WAIT_S_MAX, {}))
            times = [await _kill(daemon, venues.watch, work) for _ in range(work.kills)]
            daemon.end()
    finally:
        guard.close()
        box.close()
        journal.close()
    return {
        "sends_p99_ms": percentile([sends for sends, _ in times], 0.99),
        "sends_max_ms": max(sends for sends, _ in times),
        "withdrawn_max_ms": max(withdrawn for _, withdrawn in times),
    }


async def _kill(daemon: Daemon, watch: Watch, work: Work) -> tuple[float, float]:
    """Throw the switch at some moment; return after how many ms the last entry and the last cancellation left.

    The cancellations are those of what rested at that moment.
    """
    with trio.fail_after(WAIT_S_MAX):
        if daemon.portfolio.active:
            await daemon.portfolio.deactivate(by="bench")
        await watch.up.wait()
    await trio.sleep(BUSY_S)
    watch.cancelled.clear()
    watch.up, watch.down = trio.Event(), trio.Event()
    standing = tuple(watch.resting)
    thrown_s = await trio.to_thread.run_sync(_throw, SystemRandom().uniform(0.0, 0.2), work.full)
    with trio.fail_after(WAIT_S_MAX):
        await watch.down.wait()
    await trio.sleep(WATCHED_S)
    assert len(standing) >= work.resting
    last_entry_s = max(watch.entries[-1] - thrown_s, SOON_S)
    return last_entry_s * 1e3, (max(watch.cancelled[key] for key in standing) - thrown_s) * 1e3


def _throw(after_s: float, full: bool) -> float:
    time.sleep(after_s)
    if full:
        fail(("pwrite64",), errno.ENOSPC)
    thrown_s = time.monotonic()
    os.kill(os.getpid(), signal.SIGUSR2)
    return thrown_s


if __name__ == "__main__":
    main(sys.argv[1])
