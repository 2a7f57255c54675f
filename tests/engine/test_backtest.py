"""Backtests of several symbols and of many candles: what is passed over, and in which pieces, changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest
from attrs import frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipaid.engine import played
from pipaid.engine.backtest import run
from pipaid.engine.plan import moments
from pipaid.engine.played import Track
from pipaid.engine.trial import Trial
from pipaid.model.backtest import BacktestResult
from pipaid.model.candle import Candle
from pipaid.model.columns import Candles
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.sdk import (
    Alarm,
    Backtest,
    CancelEntries,
    Condition,
    Direction,
    Enter,
    ExitAll,
    Feature,
    Intent,
    OrderType,
    Position,
    RiskParams,
    Template,
    View,
    Wakes,
)
from tests.oracles.bracket import Bracket
from tests.oracles.crossover import Crossover, synthetic
from tests.signals.candles import walks
from tests.templates.test_backtests import columns_of

NAMES = ("ONE", "TWO", "THREE")
CLOSE, MEAN = Feature("close"), Feature("sma", (3,))


@frozen(kw_only=True)
class NoParams:
    """Nothing to choose."""


class Meddler(Template):
    """Wish for the next symbol whatever happens on one, so that each stirs another at any phase of a candle."""

    id = "tpl_meddler"
    description = "Trades one symbol on what another does."
    params_type = NoParams
    risk_defaults = RiskParams(
        max_trades_per_day=10_000, max_drawdown_pct=Decimal("0.99"), max_order_rate=10_000, max_open_positions=100
    )

    def features(self) -> tuple[Feature, ...]:
        return CLOSE, MEAN

    def wakes(self) -> Wakes:
        crossing = (Condition("cross_above", CLOSE, MEAN), Condition("cross_below", CLOSE, MEAN))
        return Wakes(flat=crossing, holding=crossing)

    def on_candle(self, view: View) -> Iterator[Intent]:
        now, before = (view.feature(CLOSE), view.feature(MEAN)), (view.feature_before(CLOSE), view.feature_before(MEAN))
        if None in now or None in before:
            return
        if now[0] > now[1] and before[0] <= before[1]:  # type: ignore[operator] # None was looked for
            price = view.instrument.price(view.price * Decimal("0.995"))
            yield Enter(symbol=other(view), direction=Direction.LONG, type=OrderType.LIMIT, price=price, notional=FIFTY)
            yield Alarm(symbol=other(view), below=price, above=view.price * Decimal("1.01"))
        elif now[0] < now[1] and before[0] >= before[1]:  # type: ignore[operator] # None was looked for
            yield ExitAll(symbol=other(view))
            yield CancelEntries(symbol=other(view))

    def on_opened(self, view: View, position: Position) -> Iterator[Intent]:
        price = view.instrument.price(position.entry_price * Decimal("1.002"))
        if len(view.positions) < 5:
            yield Enter(symbol=other(view), direction=Direction.SHORT, type=OrderType.LIMIT, price=price,
                        notional=FIFTY, stop_price=view.instrument.price(price * Decimal("1.01")))  # fmt: skip

    def on_price(self, view: View, level: Decimal) -> Iterator[Intent]:
        yield Enter(symbol=other(view), direction=Direction.LONG, notional=FIFTY)
        yield Alarm(symbol=view.symbol, below=level * Decimal("0.99"), above=level * Decimal("1.005"))

    def on_closed(self, view: View, position: Position) -> Iterator[Intent]:
        yield Alarm(symbol=other(view), above=position.exit_price, below=position.exit_price * Decimal("0.998"))


FIFTY = Decimal(50)


def other(view: View) -> str:
    return NAMES[(NAMES.index(view.symbol) + 1) % len(NAMES)]


def meddled(paths: Sequence[Sequence[Candle]], rates: Sequence[int] = ()) -> Backtest:
    named = zip(NAMES, paths, strict=True)
    candles = {name: columns_of([msgspec.structs.replace(each, symbol=name) for each in path]) for name, path in named}
    return Backtest(
        template=Meddler,
        candles=candles,
        timeframe="1h",
        instruments={
            name: Instrument(symbol=name, base=name, quote="USD", tick_size=Decimal("0.01"), lot_size=Decimal("0.001"))
            for name in NAMES
        },
        funding={"TWO": [(rate * Timeframe.H1.ms // 2, Decimal("0.001")) for rate in rates]},
        leverage=3,
    )


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_happens_on_several_symbols_is_the_same_however_many_candles_are_passed(
    data: st.DataObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [data.draw(walks(count=40, gap_max=3, first_max=6)) for _ in NAMES]
    rates = sorted(data.draw(st.sets(st.integers(0, 160), max_size=8)))
    plan = meddled(paths, rates).plan()

    skipped, asked = run(plan, driver="skipping"), run(plan, driver="callback")
    with monkeypatch.context() as patched:
        # Nothing is passed over: each candle of each symbol is held against everything.
        patched.setattr(Trial, "_next_stop", next_place)
        every = run(plan, driver="callback")

    assert told(skipped) == told(asked) == told(every)


def test_a_symbol_that_is_stirred_within_a_candle_is_met_by_the_rest_of_it() -> None:
    result = meddled(stirring(), [9, 40, 300]).run().raw

    assert {fill.symbol for fill in result.fills} == set(NAMES)
    assert len(result.trades) > 10


def stirring() -> list[list[Candle]]:
    """Return paths that swing against each other."""
    return [
        [
            Candle(name, Timeframe.H1, index * Timeframe.H1.ms, last, max(last, close) + 1, min(last, close) - 1, close,
                   Decimal(1))
            for index in range(200)
            for last, close in [(swing(index - 1, phase), swing(index, phase))]
        ]
        for phase, name in enumerate(NAMES)
    ]  # fmt: skip


def swing(index: int, phase: int) -> Decimal:
    return Decimal(100) + (index * (7 + phase) % 23) - (index * 5 % (11 + phase))


def next_place(_: Trial, track: Track, place: int) -> int:
    return min(place + 1, track.end)


def told(result: BacktestResult) -> tuple[Any, ...]:
    return result.fills, result.trades, result.refusals, result.metrics, result.digest


@pytest.mark.parametrize("driver", ["callback", "skipping"])
@pytest.mark.parametrize("timeframe", ["1m", "5m"])
@pytest.mark.parametrize("template", [Bracket, Crossover])
def test_the_size_of_the_pieces_changes_nothing(
    template: Any, timeframe: str, driver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    candles = with_holes(synthetic(30_000))
    backtest = Backtest(
        template=template, candles={"BTCUSDT": candles}, timeframe=timeframe, start="2024-01-02", capital=1_000_000
    )
    whole = backtest.run(driver=driver).raw
    monkeypatch.setattr(played, "PIECE_BLOCKS", 1)

    pieces = backtest.run(driver=driver).raw

    assert told(pieces) == told(whole)
    assert len(whole.fills) > 20


def with_holes(candles: Candles) -> Candles:
    """Leave out some candles, among them a whole block."""
    kept = np.ones(len(candles), dtype=bool)
    kept[100:130] = kept[9_000:17_000] = kept[20_000] = False
    columns = [column[kept] for column in (candles.time_ms, candles.open, candles.high, candles.low, candles.close,
                                           candles.volume)]  # fmt: skip
    return Candles.of(candles.symbol, candles.timeframe, columns, price_decimals=candles.price_decimals,
                      volume_decimals=candles.volume_decimals)  # fmt: skip


def test_progress_moves_where_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(played, "PIECE_BLOCKS", 1)
    shares: list[float] = []
    rows = {name: np.full(60_000, 100.0) for name in ("open", "high", "low", "close")}
    calm = Candles.from_rows("ONE", Timeframe.M1, time_ms=60_000 * np.arange(60_000), **rows)

    result = Backtest(template=Crossover, candles={"ONE": calm}).run(on_progress=shares.append)

    assert not result.raw.fills
    assert len(shares) >= 60_000 // 4096
    assert max(np.diff([0.0, *shares])) < 0.15


def test_symbols_with_candles_of_different_lengths_are_played_on_the_longer_ones() -> None:
    paths = stirring()
    quarters = [
        msgspec.structs.replace(each, timeframe=Timeframe.M15, open_time_ms=each.open_time_ms + part * 900_000)
        for each in paths[0]
        for part in range(4)
    ]
    results = [
        meddled(each).run(driver=driver).raw
        for each in (paths, [quarters, *paths[1:]])
        for driver in ("callback", "skipping")
    ]

    assert len(results[0].fills) > 10
    assert len({result.digest for result in results}) == 1


def test_moments_are_those_of_all_tracks_in_order() -> None:
    tracks = [Track.of(columns_of(path), Timeframe.H1, 0, 2**62) for path in (stirring()[0][3:9], stirring()[1][::5])]

    found = list(moments(tracks))

    expected = sorted({*range(3, 9), *range(0, 200, 5)})
    assert found == [Timeframe.H1.ms * index for index in expected]
