"""What became of a world, in a few figures, and the smallest trouble that breaks the same promise."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

import msgspec
import structlog

from pipaid.model.fault import Fault
from tests.simulation.plan import DEATHS, DISTURBANCES, HANGS, OPERATOR, PERSON, STUMBLES, Scene
from tests.simulation.world import run_world


class Verdict(msgspec.Struct, frozen=True):
    """What became of one world; `marks` counts what happened in it, by name."""

    scene: Scene
    violations: tuple[str, ...]
    trace: tuple[str, ...]
    digest: str
    lives: int
    crossings: int
    orders: int
    fills: int
    marks: dict[str, int]
    cpu_s: float

    @property
    def promise(self) -> str:
        """Return which promise was broken first, by its letter and number where it has one."""
        return self.promises[0] if self.violations else ""

    @property
    def promises(self) -> tuple[str, ...]:
        """Return which promises were broken, in this order."""
        return tuple(violation.partition(": ")[2].partition(" ")[0] for violation in self.violations)


def judged(scene: Scene) -> Verdict:
    """Run one world."""
    begun_s = time.process_time()
    world = run_world(scene)
    marks = Counter(f"died at {name}" if name else "ended in order" for name in world.deaths)
    marks.update({f"fault {kind.value}": times for kind, times in world.faults.happened.items()})
    marks.update(f"did {op}" for op in (*world.person.done, *world.operator.done, *world.binder.done))
    marks.update(f"cut {op}" for op in world.binder.cut)
    marks.update({"hangs": world.hangs, "stumbles": world.stumbles})
    marks["partial fills"] = sum(ledger.partials for ledger in world.ledgers)
    marks["risen"] = len(world.checks.risen)
    marks.update(f"refused {refusal}" for refusal in (*world.operator.refusals, *world.binder.refusals))
    return Verdict(
        scene=scene,
        violations=tuple(world.checks.violations),
        trace=tuple(world.checks.trace),
        digest=world.trace.hexdigest(),
        lives=world.lives,
        crossings=world.crossings,
        orders=sum(len(ledger.taken) for ledger in world.ledgers),
        fills=sum(len(ledger.filled) for ledger in world.ledgers),
        marks=dict(marks),
        cpu_s=time.process_time() - begun_s,
    )


def shrunk(verdict: Verdict) -> Verdict:
    """Leave out one trouble after the other as long as the same promise is broken."""
    for name in (DISTURBANCES, HANGS, STUMBLES, OPERATOR, PERSON, DEATHS, *(kind.value for kind in Fault)):
        scene = msgspec.structs.replace(verdict.scene, without=verdict.scene.without | {name})
        attempt = judged(scene)
        if attempt.promise == verdict.promise:
            verdict = attempt
    return verdict


def silence() -> None:
    """Let the daemons of this process say nothing."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@contextmanager
def silenced() -> Generator[None]:
    """Let them say nothing for a while."""
    before = structlog.get_config()
    silence()
    try:
        yield
    finally:
        structlog.configure(**before)


def told(verdict: Verdict) -> str:
    """Say what was violated, with what the smallest world that still breaks it did last, and how to run it again."""
    small = shrunk(verdict)
    left_out = ", ".join(sorted(small.scene.without)) or "nothing"
    return "\n".join(
        (
            f"seed {verdict.scene.seed}" + _at(verdict.scene),
            *(f"    {violation}" for violation in verdict.violations),
            f"  the same promise is broken without {left_out}:",
            *(f"    {violation}" for violation in small.violations),
            "  what the daemon did last:",
            *(f"    {line}" for line in small.trace),
            f"  again: python -m tests.simulation {verdict.scene.seed}" + _at(verdict.scene),
        )
    )


def _at(scene: Scene) -> str:
    return "" if scene.crash_at is None else f" --crash-at {scene.crash_at}"
