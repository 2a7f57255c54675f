"""Backtests of a year of minutes: candles and fills per CPU second, beside backtesting.py on the same candles."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from importlib import import_module
from typing import Any, Final, cast

import msgspec
import numpy as np

from pipaid.backtesting import Backtest
from pipaid.engine.backtest import Driver
from pipaid.model.columns import Candles
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.plugins import load_templates
from tests.bench.child import answer, in_child
from tests.bench.figure import Figure, Goal, Size
from tests.oracles.bracket import Bracket
from tests.oracles.crossover import START_MS, YEAR_MINUTES, Crossover, synthetic

CASH: Final = 10_000_000
GOALS: Final = {
    ("crossover", "callback"): Goal(3e6),
    ("crossover", "skipping"): Goal(15e6),
    ("bracket", "skipping"): Goal(5e6),
    ("grid", "skipping"): Goal(3e6),
}
FILLS_GOAL: Final = Goal(100e3)
NAMES: Final = {
    "crossover": "SMA(10) crosses SMA(50)",
    "bracket": "RSI below SMA, bracket of ATR",
    "grid": "grid of 20 levels",
}
PEER: Final = "backtesting.py"


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What one child plays, and how."""

    kind: str
    driver: str
    candles: int


def measure(size: Size) -> list[Figure]:
    """Play each in fresh processes."""
    count = size.column_candles
    figures: list[Figure] = []
    for kind, driver in (*GOALS, ("crossover", PEER)):
        runs = [in_child("backtests", Work(kind=kind, driver=driver, candles=count)) for _ in range(size.runs)]
        note = f"{count} candles, {runs[0]['fills']:.0f} fills"
        goal = GOALS.get((kind, driver)) if count == YEAR_MINUTES else None
        name = f"{NAMES[kind]}, {driver}"
        figures += [
            _figure(name, "candles/s CPU", [run["candles"] / run["cpu_s"] for run in runs], goal, note),
            _figure(f"– its memory beyond the candles, {driver}", "MB", [run["grown_mb"] for run in runs], None, ""),
        ]
        if kind == "grid":
            fills_goal = FILLS_GOAL if count == YEAR_MINUTES else None
            rates = [run["fills"] / run["cpu_s"] for run in runs]
            figures.append(_figure("– its fills", "fills/s CPU", rates, fills_goal, ""))
    return [*figures, *_by_length(size)]


def _by_length(size: Size) -> list[Figure]:
    """Play a week, a year and five years: a candle of a longer backtest costs no more than one of a shorter."""
    figures: list[Figure] = []
    for years, count in (("a week", size.column_candles // 52), ("five years", size.column_candles * 5)):
        work = Work(kind="crossover", driver="skipping", candles=count)
        run = in_child("backtests", work)
        note = f"{count} candles, {run['fills']:.0f} fills"
        figures.append(_figure(f"crossover of {years}, skipping", "µs CPU a fill", [1e6 * run["cpu_s"] / run["fills"]],
                               None, note))  # fmt: skip
    return figures


def _figure(name: str, unit: str, values: list[float], goal: Goal | None, note: str) -> Figure:
    return Figure(name=name, unit=unit, values=tuple(values), goal=goal, note=note)


def main(arguments: str) -> None:
    """Play, and answer with the numbers."""
    work = msgspec.json.decode(arguments, type=Work)
    candles = reverting(work.candles) if work.kind == "grid" else synthetic(work.candles)
    play: Callable[[Candles], int]
    if work.driver == PEER:
        theirs: Any = import_module("tests.oracles.test_crossover")
        play = lambda played: 2 * len(theirs.backtesting_py(played)[0])  # noqa: E731
    else:
        play = lambda played: played_by_us(work, played)  # noqa: E731
    # Imports and first calls are not what is measured.
    play(synthetic(2_000) if work.kind != "grid" else reverting(2_000))
    before_mb, begun_s = _peak_mb(), time.process_time()
    fills = play(candles)
    cpu_s = time.process_time() - begun_s
    grown_mb = max(_peak_mb() - before_mb, 0.1)
    answer({"cpu_s": cpu_s, "candles": len(candles), "fills": max(fills, 1), "grown_mb": grown_mb})


def played_by_us(work: Work, candles: Candles) -> int:
    """Return how many fills there were."""
    params: dict[str, Any] = {}
    template: Any = {"crossover": Crossover, "bracket": Bracket}.get(work.kind)
    if template is None:
        template = load_templates().templates["tpl_grid"]
        params = {"grid_levels": 20, "lower_price": "96", "upper_price": "104"}
    instrument = Instrument(
        symbol=candles.symbol, base="BTC", quote="USDT", tick_size=Decimal("0.01"), lot_size=Decimal("0.001")
    )
    backtest = Backtest(
        template=template,
        params=params,
        candles={candles.symbol: candles},
        instruments={candles.symbol: instrument},
        capital=CASH,
    )
    return len(backtest.run(driver=cast(Driver, work.driver)).raw.fills)


def reverting(count: int) -> Candles:
    """Return gapless minutes in cents that swing around 100."""
    chance = np.random.default_rng(2)
    noise = chance.normal(0, 0.12, count)
    closes = np.empty(count)
    price = 100.0
    for place in range(count):
        price += (100.0 - price) * 0.002 + noise[place]
        closes[place] = price
    closes = np.round(closes, 2)
    opens = np.concatenate(([100.0], closes[:-1]))
    highs = np.round(np.maximum(opens, closes) + chance.integers(0, 6, count) / 100, 2)
    lows = np.round(np.minimum(opens, closes) - chance.integers(0, 6, count) / 100, 2)
    times = START_MS + 60_000 * np.arange(count)
    return Candles.from_rows(
        "BTCUSDT", Timeframe.M1, time_ms=times, open=opens, high=highs, low=lows, close=closes, volume=np.ones(count)
    )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main(sys.argv[1])
