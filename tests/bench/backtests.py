"""Backtests of a year of minutes and of a million market trades, beside backtesting.py on the same candles."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from importlib import import_module
from typing import Any, ClassVar, Final, cast

import msgspec
import numpy as np
from attrs import frozen

from pipaid.backtesting import Backtest
from pipaid.engine.backtest import Driver
from pipaid.model.columns import COLUMNS, Candles
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.plugins import load_templates
from pipaid.sdk import Direction, Enter, ExitAll, Intent, MarketTrade, Template, Trades, View, Wakes
from tests.bench.child import answer, in_child
from tests.bench.figure import Figure, Goal, Size
from tests.oracles.bracket import Bracket
from tests.oracles.crossover import START_MS, YEAR_MINUTES, Crossover, synthetic

CASH: Final = 10_000_000
GOALS: Final = {
    ("crossover", "callback"): Goal(3e6),
    ("crossover", "skipping"): Goal(15e6),
    ("bracket", "skipping"): Goal(5e6),
    ("rules", "skipping"): Goal(5e6),
    ("grid", "skipping"): Goal(3e6),
}
LENGTHS: Final = {"a week": 1 / 52, "a month": 1 / 12, "a quarter": 1 / 4, "a year": 1.0, "five years": 5.0}
FILLS_GOAL: Final = Goal(100e3)
NAMES: Final = {
    "crossover": "SMA(10) crosses SMA(50)",
    "bracket": "RSI below SMA, bracket of ATR",
    "rules": "RSI above SMA, bracket of ATR, as rules of 5m",
    "grid": "grid of 20 levels",
}
# The same as the bracket, upside down: a rule is above an average, and trends are followed as often as they are faded.
RULES: Final[Mapping[str, Any]] = {
    "entry": [
        {"name": "rsi_overbought", "signal_type": "TRIGGER", "timeframe": "5m", "params": {"window": 14}},
        {"name": "is_above_sma", "signal_type": "FILTER", "timeframe": "5m", "params": {"window": 50}},
    ],
    "execution_config": {
        "max_open_positions": 1,
        "cooldown_bars": 0,
        "max_trades_per_day": 1_000,
        "max_drawdown_limit": 1,
        "min_balance_threshold": 0,
        "cooldown_config": {"5m": {"short_loss_limit": 100, "long_loss_limit": 100}},
    },
}
PEER: Final = "backtesting.py"
MARKET_TRADES: Final = 1_000_000
TRADES_GOALS: Final = {"each": Goal(4e6), "batches": Goal(25e6)}
TRADES_NAMES: Final = {
    "each": "a callback for each market trade",
    "batches": "batches of the market trades of a minute",
}
# Eleven a second are those of a busy market; a million of them last a day.
APART_MS_MAX: Final = 172


@frozen(kw_only=True)
class NoParams:
    """Nothing to choose."""


class Listener(Template):
    """Buy what is large and leave soon: a little work at each market trade."""

    id = "tpl_listener"
    description = "Hears of each market trade."
    params_type = NoParams
    LARGE: ClassVar[Decimal] = Decimal("1.999")

    def wakes(self) -> Wakes:
        """Wake at no candle."""
        return Wakes()

    def on_trade(self, view: View, trade: MarketTrade) -> Sequence[Intent]:
        """Look at the size of one."""
        if trade.buyer_is_maker or trade.quantity < self.LARGE:
            return ()
        return turned(view)


class BatchListener(Template):
    """Follow a minute in which buyers were far stronger."""

    id = "tpl_batch_listener"
    description = "Hears of the market trades of each candle."
    params_type = NoParams

    def wakes(self) -> Wakes:
        """Wake at no candle."""
        return Wakes()

    def on_trades(self, view: View, trades: Trades) -> Sequence[Intent]:
        """Weigh those that bought against those that sold."""
        bought, total = int(trades.quantity_units[~trades.buyer_is_maker].sum()), int(trades.quantity_units.sum())
        return turned(view) if bought > 0.56 * total else ()


def turned(view: View) -> Sequence[Intent]:
    """Buy, or leave what is held."""
    if view.positions:
        return [ExitAll(symbol=view.symbol)]
    return [Enter(symbol=view.symbol, direction=Direction.LONG, quantity=Decimal(1))]


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
    return [*figures, *_of_trades(size), *_by_length(size)]


def _of_trades(size: Size) -> list[Figure]:
    """Play market trades to templates that listen to them and seldom trade."""
    figures: list[Figure] = []
    count = MARKET_TRADES if size.column_candles >= YEAR_MINUTES else size.column_candles
    for kind, goal in TRADES_GOALS.items():
        work = Work(kind=kind, driver="skipping", candles=count)
        runs = [in_child("backtests", work) for _ in range(size.runs)]
        note = f"{count} market trades, {runs[0]['fills']:.0f} fills"
        rates = [count / run["cpu_s"] for run in runs]
        whole = goal if count == MARKET_TRADES else None
        memory = [run["grown_mb"] for run in runs]
        figures += [
            _figure(TRADES_NAMES[kind], "trades/s CPU", rates, whole, note),
            _figure(f"– its memory beyond the market trades, {kind}", "MB", memory, None, ""),
        ]
    return figures


def _by_length(size: Size) -> list[Figure]:
    """Play lengths from a week to five years: what happens in a longer backtest costs no more than in a shorter."""
    figures: list[Figure] = []
    for length, share in LENGTHS.items():
        work = Work(kind="crossover", driver="skipping", candles=round(size.column_candles * share))
        run = in_child("backtests", work)
        note = f"{work.candles} candles, {run['fills']:.0f} fills"
        figures.append(_figure(f"crossover of {length}, skipping", "µs CPU a fill", [1e6 * run["cpu_s"] / run["fills"]],
                               None, note))  # fmt: skip
    return figures


def _figure(name: str, unit: str, values: list[float], goal: Goal | None, note: str) -> Figure:
    return Figure(name=name, unit=unit, values=tuple(values), goal=goal, note=note)


def main(arguments: str) -> None:
    """Play, and answer with the numbers."""
    work = msgspec.json.decode(arguments, type=Work)
    if work.kind in TRADES_GOALS:
        _play_trades(work)
        return
    candles = _candles(work)
    play: Callable[[Candles], int]
    if work.driver == PEER:
        theirs: Any = import_module("tests.oracles.test_crossover")
        play = lambda played: 2 * len(theirs.backtesting_py(played)[0])  # noqa: E731
    else:
        play = lambda played: played_by_us(work, played)  # noqa: E731
    # Imports and first calls are not what is measured.
    play(_candles(msgspec.structs.replace(work, candles=2_000)))
    before_mb, begun_s = _peak_mb(), time.process_time()
    fills = play(candles)
    cpu_s = time.process_time() - begun_s
    grown_mb = max(_peak_mb() - before_mb, 0.1)
    answer({"cpu_s": cpu_s, "candles": len(candles), "fills": max(fills, 1), "grown_mb": grown_mb})


def _candles(work: Work) -> Candles:
    """Return the candles of a work: rules are of no smaller ones than five minutes."""
    if work.kind == "grid":
        return reverting(work.candles)
    minutes = synthetic(work.candles)
    if work.kind != "rules":
        return minutes
    columns = [START_MS + Timeframe.M5.ms * np.arange(len(minutes)), *(getattr(minutes, name) for name in COLUMNS[1:])]
    return Candles.of(
        minutes.symbol,
        Timeframe.M5,
        columns,
        price_decimals=minutes.price_decimals,
        volume_decimals=minutes.volume_decimals,
    )


def _play_trades(work: Work) -> None:
    """Play market trades, and answer with the numbers."""
    template = {"each": Listener, "batches": BatchListener}[work.kind]

    def play(trades: Trades) -> int:
        return len(Backtest(template=template, trades={trades.symbol: trades}, capital=CASH).run().raw.fills)

    tape = market_trades(work.candles)
    play(market_trades(2_000))
    before_mb, begun_s = _peak_mb(), time.process_time()
    fills = play(tape)
    cpu_s = time.process_time() - begun_s
    answer({"cpu_s": cpu_s, "fills": max(fills, 1), "grown_mb": max(_peak_mb() - before_mb, 0.1)})


def market_trades(count: int) -> Trades:
    """Return market trades of a walk in cents."""
    chance = np.random.default_rng(3)
    return Trades.from_rows(
        "BTCUSDT",
        time_ms=START_MS + chance.integers(0, APART_MS_MAX, count).cumsum(),
        price=np.round(1_000 + chance.normal(0, 0.02, count).cumsum(), 2),
        quantity=chance.integers(1, 2_000, count) / 1000,
        buyer_is_maker=chance.integers(0, 2, count),
    )


def played_by_us(work: Work, candles: Candles) -> int:
    """Return how many fills there were."""
    params: dict[str, Any] = {}
    template: Any = {"crossover": Crossover, "bracket": Bracket}.get(work.kind)
    if work.kind == "rules":
        template, params = load_templates().templates["tpl_rules"], dict(RULES)
    elif template is None:
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
