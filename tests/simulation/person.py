"""A person who follows all events of a simulated world over every life, and trades on its strategies at times."""

from __future__ import annotations

from typing import Any

import msgspec
import trio
from attrs import define, field

from pipaid.wire.envelope import ask_line
from tests.simulation.hand import Hand, Order

TAIL = 0


@define(eq=False)
class Person(Hand):
    """Keep the number and bytes of every event that was shown, and what was promised by each answer."""

    shown: dict[tuple[str, int], bytes] = field(factory=dict[tuple[str, int], bytes])
    last: dict[str, int] = field(factory=dict[str, int])
    killed: bool = False
    paused: set[str] = field(factory=set[str])
    listening: bool = False

    async def _begin(self, stream: trio.SocketStream) -> None:
        self.listening = True
        since = {"*": 0, **self.last}
        await stream.send_all(ask_line(TAIL, "events.tail", {"id": "*", "since_seq": since}, None))

    async def _end(self, stream: trio.SocketStream) -> None:
        if self.killed or self.unanswered is not None:
            # In the calm entries are let through again, so that everything has to hold together to the end.
            self.killed = False
            await stream.send_all(ask_line("last", "kill.deactivate", {"reason": "calm"}, None))

    def _see(self, event: bytes) -> None:
        told: dict[str, Any] = msgspec.json.decode(event)
        strategy_id, seq = told["id"], told["seq"]
        before = self.last.get(strategy_id, 0)
        if seq != before + 1:
            self.world.checks.violate(f"S3 {strategy_id}: event {seq} came after {before}")
        self.last[strategy_id] = seq
        self.shown[strategy_id, seq] = event
        self.world.checks.shown(strategy_id, seq, event)

    def _wish(self) -> Order | None:
        strategies = sorted(self.last)
        choice = self.chance.randrange(10)
        key = f"key-{self.chance.randrange(2**40)}"
        if self.killed and choice < 5:
            return Order("kill.deactivate", {"reason": "it is over"}, key)
        if choice == 0:
            return Order("kill.activate", {"reason": "a drill", "close_positions": self.chance.random() < 0.5}, key)
        if not strategies:
            return None
        chosen = self.chance.choice(strategies)
        if chosen in self.paused and choice < 8:
            return Order("strategy.deploy", {"id": chosen, "dry_run": self.chance.random() < 0.5}, key)
        if choice < 4:
            return Order("strategy.pause", {"id": chosen, "close_positions": self.chance.random() < 0.5}, key)
        return Order("strategy.trigger", {"id": chosen}, key)

    def _asking(self, order: Order) -> None:
        """Lift what the order would undo: from the moment that it is asked for, that is promised no more."""
        if order.op == "kill.deactivate":
            self.killed = False
        elif order.op == "strategy.deploy":
            self.paused -= {order.args["id"], *self.world.checks.followers(order.args["id"])}

    def _obeyed(self, order: Order, result: bytes) -> None:
        if order.op == "kill.activate":
            self.killed = True
            self.world.nursery.start_soon(self.world.checks.withdrawn)
        elif order.op == "strategy.pause":
            self.paused.add(order.args["id"])
