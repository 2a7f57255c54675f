"""Every command that a message or a page tells people to type is one that there is, with the options it has."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from typer.main import get_command

from pipaid.cli.main import application
from tests.house.tree import CODE, ROOT, sources

NAMED = re.compile(r"`pipaid ([^`]*)`")
SHOWN = re.compile(r"^(?:\$ )?pipaid ([^#\n]*)", re.MULTILINE)


def test_every_command_that_messages_and_pages_name_is_there() -> None:
    assert [f"{place}: pipaid {words}" for place, words in told() if objection(words)] == []


def test_commands_are_found_in_messages_and_pages() -> None:
    found = {(place.partition(":")[0], words) for place, words in told()}

    assert ("README.md", "apply FILE…") in found
    assert ("actors/quarantine.py", "strategy reset …") in found
    assert ("README.md", "list") in found


@pytest.mark.parametrize("words", ["reset", "strategy rest ID", "journal verfy", "deploy x --dry", "why x --att NOW"])
def test_a_command_that_is_not_there_is_found(words: str) -> None:
    assert objection(words)


@pytest.mark.parametrize("words", ["strategy reset ID", "deploy x --no-dry-run", "list --all", "why x --at NOW", ""])
def test_a_command_that_is_there_is_let_be(words: str) -> None:
    assert not objection(words)


@cache
def whole() -> Any:
    """Return the command line, which takes long to put together."""
    return get_command(application())


def told() -> Iterator[tuple[str, str]]:
    """Yield each command with its place: those between backticks, and in pages those at the beginning of a line."""
    for source in sources(*CODE):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Constant | ast.JoinedStr):
                for words in NAMED.findall(text_of(node)):
                    yield f"{source.place}:{node.lineno}", words
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "systemd" / "README.md"]
    for page in pages:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for words in (*NAMED.findall(text), *SHOWN.findall(text)):
            yield str(page.relative_to(ROOT)), words.strip()


def text_of(node: ast.Constant | ast.JoinedStr) -> str:
    """Return a text as it stands in the source, what is computed as an ellipsis."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "".join(str(each.value) if isinstance(each, ast.Constant) else "…" for each in node.values)


def objection(words: str) -> str:
    """Return the first word that the command line does not know, or nothing."""
    command = whole()
    for word in shlex.split(words):
        if word.startswith("--"):
            name = word.partition("=")[0]
            if name != "--help" and not any(name in (*each.opts, *each.secondary_opts) for each in command.params):
                return word
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return word
            command = command.commands[word]
    return ""
