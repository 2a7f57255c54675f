"""One client's connection: the web server's own, with an end to the patience that strangers can ask of it."""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

# Whoever does not take what is written for so long is gone, whatever the network says.
TAKEN_S: Final = 20.0


class Connection(H11Protocol):
    """Close on whoever does not send a whole head in time, however often a byte of it comes, or does not read."""

    head_s: float = 10.0
    taken_s: float = TAKEN_S
    _head_due: asyncio.TimerHandle | None = None
    _read_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in the library
        """Begin to wait for the first head."""
        super().connection_made(transport)
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

    def _expect_head(self, *, expected: bool) -> None:
        if expected and self._head_due is None and not self.transport.is_closing():
            self._head_due = self.loop.call_later(self.head_s, self._give_up)
        elif not expected and self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _give_up(self) -> None:
        self.transport.abort()


def connection_within(head_s: float) -> type[Connection]:
    """Return the connections of a server on which a head may take so long."""

    class Within(Connection):
        pass

    Within.head_s = head_s
    return Within
