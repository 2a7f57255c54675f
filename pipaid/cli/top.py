"""The live view: one screen with the daemon's state, its strategies and their last events."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

from attrs import frozen
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from pipaid.cli.drawing import STATUS_STYLES, sign_style, table
from pipaid.cli.exits import Exit
from pipaid.cli.sheet import NOTHING, Column, Kind, Sheet, listing, mode, moment, percent, printable
from pipaid.cli.tail import EventFrame, in_words
from pipaid.cli.terminal import NotReachable, Terminal, leaving_cleanly
from pipaid.cli.watching import View, Watch
from pipaid.model.reply import StrategyObject
from pipaid.model.report import DaemonStatus
from pipaid.seams import SystemClock

COLUMNS_MIN: Final = 40
ROWS_MIN: Final = 4
BETWEEN_LOOKS_S: Final = 0.5
EVENT_ROWS_MIN: Final = 4
EVENT_ROWS_MAX: Final = 12
HOW_TO_SEE_ALL: Final = "; `pipaid list --all` shows them"
WIDTH_WITH_WON: Final = 48
WIDTH_WITH_EVENTS: Final = 64
WIDTH_WITH_SYMBOLS: Final = 100
# Two lines of status, the headings of the strategies with their rule, the count of the rest, the heading of the events.
FIXED_ROWS: Final = 6
NAME_CHARS_MAX: Final = 18
STATUS_ORDER: Final = ("error", "deployed", "paused", "draft", "stopped")


def watch(terminal: Terminal, *, every_s: float, once: bool) -> int:
    """Show the daemon until somebody leaves with Ctrl-C; with `once` a single frame."""
    with Watch(terminal, SystemClock()) as looking:
        if once or not terminal.out.isatty():
            view = looking.look()
            if view.status is None:
                raise NotReachable(view.trouble)
            # A rate takes two looks, and the events that are shown are those in between.
            threading.Event().wait(BETWEEN_LOOKS_S)
            view = looking.look()
            width, height = terminal.console.size
            terminal.show(frame(view, width, height if terminal.out.isatty() else len(view.strategies) + 40))
            return Exit.OK
        terminal.connect().close()
        with leaving_cleanly():
            show_live(terminal, looking, threading.Event(), every_s=every_s)
    return Exit.OK


def show_live(
    terminal: Terminal,
    looking: Watch,
    ended: threading.Event,
    *,
    every_s: float,
    heading: str = "",
    hint: str = HOW_TO_SEE_ALL,
) -> View:
    """Draw the screen anew every so often until it has ended or Ctrl-C is pressed; return the last view."""
    view = looking.look()
    with Live(console=terminal.console, screen=True, auto_refresh=False, transient=True) as live:
        try:
            while True:
                live.update(frame(view, *terminal.console.size, heading=heading, hint=hint), refresh=True)
                if ended.wait(every_s):
                    return view
                view = looking.look()
        except KeyboardInterrupt:
            return view


def frame(view: View, width: int, height: int, *, heading: str = "", hint: str = HOW_TO_SEE_ALL) -> RenderableType:
    """Return the whole screen; what does not fit is left out, and counted. The `hint` says where to see the rest."""
    width, height = max(width, COLUMNS_MIN), max(height, ROWS_MIN)
    strategies = ordered(view.strategies)
    room = _room(len(strategies), height, headed=bool(heading))
    shown = strategies[: room.strategies]
    parts: list[RenderableType] = [Text(heading, style="bold cyan")] if heading and room.heads else []
    heads = status_lines(view)[: 2 if room.heads else 1]
    parts.extend(Text(no_wrap=True, overflow="ellipsis").append_text(line) for line in heads)
    sheet = strategy_sheet(view, shown, width)
    parts.append(table(sheet, range(len(sheet.headings)), width))
    if len(shown) < len(strategies) and room.heads:
        more = f"… and {len(strategies) - len(shown)} more{hint}"
        parts.append(Text(more, style="dim", no_wrap=True, overflow="ellipsis"))
    if room.events:
        parts.append(Text("last events", style="bold"))
        parts.extend(_event_lines(view, room.events))
    return Group(*parts)


@frozen
class _Room:
    """How a screen is shared: rows of strategies, rows of events, and whether all lines above them are shown."""

    strategies: int
    events: int
    heads: bool = True


def _room(count: int, height: int, *, headed: bool) -> _Room:
    free = height - FIXED_ROWS - headed
    if free < 2:
        # The first line of the status, the headings with their rule, and what is left for strategies: one at least.
        return _Room(height - 3, 0, heads=False)
    events = min(max(free - count, EVENT_ROWS_MIN, free // 3), EVENT_ROWS_MAX, free - 1)
    rows = free - events
    if count > rows == 1:
        # The count of the rest takes a row of its own.
        events -= 1
    return _Room(rows if count <= rows else max(rows - 1, 1), events)


def _event_lines(view: View, count: int) -> list[Text]:
    names = {strategy.id: strategy.name for strategy in view.strategies}
    lines = [event_row(event, names.get(event.id, event.id)) for event in view.events[-count:]]
    if not lines:
        return [Text("none since this view was opened", style="dim", no_wrap=True, overflow="ellipsis")]
    return [Text(line, no_wrap=True, overflow="ellipsis") for line in reversed(lines)]


def ordered(strategies: Iterable[StrategyObject]) -> list[StrategyObject]:
    """Return strategies as they are worth looking at: the failed ones, then the deployed ones, by name."""
    return sorted(strategies, key=lambda each: (STATUS_ORDER.index(each.status), each.name, each.id))


def status_lines(view: View) -> list[Text]:
    """Return the two lines above everything else."""
    status = view.status
    if status is None:
        return [Text("no daemon", style="bold red"), Text(view.trouble, style="red")]
    first = Text(f"pipaid {status.version} ", style="bold")
    first.append(status.state, style=STATUS_STYLES.get(status.state, "yellow"))
    first.append(f"  {market_in_words(status)}", style="default")
    if status.kill_switch.is_active:
        first.append(f"  KILL SWITCH: {printable(status.kill_switch.reason or '')}", style="bold red")
    for reason in status.degraded:
        first.append(f"  {printable(reason)}", style="bold yellow")
    second = Text()
    for name, count in sorted(status.strategies.items(), key=lambda each: STATUS_ORDER.index(each[0])):
        second.append(f"{count} {name}  ", style=STATUS_STYLES.get(name, ""))
    second.append(f"{status.open_positions} positions  {status.working_orders} orders  pnl ")
    second.append(status.total_pnl, style=sign_style(status.total_pnl))
    rate = NOTHING if view.commits_per_s is None else f"{view.commits_per_s:.0f}"
    second.append(f"  {rate} commits/s", style="dim")
    return [first, second]


def market_in_words(status: DaemonStatus) -> str:
    """Return the market, its time and its speed."""
    speed = status.market.speed
    pace = "ended" if status.market.ended else (f"speed {speed}" if speed == "max" else f"{float(speed):g}×")
    return f"{status.market.name} {moment(status.venue_time)}  {pace}"


def strategy_sheet(view: View, strategies: list[StrategyObject], width: int) -> Sheet:
    """Return the table of strategies; which columns it has is for the width alone to say, so no look changes them."""
    columns = [
        Column("STRATEGY", lambda each: each.name[:NAME_CHARS_MAX], Kind.LABEL, least=8),
        Column("STATE", lambda each: each.status, Kind.STATUS, least=8),
        Column("OPEN", lambda each: each.stats.open_positions, Kind.NUMBER),
        Column("PNL", lambda each: each.stats.total_pnl, Kind.SIGNED, least=8),
    ]
    if width >= WIDTH_WITH_WON:
        columns.append(Column("WON", lambda each: percent(each.stats.win_rate), Kind.NUMBER, least=4))
    if width >= WIDTH_WITH_EVENTS:
        columns.insert(4, Column("TRADES", lambda each: each.stats.total_trades, Kind.NUMBER))
        columns.append(Column("LAST EVENT", lambda each: _last_event(view, each), Kind.LABEL, least=10))
    if width >= WIDTH_WITH_SYMBOLS:
        columns.insert(2, Column("MODE", lambda each: mode(each.dry_run), Kind.FAINT, least=7))
        columns.insert(3, Column("SYMBOLS", lambda each: each.symbols, Kind.LABEL))
    return listing("", strategies, columns, keep_all=True)


def _last_event(view: View, strategy: StrategyObject) -> str:
    if strategy.error is not None:
        return f"{strategy.error.code}: {strategy.error.message}"
    event = view.last_events.get(strategy.id)
    return "" if event is None else f"{event.event} {in_words(event)}"


def event_row(event: EventFrame, name: str) -> str:
    """Return an event as one row: the time of the day, whose it is, what happened."""
    whose = printable(name)[:NAME_CHARS_MAX]
    return f"{event.ts[11:19]} {whose:<{NAME_CHARS_MAX}} {event.event:<15} {in_words(event)}"


def progress_line(view: View) -> str:
    """Return one look as one line, for output that no terminal shows."""
    if view.status is None:
        return f"no daemon: {printable(view.trouble)}"
    counts = " ".join(line.plain.strip() for line in status_lines(view)[1:])
    return f"{moment(view.status.venue_time)}  {counts}" + (
        f"  last: {view.name_of(view.events[-1].id)} {view.events[-1].event} {in_words(view.events[-1])}"
        if view.events
        else ""
    )
