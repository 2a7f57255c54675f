"""One simulated world: a whole daemon with its journal, a venue that outlives it, and everything that may go wrong."""

from __future__ import annotations

import hashlib
import importlib
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from math import inf
from pathlib import Path
from random import Random
from typing import Any, cast
from unittest.mock import patch

import trio
import trio.testing
from attrs import define, field

from actors.daemon import JOURNAL, Daemon
from actors.recorder import Recorder
from actors.supervisor import GivenUp
from actors.watchdog import BlackBox, Guard
from pipaid.config import Config, Declaration
from pipaid.config import sections as section
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.seams import SystemRandom
from pipaid.seams import World as Seams
from pipaid.storage.sqlite import SqliteJournal
from pipaid.storage.store import JournalLost
from pipaid.venues.faults import Faults, UnreliableDesk
from pipaid.venues.venue import Closed
from pipaid.wire.lines import Peer
from tests.simulation.allowed import Allowed
from tests.simulation.binder import Binder
from tests.simulation.checks import Checks
from tests.simulation.operator import Operator
from tests.simulation.person import Person
from tests.simulation.plan import CALM_S, DEATHS, HANGS, OPERATOR, PERSON, STUMBLES, Plan, Scene
from tests.simulation.seams import (
    START_MS,
    Crossings,
    SeededIds,
    SimulatedClock,
    SimulatedDisk,
    SimulatedEnv,
    SimulatedJournal,
    SimulatedNet,
    Timekeeper,
    Unlocked,
)
from tests.simulation.traders import Clumsy, Trader, traders
from tests.simulation.venue import MINUTE_MS, Ledger, LifeDesk, LifeMarket, LongLine, Prices, open_ledger

SYMBOLS = ("BTCUSDT", "ETHUSDT")
LIVES_MAX = 40
NOTES_KEPT = 40
HANG_S = (0.5, 15.0)
# A gap of so much is one by any measure.
GAP_S_MIN = 3.0
# Somebody trades by hand on the account for so long.
FOREIGN_S = 130.0


@define(eq=False)
class World:
    """A world from a plan, with its state in a folder."""

    plan: Plan
    folder: Path
    checks: Checks = field(init=False)
    person: Person = field(init=False)
    operator: Operator = field(init=False)
    binder: Binder = field(init=False)
    instruments: dict[str, Instrument] = field(init=False)
    prices: dict[str, Prices] = field(init=False)
    faults: Faults = field(init=False)
    lines: dict[bool, UnreliableDesk] = field(init=False)
    lives: int = 0
    crossings: int = 0
    deaths: list[str] = field(factory=list[str])
    last: deque[str] = field(factory=partial(deque[str], maxlen=NOTES_KEPT))
    life: Crossings = field(factory=Crossings)
    market: LifeMarket | None = None
    nursery: trio.Nursery = field(init=False)
    daemon: Daemon | None = None
    over: bool = False
    ending: bool = False
    still: bool = False
    trace: Any = field(factory=hashlib.blake2b)
    timekeeper: Timekeeper = field(factory=Timekeeper)
    skew_s: float = 0.0
    jumped_s: float = -inf
    hanging: Random = field(init=False)
    hung_since_s: float = inf
    hung_until_s: float = 0.0
    hangs: int = 0
    stumbling: Random = field(init=False)
    stumbled: bool = False
    stumbles: int = 0
    clock: trio.testing.MockClock = field(init=False)

    def __attrs_post_init__(self) -> None:
        seed = self.plan.scene.seed
        self.instruments = {symbol: _instrument(symbol) for symbol in SYMBOLS}
        self.prices = {symbol: Prices(symbol, Random(f"{seed} {symbol}")) for symbol in SYMBOLS}
        chance, rates = SystemRandom(seed=seed), dict(self.plan.rates)
        # What comes later than this may not be settled at the end.
        until_s = self.plan.scene.faulty_s + CALM_S / 4 if self.plan.long_line else 0.0
        self.faults = LongLine(chance, rates, until_s=until_s)
        self.lines = {
            dry: open_ledger(self.instruments, self.faults, self.plan.capabilities, self.plan.depth)
            for dry in (True, False)
        }
        caps = self.plan.caps
        self.checks = Checks(
            self,
            Allowed.of(
                {
                    "exposure_max": caps.exposure_max,
                    "max_open_positions": caps.open_positions_max,
                    "open_orders_max": caps.open_orders_max,
                    "orders_per_minute_max": caps.orders_per_minute_max,
                }
            ),
        )
        self.person = Person(self, Random(f"{seed} person"))
        self.operator = Operator(self, Random(f"{seed} operator"))
        self.binder = Binder(self, Random(f"{seed} binder"))
        self.hanging, self.stumbling = Random(f"{seed} hangs"), Random(f"{seed} stumbles")
        for ledger in self.ledgers:
            ledger.on_taken = partial(self.checks.taken, ledger)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return what is traded."""
        return SYMBOLS

    @property
    def ledgers(self) -> list[Ledger]:
        """Return what the venue knows of each account."""
        return [self.ledger(dry) for dry in self.lines]

    def ledger(self, dry: bool) -> Ledger:
        """Return what the venue knows of one account."""
        ledger = self.lines[dry].venue
        assert isinstance(ledger, Ledger)
        return ledger

    # The run.

    def run(self) -> list[str]:
        """Run the world to its end and return what was violated."""
        writing = patch.object(Recorder, "_write_waiting", self._writing())
        # The kernel would tell the number of this process.
        peers = patch("actors.control.peer_of", return_value=Peer(pid=1, uid=0))
        with _deterministic(self.plan.scene.seed), writing, peers:
            self.clock = trio.testing.MockClock(autojump_threshold=0)
            trio.run(self._main, clock=self.clock)
        return self.checks.violations

    async def _main(self) -> None:
        with trio.move_on_after(10 * (self.plan.scene.faulty_s + CALM_S)) as limit:
            async with trio.open_nursery() as nursery:
                self.nursery = nursery
                nursery.start_soon(self.timekeeper.run)
                nursery.start_soon(self._tick)
                if PERSON not in self.plan.scene.without:
                    nursery.start_soon(self.person.attend)
                if OPERATOR not in self.plan.scene.without:
                    nursery.start_soon(self.operator.attend)
                if self.plan.scene.bound:
                    nursery.start_soon(self.binder.attend)
                nursery.start_soon(self._disturb)
                while trio.current_time() < self.plan.scene.faulty_s and self.lives < LIVES_MAX:
                    await self._live(*self._ends_at())
                    await trio.sleep(self.plan.chance.uniform(0, 20))
                self.over = True
                if not self.checks.violations:
                    self.faults.calm()
                    for ledger in self.ledgers:
                        ledger.foreign.clear()
                    await self._live(0, inf)
                    self.checks.at_the_end()
                    self.checks.let_go()
                nursery.cancel_scope.cancel()
        if limit.cancelled_caught:
            self.checks.violate("the world did not come to its end")

    def _ends_at(self) -> tuple[int, float]:
        crash_at = self.plan.scene.crash_at
        if crash_at is not None:
            return (crash_at if self.lives == 0 else 0), inf
        if DEATHS in self.plan.scene.without:
            return 0, inf
        return 0, self.plan.chance.expovariate(1 / self.plan.weight_mean)

    async def _tick(self) -> None:
        """Let the market trade, and close its candles."""
        closed_ms = START_MS
        while True:
            await trio.sleep(self.plan.tick_s)
            if self.still:
                continue
            now_ms = START_MS + round(trio.current_time() * 1000)
            for prices in self.prices.values():
                self._tell(prices.trade(now_ms))
            if now_ms - closed_ms >= MINUTE_MS:
                closed_ms += MINUTE_MS
                self._tell(Closed(closed_ms, tuple(each.close(closed_ms) for each in self.prices.values())))

    async def _disturb(self) -> None:
        """Set the wall clock, stall the loop, trade by hand, and let another daemon take the journal over, at times."""
        chance = self.plan.chance
        while self.plan.disturbed:
            await trio.sleep(chance.uniform(20, 180))
            if self.over:
                return
            choice = chance.randrange(5)
            if choice == 0:
                self.skew_s = chance.choice((-3_600.0, 0.0, 3_600.0))
            elif choice == 1:
                self.nursery.start_soon(self._trade_by_hand, chance.choice(self.ledgers), chance.choice(SYMBOLS))
            elif choice < 4:
                gap_s = chance.choice((chance.uniform(1, 30), chance.uniform(GAP_S_MIN, 9)))
                self.clock.jump(gap_s)
                if gap_s > GAP_S_MIN:
                    self.jumped_s = trio.current_time()
            elif self.daemon is not None and not self.life.dead:
                self.life.taken_over = True
                journal = self.folder / JOURNAL
                SqliteJournal.open(journal, disk=Unlocked(), clock=SimulatedClock(self), pid=0).close()

    async def _trade_by_hand(self, ledger: Ledger, symbol: str) -> None:
        """Let somebody hold something on the account for a while that no strategy knows of."""
        ledger.foreign[symbol] = Decimal(3)
        await trio.sleep(FOREIGN_S)
        ledger.foreign.pop(symbol, None)

    def _writing(self) -> Callable[[Recorder], None]:
        """Return how recorders write here: only while the disk answers."""
        write = Recorder._write_waiting

        def write_unless_it_hangs(recorder: Recorder) -> None:
            if not self._disk_hangs(recorder):
                write(recorder)
                self.hung_since_s = inf

        return write_unless_it_hangs

    def _disk_hangs(self, recorder: Recorder) -> bool:
        now_s = trio.current_time()
        if self.ending or self.life.dead or recorder._inbox.empty() or HANGS in self.plan.scene.without:
            return False
        if now_s >= self.hung_until_s and self.hanging.random() < self.plan.hang_rate:
            self.hangs += 1
            self.hung_since_s = min(self.hung_since_s, now_s)
            self.hung_until_s = now_s + self.hanging.uniform(*HANG_S)
            self.nursery.start_soon(self._answer_at, self.hung_until_s, recorder)
        return now_s < self.hung_until_s

    async def _answer_at(self, time_s: float, recorder: Recorder) -> None:
        await trio.sleep_until(time_s)
        recorder._lot.unpark_all()

    def _stumbles(self) -> bool:
        """Draw whether a template raises now; one trouble seldom comes alone."""
        if self.over or STUMBLES in self.plan.scene.without:
            return False
        self.stumbled = self.stumbling.random() < (0.5 if self.stumbled else 0.1)
        self.stumbles += self.stumbled
        return self.stumbled

    def _tell(self, update: Any) -> None:
        for line in self.lines.values():
            line.on_market(update)
        if self.market is not None:
            self.market.tell(update)

    # Lives.

    async def _live(self, ends_at: int, ends_after: float) -> None:
        """Live one life of the daemon: to its death at a crossing, or to the end of the phase."""
        self.lives += 1
        self.ending = self.over
        self.hung_since_s, self.hung_until_s = inf, 0.0
        crossings = self.life = Crossings(ends_at=ends_at, ends_after=ends_after, trace=self._note)
        for line in self.lines.values():
            line.reconnect()
        journal: SimulatedJournal | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_with, crossings, nursery.cancel_scope)
                journal = self._open_journal(crossings)
                await self._work(journal, crossings)
                nursery.cancel_scope.cancel()
        except BaseException as trouble:
            if isinstance(trouble, (KeyboardInterrupt, trio.Cancelled)):
                raise
            if not crossings.dead and not (crossings.taken_over and _lost_its_journal(trouble)):
                self.checks.violate(f"life {self.lives} ended by itself: {trouble!r}", trouble)
        finally:
            self.crossings += crossings.count
            self.deaths.append(crossings.died_of)
            self.binder.note_cut()
            crossings.die("the end of the phase")
            self.market = self.daemon = None
            self.checks.let_go()
            if journal is not None:
                journal.abandon()

    async def _end_with(self, crossings: Crossings, scope: trio.CancelScope) -> None:
        await crossings.ended.wait()
        scope.cancel()

    def _open_journal(self, crossings: Crossings) -> SimulatedJournal:
        disk, clock = SimulatedDisk(crossings), SimulatedClock(self)
        journal = SimulatedJournal.open(self.folder / JOURNAL, disk=disk, clock=clock, pid=self.lives)
        assert isinstance(journal, SimulatedJournal)
        journal.crossings, journal.chance, journal.on_commit = crossings, self.plan.chance, self.checks.committing
        return journal

    async def _work(self, journal: SimulatedJournal, crossings: Crossings) -> None:
        plan = self.plan
        clock, net = SimulatedClock(self), SimulatedNet(crossings)
        seams = Seams(
            clock=clock,
            random=SystemRandom(seed=plan.chance.randrange(2**32)),
            ids=SeededIds(plan.chance),
            disk=SimulatedDisk(crossings),
            net=net,
            env=SimulatedEnv(self.lives),
        )
        box = BlackBox(self.folder / "blackbox")
        try:
            daemon = Daemon(
                self._config(),
                seams,
                journal,
                Guard(clock),
                box,
                venues=LifeVenues(self, crossings),
                catalogue=traders(self._stumbles),
                threaded=False,
            )
            await daemon.build()
            self.daemon = daemon
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end, daemon)
                await daemon.supervisor.run()
                nursery.cancel_scope.cancel()
        finally:
            net.close()
            box.close()

    async def _end(self, daemon: Daemon) -> None:
        """End the daemon in order when its phase is over."""
        faulty_s = self.plan.scene.faulty_s
        until = faulty_s + CALM_S if self.over else faulty_s
        await trio.sleep_until(max(until, trio.current_time() + (CALM_S if self.over else 0)))
        if self.over:
            await self.checks.before_the_end(daemon)
        self.ending = True
        daemon.recorder._lot.unpark_all()
        daemon.end()
        await daemon.wind_down()
        daemon.supervisor.stop()

    def _config(self) -> Config:
        plan = self.plan
        return Config(
            daemon=section.Daemon(state_dir=self.folder),
            market=section.Market(symbols=SYMBOLS),
            stream=section.Stream(enabled=False),
            risk=section.Risk(account=plan.caps, daemon=section.RiskCaps(drawdown_pct_max=None)),
            declarations=tuple(
                Declaration(
                    name=f"trader {number}",
                    template_id=Clumsy.id if plan.clumsy[number] else Trader.id,
                    symbols=SYMBOLS[: 1 + number % 2],
                    timeframe=Timeframe.M1,
                    capital=Decimal(1_000),
                    params={"nature": number + plan.scene.seed % 500, "zeal": 9},
                    leverage=1 + number % 3,
                    deploy=True,
                    dry_run=number % 2 == 0,
                )
                for number in range(plan.traders)
            ),
        )

    def _note(self, name: str) -> None:
        self.trace.update(f"{name} {trio.current_time():.6f};".encode())
        self.last.append(f"{trio.current_time():9.3f} s  life {self.lives:2}  {name}")


@define(eq=False)
class LifeVenues:
    """What one daemon takes for the world's venues."""

    world: World
    crossings: Crossings

    def market(self, wanted: Any, world: Any, activity: Any, *, resume_ms: int | None, listed_ms: int | None) -> Any:
        life = self.world
        begun_ms = START_MS + int(trio.current_time() * 1000)
        life.market = LifeMarket(life.prices, life.instruments, self.crossings, life.faults, begun_ms)
        return life.market

    def desk(self, wanted: Any, instruments: Any, activity: Any, *, dry: bool) -> Any:
        life = self.world
        return LifeDesk(
            line=life.lines[dry],
            activity=activity,
            crossings=self.crossings,
            chance=life.plan.chance,
            nursery=life.nursery,
            on_sent=lambda order: life.checks.sent(order, dry=dry),
            on_restored=lambda: life.checks.left_behind(life.ledger(dry)),
            on_told=life.checks.asked.setdefault(dry, set()).add,
            on_positions=lambda held: life.checks.compared(dry, held),
        )


def _lost_its_journal(trouble: BaseException) -> bool:
    """Tell whether a daemon gave up because its journal was taken from it."""
    while isinstance(trouble, BaseExceptionGroup):
        trouble = cast("BaseExceptionGroup[BaseException]", trouble).exceptions[0]
    return isinstance(trouble, GivenUp) and isinstance(trouble.cause, JournalLost)


def _instrument(symbol: str) -> Instrument:
    return Instrument(
        symbol=symbol,
        base=symbol[:3],
        quote="USDT",
        tick_size=Decimal("0.01"),
        lot_size=Decimal("0.001"),
        quantity_min=Decimal("0.001"),
        notional_min=Decimal(5),
    )


@contextmanager
def _deterministic(seed: int) -> Generator[None]:
    """Let trio schedule by seed for a while; these names are private, and a test notices when trio changes them."""
    run: Any = importlib.import_module("trio._core._run")

    before = run._ALLOW_DETERMINISTIC_SCHEDULING, run._r
    run._ALLOW_DETERMINISTIC_SCHEDULING = True
    run._r = Random(seed)
    try:
        yield
    finally:
        run._ALLOW_DETERMINISTIC_SCHEDULING, run._r = before


@contextmanager
def scratch() -> Generator[Path]:
    """Yield an empty folder, in memory where there is room for it."""
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="world-", dir=memory if memory.is_dir() else None)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_world(scene: Scene) -> World:
    """Run a world and return it."""
    with scratch() as folder:
        world = World(Plan(scene), folder)
        world.run()
    return world
