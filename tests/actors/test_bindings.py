"""Bindings to accounts: on each a strategy of its own follows, which its leader's commands reach and crashes do not."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actors.lifecycle as lifecycle_module
from actors.actor import Employed
from actors.errands import end_orders_of
from pipaid.errors import DuplicateName, InvalidParameter, InvalidState, NotFound
from pipaid.model.binding import BindingObject, StrategyBind, StrategyUnbind
from pipaid.model.candle import MarketTrade
from pipaid.model.position import Position
from pipaid.model.strategy import Status, Strategy
from tests.actors.homes import ACCOUNT, Home, at_home
from tests.builders import SYMBOL, enter, scripted

pytestmark = pytest.mark.usefixtures("logged")
OTHER, THIRD = "acct_2", "acct_3"


class Person:
    """Whoever asks, with the rights to everything or with a key of an account."""

    def __init__(self, account: str | None = None) -> None:
        self.account, self.who = account, "somebody"


ANYBODY = Person()


async def bind(home: Home, leader: str, account: str = OTHER, **fields: Any) -> BindingObject:
    bound = await home.bindings.strategy_bind(ANYBODY, StrategyBind(id=leader, account_id=account, **fields))
    await home.settle()
    return bound


async def unbind(home: Home, leader: str, account: str = OTHER) -> None:
    await home.bindings.strategy_unbind(ANYBODY, StrategyUnbind(id=leader, account_id=account))
    await home.settle()


async def deploy(home: Home, leader: str, *, dry_run: bool | None = None, **terms: Any) -> None:
    dry = home.dry if dry_run is None else dry_run
    await home.families.deploy(None, leader, dry_run=dry, **{"capital": None, "leverage": None, **terms})
    await home.settle()


def follower_of(home: Home, leader: str, account: str = OTHER) -> str:
    (found,) = [each.strategy_id for each in home.member(leader).bindings if each.account == account]
    return found


def statuses(home: Home, leader: str) -> list[str]:
    return [home.member(each).strategy.status.value for each in home.roster.family(leader)]


def stored(home: Home) -> dict[str, Strategy]:
    return {each.id: each for each in home.stored("strategy", Strategy) if not each.deleted_at_ms}


async def a_family(home: Home, *accounts: str, **fields: Any) -> str:
    """Make a strategy that is bound to accounts."""
    leader = (await home.draft(**fields)).id
    for account in accounts:
        await bind(home, leader, account)
    return leader


def always_in(view: Any) -> list[Any]:
    return [] if view.positions else [enter()]


# Binding.


async def test_on_a_bound_account_trades_a_strategy_of_its_own_and_the_leader_holds_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=always_in)) as home:
        leader = await a_family(home, OTHER, capital=Decimal(1000))
        await deploy(home, leader)
        await home.close()
        await home.trade()

        follower = follower_of(home, leader)
        (lot,) = home.lots(follower)
        assert (lot.account, lot.strategy_id) == (OTHER, follower)
        assert home.lots(leader) == []
        assert statuses(home, leader) == ["deployed", "deployed"]
        assert home.member(follower).strategy.follows == leader
        assert home.books[True].capital == 1000


async def test_a_follower_has_its_share_of_the_capital_whatever_the_leader_is_deployed_with(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home, ACCOUNT, capital=Decimal(1000))
        await bind(home, leader, OTHER, capital_share=Decimal("0.5"))
        await bind(home, leader, ACCOUNT, capital_share=Decimal("0.8"))
        await deploy(home, leader, capital=Decimal(2000), leverage=3)
        await bind(home, leader, THIRD, capital_share=Decimal("0.3"))

        runs = [home.member(each).strategy.run for each in home.roster.family(leader)]
        assert [run.capital for run in runs if run is not None] == [1600, 1000, 600]
        assert [run.leverage for run in runs if run is not None] == [3, 3, 3]
        definitions = [home.member(each).strategy.definition.capital for each in home.roster.family(leader)]
        assert definitions == [1000, 500, 300]


async def test_a_binding_and_its_follower_come_in_one_batch_and_go_in_one(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = (await home.draft()).id
        await bind(home, leader, ACCOUNT)
        await deploy(home, leader)
        before = home.recorder.last_n
        batches: list[set[tuple[str, str]]] = []
        commit = home.journal.commit

        def watched(given: Any) -> Any:
            batches.extend({(each.entity, each.key) for each in batch.records} for batch in given)
            return commit(given)

        monkeypatch.setattr(home.journal, "commit", watched)
        await bind(home, leader)
        follower = follower_of(home, leader)
        name = home.member(follower).strategy.definition.name
        came = {("binding", f"{leader}/{OTHER}"), ("strategy", follower), ("name", f"{OTHER}/{name}")}
        assert came in batches
        assert next(batch for batch in batches if ("strategy", follower) in batch) == came
        assert stored(home)[follower].status is Status.DEPLOYED
        batches.clear()
        await unbind(home, leader)
        assert [batch for batch in batches if ("strategy", follower) in batch] == [came | {("brain", follower)}]
        assert home.recorder.last_n > before
        assert follower not in stored(home)


async def test_whose_a_follower_is_is_known_when_its_first_event_is_told(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home, ACCOUNT)
        await deploy(home, leader)
        told: list[tuple[str, str | None, bool]] = []

        def publish(events: Any) -> None:
            for each in events:
                known = each.strategy_id in home.roster.strategies_of(OTHER)
                told.append((each.strategy_id, home.roster.owner_of(each.strategy_id), known))

        home.recorder.publish = publish
        await bind(home, leader)
        follower = follower_of(home, leader)

        assert (follower, OTHER, True) in told
        assert not [each for each in told if each[0] == follower and each[1:] != (OTHER, True)]
        assert home.roster.coming == {}


async def test_to_bind_once_more_changes_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home, ACCOUNT, OTHER)
        await deploy(home, leader)
        before, told = home.recorder.last_n, home.member(leader).bindings
        for account in (ACCOUNT, OTHER):
            await bind(home, leader, account)

        assert (home.recorder.last_n, home.member(leader).bindings) == (before, told)


async def test_bindings_outlive_a_restart(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=always_in)) as home:
        leader = await a_family(home, OTHER, THIRD)
        await deploy(home, leader)
        await home.close()
        await home.trade()
        bindings, family = home.member(leader).bindings, home.roster.family(leader)

    async with at_home(tmp_path, scripted(on_candle=always_in)) as home:
        await home.settle()
        assert (home.member(leader).bindings, home.roster.family(leader)) == (bindings, family)
        assert [len(home.lots(each)) for each in family] == [0, 1, 1]
        assert home.roster.family(family[1]) == (family[1],)
        await home.close()
        await home.trade()
        assert [len(home.lots(each)) for each in family] == [0, 1, 1]


async def test_only_accounts_of_the_organisation_can_be_bound(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = (await home.draft()).id
        for account in ("acct_nobody", "acct_of_others"):
            with pytest.raises(NotFound, match=f"there is no account '{account}'"):
                await bind(home, leader, account)
        for person in (Person("acct_of_others"), Person(OTHER)):
            with pytest.raises(NotFound, match="there is no strategy"):
                await home.bindings.strategy_bind(person, StrategyBind(id=leader, account_id=OTHER))
        assert home.member(leader).bindings == ()


async def test_a_share_that_the_template_cannot_trade_with_is_refused(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(capital_min=Decimal(100))) as home:
        leader = (await home.draft(capital=Decimal(1000))).id
        for account in (ACCOUNT, OTHER):
            with pytest.raises(InvalidParameter, match="capital: must be at least 100"):
                await bind(home, leader, account, capital_share=Decimal("0.099"))
            await bind(home, leader, account, capital_share=Decimal("0.1"))
            with pytest.raises(InvalidParameter, match="capital: must be at least 100"):
                await bind(home, leader, account, capital_share=Decimal("0.05"))
        assert [each.capital_share for each in home.member(leader).bindings] == [Decimal("0.1")] * 2


async def test_what_trades_on_its_own_account_is_not_bound_away_from_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=always_in)) as home:
        leader = (await home.deploy()).id
        await home.close()
        await home.trade()
        with pytest.raises(InvalidState, match="bind it to that one as well, or pause it and close"):
            await bind(home, leader)
        await home.families.pause(None, leader, close_positions=False)
        with pytest.raises(InvalidState, match="bind it to that one as well, or pause it and close"):
            await bind(home, leader)
        await bind(home, leader, ACCOUNT)
        await bind(home, leader)
        with pytest.raises(InvalidState, match="no more"):
            await unbind(home, leader, ACCOUNT)
        with pytest.raises(InvalidState, match="no more"):
            await bind(home, leader, ACCOUNT, enabled=False)
        await deploy(home, leader)
        assert [len(home.lots(each)) for each in home.roster.family(leader)] == [1, 0]


async def test_the_last_binding_stays_while_its_end_would_let_the_leader_trade(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home, OTHER)
        await deploy(home, leader)
        with pytest.raises(InvalidState, match=f"would trade on its own account, {ACCOUNT}: pause it first"):
            await unbind(home, leader)
        with pytest.raises(InvalidState, match="pause it first"):
            await bind(home, leader, ACCOUNT)
        await home.families.pause(None, leader, close_positions=False)
        await unbind(home, leader)
        await deploy(home, leader)
        assert home.member(leader).trades
        assert statuses(home, leader) == ["deployed"]


async def test_a_name_that_is_taken_on_the_account_is_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = (await home.draft("the same")).id
        await home.lifecycle.create(OTHER, home.member(leader).strategy.definition)
        with pytest.raises(DuplicateName):
            await bind(home, leader)
        await bind(home, leader, THIRD)
        with pytest.raises(DuplicateName):
            await home.families.create(THIRD, home.member(leader).strategy.definition)


# Commands.


async def test_commands_to_the_leader_reach_all_who_follow_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=always_in)) as home:
        leader = await a_family(home, ACCOUNT, OTHER, THIRD)
        await deploy(home, leader)
        assert statuses(home, leader) == ["deployed"] * 3
        await home.close()
        await home.trade()
        runs = await home.families.trigger(None, leader)
        assert len(runs) == 3
        await home.families.pause(None, leader, close_positions=False)
        assert statuses(home, leader) == ["paused"] * 3
        await home.families.update(None, leader, {"name": "renamed", "capital": Decimal(700)})
        definitions = [home.member(each).strategy.definition for each in home.roster.family(leader)]
        assert {(each.name, each.capital) for each in definitions} == {("renamed", Decimal(700))}
        assert set(home.roster.names) == {(each, "renamed") for each in (ACCOUNT, OTHER, THIRD)}
        await deploy(home, leader)
        await home.families.stop(None, leader, close_positions=False)
        assert statuses(home, leader) == ["stopped"] * 3
        await home.families.delete(None, leader)
        assert (home.roster.members, home.roster.names, list(home.journal.rows("binding"))) == ({}, {}, [])


async def test_a_deployment_that_one_of_them_cannot_have_is_none(tmp_path: Path, autojump_clock: MockClock) -> None:
    def permit(account: str, dry_run: bool) -> None:
        if account == THIRD:
            raise InvalidState("not there")

    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home, ACCOUNT, OTHER, THIRD)
        home.lifecycle.permit = permit
        before = home.recorder.last_n
        with pytest.raises(InvalidState, match="not there"):
            await deploy(home, leader)
        assert (statuses(home, leader), home.recorder.last_n) == (["draft"] * 3, before)


async def test_a_command_that_was_cut_short_is_finished_by_the_next(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home, ACCOUNT, OTHER, THIRD)
        await deploy(home, leader)
        await home.lifecycle.pause(None, follower_of(home, leader), close_positions=False)
        await home.families.pause(None, leader, close_positions=False)
        assert statuses(home, leader) == ["paused"] * 3
        await home.lifecycle.stop(None, follower_of(home, leader, THIRD), close_positions=False)
        await home.families.stop(None, leader, close_positions=False)
        assert statuses(home, leader) == ["stopped"] * 3


async def test_a_follower_comes_back_by_itself_on_its_leaders_terms(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home, OTHER)
        follower = follower_of(home, leader)
        with pytest.raises(InvalidState, match="which is draft: deploy that one"):
            await deploy(home, follower)
        await deploy(home, leader)
        await home.families.pause(None, follower, close_positions=False)
        assert statuses(home, leader) == ["deployed", "paused"]
        with pytest.raises(InvalidState, match="trades with dry_run true"):
            await deploy(home, follower, dry_run=False)
        with pytest.raises(InvalidState, match="change its share"):
            await deploy(home, follower, capital=Decimal(900))
        await deploy(home, follower)
        assert statuses(home, leader) == ["deployed", "deployed"]
        for command in (home.families.update(None, follower, {}), home.families.delete(None, follower)):
            with pytest.raises(InvalidState, match=f"for it follows {leader}: ask that one"):
                await command
        with pytest.raises(InvalidState, match="ask that one"):
            await bind(home, follower, THIRD)


async def test_a_binding_that_is_not_enabled_rests(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home, ACCOUNT)
        await bind(home, leader, OTHER, enabled=False)
        await deploy(home, leader)
        assert statuses(home, leader) == ["deployed", "draft"]
        await bind(home, leader, OTHER, enabled=True)
        assert statuses(home, leader) == ["deployed", "deployed"]
        with pytest.raises(InvalidState, match="pause that first"):
            await bind(home, leader, OTHER, capital_share=Decimal("0.5"))
        await bind(home, leader, OTHER, enabled=False, capital_share=Decimal("0.5"))
        assert statuses(home, leader) == ["deployed", "paused"]
        with pytest.raises(InvalidState, match="not enabled"):
            await deploy(home, follower_of(home, leader))
        await bind(home, leader, OTHER, enabled=True)
        run = home.member(follower_of(home, leader)).strategy.run
        assert run is not None
        assert run.capital == home.member(leader).strategy.definition.capital / 2


# Unbinding.


async def test_live_positions_forbid_to_unbind_and_to_delete(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=always_in), dry=False) as home:
        leader = await a_family(home, ACCOUNT, OTHER)
        await deploy(home, leader)
        await home.close()
        await home.trade()
        with pytest.raises(InvalidState, match=f"1 live positions are open on {OTHER}"):
            await unbind(home, leader)
        assert statuses(home, leader) == ["deployed"] * 2
        await home.families.pause(None, leader, close_positions=False)
        with pytest.raises(InvalidState, match="1 live positions are open on"):
            await home.families.delete(None, leader)
        assert statuses(home, leader) == ["paused"] * 2


async def test_what_is_filled_while_it_is_parted_is_kept_and_looked_after(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    protected = enter(stop_price=Decimal(80))
    async with at_home(
        tmp_path, scripted(on_candle=lambda view: [] if view.positions else [protected]), dry=False
    ) as home:
        leader = await a_family(home, ACCOUNT, OTHER)
        await deploy(home, leader)
        follower = follower_of(home, leader)
        await home.close()

        async def late(actor: Employed) -> bool:
            # The market is there before the withdrawal is.
            await home.market.say(MarketTrade(SYMBOL, home.market.time_ms + 1_000, Decimal(100), Decimal(1_000)))
            await actor.until(lambda session: bool(session.positions))
            return await end_orders_of(actor)

        monkeypatch.setattr(lifecycle_module, "end_orders_of", late)
        with pytest.raises(InvalidState, match=f"1 live positions are open on {OTHER}"):
            await unbind(home, leader)
        await home.settle()

        assert statuses(home, leader) == ["deployed", "paused"]
        assert follower_of(home, leader) == follower
        assert len(home.lots(follower)) == 1
        # What protects it rests again.
        assert [order.type.value for order in home.orders(follower)] == ["stop"]


async def test_paper_positions_are_dropped_and_trades_stay(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=always_in)) as home:
        leader = await a_family(home, ACCOUNT, OTHER)
        await deploy(home, leader)
        await home.close()
        await home.trade()
        follower = follower_of(home, leader)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: home.families.pause(None, follower, close_positions=True))
            await wait_all_tasks_blocked()
            await home.trade()
        await deploy(home, follower)
        await home.close()
        await home.trade()
        assert len(home.lots(follower)) == 1
        await unbind(home, leader)
        assert [each.is_open for each in home.stored("position", Position, owner=follower)] == [False]
        assert len(home.lots(leader)) == 1


async def test_what_is_not_bound_cannot_be_unbound(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home, OTHER)
        await unbind(home, leader)
        for account in (OTHER, "acct_nobody"):
            with pytest.raises(NotFound, match="is not bound"):
                await unbind(home, leader, account)
