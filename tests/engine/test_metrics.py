"""Each metric against numbers computed by hand, and what holds of all of them whatever the numbers are."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipaid.engine.metrics import (
    CALENDAR_DAYS,
    FORMULAS,
    Curve,
    cagr,
    calmar,
    daily_returns,
    mean_duration_s,
    measure,
    sharpe,
    sortino,
    summed,
)
from pipaid.model.backtest import BacktestTrade, Metrics
from pipaid.model.strategy import Tally
from tests.builders import DAY_MS, START_MS
from tests.results import make_metrics, make_trade

CAPITAL = Decimal(1000)
ZERO = Decimal(0)


def days(*equity: str | int | Decimal, start_ms: int = START_MS) -> Curve:
    """Return a curve with one point at each midnight."""
    return [(start_ms + number * DAY_MS, Decimal(each)) for number, each in enumerate(equity)]


def decimals(*texts: str) -> list[Decimal]:
    return [Decimal(text) for text in texts]


def measured(curve: Curve | None = None, trades: Sequence[BacktestTrade] = (), **given: Any) -> Metrics:
    given = {"capital": CAPITAL, "max_drawdown": ZERO, **given}
    return measure(days(1000, 1000) if curve is None else curve, trades, **given)


def test_what_has_no_data_is_zero_in_its_usual_precision() -> None:
    assert measured([]) == make_metrics()
    assert [str(value) for value in msgspec.structs.astuple(measured([]))] == (
        ["0.00", "0.00", "0.00", "0.000", "0.000", "0.00", "0.000", "0.00", "0", "0"]
    )


@pytest.mark.parametrize("curve", [[], days(1000), days(1000, 1000), days(1000, 1000, 1000)])
def test_a_backtest_in_which_nothing_happens_is_all_zero(curve: Curve) -> None:
    assert measured(curve) == make_metrics()


def test_daily_returns_are_taken_from_midnight_to_midnight() -> None:
    # The first and the last candle are no midnights: 1000 -> 1010 and 1040 -> 2000 count for nothing.
    # 1010 -> 1111 is 0.1, 1111 -> 1040 is 1040/1111 - 1 = -0.0639063...
    noon = DAY_MS // 2
    curve = [(START_MS - noon, Decimal(1000)), *days(1010, 1111, 1040), (START_MS + 2 * DAY_MS + noon, Decimal(2000))]

    first, second = daily_returns(curve)

    assert first == Decimal("0.1")
    assert round(second, 7) == Decimal("-0.0639064")


def test_returns_end_where_the_equity_is_used_up() -> None:
    assert daily_returns(days(1000, 500, 0, 0)) == decimals("-0.5", "-1")
    assert daily_returns(days(1000, -10, 20, 30)) == decimals("-1.01")


def test_sharpe_is_the_mean_over_the_sample_deviation_per_year() -> None:
    # mean(0.01, 0.03) = 0.02; squares 0.0001 + 0.0001 over (2 - 1) = 0.0002, whose root is 0.0141421;
    # 0.02 / 0.0141421 = 1.4142136; x sqrt(252) = 15.8745079 gives 22.4499
    assert round(sharpe(decimals("0.01", "0.03")) or ZERO, 4) == Decimal("22.4499")
    # x sqrt(365) = 19.1049732 gives 27.0185
    assert round(sharpe(decimals("0.01", "0.03"), CALENDAR_DAYS) or ZERO, 4) == Decimal("27.0185")
    # mean(0.02, -0.01, 0.02) = 0.01; (0.0001 + 0.0004 + 0.0001) / 2 = 0.0003, root 0.0173205; 0.5773503 x 15.8745079
    assert round(sharpe(decimals("0.02", "-0.01", "0.02")) or ZERO, 4) == Decimal("9.1652")


def test_sharpe_needs_two_returns_and_a_deviation() -> None:
    assert sharpe([]) == 0
    assert sharpe(decimals("0.5")) == 0
    assert sharpe(decimals("0", "0")) == 0
    assert sharpe(decimals("0.01", "0.01", "0.01")) is None
    third = Decimal(1) / 3  # Three of them add up to less than one, so that their mean is another number.
    assert sharpe([third, third, third]) is None


def test_sortino_deviates_over_negative_days_only() -> None:
    # mean(0.04, -0.01, -0.03, 0.04) = 0.01; of -0.01 and -0.03 the mean is -0.02, (0.0001 + 0.0001) / 1 = 0.0002,
    # root 0.0141421; 0.01 / 0.0141421 x 15.8745079 = 11.2250
    assert round(sortino(decimals("0.04", "-0.01", "-0.03", "0.04")) or ZERO, 4) == Decimal("11.2250")


def test_sortino_is_infinite_where_negative_days_do_not_deviate() -> None:
    assert sortino(decimals("0.02", "0.01")) is None
    assert sortino(decimals("0.02", "-0.01")) is None
    assert sortino(decimals("0.03", "-0.01", "-0.01")) is None
    assert sortino(decimals("0.01", "-0.01")) == 0
    assert sortino(decimals("0.01")) == 0


def test_cagr_is_the_growth_per_year_of_365_and_a_quarter_days() -> None:
    # 1461 days are four years: 1.4641 = 1.1 ^ 4
    assert cagr([(START_MS, CAPITAL), (START_MS + 1461 * DAY_MS, Decimal("1464.1"))], CAPITAL) == pytest.approx(
        Decimal("0.1"), abs=Decimal("1e-20")
    )
    # Over 36.525 days, a tenth of a year, 1.01 ^ 10 = 1.1046221
    tenth = [(START_MS, CAPITAL), (START_MS + 3_155_760_000, Decimal(1010))]
    assert round(cagr(tenth, CAPITAL) or ZERO, 7) == Decimal("0.1046221")
    # What the capital was counts, not the first point, which may have been marked after the first fee.
    assert round(cagr([(START_MS, Decimal(999)), *tenth[1:]], CAPITAL) or ZERO, 7) == Decimal("0.1046221")


def test_cagr_without_time_is_zero_and_of_what_is_lost_minus_one() -> None:
    assert cagr([], CAPITAL) == 0
    assert cagr(days(2000), CAPITAL) == 0
    assert cagr(days(1000, 0), CAPITAL) == -1
    assert cagr(days(1000, -50), CAPITAL) == -1


def test_a_growth_beyond_all_numbers_is_infinite() -> None:
    # Doubled in a minute: 2 ^ 525,960.
    minute = [(START_MS, CAPITAL), (START_MS + 60_000, Decimal(2000))]

    assert cagr(minute, CAPITAL) is None
    assert (measured(minute).cagr, measured(minute, max_drawdown=Decimal("-0.1")).calmar) == (None, None)
    assert measured([minute[0], (START_MS + 60_000, Decimal(500))]).cagr == -1


def test_calmar_is_growth_over_drawdown() -> None:
    # 0.048 / 0.087 = 0.5517
    assert round(calmar(Decimal("0.048"), Decimal("-0.087")) or ZERO, 4) == Decimal("0.5517")
    assert calmar(Decimal("0.1"), ZERO) is None
    assert calmar(ZERO, ZERO) == 0
    assert calmar(None, Decimal("-0.1")) is None


def test_a_drawdown_is_published_as_a_fraction_down_to_minus_one() -> None:
    assert measured(max_drawdown=Decimal("-0.08745")).max_drawdown == Decimal("-0.087")
    assert measured(max_drawdown=Decimal("-1.3")).max_drawdown == -1
    with pytest.raises(AssertionError):
        measured(max_drawdown=Decimal("0.1"))


def test_trades_come_to_shares_sums_and_means() -> None:
    # 2 of 4 win: 0.5; (10 + 6) / 4 = 4; (10 - 4 + 0 + 6) / 4 = 3; (60 + 60 + 60 + 61) s / 4 = 60.25 s
    trades = [make_trade(1, "10"), make_trade(2, "-4"), make_trade(3, "0"), make_trade(4, "6")]
    longer = msgspec.structs.replace(trades[3], exit_time_ms=trades[3].exit_time_ms + 1000)

    told = measured(trades=[*trades[:3], longer])

    assert (told.win_rate, told.profit_factor, told.expected_value) == (Decimal("0.5"), Decimal(4), Decimal(3))
    assert (told.total_trades, told.avg_trade_duration_seconds) == (4, 60)


def test_winners_alone_have_no_profit_factor_and_losers_alone_have_none_of_it() -> None:
    assert measured(trades=[make_trade(1, "10")]).profit_factor is None
    assert measured(trades=[make_trade(1, "-10")]).profit_factor == 0
    assert measured(trades=[make_trade(1, "0")]).profit_factor == 0


def test_a_mean_that_rounds_to_nothing_has_no_sign() -> None:
    told = measured(trades=[make_trade(1, "-0.004")])

    assert str(told.expected_value) == "0.00"
    assert str(measured(max_drawdown=Decimal("-0.0001")).max_drawdown) == "0.000"


@given(st.lists(st.integers(-10_000, 10_000).map(lambda cents: Decimal(cents) / 100), max_size=30))
def test_sums_taken_at_once_are_those_taken_one_by_one(profits: list[Decimal]) -> None:
    tally = Tally()
    for profit in profits:
        tally = tally.with_trade(profit)

    assert summed(profits) == msgspec.structs.replace(tally, peak=ZERO, drawdown=ZERO)


def test_durations_are_rounded_half_to_even() -> None:
    assert [mean_duration_s([(0, length)]) for length in (0, 499, 500, 501, 1500, 2500)] == [0, 0, 0, 1, 2, 2]
    assert mean_duration_s([(0, 1000), (5000, 8000)]) == 2


def test_the_form_for_markets_that_never_close_differs_in_its_days_only() -> None:
    curve, trades = days(1000, 1020, 1009, 1030, 1011), [make_trade(1, "10"), make_trade(2, "-4")]

    published = measured(curve, trades, max_drawdown=Decimal("-0.01"))
    calendar = measured(curve, trades, max_drawdown=Decimal("-0.01"), days_per_year=CALENDAR_DAYS)

    differing = [name for name in Metrics.__struct_fields__ if getattr(published, name) != getattr(calendar, name)]
    assert differing == ["sharpe", "sortino"]
    assert float(calendar.sharpe or 0) == pytest.approx(float(published.sharpe or 0) * (365 / 252) ** 0.5, abs=0.01)


def test_every_metric_has_a_formula_to_show() -> None:
    assert tuple(FORMULAS) == Metrics.__struct_fields__


CENTS = st.integers(1_00, 10_000_00).map(lambda cents: Decimal(cents) / 100)
CURVES = st.lists(CENTS, max_size=12).map(lambda equity: days(*equity))
TRADES = st.lists(st.integers(-10_000, 10_000), max_size=12).map(
    lambda cents: [make_trade(number, Decimal(each) / 100) for number, each in enumerate(cents)]
)
FALLS = st.integers(0, 1000).map(lambda mills: Decimal(-mills) / 1000)


@given(CURVES, TRADES, FALLS, st.randoms(use_true_random=False))
def test_the_order_of_trades_does_not_matter(
    curve: Curve, trades: list[BacktestTrade], fall: Decimal, rng: Any
) -> None:
    mixed = list(trades)
    rng.shuffle(mixed)

    assert measured(curve, mixed, max_drawdown=fall) == measured(curve, trades, max_drawdown=fall)


@given(CURVES, TRADES, FALLS, st.sampled_from([2, 10, 1000]))
def test_more_of_everything_leaves_the_ratios_alone(
    curve: Curve, trades: list[BacktestTrade], fall: Decimal, times: int
) -> None:
    larger = [(at_ms, equity * times) for at_ms, equity in curve]
    richer = [msgspec.structs.replace(trade, pnl=trade.pnl * times) for trade in trades]

    plain = measured(curve, trades, max_drawdown=fall)
    scaled = measured(larger, richer, max_drawdown=fall, capital=CAPITAL * times)

    assert abs(scaled.expected_value - plain.expected_value * times) <= Decimal("0.005") * (times + 1)
    assert msgspec.structs.replace(scaled, expected_value=plain.expected_value) == plain


@given(CURVES, TRADES, FALLS)
def test_a_later_start_changes_nothing(curve: Curve, trades: list[BacktestTrade], fall: Decimal) -> None:
    later = [(at_ms + 7 * DAY_MS, equity) for at_ms, equity in curve]

    assert measured(later, trades, max_drawdown=fall) == measured(curve, trades, max_drawdown=fall)


@given(CURVES, TRADES, FALLS)
def test_the_caller_s_own_arithmetic_does_not_show(curve: Curve, trades: list[BacktestTrade], fall: Decimal) -> None:
    plain = measured(curve, trades, max_drawdown=fall)

    with localcontext(prec=6):
        assert measured(curve, trades, max_drawdown=fall) == plain


@given(CURVES, TRADES, FALLS)
def test_the_metrics_agree_with_each_other(curve: Curve, trades: list[BacktestTrade], fall: Decimal) -> None:
    told = measured(curve, trades, max_drawdown=fall)

    assert told.total_trades == len(trades)
    assert 0 <= told.win_rate <= 1
    assert -1 <= told.max_drawdown <= 0
    assert told.cagr is None or told.cagr >= -1
    if told.profit_factor is not None and any(trade.pnl < 0 for trade in trades):
        assert (told.profit_factor > 1) <= (told.expected_value >= 0)
        assert (told.profit_factor < 1) <= (told.expected_value <= 0)
    signs = {1 if value > 0 else -1 for value in (told.sharpe, told.sortino) if value}
    assert len(signs) < 2
