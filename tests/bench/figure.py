"""Figures: what was measured over several runs, against which goal, and the table that shows them."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import msgspec
from rich.console import Console
from rich.table import Table


class Goal(msgspec.Struct, frozen=True):
    """What a figure is to reach; `at_most` tells on which side of the value that lies."""

    value: float
    at_most: bool = False

    def ratio(self, reached: float) -> float:
        """Return by how much the goal is surpassed: 1 is just reached, less is missed."""
        if self.at_most:
            return self.value / reached if reached else float("inf")
        return reached / self.value


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured quantity with a value for each run."""

    name: str
    unit: str
    values: tuple[float, ...]
    goal: Goal | None = None
    note: str = ""

    @property
    def median(self) -> float:
        """Return the middle of the runs."""
        return median(self.values)


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured; the defaults are those of the goals."""

    runs: int = 3
    strategies: int = 1_000
    strategies_many: int = 10_000
    symbols: int = 20
    candles: int = 1_440
    calls: int = 200_000
    trades: int = 200_000
    resting: int = 1_000
    kills: int = 50
    kills_full: int = 20
    waiting: int = 100
    commits: int = 300
    pings: int = 2_000
    clients: tuple[int, ...] = (1, 100, 1_000)
    deliveries: int = 400_000
    column_candles: int = 525_600
    requests: int = 8_000
    windows: int = 4
    window_s: float = 2.0


QUICK = Size(
    runs=1, strategies=200, strategies_many=1_000, candles=360, calls=50_000, trades=50_000, commits=60, pings=500,
    clients=(1, 100), deliveries=50_000, kills=10, kills_full=2, column_candles=100_000,
    requests=2_000, windows=2,
)  # fmt: skip


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of all values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def machine() -> str:
    """Return one line about what this was measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return (
        f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Linux {platform.release()}, "
        f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}"
    )


def show(figures: Sequence[Figure], console: Console) -> None:
    """Print the figures as a table."""
    table = Table(box=None, pad_edge=False)
    table.add_column("what", overflow="fold")
    for name in ("median", "min", "max", "goal", "of goal"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    table.add_column("remark", overflow="fold", style="dim")
    for figure in figures:
        goal, share, style = "", "", ""
        if figure.goal is not None:
            ratio = figure.goal.ratio(figure.median)
            goal = ("≤ " if figure.goal.at_most else "≥ ") + short(figure.goal.value)
            share, style = f"{ratio:.2f}", "green" if ratio >= 1 else "red"
        table.add_row(
            figure.name,
            short(figure.median),
            short(min(figure.values)),
            short(max(figure.values)),
            goal,
            f"[{style}]{share}[/{style}]" if style else share,
            figure.unit,
            figure.note,
        )
    console.print(table)


def short(value: float) -> str:
    """Return a number with three digits that count."""
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= 10 * size or (abs(value) >= size and letter == " M"):
            return f"{value / size:.3g}{letter}"
    return f"{value:.0f}" if abs(value) >= 1_000 else f"{value:.3g}"
