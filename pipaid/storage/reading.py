"""Queries over the journal's tables and events, on a connection that sees nothing but what is durable."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pipaid.storage.chain import OPT_IN_STATE
from pipaid.storage.connection import connect_to_read, unusable
from pipaid.storage.store import EVENTS_KEPT, PRUNABLE_MAX, Row, StoredEvent

_SELECT: Final = "SELECT key, owner, state, sort, data FROM entity WHERE "
_EVENTS: Final = """
    SELECT n, owner, sort, state, data FROM record
    WHERE entity = 'event' AND owner = ? AND sort >= ? AND n > ? AND (sort > ? OR state = 'opt_in')
    ORDER BY sort, n LIMIT ?
"""
# The log is walked by its numbers: the index of events is by strategy, and would have to be sorted as a whole.
_TOLD: Final = """
    SELECT n, owner, sort, state, data FROM record NOT INDEXED
    WHERE entity = 'event' AND n > ? AND n <= ? ORDER BY n LIMIT ?
"""
_REPLACED: Final = """
    SELECT n FROM record WHERE entity <> 'event' AND n <= ? AND NOT EXISTS (
        SELECT 1 FROM entity WHERE entity.entity = record.entity AND entity.key = record.key AND entity.n = record.n
    ) ORDER BY n LIMIT ?
"""
_OLD_NUMBERED: Final = """
    SELECT n FROM record WHERE entity = 'event' AND owner = ? AND sort <= ? AND n <= ? ORDER BY sort, n LIMIT ?
"""
_OLD_OPT_IN: Final = """
    SELECT n FROM record WHERE entity = 'event' AND state = 'opt_in' AND owner = ? AND n < ? ORDER BY n LIMIT ?
"""
NEWEST_EVENT: Final = """
    SELECT sort, n, key FROM record WHERE entity = 'event' AND owner = ? ORDER BY sort DESC, n DESC LIMIT 1
"""
_NEXT_STRATEGY: Final = "SELECT min(owner) FROM record WHERE entity = 'event' AND owner > ?"


class SqliteReader:
    """A read-only view for one thread at a time; each call sees the newest durable state."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._reading = connect_to_read(path)
        except sqlite3.Error as error:
            raise unusable(path, error) from error
        try:
            # This opens the log beside it as well, which would otherwise wait for the first query and may fail then.
            self._reading.execute("PRAGMA schema_version").fetchone()
        except sqlite3.Error as error:
            self._reading.close()
            raise unusable(path, error) from error

    def get(self, entity: str, key: str) -> Row | None:
        """Return one row."""
        found = self._fetch(_SELECT + "entity = ? AND key = ?", (entity, key))
        return Row(*found[0]) if found else None

    def rows(self, entity: str, *, owner: str | None = None, state: str | None = None) -> Iterator[Row]:
        """Yield rows in key order; all come from one moment, that of the call."""
        where, arguments = _narrowed(entity, owner, state)
        # The plus keeps the planner from reading the whole entity in key order rather than sorting the few rows.
        order = " ORDER BY key" if owner is state is None else " ORDER BY +key"
        found = self._fetch(_SELECT + where + order, arguments)
        return (Row(*columns) for columns in found)

    def versions(self, entity: str, key: str, *, limit: int) -> list[bytes]:
        """Return what a row held, newest first, as far as the log still knows it; it reads the whole log."""
        query = "SELECT data FROM record WHERE entity = ? AND key = ? AND kind <> 'drop' ORDER BY n DESC LIMIT ?"
        return [data for (data,) in self._fetch(query, (entity, key, limit))]

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
        """Return rows by (sort, key) descending, from just below `before` down to the sort `since`.

        It is indexed if owner or state is given.
        """
        where, arguments = _narrowed(entity, owner, state)
        if since is not None:
            where += " AND sort >= ?"
            arguments += (since,)
        if before is not None:
            where += " AND (sort, key) < (?, ?)"
            arguments += before
        query = _SELECT + where + " ORDER BY sort DESC, key DESC LIMIT ?"
        return [Row(*columns) for columns in self._fetch(query, (*arguments, limit))]

    def counts(self, entity: str) -> dict[str, int]:
        """Return how many rows of an entity each owner has."""
        query = "SELECT owner, count(*) FROM entity WHERE entity = ? AND owner <> '' GROUP BY owner"
        return dict(self._fetch(query, (entity,)))

    def oldest(self, entity: str, owner: str, *, limit: int) -> list[str]:
        """Return the keys of an owner's rows with the lowest sorts."""
        query = "SELECT key FROM entity WHERE entity = ? AND owner = ? AND owner <> '' ORDER BY sort, key LIMIT ?"
        return [key for (key,) in self._fetch(query, (entity, owner, limit))]

    def last_seq(self, strategy_id: str) -> int:
        """Return the number of the strategy's newest event, 0 without any."""
        found = self._fetch(NEWEST_EVENT, (strategy_id,))
        return found[0][0] if found else 0

    def oldest_seq(self, strategy_id: str) -> int:
        """Return the number of the oldest retained event, 0 without any."""
        query = "SELECT min(sort) FROM record WHERE entity = 'event' AND owner = ? AND state = ''"
        ((oldest,),) = self._fetch(query, (strategy_id,))
        return oldest or 0

    def events(self, strategy_id: str, *, after_seq: int, limit: int, after_n: int = 0) -> list[StoredEvent]:
        """Return retained events after a number, and after a record if several follow the same number."""
        found = self._fetch(_EVENTS, (strategy_id, after_seq, after_n, after_seq, limit))
        return [_stored(columns) for columns in found]

    def told(self, *, after_n: int, until_n: int, limit: int) -> list[StoredEvent]:
        """Return all retained events between two records, the second included, in the order of their commits."""
        return [_stored(columns) for columns in self._fetch(_TOLD, (after_n, until_n, limit))]

    def prunable(
        self,
        *,
        older_than_us: int,
        keep_events: int = EVENTS_KEPT,
        limit: int = PRUNABLE_MAX,
        held_n: int | None = None,
    ) -> list[int]:
        """Return, in ascending order, the numbers of the records that may go."""
        assert keep_events > 0, "the newest event tells the next number"
        ((horizon,),) = self._fetch("SELECT max(n) FROM mark WHERE at_us < ?", (older_than_us,))
        if horizon and held_n is not None:
            horizon = min(horizon, held_n)
        if not horizon:
            return []
        found = [n for (n,) in self._fetch(_REPLACED, (horizon, limit))]
        for strategy_id in self._strategies_with_events():
            if len(found) >= limit:
                break
            ((last_seq, newest_n, _),) = self._fetch(NEWEST_EVENT, (strategy_id,))
            room = limit - len(found)
            old = self._fetch(_OLD_NUMBERED, (strategy_id, last_seq - keep_events, horizon, room))
            # The newest event stays even if it is opt-in: the next one's ordinal is counted from it.
            opt_in = self._fetch(_OLD_OPT_IN, (strategy_id, min(newest_n, horizon + 1), room))
            found += sorted({n for (n,) in (*old, *opt_in)})[:room]
        return sorted(found)

    @contextmanager
    def snapshot(self) -> Generator[sqlite3.Connection]:
        """Hold one moment still for several queries."""
        self._reading.execute("BEGIN")
        try:
            yield self._reading
        finally:
            self._reading.execute("ROLLBACK")

    def close(self) -> None:
        """Let go of the files."""
        self._reading.close()

    def _strategies_with_events(self) -> Iterator[str]:
        """Hop from one strategy to the next in the index, however many events lie between."""
        owner = ""
        while owner is not None:
            ((owner,),) = self._fetch(_NEXT_STRATEGY, (owner,))
            if owner is not None:
                yield owner

    def _fetch(self, query: str, arguments: tuple[Any, ...]) -> list[Any]:
        try:
            return self._reading.execute(query, arguments).fetchall()
        except sqlite3.Error as error:
            raise unusable(self._path, error) from error


def _stored(columns: tuple[int, str, int, str, bytes]) -> StoredEvent:
    n, owner, sort, state, frame = columns
    opt_in = state == OPT_IN_STATE
    return StoredEvent(n, owner, 0 if opt_in else sort, opt_in, frame)


def _narrowed(entity: str, owner: str | None, state: str | None) -> tuple[str, tuple[Any, ...]]:
    where = "entity = ?"
    arguments: tuple[Any, ...] = (entity,)
    # The second half of each condition is what lets the partial index be used.
    if owner is not None:
        where += " AND owner = ?" + (" AND owner <> ''" if owner else "")
        arguments += (owner,)
    if state is not None:
        where += " AND state = ?" + (" AND state <> ''" if state else "")
        arguments += (state,)
    return where, arguments
