"""The control protocol on trio streams: lines read within a bound, answers written within a deadline, and a client."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, cast

import trio
from attrs import define, field, frozen

from pipaid.errors import PayloadTooLarge, PipaidError, Unavailable
from pipaid.seams import Net
from pipaid.wire.envelope import ANSWER_BYTES_MAX, LINE_BYTES_MAX, Answer, Trouble, ask_line, read_answer, refusal

READ_BYTES: Final = 32 * 1024
# A tail that nobody reads from holds up the whole connection once so many of its events wait.
TAIL_EVENTS_MAX: Final = 1_024
# How long a client whose write failed waits for what the daemon may have said before it closed.
FAREWELL_S: Final = 1.0
Gone: Final = (trio.BrokenResourceError, trio.ClosedResourceError)

_CREDENTIALS: Final = struct.Struct("3i")


@frozen
class Peer:
    """The process at the other end of a Unix socket, as the kernel vouches for it when it connected."""

    pid: int
    uid: int


def peer_of(stream: trio.SocketStream) -> Peer:
    """Return who connected; another user namespace shows as uid 65534, so this is for the record, not for rights."""
    raw = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return Peer(pid, uid)


def address_of(stream: trio.abc.Stream) -> str:
    """Return the address that a network connection comes from, or nothing where there is none to be told."""
    inner: trio.abc.Stream = stream
    if isinstance(stream, trio.SSLStream):
        inner = cast("trio.SSLStream[trio.SocketStream]", stream).transport_stream
    if not isinstance(inner, trio.SocketStream):
        return ""
    try:
        return str(inner.socket.getpeername()[0])
    except OSError:
        return ""


@define(eq=False)
class LineReader:
    """Cut a stream into lines; never holds more than one line's bound and what one read brings."""

    stream: trio.abc.ReceiveStream
    line_bytes_max: int = LINE_BYTES_MAX
    _buffer: bytearray = field(factory=bytearray)
    _start: int = 0
    _searched: int = 0

    async def next_line(self) -> bytes | None:
        """Return the next line without its end, or nothing once the other side has ended.

        Raise PayloadTooLarge as soon as a line is known to be longer than the bound. A cancelled call loses nothing.
        """
        while (line := self.line_at_hand()) is None:
            if self._start:
                del self._buffer[: self._start]
                self._start = 0
            self._searched = len(self._buffer)
            received = await self.stream.receive_some(READ_BYTES)
            if not received:
                return None
            self._buffer += received
        return line

    def line_at_hand(self) -> bytes | None:
        """Return the next line if it has been read already; raise as `next_line` does."""
        end = self._buffer.find(b"\n", self._searched)
        known = (end if end >= 0 else len(self._buffer)) - self._start
        if known > self.line_bytes_max:
            raise PayloadTooLarge(f"a line may have {self.line_bytes_max} bytes")
        if end < 0:
            return None
        line = bytes(self._buffer[self._start : end])
        self._start = self._searched = end + 1
        return line


@define(eq=False)
class Outlet:
    """The sending half of a stream: whole lines, one sender at a time, each within the deadline.

    A stream on which a write was given up half-way is `broken`: it says nothing any more and has to be closed. It is
    `stuck` if the other side did not take what was written in time, rather than being gone.
    """

    stream: trio.abc.SendStream
    write_s: float
    broken: bool = False
    stuck: bool = False
    _turn: trio.Lock = field(factory=trio.Lock)

    async def send(self, lines: bytes) -> bool:
        """Write whole lines; tell whether the other side took them."""
        try:
            self._turn.acquire_nowait()
        except trio.WouldBlock:
            await self._turn.acquire()
        try:
            return not self.broken and await self._write(lines)
        finally:
            self._turn.release()

    async def _write(self, lines: bytes) -> bool:
        self.broken = True
        with trio.move_on_after(self.write_s) as patience:
            try:
                await self.stream.send_all(lines)
            except Gone:
                return False
            self.broken = False
        self.stuck = patience.cancelled_caught
        return not self.broken


@define(eq=False)
class Answers:
    """What comes back for one request, in order; iterating over it yields the frames of a tail's events."""

    asked: int
    _channel: trio.MemoryReceiveChannel[Answer]
    _client: ControlClient

    async def next(self) -> Answer:
        """Wait for the next answer; raise Unavailable if none will come."""
        try:
            return await self._channel.receive()
        except trio.EndOfChannel:
            raise self._client.farewell() from None

    def close(self) -> None:
        """Drop what still comes."""
        self._channel.close()

    def __aiter__(self) -> Answers:
        return self

    async def __anext__(self) -> bytes:
        answer = await self.next()
        if not answer.ok:
            raise refusal(answer.error)
        return bytes(answer.event)


@define(eq=False)
class ControlClient:
    """One connection to the daemon; calls may overlap, each gets the answer that carries its id."""

    _outlet: Outlet
    _waiting: dict[int, trio.MemorySendChannel[Answer]] = field(factory=dict[int, trio.MemorySendChannel[Answer]])
    _asked: int = 0
    _end: trio.Event = field(factory=trio.Event)
    _last_words: Trouble | None = None

    async def call(
        self, op: str, args: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None
    ) -> bytes:
        """Return the result as JSON; raise the refusal as it was on the daemon's side."""
        async with self._answers(op, args, idempotency_key=idempotency_key, answers_max=1) as answers:
            answer = await answers.next()
        if not answer.ok:
            raise refusal(answer.error)
        return bytes(answer.result)

    @asynccontextmanager
    async def tail(
        self, id: str = "*", *, since_seq: int | dict[str, int] | None = None, ext: bool = False
    ) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """Follow events, each as its JSON frame; leaving the block stops the tail."""
        args: dict[str, Any] = {"id": id, "ext": ext}
        if since_seq is not None:
            args["since_seq"] = since_seq
        async with self._answers("events.tail", args, answers_max=TAIL_EVENTS_MAX) as answers:
            try:
                yield answers
            finally:
                # Events may still be on the way; without anybody who waits for them they are dropped on arrival.
                self._waiting.pop(answers.asked, None)
                answers.close()
                with trio.move_on_after(self._outlet.write_s, shield=True), suppress(PipaidError):
                    await self.call("events.stop", {"tail": answers.asked})

    async def listen(self, reader: LineReader) -> None:
        """Hand out answers until the connection ends."""
        try:
            while (line := await reader.next_line()) is not None:
                await self._hand_out(read_answer(line))
        except Gone:
            pass
        finally:
            self._end.set()
            for channel in self._waiting.values():
                channel.close()

    def farewell(self) -> PipaidError:
        """Return why no answer will come: what the daemon said last to nobody in particular, if it said anything."""
        if self._last_words is not None:
            return refusal(self._last_words)
        return Unavailable("the daemon closed the connection before it answered; look at its log, then ask again")

    async def _until_ended(self) -> None:
        with trio.move_on_after(FAREWELL_S):
            await self._end.wait()

    async def _hand_out(self, answer: Answer) -> None:
        if answer.id is None:
            self._last_words = answer.error
        waiting = self._waiting.get(answer.id) if isinstance(answer.id, int) else None
        if waiting is not None:
            with suppress(*Gone):
                await waiting.send(answer)

    @asynccontextmanager
    async def _answers(
        self, op: str, args: Mapping[str, Any] | None, *, answers_max: int, idempotency_key: str | None = None
    ) -> AsyncGenerator[Answers, None]:
        self._asked += 1
        asked = self._asked
        line = ask_line(asked, op, args, idempotency_key)
        send, receive = trio.open_memory_channel[Answer](answers_max)
        self._waiting[asked] = send
        try:
            if self._end.is_set() or not await self._outlet.send(line):
                # What the daemon said before it closed may still be on its way to us.
                await self._until_ended()
                raise self.farewell()
            yield Answers(asked, receive, self)
        finally:
            self._waiting.pop(asked, None)


@asynccontextmanager
async def connected(net: Net, path: Path, *, write_s: float = 5.0) -> AsyncGenerator[ControlClient, None]:
    """Connect to the daemon's control socket; raise Unavailable if nobody answers there."""
    try:
        stream = await net.connect_unix(path)
    except OSError as trouble:
        raise Unavailable(f"no daemon answers on {path}: {trouble.strerror or trouble}") from None
    async with stream, trio.open_nursery() as nursery:
        client = ControlClient(Outlet(stream, write_s))
        nursery.start_soon(client.listen, LineReader(stream, ANSWER_BYTES_MAX))
        try:
            yield client
        finally:
            nursery.cancel_scope.cancel()
