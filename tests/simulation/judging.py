"""What became of a world, in a few figures that can be handed from one process to another."""

from __future__ import annotations

import logging
import time

import msgspec
import structlog

from tests.simulation.world import run_world


class Verdict(msgspec.Struct, frozen=True):
    """What became of one world."""

    seed: int
    violations: tuple[str, ...]
    lives: int
    crossings: int
    orders: int
    fills: int
    cpu_s: float


def judged(seed: int) -> Verdict:
    """Run one world."""
    begun_s = time.process_time()
    world = run_world(seed)
    ledgers = world.ledgers
    return Verdict(
        seed=seed,
        violations=tuple(world.checks.violations),
        lives=world.lives,
        crossings=world.crossings,
        orders=sum(len(ledger.taken) for ledger in ledgers),
        fills=sum(len(ledger.filled) for ledger in ledgers),
        cpu_s=time.process_time() - begun_s,
    )


def silence() -> None:
    """Let the daemons of this process say nothing."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
