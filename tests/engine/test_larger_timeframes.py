"""Features of larger timeframes: those of the larger candle that was closed last, live as in both ways of playing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from pipaid.engine.backtest import run
from pipaid.engine.played import Track
from pipaid.engine.wishes import Nonsense
from pipaid.model.candle import Candle, CandleBuilder
from pipaid.model.instrument import Timeframe
from pipaid.sdk import (
    CloseReason,
    Condition,
    Direction,
    Enter,
    Exit,
    Feature,
    Intent,
    Template,
    View,
    Wakes,
    integer_param,
)
from pipaid.signals.series import Series, closed_from
from tests.signals.candles import walks
from tests.templates.test_backtests import backtest, columns_of

COUNT = 120
HOURS, DAYS = Timeframe.H4, Timeframe.D1
SLOW = Feature("sma", (2,), HOURS)
CLOSE_4H, CLOSE_1D = Feature("close", timeframe=HOURS), Feature("close", timeframe=DAYS)
ASKED = (
    Condition("above", Feature("close"), Feature("sma", (3,))),
    Condition("cross_above", CLOSE_4H, SLOW),
    Condition("below", CLOSE_4H, SLOW),
    Condition("changes", CLOSE_1D),
    Condition("above", Feature("close", timeframe=Timeframe.H1), 100.0),
)
READ = (Feature("sma", (3,)), SLOW, CLOSE_4H, CLOSE_1D)


class Live:
    """The shared series of a symbol as a feed keeps them, of hours that come in one by one."""

    def __init__(self, own: Timeframe) -> None:
        family: dict[Timeframe, Series] = {}
        for timeframe in (Timeframe.H1, HOURS, DAYS):
            family[timeframe] = Series("EURUSD", timeframe, larger=family)
        self.own, self._family = family[own], family
        self._builders = [CandleBuilder("EURUSD", timeframe) for timeframe in (HOURS, DAYS)]
        for condition in ASKED:
            if _fits(condition, own):
                self.own.watch(condition, condition)

    def add(self, candle: Candle) -> bool:
        """Append what a candle closes; tell whether one of the strategy's own is among it."""
        closed = [candle, *(large for builder in self._builders for large in builder.add(candle))]
        for each in closed:
            self._family[each.timeframe].append(each)
        return any(each.timeframe is self.own.timeframe for each in closed)


def _fits(condition: Condition, own: Timeframe) -> bool:
    return condition.timeframe is None or condition.timeframe.ms >= own.ms


@pytest.mark.parametrize("own", [Timeframe.H1, HOURS])
@settings(max_examples=60)
@given(candles=walks(count=COUNT, gap_max=4))
def test_what_is_played_is_what_a_feed_would_show(own: Timeframe, candles: Sequence[Candle]) -> None:
    columns = columns_of(candles)
    track = Track.of(columns, own, 0, candles[-1].close_time_ms)
    live, asked = Live(own), [condition for condition in ASKED if _fits(condition, own)]
    held: list[list[int]] = [[] for _ in asked]

    for place, candle in enumerate(candles):
        track.enter(place)
        assert _read(track.series) == _read(live.own)
        grown = live.add(candle)
        assert track.close() == grown
        assert _read(track.series) == _read(live.own)
        if grown:
            due = set(live.own.due())
            for number, condition in enumerate(asked):
                assert track.series.holds(condition) == (condition in due)
                if condition in due:
                    held[number].append(place)

    for condition, places in zip(asked, held, strict=True):
        found, place = list[int](), -1
        while (place := track.next_holding((condition,), place)) < track.end:
            found.append(place)
        assert found == places


def _read(series: Any) -> list[Any]:
    return [(series.feature(feature).value, series.feature(feature).previous) for feature in READ]


@given(candles=walks(count=40, gap_max=3), after=st.integers(-5, 200))
def test_time_that_has_come_holds_at_every_candle_from_then_on(candles: Sequence[Candle], after: int) -> None:
    time_ms = max(1, candles[0].open_time_ms + after * 900_000)
    track = Track.of(columns_of(candles), Timeframe.H1, 0, candles[-1].close_time_ms)
    live = Series("EURUSD", Timeframe.H1)
    live.watch(closed_from(time_ms), "it")
    come: list[int] = []

    for place, candle in enumerate(candles):
        live.append(candle)
        track.stand(place)
        assert bool(live.due()) == track.series.holds(closed_from(time_ms)) == (candle.close_time_ms >= time_ms)
        if live.due():
            come.append(place)

    assert track.next_holding((closed_from(time_ms),), -1) == (come[0] if come else track.end)


@frozen(kw_only=True)
class LaggardParams:
    """How long to stay."""

    hours: int = integer_param("Hours after which to leave", low=1, high=100, default=7)


class Laggard(Template):
    """Enter while the last four hours rose, and leave after some hours or when they fell."""

    id = "tpl_laggard"
    description = "Follows larger candles."
    params_type = LaggardParams
    reads_larger = True
    params: LaggardParams

    def features(self) -> tuple[Feature, ...]:
        """Return what is looked at."""
        return SLOW, CLOSE_4H

    def wakes(self) -> Wakes:
        """Wake while the larger candle says so, and when it is time."""
        return Wakes(
            flat=(Condition("above", CLOSE_4H, SLOW),),
            holding=(Condition("below", CLOSE_4H, SLOW),),
            aged_ms=self.params.hours * 3_600_000,
        )

    def on_candle(self, view: View) -> Iterator[Intent]:
        """Enter above, leave below or when it is time."""
        close, average = view.feature(CLOSE_4H), view.feature(SLOW)
        if close is None or average is None or view.candle is None:
            return
        for lot in view.positions:
            aged = view.candle.close_time_ms - lot.opened_at_ms >= self.params.hours * 3_600_000
            if (close < average or aged) and not view.exiting(lot.id):
                yield Exit(position_id=lot.id, reason=CloseReason.TIME_EXIT if aged else CloseReason.EXIT_RULE)
        if close > average and not view.positions and not view.entries:
            yield Enter(symbol=view.symbol, direction=Direction.LONG, quantity=Decimal(1), tag="one")


@settings(max_examples=60)
@given(candles=walks(count=COUNT, gap_max=3), hours=st.integers(1, 30), own=st.sampled_from([Timeframe.H1, HOURS]))
def test_what_is_skipped_changes_nothing_of_larger_timeframes(
    candles: Sequence[Candle], hours: int, own: Timeframe
) -> None:
    plan = backtest(Laggard, {"hours": hours}, candles, timeframe=own).plan()

    every, skipped = run(plan, driver="callback"), run(plan, driver="skipping")

    assert skipped.fills == every.fills
    assert skipped.digest == every.digest


@settings(max_examples=30)
@given(candles=walks(count=COUNT), known=st.integers(20, COUNT - 1), driver=st.sampled_from(["callback", "skipping"]))
def test_a_larger_candle_that_is_not_closed_yet_is_not_known(
    candles: Sequence[Candle], known: int, driver: Any
) -> None:
    whole = run(backtest(Laggard, {}, candles).plan(), driver=driver)
    cut = run(backtest(Laggard, {}, candles[:known]).plan(), driver=driver)

    until_ms = candles[known - 1].open_time_ms
    assert cut.fills == tuple(fill for fill in whole.fills if fill.time_ms <= until_ms)


def test_a_template_says_that_it_reads_larger_candles() -> None:
    class Silent(Laggard):
        id = "tpl_silent"
        reads_larger = False

    with pytest.raises(Nonsense, match="reads_larger"):
        run(backtest(Silent, {}, flat(Timeframe.H1)).plan())


def test_a_template_reads_no_smaller_candles_than_its_strategy() -> None:
    with pytest.raises(Nonsense, match="its strategy has 1d candles only"):
        run(backtest(Laggard, {}, flat(Timeframe.D1)).plan())


def flat(timeframe: Timeframe) -> list[Candle]:
    price = Decimal(100)
    return [
        Candle("EURUSD", timeframe, index * timeframe.ms, price, price, price, price, Decimal(1)) for index in range(9)
    ]
