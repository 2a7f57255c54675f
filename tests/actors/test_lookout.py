"""The lookout tells pauses of the process, steps of the wall clock, a full disk and a journal that does not answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.conditions import CALM_S, Conditions
from actors.lookout import BELIEVED_AFTER_S, CLOCK_ERROR_MAX_S, MIB, Lookout, WallClock
from actors.recorder import Recorder
from pipaid.model.condition import Condition
from pipaid.model.record import Batch, Kind, Record
from pipaid.seams import SystemDisk, World
from tests.storage.journals import open_journal

pytestmark = pytest.mark.usefixtures("logged")

HOUR_S = 3_600.0
GOOD_BYTES = 500 * MIB
LEAST_BYTES = 100 * MIB


@define(eq=False)
class SteppedClock:
    """trio's clock, with a wall clock that a test steps and pauses in which it says how much was computed."""

    ahead_s: float = 1_700_000_000.0
    drift: float = 0.0
    late_s: float = 0.0
    cpu: float = 0.0

    def now_us(self) -> int:
        return round((self.monotonic_s() * (1 + self.drift) + self.ahead_s) * 1e6)

    def monotonic_s(self) -> float:
        return trio.current_time() + self.late_s

    def cpu_s(self) -> float:
        return self.cpu

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    def pause(self, seconds: float, *, computing: bool) -> None:
        """Let time go by without the loop."""
        self.late_s += seconds
        self.cpu += seconds if computing else 0.0


@define(eq=False)
class Room(SystemDisk):
    """A disk with as much room as a test says."""

    free: int = GOOD_BYTES
    trouble: OSError | None = None

    def free_bytes(self, path: Path) -> int:
        if self.trouble is not None:
            raise self.trouble
        return self.free


@define(eq=False)
class Post:
    """A lookout, and what it looks at."""

    folder: Path
    clock: SteppedClock = field(factory=SteppedClock)
    disk: Room = field(factory=Room)
    recorder: Recorder = field(init=False)
    conditions: Conditions = field(init=False)

    @property
    def held(self) -> list[str]:
        return [each.condition for each in self.conditions.current()]

    @property
    def details(self) -> list[str]:
        return [each.detail for each in self.conditions.current()]


@asynccontextmanager
async def looking(folder: Path, *, recording: bool = True) -> AsyncGenerator[Post]:
    post = Post(folder)
    journal = open_journal(folder)
    post.recorder = Recorder(journal, lambda _: None, post.clock, threaded=False)
    world = World(clock=post.clock, disk=post.disk)
    post.conditions = Conditions(world, post.recorder)
    lookout = Lookout(world, post.conditions, post.recorder, folder, LEAST_BYTES)
    try:
        async with trio.open_nursery() as nursery:
            if recording:
                await nursery.start(post.recorder.run)
            await nursery.start(lookout.run)
            await trio.sleep(1)
            yield post
            nursery.cancel_scope.cancel()
    finally:
        journal.close()


async def test_nothing_is_told_of_an_ordinary_day(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with looking(tmp_path) as post:
        # As fast as a clock is slewed.
        post.clock.drift = 0.0005
        await trio.sleep(8 * HOUR_S)

        assert post.held == []


@pytest.mark.parametrize(("computing", "condition"), [(False, "suspended"), (True, "stalled")])
async def test_a_pause_is_told_with_its_length_and_its_kind(
    tmp_path: Path, autojump_clock: MockClock, computing: bool, condition: str
) -> None:
    async with looking(tmp_path) as post:
        post.clock.pause(40, computing=computing)
        await trio.sleep(0.3)
        assert post.held == [condition]
        assert "40.0 s" in post.details[0]

        await trio.sleep(CALM_S + 1)
        assert post.held == []


async def test_a_short_pause_is_none(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with looking(tmp_path) as post:
        post.clock.pause(0.9, computing=True)
        await trio.sleep(0.3)

        assert post.held == []


@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S, 1.5 * CLOCK_ERROR_MAX_S])
async def test_a_stepped_wall_clock_is_told_until_it_is_set_right(
    tmp_path: Path, autojump_clock: MockClock, step_s: float
) -> None:
    async with looking(tmp_path) as post:
        post.clock.ahead_s += step_s
        await trio.sleep(300)
        assert post.held == ["clock"]
        assert f"{step_s:+.1f} s" in post.details[0]

        post.clock.ahead_s -= step_s
        await trio.sleep(CALM_S + 1)
        assert post.held == []


async def test_a_wall_clock_that_stays_where_it_was_stepped_to_is_believed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with looking(tmp_path) as post:
        post.clock.ahead_s += HOUR_S
        await trio.sleep(BELIEVED_AFTER_S - 10)
        assert post.held == ["clock"]
        await trio.sleep(CALM_S + 20)
        assert post.held == []

        post.clock.ahead_s -= HOUR_S
        await trio.sleep(1)
        assert post.held == ["clock"]


def test_a_wall_clock_is_judged_by_its_steps_and_not_by_where_it_stands() -> None:
    @define
    class Given:
        wall_s: float = 5.0
        steady_s: float = 900.0

        def now_us(self) -> int:
            return round(self.wall_s * 1e6)

        def monotonic_s(self) -> float:
            return self.steady_s

        def cpu_s(self) -> float:
            return 0.0

        async def sleep(self, seconds: float) -> None:
            raise AssertionError

    given = Given()
    wall = WallClock(given)
    assert wall.error_s() == 0
    given.wall_s += 3

    assert wall.error_s() == pytest.approx(3)


async def test_a_disk_that_fills_up_is_told_before_it_is_full(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with looking(tmp_path) as post:
        post.disk.free = LEAST_BYTES - 1
        await trio.sleep(6)
        assert post.held == ["disk"]
        assert post.details == ["99 MiB are free, and 100 MiB should be"]
        assert post.conditions.blocking.startswith("disk: 99 MiB")

        post.disk.free = LEAST_BYTES
        await trio.sleep(CALM_S + 6)
        assert post.held == []


async def test_a_disk_of_which_nothing_can_be_learned_counts_as_full(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with looking(tmp_path) as post:
        post.disk.trouble = OSError(5, "Input/output error")
        await trio.sleep(6)

        assert post.held == ["disk"]


async def test_a_journal_that_does_not_answer_is_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with looking(tmp_path, recording=False) as post, trio.open_nursery() as nursery:
        post.recorder.submit(Batch(records=[Record("brain", "one", Kind.PUT, b"{}")]))
        await trio.sleep(2)
        assert post.held == []
        await trio.sleep(2)
        assert post.held == ["journal"]

        await nursery.start(post.recorder.run)
        await trio.sleep(CALM_S + 1)
        assert post.held == []
        nursery.cancel_scope.cancel()


async def test_what_waited_during_a_pause_is_not_held_against_the_journal(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with looking(tmp_path) as post:
        post.recorder.submit(Batch(records=[Record("brain", "one", Kind.PUT, b"{}")]))
        post.clock.pause(60, computing=False)
        await trio.sleep(1)
        await wait_all_tasks_blocked()

        assert post.held == [Condition.SUSPENDED]
