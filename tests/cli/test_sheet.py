"""Sheets: money stands under money, nothing said is nothing shown, and no reply is left without a form."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console

from pipaid.cli.drawing import drawn, sign_style
from pipaid.cli.sheet import NOTHING, Column, Kind, aligned, cell, listing, moment, sheets_of
from pipaid.cli.terminal import Terminal
from pipaid.model.operation import OPERATIONS
from pipaid.model.reply import StrategyPage
from pipaid.model.report import ActorObject, ActorTree, Metrics, RefusedTemplate, TemplateList
from tests.cli.answering import strategy

# A stream of events has no reply.
REPLIES = sorted({each.reply for each in OPERATIONS.values() if not each.streaming}, key=lambda kind: kind.__name__)


class Screen(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def printed(*sheets: Any, terminal: bool = False, **variables: str) -> str:
    out = Screen() if terminal else io.StringIO()
    Terminal(variables={**variables}, out=out, err=io.StringIO(), socket=Path("none")).show(drawn(sheets))
    return out.getvalue()


def test_decimal_points_stand_in_one_line() -> None:
    assert aligned(["1.5", "12", "-3.25", NOTHING]) == ["1.5 ", "12   ", "-3.25", NOTHING]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, NOTHING), ("", NOTHING), ((), NOTHING), (True, "yes"), (False, "no"), (0, "0"), (1.0 / 3, "0.333333"),
        (("a", "b"), "a, b"), ({"a": 1}, '{"a":1}'), ("a\nb\x1b[2J", "a b [2J"), ("[red]", "[red]"),
    ],
)  # fmt: skip
def test_a_value_is_one_harmless_line(value: object, text: str) -> None:
    assert cell(value) == text


def test_a_moment_is_shown_in_whole_seconds() -> None:
    assert moment("2026-02-03T04:05:06.789Z") == "2026-02-03 04:05:06"
    assert moment(None) == NOTHING


def test_columns_that_say_nothing_are_left_out_unless_all_are_kept() -> None:
    columns = (Column("A", lambda each: each), Column("B", lambda each: None))

    assert [heading.title for heading in listing("", [1, 2], columns).headings] == ["A"]
    assert [heading.title for heading in listing("", [1, 2], columns, keep_all=True).headings] == ["A", "B"]


def test_an_object_is_shown_field_by_field() -> None:
    (facts,) = sheets_of(strategy())
    rows = {row[0]: row[1] for row in facts.rows}

    assert rows["params.grid_levels"] == "6"
    assert rows["stats.total_pnl"] == "-3.18"
    assert rows["run.started_at"] == "2026-01-02 09:30:00"
    assert rows["error"] == NOTHING


def test_the_tree_of_actors_is_indented() -> None:
    leaf = ActorObject(
        name="strategy/1", kind="strategy", state="running", restarts=0, last_failure=None, mailbox=0, mailbox_max=None
    )
    tree = ActorTree(data=(msgspec.structs.replace(leaf, name="roster", children=(leaf,)),))

    (sheet,) = sheets_of(tree)

    assert [row[0] for row in sheet.rows] == ["roster", ". strategy/1"]


def test_metrics_are_listed_by_name() -> None:
    (sheet,) = sheets_of(Metrics(data={"b": 2, "a": 1.5}))

    assert sheet.rows == (("a", "1.5"), ("b", "2"))


def test_a_second_list_of_a_reply_is_shown_below_the_first() -> None:
    refused = RefusedTemplate(template_id="tpl_bad", reason="it is no template")

    sheets = list(sheets_of(TemplateList(data=(), refused=(refused,))))

    assert [sheet.title for sheet in sheets] == ["", "refused"]
    assert sheets[1].rows == (("tpl_bad", "it is no template"),)


@pytest.mark.parametrize("kind", REPLIES, ids=lambda kind: kind.__name__)
def test_every_reply_can_be_drawn(kind: type[msgspec.Struct]) -> None:
    assert "7" in (shown := printed(*sheets_of(example(kind)))) or "1.00" in shown or "yes" in shown


def test_colours_are_for_terminals_that_want_them() -> None:
    sheet = listing("", ["-1.00"], (Column("PNL", lambda each: each, Kind.SIGNED),))

    assert "\x1b[" in printed(sheet, terminal=True, TERM="xterm")
    assert "\x1b[" not in printed(sheet, terminal=True, TERM="xterm", NO_COLOR="1")
    assert "\x1b[" not in printed(sheet)


def test_what_no_terminal_shows_is_not_folded() -> None:
    long = "x" * 300

    assert long in printed(listing("", [long], (Column("A", lambda each: each),)))


@pytest.mark.parametrize("width", [60, 80, 100, 160])
@pytest.mark.parametrize("kind", REPLIES, ids=lambda kind: kind.__name__)
def test_no_listing_breaks_a_heading_or_exceeds_the_screen(kind: type[msgspec.Struct], width: int) -> None:
    lines = narrow(width, *sheets_of(example(kind)))

    rules = [index for index, line in enumerate(lines) if line.startswith("──")]
    assert max(map(cell_len, lines)) <= width
    # What stands above a rule is one line of headings, and nothing of it was cut.
    assert all("…" not in lines[index - 1] for index in rules)
    assert all(index == 1 or not lines[index - 2].isupper() for index in rules)


def test_a_narrow_list_keeps_what_matters_and_tells_what_it_left_out() -> None:
    page = StrategyPage(data=(strategy(name="a name that is too long for the screen " * 2),), next_cursor=None)
    heads, _, row, left_out = narrow(40, *sheets_of(page))

    assert heads.split() == ["NAME", "STATUS", "OPEN", "PNL"]
    assert "… " in row
    assert row.split()[-3:] == ["deployed", "1", "-3.18"]
    assert left_out.startswith("no room for ID, MODE")


def test_what_no_terminal_shows_keeps_all_columns() -> None:
    shown = printed(*sheets_of(StrategyPage(data=(strategy(),), next_cursor=None)))

    assert shown.splitlines()[0].split() == [
        "NAME", "ID", "STATUS", "MODE", "TEMPLATE", "SYMBOLS", "TIME", "CAPITAL", "LEV", "OPEN", "PNL", "TRADES", "WON",
    ]  # fmt: skip
    assert "56%" in shown
    assert "no room" not in shown


def test_prose_is_folded_between_its_words() -> None:
    columns = (Column("KEY", lambda each: "number", rank=0), Column("MEANING", lambda each: each, Kind.PROSE, 0))
    lines = narrow(40, listing("", ["one two three four five six seven eight nine"], columns))

    assert [line.strip() for line in lines[2:]] == ["number  one two three four five six", "seven eight nine"]


def narrow(width: int, *sheets: Any) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, markup=False, highlight=False).print(drawn(sheets))
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(("text", "style"), [("1.00", "green"), ("-0.01", "red"), ("0.00", ""), ("-0.00", "")])
def test_a_gain_is_green_and_a_loss_red(text: str, style: str) -> None:
    assert sign_style(text) == style


def example(kind: Any) -> Any:
    """Make a reply of a kind out of its declaration: one item in each list, a text in each text."""
    return msgspec.convert(_plain(msgspec.inspect.type_info(kind)), kind)


def _plain(kind: msgspec.inspect.Type) -> Any:
    inspect = msgspec.inspect
    if isinstance(kind, inspect.StructType):
        fields = [each for each in kind.fields if each.type is not kind and each.name != "children"]
        if kind.array_like:
            return [_plain(each.type) for each in fields]
        return {each.encode_name: _plain(each.type) for each in fields}
    if isinstance(kind, inspect.VarTupleType):
        return [_plain(kind.item_type)]
    if isinstance(kind, inspect.TupleType):
        return [_plain(each) for each in kind.item_types]
    if isinstance(kind, inspect.DictType):
        return {"key": _plain(kind.value_type)}
    if isinstance(kind, inspect.UnionType):
        return _plain(kind.types[0])
    if isinstance(kind, inspect.Metadata):
        return _plain(kind.type)
    if isinstance(kind, inspect.LiteralType):
        return kind.values[0]
    values: dict[Any, Any] = {
        inspect.IntType: 7,
        inspect.FloatType: 1.5,
        inspect.BoolType: True,
        inspect.AnyType: "any",
    }
    return values.get(type(kind), "1.00")
