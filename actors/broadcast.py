"""What is told of the market to those who watch it: candles, books and tickers, each made once for all of them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from typing import Any, Final, Protocol, cast

import msgspec
import structlog
import trio
from attrs import define, field

from actors.actor import OUTAGES
from pipaid.errors import InvalidParameter, NotFound, RateLimited, UnknownSymbol
from pipaid.model.instrument import Instrument
from pipaid.model.interval import Interval
from pipaid.model.market import (
    EVERY_SYMBOL,
    PARAMS,
    CandleEvent,
    CandleParams,
    DepthEvent,
    DepthParams,
    Levels,
    Places,
    TickerEvent,
    TickerObject,
    TickerParams,
    pushed,
)
from pipaid.model.parsing import parse_request
from pipaid.model.request import Request
from pipaid.model.turnover import Turnover
from pipaid.seams import Clock
from pipaid.wire.frames import ClientFrame
from pipaid.wire.watcher import Watcher
from pipaid.wire.websocket import text_frame

log = structlog.get_logger()

CANDLES: Final = "market.klines"
DEPTH: Final = "market.depth"
TICKER: Final = "market.ticker"
# A candle that forms is told no oftener than this, and only when it has changed.
CANDLE_S: Final = 0.25
# How much earlier than that it may be, as timers have it.
EARLY_S: Final = 0.005
# That one has closed is told at once, or this much after the last turn.
CLOSED_S: Final = 0.05
DEPTH_S: Final = 0.1
TICKER_S: Final = 1.0
# So many closed candles are told at once, should a market have rushed ahead; the newest ones.
CANDLES_AT_ONCE: Final = 500

_encode: Final = msgspec.json.Encoder().encode


class Sight(Protocol):
    """The book of a symbol."""

    @property
    def instrument(self) -> Instrument: ...
    @property
    def id(self) -> int: ...
    def levels(self, depth: int) -> Levels:
        """Return so many levels on each side."""
        ...


class Sights(Protocol):
    """What there is to see of the market."""

    on_close: Callable[[], None]

    @property
    def now_ms(self) -> int:
        """Return the venue's time."""
        ...

    @property
    def instruments(self) -> Callable[[], Mapping[str, Instrument]]:
        """Return what is listed."""
        ...

    def closed_ms(self, symbol: str) -> int:
        """Return until when the minutes of a symbol have closed."""
        ...

    async def candles(self, symbol: str, interval: Interval, *, first_ms: int, end_ms: int) -> list[Turnover]:
        """Return the candles of a span of whole minutes."""
        ...

    async def forming(self, symbol: str, interval: Interval) -> Turnover | None:
        """Return the candle that is forming."""
        ...

    async def ticker(self, symbol: str) -> TickerObject:
        """Return the last 24 hours."""
        ...

    def book(self, symbol: str, *, fresh: bool = False) -> Sight:
        """Return the book, made anew if it is to be fresh."""
        ...

    def priced(self) -> list[str]:
        """Return the symbols that have a price."""
        ...


@define(eq=False)
class Topic:
    """What may be watched, and by whom; those of candles remember what was told."""

    params: Any
    watchers: dict[Watcher, None] = field(factory=dict[Watcher, None])
    # When the first candle opens that was not told to have closed.
    next_ms: int = 0
    told: Turnover | None = None
    told_s: float = -math.inf
    frame: bytes = b""


@define(eq=False)
class Broadcast:
    """Tell those who watch; while nobody watches a channel, nothing is worked out for it.

    Each turn works out all that is to be told before it tells any of it, so that a connection that watches much is
    written to once.
    """

    sights: Sights
    clock: Clock
    _topics: dict[str, dict[Request, Topic]] = field(init=False)
    _waiting: dict[str, trio.lowlevel.ParkingLot] = field(init=False)
    _closed: trio.Event = field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self._topics = {channel: {} for channel in PARAMS}
        self._waiting = {channel: trio.lowlevel.ParkingLot() for channel in PARAMS}
        self.sights.on_close = self._note_close

    # Who watches what.

    def subscribe(self, watcher: Watcher, frame: ClientFrame, *, room: int) -> dict[str, Any]:
        """Begin to tell what a frame asks for; to ask twice changes nothing."""
        params = _params(frame)
        symbol = cast("CandleParams | DepthParams | TickerParams", params).symbol
        if symbol not in self.sights.instruments() and symbol != EVERY_SYMBOL:
            raise UnknownSymbol(f"{symbol} is not listed; exchange-info says what is")
        key = (frame.channel, params)
        if key not in watcher.topics:
            if room < 1:
                raise RateLimited("there is no room for another subscription on this connection")
            topic = self._topics[frame.channel].setdefault(params, Topic(params))
            if not topic.watchers and isinstance(params, CandleParams):
                topic.next_ms = params.interval.start_of(self.sights.closed_ms(symbol))
            topic.watchers[watcher] = watcher.topics[key] = None
            if topic.frame:
                watcher.put((params, False), topic.frame)
            self._waiting[frame.channel].unpark_all()
        return cast("dict[str, Any]", msgspec.to_builtins(params))

    def unsubscribe(self, watcher: Watcher, frame: ClientFrame) -> dict[str, Any]:
        """Tell it no more, and take back what waits."""
        params = _params(frame)
        told = cast("dict[str, Any]", msgspec.to_builtins(params))
        if (frame.channel, params) not in watcher.topics:
            raise NotFound(f"{frame.channel} is not subscribed with {msgspec.json.encode(told).decode()}")
        self._remove(watcher, frame.channel, params)
        kept = dict.fromkeys(params for _, params in cast("Iterable[tuple[str, Request]]", watcher.topics))
        symbols = self._symbols_of([each for each in kept if isinstance(each, TickerParams)])
        watcher.forget(lambda about: _subject(about) not in kept and _subject(about) not in symbols)
        return told

    def leave(self, watcher: Watcher) -> None:
        """Forget a connection."""
        for channel, params in cast("list[tuple[str, Request]]", list(watcher.topics)):
            self._remove(watcher, channel, params)

    def _remove(self, watcher: Watcher, channel: str, params: Request) -> None:
        del watcher.topics[channel, params]
        topic = self._topics[channel][params]
        del topic.watchers[watcher]
        if not topic.watchers:
            del self._topics[channel][params]

    # The telling.

    async def run(self) -> None:
        """Tell those who watch until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_candles)
            nursery.start_soon(self._every, DEPTH, DEPTH_S, self._tell_depth)
            nursery.start_soon(self._every, TICKER, TICKER_S, self._tell_tickers)

    async def _every(self, channel: str, period_s: float, tell: Callable[[], Awaitable[None]]) -> None:
        next_s = 0.0
        while True:
            if not self._topics[channel]:
                await self._waiting[channel].park()
            now_s = self.clock.monotonic_s()
            # A turn that was missed is not made up for.
            next_s = max(next_s + period_s, now_s)
            await self.clock.sleep(next_s - now_s)
            await tell()

    async def _tell_depth(self) -> None:
        news: list[tuple[Topic, bytes]] = []
        books: dict[str, Sight] = {}
        priced = set(self.sights.priced())
        # The deepest first, so that the others are parts of what is there.
        for topic in sorted(self._topics[DEPTH].values(), key=lambda each: -each.params.depth):
            symbol = topic.params.symbol
            if symbol not in priced:
                continue
            if symbol not in books:
                books[symbol] = self.sights.book(symbol, fresh=True)
            book = books[symbol]
            shown = Places.of(book.instrument).depth(book.id, book.levels(topic.params.depth))
            event = DepthEvent(
                ts=self.sights.now_ms, symbol=symbol, last_update_id=book.id, bids=shown.bids, asks=shown.asks
            )
            news.append((topic, text_frame(_encode(event))))
            await trio.lowlevel.checkpoint()
        for topic, frame in news:
            for watcher in topic.watchers:
                watcher.put(topic.params, frame)

    async def _tell_tickers(self) -> None:
        topics = self._topics[TICKER]
        news: dict[str, bytes] = {}
        for symbol in self._symbols_of(topics):
            try:
                shown = await self.sights.ticker(symbol)
            except OUTAGES as trouble:
                log.debug("broadcast.untold", channel=TICKER, symbol=symbol, reason=str(trouble))
                continue
            event = TickerEvent(ts=self.sights.now_ms, **msgspec.structs.asdict(shown))
            news[symbol] = text_frame(_encode(event))
        every = topics.get(TickerParams(symbol=EVERY_SYMBOL))
        for symbol, frame in news.items():
            one = topics.get(TickerParams(symbol=symbol))
            # Who watches one and all is told once.
            for watcher in dict.fromkeys(each for topic in (one, every) if topic for each in topic.watchers):
                watcher.put((TICKER, symbol), frame)

    def _symbols_of(self, params: Iterable[Request]) -> list[str]:
        wanted = {cast(TickerParams, each).symbol for each in params}
        return [symbol for symbol in self.sights.priced() if symbol in wanted or EVERY_SYMBOL in wanted]

    async def _tell_candles(self) -> None:
        topics = self._topics[CANDLES]
        next_s = 0.0
        while True:
            if not topics:
                await self._waiting[CANDLES].park()
            self._closed = trio.Event()
            for topic in list(topics.values()):
                await trio.lowlevel.checkpoint()
                try:
                    await self._tell_closed(topic)
                    await self._tell_forming(topic)
                except OUTAGES as trouble:
                    # What has closed meanwhile is told as soon as the market answers again.
                    log.debug("broadcast.untold", channel=CANDLES, symbol=topic.params.symbol, reason=str(trouble))
            now_s = self.clock.monotonic_s()
            if now_s >= next_s:
                next_s = max(next_s, now_s - CLOSED_S) + CANDLE_S
            # A market in a hurry closes candles without end.
            await self.clock.sleep(CLOSED_S)
            with trio.move_on_after(max(0.0, next_s - self.clock.monotonic_s())):
                await self._closed.wait()

    async def _tell_closed(self, topic: Topic) -> None:
        """Tell each candle that has closed since, once."""
        symbol, interval = topic.params.symbol, topic.params.interval
        end_ms = interval.start_of(self.sights.closed_ms(symbol))
        if topic.next_ms >= end_ms:
            return
        first_ms = max(topic.next_ms, interval.opens_ms(interval.number(end_ms) - CANDLES_AT_ONCE))
        closed = await self.sights.candles(symbol, interval, first_ms=first_ms, end_ms=end_ms)
        topic.next_ms, topic.told, topic.frame = end_ms, None, b""
        for each in closed:
            frame = self._frame(topic, each, is_closed=True)
            for watcher in topic.watchers:
                watcher.put((topic.params, True), frame, instead_of=(topic.params, False))
            if each is not closed[-1]:
                # Whoever reads has room to take this one before the next takes its place.
                await self.clock.sleep(0)
                await self.clock.sleep(0)

    async def _tell_forming(self, topic: Topic) -> None:
        """Tell the candle that is forming if that has changed, and not too often."""
        now_s = self.clock.monotonic_s()
        if now_s - topic.told_s < CANDLE_S - EARLY_S:
            return
        forming = await self.sights.forming(topic.params.symbol, topic.params.interval)
        # What belongs to a later candle has to wait for the word that the one before has closed.
        if forming is None or forming == topic.told or forming.open_ms != topic.next_ms:
            return
        topic.told, topic.told_s = forming, now_s
        topic.frame = self._frame(topic, forming, is_closed=False)
        for watcher in topic.watchers:
            watcher.put((topic.params, False), topic.frame)

    def _frame(self, topic: Topic, each: Turnover, *, is_closed: bool) -> bytes:
        symbol, interval = topic.params.symbol, topic.params.interval
        row = Places.of(self.sights.instruments()[symbol]).row(each, interval)
        event = CandleEvent(
            ts=self.sights.now_ms, symbol=symbol, interval=interval, candle=pushed(row, is_closed=is_closed)
        )
        return text_frame(_encode(event))

    def _note_close(self) -> None:
        self._closed.set()


def _params(frame: ClientFrame) -> Request:
    """Return what a frame names, or raise what is wrong with it."""
    kind = PARAMS.get(frame.channel)
    if kind is None:
        raise InvalidParameter(f"there is no channel {frame.channel[:64]!r}; {', '.join(PARAMS)} tell of the market")
    if not isinstance(frame.params or {}, dict):
        raise InvalidParameter("params must be an object")
    return parse_request(kind, frame.params or {})


def _subject(about: Hashable) -> Hashable:
    """Return what a frame that waits is about: params, or for a ticker its symbol."""
    if not isinstance(about, tuple):
        return about
    first, second = cast("tuple[Any, Any]", about)
    found: Hashable = second if first == TICKER else first
    return found
