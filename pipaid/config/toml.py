"""TOML as people write it: every value with its line, and every mistake with its place, its reason and its remedy."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

from attrs import frozen

from pipaid.errors import InvalidParameter
from pipaid.seams import Disk

Route = tuple[str | int, ...]

FILE_BYTES_MAX: Final = 1024 * 1024
INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1
BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_SCALAR: Final = re.compile(r"[^,\]}\n#]+")
_ESCAPE: Final = re.compile(r"\\(?:([btnfr\"\\])|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))", re.ASCII)
_LETTERS: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}


@frozen(kw_only=True)
class Mistake:
    """One thing that is wrong in what somebody wrote."""

    place: str
    key: str
    wrong: str
    allowed: str
    remedy: str

    def __str__(self) -> str:
        subject = f"{self.key}: " if self.key else ""
        return f"{self.place}: {subject}{self.wrong}\n    allowed: {self.allowed}\n    remedy:  {self.remedy}"


class Mistaken(InvalidParameter):
    """Something people wrote cannot be used; `mistakes` lists everything that is wrong with it, not the first only."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        count = len(self.mistakes)
        heading = "1 mistake" if count == 1 else f"{count} mistakes"
        super().__init__(
            "\n".join([f"{heading}:", *map(str, self.mistakes)]),
            details=tuple((mistake.key or mistake.place, mistake.wrong) for mistake in self.mistakes),
        )


class WrittenFloat(float):
    """A TOML float that remembers how it was written, so that a remedy can quote it."""

    text: str

    def __new__(cls, text: str) -> WrittenFloat:
        made = super().__new__(cls, text)
        made.text = text
        return made


@frozen
class Document:
    """A TOML file's tables, and the line of each key."""

    path: Path
    table: dict[str, Any]
    lines: Mapping[Route, int]

    def place(self, route: Route) -> str:
        """Return `file:line` of a key, or of the nearest table around it."""
        for length in range(len(route), 0, -1):
            line = self.lines.get(route[:length])
            if line is not None:
                return f"{self.path}:{line}"
        return f"{self.path}:1"


def read_document(path: Path, disk: Disk) -> Document:
    """Read and parse a file; raise Mistaken when it is not there or no TOML."""
    try:
        data = disk.read(path)
    except OSError as trouble:
        mistake = Mistake(
            place=str(path),
            key="",
            wrong=f"cannot be read: {trouble.strerror or trouble}",
            allowed="a readable TOML file",
            remedy="check the path and its permissions; config/pipaid.toml shows every key",
        )
        raise Mistaken([mistake]) from None
    return parse(path, data)


def parse(path: Path, data: bytes) -> Document:
    """Parse a file's content; raise Mistaken with the line when it is no TOML."""
    try:
        if len(data) > FILE_BYTES_MAX:
            raise ValueError(f"the file has {len(data)} bytes, at most {FILE_BYTES_MAX} are read")
        text = data.decode("utf-8").replace("\r\n", "\n")
        table = tomllib.loads(text, parse_float=WrittenFloat)
        lines = _Reader(text).lines()
        for route in vast_integers(table, ()):
            key = ".".join(map(str, route))
            raise ValueError(f"{key} is a whole number of more than 64 bits (at line {lines.get(route, 1)}, column 1)")
    except (ValueError, RecursionError) as trouble:
        raise Mistaken([_unreadable(path, data, trouble)]) from None
    return Document(path, table, lines)


def vast_integers(value: object, route: Route) -> Iterator[Route]:
    """Yield where whole numbers stand that TOML does not allow, though Python reads them and then cannot print them."""
    if isinstance(value, int) and not INTEGER_MIN <= value <= INTEGER_MAX:
        yield route
    elif isinstance(value, dict):
        for name, inner in cast("dict[str, object]", value).items():
            yield from vast_integers(inner, (*route, name))
    elif isinstance(value, list):
        for index, inner in enumerate(cast("list[object]", value)):
            yield from vast_integers(inner, (*route, index))


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that somebody most likely meant."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def unknown_key(place: str, key: str, name: str, known: Iterable[str]) -> Mistake:
    """Describe a key that nobody reads, with the nearest one that somebody does."""
    names = list(known)
    meant = nearest(name, names)
    return Mistake(
        place=place,
        key=key,
        wrong="no such key",
        allowed=", ".join(names),
        remedy=f"did you mean `{meant}`?" if meant else "remove the line",
    )


def _unreadable(path: Path, data: bytes, trouble: Exception) -> Mistake:
    text = str(trouble)
    where = re.search(r"\(at line (\d+), column (\d+)\)", text)
    line = int(where[1]) if where else 1
    reason = text.partition(" (at ")[0]
    if isinstance(trouble, UnicodeDecodeError):
        line = data[: trouble.start].count(b"\n") + 1
        reason = f"byte 0x{data[trouble.start]:02x} is not UTF-8"
    elif isinstance(trouble, RecursionError):
        reason = "nested too deeply"
    column = f" at column {where[2]}" if where else ""
    return Mistake(
        place=f"{path}:{line}",
        key="",
        wrong=f"not TOML: {reason}{column}",
        allowed='TOML 1.0, UTF-8: `key = value` lines, text in quotes ("like this")',
        remedy="mend this line; the keys of this file are checked after that",
    )


class _Reader:
    """Find the line of each key in text that is known to be TOML."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[Route, int] = {}
        self._line = 1
        self._counted = 0
        self._elements: dict[Route, int] = {}

    def lines(self) -> dict[Route, int]:
        route: Route = ()
        while self._skip("\n"):
            if self._text[self._at] == "[":
                route = self._header()
            else:
                self._pair(route)
        return self._lines

    def _header(self) -> Route:
        many = self._text.startswith("[[", self._at)
        self._at += 2 if many else 1
        route: Route = ()
        line = self._here()
        keys = self._keys()
        for index, key in enumerate(keys):
            route += (key,)
            if many and index == len(keys) - 1:
                self._elements[route] = self._elements.get(route, -1) + 1
                self._lines.setdefault(route, line)
            if route in self._elements:
                # A header that goes through an array of tables means its last element.
                route += (self._elements[route],)
        self._at += 2 if many else 1
        self._lines.setdefault(route, line)
        return route

    def _pair(self, route: Route) -> None:
        line = self._here()
        for key in self._keys():
            route = (*route, key)
            self._lines.setdefault(route, line)
        self._at += 1
        self._value(route)

    def _value(self, route: Route) -> None:
        self._skip("\n")
        opening = self._text[self._at]
        if opening == "{":
            self._at += 1
            while self._skip("\n,") and self._text[self._at] != "}":
                self._pair(route)
            self._at += 1
        elif opening == "[":
            self._at += 1
            index = 0
            while self._skip("\n,") and self._text[self._at] != "]":
                self._lines[*route, index] = self._here()
                self._value((*route, index))
                index += 1
            self._at += 1
        elif opening in "\"'":
            self._quoted()
        else:
            found = _SCALAR.match(self._text, self._at)
            assert found is not None, "text that tomllib has read holds a value after each equals sign"
            self._at = found.end()

    def _keys(self) -> list[str]:
        """Read a dotted key up to the sign that ends it."""
        keys: list[str] = []
        while True:
            self._skip("")
            bare = BARE_KEY.match(self._text, self._at)
            if bare:
                keys.append(bare[0])
                self._at = bare.end()
            else:
                keys.append(self._quoted())
            self._skip("")
            if self._text[self._at] != ".":
                return keys
            self._at += 1

    def _quoted(self) -> str:
        quote = self._text[self._at]
        closing = quote * 3 if self._text.startswith(quote * 3, self._at) else quote
        start = self._at + len(closing)
        at = start
        while not self._text.startswith(closing, at):
            at += 2 if quote == '"' and self._text[at] == "\\" else 1
        raw = self._text[start:at]
        at += len(closing)
        while len(closing) == 3 and self._text.startswith(quote, at):
            # Up to two quotes may stand before the three that close a long string.
            at += 1
        self._at = at
        return raw if quote == "'" else _ESCAPE.sub(_unescaped, raw)

    def _skip(self, also: str) -> bool:
        """Pass white space, comments and the given characters; tell whether anything is left."""
        text, at = self._text, self._at
        while at < len(text):
            if text[at] == "#" and also:
                end = text.find("\n", at)
                at = end if end >= 0 else len(text)
            elif text[at] in " \t" or text[at] in also:
                at += 1
            else:
                break
        self._at = at
        return at < len(text)

    def _here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line


def _unescaped(found: re.Match[str]) -> str:
    letter, short, long = found.groups()
    if letter:
        return _LETTERS.get(letter, letter)
    return chr(int(short or long, 16))
