"""A model server for tests: it answers over the stream it is given as a test says, and remembers what it was asked."""

from __future__ import annotations

import json
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from queue import Queue
from threading import Thread
from typing import Any, cast

import h11
import msgspec
import trio
from attrs import define, field, frozen
from trio.testing import memory_stream_pair

from pipaid.model.consult import Question
from pipaid.seams import SystemNet

HOST = "models.example.com"
PUBLIC = "93.184.216.34"
KEY = "sk-test-0123456789abcdef"
DECISION = {"action": "hold", "confidence": 0.5}
SCHEMA = {"type": "object", "properties": {"action": {"type": "string"}}, "required": ["action"]}


def make_question(number: int = 1, **fields: Any) -> Question:
    """Return a question, with a test's own words where it has any."""
    given: dict[str, Any] = {
        "id": f"q_{number}",
        "strategy_id": "strat_1",
        "run_id": f"run_{number}",
        "symbol": "BTCUSDT",
        "role": "decision",
        "provider": "main",
        "model": "small",
        "system": "You judge candles.",
        "prompt": "BTCUSDT closed at 100.",
        "answer_schema": SCHEMA,
        "tokens_max": 400,
        "patience_ms": 5_000,
        "asked_at_ms": 1_750_000_000_000,
    }
    return Question(**{**given, **fields})


@frozen
class Asked:
    """A request as the server saw it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


Behaviour = Callable[[trio.abc.Stream, Asked], Awaitable[None]]


def plain(body: bytes, status: int = 200, *headers: str) -> bytes:
    """Return a whole answer as bytes."""
    lines = [f"HTTP/1.1 {status} Told", f"Content-Length: {len(body)}", "Content-Type: application/json", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def saying(body: object, status: int = 200, *headers: str) -> Behaviour:
    """Answer at once with JSON, or with bytes as they are."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)

    async def behave(stream: trio.abc.Stream, asked: Asked) -> None:
        await stream.send_all(plain(data, status, *headers))

    return behave


def dripping(body: object, pause_s: float) -> Behaviour:
    """Answer a byte at a time."""

    async def behave(stream: trio.abc.Stream, asked: Asked) -> None:
        for number in plain(msgspec.json.encode(body)):
            await stream.send_all(bytes([number]))
            await trio.sleep(pause_s)

    return behave


def late(body: object, after_s: float) -> Behaviour:
    """Answer after a while."""

    async def behave(stream: trio.abc.Stream, asked: Asked) -> None:
        await trio.sleep(after_s)
        await saying(body)(stream, asked)

    return behave


def endless(start: bytes, piece: bytes) -> Behaviour:
    """Never come to an end."""

    async def behave(stream: trio.abc.Stream, asked: Asked) -> None:
        await stream.send_all(start)
        while True:
            await stream.send_all(piece)

    return behave


async def never(stream: trio.abc.Stream, asked: Asked) -> None:
    """Take a question and say nothing."""
    await trio.sleep_forever()


def breaking_off(start: bytes) -> Behaviour:
    """Take a question, begin to answer and go."""

    async def behave(stream: trio.abc.Stream, asked: Asked) -> None:
        await stream.send_all(start)
        await stream.aclose()

    return behave


def message(text: str = json.dumps(DECISION), *, stop: object = "tool_use", usage: object = None, **more: Any) -> Any:
    """Return an answer of the Messages API, given by the tool that was offered."""
    block = {"type": "tool_use", "id": "toolu_1", "name": "answer", "input": msgspec.Raw(text.encode())}
    counts = {"input_tokens": 120, "output_tokens": 30} if usage is None else usage
    return {"type": "message", "role": "assistant", "content": [block], "stop_reason": stop, "usage": counts, **more}


def completion(text: object = json.dumps(DECISION), *, stop: object = "stop", usage: object = None, **more: Any) -> Any:
    """Return a chat completion."""
    counts = {"prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150} if usage is None else usage
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **more}, "finish_reason": stop}
    return {"object": "chat.completion", "choices": [choice], "usage": counts}


@define(eq=False)
class ModelServer:
    """Answer each request as `behave` says, or the next of `turns` while there are any."""

    behave: Behaviour = field(factory=lambda: saying(completion()))
    turns: deque[Behaviour] = field(factory=deque[Behaviour])
    asked: list[Asked] = field(factory=list[Asked])
    secured: ssl.SSLContext | None = None
    open: int = 0

    async def meet(self, stream: trio.abc.Stream) -> None:
        """Take one question and answer it."""
        self.open += 1
        if self.secured is not None:
            stream = trio.SSLStream(stream, self.secured, server_side=True, https_compatible=True)
        try:
            asked = await _read(stream)
            self.asked.append(asked)
            await (self.turns.popleft() if self.turns else self.behave)(stream, asked)
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            pass
        finally:
            self.open -= 1
            await trio.aclose_forcefully(stream)


async def _read(stream: trio.abc.Stream) -> Asked:
    connection = h11.Connection(h11.SERVER)
    head: h11.Request | None = None
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some()))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.ConnectionClosed):
            raise trio.BrokenResourceError("nobody asks any more")
        else:
            assert head is not None
            headers = {name.decode(): value.decode() for name, value in head.headers}
            return Asked(head.target.decode(), headers, msgspec.json.decode(body))


@define(eq=False)
class Wired(SystemNet):
    """A network in memory, in which each address leads to the server, and names mean what the test says."""

    server: ModelServer
    nursery: trio.Nursery
    found: list[str] = field(factory=lambda: [PUBLIC])
    dead: frozenset[str] = frozenset()
    connected: list[tuple[str, int]] = field(factory=list[tuple[str, int]])
    trusted: ssl.SSLContext | None = None

    async def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context() if self.trusted is None else self.trusted

    async def resolve(self, host: str, port: int, holder: str = "") -> list[str]:
        await trio.lowlevel.checkpoint()
        if not self.found:
            raise OSError(-2, "Name or service not known")
        return self.found

    async def connect_address(self, address: str, port: int) -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
        self.connected.append((address, port))
        if address in self.dead:
            raise OSError(111, "Connection refused")
        ours, theirs = memory_stream_pair()
        self.nursery.start_soon(self.server.meet, theirs)
        return cast(trio.SocketStream, ours)


@asynccontextmanager
async def wired(behave: Behaviour) -> AsyncGenerator[Wired]:
    """Have a server that behaves in a certain way, and a network that leads to it."""
    async with trio.open_nursery() as nursery:
        yield Wired(ModelServer(behave), nursery)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def listening(server: ModelServer) -> AsyncGenerator[int]:
    """Have a server listen on a port of this machine."""
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, server.meet, 0, host="127.0.0.1"))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@contextmanager
def serving(server: ModelServer) -> Generator[int]:
    """Have a server listen in a thread of its own, for tests that wait without an event loop."""
    ready: Queue[tuple[int, trio.lowlevel.TrioToken, trio.CancelScope]] = Queue()

    async def serve() -> None:
        with trio.CancelScope() as scope:
            async with listening(server) as port:
                ready.put((port, trio.lowlevel.current_trio_token(), scope))
                await trio.sleep_forever()

    thread = Thread(target=trio.run, args=(serve,))
    thread.start()
    port, token, scope = ready.get(timeout=30)
    try:
        yield port
    finally:
        token.run_sync_soon(scope.cancel)
        thread.join(30)
