"""Timers: a session that knows when its time has come, deals with each occasion once, and says which it missed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import partial
from typing import Final

import msgspec
from attrs import define, field

from pipaid.engine.consulting import Consulting
from pipaid.engine.effects import Dealt, Effects
from pipaid.engine.rings import Call
from pipaid.engine.schedule import COUNTED_MAX, Cron, Every, Passed
from pipaid.engine.template import Intent, hears
from pipaid.engine.tracing import step
from pipaid.model.moment import iso_seconds
from pipaid.model.run import Cause, Evaluation, RunStatus, StepName, StepStatus, TaskType, numbered
from pipaid.model.strategy import Status

# An occasion that lies further back in venue time is not made up for any more.
GRACE_MS: Final = 60_000
EVALUATION: Final = "evaluation"
MAINTENANCE: Final = "maintenance"
_TASKS: Final = {EVALUATION: TaskType.SIGNAL, MAINTENANCE: TaskType.MAINTENANCE}


class Missed(StrEnum):
    """Why nobody was asked at an occasion."""

    DOWN = "down"
    LATE = "late"
    PAUSED = "paused"


WHY: Final = {
    Missed.DOWN: "neither the daemon nor a restart of the strategy was there in time to deal with them",
    Missed.LATE: f"venue time went on by more than {GRACE_MS // 1000} s at once, or the strategy was busy as long",
    Missed.PAUSED: "the strategy was not deployed",
}


@define(eq=False)
class Timers(Consulting):
    """Ask the template at occasions: at those of its schedule to decide, at those of its maintenance about its lots.

    The last occasion that was dealt with is remembered with what was decided, in one commit: no restart repeats it. One
    that nobody dealt with in time is recorded as skipped, in one run with all the others of its kind.
    """

    maintenance: Every | None = field(default=None, kw_only=True)
    _plans: Mapping[str, Every | Cron] = field(init=False)
    _assembled_ms: int = field(init=False)
    _found: dict[str, tuple[int, int | None]] = field(factory=dict[str, tuple[int, int | None]], init=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        plans = ((EVALUATION, self.schedule.occasions), (MAINTENANCE, self.maintenance))
        self._plans = {name: plan for name, plan in plans if plan is not None}
        self._assembled_ms = self.quotes.now_ms

    @property
    def due_ms(self) -> int | None:
        """Return when `on_due` is to be called next; nothing if never, as things are."""
        if not self._plans:
            return None
        found = (self._next_ms(name) for name in self._plans)
        return min((due_ms for due_ms in found if due_ms is not None), default=None)

    @property
    def call(self) -> Call | None:
        """Return the same, with the symbols that it is about."""
        due_ms = self.due_ms
        return None if due_ms is None else Call(due_ms, self.strategy.in_effect.symbols)

    def tends(self, symbol: str) -> bool:
        """Tell whether an occasion of the maintenance has come on a symbol and will be dealt with."""
        if self.maintenance is None or not self._holding(symbol):
            return False
        # A candle may be told a moment before venue time gets to its end.
        now_ms, since_ms = max(self.quotes.now_ms, self.series[symbol].closed_ms), self._since_ms(MAINTENANCE)
        passed = None if since_ms is None else self.maintenance.passed(since_ms, now_ms)
        return passed is not None and now_ms - passed.last_ms <= GRACE_MS

    def on_due(self) -> Effects | None:
        """Decide at the occasions that have come; where none has, nothing changes."""
        now_ms = self.quotes.now_ms
        due = [name for name in self._plans if (next_ms := self._next_ms(name)) is not None and next_ms <= now_ms]
        if not due:
            return None
        self._begin()
        for name in due:
            self._call_out(name)
        return self._finish(force=True)

    def _waits_for_occasion(self) -> bool:
        """Tell whether nothing is to be decided at deployment: where that only means to decide on the last candle."""
        return self.scheduled and not hears(type(self.template), "on_start")

    def _begin_timers(self, begun_ms: int) -> None:
        """Let every timer begin at a deployment, and say what passed since it was last looked at."""
        timers: dict[str, Dealt] = {}
        for name, plan in self._plans.items():
            before, last_ms = self.brain.timers.get(name), begun_ms
            if before is not None and before.plan == plan.plan:
                # If venue time has gone back, what was dealt with is not dealt with again.
                last_ms = max(begun_ms, before.last_ms)
                passed = plan.passed(before.last_ms, begun_ms) if name == EVALUATION else None
                if passed is not None:
                    self._skip(name, passed, Missed.PAUSED)
            timers[name] = Dealt(plan.plan, last_ms)
        if timers or self.brain.timers:
            self.brain = msgspec.structs.replace(self.brain, timers=timers)

    def _next_ms(self, name: str) -> int | None:
        since_ms = self._since_ms(name)
        if since_ms is None:
            return None
        found = self._found.get(name)
        if found is None or found[0] != since_ms:
            found = self._found[name] = since_ms, self._plans[name].after(since_ms)
        return found[1]

    def _since_ms(self, name: str) -> int | None:
        """Return after which moment the occasions of a timer are open; nothing if it does not run."""
        strategy, positions = self.strategy, self.positions
        deployed = strategy.status is Status.DEPLOYED
        if strategy.run is None or self.brain.started != strategy.run.id or not (deployed or self._pausing()):
            return None
        dealt = self.brain.timers.get(name)
        since_ms = strategy.run.started_at_ms if dealt is None else dealt.last_ms
        if name == EVALUATION:
            return since_ms
        if not positions:
            return None
        return max(since_ms, min(lot.opened_at_ms for lot in positions.values()))

    def _pausing(self) -> bool:
        return self.strategy.status is Status.PAUSED and bool(self.positions)

    def _call_out(self, name: str) -> None:
        """Ask at the last occasion that has come, unless it is too old; those before it were missed."""
        plan, since_ms, now_ms = self._plans[name], self._since_ms(name), self.quotes.now_ms
        passed = None if since_ms is None else plan.passed(since_ms, now_ms)
        if since_ms is None or passed is None:
            return
        timers = {**self.brain.timers, name: Dealt(plan.plan, passed.last_ms)}
        self.brain = msgspec.structs.replace(self.brain, timers=timers)
        in_time = now_ms - passed.last_ms <= GRACE_MS
        missed = plan.passed(since_ms, passed.last_ms - 1) if in_time else passed
        if missed is not None:
            self._skip(name, missed, self._why(name, missed))
        if in_time:
            self._ask_at(name, passed.last_ms)

    def _why(self, name: str, missed: Passed) -> Missed:
        if name == EVALUATION and self.strategy.status is not Status.DEPLOYED:
            return Missed.PAUSED
        return Missed.DOWN if missed.first_ms <= self._assembled_ms else Missed.LATE

    def _ask_at(self, name: str, occasion_ms: int) -> None:
        maintains = name == MAINTENANCE
        callback: Callable[..., Iterable[Intent]]
        callback = self.template.on_maintenance if maintains else self.template.on_candle
        evaluate = partial(self._evaluate, task=_TASKS[name], occasion_ms=occasion_ms)
        for symbol in self.strategy.in_effect.symbols:
            if self._holding(symbol) if maintains else self._heeds(symbol):
                evaluate(symbol, Cause.SCHEDULE, callback)

    def _skip(self, name: str, passed: Passed, why: Missed) -> None:
        """Record occasions at which nobody was asked."""
        if not self.tells:
            return
        strategy, definition = self.strategy, self.strategy.in_effect
        told = {
            "occasions": passed.count,
            "more": passed.count == COUNTED_MAX,
            "first": iso_seconds(passed.first_ms),
            "last": iso_seconds(passed.last_ms),
            "why": why.value,
            "plan": self._plans[name].plan,
            "symbols": list(definition.symbols),
        }
        if passed.count == 1:
            missed = f"1 occasion at {told['first']} was missed"
        else:
            least = "at least " if passed.count == COUNTED_MAX else ""
            missed = f"{least}{passed.count} occasions from {told['first']} to {told['last']} were missed"
        self._effects.runs.append(
            Evaluation(
                id=self._next_run_id(),
                number=self.brain.runs_made,
                strategy_id=strategy.id,
                account=strategy.account,
                symbol=definition.symbols[0],
                timeframe=definition.timeframe.value,
                cause=Cause.SCHEDULE,
                status=RunStatus.SKIPPED,
                final_action="HOLD",
                at_ms=self.quotes.now_ms,
                steps=numbered(step(StepName.DATA, StepStatus.SKIPPED, told)),
                task_type=_TASKS[name],
                detail=f"{missed}: {WHY[why]}",
                dry_run=None if strategy.run is None else strategy.run.dry_run,
            )
        )
