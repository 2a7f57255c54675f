"""A blocking client of the control socket that costs a program nothing at its start: standard library and msgspec."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from pipaid.errors import PayloadTooLarge, Unavailable
from pipaid.unixname import unix_name
from pipaid.wire.envelope import ANSWER_BYTES_MAX, Answer, ask_line, read_answer, refusal

# A pause that closes positions may take half a minute.
ANSWER_S: Final = 60.0
READ_BYTES: Final = 64 * 1024


class ConnectionEnded(Unavailable):
    """The daemon closed the connection, so nothing more can come."""


class BlockingClient:
    """One connection to the daemon; one call at a time. Nothing is sent before the first call."""

    def __init__(self, path: Path, *, answer_s: float = ANSWER_S) -> None:
        self.path = path
        self._answer_s = answer_s
        self._asked = 0
        self._buffer = bytearray()
        self._searched = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(answer_s)
        try:
            with unix_name(path) as name:
                self._socket.connect(name)
        except OSError as trouble:
            self._socket.close()
            raise Unavailable(f"no daemon answers on {path}: {trouble.strerror or trouble}") from None

    def __enter__(self) -> BlockingClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, trouble: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def call(self, op: str, args: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None) -> bytes:
        """Return the result as JSON; raise the refusal as it was on the daemon's side."""
        asked = self._ask(op, args, idempotency_key)
        while True:
            answer = self._next_answer()
            if answer.id in (asked, None):
                if not answer.ok:
                    raise refusal(answer.error)
                return bytes(answer.result)

    def tail(
        self, id: str = "*", *, since_seq: int | dict[str, int] | None = None, ext: bool = False
    ) -> Iterator[bytes]:
        """Follow events, each as its JSON frame, until the connection is closed; waits for each as long as it takes."""
        args: dict[str, Any] = {"id": id, "ext": ext}
        if since_seq is not None:
            args["since_seq"] = since_seq
        asked = self._ask("events.tail", args)
        self._socket.settimeout(None)
        while True:
            answer = self._next_answer()
            if answer.id not in (asked, None):
                continue
            if not answer.ok:
                raise refusal(answer.error)
            yield bytes(answer.event)

    def _ask(self, op: str, args: Mapping[str, Any] | None, idempotency_key: str | None = None) -> int:
        self._asked += 1
        line = ask_line(self._asked, op, args, idempotency_key)
        # If the daemon closes, it may have said why before; the answer is still there to be read.
        with suppress(OSError):
            self._socket.sendall(line)
        return self._asked

    def _next_answer(self) -> Answer:
        return read_answer(self._next_line())

    def _next_line(self) -> bytes:
        while True:
            end = self._buffer.find(b"\n", self._searched)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                self._searched = 0
                return line
            self._searched = len(self._buffer)
            if self._searched > ANSWER_BYTES_MAX:
                raise PayloadTooLarge(f"the daemon's answer is longer than {ANSWER_BYTES_MAX} bytes")
            self._buffer += self._received()

    def _received(self) -> bytes:
        try:
            received = self._socket.recv(READ_BYTES)
        except TimeoutError:
            raise Unavailable(f"the daemon on {self.path} did not answer within {self._answer_s:g} s") from None
        except OSError:
            received = b""
        if not received:
            raise ConnectionEnded(
                f"the daemon on {self.path} closed the connection before it answered; look at its log"
            )
        return received
