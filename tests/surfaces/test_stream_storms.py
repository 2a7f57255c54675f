"""Slow and many clients: none of them disturbs another, and who resumes has everything once."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from actors.stream import StreamLimits
from tests.surfaces.streams import (
    Desk,
    RawClient,
    open_desk,
    raw_client,
    strategy_ids,
    until,
)

(ONE,) = strategy_ids(1)
CHANNEL = "strategy.status"
# Long enough that a few thousand events overrun every buffer on the way.
LONG_NOTE = "x" * 3_000


@asynccontextmanager
async def deaf_client(desk: Desk, **subscription: Any) -> AsyncGenerator[RawClient]:
    """Subscribe with a small receive buffer, and read nothing from then on."""
    sock = trio.socket.socket()
    sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4_096)
    await sock.connect(("127.0.0.1", desk.port))
    async with trio.SocketStream(sock) as stream:
        client = RawClient(stream)
        await client.shake_hands(desk.url().partition(f":{desk.port}")[2])
        frame = {"op": "subscribe", "channel": CHANNEL, "id": ONE, **subscription}
        await client.send(msgspec.json.encode(frame))
        answer = await client.next_frame()
        assert answer is not None
        assert b'"ok":true' in answer[1]
        yield client


async def emit_many(desk: Desk, batches: int) -> None:
    for _ in range(batches):
        await desk.emit(*[ONE] * 100, note=LONG_NOTE)


async def read_out(client: RawClient, *, upto: int | None = None) -> tuple[list[dict[str, Any]], int | None]:
    """Read events until that number or the end; return them and the close code."""
    frames: list[dict[str, Any]] = []
    with trio.fail_after(20):
        while frame := await client.next_frame():
            if frame[0] == 8:
                return frames, int.from_bytes(frame[1][:2])
            if frame[0] == 1:
                frames.append(msgspec.json.decode(frame[1], type=dict[str, Any]))
                if upto is not None and frames[-1].get("seq") == upto:
                    break
    return frames, None


async def test_a_strict_client_that_does_not_read_is_closed_reads_why_and_resumes(tmp_path: Path) -> None:
    limits = StreamLimits(close_s=0.3)
    async with open_desk(tmp_path, limits=limits) as desk, desk.connected() as lively:
        await lively.subscribe(ONE)
        heard: list[int] = []
        async with deaf_client(desk) as deaf:
            for _ in range(40):
                await emit_many(desk, 1)
                heard += [(await lively.hear())["seq"] for _ in range(100)]
            assert heard == list(range(1, 4_001))
            # It has been given up for good before it reads its first event, and still it learns everything.
            await until(lambda: desk.server.clients == 1)
            frames, code = await read_out(deaf)
            seqs = [frame["seq"] for frame in frames]
            assert seqs == list(range(1, len(seqs) + 1))
            assert len(seqs) < 4_000
            assert code == 4429
        known = len(seqs)
        async with desk.connected() as again:
            await again.subscribe(ONE, since_seq=known)
            rest = [(await again.hear())["seq"] for _ in range(4_000 - known)]
            assert seqs + rest == heard


async def test_an_extended_client_is_told_exactly_what_it_lost_and_stays(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, deaf_client(desk, ext=True) as deaf:
        await emit_many(desk, 40)
        frames, code = await read_out(deaf, upto=4_000)

        assert code is None
        lagged = [frame for frame in frames if frame["event"] == "lagged"]
        assert lagged
        covered = 0
        for frame in frames:
            if frame["event"] == "lagged":
                assert "seq" not in frame
                assert frame["after_seq"] == covered
                assert frame["data"]["from_seq"] == covered + 1
                covered = frame["data"]["to_seq"]
            else:
                assert frame["seq"] == covered + 1
                covered += 1
        assert covered == 4_000
        await desk.emit(ONE)
        assert (await read_out(deaf, upto=4_001))[0][-1]["seq"] == 4_001


async def test_an_extended_client_that_stays_stuck_is_closed(tmp_path: Path) -> None:
    limits = StreamLimits(stuck_s=0.2, close_s=0.3)
    async with open_desk(tmp_path, limits=limits) as desk, deaf_client(desk, ext=True) as deaf:
        await emit_many(desk, 30)
        await until(lambda: desk.server.closed[4429] == 1)
        await until(lambda: desk.server.clients == 0)
        frames, code = await read_out(deaf)

        assert code == 4429
        assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))


async def test_a_deaf_client_does_not_hold_up_the_end_of_the_server(tmp_path: Path) -> None:
    begun = trio.current_time()
    async with open_desk(tmp_path) as desk, trio.open_nursery() as nursery:

        async def stay() -> None:
            async with deaf_client(desk, ext=True):
                await trio.sleep_forever()

        for _ in range(10):
            nursery.start_soon(stay)
        await until(lambda: desk.hub.subscribers == 10)
        await emit_many(desk, 3)
        begun = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - begun < 5


async def test_a_hundred_clients_all_hear_the_same_bytes_in_order(tmp_path: Path) -> None:
    strategies = strategy_ids(10)
    limits = StreamLimits(connections_per_key_max=200)
    streams: list[bytes] = [b""] * 100
    rng = random.Random(100)
    async with open_desk(tmp_path, strategies=strategies, limits=limits) as desk, trio.open_nursery() as nursery:
        target = desk.url().partition(f":{desk.port}")[2]

        async def listen(number: int) -> None:
            async with raw_client(desk) as client:
                await client.shake_hands(target)
                await client.send(msgspec.json.encode({"op": "subscribe", "channel": CHANNEL, "id": "*"}))
                await client.next_frame()
                subscribed.append(number)
                while frame := await client.next_frame():
                    streams[number] += frame[1] + b"\n"

        subscribed: list[int] = []
        for number in range(100):
            nursery.start_soon(listen, number)
        await until(lambda: len(subscribed) == 100)
        for _ in range(50):
            await desk.emit(*rng.choices(strategies, k=rng.randrange(1, 12)))
        await desk.emit(strategies[0], note="last")
        await until(lambda: all(b'"last"' in stream for stream in streams))
        nursery.cancel_scope.cancel()

    assert len(set(streams)) == 1
    seqs = dict.fromkeys(strategies, 0)
    for line in streams[0].splitlines():
        frame = msgspec.json.decode(line, type=dict[str, Any])
        assert frame["seq"] == seqs[frame["id"]] + 1
        seqs[frame["id"]] = frame["seq"]


async def test_who_resumes_across_restarts_has_every_event_once(tmp_path: Path) -> None:
    rng = random.Random(3)
    strategies = strategy_ids(3)
    known = dict.fromkeys(strategies, 0)
    emitted = dict.fromkeys(strategies, 0)

    async def emit(desk: Desk) -> None:
        chosen = rng.choices(strategies, k=rng.randrange(1, 8))
        for key in chosen:
            emitted[key] += 1
        await desk.emit(*chosen)

    for _ in range(8):
        async with open_desk(tmp_path, strategies=strategies) as desk:
            for _ in range(rng.randrange(5)):
                await emit(desk)
            async with desk.connected() as client:
                assert (await client.subscribe("*", since_seq=known))["ok"] is True
                for _ in range(rng.randrange(1, 10)):
                    await emit(desk)
                # Whatever has not been read when the connection breaks off has to come again.
                behind = sum(emitted.values()) - sum(known.values())
                for _ in range(rng.randrange(behind + 1)):
                    frame = await client.hear()
                    assert frame["seq"] == known[frame["id"]] + 1
                    known[frame["id"]] = frame["seq"]
    async with open_desk(tmp_path, strategies=strategies) as desk, desk.connected() as client:
        await client.subscribe("*", since_seq=known)
        while known != emitted:
            frame = await client.hear()
            assert frame["seq"] == known[frame["id"]] + 1
            known[frame["id"]] = frame["seq"]


async def test_a_number_older_than_retention_is_acknowledged_with_the_oldest(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, desk.connected() as client:
        for _ in range(30):
            await desk.emit(ONE)
        oldest = 21
        desk.journal.forget([event.n for event in desk.journal.events(ONE, after_seq=0, limit=oldest - 1)])

        answer = await client.subscribe(ONE, since_seq=4, ext=True)
        assert (answer["ok"], answer["oldest_seq"]) == (True, oldest)
        frame = await client.hear()
        assert (frame["event"], frame["data"]) == ("lagged", {"from_seq": 5, "to_seq": oldest - 1})
        assert [(await client.hear())["seq"] for _ in range(oldest, 31)] == list(range(oldest, 31))

        assert (await client.subscribe("*", since_seq={ONE: 4}))["oldest_seq"] == {ONE: oldest}
