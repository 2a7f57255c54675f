"""Follow a market or a desk in a test, and the clocks and files that takes."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import trio
from attrs import define, field

from pipaid.venues.venue import Market, MarketUpdate

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
CANDLE_HEADER = "open_time_ms,open,high,low,close,volume"


@define
class TrioClock:
    """The clock of the trio run, which a test may let jump; it remembers its sleeps."""

    sleeps: list[float] = field(factory=list[float])

    def now_us(self) -> int:
        return round(trio.current_time() * 1_000_000)

    def monotonic_s(self) -> float:
        return trio.current_time()

    def cpu_s(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        await trio.sleep(seconds)


async def followed(market: Market, count: int | None = None) -> list[MarketUpdate]:
    """Return the next updates of a market: so many, or all until it ends."""
    updates: list[MarketUpdate] = []
    if count == 0:
        return updates
    async for update in market.updates():
        updates.append(update)
        if len(updates) == count:
            break
    return updates


def write_csv(path: Path, header: str, rows: Sequence[str]) -> Path:
    """Write a CSV file, gzipped if its name says so."""
    data = "\n".join((header, *rows, "")).encode() if header else "\n".join((*rows, "")).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def eurusd_minutes(hours: Path, folder: Path, count: int) -> Path:
    """Lay the first of the real EURUSD hours on consecutive minutes, in the layout of recorded candles."""
    rows = [line.split(",")[1:6] for line in hours.read_text().splitlines()[1 : count + 1]]
    start_ms = 25_000_000 * 60_000
    minutes = [",".join((str(start_ms + index * 60_000), *row)) for index, row in enumerate(rows)]
    return write_csv(folder / "EURUSD-1m-real.csv.gz", CANDLE_HEADER, minutes)
