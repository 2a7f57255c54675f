"""Too much memory stops entries and newcomers until it is over, and a strategy that hoards is named and interrupted."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from attrs import define, field
from trio.testing import MockClock

from actors.actor import Crashed, Phase
from actors.scales import MIB, Scales, memory_limit
from actors.watchdog import Guard, Hoarded
from pipaid.errors import Unavailable
from pipaid.model.strategy import Status
from pipaid.seams import SystemClock, SystemDisk, SystemEnv
from tests.actors.homes import at_home
from tests.builders import scripted
from tests.house.tree import ROOT


@define
class Heavy(SystemEnv):
    """A process that holds what a test says."""

    mib: int = 10

    def resident_bytes(self) -> int:
        return self.mib * MIB


@define
class Told:
    """What the conditions heard."""

    words: list[str] = field(factory=list[str])

    def enter(self, detail: str) -> None:
        self.words.append(detail)

    def leave(self) -> None:
        self.words.append("left")


def scales_of(env: Heavy, guard: Guard, told: Told, limit: int = 100) -> Scales:
    return Scales(
        clock=SystemClock(),
        env=env,
        guard=guard,
        limit=limit * MIB,
        enter=told.enter,
        leave=told.leave,
        named=lambda number: f"strategy {number}",
    )


def growing(env: Heavy, mib: int) -> Callable[[], None]:
    def grow() -> None:
        env.mib += mib

    return grow


def test_too_much_is_told_until_it_is_well_below_again() -> None:
    env, told = Heavy(), Told()
    scales = scales_of(env, Guard(SystemClock()), told)

    for mib in (99, 100, 95, 89):
        env.mib = mib
        scales.look()

    # At 99 there is nothing to leave, at 95 it is still too near.
    assert told.words == ["100 MiB are held, of at most 100", "left"]


def test_without_a_limit_nothing_is_ever_too_much() -> None:
    told = Told()
    scales_of(Heavy(mib=10**6), Guard(SystemClock()), told, limit=0).look()

    assert told.words == []


def test_whoever_grew_is_named_and_neighbours_are_not() -> None:
    env, told = Heavy(mib=60), Told()
    guard = Guard(SystemClock(), hoard_max=64 * MIB)
    scales = scales_of(env, guard, told)
    scales.look()
    for _ in range(20):
        guard.run(1, growing(env, 0))
        guard.run(2, growing(env, 3))
        guard.run(3, growing(env, 1))
        env.mib -= 1
        guard.rest()
        # What is taken while nobody is called is nobody's.
        env.mib += 1
    scales.look()

    assert guard.grown == {2: 60 * MIB}
    assert told.words[1:] == ["140 MiB are held, of at most 100; what grew most lately: strategy 2 by 60 MiB"]


def test_a_hoarder_is_interrupted_at_its_next_call_and_starts_with_a_clean_slate() -> None:
    env = Heavy(mib=60)
    guard = Guard(SystemClock(), hoard_max=8 * MIB)
    scales_of(env, guard, Told()).look()
    for _ in range(3):
        guard.run(7, growing(env, 3))
        guard.run(8, growing(env, 0))

    with pytest.raises(Hoarded, match="strategy number 7 took 9 MiB of memory and kept them"):
        guard.run(7, growing(env, 3))
    assert guard.run(8, abs, -1) == 1
    assert guard.run(7, abs, -1) == 1


@pytest.mark.parametrize("phase", [None, Phase.LOADING, Phase.CHECKING])
def test_what_is_taken_between_two_calls_is_nobodys(phase: Phase | None) -> None:
    env = Heavy(mib=60)
    guard = Guard(SystemClock(), hoard_max=8 * MIB)
    call = guard.run if phase is None else partial(guard.run_as, phase)
    scales_of(env, guard, Told()).look()
    call(7, growing(env, 2))
    for _ in range(3):
        # A client's large answer, a pruning: it comes, and only some of it goes before the next call.
        env.mib += 100
        call(7, growing(env, 2))
    assert guard.grown == ({} if phase is Phase.CHECKING else {7: 8 * MIB})

    env.mib -= 5
    guard.rest()
    env.mib -= 5

    assert guard.grown == ({} if phase is Phase.CHECKING else {7: 3 * MIB})


def test_below_half_of_the_limit_nobody_is_weighed() -> None:
    env = Heavy(mib=49)
    guard = Guard(SystemClock(), hoard_max=8 * MIB)
    scales = scales_of(env, guard, Told())
    scales.look()
    for _ in range(5):
        guard.run(7, growing(env, 3))
    assert guard.grown == {}

    scales.look()
    guard.run(7, growing(env, 3))
    guard.rest()
    assert guard.grown == {7: 3 * MIB}
    env.mib = 40
    scales.look()
    assert guard.grown == {}


class Hoard(list[int]):
    """Something that a reference can be held to without keeping it."""


def test_a_call_that_failed_keeps_nothing_of_what_it_was_given() -> None:
    guard = Guard(SystemClock())

    def fail(given: Hoard) -> None:
        raise ValueError(f"{len(given)} is too much")

    hoard = Hoard([1])
    watched = weakref.ref(hoard)
    gc.disable()
    try:
        with pytest.raises(Crashed):
            guard.run(1, fail, hoard)
        del hoard
        assert watched() is None
    finally:
        gc.enable()


@define
class Files(SystemDisk):
    """A disk that holds a few files of the kernel."""

    held: dict[str, str] = field(factory=dict[str, str])

    def read(self, path: Path) -> bytes:
        if str(path) not in self.held:
            raise FileNotFoundError(path)
        return self.held[str(path)].encode()


@pytest.mark.parametrize(
    ("held", "limit"),
    [
        ({}, 0),
        ({"/proc/meminfo": "MemTotal:       2048 kB\nMemFree:   1 kB\n"}, 1024 * 1024),
        ({"/proc/self/cgroup": "4:memory:/old\n0::/a/b\n", "/sys/fs/cgroup/a/b/memory.max": "1000\n"}, 800),
        (
            {
                "/proc/self/cgroup": "0::/a/b\n",
                "/sys/fs/cgroup/a/b/memory.max": "max\n",
                "/sys/fs/cgroup/a/b/memory.high": "900\n",
                "/sys/fs/cgroup/a/memory.max": "500\n",
                "/proc/meminfo": "MemTotal: 2048 kB\n",
            },
            400,
        ),
    ],
)
def test_the_limit_is_what_the_machine_and_the_service_manager_leave(held: dict[str, str], limit: int) -> None:
    assert memory_limit("auto", Files(held=held)) == limit


def test_the_limit_may_be_given() -> None:
    assert memory_limit(77, Files()) == 77 * MIB


BOUNDED = """
import resource
from actors.scales import DATA_MIN, bound_memory
assert not bound_memory(0)
assert bound_memory(1)
assert resource.getrlimit(resource.RLIMIT_DATA)[0] == DATA_MIN
try:
    bytearray(2 * DATA_MIN)
except MemoryError:
    print("refused")
"""


def test_one_huge_allocation_is_refused() -> None:
    done = subprocess.run([sys.executable, "-c", BOUNDED], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout == "refused\n"


def test_a_process_knows_what_it_holds() -> None:
    assert SystemEnv().resident_bytes() > 10 * MIB


async def test_newcomers_are_refused_while_memory_is_short(
    tmp_path: Path, autojump_clock: MockClock, logged: object
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        draft = await home.draft("first")
        running = await home.deploy("second")
        home.lifecycle.short = lambda: True

        with pytest.raises(Unavailable, match="holds more memory than it should"):
            await home.draft("third")
        with pytest.raises(Unavailable, match="holds more memory than it should"):
            await home.lifecycle.deploy(None, draft.id, capital=None, leverage=None, dry_run=True)
        await home.lifecycle.pause(None, running.id, close_positions=False)
        assert home.member(running.id).strategy.status is Status.PAUSED


async def test_a_session_that_crashed_is_gone_at_once(
    tmp_path: Path, autojump_clock: MockClock, logged: object
) -> None:
    made: list[weakref.ref[Hoard]] = []

    def on_candle(_: object) -> tuple[()]:
        hoard = Hoard([1])
        made.append(weakref.ref(hoard))
        if len(made) == 1:
            raise ValueError(f"{len(hoard)} is too much")
        return ()

    async with at_home(tmp_path, scripted(on_candle=on_candle)) as home:
        strategy = await home.deploy()
        sessions = [weakref.ref(home.actor(strategy.id).session)]
        gc.disable()
        try:
            await home.close()
            assert home.member(strategy.id).failures.total == 1
            assert [each() for each in made] == [None, None]
            assert sessions[0]() is None
        finally:
            gc.enable()
