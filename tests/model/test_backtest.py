"""The result of a backtest goes over the wire in the published shape."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from pipaid.model.backtest import BacktestResult, BacktestTrade, result_object
from pipaid.model.moment import parse_iso
from pipaid.model.order import Side
from tests.results import make_metrics, make_result

PUBLISHED = """
{"metrics":{"sharpe":"0.91","sortino":"1.30","calmar":"0.55","max_drawdown":"-0.087","win_rate":"0.520",
            "profit_factor":"1.21","cagr":"0.048","expected_value":"2.07","total_trades":50,"avg_trade_duration_seconds":7260},
 "equity_curve":[["2025-05-01T00:00:00Z","2500.00"],["2025-05-02T00:00:00Z","2507.11"]],
 "trades":[{"id":1,"side":"buy","symbol":"SOLUSDT","entry_time":"2025-05-01T03:15:00Z","entry_price":"150.00",
            "exit_time":"2025-05-01T06:00:00Z","exit_price":"151.50","qty":"2.00","pnl":"2.70","fee":"0.30"}]}
"""


def wire(result: BacktestResult) -> dict[str, Any]:
    """Return what arrives at the other end of the wire."""
    return msgspec.json.decode(msgspec.json.encode(result_object(result)), type=dict[str, Any])


def test_the_published_example_is_what_goes_over_the_wire() -> None:
    metrics = make_metrics(
        sharpe=Decimal("0.91"),
        sortino=Decimal("1.30"),
        calmar=Decimal("0.55"),
        max_drawdown=Decimal("-0.087"),
        win_rate=Decimal("0.520"),
        profit_factor=Decimal("1.21"),
        cagr=Decimal("0.048"),
        expected_value=Decimal("2.07"),
        total_trades=50,
        avg_trade_duration_seconds=7260,
    )
    trade = BacktestTrade(
        id=1,
        position_id="pos_1",
        side=Side.BUY,
        symbol="SOLUSDT",
        entry_time_ms=parse_iso("2025-05-01T03:15:00Z"),
        entry_price=Decimal("150.00"),
        exit_time_ms=parse_iso("2025-05-01T06:00:00Z"),
        exit_price=Decimal("151.50"),
        qty=Decimal("2.00"),
        pnl=Decimal("2.7"),
        fee=Decimal("0.3"),
        reason="take_profit",
    )
    curve = ((parse_iso("2025-05-01"), Decimal(2500)), (parse_iso("2025-05-02"), Decimal("2507.114")))

    told = wire(make_result(metrics=metrics, equity_curve=curve, trades=(trade,)))

    published = msgspec.json.decode(PUBLISHED)
    (own,) = told.pop("trades")
    (theirs,) = published.pop("trades")
    assert own == {**theirs, "reason": "take_profit"}
    assert {name: told[name] for name in published} == published


def test_what_is_infinite_is_null() -> None:
    told = wire(make_result(metrics=make_metrics(sortino=None, cagr=None)))

    assert (told["metrics"]["sortino"], told["metrics"]["cagr"]) == (None, None)
    assert told["metrics_365"]["sortino"] == "0.00"


def test_the_extensions_stand_beside_the_published_fields() -> None:
    told = wire(make_result(refusals={"exposure_max": 3}, digest="ab12"))

    extensions = ["metrics_365", "refusals", "digest", "trades_left_out", "notes"]
    assert list(told) == ["metrics", "equity_curve", "trades", *extensions]
    assert (told["refusals"], told["digest"]) == ({"exposure_max": 3}, "ab12")


def test_a_result_survives_its_way_to_another_process() -> None:
    result = make_result(refusals={"cooldown": 1})

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(result), type=type(result)) == result
