"""Twenty thousand hostile lines: each costs its sender an answer, and an honest client is served all the while."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import trio
from attrs import define, field

from actors.control import Caller
from pipaid.model.operation import OPERATIONS
from pipaid.model.reply import Deleted, Reply
from pipaid.wire.envelope import LINE_BYTES_MAX
from tests.actors.controls import Control, open_control

LINES: Final = 20_000
SEEDS: Final = 4
# CPU seconds for all lines of one seed, on a slow shared core; the work is about a tenth of that.
CPU_MAX_S: Final = 20.0
NAMES: Final = (*OPERATIONS, "", "strategy", "strategy.create ", "__class__", "PING", "x" * 70)
SCALARS: Final = (
    None, True, 0, -1, 2**63, 10**40, 1.5, "", "NaN", "Infinity", "1e400", "\x00", "\u2028", "🦊", "BTCUSDT", "btcusdt",
    "strat_00000001", "*", "100.00", "９９",
)  # fmt: skip
JUNK: Final = (b"", b" ", b"\r", b"\xff\xfe", b"null", b"[]", b"{}", b'"', b"NaN", b'{"id":1', b'{"id":1,"op":"\xc0"}')


@define
class Fuzz:
    """Lines of every kind of wrongness, a pure function of the seed."""

    chance: random.Random

    def lines(self, count: int) -> Iterator[bytes]:
        makers = (self.junk, self.noise, self.request, self.request, self.request, self.mutilated, self.nested)
        for _ in range(count):
            yield self.chance.choice(makers)().replace(b"\n", b" ")[: LINE_BYTES_MAX - 1]

    def junk(self) -> bytes:
        return self.chance.choice(JUNK)

    def noise(self) -> bytes:
        return self.chance.randbytes(self.chance.randrange(60))

    def request(self) -> bytes:
        op = self.chance.choice(NAMES)
        line: dict[str, Any] = {"id": self.chance.choice((1, "a", 2**70, None, 1.5, [])), "op": op}
        if op in OPERATIONS and self.chance.random() < 0.9:
            fields = OPERATIONS[op].request.__struct_fields__
            line["args"] = {name: self.value(2) for name in fields if self.chance.random() < 0.7}
        else:
            line["args"] = self.value(3)
        if self.chance.random() < 0.1:
            line[self.chance.choice(("idempotency_key", "args", "surprise"))] = self.value(1)
        return msgspec.json.encode(line)

    def mutilated(self) -> bytes:
        line = bytearray(self.request())
        for _ in range(self.chance.randrange(1, 4)):
            line[self.chance.randrange(len(line))] = self.chance.randrange(256)
        return bytes(line[: self.chance.randrange(len(line)) + 1])

    def nested(self) -> bytes:
        depth = self.chance.choice((15, 16, 17, 100, 2_000, 30_000))
        opening, closing = self.chance.choice(((b"[", b"]"), (b'{"a":', b"}")))
        if self.chance.random() < 0.9:
            depth = min(depth, 100)
        return b'{"id":1,"op":"ping","args":{"x":' + opening * depth + b"1" + closing * depth + b"}}"

    def value(self, depth: int) -> Any:
        kind = self.chance.randrange(4) if depth else 0
        if kind == 1:
            return [self.value(depth - 1) for _ in range(self.chance.randrange(4))]
        if kind == 2:
            return {str(self.chance.choice(SCALARS)): self.value(depth - 1) for _ in range(self.chance.randrange(4))}
        return self.chance.choice(SCALARS)


@define
class Honest:
    """A client that asks one thing after the other and notes how long the slowest answer took."""

    served: int = 0
    slowest_s: float = 0.0
    over: trio.Event = field(factory=trio.Event)

    async def ask(self, control: Control) -> None:
        async with control.client() as client:
            while not self.over.is_set():
                began = time.monotonic()
                await client.ask(self.served, "ping")
                answer = await client.told()
                assert (answer["id"], answer["ok"]) == (self.served, True)
                self.served += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)


async def perform(caller: Caller, request: Any) -> Reply:
    return Deleted(id="done")


async def attack(control: Control, lines: list[bytes], answers: list[dict[str, Any]]) -> None:
    async with control.client() as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.send, *lines)
        answers.extend([await client.told() for _ in lines])


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_hostile_lines_cost_their_sender_alone(seed: int, tmp_path: Path) -> None:
    fuzz = Fuzz(random.Random(seed))
    senders = [list(fuzz.lines(LINES // SEEDS // 5)) for _ in range(5)]
    operations = {row.name: perform for row in OPERATIONS.values() if not row.streaming and not row.secret}
    honest, answers = Honest(), list[dict[str, Any]]()

    began = time.process_time()
    async with open_control(tmp_path, operations) as control:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(honest.ask, control)
            async with trio.open_nursery() as attackers:
                for lines in senders:
                    attackers.start_soon(attack, control, _without_tails(lines), answers)
            honest.over.set()
    spent = time.process_time() - began

    codes = {answer["error"]["code"] for answer in answers if not answer["ok"]}
    assert len(answers) == sum(len(_without_tails(lines)) for lines in senders)
    assert codes <= {"INVALID_PARAMETER", "NOT_FOUND", "INVALID_STATE"}
    assert {"INVALID_PARAMETER", "NOT_FOUND"} <= codes
    assert any(answer["ok"] for answer in answers)
    assert honest.served > 100
    assert honest.slowest_s < 2.0
    assert spent < CPU_MAX_S


async def test_hostile_tails_are_answered_or_refused_too(tmp_path: Path) -> None:
    fuzz = Fuzz(random.Random(99))
    lines = [line for line in fuzz.lines(20_000) if b"events." in line]
    last = (b'{"id":"stop","op":"events.stop"}', b'{"id":"end","op":"ping"}')

    async with open_control(tmp_path) as control:
        async with control.client() as client, trio.open_nursery() as nursery:
            nursery.start_soon(client.stream.send_all, b"\n".join([*lines, *last, b""]))
            while (await client.told())["id"] != "end":
                pass

        assert control.hub.subscribers == 0


@pytest.mark.parametrize("cut", [1, 7, 100, 4_096])
async def test_slices_and_sudden_ends_leave_no_trace(tmp_path: Path, cut: int) -> None:
    stream = b"\n".join(Fuzz(random.Random(cut)).lines(200))

    async with open_control(tmp_path) as control:
        async with control.client() as client:
            for start in range(0, min(len(stream), cut * 400), cut):
                await client.stream.send_all(stream[start : start + cut])
        async with control.client() as client:
            await client.ask(1, "ping")
            assert (await client.told())["ok"] is True
        await control.server.quiet()

        assert control.server.clients <= 1


def _without_tails(lines: list[bytes]) -> list[bytes]:
    """Leave out what is answered by no answer or by many."""
    return [line for line in lines if b"events." not in line]
