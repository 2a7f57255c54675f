"""What a strategy's closed trades come to: the figures of `strategy.stats`, over live runs, paper runs or all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from pipaid.engine.metrics import expected_value, mean_duration_s, profit_factor
from pipaid.model.money import ZERO, quote_text, ratio_text
from pipaid.model.position import Position
from pipaid.model.report import StrategyStatistics
from pipaid.model.strategy import Tally

Mode = Literal["all", "live", "paper"]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of closed trades; amounts in quote currency, net of fees and funding.

    Without trades everything is zero. `profit_factor` is nothing where profits stand against no loss at all;
    `drawdown` is the deepest fall of the realised profit from its peak.
    """

    tally: Tally
    win_rate: Decimal
    profit_factor: Decimal | None
    drawdown: Decimal
    expected_value: Decimal
    duration_s: int


def figures_of(closed: Iterable[Position]) -> Figures:
    """Return the figures of closed positions, in whatever order they come."""
    trades = sorted(closed, key=lambda trade: (trade.closed_at_ms, trade.id))
    return _figures(tally_of(trades), trades)


def tally_of(trades: Iterable[Position]) -> Tally:
    """Return the sums of closed positions, which come in the order in which they were closed.

    The fills are not theirs to know.
    """
    tally = Tally()
    fees = funding = ZERO
    for trade in trades:
        tally = tally.with_trade(trade.pnl)
        fees += trade.fees
        funding += trade.funding
    return msgspec.structs.replace(tally, fees=fees, funding=funding)


def strategy_statistics(
    id: str, mode: Mode, positions: Iterable[Position], tally: Tally, *, marks: Mapping[str, Decimal]
) -> StrategyStatistics:
    """Return the reply of `strategy.stats` from all positions at hand and the lifetime tally.

    Over all modes the tally itself speaks: it also knows of trades whose records are no longer kept. `marks` are the
    last prices; an open position without one counts at its entry price.
    """
    chosen = [position for position in positions if mode == "all" or position.dry_run is (mode == "paper")]
    trades = sorted((each for each in chosen if not each.is_open), key=lambda each: (each.closed_at_ms, each.id))
    held = [each for each in chosen if each.is_open]
    figures = _figures(tally if mode == "all" else tally_of(trades), trades)
    sums = figures.tally
    unrealised = sum((_worth(position, marks) for position in held), ZERO)
    return StrategyStatistics(
        id=id,
        mode=mode,
        total_trades=sums.trades,
        winning_trades=sums.wins,
        losing_trades=sum(1 for trade in trades if trade.pnl < ZERO),
        win_rate=ratio_text(figures.win_rate),
        total_pnl=quote_text(sums.pnl + unrealised),
        realised_pnl=quote_text(sums.pnl),
        unrealised_pnl=quote_text(unrealised),
        gross_profit=quote_text(sums.gross_profit),
        gross_loss=quote_text(sums.gross_loss),
        profit_factor=None if figures.profit_factor is None else ratio_text(figures.profit_factor),
        max_drawdown=quote_text(figures.drawdown),
        expected_value=quote_text(figures.expected_value),
        avg_trade_duration_seconds=figures.duration_s,
        fees=quote_text(sums.fees),
        funding=quote_text(sums.funding),
        fills=tally.fills,
        open_positions=len(held),
    )


def _figures(tally: Tally, trades: Sequence[Position]) -> Figures:
    return Figures(
        tally=tally,
        win_rate=tally.win_rate,
        profit_factor=profit_factor(tally),
        drawdown=tally.drawdown,
        expected_value=expected_value(tally),
        duration_s=mean_duration_s((trade.opened_at_ms, trade.closed_at_ms) for trade in trades),
    )


def _worth(position: Position, marks: Mapping[str, Decimal]) -> Decimal:
    """Return what an open position has come to so far: its open part at the mark, its closed part and its costs."""
    return position.unrealised(marks.get(position.symbol) or position.entry_price) + position.pnl
