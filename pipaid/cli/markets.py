"""Market data as people read it: candles, tickers, trades and instruments as tables, the book as two sides of one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Final

from pipaid.cli.sheet import Column, Kind, Sheet, facts_of, listing
from pipaid.model.market import (
    CandleRow,
    CandleRows,
    DepthObject,
    ExchangeInfo,
    ListedSymbol,
    MarketTradeList,
    PriceLevel,
    TickerObject,
    Tickers,
)
from pipaid.model.moment import iso_millis, iso_seconds

MarketData: Final = (CandleRows, DepthObject, ExchangeInfo, MarketTradeList, Tickers)


def market_sheets(reply: Any) -> Sequence[Sheet]:
    """Return an answer about the market as tables."""
    match reply:
        case CandleRows():
            return _rows(reply.content, _CANDLE, "the last one may still be forming")
        case MarketTradeList():
            return _rows(reply.content, _TRADE)
        case Tickers(content=TickerObject() as only):
            return list(facts_of(only))
        case Tickers(content=tuple() as several):
            return _rows(several, _TICKER)
        case DepthObject():
            pairs = list(zip_longest(reply.bids, reply.asks, fillvalue=PriceLevel("", "")))
            return [listing("", pairs, _BOOK)]
        case _:
            return _rows(reply.symbols, _LISTED)


def _rows(items: Sequence[Any], columns: Sequence[Column], note: str = "") -> list[Sheet]:
    return [listing("", items, columns, note)] if items else [Sheet("", (), (), "nothing to list")]


def _second(at_ms: int) -> str:
    return iso_seconds(at_ms)[:-1].replace("T", " ")


def _of(listed: ListedSymbol, name: str) -> object:
    """Return what the first filter says that has a member of a name."""
    values = (getattr(each, name) for each in listed.filters)
    return next((value for value in values if value is not None), None)


def _bought(row: CandleRow) -> str | None:
    """Return which share of a candle's volume takers bought, if it is known."""
    volume = float(row.volume)
    return f"{float(row.taker_buy_volume) / volume:.0%}" if row.trades and volume else None


_CANDLE: Final = (
    Column("OPENED", lambda item: _second(item.open_time), rank=0),
    Column("OPEN", lambda item: item.open, Kind.NUMBER, 0),
    Column("HIGH", lambda item: item.high, Kind.NUMBER, 0),
    Column("LOW", lambda item: item.low, Kind.NUMBER, 0),
    Column("CLOSE", lambda item: item.close, Kind.NUMBER, 0),
    Column("VOLUME", lambda item: item.volume, Kind.NUMBER, 1),
    Column("QUOTE VOLUME", lambda item: item.quote_volume, Kind.NUMBER, 4),
    Column("TRADES", lambda item: item.trades, Kind.NUMBER, 2),
    Column("BOUGHT", _bought, Kind.NUMBER, 3),
)
_TICKER: Final = (
    Column("SYMBOL", lambda item: item.symbol, rank=0),
    Column("PRICE", lambda item: item.price, Kind.NUMBER, 0),
    Column("24H %", lambda item: item.change_24h_pct, Kind.SIGNED, 0),
    Column("BID", lambda item: item.bid, Kind.NUMBER, 3),
    Column("ASK", lambda item: item.ask, Kind.NUMBER, 3),
    Column("HIGH", lambda item: item.high_24h, Kind.NUMBER, 1),
    Column("LOW", lambda item: item.low_24h, Kind.NUMBER, 1),
    Column("VOLUME", lambda item: item.volume_24h, Kind.NUMBER, 2),
    Column("QUOTE VOLUME", lambda item: item.quote_volume_24h, Kind.NUMBER, 5),
    Column("TRADES", lambda item: item.count_24h, Kind.NUMBER, 4),
)
_TRADE: Final = (
    Column("AT", lambda item: iso_millis(item.time)[:-1].replace("T", " "), rank=0),
    Column("ID", lambda item: item.id, Kind.FAINT, 2),
    Column("TAKER", lambda item: "sold" if item.is_buyer_maker else "bought", rank=0),
    Column("PRICE", lambda item: item.price, Kind.NUMBER, 0),
    Column("QTY", lambda item: item.qty, Kind.NUMBER, 0),
    Column("WORTH", lambda item: item.quote_qty, Kind.NUMBER, 1),
)
_BOOK: Final = (
    Column("BID QTY", lambda item: item[0].qty, Kind.NUMBER, 0),
    Column("BID", lambda item: item[0].price, Kind.NUMBER, 0),
    Column("ASK", lambda item: item[1].price, Kind.NUMBER, 0),
    Column("ASK QTY", lambda item: item[1].qty, Kind.NUMBER, 0),
)
_LISTED: Final = (
    Column("SYMBOL", lambda item: item.symbol, rank=0),
    Column("STATUS", lambda item: item.status, Kind.STATUS, 0),
    Column("BASE", lambda item: item.base, rank=3),
    Column("QUOTE", lambda item: item.quote, rank=3),
    Column("TICK", lambda item: _of(item, "tick_size"), Kind.NUMBER, 0),
    Column("LOT", lambda item: _of(item, "step_size"), Kind.NUMBER, 0),
    Column("MIN QTY", lambda item: _of(item, "min_qty"), Kind.NUMBER, 2),
    Column("MIN NOTIONAL", lambda item: _of(item, "min_notional"), Kind.NUMBER, 1),
    Column("MAX ORDERS", lambda item: _of(item, "max_num_orders"), Kind.NUMBER, 4),
)
