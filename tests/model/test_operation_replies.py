"""Replies built from the model: the published shapes, money as strings, moments in ISO 8601."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipaid.model.instrument import Timeframe
from pipaid.model.order import Order, OrderStatus, OrderType, Side
from pipaid.model.position import CloseReason, Direction, Position
from pipaid.model.reply import order_object, position_object, run_object, strategy_object, trade_object
from pipaid.model.run import Cause, Evaluation, RunStatus, RunStep, StepName, StepStatus
from pipaid.model.strategy import Fault, Run, Status, Strategy, StrategyDefinition, Tally

AT_MS = 1_767_346_200_412
PARAMS = {"grid_levels": 6, "upper_price": "190.00"}


def as_json(reply: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(reply))


def make_strategy(**more: object) -> Strategy:
    definition = StrategyDefinition(
        name="sol range 15m",
        template_id="tpl_grid",
        params=PARAMS,
        symbols=("SOLUSDT",),
        timeframe=Timeframe.M15,
        capital=Decimal(2500),
        leverage=2,
    )
    fields: dict[str, object] = {
        "id": "strat_5e07c1d9",
        "number": 1,
        "account": "acct_main",
        "definition": definition,
        "status": Status.DRAFT,
        "created_at_us": 1_767_290_400_999_999,
        "updated_at_us": 1_767_290_400_999_999,
    }
    return msgspec.convert(fields | more, Strategy)


def make_order(**more: object) -> Order:
    fields: dict[str, object] = {
        "id": "ord_1",
        "client_order_id": "pp1",
        "strategy_id": "strat_5e07c1d9",
        "account": "acct_main",
        "dry_run": True,
        "run_id": "run_1",
        "position_id": "pos_1",
        "symbol": "SOLUSDT",
        "side": Side.BUY,
        "type": OrderType.LIMIT,
        "quantity": Decimal("4.20"),
        "price": Decimal("158.40"),
        "reduce_only": False,
        "placed_at_ms": AT_MS,
    }
    return msgspec.convert(fields | more, Order)


def make_position(**more: object) -> Position:
    fields: dict[str, object] = {
        "id": "pos_1",
        "strategy_id": "strat_5e07c1d9",
        "account": "acct_main",
        "dry_run": True,
        "run_id": "run_1",
        "symbol": "SOLUSDT",
        "direction": Direction.LONG,
        "leverage": 2,
        "entry_quantity": Decimal(3),
        "entry_value": Decimal(100),
        "fees": Decimal("0.125"),
        "opened_at_ms": AT_MS,
    }
    return msgspec.convert(fields | more, Position)


def test_a_draft_has_the_published_shape() -> None:
    shown = strategy_object(make_strategy(), Tally(), open_positions=0, unrealised=Decimal(0))

    assert as_json(shown) == {
        "id": "strat_5e07c1d9",
        "name": "sol range 15m",
        "template_id": "tpl_grid",
        "params": PARAMS,
        "symbols": ["SOLUSDT"],
        "timeframe": "15m",
        "capital": "2500.00",
        "leverage": 2,
        "status": "draft",
        "deployed_at": None,
        "created_at": "2026-01-01T18:00:00Z",
        "updated_at": "2026-01-01T18:00:00Z",
        "stats": {"open_positions": 0, "total_pnl": "0.00", "total_trades": 0, "win_rate": "0.000"},
        "template_version": None,
        "dry_run": None,
        "run": None,
        "error": None,
    }


def test_a_strategy_in_error_shows_its_run_its_sums_and_the_cause() -> None:
    tally = Tally(trades=9, wins=5, pnl=Decimal("-5.184"))
    run = Run(id="run_7", dry_run=True, capital=Decimal("99.999"), leverage=3, started_at_ms=AT_MS, ended_at_ms=AT_MS)
    fault = Fault(code="ENGINE_CRASH", message="it raised", at_ms=AT_MS)
    strategy = make_strategy(status=Status.ERROR, deployed_at_ms=AT_MS, template_version=1, run=run, fault=fault)

    shown = strategy_object(strategy, tally, open_positions=1, unrealised=Decimal("2.004"))

    assert as_json(shown.stats) == {
        "open_positions": 1, "total_pnl": "-3.18", "total_trades": 9, "win_rate": "0.556",
    }  # fmt: skip
    assert shown.dry_run is True
    assert shown.run is not None
    assert (shown.run.capital, shown.run.started_at, shown.run.ended_at) == (
        "100.00", "2026-01-02T09:30:00Z", "2026-01-02T09:30:00Z",
    )  # fmt: skip
    assert shown.error is not None
    assert (shown.error.code, shown.error.at) == ("ENGINE_CRASH", "2026-01-02T09:30:00Z")


@pytest.mark.parametrize(
    ("type", "price", "stop_price"),
    [
        (OrderType.LIMIT, "158.40", None),
        (OrderType.MARKET, None, None),
        (OrderType.STOP, None, "158.40"),
        (OrderType.TAKE_PROFIT, None, "158.40"),
    ],
)
def test_an_order_shows_the_price_that_its_type_has(type: OrderType, price: str | None, stop_price: str | None) -> None:
    shown = order_object(make_order(type=type))

    assert (shown.price, shown.stop_price) == (price, stop_price)
    assert (shown.avg_price, shown.ended_at, shown.status) == (None, None, "intended")


def test_a_filled_order_shows_its_average() -> None:
    order = make_order(
        status=OrderStatus.FILLED, filled=Decimal(3), filled_value=Decimal(100), fee=Decimal("0.10"), ended_at_ms=AT_MS
    )

    shown = order_object(order)

    assert (shown.avg_price, shown.fee, shown.ended_at) == ("33.33", "0.1", "2026-01-02T09:30:00.412Z")


def test_an_open_position_is_valued_at_the_mark() -> None:
    shown = position_object(make_position(), Decimal(40))

    assert (shown.state, shown.side, shown.qty, shown.unrealised_pnl) == ("open", "long", "3", "20.00")
    assert (shown.closed_at, shown.exit_price, shown.reason) == (None, None, None)
    assert position_object(make_position()).unrealised_pnl is None


def test_a_closed_position_is_a_trade() -> None:
    closed = make_position(
        exit_quantity=Decimal(3), exit_value=Decimal(110), closed_at_ms=AT_MS, reason=CloseReason.TAKE_PROFIT
    )

    trade = trade_object(closed)

    assert (trade.pnl, trade.fee, trade.reason) == ("9.88", "0.13", "take_profit")
    assert position_object(closed, Decimal(1)).unrealised_pnl is None
    with pytest.raises(AssertionError):
        trade_object(make_position())


def test_an_evaluation_shows_its_steps_only_when_asked() -> None:
    step = RunStep(seq=1, step_name=StepName.DATA, status=StepStatus.OK, output={"close": "1"}, duration_us=1_999)
    run = Evaluation(
        id="run_1", strategy_id="strat_1", account="acct_main", symbol="SOLUSDT", timeframe="15m", cause=Cause.CANDLE,
        status=RunStatus.COMPLETED, final_action="BUY", at_ms=AT_MS, steps=(step,), duration_us=2_500,
        dry_run=True, order_ids=("ord_1", "ord_2"), trade_id="pos_1",
    )  # fmt: skip

    listed = as_json(run_object(run))
    whole = as_json(run_object(run, steps=True))

    assert "steps" not in listed
    assert (listed["account_id"], listed["total_duration_ms"], listed["duration_us"]) == ("acct_main", 2, 2_500)
    assert (listed["task_type"], listed["cause"], listed["status"]) == ("signal", "candle", "completed")
    assert (listed["dry_run"], listed["trade_id"], listed["order_ids"]) == (True, "pos_1", ["ord_1", "ord_2"])
    assert whole["steps"] == [
        {
            "seq": 1, "step_name": "data", "status": "ok", "duration_ms": 1, "duration_us": 1_999,
            "output": {"close": "1"}, "error": None,
        }
    ]  # fmt: skip


def test_an_evaluation_of_an_earlier_release_can_still_be_read() -> None:
    before: dict[str, Any] = {
        "id": "run_1", "strategy_id": "strat_1", "account": "acct_main", "symbol": "SOLUSDT", "timeframe": "15m",
        "cause": "candle", "status": "skipped", "final_action": "HOLD", "at_ms": AT_MS, "duration_us": 7,
        "steps": [{"seq": 1, "step_name": "data", "status": "ok", "output": {}, "error": None}],
    }  # fmt: skip

    shown = as_json(run_object(msgspec.convert(before, Evaluation), steps=True))

    assert (shown["task_type"], shown["detail"], shown["dry_run"], shown["trade_id"]) == ("signal", "", None, None)
