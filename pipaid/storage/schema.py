"""The journal's tables and the numbered migrations that lead to them; a new journal goes through all of them."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from pipaid.storage.chain import HASH_BYTES
from pipaid.storage.connection import copy_database, damaged, set_durable
from pipaid.storage.store import JournalTooNew

# "pipa" in the file's header tells a journal from any other SQLite database.
APPLICATION_ID: Final = 0x70697061

# record: the log; its numbers have no holes but those that pruning made. Events are records too, found by strategy
#   (owner) and number (sort).
# entity: the tables; each row as its last record left it.
# fence: the epoch of the daemon that may write.
_FIRST: Final = (
    """
    CREATE TABLE record (
        n INTEGER PRIMARY KEY, entity TEXT NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL, owner TEXT NOT NULL,
        state TEXT NOT NULL, sort INTEGER NOT NULL, data BLOB NOT NULL, hash BLOB NOT NULL
    )
    """,
    "CREATE INDEX record_event ON record (owner, sort) WHERE entity = 'event'",
    """
    CREATE TABLE entity (
        entity TEXT NOT NULL, key TEXT NOT NULL, owner TEXT NOT NULL, state TEXT NOT NULL, sort INTEGER NOT NULL,
        data BLOB NOT NULL, PRIMARY KEY (entity, key)
    )
    """,
    # Rows without owner or state, the most often written of all, cost no index.
    "CREATE INDEX entity_owner ON entity (entity, owner, sort, key) WHERE owner <> ''",
    "CREATE INDEX entity_state ON entity (entity, state, owner, sort, key) WHERE state <> ''",
    "CREATE TABLE fence (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), epoch INTEGER NOT NULL)",
    "INSERT INTO fence (only_row, epoch) VALUES (1, 0)",
)
# Pruning: each record keeps the hash before it, so that those around a hole can be verified; each row knows its last
# record, so that replaced ones can be told; `mark` says which number the log had reached when; `fence` counts what is
# gone and remembers up to where there may be holes.
_PRUNING: Final = (
    f"ALTER TABLE record ADD COLUMN previous BLOB NOT NULL DEFAULT x'{'00' * HASH_BYTES}'",
    """
    UPDATE record SET previous = before.hash
    FROM record AS before WHERE before.n = record.n - 1
    """,
    "ALTER TABLE entity ADD COLUMN n INTEGER NOT NULL DEFAULT 0",
    """
    UPDATE entity SET n = newest.n
    FROM (SELECT entity, key, max(n) AS n FROM record WHERE entity <> 'event' GROUP BY entity, key) AS newest
    WHERE newest.entity = entity.entity AND newest.key = entity.key
    """,
    "CREATE INDEX record_opt_in ON record (owner) WHERE entity = 'event' AND state = 'opt_in'",
    "CREATE TABLE mark (at_us INTEGER PRIMARY KEY, n INTEGER NOT NULL)",
    "ALTER TABLE fence ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE fence ADD COLUMN horizon INTEGER NOT NULL DEFAULT 0",
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_FIRST, _PRUNING)
SCHEMA: Final = len(MIGRATIONS)

# The tables are what the records made of them: neither of these finds anything.
ROWS_THAT_DIFFER: Final = """
    SELECT entity.entity, entity.key FROM entity LEFT JOIN record ON record.n = entity.n
        AND record.entity = entity.entity AND record.key = entity.key AND record.kind <> 'drop'
        AND record.owner = entity.owner AND record.state = entity.state AND record.sort = entity.sort
        AND record.data = entity.data
    WHERE record.n IS NULL LIMIT ?
"""
RECORDS_WITHOUT_EFFECT: Final = """
    SELECT record.entity, record.key
    FROM (SELECT max(n) AS n FROM record WHERE entity <> 'event' GROUP BY entity, key) AS newest
    JOIN record ON record.n = newest.n
    LEFT JOIN entity ON entity.entity = record.entity AND entity.key = record.key
    WHERE (record.kind = 'drop') = (entity.n IS NOT NULL) OR (record.kind <> 'drop' AND entity.n IS NOT record.n)
    LIMIT ?
"""


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables, or bring those of an earlier release up to date after saving a copy of them."""
    version = require_known(connection, path)
    set_durable(connection)
    if version == SCHEMA:
        return
    if version:
        copy_database(connection, backup_path(path, version))
    migrate(connection, version, SCHEMA)


def require_known(connection: sqlite3.Connection, path: Path) -> int:
    """Return the schema's number, 0 for an empty file; refuse a foreign database and a later schema."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application_id != APPLICATION_ID and (tables or version or application_id):
        raise damaged(path, "it is an SQLite database of another program")
    if version > SCHEMA:
        raise JournalTooNew(
            f"the journal {path} has schema {version}, this release knows schemas up to {SCHEMA}: "
            f"run the release that wrote it, or restore the backup made before its migration "
            f"({backup_path(path, SCHEMA).name}, if schema {SCHEMA} came before it)"
        )
    return int(version)


def migrate(connection: sqlite3.Connection, version: int, target: int) -> None:
    """Apply the migrations from one schema to another in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for number in range(version + 1, target + 1):
        for statement in MIGRATIONS[number - 1]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number}")
    connection.execute("COMMIT")


def backup_path(path: Path, version: int) -> Path:
    """Return where the copy that precedes a migration stands."""
    return path.with_name(f"{path.name}.schema{version}.backup")
