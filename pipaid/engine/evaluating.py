"""Evaluations: a template is asked about one symbol, and what it wishes becomes the effects and the run of one fact."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import msgspec
from attrs import define, field

from pipaid.engine.asking import asked, at_once, is_left_out, named, reasons
from pipaid.engine.effects import Effects, dropped_run, run_id
from pipaid.engine.template import Exit, Intent
from pipaid.engine.tracing import Trace
from pipaid.engine.view import SymbolView
from pipaid.engine.wishes import Wishes
from pipaid.model.consult import Question
from pipaid.model.run import RUNS_KEPT, Cause, Evaluation, TaskType
from pipaid.model.strategy import Status
from pipaid.signals.series import Feature

HOLDS_TOLD: Final = 16
# What is asked although no candle has closed yet.
_WITHOUT_CANDLES: Final = frozenset({Cause.DEPLOY, Cause.PRICE, Cause.TRADE})
# What decides on a closed candle, which is then done with.
_ON_CANDLES: Final = frozenset({Cause.CANDLE, Cause.DEPLOY})
# What somebody or something asked for: it is kept whatever came of it.
_ASKED_FOR: Final = frozenset({Cause.TRIGGER, Cause.SCHEDULE})
# Stands for no symbol and no evaluation.
_NOTHING: Final = ("", 0)


def _never() -> float:
    """Be the clock where nobody measures."""
    return 0.0


@define(eq=False)
class Evaluations(Wishes):
    """Open the effects of a fact, ask the template, and close them again; record what is worth keeping.

    `shield` runs the template's code and nothing else: the shell puts a budget there. `lap` is the shell's clock, which
    decides nothing. `features` are what the template declared when the session was put together; it is not asked again.
    Of the evaluations recorded the last `runs_kept` stay. While the template is asked, `_evaluated` holds the symbol
    and the number of the evaluation; `_asked` is what a model was asked in it. `under_way` are the evaluations of the
    fact that is being decided on, or made durable: should the session break down over it, the next one records that
    they failed. Of evaluations that came to nothing it is known how many `held` since the session was put together, and
    when the last `holds` were, of which symbol.
    """

    features: tuple[Feature, ...] = field(default=(), kw_only=True)
    runs_kept: int = field(default=RUNS_KEPT, kw_only=True)
    shield: Callable[..., Any] = field(default=at_once, init=False)
    lap: Callable[[], float] = field(default=_never, init=False)
    under_way: list[Trace] = field(factory=list[Trace], init=False)
    held: int = field(default=0, init=False)
    holds: deque[tuple[int, str]] = field(factory=partial(deque[tuple[int, str]], maxlen=HOLDS_TOLD), init=False)
    _unsaved: dict[str, None] = field(factory=dict[str, None], init=False)
    _evaluated: tuple[str, int] = field(default=_NOTHING, init=False)
    _asked: Question | None = field(default=None, init=False)

    def rehearse(self, symbol: str, *, start: bool = False) -> Trace:
        """Decide on the symbol's last candle, or at the start, for the looks of it: tell what would be, do nothing."""
        cause = Cause.DEPLOY if start else Cause.CANDLE
        trace = self._trace = Trace(cause=cause, symbol=symbol, at_ms=self.quotes.now_ms, rehearsed=True)
        try:
            self._begin()
            self._call(symbol, self.template.on_start if start else self.template.on_candle)
            self._note_seen(trace)
        finally:
            self._trace = self._out = None
        return trace

    def _heeds(self, symbol: str) -> bool:
        """Tell whether the market has anything to say to the session: paused, it only looks after what it holds."""
        status = self.strategy.status
        return status is Status.DEPLOYED or (status is Status.PAUSED and self._holding(symbol))

    def _holding(self, symbol: str) -> bool:
        return self._stakes.holds(symbol)

    @property
    def deciding(self) -> bool:
        """Tell whether a fact is being decided on, or was when the session broke down over it."""
        return self._out is not None

    def on_failed(self, begun: Sequence[Trace], reason: str) -> Effects:
        """Record evaluations over the last of which the session before this one broke down."""
        self._begin()
        for each in begun:
            last = each is begun[-1]
            why = reason if last else f"undone with the evaluation of {begun[-1].symbol}, which failed: {reason}"
            trace = Trace(cause=each.cause, symbol=each.symbol, at_ms=each.at_ms, failed=why)
            trace.candle, trace.task_type = self.series[each.symbol].last, each.task_type
            self._keep_run(trace)
        return self._finish(force=True)

    def _begin(self) -> None:
        """Open the effects for one fact; those of a fact that could not be dealt with are gone with that."""
        self.under_way.clear()
        self._out = Effects(self.strategy, self.quotes.now_ms)
        self._refusals = 0

    def _finish(self, *, force: bool = False) -> Effects:
        effects = self._effects
        if force or self._dirty or not effects.empty:
            for client_id in self._unsaved:
                if client_id in self.orders:
                    effects.orders.setdefault(self.orders[client_id].id, self.orders[client_id])
            self._unsaved.clear()
            self.brain = msgspec.structs.replace(self.brain, at_ms=self.quotes.now_ms, state=dict(self.template.state))
            effects.brain = self.brain
            self._dirty = False
        else:
            self.under_way.clear()
        self._out = None
        self._expose()
        return effects

    def _overdue(self, symbol: str) -> list[Exit]:
        """Return the exits that wait for nothing any more: those whose order was lost."""
        positions = self.positions
        if not self.brain.exits:
            return []
        return [
            intent
            for key, intent in self.brain.exits.items()
            if positions[key].symbol == symbol and self.working_exit(key) is None
        ]

    def _evaluate(
        self,
        symbol: str,
        cause: Cause,
        callback: Callable[..., Iterable[Intent]],
        *facts: object,
        task: TaskType = TaskType.SIGNAL,
        occasion_ms: int = 0,
    ) -> None:
        closed_ms = self.series[symbol].closed_ms
        trace = None
        if self.tells:
            trace = Trace(cause=cause, symbol=symbol, at_ms=self.quotes.now_ms, begun_s=self.lap())
            trace.task_type, trace.occasion_ms = task, occasion_ms
            self.under_way.append(trace)
        if closed_ms or cause in _WITHOUT_CANDLES:
            self._within((symbol, self.brain.runs_made + 1), trace, callback, *facts)
        if closed_ms and cause in _ON_CANDLES:
            evaluated = {**self.brain.evaluated, symbol: closed_ms}
            self.brain = msgspec.structs.replace(self.brain, evaluated=evaluated)
        if self._asked is not None or (trace is not None and (trace.decided or cause in _ASKED_FOR)):
            self._record(trace)
        elif trace is not None:
            self.held += 1
            self.holds.append((trace.at_ms, symbol))

    def _within(
        self, evaluated: tuple[str, int], trace: Trace | None, callback: Callable[..., Iterable[Intent]], *facts: object
    ) -> None:
        """Call back within the evaluation of a symbol that has a number."""
        symbol, _ = evaluated
        state = self.template.state.get(symbol)
        self._trace, self._evaluated, self._asked = trace, evaluated, None
        try:
            self._call(symbol, callback, *facts)
        finally:
            self._trace, self._evaluated = None, _NOTHING
        if self.template.state.get(symbol) is not state:
            self._dirty = True

    def _call(self, symbol: str, callback: Callable[..., Iterable[Intent]], *facts: Any) -> None:
        intents = self.shield(asked, callback, SymbolView(self, symbol), facts, self)
        if not intents:
            return
        trace = self._trace
        before = () if trace is None else self._changes()
        if trace is not None:
            trace.asked_s = self.lap()
        wisher = named(callback)
        for intent in intents:
            self._carry(intent, wisher)
        if trace is not None:
            trace.changed = self._changes() != before

    def _record(self, trace: Trace | None) -> None:
        """Count an evaluation, and keep its record if anybody listens."""
        if trace is None:
            self._count()
        else:
            self._note_seen(trace)
            trace.ended_s = self.lap()
            self._keep_run(trace)
        self._asked = None

    def _count(self) -> int:
        number = self.brain.runs_made + 1
        self.brain = msgspec.structs.replace(self.brain, runs_made=number)
        return number

    def _keep_run(self, trace: Trace) -> None:
        run = trace.evaluation(self._next_run_id(), self.strategy)
        self._effects.runs.append(self._opened(msgspec.structs.replace(run, number=self.brain.runs_made)))

    def _next_run_id(self) -> str:
        """Return the id of one more evaluation, and let go of the one that is too many by it."""
        number = self._count()
        dropped = dropped_run(number, self.runs_kept)
        if dropped is not None:
            self._effects.runs_dropped.append(dropped)
        return run_id(self.strategy.id, number)

    def _opened(self, run: Evaluation) -> Evaluation:
        """Return the record of an evaluation as it stands, which goes on if a model was asked."""
        return run

    def _note_seen(self, trace: Trace) -> None:
        """Note on what the evaluation decided: the last candle, the features, and which rules held."""
        series = self.series[trace.symbol]
        trace.candle = series.last
        trace.features = {feature.title: series.feature(feature).value for feature in self.features}
        callback = self.template.reasons
        if trace.candle is not None and not is_left_out(callback):
            trace.reasons = self.shield(reasons, callback, SymbolView(self, trace.symbol))
