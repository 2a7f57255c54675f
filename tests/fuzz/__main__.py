"""The fuzzers of pipaid: `python -m tests.fuzz [NAME...] [--count N] [--seconds S] [--seed SEED] [--replay FILE]`."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

import msgspec
import psutil
import trio
from attrs import frozen
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pipaid.model.operation import OPERATIONS
from tests.fuzz import configs, fills, journals, params, signatures
from tests.fuzz.api import examine
from tests.fuzz.siege import CONFIG, Besieged, Siege
from tests.fuzz.target import Failure, Target, fuzz, load
from tests.surfaces.daemon import running

TARGETS: Final[dict[str, Target]] = {
    each.TARGET.name: each.TARGET for each in (fills, params, signatures, configs, journals)
}
SIEGE: Final = "siege"
API: Final = "api"
COUNTS: Final = {
    SIEGE: 1_000_000, API: 10_000, "fills": 1_000_000, "params": 1_000_000, "signatures": 10_000, "configs": 20_000,
    "journals": 20_000,
}  # fmt: skip
# How much one process takes at a time.
CHUNK: Final = 500
SECONDS_MAX: Final = 3_600.0
KEPT: Final = Path("build/fuzz")
COLUMNS: Final = (
    TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
)  # fmt: skip


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one campaign came to."""

    name: str
    seed: str
    count: int
    seconds: float
    cpu_s: float
    problems: tuple[str, ...]
    siege: Besieged | None = None
    answers: dict[int, int] = {}


@frozen
class Asked:
    """What is wanted of a campaign."""

    seed: str
    count: int
    seconds_max: float
    jobs: int


def besiege(asked: Asked, advance: Callable[[str, int], None]) -> Outcome:
    """Send as many hostile lines as frames to a real daemon, and see that it ends well and leaves a whole journal."""
    began_s, before = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory(prefix="pipaid-fuzz-") as folder, running(Path(folder), CONFIG) as daemon:
        siege = Siege(daemon, asked.seed, asked.count, asked.count, asked.seconds_max, advance, keep=KEPT)
        found = trio.run(siege.lay)
        problems = list(found.problems)
        code = daemon.end()
        if code:
            problems.append(f"it ended with {code} when it was asked to: {daemon.tail()}")
        daemon.verify()
    return Outcome(
        name=SIEGE,
        seed=asked.seed,
        count=min(found.lines, found.frames),
        seconds=time.monotonic() - began_s,
        cpu_s=time.process_time() - before + found.cpu_s,
        problems=tuple(problems),
        siege=found,
    )


def examine_api(asked: Asked, advance: Callable[[str, int], None]) -> Outcome:
    """Send what the document of a real daemon allows and what it does not, and hold the answers to it."""
    began_s, before = time.monotonic(), os.times()
    offered = sum(1 for operation in OPERATIONS.values() if operation.path)
    with tempfile.TemporaryDirectory(prefix="pipaid-fuzz-") as folder:
        found = examine(
            Path(folder),
            seed=Random(asked.seed).randrange(2**31),
            examples=max(1, asked.count // offered),
            seconds_max=asked.seconds_max,
        )
    after = os.times()
    advance(API, found.cases)
    return Outcome(
        name=API,
        seed=asked.seed,
        count=found.cases,
        seconds=time.monotonic() - began_s,
        cpu_s=after.children_user + after.children_system - before.children_user - before.children_system,
        problems=found.problems,
        answers=found.answers,
    )


def campaign(name: str, asked: Asked, advance: Callable[[str, int], None]) -> Outcome:
    """Check so many inputs of a target, on several processes, until the time is over."""
    began_s, before = time.monotonic(), os.times()
    failures: list[Failure] = []
    done = 0
    with ProcessPoolExecutor(asked.jobs) as pool:
        waiting: set[Future[list[Failure]]] = set()
        starts = iter(range(0, asked.count, CHUNK))
        while True:
            while len(waiting) < 2 * asked.jobs and time.monotonic() - began_s < asked.seconds_max:
                start = next(starts, None)
                if start is None or len(failures) > 10:
                    break
                waiting.add(pool.submit(_part, name, asked.seed, start, min(CHUNK, asked.count - start)))
            if not waiting:
                break
            ended = next(as_completed(waiting))
            waiting.discard(ended)
            failures += ended.result()
            done += CHUNK
            advance(name, CHUNK)
    after = os.times()
    for failure in failures:
        _keep(failure)
    return Outcome(
        name=name,
        seed=asked.seed,
        count=min(done, asked.count),
        seconds=time.monotonic() - began_s,
        cpu_s=after.children_user + after.children_system - before.children_user - before.children_system,
        problems=tuple(f"{failure.trouble}; replay {_place(failure)}" for failure in failures),
    )


def _part(name: str, seed: str, start: int, count: int) -> list[Failure]:
    return fuzz(TARGETS[name], seed=seed, start=start, count=count)


def _place(failure: Failure) -> Path:
    return KEPT / failure.target / f"{failure.seed}-{failure.number}.case"


def _keep(failure: Failure) -> None:
    place = _place(failure)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(failure.input, encoding="utf-8")


def replay(path: Path) -> str:
    """Check the input in a file again, with the target that its folder names, and say what is wrong with it."""
    return TARGETS[path.parent.name].trouble(load(path))


# What is one campaign with a daemon of its own, and no target.
WHOLE: Final = {SIEGE: besiege, API: examine_api}


def run(names: Sequence[str], asked: dict[str, Asked], console: Console) -> list[Outcome]:
    """Run the campaigns one after the other, each with its progress."""
    outcomes: list[Outcome] = []
    for name in names:
        with Progress(*COLUMNS, console=console, speed_estimate_period=300) as progress:
            shown = ("lines", "frames") if name == SIEGE else (name,)
            bars = {each: progress.add_task(each, total=asked[name].count) for each in shown}
            advance = partial(_advance, progress, bars)
            whole = WHOLE.get(name, partial(campaign, name))
            found = whole(asked[name], advance)
        outcomes.append(found)
        tell(found, console)
    return outcomes


def _advance(progress: Progress, bars: dict[str, TaskID], what: str, by: int) -> None:
    """Move a bar on; where none can be drawn, say so at every tenth."""
    bar = progress.tasks[bars[what]]
    tenth = int(bar.percentage // 10)
    progress.advance(bars[what], by)
    if not progress.console.is_terminal and int(bar.percentage // 10) > tenth:
        progress.console.print(f"{what} {bar.completed:,.0f} after {bar.elapsed or 0:,.0f} s", highlight=False)


def tell(found: Outcome, console: Console) -> None:
    """Say what a campaign came to."""
    console.print(
        f"{found.name}: {found.count:,} in {found.seconds:,.0f} s, {found.cpu_s:,.0f} s of CPU, seed {found.seed}, "
        f"{len(found.problems) or 'no'} problems",
        highlight=False,
    )
    if found.siege is not None:
        siege, memory = found.siege, found.siege.memory_mib
        console.print(
            f"  {siege.lines:,} lines on {siege.line_connections:,} connections, {siege.frames:,} frames on "
            f"{siege.frame_connections:,}\n"
            f"  the daemon: {siege.cpu_s:,.0f} s of CPU, {memory[0]:.1f} MiB at first, {memory[len(memory) // 2]:.1f} "
            f"half-way, {memory[-1]:.1f} at the end ({siege.growth_mib:+.1f} MiB in the second half)\n"
            f"  honest clients: {siege.honest_requests:,} requests answered, p50 {siege.honest_wait_p50_ms:.1f} ms, "
            f"p99 {siege.honest_wait_p99_ms:.0f} ms; {siege.honest_events:,} events heard without a gap",
            highlight=False,
        )
    if found.answers:
        counted = ", ".join(f"{count:,} times {status}" for status, count in found.answers.items())
        console.print(f"  answers: {counted}", highlight=False)
    for problem in found.problems:
        console.print(f"  {problem}", style="red", highlight=False, markup=False)


def main() -> None:
    """Fuzz what was asked for on the command line."""
    known = [*WHOLE, *TARGETS]
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz pipaid.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; all of them if none is given")
    parser.add_argument("--count", type=int, help="how many inputs of each; the siege sends so many lines and frames")
    parser.add_argument("--seconds", type=float, default=SECONDS_MAX, help="how long one campaign may take at most")
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**9)), help="to see the same again")
    parser.add_argument("--jobs", type=int, default=psutil.cpu_count(), help="on how many processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="check one input that was kept, and nothing else")
    given = parser.parse_args()
    if given.replay is not None:
        trouble = replay(given.replay)
        print(trouble or "it holds")
        sys.exit(bool(trouble))
    unknown = [name for name in given.names if name not in known]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
    names = given.names or known
    asked = {name: Asked(given.seed, given.count or COUNTS[name], given.seconds, given.jobs) for name in names}
    outcomes = run(names, asked, Console())
    if given.json is not None:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(outcomes)))
    sys.exit(any(outcome.problems for outcome in outcomes))


if __name__ == "__main__":
    main()
