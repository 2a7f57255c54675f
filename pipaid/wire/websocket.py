"""One WebSocket's socket between network and library: metered inwards, one writer outwards, closed with a reason.

The library keeps the protocol; this keeps the promises around it. Bytes that a client sends are judged before they are
kept, every byte for a client goes through its one sender, and whoever is closed can still read why.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import h11
import trio
from attrs import define, field

from pipaid.seams import Clock, Net

HEAD_BYTES_MAX: Final = 16 * 1024
FRAME_BYTES_MAX: Final = 64 * 1024
FRAMES_PER_S: Final = 20.0
# What the library and the session have to say to one client; who leaves that much unread is closed.
POSTED_BYTES_MAX: Final = 1024 * 1024
# What the system may take for a client that does not read, once that client is closed.
CLOSING_BUFFER_BYTES: Final = 2 * 1024 * 1024
DRAIN_BYTES_MAX: Final = 4 * 1024 * 1024
CLOSE_S: Final = 2.0
SEND_S: Final = 5.0

GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
UNSUPPORTED: Final = 1003
INVALID_PAYLOAD: Final = 1007
TOO_BIG: Final = 1009
TOO_FAST_OR_SLOW: Final = 4429

_FIN: Final = 0x80
_TEXT: Final = 0x81
_CLOSE: Final = 0x88
_MASKED: Final = 0x80
_CONTROL: Final = 0x08
_REASON_BYTES_MAX: Final = 123
# How many bytes of length follow, by the short length that announces them.
_EXTENDED: Final = {126: 2, 127: 8}


def text_frame(payload: bytes) -> bytes:
    """Return a server's unmasked text frame: the same bytes for every client."""
    return _header(_TEXT, len(payload)) + payload


def close_frame(code: int, reason: str) -> bytes:
    """Return a server's close frame."""
    payload = struct.pack("!H", code) + reason.encode()[:_REASON_BYTES_MAX].decode(errors="ignore").encode()
    return _header(_CLOSE, len(payload)) + payload


class Refused(Exception):
    """The client broke a limit; `code` is the one that its connection is closed with."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@define
class FrameMeter:
    """Follow the frames in a client's bytes without keeping them: how many there are and how long each one is."""

    bytes_max: int = FRAME_BYTES_MAX
    # A close frame has begun: nothing of interest comes after it.
    close_seen: bool = False
    _head: bytearray = field(factory=bytearray)
    _to_skip: int = 0
    _message_bytes: int = 0

    def feed(self, data: bytes, allowed: int) -> int:
        """Return how many frames begin here; refuse a message that announces too much, and more frames than allowed."""
        begun = 0
        position = 0
        while position < len(data):
            if self._to_skip:
                step = min(self._to_skip, len(data) - position)
                self._to_skip -= step
                position += step
                continue
            self._head.append(data[position])
            position += 1
            length = _announced(self._head)
            if length is None:
                continue
            begun += 1
            if begun > allowed:
                raise Refused(TOO_FAST_OR_SLOW, "too many frames a second")
            self._judge(self._head[0], length)
            self._to_skip = length + (4 if self._head[1] & _MASKED else 0)
            self._head.clear()
        return begun

    def _judge(self, opcode: int, length: int) -> None:
        if opcode & _CONTROL:
            self.close_seen = self.close_seen or opcode == _CLOSE
            return
        self._message_bytes += length
        if self._message_bytes > self.bytes_max:
            raise Refused(TOO_BIG, f"a message has at most {self.bytes_max} bytes")
        if opcode & _FIN:
            self._message_bytes = 0


@define(eq=False)
class Line(trio.abc.Stream):
    """A client's stream as the WebSocket library sees it.

    What the library wants to send is posted, and `on_post` wakes the one sender. When the library is done with the
    stream, `on_end` is called; only `finish` closes it.
    """

    stream: trio.abc.Stream
    clock: Clock
    net: Net
    frame_bytes_max: int = FRAME_BYTES_MAX
    frames_per_s: float = FRAMES_PER_S
    close_s: float = CLOSE_S
    on_post: Callable[[], None] = field(default=lambda: None)
    on_end: Callable[[], None] = field(default=lambda: None)
    # Until the handshake is over the library writes by itself.
    upgraded: bool = False
    refused: Refused | None = None
    _meter: FrameMeter = field(init=False)
    _incoming: bytes = b""
    _frames_allowed: float = field(init=False)
    _metered_s: float = field(init=False)
    _posted: deque[bytes] = field(factory=deque[bytes])
    _posted_bytes: int = 0
    _close_posted: bool = False
    # What is being written, and the part of it that the system has not taken yet.
    _chunk: bytes = b""
    _unsent: memoryview = field(default=memoryview(b""))
    _broken: bool = False

    def __attrs_post_init__(self) -> None:
        self._meter = FrameMeter(self.frame_bytes_max)
        self._frames_allowed = self.frames_per_s
        self._metered_s = self.clock.monotonic_s()

    async def read_request(self) -> h11.Request:
        """Read the request's head and keep it for the library, which parses it the same way."""
        buffer = b""
        while b"\r\n\r\n" not in buffer:
            if len(buffer) > HEAD_BYTES_MAX:
                raise Refused(400, f"the request's head has at most {HEAD_BYTES_MAX} bytes")
            data = await self.stream.receive_some(HEAD_BYTES_MAX)
            if not data:
                raise trio.BrokenResourceError("closed before the request was complete")
            buffer += data
        parser = h11.Connection(h11.SERVER)
        try:
            parser.receive_data(buffer)
            event = parser.next_event()
        except h11.RemoteProtocolError as error:
            raise Refused(400, f"bad request: {error}") from error
        if not isinstance(event, h11.Request):
            raise Refused(400, "bad request")
        self._incoming = buffer
        self._meter_bytes(buffer[buffer.index(b"\r\n\r\n") + 4 :])
        return event

    async def reply(self, status: int, body: bytes) -> None:
        """Answer the handshake with a refusal."""
        head = f"HTTP/1.1 {status} Refused\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        await self.stream.send_all(f"{head}Connection: close\r\n\r\n".encode() + body)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return the client's bytes once they are judged."""
        if self._incoming:
            await trio.lowlevel.checkpoint()
            data, self._incoming = self._incoming, b""
            return data
        data = bytes(await self.stream.receive_some(max_bytes))
        try:
            self._meter_bytes(data)
        except Refused as refused:
            self.refused = refused
            raise trio.BrokenResourceError(refused.reason) from refused
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Post what the library wants to send; during the handshake, send it."""
        if not self.upgraded:
            await self.stream.send_all(data)
            return
        await trio.lowlevel.checkpoint()
        self._close_posted = self._close_posted or data[:1] == bytes([_CLOSE])
        self.post(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Return: whatever is sent is posted."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Say that the library is done with the stream."""
        self.on_end()
        await trio.lowlevel.checkpoint()

    def post(self, frame: bytes) -> None:
        """Queue a frame for the sender; never waits. A client that leaves too much unread is refused."""
        self._posted.append(frame)
        self._posted_bytes += len(frame)
        if self._posted_bytes > POSTED_BYTES_MAX:
            self._posted.clear()
            self._posted_bytes = 0
            self.refused = Refused(TOO_FAST_OR_SLOW, "answers were left unread")
            self.on_end()
        self.on_post()

    def take_posted(self) -> bytes:
        """Take all posted frames."""
        data = b"".join(self._posted)
        self._posted.clear()
        self._posted_bytes = 0
        return data

    @property
    def writes_at_once(self) -> bool:
        """Tell whether `send_now` works on this stream."""
        return isinstance(self.stream, trio.SocketStream)

    def send_now(self, data: bytes) -> bool:
        """Write what the system takes without waiting; tell whether that was all, else `send` has to go on."""
        assert isinstance(self.stream, trio.SocketStream)
        assert not self._unsent
        try:
            sent = os.write(self.stream.socket.fileno(), data)
        except OSError:  # The system takes nothing now, or never again: the sender will find out which.
            sent = 0
        if sent < len(data):
            self._chunk, self._unsent = data, memoryview(data)[sent:]
        return not self._unsent

    async def send(self, data: bytes) -> None:
        """Write everything. When this is cancelled, `finish` knows what is left of a frame and completes it."""
        await self._flush()
        self._chunk, self._unsent = data, memoryview(data)
        await self._flush()

    async def finish(self, code: int, reason: str) -> None:
        """Complete what was begun, say why, and close: within `close_s`, whatever the client does."""
        with trio.move_on_after(self.close_s, shield=True):
            try:
                if self.upgraded and not self._broken:
                    await self._say_goodbye(code, reason)
                await self._drain()
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                pass  # The other side has gone; there is nobody left to tell.
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self.stream)

    async def _say_goodbye(self, code: int, reason: str) -> None:
        if isinstance(self.stream, trio.SocketStream):
            # A client that does not read has filled its buffer: make room for the last word behind it.
            self.net.bound_send_buffer(self.stream, CLOSING_BUFFER_BYTES)
        self._leave_unbegun()
        goodbye = b"" if self._close_posted else close_frame(code, reason)
        await self.send(self.take_posted() + goodbye)

    def _leave_unbegun(self) -> None:
        """Keep of what is not yet written only the rest of the frame that has been begun."""
        sent = len(self._chunk) - len(self._unsent)
        end = 0
        while end < sent:
            end += _length(self._chunk, end)
        self._unsent = self._unsent[: end - sent]

    async def _drain(self) -> None:
        """Read on to the client's own close frame: closing a socket with unread bytes destroys what was said to it."""
        if isinstance(self.stream, trio.SocketStream):
            await self.stream.send_eof()
        drained = 0
        while drained < DRAIN_BYTES_MAX and not self._meter.close_seen:
            data = bytes(await self.stream.receive_some(HEAD_BYTES_MAX))
            if not data:
                return
            drained += len(data)
            with suppress(Refused):
                self._meter.feed(data, DRAIN_BYTES_MAX)

    async def _flush(self) -> None:
        if not self._unsent:
            return
        if not isinstance(self.stream, trio.SocketStream):
            await self._flush_whole()
            return
        try:
            while self._unsent:
                try:
                    # Most writes succeed at once, and this way cost the system call and no trip through the scheduler.
                    sent = os.write(self.stream.socket.fileno(), self._unsent)
                except BlockingIOError:
                    sent = await self.stream.socket.send(self._unsent)
                self._unsent = self._unsent[sent:]
            self._chunk = b""
        except OSError as error:
            self._broken = True
            raise trio.BrokenResourceError(str(error)) from error

    async def _flush_whole(self) -> None:
        """Write to a stream that does not tell how much it took when it is interrupted: it is not, for a while."""
        data, self._unsent = self._unsent, memoryview(b"")
        with trio.move_on_after(SEND_S, shield=True) as patience:
            await self.stream.send_all(data)
        if patience.cancelled_caught:
            self._broken = True
            self.refused = Refused(TOO_FAST_OR_SLOW, f"nothing was read for {SEND_S:g} s")
            raise trio.BrokenResourceError(self.refused.reason)

    def _meter_bytes(self, data: bytes) -> None:
        now_s = self.clock.monotonic_s()
        earned = (now_s - self._metered_s) * self.frames_per_s
        self._frames_allowed = min(self.frames_per_s, self._frames_allowed + earned)
        self._metered_s = now_s
        self._frames_allowed -= self._meter.feed(data, int(self._frames_allowed))


def _header(opcode: int, length: int) -> bytes:
    if length < 126:
        return bytes((opcode, length))
    if length < 65536:
        return struct.pack("!BBH", opcode, 126, length)
    return struct.pack("!BBQ", opcode, 127, length)


def _length(frames: bytes, start: int) -> int:
    """Return how long a server's own frame is, from its first byte to its last."""
    short = frames[start + 1]
    size = _EXTENDED.get(short, 0)
    return 2 + size + (int.from_bytes(frames[start + 2 : start + 2 + size]) if size else short)


def _announced(head: bytearray) -> int | None:
    """Return the length that a frame's first bytes announce, once they are all there."""
    if len(head) < 2:
        return None
    short = head[1] & 0x7F
    size = _EXTENDED.get(short, 0)
    if len(head) < 2 + size:
        return None
    return int.from_bytes(head[2 : 2 + size]) if size else short
