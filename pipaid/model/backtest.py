"""What a backtest comes to: its trades, its metrics and all that a report draws; amounts in quote currency."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

import msgspec

from pipaid.model.moment import iso_seconds
from pipaid.model.money import ZERO, exact_text, quote_text
from pipaid.model.order import Fill, Side
from pipaid.model.reply import Reply

FeeModel = Literal["none", "fixed_bps", "tiered_maker_taker", "match_exchange"]
LevelKind = Literal["entry", "stop", "target", "liquidation"]


class BacktestTrade(msgspec.Struct, frozen=True, kw_only=True):
    """A closed round trip: `side` is that of the entry, prices are averages over its fills.

    `fee` is that of all its fills, `pnl` is net of fees and funding; `reason` says why it was left.
    """

    id: int
    position_id: str
    side: Side
    symbol: str
    entry_time_ms: int
    entry_price: Decimal
    exit_time_ms: int
    exit_price: Decimal
    qty: Decimal
    pnl: Decimal
    fee: Decimal
    reason: str


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """The published figures of a backtest, rounded as they are published; nothing where one is infinite."""

    sharpe: Decimal | None
    sortino: Decimal | None
    calmar: Decimal | None
    max_drawdown: Decimal
    win_rate: Decimal
    profit_factor: Decimal | None
    cagr: Decimal | None
    expected_value: Decimal
    total_trades: int
    avg_trade_duration_seconds: int


class LevelSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A price at which something rested: an order that was to enter, a stop, a target, or the end of the margin.

    `position_id` names the lot it belongs to.
    """

    symbol: str
    kind: LevelKind
    price: Decimal
    from_ms: int
    until_ms: int
    position_id: str = ""


class BacktestResult(msgspec.Struct, frozen=True, kw_only=True):
    """All that a backtest found out.

    `equity_curve` holds the marked equity at the first candle, at each UTC midnight and at the last candle;
    `metrics_365` annualises over the days of the calendar. `refusals` counts refused entries by the cap or gate that
    refused them, `exposure_ms` is the time with an open position, `funding` what was received of it less what was paid,
    `digest` the same for equal inputs. `levels` are the first of a bounded number; `levels_left_out` came after those.
    """

    config: dict[str, Any]
    metrics: Metrics
    metrics_365: Metrics
    equity_curve: tuple[tuple[int, Decimal], ...]
    trades: tuple[BacktestTrade, ...]
    fills: tuple[Fill, ...]
    levels: tuple[LevelSpan, ...]
    refusals: dict[str, int]
    candles: int
    exposure_ms: int
    levels_left_out: int = 0
    funding: Decimal = ZERO
    digest: str


class MetricsObject(msgspec.Struct, frozen=True, kw_only=True):
    """The published figures; null where one is infinite: no losing trade, no negative day, no drawdown."""

    sharpe: str | None
    sortino: str | None
    calmar: str | None
    max_drawdown: str
    win_rate: str
    profit_factor: str | None
    cagr: str | None
    expected_value: str
    total_trades: int
    avg_trade_duration_seconds: int


class BacktestTradeObject(msgspec.Struct, frozen=True, kw_only=True):
    """A closed round trip; `side` is that of the entry, `fee` that of all its fills."""

    id: int
    side: str
    symbol: str
    entry_time: str
    entry_price: str
    exit_time: str
    exit_price: str
    qty: str
    pnl: str
    fee: str
    reason: str


class ResultObject(Reply, frozen=True, kw_only=True):
    """The result of a backtest; `metrics_365` annualises over the days of the calendar.

    `refusals` counts refused entries by the cap or gate that refused them; equal inputs have equal digests. A job
    that made very many trades keeps the last ones: `trades_left_out` came before them, and all figures are of all.
    `notes` say what else to know of it, such as candles that do not reach as far as was asked for.
    """

    metrics: MetricsObject
    equity_curve: tuple[tuple[str, str], ...]
    trades: tuple[BacktestTradeObject, ...]
    metrics_365: MetricsObject
    refusals: dict[str, int]
    digest: str
    trades_left_out: int = 0
    notes: tuple[str, ...] = ()


def metrics_object(metrics: Metrics) -> MetricsObject:
    """Return metrics as they go over the wire."""
    values = msgspec.structs.asdict(metrics)
    texts = {name: exact_text(value) for name, value in values.items() if isinstance(value, Decimal)}
    return msgspec.convert(values | texts, MetricsObject)


def result_object(result: BacktestResult) -> ResultObject:
    """Return a result as it goes over the wire: decimals as strings, moments in ISO 8601."""
    return ResultObject(
        metrics=metrics_object(result.metrics),
        equity_curve=tuple((iso_seconds(at_ms), quote_text(equity)) for at_ms, equity in result.equity_curve),
        trades=tuple(_trade_object(trade) for trade in result.trades),
        metrics_365=metrics_object(result.metrics_365),
        refusals=result.refusals,
        digest=result.digest,
    )


def _trade_object(trade: BacktestTrade) -> BacktestTradeObject:
    return BacktestTradeObject(
        id=trade.id,
        side=trade.side.value,
        symbol=trade.symbol,
        entry_time=iso_seconds(trade.entry_time_ms),
        entry_price=exact_text(trade.entry_price),
        exit_time=iso_seconds(trade.exit_time_ms),
        exit_price=exact_text(trade.exit_price),
        qty=exact_text(trade.qty),
        pnl=quote_text(trade.pnl),
        fee=quote_text(trade.fee),
        reason=trade.reason,
    )
