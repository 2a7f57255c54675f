"""What the shell offers while somebody types: strategies and templates, if a daemon answers at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from pipaid.errors import PipaidError

if TYPE_CHECKING:
    from pipaid.model.reply import Reply

T = TypeVar("T", bound="Reply")

COMPLETION_S: Final = 0.5
OFFERED_MAX: Final = 100
# How bash says that it asks; the other shells quote what they are offered by themselves.
ASKED_BY_BASH: Final = ("_PIPAID_COMPLETE", "complete_bash")
_SPECIAL: Final = re.compile(r"([^\w@%+=:,./-])", re.ASCII)


def complete_strategy(incomplete: str) -> list[str]:
    """Return the ids and names that start so; nothing at all when nobody answers in time."""
    from pipaid.model.reply import StrategyPage

    page = _asked("strategy.list", StrategyPage, limit=OFFERED_MAX)
    found = page.data if page is not None else ()
    return _offered((text for strategy in found for text in (strategy.name, strategy.id)), incomplete)


def complete_template(incomplete: str) -> list[str]:
    """Return the ids of templates that start so; nothing at all when nobody answers in time."""
    from pipaid.model.report import TemplateList

    templates = _asked("template.list", TemplateList)
    found = templates.data if templates is not None else ()
    return _offered((template.template_id for template in found), incomplete)


def quoted(text: str, variables: Mapping[str, str]) -> str:
    """Return a word as the shell that asks has to insert it.

    Bash inserts what it is given, so blanks need a backslash there, unless the word was begun with a quote.
    """
    name, answer = ASKED_BY_BASH
    if variables.get(name) != answer:
        return text
    words, place = variables.get("COMP_WORDS", "").split("\n"), variables.get("COMP_CWORD", "")
    typed = words[int(place)] if place.isdigit() and int(place) < len(words) else ""
    return text if typed[:1] in ("'", '"') else _SPECIAL.sub(r"\\\1", text)


def _asked(op: str, kind: type[T], **args: object) -> T | None:
    from pipaid.cli.terminal import socket_path
    from pipaid.seams import SystemEnv
    from pipaid.wire.client import BlockingClient

    try:
        with BlockingClient(socket_path(None, SystemEnv().variables()), answer_s=COMPLETION_S) as client:
            return msgspec.json.decode(client.call(op, args), type=kind)
    except PipaidError:
        return None


def _offered(texts: Iterable[str], incomplete: str) -> list[str]:
    from pipaid.seams import SystemEnv

    variables = SystemEnv().variables()
    return [quoted(text, variables) for text in texts if text.startswith(incomplete)]
