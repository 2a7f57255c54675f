"""Files of candles or market trades, as venues and collectors publish them, read into columns."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipaid.errors import InvalidParameter, NotFound
from pipaid.model.columns import Candles
from pipaid.model.instrument import Timeframe
from pipaid.model.trades import Trades
from pipaid.seams import Disk
from pipaid.venues.files import CANDLE, TIMES, Recording, numbers, recording

PARQUET: Final = ".parquet"
NAMED: Final = r"(?P<symbol>[A-Z0-9]{2,})"
_KINDS: Final = {"candles": "candles", "funding": "funding rates"}


def read_candles(disk: Disk, path: Path, *, symbol: str = "", timeframe: Timeframe | None = None) -> Candles:
    """Read a file of candles or of market trades; without a symbol or a timeframe, its name and its rows tell them.

    CSV with a header, gzipped, zipped or neither; the venue's published files without one; parquet if pyarrow is
    there. Raise InvalidParameter naming file and row for what cannot be read or cannot be true.
    """
    if path.suffix == PARQUET:
        return _parquet(disk, path, symbol, timeframe)
    opened = recording(disk, path, "(?P<symbol>)" if symbol else NAMED)
    symbol = symbol or opened.symbol
    if opened.kind == "funding":
        raise InvalidParameter(f"{path}: these are funding rates, not candles")
    if not opened.lines:
        raise InvalidParameter(f"{path}: the file has a header and no rows")
    table = numbers(opened)
    try:
        if opened.kind == "trades":
            return _trades(symbol, table).candles()
        time_ms, first, high, low, last, volume = table.T
        return Candles.from_rows(
            symbol, timeframe, time_ms=time_ms, open=first, high=high, low=low, close=last, volume=volume
        )
    except InvalidParameter as refused:
        raise InvalidParameter(f"{path} ({_rows(opened)}): {refused.message}", details=refused.details) from None


def read_trades(disk: Disk, path: Path, *, symbol: str = "") -> Trades:
    """Read a file of market trades; without a symbol its name tells it.

    Raise InvalidParameter naming file and row for what cannot be read or cannot be true.
    """
    opened = recording(disk, path, "(?P<symbol>)" if symbol else NAMED)
    if opened.kind != "trades":
        raise InvalidParameter(f"{path}: these are {_KINDS[opened.kind]}, not market trades")
    if not opened.lines:
        raise InvalidParameter(f"{path}: the file has a header and no rows")
    try:
        return _trades(symbol or opened.symbol, numbers(opened))
    except InvalidParameter as refused:
        raise InvalidParameter(f"{path} ({_rows(opened)}): {refused.message}") from None


def _trades(symbol: str, table: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Trades:
    makers = table[:, 3] if table.shape[1] > 3 else None
    return Trades.from_rows(symbol, time_ms=table[:, 0], price=table[:, 1], quantity=table[:, 2], buyer_is_maker=makers)


def _parquet(disk: Disk, path: Path, symbol: str, timeframe: Timeframe | None) -> Candles:
    try:
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError:
        raise InvalidParameter(f"{path}: parquet files need pyarrow: pip install pyarrow") from None
    if not disk.exists(path):
        raise NotFound(f"{path}: there is no such file")
    match = re.match(NAMED, path.name)
    if not symbol and match is None:
        raise InvalidParameter(f"{path}: no symbol in the name; give it with --symbol")
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as trouble:
        raise InvalidParameter(f"{path}: {trouble}") from None
    time = next((name for name in TIMES if name in table.column_names), None)
    missing = [name for name in CANDLE if name not in table.column_names]
    if time is None or missing:
        raise InvalidParameter(
            f"{path}: the columns {', '.join(table.column_names)[:200]} lack {', '.join(missing) or 'a time'}; "
            f"{TIMES[0]}, {', '.join(CANDLE)} are needed"
        )
    columns = {name: table.column(name).to_numpy() for name in CANDLE}
    asked = symbol or (match["symbol"] if match is not None else "")
    return Candles.from_rows(asked, timeframe, time_ms=table.column(time).to_numpy(), **columns)


def _rows(opened: Recording) -> str:
    what = "market trade" if opened.kind == "trades" else "candle"
    return f"{what} 0 is row {opened.first_line}"
