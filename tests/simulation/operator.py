"""An operator beside the person: creates, changes and ends strategies, sets caps, and looks at the inside of things."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import msgspec
from attrs import define, field

from pipaid.model.report import StrategyState
from tests.simulation.hand import Hand, Order
from tests.simulation.traders import Trader

CREATED_MAX = 2
# How often each is wished for.
WISHES = {
    "strategy.state": 6,
    "risk.set": 4,
    "strategy.create": 3,
    "strategy.pause": 2,
    "strategy.update": 3,
    "strategy.stop": 2,
    "strategy.delete": 2,
    "strategy.reset": 2,
    "sim.halt": 1,
}
TOKEN = re.compile(r'"confirm": "(\w+)"')
# How the refusal of a command begins in which the daemon died.
CUT_SHORT = "the daemon ended while it carried this request out"
# What each cap may be set to; the names are those of the request.
CAPS: dict[str, tuple[int, ...]] = {
    "exposure_max": (1_000, 3_000, 10_000),
    "max_open_positions": (1, 3, 8),
    "open_orders_max": (2, 5, 50),
    "orders_per_minute_max": (2, 6, 50),
}


@define(eq=False)
class Operator(Hand):
    """Keep what was promised by each answer: who has ended, and which caps may be in force."""

    created: list[str] = field(factory=list[str])
    ended: set[str] = field(factory=set[str])
    halted: set[str] = field(factory=set[str])
    states: list[StrategyState] = field(factory=list[StrategyState])
    _next: Order | None = None

    # Whoever says nothing for half a minute is cut off.
    busy_s: ClassVar[tuple[float, float]] = (8, 28)

    def _wish(self) -> Order | None:
        if self._next is not None:
            order, self._next = self._next, None
            return order
        wishes = dict(WISHES)
        if len(self.created) >= CREATED_MAX:
            del wishes["strategy.create"]
        (op,) = self.chance.choices(list(wishes), list(wishes.values()))
        args = self._args_of(op)
        return None if args is None else Order(op, args, self._key())

    def _args_of(self, op: str) -> dict[str, Any] | None:
        chance = self.chance
        if op == "strategy.create":
            return self._definition()
        if op == "risk.set":
            name = chance.choice(sorted(CAPS))
            value = chance.choice(CAPS[name])
            return {name: str(value) if name == "exposure_max" else value}
        known = sorted({*self.world.person.last, *self.created} - self.ended)
        resting = sorted(self.world.person.paused.intersection(known))
        fitting = {
            "strategy.update": resting,
            "strategy.delete": resting or known,
            "strategy.reset": sorted(self.halted.intersection(known)),
        }.get(op, known)
        if not fitting:
            return None
        args: dict[str, Any] = {"id": chance.choice(fitting)}
        if op in ("strategy.stop", "strategy.pause"):
            args["close_positions"] = chance.random() < 0.5
        elif op == "strategy.update":
            args["params"] = {"nature": chance.randrange(1_000), "zeal": 9}
            if chance.random() < 0.5:
                args["symbols"] = [chance.choice(self.world.symbols)]
        return args

    def _definition(self) -> dict[str, Any]:
        return {
            "name": f"trader {self._key()}",
            "template_id": Trader.id,
            "params": {"nature": self.chance.randrange(1_000), "zeal": 9},
            "symbols": list(self.world.symbols[: self.chance.randrange(1, 3)]),
            "timeframe": "1m",
            "capital": "1000",
            "leverage": self.chance.randrange(1, 4),
        }

    def _key(self) -> str:
        return f"key-{self.chance.randrange(2**40)}"

    def _asking(self, order: Order) -> None:
        if order.op == "risk.set":
            self.world.checks.allowed.ask(order.args)
        elif order.op == "strategy.delete":
            self.world.binder.forget(order.args["id"])

    def _obeyed(self, order: Order, result: bytes) -> None:
        match order.op:
            case "strategy.create":
                fresh = msgspec.json.decode(result)["id"]
                self.created.append(fresh)
                args = {"id": fresh, "dry_run": self.chance.random() < 0.5}
                self._next = Order("strategy.deploy", args, self._key())
            case "strategy.stop" | "strategy.delete":
                self.ended.add(order.args["id"])
            case "strategy.state":
                state = msgspec.json.decode(result, type=StrategyState)
                self.world.checks.stated(state)
                self.states.append(state)
            case "sim.halt":
                self.halted.add(order.args["id"])
            case "strategy.pause":
                self.world.person.paused.add(order.args["id"])
            case "strategy.reset":
                self.halted.discard(order.args["id"])
                self.world.person.paused.add(order.args["id"])
            case "risk.set":
                self.world.checks.allowed.grant(order.args)
            case _:
                pass

    def _refused(self, order: Order, message: str) -> None:
        if order.op != "risk.set":
            return
        if message.startswith(CUT_SHORT):
            # Nobody knows whether it was done: it is asked for once more.
            self._next = Order(order.op, order.args, self._key())
            return
        self.world.checks.allowed.refuse(order.args)
        token = TOKEN.search(message)
        if token is not None and self.chance.random() < 0.8:
            self._next = Order(order.op, {**order.args, "confirm": token[1]}, self._key())
