"""The trace of one evaluation: what was seen, wished, judged and ordered."""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from pipaid.engine.risk import Gate, Judged, Refused, text_of
from pipaid.engine.template import Alarm, CancelEntries, Conclude, Consult, Enter, Exit, ExitAll, Intent, Protect
from pipaid.model.candle import Candle
from pipaid.model.money import plain
from pipaid.model.order import Order
from pipaid.model.position import Direction
from pipaid.model.run import Cause, Evaluation, RunStatus, RunStep, StepName, StepStatus, TaskType, numbered
from pipaid.model.strategy import Strategy

# A record of an evaluation holds so many of each at most; the counts tell of the rest.
TOLD_MAX: Final = 64
# Of so many entries it is told what every gate said; of the others, what refused them.
JUDGED_MAX: Final = 4
SO_ALREADY: Final = "what was wished for is so already, or on its way"
_NAMES: Final[dict[type[Intent], str]] = {
    Enter: "enter",
    Exit: "exit",
    ExitAll: "exit_all",
    CancelEntries: "cancel_entries",
    Protect: "protect",
    Alarm: "alarm",
    Consult: "consult",
    Conclude: "conclude",
}
# What is asked of a model stands in a step of its own.
_TOLD_ELSEWHERE: Final = frozenset({"system", "prompt", "answer_schema"})


class Trace(msgspec.Struct):
    """Collect one evaluation of one symbol; a rehearsed one keeps what every gate said of all its entries.

    The moments are those of the shell's clock: when it began, when it was known what is wished if anything was, when it
    ended; zero where nobody measures. `failed` says why it did not come to its end, or nothing. `occasion_ms` is for
    when it was planned in venue time, if it was.
    """

    cause: Cause
    symbol: str
    at_ms: int
    rehearsed: bool = False
    begun_s: float = 0.0
    asked_s: float = 0.0
    ended_s: float = 0.0
    failed: str = ""
    task_type: TaskType = TaskType.SIGNAL
    occasion_ms: int = 0
    candle: Candle | None = None
    features: dict[str, float | None] = {}
    reasons: dict[str, bool] = {}
    gates: list[Gate] = []
    judged: list[tuple[Order, list[Judged]]] = []
    wished: list[Intent] = []
    refusals: list[Refused] = []
    orders: list[Order] = []
    concluded: Conclude | None = None
    changed: bool = False

    @property
    def decided(self) -> bool:
        """Tell whether the evaluation is more than a plain hold."""
        return bool(self.wished) or self.concluded is not None

    @property
    def status(self) -> RunStatus:
        """Return `completed` if anything changed, `skipped` if all was refused, else what was concluded."""
        if self.failed:
            return RunStatus.FAILED
        if self.changed or self.orders:
            return RunStatus.COMPLETED
        if self.refusals:
            return RunStatus.SKIPPED
        return RunStatus.HOLD if self.concluded is None else RunStatus(self.concluded.status)

    def intend(self, intent: Intent) -> None:
        """Note a wish, or what was concluded instead."""
        if isinstance(intent, Conclude):
            self.concluded = intent
        else:
            self.wished.append(intent)

    def judging(self, order: Order) -> list[Judged] | None:
        """Return where to note what the gates say of an entry, unless that is known of enough of them."""
        if len(self.judged) >= JUDGED_MAX:
            return None
        said: list[Judged] = []
        self.judged.append((order, said))
        return said

    def refused(self, refused: Refused) -> None:
        """Note risk's no."""
        self.refusals.append(refused)

    def ordered(self, order: Order) -> None:
        """Note an order that passed."""
        self.orders.append(order)

    def evaluation(self, run_id: str, strategy: Strategy) -> Evaluation:
        """Return the record."""
        status, steps = self.status, self.steps()
        return Evaluation(
            id=run_id,
            strategy_id=strategy.id,
            account=strategy.account,
            symbol=self.symbol,
            timeframe=strategy.in_effect.timeframe.value,
            cause=self.cause,
            status=status,
            final_action=self._action(),
            at_ms=self.at_ms,
            steps=steps,
            task_type=self.task_type,
            detail=self._detail(status),
            dry_run=strategy.run.dry_run if strategy.run is not None else None,
            order_ids=tuple(order.id for order in self.orders[:TOLD_MAX]),
            trade_id=self.orders[0].position_id if self.orders else "",
            duration_us=sum(each.duration_us for each in steps),
        )

    def steps(self) -> tuple[RunStep, ...]:
        """Return what was seen, wished, judged and ordered."""
        wished_s = self.asked_s or self.ended_s
        signal = msgspec.structs.replace(self._signal_step(), duration_us=_us(self.begun_s, wished_s))
        risk = msgspec.structs.replace(self._risk_step(), duration_us=_us(wished_s, self.ended_s))
        return numbered(self._data_step(), signal, risk, self._order_step())

    def _action(self) -> str:
        if not self.orders:
            return "HOLD"
        return self.orders[0].side.value.upper()

    def _detail(self, status: RunStatus) -> str:
        if self.failed:
            return self.failed
        if self.refusals and status is RunStatus.SKIPPED:
            no = self.refusals[0]
            return no.told
        if self.concluded is not None:
            return self.concluded.reason
        if self.wished:
            return SO_ALREADY if status is RunStatus.HOLD else ""
        return "no candle had closed yet" if self.candle is None else ""

    def _data_step(self) -> RunStep:
        candle = self.candle
        seen: dict[str, Any] = {"occasion_ms": self.occasion_ms} if self.occasion_ms else {}
        if candle is None:
            return step(StepName.DATA, StepStatus.NONE, seen)
        seen |= {"open_time_ms": candle.open_time_ms, "close": str(candle.close)}
        if self.features:
            seen["features"] = self.features
        return step(StepName.DATA, StepStatus.OK, seen)

    def _signal_step(self) -> RunStep:
        wished = _bounded("intents", [told(wish) for wish in self.wished[:TOLD_MAX]], len(self.wished))
        if self.reasons:
            wished["rules"] = self.reasons
        if self.failed:
            return step(StepName.SIGNAL, StepStatus.FAILED, error=self.failed)
        if self.concluded is not None:
            wished["concluded"] = told(self.concluded)
            if self.concluded.status == "failed":
                return step(StepName.SIGNAL, StepStatus.FAILED, wished, error=self.concluded.reason)
        return step(StepName.SIGNAL, StepStatus.OK if self.wished else StepStatus.NONE, wished)

    def _risk_step(self) -> RunStep:
        verdicts = [{"rule": no.rule, "limit": no.limit, "value": no.value} for no in self.refusals[:TOLD_MAX]]
        judged = _bounded("refusals", verdicts, len(self.refusals))
        if self.judged:
            judged["entries"] = [_judged(order, said) for order, said in self.judged]
        if verdicts:
            return step(StepName.RISK, StepStatus.REFUSED, judged)
        return step(StepName.RISK, StepStatus.OK if self.orders else StepStatus.NONE, judged)

    def _order_step(self) -> RunStep:
        placed = [
            {"order_id": order.id, "side": order.side.value, "qty": str(order.quantity)}
            for order in self.orders[:TOLD_MAX]
        ]
        ordered = _bounded("orders", placed, len(self.orders))
        return step(StepName.ORDER, StepStatus.OK if placed else StepStatus.NONE, ordered)


def step(
    name: StepName, status: StepStatus, output: dict[str, Any] | None = None, *, error: str | None = None
) -> RunStep:
    """Return a step that has no place yet."""
    return RunStep(seq=0, step_name=name, status=status, output=output or {}, error=error)


def _us(since_s: float, until_s: float) -> int:
    return round((until_s - since_s) * 1e6) if since_s and until_s else 0


def _judged(order: Order, said: list[Judged]) -> dict[str, Any]:
    """Return an entry with what each gate that is on said of it."""
    gates = [Gate(*each) for each in said]
    return {
        "side": order.side.value,
        "qty": plain(order.quantity),
        "price": plain(order.price),
        "tag": order.tag,
        "gates": [
            {"gate": gate.rule, "verdict": gate.verdict, "limit": text_of(gate.limit), "value": text_of(gate.value)}
            for gate in gates
            if gate.limit is not None
        ],
    }


def _bounded(name: str, told_of: list[dict[str, Any]], count: int) -> dict[str, Any]:
    return {name: told_of} if count == len(told_of) else {name: told_of, "count": count}


def told(intent: Intent) -> dict[str, Any]:
    """Return a wish as plain JSON values, without what was left open."""
    fields = {
        name: value
        for name, value in msgspec.structs.asdict(intent).items()
        if value not in (None, "") and name not in _TOLD_ELSEWHERE
    }
    for name, value in fields.items():
        if isinstance(value, Direction):
            fields[name] = value.value
        elif isinstance(value, frozenset):
            fields[name] = sorted(str(item) for item in cast("frozenset[object]", value))
        else:
            fields[name] = str(value)
    return {"intent": next(name for kind, name in _NAMES.items() if issubclass(type(intent), kind)), **fields}
