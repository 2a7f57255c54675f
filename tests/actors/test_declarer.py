"""Declared strategies become real once; a refused declaration is told with its place and leaves the others alone."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.declarer import Declarer
from pipaid.model.strategy import Status, StrategyDefinition
from tests.actors.homes import ACCOUNT, Home, at_home
from tests.builders import make_definition, scripted

pytestmark = pytest.mark.usefixtures("logged")


@define
class Declaration:
    """A strategy as a file declares it."""

    definition: StrategyDefinition
    deploy: bool = True
    dry_run: bool = True
    source: str = "strategies.toml:3"


def declaring(home: Home, *declarations: Declaration, wait_for: trio.Event | None = None) -> Declarer:
    return Declarer(
        account=ACCOUNT,
        declarations=declarations,
        commands=home.lifecycle,
        found=home.roster.named,
        wait_for=wait_for,
        gate=trio.Event(),
    )


def declared(name: str, **fields: Any) -> Declaration:
    deploy = fields.pop("deploy", True)
    return Declaration(make_definition(name=name, **fields), deploy=deploy)


def statuses(home: Home) -> dict[str, Status]:
    return {member.strategy.definition.name: member.strategy.status for member in home.roster.members.values()}


async def test_what_is_declared_is_created_and_runs_if_it_is_to(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        declarer = declaring(home, declared("runs"), declared("waits", deploy=False))
        await home.nursery.start(declarer.run)

        assert statuses(home) == {"runs": Status.DEPLOYED, "waits": Status.DRAFT}
        assert {member.strategy.source for member in home.roster.members.values()} == {"strategies.toml:3"}
        assert declarer.gate.is_set()


async def test_the_next_start_keeps_what_a_person_did(
    tmp_path: Path, autojump_clock: MockClock, logged: list[Any]
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        await home.nursery.start(declaring(home, declared("a"), declared("b")).run)
        first = home.roster.named(ACCOUNT, "a")
        assert first is not None
        await home.lifecycle.pause(ACCOUNT, first.id, close_positions=False)

    async with at_home(tmp_path, scripted()) as home:
        await home.nursery.start(declaring(home, declared("a"), declared("b", capital=Decimal(400))).run)

        assert statuses(home) == {"a": Status.PAUSED, "b": Status.DEPLOYED}
        second = home.roster.named(ACCOUNT, "b")
        assert second is not None
        assert second.definition.capital == 1000
    assert [entry["strategy"] for entry in logged if entry["event"] == "declaration.differs"] == ["b"]


async def test_a_refused_declaration_leaves_the_others_alone(
    tmp_path: Path, autojump_clock: MockClock, logged: list[Any]
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        declarer = declaring(home, declared("bad", capital=Decimal(1)), declared("good"))
        await home.nursery.start(declarer.run)

        assert statuses(home) == {"good": Status.DEPLOYED}
        assert set(declarer.refused) == {"bad"}
        assert declarer.gate.is_set()
    (told,) = [entry for entry in logged if entry["event"] == "declaration.refused"]
    assert (told["strategy"], told["place"], told["code"]) == ("bad", "strategies.toml:3", "INVALID_PARAMETER")


async def test_it_waits_for_the_first_prices_without_holding_the_start_up(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        declarer = declaring(home, declared("a"), wait_for=home.feed.first_close)
        await home.nursery.start(declarer.run)
        await wait_all_tasks_blocked()
        assert statuses(home) == {}

        await home.close()
        await wait_all_tasks_blocked()
        assert statuses(home) == {"a": Status.DEPLOYED}
