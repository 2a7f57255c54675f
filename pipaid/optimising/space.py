"""What a sweep may try: the values of each param, and sets of params out of all that they allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from itertools import product
from math import prod
from typing import Any, Final

from pipaid.errors import InvalidParameter
from pipaid.seams import Random, SystemRandom

METHODS: Final = ("grid", "random", "tpe")
CANDIDATES_MAX: Final = 100_000
# A float tells all places of it apart.
SPACE_MAX: Final = 2**53

Space = Mapping[str, Sequence[Any]]


def candidates(space: Space, method: str, *, tries: int, seed: int) -> list[dict[str, Any]]:
    """Return the sets of params to try: all of them, or so many different ones drawn by a seed."""
    if not space:
        raise InvalidParameter("param: name at least one to sweep over, such as fast=5:20:5 or slow=30,50")
    size = prod(len(values) for values in space.values())
    if method == "random":
        if size > SPACE_MAX:
            raise InvalidParameter(f"param: a space of {size} sets is too large to draw from; give fewer values")
        if tries > CANDIDATES_MAX:
            raise InvalidParameter(f"tries: {tries} are more than {CANDIDATES_MAX}")
        return [_at(space, place) for place in _drawn(size, min(tries, size), SystemRandom(seed=seed))]
    if size > CANDIDATES_MAX:
        raise InvalidParameter(
            f"param: {size} sets are more than {CANDIDATES_MAX}; choose --method random or tpe, or fewer values"
        )
    return [dict(zip(space, values, strict=True)) for values in product(*space.values())]


def _drawn(size: int, count: int, chance: Random) -> list[int]:
    """Return so many different places of a space."""
    if size <= CANDIDATES_MAX:
        return sorted(range(size), key=lambda _: chance.uniform(0, 1))[:count]
    found: dict[int, None] = {}
    # So many fit in many times over, so that few are drawn twice.
    while len(found) < count:
        found[int(chance.uniform(0, size))] = None
    return list(found)


def _at(space: Space, place: int) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name, values in space.items():
        place, which = divmod(place, len(values))
        chosen[name] = values[which]
    return chosen


def values_of(text: str) -> tuple[str, list[Any]]:
    """Return the name and the values of `name=a,b,c` or `name=first:last:step`; raise InvalidParameter otherwise."""
    name, equals, listed = text.partition("=")
    if not equals or not name or not listed:
        raise InvalidParameter(f"param {text!r:.60}: write name=5,10,20 or name=first:last:step")
    bounds = listed.split(":")
    if len(bounds) == 1:
        # What is named twice is tried once; true and 1 are not the same.
        return name, list({repr(value): value for value in map(_value, listed.split(","))}.values())
    try:
        first, last, step = map(Decimal, bounds)
        if not (step > 0 and first <= last and all(each.is_finite() for each in (first, last, step))):
            raise ValueError
        count = int((last - first) / step) + 1
    except (InvalidOperation, ValueError):
        raise InvalidParameter(f"param {text!r:.60}: first:last:step, with a step above zero, expected") from None
    if count > CANDIDATES_MAX:
        raise InvalidParameter(f"param {text!r:.60}: {count} values are more than {CANDIDATES_MAX}")
    return name, [_value(str(first + number * step)) for number in range(count)]


def _value(text: str) -> Any:
    """Return a value as a client would send it: whole numbers and flags as such, all else as text."""
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.lstrip("-").isdecimal() and text.isascii() else text
