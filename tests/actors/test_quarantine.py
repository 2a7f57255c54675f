"""A strategy in quarantine trades no more, keeps what guards its positions, and leaves its neighbours alone."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from trio.testing import MockClock

from actors.actor import Phase
from actors.quarantine import quarantine, stalled
from pipaid.engine.definition import definition_number
from pipaid.errors import InvalidParameter
from pipaid.model.strategy import QUARANTINED, Status
from tests.actors.homes import HandMarket, at_home
from tests.builders import enter, limit, make_definition, plan, scripted
from tests.storage.journals import START_US, open_journal

pytestmark = pytest.mark.usefixtures("logged")


async def test_entries_are_withdrawn_and_stops_stay_from_the_first_moment(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    wishes = plan([enter(stop_price=Decimal(90)), limit("80")])
    templates = [scripted(on_candle=wishes), scripted(id="tpl_sound")]
    async with at_home(tmp_path, templates) as home:
        strategy = await home.deploy("stuck")
        neighbour = await home.deploy("sound", template_id="tpl_sound")
        await home.close()
        await home.trade()
        assert sorted(order.type.value for order in home.orders(strategy.id)) == ["limit", "stop"]
        market = home.market
    journal = open_journal(tmp_path)
    quarantine(journal, Phase.CALLBACK, strategy.number, now_us=START_US)
    journal.close()

    for _ in range(2):
        market = HandMarket(time_ms=market.time_ms)
        async with at_home(tmp_path, templates, market=market) as home:
            await home.settle()
            found = home.member(strategy.id).strategy
            assert found.fault is not None
            assert (found.status, found.fault.code) == (Status.ERROR, QUARANTINED)
            assert "held the whole daemon up in a callback" in found.fault.message
            assert [order.type.value for order in home.orders(strategy.id)] == ["stop"]
            assert len(home.lots(strategy.id)) == 1
            assert home.member(neighbour.id).strategy.status is Status.DEPLOYED
    async with at_home(tmp_path, templates, market=HandMarket(time_ms=market.time_ms)) as home:
        await home.trade("85")
        assert home.lots(strategy.id) == []


async def test_a_person_releases_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy()
        market = home.market
    journal = open_journal(tmp_path)
    quarantine(journal, Phase.LOADING, strategy.number, now_us=START_US)
    assert journal.last_seq(strategy.id) == 2
    journal.close()

    async with at_home(tmp_path, scripted(), market=HandMarket(time_ms=market.time_ms)) as home:
        await home.lifecycle.reset(None, strategy.id)
        await home.lifecycle.deploy(None, strategy.id, capital=None, leverage=None, dry_run=True)

        assert home.member(strategy.id).strategy.status is Status.DEPLOYED
        assert home.member(strategy.id).strategy.fault is None


async def test_who_is_unknown_or_halted_already_stays_as_it_is(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy()
        await home.lifecycle.halt(None, strategy.id, code="SIM_HALT", message="by hand")
        draft = await home.draft("never deployed")
    journal = open_journal(tmp_path)
    last = journal.last_seq(strategy.id)
    for number in (strategy.number, draft.number, 999):
        quarantine(journal, Phase.CALLBACK, number, now_us=START_US)
    assert journal.last_seq(strategy.id) == last
    journal.close()


async def test_a_definition_whose_check_held_the_daemon_up_is_refused_until_it_changes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    definition, template = make_definition(name="first"), scripted()
    journal = open_journal(tmp_path)
    quarantine(journal, Phase.CHECKING, definition_number(definition, template), now_us=START_US)
    journal.close()

    async with at_home(tmp_path, template) as home:
        home.checks.stalled = stalled(home.journal, Phase.CHECKING)
        for name in ("first", "another name"):
            with pytest.raises(InvalidParameter, match="held the whole daemon up before"):
                await home.draft(name)
        assert (await home.draft("first", capital=Decimal(4321))).status is Status.DRAFT


async def test_a_template_that_does_it_twice_takes_all_of_its_kind_along(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    templates = [scripted(), scripted(id="tpl_sound")]
    async with at_home(tmp_path, templates) as home:
        first, second, third = [await home.deploy(name) for name in ("first", "second", "third")]
        neighbour = await home.deploy("sound", template_id="tpl_sound")
        market = home.market
    stuck: list[list[str]] = []
    for guilty in (first, second):
        journal = open_journal(tmp_path)
        quarantine(journal, Phase.CALLBACK, guilty.number, now_us=START_US)
        journal.close()
        market = HandMarket(time_ms=market.time_ms)
        async with at_home(tmp_path, templates, market=market) as home:
            members = [home.member(each.id).strategy for each in (first, second, third, neighbour)]
            stuck.append([each.definition.name for each in members if each.status is Status.ERROR])
            fault = home.member(third.id).strategy.fault

    assert stuck == [["first"], ["first", "second", "third"]]
    assert fault is not None
    assert fault.message.startswith("another strategy of tpl_scripted held the whole daemon up")
