"""The fetching of candles from a venue, as a person sees it: what was typed, how far it is, what came of it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio
from attrs import define, field, frozen
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from pipaid.cli.exits import Exit
from pipaid.cli.sheet import printable
from pipaid.cli.terminal import Terminal
from pipaid.errors import InvalidParameter, NotFound, PipaidError, RateLimited, UnknownSymbol
from pipaid.model.instrument import Timeframe
from pipaid.model.moment import iso_seconds, parse_iso
from pipaid.seams import Clock, Disk, SystemClock, SystemDisk, SystemRandom
from pipaid.storage.candles import CandleStore
from pipaid.venues.binance_rest import PRODUCTS, BinanceRest, LeftAlone
from pipaid.venues.downloading import Download, Span, closed_span, missing
from pipaid.wire.http import checked_base, web

GAPS_SHOWN_MAX: Final = 20
# Until when each address is left alone, in milliseconds.
BANS: Final = "left-alone.json"
# Where no bar moves, a line comes so often.
LINE_S: Final = 10.0


@frozen(kw_only=True)
class Wanted:
    """What was typed, checked."""

    venue: str
    base: str
    symbols: tuple[str, ...]
    timeframe: Timeframe
    start_ms: int
    # Nothing for up to now.
    end_ms: int | None
    replace: bool
    store: CandleStore


class Gap(msgspec.Struct, frozen=True):
    """Candles that the venue does not have: up to or from which moment, and how many."""

    time_ms: int
    kind: str
    what: str


class Downloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one symbol from a moment on and before another; `clipped` if not all of that was closed yet."""

    venue: str
    symbol: str
    timeframe: Timeframe
    from_ms: int
    to_ms: int
    clipped: bool
    fetched: int
    rows: int
    gaps: tuple[Gap, ...]


def wanted(
    store: CandleStore, symbols: Sequence[str], *, venue: str, base: str, timeframe: str, since: str, until: str,
    replace: bool,
) -> Wanted:  # fmt: skip
    """Return what was typed; raise InvalidParameter for what makes no sense."""
    if venue not in PRODUCTS:
        raise InvalidParameter(f"venue {venue!r}: one of {', '.join(PRODUCTS)} expected")
    if timeframe not in list(Timeframe):
        raise InvalidParameter(f"timeframe {timeframe!r}: one of {', '.join(Timeframe)} expected")
    start_ms, end_ms = _moment("--from", since), _moment("--to", until) if until else None
    if end_ms is not None and start_ms >= end_ms:
        raise InvalidParameter(f"--from {since} is not before --to {until}")
    names = tuple(dict.fromkeys(each.upper() for each in symbols))
    for name in names:
        store.path(venue, name, Timeframe(timeframe))
    return Wanted(
        venue=venue,
        base=checked_base(base or PRODUCTS[venue].base),
        symbols=names,
        timeframe=Timeframe(timeframe),
        start_ms=start_ms,
        end_ms=end_ms,
        replace=replace,
        store=store,
    )


def fetch(terminal: Terminal, asked: Wanted) -> int:
    """Fetch what is wanted, symbol by symbol, and say what came of each."""
    try:
        return trio.run(partial(_fetch, terminal, asked), restrict_keyboard_interrupt_to_checkpoints=True)
    except BaseExceptionGroup as several:
        # An interruption that met a connection being made comes wrapped.
        if several.subgroup(KeyboardInterrupt) is None:
            raise
        raise _interrupted(terminal) from None
    except KeyboardInterrupt:
        raise _interrupted(terminal) from None


async def _fetch(terminal: Terminal, asked: Wanted) -> int:
    """Fetch, unless the venue wants to be left alone; that outlives this process, so it stands beside the candles."""
    clock, disk, bans = SystemClock(), SystemDisk(), asked.store.folder / BANS
    until_ms = _bans(disk, bans).get(asked.base, 0)
    if clock.now_us() // 1000 < until_ms:
        raise RateLimited(
            f"{asked.base} asked to be left alone until {iso_seconds(until_ms)}, and a question before makes it later; "
            f"if this is not so any more, delete {bans}"
        )
    try:
        return await _fetch_all(terminal, asked, clock)
    except LeftAlone as ban:
        with suppress(OSError):
            bans.parent.mkdir(parents=True, exist_ok=True)
            disk.write_atomically(bans, msgspec.json.encode({**_bans(disk, bans), asked.base: ban.until_ms}))
        raise


def _bans(disk: Disk, path: Path) -> dict[str, int]:
    try:
        return msgspec.json.decode(disk.read(path), type=dict[str, int])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}


async def _fetch_all(terminal: Terminal, asked: Wanted, clock: Clock) -> int:
    refused = 0
    async with web(asked.base) as host:
        with _display(terminal, clock) as display:
            product = PRODUCTS[asked.venue]
            rest = BinanceRest(asked.venue, product, host, clock, SystemRandom(), display.told)
            now_ms = await rest.now_ms()
            end_ms = now_ms if asked.end_ms is None else asked.end_ms
            span, late = closed_span(asked.start_ms, end_ms, asked.timeframe, now_ms=now_ms)
            clipped = late and asked.end_ms is not None
            if clipped:
                end = iso_seconds(span.end_ms)
                display.told(
                    f"the candles that open at {end} and later are not closed yet; those before it are fetched"
                )
            for symbol in asked.symbols:
                try:
                    done = await _fetch_one(asked, symbol, span, rest=rest, display=display, clipped=clipped)
                except (UnknownSymbol, InvalidParameter, NotFound, OSError) as trouble:
                    refused += 1
                    message = trouble.message if isinstance(trouble, PipaidError) else str(trouble)
                    display.told(f"refused: {message}")
                else:
                    display.result(done)
    return Exit.REFUSED if refused else Exit.OK


async def _fetch_one(
    asked: Wanted, symbol: str, span: Span, *, rest: BinanceRest, display: _Display, clipped: bool
) -> Downloaded:
    store, timeframe = asked.store, asked.timeframe
    held = store.held(asked.venue, symbol, timeframe)
    spans = [span] if held is None or asked.replace else missing(held.time_ms, timeframe, span)
    left = sum(each.end_ms - each.start_ms for each in spans) // timeframe.ms
    total = (span.end_ms - span.start_ms) // timeframe.ms
    display.begin(f"{symbol} {timeframe}", done=total - left, total=total)
    download = Download(
        rest,
        symbol,
        timeframe,
        SystemClock(),
        keep=lambda candles: store.add(asked.venue, candles, replace=asked.replace),
        moved=display.moved,
    )
    await download.run(spans)
    rows, gaps = _what_is_missing(asked, symbol, span)
    return Downloaded(
        venue=asked.venue,
        symbol=symbol,
        timeframe=timeframe,
        from_ms=span.start_ms,
        to_ms=span.end_ms,
        clipped=clipped,
        fetched=download.fetched,
        rows=rows,
        gaps=tuple(gaps),
    )


def _what_is_missing(asked: Wanted, symbol: str, span: Span) -> tuple[int, list[Gap]]:
    """Return how many candles there are in all, and what of the span the venue does not have."""
    candles = asked.store.held(asked.venue, symbol, asked.timeframe)
    inside = candles.between(span.start_ms, span.end_ms) if candles is not None else None
    if candles is None or inside is None or not len(inside):
        between = f"from {iso_seconds(span.start_ms)} on and before {iso_seconds(span.end_ms)}"
        raise NotFound(f"{asked.venue} has no candle of {symbol} {asked.timeframe} {between}")
    first_ms, last_ms = int(inside.time_ms[0]), int(inside.time_ms[-1])
    gaps: list[Gap] = []
    if first_ms > span.start_ms:
        gaps.append(Gap(first_ms, "begin", f"the venue has none before {iso_seconds(first_ms)}"))
    gaps += [
        Gap(each.time_ms, each.kind, str(each))
        for each in candles.faults()
        if each.kind == "gap" and first_ms < each.time_ms <= last_ms
    ]
    if last_ms + asked.timeframe.ms < span.end_ms:
        gaps.append(Gap(last_ms, "end", f"the venue has none after {iso_seconds(last_ms)}"))
    return len(candles), gaps


@define
class _Display:
    """A bar on a terminal, otherwise a line now and then, both where errors go."""

    terminal: Terminal
    clock: Clock
    progress: Progress
    _task: TaskID | None = field(default=None, init=False)
    _whose: str = field(default="", init=False)
    _done: int = field(default=0, init=False)
    _total: int = field(default=0, init=False)
    _said_s: float = field(default=0.0, init=False)

    def begin(self, whose: str, *, done: int, total: int) -> None:
        self._whose, self._done, self._total = whose, done, total
        self._said_s = self.clock.monotonic_s()
        if self._task is not None:
            self.progress.remove_task(self._task)
        self._task = self.progress.add_task(whose, total=total, completed=done)
        self.progress.start()

    def moved(self, count: int) -> None:
        self._done += count
        now_s = self.clock.monotonic_s()
        if self._task is not None:
            self.progress.update(self._task, completed=self._done)
        if self.progress.disable and now_s - self._said_s >= LINE_S:
            self._said_s = now_s
            self.terminal.warn(f"{self._whose}: {self._done} of {self._total} candles")

    def told(self, text: str) -> None:
        # Some of it are words of the venue, or of whoever answered instead.
        if self.progress.disable:
            self.terminal.warn(printable(text))
        else:
            self.progress.console.print(printable(text))

    def result(self, done: Downloaded) -> None:
        # The bar goes, and a line of its own remains.
        self.progress.stop()
        if self.terminal.as_json:
            self.terminal.say_json(msgspec.json.encode(done))
            return
        whose = f"{done.symbol} {done.timeframe}"
        self.terminal.say(f"{whose}: {done.fetched} candles fetched, {done.rows} in all")
        for gap in done.gaps[:GAPS_SHOWN_MAX]:
            self.terminal.say(f"  {gap.what}")
        if len(done.gaps) > GAPS_SHOWN_MAX:
            more = len(done.gaps) - GAPS_SHOWN_MAX
            self.terminal.say(f"  and {more} more; `pipaid data check {done.symbol}` names them all")


@contextmanager
def _display(terminal: Terminal, clock: Clock) -> Generator[_Display]:
    console = Console(file=terminal.err, markup=False, emoji=False, highlight=False, no_color=terminal.plain or None)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield _Display(terminal, clock, progress)


def _moment(option: str, text: str) -> int:
    try:
        at_ms = parse_iso(text)
    except ValueError:
        at_ms = -1
    if at_ms < 0:
        raise InvalidParameter(f"{option} {text[:40]!r}: a date such as 2025-01-31, or 2025-01-31T12:00:00Z, expected")
    return at_ms


def _interrupted(terminal: Terminal) -> KeyboardInterrupt:
    terminal.warn("interrupted; what was fetched is kept, and the same command goes on from there")
    return KeyboardInterrupt()
