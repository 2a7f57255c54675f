"""How long the daemon waits before it starts its web process again."""

from __future__ import annotations

import sys

import pytest
import trio
from attrs import define, field

from actors.front import BACKOFF_MAX_S, LASTED_S, Front
from pipaid.model.condition import Condition
from pipaid.seams import SystemClock
from tests.surfaces.streams import until


@define
class Middle:
    """Chance that always says the middle."""

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


@define
class Paused(SystemClock):
    """A clock that notes each pause instead of waiting, until there were enough."""

    enough: int = 9
    at_s: float = 0.0
    lived_s: float = 0.0
    pauses: list[float] = field(factory=list[float])

    def monotonic_s(self) -> float:
        self.at_s += self.lived_s
        return self.at_s

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if len(self.pauses) >= self.enough:
            raise EOFError


async def pauses_of(clock: Paused, *command: str) -> list[float]:
    with pytest.raises(EOFError):
        await Front(command, {}, clock, Middle()).run(trio.TASK_STATUS_IGNORED)
    return clock.pauses


async def test_each_end_is_followed_by_a_longer_pause_up_to_a_bound() -> None:
    pauses = await pauses_of(Paused(), sys.executable, "-I", "-S", "-c", "raise SystemExit(75)")

    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, BACKOFF_MAX_S]


async def test_who_lasted_is_waited_for_as_little_as_the_first() -> None:
    clock = Paused(enough=3, lived_s=LASTED_S)

    assert await pauses_of(clock, sys.executable, "-I", "-S", "-c", "") == [0.5, 0.5, 0.5]


async def test_a_program_that_is_not_there_is_tried_again() -> None:
    assert await pauses_of(Paused(enough=2), "/nowhere/to/be/found") == [0.5, 1.0]


async def test_a_reload_is_told_to_the_one_that_runs_and_held_for_it_until_it_listens() -> None:
    script = "import os, sys; told = b''\nwhile len(told) < 2: told += os.read(0, 99)\nsys.exit(len(told))"
    front = Front([sys.executable, "-I", "-S", "-c", script], {}, Paused(enough=1), Middle())
    front.reload()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lives, front)
        await until(lambda: front._process is not None)
        front.reload()
        front.reload()
    front.reload()


async def lives(front: Front) -> None:
    assert await front._live() == "exit code 2"


async def test_a_child_that_does_not_read_holds_nobody_up() -> None:
    front = Front([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"], {}, Paused(), Middle())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front._live)
        await until(lambda: front._process is not None)
        for _ in range(70_000):
            front.reload()
        assert front._process is not None
        front._process.kill()


@define
class Kept:
    """What was told of the condition."""

    turns: list[str] = field(factory=list[str])

    def enter(self, condition: Condition, detail: str) -> None:
        self.turns.append(f"{condition}: {detail}")

    def leave(self, condition: Condition) -> None:
        self.turns.append(f"{condition} left")


async def test_each_end_is_told_with_the_line_to_change() -> None:
    kept = Kept()
    script = [sys.executable, "-I", "-S", "-c", "raise SystemExit(75)"]
    with pytest.raises(EOFError):
        await Front(script, {}, Paused(enough=2), Middle(), where="127.0.0.1:5001", conditions=kept).run(
            trio.TASK_STATUS_IGNORED
        )

    told = (
        "http: exit code 75: it cannot serve on 127.0.0.1:5001; if another process listens there, change host or port"
    )
    assert kept.turns == [f"{told} in [http]"] * 2


async def test_one_that_has_come_up_is_told_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.front.UP_S", 0.01)
    kept = Kept()
    script = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(1)"]
    with pytest.raises(EOFError):
        await Front(script, {}, Paused(enough=1), Middle(), conditions=kept).run(trio.TASK_STATUS_IGNORED)

    assert kept.turns == ["http left", "http: exit code 0"]


async def test_it_hears_nothing_of_what_the_service_manager_told_the_daemon() -> None:
    script = "import os, sys; sys.exit(3 if 'NOTIFY_SOCKET' in os.environ else 4 if os.environ['KEPT'] == 'yes' else 5)"
    front = Front([sys.executable, "-S", "-c", script], {"NOTIFY_SOCKET": "/x", "KEPT": "yes"}, Paused(), Middle())

    assert await front._live() == "exit code 4"
