"""Made-up results of backtests and candles, with defaults for all that a test does not care about."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np

from pipaid.model.backtest import BacktestResult, BacktestTrade, LevelSpan, Metrics
from pipaid.model.columns import Candles
from pipaid.model.instrument import Timeframe
from pipaid.model.order import Fill, Side
from tests.builders import DAY_MS, START_MS, SYMBOL


def make_metrics(**fields: Any) -> Metrics:
    """Make the metrics of a backtest in which nothing happened."""
    cents, mills = Decimal("0.00"), Decimal("0.000")
    given: dict[str, Any] = {
        "sharpe": cents,
        "sortino": cents,
        "calmar": cents,
        "max_drawdown": mills,
        "win_rate": mills,
        "profit_factor": cents,
        "cagr": mills,
        "expected_value": cents,
        "total_trades": 0,
        "avg_trade_duration_seconds": 0,
    }
    return Metrics(**{**given, **fields})


def make_trade(id: int = 1, pnl: str | Decimal = "1", **fields: Any) -> BacktestTrade:
    """Make a trade of one minute at a hundred; trades are left in the order of their numbers."""
    given: dict[str, Any] = {
        "position_id": f"pos_{id}",
        "side": Side.BUY,
        "symbol": SYMBOL,
        "entry_time_ms": START_MS + id * 60_000,
        "entry_price": Decimal(100),
        "exit_time_ms": START_MS + (id + 1) * 60_000,
        "exit_price": Decimal(100) + Decimal(pnl),
        "qty": Decimal(1),
        "fee": Decimal(0),
        "reason": "exit_rule",
    }
    return BacktestTrade(id=id, pnl=Decimal(pnl), **{**given, **fields})


def make_result(**fields: Any) -> BacktestResult:
    """Make the result of one day in which nothing happened."""
    given: dict[str, Any] = {
        "config": {"template_id": "tpl_scripted", "capital": "1000"},
        "metrics": make_metrics(),
        "metrics_365": make_metrics(),
        "equity_curve": ((START_MS, Decimal(1000)), (START_MS + DAY_MS, Decimal(1000))),
        "trades": (),
        "fills": (),
        "levels": (),
        "refusals": {},
        "candles": 1440,
        "exposure_ms": 0,
        "digest": "",
    }
    return BacktestResult(**{**given, **fields})


def make_columns(count: int = 1440, symbol: str = SYMBOL, timeframe: Timeframe = Timeframe.M1) -> Candles:
    """Make candles that swing slowly around a hundred, each a little higher at its end than at its begin."""
    number = np.arange(count)
    first = np.round(100 + 10 * np.sin(number / 500), 2)
    return Candles.from_rows(
        symbol,
        timeframe,
        time_ms=START_MS + number * timeframe.ms,
        open=first,
        high=np.round(first + 0.3, 2),
        low=np.round(first - 0.2, 2),
        close=np.round(first + 0.1, 2),
    )


def make_level(price: str = "100", from_ms: int = 0, until_ms: int = 60_000, **fields: Any) -> LevelSpan:
    """Make a stop that rests from some milliseconds after the start until others."""
    given: dict[str, Any] = {"symbol": SYMBOL, "kind": "stop", "position_id": "pos_1"}
    given |= {"from_ms": START_MS + from_ms, "until_ms": START_MS + until_ms}
    return LevelSpan(price=Decimal(price), **{**given, **fields})


def make_fill(side: Side, after_ms: int, quantity: str = "1", **fields: Any) -> Fill:
    """Make a fill at a hundred some milliseconds after the start."""
    given: dict[str, Any] = {
        "id": f"fill_{after_ms}",
        "client_order_id": "order",
        "symbol": SYMBOL,
        "price": Decimal(100),
        "fee": Decimal(0),
        "fee_asset": "USDT",
        "maker": False,
    }
    return Fill(side=side, quantity=Decimal(quantity), time_ms=START_MS + after_ms, **{**given, **fields})
