"""Commands to a strategy and to those that follow it, each of which is one of its own on an account it is bound to.

A deployment and a change are one batch. All else is done by each of them, the leader last, and who is there already is
left alone: to ask once more finishes what was cut short.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from decimal import Decimal
from functools import partial
from typing import Any, Protocol

import msgspec
from attrs import define, field

from pipaid.engine.following import binding_record, follower_definition, own_share, terms_of, without_account
from pipaid.errors import InvalidState, PipaidError
from pipaid.model.event import EventDraft
from pipaid.model.record import Batch, Kind
from pipaid.model.strategy import (
    TRANSITIONS,
    Action,
    Binding,
    Status,
    Strategy,
    StrategyDefinition,
    Terms,
)
from pipaid.wire.together import together


class Membership(Protocol):
    """One strategy as commands to several see it."""

    strategy: Strategy
    bindings: tuple[Binding, ...]

    @property
    def trades(self) -> bool:
        """Tell whether it trades on its own account."""
        ...


class Membering(Protocol):
    """The roster as these commands see it."""

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


class Single(Protocol):
    """The lifecycle, which knows single strategies."""

    def admit(self, *, roomy: bool = False) -> None: ...

    async def create(
        self, account: str | None, definition: StrategyDefinition, *, source: str = "", user: str = ""
    ) -> Strategy: ...

    async def update(self, account: str | None, id: str, changes: Mapping[str, Any]) -> Strategy: ...

    async def deploy(
        self, account: str | None, id: str, *, capital: Decimal | None, leverage: int | None, dry_run: bool
    ) -> Strategy: ...

    async def delete(self, account: str | None, id: str) -> None: ...

    async def pause(self, account: str | None, id: str, *, close_positions: bool) -> Strategy: ...

    async def stop(self, account: str | None, id: str, *, close_positions: bool) -> Strategy: ...

    async def reset(self, account: str | None, id: str) -> Strategy: ...

    async def trigger(self, account: str | None, id: str) -> list[str]: ...

    async def halt(self, account: str | None, id: str, *, code: str, message: str) -> Strategy: ...

    async def redefine(self, wanted: Sequence[tuple[Any, StrategyDefinition]], batch: Batch) -> None: ...

    async def start(self, wanted: Sequence[tuple[Any, Terms]]) -> None: ...

    def check_removable(self, member: Any) -> None: ...

    async def remove(self, member: Any, batch: Batch) -> None: ...


@define(eq=False)
class Families:
    """Carry out on all accounts what the lifecycle does to single strategies.

    `_busy` names what is under way with a strategy and those that follow it.
    """

    single: Single
    roster: Membering
    _busy: dict[str, str] = field(factory=dict[str, str])

    async def create(
        self, account: str | None, definition: StrategyDefinition, *, source: str = "", user: str = ""
    ) -> Strategy:
        """Store a draft."""
        return await self.single.create(account, definition, source=source, user=user)

    async def update(self, account: str | None, id: str, changes: Mapping[str, Any]) -> Strategy:
        """Change a strategy and all that follow it, in one batch."""
        self.single.admit()
        leader = self.leader(account, id, Action.UPDATE)
        if not leader.bindings:
            return await self.single.update(None, id, changes)
        with self.alone(leader, Action.UPDATE), ExitStack() as held:
            held.enter_context(self.roster.transition(leader, Action.UPDATE))
            definition = msgspec.structs.replace(leader.strategy.definition, **changes)
            if definition == leader.strategy.definition:
                return leader.strategy
            wanted = [(leader, definition)]
            for binding, follower in self._followers(leader):
                if follower.strategy.status is not Status.STOPPED:
                    # One in error stays in it, and deploys what is new once it was reset.
                    broken = follower.strategy.status is Status.ERROR
                    self._hold(held, follower, Action.RESET if broken else Action.UPDATE)
                    wanted.append((follower, follower_definition(definition, binding.capital_share)))
            await self.single.redefine(wanted, Batch())
        return leader.strategy

    async def deploy(
        self, account: str | None, id: str, *, capital: Decimal | None, leverage: int | None, dry_run: bool
    ) -> Strategy:
        """Start a strategy on every account that it is bound to, in one batch; those that run there already go on."""
        self.single.admit(roomy=True)
        member = self.roster.member(account, id)
        terms = Terms(dry_run=dry_run, capital=capital, leverage=leverage)
        if member.strategy.follows:
            return await self._deploy_follower(member, terms)
        if not member.bindings:
            return await self.single.deploy(None, id, capital=capital, leverage=leverage, dry_run=dry_run)
        with self.alone(member, Action.DEPLOY), ExitStack() as held:
            held.enter_context(self.roster.transition(member, Action.DEPLOY))
            share = own_share(member.strategy, member.bindings)
            wanted = [(member, msgspec.structs.replace(terms, share=share))]
            whole = member.strategy.definition.capital if capital is None else capital
            for binding, follower in self._followers(member):
                if not binding.enabled or follower.strategy.status in (Status.STOPPED, Status.ERROR):
                    # What broke on one account is mended there, and keeps nobody from trading on the others.
                    continue
                if follower.strategy.status is Status.DEPLOYED:
                    _check_same_mode(follower, terms.dry_run)
                    continue
                self._hold(held, follower, Action.DEPLOY)
                wanted.append((follower, msgspec.structs.replace(terms, capital=whole, share=binding.capital_share)))
            await self.single.start(wanted)
        return member.strategy

    async def _deploy_follower(self, follower: Membership, terms: Terms) -> Strategy:
        """Let a follower trade again that was paused or mended by itself, on its leader's terms."""
        leader = self.roster.members[follower.strategy.follows]
        binding = next(each for each in leader.bindings if each.strategy_id == follower.strategy.id)
        run = leader.strategy.run
        if leader.strategy.status is not Status.DEPLOYED or run is None:
            raise InvalidState(f"it follows {leader.strategy.id}, which is {leader.strategy.status}: deploy that one")
        if not binding.enabled:
            raise InvalidState(f"its binding to {binding.account} is not enabled: bind it with enabled true")
        if terms.dry_run != run.dry_run:
            raise InvalidState(f"it follows {leader.strategy.id}, which trades with dry_run {_flag(run.dry_run)}")
        if terms.capital is not None or terms.leverage is not None:
            raise InvalidState(f"its capital and leverage are those of {leader.strategy.id}: change its share of them")
        with self.alone(leader, Action.DEPLOY), self.roster.transition(follower, Action.DEPLOY):
            await self.single.start([(follower, terms_of(leader.strategy, binding))])
        return follower.strategy

    async def pause(self, account: str | None, id: str, *, close_positions: bool) -> Strategy:
        """Pause a strategy and all that follow it."""
        pause = partial(self.single.pause, None, close_positions=close_positions)
        return await self._each(account, id, Action.PAUSE, pause)

    async def stop(self, account: str | None, id: str, *, close_positions: bool) -> Strategy:
        """End a strategy and all that follow it for good."""
        return await self._each(
            account, id, Action.STOP, partial(self.single.stop, None, close_positions=close_positions)
        )

    async def reset(self, account: str | None, id: str) -> Strategy:
        """Bring back from error what is in it, of a strategy and those that follow it."""
        return await self._each(account, id, Action.RESET, partial(self.single.reset, None))

    async def _each(self, account: str | None, id: str, action: Action, act: Callable[[str], Any]) -> Strategy:
        """Have all who follow a strategy do what is asked of it, then itself, whoever of them can."""
        leader = self.roster.member(account, id)
        with self.alone(leader, action):
            followers = [each.strategy for _, each in self._followers(leader)]
            able = [each.id for each in followers if _can(each.status, action)]
            trouble: PipaidError | None = None
            try:
                await together(*(partial(act, each) for each in able))
            except PipaidError as refusal:
                trouble = refusal
            if not able or _can(leader.strategy.status, action):
                await act(leader.strategy.id)
            if trouble is not None:
                raise trouble
        return leader.strategy

    async def delete(self, account: str | None, id: str) -> None:
        """Delete a strategy, and before it all that follow it."""
        leader = self.leader(account, id, Action.DELETE)
        if not leader.bindings:
            await self.single.delete(None, id)
            return
        with self.alone(leader, Action.DELETE):
            followers = self._followers(leader)
            with ExitStack() as held:
                for member in (leader, *(follower for _, follower in followers)):
                    self._hold(held, member, Action.DELETE)
                    self.single.check_removable(member)
            for binding, follower in followers:
                with self.roster.transition(follower, Action.DELETE):
                    await self.part(leader, binding, follower)
            with self.roster.transition(leader, Action.DELETE):
                left = [binding_record(id, each, Kind.DROP) for each in leader.bindings]
                await self.single.remove(leader, Batch(records=left))

    async def trigger(self, account: str | None, id: str) -> list[str]:
        """Evaluate a strategy and all that follow it now; return the ids of the evaluations."""
        leader = self.roster.member(account, id)
        followers = [each for _, each in self._followers(leader)]
        able = [each for each in (leader, *followers) if each.strategy.status is Status.DEPLOYED and each.trades]
        if not followers or not able:
            return await self.single.trigger(None, leader.strategy.id)
        runs: dict[str, list[str]] = {}

        async def evaluate(id: str) -> None:
            runs[id] = await self.single.trigger(None, id)

        try:
            await together(*(partial(evaluate, each.strategy.id) for each in able))
        except PipaidError:
            # What one of them fails at is its own crash, and the others were evaluated.
            if not runs:
                raise
        return [run for each in able for run in runs.get(each.strategy.id, ())]

    async def halt(self, account: str | None, id: str, *, code: str, message: str) -> Strategy:
        """Put one strategy into `error`, and nobody who follows it."""
        return await self.single.halt(account, id, code=code, message=message)

    # What they share.

    def leader(self, account: str | None, id: str, action: Action) -> Membership:
        """Return a strategy that may be asked for what concerns all who follow it, which is none that follows."""
        member = self.roster.member(account, id)
        if member.strategy.follows:
            raise InvalidState(
                f"cannot {action} {id} by itself, for it follows {member.strategy.follows}: ask that one"
            )
        return member

    def _followers(self, leader: Membership) -> list[tuple[Binding, Membership]]:
        others = (each for each in leader.bindings if each.strategy_id != leader.strategy.id)
        return [(each, self.roster.members[each.strategy_id]) for each in others]

    @contextmanager
    def alone(self, leader: Membership, action: Action) -> Generator[None]:
        """Let one action at a time through of those that concern all who follow a strategy."""
        busy, key = self._busy, leader.strategy.id
        if key in busy:
            raise InvalidState(f"cannot {action} a strategy while its {busy[key]} is under way; wait for it")
        busy[key] = action.value
        try:
            yield
        finally:
            del busy[key]

    def _hold(self, held: ExitStack, member: Membership, action: Action) -> None:
        """Let one action at a time through, and say of whom a refusal is."""
        try:
            held.enter_context(self.roster.transition(member, action))
        except InvalidState as refusal:
            refusal.message += f" (it is {member.strategy.id}, on {member.strategy.account})"
            raise

    async def part(self, leader: Membership, binding: Binding, follower: Membership, *told: EventDraft) -> None:
        """End what follows a strategy on an account, in one batch with the binding."""
        record = binding_record(leader.strategy.id, binding, Kind.DROP)
        await self.single.remove(follower, Batch(records=[record], events=[*told]))
        leader.bindings = without_account(leader.bindings, binding.account)


def _check_same_mode(follower: Membership, dry_run: bool) -> None:
    run, strategy = follower.strategy.run, follower.strategy
    if run is not None and run.dry_run != dry_run:
        raise InvalidState(
            f"{strategy.id}, which follows it on {strategy.account}, trades with dry_run {_flag(run.dry_run)}: "
            "pause that one first"
        )


def _can(status: Status, action: Action) -> bool:
    return (status, action) in TRANSITIONS


def _flag(value: bool) -> str:
    return "true" if value else "false"
