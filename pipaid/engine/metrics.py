"""The published metrics of a backtest, one small function each; amounts in quote currency, ratios without unit.

What has no data is zero; what is mathematically infinite is nothing. The same formulas serve the statistics of live
strategies wherever both tell the same figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal, DivisionByZero, InvalidOperation, localcontext
from itertools import pairwise
from typing import Final

from pipaid.model.backtest import BacktestTrade, Metrics
from pipaid.model.moment import DAY_MS
from pipaid.model.money import AMOUNT_MAX, CENT, MILLI, ONE, ZERO
from pipaid.model.strategy import Tally

SECOND_MS: Final = 1_000
# The published definition counts the days of a stock exchange; the second form counts those of the calendar.
TRADING_DAYS: Final = 252
CALENDAR_DAYS: Final = 365
YEAR_DAYS: Final = Decimal("365.25")

# How a report explains each figure to a person.
FORMULAS: Final = {
    "sharpe": "mean(daily returns) / stddev(daily returns) × √252; sample deviation (n − 1), returns from one UTC "
    "midnight to the next",
    "sortino": "mean(daily returns) / stddev(negative daily returns) × √252; sample deviation (n − 1) over the "
    "negative days only",
    "calmar": "cagr / |max_drawdown|",
    "max_drawdown": "min over all candles of (equity − running peak) / running peak",
    "win_rate": "trades with a profit after fees / all closed trades",
    "profit_factor": "sum of the winning trades / |sum of the losing trades|",
    "cagr": "(last equity / capital) ^ (365.25 days / elapsed time) − 1",
    "expected_value": "mean net profit of a closed trade, in quote currency",
    "total_trades": "closed trades; positions still open at the end are in the equity and are no trades",
    "avg_trade_duration_seconds": "mean time from entry to exit, in whole seconds",
}

Curve = Sequence[tuple[int, Decimal]]

# Half of the digits would do; the others keep what is rounded on the way out of sight. Whoever calls from a notebook
# has a context of his own, and equal inputs give equal results there too.
_EXACT: Final = Context(prec=50, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero])


def measure(
    curve: Curve,
    trades: Iterable[BacktestTrade],
    *,
    capital: Decimal,
    max_drawdown: Decimal,
    days_per_year: int = TRADING_DAYS,
) -> Metrics:
    """Return all metrics, rounded as they are published; with CALENDAR_DAYS, the form for markets that never close.

    `max_drawdown` comes from whoever saw the equity at every candle, as a fraction from -1 to 0.
    """
    assert max_drawdown <= ZERO, "a drawdown is told as a fraction from -1 to 0"
    closed = tuple(trades)
    with localcontext(_EXACT):
        deepest = max(max_drawdown, -ONE)
        returns = daily_returns(curve)
        growth = cagr(curve, capital)
        tally = summed([trade.pnl for trade in closed])
        return Metrics(
            sharpe=_to_cents(sharpe(returns, days_per_year)),
            sortino=_to_cents(sortino(returns, days_per_year)),
            calmar=_to_cents(calmar(growth, deepest)),
            max_drawdown=_rounded(deepest, MILLI),
            win_rate=_rounded(tally.win_rate, MILLI),
            profit_factor=_to_cents(profit_factor(tally)),
            cagr=None if growth is None else _rounded(growth, MILLI),
            expected_value=_rounded(expected_value(tally), CENT, ROUND_HALF_UP),
            total_trades=tally.trades,
            avg_trade_duration_seconds=mean_duration_s((each.entry_time_ms, each.exit_time_ms) for each in closed),
        )


def daily_returns(curve: Curve) -> list[Decimal]:
    """Return equity / equity a day before - 1, between consecutive UTC midnights of the curve.

    They end where the equity is used up: nothing can be measured against nothing.
    """
    midnights = [equity for at_ms, equity in curve if at_ms % DAY_MS == 0]
    returns: list[Decimal] = []
    for before, after in pairwise(midnights):
        if before <= ZERO:
            break
        returns.append(after / before - ONE)
    return returns


def sharpe(returns: Sequence[Decimal], days_per_year: int = TRADING_DAYS) -> Decimal | None:
    """Return mean / sample deviation × √days per year, over daily returns; fewer than two of them are no data."""
    if len(returns) < 2:
        return ZERO
    return _per_year(_mean(returns), _deviation(returns), days_per_year)


def sortino(returns: Sequence[Decimal], days_per_year: int = TRADING_DAYS) -> Decimal | None:
    """Return mean / sample deviation of the negative ones × √days per year, over daily returns.

    Fewer than two returns are no data; fewer than two negative ones deviate by nothing, which makes it infinite.
    """
    if len(returns) < 2:
        return ZERO
    return _per_year(_mean(returns), _deviation([each for each in returns if each < ZERO]), days_per_year)


def calmar(growth: Decimal | None, max_drawdown: Decimal) -> Decimal | None:
    """Return the growth per year / |max_drawdown|; growth without any drawdown makes it infinite."""
    if growth is None:
        return None
    return _ratio(growth, abs(max_drawdown))


def cagr(curve: Curve, capital: Decimal) -> Decimal | None:
    """Return (last equity / capital) ^ (365.25 days / elapsed time) - 1.

    What is lost altogether is -1; without elapsed time there is no data; beyond 18 digits it counts as infinite.
    """
    if len(curve) < 2 or curve[-1][0] <= curve[0][0]:
        return ZERO
    ratio = curve[-1][1] / capital
    if ratio <= ZERO:
        return -ONE
    years = Decimal(curve[-1][0] - curve[0][0]) / (YEAR_DAYS * DAY_MS)
    exponent = ratio.ln() / years
    return None if exponent > AMOUNT_MAX.ln() else exponent.exp() - ONE


def summed(profits: Sequence[Decimal]) -> Tally:
    """Return the sums of trades from their net profits, at once: a backtest has them by the hundred thousand.

    The drawdown of a tally, which goes by the order of trades, is not told.
    """
    gains, losses = [each for each in profits if each > ZERO], [each for each in profits if each < ZERO]
    won, lost = sum(gains, ZERO), abs(sum(losses, ZERO))
    return Tally(trades=len(profits), wins=len(gains), pnl=won - lost, gross_profit=won, gross_loss=lost)


def profit_factor(tally: Tally) -> Decimal | None:
    """Return the sum of winning trades / |sum of losing trades|; profits against no loss make it infinite."""
    return _ratio(tally.gross_profit, tally.gross_loss)


def expected_value(tally: Tally) -> Decimal:
    """Return the mean net profit of a trade in quote currency, zero without trades."""
    return tally.pnl / tally.trades if tally.trades else ZERO


def mean_duration_s(spans: Iterable[tuple[int, int]]) -> int:
    """Return the mean time between opening and closing (both in ms) in whole seconds, half to even."""
    lengths = [closed_ms - opened_ms for opened_ms, closed_ms in spans]
    if not lengths:
        return 0
    return int((Decimal(sum(lengths)) / (len(lengths) * SECOND_MS)).quantize(ONE, ROUND_HALF_EVEN))


def _per_year(mean: Decimal, deviation: Decimal, days_per_year: int) -> Decimal | None:
    return _ratio(mean * Decimal(days_per_year).sqrt(), deviation)


def _ratio(above: Decimal, below: Decimal) -> Decimal | None:
    if below:
        return above / below
    return None if above else ZERO


def _mean(values: Sequence[Decimal]) -> Decimal:
    return sum(values, ZERO) / len(values)


def _deviation(values: Sequence[Decimal]) -> Decimal:
    """Return the sample deviation; equal values deviate by exactly nothing, whatever their mean was rounded to."""
    if len(values) < 2 or min(values) == max(values):
        return ZERO
    mean = _mean(values)
    return (sum(((each - mean) ** 2 for each in values), ZERO) / (len(values) - 1)).sqrt()


def _to_cents(value: Decimal | None) -> Decimal | None:
    """Round to two decimals; what needs more than 18 digits before the point is as good as infinite."""
    return None if value is None or abs(value) >= AMOUNT_MAX else _rounded(value, CENT)


def _rounded(value: Decimal, step: Decimal, rounding: str = ROUND_HALF_EVEN) -> Decimal:
    return value.quantize(step, rounding) + ZERO  # A zero has no sign.
