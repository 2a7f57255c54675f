"""A home for strategies: everything between a market that a test moves and a journal on disk, on trio's own clock."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio
from attrs import define, field
from trio.testing import wait_all_tasks_blocked

from actors.actor import Consultant, Employed, Intensity, unconfigured
from actors.auditor import Auditor
from actors.bindings import Bindings
from actors.checks import Checks
from actors.conditions import WORD, Conditions
from actors.families import Families
from actors.feed import Feed
from actors.gateway import Gateway
from actors.lifecycle import Lifecycle
from actors.portfolio import Portfolio
from actors.recorder import Recorder
from actors.resolver import Resolver
from actors.roster import Member, Roster, halt
from actors.strategy import StrategyActor
from actors.unassigned import Unassigned
from actors.watchdog import Guard
from pipaid.engine.matching import MatchingBook, Terms
from pipaid.engine.quotes import Quotes
from pipaid.engine.risk import Book, Caps
from pipaid.engine.session import Session
from pipaid.engine.template import Template
from pipaid.errors import UnknownSymbol
from pipaid.model.candle import Candle, MarketTrade
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.model.interval import Interval
from pipaid.model.order import Order
from pipaid.model.position import Position
from pipaid.model.strategy import Strategy
from pipaid.model.turnover import Print, Turnover, grouped, guessed
from pipaid.plugins import Catalogue
from pipaid.seams import SystemRandom, World
from pipaid.storage.sqlite import SqliteJournal
from pipaid.storage.store import StoredEvent
from pipaid.venues.simulated import SimulatedDesk
from pipaid.venues.venue import Closed, Desk, MarketUpdate
from pipaid.wire.activity import Activity
from tests.builders import MINUTE_MS, OTHER, START_MS, SYMBOL, make_candle, make_definition, make_instrument
from tests.storage.journals import open_journal

ACCOUNT = "acct_1"
# The accounts of one organisation.
NEIGHBOURS = (ACCOUNT, "acct_2", "acct_3")
SETTLED_S_MAX = 3_600.0


@define
class TrioClock:
    """The clock that trio runs on, so that a test can make it jump."""

    def now_us(self) -> int:
        return START_MS * 1000 + round(trio.current_time() * 1e6)

    def monotonic_s(self) -> float:
        return trio.current_time()

    def cpu_s(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


@define(eq=False)
class HandMarket:
    """A market that does what the test says."""

    name: str = "hand"
    listed_ms: int = START_MS
    ends_ms: int = 0
    time_ms: int = START_MS
    candles: list[Candle] = field(factory=list[Candle])
    delisted: set[str] = field(factory=set[str])
    _send: trio.MemorySendChannel[MarketUpdate] = field(init=False)
    _receive: trio.MemoryReceiveChannel[MarketUpdate] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[MarketUpdate](100)

    async def instruments(self) -> Mapping[str, Instrument]:
        return {symbol: make_instrument(symbol) for symbol in (SYMBOL, OTHER)}

    async def history(self, symbol: str, timeframe: Timeframe, *, end_ms: int, count: int) -> list[Candle]:
        if symbol in self.delisted:
            raise UnknownSymbol(f"{symbol} is not listed")
        past = [each for each in self.candles if each.symbol == symbol and each.close_time_ms <= end_ms]
        return past[-count:]

    async def turnover(self, symbol: str, interval: Interval, *, first_ms: int, end_ms: int) -> list[Turnover]:
        past = [each for each in self.candles if each.symbol == symbol and first_ms <= each.open_time_ms < end_ms]
        return grouped(map(guessed, past), interval)

    async def trades(self, symbol: str, *, end_ms: int, count: int) -> list[Print]:
        return []

    def begins_ms(self, symbol: str) -> int:
        return self.listed_ms

    async def prices(self) -> Mapping[str, Decimal]:
        return {SYMBOL: Decimal(100), OTHER: Decimal(100)}

    def now_ms(self) -> int:
        return self.time_ms

    def updates(self) -> trio.MemoryReceiveChannel[MarketUpdate]:
        return self._receive

    async def say(self, update: MarketUpdate) -> None:
        self.time_ms = update.time_ms
        if isinstance(update, Closed):
            self.candles.extend(update.candles)
        await self._send.send(update)


@define(eq=False)
class Home:
    """The parts of a daemon that strategies live among, wired as it wires them."""

    folder: Path
    templates: dict[str, type[Template]]
    intensity: Intensity = field(factory=Intensity)
    lockstep: bool = False
    # Whether the one desk is that of the dry runs.
    dry: bool = True
    consult: Consultant = unconfigured
    make_desk: Callable[[SimulatedDesk], Desk] = field(default=lambda desk: desk)
    kill_file: Path | None = None
    market: HandMarket = field(factory=HandMarket)
    activity: Activity = field(factory=Activity)
    quotes: Quotes = field(factory=Quotes)
    events: list[StoredEvent] = field(factory=list[StoredEvent])
    books: dict[bool, Book] = field(factory=lambda: {True: Book(name="paper"), False: Book(name="simulated")})
    world: World = field(factory=lambda: World(clock=TrioClock(), random=SystemRandom(seed=1)))
    journal: SqliteJournal = field(init=False)
    recorder: Recorder = field(init=False)
    conditions: Conditions = field(init=False)
    feed: Feed = field(init=False)
    roster: Roster = field(init=False)
    venue: SimulatedDesk = field(init=False)
    desk: Desk = field(init=False)
    gateway: Gateway = field(init=False)
    resolver: Resolver = field(init=False)
    auditor: Auditor = field(init=False)
    bucket: Unassigned = field(init=False)
    unsettled: frozenset[str] = frozenset()
    portfolio: Portfolio = field(init=False)
    checks: Checks = field(init=False)
    lifecycle: Lifecycle = field(init=False)
    families: Families = field(init=False)
    bindings: Bindings = field(init=False)
    nursery: trio.Nursery = field(init=False)

    async def build(self) -> None:
        clock, guard = self.world.clock, Guard(self.world.clock)
        self.journal = open_journal(self.folder)
        self.recorder = Recorder(self.journal, self.events.extend, clock, self.activity, threaded=False)
        self.conditions = Conditions(self.world, self.recorder, self.folder / WORD)
        await self.conditions.load()
        self.feed = Feed(self.market, self.quotes, self.recorder, guard, clock, self.activity, stale_after_s=0)
        await self.feed.prepare()
        self.feed.gate.set()
        self.roster = Roster(
            world=self.world,
            writer=self.recorder,
            keeper=self.feed,
            catalogue=Catalogue(templates=self.templates),
            quotes=self.quotes,
            guard=guard,
            activity=self.activity,
            books=self.books.__getitem__,
            make_actor=partial(self._actor, guard),
            intensity=self.intensity,
            overruns_max=3,
            lockstep=self.lockstep,
        )
        await self.roster.load()
        self._build_desk()
        await self.bucket.load()
        await self.auditor.load()
        self.portfolio = Portfolio(
            world=self.world,
            writer=self.recorder,
            books=self.books,
            gateways=[self.gateway],
            employed=self.roster.employed,
            configured=Caps(),
            kill_file=self.kill_file,
            conditions=self.conditions,
        )
        self.conditions.on_change = self.portfolio.heed
        self.checks = Checks(self.roster.catalogue.get, lambda: self.feed.instruments, guard)
        self.lifecycle = Lifecycle(
            world=self.world,
            writer=self.recorder,
            roster=self.roster,
            checked=self.checks.checked,
            venue_ms=lambda: self.quotes.now_ms,
            halt_session=halt,
            forget_lots=lambda _, lots: self.venue.forget_lots(lots),
        )
        self.families = Families(self.lifecycle, self.roster)
        self.bindings = Bindings(self.lifecycle, self.families, self.roster, clock, lambda _: NEIGHBOURS)

    def _build_desk(self) -> None:
        orders, positions = self.roster.working()
        self.venue = SimulatedDesk(MatchingBook(self.feed.instruments, Terms()), self.activity)
        self.venue.restore(orders, positions, self.quotes.prices, self.quotes.now_ms)
        self.feed.desks.append(self.venue)
        self.desk = self.make_desk(self.venue)
        self.bucket = Unassigned(name="paper", writer=self.recorder)
        self.gateway = Gateway(
            name="paper",
            dry=self.dry,
            desk=self.desk,
            quotes=self.quotes,
            clock=self.world.clock,
            activity=self.activity,
            inbox=self.roster.inbox,
            owner_of_order=self.roster.owner_of_order,
            owner_of_position=self.roster.owner_of_position,
            doubt=lambda order, expires_at_ms: self.resolver.doubt(order, expires_at_ms),
            reconnected=lambda: self.auditor.reconnected(),
            ended=lambda client_id: self.auditor.ended(client_id),
            stray=self.bucket.take,
        )
        self.resolver = Resolver(
            name="paper",
            desk=self.desk,
            quotes=self.quotes,
            clock=self.world.clock,
            deliver=self.gateway.delivery.hand,
            unbooked=lambda fills: self.auditor.unbooked(fills),
            agrees=lambda symbol: self.auditor.agrees(symbol),
        )
        self.auditor = Auditor(
            name="paper",
            desk=self.desk,
            quotes=self.quotes,
            clock=self.world.clock,
            writer=self.recorder,
            bucket=self.bucket,
            working=partial(self.roster.working_orders, dry=self.dry),
            lots=partial(self.roster.lots, dry=self.dry),
            carries=self.gateway.carries,
            doubts=self.resolver.doubts,
            doubt=self.resolver.doubt,
            deliver=self.gateway.delivery.hand,
            pass_on=self.gateway.pass_on,
            inbox=self.roster.inbox,
            owner_of_order=self.roster.owner_of_order,
        )
        self.unsettled = frozenset(order.client_order_id for order in orders)

    def _actor(self, guard: Guard, strategy: Strategy, load: Callable[[], Awaitable[Session]]) -> Employed:
        return StrategyActor(
            id=strategy.id,
            number=strategy.number,
            writer=self.recorder,
            guard=guard,
            clock=self.world.clock,
            activity=self.activity,
            load=load,
            carriers=lambda _: self.gateway,
            on_interest=lambda actor, symbol: self.feed.seat(actor, symbol, actor.session.strategy.in_effect.timeframe),
            on_become=self.roster.became,
            on_stray=lambda stray: self.bucket.take(stray),
            consult=lambda question, answered: self.consult(question, answered),
        )

    # Doing.

    async def draft(self, name: str = "a strategy", **fields: Any) -> Strategy:
        """Create a strategy."""
        return await self.lifecycle.create(ACCOUNT, make_definition(name=name, **fields))

    async def deploy(self, name: str = "a strategy", **fields: Any) -> Strategy:
        """Create a strategy and let it run on paper, up to what it does at once."""
        strategy = await self.draft(name, **fields)
        await self.lifecycle.deploy(None, strategy.id, capital=None, leverage=None, dry_run=self.dry)
        await self.settle()
        return self.member(strategy.id).strategy

    async def close(self, price: str = "100", symbol: str = SYMBOL) -> None:
        """Close the minute's candle and let everybody finish what follows."""
        await self.end_minute(price, symbol)
        await self.settle()

    async def end_minute(self, price: str = "100", symbol: str = SYMBOL) -> None:
        """Close the minute's candle."""
        index = (self.market.time_ms - START_MS) // MINUTE_MS
        candle = make_candle(index, price, symbol)
        await self.market.say(Closed(candle.close_time_ms, (candle,)))

    async def trade(self, price: str = "100", symbol: str = SYMBOL, quantity: str = "1000") -> None:
        """Let the market trade a moment later, which is when orders are filled."""
        await self.market.say(MarketTrade(symbol, self.market.time_ms + 1_000, Decimal(price), Decimal(quantity)))
        await self.settle()

    async def settle(self) -> None:
        """Wait until nothing is under way, whatever time restarts take."""
        await wait_all_tasks_blocked()
        with trio.fail_after(SETTLED_S_MAX):
            while self.activity.count:
                await self.activity.idle()
                await wait_all_tasks_blocked()

    # What there is to see.

    def member(self, strategy_id: str) -> Member:
        return self.roster.members[strategy_id]

    def actor(self, strategy_id: str) -> StrategyActor:
        actor = self.member(strategy_id).actor
        assert isinstance(actor, StrategyActor)
        return actor

    def session(self, strategy_id: str) -> Session:
        actor = self.actor(strategy_id)
        assert actor.loaded
        return actor.session

    def desk_orders(self) -> list[str]:
        """Return the client ids of what works at the desk."""
        return [working.order.client_order_id for working in self.venue.book.orders()]

    def lots(self, strategy_id: str) -> list[Position]:
        return list(self.session(strategy_id).positions.values())

    def orders(self, strategy_id: str) -> list[Order]:
        return list(self.session(strategy_id).orders.values())

    def stored(self, entity: str, type: Any, **narrowed: Any) -> list[Any]:
        """Return what the journal holds of an entity."""
        return [msgspec.json.decode(row.data, type=type) for row in self.journal.rows(entity, **narrowed)]

    def frames(self, strategy_id: str, name: str) -> list[Any]:
        """Return a strategy's events of one name so far."""
        frames = [msgspec.json.decode(event.frame) for event in self.events if event.strategy_id == strategy_id]
        return [frame for frame in frames if frame["event"] == name]

    def told(self, strategy_id: str) -> list[str]:
        """Return the names of a strategy's events so far."""
        mine = [event for event in self.events if event.strategy_id == strategy_id]
        return [msgspec.json.decode(event.frame)["event"] for event in mine]


@asynccontextmanager
async def at_home(
    folder: Path, template: type[Template] | Sequence[type[Template]], **parts: Any
) -> AsyncGenerator[Home]:
    """Run a home over the journal in a folder; in the end nothing may be left under way."""
    known = [template] if isinstance(template, type) else template
    home = Home(folder, {each.id: each for each in known}, **parts)
    await home.build()
    try:
        async with trio.open_nursery() as nursery:
            home.nursery = nursery
            await nursery.start(home.recorder.run)
            async with trio.open_nursery() as inner:
                home.nursery = inner
                await inner.start(home.roster.run)
                await inner.start(home.gateway.run)
                await inner.start(home.feed.run)
                await home.portfolio.load()
                yield home
                await home.settle()
                assert home.activity.count == 0
                inner.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
        assert home.activity.count == 0
    finally:
        home.journal.close()
