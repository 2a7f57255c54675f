"""Lives of a small house: a replay, a feed, real actors, a paper desk and a journal that may be cut off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import trio
from attrs import define, field

from actors.actor import Employed, Intensity
from actors.feed import Feed, MarketPosition
from actors.gateway import Gateway
from actors.recorder import Recorder
from actors.roster import Roster
from actors.strategy import StrategyActor
from actors.watchdog import Guard
from pipaid.engine.effects import strategy_record
from pipaid.engine.matching import MatchingBook, Terms
from pipaid.engine.quotes import Quotes
from pipaid.engine.risk import Book, Caps
from pipaid.engine.session import Session
from pipaid.engine.template import Template
from pipaid.model.record import Batch
from pipaid.model.strategy import Strategy
from pipaid.plugins import Catalogue
from pipaid.storage.sqlite import SqliteJournal
from pipaid.storage.store import Committed, JournalLost, JournalRefused
from pipaid.venues.recorded import Recorded
from pipaid.venues.replay import ReplayMarket
from pipaid.venues.simulated import SimulatedDesk
from pipaid.venues.tape import Tape
from pipaid.wire.activity import Activity
from tests.builders import MINUTE_MS, START_MS, make_instrument
from tests.storage.journals import open_journal
from tests.worlds import make_world

ENDS_S_MAX = 60.0
KEPT = ("brain", "order", "position", "fill", "run")

Minute = tuple[str, str, str, str]


@define(eq=False)
class Cut:
    """The end of a life at one commit, counted from its beginning: just before that one is durable, or just after."""

    at: int
    after: bool
    commits: int = 0
    reached: bool = False

    def put_before(self, journal: SqliteJournal) -> None:
        """Have a journal fail at that commit and take nothing more."""
        commit = journal.commit

        def cut(batches: Sequence[Batch]) -> list[Committed | JournalRefused]:
            outcomes: list[Committed | JournalRefused] = []
            for batch in batches:
                self.commits += 1
                if self.commits == self.at and not self.after:
                    self._end()
                outcomes.extend(commit([batch]))
                if self.commits == self.at:
                    self._end()
            return outcomes

        setattr(journal, "commit", cut)  # noqa: B010 - an assignment would be of the wrong type to the checkers

    def _end(self) -> NoReturn:
        self.reached = True
        raise JournalLost("the power went")


def recording(minutes: Mapping[str, Sequence[Minute]]) -> Recorded:
    """Make a recording out of each symbol's candles: open, high, low and close."""
    recorded = Recorded()
    for symbol, candles in minutes.items():
        tape = recorded.candles[symbol] = Tape(symbol)
        for number, prices in enumerate(candles):
            tape.add(START_MS + number * MINUTE_MS, ",".join((*prices, "1000")))
        recorded.instruments[symbol] = make_instrument(symbol)
    return recorded


@define(eq=False)
class Life:
    """One life over a journal in a folder: it resumes the market where that says, and ends with it or at the cut."""

    folder: Path
    recorded: Recorded
    templates: Mapping[str, type[Template]]
    cut: Cut | None = None
    activity: Activity = field(factory=Activity)
    quotes: Quotes = field(factory=Quotes)
    guard: Guard = field(init=False)
    journal: SqliteJournal = field(init=False)
    recorder: Recorder = field(init=False)
    feed: Feed = field(init=False)
    roster: Roster = field(init=False)
    desk: SimulatedDesk = field(init=False)
    gateway: Gateway = field(init=False)
    book: Book = field(factory=lambda: Book(caps=Caps()))

    async def run(self, strategies: Sequence[Strategy] = ()) -> bool:
        """Live, with strategies that are new; tell whether the market came to its end."""
        world = make_world()
        self.guard = Guard(world.clock)
        self.folder.mkdir(exist_ok=True)
        self.journal = open_journal(self.folder)
        self.guard.open()
        try:
            if strategies:
                self.journal.commit([Batch(records=[strategy_record(each) for each in strategies])])
            if self.cut is not None:
                self.cut.put_before(self.journal)
            with trio.fail_after(ENDS_S_MAX):
                await self._live()
        except* JournalLost:
            assert self.cut is not None
            assert self.cut.reached
        finally:
            self.guard.close()
            self.journal.close()
        return self.feed.ended.is_set()

    async def _live(self) -> None:
        world = make_world()
        found = self.journal.get("market", "replay")
        resume_ms = None if found is None else msgspec.json.decode(found.data, type=MarketPosition).time_ms
        market = ReplayMarket(self.recorded, world.clock, self.activity, resume_ms=resume_ms)
        self.recorder = Recorder(
            journal=self.journal, publish=_nobody, clock=world.clock, activity=self.activity, threaded=False
        )
        self.feed = Feed(market, self.quotes, self.recorder, self.guard, world.clock, self.activity, stale_after_s=0)
        await self.feed.prepare()
        self.feed.gate.set()
        self.roster = Roster(
            world=world,
            writer=self.recorder,
            keeper=self.feed,
            catalogue=Catalogue(templates=self.templates),
            quotes=self.quotes,
            guard=self.guard,
            activity=self.activity,
            books=lambda _: self.book,
            make_actor=self._actor,
            intensity=Intensity(),
            overruns_max=3,
            lockstep=True,
        )
        await self.roster.load()
        self._open_desk()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.recorder.run)
            await nursery.start(self.gateway.run)
            await nursery.start(self.roster.run)
            await self.activity.idle()
            await nursery.start(self.feed.run)
            await self.feed.ended.wait()
            nursery.cancel_scope.cancel()

    def _open_desk(self) -> None:
        orders, positions = self.roster.working()
        self.desk = SimulatedDesk(MatchingBook(self.feed.instruments, Terms()), self.activity)
        self.desk.restore(orders, positions, self.quotes.prices, self.quotes.now_ms)
        self.feed.desks.append(self.desk)
        self.gateway = Gateway(
            name="paper",
            dry=True,
            desk=self.desk,
            quotes=self.quotes,
            clock=make_world().clock,
            activity=self.activity,
            inbox=self.roster.inbox,
            owner_of_order=self.roster.owner_of_order,
            owner_of_position=self.roster.owner_of_position,
            doubt=_left_open,
            reconnected=lambda: None,
            ended=lambda _: None,
            stray=_unknown,
        )

    def _actor(self, strategy: Strategy, load: Callable[[], Awaitable[Session]]) -> Employed:
        return StrategyActor(
            id=strategy.id,
            number=strategy.number,
            writer=self.recorder,
            guard=self.guard,
            clock=make_world().clock,
            activity=self.activity,
            load=load,
            carriers=lambda _: self.gateway,
            on_interest=self._seat,
        )

    def _seat(self, actor: Employed, symbol: str) -> None:
        self.feed.seat(actor, symbol, actor.session.strategy.in_effect.timeframe)


def kept(folder: Path) -> dict[tuple[str, str], Any]:
    """Return what a journal holds of strategies, as values."""
    journal = open_journal(folder)
    try:
        return {(name, row.key): msgspec.json.decode(row.data) for name in KEPT for row in journal.rows(name)}
    finally:
        journal.close()


def minute(*prices: str) -> Minute:
    """Make a candle of one price, or of open, high, low and close."""
    if len(prices) == 1:
        return prices[0], prices[0], prices[0], prices[0]
    opened, high, low, close = prices
    assert Decimal(low) <= min(Decimal(opened), Decimal(close)) <= max(Decimal(opened), Decimal(close)) <= Decimal(high)
    return opened, high, low, close


def _nobody(_: object) -> None:
    """Publish to nobody."""


def _left_open(*_: object) -> None:
    """Let an order be whose sending was cut short: the next life hands it to its desk."""


def _unknown(stray: object) -> None:
    raise AssertionError(f"the paper desk did something that nobody accounts for: {stray}")
