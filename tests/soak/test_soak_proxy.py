"""Connections that are spoiled in every way cost nobody an event; and the proxy does to each what its fault says."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.soak.proxy import MAKE, NONE, Fault, Proxy
from tests.soak.spoiled import Size, run

SAID = bytes(range(256)) * 40


async def test_whoever_listens_through_a_bad_line_hears_every_event_once(tmp_path: Path) -> None:
    outcome = await run(tmp_path, Size(strategies=20, sockets=6, tails=3, seconds=3.0))

    assert outcome.wrong == []
    assert len(outcome.faults) > 3
    assert all(listener.frames for listener in (*outcome.honest, *outcome.spoiled))
    assert sum(listener.connections for listener in outcome.spoiled) > len(outcome.spoiled)
    assert outcome.commander.outcomes["done"] > 0
    assert outcome.pings_s


@pytest.mark.parametrize("name", MAKE)
def test_a_fault_follows_from_its_seed(name: str) -> None:
    assert [MAKE[name](random.Random(7)) for _ in range(2)] == [MAKE[name](random.Random(7))] * 2
    assert MAKE[name](random.Random(7)).name == name


@pytest.mark.parametrize(
    "fault",
    [NONE, Fault(latency_s=0.01), Fault(slice_bytes=1_000), Fault(bytes_per_s=200_000.0), Fault(close_s=0.05)],
    ids=["none", "latency", "slicer", "bandwidth", "slow close"],
)
async def test_what_is_only_late_arrives_whole(fault: Fault) -> None:
    async with echoing(fault) as client:
        await client.send_all(SAID)
        await client.send_eof()
        assert await everything(client) == SAID


async def test_a_reset_comes_in_the_midst() -> None:
    async with echoing(Fault(reset_after=2_000, slice_bytes=500)) as client:
        await client.send_all(SAID)
        with pytest.raises(trio.BrokenResourceError):
            await everything(client)


async def test_a_silent_connection_neither_brings_anything_nor_ends() -> None:
    async with echoing(Fault(silent_after=2_000, slice_bytes=500)) as client:
        await client.send_all(SAID)
        received = b""
        with trio.move_on_after(0.1) as patience:
            while data := await client.receive_some():
                received += data

    assert patience.cancelled_caught
    assert received == SAID[:2_000]


@asynccontextmanager
async def echoing(fault: Fault) -> AsyncGenerator[trio.SocketStream]:
    """Connect to an echo behind a proxy that has one fault only."""

    async def echo(stream: trio.SocketStream) -> None:
        async with stream:
            while data := await stream.receive_some():
                await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        (server,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        (before,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, echo, [server])
        proxy = Proxy(
            partial(trio.open_tcp_stream, *server.socket.getsockname()), random.Random(1), {"only": lambda _: fault}
        )
        await nursery.start(proxy.run, [before])
        async with await trio.open_tcp_stream(*before.socket.getsockname()) as client:
            yield client
        nursery.cancel_scope.cancel()


async def everything(stream: trio.SocketStream) -> bytes:
    received = b""
    while data := await stream.receive_some():
        received += data
    return received
