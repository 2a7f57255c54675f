"""The verbs about recorded candles: bring files in, fetch more, show what there is, find what is missing or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pipaid.cli.exits import Exit
from pipaid.cli.terminal import Terminal

if TYPE_CHECKING:
    from pipaid.storage.candles import CandleStore, Header

FOLDER: Final = Path("var") / "candles"
LOCAL: Final = "local"
HERE: Final = Path()
Folder = Annotated[Path, typer.Option("--data", help="the folder of the candles", metavar="DIR")]
Venue = Annotated[str, typer.Option("--venue", help="the venue the candles are of", metavar="NAME")]


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    from pipaid.cli.verbs import add_verb

    data = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Bring recorded candles in and look at them")
    for name, verb in (
        ("import", bring_in),
        ("download", download),
        ("export", export),
        ("list", show),
        ("check", check),
    ):
        add_verb(data, name, verb)
    app.add_typer(data, name="data")


def bring_in(
    terminal: Terminal,
    files: Annotated[
        list[Path], typer.Argument(help="files of candles or market trades: CSV, gzipped or zipped", metavar="FILE...")
    ],
    *,
    venue: Venue = LOCAL,
    symbol: Annotated[
        str, typer.Option("--symbol", help="whose they are (default: as the file's name begins)", metavar="NAME")
    ] = "",
    timeframe: Annotated[
        str, typer.Option("--timeframe", help="their length (default: told by their times)", metavar="1m|5m|…")
    ] = "",
    replace: Annotated[bool, typer.Option("--replace", help="take the new candles where old ones differ")] = False,
    data: Folder = FOLDER,
) -> int:
    """Bring files of candles in, each whole or not at all.

    A file is read, checked and joined with what is there of its symbol; one that cannot be true is refused by row.
    """
    import msgspec
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from pipaid.errors import InvalidParameter, PipaidError
    from pipaid.model.instrument import Timeframe
    from pipaid.seams import SystemDisk
    from pipaid.storage.candles import CandleStore
    from pipaid.venues.importing import read_candles

    if timeframe and timeframe not in list(Timeframe):
        raise InvalidParameter(f"timeframe {timeframe!r}: one of {', '.join(Timeframe)} expected")
    store, disk, refused = CandleStore(data), SystemDisk(), 0
    quiet = len(files) < 2 or terminal.as_json or not terminal.console.is_terminal
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=terminal.console, transient=True, disable=quiet) as progress:
        task = progress.add_task("importing", total=len(files))
        for path in files:
            try:
                candles = read_candles(disk, path, symbol=symbol, timeframe=Timeframe(timeframe) if timeframe else None)
                header = store.add(venue, candles, replace=replace)
            except (PipaidError, OSError) as trouble:
                refused += 1
                told = trouble.message if isinstance(trouble, PipaidError) else str(trouble.strerror)
                told = told if str(path) in told else f"{path}: {told}"
                terminal.warn(f"refused: {told}")
            else:
                if terminal.as_json:
                    terminal.say_json(msgspec.json.encode(header))
                else:
                    whose = f"{header.symbol} {header.timeframe}"
                    terminal.say(f"{path.name}: {len(candles)} candles of {whose}, {header.rows} in all")
            progress.advance(task)
    return Exit.REFUSED if refused else Exit.OK


def download(
    terminal: Terminal,
    symbols: Annotated[list[str], typer.Argument(help="which, such as BTCUSDT", metavar="SYMBOL...")],
    *,
    since: Annotated[str, typer.Option("--from", help="the first that may open, in UTC", metavar="DATE")],
    until: Annotated[str, typer.Option("--to", help="before this they open (default: now)", metavar="DATE")] = "",
    timeframe: Annotated[str, typer.Option("--timeframe", help="their length", metavar="1m|5m|…")] = "1m",
    venue: Annotated[
        str, typer.Option("--venue", help="who is asked, and whose they are", metavar="binance-usdm|binance-spot")
    ] = "binance-usdm",
    base_url: Annotated[
        str, typer.Option("--base-url", help="another address of the venue, or a mirror of it", metavar="URL")
    ] = "",
    replace: Annotated[bool, typer.Option("--replace", help="fetch and take anew what is there already")] = False,
    data: Folder = FOLDER,
) -> int:
    """Fetch candles from a venue, those that are missing here.

    What came is kept as it comes: after an interruption, the same command goes on from there. The venue's own gaps are
    named at the end.
    """
    from pipaid.cli.downloading import fetch, wanted
    from pipaid.storage.candles import CandleStore

    asked = wanted(
        CandleStore(data), symbols, venue=venue, base=base_url, timeframe=timeframe, since=since, until=until,
        replace=replace,
    )  # fmt: skip
    return fetch(terminal, asked)


def export(
    terminal: Terminal,
    symbols: Annotated[list[str] | None, typer.Argument(help="which (default: all)", metavar="SYMBOL...")] = None,
    *,
    venue: Annotated[str, typer.Option("--venue", help="whose candles (default: everybody's)", metavar="NAME")] = "",
    into: Annotated[Path, typer.Option("--into", help="the folder to write to", metavar="DIR")] = HERE,
    data: Folder = FOLDER,
) -> None:
    """Write candles as CSV files, which a replay reads.

    Each is named SYMBOL-TIMEFRAME-VENUE.csv.gz; one that is there already is replaced.
    """
    import gzip

    import msgspec

    from pipaid.seams import SystemDisk
    from pipaid.storage.candles import CandleStore
    from pipaid.venues.exporting import csv_rows

    store, disk = CandleStore(data), SystemDisk()
    into.mkdir(parents=True, exist_ok=True)
    for header in _headers(store, symbols, venue):
        store.verify(header)
        candles = store.read(header.venue, header.symbol, header.timeframe)
        path = into / f"{header.symbol}-{header.timeframe}-{header.venue}.csv.gz"
        text = "".join(f"{row}\n" for row in csv_rows(candles))
        # Without the time of writing, equal candles are equal files.
        disk.write_atomically(path, gzip.compress(text.encode(), mtime=0), mode=0o644)
        if terminal.as_json:
            terminal.say_json(msgspec.json.encode({**msgspec.to_builtins(header), "file": str(path)}))
        else:
            terminal.say(f"{path}: {header.rows} candles")


def show(terminal: Terminal, data: Folder = FOLDER) -> None:
    """Show which candles there are, and from when to when."""
    import msgspec

    from pipaid.cli.drawing import drawn
    from pipaid.cli.sheet import Column, Kind, listing, moment
    from pipaid.model.moment import iso_seconds
    from pipaid.storage.candles import CandleStore

    headers = CandleStore(data).names()
    if terminal.as_json:
        terminal.say_json(msgspec.json.encode(headers))
        return
    if not headers:
        terminal.say(_nothing_in(data))
        return
    columns = (
        Column("VENUE", lambda one: one.venue),
        Column("SYMBOL", lambda one: one.symbol),
        Column("TIMEFRAME", lambda one: one.timeframe),
        Column("CANDLES", lambda one: one.rows, Kind.NUMBER),
        Column("FROM", lambda one: moment(iso_seconds(one.first_ms))),
        Column("TO", lambda one: moment(iso_seconds(one.last_ms))),
    )
    terminal.show(drawn([listing("", headers, columns)]))


def check(
    terminal: Terminal,
    symbols: Annotated[list[str] | None, typer.Argument(help="which (default: all)", metavar="SYMBOL...")] = None,
    data: Folder = FOLDER,
) -> int:
    """Find gaps, duplicates, impossible candles and damaged files, each by its time."""
    import msgspec

    from pipaid.storage.candles import CandleStore

    store = CandleStore(data)
    count = 0
    headers = _headers(store, symbols)
    if not headers and not terminal.as_json:
        terminal.say(_nothing_in(data))
    for header in headers:
        store.verify(header)
        faults = store.read(header.venue, header.symbol, header.timeframe).faults()
        count += len(faults)
        whose = f"{header.venue} {header.symbol} {header.timeframe}"
        if terminal.as_json:
            told = [{"time_ms": each.time_ms, "kind": each.kind, "what": each.what} for each in faults]
            terminal.say_json(msgspec.json.encode({**msgspec.to_builtins(header), "faults": told}))
            continue
        found = f"{len(faults)} fault{'' if len(faults) == 1 else 's'}" if faults else "no fault"
        terminal.say(f"{whose}: {header.rows} candles, {found}")
        for fault in faults:
            terminal.say(f"  {fault}")
    return Exit.REFUSED if count else Exit.OK


def _nothing_in(folder: Path) -> str:
    return f"no candles in {folder}; `pipaid data download` fetches some, `pipaid data import` brings files in"


def _headers(store: CandleStore, symbols: Sequence[str] | None, venue: str = "") -> list[Header]:
    """Return what there is of symbols, or of all; raise NotFound for one that there is nothing of."""
    from pipaid.errors import NotFound

    headers = [
        header for header in store.names() if (not symbols or header.symbol in symbols) and venue in ("", header.venue)
    ]
    missing = ", ".join(sorted(set(symbols or ()) - {header.symbol for header in headers}))
    if missing or (venue and not headers):
        whose = f"{missing or 'any symbol'} at {venue}" if venue else missing
        raise NotFound(f"no candles of {whose} in {store.folder}; `pipaid data list` shows what there is")
    return headers
