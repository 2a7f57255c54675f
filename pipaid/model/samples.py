"""Made-up data of every event that webhooks hear of, for trying a receiver out."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

import msgspec

from pipaid.model.event import (
    Deployed,
    EventData,
    Halted,
    OrderCancelled,
    OrderFilled,
    OrderPlaced,
    Paused,
    PositionClosed,
    PositionOpened,
    PositionSummary,
    Stopped,
)
from pipaid.model.reply import StrategyObject, StrategySums

_AT: Final = "2026-01-02T10:15:00.412Z"
_SECOND: Final = "2026-01-02T10:15:00Z"
_STRATEGY: Final = "strat_00000000"
_NAME: Final = "a test"
_LOT: Final[Mapping[str, Any]] = {
    "position_id": "pos_000000000000", "symbol": "SOLUSDT", "side": "long", "qty": Decimal("4.20"),
    "entry_price": Decimal("158.41"),
}  # fmt: skip
_ORDER: Final[Mapping[str, Any]] = {
    "order_id": "ord_000000000000", "client_order_id": "pp00000000000000000000000001", "symbol": "SOLUSDT",
}  # fmt: skip
_COURSE: Final[Mapping[str, EventData]] = {
    "strategy.deployed": Deployed(
        status="deployed", deployed_at=_SECOND, dry_run=True, capital=Decimal("2500.00"), leverage=2, template_version=1
    ),
    "strategy.paused": Paused(status="paused", close_positions=False, open_positions=1),
    "strategy.stopped": Stopped(status="stopped", open_positions=(PositionSummary(**_LOT),)),
    "strategy.error": Halted(status="error", code="ENGINE_CRASH", message="it failed too often", open_positions=1),
    "strategy.position_opened": PositionOpened(
        **_LOT, notional=Decimal("665.32"), leverage=2, opened_at=_AT, stop_price=Decimal("150.00")
    ),
    "strategy.position_closed": PositionClosed(
        **_LOT, exit_price=Decimal("161.20"), pnl=Decimal("11.05"), fee=Decimal("0.67"), reason="take_profit",
        opened_at=_AT, closed_at=_AT,
    ),
    "strategy.order_placed": OrderPlaced(
        **_ORDER, side="buy", type="limit", qty=Decimal("4.20"), price=Decimal("158.40"), time_in_force="GTC",
        reduce_only=False, placed_at=_AT,
    ),
    "strategy.order_filled": OrderFilled(
        **_ORDER, position_id="pos_000000000000", side="buy", type="limit", qty=Decimal("4.20"),
        price=Decimal("158.40"), fill_qty=Decimal("4.20"), fill_price=Decimal("158.40"), cum_qty=Decimal("4.20"),
        avg_price=Decimal("158.40"), fee=Decimal("0.33"), fee_asset="USDT", liquidity="maker",
        trade_id="trd_000000000000", is_complete=True,
    ),
    "strategy.order_cancelled": OrderCancelled(
        **_ORDER, reason="engine", filled_qty=Decimal(0), cancelled_at=_AT
    ),
}  # fmt: skip
_OBJECT: Final = StrategyObject(
    id=_STRATEGY, name=_NAME, template_id="tpl_grid", params={"grid_levels": 6}, symbols=("SOLUSDT",), timeframe="15m",
    capital="2500.00", leverage=2, status="draft", deployed_at=None, created_at=_SECOND, updated_at=_SECOND,
    stats=StrategySums(open_positions=0, total_pnl="0.00", total_trades=0, win_rate="0.000"), template_version=None,
    dry_run=None, run=None, error=None,
)  # fmt: skip
_METRICS: Final = MappingProxyType(
    {"sharpe": "1.20", "sortino": "1.80", "calmar": "2.10", "max_drawdown": "-0.080", "win_rate": "0.556",
     "profit_factor": "1.64", "cagr": "0.170", "expected_value": "3.10", "total_trades": 9,
     "avg_trade_duration_seconds": 5400}
)  # fmt: skip
_OTHERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "backtest.job_done": {"job_id": "bt_00000000", "status": "done", "metrics": dict(_METRICS)},
    "backtest.job_failed": {
        "job_id": "bt_00000000", "status": "failed", "error": {"code": "ENGINE_CRASH", "message": "it failed"},
    },
    "backtest.job_cancelled": {"job_id": "bt_00000000", "status": "cancelled"},
    "account.balance_low": {"asset": "USDT", "available": "412.50", "threshold": "500.00"},
    "account.api_key_rotated": {
        "key_prefix": "pk_00000000", "rotated_at": _SECOND, "grace_until": "2026-01-03T10:15:00Z",
    },
    "account.kill_switch": {"is_active": True, "reason": "a test", "activated_at": _AT},
    "webhook.test": {},
}  # fmt: skip


def sample_of(type: str) -> dict[str, Any]:
    """Return made-up data of a type of event."""
    if type in _OTHERS:
        return dict(_OTHERS[type])
    if type in _COURSE:
        own = {"strategy_id": _STRATEGY, "name": _NAME, "run_id": "run_000000000000", "dry_run": True, "seq": 1}
        return {**own, **msgspec.to_builtins(_COURSE[type])}
    return {"strategy_id": _STRATEGY, "name": _NAME, "strategy": msgspec.to_builtins(_OBJECT)}
