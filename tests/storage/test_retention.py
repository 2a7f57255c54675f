"""Pruning: what may go, what has to stay, and that the rest can still be verified."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import msgspec

from pipaid.seams import SystemDisk
from pipaid.storage.inspect import verify
from pipaid.storage.sqlite import MARK_EVERY_US, SqliteJournal
from tests.storage.journals import (
    START_US,
    HandClock,
    add,
    committed,
    drop,
    journal_path,
    numbered,
    open_journal,
    opt_in,
    put,
)

DAY_US = 24 * 3_600 * 1_000_000


def prune(journal: SqliteJournal, *, older_than_us: int, keep_events: int) -> int:
    return journal.forget(journal.prunable(older_than_us=older_than_us, keep_events=keep_events))


def test_events_go_when_they_are_both_old_and_many(tmp_path: Path) -> None:
    clock = HandClock()
    with closing(open_journal(tmp_path, clock)) as journal:
        for _ in range(10):
            committed(journal, numbered("busy"))
        committed(journal, numbered("quiet"))
        clock.at_us += DAY_US
        for _ in range(10):
            committed(journal, numbered("busy"))

        gone = prune(journal, older_than_us=START_US + DAY_US // 2, keep_events=5)
        kept = [event.seq for event in journal.events("busy", after_seq=0, limit=100)]
        quiet = journal.last_seq("quiet")
        oldest = journal.oldest_seq("busy")

    report = verify(journal_path(tmp_path))
    assert report.ok, report.problems
    # The mark of the old half is its first commit: what came within a minute after it is kept with the younger.
    assert (gone, oldest, kept, quiet) == (1, 2, list(range(2, 21)), 1)


def test_the_newest_events_stay_however_old_they_are(tmp_path: Path) -> None:
    clock = HandClock()
    with closing(open_journal(tmp_path, clock)) as journal:
        for _ in range(20):
            committed(journal, numbered("s"))
            clock.at_us += MARK_EVERY_US

        gone = prune(journal, older_than_us=clock.at_us + DAY_US, keep_events=5)
        kept = [event.seq for event in journal.events("s", after_seq=0, limit=100)]
        following = committed(journal, numbered("s")).events[0].seq

    assert (gone, kept, following) == (15, [16, 17, 18, 19, 20], 21)
    assert verify(journal_path(tmp_path)).ok


def test_young_records_stay_however_many_they_are(tmp_path: Path) -> None:
    clock = HandClock()
    with closing(open_journal(tmp_path, clock)) as journal:
        for _ in range(20):
            committed(journal, numbered("s"), put("brain", "s"))
            clock.at_us += MARK_EVERY_US

        assert prune(journal, older_than_us=START_US, keep_events=1) == 0


def test_opt_in_events_go_by_age_and_their_ordinals_are_never_used_twice(tmp_path: Path) -> None:
    clock = HandClock()
    with closing(open_journal(tmp_path, clock)) as journal:
        before = committed(journal, numbered("s"), *(opt_in("s") for _ in range(4)))
        clock.at_us += MARK_EVERY_US
        committed(journal, put("latch", "kill"))

        gone = prune(journal, older_than_us=clock.at_us + 1, keep_events=100)

    with closing(open_journal(tmp_path, clock)) as journal:
        after = committed(journal, opt_in("s"))
        left = [event.n for event in journal.events("s", after_seq=0, limit=10)]

    ids = [msgspec.json.decode(event.frame)["event_id"] for event in (*before.events, *after.events)]
    assert (gone, left) == (3, [1, 5, after.n])
    assert len(set(ids)) == 6
    assert verify(journal_path(tmp_path)).ok


def test_replaced_records_go_and_the_tables_stay_provable(tmp_path: Path) -> None:
    clock = HandClock()
    with closing(open_journal(tmp_path, clock)) as journal:
        for step in range(30):
            committed(journal, put("brain", "s", b"%d" % step), add("fill", f"f{step:02d}"))
        committed(journal, add("name", "a/x"), drop("name", "a/x"))
        clock.at_us += MARK_EVERY_US
        committed(journal, put("latch", "kill"))

        numbers = journal.prunable(older_than_us=clock.at_us + 1)
        gone = journal.forget(numbers)
        brain = journal.get("brain", "s")

    report = verify(journal_path(tmp_path))
    assert report.ok, report.problems
    assert (gone, report.records, report.pruned) == (31, 32, 31)
    assert brain is not None
    assert brain.data == b"29"
    with closing(open_journal(tmp_path, clock)) as journal:
        assert len(list(journal.rows("fill"))) == 30


def test_a_limit_takes_the_oldest_first(tmp_path: Path) -> None:
    clock = HandClock()
    with closing(open_journal(tmp_path, clock)) as journal:
        for _ in range(10):
            committed(journal, numbered("s"), opt_in("s"), put("brain", "s"))
        clock.at_us += MARK_EVERY_US
        committed(journal, put("latch", "kill"))

        while numbers := journal.prunable(older_than_us=clock.at_us + 1, keep_events=2, limit=3):
            assert numbers == sorted(numbers)
            assert len(numbers) <= 3
            assert journal.forget(numbers) == len(numbers)
            report = verify(journal_path(tmp_path))
            assert report.ok, report.problems

    # Two numbered events, the newest event, the last brain and the latch.
    assert verify(journal_path(tmp_path)).records == 5


def test_nothing_that_counts_can_be_forgotten_by_mistake(tmp_path: Path) -> None:
    with closing(open_journal(tmp_path)) as journal:
        last = committed(journal, add("fill", "f1"), put("brain", "s"), drop("latch", "kill")).n

        gone = journal.forget(list(range(1, last + 1)))

    assert gone == 0
    assert verify(journal_path(tmp_path)).ok


def test_a_clock_set_back_makes_nothing_older_than_it_is(tmp_path: Path) -> None:
    clock = HandClock()
    with closing(open_journal(tmp_path, clock)) as journal:
        clock.at_us += 3_600_000_000
        committed(journal, put("brain", "s"))
        clock.at_us -= 3_600_000_000
        young = committed(journal, put("brain", "s"), put("brain", "s"))

        numbers = journal.prunable(older_than_us=clock.at_us)

    assert young.n not in numbers
    assert numbers == []


def test_what_is_kept_for_a_short_time_goes_in_portions_too(tmp_path: Path) -> None:
    clock, kept_us = HandClock(), 30_000_000
    path = journal_path(tmp_path)
    with closing(SqliteJournal.open(path, disk=SystemDisk(), clock=clock, pid=1, kept_us=kept_us)) as journal:
        for _ in range(60):
            committed(journal, put("brain", "s"))
            clock.at_us += 1_000_000

        gone = prune(journal, older_than_us=clock.at_us - kept_us, keep_events=1)

    assert gone == 30
    assert verify(path).ok


def test_nothing_goes_that_somebody_has_still_to_read(tmp_path: Path) -> None:
    clock = HandClock()
    with closing(open_journal(tmp_path, clock)) as journal:
        for _ in range(20):
            committed(journal, numbered("s"), put("brain", "s"))
            clock.at_us += MARK_EVERY_US
        old = clock.at_us + DAY_US
        nothing = journal.prunable(older_than_us=old, keep_events=5, held_n=0)
        some = journal.prunable(older_than_us=old, keep_events=5, held_n=11)
        everything = journal.prunable(older_than_us=old, keep_events=5)

    assert nothing == []
    assert some == [n for n in everything if n <= 11]
    assert 0 < len(some) < len(everything)


def test_events_of_all_strategies_are_read_in_the_order_of_their_commits(tmp_path: Path) -> None:
    with closing(open_journal(tmp_path)) as journal:
        for name in ("b", "a", "c", "a"):
            committed(journal, put("brain", name), numbered(name), opt_in(name))
        everything = journal.told(after_n=0, until_n=100, limit=100)
        some = journal.told(after_n=everything[1].n, until_n=everything[5].n, limit=100)
        first = journal.told(after_n=0, until_n=100, limit=3)

    assert [event.strategy_id for event in everything] == ["b", "b", "a", "a", "c", "c", "a", "a"]
    assert [event.n for event in everything] == sorted(event.n for event in everything)
    assert [event.seq for event in everything] == [1, 0, 1, 0, 1, 0, 2, 0]
    assert (some, first) == (everything[2:6], everything[:3])
