"""Configurations: whatever stands in file and environment, it is used as it is shown, or every mistake is told."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Final, Literal, get_args, get_origin

import attrs

from pipaid.config import Examined, examine
from pipaid.config.fields import Beside, hints_of, mark_of
from pipaid.config.sections import Sections
from tests.fuzz.literals import damaged, json_text
from tests.fuzz.target import Target
from tests.worlds import make_world

# A line of the environment before the file's own lines.
MARK: Final = b"#env "
_VALUES: Final = (
    b"true", b"false", b"0", b"1", b"-1", b"30", b"1.5", b"1e400", b"-1e400", b"nan", b"inf", b"-inf",
    b"0x" + b"f" * 4_000,
    b"0o777", b"0b1", b"1_000", b"9" * 400, b'"9"', b'"off"', b'"max"', b'"0660"', b'"0777"', b'"0999"', b'"NaN"',
    b'"1e999999"',
    b'"5002"', b'"0.25"', b'"100"', b'""', b"''", b'"\\u0000"', b'"\\ud800"', b'"\\U00110000"', b'"\xff"', b'"a\\nb"',
    b'"..\\u002f"',
    b'"/"', b'"/nowhere/at/all"', b'"*"', b'"**/*.toml"', b'"["', b'"~"', b"[]", b'["BTCUSDT"]',
    b'["BTCUSDT", "BTCUSDT"]', b'["\xc3\xa4"]',
    b"[[]]", b"[1, 2]", b"{}", b"{a = 1}", b"{a = {b = {}}}", b"2025-06-01", b"2025-06-01T00:00:00Z", b"07:32:00",
    b'"2025-06-01T00:00:00Z"', b'"2025-02-30T00:00:00Z"', b'"0000-00-00"', b'"9999-12-31T23:59:59Z"',
    b'"2025-06-01 25:61:61Z"',
    b'"""\nlong\n"""', b"'''\n'''", b'"127.0.0.1"', b'"0.0.0.0"', b'"::1"', b'"https://a.b:99999"', b'"info"',
    b'"json"', b'"replay"',
    b"[" * 60 + b"]" * 60, b"",
)  # fmt: skip
_VARIABLES: Final = (
    b"STATE_DIRECTORY", b"RUNTIME_DIRECTORY", b"CREDENTIALS_DIRECTORY", b"PIPAID__", b"PIPAID__NO__SUCH",
    b"PIPAID__DAEMON",
)  # fmt: skip
_LINES: Final = (
    b"[",
    b"]",
    b"[[strategy]]",
    b"[daemon.x]",
    b"daemon = 1",
    b"a.b.c = 1",
    b"= 1",
    b'"" = 1',
    b"\x00",
    b"\xef\xbb\xbf",
    b"#",
)


def make(chance: Random) -> bytes:
    """Write an environment and a file."""
    lines: list[bytes] = []
    for _ in range(chance.choice((0, 0, 1, 2))):
        route, hint = chance.choice(KEYS)
        name = b"PIPAID__" + "__".join(route).upper().encode()
        name = chance.choice(_VARIABLES) if chance.random() < 0.2 else name
        value = _value(chance, hint).replace(b"\n", b" ").replace(b"\x00", b"")
        lines.append(MARK + name + b"=" + (value.strip(b'"') if chance.random() < 0.7 else value))
    section = ""
    for route, hint in sorted(chance.sample(KEYS, chance.randrange(7)), key=lambda key: key[0]):
        if ".".join(route[:-1]) != section:
            section = ".".join(route[:-1])
            lines.append(f"[{section}]".encode())
        lines.append(route[-1].encode() + b" = " + _value(chance, hint))
    if chance.random() < 0.2:
        lines.insert(chance.randrange(len(lines) + 1), chance.choice(_LINES))
    text = b"\n".join(lines) + b"\n"
    return damaged(chance, text) if chance.random() < 0.15 else text


def check(given: bytes) -> None:
    """Hold one configuration to the promise."""
    lines = given.split(b"\n")
    pairs = [line.removeprefix(MARK).partition(b"=") for line in lines if line.startswith(MARK)]
    variables = {
        name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
        for name, _, value in pairs
        if name and b"\x00" not in name + value
    }
    text = b"\n".join(line for line in lines if not line.startswith(MARK))
    with tempfile.TemporaryDirectory(prefix="pipaid-fuzz-") as folder:
        path = Path(folder) / "pipaid.toml"
        path.write_bytes(text)
        found = examine(path, make_world(**variables))
        _hold(found)
        again = examine(path, make_world(**variables))
        assert again.values == found.values
        assert again.mistakes == found.mistakes
        if found.config is not None:
            _shown_as_it_is(path, found)


def _hold(found: Examined) -> None:
    assert (found.config is None) == bool(found.mistakes)
    for mistake in found.mistakes:
        assert mistake.place, mistake
        assert mistake.wrong, mistake
        assert mistake.allowed, mistake
        assert mistake.remedy, mistake
        assert str(mistake).encode("utf-8", "surrogateescape")
    assert len(found.values) >= len(KEYS)
    for effective in found.values:
        assert effective.source, effective


def _shown_as_it_is(path: Path, found: Examined) -> None:
    """Write down what is shown, and read the same from it."""
    assert found.config is not None
    sections: dict[str, list[str]] = {}
    known = {".".join(route) for route, _ in KEYS}
    for effective in found.values:
        if effective.key not in known:
            continue
        section, _, name = effective.key.rpartition(".")
        sections.setdefault(section, []).append(f"{name} = {effective.value}")
    text = "\n".join(f"[{section}]\n" + "\n".join(lines) for section, lines in sections.items())
    try:
        path.write_text(text, encoding="utf-8")
    except UnicodeEncodeError:
        return  # A folder of the environment whose name is no text cannot stand in a file.
    again = examine(path, make_world())
    assert again.config is not None, again.mistakes
    # A relative path of the environment is taken from somewhere else than one in a file.
    beside = [".".join(route) for route, hint in KEYS if mark_of(hint, Beside) is not None]
    differences = found.config.differences(again.config, besides=beside)
    assert not differences, differences


def _keys(kind: type[attrs.AttrsInstance], route: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, hint in hints_of(kind).items():
        if attrs.has(hint):
            yield from _keys(hint, (*route, name))
        elif "Mapping" not in str(hint):  # Tables that people name have no keys of their own.
            yield (*route, name), hint


def _value(chance: Random, hint: Any) -> bytes:
    """Write a value, as likely as not one that may be good for its key."""
    words = [each for kind in (hint, *get_args(hint)) if get_origin(kind) is Literal for each in get_args(kind)]
    if words and chance.random() < 0.6:
        return f'"{chance.choice(words)}"'.encode()
    if chance.random() < 0.5:
        number = chance.choice((0, 1, 2, 5, 20, 100, 1_000, 10**6, 10**15)) + chance.choice((-1, 0, 0, 0, 1))
        if "Decimal" in str(hint):
            return f'"{number}.{chance.randrange(10**4)}"'.encode()
        if "float" in str(hint):
            return f"{number}.{chance.randrange(10**6)}".encode()
        if "int" in str(hint):
            return str(number).encode()
        if "bool" in str(hint):
            return chance.choice((b"true", b"false"))
    return json_text(chance) if chance.random() < 0.1 else chance.choice(_VALUES)


KEYS: Final = list(_keys(Sections, ()))
TARGET: Final = Target(name="configs", make=make, check=check)
