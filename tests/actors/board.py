"""A market on which somebody looks on, and what it is to tell, worked out of its market trades by definition."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import trio
from attrs import define, field

from actors.feed import Feed
from actors.market import Board
from actors.recorder import Recorder
from actors.surfaces import board_of
from actors.watchdog import Guard
from pipaid.engine.quotes import Quotes
from pipaid.model.candle import MarketTrade
from pipaid.model.operation import OPERATIONS, decode_request
from pipaid.model.reply import read_reply, wire_form
from pipaid.venues.synthetic import SyntheticMarket
from pipaid.venues.venue import Market
from pipaid.wire.activity import Activity
from pipaid.wire.caller import Caller, Role
from tests.storage.journals import open_journal
from tests.venues.following import TrioClock

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE_MS = 60_000
DAY_MS = 86_400_000
# A Monday that begins a month; the past reaches back over ends of a week, of a month and of three days.
MONDAY_MS = 1_756_684_800_000
BEGUN_MS = MONDAY_MS + 10 * 3_600_000
LISTED_MS = MONDAY_MS - 36 * 3_600_000
SYMBOLS = ("BTCUSDT", "XRPUSDT")
CALLER = Caller(role=Role.OBSERVE, peer=None)  # type: ignore[arg-type]  # Nobody asks where it comes from.


@define(eq=False)
class Stage:
    """A feed on a market, and the board that listens to it."""

    market: Market
    feed: Feed
    board: Board
    nursery: trio.Nursery = field(init=False)

    async def ask(self, op: str, **args: Any) -> Any:
        """Return what goes over the wire of an answer, decoded as plain JSON."""
        request = decode_request(OPERATIONS[op], msgspec.json.encode(args))
        reply = await getattr(self.board, op.replace(".", "_"))(CALLER, request)
        wire = msgspec.json.encode(wire_form(reply))
        # What is told has to be what was declared.
        assert msgspec.json.encode(wire_form(read_reply(OPERATIONS[op].reply, wire))) == wire
        return msgspec.json.decode(wire)

    async def rows(self, symbol: str, interval: str, **more: Any) -> list[Any]:
        rows: list[Any] = await self.ask("market.klines", symbol=symbol, interval=interval, **more)
        return rows


def synthetic(**more: Any) -> SyntheticMarket:
    """Return a market with two days of past."""
    given: dict[str, Any] = {
        "symbols": SYMBOLS,
        "seed": 3,
        "clock": TrioClock(),
        "activity": Activity(),
        "start_ms": BEGUN_MS,
        "listed_ms": LISTED_MS,
    }
    return SyntheticMarket(**{**given, **more})


@asynccontextmanager
async def on_stage(folder: Path, market: Market | None = None, *, play: bool = True) -> AsyncGenerator[Stage]:
    """Follow a market, unless it is only to be looked at."""
    market = market or synthetic()
    clock, activity, journal = TrioClock(), Activity(), open_journal(folder)
    recorder = Recorder(journal, lambda _: None, clock, activity, threaded=False)
    feed = Feed(market, Quotes(), recorder, Guard(clock), clock, activity, stale_after_s=0.0)
    feed.gate.set()
    try:
        await feed.prepare()
        stage = Stage(market, feed, board_of(feed, clock))
        async with trio.open_nursery() as stage.nursery:
            await stage.nursery.start(recorder.run)
            if play:
                await stage.nursery.start(feed.run)
            yield stage
            stage.nursery.cancel_scope.cancel()
    finally:
        journal.close()


# The definitions, on their own.


@cache
def starts_at(interval: str, at_ms: int) -> int:
    """Return when the candle begins in which a moment lies, by the calendar."""
    moment = EPOCH + timedelta(milliseconds=at_ms)
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    number, unit = int(interval[:-1]), interval[-1]
    match unit:
        case "m" | "h":
            minutes = number * (60 if unit == "h" else 1)
            begun = day + timedelta(minutes=(moment - day) // timedelta(minutes=minutes) * minutes)
        case "d":
            begun = EPOCH + (day - EPOCH) // timedelta(days=number) * timedelta(days=number)
        case "w":
            begun = day - timedelta(days=day.weekday())
        case _:
            begun = day.replace(day=1)
    return (begun - EPOCH) // timedelta(milliseconds=1)


def ends_at(interval: str, start_ms: int) -> int:
    """Return the last millisecond of a candle: the next one begins after it."""
    length = {"m": MINUTE_MS, "h": 60 * MINUTE_MS, "d": DAY_MS, "w": 7 * DAY_MS}.get(interval[-1])
    if length is not None:
        return start_ms + int(interval[:-1]) * length - 1
    return starts_at("1M", start_ms + 31 * DAY_MS) - 1


def candles_by_hand(interval: str, trades: list[MarketTrade], places: tuple[int, int]) -> list[Any]:
    """Return the rows that market trades make: first, highest, lowest, last, and what was bought by takers."""
    price_places, quantity_places = places
    by_start: dict[int, list[MarketTrade]] = {}
    for trade in trades:
        by_start.setdefault(starts_at(interval, trade.time_ms - trade.time_ms % MINUTE_MS), []).append(trade)

    def told(value: Decimal, decimals: int) -> str:
        return f"{value:.{decimals}f}"

    rows: list[Any] = []
    for start_ms, within in sorted(by_start.items()):
        prices = [trade.price for trade in within]
        bought = [trade for trade in within if not trade.buyer_is_maker]
        rows.append(
            [
                start_ms,
                *(told(price, price_places) for price in (prices[0], max(prices), min(prices), prices[-1])),
                told(sum((trade.quantity for trade in within), Decimal(0)), quantity_places),
                ends_at(interval, start_ms),
                told(sum((trade.price * trade.quantity for trade in within), Decimal(0)), sum(places)),
                len(within),
                told(sum((trade.quantity for trade in bought), Decimal(0)), quantity_places),
                told(sum((trade.price * trade.quantity for trade in bought), Decimal(0)), sum(places)),
            ]
        )
    return rows


def asked_for(rows: list[Any], start_ms: int | None, end_ms: int | None, limit: int) -> list[Any]:
    """Return what of all candles a request is to be answered with."""
    within = [row for row in rows if (start_ms or 0) <= row[0] <= (row[0] if end_ms is None else end_ms)]
    return within[-limit:] if start_ms is None else within[:limit]
