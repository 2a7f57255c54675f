"""Notices: what befalls an account besides the course of its strategies is durable and told once; low balances too."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from actors.balances import LOOK_EVERY_S, Balances, available
from pipaid.model.webhook import BALANCE_LOW, Webhook, WebhookStatus
from tests.actors.homes import ACCOUNT, Home, at_home
from tests.builders import enter, scripted

pytestmark = pytest.mark.usefixtures("logged")

ENTERING = scripted(on_candle=lambda view: [] if view.positions else [enter(tag="one")])


@define
class Hooks:
    """The webhooks of a test."""

    hooks: dict[str, Webhook] = field(factory=dict[str, Webhook])

    def add(self, threshold: str, account: str = ACCOUNT, **fields: Any) -> None:
        fresh = f"wh_{len(self.hooks)}"
        self.hooks[fresh] = Webhook(
            id=fresh, account=account, url="https://example.com/", events=(BALANCE_LOW,), created_at_us=1,
            balance_low_threshold=Decimal(threshold), **fields,
        )  # fmt: skip


def notices(home: Home, name: str, told: str = f"account/{ACCOUNT}") -> list[Any]:
    return [frame["data"] for frame in home.frames(told, name)]


async def looking(home: Home, hooks: Hooks) -> Balances:
    balances = Balances(
        webhooks=hooks, members=lambda: home.roster.members.values(), writer=home.recorder, clock=home.world.clock
    )
    await home.nursery.start(balances.run)
    return balances


async def looked(home: Home) -> None:
    await trio.sleep(2 * LOOK_EVERY_S)
    await home.settle()


async def test_a_strategy_that_comes_changes_and_goes_is_told_with_all_that_it_is(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.draft("sol range")
        await home.lifecycle.update(ACCOUNT, strategy.id, {"capital": Decimal(777)})
        await home.lifecycle.update(ACCOUNT, strategy.id, {"name": "another"})
        await home.lifecycle.update(ACCOUNT, strategy.id, {"name": "another"})
        await home.lifecycle.delete(ACCOUNT, strategy.id)

        (created,), (changed, renamed), (deleted,) = (notices(home, name) for name in ("created", "updated", "deleted"))
    assert [each["strategy_id"] for each in (created, changed, renamed, deleted)] == [strategy.id] * 4
    assert (created["name"], created["strategy"]["status"], created["strategy"]["id"]) == (
        "sol range", "draft", strategy.id,
    )  # fmt: skip
    assert (changed["name"], changed["strategy"]["capital"]) == ("sol range", "777.00")
    assert (renamed["name"], deleted["name"]) == ("another", "another")
    assert deleted["strategy"]["stats"]["open_positions"] == 0


async def test_the_stream_of_a_strategy_has_no_hole_from_what_is_told_to_its_account(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy()
        (deployed,) = home.frames(strategy.id, "deployed")

    assert deployed["seq"] == 1


async def test_everybody_is_told_of_the_kill_switch(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        await home.portfolio.activate("a drill", by="somebody", close_positions=False)
        await home.portfolio.deactivate(by="somebody")

        thrown, released = notices(home, "kill_switch", "accounts/")
    assert (thrown["is_active"], thrown["reason"], released["is_active"]) == (True, "a drill", False)
    assert thrown["activated_at"].endswith("Z")
    assert released["activated_at"] is None
    assert "somebody" not in str(thrown)


async def test_what_is_available_is_capital_and_profit_less_what_positions_bind(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, ENTERING, dry=False) as home:
        strategy = await home.deploy(capital=Decimal(1_000), leverage=2)
        members = home.roster.members.values()
        whole = available(members)[ACCOUNT]
        await home.close("100")
        await home.trade("100")
        (lot,) = home.lots(strategy.id)
        bound = available(members)[ACCOUNT]
        session = home.session(strategy.id)
        margin = lot.open_value / 2

        assert whole == Decimal(1_000)
        assert abs(bound - (1_000 + session.unrealised() - margin)) <= Decimal("0.01")
        assert bound < whole


async def test_dry_runs_and_drafts_are_no_balance(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        await home.draft("a draft")
        await home.deploy()

        assert available(home.roster.members.values()) == {}


async def test_a_webhook_is_told_once_and_again_after_the_balance_has_risen(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    hooks = Hooks()
    hooks.add("900")
    hooks.add("100")
    hooks.add("900", account="acct_2")
    hooks.add("900", status=WebhookStatus.PAUSED)
    async with at_home(tmp_path, ENTERING, dry=False) as home:
        await home.deploy(capital=Decimal(1_000))
        await looking(home, hooks)
        await looked(home)
        before = len(notices(home, "balance_low"))
        await home.close("100")
        await home.trade("100")
        for _ in range(5):
            await looked(home)
        first = notices(home, "balance_low")
        second = await home.deploy("another", capital=Decimal(5_000))
        await looked(home)
        risen = len(notices(home, "balance_low"))
        await home.lifecycle.stop(ACCOUNT, second.id, close_positions=True)
        await looked(home)
        again = notices(home, "balance_low")

    assert (before, risen) == (0, 1)
    assert [(each["webhook_id"], each["asset"], each["threshold"]) for each in first] == [("wh_0", "USDT", "900")]
    assert Decimal(first[0]["available"]) < 900
    assert [each["webhook_id"] for each in again] == ["wh_0", "wh_0"]


async def test_a_restart_tells_nothing_twice_and_another_threshold_anew(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    hooks = Hooks()
    hooks.add("2000")
    async with at_home(tmp_path, scripted(), dry=False) as home:
        await home.deploy(capital=Decimal(1_000))
        first = await looking(home, hooks)
        await looked(home)
        second = await looking(home, hooks)
        await looked(home)
        once = len(notices(home, "balance_low"))
        hooks.hooks["wh_0"] = msgspec.structs.replace(hooks.hooks["wh_0"], balance_low_threshold=Decimal(3_000))
        await looked(home)
        told = notices(home, "balance_low")

    assert first is not second
    assert once == 1
    assert {each["threshold"] for each in told} == {"2000", "3000"}


async def test_a_deleted_webhook_is_forgotten(tmp_path: Path, autojump_clock: MockClock) -> None:
    hooks = Hooks()
    hooks.add("2000")
    async with at_home(tmp_path, scripted(), dry=False) as home:
        await home.deploy(capital=Decimal(1_000))
        await looking(home, hooks)
        await looked(home)
        kept = len(home.stored("balance", dict))
        hooks.hooks.clear()
        await looked(home)
        left = len(home.stored("balance", dict))

    assert (kept, left) == (1, 0)
