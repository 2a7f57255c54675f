"""Sheets as rich draws them: aligned, coloured where colours help, and never wider than they must be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from attrs import frozen
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from pipaid.cli.sheet import NOTHING, UNFOLDED_COLUMNS, Heading, Kind, Sheet

GAP: Final = 2
# What may shrink, and the width at which other columns go before it shrinks further.
SHRINKING: Final[Mapping[Kind, int]] = {Kind.LABEL: 18, Kind.PROSE: 24}
SHRUNK: Final = 4
STATUS_STYLES: Final = {
    "deployed": "green",
    "running": "green",
    "healthy": "green",
    "active": "green",
    "filled": "green",
    "completed": "green",
    "created": "green",
    "passed": "green",
    "ok": "green",
    "good": "green",
    "bad": "bold red",
    "paused": "yellow",
    "changed": "yellow",
    "skipped": "yellow",
    "restarting": "yellow",
    "degraded": "yellow",
    "warning": "yellow",
    "working": "cyan",
    "open": "cyan",
    "error": "bold red",
    "refused": "bold red",
    "rejected": "bold red",
    "failed": "bold red",
    "draft": "dim",
    "stopped": "dim",
    "closed": "dim",
    "cancelled": "dim",
    "expired": "dim",
    "revoked": "dim",
    "unchanged": "dim",
    "off": "dim",
}


def drawn(sheets: Iterable[Sheet]) -> RenderableType:
    """Return sheets one below the other."""
    parts: list[RenderableType] = []
    for sheet in sheets:
        if sheet.title:
            parts.append(Text(f"\n{sheet.title}", style="bold"))
        if sheet.rows:
            parts.append(Fitted(sheet))
        if sheet.note:
            parts.append(Text(sheet.note, style="dim"))
    return Group(*parts)


@frozen
class Fitted:
    """A sheet that takes the width it finds, and tells which columns had no room in it."""

    sheet: Sheet

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if options.max_width >= UNFOLDED_COLUMNS:
            yield from (Text(line, no_wrap=True) for line in unfolded(self.sheet))
            return
        kept = kept_columns(self.sheet, options.max_width)
        yield table(self.sheet, kept, options.max_width)
        left_out = [heading.title for index, heading in enumerate(self.sheet.headings) if index not in kept]
        if left_out:
            yield Text(f"no room for {', '.join(left_out)}", style="dim", no_wrap=True, overflow="ellipsis")


def unfolded(sheet: Sheet) -> Iterator[str]:
    """Yield a sheet as the lines that programs get: a row a line, prose last, and no line longer than what it says."""
    order = sorted(range(len(sheet.headings)), key=lambda index: sheet.headings[index].kind is Kind.PROSE)
    widths = [_wanted(sheet, index) for index in order]
    if sheet.headings[order[-1]].kind is Kind.PROSE:
        widths[-1] = cell_len(sheet.headings[order[-1]].title)
    if sheet.headed:
        yield _line([sheet.headings[index].title for index in order], order, widths, sheet)
        yield "─" * (sum(widths) + GAP * (len(widths) - 1))
    for row in sheet.rows:
        yield _line([row[index] for index in order], order, widths, sheet)


def _line(cells: Sequence[str], order: Sequence[int], widths: Sequence[int], sheet: Sheet) -> str:
    parts: list[str] = []
    for text, index, width in zip(cells, order, widths, strict=True):
        blank = " " * max(0, width - cell_len(text))
        numeric = sheet.headings[index].kind in (Kind.NUMBER, Kind.SIGNED)
        parts.append(blank + text if numeric else text + blank)
    return (" " * GAP).join(parts).rstrip()


def kept_columns(sheet: Sheet, width: int) -> list[int]:
    """Return which columns have room in a width; a column that stays is never too narrow to be read."""
    kept = list(range(len(sheet.headings)))
    least = [_least(sheet, index) for index in kept]
    while sum(least[index] + GAP for index in kept) - GAP > width:
        # The last one of those with the highest rank; those that have to stay have rank 0.
        rank, going = max((sheet.headings[index].rank, index) for index in kept)
        if not rank:
            break
        kept.remove(going)
    return kept


def table(sheet: Sheet, kept: Sequence[int], width: int) -> Table:
    """Return some columns of a sheet as a table of at most a width, if what may shrink shrinks enough for it."""
    made = Table(
        box=SIMPLE_HEAD if sheet.headed else None,
        show_header=sheet.headed,
        show_edge=False,
        pad_edge=False,
        # Between columns the rule of the heading has a blank of its own.
        padding=(0, GAP - 1 if sheet.headed else GAP, 0, 0),
    )
    for index, chosen in zip(kept, _widths(sheet, kept, width), strict=True):
        heading = sheet.headings[index]
        prose = heading.kind is Kind.PROSE
        made.add_column(
            Text(heading.title, no_wrap=True, overflow="ellipsis"),
            justify="right" if heading.kind in (Kind.NUMBER, Kind.SIGNED) else "left",
            no_wrap=not prose,
            overflow="fold" if prose else "ellipsis",
            width=chosen,
            header_style="bold",
        )
    for row in sheet.rows:
        made.add_row(*(styled(row[index], sheet.headings[index]) for index in kept))
    return made


def _widths(sheet: Sheet, kept: Sequence[int], width: int) -> list[int]:
    """Return the width of each column: all it wants, or for what may shrink what is left, from left to right."""
    widths = [_least(sheet, index) for index in kept]
    free = width - sum(widths) - GAP * (len(kept) - 1)
    for place, index in enumerate(kept):
        more = min(max(free, 0), _wanted(sheet, index) - widths[place])
        # On a screen that is too narrow even so, labels and prose give up what they can.
        less = min(max(-free, 0), widths[place] - SHRUNK) if sheet.headings[index].kind in SHRINKING else 0
        widths[place] += more - max(less, 0)
        free += max(less, 0) - more
    return widths


def _wanted(sheet: Sheet, index: int) -> int:
    heading = sheet.headings[index]
    title = cell_len(heading.title) if sheet.headed else 0
    return max(title, heading.least, *(cell_len(row[index]) for row in sheet.rows), 1)


def _least(sheet: Sheet, index: int) -> int:
    """Return the width below which a column is left out rather than shrunk."""
    heading, wanted = sheet.headings[index], _wanted(sheet, index)
    if heading.kind not in SHRINKING:
        return wanted
    title = cell_len(heading.title) if sheet.headed else 0
    return min(wanted, max(title, heading.least or SHRINKING[heading.kind]))


def styled(text: str, heading: Heading) -> Text:
    """Return the text of a cell in the style of its kind."""
    if text == NOTHING or heading.kind is Kind.FAINT:
        return Text(text, style="dim")
    if heading.kind is Kind.STATUS:
        return Text(text, style=STATUS_STYLES.get(text, ""))
    if heading.kind is Kind.SIGNED:
        return Text(text, style=sign_style(text))
    return Text(text)


def sign_style(text: str) -> str:
    """Return green for a gain, red for a loss, and neither for nothing."""
    if not text.strip("-0. "):
        return ""
    return "red" if text.startswith("-") else "green"
