"""The trace of one evaluation: what was seen, wished, judged and ordered, kept when anything was decided."""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from pipaid.engine.risk import Gate, Refused
from pipaid.engine.template import Alarm, CancelEntries, Enter, Exit, ExitAll, Intent, Protect
from pipaid.model.candle import Candle
from pipaid.model.order import Order
from pipaid.model.position import Direction
from pipaid.model.run import Evaluation, RunStep
from pipaid.model.strategy import Strategy

# A record of an evaluation holds so many of each at most; the counts tell of the rest.
TOLD_MAX: Final = 64
_NAMES: Final[dict[type[Intent], str]] = {
    Enter: "enter",
    Exit: "exit",
    ExitAll: "exit_all",
    CancelEntries: "cancel_entries",
    Protect: "protect",
    Alarm: "alarm",
}


class Trace(msgspec.Struct):
    """Collect one evaluation of one symbol; a rehearsed one keeps what every gate said of its entries."""

    cause: str
    symbol: str
    at_ms: int
    rehearsed: bool = False
    gates: list[Gate] = []
    wished: list[Intent] = []
    refusals: list[Refused] = []
    orders: list[Order] = []

    @property
    def decided(self) -> bool:
        """Tell whether the evaluation is more than a plain hold."""
        return bool(self.wished)

    def intend(self, intent: Intent) -> None:
        """Note a wish."""
        self.wished.append(intent)

    def refused(self, refused: Refused) -> None:
        """Note risk's no."""
        self.refusals.append(refused)

    def ordered(self, order: Order) -> None:
        """Note an order that passed."""
        self.orders.append(order)

    def evaluation(self, run_id: str, strategy: Strategy, candle: Candle | None) -> Evaluation:
        """Return the record: `completed` with orders or other changes, `skipped` if all was refused, else `hold`."""
        if self.orders or (self.wished and not self.refusals):
            status = "completed"
        else:
            status = "skipped" if self.refusals else "hold"
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
            steps=self._steps(candle),
        )

    def _action(self) -> str:
        if not self.orders:
            return "HOLD"
        return self.orders[0].side.value.upper()

    def _steps(self, candle: Candle | None) -> tuple[RunStep, ...]:
        seen = {} if candle is None else {"open_time_ms": candle.open_time_ms, "close": str(candle.close)}
        wished = _bounded("intents", [told(wish) for wish in self.wished[:TOLD_MAX]], len(self.wished))
        verdicts = [{"rule": no.rule, "limit": no.limit, "value": no.value} for no in self.refusals[:TOLD_MAX]]
        placed = [
            {"order_id": order.id, "side": order.side.value, "qty": str(order.quantity)}
            for order in self.orders[:TOLD_MAX]
        ]
        refused = _bounded("refusals", verdicts, len(self.refusals))
        ordered = _bounded("orders", placed, len(self.orders))
        return (
            RunStep(seq=1, step_name="data", status="ok", output=seen),
            RunStep(seq=2, step_name="signal", status="ok", output=wished),
            RunStep(seq=3, step_name="risk", status="refused" if verdicts else "ok", output=refused),
            RunStep(seq=4, step_name="order", status="ok" if placed else "none", output=ordered),
        )


def _bounded(name: str, told_of: list[dict[str, Any]], count: int) -> dict[str, Any]:
    return {name: told_of} if count == len(told_of) else {name: told_of, "count": count}


def told(intent: Intent) -> dict[str, Any]:
    """Return a wish as plain JSON values, without what was left open."""
    fields = {name: value for name, value in msgspec.structs.asdict(intent).items() if value not in (None, "")}
    for name, value in fields.items():
        if isinstance(value, Direction):
            fields[name] = value.value
        elif isinstance(value, frozenset):
            fields[name] = sorted(str(item) for item in cast("frozenset[object]", value))
        else:
            fields[name] = str(value)
    return {"intent": next(name for kind, name in _NAMES.items() if issubclass(type(intent), kind)), **fields}
