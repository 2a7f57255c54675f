"""Clients of the event stream that keep every number they are told, and after each loss ask for what came after."""

from __future__ import annotations

import hashlib
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import trio
from attrs import define, field
from trio_websocket import ConnectionClosed, HandshakeError, wrap_client_stream

from pipaid.errors import PipaidError
from pipaid.seams import SystemNet
from pipaid.wire.lines import connected
from pipaid.wire.signing import canonical, sign

PATH = "/v1/ws"
CHANNEL = "strategy.status"
TRIES_EVERY_S = 0.03
HANDSHAKE_S = 0.5


class Frame(msgspec.Struct):
    """What is asked of a frame: an event's place, or what became of a request."""

    event: str = ""
    id: str = ""
    seq: int = 0
    ok: bool = True
    oldest_seq: dict[str, int] | int | None = None
    data: dict[str, Any] = {}


@define(eq=False)
class Listener(ABC):
    """One subscriber to everything, over as many connections as it takes.

    `last` holds the last number of each strategy, `content` what all its frames so far come to; `late` names those
    whose first event came before anybody told of them. A `hole` was told by nobody, a `gap` by the daemon.
    """

    ext: bool = False
    # So long it waits for anything at all before it connects anew.
    patience_s: float = math.inf
    last: dict[str, int] = field(factory=dict[str, int])
    content: dict[str, bytes] = field(factory=dict[str, bytes])
    late: dict[str, int] = field(factory=dict[str, int])
    connections: int = 0
    frames: int = 0
    gaps: int = 0
    holes: list[str] = field(factory=list[str])
    _wanted: dict[str, None] = field(factory=dict[str, None])

    async def follow(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self.listen()
            except* (OSError, PipaidError, trio.TooSlowError):
                pass
            await trio.sleep(TRIES_EVERY_S)

    @abstractmethod
    async def listen(self) -> None:
        """Connect, ask for what came after `last`, and hear it until the connection ends."""

    def told(self) -> str:
        """Return in words what it was told."""
        heard = f"{self.frames} events over {self.connections} connections"
        return f"{heard}, {len(self.holes)} holes, {self.gaps} gaps told"

    def expect(self, ids: list[str]) -> None:
        """Want the events of these from the first on, beginning with the next connection."""
        self._wanted.update(dict.fromkeys(ids))

    def since(self) -> dict[str, int]:
        """Return what a new connection is to resume from."""
        for strategy_id in self._wanted:
            self.last.setdefault(strategy_id, 0)
        self._wanted.clear()
        return self.last

    def hear(self, text: bytes) -> None:
        """Take one frame; what is heard twice or left out is held against the daemon."""
        frame = msgspec.json.decode(text, type=Frame)
        if frame.oldest_seq is not None:
            assert isinstance(frame.oldest_seq, dict)
            for strategy_id, oldest_seq in frame.oldest_seq.items():
                self._skip(strategy_id, oldest_seq - 1)
        if not frame.event:
            if not frame.ok:
                self.holes.append(f"refused: {text.decode()}")
            return
        if frame.event == "lagged":
            self._skip(frame.id, frame.data["to_seq"])
            return
        self.frames += 1
        if not frame.seq:
            return
        before = self.last.get(frame.id)
        if before is None:
            self.late[frame.id] = frame.seq
        elif frame.seq != before + 1:
            self.holes.append(f"{frame.id}: {frame.seq} came after {before}")
        self.last[frame.id] = frame.seq
        self.content[frame.id] = hashlib.blake2b(self.content.get(frame.id, b"") + text, digest_size=16).digest()

    def _skip(self, strategy_id: str, to_seq: int) -> None:
        if to_seq > self.last.get(strategy_id, 0):
            self.gaps += 1
            self.last[strategy_id] = to_seq


@define(eq=False)
class SocketListener(Listener):
    """A WebSocket client; `port` tells where the stream is, and may change from life to life."""

    port: Callable[[], int] = lambda: 0
    api_key: str = ""
    secret: str = ""

    async def listen(self) -> None:
        """Follow one connection to its end."""
        async with await trio.open_tcp_stream("127.0.0.1", self.port()) as stream:
            async with trio.open_nursery() as nursery:
                with suppress(ConnectionClosed, HandshakeError, trio.TooSlowError):
                    # The library waits for ever when the other side goes away in the midst of this.
                    with trio.fail_after(HANDSHAKE_S):
                        socket = await wrap_client_stream(nursery, stream, "127.0.0.1", PATH)
                    await socket.send_message(msgspec.json.encode(self._proof()).decode())
                    since = {
                        "op": "subscribe",
                        "channel": CHANNEL,
                        "id": "*",
                        "since_seq": self.since(),
                        "ext": self.ext,
                    }
                    await socket.send_message(msgspec.json.encode(since).decode())
                    self.connections += 1
                    while True:
                        with trio.fail_after(self.patience_s):
                            message = await socket.get_message()
                        assert isinstance(message, str)
                        self.hear(message.encode())
                nursery.cancel_scope.cancel()

    def _proof(self) -> dict[str, Any]:
        timestamp = time.time_ns() // 1_000_000
        signature = sign(self.secret.encode(), canonical(str(timestamp), "GET", PATH))
        return {"op": "auth", "api_key": self.api_key, "timestamp": timestamp, "signature": signature}


@define(eq=False)
class TailListener(Listener):
    """A client of the control socket that follows the events of all strategies."""

    path: Any = None

    async def listen(self) -> None:
        """Follow one connection to its end."""
        async with connected(SystemNet(), self.path, write_s=HANDSHAKE_S) as client:
            async with client.tail(since_seq=self.since(), ext=self.ext) as frames:
                self.connections += 1
                while True:
                    with trio.fail_after(self.patience_s):
                        frame = await anext(frames)
                    self.hear(frame)
