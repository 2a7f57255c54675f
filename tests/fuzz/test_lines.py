"""Forty thousand hostile lines: each costs its sender an answer, and an honest client is served all the while."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from attrs import define, field

from pipaid.model.operation import OPERATIONS
from pipaid.model.reply import Deleted, Reply
from pipaid.seams import SystemNet
from pipaid.wire.caller import Caller
from pipaid.wire.envelope import LINE_BYTES_MAX
from tests.actors.controls import Control, open_control
from tests.fuzz.hostile import FAILURE, Heard, carry_out
from tests.fuzz.lines import SPARED, Attack, Lines, Manner, asked, attack, is_good, is_spared
from tests.fuzz.scales import Scales

LINES = 40_000
SENDERS = 5
WEIGHINGS = 9


@define
class Honest:
    """A client that asks one thing after the other; `over` ends it."""

    served: int = 0
    over: trio.Event = field(factory=trio.Event)

    async def ask(self, control: Control) -> None:
        async with control.client() as client:
            while not self.over.is_set():
                with trio.fail_after(10):
                    await client.ask(self.served, "ping")
                    answer = await client.told()
                assert (answer["id"], answer["ok"]) == (self.served, True)
                self.served += 1


async def perform(caller: Caller, request: Any) -> Reply:
    return Deleted(id="done")


async def fail(caller: Caller, request: Any) -> Reply:
    raise LookupError("a defect")


OPERATED = {row.name: perform for row in OPERATIONS.values() if not row.streaming and not row.secret}


async def besiege(control: Control, count: int, scales: Scales) -> Heard:
    """Let several senders attack until so many lines have been sent."""
    lines, heard = Lines(), Heard()
    folder = control.folder / "operate.sock"

    async def send(number: int) -> None:
        chance = Random(f"sender {number}")
        while heard.sent < count and not heard.defects:
            await carry_out(attack(lines, chance), await SystemNet().connect_unix(folder), heard)
            if heard.sent * WEIGHINGS // count > len(scales.objects):
                scales.weigh()

    async with trio.open_nursery() as nursery:
        for number in range(SENDERS):
            nursery.start_soon(send, number)
    return heard


async def test_hostile_lines_cost_their_sender_alone(tmp_path: Path) -> None:
    honest, scales = Honest(), Scales()
    async with open_control(tmp_path, OPERATED) as control:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(honest.ask, control)
            heard = await besiege(control, LINES, scales)
            honest.over.set()
        await control.server.quiet()

        assert heard.defects == []
        assert heard.sent >= LINES
        assert set(heard.answers) == {"ok", "INVALID_PARAMETER", "NOT_FOUND", "INVALID_STATE", "PAYLOAD_TOO_LARGE"}
        assert heard.answers["ok"] > LINES / 10
        assert honest.served > LINES / 100
        assert control.hub.subscribers == 0
        assert scales.growth == ""


async def test_an_operation_that_fails_is_noticed(tmp_path: Path) -> None:
    line, heard = b'{"id":1,"op":"strategy.trigger","args":{"id":"strat_00000001"}}', Heard()
    async with open_control(tmp_path, {"strategy.trigger": fail}) as control:
        stream = await SystemNet().connect_unix(control.folder / "operate.sock")
        await carry_out(Attack((line,), Manner.LISTEN, 100), stream, heard)

    assert heard.defects == [(FAILURE, line + b"\n")]


async def test_an_answer_that_is_missing_is_noticed(tmp_path: Path) -> None:
    class Stingy(Attack):
        @property
        def sent(self) -> bytes:
            return b'{"id":1,"op":"ping"}\n'

    heard = Heard()
    async with open_control(tmp_path) as control:
        stream = await SystemNet().connect_unix(control.folder / "operate.sock")
        await carry_out(Stingy((b"1", b"2"), Manner.LISTEN, 100), stream, heard)

    assert heard.defects[0][0] == "1 answers to 2 lines, listen"


def test_every_operation_is_asked_for_well_and_badly() -> None:
    lines, chance = Lines(), Random(1)
    well, badly = Counter[str](), Counter[str]()
    for _ in range(60_000):
        ask = asked(lines.line(chance))
        if ask is not None and ask.op in OPERATIONS:
            (well if is_good(ask) else badly)[ask.op] += 1

    assert set(well) == set(OPERATIONS) - SPARED
    assert set(badly) == set(OPERATIONS)


def test_the_same_chance_makes_the_same_lines_and_none_is_too_long() -> None:
    made = [Lines().line(Random(number)) for number in range(3_000)]

    assert made == [Lines().line(Random(number)) for number in range(3_000)]
    assert max(map(len, made)) <= LINE_BYTES_MAX
    assert not any(b"\n" in line for line in made)


@pytest.mark.parametrize(
    ("line", "spared"),
    [
        (b'{"id":1,"op":"shutdown"}', True),
        (b'{"id":1,"op":"shut\\u0064own","args":{}}', True),
        (b'{"id":1,"op":"drain","args":{"x":1}}', False),
        (b'{"id":[],"op":"drain"}', False),
        (b'{"id":1,"op":"ping"}', False),
    ],
)
def test_what_would_end_the_daemon_is_not_sent(line: bytes, spared: bool) -> None:
    assert is_spared(line) is spared
