"""A page of the venue's candles, read strictly: what cannot be true is refused by row, whole pages at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Final

import msgspec
import numpy as np
from attrs import frozen

from pipaid.errors import ExchangeError, InvalidParameter
from pipaid.model.columns import PRICE_DECIMALS_MAX, VOLUME_DECIMALS_MAX, Candles, exact_units
from pipaid.model.instrument import Timeframe
from pipaid.model.moment import iso_seconds

# Plain text of a number without a sign, as a JSON string or number; its length bounds what it costs to read.
_NUMBER: Final = re.compile(rb'"?(\d{1,20}(?:\.\d{1,20})?(?:[eE][+-]?\d{1,2})?)"?')
_ROW: Final = re.compile(r"\$\[(\d+)\]")
# Milliseconds beyond this would be of the year 5138.
_Moment = Annotated[int, msgspec.Meta(ge=0, lt=10**14)]
_NAMES: Final = ("open", "high", "low", "close", "volume")


@frozen
class PageAsked:
    """What a page was asked for: up to `count` candles that open from the start on and before the end."""

    symbol: str
    timeframe: Timeframe
    start_ms: int
    end_ms: int
    count: int
    # The address and the number of the page, for people.
    where: str


class _Kline(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The first fields of a row; those behind them are not needed, and may become more."""

    open_time: _Moment
    open: msgspec.Raw
    high: msgspec.Raw
    low: msgspec.Raw
    close: msgspec.Raw
    volume: msgspec.Raw
    close_time: _Moment


def candles_of(body: bytes, asked: PageAsked) -> Candles | None:
    """Return the candles of a page, or nothing if it is empty; raise ExchangeError naming page and row."""
    klines = _klines(body, asked)
    if len(klines) > asked.count:
        raise ExchangeError(f"{asked.where}: {len(klines)} rows where at most {asked.count} were asked for")
    if not klines:
        return None
    _check_times(klines, asked)
    values = [_numbers(kline, row, asked) for row, kline in enumerate(klines, 1)]
    prices, price_decimals = _units([each[:4] for each in values], asked, PRICE_DECIMALS_MAX)
    volumes, volume_decimals = _units([each[4:] for each in values], asked, VOLUME_DECIMALS_MAX, rounds=True)
    times = np.array([kline.open_time for kline in klines], dtype=np.int64)
    candles = Candles.of(
        asked.symbol,
        asked.timeframe,
        [times, *prices, *volumes],
        price_decimals=price_decimals,
        volume_decimals=volume_decimals,
    )
    for fault in candles.faults():
        if fault.kind != "gap":
            raise ExchangeError(f"{asked.where}, row {fault.index + 1} at {iso_seconds(fault.time_ms)}: {fault.what}")
    return candles


def _klines(body: bytes, asked: PageAsked) -> list[_Kline]:
    try:
        return msgspec.json.decode(body, type=list[_Kline])
    except msgspec.ValidationError as trouble:
        row = _ROW.search(str(trouble))
        place = f", row {int(row[1]) + 1}" if row else ""
        raise ExchangeError(f"{asked.where}{place}: rows of candles expected: {trouble}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        what = "a page for people" if body.lstrip()[:1] == b"<" else "something else"
        shown = body[:60].decode("ascii", "replace")
        raise ExchangeError(f"{asked.where}: JSON expected, {what} came: {shown!r}") from None


def _check_times(klines: Sequence[_Kline], asked: PageAsked) -> None:
    earliest = asked.start_ms
    for row, kline in enumerate(klines, 1):
        opened, closed = kline.open_time, kline.close_time
        if not earliest <= opened < asked.end_ms:
            raise ExchangeError(
                f"{asked.where}, row {row}: the open time {iso_seconds(opened)} lies outside of what was asked for, or "
                f"is out of order: {iso_seconds(earliest)} or later and before {iso_seconds(asked.end_ms)} expected"
            )
        # Around its outages the venue ends a candle early; one that ends late is of another timeframe.
        if not opened <= closed < opened + asked.timeframe.ms:
            raise ExchangeError(
                f"{asked.where}, row {row} at {iso_seconds(opened)}: it ends at {iso_seconds(closed)}, which no candle "
                f"of {asked.timeframe} does"
            )
        earliest = opened + 1


def _numbers(kline: _Kline, row: int, asked: PageAsked) -> list[Decimal]:
    values: list[Decimal] = []
    for name in _NAMES:
        text = bytes(getattr(kline, name))
        match = _NUMBER.fullmatch(text)
        if match is None:
            shown = text[:40].decode("ascii", "replace")
            raise ExchangeError(
                f"{asked.where}, row {row} at {iso_seconds(kline.open_time)}: {name} is {shown}, no price or volume"
            )
        values.append(Decimal(match[1].decode()))
    return values


def _units(
    rows: Sequence[Sequence[Decimal]], asked: PageAsked, most: int, *, rounds: bool = False
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.int64]], int]:
    """Return the columns of some rows as whole units."""
    try:
        units, decimals = exact_units(asked.symbol, [each for row in rows for each in row], most, rounds=rounds)
    except InvalidParameter as refused:
        raise ExchangeError(f"{asked.where}, row {_too_fine(rows, asked, most)}: {refused.message}") from None
    return units.reshape(len(rows), -1).T, decimals


def _too_fine(rows: Sequence[Sequence[Decimal]], asked: PageAsked, most: int) -> str:
    for number, row in enumerate(rows, 1):
        try:
            exact_units(asked.symbol, row, most)
        except InvalidParameter:
            return str(number)
    return f"1 to {len(rows)} together"
