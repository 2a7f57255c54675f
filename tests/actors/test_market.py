"""What the public sees of the market, against candles worked out of its market trades by definition."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.market import BOOK_S, PAGE
from pipaid.errors import InvalidParameter, Unavailable, UnknownSymbol
from pipaid.model.candle import Candle, MarketTrade
from pipaid.model.instrument import Timeframe
from pipaid.model.interval import Interval
from pipaid.model.turnover import Turnover
from pipaid.seams import SystemDisk
from pipaid.venues.book import levels
from pipaid.venues.recorded import load
from pipaid.venues.replay import ReplayMarket
from pipaid.venues.synthetic import SyntheticMarket
from pipaid.venues.venue import Closed
from pipaid.wire.activity import Activity
from tests.actors.board import (
    BEGUN_MS,
    DAY_MS,
    LISTED_MS,
    MINUTE_MS,
    SYMBOLS,
    asked_for,
    candles_by_hand,
    on_stage,
    synthetic,
)
from tests.builders import make_candle, make_instrument
from tests.venues.following import CANDLE_HEADER, TrioClock, write_csv

PLACES = {"BTCUSDT": (1, 3), "XRPUSDT": (4, 1)}
HOUR_MS = 60 * MINUTE_MS


@pytest.fixture(scope="module")
def traded() -> dict[str, list[MarketTrade]]:
    """Return all market trades from the listing on to some minutes after the beginning."""
    market = synthetic()
    first_s, count = LISTED_MS // 1000, (BEGUN_MS - LISTED_MS) // 1000 + 600
    found: dict[str, list[MarketTrade]] = {}
    for symbol in SYMBOLS:
        listing = market._listings[symbol]
        found[symbol] = list(listing.trades(first_s, *listing.seconds(first_s, count)))
    return found


def until(traded: dict[str, list[MarketTrade]], symbol: str, now_ms: int) -> list[MarketTrade]:
    return [trade for trade in traded[symbol] if trade.time_ms <= now_ms]


@pytest.mark.parametrize("interval", Interval)
async def test_candles_of_each_interval_are_those_that_the_market_trades_make(
    interval: Interval, tmp_path: Path, autojump_clock: MockClock, traded: dict[str, list[MarketTrade]]
) -> None:
    async with on_stage(tmp_path) as stage:
        # Half way through a minute that is not the first one.
        await trio.sleep(95.5)
        told = {symbol: await stage.rows(symbol, interval, limit=1500) for symbol in SYMBOLS}
        now_ms = stage.feed.quotes.now_ms

    assert now_ms == BEGUN_MS + 95_000
    for symbol, rows in told.items():
        expected = candles_by_hand(interval, until(traded, symbol, now_ms), PLACES[symbol])
        assert rows == expected[-1500:]
        assert len(rows) > 1


SPANS: list[tuple[int | None, int | None]] = [
    (None, None),
    (BEGUN_MS - 90 * MINUTE_MS, None),
    (BEGUN_MS - 90 * MINUTE_MS + 1, None),
    (None, BEGUN_MS - 90 * MINUTE_MS),
    (None, BEGUN_MS - 90 * MINUTE_MS - 1),
    (BEGUN_MS - 90 * MINUTE_MS, BEGUN_MS - 80 * MINUTE_MS),
    (BEGUN_MS - 80 * MINUTE_MS, BEGUN_MS - 80 * MINUTE_MS),
    (BEGUN_MS - 80 * MINUTE_MS + 1, BEGUN_MS - 79 * MINUTE_MS - 1),
    (0, None),
    (0, 1),
    (None, 0),
    (BEGUN_MS + MINUTE_MS, None),
    (BEGUN_MS + MINUTE_MS + 1, None),
    (BEGUN_MS + DAY_MS, None),
    (None, BEGUN_MS + DAY_MS),
    (253_402_300_799_999, 253_402_300_799_999),
]


@pytest.mark.parametrize("limit", [1, 7, PAGE, PAGE + 1, 1500])
async def test_a_span_counts_both_ends_in_and_begins_or_ends_where_it_is_asked_to(
    limit: int, tmp_path: Path, autojump_clock: MockClock, traded: dict[str, list[MarketTrade]]
) -> None:
    every = candles_by_hand("1m", until(traded, "XRPUSDT", BEGUN_MS + 95_000), PLACES["XRPUSDT"])
    async with on_stage(tmp_path) as stage:
        await trio.sleep(95.5)
        for start_ms, end_ms in SPANS:
            span = {name: value for name, value in (("startTime", start_ms), ("endTime", end_ms)) if value is not None}
            told = await stage.rows("XRPUSDT", "1m", limit=limit, **span)

            assert told == asked_for(every, start_ms, end_ms, limit), (start_ms, end_ms)


async def test_without_a_limit_five_hundred_are_told(tmp_path: Path) -> None:
    async with on_stage(tmp_path, play=False) as stage:
        assert len(await stage.rows("BTCUSDT", "1m")) == 500
        assert len(await stage.ask("market.trades", symbol="BTCUSDT")) == 500
        assert len((await stage.ask("market.depth", symbol="BTCUSDT"))["bids"]) == 100


@define(eq=False)
class Slow(SyntheticMarket):
    """A market that is asked in vain until it is told to answer, and remembers what it was asked for."""

    answering: trio.Event = field(factory=trio.Event)
    asked: list[tuple[int, int]] = field(factory=list[tuple[int, int]])

    async def turnover(self, symbol: str, interval: Interval, *, first_ms: int, end_ms: int) -> list[Turnover]:
        self.asked.append((first_ms, end_ms))
        await self.answering.wait()
        return await super().turnover(symbol, interval, first_ms=first_ms, end_ms=end_ms)


async def test_what_has_closed_is_looked_up_once_and_grows_with_the_market(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    market = Slow(SYMBOLS, 3, TrioClock(), Activity(), start_ms=BEGUN_MS, listed_ms=LISTED_MS)
    market.answering.set()
    async with on_stage(tmp_path, market) as stage:
        asked = market.asked
        await trio.sleep(30.5)
        first = await stage.rows("BTCUSDT", "5m", limit=300)
        begun = len(asked)
        again = await stage.rows("BTCUSDT", "5m", limit=300)
        unchanged = asked[begun:]
        await trio.sleep(300)
        later = await stage.rows("BTCUSDT", "5m", limit=300)

    assert again == first
    assert unchanged == []
    assert later[:-2] == first[1:-1]
    assert [row[0] for row in later[-2:]] == [BEGUN_MS, BEGUN_MS + 300_000]
    # The five minutes that closed since, once for the page and once for the candle that formed.
    assert all(end_ms - first_ms <= 300_000 for first_ms, end_ms in asked[begun:])


async def test_a_candle_that_closes_while_the_market_is_asked_is_told_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    market = Slow(SYMBOLS, 3, TrioClock(), Activity(), start_ms=BEGUN_MS, listed_ms=LISTED_MS)
    told: list[list[Any]] = []
    async with on_stage(tmp_path, market) as stage:

        async def ask() -> None:
            told.append(await stage.rows("BTCUSDT", "3m", limit=4))

        await trio.sleep(170)
        stage.nursery.start_soon(ask)
        stage.nursery.start_soon(ask)
        await trio.sleep(20)
        market.answering.set()
        await wait_all_tasks_blocked()
        told.append(await stage.rows("BTCUSDT", "3m", limit=4))

    first, second, after = told
    assert first == second
    assert [row[0] - BEGUN_MS for row in first] == [-540_000, -360_000, -180_000, 0]
    assert [row[0] - BEGUN_MS for row in after] == [-360_000, -180_000, 0, 180_000]
    # What was told of it then is what had been heard of it when it was asked for.
    assert first[-1][8] < after[-2][8] == 180


@pytest.mark.parametrize(
    ("op", "args", "name"),
    [
        ("market.klines", {"symbol": "BTCUSDT", "interval": "1m", "startTime": 5, "endTime": 4}, "endTime"),
        ("market.ticker", {"symbol": "BTCUSDT", "symbols": ["XRPUSDT"]}, "symbols"),
    ],
)
async def test_what_cannot_be_meant_is_refused_by_name(
    op: str, args: dict[str, Any], name: str, tmp_path: Path
) -> None:
    async with on_stage(tmp_path, play=False) as stage:
        with pytest.raises(InvalidParameter) as refused:
            await stage.ask(op, **args)

    assert [field for field, _ in refused.value.details] == [name]


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("market.exchange_info", {"symbol": "BTCEUR"}),
        ("market.klines", {"symbol": "BTCEUR", "interval": "1m"}),
        ("market.depth", {"symbol": "BTCEUR"}),
        ("market.ticker", {"symbol": "BTCEUR"}),
        ("market.ticker", {"symbols": ["BTCUSDT", "BTCEUR"]}),
        ("market.trades", {"symbol": "BTCEUR"}),
    ],
)
async def test_a_symbol_that_is_not_listed_is_an_unknown_symbol(op: str, args: dict[str, Any], tmp_path: Path) -> None:
    async with on_stage(tmp_path, play=False) as stage:
        with pytest.raises(UnknownSymbol, match="BTCEUR"):
            await stage.ask(op, **args)


async def test_instruments_are_listed_with_every_filter(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with on_stage(tmp_path) as stage:
        await trio.sleep(2.5)
        asked_us = stage.board.clock.now_us()
        whole = await stage.ask("market.exchange_info")
        told_us = stage.board.clock.now_us()
        one = await stage.ask("market.exchange_info", symbol="XRPUSDT")

    # The market's own clock stands elsewhere.
    assert asked_us // 1_000 <= whole["serverTime"] <= told_us // 1_000
    assert [each["symbol"] for each in whole["symbols"]] == list(SYMBOLS)
    assert one["symbols"] == whole["symbols"][1:]
    assert one["symbols"] == [
        {
            "symbol": "XRPUSDT",
            "status": "trading",
            "baseAsset": "XRP",
            "quoteAsset": "USDT",
            "pricePrecision": 4,
            "quantityPrecision": 1,
            "filters": [
                {
                    "filterType": "PRICE_FILTER",
                    "minPrice": "0.0001",
                    "maxPrice": "1000000000.0000",
                    "tickSize": "0.0001",
                },
                {"filterType": "LOT_SIZE", "minQty": "0.1", "maxQty": "1000000000.0", "stepSize": "0.1"},
                {"filterType": "MARKET_LOT_SIZE", "minQty": "0.1", "maxQty": "1000000000.0", "stepSize": "0.1"},
                {"filterType": "MIN_NOTIONAL", "minNotional": "5"},
                {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
            ],
        }
    ]


async def test_a_ticker_sums_up_a_day_that_ends_now(
    tmp_path: Path, autojump_clock: MockClock, traded: dict[str, list[MarketTrade]]
) -> None:
    async with on_stage(tmp_path) as stage:
        await trio.sleep(95.5)
        told = await stage.ask("market.ticker", symbol="XRPUSDT")
        several = await stage.ask("market.ticker", symbols=["XRPUSDT", "BTCUSDT"])
        every = await stage.ask("market.ticker")
        book = await stage.ask("market.depth", symbol="XRPUSDT", limit=5)

    now_ms = BEGUN_MS + 95_000
    # The minute that forms is the last of so many as a day has.
    begins_ms = now_ms - now_ms % MINUTE_MS - DAY_MS + MINUTE_MS
    within = [trade for trade in until(traded, "XRPUSDT", now_ms) if trade.time_ms >= begins_ms]
    prices = [trade.price for trade in within]
    assert told == {
        "symbol": "XRPUSDT",
        "price": f"{prices[-1]:.4f}",
        "bid": book["bids"][0][0],
        "ask": book["asks"][0][0],
        "volume_24h": f"{sum(trade.quantity for trade in within):.1f}",
        "quote_volume_24h": f"{sum(trade.price * trade.quantity for trade in within):.5f}",
        "change_24h_pct": f"{(prices[-1] / prices[0] - 1) * 100:.3f}",
        "high_24h": f"{max(prices):.4f}",
        "low_24h": f"{min(prices):.4f}",
        "count_24h": DAY_MS // 1000 - 60 + 36,
        "close_time": now_ms,
    }
    assert several == [told, every[0]]
    assert [each["symbol"] for each in every] == list(SYMBOLS)


async def test_trades_come_newest_first_and_add_up_to_their_candle(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with on_stage(tmp_path) as stage:
        await trio.sleep(59.5)
        told = await stage.ask("market.trades", symbol="BTCUSDT", limit=60)
        (candle,) = await stage.rows("BTCUSDT", "1m", limit=1)
        ticker = await stage.ask("market.ticker", symbol="BTCUSDT")

    assert [one["id"] - other["id"] for one, other in pairwise(told)] == [1] * 59
    assert [one["time"] for one in told] == [BEGUN_MS + second * 1000 for second in range(59, -1, -1)]
    assert told[0]["price"] == ticker["price"] == candle[4]
    assert told[-1]["price"] == candle[1]
    assert sum(Decimal(one["qty"]) for one in told) == Decimal(candle[5])
    assert sum(Decimal(one["quoteQty"]) for one in told) == Decimal(candle[7])
    assert sum(Decimal(one["qty"]) for one in told if not one["isBuyerMaker"]) == Decimal(candle[9])
    assert all(Decimal(one["quoteQty"]) == Decimal(one["qty"]) * Decimal(one["price"]) for one in told)
    assert {one["isBuyerMaker"] for one in told} == {True, False}


@pytest.mark.parametrize("limit", [5, 10, 20, 50, 100, 500, 1000])
async def test_a_book_goes_away_from_the_last_price_and_has_something_at_every_level(
    limit: int, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with on_stage(tmp_path) as stage:
        await trio.sleep(3.5)
        book = await stage.ask("market.depth", symbol="BTCUSDT", limit=limit)
        price = stage.feed.quotes.price("BTCUSDT")
        instrument = stage.feed.instruments["BTCUSDT"]

    bids, asks = ([(Decimal(at), Decimal(many)) for at, many in book[side]] for side in ("bids", "asks"))
    assert (len(bids), len(asks)) == (limit, limit)
    assert all(one[0] - other[0] == instrument.tick_size for one, other in pairwise(bids))
    assert all(other[0] - one[0] == instrument.tick_size for one, other in pairwise(asks))
    assert price in (bids[0][0], asks[0][0])
    assert asks[0][0] - bids[0][0] == instrument.tick_size
    assert all(many >= instrument.lot_size and many % instrument.lot_size == 0 for _, many in bids + asks)


async def test_a_book_stays_for_a_tenth_of_a_second_and_its_number_only_goes_up(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with on_stage(tmp_path) as stage:
        await trio.sleep(1.25)
        first = await stage.ask("market.depth", symbol="BTCUSDT", limit=5)
        deeper = await stage.ask("market.depth", symbol="BTCUSDT", limit=1000)
        ids = [first["lastUpdateId"]]
        for _ in range(30):
            await trio.sleep(BOOK_S + 0.001)
            ids.append((await stage.ask("market.depth", symbol="BTCUSDT", limit=5))["lastUpdateId"])
        forced = [stage.board.book("BTCUSDT", fresh=True).id for _ in range(3)]

    assert deeper["lastUpdateId"] == first["lastUpdateId"]
    assert (deeper["bids"][:5], deeper["asks"][:5]) == (first["bids"], first["asks"])
    assert all(other > one for one, other in pairwise([*ids, *forced]))


def test_where_there_is_no_room_below_a_price_there_are_fewer_bids() -> None:
    instrument = make_instrument(tick_size=Decimal("0.1"))

    for price, count in (("0.3", 3), ("0.1", 1)):
        made = levels(instrument, Decimal(price), 20, sold=True, at_ms=5)
        assert [at for at, _ in made.bids] == [Decimal("0.1") * (count - index) for index in range(count)]
        assert len(made.asks) == 20


async def test_a_symbol_without_a_price_is_not_known_yet(tmp_path: Path) -> None:
    market = replayed(tmp_path, [0, 1])
    async with on_stage(tmp_path, market, play=False) as stage:
        for op in ("market.depth", "market.ticker"):
            with pytest.raises(Unavailable):
                await stage.ask(op, symbol="AAAUSD")
        assert await stage.ask("market.ticker") == []
        assert await stage.rows("AAAUSD", "1h") == []
        assert await stage.ask("market.trades", symbol="AAAUSD") == []


# Recorded data.


def replayed(folder: Path, minutes: list[int], prices: str = "10,12,9,11,1.5") -> ReplayMarket:
    """Return a replay of candles with gaps."""
    rows = [f"{BEGUN_MS + minute * MINUTE_MS},{prices}" for minute in minutes]
    write_csv(folder / "AAAUSD-1m-test.csv.gz", CANDLE_HEADER, rows)
    return ReplayMarket(load(SystemDisk(), [str(folder / "AAA*")]), TrioClock(), Activity())


async def test_recorded_candles_tell_what_they_can(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with on_stage(tmp_path, replayed(tmp_path, [0, 1, 2, 700, 2_000])) as stage:
        await stage.feed.ended.wait()
        minutes = await stage.rows("AAAUSD", "1m", limit=2)
        hours = await stage.rows("AAAUSD", "1h", startTime=0)
        info = await stage.ask("market.exchange_info")
        trades = await stage.ask("market.trades", symbol="AAAUSD")

    opened_ms = BEGUN_MS + 700 * MINUTE_MS
    # The money is the volume at the mean of the four prices; how many traded, and who took, nobody recorded.
    assert minutes[0] == [opened_ms, "10", "12", "9", "11", "1.5", opened_ms + 59_999, "15.75", 0, "0.0", "0.0"]
    assert [row[0] for row in hours] == [BEGUN_MS + hour * HOUR_MS for hour in (0, 11, 33)]
    assert hours[0][1:6] == ["10", "12", "9", "11", "4.5"]
    assert info["symbols"][0]["status"] == "halt"
    assert trades == []


WHOLE = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)


@pytest.mark.parametrize("header", [WHOLE, ""])
async def test_what_a_venue_publishes_of_a_candle_is_told_as_it_is(
    header: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    rows = [
        f"{BEGUN_MS + minute * MINUTE_MS},10.5,12,9,11,{volume},{BEGUN_MS + minute * MINUTE_MS + 59_999},{rest},0"
        for minute, volume, rest in (
            (0, "1.50", "16.25,7,0.5,5.75"),
            (1, "0.25", "2.75,2,0.25,2.75"),
            (2, "4", "x,1,1,1"),
        )
    ]
    write_csv(tmp_path / "AAAUSD-1m-test.csv.gz", header or rows[0], rows if header else rows[1:])
    market = ReplayMarket(load(SystemDisk(), [str(tmp_path / "AAA*")]), TrioClock(), Activity())

    async with on_stage(tmp_path, market) as stage:
        await stage.feed.ended.wait()
        minutes = await stage.rows("AAAUSD", "1m")
        (hour,) = await stage.rows("AAAUSD", "1h")

    assert [row[7:] for row in minutes[:2]] == [["16.250", 7, "0.50", "5.750"], ["2.750", 2, "0.25", "2.750"]]
    # What cannot be read there was not looked at before, and is made up for.
    assert minutes[2][7:] == ["42.500", 0, "0.00", "0.000"]
    assert hour[5:] == ["5.75", BEGUN_MS + HOUR_MS - 1, "61.500", 9, "0.75", "8.500"]


async def test_recorded_market_trades_have_the_numbers_of_their_rows(tmp_path: Path, autojump_clock: MockClock) -> None:
    rows = [f"{BEGUN_MS + index * 20_000},{10 + index % 3},{index + 1},{index % 2}" for index in range(9)]
    write_csv(tmp_path / "AAAUSD-trades-test.csv.gz", "time_ms,price,size,is_buyer_maker", rows)
    market = ReplayMarket(load(SystemDisk(), [str(tmp_path / "AAA*")]), TrioClock(), Activity())

    async with on_stage(tmp_path, market) as stage:
        await stage.feed.ended.wait()
        trades = await stage.ask("market.trades", symbol="AAAUSD", limit=2)
        candles = await stage.rows("AAAUSD", "1m")

    assert trades == [
        {"id": 9, "price": "12", "qty": "9", "quoteQty": "108", "time": BEGUN_MS + 160_000, "isBuyerMaker": False},
        {"id": 8, "price": "11", "qty": "8", "quoteQty": "88", "time": BEGUN_MS + 140_000, "isBuyerMaker": True},
    ]
    # 10 x 1, 11 x 2 and 12 x 3, of which takers bought the first and the last.
    assert candles[0] == [BEGUN_MS, "10", "12", "10", "12", "6", BEGUN_MS + 59_999, "68", 3, "4", "46"]
    assert [row[8] for row in candles] == [3, 3, 3]


async def test_a_market_trade_that_comes_late_is_left_to_the_candle_that_has_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with on_stage(tmp_path, play=False) as stage:
        board = stage.board

        def hear(second: int, price: int) -> None:
            board.on_market(MarketTrade("BTCUSDT", BEGUN_MS + second * 1000, Decimal(price), Decimal(1)))

        hear(1, 100)
        hear(61, 200)
        hear(59, 999)
        first = await board.forming("BTCUSDT", Interval.M1)
        board.on_market(Closed(BEGUN_MS + MINUTE_MS, (closed_candle(),)))
        hear(58, 999)
        second = await board.forming("BTCUSDT", Interval.M1)

    assert first is not None
    assert second is not None
    assert [first.high, second.high] == [Decimal(200)] * 2
    assert [first.trades, second.trades] == [1, 1]


def closed_candle() -> Candle:
    one = make_candle(0, "100")
    return Candle("BTCUSDT", Timeframe.M1, BEGUN_MS, one.open, one.high, one.low, one.close, one.volume)
