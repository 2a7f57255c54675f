"""Made-up results of backtests, with defaults for all that a test does not care about."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pipaid.model.backtest import BacktestResult, BacktestTrade, Metrics
from pipaid.model.order import Side
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
