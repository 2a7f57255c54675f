"""What a program reads where a person would see a table: a row a line, nothing folded, and nothing to fill it up."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from typer.main import get_command

from pipaid.cli.drawing import drawn
from pipaid.cli.main import application
from pipaid.cli.sheet import Column, Kind, listing
from pipaid.cli.terminal import Terminal

COLUMNS = (
    Column("NAME", lambda each: each[0]),
    Column("WHY", lambda each: each[1], Kind.PROSE),
    Column("COUNT", lambda each: each[2], Kind.NUMBER),
)


def shown(*rows: tuple[str, str, str]) -> list[str]:
    out = io.StringIO()
    terminal = Terminal({}, out, io.StringIO(), Path("control.sock"))
    terminal.show(drawn([listing("", rows, COLUMNS)]))
    return out.getvalue().splitlines()


def test_what_may_be_long_stands_last_and_pads_nobody() -> None:
    lines = shown(("first", "because of " + "much " * 60, "7"), ("second", "it was so", "12"))

    assert lines[0] == "NAME    COUNT  WHY"
    assert set(lines[1]) == {"─"}
    assert len(lines[1]) == len(lines[0])
    assert lines[2].startswith("first       7  because of much much")
    assert lines[3] == "second     12  it was so"


def test_a_row_that_says_little_is_a_short_line() -> None:
    lines = shown(("a" * 40, "", "1"), ("b", "–", "2"))

    assert [line for line in lines if line != line.rstrip()] == []


def test_every_group_of_verbs_says_what_it_is_for() -> None:
    command: Any = get_command(application())

    assert [name for name, each in command.commands.items() if not (each.help or "").strip()] == []
