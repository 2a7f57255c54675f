"""Sheets as rich draws them: aligned, coloured where colours help, and never wider than they must be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipaid.cli.sheet import NOTHING, Heading, Kind, Sheet

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
            parts.append(table(sheet))
        if sheet.note:
            parts.append(Text(sheet.note, style="dim"))
    return Group(*parts)


def table(sheet: Sheet, *, fold: bool = True) -> Table:
    """Return a sheet as a table; where nothing may fold, the last column is cut to what room is left."""
    made = Table(
        box=SIMPLE_HEAD if sheet.headed else None,
        show_header=sheet.headed,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1),
    )
    for index, heading in enumerate(sheet.headings):
        numeric = heading.kind in (Kind.NUMBER, Kind.SIGNED)
        made.add_column(
            heading.title,
            justify="right" if numeric else "left",
            no_wrap=numeric or not fold,
            overflow="fold" if fold else "ellipsis",
            min_width=None if fold or heading is sheet.headings[-1] else _width(sheet, index),
            header_style="bold",
        )
    for row in sheet.rows:
        made.add_row(*(styled(text, heading) for text, heading in zip(row, sheet.headings, strict=True)))
    return made


def _width(sheet: Sheet, index: int) -> int:
    return max(cell_len(text) for text in (sheet.headings[index].title, *(row[index] for row in sheet.rows)))


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
