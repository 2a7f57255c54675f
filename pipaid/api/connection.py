"""One client's connection: the web server's own, with an end to the patience that strangers can ask of it.

Where the library would answer in words of its own, before the application is asked, it is made to say what we say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, Final

import h11
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipaid.errors import InvalidParameter, PipaidError, Unavailable

# Whoever does not take what is written for so long is gone, whatever the network says.
TAKEN_S: Final = 20.0
UNREADABLE: Final = "this is no HTTP/1.1 request that can be read, or its head is too long"
CROWDED: Final = "too many clients are connected; try again"

# How a refusal is said: what went wrong, and that the connection ends with it.
Refusing = Callable[[PipaidError], Response]


class Connection(H11Protocol):
    """Close on whoever does not send a whole head in time, however often a byte of it comes, or does not read.

    Beyond `connections_max`, the next as many are told to come again, and whoever comes after those is told nothing.
    """

    refuse: ClassVar[Refusing]
    head_s: ClassVar[float] = 10.0
    connections_max: ClassVar[int] = 1_000
    taken_s: float = TAKEN_S
    _head_due: asyncio.TimerHandle | None = None
    _read_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in the library
        """Begin to wait for the first head."""
        super().connection_made(transport)
        if len(self.connections) > 2 * self.connections_max:
            self._give_up()
            return
        if len(self.connections) > self.connections_max:
            self.app = self._turn_away
        self._head_due = self.loop.call_later(self.head_s, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        self._expect_head(expected=False)
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Take what came; from the first byte of a head on it has to come whole in time."""
        super().data_received(data)
        self._expect_head(expected=not self.cycle or self.cycle.response_complete)

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        if self._read_due is None:
            self._read_due = self.loop.call_later(self.taken_s, self._give_up)

    def resume_writing(self) -> None:
        """Go on writing."""
        super().resume_writing()
        if self._read_due is not None:
            self._read_due.cancel()
            self._read_due = None

    def send_400_response(self, msg: str) -> None:
        """Say that what came cannot be read, unless an answer is on its way already, and close."""
        if self.cycle:
            # Nobody is there any more for what this request may still be answered with.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = type(self).refuse(InvalidParameter(UNREADABLE))
            said = h11.Response(status_code=answer.status_code, headers=answer.raw_headers, reason=b"Bad Request")
            for event in (said, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    async def _turn_away(self, scope: Any, receive: Any, send: Any) -> None:
        await type(self).refuse(Unavailable(CROWDED))(scope, receive, send)

    def _expect_head(self, *, expected: bool) -> None:
        if expected and self._head_due is None and not self.transport.is_closing():
            self._head_due = self.loop.call_later(self.head_s, self._give_up)
        elif not expected and self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _give_up(self) -> None:
        self.transport.abort()


def connections(refuse: Refusing, *, head_s: float, connections_max: int) -> type[Connection]:
    """Return the connections of a server that has so many, on which a head may take so long."""
    bounds = {"refuse": staticmethod(refuse), "head_s": head_s, "connections_max": connections_max}
    return type("Bounded", (Connection,), bounds)
