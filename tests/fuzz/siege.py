"""A siege: a real daemon in its process, hostile clients on both of its sockets, honest ones between them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import msgspec
import psutil
import trio
from attrs import define, field

from pipaid.seams import SystemNet
from tests.fuzz.frames import Frames, Signed
from tests.fuzz.honest import Listener, Operator
from tests.fuzz.hostile import Heard, carry_out, converse
from tests.fuzz.lines import Lines, attack
from tests.surfaces.daemon import CALM, Daemon

CONFIG = f"""{CALM.replace("speed = 1.0", "speed = 60")}
[stream]
frames_per_second_max = 200
[log]
level = "info"
"""
# A line may wait for the disk, a frame does not.
HOSTILE_ON_CONTROL = 20
HOSTILE_ON_STREAM = 5
# Frames of one connection, below what the configuration above allows at once.
FRAMES_MOST = 120
SAMPLE_S = 0.5
CALM_S_MAX = 30.0
# The pool of journal readers fills up, each with three files.
DESCRIPTORS_MORE_MAX = 9
# Once it is warm, the daemon's memory may grow by so much from the middle of the siege to its end.
GROWTH_MIB_MAX = 8.0
# What the daemon says of failures of its own.
FAILURES = frozenset({"operation.failed", "control.failed", "stream.client_failed", "actor.failed", "child.failed"})


class Besieged(msgspec.Struct, frozen=True, kw_only=True):
    """What a siege came to."""

    seed: str
    seconds: float
    lines: int
    line_connections: int
    answers: dict[str, int]
    frames: int
    frame_connections: int
    closings: dict[str, int]
    memory_mib: tuple[float, ...]
    cpu_s: float
    own_cpu_s: float
    honest_requests: int
    honest_wait_p50_ms: float
    honest_wait_p99_ms: float
    honest_wait_max_ms: float
    honest_events: int
    descriptors: tuple[int, int]
    problems: tuple[str, ...]

    @property
    def growth_mib(self) -> float:
        """Return by how much the memory of the last tenth is above that of the tenth after the middle."""
        return grown(self.memory_mib)


@define
class Siege:
    """What is wanted of one, and how far it has come."""

    daemon: Daemon
    seed: str
    lines_max: int
    frames_max: int
    seconds_max: float
    advance: Callable[[str, int], None] = lambda _, __: None
    keep: Path | None = None
    ids: list[str] = field(factory=list[str])
    lines: Heard = field(factory=Heard)
    frames: Heard = field(factory=Heard)
    memory_mib: list[float] = field(factory=list[float])
    _until_s: float = 0.0
    _number: int = 0

    async def lay(self) -> Besieged:
        """Besiege the daemon until everything has been sent, or the time is over."""
        began_s, own = time.monotonic(), time.process_time()
        self._until_s = began_s + self.seconds_max
        process = psutil.Process(self.daemon.pid)
        operator = Operator(self.daemon, self.ids)
        problems: list[str] = []
        try:
            async with trio.open_nursery() as honest:
                await honest.start(operator.work)
                listener = Listener(self.daemon.stream_port, operator.keys[0])
                await honest.start(listener.listen)
                descriptors = process.num_fds()
                honest.start_soon(self._measure, process)
                await self._attack(operator)
                operator.over = True
                problems += await self._heard_all(operator, listener)
                left = await _calmed(process, descriptors)
                honest.cancel_scope.cancel()
        except* AssertionError as wrong:
            raise AssertionError(f"seed {self.seed}: {wrong.exceptions}") from wrong
        waits = sorted(operator.waits_s)
        spent = process.cpu_times()
        return Besieged(
            seed=self.seed,
            seconds=time.monotonic() - began_s,
            lines=self.lines.sent,
            line_connections=self.lines.connections,
            answers=dict(self.lines.answers.most_common()),
            frames=self.frames.sent,
            frame_connections=self.frames.connections,
            closings=dict(self.frames.answers.most_common()),
            memory_mib=tuple(self.memory_mib),
            cpu_s=spent.user + spent.system,
            own_cpu_s=time.process_time() - own,
            honest_requests=operator.asked,
            honest_wait_p50_ms=waits[len(waits) // 2] * 1e3,
            honest_wait_p99_ms=waits[int(len(waits) * 0.99)] * 1e3,
            honest_wait_max_ms=waits[-1] * 1e3,
            honest_events=listener.heard,
            descriptors=(descriptors, left),
            problems=(*problems, *self._problems(descriptors, left)),
        )

    async def _attack(self, operator: Operator) -> None:
        lines = Lines(self.ids)
        frames = Frames(lambda chance: _signed(operator, chance), self.ids, FRAMES_MOST)
        async with trio.open_nursery() as hostile:
            for _ in range(HOSTILE_ON_CONTROL):
                hostile.start_soon(self._attack_control, lines)
            for _ in range(HOSTILE_ON_STREAM):
                hostile.start_soon(self._attack_stream, frames)

    async def _attack_control(self, lines: Lines) -> None:
        while self._goes_on(self.lines, self.lines_max):
            planned = attack(lines, self._chance("lines"))
            await carry_out(planned, await SystemNet().connect_unix(self.daemon.socket), self.lines)
            self.advance("lines", len(planned.lines))

    async def _attack_stream(self, frames: Frames) -> None:
        while self._goes_on(self.frames, self.frames_max):
            planned = frames.conversation(self._chance("frames"))
            await converse(planned, await trio.open_tcp_stream("127.0.0.1", self.daemon.stream_port), self.frames)
            self.advance("frames", planned.frames)

    def _goes_on(self, heard: Heard, most: int) -> bool:
        return heard.sent < most and time.monotonic() < self._until_s and len(heard.defects) < 20

    def _chance(self, name: str) -> Random:
        self._number += 1
        return Random(f"{name} {self.seed} {self._number}")

    async def _measure(self, process: psutil.Process) -> None:
        while True:
            self.memory_mib.append(_memory_mib(process))
            await trio.sleep(SAMPLE_S)

    async def _heard_all(self, operator: Operator, listener: Listener) -> list[str]:
        """Hold what the listener heard of the honest strategies to what there is of them."""
        missing: list[str] = []
        for one in operator.own:
            shown = await trio.to_thread.run_sync(partial(self.daemon.ask, "strategy.state", id=one))
            last_seq = shown["last_seq"]
            with trio.move_on_after(10):
                while listener.seqs.get(one, 0) < last_seq:  # noqa: ASYNC110 - it comes from another process
                    await trio.sleep(0.05)
            if listener.seqs.get(one, 0) < last_seq:
                missing.append(f"the listener heard {listener.seqs.get(one, 0)} of {last_seq} events of {one}")
        return missing

    def _problems(self, before: int, after: int) -> list[str]:
        problems = [f"{what} (seed {self.seed})" for heard in (self.lines, self.frames) for what, _ in heard.defects]
        problems += [
            _told(record)
            for record in self.daemon.said()
            if record["event"] in FAILURES or record.get("level") == "critical"
        ]
        if grown(self.memory_mib) > GROWTH_MIB_MAX:
            problems.append(f"its memory grew by {grown(self.memory_mib):.1f} MiB in the second half")
        if after > before + DESCRIPTORS_MORE_MAX:
            problems.append(f"it holds {after} descriptors, {before} at the beginning")
        self._save()
        return problems

    def _save(self) -> None:
        if self.keep is not None:
            for number, (_, sent) in enumerate(self.lines.defects + self.frames.defects):
                self.keep.mkdir(parents=True, exist_ok=True)
                (self.keep / f"siege-{self.seed}-{number}").write_bytes(sent)


def grown(memory_mib: list[float] | tuple[float, ...]) -> float:
    """Return by how much the last tenth of samples is above the tenth after the middle; few samples tell nothing."""
    tenth = len(memory_mib) // 10
    if tenth < 3:
        return 0.0
    middle = len(memory_mib) // 2
    return median(memory_mib[-tenth:]) - median(memory_mib[middle : middle + tenth])


async def _calmed(process: psutil.Process, descriptors: int) -> int:
    """Return how many descriptors are left once the last hostile clients have been closed."""
    with trio.move_on_after(CALM_S_MAX):
        while process.num_fds() > descriptors + DESCRIPTORS_MORE_MAX:  # noqa: ASYNC110 - it is another process that closes them
            await trio.sleep(SAMPLE_S)
    return process.num_fds()


def _memory_mib(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 2**20


def _signed(operator: Operator, chance: Random) -> Signed:
    key = chance.choice(operator.keys)
    frame = msgspec.json.encode({"op": "auth", **key.credentials()})
    return Signed(key.query if chance.random() < 0.95 else re.sub("[0-9a-f]$", "x", key.query), frame)


def _told(record: dict[str, Any]) -> str:
    cause = str(record.get("exception", record.get("error", "")))
    return f"{record['event']} {record.get('operation', '')}: {cause[-600:]}"
