"""Changes of bindings: they hold once it is sure that they may, and are told of when they come."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
import trio
from msgspec import UNSET
from trio.testing import MockClock

from pipaid.errors import InsufficientPermission, InvalidState, Unavailable
from pipaid.model.moment import iso_millis
from pipaid.model.strategy import Binding
from tests.actors.homes import ACCOUNT, at_home
from tests.actors.test_bindings import OTHER, a_family, bind, deploy, follower_of, statuses, unbind
from tests.builders import scripted

pytestmark = pytest.mark.usefixtures("logged")


async def test_a_binding_whose_follower_may_not_run_is_not_enabled(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(), dry=False) as home:
        leader = await a_family(home, ACCOUNT)
        await bind(home, leader, OTHER, enabled=False)
        await deploy(home, leader)

        def permit(account: str, dry_run: bool) -> None:
            raise InsufficientPermission(f"{account} trades on paper")

        home.lifecycle.permit = permit
        with pytest.raises(InsufficientPermission, match=OTHER):
            await bind(home, leader, OTHER, enabled=True)
        (kept,) = [each for each in home.stored("binding", Binding) if each.account == OTHER]
        assert not kept.enabled
        assert kept in home.member(leader).bindings
        assert statuses(home, leader) == ["deployed", "draft"]


async def test_a_notice_of_a_binding_bears_the_time_of_the_binding(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = (await home.draft()).id
        for change in (bind, unbind):
            await trio.sleep(3_600)
            before_ms = home.world.clock.now_us() // 1_000
            await change(home, leader)
            (told,) = [
                each for each in home.frames(f"account/{ACCOUNT}", "updated") if each["ts"] >= iso_millis(before_ms)
            ]
            assert told["data"]["strategy"]["id"] == leader


async def test_the_share_of_the_own_account_stays_while_it_trades_with_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home)
        await deploy(home, leader)
        await bind(home, leader, ACCOUNT)
        with pytest.raises(InvalidState, match="pause it first"):
            await bind(home, leader, ACCOUNT, capital_share=Decimal("0.5"))
        assert [each.capital_share for each in home.member(leader).bindings] == [1]
        await home.families.pause(None, leader, close_positions=False)
        home.lifecycle.closed = "draining"
        with pytest.raises(Unavailable, match="draining"):
            await bind(home, leader, ACCOUNT, capital_share=Decimal("0.5"))
        home.lifecycle.closed = ""
        await bind(home, leader, ACCOUNT, capital_share=Decimal("0.5"))
        await deploy(home, leader)
        run = home.member(leader).strategy.run
        assert run is not None
        assert run.capital == home.member(leader).strategy.definition.capital / 2


async def test_whoever_binds_a_strategy_away_from_its_own_account_is_told_so(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = (await home.draft()).id

        away, both, again = [await bind(home, leader, account) for account in (OTHER, ACCOUNT, OTHER)]

        assert away.notes == (
            f"{leader} does not trade on its own account, {ACCOUNT}: bind it to that one as well for both",
        )
        assert (both.notes, again.notes) == (UNSET, UNSET)


async def test_a_binding_keeps_its_share_unless_another_is_given(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home, ACCOUNT)
        for account, share in ((OTHER, "0.5"), (ACCOUNT, "0.25")):
            assert (await bind(home, leader, account, capital_share=Decimal(share))).capital_share == share
        await deploy(home, leader)
        for enabled in (False, True):
            for account, share in ((OTHER, "0.5"), (ACCOUNT, "0.25")):
                on = enabled or account == ACCOUNT
                kept = await bind(home, leader, account, enabled=on)
                assert (kept.enabled, kept.capital_share) == (on, share)
        run = home.member(follower_of(home, leader)).strategy.run
        assert run is not None
        assert run.capital == home.member(leader).strategy.definition.capital / 2
        await bind(home, leader, OTHER, enabled=False)
        resting = await bind(home, leader, OTHER, capital_share=Decimal("0.75"))
        assert (resting.enabled, resting.capital_share, resting.status) == (False, "0.75", "paused")


async def test_who_was_paused_by_itself_stays_so_whatever_becomes_of_its_share(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home, ACCOUNT, OTHER)
        await deploy(home, leader)
        follower = follower_of(home, leader)
        await home.families.pause(None, follower, close_positions=False)
        await bind(home, leader, OTHER, capital_share=Decimal("0.5"))
        assert statuses(home, leader) == ["deployed", "paused"]
        await deploy(home, follower)
        run = home.member(follower).strategy.run
        assert run is not None
        assert run.capital == home.member(leader).strategy.definition.capital / 2


async def test_while_draining_nothing_is_deployed_or_changed_whatever_else_stands_against_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        alone, leader = (await home.draft(name="alone")).id, await a_family(home, ACCOUNT, OTHER)
        for each in (alone, leader):
            await deploy(home, each)
        home.lifecycle.closed = "draining"
        for each in (alone, leader, follower_of(home, leader)):
            with pytest.raises(Unavailable, match="draining"):
                await deploy(home, each)
        for each in (alone, leader):
            with pytest.raises(Unavailable, match="draining"):
                await home.families.update(None, each, {"leverage": 2})
