"""Market data: how it is asked for, how it is answered, and what the answers weigh."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from pipaid.model.instrument import Instrument
from pipaid.model.interval import Interval
from pipaid.model.reply import Bare, Reply
from pipaid.model.request import Moment, Request, Symbol
from pipaid.model.turnover import Print, Turnover

CANDLES_MAX: Final = 1_500
CANDLES_DEFAULT: Final = 500
TRADES_MAX: Final = 1_000
TRADES_DEFAULT: Final = 500
TICKERS_MAX: Final = 100
DEPTH_DEFAULT: Final = 100
EVERY_SYMBOL: Final = "*"
# What an answer weighs, by the largest `limit` that it is enough for.
CANDLE_WEIGHTS: Final = {100: 1, 500: 2, 1_000: 5, CANDLES_MAX: 10}
DEPTH_WEIGHTS: Final = {100: 2, 500: 5, 1_000: 10}
TICKER_WEIGHT: Final = 2
TICKERS_WEIGHT: Final = 40
# How finely changes are told.
PERCENT: Final = Decimal("0.001")

Length = Annotated[Interval, Meta(description=f"one of {', '.join(Interval)}")]
Depth = Annotated[Literal[5, 10, 20, 50, 100, 500, 1_000], Meta(description="one of 5, 10, 20, 50, 100, 500, 1000")]
StreamDepth = Annotated[Literal[5, 10, 20, 50, 100], Meta(description="one of 5, 10, 20, 50, 100")]
TickerSymbols = Annotated[
    tuple[Symbol, ...],
    Meta(
        min_length=1,
        max_length=TICKERS_MAX,
        description=f'1 to {TICKERS_MAX} different symbols as a JSON array, such as ["BTCUSDT","ETHUSDT"]',
        extra={"distinct": True},
        extra_json_schema={"uniqueItems": True},
    ),
]


class MarketInstruments(Request, frozen=True, kw_only=True):
    """What is listed, or one symbol of it."""

    symbol: Symbol | None = None


class MarketCandles(Request, frozen=True, kw_only=True):
    """Candles of a symbol that open from one moment to another, both included.

    Without either the newest are told, with `startTime` the first from then on, with `endTime` alone the last.
    """

    symbol: Symbol
    interval: Length
    start_ms: Moment | None = msgspec.field(default=None, name="startTime")
    end_ms: Moment | None = msgspec.field(default=None, name="endTime")
    limit: Annotated[int, Meta(ge=1, le=CANDLES_MAX, description=f"a whole number from 1 to {CANDLES_MAX}")] = (
        CANDLES_DEFAULT
    )

    @property
    def weight(self) -> int:
        """Return what the answer weighs."""
        return _weight(CANDLE_WEIGHTS, self.limit)


class MarketDepth(Request, frozen=True, kw_only=True):
    """So many of the best bids and asks of a symbol."""

    symbol: Symbol
    limit: Depth = DEPTH_DEFAULT

    @property
    def weight(self) -> int:
        """Return what the answer weighs."""
        return _weight(DEPTH_WEIGHTS, self.limit)


class MarketTicker(Request, frozen=True, kw_only=True):
    """The last 24 hours of one symbol, of several, or of all."""

    symbol: Symbol | None = None
    symbols: TickerSymbols | None = None

    @property
    def weight(self) -> int:
        """Return what the answer weighs."""
        if self.symbol is not None:
            return TICKER_WEIGHT
        return TICKERS_WEIGHT if self.symbols is None else min(TICKER_WEIGHT * len(self.symbols), TICKERS_WEIGHT)


class MarketTrades(Request, frozen=True, kw_only=True):
    """The last market trades of a symbol, newest first."""

    symbol: Symbol
    limit: Annotated[int, Meta(ge=1, le=TRADES_MAX, description=f"a whole number from 1 to {TRADES_MAX}")] = (
        TRADES_DEFAULT
    )


class CandleParams(Request, frozen=True, kw_only=True):
    """What `market.klines` is subscribed with."""

    symbol: Symbol
    interval: Length


class DepthParams(Request, frozen=True, kw_only=True):
    """What `market.depth` is subscribed with."""

    symbol: Symbol
    depth: StreamDepth


class TickerParams(Request, frozen=True, kw_only=True):
    """What `market.ticker` is subscribed with: a symbol, or `*` for all."""

    symbol: Annotated[
        str,
        Meta(
            pattern=r"^([A-Z0-9]{2,20}|\*)$(?!\n)",
            description="a symbol in capital letters, such as BTCUSDT, or * for all",
        ),
    ]


# What each channel of the stream is subscribed with.
PARAMS: Final[dict[str, type[Request]]] = {
    "market.klines": CandleParams,
    "market.depth": DepthParams,
    "market.ticker": TickerParams,
}


class Filter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rule that an order has to keep; which members it has depends on its type."""

    filter_type: str = msgspec.field(name="filterType")
    min_price: str | None = msgspec.field(default=None, name="minPrice")
    max_price: str | None = msgspec.field(default=None, name="maxPrice")
    tick_size: str | None = msgspec.field(default=None, name="tickSize")
    min_qty: str | None = msgspec.field(default=None, name="minQty")
    max_qty: str | None = msgspec.field(default=None, name="maxQty")
    step_size: str | None = msgspec.field(default=None, name="stepSize")
    min_notional: str | None = msgspec.field(default=None, name="minNotional")
    max_num_orders: int | None = msgspec.field(default=None, name="maxNumOrders")


class ListedSymbol(msgspec.Struct, frozen=True, kw_only=True):
    """One symbol with the rules of its orders; a precision is a number of decimals."""

    symbol: str
    status: str
    base: str = msgspec.field(name="baseAsset")
    quote: str = msgspec.field(name="quoteAsset")
    price_precision: int = msgspec.field(name="pricePrecision")
    quantity_precision: int = msgspec.field(name="quantityPrecision")
    filters: tuple[Filter, ...]


class ExchangeInfo(Reply, frozen=True, kw_only=True):
    """What is listed, and the time by which signatures are judged, in Unix milliseconds."""

    server_time: int = msgspec.field(name="serverTime")
    symbols: tuple[ListedSymbol, ...]


class CandleRow(msgspec.Struct, frozen=True, array_like=True):
    """One candle by position; `close_time` is its last millisecond. The last one of the newest is still forming."""

    open_time: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    close_time: int
    quote_volume: str
    trades: int
    taker_buy_volume: str
    taker_buy_quote_volume: str


class CandleRows(Bare, frozen=True, kw_only=True):
    """Candles, oldest first."""

    content: tuple[CandleRow, ...]


class PriceLevel(msgspec.Struct, frozen=True, array_like=True):
    """What rests at a price."""

    price: str
    qty: str


class DepthObject(Reply, frozen=True, kw_only=True):
    """The book of a symbol as pairs of price and quantity: bids downwards, asks upwards."""

    last_update_id: int = msgspec.field(name="lastUpdateId")
    bids: tuple[PriceLevel, ...]
    asks: tuple[PriceLevel, ...]


class TickerObject(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a symbol within the last 24 hours, whole minutes and the one that is forming."""

    symbol: str
    price: str
    bid: str
    ask: str
    volume_24h: str
    quote_volume_24h: str
    change_24h_pct: str
    high_24h: str
    low_24h: str
    count_24h: int
    close_time: int


class Tickers(Bare, frozen=True, kw_only=True):
    """One object where one symbol was asked for, else a list."""

    content: TickerObject | tuple[TickerObject, ...]


class MarketTradeObject(msgspec.Struct, frozen=True, kw_only=True):
    """A market trade; ids go up by one, and `isBuyerMaker` tells that the buyer was resting."""

    id: int
    price: str
    qty: str
    quote_qty: str = msgspec.field(name="quoteQty")
    time: int
    is_buyer_maker: bool = msgspec.field(name="isBuyerMaker")


class MarketTradeList(Bare, frozen=True, kw_only=True):
    """Market trades, newest first."""

    content: tuple[MarketTradeObject, ...]


class CandlePush(msgspec.Struct, frozen=True, kw_only=True):
    """A candle as the stream tells it."""

    open_time: int
    close_time: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    quote_volume: str
    trades: int
    taker_buy_volume: str
    taker_buy_quote_volume: str
    is_closed: bool


class CandleEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="kline"):
    """A candle that has changed, or has closed."""

    ts: int
    symbol: str
    interval: str
    candle: CandlePush = msgspec.field(name="kline")


class DepthEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="depth"):
    """The whole book, down to the depth that was asked for."""

    ts: int
    symbol: str
    last_update_id: int = msgspec.field(name="lastUpdateId")
    bids: tuple[PriceLevel, ...]
    asks: tuple[PriceLevel, ...]


class TickerEvent(TickerObject, frozen=True, kw_only=True, tag_field="event", tag="ticker"):
    """The last 24 hours of a symbol, as of a moment."""

    ts: int


Level = tuple[Decimal, Decimal]


class Levels(msgspec.Struct, frozen=True):
    """Bids downwards and asks upwards, each a price and a quantity; no quantity is zero."""

    bids: tuple[Level, ...] = ()
    asks: tuple[Level, ...] = ()


class Places(msgspec.Struct, frozen=True):
    """How many decimals the prices and the quantities of a symbol have."""

    price: int
    quantity: int

    @classmethod
    def of(cls, instrument: Instrument) -> Places:
        """Return those of an instrument."""
        return cls(_decimals(instrument.tick_size), _decimals(instrument.lot_size))

    def row(self, each: Turnover, interval: Interval) -> CandleRow:
        """Return a candle as listings show it."""
        value = self.price + self.quantity
        return CandleRow(
            each.open_ms,
            text(each.open, self.price),
            text(each.high, self.price),
            text(each.low, self.price),
            text(each.close, self.price),
            text(each.volume, self.quantity),
            interval.end_of(each.open_ms) - 1,
            text(each.quote_volume, value),
            each.trades,
            text(each.taken, self.quantity),
            text(each.quote_taken, value),
        )

    def depth(self, id: int, levels: Levels) -> DepthObject:
        """Return a book as it is shown."""
        return DepthObject(last_update_id=id, bids=self._side(levels.bids), asks=self._side(levels.asks))

    def _side(self, side: tuple[Level, ...]) -> tuple[PriceLevel, ...]:
        return tuple(PriceLevel(text(price, self.price), text(quantity, self.quantity)) for price, quantity in side)

    def trade(self, each: Print) -> MarketTradeObject:
        """Return a market trade as listings show it."""
        trade = each.trade
        return MarketTradeObject(
            id=each.id,
            price=text(trade.price, self.price),
            qty=text(trade.quantity, self.quantity),
            quote_qty=text(trade.price * trade.quantity, self.price + self.quantity),
            time=trade.time_ms,
            is_buyer_maker=trade.buyer_is_maker,
        )


def pushed(row: CandleRow, *, is_closed: bool) -> CandlePush:
    """Return a candle as the stream tells it."""
    return CandlePush(**msgspec.structs.asdict(row), is_closed=is_closed)


def ticker_object(
    instrument: Instrument, day: Turnover, price: Decimal, bid_ask: tuple[Decimal, Decimal], *, at_ms: int
) -> TickerObject:
    """Return what became of an instrument within a day that ends at a moment with a price."""
    places = Places.of(instrument)
    bid, ask = bid_ask
    return TickerObject(
        symbol=instrument.symbol,
        price=text(price, places.price),
        bid=text(bid, places.price),
        ask=text(ask, places.price),
        volume_24h=text(day.volume, places.quantity),
        quote_volume_24h=text(day.quote_volume, places.price + places.quantity),
        change_24h_pct=text(((price / day.open - 1) * 100).quantize(PERCENT), 3),
        high_24h=text(max(day.high, price), places.price),
        low_24h=text(min(day.low, price), places.price),
        count_24h=day.trades,
        close_time=at_ms,
    )


def listed_symbol(instrument: Instrument, status: str) -> ListedSymbol:
    """Return an instrument with all its filters; where it sets no least price or quantity, that is one step."""
    places = Places.of(instrument)
    step = text(instrument.lot_size, places.quantity)
    least = text(instrument.quantity_min or instrument.lot_size, places.quantity)
    return ListedSymbol(
        symbol=instrument.symbol,
        status=status,
        base=instrument.base,
        quote=instrument.quote,
        price_precision=places.price,
        quantity_precision=places.quantity,
        filters=(
            Filter(
                filter_type="PRICE_FILTER",
                min_price=text(instrument.price_min or instrument.tick_size, places.price),
                max_price=text(instrument.price_max, places.price),
                tick_size=text(instrument.tick_size, places.price),
            ),
            Filter(
                filter_type="LOT_SIZE",
                min_qty=least,
                max_qty=text(instrument.quantity_max, places.quantity),
                step_size=step,
            ),
            Filter(
                filter_type="MARKET_LOT_SIZE",
                min_qty=least,
                max_qty=text(instrument.market_quantity_max, places.quantity),
                step_size=step,
            ),
            Filter(filter_type="MIN_NOTIONAL", min_notional=text(instrument.notional_min, 0)),
            Filter(filter_type="MAX_NUM_ORDERS", max_num_orders=instrument.orders_max),
        ),
    )


def text(value: Decimal, places: int) -> str:
    """Render with so many decimals, or with more where there are more that count."""
    shown = format(value, "f")
    whole, _, decimals = shown.partition(".")
    if len(decimals) == places:
        return shown
    decimals = decimals.rstrip("0").ljust(places, "0")
    return f"{whole}.{decimals}" if decimals else whole


def _decimals(step: Decimal) -> int:
    return len(format(step, "f").partition(".")[2].rstrip("0"))


def _weight(weights: dict[int, int], limit: int) -> int:
    return next(weight for most, weight in weights.items() if limit <= most)
