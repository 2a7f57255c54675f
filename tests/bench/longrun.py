"""A grid on ten symbols over five years of minutes, from the candle store: memory, progress, and how fast it ends."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
import numpy as np

from pipaid.backtesting import Backtest
from pipaid.model.columns import Candles
from pipaid.model.instrument import MINUTE_MS, Timeframe
from pipaid.seams import SystemDisk
from pipaid.storage.candles import CandleStore
from tests.bench.child import ROOT, answer, environment, in_child
from tests.bench.figure import Figure, Goal, Size
from tests.oracles.crossover import START_MS

YEARS: Final = 5
SYMBOLS: Final = tuple(f"S{number}USDT" for number in range(10))
LOCAL: Final = "local"
GRID: Final = {"grid_levels": 20, "lower_price": "96", "upper_price": "104"}
CAPITAL: Final = 1_000_000
# A swing through the whole grid and back, in quote units of the walk that is folded into it.
SWING: Final = 16.0
RUN_S_MAX: Final = 3_600.0
ENDS_S_MAX: Final = 60.0
# What the progress bar shows from the first hundredth on.
UNDER_WAY: Final = b"1 %"
BYTES_IN_MB: Final = 1_000.0
DECLARED: Final = """
[[strategy]]
name = "long"
template_id = "tpl_grid"
symbols = {symbols}
timeframe = "1m"
capital = "{capital}"
params = {{ grid_levels = 20, lower_price = "96", upper_price = "104" }}
"""


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What one child does: play the candles of a folder, or run `pipaid backtest` on them and interrupt it."""

    folder: str
    interrupts: bool = False


def measure(size: Size) -> list[Figure]:
    """Make the candles, play them once, and interrupt the command amid them."""
    count = size.column_candles * YEARS
    with TemporaryDirectory(prefix="pipaid-longrun-") as folder:
        store_swings(Path(folder), SYMBOLS, count)
        played = in_child("longrun", Work(folder=folder), timeout_s=RUN_S_MAX)
        ends = [in_child("longrun", Work(folder=folder, interrupts=True)) for _ in range(size.runs)]
    note = f"{len(SYMBOLS)} symbols, {len(SYMBOLS) * count} candles, {played['fills']:.0f} fills"
    whole = count >= YEARS * 525_600

    def row(name: str, unit: str, value: float, goal: Goal | None = None, note: str = "") -> Figure:
        return Figure(name=name, unit=unit, values=(value,), goal=goal if whole else None, note=note)

    return [
        row("a grid on ten symbols over five years, skipping", "candles/s CPU", played["candles"] / played["cpu_s"],
            note=note),
        row("– its CPU", "s", played["cpu_s"]),
        row("– its memory beyond the mapped candles, at its peak", "MB", played["grown_mb"]),
        row("– of which while it plays its first half year", "MB", played["early_mb"]),
        row("– the longest it said nothing of its progress", "s wall", played["silent_s"], Goal(2.0, at_most=True)),
        Figure(name="from Ctrl-C to the end of `pipaid backtest`", unit="s wall",
               values=tuple(run["ends_s"] for run in ends), goal=Goal(1.0, at_most=True)),
    ]  # fmt: skip


def main(arguments: str) -> None:
    """Play or interrupt, and answer with the numbers."""
    work = msgspec.json.decode(arguments, type=Work)
    answer(interrupted(Path(work.folder)) if work.interrupts else played_through(Path(work.folder)))


def played_through(folder: Path) -> dict[str, float]:
    """Play all candles to their end, looking at memory and time whenever progress is told."""
    store = CandleStore(folder)
    candles = {symbol: store.read(LOCAL, symbol, Timeframe.M1) for symbol in SYMBOLS}
    own_mb, peaks_mb, silences_s = _own_mb(), [0.1], [0.0]
    early_mb, told_s = 0.1, time.monotonic()

    def told(share: float) -> None:
        nonlocal told_s, early_mb
        silences_s.append(time.monotonic() - told_s)
        peaks_mb.append(_own_mb() - own_mb)
        if share < 0.5 / YEARS:
            early_mb = max(early_mb, peaks_mb[-1])
        told_s = time.monotonic()

    begun_s = time.process_time()
    raw = Backtest(template="tpl_grid", params=GRID, candles=candles, capital=CAPITAL).run(on_progress=told).raw
    return {
        "cpu_s": time.process_time() - begun_s,
        "candles": raw.candles,
        "fills": max(1, len(raw.fills)),
        "grown_mb": max(max(peaks_mb), _own_mb() - own_mb),
        "early_mb": early_mb,
        "silent_s": max(*silences_s, time.monotonic() - told_s),
    }


def interrupted(folder: Path) -> dict[str, float]:
    """Run the command as somebody types it, press Ctrl-C when it is under way, and see how long it takes to end."""
    declared = declare(folder, SYMBOLS)
    words = [sys.executable, "-c", "from pipaid.launch import admin; admin()", "backtest", str(declared)]
    # A shell starts what runs behind it with Ctrl-C ignored, which would be handed on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*words, "--data", str(folder)], cwd=ROOT, env={**environment(), "TERM": "xterm"},
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    try:
        shown = b""
        while UNDER_WAY not in shown:
            shown += _read(ours) or UNDER_WAY
        begun_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        while _read(ours):
            pass
        process.wait(ENDS_S_MAX)
        return {"ends_s": time.monotonic() - begun_s}
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _read(terminal: int) -> bytes:
    """Return what a terminal shows next, nothing once its program has ended."""
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""


def declare(folder: Path, symbols: tuple[str, ...]) -> Path:
    """Write the file that declares the grid, and return where it is."""
    path = folder / "long.toml"
    path.write_text(DECLARED.format(symbols=list(symbols), capital=CAPITAL), encoding="utf-8")
    return path


def store_swings(folder: Path, symbols: tuple[str, ...], count: int) -> None:
    """Store gapless minutes in cents of each symbol that swing through the grid, each on its own path."""
    store = CandleStore(folder)
    for seed, symbol in enumerate(symbols):
        store.add(LOCAL, swings(symbol, seed, count))


def swings(symbol: str, seed: int, count: int) -> Candles:
    """Return a walk of so many minutes that is folded into the range from 96 to 104."""
    chance = np.random.default_rng(seed)
    walk = np.cumsum(chance.normal(0, 0.02, count)) + seed
    closes = np.round(96 + np.abs(walk % SWING - SWING / 2), 2)
    opens = np.concatenate((closes[:1], closes[:-1]))
    columns: dict[str, Any] = {
        "time_ms": START_MS + MINUTE_MS * np.arange(count),
        "open": opens,
        "high": np.round(np.maximum(opens, closes) + chance.integers(0, 6, count) / 100, 2),
        "low": np.round(np.minimum(opens, closes) - chance.integers(0, 6, count) / 100, 2),
        "close": closes,
        "volume": np.ones(count),
    }
    return Candles.from_rows(symbol, Timeframe.M1, **columns)


def _own_mb() -> float:
    """Return the memory that is this process's own: mapped files are not."""
    lines = SystemDisk().read(Path("/proc/self/status")).decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("RssAnon")) / BYTES_IN_MB


if __name__ == "__main__":
    main(sys.argv[1])
