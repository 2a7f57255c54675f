"""The journal as its users see it: typed records, numbered without holes, applied to tables in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from pipaid.model.event import EventDraft


class Kind(StrEnum):
    """What a record does to its table."""

    ADD = "add"
    PUT = "put"
    DROP = "drop"


class Record(msgspec.Struct, frozen=True, gc=False):
    """One change: `entity` names the table, `key` the row, `data` is the row's JSON.

    `owner` and `state` are indexed columns (whose row it is; `open` or `closed`, say); `sort` orders listings.
    ADD of a key that exists breaks the whole batch: it is how a fill is booked exactly once.
    """

    entity: str
    key: str
    kind: Kind
    data: bytes = b""
    owner: str = ""
    state: str = ""
    sort: int = 0


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row of a materialised table."""

    key: str
    owner: str
    state: str
    sort: int
    data: bytes


class Batch(msgspec.Struct, kw_only=True):
    """What is committed together, or not at all."""

    records: list[Record] = []
    events: list[EventDraft] = []


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """An event with the number it was given; `seq` is 0 for opt-in events, `frame` is the bytes of the stream."""

    n: int
    strategy_id: str
    seq: int
    opt_in: bool
    frame: bytes


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """The proof that a batch is durable: its last record's number and its numbered events."""

    n: int
    events: tuple[StoredEvent, ...]


class Journal(Protocol):
    """Synchronous memory that survives; one writer."""

    @property
    def epoch(self) -> int:
        """Return the fence: a number that grows with each opening and is checked in each commit."""
        ...

    def commit(self, batches: Sequence[Batch]) -> list[Committed]:
        """Apply all batches in one durable transaction, in order."""
        ...

    def get(self, entity: str, key: str) -> Row | None:
        """Return one row."""
        ...

    def rows(self, entity: str, *, owner: str | None = None, state: str | None = None) -> Iterator[Row]:
        """Yield rows in key order, narrowed by owner and state."""
        ...

    def page(
        self, entity: str, *, owner: str | None, state: str | None, before: tuple[int, str] | None, limit: int
    ) -> list[Row]:
        """Return rows by (sort, key) descending, from just below `before` on."""
        ...

    def last_seq(self, strategy_id: str) -> int:
        """Return the number of the strategy's newest event, 0 without any."""
        ...

    def oldest_seq(self, strategy_id: str) -> int:
        """Return the number of the oldest retained event, 0 without any."""
        ...

    def events(self, strategy_id: str, *, after_seq: int, limit: int) -> list[StoredEvent]:
        """Return retained events after a number, opt-in ones included, in the order in which they were committed."""
        ...

    def close(self) -> None:
        """Leave everything in one file, without a write-ahead log beside it."""
        ...
