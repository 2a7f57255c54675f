"""An event stream with everything behind it, on loopback, and clients that are honest or that speak in raw bytes."""

from __future__ import annotations

import os
import struct
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import msgspec
import trio
from attrs import define, field
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from actors.hub import Hub
from actors.keys import KeyRing
from actors.recorder import Recorder
from actors.stream import StreamLimits, StreamServer
from pipaid.model.event import BacktestProgressed, EventDraft, OrderCancelled, Resumed
from pipaid.model.record import Batch
from pipaid.model.request import KeyCreate
from pipaid.seams import Clock, SystemClock, SystemDisk, SystemIds, SystemNet
from pipaid.storage.sqlite import SqliteJournal
from pipaid.wire.signing import canonical, sign

MASTER_KEY = bytes(range(32))
ACCOUNT = "acct_main"
UNHURRIED = StreamLimits(frames_per_s=1_000_000.0)


@define
class Owners:
    """Whose strategy is whose, as a daemon's roster would say."""

    accounts: dict[str, str] = field(factory=dict[str, str])

    def owner_of(self, strategy_id: str) -> str | None:
        return self.accounts.get(strategy_id)

    def strategies_of(self, account: str | None) -> Sequence[str]:
        return sorted(key for key, owner in self.accounts.items() if account in (None, owner))

    def owns(self, account: str, strategy_id: str) -> bool:
        return self.accounts.get(strategy_id) == account


@define
class Desk:
    """The stream and what feeds it."""

    journal: SqliteJournal
    recorder: Recorder
    hub: Hub
    keys: KeyRing
    owners: Owners
    server: StreamServer
    port: int
    clock: Clock
    memory: MemoryListener | None = None
    api_key: str = ""
    secret: str = ""

    async def emit(self, *strategy_ids: str, opt_in: bool = False, note: str = "") -> None:
        """Make one event of each strategy durable in one batch."""
        events = [(resumed if opt_in else cancelled)(key, note) for key in strategy_ids]
        await self.recorder.commit(Batch(events=events))

    async def emit_progress(self, job_id: str, progress: float) -> None:
        """Make an event of a backtest durable."""
        data = BacktestProgressed(status="running", progress=progress)
        draft = EventDraft(strategy_id=job_id, data=data, at_ms=0, run_id=None, dry_run=None)
        await self.recorder.commit(Batch(events=[draft]))

    def credentials(self, path: str = "/v1/ws", *, skew_ms: int = 0) -> dict[str, Any]:
        """Sign as a client would."""
        timestamp = self.clock.now_us() // 1000 + skew_ms
        signature = sign(self.secret.encode(), canonical(str(timestamp), "GET", path))
        return {"api_key": self.api_key, "timestamp": timestamp, "signature": signature}

    def url(self, path: str = "/v1/ws", *, signed: bool = True) -> str:
        """Return where to connect."""
        query = "&".join(f"{name}={value}" for name, value in self.credentials(path).items())
        return f"ws://127.0.0.1:{self.port}{path}" + (f"?{query}" if signed else "")

    async def dial(self) -> trio.abc.Stream:
        """Connect and say nothing."""
        return await self.memory.connect() if self.memory else await trio.open_tcp_stream("127.0.0.1", self.port)

    @asynccontextmanager
    async def connected(self, path: str = "/v1/ws", *, signed: bool = True) -> AsyncGenerator[Client]:
        """Connect an honest client."""
        target = self.url(path, signed=signed).partition(f":{self.port}")[2]
        stream = await self.dial()
        async with stream, trio.open_nursery() as nursery:
            socket = await wrap_client_stream(nursery, cast("trio.SocketStream", stream), "127.0.0.1", target)
            try:
                yield Client(socket)
            finally:
                with trio.move_on_after(1):
                    await socket.aclose()
                nursery.cancel_scope.cancel()


@define
class Client:
    """An honest client."""

    socket: WebSocketConnection

    async def say(self, **frame: Any) -> None:
        await self.socket.send_message(msgspec.json.encode(frame).decode())

    async def hear(self) -> dict[str, Any]:
        with trio.fail_after(5):
            return msgspec.json.decode(await self.socket.get_message(), type=dict[str, Any])

    async def ask(self, **frame: Any) -> dict[str, Any]:
        await self.say(**frame)
        return await self.hear()

    async def subscribe(self, strategy_id: str, **more: Any) -> dict[str, Any]:
        return await self.ask(op="subscribe", channel="strategy.status", id=strategy_id, **more)

    async def close_code(self, *, within_s: float = 10.0) -> int:
        """Wait until the server closes and return its code."""
        with trio.fail_after(within_s), suppress(ConnectionClosed):
            while True:
                await self.socket.get_message()
        assert self.socket.closed is not None
        return self.socket.closed.code


@define
class VirtualClock:
    """The clock of trio's own time, which a test may let run as fast as it likes."""

    def now_us(self) -> int:
        return 1_767_225_600_000_000 + round(trio.current_time() * 1e6)

    def monotonic_s(self) -> float:
        return trio.current_time()

    def cpu_s(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


@define(eq=False)
class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """Connections without a network, so that time can be virtual."""

    _ends: tuple[trio.MemorySendChannel[trio.abc.Stream], trio.MemoryReceiveChannel[trio.abc.Stream]] = field(
        factory=lambda: trio.open_memory_channel[trio.abc.Stream](16)
    )

    async def connect(self) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        await self._ends[0].send(theirs)
        return ours

    async def accept(self) -> trio.abc.Stream:
        return await self._ends[1].receive()

    async def aclose(self) -> None:
        await self._ends[1].aclose()


async def until(condition: Callable[[], bool], *, within_s: float = 20.0) -> None:
    """Wait for something that comes about behind real sockets, where nobody can be asked to tell."""
    with trio.fail_after(within_s):
        while not condition():  # noqa: ASYNC110 - see above
            await trio.sleep(0.005)


def cancelled(strategy_id: str, note: str = "") -> EventDraft:
    data = OrderCancelled(
        order_id="ord_1",
        client_order_id="pp1",
        symbol="BTCUSDT",
        reason=note or "engine",
        filled_qty=Decimal(0),
        cancelled_at="2026-01-01T00:00:00Z",
    )
    return EventDraft(strategy_id=strategy_id, data=data, at_ms=1_767_225_600_000, run_id="run_1", dry_run=True)


def resumed(strategy_id: str, note: str = "") -> EventDraft:
    data = Resumed(status=note or "deployed")
    return EventDraft(strategy_id=strategy_id, data=data, at_ms=1_767_225_600_000, run_id=None, dry_run=None)


def strategy_ids(count: int) -> list[str]:
    return [f"strat_{number:08x}" for number in range(count)]


@asynccontextmanager
async def open_desk(
    folder: Path,
    *,
    strategies: Sequence[str] = ("strat_00000000",),
    limits: StreamLimits | None = None,
    memory: MemoryListener | None = None,
    **server: Any,
) -> AsyncGenerator[Desk]:
    """Serve the stream of the journal in a folder on a free port, or without a network and in virtual time."""
    clock: Clock = SystemClock() if memory is None else VirtualClock()
    journal = SqliteJournal.open(folder / "journal.db", disk=SystemDisk(), clock=clock, pid=os.getpid())
    owners = Owners(dict.fromkeys(strategies, ACCOUNT))
    recorder = Recorder(journal, publish=lambda events: hub.publish(events), clock=clock, threaded=memory is None)
    hub = Hub(recorder, owners)
    keys = KeyRing(recorder, clock, SystemIds(), MASTER_KEY)
    net = SystemNet()
    stream = StreamServer(hub, keys, owners.owns, clock, net, limits or StreamLimits(), **server)
    keys.on_revoked = stream.expel
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(recorder.run)
            await keys.load()
            listeners: Sequence[trio.abc.Listener[trio.abc.Stream]] = []
            port = 5002
            if memory is not None:
                listeners = [memory]
            else:
                sockets = await net.listen_tcp("127.0.0.1", 0)
                port = sockets[0].socket.getsockname()[1]
                listeners = sockets
            desk = Desk(journal, recorder, hub, keys, owners, stream, port, clock, memory)
            made = await keys.create(KeyCreate(name="test", scopes=("read-only",)), account=ACCOUNT)
            assert isinstance(made.secret, str)
            desk.api_key, desk.secret = made.api_key, made.secret
            async with trio.open_nursery() as front:
                await front.start(stream.run, listeners)
                yield desk
                front.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
    finally:
        journal.close()


@define
class RawClient:
    """A client that sends whatever it likes."""

    stream: trio.abc.Stream
    buffer: bytes = b""

    async def shake_hands(self, target: str = "/v1/ws", *, host: str = "127.0.0.1", extra: str = "") -> bytes:
        """Ask for an upgrade and return the head of the answer."""
        await self.stream.send_all(
            f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n".encode()
        )
        return await self.read_head()

    async def read_head(self) -> bytes:
        with trio.fail_after(8):
            while b"\r\n\r\n" not in self.buffer:
                data = await self.stream.receive_some()
                if not data:
                    return self.buffer
                self.buffer += data
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head

    async def send(self, payload: bytes, *, opcode: int = 1, fin: bool = True) -> None:
        await self.stream.send_all(masked(payload, opcode=opcode, fin=fin))

    async def next_frame(self) -> tuple[int, bytes] | None:
        """Return the opcode and the payload of the next frame, None when the server has closed the connection."""
        while (frame := self._next_frame()) is None:
            try:
                data = await self.stream.receive_some(1 << 20)
            except trio.BrokenResourceError:
                return None
            if not data:
                return None
            self.buffer += data
        return frame

    async def close_code(self) -> int | None:
        """Read to the end and return the code of the close frame, None if the connection just ended."""
        with trio.fail_after(20):
            while frame := await self.next_frame():
                if frame[0] == 8:
                    return int.from_bytes(frame[1][:2])
        return None

    def _next_frame(self) -> tuple[int, bytes] | None:
        if len(self.buffer) < 2:
            return None
        short = self.buffer[1]
        start = {126: 4, 127: 10}.get(short, 2)
        if len(self.buffer) < start:
            return None
        length = int.from_bytes(self.buffer[2:start]) if start > 2 else short
        if len(self.buffer) < start + length:
            return None
        frame = (self.buffer[0] & 15, self.buffer[start : start + length])
        self.buffer = self.buffer[start + length :]
        return frame


@asynccontextmanager
async def raw_client(desk: Desk) -> AsyncGenerator[RawClient]:
    async with await desk.dial() as stream:
        yield RawClient(stream)


def masked(payload: bytes, *, opcode: int = 1, fin: bool = True) -> bytes:
    """Return a client's frame; the mask is all zeros, which the protocol allows."""
    length = len(payload)
    if length < 126:
        head = bytes((opcode | 0x80 * fin, 0x80 | length))
    elif length < 65536:
        head = struct.pack("!BBH", opcode | 0x80 * fin, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", opcode | 0x80 * fin, 0x80 | 127, length)
    return head + bytes(4) + payload
