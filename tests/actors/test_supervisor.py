"""A supervisor starts its children in order, stops them in reverse, and mends a chain from the link that broke."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.actor import Failures, Intensity
from actors.supervisor import ChildSpec, ChildState, GivenUp, Supervisor
from pipaid.seams import SystemRandom, World
from tests.actors.homes import TrioClock

pytestmark = pytest.mark.usefixtures("logged")

Life = Callable[[], Awaitable[None]]


@define(eq=False)
class Troupe:
    """Children that write down when they start and stop, and fail on cue."""

    said: list[str] = field(factory=list[str])
    cues: dict[str, trio.Event] = field(factory=dict[str, trio.Event])
    causes: dict[str, BaseException | None] = field(factory=dict[str, BaseException | None])
    starts: dict[str, Life] = field(factory=dict[str, Life])
    endings: dict[str, Life] = field(factory=dict[str, Life])

    def child(self, name: str, restart: Literal["permanent", "transient", "vital"] = "permanent") -> ChildSpec:
        async def live(task_status: trio.TaskStatus[None]) -> None:
            self.said.append(f"+{name}")
            self.cues[name] = trio.Event()
            if name in self.starts:
                await self.starts[name]()
            task_status.started()
            try:
                await self.cues[name].wait()
            finally:
                if name in self.endings:
                    await self.endings[name]()
                self.said.append(f"-{name}")
            cause = self.causes.get(name)
            if cause is not None:
                raise cause

        return ChildSpec(name=name, start=live, restart=restart)

    async def fail(self, name: str, cause: BaseException | None = None) -> None:
        self.causes[name] = cause
        self.cues[name].set()
        await trio.sleep(60)

    def heard(self) -> str:
        """Return what was said since the last time."""
        heard, self.said = " ".join(self.said), []
        return heard


def supervise(*specs: ChildSpec, **fields: Any) -> Supervisor:
    world = World(clock=TrioClock(), random=SystemRandom(seed=1))
    return Supervisor(list(specs), world, **fields)


def chain(troupe: Troupe, **fields: Any) -> Supervisor:
    return supervise(*(troupe.child(name) for name in "abc"), **fields)


def raising(trouble: BaseException) -> Life:
    async def start() -> None:
        raise trouble

    return start


async def test_children_start_in_order_and_stop_in_reverse(autojump_clock: MockClock) -> None:
    troupe = Troupe()
    supervisor = chain(troupe)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        assert troupe.heard() == "+a +b +c"

        supervisor.stop()

    assert troupe.heard() == "-c -b -a"
    assert [child.state for child in supervisor.children] == [ChildState.ENDED] * 3


async def test_a_child_starts_only_when_the_one_before_is_ready(autojump_clock: MockClock) -> None:
    troupe = Troupe()
    ready = trio.Event()
    troupe.starts["b"] = ready.wait
    supervisor = chain(troupe)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await wait_all_tasks_blocked()
        assert troupe.heard() == "+a +b"

        ready.set()
        await wait_all_tasks_blocked()
        assert troupe.heard() == "+c"
        supervisor.stop()


async def test_a_cancellation_from_outside_stops_them_in_reverse_as_well(autojump_clock: MockClock) -> None:
    troupe = Troupe()

    async def linger() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)

    troupe.endings = {"c": linger, "b": linger}
    supervisor = chain(troupe)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            nursery.cancel_scope.cancel()

    assert troupe.heard() == "+a +b +c -c -b -a"


async def test_a_cancellation_during_the_start_stops_what_has_started(autojump_clock: MockClock) -> None:
    troupe = Troupe()
    troupe.starts["b"] = trio.sleep_forever
    supervisor = chain(troupe)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.run)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    assert troupe.heard() == "+a +b -a"


async def test_one_that_does_not_stop_is_left_behind_at_the_deadline(autojump_clock: MockClock) -> None:
    troupe = Troupe()

    async def refuse() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(25)

    troupe.endings["b"] = refuse
    supervisor = chain(troupe, stop_s=10.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        supervisor.stop()

    # The others are told at the deadline, and none of them is abandoned while it runs.
    assert troupe.heard() == "+a +b +c -c -a -b"
    assert trio.current_time() == pytest.approx(25, abs=1)


async def test_a_failure_restarts_it_and_all_after_it(autojump_clock: MockClock) -> None:
    troupe = Troupe()
    supervisor = chain(troupe)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        troupe.heard()

        await troupe.fail("b", ValueError("oops"))

        assert troupe.heard() == "-b -c +b +c"
        assert supervisor.children[1].failures.last == "ValueError: oops"
        assert [child.failures.recent for child in supervisor.children] == [0, 1, 0]
        supervisor.stop()


async def test_two_failures_at_once_leave_one_life_of_each(autojump_clock: MockClock) -> None:
    troupe = Troupe()
    supervisor = chain(troupe)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        troupe.heard()
        troupe.causes = {"a": ValueError("one"), "c": ValueError("two")}
        troupe.cues["a"].set()
        troupe.cues["c"].set()
        await trio.sleep(60)

        said = troupe.heard()
        assert [said.count(f"+{name}") - said.count(f"-{name}") for name in "abc"] == [0, 0, 0]
        assert said.endswith("+a +b +c")
        supervisor.stop()

    assert troupe.heard() == "-c -b -a"


async def test_a_permanent_child_must_not_end_and_a_transient_one_may(autojump_clock: MockClock) -> None:
    troupe = Troupe()
    supervisor = supervise(troupe.child("a"), troupe.child("b", "transient"), troupe.child("c"))
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        troupe.heard()

        await troupe.fail("b")
        assert troupe.heard() == "-b"
        await troupe.fail("c")
        assert troupe.heard() == "-c +c"
        supervisor.stop()


@pytest.mark.parametrize(
    "cause",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        BaseExceptionGroup("several", [ValueError("a"), SystemExit()]),
    ],
    ids=lambda cause: type(cause).__name__,
)
async def test_nothing_a_child_raises_ends_its_siblings(cause: BaseException, autojump_clock: MockClock) -> None:
    troupe = Troupe()
    supervisor = chain(troupe)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await troupe.fail("c", cause)

        assert supervisor.children[2].state is ChildState.RUNNING
        assert "-a" not in troupe.heard()
        supervisor.stop()


async def test_a_failure_beside_a_cancellation_is_a_failure(autojump_clock: MockClock) -> None:
    troupe = Troupe()

    async def cancelled_and_broken() -> None:
        async def break_down() -> None:
            raise ValueError("broken")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(break_down)

    troupe.endings["b"] = cancelled_and_broken
    supervisor = chain(troupe)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        supervisor.stop()

    assert [child.state for child in supervisor.children] == [ChildState.ENDED, ChildState.FAILED, ChildState.ENDED]


async def test_too_many_failures_within_the_period_are_given_up(autojump_clock: MockClock) -> None:
    troupe = Troupe()
    supervisor = chain(troupe, intensity=Intensity(restarts_max=2, period_s=600, backoff_max_s=1))
    with pytest.RaisesGroup(GivenUp) as caught:
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            for number in range(3):
                await troupe.fail("b", ValueError(f"failure {number}"))

    (given_up,) = caught.value.exceptions
    assert isinstance(given_up, GivenUp)
    assert (given_up.name, str(given_up.cause)) == ("b", "failure 2")
    assert troupe.heard().endswith("-b -c -a")


async def test_failures_far_apart_are_forgiven(autojump_clock: MockClock) -> None:
    troupe = Troupe()
    supervisor = chain(troupe, intensity=Intensity(restarts_max=1, period_s=600))
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        for _ in range(5):
            await troupe.fail("c", ValueError())
            await trio.sleep(600)

        assert supervisor.children[2].failures.total == 5
        assert supervisor.children[2].state is ChildState.RUNNING
        supervisor.stop()


async def test_a_vital_child_takes_all_along_at_its_first_failure(autojump_clock: MockClock) -> None:
    troupe = Troupe()
    supervisor = supervise(troupe.child("a", "vital"), troupe.child("b"))
    with pytest.RaisesGroup(GivenUp):
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            await troupe.fail("a", OSError("disk"))

    assert troupe.heard() == "+a +b -a -b"


async def test_a_failure_at_the_very_start_is_told_at_once(autojump_clock: MockClock) -> None:
    troupe = Troupe()
    troupe.starts["b"] = raising(OSError("address in use"))
    with pytest.raises(GivenUp, match="b cannot go on: OSError: address in use"):
        await chain(troupe).run()

    assert troupe.heard() == "+a +b -a"
    assert trio.current_time() < 1


async def test_a_restart_that_fails_is_tried_again_before_those_after_it(autojump_clock: MockClock) -> None:
    troupe = Troupe()
    supervisor = chain(troupe)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        troupe.heard()
        tries: list[float] = []

        async def fail_twice() -> None:
            tries.append(trio.current_time())
            if len(tries) < 3:
                raise OSError("not yet")

        troupe.starts["b"] = fail_twice
        await troupe.fail("b", ValueError())

        assert troupe.heard() == "-b -c +b +b +b +c"
        assert supervisor.children[1].failures.recent == 3
        supervisor.stop()


@pytest.mark.parametrize("seed", range(15))
async def test_after_any_storm_of_failures_each_child_lives_once(seed: int, autojump_clock: MockClock) -> None:
    chance = SystemRandom(seed=seed)
    troupe = Troupe()
    supervisor = chain(troupe, intensity=Intensity(restarts_max=1_000, backoff_max_s=2))
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        for _ in range(30):
            name = "abc"[int(chance.uniform(0, 3))]
            troupe.causes[name] = ValueError()
            troupe.cues[name].set()
            await trio.sleep(chance.uniform(0, 1) ** 4)
        await trio.sleep(60)

        alive = {name: troupe.said.count(f"+{name}") - troupe.said.count(f"-{name}") for name in "abc"}
        assert alive == {"a": 1, "b": 1, "c": 1}
        supervisor.stop()

    assert troupe.said[-3:] == ["-c", "-b", "-a"]


def test_back_off_doubles_up_to_its_limit() -> None:
    failures = Failures(Intensity(restarts_max=100, backoff_min_s=0.1, backoff_max_s=1.0))
    waits: list[float] = []
    for _ in range(6):
        failures.note(ValueError(), 0.0)
        waits.append(failures.backoff_s(1.0))

    assert waits == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert failures.backoff_s(0.0) == 0.5


def test_a_message_that_cannot_be_read_or_stored_is_still_told() -> None:
    class Unreadable(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    failures = Failures(Intensity())
    failures.note(Unreadable(), 0.0)
    assert failures.last == "Unreadable: its message cannot be read"

    failures.note(ValueError("\ud800"), 0.0)
    assert failures.last.encode() == b"ValueError: ?"
