"""From decoded JSON to a request: every bad field is named at once, with what is allowed in it."""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, cast, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, UnsetType

from pipaid.errors import InvalidParameter
from pipaid.model.moment import parse_iso
from pipaid.model.money import parse_decimal
from pipaid.model.request import MOMENT_MS_MAX, Request

DETAILS_MAX: Final = 100
SHOWN_MAX: Final = 60
# How the reason begins of a field that is not there.
REQUIRED: Final = "is required"


class _Field(NamedTuple):
    name: str
    hint: Any
    required: bool
    nullable: bool
    allowed: str
    extra: dict[str, Any]
    is_decimal: bool
    is_list: bool


_Mistakes = list[tuple[str, str]]


def parse_request(request: type[Request], args: object, *, as_text: bool = False) -> Request:
    """Return the request that decoded JSON stands for; raise InvalidParameter that names every bad field.

    `as_text` tells that the values come from a query, where numbers and flags are text as well.
    """
    if not isinstance(args, dict):
        raise InvalidParameter(f"args must be an object, got {_shown(args)}")
    sent = cast("dict[str, Any]", args)
    fields = _fields(request)
    mistakes: _Mistakes = []
    values: dict[str, Any] = {}
    said: dict[str, str] = {}
    for alias, name in request.aliases.items():
        if alias in sent:
            value = sent[alias]
            if name not in sent:
                said[name] = alias
            sent = {key: each for key, each in sent.items() if key != alias}
            if sent.setdefault(name, value) != value:
                mistakes.append((alias, f"is another name of {name}; both were given, with different values"))
    for name, about in fields.items():
        if name in sent:
            try:
                values[about.name] = _value(about, sent[name], as_text=as_text)
            except ValueError as wrong:
                mistakes.append((said.get(name, name), str(wrong)))
        elif about.required:
            mistakes.append((name, f"{REQUIRED}: {about.allowed}"))
    for name in sent:
        if name not in fields:
            known = f"known are {', '.join(fields)}" if fields else "nothing is asked for here"
            mistakes.append((name[:SHOWN_MAX], f"is unknown; {known}"))
    if mistakes:
        raise invalid(mistakes[:DETAILS_MAX])
    return request(**values)


def invalid(mistakes: _Mistakes) -> InvalidParameter:
    """Return the refusal of several fields."""
    return InvalidParameter("; ".join(f"{name} {reason}" for name, reason in mistakes), details=tuple(mistakes))


def allowed_values(request: type[Request]) -> dict[str, str]:
    """Return what is allowed in each field, in words."""
    return {name: about.allowed for name, about in _fields(request).items()}


def _value(about: _Field, value: Any, *, as_text: bool) -> Any:
    """Return a field's value as the request holds it; raise ValueError with what is wrong."""
    if value is None and about.nullable:
        return None
    refusal = f"must be {about.allowed}, got {_shown(value)}"
    if about.is_decimal:
        try:
            number = parse_decimal(value, field="value")
        except InvalidParameter:
            raise ValueError(refusal) from None
        low, high = about.extra.get("least", number), about.extra.get("most", number)
        if not (about.extra.get("above", number - 1) < number and low <= number <= high):
            raise ValueError(refusal)
        return number
    try:
        if about.extra.get("moment") and isinstance(value, str) and not (as_text and value.isdecimal()):
            # Before 1970 there was nothing, and a zone may lead beyond the last day of the calendar.
            value = min(max(parse_iso(value), 0), MOMENT_MS_MAX)
        if as_text and about.is_list and isinstance(value, str):
            value = msgspec.json.decode(value)
        converted = msgspec.convert(value, about.hint, strict=not as_text)
    except (ValueError, OverflowError, RecursionError):
        raise ValueError(refusal) from None
    if converted not in about.extra.get("among", (converted,)):
        raise ValueError(refusal)
    if about.extra.get("distinct") and len(set(converted)) < len(converted):
        raise ValueError(refusal)
    return converted


def _shown(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}..."


@cache
def _fields(request: type[Request]) -> dict[str, _Field]:
    """Take the declaration of a request apart, once."""
    hints = get_type_hints(request, include_extras=True)
    return {
        info.encode_name: _field(info.name, hints[info.name], required=info.required)
        for info in msgspec.structs.fields(request)
    }


def _field(name: str, hint: Any, *, required: bool) -> _Field:
    kinds = list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [hint]
    nullable = NoneType in kinds
    kinds = [kind for kind in kinds if kind not in (NoneType, UnsetType)]
    kind: Any = kinds[0]
    for other in kinds[1:]:
        kind = kind | other
    marks = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    metas = [mark for mark in marks if isinstance(mark, Meta)]
    described = [meta.description for meta in metas if meta.description]
    extra = {key: value for meta in metas for key, value in (meta.extra or {}).items()}
    bare = get_args(kind)[0] if metas else kind
    return _Field(
        name,
        kind,
        required,
        nullable,
        described[0] if described else _in_words(bare),
        extra,
        is_decimal=bare is Decimal,
        is_list=get_origin(bare) is tuple,
    )


def _in_words(kind: Any) -> str:
    if kind is bool:
        return "true or false"
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    return "a string or a whole number"
