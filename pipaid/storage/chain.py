"""The chain of hashes over all records: each one vouches for its own fields and for everything before it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

import msgspec

HASH_BYTES: Final = 16
GENESIS: Final = bytes(HASH_BYTES)
EVENT_ENTITY: Final = "event"
OPT_IN_STATE: Final = "opt_in"

# Number, entity, key, kind, owner, state, sort, data: in this order they are hashed and stored.
Fields: TypeAlias = tuple[int, str, str, str, str, str, int, bytes]
Linked: TypeAlias = tuple[int, str, str, str, str, str, int, bytes, bytes, bytes]

_PACK: Final = msgspec.msgpack.Encoder().encode


def link(previous: bytes, fields: Fields) -> bytes:
    """Return the hash of a record that follows another.

    MessagePack puts the length before each field, so that no two different records are packed alike.
    """
    return hashlib.blake2b(previous + _PACK(fields), digest_size=HASH_BYTES).digest()


def breaks(records: Iterable[Linked]) -> Iterator[str]:
    """Say what is wrong with records that are given by ascending number; holes are the caller's to judge."""
    last_n = 0
    last_hash = GENESIS
    for n, entity, key, kind, owner, state, sort, data, previous, digest in records:
        if n == last_n + 1 and previous != last_hash:
            yield f"record {n} does not follow record {last_n}: the chain of hashes is broken between them"
        if link(previous, (n, entity, key, kind, owner, state, sort, data)) != digest:
            yield f"record {n} ({entity} {key}) differs from what was written: its hash does not match"
        last_n, last_hash = n, digest


def event_key(seq: int, ordinal: int) -> str:
    """Return the key of an event's record: its number, or for an opt-in event the number it follows and its ordinal."""
    return f"{seq}+{ordinal}" if ordinal else str(seq)


def ordinal_of(key: str) -> int:
    """Return the ordinal in an event's key, 0 for a numbered event."""
    return int(key.partition("+")[2] or 0)
