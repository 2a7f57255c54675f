"""Strategies that trade all the time: two of each template, on paper and not, as many times over as is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final

from tests.scenarios.recordings import MARKETS

SYMBOLS: Final = tuple(MARKETS)
_ROW: Final = """
[[strategy]]
name = "{name}"
template_id = "tpl_{template}"
symbols = [{symbols}]
timeframe = "{timeframe}"
capital = "{capital}.00"
leverage = {leverage}
deploy = true
dry_run = {dry_run}
params = {{ {params} }}
"""
# Name, template, symbols, timeframe, leverage, on paper, params; a grid's ladder lies around the symbol's first price.
TEN: Final = (
    ("grid near", "grid", ["BTCUSDT"], "1m", 3, False, "grid_levels = 16, half_width = 0.04"),
    ("grid wide", "grid", ["SOLUSDT"], "5m", 1, True, "grid_levels = 24, half_width = 0.12"),
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


def write_strategies(path: Path, count: int, prices: Mapping[str, Decimal] | None = None) -> None:
    """Write a file that declares so many; `prices` are those at the beginning, a recording's if none are given."""
    first = recorded_prices() if prices is None else prices
    path.write_text("".join(_declared(number, first) for number in range(count)), encoding="utf-8")


def recorded_prices() -> dict[str, Decimal]:
    """Return the first prices of every recording."""
    return {symbol: Decimal(ticks).scaleb(-decimals) for symbol, (ticks, decimals, _) in MARKETS.items()}


def _declared(number: int, prices: Mapping[str, Decimal]) -> str:
    name, template, symbols, timeframe, leverage, dry_run, params = TEN[number % len(TEN)]
    copy = number // len(TEN)
    return _ROW.format(
        name=f"{name} {copy}" if copy else name,
        template=template,
        symbols=", ".join(f'"{symbol}"' for symbol in symbols),
        timeframe=timeframe,
        # No two do quite the same.
        capital=20_000 + 100 * copy,
        leverage=leverage,
        dry_run="true" if dry_run else "false",
        params=_around(params, symbols, prices),
    )


def _around(params: str, symbols: Sequence[str], prices: Mapping[str, Decimal]) -> str:
    """Write a grid's half width as the two prices that it stands for."""
    rest, found, half_width = params.partition("half_width = ")
    if not found:
        return params
    low, high = (f"{prices[symbols[0]] * (1 + sign * Decimal(half_width)):.2f}" for sign in (-1, 1))
    return f'{rest}lower_price = "{low}", upper_price = "{high}"'
