"""Backtest jobs: a durable queue, fair between accounts, over worker processes that play one job each."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from signal import Signals
from typing import Any, Final, cast

import msgspec
import trio
import trio_parallel  # pyright: ignore[reportMissingTypeStubs] - it has none
from attrs import define, field

from actors.actor import Asker, Writer
from pipaid.engine.backtest import SPAN_MS_MAX
from pipaid.engine.fees import Fees
from pipaid.errors import InvalidParameter, InvalidState, NotFound, Unavailable
from pipaid.jobs import Played, Task, definition_for, failed, play, progress_of, retire, stored_instruments
from pipaid.logs import get_log
from pipaid.model import paging
from pipaid.model.backtest import ResultObject
from pipaid.model.event import (
    BacktestCancelled,
    BacktestDone,
    BacktestFailed,
    BacktestMoved,
    BacktestProgressed,
    BacktestQueued,
    BacktestStarted,
    EventDraft,
)
from pipaid.model.instrument import Instrument
from pipaid.model.job import (
    PREFIX,
    TERMINAL,
    BacktestCancel,
    BacktestCreate,
    BacktestList,
    Job,
    JobAction,
    JobConfig,
    JobError,
    JobObject,
    JobPage,
    JobStatus,
    job_after,
    job_object,
    listed_job,
)
from pipaid.model.moment import iso_seconds
from pipaid.model.record import Batch, Kind, Record
from pipaid.model.request import Addressed
from pipaid.model.strategy import StrategyDefinition
from pipaid.seams import World
from pipaid.storage.candles import CandleStore
from pipaid.storage.store import Reader, Row

ENTITY: Final = "backtest"
RESULT: Final = "backtest_result"
QUEUED_MAX: Final = 1_000
# Beyond, those that ended first are forgotten, with their results.
KEPT_MAX: Final = 10_000
# A job that the daemon did not survive is begun once more.
STARTS_MAX: Final = 2
INTERRUPTED: Final = "INTERRUPTED"
LOOK_EVERY_S: Final = 0.25
# Every so much of a job is an event of the stream.
TOLD_SHARE: Final = 0.05
LISTED_AT_ONCE: Final = 200
# How long workers that are to end are waited for.
GRACE_S: Final = 2.0

Play = Callable[[Task], Awaitable[Played]]
_parallel: Final[Any] = trio_parallel


async def played(init: Callable[[], object], task: Task) -> Played:
    """Play a task in a process of its own, which is killed if the call is cancelled."""
    found: list[Played] = []
    try:
        async with _parallel.open_worker_context(init=init, retire=retire, grace_period=GRACE_S) as context:
            one = trio.CapacityLimiter(1)
            found.append(await context.run_sync(play, task, kill_on_cancel=True, limiter=one))
    except trio_parallel.BrokenWorkerError:
        # Once it has answered, its end is its own affair.
        if not found:
            raise
    return found[0]


@define(eq=False)
class _Running:
    """A job in its slot; `reason` is what was said by whoever cancelled it, nothing as long as nobody did."""

    slot: int
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    over: trio.Event = field(factory=trio.Event)
    reason: str | None = None


@define(eq=False, kw_only=True)
class Backtests:
    """Answer the operations on backtests, each method named after its operation, and play what waits.

    Every step of a job is durable before it is told. `task_of` makes of a job what a worker needs, `fees_of` refuses
    what it cannot be charged; `definition_of` is a strategy as it stands; nothing is known beyond `latest_ms`.
    """

    world: World
    writer: Writer
    owner: str
    slots: int
    run_s_max: float
    store: CandleStore
    notes: Path
    play: Play
    task_of: Callable[[Job, Path], Task]
    fees_of: Callable[[JobConfig], Fees]
    definition_of: Callable[[str | None, str], StrategyDefinition]
    check: Callable[[StrategyDefinition, Mapping[str, Instrument]], object]
    instruments: Callable[[], Mapping[str, Instrument]]
    latest_ms: Callable[[], int]
    # Jobs that wait or run, and the owner of each one that is kept.
    _live: dict[str, Job] = field(factory=dict[str, Job], init=False)
    _owners: dict[str, str] = field(factory=dict[str, str], init=False)
    _ended: deque[str] = field(factory=deque[str], init=False)
    # Accounts in the order of their turns.
    _queues: dict[str, deque[str]] = field(factory=dict[str, deque[str]], init=False)
    _running: dict[str, _Running] = field(factory=dict[str, _Running], init=False)
    _changing: trio.Lock = field(factory=trio.Lock, init=False)
    _reading: trio.CapacityLimiter = field(factory=partial(trio.CapacityLimiter, 1), init=False)
    _lot: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)

    def owner_of(self, job_id: str) -> str | None:
        """Return the account that owns a job."""
        return self._owners.get(job_id)

    # The operations.

    async def backtest_create(self, caller: Asker, asked: BacktestCreate) -> JobObject:
        """Queue a job."""
        config = self._resolved(caller, asked)
        # Candles lie in files: the disk may take its time for them, and nobody else waits meanwhile.
        stored = await trio.to_thread.run_sync(stored_instruments, self.store, config, limiter=self._reading)
        self.check(definition_for(config), {**self.instruments(), **stored})
        # One at a time, and none while the journal is read anew: what is counted here is what there is.
        async with self._changing:
            if sum(job.status is JobStatus.QUEUED for job in self._live.values()) >= QUEUED_MAX:
                raise Unavailable(f"{QUEUED_MAX} backtests wait already; try again when some of them are done")
            fresh = f"{PREFIX}_{self.world.ids.entropy(4).hex()}"
            while fresh in self._owners:
                fresh = f"{PREFIX}_{self.world.ids.entropy(4).hex()}"
            job = Job(
                id=fresh,
                account=caller.account or self.owner,
                status=JobStatus.QUEUED,
                config=config,
                submitted_at_us=self.world.clock.now_us(),
            )
            oldest = self._ended[0] if len(self._owners) >= KEPT_MAX and self._ended else None
            dropped = [] if oldest is None else [Record(kept, oldest, Kind.DROP) for kept in (ENTITY, RESULT)]
            await self._store(job, BacktestQueued, kind=Kind.ADD, records=dropped)
            if oldest is not None:
                self._ended.remove(oldest)
                del self._owners[oldest]
            self._live[fresh], self._owners[fresh] = job, job.account
            self._enqueue(job)
        return job_object(job)

    async def backtest_get(self, caller: Asker, asked: Addressed) -> JobObject:
        """Show a job with its result."""
        job, result = await self._known(caller, asked.id)
        return job_object(job, result)

    async def backtest_list(self, caller: Asker, asked: BacktestList) -> JobPage:
        """List jobs, newest first."""
        filters = paging.filters_hash("backtest.list", asked)
        before = paging.decode_cursor(asked.cursor, filters=filters, time_field="submitted_at")
        found = await self.writer.read(partial(_listed, account=caller.account, asked=asked, before=before))
        page = found[: asked.limit]
        cursor = None
        if len(found) > asked.limit:
            cursor = paging.encode_cursor(page[-1].submitted_at_us, page[-1].id, filters=filters)
        # What runs has come further than the journal knows.
        return JobPage(data=tuple(listed_job(self._live.get(job.id, job)) for job in page), next_cursor=cursor)

    async def backtest_cancel(self, caller: Asker, asked: BacktestCancel) -> JobObject:
        """End a job that waits or runs; once this is answered, nothing of it goes on."""
        job, _ = await self._known(caller, asked.id)
        job_after(job.status, JobAction.CANCEL)
        running = self._running.get(asked.id)
        if running is None:
            job = await self._move(asked.id, JobAction.CANCEL, BacktestCancelled, reason=asked.reason)
            # Who cancels as fast as others create would fill a queue with what nobody plays.
            self._leave_queue(job)
        else:
            running.reason = asked.reason
            running.scope.cancel()
            await running.over.wait()
        job, _ = await self._known(caller, asked.id)
        if job.status is not JobStatus.CANCELLED:
            job_after(job.status, JobAction.CANCEL)
            raise Unavailable("the queue of backtests starts anew; cancel it again")
        return job_object(job)

    def _resolved(self, caller: Asker, asked: BacktestCreate) -> JobConfig:
        """Return what is to be played; raise InvalidParameter for what cannot be."""
        given = {name: getattr(asked, name) for name in ("template_id", "params", "symbols", "timeframe", "capital")}
        leverage = asked.leverage
        if asked.strategy_id is not None:
            base = self.definition_of(caller.account, asked.strategy_id)
            given = {name: getattr(base, name) if value is None else value for name, value in given.items()}
            leverage = base.leverage if leverage is None else leverage
        if given["params"] is None:
            given["params"] = {}
        why = "is required unless strategy_id names a strategy that has it"
        missing = tuple((name, why) for name, value in given.items() if value is None)
        if missing:
            raise InvalidParameter("; ".join(f"{name} {why}" for name, why in missing), details=missing)
        self._check_span(asked)
        config = JobConfig(
            **given,
            leverage=1 if leverage is None else leverage,
            start_ms=asked.start,
            end_ms=asked.end,
            fee_model=asked.fee_model,
            fee_bps=asked.fee_bps,
            slippage_bps=asked.slippage_bps,
            seed=asked.seed,
            strategy_id=asked.strategy_id,
        )
        self.fees_of(config)
        return config

    def _check_span(self, asked: BacktestCreate) -> None:
        start, end, latest_ms = iso_seconds(asked.start), iso_seconds(asked.end), self.latest_ms()
        if asked.start >= asked.end:
            name, reason = "start", f"must be before end, got {start} and {end}"
        elif asked.end - asked.start > SPAN_MS_MAX:
            name, reason = "start", f"must be at most 5 years before end, got {start} and {end}; play them in parts"
        elif asked.end > latest_ms:
            name, reason = "end", f"must not be in the future, got {end} at {iso_seconds(latest_ms)}"
        else:
            return
        raise InvalidParameter(f"{name} {reason}", details=((name, reason),))

    async def _known(self, caller: Asker, job_id: str) -> tuple[Job, ResultObject | None]:
        """Return a job of the caller's, with its result if it is done."""
        owner = self._owners.get(job_id)
        if owner is None or caller.account not in (None, owner):
            raise NotFound(f"there is no backtest {job_id!r:.60}")
        live = self._live.get(job_id)
        if live is not None:
            return live, None
        row, result = await self.writer.read(lambda reader: (reader.get(ENTITY, job_id), reader.get(RESULT, job_id)))
        if row is None:
            raise NotFound(f"there is no backtest {job_id!r:.60} any more; the last {KEPT_MAX} are kept")
        # A result goes out as it lies there: nobody needs to take it apart on the way.
        return _decoded(row), None if result is None else cast(ResultObject, msgspec.Raw(result.data))

    # The work.

    async def load(self) -> None:
        """Read what the journal knows."""
        async with self._changing:
            jobs = await self.writer.read(_all_jobs)
            self._owners = {job.id: job.account for job in jobs}
            self._live = {job.id: job for job in jobs if job.status not in TERMINAL}
            self._ended = deque(job.id for job in jobs if job.status in TERMINAL)
            self._queues.clear()
            self._running.clear()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Play what waits until cancelled; what is being played then waits for the next start."""
        await self.load()
        for job in list(self._live.values()):
            waits = job
            if job.status is JobStatus.RUNNING:
                # Unless it was cancelled a moment ago.
                with suppress(InvalidState):
                    waits = await self._interrupted(job)
            if waits.status is JobStatus.QUEUED:
                self._enqueue(waits)
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                free = set(range(self.slots)) - {each.slot for each in self._running.values()}
                job_id = self._next() if free else None
                if job_id is None:
                    await self._lot.park()
                else:
                    running = self._running[job_id] = _Running(min(free))
                    nursery.start_soon(self._see_through, job_id, running)

    async def _interrupted(self, job: Job) -> Job:
        """Let a job wait again that the daemon did not survive, once."""
        get_log().warning("backtest.interrupted", job=job.id, starts=job.starts)
        if job.starts < STARTS_MAX:
            return await self._move(job.id, JobAction.REQUEUE, BacktestQueued, progress=0.0)
        error = JobError(code=INTERRUPTED, message=f"the daemon ended {job.starts} times while it was being played")
        return await self._move(job.id, JobAction.FAIL, BacktestFailed, error=error)

    def _enqueue(self, job: Job) -> None:
        self._queues.setdefault(job.account, deque()).append(job.id)
        self._lot.unpark_all()

    def _leave_queue(self, job: Job) -> None:
        """Take a job out of its line, if it still stands there: what waits there is bounded by what is kept."""
        queue = self._queues.get(job.account, deque[str]())
        if job.id in queue:
            queue.remove(job.id)
            if not queue:
                del self._queues[job.account]

    def _next(self) -> str | None:
        """Take the job whose turn it is: accounts take turns, and each has its own in order."""
        while self._queues:
            account = next(iter(self._queues))
            queue = self._queues.pop(account)
            job_id = queue.popleft()
            if queue:
                # Whoever has had a turn stands behind the others.
                self._queues[account] = queue
            # One that was cancelled while it waited is passed over.
            if job_id in self._live:
                return job_id
        return None

    async def _see_through(self, job_id: str, running: _Running) -> None:
        job: Job | None = None
        try:
            # Unless it was cancelled a moment ago.
            with suppress(InvalidState):
                job = await self._begin(job_id)
            if job is not None:
                outcome = await self._outcome(job, running)
                await self._finish(job, running, outcome)
        finally:
            try:
                if job is not None and job_id in self._live and running.reason is not None:
                    await self._finish(job, running, None)
                elif job is not None and job_id in self._live:
                    # The daemon ends in order, which is no fault of the job's.
                    await self._move(job_id, JobAction.REQUEUE, BacktestQueued, progress=0.0, starts=job.starts - 1)
            finally:
                # Whoever cancels it waits for this, whatever else goes wrong.
                del self._running[job_id]
                running.over.set()
                self._lot.unpark_all()

    async def _begin(self, job_id: str) -> Job:
        waiting = self._live.get(job_id)
        starts = 1 if waiting is None else waiting.starts + 1
        return await self._move(job_id, JobAction.START, BacktestStarted, started_at_ms=self._now_ms(), starts=starts)

    async def _outcome(self, job: Job, running: _Running) -> Played | None:
        """Return what became of a job, nothing if it was cancelled."""
        note = self.notes / f"backtest.{running.slot}"
        found: list[Played] = []
        with running.scope, trio.CancelScope() as limit:
            async with trio.open_nursery() as nursery:
                try:
                    nursery.start_soon(self._watch, job.id, note, limit)
                    found.append(await self.play(self.task_of(job, note)))
                except trio_parallel.BrokenWorkerError as broken:
                    found.append(_lost(broken))
                except Exception as trouble:  # noqa: BLE001 - whatever keeps a worker from its work ends this job alone
                    found.append(failed(f"no worker could play it: {type(trouble).__name__}: {trouble}"))
                nursery.cancel_scope.cancel()
        if found:
            return found[0]
        if running.reason is None:
            return failed(f"it took longer than the {self.run_s_max:g} s of backtest.run_s_max; play less at once")
        return None

    async def _watch(self, job_id: str, note: Path, limit: trio.CancelScope) -> None:
        """Tell how far a job has come, and end it when it has taken too long."""
        clock, told = self.world.clock, 0.0
        until_s = clock.monotonic_s() + self.run_s_max
        while clock.monotonic_s() < until_s:
            await clock.sleep(LOOK_EVERY_S)
            share = self._live[job_id].progress
            with suppress(OSError):
                share = progress_of(self.world.disk.read(note), job_id)
            async with self._changing:
                job = self._live[job_id] = msgspec.structs.replace(self._live[job_id], progress=share)
                if told + TOLD_SHARE <= share < 1.0:
                    told = share
                    # What the journal has no room for now is told with the next step.
                    with suppress(Unavailable):
                        await self._store(job, BacktestProgressed)
        limit.cancel()

    async def _finish(self, job: Job, running: _Running, outcome: Played | None) -> None:
        if outcome is None:
            await self._move(job.id, JobAction.CANCEL, BacktestCancelled, reason=running.reason)
        elif outcome.error is not None:
            get_log().info("backtest.failed", job=job.id, code=outcome.error.code, reason=outcome.error.message)
            await self._move(job.id, JobAction.FAIL, BacktestFailed, error=outcome.error)
        else:
            result = Record(RESULT, job.id, Kind.PUT, outcome.result, owner=job.account, sort=job.submitted_at_us)
            done: dict[str, Any] = {"progress": 1.0, "metrics": outcome.metrics}
            await self._move(job.id, JobAction.FINISH, BacktestDone, records=[result], **done)

    async def _move(
        self,
        job_id: str,
        action: JobAction,
        event: type[BacktestMoved],
        *,
        records: Sequence[Record] = (),
        **changes: Any,
    ) -> Job:
        """Bring a job to where an action leads, durably; raise InvalidState if it leads nowhere from here."""
        with trio.CancelScope(shield=True):
            await self._changing.acquire()
        try:
            before = self._live.get(job_id)
            if before is None:
                raise InvalidState(f"the backtest {job_id} has ended meanwhile")
            status = job_after(before.status, action)
            if status in TERMINAL:
                changes["finished_at_ms"] = self._now_ms()
            after = msgspec.structs.replace(before, status=status, **changes)
            await self._store(after, event, records=records)
            if status in TERMINAL:
                del self._live[job_id]
                self._ended.append(job_id)
            else:
                self._live[job_id] = after
            return after
        finally:
            self._changing.release()

    async def _store(
        self, job: Job, event: type[BacktestMoved], *, kind: Kind = Kind.PUT, records: Sequence[Record] = ()
    ) -> None:
        told = {} if job.error is None else {"code": job.error.code, "message": job.error.message}
        data = event(status=job.status.value, progress=job.progress, **told)
        draft = EventDraft(strategy_id=job.id, data=data, at_ms=self._now_ms(), run_id=None, dry_run=None)
        record = Record(
            ENTITY,
            job.id,
            kind,
            msgspec.json.encode(job),
            owner=job.account,
            state=job.status.value,
            sort=job.submitted_at_us,
        )
        # What is being made durable is not left before anybody knows what became of it.
        with trio.CancelScope(shield=True):
            await self.writer.commit(Batch(records=[record, *records], events=[draft]))

    def _now_ms(self) -> int:
        return self.world.clock.now_us() // 1000


def _decoded(row: Row) -> Job:
    return msgspec.json.decode(row.data, type=Job)


def _all_jobs(reader: Reader) -> list[Job]:
    return sorted(map(_decoded, reader.rows(ENTITY)), key=lambda job: (job.submitted_at_us, job.id))


def _listed(reader: Reader, *, account: str | None, asked: BacktestList, before: tuple[int, str] | None) -> list[Job]:
    """Return a page of jobs and one more, if there is one."""
    if asked.to is not None:
        until = (asked.to * 1000, "")
        before = until if before is None else min(before, until)
    found: list[Job] = []
    while len(found) <= asked.limit:
        rows = reader.page(ENTITY, owner=account, state=asked.status, before=before, limit=LISTED_AT_ONCE)
        for row in rows:
            if asked.from_ is not None and row.sort < asked.from_ * 1000:
                return found
            job = _decoded(row)
            if asked.template_id in (None, job.config.template_id):
                found.append(job)
        if len(rows) < LISTED_AT_ONCE:
            break
        before = (rows[-1].sort, rows[-1].key)
    return found


def _lost(broken: trio_parallel.BrokenWorkerError) -> Played:
    """Say how a worker ended that gave no answer."""
    code = getattr(broken.args[-1], "exitcode", None) if broken.args else None
    if isinstance(code, int) and code < 0:
        # Signals for programs' own use have numbers only.
        name = Signals(-code).name if -code in set(Signals) else f"signal {-code}"
        hint = "; the machine may have run out of memory" if name == "SIGKILL" else ""
        return failed(f"its process was ended by {name}{hint}")
    return failed(f"its process ended by itself with exit code {code}")
