"""A watch in a real daemon: how long after a candle's close the desk is handed each order that it caused.

It is put on before the daemon starts, by `put_on`, and writes down what it saw as it ends.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import AsyncIterator, Iterable, Mapping
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

import trio
from attrs import define, evolve, field, frozen

import actors.process as daemon_process
from actors.daemon import Daemon
from pipaid.config.sections import Desk as Costs
from pipaid.config.sections import Market as Wanted
from pipaid.model.instrument import Instrument
from pipaid.model.order import Order
from pipaid.plugins import Catalogue, load_templates
from pipaid.sdk import Direction, Enter, ExitAll, Intent, RiskParams, Template, View
from pipaid.seams import SystemClock, World
from pipaid.venues.opening import MatchingDesk, SimulatedVenues
from pipaid.venues.venue import Closed, Market, MarketUpdate, Outcome
from pipaid.wire.activity import Activity


@frozen(kw_only=True)
class NoParams:
    """A template without knobs."""


class Alternator(Template):
    """Be in on one candle and out on the next, so that every candle causes an order."""

    id = "tpl_alternator"
    description = "Buys and sells by turns."
    params_type = NoParams
    risk_defaults: ClassVar[RiskParams] = RiskParams(max_open_positions=10)

    def on_start(self, view: View) -> Iterable[Intent]:
        """Begin with the next candle."""
        return ()

    def on_candle(self, view: View) -> Iterable[Intent]:
        """Leave what is held, or enter."""
        if view.positions:
            return (ExitAll(symbol=view.symbol),)
        return (Enter(symbol=view.symbol, direction=Direction.LONG, notional=Decimal(100)),)


@define
class DueClock(SystemClock):
    """A clock that remembers for when the last sleeper asked to be woken: that is when the candle closed."""

    due_s: float = 0.0

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        self.due_s = self.monotonic_s() + seconds
        await super().sleep(seconds)


@define(eq=False)
class Watch:
    """When each order was handed over, and how long after the close before it."""

    clock: DueClock = field(factory=DueClock)
    closed_s: float = 0.0
    delays: array[float] = field(factory=lambda: array("d"))

    def placed(self) -> None:
        """Note that the desk is handed an order."""
        now_s = self.clock.monotonic_s()
        self.delays.extend((now_s, now_s - self.closed_s))


@define(eq=False)
class Turns(trio.abc.Instrument):
    """When each turn of the loop ended, and how long it computed: so long has a candle to wait that comes meanwhile.

    It is CPU time, so whatever else the machine does makes it no longer.
    """

    clock: SystemClock = field(factory=SystemClock)
    begun_s: float = 0.0
    spent: array[float] = field(factory=lambda: array("d"))

    def after_io_wait(self, timeout: float) -> None:
        """Begin a turn."""
        self.begun_s = time.thread_time()

    def before_io_wait(self, timeout: float) -> None:
        """End it."""
        self.spent.extend((self.clock.monotonic_s(), time.thread_time() - self.begun_s))


class _Around:
    """What stands in front of something, and is like it in all that it does not do itself."""

    def __init__(self, inner: Any, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Market(_Around):
    async def updates(self) -> AsyncIterator[MarketUpdate]:
        async for update in self._inner.updates():
            if isinstance(update, Closed):
                self._watch.closed_s = self._watch.clock.due_s
            yield update


class _Desk(_Around):
    async def place(self, order: Order, *, expires_at_ms: int) -> Outcome:
        self._watch.placed()
        outcome: Outcome = await self._inner.place(order, expires_at_ms=expires_at_ms)
        return outcome


@define(eq=False)
class WatchedVenues(SimulatedVenues):
    """The venues of the daemon with the watch on them."""

    watch: Watch = field(factory=Watch)

    def market(
        self, wanted: Wanted, world: World, activity: Activity, *, resume_ms: int | None, listed_ms: int | None
    ) -> Market:
        watched = evolve(world, clock=self.watch.clock)
        market = super().market(wanted, watched, activity, resume_ms=resume_ms, listed_ms=listed_ms)
        self._sleep = world.clock.sleep
        return cast("Market", _Market(market, self.watch))

    def desk(
        self, wanted: Costs, instruments: Mapping[str, Instrument], activity: Activity, *, dry: bool
    ) -> MatchingDesk:
        return cast("MatchingDesk", _Desk(super().desk(wanted, instruments, activity, dry=dry), self.watch))


def put_on(orders: str, turns: str) -> None:
    """Let the daemon that starts in this process wear the watch; pairs of numbers go into both files."""
    watch, loop = Watch(), Turns()
    live = daemon_process.live

    async def watched(*given: Any) -> int:
        trio.lowlevel.add_instrument(loop)
        try:
            return await live(*given)
        finally:
            trio.lowlevel.remove_instrument(loop)
            Path(orders).write_bytes(watch.delays.tobytes())
            Path(turns).write_bytes(loop.spent.tobytes())

    replaced = cast("Any", daemon_process)
    replaced.Daemon = partial(Daemon, venues=WatchedVenues(watch=watch))
    replaced.load_templates = _with_alternator
    replaced.live = watched


def _with_alternator(**loading: Any) -> Catalogue:
    catalogue = load_templates(**loading)
    return evolve(catalogue, templates={**catalogue.templates, Alternator.id: Alternator})
