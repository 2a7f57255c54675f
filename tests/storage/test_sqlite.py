"""The journal on SQLite: what is committed, what is refused, how events are numbered, and when it is lost."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from pipaid.model.record import Batch, Record
from pipaid.seams import SystemDisk
from pipaid.storage.inspect import verify
from pipaid.storage.sqlite import ROWS_PER_STATEMENT_MAX, SqliteJournal
from pipaid.storage.store import Committed, JournalHeld, JournalLost, JournalTaken
from tests.storage.journals import (
    HandClock,
    add,
    committed,
    drop,
    journal_path,
    numbered,
    open_journal,
    opt_in,
    put,
    refused,
)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    with closing(open_journal(tmp_path)) as opened:
        yield opened


def test_a_commit_is_there_after_a_restart(tmp_path: Path) -> None:
    with closing(open_journal(tmp_path)) as first:
        committed(first, add("order", "ord_1", b'{"a":1}', owner="strat_1", state="working", sort=7))

    with closing(open_journal(tmp_path)) as second:
        row = second.get("order", "ord_1")

    assert row is not None
    assert (row.key, row.owner, row.state, row.sort, row.data) == ("ord_1", "strat_1", "working", 7, b'{"a":1}')


def test_put_replaces_and_drop_removes(journal: SqliteJournal) -> None:
    committed(journal, put("brain", "s", b"1"), put("brain", "s", b"2"), put("latch", "kill"), drop("latch", "kill"))

    row = journal.get("brain", "s")

    assert row is not None
    assert row.data == b"2"
    assert journal.get("latch", "kill") is None


def test_adding_an_existing_key_refuses_its_batch_and_no_other(journal: SqliteJournal) -> None:
    committed(journal, add("fill", "f1", b"first"))

    before, twice, after = journal.commit(
        [
            Batch(records=[add("fill", "f2")], events=[numbered("s")]),
            Batch(records=[put("brain", "s"), add("fill", "f1", b"second")], events=[numbered("s")]),
            Batch(records=[add("fill", "f3")], events=[numbered("s")]),
        ]
    )

    assert isinstance(before, Committed)
    assert isinstance(after, Committed)
    assert (refused(twice).entity, refused(twice).key) == ("fill", "f1")
    assert [event.seq for event in (*before.events, *after.events)] == [1, 2]
    assert [row.key for row in journal.rows("fill")] == ["f1", "f2", "f3"]
    assert journal.get("brain", "s") is None
    assert after.n == before.n + 2


def test_keys_added_earlier_in_the_same_transaction_count(journal: SqliteJournal) -> None:
    outcomes = journal.commit(
        [
            Batch(records=[add("name", "a/x", b"1")]),
            Batch(records=[add("name", "a/x", b"2")]),
            Batch(records=[drop("name", "a/x")]),
            Batch(records=[add("name", "a/x", b"3")]),
            Batch(records=[add("name", "a/y"), add("name", "a/y")]),
        ]
    )

    row = journal.get("name", "a/x")

    assert [isinstance(outcome, Committed) for outcome in outcomes] == [True, False, True, True, False]
    assert row is not None
    assert row.data == b"3"


def test_a_large_group_is_written_whole(journal: SqliteJournal) -> None:
    count = 3 * ROWS_PER_STATEMENT_MAX + 5
    journal.commit([Batch(records=[add("fill", f"f{number:04d}")]) for number in range(count)])

    again = journal.commit([Batch(records=[add("fill", f"f{number:04d}")]) for number in range(count + 1)])

    assert [isinstance(outcome, Committed) for outcome in again] == [False] * count + [True]
    assert len(list(journal.rows("fill"))) == count + 1


@pytest.mark.parametrize(
    "record",
    [
        add("name", "a/\ud800"),
        put("brain", "s", owner="\udfff"),
        put("brain", "s", sort=2**63),
        put("brain", "s", sort=-(2**64)),
        put("event", "1"),
    ],
)
def test_what_cannot_be_stored_refuses_its_batch_alone(journal: SqliteJournal, record: Record) -> None:
    bad, good = journal.commit([Batch(records=[add("fill", "f0"), record]), Batch(records=[add("fill", "f1")])])

    assert "cannot be stored" in refused(bad).message
    assert isinstance(good, Committed)
    assert [row.key for row in journal.rows("fill")] == ["f1"]


def test_rows_are_narrowed_by_owner_and_state_in_key_order(journal: SqliteJournal) -> None:
    committed(
        journal,
        add("order", "c", owner="s1", state="working", sort=1),
        add("order", "a", owner="s1", state="working", sort=2),
        add("order", "b", owner="s1", state="ended"),
        add("order", "d", owner="s2", state="working"),
        add("latch", "kill"),
    )

    def keys(owner: str | None, state: str | None) -> list[str]:
        return [row.key for row in journal.rows("order", owner=owner, state=state)]

    assert keys(None, None) == ["a", "b", "c", "d"]
    assert keys("s1", None) == ["a", "b", "c"]
    assert keys(None, "working") == ["a", "c", "d"]
    assert keys("s1", "working") == ["a", "c"]
    assert keys("", None) == []
    assert [row.key for row in journal.rows("latch", owner="", state="")] == ["kill"]


def test_pages_go_down_from_the_newest_without_gap_or_repeat(journal: SqliteJournal) -> None:
    committed(journal, *(add("fill", f"f{number}", owner="s", sort=number // 2) for number in range(7)))

    pages: list[list[str]] = []
    before: tuple[int, str] | None = None
    while rows := journal.page("fill", owner="s", state=None, before=before, limit=3):
        pages.append([row.key for row in rows])
        before = (rows[-1].sort, rows[-1].key)

    assert pages == [["f6", "f5", "f4"], ["f3", "f2", "f1"], ["f0"]]


def test_opt_in_events_take_no_number_and_have_ids_of_their_own_across_restarts(tmp_path: Path) -> None:
    ids: list[str] = []
    for _ in range(2):
        with closing(open_journal(tmp_path)) as journal:
            done = committed(journal, opt_in("s"), numbered("s"), opt_in("s"), opt_in("s"))
            ids += [msgspec.json.decode(event.frame)["event_id"] for event in done.events]

    with closing(open_journal(tmp_path)) as journal:
        events = journal.events("s", after_seq=0, limit=100)
        last = journal.last_seq("s")

    assert [event.seq for event in events] == [0, 1, 0, 0, 0, 2, 0, 0]
    assert [msgspec.json.decode(event.frame).get("after_seq") for event in events] == [0, None, 1, 1, 1, None, 2, 2]
    assert len(set(ids)) == len(ids)
    assert last == 2


def test_reading_events_in_pages_gives_each_once(journal: SqliteJournal) -> None:
    done = committed(journal, numbered("s"), opt_in("s"), opt_in("s"), numbered("other"), opt_in("s"), numbered("s"))
    expected = [event for event in done.events if event.strategy_id == "s"]

    got = journal.events("s", after_seq=0, limit=1)
    while more := journal.events("s", after_seq=max(e.seq for e in got), after_n=got[-1].n, limit=1):
        got += more

    assert got == expected
    assert journal.events("s", after_seq=1, limit=10) == expected[1:]
    assert journal.events("s", after_seq=2, limit=10) == []


def test_a_strategy_without_events_has_no_numbers(journal: SqliteJournal) -> None:
    committed(journal, opt_in("quiet"))

    assert (journal.last_seq("none"), journal.oldest_seq("none")) == (0, 0)
    assert (journal.last_seq("quiet"), journal.oldest_seq("quiet")) == (0, 0)


def test_no_query_shows_what_is_not_durable_yet(journal: SqliteJournal) -> None:
    other = journal.reader()

    with closing(other), journal._transaction():
        journal._writing.execute("INSERT INTO entity VALUES ('latch', 'kill', '', '', 0, x'00', 1)")
        seen = (journal.get("latch", "kill"), other.get("latch", "kill"))
        journal._writing.execute("DELETE FROM entity")

    assert seen == (None, None)


@pytest.mark.parametrize(
    ("narrowing", "index"),
    [
        ({"owner": "s"}, "entity_owner (entity=? AND owner=?)"),
        ({"state": "open"}, "entity_state (entity=? AND state=?)"),
        ({"owner": "s", "state": "open"}, "entity_state (entity=? AND state=? AND owner=?)"),
    ],
)
def test_narrowed_queries_use_an_index(journal: SqliteJournal, narrowing: dict[str, str], index: str) -> None:
    queries: list[str] = []
    journal._reading.set_trace_callback(queries.append)
    list(journal.rows("order", **narrowing))
    journal.page("order", owner=narrowing.get("owner"), state=narrowing.get("state"), before=None, limit=5)
    journal._reading.set_trace_callback(None)

    plans = [journal._reading.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()[0][3] for query in queries]

    assert len(plans) == 2
    assert all(index in plan for plan in plans), plans


def test_a_second_daemon_is_told_who_holds_the_journal(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.storage.journals import open_journal\n"
        "journal = open_journal(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read(); journal.close()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"

        with pytest.raises(JournalHeld, match=f"process {child.pid} holds"):
            open_journal(tmp_path)
        child.communicate()

    open_journal(tmp_path).close()


def test_it_is_told_too_when_that_process_is_gone_and_left_another_behind(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    journal = SqliteJournal.open(journal_path(tmp_path), disk=SystemDisk(), clock=HandClock(), pid=gone.pid)
    with closing(journal), pytest.raises(JournalHeld, match=f"process {gone.pid} is gone, but one that it started"):
        open_journal(tmp_path)


def test_the_fence_stops_a_daemon_whose_lock_was_broken(tmp_path: Path) -> None:
    old = open_journal(tmp_path)
    (tmp_path / "journal.witness").unlink()
    new = open_journal(tmp_path)

    with pytest.raises(JournalTaken, match=r"another daemon took the journal .* over"):
        old.commit([Batch(records=[add("fill", "f1")])])
    with pytest.raises(JournalLost):
        old.commit([Batch(records=[add("fill", "f2")])])
    committed(new, add("fill", "f1"))

    assert new.epoch == old.epoch + 1
    old.close()
    new.close()
    assert verify(journal_path(tmp_path)).ok


def test_a_full_disk_loses_the_journal_and_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    (pages,) = journal._writing.execute("PRAGMA page_count").fetchone()
    journal._writing.execute(f"PRAGMA max_page_count = {pages + 20}")
    acknowledged = 0

    def fill_up() -> None:
        nonlocal acknowledged
        while True:
            committed(journal, add("fill", f"f{acknowledged:04d}", b"x" * 1000), numbered("s"))
            acknowledged += 1

    with pytest.raises(JournalLost, match="full"):
        fill_up()
    with pytest.raises(JournalLost):
        journal.commit([Batch(records=[put("latch", "kill")])])
    journal.close()

    with closing(open_journal(tmp_path)) as again:
        assert acknowledged > 3
        assert len(list(again.rows("fill"))) == acknowledged
        assert again.last_seq("s") == acknowledged
    assert verify(journal_path(tmp_path)).ok


def test_a_witness_that_cannot_be_written_loses_the_journal(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal._held.release()

    with pytest.raises(JournalLost, match="witness"):
        committed(journal, put("latch", "kill"))

    journal._writing.close()
    journal._reading.close()


def test_a_bug_while_writing_loses_the_journal_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    committed(journal, numbered("s"))

    with pytest.raises(AttributeError):
        journal.commit([Batch(records=[add("fill", "f1")]), None])  # type: ignore[list-item]  # That is the bug.
    with pytest.raises(JournalLost):
        committed(journal, numbered("s"))
    journal.close()

    with closing(open_journal(tmp_path)) as again:
        assert again.get("fill", "f1") is None
        assert committed(again, numbered("s")).events[0].seq == 2


def test_closing_leaves_one_file_beside_the_witness(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    committed(journal, add("fill", "f1"))
    during = {path.name for path in tmp_path.iterdir()}
    journal.close()

    assert during == {"journal.db", "journal.db-wal", "journal.db-shm", "journal.witness"}
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "journal.db": 0o600,
        "journal.witness": 0o600,
    }
    with closing(sqlite3.connect(journal_path(tmp_path))) as plain:
        assert plain.execute("SELECT count(*) FROM record").fetchone() == (1,)
