"""A crossover of averages over a year of minutes: fills and profit are those of two engines that others wrote."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipaid.backtesting import Backtest
from pipaid.model.columns import Candles
from pipaid.model.instrument import Instrument
from pipaid.seams import SystemDisk
from pipaid.venues.importing import read_candles
from tests.oracles.crossover import FAST, SLOW, Crossover, averages, synthetic

# What others' code warns of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

CASH = 10_000_000
FEE = 0.0005
DAY_MS = 86_400_000
COLUMNS = ("open", "high", "low", "close", "volume")
REAL = Path(__file__).parents[3] / "shared/data/candles/binance-usdm/BTCUSDT-1m-20250525-20250624.csv.gz"

# One round trip: when it was entered and left (ms), and at which prices.
Trip = tuple[int, float, int, float]
Engine = Callable[[Candles], tuple[list[Trip], float]]


def ours(candles: Candles) -> tuple[list[Trip], float]:
    """Return the closed round trips, and the equity at the last close."""
    fine = Instrument(
        symbol=candles.symbol,
        base="BTC",
        quote="USDT",
        tick_size=Decimal(1).scaleb(-candles.price_decimals),
        lot_size=Decimal(1),
    )
    result = Backtest(
        template=Crossover,
        candles={candles.symbol: candles},
        instruments={candles.symbol: fine},
        capital=CASH,
        fee_bps=5,
    ).run()
    trips = [
        (each.entry_time_ms, float(each.entry_price), each.exit_time_ms, float(each.exit_price))
        for each in result.trades
    ]
    return trips, float(result.raw.equity_curve[-1][1])


def backtesting_py(candles: Candles) -> tuple[list[Trip], float]:
    """Play it with backtesting.py."""
    theirs: Any = import_module("backtesting")

    def init(self: Any) -> None:
        self.fast = self.I(averages, self.data.Close, FAST, candles.price_decimals)
        self.slow = self.I(averages, self.data.Close, SLOW, candles.price_decimals)

    def next_(self: Any) -> None:
        # Its own crossover asks for a true inequality one candle before; ours takes a tie as a side as well.
        if self.fast[-1] > self.slow[-1] and self.fast[-2] <= self.slow[-2]:
            if not self.position:
                self.buy(size=1)
        elif self.fast[-1] < self.slow[-1] and self.fast[-2] >= self.slow[-2]:
            self.position.close()

    cross = type("Cross", (theirs.Strategy,), {"init": init, "next": next_})
    stats = theirs.Backtest(framed(candles), cross, cash=CASH, commission=FEE, finalize_trades=False).run()
    trades = stats["_trades"]
    entered, left = (trades[name].astype("datetime64[ms]").astype(np.int64) for name in ("EntryTime", "ExitTime"))
    prices = trades["EntryPrice"], trades["ExitPrice"]
    trips = list(zip(entered.tolist(), prices[0].tolist(), left.tolist(), prices[1].tolist(), strict=True))
    return trips, float(stats["Equity Final [$]"])


def backtrader(candles: Candles) -> tuple[list[Trip], float]:
    """Play it with backtrader."""
    theirs: Any = import_module("backtrader")
    closes = candles.floats("close")
    fast, slow = (averages(closes, window, candles.price_decimals) for window in (FAST, SLOW))
    fills: list[tuple[int, float]] = []

    def next_(self: Any) -> None:
        at = len(self) - 1
        if at < SLOW:
            return
        if fast[at] > slow[at] and fast[at - 1] <= slow[at - 1]:
            if not self.position:
                self.buy(size=1)
        elif fast[at] < slow[at] and fast[at - 1] >= slow[at - 1] and self.position:
            self.close()

    def notify_order(self: Any, order: Any) -> None:
        if order.status == order.Completed:
            # It tells of a fill while the candle of the fill is on.
            fills.append((int(candles.time_ms[len(self) - 1]), order.executed.price))

    def preload(self: Any) -> None:
        # Its own feeds read one candle after the other, which would take half of all the time.
        days = candles.time_ms / DAY_MS + date(1970, 1, 1).toordinal()
        for name in self.getlinealiases():
            column = days if name == "datetime" else candles.floats(name) if name in COLUMNS else np.zeros(len(days))
            getattr(self.lines, name).array = array("d", column.tobytes())
        self.home()

    def no_ticks(self: Any) -> None:
        """Leave out what serves candles that arrive in parts; orders then look at the whole ones."""

    cerebro = theirs.Cerebro(stdstats=False, preload=True, runonce=True)
    feed = type("Columns", (theirs.DataBase,), {"preload": preload, "_tick_fill": no_ticks, "_tick_nullify": no_ticks})
    cerebro.adddata(feed(timeframe=theirs.TimeFrame.Minutes))
    cerebro.broker.setcash(CASH)
    cerebro.broker.setcommission(commission=FEE)
    cerebro.addstrategy(type("Cross", (theirs.Strategy,), {"next": next_, "notify_order": notify_order}))
    cerebro.run()
    trips = [(*entered, *left) for entered, left in zip(fills[::2], fills[1::2], strict=False)]
    return trips, float(cerebro.broker.getvalue())


def framed(candles: Candles) -> Any:
    """Return candles as a DataFrame."""
    pandas: Any = import_module("pandas")
    columns = {name.title(): candles.floats(name) for name in COLUMNS}
    return pandas.DataFrame(columns, index=pandas.to_datetime(candles.time_ms, unit="ms"))


@pytest.fixture(scope="module")
def year() -> tuple[Candles, list[Trip], float]:
    candles = synthetic()
    return candles, *ours(candles)


@pytest.mark.parametrize("engine", [backtesting_py, backtrader])
def test_a_year_of_minutes_comes_to_the_same(year: tuple[Candles, list[Trip], float], engine: Engine) -> None:
    candles, trips, equity = year

    their_trips, their_equity = engine(candles)

    assert len(trips) > 3_000
    assert trips == their_trips
    assert equity == pytest.approx(their_equity, abs=0.005)


@pytest.mark.skipif(not REAL.exists(), reason="the recorded month is not here")
@pytest.mark.parametrize("engine", [backtesting_py, backtrader])
def test_a_real_month_comes_to_the_same(engine: Engine) -> None:
    candles = read_candles(SystemDisk(), REAL)

    trips, equity = ours(candles)
    their_trips, their_equity = engine(candles)

    assert len(trips) > 300
    assert trips == their_trips
    assert equity == pytest.approx(their_equity, abs=0.005)
