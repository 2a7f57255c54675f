"""What is asked of a strategy's actor in several steps, each of which waits for the venue."""

from __future__ import annotations

from functools import partial
from typing import Final

import trio

from actors.actor import Employed
from pipaid.engine.effects import Effects
from pipaid.engine.session import Session
from pipaid.errors import PipaidError
from pipaid.model.position import CloseReason
from pipaid.model.run import Cause

CLOSE_DEADLINE_S: Final = 30.0
CANCEL_DEADLINE_S: Final = 10.0
MENDED_DEADLINE_S: Final = 10.0


async def close_positions_of(actor: Employed, reason: CloseReason, closing: str) -> bool:
    """Close every position and enter nothing any more; tell whether the venue confirmed it in time."""

    def close(session: Session) -> Effects:
        session.entries_closed = closing
        return session.close_positions(reason)

    await actor.perform(close)
    with trio.move_on_after(CLOSE_DEADLINE_S):
        await actor.until(lambda session: not _entering(session))
        # An entry may have been filled before its withdrawal reached the venue: what it opened is closed as well.
        await actor.perform(close)
        await actor.until(lambda session: not session.positions)
        return True
    return False


async def end_orders_of(actor: Employed) -> bool:
    """Withdraw all that works, what protects last; tell whether the venue confirmed every end in time."""

    def withdraw(session: Session, *, entries_only: bool) -> Effects:
        session.entries_closed = "ending"
        return session.withdraw("engine", entries_only=entries_only)

    with trio.move_on_after(CANCEL_DEADLINE_S):
        await actor.perform(partial(withdraw, entries_only=True))
        await actor.until(lambda session: not _entering(session))
        await actor.perform(partial(withdraw, entries_only=False))
        await actor.until(lambda session: not session.orders)
        return True
    return False


async def ended_in(actor: Employed, dry: bool) -> bool:
    """Give orders of a mode that are being withdrawn time to end; tell whether none is left."""
    with trio.move_on_after(CANCEL_DEADLINE_S):
        await actor.until(lambda session: all(order.dry_run is not dry for order in session.orders.values()))
        return True
    return False


async def triggered(actor: Employed) -> list[str]:
    """Have every symbol evaluated now; return the evaluations, those that failed as well."""
    runs: list[str] = []

    def evaluate(session: Session) -> Effects:
        effects = session.on_trigger()
        runs.extend(run.id for run in effects.runs)
        return effects

    known = actor.failed_runs
    try:
        await actor.perform(evaluate)
    except PipaidError:
        # Should the session have broken down over it, the one that takes its place records that first of all.
        with trio.move_on_after(MENDED_DEADLINE_S):
            await actor.up()
        if actor.failed_runs is known:
            raise
        runs = [run.id for run in actor.failed_runs if run.cause is Cause.TRIGGER]
    return runs


def _entering(session: Session) -> bool:
    return any(not order.reduce_only for order in session.orders.values())
