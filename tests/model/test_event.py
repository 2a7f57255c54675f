"""The frame of each event: exactly the published shape, and no number of its own for opt-in events."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import pytest

from pipaid.model.event import (
    EVENT_NAMES,
    OPT_IN_EVENTS,
    BacktestCancelled,
    BacktestDone,
    BacktestFailed,
    BacktestMoved,
    BacktestProgressed,
    BacktestQueued,
    BacktestStarted,
    BalanceLow,
    Deployed,
    EventData,
    EventDraft,
    Halted,
    KeyRotated,
    KillSwitched,
    Lagged,
    Notice,
    OrderCancelled,
    OrderFilled,
    OrderPlaced,
    Paused,
    PositionClosed,
    PositionOpened,
    PositionSummary,
    Resumed,
    RiskBlocked,
    Stopped,
    StrategyCreated,
    StrategyDeleted,
    StrategyUpdated,
    account_told,
    event_frame,
    is_notice,
    notice,
)
from pipaid.model.reply import strategy_object
from pipaid.model.strategy import Tally
from tests.builders import STRATEGY_ID, make_strategy

AT_MS = 1_767_348_900_412
FILLED = OrderFilled(
    order_id="ord_30f2c6d18e07",
    client_order_id="pp7d1e5b0c",
    position_id="pos_c4471bb2e905",
    symbol="SOLUSDT",
    side="buy",
    type="limit",
    qty=Decimal("4.20"),
    price=Decimal("158.40"),
    fill_qty=Decimal("1.20"),
    fill_price=Decimal("158.40"),
    cum_qty=Decimal("4.20"),
    avg_price=Decimal("158.41"),
    fee=Decimal("0.09"),
    fee_asset="USDT",
    liquidity="maker",
    trade_id="trd_5517aa0be2c3",
    is_complete=True,
)
PLACED = OrderPlaced(
    order_id="ord_1",
    client_order_id="pp1",
    symbol="SOLUSDT",
    side="buy",
    type="market",
    qty=Decimal(1),
    time_in_force="GTC",
    reduce_only=False,
    placed_at="2026-01-02T10:15:00.412Z",
)
OPENED = PositionOpened(
    position_id="pos_1",
    symbol="SOLUSDT",
    side="long",
    qty=Decimal(1),
    entry_price=Decimal(100),
    notional=Decimal("100.00"),
    leverage=2,
    opened_at="2026-01-02T10:15:00.412Z",
)
ORDER_MEMBERS = "order_id client_order_id symbol side type qty"
FILL_MEMBERS = "fill_qty fill_price cum_qty avg_price fee fee_asset liquidity trade_id is_complete"
OBJECT = strategy_object(make_strategy(), Tally(), open_positions=0, unrealised=Decimal(0))
# Each event's data, with the members that are always there.
EXAMPLES: list[tuple[EventData, str]] = [
    (
        Deployed(
            status="deployed", deployed_at="x", dry_run=True, capital=Decimal(9), leverage=1, template_version=3
        ),
        "status deployed_at dry_run capital leverage template_version",
    ),
    (Paused(status="paused", close_positions=False, open_positions=0), "status close_positions open_positions"),
    (
        Stopped(
            status="stopped",
            open_positions=(
                PositionSummary(
                    position_id="pos_1", symbol="SOLUSDT", side="long", qty=Decimal(1), entry_price=Decimal(9)
                ),
            ),
        ),
        "status open_positions",
    ),
    (
        Halted(status="error", code="ENGINE_CRASH", message="why", open_positions=1),
        "status code message open_positions",
    ),
    (OPENED, "position_id symbol side qty entry_price notional leverage opened_at"),
    (
        PositionClosed(
            position_id="pos_1", symbol="SOLUSDT", side="long", qty=Decimal(1), entry_price=Decimal(1),
            exit_price=Decimal(2), pnl=Decimal(1), fee=Decimal(0), reason="exit_rule", opened_at="x", closed_at="y",
        ),
        "position_id symbol side qty entry_price exit_price pnl fee reason opened_at closed_at",
    ),
    (PLACED, f"{ORDER_MEMBERS} time_in_force reduce_only placed_at"),
    (
        FILLED,
        f"{ORDER_MEMBERS} position_id price {FILL_MEMBERS}",
    ),
    (
        OrderCancelled(
            order_id="ord_1", client_order_id="pp1", symbol="SOLUSDT", reason="engine", filled_qty=Decimal(0),
            cancelled_at="x",
        ),
        "order_id client_order_id symbol reason filled_qty cancelled_at",
    ),
    (RiskBlocked(rule="cooldown", symbol="SOLUSDT", limit="1", value="2"), "rule symbol limit value"),
    (Resumed(status="deployed"), "status"),
    (BacktestQueued(status="queued", progress=0.0), "status progress"),
    (BacktestStarted(status="running", progress=0.0), "status progress"),
    (BacktestProgressed(status="running", progress=0.25), "status progress"),
    (BacktestDone(status="done", progress=1.0), "status progress"),
    (BacktestFailed(status="failed", progress=0.5, code="INTERRUPTED", message="why"), "status progress code message"),
    (BacktestCancelled(status="cancelled", progress=0.5), "status progress"),
    (Lagged(from_seq=3, to_seq=9), "from_seq to_seq"),
    (StrategyCreated(strategy_id="strat_1", name="a", strategy=OBJECT), "strategy_id name strategy"),
    (StrategyUpdated(strategy_id="strat_1", name="a", strategy=OBJECT), "strategy_id name strategy"),
    (StrategyDeleted(strategy_id="strat_1", name="a", strategy=OBJECT), "strategy_id name strategy"),
    (
        BalanceLow(webhook_id="wh_1", asset="USDT", available=Decimal(1), threshold=Decimal(2)),
        "webhook_id asset available threshold",
    ),
    (KeyRotated(key_prefix="pk_1", rotated_at="x", grace_until="y"), "key_prefix rotated_at grace_until"),
    (KillSwitched(is_active=True, reason="why", activated_at="x"), "is_active reason activated_at"),
]  # fmt: skip


def frame_of(data: EventData, seq: int = 4182, ordinal: int = 0) -> dict[str, Any]:
    draft = EventDraft(strategy_id=STRATEGY_ID, data=data, at_ms=AT_MS, run_id="run_7d1e5b0c2a44", dry_run=True)
    frame: dict[str, Any] = json.loads(event_frame(draft, seq=seq, ordinal=ordinal))
    return frame


def test_a_fill_looks_exactly_as_published() -> None:
    frame = frame_of(FILLED)

    assert re.fullmatch(r"evt_[0-9a-f]{12}", frame.pop("event_id"))
    assert frame == {
        "channel": "strategy.status",
        "event": "order_filled",
        "id": STRATEGY_ID,
        "seq": 4182,
        "ts": "2026-01-02T10:15:00.412Z",
        "run_id": "run_7d1e5b0c2a44",
        "dry_run": True,
        "data": {
            "order_id": "ord_30f2c6d18e07",
            "client_order_id": "pp7d1e5b0c",
            "position_id": "pos_c4471bb2e905",
            "symbol": "SOLUSDT",
            "side": "buy",
            "type": "limit",
            "qty": "4.20",
            "price": "158.40",
            "fill_qty": "1.20",
            "fill_price": "158.40",
            "cum_qty": "4.20",
            "avg_price": "158.41",
            "fee": "0.09",
            "fee_asset": "USDT",
            "liquidity": "maker",
            "trade_id": "trd_5517aa0be2c3",
            "is_complete": True,
        },
    }


@pytest.mark.parametrize(("data", "members"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_every_event_has_its_members_and_none_besides(data: EventData, members: str) -> None:
    frame = frame_of(data)

    number = "after_seq" if frame["event"] in OPT_IN_EVENTS else "seq"
    assert list(frame) == ["channel", "event", "id", number, "ts", "event_id", "run_id", "dry_run", "data"]
    assert set(frame["data"]) == set(members.split())


def test_there_is_an_example_of_every_event() -> None:
    assert {type(data) for data, _ in EXAMPLES} == set(EVENT_NAMES)


def test_what_an_event_does_not_have_is_left_out() -> None:
    assert not {"price", "stop_price", "position_id"} & set(frame_of(PLACED)["data"])
    assert not {"stop_price", "take_profit_price"} & set(frame_of(OPENED)["data"])


@pytest.mark.parametrize("name", sorted(OPT_IN_EVENTS))
def test_opt_in_events_have_no_number_of_their_own(name: str) -> None:
    (data,) = (data for data, _ in EXAMPLES if EVENT_NAMES[type(data)] == name)

    frame = frame_of(data, seq=7)

    assert "seq" not in frame
    assert frame["after_seq"] == 7


def test_the_documented_events_are_numbered() -> None:
    documented = {
        "deployed", "paused", "stopped", "position_opened", "position_closed", "order_placed", "order_filled",
        "order_cancelled", "error",
    }  # fmt: skip

    of_backtests = {"queued", "running", "progress", "done", "failed", "cancelled"}
    notices = {"created", "updated", "deleted", "balance_low", "api_key_rotated", "kill_switch"}

    assert set(EVENT_NAMES.values()) - OPT_IN_EVENTS == documented | of_backtests | notices


def test_backtests_and_accounts_are_told_of_on_channels_of_their_own() -> None:
    channels = {type(data): frame_of(data)["channel"] for data, _ in EXAMPLES}

    assert {kind for kind, channel in channels.items() if channel == "backtest.status"} == {
        kind for kind in channels if issubclass(kind, BacktestMoved)
    }
    assert {kind for kind, channel in channels.items() if channel == "account.status"} == {
        kind for kind in channels if issubclass(kind, Notice)
    }
    assert set(channels.values()) == {"strategy.status", "backtest.status", "account.status"}


def test_event_ids_differ_and_do_not_change() -> None:
    resumed = Resumed(status="deployed")
    ids = [
        frame_of(FILLED, seq=1)["event_id"],
        frame_of(FILLED, seq=2)["event_id"],
        frame_of(resumed, seq=2, ordinal=1)["event_id"],
        frame_of(resumed, seq=2, ordinal=2)["event_id"],
    ]

    assert len(set(ids)) == 4
    assert frame_of(FILLED, seq=2, ordinal=5)["event_id"] == ids[1]
    assert frame_of(FILLED, seq=1)["event_id"] == ids[0]


def test_an_event_without_a_run_says_so() -> None:
    draft = EventDraft(strategy_id=STRATEGY_ID, data=FILLED, at_ms=AT_MS, run_id=None, dry_run=None)
    frame = json.loads(event_frame(draft, seq=1, ordinal=0))

    assert (frame["run_id"], frame["dry_run"]) == (None, None)


@pytest.mark.parametrize("account", [None, "acct_main", "strat_5e07c1d9", "*", ""])
def test_what_an_account_is_told_is_numbered_apart_from_every_strategy(account: str | None) -> None:
    draft = notice(account, KillSwitched(is_active=True, reason="why", activated_at="x"), AT_MS)

    assert is_notice(draft.strategy_id)
    assert account_told(draft.strategy_id) == account
    assert not is_notice(account or STRATEGY_ID)
