"""What the journal keeps of the money that questions to models cost, by UTC day."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

import msgspec

from pipaid.model.money import ZERO
from pipaid.model.record import Kind, Record
from pipaid.storage.store import Reader

ENTITY: Final = "llm_day"
DAYS_KEPT: Final = 32


class SpentDay(msgspec.Struct, frozen=True, kw_only=True):
    """What a day has cost: questions that are open, or were when the daemon was killed, at their worst."""

    charged: Decimal = ZERO
    questions: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


def spent_days(reader: Reader) -> dict[str, SpentDay]:
    """Return the days that are known, in order."""
    return {row.key: msgspec.json.decode(row.data, type=SpentDay) for row in reader.rows(ENTITY)}


def spent_records(day: str, spent: SpentDay, gone: Iterable[str] = ()) -> list[Record]:
    """Return the journal records of a day, and with which others go."""
    dropped = [Record(ENTITY, each, Kind.DROP) for each in gone]
    return [*dropped, Record(ENTITY, day, Kind.PUT, msgspec.json.encode(spent))]
