"""Recorded data in CSV files, gzipped or not: found by pattern, told apart by header, checked row by row."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from pipaid.errors import InvalidParameter, NotFound
from pipaid.model.moment import parse_iso
from pipaid.seams import Disk

Kind = Literal["candles", "trades", "funding"]

FILE_BYTES_MAX: Final = 1_073_741_824
FAULTS_SHOWN_MAX: Final = 10
SYMBOL_IN_NAME: Final = r"(?P<symbol>[A-Z0-9]+)"
HOW_TO_GET: Final = (
    "candles are CSV or CSV.gz files of one symbol each, named SYMBOL-1m-anything.csv.gz, with the header "
    "open_time_ms,open,high,low,close,volume; venues publish theirs as files by symbol and month"
)
# Files the venue publishes carry these columns, and most of them no header.
_PUBLISHED: Final = ("open_time_ms", "open", "high", "low", "close", "volume")
_PUBLISHED_COLUMNS: Final = 12
# In this order, after the time at which the candle closes; under the names that venue and collectors have for them.
_MORE: Final = (
    ("quote_volume", "quote_asset_volume"),
    ("trades", "count", "number_of_trades"),
    ("taker_buy_base", "taker_buy_volume", "taker_buy_base_volume", "taker_buy_base_asset_volume"),
    ("taker_buy_quote", "taker_buy_quote_volume", "taker_buy_quote_asset_volume"),
)
CANDLE: Final = ("open", "high", "low", "close", "volume")
TIMES: Final = ("open_time_ms", "time_ms", "funding_time_ms", "open_time", "time")
# The first is how the venue publishes them, as a file a month.
_FUNDING_TIMES: Final = ("calc_time", *TIMES)
_RATES: Final = ("last_funding_rate", "funding_rate", "rate")
# Milliseconds reach this number in the year 5138, so that a larger one counts microseconds.
_MICROSECONDS_MIN: Final = 10**14


class Row(msgspec.Struct, frozen=True, gc=False):
    """The fields of one row that matter, as text, behind its number in the file and its time in milliseconds.

    `more` is what else the file says of a candle: quote volume, number of trades, and what takers bought.
    """

    number: int
    time_ms: int
    fields: tuple[str, ...]
    more: tuple[str, ...] = ()


@frozen
class Recording:
    """One file: whose it is, what it holds, and its rows in the order of the file."""

    path: Path
    symbol: str
    kind: Kind
    columns: tuple[int, ...]
    lines: Sequence[str]
    first_line: int
    more: tuple[int, ...] = ()

    def rows(self) -> Iterator[Row]:
        """Yield the rows; raise InvalidParameter naming file and row for those that cannot be read."""
        faults: list[str] = []
        width = max(self.columns) + 1
        time_column, *others = self.columns
        for number, line in enumerate(self.lines, self.first_line):
            cells = line.split(",")
            try:
                row = Row(
                    number,
                    _time_ms(cells[time_column]),
                    tuple(cells[column] for column in others),
                    tuple(cells[column] for column in self.more if column < len(cells)),
                )
            except (ValueError, IndexError):
                faults.append(
                    f"row {number}: {width} columns with a time in milliseconds or ISO 8601 expected, got {line[:80]!r}"
                )
                if len(faults) >= FAULTS_SHOWN_MAX:
                    break
                continue
            yield row
        refuse(self.path, faults)


def numbers(opened: Recording) -> NDArray[np.float64]:
    """Return the time in milliseconds and the fields of every row as columns of numbers, fast.

    Raise InvalidParameter naming file and rows for what is no number.
    """
    try:
        table = np.loadtxt(
            opened.lines, delimiter=",", usecols=opened.columns, dtype=np.float64, ndmin=2, comments=None
        )
    except (ValueError, IndexError):
        table = _one_by_one(opened)
    if len(table) != len(opened.lines):
        # It leaves out empty lines without a word.
        table = _one_by_one(opened)
    late = table[:, 0] >= _MICROSECONDS_MIN
    table[late, 0] = table[late, 0] // 1000
    return table


def _one_by_one(opened: Recording) -> NDArray[np.float64]:
    """Read row by row, to name each that cannot be read."""
    faults: list[str] = []
    rows: list[tuple[float, ...]] = []
    for row in opened.rows():
        try:
            rows.append((float(row.time_ms), *(float(decimal(field)) for field in row.fields)))
        except ValueError as trouble:
            faults.append(f"row {row.number}: {trouble}")
            if len(faults) >= FAULTS_SHOWN_MAX:
                break
    refuse(opened.path, faults)
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(opened.columns))


def found(disk: Disk, patterns: Sequence[str]) -> list[Path]:
    """Return the files that the patterns match, each once, in order; a pattern that matches nothing is refused."""
    paths: dict[Path, None] = {}
    for pattern in patterns:
        matches = disk.find(pattern)
        if not matches:
            folder = _fixed_folder(pattern)
            where = f"{folder} holds no such file" if disk.exists(folder) else f"{folder} does not exist"
            raise InvalidParameter(
                f"no file matches {pattern}: {where}; {HOW_TO_GET}",
                details=(("files", f"no file matches {pattern}: {where}"),),
            )
        paths.update(dict.fromkeys(matches))
    return list(paths)


def recording(disk: Disk, path: Path, symbol_in_name: str = SYMBOL_IN_NAME) -> Recording:
    """Open a file and tell by its name and header what it holds."""
    lines = _text(disk, path).splitlines()
    match = re.match(symbol_in_name, path.name)
    if match is None:
        raise InvalidParameter(f"{path}: no symbol in the name; BTCUSDT-1m-2025.csv has one")
    if not lines:
        raise InvalidParameter(f"{path}: the file is empty")
    header = tuple(cell.strip().lower() for cell in lines[0].split(","))
    skipped = 1
    if len(header) == _PUBLISHED_COLUMNS and header[0].isdigit():
        header, skipped = (*_PUBLISHED, "close_time", *(names[0] for names in _MORE)), 0
    kind, columns = _layout(path, header)
    while lines and not lines[-1]:
        lines.pop()
    more = _more(header) if kind == "candles" else ()
    return Recording(path, match["symbol"], kind, columns, lines[skipped:], skipped + 1, more)


def refuse(path: Path, faults: Sequence[str]) -> None:
    """Raise InvalidParameter for the faults found in a file, if any, naming each."""
    if faults:
        raise InvalidParameter(
            f"{path}: {'; '.join(faults)}", details=tuple((path.name, fault) for fault in faults[:FAULTS_SHOWN_MAX])
        )


def decimal(text: str) -> Decimal:
    """Return a finite decimal, or raise ValueError."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text[:40]!r} is no number") from None
    if not value.is_finite():
        raise ValueError(f"{text[:40]!r} is no number")
    return value


def table(disk: Disk, path: Path) -> list[Mapping[str, str]]:
    """Read a whole CSV file as rows by column name; missing cells are empty."""
    lines = _text(disk, path).splitlines()
    if not lines:
        raise InvalidParameter(f"{path}: the file is empty")
    header = [cell.strip().lower() for cell in lines[0].split(",")]
    return [dict(zip(header, [*line.split(","), *[""] * len(header)], strict=False)) for line in lines[1:] if line]


def _fixed_folder(pattern: str) -> Path:
    """Return the folder that a pattern names before its first wildcard."""
    parts = Path(pattern).parts
    fixed = next((index for index, part in enumerate(parts) if set(part) & set("*?[")), len(parts) - 1)
    return Path(*parts[:fixed])


def _layout(path: Path, header: tuple[str, ...]) -> tuple[Kind, tuple[int, ...]]:
    time = next((name for name in _FUNDING_TIMES if name in header), None)
    rate = next((name for name in _RATES if name in header), None)
    quantity = next((name for name in ("size", "quantity", "qty") if name in header), None)
    if time is not None:
        place: Callable[[str], int] = header.index
        if all(name in header for name in CANDLE):
            return "candles", (place(time), *map(place, CANDLE))
        if rate is not None:
            return "funding", (place(time), place(rate))
        if "price" in header and quantity is not None:
            maker = (place("is_buyer_maker"),) if "is_buyer_maker" in header else ()
            return "trades", (place(time), place("price"), place(quantity), *maker)
    raise InvalidParameter(
        f"{path}: the header {','.join(header)[:120]!r} is neither that of candles ({','.join(_PUBLISHED)}), nor of "
        "market trades (time_ms,price,size,is_buyer_maker), nor of funding (funding_time_ms,funding_rate or time,rate)"
    )


def _more(header: tuple[str, ...]) -> tuple[int, ...]:
    """Return where the file says the rest of a candle, if it says all of it."""
    found = [next((header.index(name) for name in names if name in header), -1) for names in _MORE]
    return () if -1 in found else tuple(found)


def _text(disk: Disk, path: Path) -> str:
    try:
        data = disk.read(path)
    except FileNotFoundError:
        raise NotFound(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise InvalidParameter(f"{path}: this is a folder; name the files in it") from None
    if path.suffix == ".zip":
        data = _unzipped(path, data)
    elif path.suffix == ".gz":
        inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            data = inflater.decompress(data, FILE_BYTES_MAX + 1)
        except zlib.error as trouble:
            raise InvalidParameter(f"{path}: not a gzip file, or a damaged one: {trouble}") from None
        if not inflater.eof and len(data) <= FILE_BYTES_MAX:
            raise InvalidParameter(f"{path}: the gzip file is cut off")
    if len(data) > FILE_BYTES_MAX:
        raise InvalidParameter(f"{path}: more than {FILE_BYTES_MAX} bytes; cut it into files of a month each")
    try:
        return data.decode()
    except UnicodeDecodeError as trouble:
        raise InvalidParameter(f"{path}: not UTF-8 text: {trouble}") from None


def _unzipped(path: Path, data: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) != 1:
                raise InvalidParameter(f"{path}: a zip file of one CSV file expected, it holds {len(members)}")
            with archive.open(members[0]) as member:
                return member.read(FILE_BYTES_MAX + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as trouble:
        raise InvalidParameter(f"{path}: not a zip file, or a damaged one: {trouble}") from None


def _time_ms(text: str) -> int:
    try:
        time = int(text)
    except ValueError:
        return parse_iso(text.strip())
    return time // 1000 if time >= _MICROSECONDS_MIN else time
