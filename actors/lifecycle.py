"""Lifecycle commands: each checks, makes durable and only then answers; one transition at a time per strategy."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from decimal import Decimal
from functools import partial
from typing import Any, Final, Protocol

import msgspec
import trio
from attrs import define, field

from actors.actor import (
    Employed,
    Writer,
)
from actors.errands import (
    CANCEL_DEADLINE_S,
    CLOSE_DEADLINE_S,
    close_positions_of,
    end_orders_of,
    ended_in,
    triggered,
)
from pipaid.engine.announcing import created, deleted, updated
from pipaid.engine.claim import Claim
from pipaid.engine.deploying import deployed, deployed_event, run_of
from pipaid.engine.effects import Brain, Effects, encode, name_record, remains_of, strategy_record
from pipaid.engine.session import Session
from pipaid.engine.telling import summary
from pipaid.engine.template import Template
from pipaid.errors import ExchangeError, InvalidState, Unavailable
from pipaid.model.account import OWNER
from pipaid.model.event import EventData, EventDraft, Paused, Stopped
from pipaid.model.ident import random_id, strategy_id
from pipaid.model.position import CloseReason
from pipaid.model.record import Batch, Kind, Record
from pipaid.model.strategy import Action, Binding, Status, Strategy, StrategyDefinition, Tally, Terms, advance
from pipaid.seams import World
from pipaid.storage.store import Reader
from pipaid.wire.together import together

# Longer than the longest back-off.
UP_DEADLINE_S: Final = 45.0
STRATEGIES_MAX: Final = 100_000


class Membership(Protocol):
    """One strategy as its commands see it."""

    strategy: Strategy
    bindings: tuple[Binding, ...]
    actor: Employed | None
    abandoned: int

    def figures(self) -> tuple[Tally, int, Decimal]:
        """Return its tally, the number of its open positions and their unrealised profit."""
        ...


class Checking(Protocol):
    """What checks definitions, as the commands see it."""

    def __call__(
        self, definition: StrategyDefinition, /, *, capital: Decimal | None = None, leverage: int | None = None
    ) -> type[Template]:
        """Return the template of what may be stored; refuse what may not."""
        ...


class Membering(Protocol):
    """The roster as its commands see it."""

    number: int
    names: dict[tuple[str, str], str]
    coming: dict[str, str]

    @property
    def members(self) -> Mapping[str, Membership]:
        """Return all members by id."""
        ...

    def member(self, account: str | None, strategy_id: str) -> Membership:
        """Return one that belongs to the account."""
        ...

    def transition(self, member: Any, action: Action) -> AbstractContextManager[None]:
        """Let one action at a time through."""
        ...

    def enlist(self, strategy: Strategy) -> Membership:
        """Add a strategy that has just become durable."""
        ...

    def strike(self, member: Any) -> None:
        """Remove a strategy whose deletion is durable."""
        ...

    def halted(self, strategy: Strategy, code: str, message: str) -> Strategy:
        """Return a strategy in `error`."""
        ...

    async def dismiss(self, member: Any) -> None:
        """Stop a member's actor."""
        ...

    async def reload(self, member: Any, on_load: Callable[[Session], Effects | None] | None = None) -> None:
        """Have a member start anew from the journal."""
        ...


@define(eq=False)
class Lifecycle:
    """Carry out create, update, deploy, pause, stop, reset, delete, trigger and halt."""

    world: World
    writer: Writer
    roster: Membering
    checked: Checking
    venue_ms: Callable[[], int]
    halt_session: Callable[[Session, Strategy], Effects]
    forget_lots: Callable[[bool, list[str]], None]
    short: Callable[[], bool] = bool
    permit: Callable[[str, bool], None] = field(default=lambda account, dry_run: None)
    able: Callable[[StrategyDefinition, type[Template]], None] = field(default=lambda definition, template: None)
    closed: str = ""

    def admit(self, *, roomy: bool = False) -> None:
        """Refuse what could lead to entries while the daemon takes none, and what takes memory while it is short."""
        if self.closed:
            raise Unavailable(f"the daemon is {self.closed}; no strategy can be changed now")
        if roomy and self.short():
            raise Unavailable("the daemon holds more memory than it should; nobody new comes until that is over")

    async def create(
        self, account: str | None, definition: StrategyDefinition, *, source: str = "", user: str = ""
    ) -> Strategy:
        """Store a draft; whoever speaks for no account in particular creates it for the owner."""
        with self.drafted(account or OWNER, definition) as (draft, claim):
            strategy = msgspec.structs.replace(draft, source=source, user=user)
            await self.enlist(strategy, claim, Batch(records=[], events=[created(strategy)]))
        return strategy

    @contextmanager
    def drafted(self, account: str, definition: StrategyDefinition) -> Generator[tuple[Strategy, Claim]]:
        """Check a definition and yield the draft of it, whose name is taken meanwhile."""
        self.admit(roomy=True)
        self.checked(definition)
        if len(self.roster.members) >= STRATEGIES_MAX:
            raise Unavailable(f"this daemon holds {STRATEGIES_MAX} strategies and takes no more")
        with Claim(self.roster.names, account, definition.name) as claim:
            fresh = strategy_id(self.world.ids.entropy(4))
            while fresh in self.roster.members:
                fresh = strategy_id(self.world.ids.entropy(4))
            self.roster.number += 1
            now_us = self.world.clock.now_us()
            draft = Strategy(
                id=fresh,
                number=self.roster.number,
                account=account,
                definition=definition,
                status=Status.DRAFT,
                created_at_us=now_us,
                updated_at_us=now_us,
            )
            yield draft, claim

    async def enlist(self, strategy: Strategy, claim: Claim, batch: Batch) -> Membership:
        """Make a new strategy durable, in one batch with what goes with it."""
        name = name_record(strategy.account, strategy.definition.name, Kind.ADD, strategy.id)
        self.roster.coming[strategy.id] = strategy.account
        try:
            await self.commit(Batch(records=[name, strategy_record(strategy), *batch.records], events=batch.events))
            claim.keep(strategy.id)
            return self.roster.enlist(strategy)
        finally:
            del self.roster.coming[strategy.id]

    async def update(self, account: str | None, id: str, changes: Mapping[str, Any]) -> Strategy:
        """Change a draft or paused strategy; absent fields stay, params and symbols are replaced as a whole."""
        member = self.roster.member(account, id)
        with self.roster.transition(member, Action.UPDATE):
            definition = msgspec.structs.replace(member.strategy.definition, **changes)
            if definition != member.strategy.definition:
                await self.redefine([(member, definition)], Batch())
            return member.strategy

    async def redefine(self, wanted: Sequence[tuple[Membership, StrategyDefinition]], batch: Batch) -> None:
        """Change definitions, all in one batch with what goes with them; new names are taken meanwhile."""
        self.admit()
        for member, _ in wanted:
            await self._up(member)
        changed: list[tuple[Membership, Strategy]] = []
        batch = Batch(records=[*batch.records], events=[*batch.events])
        with ExitStack() as claims:
            renamed: list[tuple[Claim, Strategy]] = []
            for member, definition in wanted:
                self.checked(definition)
                self._check_held(member, definition)
                before, now_us = member.strategy, self.world.clock.now_us()
                after = msgspec.structs.replace(before, definition=definition, updated_at_us=now_us)
                changed.append((member, after))
                batch.events.append(updated(after, member.figures(), member.bindings))
                if definition.name != before.definition.name:
                    claim = claims.enter_context(Claim(self.roster.names, before.account, definition.name))
                    renamed.append((claim, before))
                    batch.records.append(name_record(before.account, before.definition.name, Kind.DROP))
                    batch.records.append(name_record(before.account, definition.name, Kind.ADD, before.id))
            await self._replace(changed, batch)
            for claim, before in renamed:
                claim.keep(before.id)
                self.roster.names.pop((before.account, before.definition.name), None)

    async def deploy(
        self, account: str | None, id: str, *, capital: Decimal | None, leverage: int | None, dry_run: bool
    ) -> Strategy:
        """Start a run; capital and leverage given here are of this run only."""
        member = self.roster.member(account, id)
        with self.roster.transition(member, Action.DEPLOY):
            await self.start([(member, Terms(dry_run=dry_run, capital=capital, leverage=leverage))])
            return member.strategy

    async def start(self, wanted: Sequence[tuple[Membership, Terms]]) -> None:
        """Start runs, all in one batch, once it is sure of each that it may run."""
        await self.begin(wanted, Batch())
        await together(*(partial(self.roster.reload, member) for member, _ in wanted))

    async def begin(self, wanted: Sequence[tuple[Membership, Terms]], batch: Batch) -> None:
        """Make runs durable in one batch with what goes with them; whoever runs has to be reloaded then."""
        self.admit(roomy=True)
        started: list[tuple[Membership, Strategy]] = []
        batch = Batch(records=[*batch.records], events=[*batch.events])
        known: list[tuple[Membership, Strategy]] = []
        for member, terms in wanted:
            await self._up(member)
            known.append((member, member.strategy))
            after, event = self.started(member.strategy, terms)
            self._check_held(member, member.strategy.definition)
            await self._check_mode(member, terms)
            started.append((member, after))
            batch.events.append(event)
        for member, before in known:
            if member.strategy is not before:
                # It was given up while others were looked at, and that must not be written over.
                raise InvalidState(f"{before.id} is {member.strategy.status} by now; look at it and try again")
        await self._replace(started, batch)

    def started(self, before: Strategy, terms: Terms) -> tuple[Strategy, EventDraft]:
        """Return a strategy as it is once it runs, and the event that tells of it; refuse what may not run."""
        self.permit(before.account, terms.dry_run)
        run = run_of(before, terms, id=random_id("run", self.world.ids.entropy(6)), now_ms=self.venue_ms())
        template = self.checked(before.definition, capital=run.capital, leverage=run.leverage)
        self.able(before.definition, template)
        after = deployed(before, run, template_version=template.version, now_us=self.world.clock.now_us())
        return after, self._told(after, deployed_event(after))

    async def pause(self, account: str | None, id: str, *, close_positions: bool) -> Strategy:
        """Open nothing new; with `close_positions` close everything first, and say so if the venue does not confirm."""
        member = self.roster.member(account, id)
        with self.roster.transition(member, Action.PAUSE):
            closed = True
            if close_positions:
                closed = await close_positions_of(_actor(member), CloseReason.PAUSE_CLOSE, "pausing")

            def become_paused(session: Session) -> Effects:
                after = self._after(session.strategy, Action.PAUSE)
                effects = session.become(after, withdraw_entries="pause")
                effects.event(
                    Paused(
                        status=after.status.value,
                        close_positions=close_positions,
                        open_positions=len(session.positions),
                    )
                )
                return effects

            await _actor(member).perform(become_paused)
            if not closed:
                raise ExchangeError(
                    f"the venue did not confirm every close within {CLOSE_DEADLINE_S:.0f} s; the strategy is paused "
                    "and the closing orders stay in force"
                )
            return member.strategy

    async def stop(self, account: str | None, id: str, *, close_positions: bool) -> Strategy:
        """End a strategy for good, once none of its orders can be filled; what it still holds is no longer managed."""
        member = self.roster.member(account, id)
        with self.roster.transition(member, Action.STOP):
            if close_positions and not await close_positions_of(_actor(member), CloseReason.STOP_CLOSE, "stopping"):
                await self._keep_on(member)
                raise ExchangeError(
                    f"the venue did not confirm every close within {CLOSE_DEADLINE_S:.0f} s; the strategy is "
                    f"{member.strategy.status}, not stopped, and the closing orders stay in force; stop it again later"
                )
            if not await end_orders_of(_actor(member)):
                await self._keep_on(member)
                raise ExchangeError(
                    f"the venue did not confirm the end of every order within {CANCEL_DEADLINE_S:.0f} s; the strategy "
                    f"is {member.strategy.status}, not stopped, and enters nothing; stop it again later"
                )
            left: list[str] = []

            def become_stopped(session: Session) -> Effects:
                left.extend(session.positions)
                after = self._after(session.strategy, Action.STOP, ended=True)
                effects = session.become(after)
                effects.event(
                    Stopped(
                        status=after.status.value,
                        open_positions=tuple(summary(position) for position in session.positions.values()),
                    )
                )
                return effects

            await _actor(member).perform(become_stopped)
            await self.roster.dismiss(member)
            # Nobody looks after them any more, so they must not count in the comparison with the venue either.
            self.forget_lots(_dry(member), left)
            return member.strategy

    async def reset(self, account: str | None, id: str) -> Strategy:
        """Bring a strategy back from `error` to paused, once its definition holds again."""
        self.admit()
        member = self.roster.member(account, id)
        with self.roster.transition(member, Action.RESET):
            self.checked(member.strategy.in_effect)
            after = msgspec.structs.replace(self._after(member.strategy, Action.RESET), fault=None)
            event = Paused(status=after.status.value, close_positions=False, open_positions=_held(member))
            await self._replace([(member, after)], Batch(records=[], events=[self._told(after, event)]))
            await self.roster.reload(member)
            return member.strategy

    async def delete(self, account: str | None, id: str) -> None:
        """Delete what is not deployed; open live positions forbid it, paper ones are dropped."""
        member = self.roster.member(account, id)
        with self.roster.transition(member, Action.DELETE):
            await self.remove(member, Batch())

    async def remove(self, member: Membership, batch: Batch) -> None:
        """End a strategy's orders and delete it, in one batch with what goes with it."""
        await self._up(member)
        self.check_removable(member)
        if member.actor is not None:
            if not await end_orders_of(member.actor):
                await self._keep_on(member)
                raise InvalidState("the venue has not confirmed the end of its orders yet; try it again later")
            if not _dry(member) and _held(member):
                # An entry was filled before its withdrawal reached the venue.
                await self._keep_on(member)
                self.check_removable(member)
            await self.roster.dismiss(member)
        key, dry = member.strategy.id, _dry(member)
        rows, brain = await self.writer.read(partial(_left_of, id=key))
        before, now_us = member.strategy, self.world.clock.now_us()
        after = msgspec.structs.replace(before, deleted_at_ms=now_us // 1000, updated_at_us=now_us)
        records = [strategy_record(after), name_record(before.account, before.definition.name, Kind.DROP)]
        if brain is not None:
            records.append(Record("brain", key, Kind.PUT, encode(remains_of(brain)), key))
        if dry:
            records.extend(Record("position", row, Kind.DROP) for row in rows)
        events = [deleted(after, member.figures()), *batch.events]
        await self.commit(Batch(records=[*records, *batch.records], events=events))
        if dry:
            self.forget_lots(True, rows)
        self.roster.strike(member)

    def check_removable(self, member: Membership) -> None:
        """Refuse to delete what is in charge of live positions."""
        if not _dry(member) and _held(member) and member.strategy.status is not Status.STOPPED:
            where = f"{_held(member)} live positions are open on {member.strategy.account}"
            raise InvalidState(f"{where}; close them before deleting what looks after them")

    async def trigger(self, account: str | None, id: str) -> list[str]:
        """Evaluate a deployed strategy on the last closed candles now; return the ids of the evaluations."""
        self.admit()
        member = self.roster.member(account, id)
        with self.roster.transition(member, Action.TRIGGER):
            return await triggered(_actor(member))

    async def halt(self, account: str | None, id: str, *, code: str, message: str) -> Strategy:
        """Put a strategy into `error` as the engine would."""
        member = self.roster.member(account, id)
        with self.roster.transition(member, Action.HALT):
            after = self.roster.halted(member.strategy, code, message)
            await _actor(member).perform(lambda session: self.halt_session(session, after))
            await self.roster.reload(member)
            return member.strategy

    # What they share.

    def _check_held(self, member: Membership, definition: StrategyDefinition) -> None:
        session = member.actor.session if member.actor is not None and member.actor.loaded else None
        if session is None or not session.positions:
            return
        before = member.strategy.in_effect
        if definition.template_id != before.template_id:
            raise InvalidState("the template cannot change while positions are open; close them first")
        lost = {position.symbol for position in session.positions.values()} - set(definition.symbols)
        if lost:
            raise InvalidState(f"{', '.join(sorted(lost))} cannot be removed while positions are open there")

    async def _check_mode(self, member: Membership, terms: Terms) -> None:
        """Refuse to change between dry and live over what is open, or may be yet; what is being withdrawn may end."""
        before, actor = member.strategy.run, member.actor
        if before is None or before.dry_run == terms.dry_run:
            return
        if not _held(member) and (actor is None or await ended_in(actor, before.dry_run)) and not _held(member):
            return
        what = (
            "positions of the other mode are open" if _held(member) else "orders of the other mode may still be filled"
        )
        was, flag = ("a dry run", "--dry-run") if before.dry_run else ("on its account", "--no-dry-run")
        way = f"or go on as it was: `pipaid deploy {member.strategy.id} {flag}`"
        raise InvalidState(f"{what}: it was {was}; close them before changing that, {way}")

    def _after(self, strategy: Strategy, action: Action, *, ended: bool = False) -> Strategy:
        run = strategy.run
        if ended and run is not None:
            run = msgspec.structs.replace(run, ended_at_ms=self.venue_ms())
        return msgspec.structs.replace(
            strategy,
            status=advance(strategy.status, action),
            run=run,
            updated_at_us=self.world.clock.now_us(),
        )

    def _told(self, strategy: Strategy, data: EventData) -> EventDraft:
        run = strategy.run
        return EventDraft(
            strategy_id=strategy.id,
            data=data,
            at_ms=self.venue_ms(),
            run_id=run.id if run is not None else None,
            dry_run=run.dry_run if run is not None else None,
        )

    async def _replace(self, changed: Sequence[tuple[Membership, Strategy]], batch: Batch) -> None:
        records = [strategy_record(after) for _, after in changed]
        await self.commit(Batch(records=[*records, *batch.records], events=batch.events))
        for member, after in changed:
            member.strategy = after
            if member.actor is not None and member.actor.known:
                # What the session writes next must not bring the old record back.
                member.actor.session.strategy = after

    async def commit(self, batch: Batch) -> None:
        """Make a batch durable, even if whoever asked is cut off: memory must not fall behind."""
        with trio.CancelScope(shield=True):
            await self.writer.commit(batch)

    async def _up(self, member: Membership) -> None:
        """Wait for a strategy that is being restarted: what it holds decides what may be done to it."""
        if member.actor is None:
            return
        with trio.move_on_after(UP_DEADLINE_S):
            await member.actor.up()
            return
        raise Unavailable("the strategy is being restarted after a failure; try again")

    async def _keep_on(self, member: Membership) -> None:
        """Let a strategy that could not be ended look after what it holds, and enter nothing."""

        def become(session: Session) -> Effects:
            before = session.strategy
            pauses = before.status is Status.DEPLOYED
            after = self._after(before, Action.PAUSE) if pauses else before
            effects, held = session.become(after, withdraw_entries="engine", guard=True), len(session.positions)
            if pauses:
                effects.event(Paused(status=after.status.value, close_positions=False, open_positions=held))
            return effects

        await _actor(member).perform(become)


def _actor(member: Membership) -> Employed:
    assert member.actor is not None, "a running strategy has an actor"
    return member.actor


def _dry(member: Membership) -> bool:
    run = member.strategy.run
    return run is None or run.dry_run


def _left_of(reader: Reader, *, id: str) -> tuple[list[str], Brain | None]:
    brain = reader.get("brain", id)
    lots = [row.key for row in reader.rows("position", owner=id, state="open")]
    return lots, None if brain is None else msgspec.json.decode(brain.data, type=Brain)


def _held(member: Membership) -> int:
    actor = member.actor
    return len(actor.session.positions) if actor is not None and actor.known else member.abandoned
