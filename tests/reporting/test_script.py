"""The script of a report, run without a browser: what it tells plotly to draw, and what it writes into the page."""

from __future__ import annotations

from decimal import Decimal
from importlib import import_module
from pathlib import Path
from pkgutil import get_data
from typing import Any, Final

import msgspec
import pytest
from attrs import define, field

from pipaid.model.backtest import BacktestResult
from pipaid.model.columns import Candles
from pipaid.model.order import Side
from pipaid.reporting.page import report_page
from tests.builders import OTHER, START_MS, SYMBOL
from tests.reporting.test_markup import Reading
from tests.results import make_columns, make_fill, make_level, make_result, make_trade

quickjs: Final[Any] = import_module("quickjs")  # It comes without types.

DOCUMENT = (Path(__file__).parent / "document.js").read_text(encoding="utf-8")
SCRIPT = (get_data("pipaid.reporting", "report.js") or b"").decode()
MINUTE_MS = 60_000
HOSTILE = "<b>&amp;</b><a href='javascript:alert(1)'>x</a>"


@define
class Shown:
    """A page with its script run."""

    context: Any = field(factory=quickjs.Context)

    def tell(self, expression: str) -> Any:
        """Return what an expression is in the page."""
        return msgspec.json.decode(self.context.eval(f"JSON.stringify({expression} ?? null)"))

    def traces(self, chart: str) -> dict[str, Any]:
        """Return what a chart draws, by name."""
        return {trace["name"]: trace for trace in self.tell(f"drawn[{chart!r}].traces")}

    def rows(self) -> list[list[str]]:
        """Return the cells of the list of trades."""
        found: list[list[str]] = self.tell(
            "document.querySelectorAll('.trades tbody tr').map((row) => row.children.map((c) => c.text))"
        )
        return found

    def click(self, selector: str, number: int = 0) -> None:
        """Click on one of the elements that a selector names."""
        self.context.eval(f"document.querySelectorAll({selector!r})[{number}].click()")


def shown(result: BacktestResult, *candles: Candles) -> Shown:
    """Run the script of a page on all elements of that page that have an id."""
    reading, page = Reading(report_page(result, {each.symbol: each for each in candles})), Shown()
    page.context.eval(DOCUMENT)
    for (_, attributes), text in zip(reading.elements, reading.texts, strict=True):
        if attributes.get("id"):
            given = msgspec.json.encode([attributes["id"], text]).decode()
            page.context.eval(f"place(...{given})")
    page.context.eval(SCRIPT)
    return page


def busy(count: int = 60, **fields: Any) -> BacktestResult:
    """Make a result with a trade each ten minutes, of which each third goes short and each second loses."""
    trades = tuple(
        make_trade(
            number,
            Decimal(number if number % 2 else -number),
            side=Side.BUY if number % 3 else Side.SELL,
            entry_time_ms=START_MS + number * 10 * MINUTE_MS,
            exit_time_ms=START_MS + (number * 10 + 5) * MINUTE_MS,
        )
        for number in range(1, count + 1)
    )
    return make_result(**{"trades": trades, "levels": (make_level("95", position_id="pos_3"),), **fields})


def test_candles_are_drawn_as_they_are() -> None:
    candles = make_columns(1_000)

    drawn = shown(make_result(), candles).traces("candles")["1m candles"]

    assert drawn["x"] == candles.time_ms.tolist()
    for name in ("open", "high", "low", "close"):
        assert drawn[name] == candles.floats(name).tolist()


def test_the_axis_ends_where_the_candles_do() -> None:
    page = shown(busy(), make_columns(100))

    assert page.tell("drawn.candles.layout.xaxis.range") == [START_MS - MINUTE_MS, START_MS + 100 * MINUTE_MS]


def test_equity_falls_and_exposure_are_drawn() -> None:
    fills = (make_fill(Side.BUY, 0), make_fill(Side.SELL, 12 * 3_600_000))

    drawn = shown(make_result(fills=fills)).traces("equity")

    assert (drawn["Equity"]["y"], drawn["Drawdown"]["y"]) == ([1000, 1000], [0, 0])
    assert drawn["In the market"]["y"] == [0.5]


def test_entries_exits_and_levels_are_drawn_where_they_were() -> None:
    trades = (make_trade(1, "5"), make_trade(2, "-3", side=Side.SELL))
    levels = (make_level("95"), make_level("96", 90_000, 120_000), make_level("110", kind="target"))

    drawn = shown(make_result(trades=trades, levels=levels), make_columns()).traces("candles")

    assert list(drawn) == ["1m candles", "Stop", "Target", "Long entry", "Short entry", "Exit, profit", "Exit, loss"]
    assert (drawn["Long entry"]["x"], drawn["Long entry"]["y"]) == ([START_MS + MINUTE_MS], [100])
    assert (drawn["Exit, loss"]["x"], drawn["Exit, loss"]["y"]) == ([START_MS + 3 * MINUTE_MS], [97])
    assert drawn["Stop"]["y"] == [95, 95, None, 96, 96, None]
    assert drawn["Stop"]["x"][3:] == [START_MS + 90_000, START_MS + 120_000, None]


def test_trades_are_listed_a_page_at_a_time() -> None:
    page = shown(busy(), make_columns())

    assert [row[0] for row in page.rows()] == [str(number) for number in range(1, 26)]
    assert page.rows()[0][1:4] == ["buy", SYMBOL, "2023-11-15 00:10"]
    assert page.rows()[0][8:] == ["1.00", "0.00", "5 min", "exit_rule"]

    page.click(".turning button", 2)
    assert page.rows()[0][0] == "26"
    page.click(".turning button", 3)
    assert [row[0] for row in page.rows()] == [str(number) for number in range(51, 61)]
    assert page.tell("document.querySelectorAll('.turning span')[0].text") == "51–60 of 60"


def test_a_click_on_a_column_sorts_by_it_and_another_turns_it_round() -> None:
    page = shown(busy(), make_columns())

    page.click(".trades th button", 8)
    assert [row[8] for row in page.rows()][:3] == ["59.00", "57.00", "55.00"]
    page.click(".trades th button", 8)
    assert [row[8] for row in page.rows()][:3] == ["-60.00", "-58.00", "-56.00"]
    assert page.tell("document.querySelectorAll('.trades th').map((cell) => cell.attributes['aria-sort'] ?? null)")[
        8
    ] == ("ascending")


def test_a_chosen_trade_is_shown_among_the_candles_around_it() -> None:
    page = shown(busy(), make_columns())

    page.click(".trades tbody tr", 2)

    drawn = page.traces("chart")
    entry = START_MS + 30 * MINUTE_MS
    assert drawn["Short entry"]["x"] == [entry]
    assert drawn["Stop"]["y"][:2] == [95, 95]
    assert drawn["1m candles"]["x"] == [START_MS + number * MINUTE_MS for number in range(96)]
    assert page.tell("document.getElementById('trade').text").startswith("Trade 3: sell 1 BTCUSDT, net 3.00, left for")
    assert page.tell("document.querySelectorAll('tr.chosen').length") == 1


def test_a_trade_without_closer_candles_is_shown_among_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipaid.reporting.listing.CARRIED_CANDLES_MAX", 0)
    page = shown(busy(), make_columns())

    page.click(".trades tbody tr")

    assert len(page.traces("chart")["1m candles"]["x"]) == 36
    assert "The page holds no closer candles of this trade" in page.tell("document.getElementById('trade').text")


def test_a_trade_without_any_candles_is_shown_all_the_same() -> None:
    page = shown(busy())

    page.click(".trades tbody tr")

    assert list(page.traces("chart")) == ["Long entry", "Exit, profit"]
    assert "There are no candles of this trade." in page.tell("document.getElementById('trade').text")


def test_another_symbol_is_drawn_when_it_is_chosen() -> None:
    page = shown(make_result(), make_columns(100), make_columns(50, symbol=OTHER))

    page.context.eval("Object.assign(document.getElementById('symbol'), {value: '1'}).listeners.change()")

    assert len(page.traces("candles")["1m candles"]["x"]) == 50
    assert page.tell("document.getElementById('notes').textContent") == "All 50 candles of 1m are drawn."


def test_the_theme_turns_and_everything_is_drawn_anew() -> None:
    page = shown(busy(), make_columns())
    page.click(".trades tbody tr")
    colour = "drawn.chart.traces[0].decreasing.line.color"

    page.context.eval("themed.dark = true; document.getElementById('theme').click()")
    assert page.tell("[document.documentElement.dataset.theme, document.getElementById('theme').textContent]") == (
        ["light", "Theme: light"]
    )
    assert page.tell(colour) == "var(--loss) dark"

    page.context.eval("themed.dark = false; themed.heard[0]()")
    assert page.tell(colour) == "var(--loss) light"


def test_words_from_outside_are_told_to_the_page_as_text_and_to_plotly_not_at_all() -> None:
    trade = make_trade(1, "5", symbol=HOSTILE, reason=HOSTILE)
    page = shown(make_result(trades=(trade,), config={"name": HOSTILE}), make_columns(symbol=HOSTILE))

    page.click(".trades tbody tr")

    assert HOSTILE in page.tell("document.getElementById('trade').text")
    assert HOSTILE in page.rows()[0]
    assert "javascript" not in msgspec.json.encode(page.tell("drawn")).decode()


@pytest.mark.parametrize("candles", [0, 1])
def test_a_result_without_trades_is_drawn(candles: int) -> None:
    nothing = make_result(equity_curve=(), candles=0)

    assert set(shown(make_result(), *([make_columns(10)] * candles)).tell("drawn")) >= {"equity"}
    assert shown(nothing).tell("drawn") == {}
