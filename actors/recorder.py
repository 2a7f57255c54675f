"""The one writer of the journal: nothing is sent or published before it is durable, and what is durable is told."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias, TypeVar

import trio
from attrs import define, field

from pipaid.errors import Unavailable
from pipaid.model.record import Batch
from pipaid.seams import Clock
from pipaid.storage.store import (
    EVENTS_KEPT,
    EVENTS_KEPT_US,
    PRUNABLE_MAX,
    CommitInDoubt,
    Committed,
    Journal,
    JournalLost,
    JournalRefused,
    JournalTaken,
    JournalUnusable,
    Reader,
    StoredEvent,
)
from pipaid.wire.activity import Activity

DRAIN_S: Final = 5.0
FORGOTTEN_AT_ONCE: Final = 500
GROUP_MAX: Final = 1_024
# When full: `submit` refuses, which ends a command with UNAVAILABLE and a strategy with a restart from the journal.
PENDING_MAX: Final = 65_536
READERS_MAX: Final = 4
# So long after one could not be opened, more readers are tried again.
SHORT_S: Final = 5.0

T = TypeVar("T")
Outcome: TypeAlias = Committed | JournalRefused | BaseException
Told: TypeAlias = Callable[[Outcome], object]


@define(eq=False)
class _Item:
    """One batch in line, and who waits for it."""

    batch: Batch
    then: Told | None
    submitted_s: float
    task: trio.lowlevel.Task | None = None
    outcome: Outcome | None = None


@define(eq=False)
class _Chore:
    """Something else that only the writer may do, between two groups."""

    numbers: Sequence[int]
    gone: int = 0
    done: trio.Event = field(factory=trio.Event)


@define(eq=False)
class _End:
    """The last word of the writing: why it ended, or nothing if it was asked to."""

    error: BaseException | None = None


_Work: TypeAlias = _Item | _Chore | _End


class _NoReader(Exception):
    """The journal could not be opened once more, as when no descriptor is free."""


@define(eq=False)
class Recorder:
    """Carry batches to the journal in groups, one transaction each; `publish` gets the events of each batch after it.

    With `threaded` a thread of its own writes, so that the disk never holds the loop up. Without, `run` writes in its
    own task: the same order of everything, and no thread in a simulation. What has been submitted is carried through
    whatever becomes of the submitter. The counters are for metrics.
    """

    journal: Journal
    publish: Callable[[Sequence[StoredEvent]], object]
    clock: Clock
    activity: Activity = field(factory=Activity)
    threaded: bool = True
    commits: int = 0
    batches: int = 0
    refusals: int = 0
    records: int = 0
    group_last: int = 0
    group_largest: int = 0
    latency_last_s: float = 0.0
    _last_n: int = 0
    _commits_seen: int = -1
    _line: deque[_Item] = field(factory=deque[_Item])
    _chores: deque[_Chore] = field(factory=deque[_Chore])
    # What the writing takes from, and what it leaves for `run` to tell.
    _inbox: queue.SimpleQueue[_Work] = field(factory=queue.SimpleQueue[_Work])
    _outbox: deque[Sequence[Outcome] | _Chore | _End] = field(factory=deque[Sequence[Outcome] | _Chore | _End])
    _outcomes: deque[Outcome] = field(factory=deque[Outcome])
    _lot: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)
    _failure: BaseException | None = None
    _closed: JournalLost | None = None
    _readers: deque[Reader] = field(factory=deque[Reader])
    _opened: deque[Reader] = field(factory=deque[Reader])
    _short_since_s: float = 0.0
    _reading: trio.CapacityLimiter = field(factory=partial(trio.CapacityLimiter, READERS_MAX))

    @property
    def pending(self) -> int:
        """Return how many batches are submitted and not yet told."""
        return len(self._line)

    @property
    def last_n(self) -> int:
        """Return the number of the newest record that was told of."""
        return self._last_n

    @property
    def waited_s(self) -> float:
        """Return for how long the oldest batch has been waiting."""
        return self.clock.monotonic_s() - self._line[0].submitted_s if self._line else 0.0

    @property
    def short(self) -> bool:
        """Tell whether fewer readers could be opened than are wanted."""
        return self._reading.total_tokens < READERS_MAX

    @property
    def lost(self) -> bool:
        """Tell whether the journal was lost: what was submitted last may be durable or not."""
        return isinstance(self._failure, JournalLost)

    def moved(self) -> bool:
        """Tell whether anything was committed since the last look, or nothing waits."""
        before, self._commits_seen = self._commits_seen, self.commits
        return not self._line or self.commits != before

    def submit(self, batch: Batch, then: Told | None = None) -> None:
        """Put a batch in line without waiting; `then` is told what became of it: Committed, its refusal, or the loss.

        All are told in the order of submission, and each before its own events are published. Raise Unavailable, and
        tell nobody, if the line is full or the recorder has ended.
        """
        self._enqueue(_Item(batch, then, self.clock.monotonic_s()))

    async def commit(self, batch: Batch) -> Committed:
        """Wait until a batch is durable; raise JournalRefused if it is left out, CommitInDoubt if nobody can tell.

        Cancelling the wait does not cancel the commit.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        item = _Item(batch, None, self.clock.monotonic_s(), trio.lowlevel.current_task())
        self._enqueue(item)

        def abort(_: object) -> trio.lowlevel.Abort:
            item.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        assert item.outcome is not None
        if isinstance(item.outcome, Committed):
            return item.outcome
        raise item.outcome

    async def read(self, function: Callable[[Reader], T]) -> T:
        """Run queries beside the loop, on one of a few connections of their own."""
        if not self.threaded:
            await trio.lowlevel.checkpoint()
            return function(self.journal)
        self._try_more_readers()
        while True:
            try:
                return await trio.to_thread.run_sync(self._read, function, limiter=self._reading)
            except _NoReader as short:
                if not self._opened:
                    raise Unavailable(f"the journal cannot be read now: {short}") from None
                # Those there are have to do: whoever holds a token finds a reader from now on.
                self._reading.total_tokens = len(self._opened)
                self._short_since_s = self.clock.monotonic_s()

    def _try_more_readers(self) -> None:
        if self.short and self.clock.monotonic_s() - self._short_since_s >= SHORT_S:
            self._reading.total_tokens = READERS_MAX

    async def prune(
        self, *, older_than_us: int | None = None, keep_events: int = EVENTS_KEPT, held_n: int | None = None
    ) -> int:
        """Forget what is past its retention, a little at a time between commits; return how many records went.

        Without a moment, it is a day ago. What comes after `held_n` stays.
        """
        moment = self.clock.now_us() - EVENTS_KEPT_US if older_than_us is None else older_than_us
        gone = 0
        # What one look names is bounded: a busy daemon would fall behind if it were the only one until the next time.
        look = partial(_prunable, older_than_us=moment, keep_events=keep_events, limit=PRUNABLE_MAX, held_n=held_n)
        while numbers := await self.read(look):
            before = gone
            for start in range(0, len(numbers), FORGOTTEN_AT_ONCE):
                gone += await self._forget(numbers[start : start + FORGOTTEN_AT_ONCE])
            if gone == before:
                break
        return gone

    async def _forget(self, numbers: Sequence[int]) -> int:
        chore = _Chore(numbers)
        self._require_open()
        self._chores.append(chore)
        self._hand_over(chore)
        await chore.done.wait()
        self._require_open()
        return chore.gone

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled, then finish what is in line; raise JournalLost as soon as the journal is lost."""
        if self.threaded:
            token = trio.lowlevel.current_trio_token()
            wake = partial(token.run_sync_soon, self._lot.unpark_all, idempotent=True)
            # One reader at least is there, whatever becomes of the descriptors.
            if not self._opened:
                self._readers.append(self._new_reader())
            # A daemon thread: should the disk never answer, the process must still be able to end.
            threading.Thread(target=self._write, args=(wake,), name="journal", daemon=True).start()
        task_status.started()
        try:
            await self._tell_until_end()
        finally:
            self._inbox.put(_End())
            try:
                with trio.move_on_after(DRAIN_S, shield=True):
                    await self._tell_until_end()
            finally:
                if self._closed is None:
                    self._end(JournalLost(f"the journal left {self.pending} batches unwritten for {DRAIN_S:g} s"))
                while self._readers:
                    self._readers.pop().close()
            if self._failure is not None:
                raise self._failure

    async def _tell_until_end(self) -> None:
        while self._closed is None:
            if not self.threaded:
                self._write_waiting()
            if self._outcomes:
                self._settle(self._line.popleft(), self._outcomes.popleft())
            elif self._outbox:
                self._tell(self._outbox.popleft())
            else:
                await self._lot.park()

    def _enqueue(self, item: _Item) -> None:
        self._require_open()
        if len(self._line) >= PENDING_MAX:
            raise Unavailable(f"{PENDING_MAX} batches wait for the journal already: try again later")
        self._line.append(item)
        self.activity.begin()
        self._hand_over(item)

    def _hand_over(self, work: _Item | _Chore) -> None:
        self._inbox.put(work)
        if not self.threaded:
            self._lot.unpark_all()

    def _require_open(self) -> None:
        if self._closed is not None:
            raise self._closed

    def _tell(self, news: Sequence[Outcome] | _Chore | _End) -> None:
        if isinstance(news, _Chore):
            self._chores.popleft().done.set()
        elif isinstance(news, _End):
            self._end(news.error)
        else:
            self.commits += 1
            self.group_last = len(news)
            self.group_largest = max(self.group_largest, len(news))
            self.latency_last_s = self.clock.monotonic_s() - self._line[0].submitted_s
            self._outcomes.extend(news)

    def _settle(self, item: _Item, outcome: Outcome) -> None:
        """Tell one submitter, then the world, then whoever waits."""
        self.batches += 1
        item.outcome = outcome
        try:
            if item.then is not None:
                item.then(outcome)
            if isinstance(outcome, Committed):
                self._last_n = outcome.n
                self.records += len(item.batch.records) + len(item.batch.events)
                if outcome.events:
                    self.publish(outcome.events)
            elif isinstance(outcome, JournalRefused):
                self.refusals += 1
        finally:
            if item.task is not None:
                trio.lowlevel.reschedule(item.task)
            self.activity.end()

    def _end(self, error: BaseException | None) -> None:
        """Take nothing more; whoever is still in line learns that nobody knows what became of the batch."""
        self._failure = error
        self._closed = error if isinstance(error, JournalLost) else JournalLost(f"the journal is closed: {error}")
        told = self._closed if isinstance(self._closed, JournalTaken) else CommitInDoubt(self._closed.message)
        while self._line:
            self._settle(self._line.popleft(), told)
        while self._chores:
            self._chores.popleft().done.set()

    def _write(self, wake: Callable[[], None]) -> None:
        """Write whatever comes until asked to end: the life of the thread."""
        ended = False
        while not ended:
            ended = self._write_group(self._inbox.get())
            try:
                wake()
            except trio.RunFinishedError:
                # Nobody is left to be told; what was written stays written.
                return

    def _write_waiting(self) -> None:
        while not self._inbox.empty():
            self._write_group(self._inbox.get())

    def _write_group(self, first: _Work) -> bool:
        """Write what is in line from `first` on in one transaction; tell whether the writing ended with it."""
        group, other = self._gathered(first)
        try:
            if group:
                self._outbox.append(self.journal.commit([item.batch for item in group]))
            if isinstance(other, _Chore):
                other.gone = self.journal.forget(other.numbers)
        except BaseException as error:  # noqa: BLE001 - whatever ends the writing is raised by `run`.
            other = _End(error)
        if other is not None:
            self._outbox.append(other)
        return isinstance(other, _End)

    def _gathered(self, first: _Work) -> tuple[list[_Item], _Chore | _End | None]:
        """Return a group of batches, and what ended it unless it was its size or an empty line."""
        group: list[_Item] = []
        work = first
        while isinstance(work, _Item):
            group.append(work)
            if len(group) == GROUP_MAX:
                return group, None
            try:
                work = self._inbox.get_nowait()
            except queue.Empty:
                return group, None
        return group, work

    def _new_reader(self) -> Reader:
        try:
            reader = self.journal.reader()
        except JournalUnusable as trouble:
            raise _NoReader(trouble.message) from trouble
        self._opened.append(reader)
        return reader

    def _read(self, function: Callable[[Reader], T]) -> T:
        try:
            reader = self._readers.pop()
        except IndexError:
            reader = self._new_reader()
        try:
            return function(reader)
        finally:
            if self._closed is None:
                self._readers.append(reader)
            else:
                reader.close()


def _prunable(reader: Reader, *, older_than_us: int, keep_events: int, limit: int, held_n: int | None) -> list[int]:
    return reader.prunable(older_than_us=older_than_us, keep_events=keep_events, limit=limit, held_n=held_n)
