"""Lifecycle commands: each checks, makes durable and only then answers; one transition at a time per strategy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from decimal import Decimal
from functools import partial
from typing import Any, Final, Protocol

import msgspec
import trio
from attrs import define, field

from actors.actor import (
    Employed,
    Guard,
    Phase,
    Writer,
    told_cause,
)
from actors.errands import (
    CANCEL_DEADLINE_S,
    CLOSE_DEADLINE_S,
    close_positions_of,
    end_orders_of,
    ended_in,
)
from pipaid.engine.announcing import created, deleted, updated
from pipaid.engine.claim import Claim
from pipaid.engine.definition import check_definition, definition_number
from pipaid.engine.effects import Brain, Effects, encode, name_record, remains_of, strategy_record
from pipaid.engine.session import Session
from pipaid.engine.telling import summary
from pipaid.engine.template import Template
from pipaid.errors import ExchangeError, InvalidParameter, InvalidState, PipaidError, Unavailable
from pipaid.model.account import OWNER
from pipaid.model.event import Deployed, EventData, EventDraft, Paused, Stopped
from pipaid.model.ident import random_id, strategy_id
from pipaid.model.instrument import Instrument
from pipaid.model.moment import iso_seconds
from pipaid.model.position import CloseReason
from pipaid.model.record import Batch, Kind, Record
from pipaid.model.strategy import Action, Run, Status, Strategy, StrategyDefinition, Tally, advance
from pipaid.seams import World
from pipaid.storage.store import Reader

# Longer than the longest back-off.
UP_DEADLINE_S: Final = 45.0
STRATEGIES_MAX: Final = 100_000


class Membership(Protocol):
    """One strategy as its commands see it."""

    strategy: Strategy
    actor: Employed | None
    abandoned: int

    def figures(self) -> tuple[Tally, int, Decimal]:
        """Return its tally, the number of its open positions and their unrealised profit."""
        ...


class Membering(Protocol):
    """The roster as its commands see it."""

    number: int
    names: dict[tuple[str, str], str]

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
    template: Callable[[str], type[Template]]
    instruments: Callable[[], Mapping[str, Instrument]]
    venue_ms: Callable[[], int]
    halt_session: Callable[[Session, Strategy], Effects]
    forget_lots: Callable[[bool, list[str]], None]
    guard: Guard
    stalled_checks: frozenset[int] = frozenset()
    short: Callable[[], bool] = bool
    permit: Callable[[str, bool], None] = field(default=lambda account, dry_run: None)
    closed: str = ""

    def _open(self) -> None:
        """Refuse what could lead to entries while the daemon takes none; what reduces goes on."""
        if self.closed:
            raise Unavailable(f"the daemon is {self.closed}; no strategy can be changed now")

    def _roomy(self) -> None:
        """Refuse what takes memory for good while there is too little of it."""
        if self.short():
            raise Unavailable("the daemon holds more memory than it should; nobody new comes until that is over")

    async def create(
        self, account: str | None, definition: StrategyDefinition, *, source: str = "", user: str = ""
    ) -> Strategy:
        """Store a draft; whoever speaks for no account in particular creates it for the owner."""
        self._open()
        self._roomy()
        account = account or OWNER
        self.checked(definition)
        if len(self.roster.members) >= STRATEGIES_MAX:
            raise Unavailable(f"this daemon holds {STRATEGIES_MAX} strategies and takes no more")
        with Claim(self.roster.names, account, definition.name) as claim:
            fresh = strategy_id(self.world.ids.entropy(4))
            while fresh in self.roster.members:
                fresh = strategy_id(self.world.ids.entropy(4))
            self.roster.number += 1
            now_us = self.world.clock.now_us()
            strategy = Strategy(
                id=fresh,
                number=self.roster.number,
                account=account,
                definition=definition,
                status=Status.DRAFT,
                created_at_us=now_us,
                updated_at_us=now_us,
                source=source,
                user=user,
            )
            records = [name_record(account, definition.name, Kind.ADD, fresh), strategy_record(strategy)]
            await self._commit(Batch(records=records, events=[created(strategy)]))
            claim.keep(fresh)
        self.roster.enlist(strategy)
        return strategy

    async def update(self, account: str | None, id: str, changes: Mapping[str, Any]) -> Strategy:
        """Change a draft or paused strategy; absent fields stay, params and symbols are replaced as a whole."""
        self._open()
        member = self.roster.member(account, id)
        with self.roster.transition(member, Action.UPDATE):
            await self._up(member)
            before = member.strategy
            account = before.account
            definition = msgspec.structs.replace(before.definition, **changes)
            if definition == before.definition:
                return before
            self.checked(definition)
            self._check_held(member, definition)
            after = msgspec.structs.replace(before, definition=definition, updated_at_us=self.world.clock.now_us())
            records, events = [strategy_record(after)], [updated(after, member.figures())]
            if definition.name == before.definition.name:
                await self._replace(member, after, Batch(records=records, events=events))
                return after
            with Claim(self.roster.names, account, definition.name) as claim:
                records.append(name_record(account, before.definition.name, Kind.DROP))
                records.append(name_record(account, definition.name, Kind.ADD, id))
                await self._replace(member, after, Batch(records=records, events=events))
                claim.keep(id)
            self.roster.names.pop((account, before.definition.name), None)
            return after

    async def deploy(
        self, account: str | None, id: str, *, capital: Decimal | None, leverage: int | None, dry_run: bool
    ) -> Strategy:
        """Start a run; capital and leverage given here are of this run only."""
        self._open()
        self._roomy()
        member = self.roster.member(account, id)
        with self.roster.transition(member, Action.DEPLOY):
            await self._up(member)
            before = member.strategy
            self.permit(before.account, dry_run)
            definition = before.definition
            template = self.checked(definition, capital=capital, leverage=leverage)
            self._check_held(member, definition)
            now_ms = self.venue_ms()
            run = Run(
                id=random_id("run", self.world.ids.entropy(6)),
                dry_run=dry_run,
                capital=definition.capital if capital is None else capital,
                leverage=definition.leverage if leverage is None else leverage,
                started_at_ms=now_ms,
            )
            await self._check_mode(member, run)
            after = msgspec.structs.replace(
                before,
                status=advance(before.status, Action.DEPLOY),
                run=run,
                running=definition,
                deployed_at_ms=now_ms,
                template_version=template.version,
                updated_at_us=self.world.clock.now_us(),
            )
            event = Deployed(
                status=after.status.value,
                deployed_at=iso_seconds(now_ms),
                dry_run=dry_run,
                capital=run.capital,
                leverage=run.leverage,
                template_version=template.version,
            )
            await self._replace(
                member, after, Batch(records=[strategy_record(after)], events=[self._told(after, event)])
            )
            await self.roster.reload(member)
            return member.strategy

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
            run = member.strategy.run
            # Nobody looks after them any more, so they must not count in the comparison with the venue either.
            self.forget_lots(run is None or run.dry_run, left)
            return member.strategy

    async def reset(self, account: str | None, id: str) -> Strategy:
        """Bring a strategy back from `error` to paused, once its definition holds again."""
        self._open()
        member = self.roster.member(account, id)
        with self.roster.transition(member, Action.RESET):
            self.checked(member.strategy.in_effect)
            after = msgspec.structs.replace(self._after(member.strategy, Action.RESET), fault=None)
            event = Paused(status=after.status.value, close_positions=False, open_positions=_held(member))
            await self._replace(
                member, after, Batch(records=[strategy_record(after)], events=[self._told(after, event)])
            )
            await self.roster.reload(member)
            return member.strategy

    async def delete(self, account: str | None, id: str) -> None:
        """Delete what is not deployed; open live positions forbid it, paper ones are dropped."""
        member = self.roster.member(account, id)
        with self.roster.transition(member, Action.DELETE):
            await self._up(member)
            run = member.strategy.run
            dry = run is None or run.dry_run
            if not dry and _held(member) and member.strategy.status is not Status.STOPPED:
                raise InvalidState(f"{_held(member)} live positions are open; close them before deleting the strategy")
            if member.actor is not None:
                if not await end_orders_of(member.actor):
                    await self._keep_on(member)
                    raise InvalidState("the venue has not confirmed the end of its orders yet; delete it again later")
                await self.roster.dismiss(member)
            rows, brain = await self.writer.read(partial(_left_of, id=id))
            before, now_us = member.strategy, self.world.clock.now_us()
            after = msgspec.structs.replace(before, deleted_at_ms=now_us // 1000, updated_at_us=now_us)
            records = [strategy_record(after), name_record(before.account, before.definition.name, Kind.DROP)]
            if brain is not None:
                records.append(Record("brain", id, Kind.PUT, encode(remains_of(brain)), id))
            if dry:
                records.extend(Record("position", key, Kind.DROP) for key in rows)
            await self._commit(Batch(records=records, events=[deleted(after, member.figures())]))
            if dry:
                self.forget_lots(True, rows)
            self.roster.strike(member)

    async def trigger(self, account: str | None, id: str) -> list[str]:
        """Evaluate a deployed strategy on the last closed candles now; return the ids of the evaluations."""
        self._open()
        member = self.roster.member(account, id)
        runs: list[str] = []
        with self.roster.transition(member, Action.TRIGGER):

            def evaluate(session: Session) -> Effects:
                effects = session.on_trigger()
                runs.extend(run.id for run in effects.runs)
                return effects

            await _actor(member).perform(evaluate)
        return runs

    async def halt(self, account: str | None, id: str, *, code: str, message: str) -> Strategy:
        """Put a strategy into `error` as the engine would."""
        member = self.roster.member(account, id)
        with self.roster.transition(member, Action.HALT):
            after = self.roster.halted(member.strategy, code, message)
            await _actor(member).perform(lambda session: self.halt_session(session, after))
            await self.roster.reload(member)
            return member.strategy

    # What they share.

    def checked(
        self,
        definition: StrategyDefinition,
        instruments: Mapping[str, Instrument] | None = None,
        *,
        capital: Decimal | None = None,
        leverage: int | None = None,
    ) -> type[Template]:
        """Return the template of what may be stored; raise InvalidParameter with every bad field of what may not."""
        template = self.template(definition.template_id)
        # The template's own check is a stranger's code like its callbacks.
        check = partial(check_definition, capital=capital, leverage=leverage)
        number = definition_number(definition, template)
        if number in self.stalled_checks:
            raise InvalidParameter(
                f"the check of just this definition by {template.id} held the whole daemon up before; "
                "change its params, or install a new version of the template"
            )
        try:
            self.guard.run_as(Phase.CHECKING, number, check, definition, template, instruments or self.instruments())
        except PipaidError:
            raise
        except BaseException as trouble:  # noqa: BLE001 - a stranger's code, which may raise anything
            raise InvalidParameter(f"{template.id} broke while it checked them: {told_cause(trouble)}") from None
        return template

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

    async def _check_mode(self, member: Membership, run: Run) -> None:
        """Refuse to change between dry and live over what is open, or may be yet; what is being withdrawn may end."""
        before, actor = member.strategy.run, member.actor
        if before is None or before.dry_run == run.dry_run:
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

    async def _replace(self, member: Membership, after: Strategy, batch: Batch) -> None:
        await self._commit(batch)
        member.strategy = after
        if member.actor is not None and member.actor.known:
            # What the session writes next must not bring the old record back.
            member.actor.session.strategy = after

    async def _commit(self, batch: Batch) -> None:
        # Even if whoever asked is cut off: memory must not fall behind.
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


def _left_of(reader: Reader, *, id: str) -> tuple[list[str], Brain | None]:
    brain = reader.get("brain", id)
    lots = [row.key for row in reader.rows("position", owner=id, state="open")]
    return lots, None if brain is None else msgspec.json.decode(brain.data, type=Brain)


def _held(member: Membership) -> int:
    actor = member.actor
    return len(actor.session.positions) if actor is not None and actor.known else member.abandoned
