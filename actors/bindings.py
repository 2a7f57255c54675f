"""Bindings of strategies to accounts: on each of them trades a strategy of its own that follows the one that is bound.

A binding and who follows there come in one batch, and go in one: neither is ever there without the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from attrs import define
from msgspec import UNSET

from actors.actor import Asker, Employed
from pipaid.engine.announcing import created, rebound
from pipaid.engine.claim import Claim
from pipaid.engine.following import (
    binding_record,
    follower_definition,
    own_share,
    share_of,
    terms_of,
    trades_itself,
    with_binding,
    without_account,
)
from pipaid.errors import InvalidState, NotFound
from pipaid.model.binding import BindingList, BindingObject, StrategyBind, StrategyUnbind, Unbound
from pipaid.model.event import EventDraft
from pipaid.model.money import ONE, quote_text
from pipaid.model.record import Batch, Kind
from pipaid.model.reply import binding_summary
from pipaid.model.request import Addressed
from pipaid.model.strategy import Action, Binding, Status, Strategy, StrategyDefinition, Tally, Terms
from pipaid.seams import Clock

BINDINGS_MAX: Final = 100
RESTING: Final = frozenset({Status.DRAFT, Status.PAUSED})


class Membership(Protocol):
    """One strategy as its bindings see it."""

    strategy: Strategy
    bindings: tuple[Binding, ...]
    actor: Employed | None

    @property
    def trades(self) -> bool:
        """Tell whether it trades on its own account."""
        ...

    def figures(self) -> tuple[Tally, int, Decimal]:
        """Return its tally, the number of its open positions and their unrealised profit."""
        ...


class Membering(Protocol):
    """The roster as bindings see it."""

    @property
    def members(self) -> Mapping[str, Membership]:
        """Return all members by id."""
        ...

    def member(self, account: str | None, strategy_id: str) -> Membership:
        """Return one that is there for the account."""
        ...

    def transition(self, member: Any, action: Action) -> AbstractContextManager[None]:
        """Let one action at a time through."""
        ...

    async def reload(self, member: Any) -> None:
        """Have a member start anew from the journal."""
        ...


class Single(Protocol):
    """The lifecycle, which knows single strategies."""

    async def pause(self, account: str | None, id: str, *, close_positions: bool) -> Strategy: ...

    def admit(self) -> None: ...

    def checked(self, definition: StrategyDefinition, /, *, capital: Decimal | None = None) -> object: ...

    def drafted(
        self, account: str, definition: StrategyDefinition
    ) -> AbstractContextManager[tuple[Strategy, Claim]]: ...

    async def enlist(self, strategy: Strategy, claim: Claim, batch: Batch) -> Any: ...

    async def redefine(self, wanted: Sequence[tuple[Any, StrategyDefinition]], batch: Batch) -> None: ...

    async def begin(self, wanted: Sequence[tuple[Any, Terms]], batch: Batch) -> None: ...

    def started(self, before: Strategy, terms: Terms) -> tuple[Strategy, EventDraft]: ...

    async def commit(self, batch: Batch) -> None: ...


class Leading(Protocol):
    """Those who lead others, as bindings see them."""

    def leader(self, account: str | None, id: str, action: Action) -> Any:
        """Return a strategy that follows none."""
        ...

    def alone(self, leader: Any, action: Action) -> AbstractContextManager[None]:
        """Let one action at a time through of those that concern all who follow a strategy."""
        ...

    async def part(self, leader: Any, binding: Binding, follower: Any, *told: EventDraft) -> None:
        """End what follows a strategy on an account, in one batch with the binding."""
        ...


class _Wanted(NamedTuple):
    """What a binding to an account is to be."""

    account: str
    enabled: bool
    share: Decimal


@define(eq=False)
class Bindings:
    """Bind strategies to the accounts of their organisation, which are each other's `neighbours`."""

    single: Single
    families: Leading
    roster: Membering
    clock: Clock
    neighbours: Callable[[str], Sequence[str]]

    # What the control socket asks; each is named after its operation.

    async def strategy_bind(self, caller: Asker, asked: StrategyBind) -> BindingObject:
        """Have a strategy trade on one more account, or change the binding that there is."""
        leader = self.families.leader(caller.account, asked.id, Action.BIND)
        account = asked.account_id
        if account not in self.neighbours(leader.strategy.account):
            whose = leader.strategy.account
            raise NotFound(f"there is no account {account!r:.60} in the organisation of {whose}, to which it belongs")
        with self.families.alone(leader, Action.BIND), self.roster.transition(leader, Action.BIND):
            found = next((each for each in leader.bindings if each.account == account), None)
            wanted = _wanted(found, asked)
            if account == leader.strategy.account:
                await self._bind_own(leader, found, wanted)
            elif found is None:
                await self._bind(leader, wanted)
            else:
                await self._rebind(leader, found, wanted)
        shown, own = self._shown(leader, account), leader.strategy.account
        if found is not None or leader.trades:
            return shown
        elsewhere = (
            f"{leader.strategy.id} does not trade on its own account, {own}: bind it to that one as well for both"
        )
        return msgspec.structs.replace(shown, notes=(elsewhere,))

    async def strategy_unbind(self, caller: Asker, asked: StrategyUnbind) -> Unbound:
        """Have a strategy trade on an account no more: its orders there are ended, and who follows it there is gone."""
        leader = self.families.leader(caller.account, asked.id, Action.UNBIND)
        with self.families.alone(leader, Action.UNBIND), self.roster.transition(leader, Action.UNBIND):
            binding = _binding_to(leader, asked.account_id)
            _check_own_trading(leader, without_account(leader.bindings, binding.account))
            told = self._told(leader, without_account(leader.bindings, binding.account))
            follower = self.roster.members[binding.strategy_id]
            if follower is leader:
                record = binding_record(leader.strategy.id, binding, Kind.DROP)
                await self.single.commit(Batch(records=[record], events=[told]))
                leader.bindings = without_account(leader.bindings, binding.account)
            else:
                with self.roster.transition(follower, Action.UNBIND):
                    await self.families.part(leader, binding, follower, told)
        return Unbound(id=leader.strategy.id, account_id=binding.account, strategy_id=binding.strategy_id)

    async def strategy_bindings(self, caller: Asker, asked: Addressed) -> BindingList:
        """List the accounts that a strategy is bound to."""
        leader = self.roster.member(caller.account, asked.id)
        return BindingList(data=tuple(self._shown(leader, each.account) for each in leader.bindings))

    async def _bind_own(self, leader: Membership, found: Binding | None, wanted: _Wanted) -> None:
        """Bind a strategy to its own account, which makes a difference where it is bound to others."""
        binding = Binding(
            account=wanted.account,
            strategy_id=leader.strategy.id,
            bound_at_us=self.clock.now_us() if found is None else found.bound_at_us,
            enabled=wanted.enabled,
            capital_share=wanted.share,
        )
        if binding == found:
            return
        strategy, definition = leader.strategy, leader.strategy.definition
        self.single.admit()
        self.single.checked(definition, capital=share_of(definition.capital, binding.capital_share))
        batch, after = self._changed(leader, binding)
        _check_own_trading(leader, after)
        if (
            leader.trades
            and strategy.status is Status.DEPLOYED
            and own_share(strategy, after) != own_share(strategy, leader.bindings)
        ):
            raise InvalidState(f"it trades on its own account, {strategy.account}, with its share: pause it first")
        await self.single.commit(batch)
        leader.bindings = after

    async def _bind(self, leader: Membership, wanted: _Wanted) -> None:
        """Bind a strategy to another account: who follows it there runs at once if it does, all in one batch."""
        if len(leader.bindings) >= BINDINGS_MAX:
            raise InvalidState(f"it is bound to {BINDINGS_MAX} accounts already, which is the most")
        before = leader.strategy
        definition = follower_definition(before.definition, wanted.share)
        with self.single.drafted(wanted.account, definition) as (draft, claim):
            follower = msgspec.structs.replace(draft, follows=before.id, user=before.user)
            binding = Binding(
                account=wanted.account,
                strategy_id=follower.id,
                bound_at_us=follower.created_at_us,
                enabled=wanted.enabled,
                capital_share=wanted.share,
            )
            after = with_binding(leader.bindings, binding)
            _check_own_trading(leader, after)
            batch = Batch(records=[binding_record(before.id, binding)], events=[created(follower)])
            batch.events.append(self._told(leader, after))
            if binding.enabled and before.status is Status.DEPLOYED:
                follower, deployed = self.single.started(follower, terms_of(before, binding))
                batch.events.append(deployed)
            member = await self.single.enlist(follower, claim, batch)
            leader.bindings = after
        if follower.status is Status.DEPLOYED:
            await self.roster.reload(member)

    async def _rebind(self, leader: Membership, found: Binding, wanted: _Wanted) -> None:
        """Change a binding: what is not enabled is paused, and what is trades if its leader does.

        It counts as enabled once it is sure that who follows may run.
        """
        follower = self.roster.members[found.strategy_id]
        binding = msgspec.structs.replace(found, enabled=wanted.enabled, capital_share=wanted.share)
        shared = binding.capital_share != found.capital_share
        if follower.strategy.status is Status.STOPPED:
            raise InvalidState(f"{found.strategy_id}, which followed it there, was stopped for good: unbind it first")
        if follower.strategy.status is Status.DEPLOYED and binding.enabled and shared:
            raise InvalidState(f"{found.strategy_id}, which follows it there, trades with its share: pause that first")
        if follower.strategy.status is Status.DEPLOYED and not binding.enabled:
            await self.single.pause(None, found.strategy_id, close_positions=False)
        # Who was paused by itself stays so until it is deployed, or its binding enabled, on purpose.
        fresh = not found.enabled or follower.strategy.status is Status.DRAFT
        starts = fresh and binding.enabled and leader.strategy.status is Status.DEPLOYED
        starts = starts and follower.strategy.status in RESTING
        first = msgspec.structs.replace(binding, enabled=found.enabled) if starts else binding
        batch, after = self._changed(leader, first)
        if shared:
            with self.roster.transition(follower, Action.UPDATE):
                definition = follower_definition(leader.strategy.definition, binding.capital_share)
                await self.single.redefine([(follower, definition)], batch)
        elif batch.records:
            await self.single.commit(batch)
        leader.bindings = after
        if starts:
            with self.roster.transition(follower, Action.DEPLOY):
                batch, after = self._changed(leader, binding)
                await self.single.begin([(follower, terms_of(leader.strategy, binding))], batch)
                leader.bindings = after
                await self.roster.reload(follower)

    def _changed(self, leader: Membership, binding: Binding) -> tuple[Batch, tuple[Binding, ...]]:
        """Return the batch that makes a binding what it is to be, empty if it is that, and the bindings after it."""
        after = with_binding(leader.bindings, binding)
        if binding in leader.bindings:
            return Batch(), after
        return Batch(records=[binding_record(leader.strategy.id, binding)], events=[self._told(leader, after)]), after

    def _told(self, leader: Membership, after: Sequence[Binding]) -> EventDraft:
        """Return the notice that a strategy has these bindings from now on."""
        return rebound(leader.strategy, leader.figures(), after, at_us=self.clock.now_us())

    def _shown(self, leader: Membership, account: str) -> BindingObject:
        binding = _binding_to(leader, account)
        member = self.roster.members[binding.strategy_id]
        strategy, (tally, open_positions, unrealised) = member.strategy, member.figures()
        return BindingObject(
            **msgspec.structs.asdict(binding_summary(binding)),
            status=strategy.status.value,
            dry_run=None if strategy.run is None else strategy.run.dry_run,
            capital=quote_text(share_of(leader.strategy.definition.capital, binding.capital_share)),
            open_positions=open_positions,
            total_pnl=quote_text(tally.pnl + unrealised),
            total_trades=tally.trades,
            error=None if strategy.fault is None else strategy.fault.code,
        )


def _wanted(found: Binding | None, asked: StrategyBind) -> _Wanted:
    """Return what a binding is to be: what is said, else what it is, else all of the capital and enabled."""
    enabled = asked.enabled if asked.enabled is not UNSET else found is None or found.enabled
    share = asked.capital_share if asked.capital_share is not UNSET else ONE if found is None else found.capital_share
    return _Wanted(asked.account_id, enabled, share)


def _binding_to(leader: Membership, account: str) -> Binding:
    for binding in leader.bindings:
        if binding.account == account:
            return binding
    raise NotFound(f"{leader.strategy.id} is not bound to an account {account!r:.60}")


def _check_own_trading(leader: Membership, after: Sequence[Binding]) -> None:
    """Refuse bindings with which a strategy would begin or end to trade on its own account in the midst of it."""
    strategy = leader.strategy
    begins = trades_itself(strategy, after)
    if begins == leader.trades:
        return
    deployed = strategy.status is Status.DEPLOYED
    if begins and deployed:
        raise InvalidState(f"with that it would trade on its own account, {strategy.account}: pause it first")
    _, held, _ = leader.figures()
    working = leader.actor.shown_orders if leader.actor is not None else 0
    if not begins and (deployed or held or working):
        raise InvalidState(
            f"with that it would trade on its own account, {strategy.account}, no more: bind it to that one as well, "
            "or pause it and close what it holds first"
        )
