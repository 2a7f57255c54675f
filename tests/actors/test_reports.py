"""What the daemon says of itself, and the two steps that loosening a cap takes."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

import actors.reports as reports_module
from actors.reports import Reports, operations_of
from pipaid.errors import InvalidState
from pipaid.model import report, request
from pipaid.model.condition import Condition
from pipaid.model.operation import OPERATIONS
from tests.actors.homes import Home, at_home
from tests.builders import enter, plan, scripted

pytestmark = pytest.mark.usefixtures("logged")

NOTHING = request.Nothing()


@define
class Person:
    """Somebody who asks."""

    account: str | None = None
    who: str = "somebody"


SOMEBODY = Person()


@define
class Figures:
    """Figures that a test sets."""

    troubles: tuple[str, ...] = ()
    disputed: tuple[report.FrozenSymbol, ...] = ()

    def market(self) -> report.MarketFigures:
        return report.MarketFigures(
            name="hand", kind="synthetic", speed="1", symbols=("BTCUSDT",), candles=0, stale_symbols=(), ended=False
        )

    def journal(self) -> report.JournalFigures:
        return report.JournalFigures(
            n=1,
            commits=1,
            batches=1,
            records=1,
            refusals=0,
            pending=0,
            group_last=1,
            group_largest=1,
            latency_last_ms=0.1,
            size_bytes=4096,
        )

    def clients(self) -> report.ClientFigures:
        return report.ClientFigures(control=1, control_max=32, stream=0, stream_max=1000)

    def infrastructure(self) -> list[report.ActorObject]:
        return [
            report.ActorObject(
                name=name,
                kind="infrastructure",
                state="running",
                restarts=0,
                last_failure=None,
                mailbox=0,
                mailbox_max=None,
            )
            for name in ("recorder", "roster")
        ]

    def degraded(self) -> tuple[str, ...]:
        return self.troubles

    def webhooks(self) -> report.WebhookFigures:
        return report.WebhookFigures(webhooks=2, waiting=5)

    def llm(self) -> report.LlmFigures:
        return report.LlmFigures(providers=1, open=2)

    def frozen(self) -> tuple[report.FrozenSymbol, ...]:
        return self.disputed

    def counters(self) -> dict[str, int | float]:
        return {"pipaid_candles_total": 3}


@define
class Ends:
    """Note what the reports set in motion."""

    ended: list[str] = field(factory=list[str])

    def end(self) -> None:
        self.ended.append("end")

    def drain(self) -> None:
        self.ended.append("drain")

    async def reread(self) -> report.Reloaded:
        return report.Reloaded(changed=(), needs_restart=())


def reporting(home: Home, figures: Figures | None = None, ends: Ends | None = None) -> Reports:
    ends = ends or Ends()
    return Reports(
        world=home.world,
        quotes=home.quotes,
        gauge=figures or Figures(),
        switch=home.portfolio,
        conditions=home.conditions,
        members=home.roster.members.values,
        epoch=7,
        end=ends.end,
        reread=ends.reread,
        stop_entries=ends.drain,
        started_s=home.world.clock.monotonic_s(),
        state="running",
    )


def asking(**caps: Any) -> request.RiskSet:
    return request.RiskSet(**caps)


async def refused_token(reports: Reports, asked: request.RiskSet) -> str:
    with pytest.raises(InvalidState, match="this loosens") as refused:
        await reports.risk_set(SOMEBODY, asked)
    found = re.search(r'"confirm": "(cfm_[0-9a-f]+)"', refused.value.message)
    assert found is not None, refused.value.message
    return found.group(1)


async def test_risk_shows_what_is_frozen_and_by_how_much_beside_the_caps(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    disputed = (report.FrozenSymbol(desk="paper", symbol="BTCUSDT", unassigned="-0.4"),)
    async with at_home(tmp_path, scripted()) as home:
        reports = reporting(home, Figures(disputed=disputed))

        assert (await reports.risk_get(SOMEBODY, request.Nothing())).frozen == disputed
        assert (await reports.risk_set(SOMEBODY, asking(leverage_max=3))).frozen == disputed


async def test_tightening_takes_effect_at_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        shown = await reporting(home).risk_set(SOMEBODY, asking(leverage_max=3, hedging_allowed=False))

        assert (shown.leverage_max, home.books[True].caps.hedging_allowed) == (3, False)


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        ({"leverage_max": 3}, {"leverage_max": 4}, "leverage_max"),
        ({"leverage_max": 3}, {"leverage_max": None}, "leverage_max"),
        ({"daily_loss_max": Decimal("9.5")}, {"daily_loss_max": Decimal("10.25")}, "daily_loss_max"),
        ({"hedging_allowed": False}, {"hedging_allowed": True}, "hedging_allowed"),
        ({"rate_limit_enabled": True}, {"rate_limit_enabled": False}, "rate_limit_enabled"),
        ({"rate_limit_window_hours": Decimal(8)}, {"rate_limit_window_hours": Decimal(7)}, "rate_limit_window_hours"),
        ({}, {"portfolio_drawdown_max": Decimal("0.5")}, "portfolio_drawdown_max"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_loosening_needs_the_token_of_its_refusal(
    before: dict[str, Any], after: dict[str, Any], name: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        reports = reporting(home)
        if name == "portfolio_drawdown_max":
            await home.portfolio.set_caps({name: Decimal("0.3")}, by="somebody")
        elif before:
            await reports.risk_set(SOMEBODY, asking(**before))
        in_force = home.portfolio.risk()
        token = await refused_token(reports, asking(**after))
        assert home.portfolio.risk() == in_force

        await reports.risk_set(SOMEBODY, asking(**after, confirm=token))

        assert home.portfolio.risk() != in_force


async def test_a_token_is_good_once_for_one_change_and_for_a_while(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        reports = reporting(home)
        await reports.risk_set(SOMEBODY, asking(leverage_max=3))
        token = await refused_token(reports, asking(leverage_max=4))
        await refused_token(reports, asking(leverage_max=5, confirm=token))
        await refused_token(reports, asking(leverage_max=4, confirm="cfm_00000000"))

        await reports.risk_set(SOMEBODY, asking(leverage_max=4, confirm=token))
        await reports.risk_set(SOMEBODY, asking(leverage_max=3))
        token = await refused_token(reports, asking(leverage_max=4, confirm=token))
        await trio.sleep(301)
        await refused_token(reports, asking(leverage_max=4, confirm=token))

        assert home.books[True].caps.leverage_max == 3


async def test_tokens_have_a_bound(tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports_module, "CONFIRMATIONS_MAX", 3)
    async with at_home(tmp_path, scripted()) as home:
        reports = reporting(home)
        await reports.risk_set(SOMEBODY, asking(leverage_max=1))
        tokens = [await refused_token(reports, asking(leverage_max=leverage)) for leverage in range(2, 8)]

        assert len(reports._confirmations) == 3
        await refused_token(reports, asking(leverage_max=2, confirm=tokens[0]))
        await reports.risk_set(SOMEBODY, asking(leverage_max=7, confirm=tokens[-1]))


async def test_status_adds_up_what_strategies_have(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter(stop_price=Decimal(50))]))) as home:
        await home.deploy("runs")
        await home.draft("waits")
        await home.close()
        await home.trade("100")
        await home.trade("110")
        status = await reporting(home, Figures(("stale prices: X",))).status(SOMEBODY, NOTHING)

        assert status.strategies == {"deployed": 1, "draft": 1}
        assert (status.open_positions, status.working_orders) == (1, 1)
        assert Decimal("9") < Decimal(status.total_pnl) <= Decimal("10")
        assert (status.epoch, status.state, status.degraded) == (7, "running", ("stale prices: X",))


async def test_health_tells_the_state_before_the_verdict(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        figures = Figures()
        reports = reporting(home, figures)
        assert (await reports.health(SOMEBODY, NOTHING)).status == "healthy"
        figures.troubles = ("a trouble",)
        assert (await reports.health(SOMEBODY, NOTHING)).status == "degraded"
        reports.state = "stopping"
        assert (await reports.health(SOMEBODY, NOTHING)).status == "stopping"


async def test_strategies_hang_below_the_roster_and_tell_their_failures(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy()
        await home.draft("waits")
        home.actor(strategy.id)._crash(ValueError("a crash from anywhere"))
        tree = await reporting(home).actors(SOMEBODY, NOTHING)
        assert tree.data[1].children[0].state == "restarting"
        await home.settle()

        tree = await reporting(home).actors(SOMEBODY, NOTHING)
        (child,) = tree.data[1].children
        assert (tree.data[0].children, child.state, child.restarts) == ((), "running", 1)
        assert child.last_failure == "ValueError: a crash from anywhere"


async def test_turns_of_the_kill_switch_come_in_pages(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        reports = reporting(home)
        for number in range(3):
            await trio.sleep(1)
            await reports.kill_activate(SOMEBODY, request.KillActivate(reason=f"drill {number}"))
        shown = await reports.kill_get(SOMEBODY, NOTHING)
        assert (shown.is_active, shown.reason, shown.activated_by) == (True, "drill 2", "somebody")

        first = await reports.kill_logs(SOMEBODY, request.KillLogs(limit=2))
        rest = await reports.kill_logs(SOMEBODY, request.KillLogs(limit=2, cursor=first.next_cursor))

        assert [turn.reason for turn in (*first.data, *rest.data)] == ["drill 2", "drill 1", "drill 0"]
        assert rest.next_cursor is None


async def test_conditions_make_the_daemon_degraded_and_their_turns_come_in_pages(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        reports = reporting(home)
        home.conditions.enter(Condition.DISK, "3 MiB are left")
        status = await reports.status(SOMEBODY, NOTHING)
        assert (status.state, [each.condition for each in status.conditions]) == ("degraded", ["disk"])
        home.conditions.note(Condition.SUSPENDED, "for 5 s")
        home.conditions.note(Condition.CLOCK, "by an hour")
        await home.settle()

        first = await reports.condition_logs(SOMEBODY, request.ConditionLogs(limit=2))
        rest = await reports.condition_logs(SOMEBODY, request.ConditionLogs(limit=2, cursor=first.next_cursor))

        assert [turn.condition for turn in (*first.data, *rest.data)] == ["clock", "suspended", "disk"]
        assert rest.next_cursor is None
        reports.state = "draining"
        assert (await reports.status(SOMEBODY, NOTHING)).state == "draining"


async def test_drain_and_shutdown_are_set_in_motion(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        ends = Ends()
        reports = reporting(home, ends=ends)
        assert (await reports.drain(SOMEBODY, NOTHING)).state == "draining"
        await reports.shutdown(SOMEBODY, NOTHING)

        assert ends.ended == ["drain", "end"]


async def test_each_method_that_bears_the_name_of_an_operation_answers_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        found = operations_of(reporting(home))

        assert {"ping", "status", "health", "actors", "risk.set", "kill.logs", "log.level"} <= set(found)
        assert set(found) <= set(OPERATIONS)
