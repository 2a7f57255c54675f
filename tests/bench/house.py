"""The daemon as it is, every part of it, on a market whose candles were made beforehand."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final

import trio
from attrs import define, field

from actors.daemon import JOURNAL, Daemon
from actors.process import tune_interpreter
from actors.watchdog import MIB, BlackBox, Guard
from pipaid.config import Config, Declaration
from pipaid.config import sections as section
from pipaid.logs import configure
from pipaid.model.candle import Candle
from pipaid.model.instrument import MINUTE_MS, Instrument, Timeframe
from pipaid.model.interval import Interval
from pipaid.model.turnover import Print, Turnover
from pipaid.plugins import Catalogue, load_templates
from pipaid.seams import World
from pipaid.signals.series import BLOCK
from pipaid.storage.sqlite import SqliteJournal
from pipaid.venues.playback import Playback
from pipaid.venues.synthetic import SyntheticMarket
from pipaid.venues.venue import Market, MarketUpdate
from pipaid.wire.activity import Activity

# So far into a block of candles, a day contains its share of the work for the change to the next one.
START_MS: Final = (7_000 * BLOCK + 1_300) * MINUTE_MS
SEED: Final = 11
ENDS_S_MAX: Final = 200.0


@define(eq=False)
class Prepared:
    """A market that plays updates made beforehand, in lockstep; its past is the synthetic one."""

    past: SyntheticMarket
    name: str
    _playback: Playback
    listed_ms: int = 0
    ends_ms: int = 0

    async def instruments(self) -> Mapping[str, Instrument]:
        """Return what is listed."""
        return await self.past.instruments()

    async def history(self, symbol: str, timeframe: Timeframe, *, end_ms: int, count: int) -> list[Candle]:
        """Return candles of the past."""
        return await self.past.history(symbol, timeframe, end_ms=end_ms, count=count)

    async def turnover(self, symbol: str, interval: Interval, *, first_ms: int, end_ms: int) -> list[Turnover]:
        """Return what was traded in the past."""
        return await self.past.turnover(symbol, interval, first_ms=first_ms, end_ms=end_ms)

    async def trades(self, symbol: str, *, end_ms: int, count: int) -> list[Print]:
        """Return market trades of the past."""
        return await self.past.trades(symbol, end_ms=end_ms, count=count)

    def begins_ms(self, symbol: str) -> int:
        """Return when the past begins."""
        return self.past.begins_ms(symbol)

    async def prices(self) -> Mapping[str, Decimal]:
        """Return the prices at the beginning."""
        return await self.past.prices()

    def now_ms(self) -> int:
        """Return the venue's time."""
        return self._playback.now_ms

    def updates(self) -> Playback:
        """Yield what was prepared."""
        return self._playback


@define(eq=False)
class House(Daemon):
    """A daemon whose market plays `steps`; `began` is called before the first of them."""

    steps: Iterable[MarketUpdate] = field(kw_only=True)
    began: Callable[[], None] = field(kw_only=True)

    def _market(self) -> Market:
        playback = Playback(
            steps=self._played(),
            clock=self.world.clock,
            activity=self.activity,
            speed=None,
            lockstep=True,
            now_ms=START_MS,
        )
        return Prepared(synthetic(self.config.market.symbols, self.world, self.activity), "prepared", playback)

    def _played(self) -> Iterator[MarketUpdate]:
        # Nothing made so far is garbage; the daemon does the same when it has loaded.
        gc.collect()
        gc.freeze()
        self.began()
        yield from self.steps


def synthetic(
    symbols: Sequence[str], world: World, activity: Activity, minutes: int = 0, *, speed: float | str = "max"
) -> SyntheticMarket:
    """Return the synthetic market of all benches."""
    return SyntheticMarket(
        symbols=symbols,
        seed=SEED,
        clock=world.clock,
        activity=activity,
        start_ms=START_MS,
        end_ms=START_MS + minutes * MINUTE_MS,
        speed=speed,
    )


async def candle_steps(symbols: Sequence[str], world: World, minutes: int) -> list[MarketUpdate]:
    """Return what the synthetic market plays in so many minutes."""
    return [update async for update in synthetic(symbols, world, Activity(), minutes).updates()]


async def play(
    state: Path,
    declarations: Iterable[Declaration],
    steps: Iterable[MarketUpdate],
    *,
    symbols: Sequence[str],
    began: Callable[[], None],
    over: Callable[[House], None],
    catalogue: Catalogue | None = None,
    guard: section.Guard | None = None,
) -> None:
    """Let a daemon with a journal on disk deploy the strategies and follow the market to its end.

    `over` is called when all that the market caused is dealt with and durable.
    """
    world = World()
    configure(clock=world.clock, variables={}, level="error", format="json")
    config = Config(
        daemon=section.Daemon(state_dir=state, exit_at_end=True),
        market=section.Market(symbols=tuple(symbols), speed="max"),
        stream=section.Stream(enabled=False),
        guard=guard or section.Guard(),
        declarations=tuple(declarations),
    )
    journal = SqliteJournal.open(state / JOURNAL, disk=world.disk, clock=world.clock, pid=world.env.pid())
    box = BlackBox(state / "blackbox")
    # Declared strategies begin within callbacks of the daemon that runs them, so the budget is the real one.
    watch = Guard(
        world.clock,
        budget_ms=config.guard.budget_ms,
        blocked_ms=config.guard.blocked_ms,
        box=box,
        hoard_max=config.guard.strategy_memory_mib_max * MIB,
    )
    watch.open()
    tune_interpreter(watch)
    try:
        found = catalogue or load_templates()
        house = House(config, world, journal, watch, box, catalogue=found, steps=steps, began=began)
        await house.build()
        with trio.fail_after(ENDS_S_MAX):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_end, house, over)
                await house.supervisor.run()
                nursery.cancel_scope.cancel()
    finally:
        watch.close()
        box.close()
        journal.close()


async def _end(house: House, over: Callable[[House], None]) -> None:
    await house.feed.ended.wait()
    over(house)
    await house.wind_down()
    house.supervisor.stop()
