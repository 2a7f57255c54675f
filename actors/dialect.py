"""The dialect in the daemon: each of its operations is one command here, made of those that everybody else has.

Who may do what is decided where it always is. What is added is whom a user's organisation lets them see, and that a
strategy which a user made is deleted by that user.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from heapq import nlargest
from typing import Any, Final, Protocol

import msgspec
from attrs import define, field, frozen

from actors.actor import Asker, Writer
from pipaid.dialect import shapes
from pipaid.dialect.showing import Figures, Whereabouts, defaults_of, row_of, strategy_told
from pipaid.dialect.status import Spoken, Step, standing_of, way
from pipaid.dialect.writing import RULES, changes_of, definition_of
from pipaid.errors import InsufficientPermission, InvalidState, NotFound, PipaidError
from pipaid.model import reply, report, request
from pipaid.model.account import Mode
from pipaid.model.binding import BindingList, BindingObject, StrategyBind, StrategyUnbind, Unbound
from pipaid.model.instrument import Instrument
from pipaid.model.position import Position
from pipaid.model.strategy import Binding, Status, Strategy, StrategyDefinition, Tally
from pipaid.storage.store import Reader

OPEN: Final = "open"
RESTING: Final = frozenset({Status.DRAFT, Status.PAUSED})


class Speaker(Asker, Protocol):
    """Who asks in the dialect: a key's account, or a user who speaks for an organisation."""

    @property
    def user(self) -> str:
        """Return the user, or nothing."""
        ...

    @property
    def organisation(self) -> str:
        """Return what a user speaks for."""
        ...


@frozen
class Owner:
    """Whoever asks, as the account to which a strategy belongs."""

    account: str
    who: str


ANYBODY: Final = Owner("", "the dialect")


class Listed(Protocol):
    """One strategy as the dialect sees it."""

    strategy: Strategy
    bindings: tuple[Binding, ...]

    @property
    def trades(self) -> bool:
        """Tell whether it trades on its own account."""
        ...

    def figures(self) -> tuple[Tally, int, Decimal]:
        """Return the tally, the number of open positions and their unrealised profit."""
        ...


class Listing(Protocol):
    """The roster as the dialect sees it."""

    @property
    def members(self) -> Mapping[str, Listed]:
        """Return all strategies by id."""
        ...

    def member(self, account: str | None, strategy_id: str) -> Listed:
        """Return one that belongs to the account."""
        ...

    def owner_of(self, strategy_id: str) -> str | None:
        """Return the account that owns a strategy."""
        ...

    def family(self, strategy_id: str) -> tuple[str, ...]:
        """Return a strategy and those that follow it."""
        ...


class Creating(Protocol):
    """The lifecycle as the dialect sees it."""

    async def create(
        self, account: str | None, definition: StrategyDefinition, *, source: str = "", user: str = ""
    ) -> Strategy:
        """Store a draft."""
        ...


class Organisations(Protocol):
    """The accounts as the dialect sees them."""

    def of(self, organisation: str) -> Sequence[str]:
        """Return the accounts of an organisation, oldest first."""
        ...

    def mode_of(self, account: str) -> Mode:
        """Return how an account trades."""
        ...

    def permit(self, account: str, *, dry_run: bool) -> None:
        """Refuse a run that the mode of its account rules out."""
        ...


class Operations(Protocol):
    """The operations that everybody has, as far as the dialect is made of them."""

    async def strategy_update(self, caller: Asker, asked: request.StrategyUpdate) -> reply.StrategyObject: ...
    async def notes(self, strategy: Strategy) -> tuple[str, ...]: ...

    async def strategy_deploy(self, caller: Asker, asked: request.StrategyDeploy) -> reply.StrategyObject: ...

    async def strategy_pause(self, caller: Asker, asked: request.StrategyLeave) -> reply.StrategyObject: ...

    async def strategy_stop(self, caller: Asker, asked: request.StrategyLeave) -> reply.StrategyObject: ...

    async def strategy_reset(self, caller: Asker, asked: request.Addressed) -> reply.StrategyObject: ...

    async def strategy_delete(self, caller: Asker, asked: request.Addressed) -> reply.Deleted: ...

    async def strategy_trigger(self, caller: Asker, asked: request.Addressed) -> reply.Triggered: ...

    async def template_get(self, caller: Asker, asked: request.Addressed) -> report.TemplateObject: ...

    async def template_list(self, caller: Asker, asked: request.Nothing) -> report.TemplateList: ...


class Binder(Protocol):
    """What binds strategies to accounts."""

    async def strategy_bind(self, caller: Asker, asked: StrategyBind) -> BindingObject: ...

    async def strategy_unbind(self, caller: Asker, asked: StrategyUnbind) -> Unbound: ...

    async def strategy_bindings(self, caller: Asker, asked: request.Addressed) -> BindingList: ...


class Recorded(Protocol):
    """What strategies did, as the dialect sees it."""

    async def strategy_runs(self, caller: Asker, asked: request.StrategyRuns, *, skip: int = 0) -> reply.RunPage: ...

    async def strategy_stats(self, caller: Asker, asked: request.StrategyStats) -> report.StrategyStatistics: ...


@define(eq=False)
class Dialect:
    """Answer what is asked in the dialect; each method is named after its operation."""

    operations: Operations
    records: Recorded
    binder: Binder
    lifecycle: Creating
    roster: Listing
    organisations: Organisations
    writer: Writer
    instruments: Callable[[], Mapping[str, Instrument]]
    _defaults: Mapping[str, Any] | None = field(default=None, init=False)

    async def dialect_list(self, caller: Speaker, asked: shapes.ListAsked) -> shapes.Listing:
        """List what the caller sees, newest first."""
        seen = self._seen(caller)
        found = [each.strategy for each in self.roster.members.values() if self._listed(each.strategy, seen)]
        first = nlargest(asked.skip + asked.limit, found, key=lambda strategy: (strategy.created_at_us, strategy.id))
        return shapes.Listing(
            strategies=tuple(row_of(strategy, self.instruments()) for strategy in first[asked.skip :]),
            total=len(found),
            skip=asked.skip,
            limit=asked.limit,
        )

    async def dialect_create(self, caller: Speaker, asked: shapes.CreateAsked) -> shapes.Told:
        """Create a draft out of either form."""
        definition = definition_of(asked, self.instruments())
        strategy = await self.lifecycle.create(caller.account, definition, user=caller.user)
        return await self._noted(strategy.id, await self.operations.notes(strategy))

    async def dialect_get(self, caller: Speaker, asked: request.Addressed) -> shapes.Told:
        """Show one."""
        self._member(caller, asked.id)
        return await self._told(asked.id)

    async def dialect_update(self, caller: Speaker, asked: shapes.UpdateAsked) -> shapes.Told:
        """Change one."""
        strategy = self._member(caller, asked.id).strategy
        changes = changes_of(strategy.definition, asked, self.instruments())
        change = request.StrategyUpdate(id=asked.id, **changes)
        changed = await self.operations.strategy_update(_owner(caller, strategy), change)
        return await self._noted(asked.id, changed.notes or ())

    async def dialect_delete(self, caller: Speaker, asked: request.Addressed) -> shapes.Gone:
        """Delete one, for the user who made it or for whoever has a key of its account."""
        strategy = self._member(caller, asked.id).strategy
        if caller.user and caller.user != strategy.user:
            raise InsufficientPermission(f"only {strategy.user or 'its account'}, who made it, may delete it")
        await self.operations.strategy_delete(_owner(caller, strategy), asked)
        return shapes.Gone(id=asked.id)

    async def dialect_status(self, caller: Speaker, asked: shapes.StatusAsked) -> shapes.Told:
        """Bring one to another status."""
        return await self._bring(caller, asked.id, asked.status)

    async def dialect_activate_all(self, caller: Speaker, asked: shapes.ActivateAsked) -> shapes.Told:
        """Deploy one on every account: as is said, else as in its last run, else as its account trades."""
        strategy = self._member(caller, asked.id).strategy
        dry_run = asked.dry_run
        if dry_run is None and strategy.run is not None:
            dry_run = strategy.run.dry_run
        if dry_run is None:
            dry_run = any(self.organisations.mode_of(each) is Mode.PAPER for each in self._accounts(strategy.id))
        await self._bring(caller, asked.id, Spoken.PAPER if dry_run else Spoken.LIVE)
        for binding, member in self._followers(asked.id):
            # Whoever was paused or mended by itself, while the others went on.
            if binding.enabled and member.strategy.status in RESTING:
                wanted = request.StrategyDeploy(id=binding.strategy_id, dry_run=dry_run)
                await self.operations.strategy_deploy(_owner(caller, member.strategy), wanted)
        return await self._told(asked.id)

    async def dialect_deactivate_all(self, caller: Speaker, asked: request.Addressed) -> shapes.Told:
        """Pause one on every account."""
        strategy = self._member(caller, asked.id).strategy
        await self._bring(caller, asked.id, Spoken.INACTIVE)
        if self._is_active(asked.id):
            # Those that went on while whom they follow did not.
            await self.operations.strategy_pause(_owner(caller, strategy), request.StrategyLeave(id=asked.id))
        return await self._told(asked.id)

    async def dialect_bind(self, caller: Speaker, asked: StrategyBind) -> shapes.Bound:
        """Have one trade on one more account."""
        owner = _owner(caller, self._member(caller, asked.id).strategy)
        return shapes.Bound(**_fields(await self.binder.strategy_bind(owner, asked)))

    async def dialect_unbind(self, caller: Speaker, asked: StrategyUnbind) -> shapes.Parted:
        """Have one trade on an account no more."""
        owner = _owner(caller, self._member(caller, asked.id).strategy)
        return shapes.Parted(**_fields(await self.binder.strategy_unbind(owner, asked)))

    async def dialect_bindings(self, caller: Speaker, asked: request.Addressed) -> shapes.Bindings:
        """List the accounts that one is bound to."""
        owner = _owner(caller, self._member(caller, asked.id).strategy)
        return shapes.Bindings(**_fields(await self.binder.strategy_bindings(owner, asked)))

    async def dialect_trigger(self, caller: Speaker, asked: request.Addressed) -> shapes.Evaluated:
        """Evaluate one now."""
        strategy = self._member(caller, asked.id).strategy
        triggered = await self.operations.strategy_trigger(_owner(caller, strategy), asked)
        return shapes.Evaluated(run_ids=triggered.run_ids)

    async def dialect_runs(self, caller: Speaker, asked: shapes.RunsAsked) -> shapes.Runs:
        """List its evaluations."""
        strategy = self._member(caller, asked.id).strategy
        fields = {name: value for name, value in _fields(asked).items() if name != "skip"}
        page = await self.records.strategy_runs(
            _owner(caller, strategy), request.StrategyRuns(**fields), skip=asked.skip
        )
        return shapes.Runs(**_fields(page))

    async def dialect_stats(self, caller: Speaker, asked: shapes.StatsAsked) -> shapes.Stats:
        """Show its figures."""
        strategy = self._member(caller, asked.id).strategy
        wanted = request.StrategyStats(**_fields(asked))
        return shapes.Stats(**_fields(await self.records.strategy_stats(_owner(caller, strategy), wanted)))

    async def dialect_registry(self, caller: Speaker, asked: request.Nothing) -> shapes.Registry:
        """List the templates."""
        return shapes.Registry(**_fields(await self.operations.template_list(caller, asked)))

    # What they share.

    def _seen(self, caller: Speaker) -> Sequence[str] | None:
        """Return the accounts whose strategies a caller sees; nothing stands for all."""
        if caller.user:
            return self.organisations.of(caller.organisation)
        return None if caller.account is None else [caller.account]

    def _member(self, caller: Speaker, id: str) -> Listed:
        """Return a strategy that the caller sees; what they do not see is not there."""
        seen, owner = self._seen(caller), self.roster.owner_of(id)
        return self.roster.member(owner if seen is None or owner in seen else caller.account, id)

    def _listed(self, strategy: Strategy, seen: Sequence[str] | None) -> bool:
        """Tell whether a strategy is shown by itself: not where whom it follows is shown with its bindings."""
        if seen is not None and strategy.account not in seen:
            return False
        leads = self.roster.owner_of(strategy.follows)
        return leads is None or (seen is not None and leads not in seen)

    def _followers(self, id: str) -> list[tuple[Binding, Listed]]:
        """Return those who follow a strategy, each with the binding that it is there for."""
        bindings = self.roster.member(None, id).bindings
        return [(each, self.roster.member(None, each.strategy_id)) for each in bindings if each.strategy_id != id]

    def _accounts(self, id: str) -> list[str]:
        """Return the accounts on which a strategy trades when it is deployed."""
        member = self.roster.member(None, id)
        own = [member.strategy.account] if member.trades else []
        return own + [binding.account for binding, _ in self._followers(id) if binding.enabled]

    def _is_active(self, id: str) -> bool:
        family = (self.roster.member(None, each) for each in self.roster.family(id))
        return any(each.strategy.status is Status.DEPLOYED for each in family)

    async def _whereabouts(self, id: str) -> Whereabouts:
        member = self.roster.member(None, id)
        family = [member] if member.trades else []
        family += [follower for _, follower in self._followers(id)]
        ids = [each.strategy.id for each in family]
        held = await self.writer.read(lambda reader: [_open_positions(reader, each) for each in ids])
        return Whereabouts(
            active=self._is_active(id),
            figures=tuple(_figures(each, positions) for each, positions in zip(family, held, strict=True)),
            bindings=member.bindings,
        )

    async def _noted(self, id: str, notes: tuple[str, ...]) -> shapes.Told:
        """Show one with what to know of it."""
        told = await self._told(id)
        return shapes.Told(strategy=msgspec.structs.replace(told.strategy, notes=notes)) if notes else told

    async def _told(self, id: str) -> shapes.Told:
        place = await self._whereabouts(id)
        if self._defaults is None:
            # Templates are found once, at the start.
            with suppress(NotFound):
                rules = await self.operations.template_get(ANYBODY, request.Addressed(id=RULES))
                self._defaults = defaults_of(rules.params_schema)
            self._defaults = self._defaults or {}
        told = strategy_told(self.roster.member(None, id).strategy, place, self.instruments(), self._defaults)
        return shapes.Told(strategy=told)

    async def _bring(self, caller: Speaker, id: str, wanted: Spoken) -> shapes.Told:
        """Take the steps to a status; if one fails, those before it stand, and the refusal says so."""
        member = self._member(caller, id)
        strategy = member.strategy
        dry_run = strategy.run.dry_run if strategy.run is not None else None
        steps = way(standing_of(strategy.status, dry_run=dry_run), wanted)
        self._foresee(member, steps)
        taken: list[Step] = []
        for step in steps:
            try:
                await self._take(_owner(caller, strategy), id, step)
            except PipaidError as trouble:
                if not taken:
                    raise
                trouble.message += f"; done before that: {', '.join(step.value for step in taken)}"
                raise
            taken.append(step)
        return await self._told(id)

    def _foresee(self, member: Listed, steps: Sequence[Step]) -> None:
        """Refuse what the last step would be refused for, before the first leaves a strategy that no longer trades."""
        if Step.DEPLOY in steps:
            for account in self._accounts(member.strategy.id):
                self.organisations.permit(account, dry_run=False)
        family = (member, *(follower for _, follower in self._followers(member.strategy.id)))
        open_positions = sum(each.figures()[1] for each in family)
        if len(steps) > 1 and open_positions:
            way_out = f"close them with POST /v1/strategies/{member.strategy.id}/pause and close_positions true"
            raise InvalidState(f"it holds {open_positions} open positions, which cannot change their mode: {way_out}")

    async def _take(self, owner: Asker, id: str, step: Step) -> None:
        match step:
            case Step.DEPLOY | Step.DEPLOY_DRY:
                asked = request.StrategyDeploy(id=id, dry_run=step is Step.DEPLOY_DRY)
                await self.operations.strategy_deploy(owner, asked)
            case Step.PAUSE:
                await self.operations.strategy_pause(owner, request.StrategyLeave(id=id))
            case Step.STOP:
                await self.operations.strategy_stop(owner, request.StrategyLeave(id=id))
            case Step.RESET:
                await self.operations.strategy_reset(owner, request.Addressed(id=id))


def _owner(caller: Speaker, strategy: Strategy) -> Owner:
    return Owner(strategy.account, caller.who)


def _fields(answer: msgspec.Struct) -> dict[str, Any]:
    return msgspec.structs.asdict(answer)


def _figures(member: Listed, positions: tuple[Position, ...]) -> Figures:
    tally, _, unrealised = member.figures()
    strategy = member.strategy
    capital = strategy.definition.capital if strategy.run is None else strategy.run.capital
    return Figures(capital=capital, tally=tally, positions=positions, unrealised=unrealised)


def _open_positions(reader: Reader, id: str) -> tuple[Position, ...]:
    rows = reader.rows("position", owner=id, state=OPEN)
    return tuple(msgspec.json.decode(row.data, type=Position) for row in rows)
