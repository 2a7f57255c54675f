"""A person at the control socket of a simulated world, who follows all events over every life and commands at times."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import trio
from attrs import define, field

from pipaid.wire.envelope import Answer, ask_line, read_answer

if TYPE_CHECKING:
    from tests.simulation.world import World

TRIES_EVERY_S = 1.0
TAIL = 0
BUSY_S = (8, 80)


@define
class Order:
    """One command and the key that lets it be repeated without being carried out twice."""

    op: str
    args: dict[str, Any]
    key: str


@define(eq=False)
class Person:
    """Keep the number and bytes of every event that was shown, and what was promised by each answer."""

    world: World
    chance: Random
    shown: dict[tuple[str, int], bytes] = field(factory=dict[tuple[str, int], bytes])
    last: dict[str, int] = field(factory=dict[str, int])
    killed: bool = False
    paused: set[str] = field(factory=set[str])
    unanswered: Order | None = None
    done: list[str] = field(factory=list[str])
    refusals: list[str] = field(factory=list[str])
    _asked: int = 0
    _waiting: dict[int, Order] = field(factory=dict[int, Order])
    _answered: trio.Event = field(factory=trio.Event)

    async def attend(self) -> None:
        """Listen and command until cancelled, over as many connections as it takes."""
        path = self.world.folder / "control.sock"
        while True:
            try:
                async with await trio.open_unix_socket(str(path)) as stream, trio.open_nursery() as nursery:
                    await self._begin(stream)
                    nursery.start_soon(self._command, stream)
                    await self._listen(stream)
                    nursery.cancel_scope.cancel()
            except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                # There is no daemon now, or it went away.
                pass
            self._waiting.clear()
            await trio.sleep(TRIES_EVERY_S)

    async def _begin(self, stream: trio.SocketStream) -> None:
        # Whoever names no number for a strategy hears of it from now on.
        since = {"*": 0, **self.last}
        await stream.send_all(ask_line(TAIL, "events.tail", {"id": "*", "since_seq": since}, None))

    async def _listen(self, stream: trio.SocketStream) -> None:
        pending = b""
        while received := await stream.receive_some(65_536):
            *lines, pending = (pending + received).split(b"\n")
            for line in lines:
                self._hear(read_answer(line))

    def _hear(self, answer: Answer) -> None:
        if answer.id == TAIL and answer.ok and answer.event:
            self._see(bytes(answer.event))
        elif isinstance(answer.id, int) and answer.id in self._waiting:
            order = self._waiting.pop(answer.id)
            self.unanswered = None
            if answer.ok:
                self.done.append(order.op)
                self._take_as_promised(order)
            elif answer.error is not None:
                self.refusals.append(f"{order.op}: {answer.error.code}")
            self._answered.set()
        elif not answer.ok and answer.error is not None:
            self.refusals.append(f"{answer.id}: {answer.error.code} {answer.error.message}")

    def _see(self, frame: bytes) -> None:
        event: dict[str, Any] = msgspec.json.decode(frame)
        strategy_id, seq = event["id"], event["seq"]
        before = self.last.get(strategy_id, 0)
        if seq != before + 1:
            self.world.checks.violate(f"S3 {strategy_id}: event {seq} came after {before}")
        self.last[strategy_id] = seq
        self.shown[strategy_id, seq] = frame
        self.world.checks.shown(strategy_id, seq, frame)

    # Commands.

    async def _command(self, stream: trio.SocketStream) -> None:
        while not self.world.over:
            order = self.unanswered
            if order is None:
                await trio.sleep(self.chance.uniform(*BUSY_S))
                order = self._wish()
            if order is None or self.world.over:
                continue
            self._asked += 1
            self.unanswered = self._waiting[self._asked] = order
            self._lift_promises(order)
            self._answered = trio.Event()
            await stream.send_all(ask_line(self._asked, order.op, order.args, order.key))
            await self._answered.wait()
        if self.killed or self.unanswered is not None:
            # In the calm entries are let through again, so that everything has to hold together to the end.
            self.killed = False
            await stream.send_all(ask_line("last", "kill.deactivate", {"reason": "calm"}, None))
        await trio.sleep_forever()

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

    def _lift_promises(self, order: Order) -> None:
        """From the moment that something is asked, what it would undo is promised no more."""
        if order.op == "kill.deactivate":
            self.killed = False
        elif order.op == "strategy.deploy":
            self.paused.discard(order.args["id"])

    def _take_as_promised(self, order: Order) -> None:
        if order.op == "kill.activate":
            self.killed = True
        elif order.op == "strategy.pause":
            self.paused.add(order.args["id"])
