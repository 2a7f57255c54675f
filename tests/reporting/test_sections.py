"""The words and tables of a report say what the result says, and something sensible where it says nothing."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipaid.model.moment import parse_iso
from pipaid.reporting import sections
from pipaid.reporting.sections import (
    breakdown,
    config_table,
    heading,
    key_figures,
    metrics_table,
    monthly_returns,
    monthly_table,
    refusals_list,
    subtitle,
)
from tests.builders import DAY_MS, OTHER, START_MS, SYMBOL
from tests.reporting.test_markup import Reading
from tests.results import make_metrics, make_result, make_trade


def words(page: str) -> str:
    return " ".join(text.strip() for text in Reading(page).texts if text.strip())


def curve(**points: str) -> tuple[tuple[int, Decimal], ...]:
    return tuple((parse_iso(day[1:].replace("_", "-")), Decimal(equity)) for day, equity in points.items())


def test_months_end_at_the_midnight_that_begins_the_next() -> None:
    # January: 1000 -> 1100; February: 1100 -> 990; March: 990 -> 1188.
    result = make_result(
        equity_curve=curve(
            d2024_01_10="1000", d2024_01_31="5", d2024_02_01="1100", d2024_03_01="990", d2024_03_05="1188"
        )
    )

    assert monthly_returns(result) == {(2024, 1): Decimal("0.1"), (2024, 2): Decimal("-0.1"), (2024, 3): Decimal("0.2")}


def test_months_of_a_year_multiply_to_the_year() -> None:
    result = make_result(
        equity_curve=curve(d2023_12_01="1000", d2024_01_01="1200", d2024_02_01="1320", d2024_03_01="1188")
    )

    told = words(monthly_table(result))

    # 1.1 x 0.9 - 1 = -1.0 percent in 2024; 20 in 2023.
    assert told.endswith("2023 +20.0 +20.0 2024 +10.0 −10.0 −1.0")


def test_a_month_without_any_change_has_no_sign_and_no_colour() -> None:
    table = monthly_table(make_result(equity_curve=curve(d2024_01_10="1000", d2024_01_12="1000.1")))

    assert words(table).endswith("2024 0.0 0.0")
    assert not any("up" in (attributes.get("class") or "") for _, attributes in Reading(table).elements)


def test_losing_everything_ends_the_months() -> None:
    result = make_result(equity_curve=curve(d2024_01_10="10", d2024_02_01="0", d2024_03_01="0"))

    assert monthly_returns(result) == {(2024, 1): Decimal(-1)}
    assert "Too short for any return." in monthly_table(make_result(equity_curve=()))


def test_the_key_figures_tell_what_was_gained() -> None:
    result = make_result(
        equity_curve=((START_MS, Decimal(10_000)), (START_MS + 2 * DAY_MS, Decimal("9423.5"))),
        metrics=make_metrics(sharpe=None, cagr=Decimal("-0.058"), win_rate=Decimal("0.462"), total_trades=1240),
        exposure_ms=DAY_MS // 2,
    )

    told = words(key_figures(result))

    assert "Net profit −576.50 −5.8 % on 10,000.00" in told
    assert "Sharpe ratio infinite" in told
    assert "Closed trades 1,240 46.2 % with a profit" in told
    assert "In the market 25.0 % 12 h" in told


def test_a_result_without_anything_has_key_figures_all_the_same() -> None:
    told = words(key_figures(make_result(equity_curve=())))

    assert "Net profit 0.00 – on 0.00" in told
    assert "In the market 0.0 % 0 s" in told


def test_every_metric_stands_with_its_formula_and_its_other_form() -> None:
    result = make_result(
        metrics=make_metrics(sharpe=Decimal("0.91"), profit_factor=None),
        metrics_365=make_metrics(sharpe=Decimal("1.10"), profit_factor=None),
    )

    told = words(metrics_table(result))

    assert "Sharpe ratio 0.91 1.10 mean(daily returns) / stddev(daily returns) × √252" in told
    assert "Profit factor infinite sum of the winning trades" in told
    assert all(name in told for name in sections.NAMES.values())


def test_trades_are_told_by_reason_symbol_and_side() -> None:
    trades = (make_trade(1, "10"), make_trade(2, "-4", reason="stop_loss", symbol=OTHER), make_trade(3, "2"))

    told = words(breakdown(make_result(trades=trades)))

    assert "exit_rule 2 100.0 % +12.00 +6.00 infinite stop_loss 1 0.0 % −4.00 −4.00 0.00" in told
    assert f"{SYMBOL} 2 100.0 %" in told
    assert "long 3 66.7 % +8.00 +2.67 3.00" in told


def test_what_is_still_open_at_the_end_is_told_apart() -> None:
    curve = ((START_MS, Decimal(1000)), (START_MS + DAY_MS, Decimal("1010.50")))
    trades = (make_trade(1, "17.25"), make_trade(2, "3.00"))

    told = words(breakdown(make_result(trades=trades, equity_curve=curve)))
    settled = words(breakdown(make_result(trades=(make_trade(1, "10.504"),), equity_curve=curve)))

    assert "Closed trades made +20.25 in all. The rest of the net profit, −9.75, is that of positions" in told
    assert "still open" not in settled


def test_refusals_stand_with_the_most_frequent_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "GROUPS_MAX", 2)

    told = refusals_list(make_result(refusals={"cooldown": 7, "exposure_max": 1200, "daily_loss_max": 1}))

    assert words(told).endswith("exposure_max 1,200 cooldown 7 1 more caps with fewer refusals are left out.")
    gauges = [attributes for name, attributes in Reading(told).elements if name == "progress"]
    assert [(gauge["value"], gauge["max"]) for gauge in gauges] == [("1200", "1200"), ("7", "1200")]
    assert "No entry was refused" in refusals_list(make_result())


def test_the_configuration_is_shown_whatever_it_holds() -> None:
    result = make_result(config={"params": {"levels": [1, Decimal("2.50")]}, "long": "x" * 20_000}, digest="ab12")

    told = words(config_table(result))

    assert '"2.50"' in told
    assert "(20,000 characters)" in told
    assert told.endswith("digest of the result ab12")


def test_a_report_is_named_for_its_strategy_or_its_template() -> None:
    assert heading(make_result(config={"name": "My grid", "template_id": "tpl_grid"})) == "My grid"
    assert heading(make_result(config={"template_id": "tpl_grid"})) == "tpl_grid"
    assert heading(make_result(config={})) == "Backtest"
    assert subtitle(make_result(config={"timeframe": "1m"}), [OTHER, SYMBOL]) == (
        f"{SYMBOL}, {OTHER} · 1m, 1,440 candles played · 2023-11-15T00:00:00Z to 2023-11-16T00:00:00Z"
    )
