"""Connections to the journal's database, what its errors mean to a person, and whole copies of it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from pipaid.seams import Disk
from pipaid.storage.store import JournalCorrupt, JournalUnusable
from pipaid.storage.witness import Witness, decode_witness

BUSY_TIMEOUT_S: Final = 5.0
WRITER_CACHE_KIB: Final = 4_096
READER_CACHE_KIB: Final = 512
CHECKPOINT_PAGES: Final = 2_000
LOG_BYTES_KEPT: Final = 32 * 1024 * 1024
SQLITE_MIN: Final = (3, 33, 0)  # The first with UPDATE ... FROM, which a migration uses.
STATEMENTS_KEPT: Final = 256

_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})


def connect_to_write(path: Path) -> sqlite3.Connection:
    """Open the database for its one writer, making it if need be; `set_durable` is to follow."""
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        wanted = ".".join(map(str, SQLITE_MIN))
        raise JournalUnusable(f"the journal needs SQLite {wanted} or later, this Python has {sqlite3.sqlite_version}")
    return _connect(path, "rwc", WRITER_CACHE_KIB)


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open an existing database for reading alone."""
    connection = _connect(path, "ro", READER_CACHE_KIB)
    connection.execute("PRAGMA query_only = ON")
    return connection


def set_durable(connection: sqlite3.Connection) -> None:
    """Write ahead, and force each commit to the disk before it is told."""
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise JournalUnusable(f"the journal's file system cannot carry a write-ahead log (journal_mode is {mode})")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES_KEPT}")


def witness_path(path: Path) -> Path:
    """Return where the witness of a journal stands: beside it."""
    return path.with_suffix(".witness")


def log_path(path: Path) -> Path:
    """Return where SQLite keeps the write-ahead log of a journal: beside it."""
    return path.with_name(f"{path.name}-wal")


def unusable(path: Path, error: sqlite3.Error) -> JournalUnusable:
    """Return what to raise for an error met while opening or reading: damage, or trouble with the file itself."""
    # The low byte is the kind of error, what is above it a finer shade.
    if (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _DAMAGE:
        return damaged(path, str(error))
    return JournalUnusable(f"the journal {path} cannot be opened or read: {error}; check its owner, mode and disk")


def damaged(path: Path, finding: str) -> JournalCorrupt:
    """Return the error that tells a person what is wrong, where, and what to do."""
    return JournalCorrupt(
        f"the journal {path} is damaged: {finding}. "
        "`pipaid journal verify` lists everything that is wrong with it. "
        f"To go back to a backup: stop the daemon, move {path.name}, {path.name}-wal and {path.name}-shm aside, "
        f"copy the backup to {path}, and delete {witness_path(path)}, which vouches for the newer state"
    )


def gone(path: Path, witness: Witness | None, disk: Disk) -> JournalCorrupt | None:
    """Return what is wrong with a journal that is missing or empty although there was one, or nothing."""
    if disk.exists(path) and path.stat().st_size:
        return None
    if witness is not None and witness.n:
        return damaged(path, f"it is missing or empty, but record {witness.n} was durable")
    # SQLite would take the log for that of another file, and delete it.
    if disk.exists(log_path(path)) and log_path(path).stat().st_size:
        return damaged(path, f"it is missing or empty, but its log {log_path(path)} is not")
    return None


def gone_by_witness(path: Path, disk: Disk) -> JournalCorrupt | None:
    """Return the same, asking the witness that stands beside the journal."""
    beside = witness_path(path)
    return gone(path, decode_witness(disk.read(beside)) if disk.exists(beside) else None, disk)


def copy_database(source: sqlite3.Connection, target: Path) -> None:
    """Write a consistent copy, also of a database in use; the target appears only once it is whole and durable."""
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
        copy.execute("PRAGMA synchronous = FULL")
        source.backup(copy)
        # The copy stands alone: readers of a write-ahead database would need to write beside it.
        copy.execute("PRAGMA journal_mode = DELETE")
    partial.chmod(0o600)
    os.replace(partial, target)


def _connect(path: Path, mode: str, cache_kib: int) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS_KEPT,
    )
    try:
        connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
    except (sqlite3.Error, UnicodeDecodeError) as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise
        # SQLite quotes the damaged schema in its message, which Python cannot read then.
        raise damaged(path, "its schema is unreadable") from None
    return connection
