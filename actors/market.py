"""What the public sees of the market: candles of every length, the book, the last day and the last trades."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import reduce
from typing import Any, Final, cast

import msgspec
import trio
from attrs import define, field

from actors.actor import Asker
from pipaid.engine.quotes import Quotes
from pipaid.errors import InvalidParameter, Unavailable, UnknownSymbol
from pipaid.model.candle import MarketTrade
from pipaid.model.instrument import MINUTE_MS, Instrument
from pipaid.model.interval import Interval
from pipaid.model.market import (
    CandleRows,
    DepthObject,
    ExchangeInfo,
    Levels,
    MarketCandles,
    MarketDepth,
    MarketInstruments,
    MarketTicker,
    MarketTradeList,
    MarketTrades,
    Places,
    TickerObject,
    Tickers,
    listed_symbol,
    ticker_object,
)
from pipaid.model.moment import DAY_MS
from pipaid.model.money import ZERO
from pipaid.model.turnover import Turnover, turnover_of
from pipaid.seams import Clock
from pipaid.venues.book import best, levels
from pipaid.venues.venue import Closed, Market, MarketUpdate, Opened

# Closed candles of one symbol and interval that are kept as the text they are told in, about 180 bytes each.
PAGE: Final = 256
PAGES_MAX: Final = 256
# So many questions are put to the market at once: the others wait, since each takes its share of the loop.
ASKING_MAX: Final = 2
# A book is good for so long, unless the price moves.
BOOK_S: Final = 0.1
TRADING: Final = "trading"
ENDED: Final = "halt"

_encode: Final = msgspec.json.Encoder().encode


@define(eq=False)
class Page:
    """Some of the closed candles of a symbol and interval: when each opens, and its row as JSON."""

    opens_ms: array[int] = field(factory=lambda: array("q"))
    rows: list[bytes] = field(factory=list[bytes])
    # Everything that closed before this moment is in here.
    until_ms: int = 0


@define(eq=False)
class Book:
    """The book of a symbol at a moment, as deep as anybody wanted it so far."""

    instrument: Instrument
    id: int
    made_s: float
    price: Decimal
    sold: bool
    _levels: Levels = field(factory=Levels)
    _depth: int = 0

    def levels(self, depth: int) -> Levels:
        """Return so many levels on each side."""
        if depth > self._depth:
            self._levels = levels(self.instrument, self.price, depth, sold=self.sold, at_ms=self.id)
            self._depth = depth
        return Levels(self._levels.bids[:depth], self._levels.asks[:depth])


@define(eq=False)
class Board:
    """Listen to what the feed hears, and tell it to whoever asks.

    Closed candles are the market's own word, asked for when somebody wants them, a piece at a time and for one asker
    after the other, and kept as they are told. Of the minute that is forming there is what was heard of it. What is
    kept is bounded: pages of candles, and a few values for each symbol.
    """

    market: Market
    quotes: Quotes
    clock: Clock
    instruments: Callable[[], Mapping[str, Instrument]]
    # Called when minutes have closed; it must not wait.
    on_close: Callable[[], None] = field(default=lambda: None)
    # Tells whether the market has no more data.
    over: Callable[[], bool] = field(default=lambda: False)
    _begun_ms: int = field(init=False)
    _closed_ms: dict[str, int] = field(factory=dict[str, int])
    _forming: dict[str, Turnover] = field(factory=dict[str, Turnover])
    _heard_ms: dict[str, int] = field(factory=dict[str, int])
    _sold: dict[str, bool] = field(factory=dict[str, bool])
    _pages: OrderedDict[tuple[str, Interval, int], Page] = field(
        factory=lambda: OrderedDict[tuple[str, Interval, int], Page]()
    )
    # What closed within the candle that is forming, and until when that holds.
    _begun: dict[tuple[str, Interval], tuple[int, Turnover | None]] = field(
        factory=dict[tuple[str, Interval], tuple[int, Turnover | None]]
    )
    _days: dict[str, tuple[int, Turnover | None]] = field(factory=dict[str, tuple[int, Turnover | None]])
    _books: dict[str, Book] = field(factory=dict[str, Book])
    _asking: trio.Semaphore = field(factory=lambda: trio.Semaphore(ASKING_MAX))

    def __attrs_post_init__(self) -> None:
        now_ms = self.market.now_ms()
        self._begun_ms = now_ms - now_ms % MINUTE_MS

    # What is heard.

    def on_market(self, update: MarketUpdate) -> None:
        """Take note of what happens."""
        match update:
            case MarketTrade():
                self._note(update)
            case Opened():
                for symbol, price in update.prices.items():
                    self._forming[symbol] = Turnover(update.time_ms, price, price, price, price, ZERO, ZERO)
            case Closed():
                for candle in update.candles:
                    self._closed_ms[candle.symbol] = max(self.closed_ms(candle.symbol), candle.close_time_ms)
                    forming = self._forming.get(candle.symbol)
                    if forming is not None and forming.open_ms < candle.close_time_ms:
                        del self._forming[candle.symbol]
                self.on_close()
            case _:
                pass

    def _note(self, trade: MarketTrade) -> None:
        symbol, opened_ms = trade.symbol, trade.time_ms - trade.time_ms % MINUTE_MS
        forming, one = self._forming.get(symbol), turnover_of(trade, opened_ms)
        if opened_ms < self.closed_ms(symbol) or (forming is not None and opened_ms < forming.open_ms):
            # It came late: the market's own word on that minute has it.
            return
        self._heard_ms[symbol] = trade.time_ms
        self._sold[symbol] = trade.buyer_is_maker
        self._forming[symbol] = one if forming is None or forming.open_ms < opened_ms else forming.and_then(one)

    @property
    def now_ms(self) -> int:
        """Return the venue's time."""
        return self.quotes.now_ms

    def closed_ms(self, symbol: str) -> int:
        """Return until when the minutes of a symbol have closed."""
        return self._closed_ms.get(symbol, self._begun_ms)

    # What is told.

    async def market_exchange_info(self, _: Asker, asked: MarketInstruments) -> ExchangeInfo:
        """List instruments."""
        chosen = list(self.instruments()) if asked.symbol is None else [self._listed(asked.symbol).symbol]
        status = ENDED if self.over() else TRADING
        told = tuple(listed_symbol(self._listed(symbol), status) for symbol in chosen)
        return ExchangeInfo(server_time=self.clock.now_us() // 1_000, symbols=told)

    async def market_klines(self, _: Asker, asked: MarketCandles) -> CandleRows:
        """Show candles, the one that is forming last."""
        symbol, interval, start_ms = asked.symbol, asked.interval, asked.start_ms or 0
        places = Places.of(self._listed(symbol))
        if asked.end_ms is not None and start_ms > asked.end_ms:
            reason = f"must not be before startTime, which is {start_ms}"
            raise InvalidParameter(f"endTime {reason}", details=(("endTime", reason),))
        # What closes while pages are read is not among them: it is the one that forms now.
        before_ms = interval.start_of(self.closed_ms(symbol))
        forming = await self.forming(symbol, interval)
        rows: list[bytes] = []
        if (
            forming is not None
            and start_ms <= forming.open_ms
            and (asked.end_ms is None or forming.open_ms <= asked.end_ms)
        ):
            rows.append(_encode(places.row(forming, interval)))
        if asked.end_ms is not None:
            before_ms = min(before_ms, asked.end_ms + 1)
        if asked.start_ms is None:
            rows = await self._rows_before(symbol, interval, before_ms, asked.limit - len(rows)) + rows
        else:
            closed = await self._rows_from(symbol, interval, first_ms=start_ms, before_ms=before_ms, count=asked.limit)
            rows = (closed + rows)[: asked.limit]
        # They were encoded when they closed, and go out as they are.
        return CandleRows(content=cast("Any", tuple(map(msgspec.Raw, rows))))

    async def market_depth(self, _: Asker, asked: MarketDepth) -> DepthObject:
        """Show the book."""
        book = self.book(asked.symbol)
        return Places.of(book.instrument).depth(book.id, book.levels(asked.limit))

    async def market_ticker(self, _: Asker, asked: MarketTicker) -> Tickers:
        """Show the last 24 hours."""
        if asked.symbol is not None:
            if asked.symbols is not None:
                reason = "must not be given together with symbol"
                raise InvalidParameter(f"symbols {reason}", details=(("symbols", reason),))
            return Tickers(content=await self.ticker(asked.symbol))
        chosen = self.priced() if asked.symbols is None else asked.symbols
        for symbol in chosen:
            self._listed(symbol)
        return Tickers(content=tuple([await self.ticker(symbol) for symbol in chosen]))

    async def market_trades(self, _: Asker, asked: MarketTrades) -> MarketTradeList:
        """Show the last market trades."""
        symbol = asked.symbol
        places = Places.of(self._listed(symbol))
        end_ms = max(self._heard_ms.get(symbol, -1) + 1, self.closed_ms(symbol))
        trades = await self.market.trades(symbol, end_ms=end_ms, count=asked.limit)
        return MarketTradeList(content=tuple(map(places.trade, reversed(trades))))

    # The same for those who listen.

    async def candles(self, symbol: str, interval: Interval, *, first_ms: int, end_ms: int) -> list[Turnover]:
        """Return what was traded from a moment on and before another, both whole minutes, cut into intervals."""
        async with self._asking:
            return await self.market.turnover(symbol, interval, first_ms=first_ms, end_ms=end_ms)

    async def forming(self, symbol: str, interval: Interval) -> Turnover | None:
        """Return the candle that is forming, if anything has happened in it."""
        closed_ms, minute = self.closed_ms(symbol), self._forming.get(symbol)
        begins_ms = interval.start_of(closed_ms)
        if minute is not None and interval.start_of(minute.open_ms) > begins_ms:
            return minute.opened_at(interval.start_of(minute.open_ms))
        until_ms, begun = self._begun.get((symbol, interval), (0, None))
        if until_ms < begins_ms:
            until_ms, begun = begins_ms, None
        if until_ms < closed_ms:
            news = await self.candles(symbol, interval, first_ms=until_ms, end_ms=closed_ms)
            begun = _joined([begun, *news])
            self._begun[symbol, interval] = (closed_ms, begun)
        whole = _joined([begun, minute])
        return None if whole is None else whole.opened_at(begins_ms)

    async def ticker(self, symbol: str) -> TickerObject:
        """Return the last 24 hours of a symbol: so many whole minutes that with the one that forms it is a day."""
        instrument, price = self._listed(symbol), self._price(symbol)
        closed_ms, minute = self.closed_ms(symbol), self._forming.get(symbol)
        until_ms, day = self._days.get(symbol, (0, None))
        if until_ms != closed_ms:
            first_ms = closed_ms - DAY_MS + MINUTE_MS
            day = _joined(await self.candles(symbol, Interval.D1, first_ms=first_ms, end_ms=closed_ms))
            self._days[symbol] = (closed_ms, day)
        whole = _joined([day, minute]) or Turnover(closed_ms, price, price, price, price, ZERO, ZERO)
        bid_ask = best(instrument, price, sold=self._sold.get(symbol, False))
        return ticker_object(instrument, whole, price, bid_ask, at_ms=self.now_ms)

    def book(self, symbol: str, *, fresh: bool = False) -> Book:
        """Return the book; its number goes up with each one that is made, and each `fresh` one is."""
        instrument, price = self._listed(symbol), self._price(symbol)
        now_s, sold = self.clock.monotonic_s(), self._sold.get(symbol, False)
        known = self._books.get(symbol)
        if known is not None and not fresh and known.price == price and now_s - known.made_s < BOOK_S:
            return known
        number = max(self.clock.now_us() // 1_000, 0 if known is None else known.id + 1)
        made = self._books[symbol] = Book(instrument, number, now_s, price, sold)
        return made

    def priced(self) -> list[str]:
        """Return the symbols that have a price."""
        return [symbol for symbol in self.instruments() if self.quotes.price(symbol)]

    def _price(self, symbol: str) -> Decimal:
        price = self.quotes.price(symbol)
        if not price:
            raise Unavailable(f"no price of {symbol} is known yet")
        return price

    def _listed(self, symbol: str) -> Instrument:
        found = self.instruments().get(symbol)
        if found is None:
            raise UnknownSymbol(f"{symbol} is not listed; exchange-info says what is")
        return found

    # Candles, page by page.

    async def _rows_before(self, symbol: str, interval: Interval, before_ms: int, count: int) -> list[bytes]:
        """Return the last rows of closed candles that open before a moment."""
        parts: list[list[bytes]] = []
        least = interval.number(self.market.begins_ms(symbol)) // PAGE
        for number in range(interval.number(max(0, before_ms - 1)) // PAGE, least - 1, -1):
            if count <= 0:
                break
            page = await self._page(symbol, interval, number)
            end = bisect_left(page.opens_ms, before_ms)
            parts.append(page.rows[max(0, end - count) : end])
            count -= len(parts[-1])
        return [row for part in reversed(parts) for row in part]

    async def _rows_from(
        self, symbol: str, interval: Interval, *, first_ms: int, before_ms: int, count: int
    ) -> list[bytes]:
        """Return the first rows of closed candles that open from a moment on and before another."""
        rows: list[bytes] = []
        first_ms = max(first_ms, interval.start_of(self.market.begins_ms(symbol)))
        if first_ms >= before_ms:
            return rows
        for number in range(interval.number(first_ms) // PAGE, interval.number(before_ms - 1) // PAGE + 1):
            page = await self._page(symbol, interval, number)
            rows += page.rows[bisect_left(page.opens_ms, first_ms) : bisect_left(page.opens_ms, before_ms)]
            if len(rows) >= count:
                break
        return rows[:count]

    async def _page(self, symbol: str, interval: Interval, number: int) -> Page:
        """Return a page of closed candles, brought up to date."""
        key = (symbol, interval, number)
        page = self._pages.setdefault(key, Page())
        self._pages.move_to_end(key)
        while len(self._pages) > PAGES_MAX:
            self._pages.popitem(last=False)
        places = Places.of(self._listed(symbol))
        while True:
            until_ms = page.until_ms
            first_ms = max(interval.opens_ms(number * PAGE), until_ms)
            ends_ms = min(interval.opens_ms((number + 1) * PAGE), interval.start_of(self.closed_ms(symbol)))
            if first_ms >= ends_ms:
                return page
            news = await self.candles(symbol, interval, first_ms=first_ms, end_ms=ends_ms)
            # Somebody else may have been faster.
            if page.until_ms == until_ms:
                page.opens_ms.extend(each.open_ms for each in news)
                page.rows.extend(_encode(places.row(each, interval)) for each in news)
                page.until_ms = ends_ms


def _joined(parts: Iterable[Turnover | None]) -> Turnover | None:
    """Return what came one after the other as one."""
    known = [each for each in parts if each is not None]
    return reduce(Turnover.and_then, known) if known else None
