"""A proxy that spoils connections: late, in single bytes, at a trickle, cut off, silent, or slow to end, by seed."""

from __future__ import annotations

import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

import trio
from attrs import define, field, frozen

READ_BYTES: Final = 16 * 1024
UNNOTICED_S: Final = 5.0
# Closing with this option set sends a reset instead of a farewell.
_RESET: Final = struct.pack("ii", 1, 0)
_GONE: Final = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)

Connect = Callable[[], Awaitable[trio.SocketStream]]


@frozen(kw_only=True)
class Fault:
    """What is done to the bytes of one connection, both ways; the defaults do nothing.

    `reset_after` and `silent_after` count the bytes that come back from the server; -1 is never.
    """

    name: str = "none"
    latency_s: float = 0.0
    slice_bytes: int = READ_BYTES
    bytes_per_s: float = 0.0
    reset_after: int = -1
    silent_after: int = -1
    close_s: float = 0.0


NONE: Final = Fault()
MAKE: Final[Mapping[str, Callable[[random.Random], Fault]]] = {
    "none": lambda _: NONE,
    "latency": lambda chance: Fault(name="latency", latency_s=chance.uniform(0.01, 0.25)),
    "slicer": lambda chance: Fault(name="slicer", slice_bytes=chance.choice((1, 1, 2, 7, 64))),
    "bandwidth": lambda chance: Fault(name="bandwidth", bytes_per_s=chance.uniform(1_000, 60_000)),
    "reset": lambda chance: Fault(name="reset", reset_after=int(chance.expovariate(1 / 20_000))),
    "timeout": lambda chance: Fault(name="timeout", silent_after=int(chance.expovariate(1 / 20_000))),
    "slow close": lambda chance: Fault(
        name="slow close", close_s=chance.uniform(0.1, 1.0), reset_after=int(chance.expovariate(1 / 40_000))
    ),
}


@define(eq=False)
class Proxy:
    """Carry connections to a server, each with a fault drawn for it; once `calm`, new ones have none."""

    connect: Connect
    chance: random.Random
    faults: Mapping[str, Callable[[random.Random], Fault]] = MAKE
    calm: bool = False
    drawn: Counter[str] = field(factory=Counter[str])
    _spoiled: dict[trio.CancelScope, None] = field(factory=dict[trio.CancelScope, None])

    async def run(
        self,
        listeners: list[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Carry until cancelled."""
        task_status.started()
        await trio.serve_listeners(self._carry, listeners)

    def calm_down(self) -> None:
        """Spoil nothing any more, and end what is spoiled."""
        self.calm = True
        for scope in self._spoiled:
            scope.cancel()

    async def _carry(self, client: trio.SocketStream) -> None:
        fault = NONE if self.calm else self.faults[self.chance.choice(list(self.faults))](self.chance)
        self.drawn[fault.name] += 1
        with trio.CancelScope() as scope:
            self._spoiled[scope] = None
            async with client:
                with suppress(*_GONE):
                    async with await self.connect() as server:
                        await _couple(client, server, fault)
        del self._spoiled[scope]


async def _couple(client: trio.SocketStream, server: trio.SocketStream, fault: Fault) -> None:
    """Carry both ways until the client has gone, or the server has and its farewell has been passed on."""
    async with trio.open_nursery() as nursery:

        async def there() -> None:
            with suppress(*_GONE):
                await _pump(client, server, fault)
                if fault.silent_after < 0:
                    await server.send_eof()
                    return
            # Somebody whose cable was pulled says no farewell: the server has to find out by itself.
            await trio.sleep(UNNOTICED_S if fault.silent_after >= 0 else 0)
            nursery.cancel_scope.cancel()

        async def back() -> None:
            cut = False
            with suppress(*_GONE):
                cut = await _pump(server, client, fault, cut_after=fault.reset_after, silent_after=fault.silent_after)
            await trio.sleep(fault.close_s)
            if cut and not fault.close_s:
                for each in (client, server):
                    with suppress(OSError):
                        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            nursery.cancel_scope.cancel()

        nursery.start_soon(there)
        nursery.start_soon(back)


async def _pump(
    source: trio.SocketStream, sink: trio.SocketStream, fault: Fault, *, cut_after: int = -1, silent_after: int = -1
) -> bool:
    """Carry one way until it ends; tell whether it was cut off."""
    passed = 0
    while data := await source.receive_some(READ_BYTES):
        if fault.latency_s:
            await trio.sleep(fault.latency_s)
        for start in range(0, len(data), fault.slice_bytes):
            piece = data[start : start + fault.slice_bytes]
            if 0 <= cut_after <= passed:
                return True
            if 0 <= silent_after <= passed:
                # Neither reads nor closes: to the server, nothing tells.
                await trio.sleep_forever()
            await sink.send_all(piece)
            passed += len(piece)
            if fault.bytes_per_s:
                await trio.sleep(len(piece) / fault.bytes_per_s)
    return False
