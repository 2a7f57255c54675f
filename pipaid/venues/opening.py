"""The market that a configuration asks for: made up or recorded."""

from __future__ import annotations

from pipaid.config.sections import Market as Wanted
from pipaid.seams import World
from pipaid.venues.recorded import load
from pipaid.venues.replay import ReplayMarket
from pipaid.venues.synthetic import SyntheticMarket
from pipaid.venues.venue import Market
from pipaid.wire.activity import Activity


def open_market(wanted: Wanted, world: World, activity: Activity, *, resume_ms: int | None) -> Market:
    """Return the market, to go on after the close at `resume_ms` if it has been followed that far.

    A synthetic market that is left to choose starts at the last full minute of the wall clock.
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
    return SyntheticMarket(
        symbols=wanted.symbols,
        seed=wanted.seed,
        clock=clock,
        activity=activity,
        start_ms=wanted.start_ms or clock.now_us() // 60_000_000 * 60_000,
        resume_ms=resume_ms,
        speed=wanted.speed,
    )
