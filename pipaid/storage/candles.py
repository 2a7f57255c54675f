"""Candles on the disk: one file a venue, symbol and timeframe, whose columns are mapped into memory when read."""

from __future__ import annotations

import re
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from attrs import define
from numpy.typing import NDArray

from pipaid.errors import Busy, InvalidParameter, NotFound
from pipaid.model.columns import COLUMNS, Candles
from pipaid.model.instrument import Timeframe
from pipaid.seams import SystemDisk

SUFFIX: Final = ".candles"
LOCK: Final = "candles.lock"
MAGIC: Final = b"pipaidc1"
# The columns begin here, whatever the header says.
HEADER_BYTES: Final = 4_096
WIDTH: Final = 8
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a file holds; `checks` are the CRC-32 of its columns in the order of `COLUMNS`."""

    venue: str
    symbol: str
    timeframe: Timeframe
    rows: int
    price_decimals: int
    volume_decimals: int
    first_ms: int
    last_ms: int
    checks: tuple[int, ...]


@define(frozen=True)
class CandleStore:
    """The candle files of one folder. Whoever writes holds its lock; a reader keeps the file it has mapped."""

    folder: Path

    def names(self) -> list[Header]:
        """Return what there is, in order; raise InvalidParameter for a file that is none of ours or is cut off."""
        return self._headers("")

    def read(self, venue: str, symbol: str, timeframe: Timeframe) -> Candles:
        """Map candles into memory, made of the largest timeframe there is that they can be made of."""
        for smaller in sorted(Timeframe, key=lambda each: -each.ms):
            path = self.path(venue, symbol, smaller)
            if smaller.ms <= timeframe.ms and not timeframe.ms % smaller.ms and path.exists():
                return _mapped(path).larger(timeframe)
        known = sorted({f"{each.symbol} of {each.venue}" for each in self.names()})
        have = f"it holds those of {', '.join(known[:20])}" if known else "there are none yet"
        raise NotFound(
            f"{self.folder} holds no candles of {symbol} of the venue {venue} to make {timeframe} of; {have}; "
            "`pipaid data import FILE` brings some in, `pipaid data download SYMBOL --from DATE` fetches some"
        )

    def finest(self, symbol: str, timeframe: Timeframe, *, venue: str = "") -> Header | None:
        """Return the header of the smallest candles of a symbol of which a timeframe can be made, if there are any.

        Raise InvalidParameter if several venues have some and none is chosen.
        """
        fitting = [
            header
            for header in self._headers(f"{symbol}-")
            if header.symbol == symbol
            and (not venue or header.venue == venue)
            and header.timeframe.ms <= timeframe.ms
            and not timeframe.ms % header.timeframe.ms
        ]
        venues = sorted({header.venue for header in fitting})
        if len(venues) > 1:
            raise InvalidParameter(f"there are candles of {symbol} at {', '.join(venues)}; name one venue (--venue)")
        return min(fitting, key=lambda header: header.timeframe.ms, default=None)

    def held(self, venue: str, symbol: str, timeframe: Timeframe) -> Candles | None:
        """Map the candles of just this timeframe into memory, if there are any."""
        path = self.path(venue, symbol, timeframe)
        return _mapped(path) if path.exists() else None

    def add(self, venue: str, candles: Candles, *, replace: bool = False) -> Header:
        """Join candles to those already there, durably: a crash leaves the old file or the new one.

        Raise Busy while another process writes into the folder.
        """
        path = self.path(venue, candles.symbol, candles.timeframe)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if path.exists():
                candles = _mapped(path).joined(candles, replace=replace)
            return _write(path, venue, candles)

    def verify(self, header: Header) -> None:
        """Raise InvalidParameter if a column is not what was written."""
        path = self.path(header.venue, header.symbol, header.timeframe)
        candles = _mapped(path)
        for name, expected in zip(COLUMNS, header.checks, strict=True):
            if zlib.crc32(getattr(candles, name).tobytes()) != expected:
                raise InvalidParameter(f"{path}: the column {name} is damaged; delete the file and import it again")

    def path(self, venue: str, symbol: str, timeframe: Timeframe) -> Path:
        """Return where candles lie."""
        for what, name in (("venue", venue), ("symbol", symbol)):
            if not _NAME.fullmatch(name):
                raise InvalidParameter(f"{what} {name[:80]!r}: letters, digits, '.', '_' and '-' expected")
        return self.folder / venue / f"{symbol}-{timeframe}{SUFFIX}"

    def _headers(self, begin: str) -> list[Header]:
        # What is wrong with other files is no concern of those who ask for some.
        found = sorted(self.folder.glob(f"*/*{SUFFIX}"))
        return [_header(path) for path in found if path.name.startswith(begin)]

    @contextmanager
    def _locked(self) -> Generator[None]:
        try:
            held = SystemDisk().hold(self.folder / LOCK)
        except BlockingIOError:
            raise Busy(f"another process is writing candles into {self.folder}; wait for it, then try again") from None
        try:
            yield
        finally:
            held.release()


def _header(path: Path) -> Header:
    return _header_of(path, _whole(path))


def _whole(path: Path) -> NDArray[np.uint8]:
    """Map a file into memory once, so that all that is read is of one file even while another takes its place."""
    try:
        return np.memmap(path, dtype=np.uint8, mode="r")
    except OSError as trouble:
        raise InvalidParameter(f"{path}: it cannot be read: {trouble.strerror}") from None
    except ValueError:  # It is empty.
        return np.zeros(0, dtype=np.uint8)


def _header_of(path: Path, whole: NDArray[np.uint8]) -> Header:
    size, head = len(whole), whole[:HEADER_BYTES].tobytes()
    if not head.startswith(MAGIC):
        raise InvalidParameter(f"{path}: not a candle file of pipaid")
    try:
        header = msgspec.json.decode(head[len(MAGIC) :].rstrip(b"\0"), type=Header)
    except msgspec.MsgspecError as trouble:
        raise InvalidParameter(f"{path}: its header cannot be read: {trouble}") from None
    expected = HEADER_BYTES + header.rows * WIDTH * len(COLUMNS)
    if size != expected or header.rows < 1:
        raise InvalidParameter(f"{path}: {size} bytes instead of {expected}; delete the file and import it again")
    return header


def _mapped(path: Path) -> Candles:
    whole = _whole(path)
    header = _header_of(path, whole)
    table = whole[HEADER_BYTES:].view("<i8").reshape(len(COLUMNS), header.rows)
    return Candles.of(
        header.symbol,
        header.timeframe,
        [np.asarray(column) for column in table],
        price_decimals=header.price_decimals,
        volume_decimals=header.volume_decimals,
    )


def _write(path: Path, venue: str, candles: Candles) -> Header:
    columns = [np.ascontiguousarray(getattr(candles, name), dtype="<i8").view(np.uint8).data for name in COLUMNS]
    header = Header(
        venue=venue,
        symbol=candles.symbol,
        timeframe=candles.timeframe,
        rows=len(candles),
        price_decimals=candles.price_decimals,
        volume_decimals=candles.volume_decimals,
        first_ms=int(candles.time_ms[0]),
        last_ms=int(candles.time_ms[-1]),
        checks=tuple(map(zlib.crc32, columns)),
    )
    head = (MAGIC + msgspec.json.encode(header)).ljust(HEADER_BYTES, b"\0")
    try:
        SystemDisk().write_atomically(path, b"".join((head, *columns)), mode=0o644)
    except OSError as trouble:
        raise InvalidParameter(
            f"{path} cannot be written: {trouble.strerror}; what was there before still is"
        ) from None
    return header
