"""A strategy that asks models is made wherever it is asked for, and runs where all of them are configured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from pipaid.engine.template import Template
from pipaid.errors import InvalidParameter, InvalidState
from pipaid.model.strategy import Status
from tests.actors.homes import Home, at_home
from tests.builders import make_definition, scripted

KNOWN = {("main", "small")}


def asking(*models: tuple[str, str]) -> type[Template]:
    def asks(cls: type[Template], params: Any) -> Any:
        return models

    return scripted(asks=classmethod(asks))


def breaking() -> type[Template]:
    def asks(cls: type[Template], params: Any) -> Any:
        raise SystemExit("no more")

    return scripted(asks=classmethod(asks))


def configured(home: Home) -> Home:
    home.checks.lacks = lambda provider, model: "" if (provider, model) in KNOWN else f"add {model} of {provider}"
    home.lifecycle.able = home.checks.able
    return home


async def deployed(home: Home) -> Status:
    made = await home.lifecycle.create(None, make_definition())
    ready = await home.lifecycle.deploy(None, made.id, capital=None, leverage=None, dry_run=True)
    return ready.status


@pytest.mark.parametrize("template", [scripted(), asking(), asking(("main", "small"), ("main", "small"))])
async def test_whoever_asks_nobody_or_whom_there_is_runs(
    tmp_path: Path, template: type[Template], autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, template) as home:
        assert await deployed(configured(home)) is Status.DEPLOYED


async def test_whoever_asks_a_model_that_is_not_there_is_made_and_does_not_run(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, asking(("main", "large"), ("main", "small"), ("other", "small"))) as home:
        with pytest.raises(InvalidState, match=r"^add large of main; add small of other$"):
            await deployed(configured(home))
        (member,) = home.roster.members.values()
        told = home.checks.lacking(member.strategy.definition, home.roster.catalogue.get("tpl_scripted"))

    assert member.strategy.status is Status.DRAFT
    assert told == ("add large of main", "add small of other")


async def test_a_template_that_breaks_over_it_is_refused_and_nothing_else_happens(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, breaking()) as home:
        with pytest.raises(InvalidParameter, match="broke while it checked them"):
            await deployed(configured(home))
