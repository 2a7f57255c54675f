"""Journal bytes: whatever has become of its files, a journal is refused with a remedy or opens as it once was."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path
from random import Random
from typing import Final

from attrs import define, field

from pipaid.model.record import Record
from pipaid.storage.inspect import verify
from pipaid.storage.reading import SqliteReader
from pipaid.storage.sqlite import SqliteJournal
from pipaid.storage.store import JournalUnusable
from pipaid.storage.witness import decode_witness
from tests.fuzz.target import Target
from tests.storage.journals import add, committed, drop, journal_path, numbered, open_journal, opt_in, put

Step = tuple[str, int, int, int]
Case = list[Step]

COMMITS: Final = 60
# After these commits the journal is closed, which empties the log into the database, and all files are copied.
CLOSED_AFTER: Final = (15, 30, 45)
FILES: Final = ("journal.db", "journal.db-wal", "journal.witness")
PAGE: Final = 4_096
REMEDIES: Final = ("journal verify", "check its owner")
STRATEGIES: Final = ("strat_a", "strat_b")
ENTITIES: Final = ("fill", "brain", "order")
_KINDS: Final = ("flip", "flip", "flip", "noise", "zero", "cut", "grow", "page", "shift", "older", "drop")
# A directory in memory: nothing here asks what survives a power failure.
_MEMORY: Final = Path("/dev/shm")

# What can be seen of a journal: rows by entity and key, and the frames of events by strategy.
State = tuple[tuple[tuple[str, str, str, bytes], ...], tuple[tuple[int, bytes], ...]]


@define
class Original:
    """A journal as a crash has left it, copies of its files from before, and what it held after each commit."""

    folder: Path
    states: dict[int, State] = field(factory=dict[int, State])
    last_n: int = 0

    def copy(self, name: str, moment: int) -> Path:
        """Return an older copy of a file."""
        return self.folder / f"{CLOSED_AFTER[moment % len(CLOSED_AFTER)]}-{name}"


def make(chance: Random) -> Case:
    """Return what becomes of the files, one damage after the other."""
    return [
        (
            chance.choice(_KINDS),
            chance.choices((0, 1, 2), (6, 5, 2))[0],
            chance.randrange(10_000),
            chance.randrange(1_000),
        )
        for _ in range(chance.choice((1, 1, 1, 2, 3)))
    ]


def check(case: Case) -> None:
    """Damage a copy of the journal and open it."""
    base = original()
    with tempfile.TemporaryDirectory(dir=base.folder) as name:
        folder = Path(name)
        for file in FILES:
            shutil.copyfile(base.folder / file, folder / file)
        for kind, which, at, more in case:
            _damage(folder / FILES[which % len(FILES)], kind, at, more)
        _open(folder, base)


def _open(folder: Path, base: Original) -> None:
    path = folder / FILES[-1]
    witness = decode_witness(path.read_bytes()) if path.exists() else None
    # A start that was cut short leaves empty files as well.
    gone = not any((folder / name).exists() and (folder / name).stat().st_size for name in FILES)
    try:
        journal = open_journal(folder)
    except JournalUnusable as refused:
        if not any(remedy in refused.message for remedy in REMEDIES):
            raise AssertionError(f"no remedy: {refused.message}") from refused
        return
    with closing(journal):
        n = last_n(journal_path(folder))
        if gone:
            return  # Nobody is left to tell that there was anything.
        assert witness is not None or journal.warnings, "it opened without a witness and without a word"
        assert witness is None or witness.n <= n, "it is older than its witness"
        assert seen(journal) == base.states[n], f"record {n}: it is not what it was"
        committed(journal, numbered(STRATEGIES[0]), put("brain", "new", b"{}"))
    report = verify(journal_path(folder))
    assert report.ok, report.problems


def last_n(path: Path) -> int:
    """Return the number of the last record."""
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT coalesce(max(n), 0) FROM record").fetchone()[0])


def seen(journal: SqliteReader) -> State:
    """Return all that can be seen of a journal."""
    asked = [journal.rows(entity) for entity in ENTITIES]
    # Each way to ask goes over an index of its own.
    asked += [journal.rows(entity, owner=one) for entity in ENTITIES for one in STRATEGIES]
    asked += [journal.rows("order", state=state) for state in ("working", "ended")]
    rows = tuple((row.key, row.owner, row.state, row.data) for found in asked for row in found)
    events = tuple(
        (event.seq, event.frame) for one in STRATEGIES for event in journal.events(one, after_seq=0, limit=10_000)
    )
    return rows, events


@cache
def original() -> Original:
    """Write the journal that all damage is done to."""
    folder = Path(tempfile.mkdtemp(prefix="pipaid-fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None))
    base = Original(folder)
    base.states[0] = ((), ())
    journal = open_journal(folder)
    for number in range(COMMITS):
        _write(journal, base, number)
        if number + 1 in CLOSED_AFTER:
            journal.close()
            for name in FILES:
                if (folder / name).exists():
                    shutil.copyfile(folder / name, folder / f"{number + 1}-{name}")
            journal = open_journal(folder)
    with tempfile.TemporaryDirectory(dir=folder) as crashed:
        for name in FILES:
            shutil.copyfile(folder / name, Path(crashed) / name)
        journal.close()
        for name in FILES:
            shutil.copyfile(Path(crashed) / name, folder / name)
    return base


def forget() -> None:
    """Take the original away."""
    if original.cache_info().currsize:
        shutil.rmtree(original().folder)
        original.cache_clear()


def _write(journal: SqliteJournal, base: Original, number: int) -> None:
    records: list[Record] = [
        add(
            "fill", f"f{number:04d}", bytes([65 + number % 26]) * (40 + number * 37 % 900), owner=STRATEGIES[number % 2]
        ),
        put("brain", STRATEGIES[number % 2], b"%d" % number),
        put("order", f"o{number % 7}", b"[%d]" % number, owner=STRATEGIES[0], state=("working", "ended")[number % 2]),
    ]
    if number % 5 == 4:
        records.append(drop("order", f"o{number % 7}"))
    outcome = committed(journal, *records, numbered(STRATEGIES[number % 2]), opt_in(STRATEGIES[0]))
    base.last_n = outcome.n
    base.states[outcome.n] = seen(journal)


def _damage(path: Path, kind: str, at: int, more: int) -> None:
    """Do one thing to a file; `at` is a place in ten thousandths of it."""
    base = original()
    if kind == "older":
        older = base.copy(path.name, more)
        if older.exists():
            shutil.copyfile(older, path)
        else:
            path.unlink(missing_ok=True)
        return
    if kind == "drop":
        path.unlink(missing_ok=True)
    if not path.exists():
        return
    data = bytearray(path.read_bytes())
    place = len(data) * at // 10_000
    page = place // PAGE * PAGE
    match kind:
        case "flip" if data:
            data[place] ^= 1 << more % 8
        case "noise":
            data[place : place + more] = Random(more).randbytes(len(data[place : place + more]))
        case "zero":
            data[page : page + PAGE] = bytes(len(data[page : page + PAGE]))
        case "cut":
            del data[place:]
        case "grow":
            data += Random(more).randbytes(more * 9)
        case "page":
            other = more % (len(data) // PAGE + 1) * PAGE
            data[page : page + PAGE] = data[other : other + PAGE].ljust(PAGE, b"\0")
        case "shift":
            data[place:place] = bytes(more % 50)
        case _:
            pass
    path.write_bytes(data)


TARGET: Final = Target(name="journals", make=make, check=check, tidy=forget)
