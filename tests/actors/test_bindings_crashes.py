"""Crashes among those who follow one strategy: each is its own, and the others trade on."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from pipaid.errors import InvalidState
from pipaid.model.strategy import Status
from tests.actors.homes import ACCOUNT, at_home
from tests.actors.test_bindings import OTHER, THIRD, a_family, always_in, bind, deploy, follower_of, statuses
from tests.builders import scripted

pytestmark = pytest.mark.usefixtures("logged")


@pytest.mark.parametrize("who", [ACCOUNT, OTHER])
async def test_a_crash_of_one_leaves_all_others_of_the_family_trading(
    who: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    shares = {ACCOUNT: Decimal(1), OTHER: Decimal("0.5"), THIRD: Decimal("0.25")}
    broken = [1000 * shares[who]]

    def on_candle(view: Any) -> Any:
        if view.capital in broken:
            raise ValueError("on every candle")
        return always_in(view)

    async with at_home(tmp_path, scripted(on_candle=on_candle), lockstep=True) as home:
        leader = (await home.draft(capital=Decimal(1000))).id
        for account, share in shares.items():
            await bind(home, leader, account, capital_share=share)
        await deploy(home, leader)
        for _ in range(8):
            await home.close()
            await home.trade()
        family = dict(zip(shares, home.roster.family(leader), strict=True))

        found = {account: home.member(each).strategy.status.value for account, each in family.items()}
        assert found == {**dict.fromkeys(shares, "deployed"), who: "error"}
        assert {account: len(home.lots(each)) for account, each in family.items()} == {
            **dict.fromkeys(shares, 1), who: 0,
        }  # fmt: skip
        assert len(await home.families.trigger(None, leader)) == 2

        broken.clear()
        await home.families.reset(None, leader)
        assert home.member(family[who]).strategy.status is Status.PAUSED
        assert statuses(home, leader).count("deployed") == 2
        # Whoever is bound and was mended goes on at the next deployment, or by itself.
        if who == OTHER:
            await deploy(home, family[who])
        else:
            await deploy(home, leader)
        assert statuses(home, leader) == ["deployed"] * 3


async def test_a_trigger_that_one_of_them_fails_at_is_one_of_the_others_all_the_same(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    def on_candle(view: Any) -> Any:
        if view.capital == 500 and view.positions == []:
            raise ValueError("at every candle")
        return ()

    async with at_home(tmp_path, scripted(on_candle=on_candle)) as home:
        leader = await a_family(home, ACCOUNT, capital=Decimal(1000))
        await home.close()
        await bind(home, leader, OTHER, capital_share=Decimal("0.5"))
        await deploy(home, leader)
        runs = await home.families.trigger(None, leader)

        found = {each.owner: each.state for each in home.journal.rows("run") if each.key in runs}
        assert found == {leader: "hold", follower_of(home, leader): "failed"}


async def test_who_is_in_error_keeps_nobody_from_being_changed_and_deployed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home, ACCOUNT, capital=Decimal(1000))
        await bind(home, leader, OTHER, capital_share=Decimal("0.5"))
        await deploy(home, leader)
        follower = follower_of(home, leader)
        await home.families.halt(None, follower, code="ENGINE_CRASH", message="for the test")
        await home.families.pause(None, leader, close_positions=False)

        await home.families.update(None, leader, {"capital": Decimal(3000)})
        await deploy(home, leader)
        assert statuses(home, leader) == ["deployed", "error"]

        await home.families.reset(None, follower)
        await deploy(home, follower)
        run = home.member(follower).strategy.run
        assert run is not None
        assert run.capital == 1500


async def test_who_is_given_up_while_others_are_looked_at_is_not_deployed_over(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home, ACCOUNT)
        await bind(home, leader, OTHER)
        await deploy(home, leader)
        await home.families.pause(None, leader, close_positions=False)
        member, judged = home.member(leader), home.lifecycle.permit

        def permit(account: str, dry_run: bool) -> None:
            judged(account, dry_run)
            if account == OTHER:
                member.strategy = home.roster.halted(member.strategy, "ENGINE_CRASH", "meanwhile")

        home.lifecycle.permit = permit
        with pytest.raises(InvalidState, match="is error by now"):
            await deploy(home, leader)
        assert statuses(home, leader) == ["error", "paused"]
