"""Worlds in which strategies are bound to accounts and parted again: whatever dies meanwhile, it is so or it is not."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

from actors.lifecycle import Lifecycle
from pipaid.model.record import Batch
from tests.simulation.judging import Verdict, judged, silenced, told
from tests.simulation.plan import Scene

FIXED = range(30)
FRESH = 5
ENUMERATED_S = 100
# In which strategies are bound and parted several times.
BUSY = 56
# Every so many crossings of one world, its daemon dies at one.
EVERY = 17
SEEDS_MAX = 20
WANTED = (
    "strategy.bind", "strategy.unbind", "strategy.trigger", "strategy.bindings", "strategy.deploy", "strategy.pause",
    "strategy.stop", "strategy.delete",
)  # fmt: skip


@pytest.fixture(autouse=True)
def quiet() -> Generator[None]:
    with silenced():
        yield


def assert_kept(verdicts: list[Verdict]) -> None:
    broken = [told(verdict) for verdict in verdicts if verdict.violations]
    assert not broken, "\n" + "\n".join(broken[:3])


def test_no_world_breaks_a_promise_and_daemons_died_in_the_midst_of_each_command() -> None:
    verdicts = [judged(Scene(seed, bound=True)) for seed in FIXED]
    marks = Counter[str]()
    for verdict in verdicts:
        marks.update(verdict.marks)

    assert_kept(verdicts)
    assert [op for op in WANTED if not marks[f"did {op}"]] == []
    assert [op for op in WANTED[:3] if not marks[f"cut {op}"]] == []


def test_no_fresh_world_breaks_a_promise() -> None:
    first = secrets.randbelow(2**40)

    assert_kept([judged(Scene(seed, bound=True)) for seed in range(first, first + FRESH)])


def test_a_crash_at_any_crossing_of_a_world_breaks_no_promise() -> None:
    whole = judged(Scene(BUSY, bound=True, crash_at=0, faulty_s=ENUMERATED_S))

    assert whole.crossings > 100
    assert {"did strategy.bind", "did strategy.unbind"} <= whole.marks.keys()
    assert_kept(
        [
            judged(Scene(BUSY, bound=True, crash_at=number, faulty_s=ENUMERATED_S))
            for number in range(1, whole.crossings + 1, EVERY)
        ]
    )


@pytest.mark.parametrize("step", ["enlist", "remove"])
def test_a_follower_that_came_or_went_without_its_binding_would_be_found(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: Any = getattr(Lifecycle, step)

    async def without(self: Lifecycle, *given: Any) -> Any:
        *rest, batch = given
        return await whole(self, *rest, Batch(events=batch.events))

    monkeypatch.setattr(Lifecycle, step, without)

    verdicts = (judged(Scene(seed, bound=True)) for seed in range(SEEDS_MAX))
    assert next((verdict.promise for verdict in verdicts if verdict.violations), None) == "B1"
