"""Hundreds of kills and restarts under load, and what a market so disturbed ends with is what it would have been."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

from attrs import define, frozen

from tests.scenarios.recordings import write_recording
from tests.soak.asking import apart, counted, deployed, ended, has, last_seqs, strategies, until
from tests.soak.commander import PREFIX
from tests.soak.lives import Campaign, Ending, accompanied, campaign, drawn
from tests.soak.population import write_strategies
from tests.surfaces.daemon import Daemon

KEPT_S: Final = 20.0
# The market never gets so far in all lives together that a kill finds it ended.
SHARE_DISTURBED: Final = 0.6
# How long a life lasts on average as a share of the longest wait for an ordinary moment.
LIFE_MEAN: Final = 1.0

CONFIG: Final = """
[daemon]
exit_at_end = {exit_at_end}
strategies = ["{declared}"]
[market]
kind = "replay"
speed = {speed}
symbols = []
files = ["{recording}/*-1m-*.csv"]
funding_files = ["{recording}/*-funding-*.csv"]
[journal]
events_kept = 100
events_kept_hours = {kept_hours:.5f}
prune_every_s = 0.3
"""


@frozen(kw_only=True)
class Size:
    """How much is done to how many."""

    strategies: int = 200
    minutes: int = 1_440
    kills: int = 200
    restarts: int = 50
    twice: int = 10
    suspensions: int = 10
    life_s_max: float = 0.6
    # Told to end twice, a daemon is gone within this.
    at_once_s_max: float = 1.0
    seed: int = 1

    @property
    def lives(self) -> int:
        """Return how many lives that makes, or a few more."""
        return self.kills + self.restarts + self.twice + self.suspensions

    def kinds_of_kills(self) -> list[Ending]:
        """Return how the lives end that are to be killed, in any order."""
        return drawn(random.Random(self.seed), self.kills)

    def other_ends(self) -> list[Ending]:
        """Return how the others end, in any order."""
        rest = {Ending.ORDERLY: self.restarts, Ending.TWICE: self.twice, Ending.SUSPENDED: self.suspensions}
        ends = [ending for ending, times in rest.items() for _ in range(times)]
        random.Random(self.seed).shuffle(ends)
        return ends


@define
class Outcome:
    """What a campaign came to."""

    begun: Campaign
    killed_s: float
    took_s: float
    cpu_s: float
    wrong: list[str]

    def figures(self) -> list[tuple[str, str]]:
        """Return them in words."""
        begun, commander = self.begun, self.begun.commander
        last = begun.verdicts[-1]
        took = {ending.value: f"{max(seconds):.2f}" for ending, seconds in begun.ending_s.items()}
        rows = [
            ("lives", f"{begun.lives}, of which {begun.kills} were killed, all within {self.killed_s:.0f} s"),
            ("ends", counted(begun.ends)),
            ("took", f"{self.took_s:.0f} s, {self.cpu_s:.0f} s CPU of all processes"),
            ("journals judged", f"{len(begun.verdicts)}, {sum(not each.problems for each in begun.verdicts)} whole"),
            ("the last one", f"{last.records} records, {last.pruned} pruned, {last.ledger.fills} fills"),
            ("its orders and trades", f"{last.orders} and {last.trades}"),
            ("spawn to ready", f"median {median(begun.ready_s):.2f} s, longest {max(begun.ready_s):.2f} s"),
            ("orderly end, longest", f"{took.get('orderly', '-')} s; told twice {took.get('told twice', '-')} s"),
            ("commands", counted(commander.outcomes)),
        ]
        return [*rows, ("stream listener", begun.socket.told()), ("tail listener", begun.tail.told())]


async def run(folder: Path, size: Size, advance: Callable[[int], object] = lambda _: None) -> Outcome:
    """Disturb a replay as the size says, compare it with an undisturbed one, and return everything that is wrong."""
    recording, declared = folder / "recording", folder / "strategies.toml"
    write_recording(recording, minutes=size.minutes, seed=size.seed)
    write_strategies(declared, size.strategies)
    speed = max(1, round(SHARE_DISTURBED * size.minutes * 60 / (size.lives * LIFE_MEAN * size.life_s_max)))

    def config(pace: str, *, exit_at_end: bool) -> str:
        told = "true" if exit_at_end else "false"
        kept_hours = KEPT_S / 3_600
        return CONFIG.format(
            exit_at_end=told, declared=declared, speed=pace, recording=recording, kept_hours=kept_hours
        )

    began, before = time.monotonic(), _cpu_s()
    wanted = await apart(partial(undisturbed, folder / "undisturbed", config('"max"', exit_at_end=True)))
    async with campaign(folder / "disturbed", config(str(speed), exit_at_end=False), seed=size.seed,
                        life_s_max=size.life_s_max, at_once_s_max=size.at_once_s_max) as begun:  # fmt: skip
        killed_s = await _disturb(begun, size, advance)
        begun.daemon.config = config('"max"', exit_at_end=False)
        found = await _finish(begun)
    wrong = [*begun.wrong, *begun.commander.contradictions, *begun.socket.holes, *begun.tail.holes]
    wrong += _differences(begun, wanted, found)
    return Outcome(begun, killed_s, time.monotonic() - began, _cpu_s() - before, wrong)


def undisturbed(folder: Path, config: str) -> dict[str, Any]:
    """Return what each strategy amounts to when nothing happens to its daemon."""
    daemon = Daemon(folder, config)
    daemon.spawn()
    try:
        assert daemon.exit_code() == 0, daemon.tail()
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()
    daemon.verify()
    return amounts(daemon)


def amounts(daemon: Daemon) -> dict[str, Any]:
    """Return what each declared strategy amounts to."""
    each = daemon.digest()["strategies"]
    return {one["name"]: one for one in each if not one["name"].startswith(PREFIX)}


async def _disturb(begun: Campaign, size: Size, advance: Callable[[int], object]) -> float:
    """Go through all lives but the last; return how long the kills took."""
    daemon, began = begun.daemon, time.monotonic()
    await until(lambda: deployed(daemon) >= size.strategies)
    ids = [strategy["id"] for strategy in await apart(partial(strategies, daemon))]
    for listener in (begun.socket, begun.tail):
        listener.expect(ids)
    async with accompanied(begun):
        await begun.end(Ending.TRADING)
        advance(1)
        kinds = size.kinds_of_kills()
        # Some end by themselves before the kill comes; others are killed instead.
        while kinds or begun.kills < size.kills:
            before = begun.kills
            await begun.live(kinds.pop() if kinds else Ending.TRADING)
            advance(begun.kills - before)
        killed_s = time.monotonic() - began
        for ending in size.other_ends():
            await begun.live(ending)
            advance(1)
        begun.commander.stopping = True
        # The commander's last word and the listeners' last events come in the life after.
        begun.begin()
        await begun.ready()
        if await apart(partial(ended, daemon)):
            begun.wrong.append("the recording ended before the last kill")
        await until(lambda: begun.commander.wish is None)
        await begun.end(Ending.ORDERLY)
    return killed_s


async def _finish(begun: Campaign) -> dict[str, Any]:
    """Let the last life come to the recording's end, and the listeners to the last event of each strategy."""
    daemon = begun.daemon
    async with accompanied(begun):
        begun.begin()
        await begun.ready()
        await until(partial(ended, daemon))
        goal = await apart(partial(last_seqs, daemon))
        for listener in (begun.socket, begun.tail):
            await until(lambda: has(listener.last, goal) or bool(listener.holes))  # noqa: B023
        await begun.end(Ending.ORDERLY)
    return await apart(partial(amounts, daemon))


def _differences(begun: Campaign, wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    wrong = [f"{name} came to {found.get(name)}, undisturbed to {one}" for name, one in wanted.items()
             if found.get(name) != one]  # fmt: skip
    if not any(one["fills"] for one in wanted.values()):
        wrong.append("nothing was traded")
    socket, tail = begun.socket, begun.tail
    wrong += [
        f"{each.gaps} gaps were told, though nothing was past its retention" for each in (socket, tail) if each.gaps
    ]
    wrong += [
        f"the two listeners heard different events of {strategy_id}"
        for strategy_id, content in socket.content.items()
        if strategy_id not in socket.late and strategy_id not in tail.late and tail.content.get(strategy_id) != content
    ]
    return wrong


def _cpu_s() -> float:
    """Return the CPU time of this process and of all that have ended under it."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
