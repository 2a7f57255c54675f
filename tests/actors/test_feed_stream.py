"""A market stream that repeats itself, mixes things up and loses candles: nothing is decided on any of that."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.feed import Feed, MarketPosition
from actors.recorder import Recorder
from actors.watchdog import Guard
from pipaid.engine.quotes import Quotes
from pipaid.errors import ExchangeError
from pipaid.model.candle import Candle, MarketTrade
from pipaid.model.instrument import Timeframe
from pipaid.signals.series import Series
from pipaid.venues.venue import Closed
from pipaid.wire.activity import Activity
from tests.actors.homes import HandMarket, TrioClock
from tests.builders import MINUTE_MS, OTHER, START_MS, SYMBOL, make_candle
from tests.storage.journals import open_journal

STALE_AFTER_S = 10.0


@define(eq=False)
class MovingMarket(HandMarket):
    """A market whose own time goes on by itself, and whose history may be out of reach."""

    outage: bool = False

    def now_ms(self) -> int:
        return START_MS + round(trio.current_time() * 1_000)

    async def history(self, symbol: str, timeframe: Timeframe, *, end_ms: int, count: int) -> list[Candle]:
        await trio.lowlevel.checkpoint()
        if self.outage:
            raise ExchangeError("the venue does not answer")
        past = [each for each in self.candles if each.symbol == symbol and each.close_time_ms <= end_ms]
        return past[-count:]


@define(eq=False)
class Stage:
    """A feed on a market that a test moves."""

    feed: Feed
    market: MovingMarket
    series: Series = field(init=False)

    @property
    def quotes(self) -> Quotes:
        return self.feed.quotes

    async def trade(self, price: str, time_ms: int) -> None:
        await self.market._send.send(MarketTrade(SYMBOL, time_ms, Decimal(price), Decimal(1)))
        await wait_all_tasks_blocked()

    async def close(self, index: int, *, told: bool = True) -> None:
        """Close a minute's candle at the venue, and tell of it or not."""
        candle = make_candle(index, str(100 + index))
        if candle not in self.market.candles:
            self.market.candles.append(candle)
        if told:
            await self.market._send.send(Closed(candle.close_time_ms, (candle,)))
            await wait_all_tasks_blocked()

    def closes(self) -> list[float]:
        return list(self.series.close)


@asynccontextmanager
async def on_stage(folder: Path) -> AsyncGenerator[Stage]:
    clock, activity, journal = TrioClock(), Activity(), open_journal(folder)
    recorder = Recorder(journal, lambda _: None, clock, activity, threaded=False)
    market = MovingMarket()
    feed = Feed(market, Quotes(), recorder, Guard(clock), clock, activity, stale_after_s=STALE_AFTER_S)
    try:
        await feed.prepare()
        feed.gate.set()
        stage = Stage(feed, market)
        stage.series = await feed.series(SYMBOL, Timeframe.M1)
        async with trio.open_nursery() as nursery:
            await nursery.start(recorder.run)
            await nursery.start(feed.run)
            yield stage
            nursery.cancel_scope.cancel()
    finally:
        journal.close()


async def test_a_candle_told_twice_or_too_late_counts_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with on_stage(tmp_path) as stage:
        for index in (0, 1, 1, 0):
            await stage.close(index)

        assert stage.closes() == [100, 101]
        assert stage.feed.ignored == 2


async def test_missing_candles_are_fetched_before_the_next_one(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with on_stage(tmp_path) as stage:
        await stage.close(0)
        await stage.close(1, told=False)
        await stage.close(2, told=False)
        await stage.close(3)

        assert stage.closes() == [100, 101, 102, 103]
        assert stage.feed.mended == 2


async def test_the_very_first_candle_may_have_been_missed_too(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with on_stage(tmp_path) as stage:
        await stage.close(0, told=False)
        await stage.close(1)

        assert stage.closes() == [100, 101]


async def test_a_gap_that_cannot_be_filled_now_is_filled_at_the_next_close(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with on_stage(tmp_path) as stage:
        await stage.close(0)
        await stage.close(1, told=False)
        stage.market.outage = True
        await stage.close(2)
        assert stage.closes() == [100]

        stage.market.outage = False
        await stage.close(3)

        assert stage.closes() == [100, 101, 102, 103]


async def test_a_trade_older_than_the_last_one_changes_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with on_stage(tmp_path) as stage:
        await stage.trade("105", START_MS + 2_000)
        await stage.trade("99", START_MS + 1_000)

        assert stage.quotes.price(SYMBOL) == 105
        assert stage.quotes.now_ms == START_MS + 2_000


async def test_a_symbol_that_was_never_heard_of_grows_stale_all_the_same(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with on_stage(tmp_path) as stage:
        assert not stage.quotes.is_stale(OTHER)

        await trio.sleep(STALE_AFTER_S + 0.1)

        assert stage.quotes.is_stale(OTHER)


@pytest.mark.parametrize(("late_s", "stale"), [(1, False), (9, False), (11, True)])
async def test_how_old_a_price_is_counts_from_when_it_was_made(
    tmp_path: Path, autojump_clock: MockClock, late_s: int, stale: bool
) -> None:
    async with on_stage(tmp_path) as stage:
        await trio.sleep(30)
        await stage.trade("101", stage.market.now_ms() - late_s * 1_000)
        assert stage.quotes.is_stale(SYMBOL) is stale

        await trio.sleep(max(0, STALE_AFTER_S - late_s) + 0.1)

        assert stage.quotes.is_stale(SYMBOL)


async def test_a_candle_that_comes_late_leaves_its_symbol_stale(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with on_stage(tmp_path) as stage:
        await trio.sleep(MINUTE_MS / 1_000 + 11)
        await stage.trade("101", stage.market.now_ms())
        assert not stage.quotes.is_stale(SYMBOL)

        await stage.close(0)

        assert stage.closes() == [100]
        assert stage.quotes.is_stale(SYMBOL)


async def test_where_a_market_was_met_first_is_noted_before_anything_happens_and_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    noted: list[tuple[int, int]] = []
    # The second life meets the market a minute later, and it is said to begin later as well.
    for later_ms in (0, MINUTE_MS):
        clock, activity, journal = TrioClock(), Activity(), open_journal(tmp_path)
        recorder = Recorder(journal, lambda _: None, clock, activity, threaded=False)
        market = MovingMarket(listed_ms=START_MS - MINUTE_MS + later_ms)
        feed = Feed(market, Quotes(), recorder, Guard(clock), clock, activity, stale_after_s=STALE_AFTER_S)
        await feed.prepare()
        feed.quotes.now_ms += later_ms
        async with trio.open_nursery() as nursery:
            await nursery.start(recorder.run)
            await nursery.start(feed.run)
            nursery.cancel_scope.cancel()
        (row,) = journal.rows("market")
        found = msgspec.json.decode(row.data, type=MarketPosition)
        noted.append((found.time_ms, found.listed_ms))
        journal.close()

    assert noted == [(START_MS, START_MS - MINUTE_MS)] * 2
