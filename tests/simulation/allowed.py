"""Which caps may be in force in a simulated world at a moment: as asked for and as answered, known from outside."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from math import inf
from typing import Any

import trio
from attrs import define, field

Cap = Decimal | int | None


@define
class Span:
    """From when to when a cap may have had a value; nothing means no limit."""

    value: Cap
    since_s: float = 0.0
    until_s: float = inf


@define(eq=False)
class Allowed:
    """Keep each cap's values: a new one may hold from when it is asked for, an old one does until that is answered."""

    spans: dict[str, list[Span]] = field(factory=dict[str, list[Span]])

    @classmethod
    def of(cls, caps: Mapping[str, Cap]) -> Allowed:
        """Return the caps that hold from the beginning."""
        return cls({name: [Span(value)] for name, value in caps.items()})

    def ask(self, args: Mapping[str, Any]) -> None:
        """Take note that caps are asked for."""
        for name, value in _caps_of(args):
            self.spans[name].append(Span(value, trio.current_time()))

    def grant(self, args: Mapping[str, Any]) -> None:
        """Take note that they were put in force: nothing else holds from now on."""
        for name, value in _caps_of(args):
            for span in self.spans[name]:
                if span.value != value:
                    span.until_s = min(span.until_s, trio.current_time())

    def refuse(self, args: Mapping[str, Any]) -> None:
        """Take note that what was asked for last is not in force."""
        for name, _ in _caps_of(args):
            self.spans[name].pop()

    def loosest(self, name: str, since_s: float) -> Cap:
        """Return the loosest value that may have been in force since a moment."""
        values = [span.value for span in self.spans[name] if span.until_s >= since_s]
        return None if None in values else max(value for value in values if value is not None)


def _caps_of(args: Mapping[str, Any]) -> list[tuple[str, Cap]]:
    return [
        (name, Decimal(value) if isinstance(value, str) else value) for name, value in args.items() if name != "confirm"
    ]
