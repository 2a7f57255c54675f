"""Commands to a strategy and those that follow it: each does what it can, and whoever cannot holds nobody back."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

import actors.bindings as bindings_module
from actors.lifecycle import Lifecycle
from pipaid.errors import ExchangeError, InvalidState, Unavailable
from pipaid.model.strategy import Strategy
from pipaid.venues.simulated import SimulatedDesk
from tests.actors.desks import LossyDesk
from tests.actors.homes import ACCOUNT, at_home
from tests.actors.test_bindings import OTHER, THIRD, a_family, bind, deploy, follower_of, statuses, unbind
from tests.builders import enter, limit, plan, scripted

pytestmark = pytest.mark.usefixtures("logged")


async def test_who_is_bound_to_rest_does_not_trade_although_its_leader_does(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home, ACCOUNT)
        await deploy(home, leader)
        await bind(home, leader, OTHER, enabled=False)
        assert statuses(home, leader) == ["deployed", "draft"]
        await bind(home, leader, OTHER, enabled=True)
        assert statuses(home, leader) == ["deployed", "deployed"]


async def test_one_that_cannot_be_paused_keeps_no_other_trading(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home, ACCOUNT, OTHER, THIRD)
        await deploy(home, leader)
        stubborn, pause = follower_of(home, leader), Lifecycle.pause

        async def refusing(self: Lifecycle, account: str | None, id: str, *, close_positions: bool) -> Strategy:
            if id == stubborn:
                raise ExchangeError("the venue did not confirm every close")
            return await pause(self, account, id, close_positions=close_positions)

        monkeypatch.setattr(Lifecycle, "pause", refusing)
        with pytest.raises(ExchangeError, match="did not confirm"):
            await home.families.pause(None, leader, close_positions=True)
        assert statuses(home, leader) == ["paused", "deployed", "paused"]


async def test_who_was_stopped_for_good_keeps_nobody_from_being_changed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home, ACCOUNT, OTHER, THIRD)
        await deploy(home, leader)
        await home.lifecycle.stop(None, follower_of(home, leader), close_positions=False)
        await home.families.pause(None, leader, close_positions=False)

        await home.families.update(None, leader, {"leverage": 2})
        family = [home.member(each).strategy for each in home.roster.family(leader)]
        assert [each.definition.leverage for each in family] == [2, 1, 2]


async def test_nobody_is_deleted_while_one_of_them_looks_after_live_positions(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    def on_candle(view: Any) -> list[Any]:
        return [enter(quantity=Decimal(1))] if view.capital == 500 and not view.positions else []

    async with at_home(tmp_path, scripted(on_candle=on_candle), dry=False) as home:
        leader = await a_family(home, OTHER, capital=Decimal(1000))
        await bind(home, leader, THIRD, capital_share=Decimal("0.5"))
        await deploy(home, leader)
        await home.close()
        await home.trade()
        await home.families.pause(None, leader, close_positions=False)

        with pytest.raises(InvalidState, match=f"1 live positions are open on {THIRD}"):
            await home.families.delete(None, leader)
        assert statuses(home, leader) == ["paused"] * 3


async def test_what_may_still_be_filled_on_its_own_account_keeps_it_there(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    def late(venue: SimulatedDesk) -> LossyDesk:
        return LossyDesk(venue, default="late")

    entering = scripted(on_candle=plan([limit("100", stop_price=Decimal(90))]))
    async with at_home(tmp_path, entering, make_desk=late) as home:
        leader = (await home.deploy()).id
        await home.close()
        await home.families.pause(None, leader, close_positions=False)
        assert (len(home.lots(leader)), len(home.orders(leader))) == (0, 1)
        with pytest.raises(InvalidState, match="bind it to that one as well, or pause it and close"):
            await bind(home, leader)


async def test_where_who_followed_was_stopped_for_good_a_binding_is_not_changed_but_made_anew(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home, ACCOUNT, OTHER)
        await deploy(home, leader)
        stopped = follower_of(home, leader)
        await home.lifecycle.stop(None, stopped, close_positions=False)
        for change in ({"capital_share": Decimal("0.5")}, {"enabled": False}, {}):
            with pytest.raises(InvalidState, match=f"{stopped}, which followed it there, was stopped for good: unbind"):
                await bind(home, leader, OTHER, **change)
        await unbind(home, leader)
        await bind(home, leader, OTHER)
        assert statuses(home, leader) == ["deployed", "deployed"]
        assert follower_of(home, leader) != stopped


async def test_a_strategy_is_bound_to_so_many_accounts_and_no_more(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bindings_module, "BINDINGS_MAX", 2)
    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home, ACCOUNT, OTHER)
        with pytest.raises(InvalidState, match="bound to 2 accounts already, which is the most"):
            await bind(home, leader, THIRD)
        # What is there may be changed all the same.
        await bind(home, leader, OTHER, capital_share=Decimal("0.5"))
        assert len(home.roster.family(leader)) == 2


async def test_who_follows_a_paused_strategy_is_not_deployed_without_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home, ACCOUNT, OTHER)
        await deploy(home, leader)
        await home.families.pause(None, leader, close_positions=False)
        with pytest.raises(InvalidState, match="which is paused: deploy that one"):
            await deploy(home, follower_of(home, leader))
        assert statuses(home, leader) == ["paused", "paused"]


async def test_a_strategy_that_does_not_trade_itself_is_not_evaluated_with_those_that_follow_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home, OTHER, THIRD)
        await deploy(home, leader)
        await home.close()
        runs = await home.families.trigger(None, leader)
        found = {row.owner for row in home.journal.rows("run") if row.key in runs}
        assert (len(runs), found) == (2, {follower_of(home, leader), follower_of(home, leader, THIRD)})


async def test_while_memory_is_short_no_binding_is_enabled_that_would_have_somebody_run(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        leader = await a_family(home, ACCOUNT)
        await bind(home, leader, OTHER, enabled=False)
        await deploy(home, leader)
        home.lifecycle.short = lambda: True
        with pytest.raises(Unavailable, match="holds more memory than it should"):
            await bind(home, leader, OTHER, enabled=True)
        assert statuses(home, leader) == ["deployed", "draft"]
