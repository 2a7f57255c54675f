"""Recordings made from a seed: files of candles and funding rates that look like a venue's."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

START_MS = 1_748_736_000_000
MINUTE_MS = 60_000
FUNDING_MS = 8 * 3_600_000
# First price in ticks, decimals of the tick, and how many units change hands in a usual minute.
MARKETS = {"BTCUSDT": (1_040_000, 1, 40.0), "ETHUSDT": (255_000, 2, 900.0), "SOLUSDT": (16_000, 2, 9_000.0)}


def write_recording(folder: Path, *, minutes: int, seed: int, symbols: Sequence[str] = tuple(MARKETS)) -> None:
    """Write one file of candles and one of funding rates for each symbol."""
    folder.mkdir(parents=True, exist_ok=True)
    for symbol in symbols:
        chance = random.Random(f"{seed} {symbol}")
        rows = ["open_time_ms,open,high,low,close,volume", *_candles(symbol, minutes, chance)]
        (folder / f"{symbol}-1m-made.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        times = range(START_MS, START_MS + minutes * MINUTE_MS, FUNDING_MS)
        paid = [f"{time_ms + 3},{chance.choice((-2, -1, 1, 1, 3)) / 10_000:.6f}" for time_ms in times]
        text = "\n".join(["funding_time_ms,funding_rate", *paid]) + "\n"
        (folder / f"{symbol}-funding-made.csv").write_text(text, encoding="utf-8")


def replay_config(folder: Path, declared: Path) -> str:
    """Return a configuration that replays a folder's recording as fast as strategies decide."""
    return f"""
[daemon]
strategies = ["{declared}"]
[market]
kind = "replay"
speed = "max"
symbols = []
files = ["{folder}/*-1m-*.csv"]
funding_files = ["{folder}/*-funding-*.csv"]
"""


def _candles(symbol: str, minutes: int, chance: random.Random) -> list[str]:
    """Make a walk with drifts that change, ranges that swing, and a jump now and then."""
    price, decimals, volume = MARKETS[symbol]
    first = price
    rows: list[str] = []
    drift = 0.0
    for minute in range(minutes):
        if minute % 240 == 0:
            drift = chance.gauss(0, 0.00004)
        opened = price
        step = chance.gauss(drift + (first - price) / first * 0.0005, 0.0009)
        if chance.random() < 0.001:
            step += chance.choice((-1, 1)) * 0.02
        price = max(1, round(price * (1 + step)))
        high = max(opened, price) + round(first * abs(chance.gauss(0, 0.0004)))
        low = min(opened, price) - round(first * abs(chance.gauss(0, 0.0004)))
        traded = volume * chance.lognormvariate(0, 0.8)
        texts = [f"{each / 10**decimals:.{decimals}f}" for each in (opened, high, low, price)]
        rows.append(f"{START_MS + minute * MINUTE_MS},{','.join(texts)},{traded:.3f}")
    return rows
