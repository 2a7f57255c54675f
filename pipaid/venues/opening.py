"""The market and the desks that a configuration asks for: made up or recorded, and simulated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from decimal import Decimal
from typing import Final, Protocol

import msgspec
import trio
from attrs import define, field

from pipaid.config.sections import Desk as Costs
from pipaid.config.sections import Market as Wanted
from pipaid.engine.matching import MatchingBook, Terms
from pipaid.model.instrument import Instrument
from pipaid.model.moment import DAY_MS
from pipaid.model.money import ZERO
from pipaid.model.order import Order
from pipaid.model.position import Position
from pipaid.seams import SystemRandom, World
from pipaid.venues.faults import Faults, UnreliableDesk
from pipaid.venues.interrupted import UnreliableMarket
from pipaid.venues.recorded import load
from pipaid.venues.replay import ReplayMarket
from pipaid.venues.simulated import CAPABILITIES, SimulatedDesk
from pipaid.venues.synthetic import SyntheticMarket
from pipaid.venues.venue import Desk, Market, MarketUpdate
from pipaid.wire.activity import Activity

HISTORY_MS: Final = 120 * DAY_MS
# How long a request to a simulated desk waits for an answer that does not come, in venue time.
TIMEOUT_S: Final = 10.0


class MatchingDesk(Desk, Protocol):
    """A desk that matches by itself what the feed shows it."""

    def restore(
        self, orders: Iterable[Order], positions: Iterable[Position], prices: Mapping[str, Decimal], now_ms: int
    ) -> None:
        """Take what the journal knows: working orders, open lots and the last prices."""
        ...

    def on_market(self, update: MarketUpdate) -> None:
        """Match against one update of the market."""
        ...

    def forget_lots(self, ids: Iterable[str]) -> None:
        """Drop lots that their owner gave up."""
        ...


class Venues(Protocol):
    """Where a daemon's market and desks come from."""

    def market(
        self, wanted: Wanted, world: World, activity: Activity, *, resume_ms: int | None, listed_ms: int | None
    ) -> Market:
        """Return the market, to go on after the close at `resume_ms` if it has been followed that far."""
        ...

    def desk(
        self, wanted: Costs, instruments: Mapping[str, Instrument], activity: Activity, *, dry: bool
    ) -> MatchingDesk:
        """Return the desk of the paper account, or of the other one; it knows nothing before `restore`."""
        ...


@define(eq=False)
class SimulatedVenues:
    """The venue inside this process; its desks keep the time of the market that was opened last.

    Each desk is at the end of a line on which faults happen, should any be set.
    """

    _sleep: Callable[[float], Awaitable[None]] = field(init=False, default=trio.sleep)
    _timeout_s: float = field(init=False, default=0.0)

    def market(
        self, wanted: Wanted, world: World, activity: Activity, *, resume_ms: int | None, listed_ms: int | None
    ) -> Market:
        self._sleep, self._timeout_s = world.clock.sleep, timeout_s(wanted)
        market = open_market(wanted, world, activity, resume_ms=resume_ms, listed_ms=listed_ms)
        return UnreliableMarket(market, Faults(SystemRandom(seed=wanted.seed)))

    def desk(
        self, wanted: Costs, instruments: Mapping[str, Instrument], activity: Activity, *, dry: bool
    ) -> MatchingDesk:
        able = msgspec.structs.replace(CAPABILITIES, id_unique=wanted.client_ids, request_expiry=wanted.request_expiry)
        venue = SimulatedDesk(MatchingBook(instruments, terms_of(wanted)), activity, able)
        shares = {kind: float(share) for kind, share in wanted.faults.shares().items()}
        # The two desks do not share their luck.
        faults = Faults(SystemRandom(seed=2 * wanted.faults.seed + dry), shares)
        return UnreliableDesk(venue, faults, self._sleep, self._timeout_s)


def timeout_s(wanted: Wanted) -> float:
    """Return how long a desk waits for an answer; not at all where the market waits for whoever waits."""
    if wanted.kind == "replay" or wanted.speed == "max":
        return 0.0
    return TIMEOUT_S / float(wanted.speed)


def terms_of(costs: Costs) -> Terms:
    """Return what trading costs at a simulated desk."""
    return Terms(
        maker_bps=costs.maker_bps,
        taker_bps=costs.taker_bps,
        slippage_bps=costs.slippage_bps,
        fill_ratio_max=costs.fill_ratio_max or ZERO,
    )


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
