"""What a model may say: one JSON object of a known form, read without mercy."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, cast

from attrs import frozen

REASON_MAX: Final = 1_000
ARGUMENT_MAX: Final = 1_200
DIGITS_MAX: Final = 18
# Written out, a number that came out of a reckoning has seventeen digits that tell anything.
FIGURES_MAX: Final = 40
DECISION, VALIDATION, MAINTENANCE = "decision", "validation", "maintenance"
ARGUING: Final = ("technical", "risk", "portfolio")
BUY, SELL, HOLD, CLOSE = "BUY", "SELL", "HOLD", "CLOSE"
APPROVE, VETO, TIGHTEN = "APPROVE", "VETO", "TIGHTEN"
_FENCED: Final = re.compile(r"\A```(?:json|JSON)?[ \t]*\n(.*)\n[ \t]*```\Z", re.DOTALL)
_ACTIONS: Final = (BUY, SELL, HOLD, CLOSE)


class Unreadable(Exception):
    """An answer is not what was asked for; the message says why."""


@frozen(kw_only=True)
class Form:
    """What an answer holds: one of some actions, a confidence, a text, and numbers that may be null."""

    actions: tuple[str, ...]
    text: str = "reason"
    text_max: int = REASON_MAX
    numbers: tuple[str, ...] = ()

    @property
    def schema(self) -> dict[str, Any]:
        """Return it as JSON Schema."""
        properties: dict[str, Any] = {
            "action": {"type": "string", "enum": list(self.actions)},
            "confidence": {"type": "number", "minimum": 0, "maximum": 1},
            **{name: {"type": ["number", "null"]} for name in self.numbers},
            self.text: {"type": "string"},
        }
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }


_ARGUMENT: Final = Form(actions=_ACTIONS, text="argument", text_max=ARGUMENT_MAX)
FORMS: Final[Mapping[str, Form]] = MappingProxyType(
    {
        DECISION: Form(actions=_ACTIONS, numbers=("stop", "target")),
        VALIDATION: Form(actions=(APPROVE, VETO), numbers=("scale",)),
        MAINTENANCE: Form(actions=(HOLD, CLOSE, TIGHTEN), numbers=("stop", "target")),
        **dict.fromkeys(ARGUING, _ARGUMENT),
    }
)


@frozen(kw_only=True)
class Said:
    """What a model said, checked by its form alone."""

    action: str
    confidence: Decimal
    text: str
    stop: Decimal | None = None
    target: Decimal | None = None
    scale: Decimal | None = None


def read(text: str, form: Form) -> Said:
    """Return what a text says; raise Unreadable unless it is one JSON object of that form.

    Around it there may be white space and one code fence, and nothing else. Numbers may be left out where they may be
    null; a text that is too long is cut.
    """
    members = _members(text.strip())
    unknown = sorted(members.keys() - {"action", "confidence", form.text, *form.numbers})
    if unknown:
        raise Unreadable(f"it holds {unknown[0][:40]!r}, which nobody asked for")
    confidence = _number(members, "confidence")
    if confidence is None or not 0 <= confidence <= 1:
        raise Unreadable("confidence is not a number from 0 to 1")
    numbers = {name: _number(members, name) for name in form.numbers}
    for name, number in numbers.items():
        if number is not None and number <= 0:
            raise Unreadable(f"{name} is not above zero")
    if (scale := numbers.get("scale")) is not None and scale > 1:
        raise Unreadable("scale is above 1: nothing is made larger")
    return Said(
        action=_word(members, "action", form.actions),
        confidence=confidence,
        text=_text(members, form.text)[: form.text_max],
        **numbers,
    )


def _members(text: str) -> dict[str, Any]:
    fenced = _FENCED.match(text)
    inner = text if fenced is None else fenced[1]
    if not inner.strip():
        raise Unreadable("it is empty")
    try:
        value: Any = json.loads(
            inner, parse_float=Decimal, parse_int=Decimal, parse_constant=_constant, object_pairs_hook=_once
        )
    except (ValueError, ArithmeticError, RecursionError) as trouble:
        raise Unreadable(f"it is not one JSON object and nothing else: {str(trouble)[:120]}") from None
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    raise Unreadable(f"it is a JSON {type(value).__name__} and no object")


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands there twice")
    return members


def _word(members: Mapping[str, Any], name: str, words: Sequence[str]) -> str:
    value = members.get(name)
    if not isinstance(value, str) or value not in words:
        raise Unreadable(f"{name} is not one of {', '.join(words)}: {value!r:.60}")
    return value


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str):
        raise Unreadable(f"{name} is no text: {value!r:.60}")
    return value.encode(errors="replace").decode()


def _number(members: Mapping[str, Any], name: str) -> Decimal | None:
    value = members.get(name)
    if value is None:
        return None
    if not isinstance(value, Decimal) or not value.is_finite() or abs(value.adjusted()) >= DIGITS_MAX:
        raise Unreadable(f"{name} is no number that can be meant: {str(value)[:60]}")
    if len(value.as_tuple().digits) > FIGURES_MAX:
        raise Unreadable(f"{name} is no number that can be meant: {str(value)[:60]}")
    return value
