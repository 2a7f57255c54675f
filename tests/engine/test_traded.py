"""Backtests over market trades: what is told of them, what they fill, and that leaping over them changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from attrs import frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipaid.engine import traded
from pipaid.engine.backtest import run
from pipaid.engine.traded import TradedTrial, Window
from pipaid.errors import BacktestFailed, InvalidParameter
from pipaid.model.instrument import Instrument
from pipaid.plugins import load_templates
from pipaid.sdk import (
    Backtest,
    Candles,
    Direction,
    Enter,
    ExitAll,
    Intent,
    MarketTrade,
    OrderType,
    Template,
    Trades,
    View,
    Wakes,
    trades_from_csv,
)
from tests.engine.test_backtest import FIFTY, Meddler, NoParams, told
from tests.oracles.crossover import START_MS

MINUTE_MS = 60_000
REAL = Path(__file__).parents[3] / "shared/data/trades/gemini/ETHUSD-trades-2021-07-01.csv.gz"
NAMES = ("ONE", "THREE", "TWO")


class Eager(Meddler):
    """Trade the next symbol at some market trades, and one's own at the close of some candles."""

    id = "tpl_eager"
    description = "Trades at market trades."

    def on_trade(self, view: View, trade: MarketTrade) -> Iterator[Intent]:
        assert (view.now_ms, view.price, view.symbol) == (trade.time_ms, trade.price, trade.symbol)
        assert view.candle is None or view.candle.close_time_ms <= trade.time_ms
        if int(trade.quantity * 1000) % 7 == 0:
            yield Enter(symbol=view.symbol, direction=Direction.LONG, notional=FIFTY)
        if int(trade.quantity * 1000) % 11 == 0:
            yield ExitAll(symbol=NAMES[(NAMES.index(view.symbol) + 1) % 3])


class Batched(Meddler):
    """Trade on batches of market trades."""

    id = "tpl_batched"
    description = "Trades at the close of candles, on what was traded within."

    def on_trades(self, view: View, trades: Trades) -> Sequence[Intent]:
        assert trades.time_ms[-1] < view.now_ms
        if float(trades.price[-1]) >= float(trades.price[0]):
            price = view.instrument.price(view.price * Decimal("0.999"))
            return [
                Enter(symbol=view.symbol, direction=Direction.LONG, type=OrderType.LIMIT, price=price, notional=FIFTY)
            ]
        return [ExitAll(symbol=view.symbol)] if len(trades) % 2 else ()


class Listening(Template):
    """Remember what was told, and buy once."""

    id = "tpl_listening"
    description = "Listens."
    params_type = NoParams
    heard: ClassVar[list[Any]] = []

    def __init__(self, params: Any, state: Any = None) -> None:
        super().__init__(params, state)
        self.heard.clear()

    def wakes(self) -> Wakes:
        return Wakes()


class OneByOne(Listening):
    """Hear of each market trade."""

    id = "tpl_one_by_one"

    def on_trade(self, view: View, trade: MarketTrade) -> Sequence[Intent]:
        self.heard.append(trade)
        if len(self.heard) == 100:
            return [Enter(symbol=view.symbol, direction=Direction.LONG, quantity=Decimal(1))]
        return ()


class InBatches(Listening):
    """Hear of the market trades of each candle."""

    id = "tpl_in_batches"

    def on_trades(self, view: View, trades: Trades) -> Sequence[Intent]:
        self.heard.append((view.now_ms, trades))
        if len(self.heard) == 3:
            return [Enter(symbol=view.symbol, direction=Direction.LONG, quantity=Decimal(1))]
        return ()


def made(count: int, seed: int, apart_ms: int = 3_000) -> Trades:
    chance = np.random.default_rng(seed)
    return Trades.from_rows(
        "ONE",
        time_ms=START_MS + chance.integers(0, apart_ms, count).cumsum(),
        price=np.round(100 + chance.integers(-4, 5, count).cumsum() / 100, 2),
        quantity=chance.integers(1, 900, count) / 1000,
        buyer_is_maker=chance.integers(0, 2, count),
    )


def instrument(name: str) -> Instrument:
    return Instrument(symbol=name, base=name, quote="USD", tick_size=Decimal("0.01"), lot_size=Decimal("0.001"))


def backtest(template: Any, tapes: Sequence[Trades], **more: Any) -> Backtest:
    names = NAMES[: len(tapes)]
    return Backtest(
        template=template,
        trades=dict(zip(names, tapes, strict=True)),
        instruments={name: instrument(name) for name in names},
        leverage=3,
        **more,
    )


@st.composite
def tapes(draw: st.DrawFn) -> Trades:
    """Draw market trades some of which come in the same millisecond, and some after minutes."""
    rows = st.tuples(st.sampled_from([0, 0, 1, 400, 9_000, 61_000]), st.integers(-30, 30), st.integers(1, 99))
    drawn = draw(st.lists(rows, min_size=20, max_size=60))
    apart, steps, sizes = (np.array(column) for column in zip(*drawn, strict=True))
    return Trades.from_rows(
        "ANY", time_ms=START_MS + apart.cumsum(), price=100 + np.clip(steps.cumsum(), -5_000, 5_000) / 100,
        quantity=sizes / 1000,
    )  # fmt: skip


def meet_all(trial: TradedTrial, window: Window, number: int) -> int:
    return window.next_of(number)


@pytest.mark.parametrize("template", [Eager, Batched, Meddler])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(tapes(), min_size=3, max_size=3), rates=st.sets(st.integers(0, 60), max_size=4))
def test_leaping_over_market_trades_changes_nothing(
    template: Any, drawn: list[Trades], rates: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    due = [(START_MS + rate * 7_777, Decimal("0.001")) for rate in sorted(rates)]
    plan = backtest(template, drawn, funding={"TWO": due}).plan()

    skipped, asked = run(plan, driver="skipping"), run(plan, driver="callback")
    with monkeypatch.context() as patched:
        patched.setattr(TradedTrial, "_first_met", meet_all)
        every = run(plan, driver="callback")
    with monkeypatch.context() as patched:
        patched.setattr(traded, "WINDOW", 6)
        narrow = run(plan, driver="skipping")

    assert told(skipped) == told(asked) == told(every) == told(narrow)


@pytest.mark.parametrize("template", [Eager, Batched, Meddler])
def test_these_templates_trade(template: Any) -> None:
    result = backtest(template, [made(900, seed) for seed in range(3)]).run().raw

    assert len(result.fills) > 20
    assert {fill.symbol for fill in result.fills} == set(NAMES)


@pytest.mark.parametrize("driver", ["callback", "skipping"])
def test_each_market_trade_after_the_first_close_is_told_once_and_in_order(driver: Any) -> None:
    tape = made(9_000, 1)

    backtest(OneByOne, [tape]).run(driver=driver)

    begun = int(np.searchsorted(tape.time_ms, START_MS + MINUTE_MS))
    assert begun > 10
    expected = [tape.trade(place) for place in range(begun, len(tape))]
    assert [(each.time_ms, each.price, each.quantity, each.buyer_is_maker) for each in OneByOne.heard] == [
        (each.time_ms, each.price, each.quantity, each.buyer_is_maker) for each in expected
    ]


@pytest.mark.parametrize("driver", ["callback", "skipping"])
@pytest.mark.parametrize("timeframe", ["1m", "5m"])
def test_batches_are_the_market_trades_of_the_candles(driver: Any, timeframe: str) -> None:
    tape = made(9_000, 2)

    result = backtest(InBatches, [tape], timeframe=timeframe).run(driver=driver).raw

    first = InBatches.heard[0][1].time_ms[0]
    heard = list(chain.from_iterable(batch.time_ms.tolist() for _, batch in InBatches.heard))
    assert heard == tape.time_ms[tape.time_ms >= first].tolist()[: len(heard)]
    assert len(heard) > 8_000
    decided_ms: int = InBatches.heard[2][0]
    filled = tape.trade(int(np.searchsorted(tape.time_ms, decided_ms, side="right")))
    assert [(fill.time_ms, fill.price) for fill in result.fills] == [(filled.time_ms, filled.price)]


@pytest.mark.parametrize("driver", ["callback", "skipping"])
def test_a_market_order_gets_the_next_market_trade_of_a_later_moment(driver: Any) -> None:
    tape = made(400, 3, apart_ms=900)

    result = backtest(OneByOne, [tape]).run(driver=driver).raw

    decided_ms: int = OneByOne.heard[99].time_ms
    filled = tape.trade(int(np.searchsorted(tape.time_ms, decided_ms, side="right")))
    assert [(fill.time_ms, fill.price) for fill in result.fills] == [(filled.time_ms, filled.price)]


def test_what_comes_later_changes_nothing_of_what_was() -> None:
    tapes_ = [made(900, seed) for seed in range(4, 7)]
    until_ms = int(tapes_[0].time_ms[600])
    cut = [each.part(0, int(np.searchsorted(each.time_ms, until_ms, side="right"))) for each in tapes_]

    whole, part = (backtest(Eager, each).run().raw for each in (tapes_, cut))

    assert part.fills == tuple(fill for fill in whole.fills if fill.time_ms <= until_ms)
    assert len(part.fills) > 5


def test_a_template_that_knows_nothing_of_market_trades_is_filled_by_them() -> None:
    params = {"grid_levels": 8, "lower_price": "98", "upper_price": "102"}
    tape = made(5_000, 6)
    price_of = {int(time): float(price) for time, price in zip(tape.time_ms, tape.price, strict=True)}

    results = [
        backtest(load_templates().templates["tpl_grid"], [tape], params=params).run(driver=driver).raw
        for driver in ("callback", "skipping")
    ]

    assert told(results[0]) == told(results[1])
    assert len(results[0].fills) > 5
    assert all(fill.time_ms in price_of for fill in results[0].fills)


@pytest.mark.parametrize("driver", ["callback", "skipping"])
@pytest.mark.parametrize("callback", ["on_trade", "on_trades"])
def test_a_template_that_fails_is_told_with_the_market_trade(driver: Any, callback: str) -> None:
    def fails(self: Any, view: View, given_: Any) -> Any:
        if view.now_ms >= START_MS + 20 * MINUTE_MS:
            raise ZeroDivisionError("a mistake")
        return ()

    kind = type("Clumsy", (Listening,), {callback: fails})
    tape = made(2_000, 7)
    at = int(np.searchsorted(tape.time_ms, START_MS + 20 * MINUTE_MS)) - (callback == "on_trades")

    with pytest.raises(BacktestFailed, match=rf"market trade {at} of ONE\): ZeroDivisionError: a mistake"):
        backtest(kind, [tape]).run(driver=driver)


def nothing(self: Any, view: View, trade: MarketTrade) -> None:
    """Return what is no wish."""


def test_nonsense_of_a_template_is_told() -> None:
    kind = type("Mute", (Listening,), {"on_trade": nothing})

    with pytest.raises(BacktestFailed, match="return intents"):
        backtest(kind, [made(200, 8)]).run()


@pytest.mark.skipif(not REAL.exists(), reason="the recorded day of market trades is not here")
@pytest.mark.parametrize("template", [OneByOne, InBatches])
def test_a_real_day_is_heard_whole_and_comes_to_the_same_either_way(template: Any) -> None:
    day = trades_from_csv(REAL)

    results = [
        Backtest(template=template, trades={"ETHUSD": day}).run(driver=driver).raw
        for driver in ("callback", "skipping")
    ]

    heard = (
        template.heard if template is OneByOne else chain.from_iterable(batch.time_ms for _, batch in template.heard)
    )
    assert len(list(heard)) > 0.99 * len(day)
    assert told(results[0]) == told(results[1])
    assert len(results[0].fills) == 1


@pytest.mark.skipif(not REAL.exists(), reason="the recorded day of market trades is not here")
def test_a_grid_over_a_real_day_is_filled_where_the_market_traded() -> None:
    day = trades_from_csv(REAL)
    params = {"grid_levels": 20, "lower_price": "2080", "upper_price": "2300"}
    backtests = Backtest(template="tpl_grid", params=params, trades={"ETHUSD": day}, capital=100_000)

    skipped, asked = (backtests.run(driver=driver).raw for driver in ("skipping", "callback"))

    assert told(skipped) == told(asked)
    assert len(skipped.fills) > 10
    prices = dict(zip(day.time_ms.tolist(), day.price.tolist(), strict=True))
    assert {fill.time_ms for fill in skipped.fills} <= prices.keys()


@frozen
class _Rows:
    """Columns of market trades, one of them wrong."""

    changed: dict[str, Any]
    complaint: str


@pytest.mark.parametrize(
    "given_",
    [
        _Rows({"time_ms": [], "price": [], "quantity": []}, "no market trades"),
        _Rows({"time_ms": [5, 4, 6]}, "market trade 1: the time goes back"),
        _Rows({"time_ms": [5, 5.5, 6]}, "market trade 1: the time is no whole number of ms"),
        _Rows({"price": [1.0, 0.0, 1.0]}, "market trade 1: the price is not a number above zero"),
        _Rows({"price": [1.0, 1.0, float("nan")]}, "market trade 2: the price is not a number above zero"),
        _Rows({"quantity": [1.0, -1.0, 1.0]}, "market trade 1: the quantity is not a number above zero"),
        _Rows({"quantity": [1.0, 1.0]}, "columns of different lengths: 2, 3"),
    ],
)
def test_market_trades_that_cannot_be_true_are_refused_by_row(given_: _Rows) -> None:
    rows: dict[str, Any] = {"time_ms": [5, 5, 6], "price": [1.0] * 3, "quantity": [1.0] * 3}

    with pytest.raises(InvalidParameter, match=given_.complaint):
        Trades.from_rows("ONE", **{**rows, **given_.changed})


def test_a_template_that_hears_market_trades_is_not_played_without_them() -> None:
    candles = Candles({name: [1.0] for name in ("open", "high", "low", "close")} | {"time_ms": [START_MS]})

    with pytest.raises(InvalidParameter, match="has on_trade, which is asked in backtests over the market trades"):
        Backtest(template=OneByOne, candles={"ONE": candles}).run()


def test_market_trades_of_some_symbols_alone_are_refused() -> None:
    tape = made(50, 9)
    given_ = Backtest(template=Meddler, trades={"ONE": tape}, candles={"TWO": tape.candles()})

    with pytest.raises(InvalidParameter, match="TWO: there are no market trades of it; have ONE"):
        given_.run()
