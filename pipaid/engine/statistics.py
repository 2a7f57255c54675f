"""What a strategy's closed trades come to: the figures of `strategy.stats`, over live runs, paper runs or all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import reduce
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from pipaid.engine.metrics import expected_value, mean_duration_s, profit_factor
from pipaid.model.money import ZERO, exact_sum, quote_text, ratio_text
from pipaid.model.position import Position
from pipaid.model.report import AccountStatistics, ModeStatistics, StrategyStatistics
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


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """All that one strategy ever held for itself or for whom it follows, on its account, and its lifetime tally.

    `paper_fills` says how many of the tally's fills were made on paper; nobody asks where all count together.
    """

    strategy_id: str
    account: str
    positions: Sequence[Position]
    tally: Tally
    paper_fills: int = 0


def strategy_statistics(
    id: str, modes: Sequence[Mode], shares: Sequence[Share], *, marks: Mapping[str, Decimal], account: str = ""
) -> StrategyStatistics:
    """Return the reply of `strategy.stats` from all shares in a strategy, or from those of one account.

    Live and paper together are all. `marks` are the last prices; an open position without one counts at its entry.
    """
    mode: Mode = modes[0] if len(set(modes)) == 1 else "all"
    accounts: dict[str, list[Share]] = {}
    for share in shares:
        accounts.setdefault(share.account, []).append(share)
    bound = not account and len(shares) > 1
    return StrategyStatistics(
        id=id,
        mode=",".join(dict.fromkeys(modes)),
        account_id=account or UNSET,
        modes=tuple(ModeStatistics(mode=each, **_told(each, shares, marks)) for each in dict.fromkeys(modes))
        if len(set(modes)) > 1
        else UNSET,
        bindings=tuple(
            AccountStatistics(
                account_id=name,
                strategy_ids=tuple(share.strategy_id for share in theirs),
                **_told(mode, theirs, marks),
            )
            for name, theirs in accounts.items()
        )
        if bound
        else UNSET,
        **_told(mode, shares, marks),
    )


def _told(mode: Mode, shares: Sequence[Share], marks: Mapping[str, Decimal]) -> dict[str, Any]:
    """Return the figures of some shares in a mode.

    Over all modes the tallies themselves speak: they also know of trades whose records are no longer kept.
    """
    held_once = (position for share in shares for position in share.positions)
    chosen = [position for position in held_once if mode == "all" or position.dry_run is (mode == "paper")]
    trades = sorted((each for each in chosen if not each.is_open), key=lambda each: (each.closed_at_ms, each.id))
    held = [each for each in chosen if each.is_open]
    known = tally_of(trades)
    sums = known if mode != "all" else _together([share.tally for share in shares], known)
    figures = _figures(sums, trades)
    unrealised = sum((_worth(position, marks) for position in held), ZERO)
    return {
        "total_trades": sums.trades,
        "winning_trades": sums.wins,
        "losing_trades": sum(1 for trade in trades if trade.pnl < ZERO),
        "win_rate": ratio_text(figures.win_rate),
        "total_pnl": quote_text(sums.pnl + unrealised),
        "realised_pnl": quote_text(sums.pnl),
        "unrealised_pnl": quote_text(unrealised),
        "gross_profit": quote_text(sums.gross_profit),
        "gross_loss": quote_text(sums.gross_loss),
        "profit_factor": None if figures.profit_factor is None else ratio_text(figures.profit_factor),
        "max_drawdown": quote_text(figures.drawdown),
        "expected_value": quote_text(figures.expected_value),
        "avg_trade_duration_seconds": figures.duration_s,
        "fees": quote_text(sums.fees),
        "funding": quote_text(sums.funding),
        "fills": sum(_fills(share, mode) for share in shares),
        "open_positions": len(held),
    }


def _fills(share: Share, mode: Mode) -> int:
    live = share.tally.fills - share.paper_fills
    return {"all": share.tally.fills, "live": live, "paper": share.paper_fills}[mode]


def _together(tallies: Sequence[Tally], known: Tally) -> Tally:
    """Return the sum of tallies. How deep all fell together only their trades tell, as far as they are known."""
    if len(tallies) == 1:
        return tallies[0]
    return Tally(
        trades=sum(each.trades for each in tallies),
        wins=sum(each.wins for each in tallies),
        pnl=_sum(each.pnl for each in tallies),
        gross_profit=_sum(each.gross_profit for each in tallies),
        gross_loss=_sum(each.gross_loss for each in tallies),
        fees=_sum(each.fees for each in tallies),
        funding=_sum(each.funding for each in tallies),
        peak=known.peak,
        drawdown=known.drawdown,
    )


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return reduce(exact_sum, amounts, ZERO)


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
