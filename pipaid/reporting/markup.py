"""HTML out of values: whatever is not made here is text, and is escaped."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape
from typing import Final

import msgspec

_UNSAFE: Final = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


class Markup(str):
    """Text that is HTML already, because `tag` made it."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: str) -> Markup:
    """Return an element; children that are no markup are escaped, and so is the value of every attribute.

    A trailing underscore of an attribute's name is dropped (`class_`), others become hyphens.
    """
    told = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    inside = "".join(child if isinstance(child, Markup) else escape(child) for child in children)
    return Markup(f"<{name}{told}>{inside}</{name}>")


def joined(*parts: Markup) -> Markup:
    """Return elements one after the other."""
    return Markup("\n".join(parts))


def data_block(id: str, data: object) -> Markup:
    """Return data for a script of the page: JSON in which nothing can end the element or begin another."""
    text = msgspec.json.encode(data).decode().translate(_UNSAFE)
    return Markup(f'<script type="application/json" id="{escape(id)}">{text}</script>')


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Collection[int] = (), kind: str = ""
) -> Markup:
    """Return a table that scrolls by itself where it is too wide; columns of numbers stand to the right."""

    def line(cell: str, texts: Sequence[str], **attributes: str) -> Markup:
        classes = [{"class_": "number"} if column in numbers else {} for column in range(len(texts))]
        return tag("tr", *(tag(cell, text, **attributes, **own) for text, own in zip(texts, classes, strict=True)))

    inside = (tag("thead", line("th", head, scope="col")), tag("tbody", *(line("td", row) for row in rows)))
    return tag("div", tag("table", *inside, class_=kind), class_="wide")
