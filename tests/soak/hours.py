"""Hours of trading in minutes: what a daemon holds is sampled all along, and has to stay flat once it is warm."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Final

import psutil
import trio
from attrs import define, field, frozen

from pipaid.errors import NotFound
from pipaid.model.moment import iso_seconds, parse_iso
from pipaid.seams import World
from pipaid.storage.connection import connect_to_read
from pipaid.wire.activity import Activity
from tests.bench.house import SEED, START_MS, synthetic
from tests.soak.asking import apart, deployed, strategies, until
from tests.soak.books import JOURNAL
from tests.soak.commander import Commander
from tests.soak.listeners import Listener, SocketListener, TailListener
from tests.soak.picture import Chart, Line, draw
from tests.soak.population import SYMBOLS, write_strategies
from tests.surfaces.daemon import Daemon, running

MIB: Final = 2**20
WARM_UP: Final = 0.35
# Clients come and go all the time: each of these stays for so long.
VISIT_S: Final = 3.0
LOOKED_EVERY_S: Final = 0.5
LOOKS: Final = ("strategy.state", "strategy.orders", "strategy.trades", "strategy.runs", "strategy.stats")
CONFIG: Final = """
[daemon]
strategies = ["{declared}"]
[market]
seed = {seed}
symbols = {symbols}
start = "{start}"
speed = {speed:g}
# Trading this much costs more than it earns, and is to go on all the same.
[risk.account]
drawdown_pct_max = "off"
[risk.daemon]
drawdown_pct_max = "off"
[journal]
events_kept = 10
events_kept_hours = {kept_hours:.5f}
prune_every_s = {prune_every_s:g}
"""
# What is in the journal for ever, because a person may ask for it: ended orders, fills, closed positions, and deleted
# strategies, whose trades can still be listed.
_TRADED: Final = """
    SELECT coalesce(sum(length(data)), 0) FROM entity WHERE entity = 'fill' OR (entity = 'order' AND state = 'ended')
        OR (entity = 'position' AND state = 'closed') OR (entity = 'strategy' AND state = 'deleted')
"""
# What stays in a certain number, which no soak comes to: the last thousand explained decisions of each strategy, and,
# for a day of the wall clock, the answers to commands.
_EXPLAINED: Final = "SELECT coalesce(sum(length(data)), 0) FROM entity WHERE entity IN ('run', 'answer')"
_ALL: Final = "SELECT (SELECT coalesce(sum(length(data)), 0) FROM record) + (SELECT sum(length(data)) FROM entity)"
_TRADES: Final = "SELECT count(*) FROM entity WHERE entity = 'position' AND state = 'closed'"


@frozen(kw_only=True)
class Size:
    """How much trades, for how long, and in how much time."""

    hours: float = 8.0
    minutes: float = 10.0
    strategies: int = 400
    samples: int = 150
    seed: int = 1

    @property
    def speed(self) -> float:
        """Return how much faster than it is the market is played."""
        return self.hours * 60 / self.minutes


@frozen(kw_only=True)
class Sample:
    """What the daemon held at one moment."""

    hours: float
    rss_mib: float
    descriptors: int
    threads: int
    tasks: int
    children: int
    file_mib: float
    data_mib: float
    traded_mib: float
    explained_mib: float
    records: int
    trades: int

    @property
    def rest_mib(self) -> float:
        """Return the part of the journal's data that is no history: events, working orders, memories, what was."""
        return self.data_mib - self.traded_mib - self.explained_mib


@frozen
class Promise:
    """That a figure grows by no more than a share of its mean, or than some units, from the warm-up to the end."""

    of: str
    share_max: float
    units_max: float

    def growth(self, samples: Sequence[Sample]) -> tuple[float, float]:
        """Return by how much the straight line through the warm samples rises, and how much it may."""
        warm = samples[round(WARM_UP * len(samples)) :]
        values = [float(getattr(sample, self.of)) for sample in warm]
        return _rise([sample.hours for sample in warm], values), max(self.units_max, self.share_max * fmean(values))

    def kept(self, samples: Sequence[Sample]) -> bool:
        """Tell whether it rises by no more than it may."""
        rise, allowed = self.growth(samples)
        return rise <= allowed


FLAT: Final = (
    # Ended orders, client ids and fill ids are remembered by the ten thousand, which takes the better part of a day.
    Promise("rss_mib", 0.10, 4.0),
    # The journal is read over up to four connections of two descriptors, opened as they are needed at once.
    Promise("descriptors", 0.0, 6.0),
    Promise("threads", 0.0, 1.0),
    # The commander has as many strategies more or less.
    Promise("tasks", 0.0, 12.0),
    Promise("children", 0.0, 12.0),
    Promise("rest_mib", 0.10, 2.0),
)


@define
class Outcome:
    """The samples, and what went wrong meanwhile."""

    size: Size
    samples: list[Sample]
    listeners: list[Listener]
    commander: Commander
    visits: int = 0
    cpu_s: float = 0.0
    trouble: list[str] = field(factory=list[str])

    @property
    def wrong(self) -> list[str]:
        """Return everything that is wrong."""
        broken = [promise for promise in FLAT if not promise.kept(self.samples)]
        return [*self.trouble, *(f"{each.of} is not flat: {_told(each, self.samples)}" for each in broken)]

    def figures(self) -> list[tuple[str, str]]:
        """Return them in words."""
        first, last = self.samples[0], self.samples[-1]
        trades = last.trades - first.trades
        rows = [
            ("traded", f"{last.hours:.1f} h of the market in {self.size.minutes:g} min, {self.cpu_s:.0f} s CPU"),
            ("records", f"{last.records} written, {trades} trades, {self.visits} visits of clients"),
            *((promise.of, _told(promise, self.samples)) for promise in FLAT),
            ("journal file", f"{first.file_mib:.1f} to {last.file_mib:.1f} MiB"),
        ]
        if trades:
            each = (last.traded_mib - first.traded_mib) * MIB / trades
            rows.append(("history of trades", f"{last.traded_mib:.1f} MiB, {each:.0f} bytes of data a trade"))
        rows.append(("explained decisions, answers", f"{last.explained_mib:.1f} MiB"))
        commands = ", ".join(f"{times} {what}" for what, times in self.commander.outcomes.most_common())
        return [*rows, ("events heard", str(sum(each.frames for each in self.listeners))), ("commands", commands)]

    def picture(self) -> str:
        """Draw what was sampled."""

        def line(name: str, of: str) -> Line:
            return Line(name, [float(getattr(sample, of)) for sample in self.samples])

        def note(of: str) -> str:
            return _told(next(promise for promise in FLAT if promise.of == of), self.samples)

        size = self.size
        return draw(
            [
                Chart("Memory (RSS), MiB", note("rss_mib"), [line("RSS", "rss_mib")]),
                Chart("Open descriptors, threads", note("descriptors"),
                      [line("descriptors", "descriptors"), line("threads", "threads")]),
                Chart("Tasks of the loop, actors", note("tasks"), [line("tasks", "tasks"), line("actors", "children")]),
                Chart("Journal, MiB of data", f"the rest: {note('rest_mib')}",
                      [line("trades", "traded_mib"), line("explanations", "explained_mib"),
                       line("the rest", "rest_mib")]),
            ],
            [sample.hours for sample in self.samples],
            title=f"{size.strategies} strategies, {size.hours:g} hours of a market in {size.minutes:g} minutes",
            warm_up=WARM_UP * self.samples[-1].hours,
        )  # fmt: skip


def _told(promise: Promise, samples: Sequence[Sample]) -> str:
    rise, allowed = promise.growth(samples)
    values = [float(getattr(sample, promise.of)) for sample in samples]
    return f"{values[0]:.3g} to {values[-1]:.3g}; once warm, {rise:+.2g} (may be {allowed:+.2g})"


async def run(folder: Path, size: Size, advance: Callable[[float], object] = lambda _: None) -> Outcome:
    """Let a daemon trade among clients that come and go, and sample it."""
    folder.mkdir(parents=True, exist_ok=True)
    declared = folder / "strategies.toml"
    prices = await synthetic(SYMBOLS, World(), Activity()).prices()
    write_strategies(declared, size.strategies, prices)
    seconds = size.minutes * 60
    config = CONFIG.format(
        declared=declared, seed=SEED, symbols=list(SYMBOLS), start=iso_seconds(START_MS), speed=size.speed,
        kept_hours=max(0.001, seconds / 8 / 3_600), prune_every_s=seconds / 60,
    )  # fmt: skip
    with running(folder / "daemon", config) as daemon:
        await until(lambda: deployed(daemon) == size.strategies)
        outcome = await _watch(daemon, size, advance)
        problems = [str(record) for record in daemon.said() if record["level"] in ("error", "critical")]
        if (code := await apart(daemon.end)) != 0:
            problems.append(f"it ended with {code}")
        await apart(daemon.verify)
    outcome.trouble += problems
    return outcome


async def _watch(daemon: Daemon, size: Size, advance: Callable[[float], object]) -> Outcome:
    key = daemon.ask("key.create", name="listeners", scopes=["read-only"])

    def listener() -> SocketListener:
        port = daemon.stream_port
        return SocketListener(port=lambda: port, api_key=key["api_key"], secret=key["secret"])

    staying: list[Listener] = [listener(), TailListener(path=daemon.socket)]
    chance = random.Random(size.seed)
    commander = Commander(daemon.socket, chance, pause_s_max=size.minutes / 5)
    outcome = Outcome(size, [], staying, commander)
    process = psutil.Process(daemon.pid)
    async with trio.open_nursery() as nursery:
        for each in staying:
            nursery.start_soon(each.follow)
        nursery.start_soon(commander.command)
        nursery.start_soon(_visit, listener, chance, outcome)
        nursery.start_soon(_look_around, daemon)
        began = time.monotonic()
        for number in range(1, size.samples + 1):
            await trio.sleep(max(0.0, began + number * size.minutes * 60 / size.samples - time.monotonic()))
            outcome.samples.append(await apart(partial(_sample, daemon, process)))
            advance(1)
        spent = process.cpu_times()
        nursery.cancel_scope.cancel()
    outcome.cpu_s = spent.user + spent.system
    outcome.trouble += commander.contradictions
    for each in staying:
        outcome.trouble += [*each.holes, *(["a gap was told"] if each.gaps else [])]
    return outcome


async def _visit(listener: Callable[[], SocketListener], chance: random.Random, outcome: Outcome) -> None:
    """Let one client of the stream after the other come, listen for a moment, and leave without a word."""
    while True:
        outcome.visits += 1
        with trio.move_on_after(chance.uniform(0, VISIT_S)):
            await listener().follow()


async def _look_around(daemon: Daemon) -> None:
    """Ask what a person at the command line would ask, on a new connection each time."""
    while True:
        for strategy in await apart(partial(strategies, daemon)):
            for op in LOOKS:
                with suppress(NotFound):
                    await apart(partial(daemon.ask, op, id=strategy["id"]))
            await trio.sleep(LOOKED_EVERY_S)


def _sample(daemon: Daemon, process: psutil.Process) -> Sample:
    status, counters = daemon.ask("status"), daemon.ask("metrics")["data"]
    tree = daemon.ask("actors")["data"]
    with closing(connect_to_read(daemon.state / JOURNAL)) as connection:
        ((data,),) = connection.execute(_ALL)
        ((traded,),) = connection.execute(_TRADED)
        ((explained,),) = connection.execute(_EXPLAINED)
        ((trades,),) = connection.execute(_TRADES)
    return Sample(
        hours=(parse_iso(status["venue_time"]) - START_MS) / 3_600_000,
        rss_mib=process.memory_info().rss / MIB,
        descriptors=process.num_fds(),
        threads=process.num_threads(),
        tasks=counters["pipaid_tasks"],
        children=len(tree) + sum(len(each["children"]) for each in tree),
        file_mib=status["journal"]["size_bytes"] / MIB,
        data_mib=data / MIB,
        # Once as a row of its table and once as the record that wrote it.
        traded_mib=2 * traded / MIB,
        explained_mib=2 * explained / MIB,
        records=status["journal"]["n"],
        trades=trades,
    )


def _rise(times: Sequence[float], values: Sequence[float]) -> float:
    """Return by how much the straight line that fits best rises from the first time to the last."""
    time_mean, mean = fmean(times), fmean(values)
    spread = sum((each - time_mean) ** 2 for each in times)
    slope = sum((at - time_mean) * (value - mean) for at, value in zip(times, values, strict=True)) / spread
    return slope * (times[-1] - times[0])
