"""Bindings in the dialect: one strategy on several accounts, of which a caller sees what their organisation has."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from trio.testing import MockClock

from pipaid.dialect import shapes
from pipaid.errors import InsufficientPermission, InvalidState, NotFound
from pipaid.model import request
from pipaid.model.binding import StrategyBind, StrategyUnbind
from tests.actors.homes import ACCOUNT
from tests.actors.test_bindings import always_in
from tests.actors.test_dialect import ALICE, BOB, KEY, OUTSIDER, SISTER, SISTERS_KEY, Person, Place, at_place
from tests.dialect.test_writing import TRIGGER

pytestmark = pytest.mark.usefixtures("logged")


async def bind(place: Place, id: str, account: str = SISTER, person: Person = ALICE, **fields: object) -> shapes.Bound:
    asked = msgspec.convert({"id": id, "account_id": account, **fields}, StrategyBind, strict=False)
    bound = await place.dialect.dialect_bind(person, asked)
    await place.home.settle()
    return bound


async def told_of(place: Place, id: str, person: Person = ALICE) -> shapes.StrategyTold:
    return (await place.dialect.dialect_get(person, request.Addressed(id=id))).strategy


async def both(place: Place) -> tuple[str, str]:
    """Make a strategy that is bound to its own account and to another."""
    one = (await place.create(entry=[{**TRIGGER, "timeframe": "5m"}])).id
    await bind(place, one, ACCOUNT)
    return one, (await bind(place, one, capital_share="0.5")).strategy_id


async def test_who_follows_is_shown_with_the_one_it_follows(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_place(tmp_path) as place:
        one, follower = await both(place)
        told = await told_of(place, one)
        listed = await place.dialect.dialect_bindings(BOB, request.Addressed(id=one))

        assert isinstance(told.bindings, tuple)
        assert [(each.account_id, each.strategy_id, each.capital_share) for each in told.bindings] == [
            (ACCOUNT, one, "1"), (SISTER, follower, "0.5"),
        ]  # fmt: skip
        assert [each.capital for each in listed.data] == ["10000.00", "5000.00"]
        assert (await told_of(place, follower)).follows == one
        assert await place.ids(ALICE) == await place.ids(KEY) == await place.ids(Person(account=None)) == {one}
        # Whoever does not see the one sees what trades on their own account.
        assert await place.ids(SISTERS_KEY) == {follower}
        assert await place.ids(OUTSIDER) == set()


async def test_a_strategy_has_what_it_has_on_all_its_accounts(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_place(tmp_path, on_candle=always_in) as place:
        one, _ = await both(place)
        await place.bring(one, "paper")
        for _ in range(5):
            await place.home.close()
        await place.home.trade()
        await place.home.settle()
        state = (await told_of(place, one)).execution_state

        assert state.num_open_positions == 2
        assert 14_000 < state.account_value < 15_000
        with pytest.raises(InvalidState, match="it holds 2 open positions"):
            await place.bring(one, "live")


async def test_all_are_activated_and_deactivated(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_place(tmp_path) as place:
        home = place.home
        one, follower = await both(place)

        def standing() -> list[str]:
            return [home.member(each).strategy.status.value for each in (one, follower)]

        for dry_run in (True, None):
            told = await place.dialect.dialect_activate_all(ALICE, shapes.ActivateAsked(id=one, dry_run=dry_run))
            assert (told.strategy.is_active, standing()) == (True, ["deployed", "deployed"])
            # One of them alone is paused, and activated with the others.
            await home.families.pause(None, follower, close_positions=False)
            assert (await told_of(place, one)).is_active
        await place.dialect.dialect_activate_all(ALICE, shapes.ActivateAsked(id=one))
        triggered = await place.dialect.dialect_trigger(ALICE, request.Addressed(id=one))
        assert len(triggered.run_ids) == 2
        # The one failed and was mended, while who follows it went on.
        await home.families.halt(None, one, code="SIM_HALT", message="as a test")
        assert (await told_of(place, one)).is_active
        told = await place.dialect.dialect_deactivate_all(ALICE, request.Addressed(id=one))
        assert (told.strategy.is_active, standing()) == (False, ["paused", "paused"])


async def test_an_account_on_paper_keeps_all_of_them_there(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_place(tmp_path) as place:
        one, _ = await both(place)
        place.organisations.paper = SISTER
        await place.bring(one, "paper")
        with pytest.raises(InsufficientPermission, match=f"{SISTER} is on paper"):
            await place.bring(one, "live")
        assert (await told_of(place, one)).status == "paper"
        await place.dialect.dialect_deactivate_all(ALICE, request.Addressed(id=one))
        for name, accounts in (("two", [SISTER]), ("three", [ACCOUNT, SISTER])):
            another = (await place.create(name=name)).id
            for account in accounts:
                await bind(place, another, account)
            told = await place.dialect.dialect_activate_all(ALICE, shapes.ActivateAsked(id=another))
            assert told.strategy.status == "paper"


async def test_only_who_sees_a_strategy_binds_it_and_parts_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_place(tmp_path) as place:
        one, follower = await both(place)
        parting = StrategyUnbind(id=one, account_id=SISTER)
        for person in (OUTSIDER, SISTERS_KEY):
            with pytest.raises(NotFound):
                await bind(place, one, person=person)
            with pytest.raises(NotFound):
                await place.dialect.dialect_unbind(person, parting)
            with pytest.raises(NotFound):
                await place.dialect.dialect_bindings(person, request.Addressed(id=one))
        gone = await place.dialect.dialect_unbind(BOB, parting)
        assert (gone.success, gone.strategy_id) == (True, follower)
        assert set(place.home.roster.members) == {one}
        assert place.home.member(one).bindings[0].capital_share == Decimal(1)
