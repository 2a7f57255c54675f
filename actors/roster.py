"""The roster keeps every strategy, employs an actor for each that runs, and mends or gives up those that fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from typing import Final, Protocol

import msgspec
import structlog
import trio
from attrs import define, field

from actors.actor import (
    Employed,
    Failures,
    Guard,
    Intensity,
    Phase,
    Swept,
    Writer,
    forget_frames,
    told_cause,
    without_cancelled,
)
from pipaid.engine.assembly import Inert, Memory, Surroundings, assemble, larger_timeframes
from pipaid.engine.effects import Effects
from pipaid.engine.following import trades_itself
from pipaid.engine.quotes import Quotes
from pipaid.engine.risk import Book
from pipaid.engine.session import Session
from pipaid.engine.template import Template
from pipaid.errors import ExchangeError, InvalidState, InvariantBroken, NotFound, PipaidError, Unavailable
from pipaid.model.consult import Tariff
from pipaid.model.event import Halted, Resumed
from pipaid.model.ident import mark_of, owner_mark
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.model.money import ZERO
from pipaid.model.order import Order
from pipaid.model.position import Position
from pipaid.model.record import Batch
from pipaid.model.run import RUNS_KEPT
from pipaid.model.strategy import EMPLOYED, Action, Binding, Fault, Status, Strategy, Tally, advance
from pipaid.plugins import Catalogue
from pipaid.seams import World
from pipaid.signals.series import Feature, Series
from pipaid.storage.memories import bindings_of, everything, memory_of
from pipaid.storage.store import JournalRefused
from pipaid.wire.activity import Activity

log = structlog.get_logger()
UP_DEADLINE_S: Final = 60.0
# Nobody's definition is wrong when these are raised: starting anew may well help.
OUTAGES: Final = (ExchangeError, JournalRefused, Unavailable)


class SeriesKeeper(Protocol):
    """The feed as the roster sees it."""

    instruments: Mapping[str, Instrument]

    async def series(self, symbol: str, timeframe: Timeframe) -> Series:
        """Return a shared series with its history."""
        ...

    def seat(self, actor: Swept, symbol: str, timeframe: Timeframe) -> None:
        """Bring an actor's place in line with its interest."""
        ...

    def unseat(self, actor_id: str) -> None:
        """Take all of an actor's places away."""
        ...


@define(eq=False)
class Member:
    """One strategy, with its actor while it has one.

    `transit` names the action under way, `counted` is its share of the capital that a book's breaker goes by.
    """

    strategy: Strategy
    failures: Failures
    bindings: tuple[Binding, ...] = ()
    actor: Employed | None = None
    transit: str = ""
    tally: Tally = field(factory=Tally)
    abandoned: int = 0
    counted: tuple[bool, Decimal] | None = None
    overruns: int = 0
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    gone: trio.Event | None = None
    retained: list[tuple[Series, Feature]] = field(factory=list[tuple[Series, Feature]])

    @property
    def session(self) -> Session | None:
        """Return the session while it may be looked at."""
        return self.actor.session if self.actor is not None and self.actor.loaded else None

    @property
    def known(self) -> Session | None:
        """Return the session as far as is known: that of an actor which is being mended dates from its crash."""
        return self.actor.session if self.actor is not None and self.actor.known else None

    @property
    def trades(self) -> bool:
        """Tell whether it trades itself: what is bound to other accounts alone leaves that to those who follow it."""
        return trades_itself(self.strategy, self.bindings)

    @property
    def restarts(self) -> int:
        """Return how many failures the current period has."""
        return self.failures.recent

    def figures(self) -> tuple[Tally, int, Decimal]:
        """Return the durable tally and number of open positions, and their unrealised profit at the last prices."""
        session = self.known
        if session is None:
            return self.tally, self.abandoned, ZERO
        assert self.actor is not None
        return *self.actor.shown, session.unrealised()


@define(eq=False)
class Roster:
    """Hold all members by id; `lockstep` leaves out back-off, because a market that waits for us must not wait long."""

    world: World
    writer: Writer
    keeper: SeriesKeeper
    catalogue: Catalogue
    quotes: Quotes
    guard: Guard
    activity: Activity
    books: Callable[[bool], Book]
    make_actor: Callable[[Strategy, Callable[[], Awaitable[Session]]], Employed]
    intensity: Intensity
    overruns_max: int
    lockstep: bool
    runs_kept: int = RUNS_KEPT
    tariffs: Mapping[tuple[str, str], Tariff] = field(factory=dict[tuple[str, str], Tariff])
    members: dict[str, Member] = field(factory=dict[str, Member])
    names: dict[tuple[str, str], str] = field(factory=dict[tuple[str, str], str])
    marks: dict[str, str] = field(factory=dict[str, str])
    # The accounts of those that become durable just now: their first events are told before they are members.
    coming: dict[str, str] = field(factory=dict[str, str])
    number: int = 0
    ready: trio.Event = field(factory=trio.Event)
    _gone: dict[str, list[str]] = field(factory=dict[str, list[str]])
    _memories: dict[str, Memory] = field(factory=dict[str, Memory])
    _nursery: trio.Nursery | None = None

    async def load(self) -> None:
        """Read every strategy from the journal, with the memories of those that run."""
        strategies, self._memories = await self.writer.read(everything)
        bindings = await self.writer.read(bindings_of)
        for strategy, tally, open_positions in strategies:
            self.number = max(self.number, strategy.number)
            self.marks[owner_mark(strategy.account, strategy.id)] = strategy.id
            if strategy.deleted_at_ms:
                self._note_gone(strategy)
                continue
            bound = bindings.get(strategy.id, ())
            member = Member(strategy, Failures(self.intensity), bound, tally=tally, abandoned=open_positions)
            self.members[strategy.id] = member
            self.names[strategy.account, strategy.definition.name] = strategy.id

    def working(self) -> tuple[list[Order], list[Position]]:
        """Return the working orders and open positions just read, for the desks and gateways to be restored from."""
        orders = [order for memory in self._memories.values() for order in memory.orders]
        positions = [position for memory in self._memories.values() for position in memory.positions]
        return orders, positions

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Employ whoever was running, say so, and keep them all until cancelled.

        After a failure of the roster itself the actors go on with the mailboxes they had.
        """
        if self.ready.is_set():
            # Whatever the life before this one decided has to be durable before it is read.
            await self.writer.commit(Batch())
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for member in sorted(self.members.values(), key=lambda m: m.strategy.number):
                if member.strategy.status in EMPLOYED:
                    self.employ(member, on_load=_resumed)
                    # Before any session counts its losses, which must not be held against the first one's capital.
                    self._count_capital(member)
            with trio.move_on_after(UP_DEADLINE_S) as patience:
                for member in self.members.values():
                    if member.actor is not None:
                        await member.actor.up()
            if patience.cancelled_caught:
                late = [m.strategy.id for m in self.members.values() if m.actor is not None and not m.actor.loaded]
                log.error("strategies.late", strategies=late)
            self._memories.clear()
            self.ready.set()
            task_status.started()
            await trio.sleep_forever()

    # Members.

    def member(self, account: str | None, strategy_id: str) -> Member:
        """Return a member that is there for the account, if one is given; the two refusals look the same.

        What follows another strategy is there for that one's account as well.
        """
        member = self.members.get(strategy_id)
        if member is None or account not in (None, member.strategy.account, self.owner_of(member.strategy.follows)):
            raise NotFound(f"there is no strategy {strategy_id!r:.60}")
        return member

    def family(self, strategy_id: str) -> tuple[str, ...]:
        """Return a strategy and those that follow it."""
        member = self.members.get(strategy_id)
        followers = (each.strategy_id for each in member.bindings) if member is not None else ()
        return tuple(dict.fromkeys((strategy_id, *followers)))

    def lineage(self, strategy_id: str) -> tuple[str, ...]:
        """Return a strategy and all that ever followed it, those that are gone as well."""
        return self.family(strategy_id) + tuple(self._gone.get(strategy_id, ()))

    def named(self, account: str, name: str) -> Strategy | None:
        """Return an account's strategy by name."""
        member = self.members.get(self.names.get((account, name), ""))
        return member.strategy if member is not None else None

    def inbox(self, strategy_id: str) -> Employed | None:
        """Return a strategy's actor, if it has one."""
        member = self.members.get(strategy_id)
        return member.actor if member is not None else None

    def owner_of(self, strategy_id: str) -> str | None:
        """Return the account that owns a strategy."""
        member = self.members.get(strategy_id)
        return member.strategy.account if member is not None else self.coming.get(strategy_id)

    def strategies_of(self, account: str | None) -> list[str]:
        """Return the strategies of an account, or of all."""
        found = [key for key, member in self.members.items() if account in (None, member.strategy.account)]
        return found + [key for key, owner in self.coming.items() if account in (None, owner)]

    def employed(self) -> list[Employed]:
        """Return every actor there is."""
        return [member.actor for member in self.members.values() if member.actor is not None]

    def owner_of_order(self, client_id: str) -> str | None:
        """Return whose order this is by the mark it bears, whether or not it works or its owner still exists."""
        return self.marks.get(mark_of(client_id))

    def owner_of_position(self, position_id: str) -> str | None:
        """Return whose open position this is."""
        for member in self.members.values():
            if member.actor is not None and member.actor.holds(position_id):
                return member.strategy.id
        return None

    def working_orders(self, *, dry: bool) -> list[Order]:
        """Return the working orders of all who run now, on paper or not."""
        sessions = [member.session for member in self.members.values()]
        return [
            order
            for session in sessions
            if session is not None
            for order in session.orders.values()
            if order.dry_run is dry
        ]

    def lots(self, *, dry: bool) -> list[Position]:
        """Return the open lots of all who run now, on paper or not."""
        sessions = [member.known for member in self.members.values()]
        lots = (lot for session in sessions if session is not None for lot in session.positions.values())
        return [lot for lot in lots if lot.dry_run is dry]

    def became(self, strategy: Strategy) -> None:
        """Take note of a strategy's record as soon as it is durable."""
        member = self.members.get(strategy.id)
        if member is not None:
            member.strategy = strategy

    @contextmanager
    def transition(self, member: Member, action: Action) -> Generator[None]:
        """Let one action at a time through, and only if the lifecycle holds it; the losers are told which one won."""
        if member.transit:
            raise InvalidState(f"cannot {action} a strategy while its {member.transit} is under way; wait for it")
        advance(member.strategy.status, action)
        member.transit = action.value
        try:
            yield
        finally:
            member.transit = ""
            self._count_capital(member)

    def enlist(self, strategy: Strategy) -> Member:
        """Add a strategy that has just become durable."""
        member = self.members[strategy.id] = Member(strategy, Failures(self.intensity))
        self.marks[owner_mark(strategy.account, strategy.id)] = strategy.id
        return member

    def strike(self, member: Member) -> None:
        """Remove a strategy whose deletion is durable; its name is free again."""
        del self.members[member.strategy.id]
        del self.names[member.strategy.account, member.strategy.definition.name]
        self._note_gone(member.strategy)

    def _note_gone(self, strategy: Strategy) -> None:
        if strategy.follows:
            self._gone.setdefault(strategy.follows, []).append(strategy.id)

    # Employment.

    def employ(self, member: Member, on_load: Callable[[Session], Effects | None] | None = None) -> Employed:
        """Give a member an actor and start it under supervision."""
        if self._nursery is None:
            raise Unavailable("the daemon is not ready to run strategies yet; try again")
        actor = member.actor or self.make_actor(member.strategy, lambda: self._session(member))
        actor.on_load = actor.on_load or on_load
        actor.loaded = False
        member.actor = actor
        member.gone = trio.Event()
        member.scope = trio.CancelScope()
        self._nursery.start_soon(self._supervise, member, actor, name=f"strategy/{member.strategy.id}")
        return actor

    async def dismiss(self, member: Member) -> None:
        """Stop a member's actor; what it held stays as the journal has it."""
        if member.actor is None or member.gone is None:
            return
        member.tally, member.abandoned, _ = member.figures()
        member.scope.cancel()
        await member.gone.wait()
        member.actor.retire()
        self._unseat(member)
        self.books(_dry(member.strategy)).forget(member.strategy.id)
        member.actor = None
        self._count_capital(member)

    async def reload(self, member: Member, on_load: Callable[[Session], Effects | None] | None = None) -> None:
        """Have a member start anew from the journal, as after a restart, and return once it is up."""
        member.failures.forgive()
        member.overruns = 0
        actor = member.actor
        if actor is None:
            await self.employ(member, on_load).up()
            return
        self.keeper.unseat(member.strategy.id)
        actor.on_load = on_load
        await actor.reload()

    def _count_capital(self, member: Member) -> None:
        """Keep the capital of the books in step with who may win or lose, which a paused one may as well."""
        run = member.strategy.run
        trading = member.actor is not None and member.strategy.status in EMPLOYED and member.trades
        if member.counted is not None:
            self.books(member.counted[0]).capital -= member.counted[1]
        member.counted = (run.dry_run, run.capital) if trading and run is not None else None
        if member.counted is not None:
            self.books(member.counted[0]).capital += member.counted[1]

    def _unseat(self, member: Member) -> None:
        self.keeper.unseat(member.strategy.id)
        for series, feature in member.retained:
            series.release(feature)
        member.retained = []

    async def _session(self, member: Member) -> Session:
        strategy = member.strategy
        definition = strategy.in_effect
        series: dict[str, Series] = {}
        template: type[Template] = Inert
        if strategy.status is Status.ERROR or not member.trades:
            # Its template or a symbol may be gone, and what it holds is looked after all the same.
            series = {symbol: Series(symbol, definition.timeframe) for symbol in definition.symbols}
        else:
            template = self.catalogue.get(definition.template_id)
            read = self.guard.run_as(Phase.LOADING, strategy.number, larger_timeframes, definition, template)
            for symbol in definition.symbols:
                series[symbol] = await self.keeper.series(symbol, definition.timeframe)
                for timeframe in read:
                    await self.keeper.series(symbol, timeframe)
        memory = self._memories.pop(strategy.id, None)
        if memory is None:
            memory = await self.writer.read(lambda reader: memory_of(reader, strategy.id))
        book = self.books(_dry(strategy))
        self._count_capital(member)
        around = Surroundings(
            instruments=self.keeper.instruments,
            series=series,
            quotes=self.quotes,
            book=book,
            runs_kept=self.runs_kept,
            tariffs=self.tariffs,
        )
        session = self.guard.run_as(Phase.LOADING, strategy.number, assemble, strategy, template, memory, around)
        retained = [(each, feature) for each in series.values() for feature in session.features]
        for each, feature in retained:
            each.retain(feature)
        for each, feature in member.retained:
            each.release(feature)
        member.retained = retained
        return session

    # Supervision.

    async def _supervise(self, member: Member, actor: Employed) -> None:
        assert member.gone is not None
        gone = member.gone
        try:
            with member.scope:
                while True:
                    await self._work(member, actor)
        finally:
            gone.set()

    async def _work(self, member: Member, actor: Employed) -> None:
        """Let an actor work until it fails, and mend it."""
        try:
            await actor.run()
        except trio.Cancelled:
            raise
        except BaseException as trouble:
            cause = without_cancelled(trouble)
            if cause is None:
                raise
            self.activity.begin()
            try:
                await self._mend(member, actor, cause)
            finally:
                self.activity.end()

    async def _mend(self, member: Member, actor: Employed, cause: BaseException) -> None:
        actor.loaded = False
        hopeless = member.strategy.status is Status.ERROR
        told = told_cause(cause)
        forget_frames(cause)
        log.error("strategy.crashed", strategy_id=actor.id, cause=told, failures=member.failures.total + 1)
        code = getattr(cause, "fault_code", "ENGINE_CRASH")
        again = member.failures.note(cause, self.world.clock.monotonic_s())
        if isinstance(cause, InvariantBroken):
            code, again = "INVARIANT_BROKEN", False
        elif code != "ENGINE_CRASH":
            member.overruns += 1
            again = again and member.overruns < self.overruns_max
        elif isinstance(cause, PipaidError) and not isinstance(cause, OUTAGES):
            # The definition no longer fits its template: no restart mends that.
            code, again = "INVALID_PARAMETER", False
        if not again:
            self._give_up(member, actor, code, told)
        if hopeless or (again and not self.lockstep):
            await self.world.clock.sleep(member.failures.backoff_s(self.world.random.uniform(0, 1)))

    def _give_up(self, member: Member, actor: Employed, code: str, told: str) -> None:
        strategy = member.strategy
        if strategy.status not in (Status.DEPLOYED, Status.PAUSED):
            return
        actor.missed.clear()
        member.strategy = self.halted(strategy, code, told)
        actor.on_load = partial(halt, strategy=member.strategy)
        log.error("strategy.halted", strategy_id=strategy.id, code=code, cause=told)

    def halted(self, strategy: Strategy, code: str, message: str) -> Strategy:
        """Return a strategy in `error`, with the cause."""
        return msgspec.structs.replace(
            strategy,
            status=advance(strategy.status, Action.HALT),
            fault=Fault(code=code, message=message, at_ms=self.quotes.now_ms),
            updated_at_us=self.world.clock.now_us(),
        )


def halt(session: Session, strategy: Strategy) -> Effects:
    """Have a session take on its halted record: entries are withdrawn, protective orders stay."""
    effects = session.become(strategy, withdraw_entries="engine")
    fault = strategy.fault
    assert fault is not None
    effects.event(
        Halted(
            status=strategy.status.value,
            code=fault.code,
            message=fault.message,
            open_positions=len(session.positions),
        )
    )
    return effects


def _resumed(session: Session) -> Effects:
    """Tell of the restart, and ask anew for each cancellation: the one before may have died on its way."""
    effects = Effects(session.strategy, session.quotes.now_ms)
    effects.event(Resumed(status=session.strategy.status.value))
    effects.cancel.extend(order for order in session.orders.values() if order.cancelling)
    return effects


def _dry(strategy: Strategy) -> bool:
    return strategy.run is None or strategy.run.dry_run
