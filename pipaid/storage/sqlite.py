"""The journal on SQLite: one writer behind a lock and a fence, each commit durable and linked to the one before."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pipaid.model.record import Batch
from pipaid.seams import Clock, Disk, HeldFile
from pipaid.storage.chain import GENESIS, breaks, ordinal_of
from pipaid.storage.connection import connect_to_write, damaged, gone, unusable, witness_path
from pipaid.storage.reading import NEWEST_EVENT, SqliteReader
from pipaid.storage.schema import RECORDS_WITHOUT_EFFECT, ROWS_THAT_DIFFER, prepare
from pipaid.storage.staging import Count, Key, Staging, TableRow, added_keys
from pipaid.storage.store import EVENTS_KEPT_US, Committed, JournalHeld, JournalLost, JournalRefused, JournalTaken
from pipaid.storage.witness import Witness, decode_witness

CHECKED_AT_OPEN_BYTES_MAX: Final = 64 * 1024 * 1024
COUNTS_MAX: Final = 16_384
MARK_EVERY_US: Final = 60_000_000
# However short the time that records are kept, they go in so many portions at least.
MARKS_KEPT_MIN: Final = 60
PROCESSES: Final = Path("/proc")
ROWS_PER_STATEMENT_MAX: Final = 64
TAIL_CHECKED: Final = 1_000

_INSERT_RECORDS: Final = (
    "INSERT INTO record (n, entity, key, kind, owner, state, sort, data, previous, hash) VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "",
)
_PUT_ROWS: Final = (
    "INSERT INTO entity (entity, key, owner, state, sort, data, n) VALUES ",
    "(?, ?, ?, ?, ?, ?, ?)",
    """
    ON CONFLICT (entity, key) DO UPDATE SET owner = excluded.owner, state = excluded.state, sort = excluded.sort,
        data = excluded.data, n = excluded.n
    """,
)
# An `IN` over such pairs would read the whole index; the loop order is spelled out for the same reason.
_FIND_KEYS: Final = (
    "WITH wanted (entity, key) AS (VALUES ",
    "(?, ?)",
    ") SELECT wanted.entity, wanted.key FROM wanted CROSS JOIN entity USING (entity, key)",
)
# Only what later records replaced goes, and never the last record, from which the numbers and hashes go on.
_FORGET: Final = """
    DELETE FROM record WHERE n = ? AND n < ? AND (entity = 'event' OR NOT EXISTS (
        SELECT 1 FROM entity WHERE entity.entity = record.entity AND entity.key = record.key AND entity.n = record.n
    ))
"""


class SqliteJournal(SqliteReader):
    """The one writer; its reads go over a connection of their own, so they never show what is not yet durable.

    `commit` and `forget` may be called from one thread, the queries from another.
    """

    @classmethod
    def open(cls, path: Path, *, disk: Disk, clock: Clock, pid: int, kept_us: int = EVENTS_KEPT_US) -> SqliteJournal:
        """Take the lock, bring the schema up to date, check what is there, and raise the fence against older daemons.

        `kept_us` is for how long records are kept: a mark of what had come by when is made often enough for that.
        Raise JournalHeld, JournalCorrupt, JournalTooNew or plain JournalUnusable.
        """
        try:
            held = disk.hold(witness_path(path))
        except BlockingIOError:
            holder = decode_witness(disk.read(witness_path(path)))
            who = f"process {holder.pid}" if holder else "another process"
            if holder and not disk.exists(PROCESSES / str(holder.pid)) and disk.exists(PROCESSES / "self"):
                raise JournalHeld(
                    f"{who} is gone, but one that it started holds the journal {path}: end that"
                ) from None
            raise JournalHeld(f"{who} holds the journal {path}: one daemon per state directory") from None
        try:
            mark_every_us = min(MARK_EVERY_US, kept_us // MARKS_KEPT_MIN)
            return cls(path, held=held, disk=disk, clock=clock, pid=pid, mark_every_us=mark_every_us)
        except BaseException:
            held.release()
            raise

    def __init__(self, path: Path, *, held: HeldFile, disk: Disk, clock: Clock, pid: int, mark_every_us: int) -> None:
        self._held = held
        self._clock = clock
        self._pid = pid
        self._mark_every_us = mark_every_us
        self._counts: dict[str, Count] = {}
        self._lost: str | None = None
        found = held.read()
        witness = decode_witness(found)
        self._warnings = _doubts(path, found, witness)
        if (trouble := gone(path, witness, disk)) is not None:
            raise trouble
        if not disk.exists(path):
            # SQLite would make it as readable as the umask allows.
            disk.write_atomically(path, b"", mode=0o600)
        try:
            self._writing = connect_to_write(path)
            try:
                prepare(self._writing, path)
                self._n, self._hash = _checked_end(self._writing, path, witness)
                self._epoch, self._marked_us = _raised_fence(self._writing)
            except BaseException:
                self._writing.close()
                raise
        except sqlite3.Error as error:
            raise unusable(path, error) from error
        try:
            super().__init__(path)
            try:
                self._testify()
                self._held.sync()
            except BaseException:
                super().close()
                raise
        except BaseException:
            # Whoever goes on without this journal must not go on holding its files.
            self._writing.close()
            raise

    @property
    def epoch(self) -> int:
        """Return the fence that this opening raised."""
        return self._epoch

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what opening found odd and could live with."""
        return self._warnings

    def commit(self, batches: Sequence[Batch]) -> list[Committed | JournalRefused]:
        """Apply the batches in order in one durable transaction; a batch that is refused leaves no trace."""
        with self._transaction():
            staging = Staging(self._n, self._hash, self._existing(added_keys(batches)), self._counted)
            outcomes = [staging.stage(batch) for batch in batches]
            self._write(staging)
        self._n, self._hash = staging.n, staging.hash
        self._counts.update(staging.counts)
        self._testify()
        return outcomes

    def forget(self, numbers: Sequence[int]) -> int:
        """Delete records that `prunable` named, in its order; return how many went."""
        if not numbers:
            return 0
        end = max(numbers)
        with self._transaction():
            gone = self._writing.executemany(_FORGET, [(n, self._n) for n in numbers]).rowcount
            self._writing.execute("UPDATE fence SET pruned = pruned + ?, horizon = max(horizon, ?)", (gone, end))
            self._writing.execute("DELETE FROM mark WHERE n < (SELECT max(n) FROM mark WHERE n <= ?)", (end,))
        return gone

    def reader(self) -> SqliteReader:
        """Return an independent reader for another thread."""
        return SqliteReader(self._path)

    def close(self) -> None:
        """Leave everything in one file, without a write-ahead log beside it."""
        super().close()
        try:
            if self._lost is None:
                self._writing.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._held.sync()
            self._writing.close()
        except (sqlite3.Error, OSError) as error:
            raise JournalLost(f"the journal {self._path} could not be closed: {error}") from error
        finally:
            self._held.release()

    @contextmanager
    def _transaction(self) -> Generator[None]:
        """Commit what is done inside unless another daemon has taken over; after any error the journal is lost."""
        if self._lost is not None:
            raise JournalLost(self._lost)
        try:
            self._writing.execute("BEGIN IMMEDIATE")
            (epoch,) = self._writing.execute("SELECT epoch FROM fence").fetchone()
            if epoch != self._epoch:
                raise JournalTaken(
                    f"another daemon took the journal {self._path} over: its epoch is {epoch}, ours {self._epoch}"
                )
            yield
            self._writing.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)
            raise JournalLost(f"writing the journal {self._path} failed: {error}") from error
        except BaseException as error:
            self._give_up(error)
            raise

    def _existing(self, keys: list[Key]) -> frozenset[Key]:
        found: list[Key] = []
        for part, rows in _parts(_FIND_KEYS, keys):
            found += self._writing.execute(part, rows).fetchall()
        return frozenset(found)

    def _counted(self, strategy_id: str) -> Count:
        if strategy_id not in self._counts:
            found = self._writing.execute(NEWEST_EVENT, (strategy_id,)).fetchone()
            if len(self._counts) >= COUNTS_MAX:
                self._counts.clear()
            self._counts[strategy_id] = (found[0], ordinal_of(found[2])) if found else (0, 0)
        return self._counts[strategy_id]

    def _write(self, staging: Staging) -> None:
        for part, values in _parts(_INSERT_RECORDS, staging.records):
            self._writing.execute(part, values)
        put: list[TableRow] = []
        dropped: list[Key] = []
        for place, row in staging.tables.items():
            if row is None:
                dropped.append(place)
            else:
                put.append(row)
        for part, values in _parts(_PUT_ROWS, put):
            self._writing.execute(part, values)
        if dropped:
            self._writing.executemany("DELETE FROM entity WHERE entity = ? AND key = ?", dropped)
        now_us = self._clock.now_us()
        # A clock that was set back makes a new mark, so that nothing seems older than it is for long.
        if staging.records and not 0 <= now_us - self._marked_us < self._mark_every_us:
            self._writing.execute("INSERT OR REPLACE INTO mark (at_us, n) VALUES (?, ?)", (now_us, staging.n))
            self._marked_us = now_us

    def _testify(self) -> None:
        witness = Witness(pid=self._pid, epoch=self._epoch, n=self._n, hash=self._hash)
        try:
            self._held.rewrite(witness.encode())
        except OSError as error:
            self._give_up(error)
            raise JournalLost(f"writing {witness_path(self._path)} failed: {error}") from error

    def _give_up(self, error: BaseException) -> None:
        """Commit nothing from here on: the disk may hold the last commit or not, and only a new start can tell."""
        self._lost = f"the journal {self._path} is lost since this error: {error}"
        self._counts.clear()
        try:
            if self._writing.in_transaction:
                self._writing.execute("ROLLBACK")
        except sqlite3.Error as second:
            # The connection is past saving; the next start recovers from the files.
            self._lost += f"; then {second}"


def _parts(statement: tuple[str, str, str], rows: Sequence[tuple[Any, ...]]) -> list[tuple[str, list[Any]]]:
    """Cut rows into statements of 64, 32, … 1 of them: each is prepared once and lets other threads in once."""
    head, values, tail = statement
    parts: list[tuple[str, list[Any]]] = []
    start = 0
    while start < len(rows):
        size = min(ROWS_PER_STATEMENT_MAX, 1 << ((len(rows) - start).bit_length() - 1))
        text = head + ", ".join([values] * size) + tail
        parts.append((text, [value for row in rows[start : start + size] for value in row]))
        start += size
    return parts


def _doubts(path: Path, found: bytes, witness: Witness | None) -> tuple[str, ...]:
    if witness is not None or (not found and not path.exists()):
        return ()
    state = "damaged" if found else "missing"
    return (f"the witness {witness_path(path)} was {state}: nothing tells whether {path} is an older copy",)


def _checked_end(connection: sqlite3.Connection, path: Path, witness: Witness | None) -> tuple[int, bytes]:
    """Return the last number and hash after looking at the file's structure, the last records and the witness."""
    if path.stat().st_size <= CHECKED_AT_OPEN_BYTES_MAX:
        (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise damaged(path, str(verdict))
        for query in (ROWS_THAT_DIFFER, RECORDS_WITHOUT_EFFECT):
            for entity, key in connection.execute(query, (1,)):
                raise damaged(path, f"the row {entity} {key} is not what its record says")
    tail = connection.execute(
        "SELECT n, entity, key, kind, owner, state, sort, data, previous, hash FROM record ORDER BY n DESC LIMIT ?",
        (TAIL_CHECKED,),
    ).fetchall()
    for finding in breaks(reversed(tail)):
        raise damaged(path, finding)
    n, digest = (tail[0][0], tail[0][-1]) if tail else (0, GENESIS)
    if witness is not None and witness.n:
        if witness.n > n:
            raise damaged(path, f"it ends at record {n}, but record {witness.n} was durable: this is an older copy")
        found = connection.execute("SELECT hash FROM record WHERE n = ?", (witness.n,)).fetchone()
        if found is not None and found[0] != witness.hash:
            raise damaged(path, f"record {witness.n} is not the one that its witness saw: this is another history")
    return n, digest


def _raised_fence(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the epoch of this opening, durable from here on, and when the last mark was made."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE fence SET epoch = epoch + 1")
    (epoch,) = connection.execute("SELECT epoch FROM fence").fetchone()
    (marked_us,) = connection.execute("SELECT max(at_us) FROM mark").fetchone()
    connection.execute("COMMIT")
    return epoch, marked_us or 0
