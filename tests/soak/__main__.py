"""Soak the daemon: `python -m tests.soak [part...]`; real processes, killed, suspended, spoiled and left to trade."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeVar

import trio
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.bench.figure import machine
from tests.soak import hours, kills, spoiled

T = TypeVar("T")
Advance = Callable[[float], object]
WRONG_SHOWN_MAX: Final = 20
MINUTES_PER_HOUR: Final = 1.25


class Outcome(Protocol):
    """What a part came to."""

    @property
    def wrong(self) -> list[str]:
        """Return everything that is wrong."""
        ...

    def figures(self) -> list[tuple[str, str]]:
        """Return the figures in words."""
        ...


def main() -> None:
    """Run the parts that were asked for, and exit with 1 if anything was wrong."""
    parser = _arguments()
    asked = parser.parse_args()
    unknown = [name for name in asked.parts if name not in PARTS]
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(machine(), style="bold", highlight=False)
    wrong = 0
    for name in asked.parts or PARTS:
        began_s = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="pipaid-soak-") as folder:
            outcome = PARTS[name](Path(folder), asked, console)
        console.print(f"\n[bold]{name}[/bold], {time.monotonic() - began_s:.0f} s", highlight=False)
        _show(outcome, console)
        wrong += len(outcome.wrong)
    sys.exit(1 if wrong else 0)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Soak the daemon.")
    parser.add_argument("parts", nargs="*", metavar="PART", help="kills, proxy or hours; all if none is given")
    parser.add_argument("--seed", type=int, default=1, help="what is drawn by chance follows from it")
    parser.add_argument("--kills", type=int, default=200, help="how many daemons are killed, and a quarter restarted")
    parser.add_argument("--seconds", type=float, default=60, help="how long connections are spoiled")
    parser.add_argument("--hours", type=float, default=8, help="how much of a market is traded")
    parser.add_argument("--minutes", type=float, help="in how much time it is played; 1.25 for each hour if not given")
    parser.add_argument("--picture", type=Path, help="draw those hours as SVG into this file")
    return parser


def _kills(folder: Path, asked: argparse.Namespace, console: Console) -> Outcome:
    times = asked.kills
    size = kills.Size(
        kills=times, restarts=times // 4, twice=times // 20, suspensions=times // 20, seed=asked.seed,
        minutes=max(240, round(7.2 * times)),
    )  # fmt: skip
    return _with_bar("lives that end", size.lives, partial(kills.run, folder, size), console)


def _proxy(folder: Path, asked: argparse.Namespace, console: Console) -> Outcome:
    size = spoiled.Size(seconds=asked.seconds, seed=asked.seed)
    return _with_bar("seconds spoiled", size.seconds, partial(spoiled.run, folder, size), console)


def _hours(folder: Path, asked: argparse.Namespace, console: Console) -> Outcome:
    size = hours.Size(hours=asked.hours, minutes=asked.minutes or MINUTES_PER_HOUR * asked.hours, seed=asked.seed)
    outcome = _with_bar("samples of what it holds", size.samples, partial(hours.run, folder, size), console)
    if asked.picture is not None:
        asked.picture.write_text(outcome.picture(), encoding="utf-8")
    return outcome


def _with_bar(what: str, total: float, run: Callable[[Advance], Awaitable[T]], console: Console) -> T:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f} of {task.total:.0f}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        bar = progress.add_task(what, total=total)

        def advance(steps: float) -> None:
            progress.advance(bar, steps)

        return trio.run(run, advance)


def _show(outcome: Outcome, console: Console) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, figure in outcome.figures():
        table.add_row(name, figure)
    console.print(table, highlight=False)
    for each in outcome.wrong[:WRONG_SHOWN_MAX]:
        console.print(each, style="red", markup=False, highlight=False)
    verdict = f"{len(outcome.wrong)} things are wrong" if outcome.wrong else "nothing is wrong"
    console.print(verdict, style="bold red" if outcome.wrong else "bold green", highlight=False)


PARTS: Final[dict[str, Callable[[Path, argparse.Namespace, Console], Outcome]]] = {
    "kills": _kills,
    "proxy": _proxy,
    "hours": _hours,
}

if __name__ == "__main__":
    main()
