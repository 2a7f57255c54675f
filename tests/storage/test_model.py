"""Whatever is committed, refused, pruned and reopened, the journal equals two dictionaries."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipaid.model.record import Batch, Kind, Record
from pipaid.storage.inspect import verify
from pipaid.storage.sqlite import MARK_EVERY_US, SqliteJournal
from pipaid.storage.store import Committed
from tests.storage.journals import HandClock, journal_path, numbered, open_journal, opt_in

KEEP = 3

records = st.builds(
    Record,
    st.sampled_from(["order", "fill"]),
    st.sampled_from(["k1", "k2", "k3", "ключ", ""]),
    st.sampled_from(Kind),
    st.binary(max_size=40),
    st.sampled_from(["", "s1", "s2"]),
    st.sampled_from(["", "open", "closed"]),
    st.integers(-(2**63) + 1, 2**63 - 1),
)
events = st.sampled_from([make(strategy_id) for make in (numbered, opt_in) for strategy_id in "ab"])
batches = st.builds(Batch, records=st.lists(records, max_size=4), events=st.lists(events, max_size=3))

Table = dict[tuple[str, str], Record]


class JournalMachine(RuleBasedStateMachine):
    """Drive a journal and a model of it side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = HandClock()
        self.journal: SqliteJournal = open_journal(Path(self.folder.name), self.clock)
        self.table: Table = {}
        self.seqs = {"a": 0, "b": 0}
        self.n = 0

    @rule(group=st.lists(batches, max_size=5))
    def commit(self, group: list[Batch]) -> None:
        for batch, outcome in zip(group, self.journal.commit(group), strict=True):
            after = applied(self.table, batch.records)
            assert isinstance(outcome, Committed) == (after is not None)
            if after is not None:
                assert isinstance(outcome, Committed)
                self.table = after
                self.n += len(batch.records) + len(batch.events)
                assert outcome.n == self.n
                self.expect_numbers(outcome)
        self.clock.at_us += MARK_EVERY_US // 2

    @rule()
    def reopen(self) -> None:
        self.journal.close()
        self.journal = open_journal(Path(self.folder.name), self.clock)
        assert self.journal.warnings == ()

    @rule()
    def crash(self) -> None:
        """Let go of the files without a word, as the death of the process does."""
        self.journal._writing.close()
        self.journal._reading.close()
        self.journal._held.release()
        self.journal = open_journal(Path(self.folder.name), self.clock)

    @precondition(lambda self: self.n > 5)
    @rule(limit=st.integers(1, 30))
    def prune(self, limit: int) -> None:
        numbers = self.journal.prunable(older_than_us=self.clock.at_us, keep_events=KEEP, limit=limit)
        assert self.journal.forget(numbers) == len([n for n in numbers if n < self.n])

    @invariant()
    def agrees(self) -> None:
        for entity in ("order", "fill"):
            expected = sorted(key for place, key in self.table if place == entity)
            assert [row.key for row in self.journal.rows(entity)] == expected
            owned = [
                r for (place, _), r in self.table.items() if place == entity and (r.owner, r.state) == ("s1", "open")
            ]
            by_sort = sorted(owned, key=lambda r: (r.sort, r.key.encode()), reverse=True)
            page = self.journal.page(entity, owner="s1", state="open", before=None, limit=10)
            assert [(row.key, row.data, row.sort) for row in page] == [(r.key, r.data, r.sort) for r in by_sort]
        for strategy_id, last in self.seqs.items():
            assert self.journal.last_seq(strategy_id) == last
            kept = [e.seq for e in self.journal.events(strategy_id, after_seq=0, limit=10_000) if e.seq]
            assert kept == list(range(last - len(kept) + 1, last + 1))
            assert len(kept) >= min(last, KEEP)

    def expect_numbers(self, outcome: Committed) -> None:
        for event in outcome.events:
            if not event.opt_in:
                self.seqs[event.strategy_id] += 1
                assert event.seq == self.seqs[event.strategy_id]

    def teardown(self) -> None:
        self.journal.close()
        report = verify(journal_path(Path(self.folder.name)))
        assert report.ok, report.problems
        assert report.last_n == self.n
        self.folder.cleanup()


def applied(table: Table, changes: list[Record]) -> Table | None:
    """Return the table after a batch, None if it adds what is there."""
    after = dict(table)
    for record in changes:
        place = (record.entity, record.key)
        if record.kind is Kind.DROP:
            after.pop(place, None)
        elif record.kind is Kind.ADD and place in after:
            return None
        else:
            after[place] = record
    return after


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
