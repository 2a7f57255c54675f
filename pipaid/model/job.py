"""A backtest job: how it is asked for and answered, where it stands, and the table of its lifecycle."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from pipaid.errors import InvalidState
from pipaid.model.backtest import FeeModel, MetricsObject, ResultObject
from pipaid.model.instrument import Timeframe
from pipaid.model.moment import iso_seconds
from pipaid.model.money import plain
from pipaid.model.reply import Reply
from pipaid.model.request import (
    BasisPoints,
    Candles,
    Capital,
    Id,
    Leverage,
    Moment,
    Page,
    Params,
    Reason,
    Request,
    Symbols,
    TemplateId,
)

PREFIX: Final = "bt"


class JobStatus(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL: Final = frozenset({JobStatus.DONE, JobStatus.FAILED, JobStatus.CANCELLED})


class JobAction(StrEnum):
    """What happens to a job."""

    START = "start"
    FINISH = "finish"
    FAIL = "fail"
    CANCEL = "cancel"
    REQUEUE = "requeue"


JOB_TRANSITIONS: Final[dict[tuple[JobStatus, JobAction], JobStatus]] = {
    (JobStatus.QUEUED, JobAction.START): JobStatus.RUNNING,
    (JobStatus.QUEUED, JobAction.CANCEL): JobStatus.CANCELLED,
    (JobStatus.RUNNING, JobAction.FINISH): JobStatus.DONE,
    (JobStatus.RUNNING, JobAction.FAIL): JobStatus.FAILED,
    (JobStatus.RUNNING, JobAction.CANCEL): JobStatus.CANCELLED,
    (JobStatus.RUNNING, JobAction.REQUEUE): JobStatus.QUEUED,
}


def job_after(status: JobStatus, action: JobAction) -> JobStatus:
    """Return the status after an action; refuse what the table does not hold, naming what is allowed."""
    try:
        return JOB_TRANSITIONS[status, action]
    except KeyError:
        allowed = ", ".join(sorted(before.value for before, act in JOB_TRANSITIONS if act is action))
        raise InvalidState(f"cannot {action} a backtest that is {status}; allowed from: {allowed}") from None


class JobError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job failed."""

    code: str
    message: str


class JobConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a job plays, resolved: candles that open from `start_ms` to `end_ms`, both included.

    `strategy_id` is the strategy that supplied what the request left out.
    """

    template_id: str
    params: dict[str, Any]
    symbols: tuple[str, ...]
    timeframe: Timeframe
    capital: Decimal
    leverage: int
    start_ms: int
    end_ms: int
    fee_model: FeeModel
    fee_bps: Decimal
    slippage_bps: Decimal
    seed: int
    strategy_id: str | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the journal holds it; moments that have not come are 0, `starts` counts how often it was begun.

    `reason` is what was said when it was cancelled.
    """

    id: str
    account: str
    status: JobStatus
    config: JobConfig
    submitted_at_us: int
    started_at_ms: int = 0
    finished_at_ms: int = 0
    progress: float = 0.0
    starts: int = 0
    reason: str = ""
    metrics: MetricsObject | None = None
    error: JobError | None = None


class JobConfigObject(msgspec.Struct, frozen=True, kw_only=True):
    """What a job plays, as it goes over the wire."""

    template_id: str
    params: dict[str, Any]
    symbols: tuple[str, ...]
    timeframe: str
    capital: str
    leverage: int
    start: str
    end: str
    fee_model: str
    fee_bps: str
    slippage_bps: str
    seed: int
    strategy_id: str | None


class _Told(Reply, frozen=True, kw_only=True):
    """What every answer says of a job; `progress` goes from 0 to 1, `error` is there when it failed."""

    id: str
    status: str
    config: JobConfigObject
    submitted_at: str
    started_at: str | None
    finished_at: str | None
    progress: float
    error: JobError | None


class JobObject(_Told, frozen=True, kw_only=True):
    """A backtest job; `result` is there once it is done."""

    result: ResultObject | None


class MetricsOnly(msgspec.Struct, frozen=True, kw_only=True):
    """As much of a result as a listing shows."""

    metrics: MetricsObject


class ListedJob(_Told, frozen=True, kw_only=True):
    """A backtest job in a listing: its result without trades and equity curve."""

    result: MetricsOnly | None


class JobPage(Reply, frozen=True, kw_only=True):
    """Backtest jobs, newest first."""

    data: tuple[ListedJob, ...]
    next_cursor: str | None


class BacktestCreate(Request, frozen=True, kw_only=True):
    """A new backtest job; what is left out comes from the strategy that `strategy_id` names.

    Without one, `params` are those that the template has by itself.
    """

    aliases: ClassVar[dict[str, str]] = {"from": "start", "to": "end"}

    start: Moment
    end: Moment
    template_id: TemplateId | None = None
    params: Params | None = None
    symbols: Symbols | None = None
    timeframe: Candles | None = None
    capital: Capital | None = None
    leverage: Leverage | None = None
    fee_model: FeeModel = "fixed_bps"
    fee_bps: BasisPoints = Decimal(5)
    slippage_bps: BasisPoints = Decimal(0)
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1, description="a whole number from 0 on")] = 0
    strategy_id: Id | None = None


class BacktestList(Page, frozen=True, kw_only=True):
    """Backtest jobs, newest first; `from` counts in, `to` does not, both are about when they were submitted."""

    status: Literal["queued", "running", "done", "failed", "cancelled"] | None = None
    template_id: TemplateId | None = None
    from_: Moment | None = msgspec.field(default=None, name="from")
    to: Moment | None = None


class BacktestCancel(Request, frozen=True, kw_only=True):
    """The end of a backtest that waits or runs."""

    id: Id
    reason: Reason = ""


def is_job(id: str) -> bool:
    """Tell whether an id is that of a backtest job."""
    return id.startswith(f"{PREFIX}_")


def job_object(job: Job, result: ResultObject | None = None) -> JobObject:
    """Return a job as it goes over the wire."""
    return JobObject(result=result, **_told(job))


def listed_job(job: Job) -> ListedJob:
    """Return a job as a listing shows it."""
    return ListedJob(result=None if job.metrics is None else MetricsOnly(metrics=job.metrics), **_told(job))


def _told(job: Job) -> dict[str, Any]:
    config = job.config
    return {
        "id": job.id,
        "status": job.status.value,
        "config": JobConfigObject(
            template_id=config.template_id,
            params=config.params,
            symbols=config.symbols,
            timeframe=config.timeframe.value,
            capital=plain(config.capital),
            leverage=config.leverage,
            start=iso_seconds(config.start_ms),
            end=iso_seconds(config.end_ms),
            fee_model=config.fee_model,
            fee_bps=plain(config.fee_bps),
            slippage_bps=plain(config.slippage_bps),
            seed=config.seed,
            strategy_id=config.strategy_id,
        ),
        "submitted_at": iso_seconds(job.submitted_at_us // 1000),
        "started_at": iso_seconds(job.started_at_ms) if job.started_at_ms else None,
        "finished_at": iso_seconds(job.finished_at_ms) if job.finished_at_ms else None,
        "progress": job.progress,
        "error": job.error,
    }
