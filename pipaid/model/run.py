"""Evaluations worth keeping: what a strategy looked at, what it wished, what risk said and which orders came of it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

RUNS_KEPT: Final = 1_000


class RunStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of an evaluation: data, signal, risk or order."""

    seq: int
    step_name: str
    status: str
    output: dict[str, Any]
    error: str | None = None


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation that decided something; times in venue milliseconds, the duration on the monotonic clock."""

    id: str
    strategy_id: str
    account: str
    symbol: str
    timeframe: str
    cause: str
    status: str
    final_action: str
    at_ms: int
    steps: tuple[RunStep, ...]
    duration_us: int = 0
