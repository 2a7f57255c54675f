"""The recorder: durable first, visible second, in order, carried through whatever becomes of the submitter."""

from __future__ import annotations

import functools
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import actors.recorder as recorder_module
from actors.recorder import GROUP_MAX, Recorder
from pipaid.errors import Unavailable
from pipaid.model.record import Batch
from pipaid.seams import SystemClock
from pipaid.storage.inspect import verify
from pipaid.storage.sqlite import MARK_EVERY_US, SqliteJournal
from pipaid.storage.store import CommitInDoubt, Committed, JournalLost, JournalRefused, Reader, StoredEvent
from pipaid.wire.activity import Activity
from tests.storage.journals import HandClock, add, committed, journal_path, numbered, open_journal, put

both_ways = pytest.mark.parametrize("threaded", [True, False], ids=["threaded", "inline"])


class Stage:
    """A recorder over a real journal, and everything it told in the order in which it told it."""

    def __init__(self, folder: Path, *, threaded: bool) -> None:
        self.clock = HandClock()
        self.journal: SqliteJournal = open_journal(folder, self.clock)
        self.activity = Activity()
        self.told: list[str] = []
        self.recorder = Recorder(
            journal=self.journal,
            publish=self.publish,
            clock=self.clock,
            activity=self.activity,
            threaded=threaded,
        )

    def publish(self, events: Sequence[StoredEvent]) -> None:
        for event in events:
            assert self.journal.last_seq(event.strategy_id) >= event.seq, "published before it was durable"
            self.told.append(f"{event.strategy_id}#{event.seq}")

    def submit(self, name: str, batch: Batch) -> None:
        self.recorder.submit(batch, functools.partial(self.note, name))

    def note(self, name: str, outcome: Committed | JournalRefused | BaseException) -> None:
        self.told.append(f"{name}:{type(outcome).__name__}")


@asynccontextmanager
async def running(folder: Path, *, threaded: bool) -> AsyncGenerator[Stage]:
    stage = Stage(folder, threaded=threaded)
    with closing(stage.journal):
        async with trio.open_nursery() as nursery:
            await nursery.start(stage.recorder.run)
            yield stage
            nursery.cancel_scope.cancel()


def fill(key: str, strategy_id: str = "s") -> Batch:
    return Batch(records=[add("fill", key)], events=[numbered(strategy_id)])


@both_ways
async def test_commit_returns_the_proof_and_raises_the_refusal(tmp_path: Path, threaded: bool) -> None:
    async with running(tmp_path, threaded=threaded) as stage:
        proof = await stage.recorder.commit(fill("f1"))
        with pytest.raises(JournalRefused):
            await stage.recorder.commit(fill("f1"))

        assert (proof.n, [event.seq for event in proof.events]) == (2, [1])
        assert stage.journal.get("fill", "f1") is not None
        assert stage.told == ["s#1"]
        assert (stage.recorder.batches, stage.recorder.refusals, stage.recorder.records) == (2, 1, 2)


@both_ways
async def test_submitters_are_told_in_order_each_before_its_events(tmp_path: Path, threaded: bool) -> None:
    async with running(tmp_path, threaded=threaded) as stage:
        stage.submit("one", fill("f1"))
        stage.submit("two", fill("f1"))
        stage.submit("three", fill("f3", "t"))
        assert stage.told == []
        await stage.activity.idle()

        assert stage.told == ["one:Committed", "s#1", "two:JournalRefused", "three:Committed", "t#1"]


@both_ways
async def test_many_waiters_share_transactions_and_keep_their_order(tmp_path: Path, threaded: bool) -> None:
    finished: list[int] = []

    async with running(tmp_path, threaded=threaded) as stage:

        async def actor(number: int) -> None:
            for turn in range(5):
                await stage.recorder.commit(fill(f"f{number}-{turn}", f"s{number}"))
            finished.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(actor, number)

        assert sorted(finished) == list(range(100))
        assert stage.recorder.batches == 500
        assert stage.recorder.commits < 250
        assert 1 < stage.recorder.group_largest <= 100
        published = [told for told in stage.told if told.startswith("s7#")]
        assert published == ["s7#1", "s7#2", "s7#3", "s7#4", "s7#5"]
    assert verify(journal_path(tmp_path)).ok


@both_ways
async def test_a_group_has_a_bound(tmp_path: Path, threaded: bool) -> None:
    async with running(tmp_path, threaded=threaded) as stage:
        for number in range(GROUP_MAX * 2 + 10):
            stage.recorder.submit(Batch(records=[add("fill", f"f{number}")]))
        await stage.activity.idle()

        assert stage.recorder.group_largest <= GROUP_MAX
        assert stage.recorder.records == GROUP_MAX * 2 + 10


@both_ways
async def test_a_cancelled_waiter_does_not_cancel_the_commit(
    tmp_path: Path, threaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, threaded=threaded) as stage:
        enqueue = Recorder._enqueue
        with trio.CancelScope() as scope:

            def enqueue_and_cancel(recorder: Recorder, item: Any) -> None:
                enqueue(recorder, item)
                scope.cancel()

            monkeypatch.setattr(Recorder, "_enqueue", enqueue_and_cancel)
            await stage.recorder.commit(fill("f1"))
        assert scope.cancelled_caught
        await stage.activity.idle()

        assert stage.journal.get("fill", "f1") is not None
        assert stage.told == ["s#1"]


@both_ways
async def test_a_commit_asked_for_in_a_cancelled_scope_is_not_made(tmp_path: Path, threaded: bool) -> None:
    async with running(tmp_path, threaded=threaded) as stage:
        with trio.CancelScope() as scope:
            scope.cancel()
            await stage.recorder.commit(fill("f1"))
        await stage.activity.idle()

        assert stage.recorder.batches == 0


@both_ways
async def test_what_was_submitted_is_carried_through_when_the_recorder_is_stopped(
    tmp_path: Path, threaded: bool
) -> None:
    async with running(tmp_path, threaded=threaded) as stage:
        for number in range(3_000):
            stage.submit(str(number), Batch(records=[add("fill", f"f{number:04d}")]))

    assert stage.told == [f"{number}:Committed" for number in range(3_000)]
    assert stage.activity.count == 0
    with pytest.raises(Unavailable):
        stage.recorder.submit(fill("late"))
    with closing(open_journal(tmp_path)) as again:
        assert len(list(again.rows("fill"))) == 3_000


@both_ways
async def test_a_full_line_refuses_and_counts_nothing(
    tmp_path: Path, threaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "PENDING_MAX", 3)
    stage = Stage(tmp_path, threaded=threaded)
    with closing(stage.journal):
        for number in range(3):
            stage.submit(str(number), fill(f"f{number}"))

        with pytest.raises(Unavailable, match="3 batches wait"):
            stage.submit("over", fill("f9"))

        assert (stage.recorder.pending, stage.activity.count) == (3, 3)
        async with trio.open_nursery() as nursery:
            await nursery.start(stage.recorder.run)
            await stage.activity.idle()
            nursery.cancel_scope.cancel()
        assert [row.key for row in stage.journal.rows("fill")] == ["f0", "f1", "f2"]


@both_ways
async def test_a_lost_journal_tells_everybody_and_ends_the_recorder(tmp_path: Path, threaded: bool) -> None:
    stage = Stage(tmp_path, threaded=threaded)
    (pages,) = stage.journal._writing.execute("PRAGMA page_count").fetchone()
    stage.journal._writing.execute(f"PRAGMA max_page_count = {pages}")
    raised: list[JournalLost] = []

    async def waiter() -> None:
        with pytest.raises(JournalLost) as caught:
            await stage.recorder.commit(Batch(records=[add("fill", "f1", b"x" * 100_000)]))
        raised.append(caught.value)

    with closing(stage.journal), pytest.RaisesGroup(JournalLost):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiter)
            nursery.start_soon(waiter)
            await trio.testing.wait_all_tasks_blocked()
            stage.submit("behind", fill("f2"))
            await nursery.start(stage.recorder.run)

    assert [type(each) for each in raised] == [CommitInDoubt, CommitInDoubt]
    assert stage.told == ["behind:CommitInDoubt"]
    assert stage.activity.count == 0
    # Of what comes now, everybody can tell.
    with pytest.raises(JournalLost) as late:
        stage.recorder.submit(fill("f3"))
    assert (type(late.value), late.value.http_status, raised[0].http_status) == (JournalLost, 503, 502)


@both_ways
async def test_a_submitter_that_raises_ends_the_recorder_after_everybody_was_told(
    tmp_path: Path, threaded: bool
) -> None:
    stage = Stage(tmp_path, threaded=threaded)

    def broken(_: object) -> None:
        raise ZeroDivisionError

    stage.submit("before", fill("f1"))
    stage.recorder.submit(Batch(records=[add("fill", "f2")]), broken)
    stage.submit("after", fill("f3"))

    with closing(stage.journal), pytest.RaisesGroup(ZeroDivisionError):
        async with trio.open_nursery() as nursery:
            await nursery.start(stage.recorder.run)

    assert stage.told == ["before:Committed", "s#1", "after:Committed", "s#2"]
    assert stage.activity.count == 0


async def test_a_disk_that_never_answers_does_not_hold_the_daemon_for_ever(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    stage = Stage(tmp_path, threaded=True)
    release = threading.Event()
    stuck = threading.Event()

    class Stuck(SqliteJournal):
        def commit(self, batches: Sequence[Batch]) -> list[Committed | JournalRefused]:
            stuck.set()
            release.wait()
            return super().commit(batches)

    stage.journal.__class__ = Stuck
    with closing(stage.journal):
        with pytest.RaisesGroup(JournalLost):
            async with trio.open_nursery() as nursery:
                await nursery.start(stage.recorder.run)
                stage.submit("stuck", fill("f1"))
                while not stuck.is_set():
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        # The thread comes back in the end, and the journal is not closed under it.
        release.set()
        while not stage.recorder._outbox:
            await trio.lowlevel.checkpoint()

    assert stage.told == ["stuck:CommitInDoubt"]
    assert trio.current_time() >= recorder_module.DRAIN_S


@both_ways
async def test_reading_sees_what_was_committed_before(tmp_path: Path, threaded: bool) -> None:
    async with running(tmp_path, threaded=threaded) as stage:
        loop = threading.get_ident()
        where: list[int] = []

        def question(reader: Reader) -> int:
            where.append(threading.get_ident())
            return len(list(reader.rows("fill")))

        counts: list[int] = []
        for number in range(5):
            await stage.recorder.commit(fill(f"f{number}"))
            counts.append(await stage.recorder.read(question))

        assert counts == [1, 2, 3, 4, 5]
        assert all((thread != loop) == threaded for thread in where)


async def test_many_readers_share_a_few_connections(tmp_path: Path) -> None:
    async with running(tmp_path, threaded=True) as stage:
        readers: set[int] = set()
        await stage.recorder.commit(fill("f1"))

        async def ask() -> None:
            readers.add(await stage.recorder.read(lambda reader: (list(reader.rows("fill")), id(reader))[1]))

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(ask)

        assert 1 <= len(readers) <= recorder_module.READERS_MAX


@both_ways
@pytest.mark.parametrize("looked_at_once", [100, 9])
async def test_pruning_goes_on_between_commits_until_nothing_is_left(
    tmp_path: Path, threaded: bool, looked_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "FORGOTTEN_AT_ONCE", 7)
    monkeypatch.setattr(recorder_module, "PRUNABLE_MAX", looked_at_once)
    async with running(tmp_path, threaded=threaded) as stage:
        for number in range(30):
            await stage.recorder.commit(Batch(records=[put("brain", "s", b"%d" % number)], events=[numbered("s")]))
        stage.clock.at_us += 25 * 3_600 * 1_000_000
        await stage.recorder.commit(Batch(records=[put("latch", "kill")]))
        stage.clock.at_us += 25 * 3_600 * 1_000_000 + MARK_EVERY_US

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.recorder.commit, fill("f1", "t"))
            gone = await stage.recorder.prune(keep_events=10)

        assert gone == 29 + 20
        assert stage.journal.oldest_seq("s") >= 20
    report = verify(journal_path(tmp_path))
    assert report.ok, report.problems
    assert report.pruned == gone


async def test_inline_and_threaded_writing_leave_the_same_records(tmp_path: Path) -> None:
    hashes: list[str] = []
    for threaded in (True, False):
        folder = tmp_path / str(threaded)
        folder.mkdir()
        async with running(folder, threaded=threaded) as stage:
            for number in range(50):
                stage.submit(str(number), fill(f"f{number % 40}"))
            await stage.activity.idle()
        hashes.append(verify(journal_path(folder)).last_hash)

    assert hashes[0] == hashes[1]


def test_the_recorder_can_be_made_before_the_loop_runs(tmp_path: Path) -> None:
    with closing(open_journal(tmp_path)) as journal:
        recorder = Recorder(journal=journal, publish=print, clock=SystemClock())
        committed(journal, numbered("s"))

        assert recorder.pending == 0
