"""Opening a journal: old schemas are brought up to date, and whatever is damaged, older or foreign is refused."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pipaid.storage.inspect import verify
from pipaid.storage.schema import SCHEMA, backup_path
from pipaid.storage.store import JournalCorrupt, JournalTooNew, JournalUnusable
from tests.storage.journals import add, committed, journal_path, numbered, open_journal, put

SCHEMA_1 = Path(__file__).with_name("journal_schema1.sql")


def make_schema_1(folder: Path) -> None:
    with closing(sqlite3.connect(journal_path(folder), isolation_level=None)) as old:
        old.executescript(SCHEMA_1.read_text())


def write(folder: Path, fills: int = 40) -> None:
    with closing(open_journal(folder)) as journal:
        first = len(list(journal.rows("fill")))
        for number in range(first, first + fills):
            committed(journal, add("fill", f"f{number:04d}", bytes([65 + number % 26]) * 300), numbered("s"))


def copy_in_use(folder: Path, target: Path, fills: int = 40) -> None:
    """Copy the files of a journal that is open, as a crash would leave them."""
    with closing(open_journal(folder)) as journal:
        for number in range(fills):
            committed(journal, add("fill", f"f{number:04d}", b"x" * 300), numbered("s"))
        target.mkdir()
        for name in ("journal.db", "journal.db-wal", "journal.witness"):
            shutil.copy(folder / name, target / name)


def test_an_old_schema_is_migrated_after_a_backup_and_loses_nothing(tmp_path: Path) -> None:
    make_schema_1(tmp_path)

    with closing(open_journal(tmp_path)) as journal:
        order = journal.get("order", "ord_1")
        names = [row.key for row in journal.rows("name")]
        seqs = [event.seq for event in journal.events("strat_00000001", after_seq=0, limit=10)]
        following = committed(journal, numbered("strat_00000001"))
        epoch = journal.epoch

    report = verify(journal_path(tmp_path))
    assert report.ok, report.problems
    assert order is not None
    assert (order.state, order.data) == ("ended", b'{"quantity":"1","filled":"1"}')
    assert (names, seqs, following.n, following.events[0].seq) == (["acc/one"], [1, 2, 0, 0], 13, 3)
    assert (report.schema, epoch) == (SCHEMA, 4)
    with closing(sqlite3.connect(backup_path(journal_path(tmp_path), 1))) as saved:
        assert saved.execute("PRAGMA user_version").fetchone() == (1,)
        assert saved.execute("SELECT count(*) FROM record").fetchone() == (12,)


def test_migrated_records_can_be_pruned_like_any_other(tmp_path: Path) -> None:
    make_schema_1(tmp_path)

    with closing(open_journal(tmp_path)) as journal:
        committed(journal, put("brain", "strat_00000001"))
        numbers = journal.prunable(older_than_us=2**62)
        gone = journal.forget(numbers)

    report = verify(journal_path(tmp_path))
    assert report.ok, report.problems
    assert (gone, report.pruned) == (len(numbers), gone)
    assert {2, 4, 7, 11, 12} <= set(numbers)


def test_a_failed_migration_leaves_the_old_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_schema_1(tmp_path)
    monkeypatch.setattr("pipaid.storage.schema.MIGRATIONS", ((), ("CREATE TABLE half (x)", "SELECT nothing FROM it")))

    with pytest.raises(JournalUnusable):
        open_journal(tmp_path)

    with closing(sqlite3.connect(journal_path(tmp_path))) as left:
        assert left.execute("PRAGMA user_version").fetchone() == (1,)
        assert left.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").fetchone() == (0,)


def test_a_newer_schema_is_refused_untouched(tmp_path: Path) -> None:
    write(tmp_path, fills=1)
    with closing(sqlite3.connect(journal_path(tmp_path))) as newer:
        newer.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    before = journal_path(tmp_path).read_bytes()

    with pytest.raises(JournalTooNew, match=f"has schema {SCHEMA + 1}, this release knows schemas up to {SCHEMA}"):
        open_journal(tmp_path)

    assert journal_path(tmp_path).read_bytes() == before
    assert "schema" in verify(journal_path(tmp_path)).problems[0]


def test_the_database_of_another_program_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(journal_path(tmp_path))) as foreign:
        foreign.execute("CREATE TABLE cookies (name)")

    with pytest.raises(JournalCorrupt, match="another program"):
        open_journal(tmp_path)


def test_an_unreadable_path_is_no_damage(tmp_path: Path) -> None:
    journal_path(tmp_path).mkdir()

    with pytest.raises(JournalUnusable, match="cannot be opened") as caught:
        open_journal(tmp_path)

    assert not isinstance(caught.value, JournalCorrupt)


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database at all, but long enough to have a header" * 50)


def half_written(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def missing(path: Path) -> None:
    path.unlink()


def zeroed_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:8192] = bytes(4096)
    path.write_bytes(content)


def flipped_in_a_record(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.rindex(b"H" * 300) + 150] ^= 0x04
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [garbage, half_written, emptied, missing, zeroed_page, flipped_in_a_record])
def test_damage_is_refused_with_the_place_and_the_remedy(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    write(tmp_path)
    damage(journal_path(tmp_path))

    with pytest.raises(JournalCorrupt) as caught:
        open_journal(tmp_path)

    assert str(journal_path(tmp_path)) in caught.value.message
    assert "journal verify" in caught.value.message
    assert "backup" in caught.value.message
    assert not verify(journal_path(tmp_path)).ok


def test_a_log_without_its_database_is_not_thrown_away(tmp_path: Path) -> None:
    crashed = tmp_path / "crashed"
    copy_in_use(tmp_path, crashed)
    (crashed / "journal.db").unlink()
    (crashed / "journal.witness").unlink()
    before = (crashed / "journal.db-wal").read_bytes()

    with pytest.raises(JournalCorrupt, match=r"its log .* is not"):
        open_journal(crashed)

    assert (crashed / "journal.db-wal").read_bytes() == before


def test_a_row_that_is_not_what_its_record_says_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    with closing(sqlite3.connect(journal_path(tmp_path))) as tampered, tampered:
        tampered.execute("UPDATE entity SET owner = 'somebody' WHERE key = 'f0007'")

    with pytest.raises(JournalCorrupt, match="the row fill f0007 is not what its record says"):
        open_journal(tmp_path)


def test_a_row_that_is_lost_is_missed(tmp_path: Path) -> None:
    write(tmp_path)
    with closing(sqlite3.connect(journal_path(tmp_path))) as tampered, tampered:
        tampered.execute("DELETE FROM entity WHERE key = 'f0007'")

    with pytest.raises(JournalCorrupt, match="the row fill f0007 is not what its record says"):
        open_journal(tmp_path)


def test_an_index_that_lost_its_way_is_refused(tmp_path: Path) -> None:
    with closing(open_journal(tmp_path)) as journal:
        for number in range(40):
            committed(journal, add("fill", f"f{number:04d}", owner="strat_whose"))
    content = bytearray(journal_path(tmp_path).read_bytes())
    with closing(sqlite3.connect(journal_path(tmp_path))) as looked:
        (page,) = looked.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'entity_owner'").fetchone()
    at = content.index(b"strat_whosef00", (page - 1) * 4096)
    content[at] ^= 0x01
    journal_path(tmp_path).write_bytes(content)

    with pytest.raises(JournalCorrupt, match="index entity_owner"):
        open_journal(tmp_path)


def test_the_lock_is_free_after_a_refusal(tmp_path: Path) -> None:
    write(tmp_path)
    good = journal_path(tmp_path).read_bytes()
    garbage(journal_path(tmp_path))
    with pytest.raises(JournalCorrupt):
        open_journal(tmp_path)

    journal_path(tmp_path).write_bytes(good)

    open_journal(tmp_path).close()


def test_an_older_copy_is_refused_until_its_witness_is_gone(tmp_path: Path) -> None:
    write(tmp_path, fills=5)
    older = journal_path(tmp_path).read_bytes()
    write(tmp_path, fills=1)
    journal_path(tmp_path).write_bytes(older)

    with pytest.raises(JournalCorrupt, match="ends at record 10, but record 12 was durable"):
        open_journal(tmp_path)
    problems = verify(journal_path(tmp_path)).problems
    (tmp_path / "journal.witness").unlink()
    with closing(open_journal(tmp_path)) as journal:
        warnings = journal.warnings

    assert "an older copy" in problems[0]
    assert len(warnings) == 1
    assert "was missing" in warnings[0]


def test_another_history_of_the_same_length_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    write(tmp_path, fills=5)
    with closing(open_journal(tmp_path / "other")) as other:
        for number in range(12):
            committed(other, add("fill", f"g{number}"))
    shutil.copy(journal_path(tmp_path / "other"), journal_path(tmp_path))

    with pytest.raises(JournalCorrupt, match="another history"):
        open_journal(tmp_path)
    assert "another history" in verify(journal_path(tmp_path)).problems[0]


def test_a_damaged_witness_is_a_warning(tmp_path: Path) -> None:
    write(tmp_path, fills=3)
    witness = tmp_path / "journal.witness"
    witness.write_bytes(witness.read_bytes().replace(b" 6 ", b" 7 "))

    assert verify(journal_path(tmp_path)).problems == ("the witness is damaged",)
    with closing(open_journal(tmp_path)) as journal:
        assert "was damaged" in journal.warnings[0]
    assert verify(journal_path(tmp_path)).ok


def test_what_a_crash_leaves_is_recovered_from_the_log(tmp_path: Path) -> None:
    copy_in_use(tmp_path, tmp_path / "crashed")

    with closing(open_journal(tmp_path / "crashed")) as journal:
        fills = len(list(journal.rows("fill")))

    assert fills == 40
    assert verify(journal_path(tmp_path / "crashed")).ok


@pytest.mark.parametrize("tenths", range(1, 10, 2))
@pytest.mark.parametrize("how", ["torn", "flipped"])
def test_a_damaged_log_ends_at_a_commit_and_the_witness_misses_the_rest(tmp_path: Path, tenths: int, how: str) -> None:
    crashed = tmp_path / "crashed"
    copy_in_use(tmp_path, crashed)
    log = crashed / "journal.db-wal"
    content = bytearray(log.read_bytes())
    place = len(content) * tenths // 10
    if how == "torn":
        del content[place:]
    else:
        content[place] ^= 0xFF
    log.write_bytes(content)

    with pytest.raises(JournalCorrupt):
        open_journal(crashed)
    (crashed / "journal.witness").unlink()
    with closing(open_journal(crashed)) as journal:
        keys = [row.key for row in journal.rows("fill")]
        last = journal.last_seq("s")

    assert keys == [f"f{number:04d}" for number in range(len(keys))]
    assert last == len(keys) < 40
    report = verify(journal_path(crashed))
    assert report.ok, report.problems
