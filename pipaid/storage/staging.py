"""What one transaction will write: batches turned into linked records, numbered events and table rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import msgspec
from attrs import define, field

from pipaid.model.event import EventDraft, event_frame
from pipaid.model.record import Batch, Kind, Record
from pipaid.storage.chain import EVENT_ENTITY, OPT_IN_STATE, Fields, Linked, event_key, link
from pipaid.storage.store import Committed, JournalRefused, StoredEvent

SORT_MAX: Final = 2**63 - 1

Key: TypeAlias = tuple[str, str]
# Entity, key, owner, state, sort, data, number of the record.
TableRow: TypeAlias = tuple[str, str, str, str, int, bytes, int]
# The last number given to a strategy's event, and how many opt-in events have followed it.
Count: TypeAlias = tuple[int, int]

_KIND_TEXT: Final = {kind: kind.value for kind in Kind}


def added_keys(batches: Iterable[Batch]) -> list[Key]:
    """List what the batches mean to add; what no database can hold is left for `stage` to refuse."""
    return [
        (record.entity, record.key)
        for batch in batches
        for record in batch.records
        if record.kind is Kind.ADD and _encodable(record.entity) and _encodable(record.key)
    ]


@define
class Staging:
    """Collect batches on top of what is durable; nothing of a refused batch stays.

    `existing` holds those of the keys to be added that have a row, `counted` looks a strategy's count up.
    """

    n: int
    hash: bytes
    existing: frozenset[Key]
    counted: Callable[[str], Count]
    records: list[Linked] = field(factory=list[Linked])
    tables: dict[Key, TableRow | None] = field(factory=dict[Key, TableRow | None])
    counts: dict[str, Count] = field(factory=dict[str, Count])

    def stage(self, batch: Batch) -> Committed | JournalRefused:
        """Take a batch in; the reply holds once the transaction does."""
        draft = _Draft(self)
        try:
            for record in batch.records:
                draft.add(record)
            events = tuple(draft.number(event) for event in batch.events)
        except JournalRefused as refusal:
            return refusal
        except (ValueError, TypeError, OverflowError, msgspec.MsgspecError) as error:
            # Text that has no encoding, a number beyond 64 bits: the submitter's fault, and nobody else's commit.
            return JournalRefused(f"the batch cannot be stored: {error}")
        draft.join()
        return Committed(n=self.n, events=events)


class _Draft:
    """One batch on its way into a staging."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._n = staging.n
        self._hash = staging.hash
        self._records: list[Linked] = []
        self._tables: dict[Key, TableRow | None] = {}
        self._counts: dict[str, Count] = {}

    def add(self, record: Record) -> None:
        place = (record.entity, record.key)
        kind = record.kind
        if kind is Kind.ADD and self._is_there(place):
            raise JournalRefused(f"{record.entity} {record.key} exists already", entity=record.entity, key=record.key)
        if record.entity == EVENT_ENTITY or not -SORT_MAX <= record.sort <= SORT_MAX:
            raise ValueError(f"{record.entity} {record.key}: a reserved entity or a sort beyond 64 bits")
        n = self._n + 1
        text = _KIND_TEXT[kind]
        self._append((n, record.entity, record.key, text, record.owner, record.state, record.sort, record.data))
        if kind is Kind.DROP:
            self._tables[place] = None
        else:
            self._tables[place] = (*place, record.owner, record.state, record.sort, record.data, n)

    def number(self, draft: EventDraft) -> StoredEvent:
        seq, ordinal = self._count(draft.strategy_id)
        opt_in = draft.opt_in
        seq, ordinal = (seq, ordinal + 1) if opt_in else (seq + 1, 0)
        frame = event_frame(draft, seq=seq, ordinal=ordinal)
        n = self._n + 1
        state = OPT_IN_STATE if opt_in else ""
        added = _KIND_TEXT[Kind.ADD]
        self._append((n, EVENT_ENTITY, event_key(seq, ordinal), added, draft.strategy_id, state, seq, frame))
        self._counts[draft.strategy_id] = (seq, ordinal)
        return StoredEvent(n, draft.strategy_id, 0 if opt_in else seq, opt_in, frame)

    def join(self) -> None:
        self._staging.n = self._n
        self._staging.hash = self._hash
        self._staging.records += self._records
        self._staging.tables.update(self._tables)
        self._staging.counts.update(self._counts)

    def _append(self, fields: Fields) -> None:
        digest = link(self._hash, fields)
        self._records.append((*fields, self._hash, digest))
        self._n += 1
        self._hash = digest

    def _is_there(self, place: Key) -> bool:
        for tables in (self._tables, self._staging.tables):
            if place in tables:
                return tables[place] is not None
        return place in self._staging.existing

    def _count(self, strategy_id: str) -> Count:
        for counts in (self._counts, self._staging.counts):
            if strategy_id in counts:
                return counts[strategy_id]
        return self._staging.counted(strategy_id)


def _encodable(text: str) -> bool:
    return text.isascii() or text.encode(errors="ignore").decode() == text
