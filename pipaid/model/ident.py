"""Identities: pure functions of their inputs, so that a restart asks the venue about exactly that order."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Final

STRATEGY_ID: Final = re.compile(r"strat_[0-9a-f]{6,8}", re.ASCII)
CLIENT_ORDER_ID_MAX: Final = 32
CLIENT_ORDER_ID: Final = re.compile(r"pp[0-9a-f]{16}([0-9a-f]{10,14})", re.ASCII)
MARK_LENGTH: Final = 18
MARKS_KEPT: Final = 16_384


def strategy_id(entropy: bytes) -> str:
    """Return `strat_` and eight hex digits of four random bytes."""
    return f"strat_{entropy[:4].hex()}"


def random_id(prefix: str, entropy: bytes) -> str:
    """Return `prefix_` and twelve hex digits of six random bytes."""
    return f"{prefix}_{entropy[:6].hex()}"


def derived_id(prefix: str, *facts: str | int) -> str:
    """Return `prefix_` and twelve hex digits that depend on nothing but the facts."""
    text = "\x1f".join(map(str, facts))
    return f"{prefix}_{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"


@lru_cache(MARKS_KEPT)
def owner_mark(account: str, strategy: str) -> str:
    """Return what the client ids of all orders of a strategy begin with."""
    owner = hashlib.blake2b(f"{account}\x1f{strategy}".encode(), digest_size=8).hexdigest()
    return f"pp{owner}"


def client_order_id(account: str, strategy: str, sequence: int) -> str:
    """Return the id under which the venue knows an order: its owner's mark and its number, a-z and 0-9 only.

    At most 32 characters, unique for ever per account and strategy because the sequence comes from the journal.
    """
    return f"{owner_mark(account, strategy)}{sequence:010x}"


def mark_of(client_id: str) -> str:
    """Return the part of a client order id that tells whose the order is."""
    return client_id[:MARK_LENGTH]


def order_id(strategy: str, sequence: int) -> str:
    """Return the id under which the journal knows an order."""
    return derived_id("ord", strategy, sequence)


def order_id_of(strategy: str, client_id: str) -> str | None:
    """Return the journal's id of a strategy's order by the venue's, or nothing if it cannot be one of ours."""
    found = CLIENT_ORDER_ID.fullmatch(client_id)
    return order_id(strategy, int(found[1], 16)) if found is not None else None
