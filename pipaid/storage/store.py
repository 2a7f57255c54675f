"""The journal as its users see it: typed records, numbered without holes, applied to tables in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import msgspec

from pipaid.errors import ExchangeError, InvalidState, PipaidError, Unavailable
from pipaid.model.record import Batch as Batch
from pipaid.model.record import Kind as Kind
from pipaid.model.record import Record as Record

EVENTS_KEPT: Final = 10_000
EVENTS_KEPT_US: Final = 24 * 3_600 * 1_000_000
PRUNABLE_MAX: Final = 100_000


class JournalRefused(InvalidState):
    """A batch was left out of the journal as a whole; the batches committed beside it stand.

    `entity` and `key` name the row that exists already. Both are empty if the batch cannot be stored at all.
    """

    def __init__(self, message: str, *, entity: str = "", key: str = "") -> None:
        super().__init__(message)
        self.entity = entity
        self.key = key


class JournalLost(Unavailable):
    """The journal cannot be written any more: trading ends here, and the daemon starts anew from what is durable."""


class CommitInDoubt(JournalLost):
    """The journal was lost over this batch, or while it was in line: the next start finds it durable, or does not."""

    code = ExchangeError.code
    http_status = ExchangeError.http_status


class JournalTaken(JournalLost):
    """Another daemon writes the journal now, and what works at the venues is its own."""


class JournalUnusable(PipaidError):
    """The journal cannot be opened; the message says what is wrong, where, and what to do."""


class JournalHeld(JournalUnusable):
    """Another process holds the journal."""


class JournalCorrupt(JournalUnusable):
    """The journal is damaged, cut short, older than its witness, or no journal at all."""


class JournalTooNew(JournalUnusable):
    """A later release of pipaid wrote the journal."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row of a materialised table."""

    key: str
    owner: str
    state: str
    sort: int
    data: bytes


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """An event with the number it was given; `seq` is 0 for opt-in events, `frame` is the bytes of the stream."""

    n: int
    strategy_id: str
    seq: int
    opt_in: bool
    frame: bytes


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """The proof that a batch is durable: its last record's number and its events."""

    n: int
    events: tuple[StoredEvent, ...]


class Reader(Protocol):
    """What is durable, as seen by one thread."""

    def get(self, entity: str, key: str) -> Row | None:
        """Return one row."""
        ...

    def rows(self, entity: str, *, owner: str | None = None, state: str | None = None) -> Iterator[Row]:
        """Yield rows in key order, narrowed by owner and state."""
        ...

    def versions(self, entity: str, key: str, *, limit: int) -> list[bytes]:
        """Return what a row held, newest first, as far as the log still knows it."""
        ...

    def page(
        self,
        entity: str,
        *,
        owner: str | None,
        state: str | None,
        before: tuple[int, str] | None,
        limit: int,
        since: int | None = None,
    ) -> list[Row]:
        """Return rows by (sort, key) descending, from just below `before` down to the sort `since`."""
        ...

    def counts(self, entity: str) -> dict[str, int]:
        """Return how many rows of an entity each owner has."""
        ...

    def oldest(self, entity: str, owner: str, *, limit: int) -> list[str]:
        """Return the keys of an owner's rows with the lowest sorts."""
        ...

    def last_seq(self, strategy_id: str) -> int:
        """Return the number of the strategy's newest event, 0 without any."""
        ...

    def oldest_seq(self, strategy_id: str) -> int:
        """Return the number of the oldest retained event, 0 without any."""
        ...

    def events(self, strategy_id: str, *, after_seq: int, limit: int, after_n: int = 0) -> list[StoredEvent]:
        """Return retained events after a number, in the order of their commits.

        Opt-in events that follow `after_seq` itself are included. A reader that goes on in pages passes the `n` of the
        last event it has as `after_n`, since several opt-in events may follow one number.
        """
        ...

    def told(self, *, after_n: int, until_n: int, limit: int) -> list[StoredEvent]:
        """Return all retained events between two records, the second included, in the order of their commits."""
        ...

    def prunable(
        self,
        *,
        older_than_us: int,
        keep_events: int = EVENTS_KEPT,
        limit: int = PRUNABLE_MAX,
        held_n: int | None = None,
    ) -> list[int]:
        """Return, in ascending order, the numbers of records that may go: committed before a wall-clock moment and
        either an event with at least `keep_events` numbers after it, or replaced by a later record of its row.

        What stays can still be verified, and still amounts to the tables. Opt-in events go by age alone. Nothing goes
        that comes after `held_n`, which somebody has still to read.
        """
        ...

    def close(self) -> None:
        """Let go of the files."""
        ...


class Journal(Reader, Protocol):
    """Synchronous memory that survives; one writer, whose own reads show nothing that is not durable."""

    @property
    def epoch(self) -> int:
        """Return the fence: a number that grows with each opening and is checked in each commit."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what opening found odd and could live with."""
        ...

    def commit(self, batches: Sequence[Batch]) -> list[Committed | JournalRefused]:
        """Apply the batches in order in one durable transaction; a batch that is refused leaves no trace.

        Raise JournalLost if the outcome is not certainly durable; nothing is tried again.
        """
        ...

    def forget(self, numbers: Sequence[int]) -> int:
        """Delete records that `prunable` named, in its order; return how many went."""
        ...

    def reader(self) -> Reader:
        """Return an independent reader for another thread."""
        ...

    def close(self) -> None:
        """Leave everything in one file, without a write-ahead log beside it."""
        ...
