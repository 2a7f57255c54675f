"""Evaluations worth keeping: what a strategy looked at, what it wished, what risk said and which orders came of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec

RUNS_KEPT: Final = 1_000


class TaskType(StrEnum):
    """What an evaluation is for: to find entries and exits, or to look after what is held."""

    SIGNAL = "signal"
    MAINTENANCE = "maintenance"


class Cause(StrEnum):
    """Why a strategy was asked."""

    DEPLOY = "deploy"
    CANDLE = "candle"
    PRICE = "price"
    TRADE = "trade"
    RELEASE = "release"
    TRIGGER = "trigger"
    SCHEDULE = "schedule"
    ANSWER = "answer"


class RunStatus(StrEnum):
    """How an evaluation ended, if it has.

    `completed` changed something, `hold` nothing, `skipped` was kept from it by a cap, a switch or a budget, `failed`
    did not come to its end.
    """

    RUNNING = "running"
    COMPLETED = "completed"
    HOLD = "hold"
    SKIPPED = "skipped"
    FAILED = "failed"


class StepName(StrEnum):
    """What an evaluation is made of, in this order; those of a model come as often as one is asked."""

    DATA = "data"
    SIGNAL = "signal"
    MODEL = "model"
    RISK = "risk"
    ORDER = "order"


class StepStatus(StrEnum):
    """How a step went: `none` where there was nothing to do, `pending` while a model is waited for."""

    OK = "ok"
    NONE = "none"
    REFUSED = "refused"
    SKIPPED = "skipped"
    PENDING = "pending"
    FAILED = "failed"


class RunStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of an evaluation; `error` says in a sentence what went wrong in it."""

    seq: int
    step_name: StepName
    status: StepStatus
    output: dict[str, Any]
    duration_us: int = 0
    error: str | None = None


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation, the `number`th of its strategy; times in venue milliseconds, durations on the monotonic clock.

    `at_ms` is when it began and never changes. `detail` says in a sentence why it was skipped or failed. `order_ids`
    are the first orders that it led to, `trade_id` is the lot that the first of them opens or leaves.
    """

    id: str
    strategy_id: str
    account: str
    symbol: str
    timeframe: str
    cause: Cause
    status: RunStatus
    final_action: str
    at_ms: int
    steps: tuple[RunStep, ...]
    duration_us: int = 0
    task_type: TaskType = TaskType.SIGNAL
    detail: str = ""
    dry_run: bool | None = None
    order_ids: tuple[str, ...] = ()
    trade_id: str = ""
    number: int = 0


def numbered(*steps: RunStep) -> tuple[RunStep, ...]:
    """Return steps with the numbers of their places."""
    return tuple(msgspec.structs.replace(step, seq=place) for place, step in enumerate(steps, 1))
