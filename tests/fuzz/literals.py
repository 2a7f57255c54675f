"""What breaks parsers: JSON texts that are written rather than encoded, and damage to bytes, as chance has it."""

from __future__ import annotations

from random import Random
from typing import Final

import msgspec

SCALARS: Final = (
    b"null", b"true", b"false", b"0", b"-0", b"1", b"-1", b"1.0", b"1.5", b"-0.0", b"1e3", b"1e-3", b"00", b"+1",
    b".5", b"5.",
    b"9007199254740993", b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809",
    b"18446744073709551616",
    b"1" + b"0" * 40, b"1" * 400, b"-" + b"9" * 5_000, b"1e400", b"1e999999", b"-1e-999999", b"0." + b"1" * 60,
    b"NaN", b"Infinity", b"-Infinity", b"nan", b"undefined", b"None", b"0x10", b"1_000",
    b'"NaN"', b'"Infinity"', b'"-Infinity"', b'"sNaN"', b'"1e999999"', b'"-1e999999"', b'"1_000"', b'"\\u0661"',
    b'"0x1F"',
    b'"100.00"', b'"-100.00"', b'"0"', b'"-0"', b'"0.000000000000000001"', b'"999999999999999999.999999999999999999"',
    b'"' + b"9" * 40 + b'"', b'""', b'" "', b'"\\u0000"', b'"a\\u0000b"', b'"\\n"', b'"a\\n"', b'"\\ud800"',
    b'"\\udfff\\ud800"',
    b'"\\ud83e\\udd8a"', b'"\xff"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\xf5\x80\x80\x80"', b'"\\x"', b'"\\u12"',
    b'"\x00"', b'"\t"',
    b'"\\u2028"', b'"\xe2\x80\xae"', b'"../../etc/passwd"', b'"%s%n{0}"', b'"\'; DROP TABLE record; --"',
    b'"__class__"',
    b'"' + b"x" * 65 + b'"', b'"' + b"x" * 300 + b'"', b'"' + b"\xf0\x9f\xa6\x8a" * 40 + b'"', b"[]", b"{}", b"[[]]",
    b"[null]",
    b'{"":null}', b'{"a":1,"a":2}', b'{"__proto__":{}}',
)  # fmt: skip
WORDS: Final = (
    b"id", b"op", b"args", b"name", b"params", b"risk", b"since_seq", b"", b"\\u0000", b"x", b"__init__", b"self",
    b"\\ud800",
)  # fmt: skip
# Spliced into bytes that were good before.
SHARDS: Final = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\x00", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xc3", b"\r",
    b"\x85", b"\x1b[2J",
    b"NaN", b"1e999999", b"null", b"9" * 30, b"\\ud800", b"[" * 20, b'{"a":' * 20, b" " * 50, b"-", b"e", b".", b"/*",
    b"//", b"'",
)  # fmt: skip


def json_text(chance: Random, depth: int = 2) -> bytes:
    """Write a value that is JSON or nearly so."""
    kind = chance.randrange(5) if depth else 0
    if kind == 1:
        return b"[%b]" % b",".join(json_text(chance, depth - 1) for _ in range(chance.randrange(4)))
    if kind == 2:
        return object_text(
            {
                chance.choice(WORDS) + b"%d" % number: json_text(chance, depth - 1)
                for number in range(chance.randrange(4))
            }
        )
    return chance.choice(SCALARS)


def object_text(members: dict[bytes, bytes]) -> bytes:
    """Write an object out of raw names and raw values."""
    return b"{%b}" % b",".join(b'"%b":%b' % member for member in members.items())


def quoted(value: object) -> bytes:
    """Encode a value as JSON."""
    return msgspec.json.encode(value)


def nested(chance: Random) -> bytes:
    """Write a value that is nested around the bound, or far beyond it."""
    depth = chance.choice((13, 14, 15, 16, 17, 40, 100) * 9 + (2_000, 12_000))
    opening, closing = chance.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]"), (b"[", b""), (b'"[', b'"')))
    return opening * depth + b"1" + closing * depth


def damaged(chance: Random, data: bytes) -> bytes:
    """Change a few bytes: some are turned, left out, doubled, moved, cut off or pushed apart."""
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((1, 1, 2, 4, 9, 40)))
        match chance.randrange(7):
            case 0:
                data = data[:at] + bytes(byte ^ 1 << chance.randrange(8) for byte in data[at : at + 1]) + data[at + 1 :]
            case 1:
                data = data[:at] + chance.randbytes(end - at) + data[end:]
            case 2:
                data = data[:at] + data[end:]
            case 3:
                data = data[:end] + data[at:]
            case 4:
                data = data[:at] + chance.choice(SHARDS) + data[at:]
            case 5:
                to = chance.randrange(len(data) + 1)
                data = data[:to] + data[at:end] + data[to:]
            case _:
                data = data[:at] if chance.random() < 0.3 else data[:at] + chance.choice(SCALARS) + data[end:]
    return data
