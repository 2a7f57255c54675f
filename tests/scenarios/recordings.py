"""Recordings made from a seed: files of candles and funding rates that look like a venue's, and strategies for them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

START_MS = 1_748_736_000_000
MINUTE_MS = 60_000
FUNDING_MS = 8 * 3_600_000
# First price in ticks, decimals of the tick, and how many units change hands in a usual minute.
MARKETS = {"BTCUSDT": (1_040_000, 1, 40.0), "ETHUSDT": (255_000, 2, 900.0), "SOLUSDT": (16_000, 2, 9_000.0)}

STRATEGIES = """
[[strategy]]
name = "{name}"
template_id = "tpl_{template}"
symbols = [{symbols}]
timeframe = "{timeframe}"
capital = "{capital}"
leverage = {leverage}
deploy = true
dry_run = {dry_run}
params = {{ {params} }}
"""
# Two strategies of each template, on paper and not, on one symbol and on several, on several timeframes.
TEN = (
    ("grid near", "grid", ["BTCUSDT"], "1m", 3, False,
     'grid_levels = 16, lower_price = "100000", upper_price = "108000"'),
    ("grid wide", "grid", ["SOLUSDT"], "5m", 1, True, 'grid_levels = 24, lower_price = "140", upper_price = "180"'),
    ("dca quick", "dca", ["ETHUSDT", "SOLUSDT"], "1m", 1, False,
     'interval = "15m", buy_amount = "40", max_buys = 8, take_profit_pct = "0.006", stop_loss_pct = "0.02"'),
    ("dca slow", "dca", ["BTCUSDT"], "15m", 1, True, 'interval = "4h", buy_amount = "250", take_profit_pct = "0.01"'),
    ("momentum quick", "momentum", ["ETHUSDT", "BTCUSDT"], "1m", 2, False,
     'fast = 5, slow = 15, rsi_min = "50", atr_period = 8, allow_short = true'),
    ("momentum slow", "momentum", ["SOLUSDT"], "5m", 4, True, "fast = 8, slow = 21"),
    ("reversion quick", "meanrev", ["SOLUSDT"], "1m", 2, False, 'window = 20, entry_z = "1.8", allow_short = true'),
    ("reversion slow", "meanrev", ["BTCUSDT", "ETHUSDT", "SOLUSDT"], "5m", 1, True, 'window = 24, entry_z = "1.8"'),
    ("breakout quick", "breakout", ["BTCUSDT"], "1m", 5, False,
     "lookback = 30, exit_lookback = 15, allow_short = true"),
    ("breakout slow", "breakout", ["ETHUSDT"], "15m", 2, True, "lookback = 12, exit_lookback = 6"),
)  # fmt: skip


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


def write_strategies(path: Path) -> None:
    """Write a file that declares the ten."""
    path.write_text(
        "".join(
            STRATEGIES.format(
                name=name,
                template=template,
                symbols=", ".join(f'"{symbol}"' for symbol in symbols),
                timeframe=timeframe,
                capital="20000.00",
                leverage=leverage,
                dry_run="true" if dry_run else "false",
                params=params,
            )
            for name, template, symbols, timeframe, leverage, dry_run, params in TEN
        ),
        encoding="utf-8",
    )


def replay_config(folder: Path, *, exit_at_end: bool, declared: Path | None = None) -> str:
    """Return a configuration that replays a folder's recording as fast as strategies decide."""
    strategies = f'["{declared}"]' if declared is not None else "[]"
    return f"""
[daemon]
exit_at_end = {"true" if exit_at_end else "false"}
strategies = {strategies}
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
