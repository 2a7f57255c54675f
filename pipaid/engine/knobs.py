"""How one knob of a template is declared: what it takes, how it is read, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from math import isfinite
from typing import Any, Final, Literal, cast

import attrs
from attrs import frozen

from pipaid.errors import InvalidParameter
from pipaid.model.money import parse_decimal, plain

KEY: Final = "pipaid.param"
TEXT_MAX: Final = 200
Kind = Literal[
    "integer", "decimal", "number", "choice", "flag", "text", "free", "refused", "choices", "integers",
    "object", "list", "table",
]  # fmt: skip
# What is made of other knobs.
NESTED: Final = frozenset({"object", "list", "table"})


@frozen(kw_only=True)
class ParamSpec:
    """What one knob takes. Bounds are inclusive, but `above`; `less_than` names the knob that must be larger.

    An object, and each element of a list or table, is made of the knobs of `of`; a table has only the keys among
    `choices`, a list at most `most` elements. Choices are several different ones of `choices`, integers at most `most`
    different ones within the bounds. A text has at most `most` characters, or as many as names have.
    """

    kind: Kind
    description: str
    low: Decimal | None = None
    high: Decimal | None = None
    above: Decimal | None = None
    choices: tuple[str, ...] = ()
    less_than: str = ""
    optional: bool = False
    of: type | None = None
    most: int = 0

    def parse(self, value: object) -> Any:
        """Return the value a client sent, as the params class holds it; raise ValueError with what is wrong."""
        if value is None and (self.optional or self.kind == "refused"):
            return None
        if self.kind == "refused":
            raise ValueError(self.description)
        if self.kind == "flag":
            if not isinstance(value, bool):
                raise ValueError(f"must be true or false, got {value!r:.60}")
            return value
        if self.kind == "choice":
            if not isinstance(value, str) or value not in self.choices:
                raise ValueError(f"must be one of {', '.join(self.choices)}, got {value!r:.60}")
            return value
        if self.kind == "text":
            most = self.most or TEXT_MAX
            if not isinstance(value, str) or not 1 <= len(value) <= most:
                raise ValueError(f"must be a text of 1 to {most} characters, got {value!r:.60}")
            return value
        if self.kind == "choices":
            return self._chosen(value)
        if self.kind == "free":
            return dict(mapping_of(value))
        return self._integers(value) if self.kind == "integers" else self._number(value)

    def reach(self) -> str:
        """Say which numbers are allowed."""
        if self.above is not None:
            least = f"above {plain(self.above)}"
            return least if self.high is None else f"{least}, at most {plain(self.high)}"
        parts = [f"from {plain(self.low)}"] if self.low is not None else []
        if self.high is not None:
            parts.append(f"to {plain(self.high)}")
        return " ".join(parts)

    def _chosen(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError(f"must be a list, got {value!r:.60}")
        words = cast("Sequence[object]", value)
        wrong = [word for word in words if not isinstance(word, str) or word not in self.choices]
        if wrong:
            raise ValueError(f"must hold only {', '.join(self.choices)}, got {wrong[0]!r:.60}")
        if len(set(words)) != len(words):
            raise ValueError(f"must hold each word once, got {value!r:.60}")
        return tuple(str(word) for word in words)

    def _integers(self, value: object) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError(f"must be a list of whole numbers, got {value!r:.60}")
        elements = cast("Sequence[object]", value)
        if len(elements) > self.most:
            raise ValueError(f"must have at most {self.most} elements, got {len(elements)}")
        numbers = tuple(self._number(each) for each in elements)
        if len(set(numbers)) != len(numbers):
            raise ValueError(f"must hold each number once, got {value!r:.60}")
        return numbers

    def _number(self, value: object) -> int | Decimal:
        if self.kind in ("integer", "integers"):
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError(f"must be a whole number, got {value!r:.60}")
            number: int | Decimal = value
        else:
            if self.kind == "number" and isinstance(value, float) and isfinite(value):
                # The shortest decimal that reads back as this float is what the client wrote.
                value = format(Decimal(repr(value)), "f")
            try:
                number = parse_decimal(value, field="value")
            except InvalidParameter as refused:
                raise ValueError(refused.details[0][1]) from None
        too_low = (self.low is not None and number < self.low) or (self.above is not None and number <= self.above)
        if too_low or (self.high is not None and number > self.high):
            raise ValueError(f"must be {self.reach()}, got {value!r:.60}")
        return number


def integer_param(
    description: str, *, low: int, high: int, default: int | None = None, less_than: str = "", name: str | None = None
) -> Any:
    """Declare a whole number; without a default it is required."""
    spec = ParamSpec(kind="integer", description=description, low=Decimal(low), high=Decimal(high), less_than=less_than)
    return declared(spec, attrs.NOTHING if default is None else default, name)


def decimal_param(
    description: str,
    *,
    low: str | None = None,
    high: str | None = None,
    above: str | None = None,
    default: str | None = None,
    less_than: str = "",
    floats: bool = False,
) -> Any:
    """Declare a decimal number, its bounds and default written as strings; without a default it is required.

    With `floats` it may be written as a JSON number as well.
    """
    spec = ParamSpec(
        kind="number" if floats else "decimal",
        description=description,
        low=None if low is None else Decimal(low),
        high=None if high is None else Decimal(high),
        above=None if above is None else Decimal(above),
        less_than=less_than,
    )
    return declared(spec, attrs.NOTHING if default is None else Decimal(default))


def choice_param(description: str, *, choices: Sequence[str], default: str | None = None) -> Any:
    """Declare one word out of a few; without a default it is required."""
    spec = ParamSpec(kind="choice", description=description, choices=tuple(choices))
    return declared(spec, attrs.NOTHING if default is None else default)


def flag_param(description: str, *, default: bool) -> Any:
    """Declare a yes or no."""
    return declared(ParamSpec(kind="flag", description=description), default)


def optional_param(knob: Any) -> Any:
    """Declare a knob without a default that may be null or left out."""
    spec: ParamSpec = knob.metadata[KEY]
    return declared(attrs.evolve(spec, optional=True), None, knob.alias)


def refused_param(reason: str) -> Any:
    """Declare a knob that others have and nobody may set here, and why."""
    return declared(ParamSpec(kind="refused", description=reason), None)


def choices_param(description: str, *, choices: Sequence[str]) -> Any:
    """Declare a list of different words out of a few; none by default."""
    return declared(ParamSpec(kind="choices", description=description, choices=tuple(choices)), ())


def integers_param(description: str, *, low: int, high: int, most: int) -> Any:
    """Declare a list of different whole numbers within bounds; none by default."""
    spec = ParamSpec(kind="integers", description=description, low=Decimal(low), high=Decimal(high), most=most)
    return declared(spec, ())


def text_param(description: str, *, most: int = 0, default: str | None = None) -> Any:
    """Declare a text of so many characters at most, or of as many as names have; without a default it is required."""
    spec = ParamSpec(kind="text", description=description, most=most)
    return declared(spec, attrs.NOTHING if default is None else default)


def free_param(description: str) -> Any:
    """Declare an object whose members the template looks at by itself; none by default."""
    return declared(ParamSpec(kind="free", description=description), attrs.Factory(dict))


def object_param(description: str, *, of: type) -> Any:
    """Declare an object of knobs with defaults, which is made of these if it is left out."""
    return declared(ParamSpec(kind="object", description=description, of=of), attrs.Factory(of))


def list_param(description: str, *, of: type, most: int, required: bool = False) -> Any:
    """Declare a list of objects of knobs; none by default, unless it is required."""
    spec = ParamSpec(kind="list", description=description, of=of, most=most)
    return declared(spec, attrs.NOTHING if required else ())


def table_param(description: str, *, of: type, keys: Sequence[str], default: Mapping[str, Any]) -> Any:
    """Declare an object whose members have some of these names and are objects of knobs each."""
    spec = ParamSpec(kind="table", description=description, of=of, choices=tuple(keys))
    return declared(spec, dict(default))


def declared(spec: ParamSpec, default: Any, name: str | None = None) -> Any:
    """Return the attrs field of a knob; `name` is what clients call it, if not by the attribute's name."""
    return attrs.field(default=default, alias=name, metadata={KEY: spec})


def mapping_of(value: object) -> Mapping[str, Any]:
    """Return an object that a client sent; raise ValueError for anything else."""
    if not isinstance(value, Mapping):
        raise ValueError(f"must be an object, got {value!r:.60}")
    return {str(name): each for name, each in cast("Mapping[object, Any]", value).items()}
