"""Whose secrets derive from the master key: what a journal holds that is worth nothing without it."""

from __future__ import annotations

from typing import Final

from pipaid.storage.store import Reader

API_KEY: Final = "apikey"
WEBHOOK: Final = "webhook"
# Rows of keys that are revoked stay, and need no secret any more.
LIVE: Final = "live"
REVOKED: Final = "revoked"


def holders(reader: Reader) -> str:
    """Say how many keys and webhooks have a secret, or nothing if none has."""
    keys = sum(1 for _ in reader.rows(API_KEY, state=LIVE))
    webhooks = sum(1 for _ in reader.rows(WEBHOOK))
    return " and ".join(_counted(count, what) for count, what in ((keys, "API key"), (webhooks, "webhook")) if count)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
