"""What the journal keeps of deliveries: how far the courier has come, what waits with its letters, what ended last."""

from __future__ import annotations

from typing import Final

import msgspec

from pipaid.model.record import Kind, Record
from pipaid.model.webhook import Delivery, Standing
from pipaid.storage.store import Reader

DELIVERY: Final = "delivery"
LETTER: Final = "letter"
STANDING: Final = "webhook_standing"
POSITION: Final = "courier"
PLACE: Final = "position"
# The last deliveries of each webhook that have ended are kept for whoever looks.
KEPT: Final = 50


class Position(msgspec.Struct, frozen=True):
    """Up to which record every event was brought to whom it concerns, or has rows of its own."""

    n: int = 0


class Remembered(msgspec.Struct, frozen=True):
    """The position, how webhooks stood, what waits, and the webhook of every delivery that is kept, by its key."""

    position: Position
    standings: dict[str, Standing]
    waiting: list[Delivery]
    kept: dict[str, str]


def remembered(reader: Reader) -> Remembered:
    """Return what the life before left, the oldest deliveries first."""
    row = reader.get(POSITION, PLACE)
    waiting = [msgspec.json.decode(each.data, type=Delivery) for each in reader.rows(DELIVERY, state="waiting")]
    waiting.sort(key=lambda delivery: (delivery.taken_at_ms, delivery.id))
    return Remembered(
        position=Position() if row is None else msgspec.json.decode(row.data, type=Position),
        standings={each.key: msgspec.json.decode(each.data, type=Standing) for each in reader.rows(STANDING)},
        waiting=waiting,
        kept={each.key: each.owner for each in reader.rows(DELIVERY)},
    )


def body_of(reader: Reader, *, delivery_id: str) -> bytes | None:
    """Return the letter of a delivery that waits."""
    row = reader.get(LETTER, delivery_id)
    return None if row is None else row.data


def kept_key(webhook_id: str, number: int) -> str:
    """Return where a delivery that has ended is kept: a ring, so that the journal does not grow with them."""
    return f"{webhook_id}/{number % KEPT:02d}"


def position_record(n: int) -> Record:
    """Return the journal record of how far the courier has come."""
    return Record(POSITION, PLACE, Kind.PUT, msgspec.json.encode(Position(n)))


def letter_record(delivery_id: str, body: bytes) -> Record:
    """Return the journal record of what is to be sent."""
    return Record(LETTER, delivery_id, Kind.PUT, body)


def dropped_records(key: str) -> list[Record]:
    """Return the journal records with which a delivery and its letter go."""
    return [Record(kept, key, Kind.DROP) for kept in (DELIVERY, LETTER)]


def delivery_record(key: str, delivery: Delivery) -> Record:
    """Return the journal record of a delivery."""
    return Record(
        DELIVERY,
        key,
        Kind.PUT,
        msgspec.json.encode(delivery),
        owner=delivery.webhook_id,
        state=delivery.state.value,
        sort=delivery.taken_at_ms * 1_000,
    )


def standing_record(webhook_id: str, standing: Standing | None) -> Record:
    """Return the journal record of how a webhook's deliveries went, or with which that goes."""
    if standing is None:
        return Record(STANDING, webhook_id, Kind.DROP)
    return Record(STANDING, webhook_id, Kind.PUT, msgspec.json.encode(standing))
