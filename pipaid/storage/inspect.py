"""Judge a journal from outside, also while a daemon writes it: is it whole, what does it amount to, a copy of it."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from pipaid.errors import InvalidParameter
from pipaid.model.money import plain
from pipaid.model.order import BookedFill, Fill
from pipaid.model.position import Position
from pipaid.model.strategy import Strategy, Tally
from pipaid.seams import Disk, SystemDisk
from pipaid.storage.chain import EVENT_ENTITY, OPT_IN_STATE, Linked, breaks
from pipaid.storage.connection import connect_to_read, copy_database, gone_by_witness, witness_path
from pipaid.storage.reading import SqliteReader
from pipaid.storage.schema import RECORDS_WITHOUT_EFFECT, ROWS_THAT_DIFFER, SCHEMA, require_known
from pipaid.storage.store import JournalUnusable, Row
from pipaid.storage.witness import Witness, decode_witness

PROBLEMS_MAX: Final = 100

_RECORDS: Final = "SELECT n, entity, key, kind, owner, state, sort, data, previous, hash FROM record ORDER BY n"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found; no problems means that the journal is whole.

    `streams` counts those of events: of each strategy that ever was, of the accounts and of jobs.
    """

    path: str
    schema: int
    epoch: int
    records: int
    pruned: int
    last_n: int
    last_hash: str
    streams: int
    events: int
    rows: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Tell whether nothing is wrong."""
        return not self.problems


class StrategyDigest(msgspec.Struct, frozen=True, kw_only=True):
    """What one strategy amounts to."""

    account: str
    name: str
    fills: int
    positions: int
    digest: str


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """What all strategies amount to; equal for two journals that traded alike, whatever their ids and wall times."""

    digest: str
    strategies: tuple[StrategyDigest, ...]


class _Frame(msgspec.Struct):
    id: str
    seq: int = 0
    after_seq: int = 0


class _Brain(msgspec.Struct):
    tally: Tally = Tally()


def verify(path: Path, *, disk: Disk | None = None) -> Report:
    """Check all that a journal promises: structure, numbers, hashes, events, tables and the witness."""
    if (trouble := gone_by_witness(path, disk or SystemDisk())) is not None:
        return _unreadable(path, trouble.message)
    if not path.is_file():
        return _unreadable(path, f"there is no journal at {path}")
    # The witness is read first: whatever it has seen is in the state that is looked at afterwards.
    testimony = (disk or SystemDisk()).read(witness_path(path)) if witness_path(path).exists() else b""
    try:
        with closing(connect_to_read(path)) as connection:
            connection.execute("BEGIN")
            schema = require_known(connection, path)
            if schema != SCHEMA:
                return _unreadable(path, f"its schema is {schema}, this release verifies {SCHEMA}: start pipaidd once")
            return _Verification(connection, decode_witness(testimony), testimony).report(path)
    except sqlite3.Error as error:
        return _unreadable(path, f"SQLite cannot read it: {error}")
    except JournalUnusable as error:
        return _unreadable(path, error.message)


def digest(path: Path) -> Digest:
    """Digest the fills, positions and statistics of all strategies that are not deleted."""
    reader = SqliteReader(path)
    with closing(reader), reader.snapshot():
        strategies = [
            msgspec.json.decode(row.data, type=Strategy) for row in reader.rows("strategy") if row.state != "deleted"
        ]
        kept = sorted((s for s in strategies if not s.deleted_at_ms), key=lambda s: (s.account, s.definition.name))
        digests = tuple(_strategy_digest(reader, strategy) for strategy in kept)
    lines = [f"{each.account}\t{each.name}\t{each.digest}" for each in digests]
    return Digest(digest=_hash(lines), strategies=digests)


def backup(path: Path, target: Path) -> None:
    """Copy a journal, also one in use, to a file that does not exist yet."""
    if target.exists():
        raise InvalidParameter(f"{target} exists already: name a new file for the backup")
    with closing(connect_to_read(path)) as connection:
        require_known(connection, path)
        copy_database(connection, target)


class _Verification:
    """One pass over a journal that stands still."""

    def __init__(self, connection: sqlite3.Connection, witness: Witness | None, testimony: bytes) -> None:
        self._connection = connection
        self._witness = witness
        self._problems: list[str] = [] if witness or not testimony else ["the witness is damaged"]
        self._last_n = 0
        self._last_hash = b""
        self._records = 0
        self._events = 0
        self._seqs: dict[str, int] = {}
        (self._epoch, self._pruned, self._horizon) = connection.execute(
            "SELECT epoch, pruned, horizon FROM fence"
        ).fetchone()

    def report(self, path: Path) -> Report:
        for (finding,) in self._connection.execute(f"PRAGMA integrity_check({PROBLEMS_MAX})"):
            if finding != "ok":
                self._find(f"SQLite: {finding}")
        for problem in breaks(self._walk()):
            self._find(problem)
        self._count_holes()
        self._compare_tables()
        self._hear_witness()
        (rows,) = self._connection.execute("SELECT count(*) FROM entity").fetchone()
        return Report(
            path=str(path),
            schema=SCHEMA,
            epoch=self._epoch,
            records=self._records,
            pruned=self._pruned,
            last_n=self._last_n,
            last_hash=self._last_hash.hex(),
            streams=len(self._seqs),
            events=self._events,
            rows=rows,
            problems=tuple(self._problems),
        )

    def _walk(self) -> Iterator[Linked]:
        """Pass the records on while looking at what the chain of hashes does not tell."""
        for linked in self._connection.execute(_RECORDS):
            n, entity = linked[0], linked[1]
            if n != self._last_n + 1 and n - 1 > self._horizon:
                self._find(f"records {self._last_n + 1} to {n - 1} are missing and were not pruned")
            if self._witness and n == self._witness.n and linked[-1] != self._witness.hash:
                self._find(f"record {n} is not the one that the witness saw: this is another history")
            if entity == EVENT_ENTITY:
                self._look_at_event(linked)
            self._records += 1
            self._last_n, self._last_hash = n, linked[-1]
            yield linked

    def _look_at_event(self, linked: Linked) -> None:
        n, _, _, _, strategy_id, state, sort, data, _, _ = linked
        self._events += 1
        opt_in = state == OPT_IN_STATE
        last = self._seqs.get(strategy_id)
        # The first one retained may have any number once something has been pruned.
        expected = sort if last is None and self._pruned else (last or 0) + (not opt_in)
        if sort != expected:
            self._find(f"record {n}: event {sort} of {strategy_id} where {expected} is due")
        self._seqs[strategy_id] = sort
        try:
            frame = msgspec.json.decode(data, type=_Frame)
        except msgspec.MsgspecError as error:
            self._find(f"record {n}: the frame of event {sort} of {strategy_id} cannot be read: {error}")
        else:
            if (frame.id, frame.seq, frame.after_seq) != (strategy_id, 0 if opt_in else sort, sort if opt_in else 0):
                self._find(f"record {n}: the frame of event {sort} of {strategy_id} bears another id or number")

    def _count_holes(self) -> None:
        missing = self._last_n - self._records
        if missing != self._pruned:
            self._find(f"{missing} records are missing, {self._pruned} were pruned")

    def _compare_tables(self) -> None:
        for entity, key in self._connection.execute(ROWS_THAT_DIFFER, (PROBLEMS_MAX,)):
            self._find(f"the row {entity} {key} differs from the record that should have written it")
        for entity, key in self._connection.execute(RECORDS_WITHOUT_EFFECT, (PROBLEMS_MAX,)):
            self._find(f"the newest record of {entity} {key} is not in the table")

    def _hear_witness(self) -> None:
        if self._witness and self._witness.n > self._last_n:
            self._find(f"it ends at record {self._last_n}, but record {self._witness.n} was durable: an older copy")

    def _find(self, problem: str) -> None:
        if len(self._problems) < PROBLEMS_MAX:
            self._problems.append(problem)


def _unreadable(path: Path, problem: str) -> Report:
    return Report(
        path=str(path),
        schema=0,
        epoch=0,
        records=0,
        pruned=0,
        last_n=0,
        last_hash="",
        streams=0,
        events=0,
        rows=0,
        problems=(problem,),
    )


def _strategy_digest(reader: SqliteReader, strategy: Strategy) -> StrategyDigest:
    brain = reader.get("brain", strategy.id)
    tally = msgspec.json.decode(brain.data, type=_Brain).tally if brain else Tally()
    fills = _lines(reader.rows("fill", owner=strategy.id), _fill_line)
    positions = _lines(reader.rows("position", owner=strategy.id), _position_line)
    return StrategyDigest(
        account=strategy.account,
        name=strategy.definition.name,
        fills=len(fills),
        positions=len(positions),
        digest=_hash([*fills, *positions, _tally_line(tally)]),
    )


def _lines(rows: Iterator[Row], line: Callable[[Row], str]) -> list[str]:
    return sorted(line(row) for row in rows)


def _fill_line(row: Row) -> str:
    fill: Fill = msgspec.json.decode(row.data, type=BookedFill).fill
    return (
        f"fill {fill.time_ms:015d} {fill.symbol} {fill.side} {plain(fill.quantity)} {plain(fill.price)} "
        f"{plain(fill.fee)} {'maker' if fill.maker else 'taker'}"
    )


def _position_line(row: Row) -> str:
    lot = msgspec.json.decode(row.data, type=Position)
    return (
        f"position {lot.opened_at_ms:015d} {lot.closed_at_ms:015d} {lot.symbol} {lot.direction} "
        f"{plain(lot.entry_quantity)} {plain(lot.entry_value)} {plain(lot.exit_quantity)} {plain(lot.exit_value)} "
        f"{plain(lot.fees)} {plain(lot.funding)} {lot.reason or '-'} {lot.tag!r}"
    )


def _tally_line(tally: Tally) -> str:
    sums = (tally.pnl, tally.gross_profit, tally.gross_loss, tally.fees, tally.funding, tally.peak, tally.drawdown)
    return f"tally {tally.trades} {tally.wins} {tally.fills} " + " ".join(plain(amount) for amount in sums)


def _hash(lines: list[str]) -> str:
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()
