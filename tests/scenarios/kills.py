"""A replay that is killed again and again: lives that end at random moments, and a client that resumes after each."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio
from attrs import define, field
from trio_websocket import ConnectionClosed, HandshakeError, wrap_client_stream

from pipaid.errors import PipaidError
from pipaid.model.moment import parse_iso
from pipaid.wire.signing import canonical, sign
from tests.surfaces.daemon import Daemon

PATH = "/v1/ws"
TRIES_EVERY_S = 0.05
LOOK_S = 0.03
ENDS_S_MAX = 240.0


@define(eq=False)
class Subscriber:
    """A client of the event stream that keeps every number it is told, and after each loss asks for what came after."""

    port: int = 0
    api_key: str = ""
    secret: str = ""
    last: dict[str, int] = field(factory=dict[str, int])
    connections: int = 0
    holes: list[str] = field(factory=list[str])

    async def follow(self) -> None:
        """Listen until cancelled, over as many connections as it takes."""
        while True:
            with suppress(OSError):
                async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
                    await self._listen(stream)
            await trio.sleep(TRIES_EVERY_S)

    async def _listen(self, stream: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            with suppress(ConnectionClosed, HandshakeError):
                socket = await wrap_client_stream(nursery, stream, "127.0.0.1", PATH)
                await socket.send_message(msgspec.json.encode(self._proof()).decode())
                since = {"op": "subscribe", "channel": "strategy.status", "id": "*", "since_seq": self.last}
                await socket.send_message(msgspec.json.encode(since).decode())
                self.connections += 1
                while True:
                    self._hear(msgspec.json.decode(await socket.get_message()))
            nursery.cancel_scope.cancel()

    def _proof(self) -> dict[str, Any]:
        timestamp = time.time_ns() // 1_000_000
        signature = sign(self.secret.encode(), canonical(str(timestamp), "GET", PATH))
        return {"op": "auth", "api_key": self.api_key, "timestamp": timestamp, "signature": signature}

    def _hear(self, frame: dict[str, Any]) -> None:
        if "event" not in frame:
            assert frame["ok"] is True, frame
            return
        before = self.last.get(frame["id"], 0)
        if frame["seq"] != before + 1:
            self.holes.append(f"{frame['id']}: {frame['seq']} came after {before}")
        self.last[frame["id"]] = frame["seq"]


@define(eq=False)
class Campaign:
    """One state on which daemon after daemon is killed; `kills` counts those that came before the recording's end."""

    daemon: Daemon
    chance: random.Random
    kills: int = 0
    subscriber: Subscriber = field(factory=Subscriber)

    async def begin(self) -> None:
        """Start the first life, make a key in it, and let a client listen to all strategies from the first event on."""
        await trio.to_thread.run_sync(self.daemon.start)
        key = self.daemon.ask("key.create", name="follower", scopes=["read-only"])
        self.subscriber.api_key, self.subscriber.secret = key["api_key"], key["secret"]
        await until(lambda: self.daemon.ask("status")["strategies"].get("deployed", 0) == 10)
        self.subscriber.last = {each["id"]: 0 for each in self.daemon.ask("strategy.list", limit=100)["data"]}
        self.subscriber.port = self.daemon.stream_port

    async def kill_often(self, times: int, *, begin_ms: int, end_ms: int) -> None:
        """Kill a life after the other, each at a random moment of the recording, some again while they start."""
        spread = (end_ms - begin_ms) / times
        for number in range(times):
            moment_ms = begin_ms + spread * (number + self.chance.uniform(0, 0.9))
            await until(partial(self._passed, moment_ms))
            await trio.sleep(self.chance.uniform(0, LOOK_S))
            await self._kill()
            if self.chance.random() < 0.25:
                # Most of these fall into the start.
                await trio.sleep(self.chance.uniform(0, 0.6))
                await self._kill()

    async def _kill(self) -> None:
        self.daemon.kill()
        self.kills += 1
        assert not self.daemon.said("market.ended"), "the recording ended before the last kill"
        self.daemon.spawn()

    async def finish(self) -> None:
        """Let the last life come to the recording's end, and the client to the last event of each strategy."""
        await until(lambda: self._venue_ms() > 0 and bool(self.daemon.ask("status")["market"]["ended"]))
        goal = {key: self.daemon.ask("strategy.state", id=key)["last_seq"] for key in self.subscriber.last}
        await until(lambda: self.subscriber.last == goal or bool(self.subscriber.holes))

    def _passed(self, moment_ms: float) -> bool:
        return self._venue_ms() >= moment_ms

    def _venue_ms(self) -> int:
        """Return how far the market is, 0 while the daemon does not answer yet."""
        process = self.daemon.process
        assert process is not None
        assert process.poll() is None, self.daemon.tail()
        try:
            status = self.daemon.ask("status")
        except PipaidError:
            return 0
        if status["state"] != "running" or status["venue_time"] is None:
            return 0
        self.subscriber.port = self.daemon.stream_port
        return parse_iso(status["venue_time"])


@asynccontextmanager
async def campaign(folder: Path, config: str, *, seed: int) -> AsyncGenerator[Campaign]:
    """Begin a campaign, and leave no process behind."""
    begun = Campaign(Daemon(folder, config), random.Random(seed))
    try:
        await begun.begin()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(begun.subscriber.follow)
            yield begun
            nursery.cancel_scope.cancel()
    finally:
        process = begun.daemon.process
        if process is not None and process.poll() is None:
            begun.daemon.kill()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that comes about in another process."""
    with trio.fail_after(ENDS_S_MAX):
        while not await trio.to_thread.run_sync(condition):  # noqa: ASYNC110 - another process cannot be awaited
            await trio.sleep(LOOK_S)
