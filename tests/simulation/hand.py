"""Somebody at the control socket of a simulated world, who asks for one thing at a time until it is answered."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

import trio
from attrs import define, field

from pipaid.wire.envelope import Answer, ask_line, read_answer

if TYPE_CHECKING:
    from tests.simulation.world import World

TRIES_EVERY_S = 1.0


@define
class Order:
    """One command and the key that lets it be repeated without being carried out twice."""

    op: str
    args: dict[str, Any]
    key: str


@define(eq=False)
class Hand:
    """Ask over as many connections as it takes; what was not answered is asked again by the same key."""

    world: World
    chance: Random
    unanswered: Order | None = None
    done: list[str] = field(factory=list[str])
    refusals: list[str] = field(factory=list[str])
    _asked: int = 0
    _waiting: dict[int, Order] = field(factory=dict[int, Order])
    _answered: trio.Event = field(factory=trio.Event)

    busy_s: ClassVar[tuple[float, float]] = (8, 80)

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
        """Say what comes first on a new connection."""

    async def _end(self, stream: trio.SocketStream) -> None:
        """Say what comes last, in the calm."""

    def _wish(self) -> Order | None:
        """Return what is wanted next, or nothing."""
        raise NotImplementedError

    def _asking(self, order: Order) -> None:
        """Take note that something is being asked for: from now on it may have happened."""

    def _obeyed(self, order: Order, result: bytes) -> None:
        """Take note of what was done."""

    def _refused(self, order: Order, message: str) -> None:
        """Take note of what was not done."""

    def _see(self, event: bytes) -> None:
        """Take an event."""

    async def _listen(self, stream: trio.SocketStream) -> None:
        pending = b""
        while received := await stream.receive_some(65_536):
            *lines, pending = (pending + received).split(b"\n")
            for line in lines:
                self._hear(read_answer(line))

    def _hear(self, answer: Answer) -> None:
        if answer.ok and answer.event:
            self._see(bytes(answer.event))
        elif isinstance(answer.id, int) and answer.id in self._waiting:
            order = self._waiting.pop(answer.id)
            self.unanswered = None
            if answer.ok:
                self.done.append(order.op)
                self._obeyed(order, bytes(answer.result))
            elif answer.error is not None:
                self.refusals.append(f"{order.op}: {answer.error.code}")
                self._refused(order, answer.error.message)
            self._answered.set()
        elif not answer.ok and answer.error is not None:
            self.refusals.append(f"{answer.id}: {answer.error.code} {answer.error.message}")

    async def _command(self, stream: trio.SocketStream) -> None:
        while not self.world.over:
            order = self.unanswered
            if order is None:
                await trio.sleep(self.chance.uniform(*self.busy_s))
                order = self._wish()
            if order is None or self.world.over:
                continue
            self._asked += 1
            self.unanswered = self._waiting[self._asked] = order
            self._asking(order)
            self._answered = trio.Event()
            await stream.send_all(ask_line(self._asked, order.op, order.args, order.key))
            await self._answered.wait()
        await self._end(stream)
        await trio.sleep_forever()
