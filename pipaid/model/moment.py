"""Moments: integer UTC milliseconds inside, ISO 8601 with `Z` outside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

DAY_MS: Final = 86_400_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Without a zone it is rendered in two thirds of the time.
_PLAIN_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - see above


def iso_seconds(at_ms: int) -> str:
    """Render whole seconds: `2026-02-03T04:05:06Z`."""
    return (_PLAIN_EPOCH + timedelta(seconds=at_ms // 1000)).isoformat() + "Z"


def iso_millis(at_ms: int) -> str:
    """Render milliseconds: `2026-02-03T04:05:06.078Z`."""
    return f"{iso_seconds(at_ms)[:-1]}.{at_ms % 1000:03d}Z"


def parse_iso(text: str) -> int:
    """Return the milliseconds of an ISO 8601 moment; one without a zone is UTC. Raise ValueError if it is none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round((moment - _EPOCH) / timedelta(milliseconds=1))


def utc_day(at_ms: int) -> int:
    """Return the number of the UTC day since the epoch."""
    return at_ms // DAY_MS
