"""The page of a report: its parts in order, its style, its scripts, and the policy that keeps it from any network."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from pkgutil import get_data
from typing import Final

from pipaid import __version__
from pipaid.errors import InvalidParameter
from pipaid.model.backtest import BacktestResult
from pipaid.model.columns import Candles
from pipaid.reporting import sections
from pipaid.reporting.charting import SYMBOLS_MAX, SymbolChart, curve_of, symbol_charts
from pipaid.reporting.listing import listing_of
from pipaid.reporting.markup import Markup, data_block, tag
from pipaid.seams import Disk, SystemDisk

PLOTLY: Final = ("plotly", "package_data/plotly.min.js")
OWN: Final = "pipaid.reporting"


def write_report(
    result: BacktestResult, candles: Mapping[str, Candles], path: Path, *, disk: Disk | None = None
) -> None:
    """Write the report of a result into one file; equal results make equal files."""
    (disk or SystemDisk()).write_atomically(path, report_page(result, candles).encode(), mode=0o644)


def report_page(result: BacktestResult, candles: Mapping[str, Candles]) -> str:
    """Return the report as one page that holds all it needs."""
    scripts = (_plotly(), _script(_own("report.js")))
    candles = _seen(result, candles)
    charts, listing = symbol_charts(result, candles), listing_of(result, candles)
    title = sections.heading(result)
    head = (
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        tag("title", f"{title} – backtest"),
        f"<style>{_own('report.css')}</style>",
    )
    body = (
        _header(title, sections.subtitle(result, candles)),
        tag("main", *_parts(result, charts, listing.note)),
        tag("footer", tag("p", f"pipaid {__version__} · all times are UTC, all amounts in quote currency")),
        data_block("curve", curve_of(result)),
        data_block("charts", charts),
        data_block("trades", listing),
        *(Markup(f"<script>{script}</script>") for script in scripts),
    )
    inside = "\n".join((*head, "</head>", "<body>", *body, "</body>"))
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{inside}\n</html>\n'


def _seen(result: BacktestResult, candles: Mapping[str, Candles]) -> dict[str, Candles]:
    """Return the candles of the time that was tested: whoever calls may have them of years."""
    curve = result.equity_curve
    return {symbol: each.between(curve[0][0], curve[-1][0]) if curve else each for symbol, each in candles.items()}


def _header(title: str, subtitle: str) -> Markup:
    toggle = tag("button", "Theme: as the system", id="theme", type="button")
    return tag("header", tag("div", tag("h1", title), tag("p", subtitle)), toggle)


def _parts(result: BacktestResult, charts: list[SymbolChart], listing_note: str) -> tuple[Markup, ...]:
    trades = (
        (tag("p", f"Choose a trade to see the candles around it. {listing_note}", class_="note"), *_listed())
        if result.trades
        else (tag("p", "No trade was closed. What kept entries from happening stands under “Why not”.", class_="note"),)
    )
    return (
        tag("noscript", tag("p", "Charts and the list of trades are drawn by a script of this page.", class_="note")),
        _part("Key figures", sections.key_figures(result)),
        _part("Equity and drawdown", *_equity(result)),
        _part("Candles and trades", *_candles(charts, result)),
        _part("Trades", *trades),
        _part("How trades fared", sections.breakdown(result)) if result.trades else Markup(""),
        _part("Monthly returns in percent", sections.monthly_table(result)),
        _part("Exposure", sections.exposure_line(result)),
        _part("Metrics", sections.metrics_table(result)),
        _part("Why not: refused entries", sections.refusals_list(result)),
        _part("Configuration", sections.config_table(result)),
    )


def _listed() -> tuple[Markup, ...]:
    return tag("div", id="list"), tag("div", id="trade")


def _part(title: str, *inside: Markup) -> Markup:
    return tag("section", tag("h2", title), *inside)


def _chart(id: str, told: str) -> Markup:
    return tag("div", id=id, class_="chart", role="img", aria_label=told)


def _equity(result: BacktestResult) -> tuple[Markup, ...]:
    if not result.equity_curve:
        return (tag("p", "No candle was seen, so there is no equity to draw.", class_="note"),)
    note = (
        "Points are the first and the last candle and each midnight. The deepest drawdown among the figures is taken "
        "on every candle and may lie between them. Exposure is the share of each day with an open position."
    )
    return _chart("equity", "Equity, drawdown and exposure over time"), tag("p", note, class_="note")


def _candles(charts: list[SymbolChart], result: BacktestResult) -> tuple[Markup, ...]:
    if not charts:
        return (tag("p", "There are no candles to draw.", class_="note"),)
    options = (tag("option", chart.symbol, value=str(number)) for number, chart in enumerate(charts))
    choice = tag("label", "Symbol ", tag("select", *options, id="symbol")) if len(charts) > 1 else Markup("")
    left = len({trade.symbol for trade in result.trades} - {chart.symbol for chart in charts})
    note = f"Only {SYMBOLS_MAX} symbols are drawn; {left} with trades are left out." if left else ""
    return (
        choice,
        _chart("candles", "Candles with entries, exits and levels"),
        tag("p", note, id="notes", class_="note"),
    )


def _policy(scripts: tuple[Markup, ...]) -> str:
    """Return what the browser may do with this page: run these very scripts, and reach for nothing.

    Styles cannot be held to their hashes: plotly makes some of its own.
    """
    hashes = " ".join(f"'sha256-{b64encode(sha256(each.encode()).digest()).decode()}'" for each in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _plotly() -> Markup:
    try:
        script = get_data(*PLOTLY)
    except (ImportError, OSError):
        script = None
    if script is None:
        raise InvalidParameter("a report needs plotly: pip install 'pipaid[report]'")
    return _script(script.decode())


def _own(name: str) -> str:
    data = get_data(OWN, name)
    assert data is not None, f"{name} lies beside this module"
    return data.decode()


def _script(text: str) -> Markup:
    """Return a script of ours or of plotly, in which nothing ends the element that holds it."""
    assert "<!--" not in text, "a comment mark changes where a script ends"
    return Markup(text.replace("</script", "<\\/script"))
