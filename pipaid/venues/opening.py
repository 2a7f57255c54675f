"""The market that a configuration asks for: made up or recorded."""

from __future__ import annotations

from typing import Final

from pipaid.config.sections import Market as Wanted
from pipaid.model.moment import DAY_MS
from pipaid.seams import World
from pipaid.venues.recorded import load
from pipaid.venues.replay import ReplayMarket
from pipaid.venues.synthetic import SyntheticMarket
from pipaid.venues.venue import Market
from pipaid.wire.activity import Activity

HISTORY_MS: Final = 120 * DAY_MS


def open_market(
    wanted: Wanted, world: World, activity: Activity, *, resume_ms: int | None, listed_ms: int | None
) -> Market:
    """Return the market, to go on after the close at `resume_ms` if it has been followed that far.

    A synthetic market that is left to choose starts at the last full minute of the wall clock. It was listed 120 days
    before its first start, and goes on to be: `listed_ms` is what was true at the start before.
    """
    clock = world.clock
    if wanted.kind == "replay":
        recorded = load(
            world.disk,
            [*wanted.files, *wanted.funding_files],
            symbols=wanted.symbols,
            instruments_file=wanted.instruments_file,
        )
        return ReplayMarket(
            recorded=recorded,
            clock=clock,
            activity=activity,
            start_ms=wanted.start_ms or None,
            resume_ms=resume_ms,
            speed=None if wanted.speed == "max" else float(wanted.speed),
        )
    start_ms = wanted.start_ms or clock.now_us() // 60_000_000 * 60_000
    return SyntheticMarket(
        symbols=wanted.symbols,
        seed=wanted.seed,
        clock=clock,
        activity=activity,
        start_ms=start_ms,
        listed_ms=start_ms - HISTORY_MS if listed_ms is None else listed_ms,
        resume_ms=resume_ms,
        speed=wanted.speed,
    )
