"""From what people wrote to typed fields: a refusal says what is wrong, what is allowed and what to write instead."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import attrs
import cattrs
from attrs import frozen

from pipaid.config.toml import WrittenFloat, nearest
from pipaid.errors import InvalidParameter
from pipaid.model.money import parse_decimal, plain

OFF: Final = "off"
ITEMS_MAX: Final = 1_000

Hook = Callable[[Any, Any], Any]
Mark = TypeVar("Mark")


class Objection(ValueError):
    """Why a value cannot be used; `better` is what to write instead, where that is known."""

    def __init__(self, wrong: str, *, allowed: str, better: str = "") -> None:
        super().__init__(wrong)
        self.wrong = wrong
        self.allowed = allowed
        self.better = better


@frozen
class Between:
    """A number from `low` to `high`, both included."""

    low: int | str
    high: int | str


@frozen
class Spelled:
    """Text of one shape, described for people."""

    pattern: str
    allowed: str


@frozen
class Beside:
    """A path or pattern that is relative to the file it is written in."""


@frozen
class Needed:
    """A key without which its table means nothing; its default stands in only until somebody has read the mistake."""

    example: str


def structure(value: object, hint: Any) -> Any:
    """Return the value as the type asks; raise Objection if it cannot be."""
    return _CONVERTER.structure(value, hint)


def hints_of(section: type[attrs.AttrsInstance]) -> Mapping[str, Any]:
    """Return the fields of an attrs class in order, each with its type and the marks on it."""
    known = get_type_hints(section, include_extras=True)
    return {attribute.name: known[attribute.name] for attribute in attrs.fields(section)}


def mark_of(hint: Any, kind: type[Mark]) -> Mark | None:
    """Return the first mark of a kind that an Annotated type carries."""
    return next((mark for mark in get_args(hint)[1:] if isinstance(mark, kind)), None)


def shown(value: object) -> str:
    """Render a value the way it would be written in TOML."""
    if value is None:
        return f'"{OFF}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return f'"{plain(value)}"'
    if isinstance(value, WrittenFloat):
        return value.text
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple | list):
        items = cast("list[object] | tuple[object, ...]", value)
        return f"[{', '.join(map(shown, items))}]"
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value)
        return f"{{ {', '.join(f'{key} = {shown(item)}' for key, item in pairs.items())} }}"
    if attrs.has(value.__class__):
        return shown(attrs.asdict(cast(attrs.AttrsInstance, value)))
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


def _flag(value: object, _: Any) -> bool:
    if isinstance(value, bool):
        return value
    guess = {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"}
    written = str(value).lower()
    better = guess.get(written, written if written in ("true", "false") else "")
    raise Objection(f"{shown(value)} is not a flag", allowed="true or false, without quotes", better=better)


def _whole(value: object, _: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    better = ""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value, re.ASCII):
        better = value
    elif isinstance(value, float) and value == value // 1 and abs(value) < 10**15:
        better = str(int(value))
    raise Objection(f"{shown(value)} is not a whole number", allowed="a whole number without quotes", better=better)


def _number(value: object, _: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf"):
        return float(value)
    better = value if isinstance(value, str) and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value, re.ASCII) else ""
    raise Objection(f"{shown(value)} is not a number", allowed="a finite number without quotes", better=better)


def _text(value: object, _: Any) -> str:
    if not isinstance(value, str):
        raise Objection(f"{shown(value)} is not text", allowed="text in quotes", better=f'"{shown(value)}"')
    if "\0" in value:
        raise Objection("it holds a zero byte", allowed="text without control characters")
    return value


def _path(value: object, _: Any) -> Path:
    text = _text(value, str)
    if not text:
        raise Objection("it is empty", allowed="the path of a file or folder, in quotes")
    return Path(text)


def _decimal(value: object, _: Any) -> Decimal:
    allowed = 'a decimal number in quotes, such as "12.50" (up to 18 digits before and after the point)'
    if isinstance(value, WrittenFloat):
        # A float has already lost the digits that were written; the remedy shows them as they were.
        raise Objection(f"{value.text} is a float, which cannot hold money", allowed=allowed, better=f'"{value.text}"')
    try:
        return parse_decimal(value, field="")
    except InvalidParameter:
        raise Objection(f"{shown(value)} is not a decimal number", allowed=allowed) from None


def _choice(hint: Any) -> Hook:
    choices = get_args(hint) if get_origin(hint) is Literal else tuple(hint)
    words = [str(choice) for choice in choices]

    def choose(value: object, _: Any) -> Any:
        if isinstance(value, str) and value in words:
            return choices[words.index(value)]
        meant = nearest(str(value).lower(), words)
        raise Objection(
            f"{shown(value)} is none of the choices",
            allowed=" or ".join(f'"{word}"' for word in words),
            better=f'"{meant}"' if meant else "",
        )

    return choose


def _several(hint: Any) -> Hook:
    (item, _) = get_args(hint)

    def collect(value: object, _: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            better = f"[{shown(value)}]" if isinstance(value, str) else ""
            raise Objection(f"{shown(value)} is not a list", allowed='a list, such as ["a", "b"]', better=better)
        items = cast("list[object] | tuple[object, ...]", value)
        if len(items) > ITEMS_MAX:
            raise Objection(f"it has {len(items)} items", allowed=f"at most {ITEMS_MAX} items")
        found = tuple(_item(items, index, item) for index in range(len(items)))
        doubled = next((each for index, each in enumerate(found) if each in found[:index]), None)
        if doubled is not None:
            raise Objection(f"{shown(doubled)} stands there twice", allowed="each item once")
        return found

    return collect


def _item(items: Sequence[object], index: int, hint: Any) -> Any:
    try:
        return _CONVERTER.structure(items[index], hint)
    except Objection as objection:
        mended = [objection.better if index == other else shown(each) for other, each in enumerate(items)]
        better = f"[{', '.join(mended)}]" if objection.better else ""
        raise Objection(objection.wrong, allowed=objection.allowed, better=better) from None


def _table(hint: type[attrs.AttrsInstance]) -> Hook:
    hints = hints_of(hint)
    names = ", ".join(hints)

    def fill(value: object, _: Any) -> Any:
        if not isinstance(value, dict):
            raise Objection(f"{shown(value)} is not a table", allowed=f"a table with the keys {names}")
        table = cast("dict[str, object]", value)
        for name in (*table, *hints):
            if name not in hints or name not in table:
                wrong = f"{name} is missing" if name in hints else f"there is no key {name}"
                raise Objection(f"{wrong} in {shown(table)}", allowed=f"a table with the keys {names}")
        found: dict[str, Any] = {}
        for name, inner in hints.items():
            try:
                found[name] = _CONVERTER.structure(table[name], inner)
            except Objection as objection:
                mended = {key: shown(each) for key, each in table.items()} | {name: objection.better}
                better = f"{{ {', '.join(f'{key} = {text}' for key, text in mended.items())} }}"
                wrong = f"{name}: {objection.wrong}"
                raise Objection(wrong, allowed=objection.allowed, better=better * bool(objection.better)) from None
        return hint(**found)

    return fill


def _alternatives(hint: Any) -> Hook:
    """Take `X | None` (nothing is written "off") or a number or a word."""
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    may_be_off = len(kinds) < len(get_args(hint))
    words = [kind for kind in kinds if get_origin(kind) is Literal]
    (plain_kind,) = [kind for kind in kinds if kind not in words]
    names = [f'"{OFF}"'] * may_be_off + [f'"{word}"' for kind in words for word in get_args(kind)]

    def choose(value: object, _: Any) -> Any:
        if may_be_off and value == OFF:
            return None
        for word in words:
            if value in get_args(word):
                return value
        try:
            return _CONVERTER.structure(value, plain_kind)
        except Objection as objection:
            allowed = " or ".join([objection.allowed, *names])
            raise Objection(objection.wrong, allowed=allowed, better=objection.better) from None

    return choose


def _marked(hint: Any) -> Hook:
    inner = get_args(hint)[0]
    between = mark_of(hint, Between)
    spelled = mark_of(hint, Spelled)

    def check(value: object, _: Any) -> Any:
        found = _CONVERTER.structure(value, inner)
        if between is not None and found is not None and not isinstance(found, str):
            low, high = Decimal(between.low), Decimal(between.high)
            # A float is compared by its shortest spelling, so that 0.1 is not below "0.1".
            measured = Decimal(str(found))
            if not low <= measured <= high:
                nearer = low if measured < low else high
                better = shown(nearer) if inner is Decimal else plain(nearer)
                raise Objection(
                    f"{shown(value)} is out of range", allowed=f"from {between.low} to {between.high}", better=better
                )
        if spelled is not None and not re.fullmatch(spelled.pattern, str(found), re.ASCII):
            better = str(found).upper()
            fits = re.fullmatch(spelled.pattern, better, re.ASCII)
            raise Objection(
                f"{shown(value)} is not spelled as it must be",
                allowed=spelled.allowed,
                better=shown(better) * bool(fits),
            )
        return found

    return check


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    plain_hooks: tuple[tuple[Any, Hook], ...] = (
        (bool, _flag),
        (int, _whole),
        (float, _number),
        (str, _text),
        (Path, _path),
        (Decimal, _decimal),
    )
    for kind, hook in plain_hooks:
        converter.register_structure_hook(kind, hook)
    # A class hook also takes subclasses, so enums of text need a nearer one than that of text.
    converter.register_structure_hook(StrEnum, lambda value, hint: _choice(hint)(value, hint))
    factories: tuple[tuple[Callable[[Any], bool], Callable[[Any], Hook]], ...] = (
        (lambda hint: get_origin(hint) is Literal, _choice),
        (lambda hint: get_origin(hint) is tuple, _several),
        (lambda hint: get_origin(hint) in (Union, types.UnionType), _alternatives),
        (lambda hint: get_origin(hint) is Annotated, _marked),
        (attrs.has, _table),
    )
    for fits, factory in factories:
        converter.register_structure_hook_factory(fits, factory)
    return converter


_CONVERTER: Final = _converter()
