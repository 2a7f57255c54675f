"""The parts of a report that are words and tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from pipaid.engine.metrics import FORMULAS, expected_value, profit_factor, summed
from pipaid.model.backtest import BacktestResult, BacktestTrade, metrics_object
from pipaid.model.moment import DAY_MS, iso_seconds
from pipaid.model.money import ONE, ZERO, quote_text
from pipaid.reporting.markup import Markup, joined, table, tag

NAMES: Final = {
    "sharpe": "Sharpe ratio",
    "sortino": "Sortino ratio",
    "calmar": "Calmar ratio",
    "max_drawdown": "Deepest drawdown",
    "win_rate": "Win rate",
    "profit_factor": "Profit factor",
    "cagr": "Growth per year (CAGR)",
    "expected_value": "Expected value of a trade",
    "total_trades": "Closed trades",
    "avg_trade_duration_seconds": "Mean duration of a trade",
}
INFINITE: Final = "infinite"
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# From here on a month is shown in the next deeper shade.
SHADES: Final = (Decimal("0.0005"), Decimal("0.01"), Decimal("0.03"), Decimal("0.08"), Decimal("0.2"))
GROUPS_MAX: Final = 50
TEXT_MAX: Final = 10_000


def key_figures(result: BacktestResult) -> Markup:
    """Return what one looks at first, as a row of tiles."""
    first, last = _ends(result)
    gained, metrics = last - first, result.metrics
    total = _percent(gained / first, signed=True) if first > ZERO else "–"
    tiles = (
        ("Net profit", _amount(gained, signed=True), f"{total} on {_amount(first)}", _sign(gained)),
        ("Growth per year", _percent(metrics.cagr, signed=True), "CAGR", _sign(metrics.cagr)),
        ("Deepest drawdown", _percent(metrics.max_drawdown), "on any candle", ""),
        ("Sharpe ratio", _number(metrics.sharpe), f"{_number(result.metrics_365.sharpe)} with √365", ""),
        ("Closed trades", f"{metrics.total_trades:,}", f"{_percent(metrics.win_rate)} with a profit", ""),
        ("Profit factor", _number(metrics.profit_factor), f"{_amount(metrics.expected_value)} a trade", ""),
        ("In the market", _percent(_exposure(result)), _span(result.exposure_ms), ""),
    )
    return tag("div", *(_tile(*each) for each in tiles), class_="tiles")


def metrics_table(result: BacktestResult) -> Markup:
    """Return every metric as it is published, with the formula by which it was made."""
    published = msgspec.to_builtins(metrics_object(result.metrics))
    calendar = msgspec.to_builtins(metrics_object(result.metrics_365))
    rows = [
        (NAMES[name], _told(value), _told(calendar[name]) if calendar[name] != value else "", FORMULAS[name])
        for name, value in published.items()
    ]
    return joined(
        table(("Metric", "Value", "With √365", "Formula"), rows, numbers=(1, 2), kind="metrics"),
        tag(
            "p",
            "Zero stands for no data, too; infinite is what would have to be divided by nothing. Published ratios "
            "count 252 days a year although this market never closes; with √365 they are as in the third column.",
            class_="note",
        ),
    )


def monthly_table(result: BacktestResult) -> Markup:
    """Return the return of each month and year as a heat table."""
    months = monthly_returns(result)
    if not months:
        return tag("p", "Too short for any return.", class_="note")
    rows: list[Markup] = []
    for year in sorted({year for year, _ in months}):
        of_year = [months.get((year, month)) for month in range(1, 13)]
        whole = ONE
        for each in of_year:
            whole *= ONE + (each or ZERO)
        cells = [_heat(each) for each in (*of_year, whole - ONE)]
        rows.append(tag("tr", tag("th", str(year), scope="row"), *cells))
    head = tag("tr", *(tag("th", each, scope="col") for each in ("Year", *MONTHS, "Year in all")))
    return tag("div", tag("table", tag("thead", head), tag("tbody", *rows), class_="heat"), class_="wide")


def monthly_returns(result: BacktestResult) -> dict[tuple[int, int], Decimal]:
    """Return equity at the end of each month / equity at the end of the one before - 1.

    The midnight that begins a month ends the one before. The first month is measured from the first point.
    """
    ends: dict[tuple[int, int], Decimal] = {}
    for at_ms, equity in result.equity_curve[1:]:
        moment = datetime.fromtimestamp((at_ms - 1) / 1000, UTC)
        ends[moment.year, moment.month] = equity
    before = result.equity_curve[0][1] if result.equity_curve else ZERO
    returns: dict[tuple[int, int], Decimal] = {}
    for month, equity in ends.items():
        if before <= ZERO:
            break
        returns[month] = equity / before - ONE
        before = equity
    return returns


def breakdown(result: BacktestResult) -> Markup:
    """Return how trades fared by the reason for which they were left, by symbol and by side."""
    keys: tuple[tuple[str, Callable[[BacktestTrade], str]], ...] = (
        ("Left for", lambda trade: trade.reason or "–"),
        ("Symbol", lambda trade: trade.symbol),
        ("Side", lambda trade: "long" if trade.side.sign > 0 else "short"),
    )
    return joined(*(_breakdown(name, key, result.trades) for name, key in keys), _still_open(result))


def refusals_list(result: BacktestResult) -> Markup:
    """Return why entries did not happen: how many each cap or gate refused."""
    if not result.refusals:
        return tag("p", "No entry was refused by any cap or gate.", class_="note")
    most = max(result.refusals.values())
    ranked = sorted(result.refusals.items(), key=lambda each: (-each[1], each[0]))
    rows = [
        (name, f"{count:,}", tag("progress", value=str(count), max=str(max(most, 1)), aria_label=name))
        for name, count in ranked[:GROUPS_MAX]
    ]
    listed = table(("Cap or gate", "Refused entries", ""), rows, numbers=(1,), kind="refusals")
    left = len(ranked) - len(rows)
    note = tag("p", f"{left:,} more caps with fewer refusals are left out.", class_="note") if left else Markup("")
    return joined(listed, note)


def exposure_line(result: BacktestResult) -> Markup:
    """Return how long something was held."""
    share = _exposure(result)
    text = f"A position was open for {_span(result.exposure_ms)}, {_percent(share)} of the time."
    gauge = tag("progress", value=f"{share:.4f}", max="1", aria_label="Share of the time with an open position")
    return tag("p", gauge, " ", text, class_="exposure")


def config_table(result: BacktestResult) -> Markup:
    """Return the resolved configuration."""
    rows = [(str(name), _config_text(value)) for name, value in result.config.items()]
    return table(("Key", "Value"), [*rows, ("digest of the result", result.digest or "–")], kind="config")


def heading(result: BacktestResult) -> str:
    """Return what was tested, in a few words."""
    config = result.config
    return str(config.get("name") or config.get("template_id") or "Backtest")[:200]


def subtitle(result: BacktestResult, symbols: Iterable[str]) -> str:
    """Return on what, from when until when."""
    told = [", ".join(sorted(symbols))]
    if timeframe := result.config.get("timeframe"):
        told.append(f"{timeframe}, {result.candles:,} candles played")
    if result.equity_curve:
        told.append(f"{iso_seconds(result.equity_curve[0][0])} to {iso_seconds(result.equity_curve[-1][0])}")
    return " · ".join(each for each in told if each)[:1000]


def _tile(name: str, value: str, under: str, sign: str) -> Markup:
    return tag(
        "div",
        tag("div", name, class_="name"),
        tag("div", value, class_=f"value {sign}".strip()),
        tag("div", under, class_="under"),
        class_="tile",
    )


def _breakdown(name: str, key: Callable[[BacktestTrade], str], trades: Iterable[BacktestTrade]) -> Markup:
    profits: defaultdict[str, list[Decimal]] = defaultdict(list)
    for trade in trades:
        profits[key(trade)].append(trade.pnl)
    tallies = {group: summed(each) for group, each in profits.items()}
    ranked = sorted(tallies.items(), key=lambda each: (-each[1].trades, each[0]))
    rows = [
        (
            group,
            f"{tally.trades:,}",
            _percent(tally.win_rate),
            _amount(tally.pnl, signed=True),
            _amount(expected_value(tally), signed=True),
            _number(profit_factor(tally)),
        )
        for group, tally in ranked[:GROUPS_MAX]
    ]
    head = (name, "Trades", "Won", "Net profit", "A trade", "Profit factor")
    return table(head, rows, numbers=(1, 2, 3, 4, 5))


def _still_open(result: BacktestResult) -> Markup:
    """Return what of the net profit no closed trade made, if anything."""
    first, last = _ends(result)
    closed = summed([trade.pnl for trade in result.trades]).pnl
    rest = last - first - closed
    if quote_text(rest) == "0.00":
        return Markup("")
    told = f"Closed trades made {_amount(closed, signed=True)} in all. The rest of the net profit, "
    return tag("p", f"{told}{_amount(rest, signed=True)}, is that of positions still open at the end.", class_="note")


def _heat(value: Decimal | None) -> Markup:
    if value is None:
        return tag("td", "", class_="number")
    shade = sum(abs(value) >= each for each in SHADES)
    kind = "" if not shade else f" {'up' if value > ZERO else 'down'}{shade}"
    text = f"{value * 100:+.1f}".replace("-", "−") if shade else "0.0"
    return tag("td", text, class_=f"number{kind}")


def _ends(result: BacktestResult) -> tuple[Decimal, Decimal]:
    curve = result.equity_curve
    return (curve[0][1], curve[-1][1]) if curve else (ZERO, ZERO)


def _exposure(result: BacktestResult) -> Decimal:
    curve = result.equity_curve
    elapsed_ms = curve[-1][0] - curve[0][0] if curve else 0
    return min(ONE, Decimal(result.exposure_ms) / elapsed_ms) if elapsed_ms > 0 else ZERO


def _span(length_ms: int) -> str:
    days, rest = divmod(length_ms // 1000, DAY_MS // 1000)
    hours, minutes = rest // 3600, rest % 3600 // 60
    parts = ((days, "d"), (hours, "h"), (minutes, "min"))
    told = [f"{count:,} {unit}" for count, unit in parts if count][:2]
    return " ".join(told) or f"{rest} s"


def _amount(value: Decimal, *, signed: bool = False) -> str:
    text = f"{Decimal(quote_text(value)):,}"
    return f"+{text}" if signed and value > ZERO and text != "0.00" else text.replace("-", "−")


def _percent(value: Decimal | None, *, signed: bool = False) -> str:
    if value is None:
        return INFINITE
    text = f"{value * 100:,.1f}"
    if text in ("-0.0", "0.0"):
        return "0.0 %"
    return f"{'+' if signed and value > ZERO else ''}{text} %".replace("-", "−")


def _number(value: Decimal | None) -> str:
    return INFINITE if value is None else f"{value:,.2f}".replace("-", "−")


def _told(value: Any) -> str:
    return INFINITE if value is None else str(value).replace("-", "−")


def _sign(value: Decimal | None) -> str:
    return "" if not value else "gain" if value > ZERO else "loss"


def _config_text(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.format(msgspec.json.encode(value)).decode()
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}… ({len(text):,} characters)"
