"""The benches of pipaid: `python -m tests.bench [NAME...] [--json FILE] [--quick]`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from tests.bench import (
    backtests,
    columns,
    commits,
    daemons,
    fanout,
    http,
    kills,
    longrun,
    neighbours,
    roundtrip,
    signals,
    sweep,
    trades,
)
from tests.bench.figure import QUICK, Figure, Size, machine, show

BENCHES: Final[dict[str, Callable[[Size], list[Figure]]]] = {
    "sweep": sweep.measure,
    "trades": trades.measure,
    "daemons": daemons.measure,
    "commits": commits.measure,
    "roundtrip": roundtrip.measure,
    "fanout": fanout.measure,
    "http": http.measure,
    "kills": kills.measure,
    "neighbours": neighbours.measure,
    "columns": columns.measure,
    "signals": signals.measure,
    "backtests": backtests.measure,
    "longrun": longrun.measure,
}
# These take minutes alone, and so have to be named.
LONG: Final = frozenset({"longrun"})


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` writes."""

    machine: str
    size: Size
    figures: dict[str, list[Figure]]


def run(names: Sequence[str], size: Size, console: Console) -> Report:
    """Measure what is named, or all of it, and show each table as it comes."""
    machine_line = machine()
    console.print(machine_line, style="bold", highlight=False)
    figures: dict[str, list[Figure]] = {}
    for name in names or (name for name in BENCHES if name not in LONG):
        begun_s = time.monotonic()
        figures[name] = BENCHES[name](size)
        console.print(f"\n[bold]{name}[/bold], {time.monotonic() - begun_s:.0f} s", highlight=False)
        show(figures[name], console)
    return Report(machine=machine_line, size=size, figures=figures)


def main() -> None:
    """Measure what was asked for on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="Measure the speed and memory of pipaid."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}; all but the last if none is given"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--quick", action="store_true", help="a smaller size and one run, for a first look")
    asked = parser.parse_args()
    unknown = [name for name in asked.names if name not in BENCHES]
    if unknown:
        parser.error(f"there is no bench {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    console = Console()
    if not console.is_terminal:
        console.width = 160
    report = run(asked.names, QUICK if asked.quick else Size(), console)
    if asked.json is not None:
        asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)))


if __name__ == "__main__":
    main()
