"""Forty thousand hostile frames: whoever breaks the protocol is closed, and an honest listener hears everything."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import cast

import msgspec
import trio

from pipaid.wire.frames import Unparsable, parse_frame
from tests.fuzz.frames import Conversation, Frames, Leaving, Signed
from tests.fuzz.hostile import Heard, converse
from tests.fuzz.scales import Scales
from tests.surfaces.streams import UNHURRIED, Client, Desk, masked, open_desk, strategy_ids, until

FRAMES = 40_000
MOST = 150
CLIENTS = 8
WEIGHINGS = 9
ONE, *OTHERS = strategy_ids(7)


def frames_of(desk: Desk) -> Frames:
    def sign(chance: Random) -> Signed:
        credentials = desk.credentials()
        query = "&".join(f"{name}={value}" for name, value in credentials.items())
        return Signed(query, msgspec.json.encode({"op": "auth", **credentials}))

    return Frames(sign, OTHERS, MOST)


async def besiege(desk: Desk, count: int, scales: Scales) -> Heard:
    """Let several clients converse until so many frames have been sent; one event comes for every conversation."""
    frames, heard = frames_of(desk), Heard()

    async def talk(number: int) -> None:
        chance = Random(f"client {number}")
        while heard.sent < count and not heard.defects:
            await converse(frames.conversation(chance), cast("trio.SocketStream", await desk.dial()), heard)
            await desk.emit(ONE, *OTHERS[:2])
            if heard.sent * WEIGHINGS // count > len(scales.objects):
                scales.weigh()

    async with trio.open_nursery() as nursery:
        for number in range(CLIENTS):
            nursery.start_soon(talk, number)
    return heard


async def listen(honest: Client, seqs: list[int]) -> None:
    while True:
        seqs.append((await honest.hear())["seq"])


async def test_hostile_frames_harm_nobody_else(tmp_path: Path) -> None:
    seqs, scales = list[int](), Scales()
    async with open_desk(tmp_path, strategies=[ONE, *OTHERS], limits=UNHURRIED) as desk, desk.connected() as honest:
        await honest.subscribe(ONE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen, honest, seqs)
            heard = await besiege(desk, FRAMES, scales)
            await until(lambda: len(seqs) == heard.connections)
            nursery.cancel_scope.cancel()
        await until(lambda: desk.server.clients == 1)

        assert heard.defects == []
        assert heard.sent >= FRAMES
        assert seqs == list(range(1, heard.connections + 1))
        assert {"close 1000", "close 1002", "close 1003", "close 1007", "close 1009", "close 4401", "http 400"} <= set(
            heard.answers
        )
        assert desk.server.closed[1011] == 0
        assert desk.hub.subscribers == 1
        assert scales.growth == ""


async def test_a_failure_of_the_servers_own_is_noticed(tmp_path: Path) -> None:
    async with open_desk(tmp_path, limits=UNHURRIED) as desk:
        desk.server.owned = lambda account, strategy: bool(1 // 0)
        heard = await besiege(desk, 5_000, Scales())

    assert heard.defects[0][0] == "closed with 1011"


async def test_broken_handshakes_harm_nobody_else(tmp_path: Path) -> None:
    chance, heard = Random(7), Heard()
    async with open_desk(tmp_path, limits=UNHURRIED) as desk, desk.connected() as honest:
        frames = frames_of(desk)
        for _ in range(400):
            head = bytearray(frames.conversation(chance).head)
            for _ in range(chance.randrange(1, 5)):
                head[chance.randrange(len(head))] = chance.randrange(256)
            broken = Conversation(bytes(head) + b"\r\n\r\n", (masked(b"{}"),), 1, Leaving.CLOSE)
            await converse(broken, cast("trio.SocketStream", await desk.dial()), heard)

        assert heard.defects == []
        assert heard.answers["http 400"] > 10
        assert sum(count for answer, count in heard.answers.items() if answer.startswith("http")) > 100
        assert (await honest.subscribe("*"))["ok"] is True
        await until(lambda: desk.server.clients == 1)


def test_every_kind_of_frame_is_said_well_and_badly() -> None:
    frames, chance = Frames(lambda _: Signed("", b'{"op":"auth"}'), OTHERS, MOST), Random(1)
    kinds = Counter[str]()
    for _ in range(5_000):
        text = frames.message(chance, Signed("", b'{"op":"auth"}'))[0].decode("utf-8", "replace")
        try:
            kinds[parse_frame(text).op[:11]] += 1
        except Unparsable:
            kinds["unparsable"] += 1

    assert min(kinds[kind] for kind in ("subscribe", "unsubscribe", "ping", "auth", "unparsable")) > 10
    leaving = Counter(frames.conversation(chance).leaving for _ in range(300))
    assert set(leaving) == set(Leaving)


def test_the_same_chance_makes_the_same_conversations() -> None:
    frames = Frames(lambda _: Signed("", b"{}"), OTHERS, MOST)

    assert [frames.conversation(Random(n)) for n in range(50)] == [frames.conversation(Random(n)) for n in range(50)]
