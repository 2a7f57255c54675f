"""Backtests of the built-in templates: what is skipped changes nothing, and neither does what is still to come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipaid.backtesting import Backtest
from pipaid.engine.backtest import run
from pipaid.model.backtest import BacktestResult
from pipaid.model.candle import Candle
from pipaid.model.columns import Candles
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.model.order import Fill
from pipaid.sdk import Template
from tests.signals.candles import walks
from tests.templates.test_wakes import BUILT_IN, DRAWN

COUNT = 80
EURUSD = Instrument(
    symbol="EURUSD",
    base="EUR",
    quote="USD",
    tick_size=Decimal("0.01"),
    lot_size=Decimal("0.001"),
    notional_min=Decimal(5),
)


def columns_of(candles: Sequence[Candle]) -> Candles:
    table = [[each.open, each.high, each.low, each.close, each.volume] for each in candles]
    first, high, low, last, volume = np.array(table, dtype=np.float64).T
    return Candles.from_rows(
        candles[0].symbol,
        candles[0].timeframe,
        time_ms=[each.open_time_ms for each in candles],
        open=first,
        high=high,
        low=low,
        close=last,
        volume=volume,
    )


def backtest(kind: type[Template], raw: Mapping[str, Any], candles: Sequence[Candle], **more: Any) -> Backtest:
    risk = {"max_trades_per_day": 500, "max_drawdown_pct": "0.95"}
    columns = columns_of(candles)
    return Backtest(
        template=kind,
        params={**raw, "risk": risk},
        candles={columns.symbol: columns},
        instruments={columns.symbol: EURUSD},
        leverage=3,
        **more,
    )


@pytest.mark.parametrize("kind", BUILT_IN)
@settings(max_examples=40)
@given(data=st.data())
def test_what_is_skipped_changes_nothing(kind: type[Template], data: st.DataObject) -> None:
    raw = data.draw(DRAWN[kind])
    candles = data.draw(walks(count=COUNT, gap_max=3))
    # An interval of one hour does not go with larger candles, and neither do rules of one hour.
    larger = [Timeframe.H4] if raw.get("interval") != "1h" and "entry" not in raw else []
    timeframe = data.draw(st.sampled_from([Timeframe.H1, *larger]))
    start = data.draw(st.sampled_from([None, candles[20].open_time_ms]))
    plan = backtest(kind, raw, candles, timeframe=timeframe, start=start).plan()

    every, skipped = run(plan, driver="callback"), run(plan, driver="skipping")

    assert skipped.fills == every.fills
    assert skipped.trades == every.trades
    assert skipped.digest == every.digest
    assert skipped.refusals == every.refusals


@pytest.mark.parametrize("kind", BUILT_IN)
@pytest.mark.parametrize("driver", ["callback", "skipping"])
@settings(max_examples=30)
@given(data=st.data())
def test_the_future_changes_nothing_of_the_past(kind: type[Template], driver: Any, data: st.DataObject) -> None:
    raw = data.draw(DRAWN[kind])
    candles = list(data.draw(walks(count=COUNT, gap_max=3)))
    others = list(data.draw(walks(count=COUNT, gap_max=3)))
    known = data.draw(st.integers(12, COUNT - 1))
    shift = candles[known - 1].open_time_ms - others[0].open_time_ms + candles[0].timeframe.ms
    other_end = [msgspec.structs.replace(each, open_time_ms=each.open_time_ms + shift) for each in others]

    whole = run(backtest(kind, raw, candles).plan(), driver=driver)
    cut = run(backtest(kind, raw, candles[:known]).plan(), driver=driver)
    changed = run(backtest(kind, raw, candles[:known] + other_end).plan(), driver=driver)

    until_ms = candles[known - 1].open_time_ms
    assert cut.fills == past(whole, until_ms) == past(changed, until_ms)


def past(result: BacktestResult, until_ms: int) -> tuple[Fill, ...]:
    """Return what was filled within candles that open until a moment."""
    return tuple(fill for fill in result.fills if fill.time_ms <= until_ms)


@pytest.mark.parametrize("kind", BUILT_IN)
@settings(max_examples=20)
@given(data=st.data())
def test_the_equity_is_what_cash_and_lots_come_to_at_every_close(kind: type[Template], data: st.DataObject) -> None:
    candles = data.draw(walks(count=COUNT, gap_max=3))
    capital = Decimal(10_000)
    result = backtest(kind, data.draw(DRAWN[kind]), candles, capital=capital).run().raw

    equity = [equity_at(result, capital, candle.close_time_ms, candle.close) for candle in candles]
    peak, deepest = capital, Decimal(0)
    for each in equity:
        peak = max(peak, each)
        deepest = min(deepest, (each - peak) / peak)

    assert result.equity_curve[0] == (candles[0].open_time_ms, capital)
    assert result.equity_curve[-1] == (candles[-1].close_time_ms, equity[-1])
    assert abs(result.metrics.max_drawdown - max(deepest, Decimal(-1))) <= Decimal("0.0006")
    assert result.metrics.total_trades == len(result.trades)


def equity_at(result: BacktestResult, capital: Decimal, time_ms: int, price: Decimal) -> Decimal:
    done = [fill for fill in result.fills if fill.time_ms < time_ms]
    cash = sum((-fill.side.sign * fill.quantity * fill.price - fill.fee for fill in done), Decimal(0))
    held = sum((fill.side.sign * fill.quantity for fill in done), Decimal(0))
    return capital + cash + held * price


def test_equal_inputs_give_equal_bytes() -> None:
    candles = st_walk()
    plans = [backtest(BUILT_IN[2], {"fast": 2, "slow": 5, "rsi_min": "0"}, candles).plan() for _ in range(2)]

    first, second = (msgspec.json.encode(run(plan)) for plan in plans)

    assert first == second
    assert len(run(plans[0]).fills) > 4


def st_walk() -> list[Candle]:
    """Return a path that turns often enough for averages to cross."""
    closes = [Decimal(100) + (index * 7 % 23) - (index * 5 % 11) for index in range(120)]
    return [
        Candle("EURUSD", Timeframe.H1, index * Timeframe.H1.ms, close, close + 1, close - 1, close, Decimal(9))
        for index, close in enumerate(closes)
    ]
