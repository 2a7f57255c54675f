"""The dialect among real strategies: what is written becomes one of them, and who may do what to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
from attrs import define, frozen
from trio.testing import MockClock

from actors.answers import Answers
from actors.dialect import Dialect
from pipaid.dialect import shapes
from pipaid.engine.knobs import ParamSpec
from pipaid.errors import (
    DuplicateName,
    ExchangeError,
    InsufficientPermission,
    InvalidParameter,
    InvalidState,
    NotFound,
)
from pipaid.model import reply, request
from pipaid.model.account import Mode
from pipaid.model.parsing import parse_request
from pipaid.model.strategy import Status
from tests.actors.homes import ACCOUNT, NEIGHBOURS, Home, at_home
from tests.actors.test_answers import answering, recording
from tests.builders import enter, plan, scripted
from tests.dialect.test_writing import ANALYST, FILTER, SEED, TRIGGER

pytestmark = pytest.mark.usefixtures("logged")
SISTER = NEIGHBOURS[1]
ORGANISATIONS = {"acme": [ACCOUNT, SISTER], "other": ["acct_other"]}


@frozen(kw_only=True)
class Anything(ParamSpec):
    """A knob that takes whatever comes."""

    def parse(self, value: object) -> Any:
        return value


def taking(*names: str) -> type:
    """Return params with these names, as much of a template as the dialect has to do with."""
    spec = Anything(kind="flag", description="Anything.")
    return attrs.make_class(
        "Params", {name: attrs.field(default=None, metadata={"pipaid.param": spec}) for name in names}
    )


RULES = taking("entry", "exit", "reward_factor", "execution_config")
QUESTION = taking("strategy_type", "execution_mode", "maintenance_enabled", "llm_provider", "llm_model")


@define
class Person:
    """Somebody who asks: with a key of an account, or as a user of an organisation."""

    account: str | None = ACCOUNT
    user: str = ""
    organisation: str = ""
    who: str = "somebody"


ALICE = Person(user="alice", organisation="acme")
BOB = Person(user="bob", organisation="acme")
OUTSIDER = Person(account="acct_other", user="alice", organisation="other")
KEY = Person()
SISTERS_KEY = Person(account=SISTER)
OPERATOR = Person(account=None)


@define
class Organisations:
    """Whose accounts are whose, and one that is on paper."""

    paper: str = ""

    def of(self, organisation: str) -> list[str]:
        return ORGANISATIONS.get(organisation, [])

    def mode_of(self, account: str) -> Mode:
        return Mode.PAPER if account == self.paper else Mode.SIM

    def permit(self, account: str, *, dry_run: bool) -> None:
        if account == self.paper and not dry_run:
            raise InsufficientPermission(f"{account} is on paper")


@define(eq=False)
class Refusing(Answers):
    """The operations, one of which does not succeed."""

    trouble: Exception | None = None

    async def strategy_deploy(self, caller: Any, asked: request.StrategyDeploy) -> reply.StrategyObject:
        if self.trouble is not None:
            raise self.trouble
        return await super().strategy_deploy(caller, asked)


@define(eq=False)
class Place:
    """A home of strategies, and the dialect in front of them."""

    home: Home
    dialect: Dialect
    organisations: Organisations

    async def create(self, person: Person = ALICE, body: Any = SEED, **changed: Any) -> shapes.StrategyTold:
        asked = parse_request(shapes.CreateAsked, msgspec.json.decode(msgspec.json.encode({**body, **changed})))
        assert isinstance(asked, shapes.CreateAsked)
        return (await self.dialect.dialect_create(person, asked)).strategy

    async def bring(self, id: str, status: str, person: Person = ALICE) -> str:
        asked = msgspec.convert({"id": id, "status": status}, shapes.StatusAsked)
        told = await self.dialect.dialect_status(person, asked)
        await self.home.settle()
        return told.strategy.status

    async def ids(self, person: Person) -> set[str]:
        return {row.id for row in (await self.dialect.dialect_list(person, shapes.ListAsked())).strategies}


@asynccontextmanager
async def at_place(folder: Path, **rules: Any) -> AsyncGenerator[Place]:
    templates = [
        scripted(id="tpl_rules", params_type=RULES, **rules), scripted(id="tpl_analyst", params_type=QUESTION)
    ]  # fmt: skip
    async with at_home(folder, templates) as home:
        organisations = Organisations()
        dialect = Dialect(
            operations=answering(home),
            records=recording(home),
            binder=home.bindings,
            lifecycle=home.lifecycle,
            roster=home.roster,
            organisations=organisations,
            writer=home.recorder,
            instruments=lambda: home.feed.instruments,
        )
        yield Place(home, dialect, organisations)


async def test_the_published_body_answers_the_published_shape(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_place(tmp_path) as place:
        told = msgspec.to_builtins(await place.create())
        stored = place.home.member(told["id"]).strategy

    # As it is published, but for ids and moments.
    published = ("name", "asset", "status", "rules", "execution_config", "execution_state")
    assert {name: told[name] for name in published} == {
        "name": "BTC RSI Strategy",
        "asset": "BTC",
        "status": "inactive",
        "rules": {
            "name": "btc_rsi_strategy", "asset": "BTC", "entry": (TRIGGER, FILTER), "exit": (), "reward_factor": 2.0,
        },
        # What is in force besides is known to the template that there is.
        "execution_config": {"reward_factor": 2},
        "execution_state": {
            "cash_balance": 10000.0, "account_value": 10000.0, "total_trades": 0, "num_open_positions": 0,
        },
    }  # fmt: skip
    assert (told["strategy_type"], told["execution_mode"], told["primary_tf"]) == ("config", "rule_only", "1h")
    assert (told["owner"], told["account_id"], told["symbols"]) == ("alice", ACCOUNT, ("BTCUSDT",))
    assert (stored.user, stored.status, stored.definition.template_id) == ("alice", Status.DRAFT, "tpl_rules")


async def test_what_was_given_stands_over_the_defaults(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_place(tmp_path) as place:
        told = await place.create(
            reward_factor=2.5, execution_config={"atr_period": 7, "initial_balance": 500, "cooldown_bars": 3}
        )

    assert told.execution_config == {
        "reward_factor": 2.5, "atr_period": 7, "initial_balance": 500, "cooldown_bars": 3,
    }  # fmt: skip
    assert told.execution_state.cash_balance == told.execution_state.account_value == 500.0


async def test_the_reward_factor_that_is_shown_is_the_one_in_force(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_place(tmp_path) as place:
        told = await place.create(reward_factor=2.0, execution_config={"reward_factor": 3})

    assert told.rules is not None
    assert told.execution_config is not None
    assert (told.rules.reward_factor, told.execution_config["reward_factor"]) == (2.0, 3)


async def test_the_other_form_comes_back_with_its_own_fields(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_place(tmp_path) as place:
        told = await place.create(body=ANALYST)

    assert (told.strategy_type, told.execution_mode, told.primary_tf) == ("prompt", "multi_agent", "1h")
    assert (told.maintenance_enabled, told.llm_provider, told.llm_model) == (True, "anthropic", "some-model")
    assert (told.rules, told.execution_config, told.is_active) == (None, {"reward_factor": 2}, False)


async def test_a_template_that_is_not_there_is_refused_by_the_catalogue(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_place(tmp_path) as place:
        del place.home.templates["tpl_rules"]
        with pytest.raises(InvalidParameter, match="no template is called 'tpl_rules'"):
            await place.create()
        assert await place.ids(OPERATOR) == set()


async def test_a_name_that_is_taken_is_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_place(tmp_path) as place:
        await place.create(ALICE)
        with pytest.raises(DuplicateName):
            await place.create(BOB)


async def test_a_strategy_is_deleted_by_the_user_who_made_it_or_with_a_key_of_its_account(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_place(tmp_path) as place:
        one, two = await place.create(name="one"), await place.create(name="two")
        by_key = await place.create(KEY, name="three")
        addressed = [request.Addressed(id=each.id) for each in (one, two, by_key)]
        delete = place.dialect.dialect_delete

        with pytest.raises(InsufficientPermission, match="only alice, who made it, may delete it"):
            await delete(BOB, addressed[0])
        # What a key made belongs to the account and to no user.
        with pytest.raises(InsufficientPermission, match="only its account"):
            await delete(ALICE, addressed[2])
        for person in (OUTSIDER, SISTERS_KEY):
            with pytest.raises(NotFound):
                await delete(person, addressed[0])
        await delete(ALICE, addressed[0])
        await delete(KEY, addressed[1])
        await delete(OPERATOR, addressed[2])

        assert await place.ids(OPERATOR) == set()


async def test_a_user_sees_their_organisation_and_a_key_its_account(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_place(tmp_path) as place:
        ours, hers = await place.create(ALICE), await place.create(SISTERS_KEY)
        theirs = await place.create(OUTSIDER)

        assert await place.ids(ALICE) == await place.ids(BOB) == {ours.id, hers.id}
        assert await place.ids(KEY) == {ours.id}
        assert await place.ids(SISTERS_KEY) == {hers.id}
        assert await place.ids(OUTSIDER) == {theirs.id}
        assert await place.ids(Person(account="", who="nobody")) == set()
        assert await place.ids(OPERATOR) == {ours.id, hers.id, theirs.id}


async def test_nothing_can_be_done_to_what_one_does_not_see(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_place(tmp_path) as place:
        one = (await place.create()).id
        addressed, dialect = request.Addressed(id=one), place.dialect
        for person in (OUTSIDER, SISTERS_KEY, Person(account="acct_other")):
            for ask, asked in (
                (dialect.dialect_get, addressed),
                (dialect.dialect_update, shapes.UpdateAsked(id=one, name="taken")),
                (dialect.dialect_delete, addressed),
                (dialect.dialect_status, msgspec.convert({"id": one, "status": "live"}, shapes.StatusAsked)),
                (dialect.dialect_activate_all, shapes.ActivateAsked(id=one)),
                (dialect.dialect_deactivate_all, addressed),
                (dialect.dialect_trigger, addressed),
                (dialect.dialect_runs, shapes.RunsAsked(id=one)),
                (dialect.dialect_stats, shapes.StatsAsked(id=one)),
            ):
                call: Any = ask
                with pytest.raises(NotFound) as refused:
                    await call(person, asked)
                assert refused.value.message == f"there is no strategy {one!r}"
        strategy = place.home.member(one).strategy

    assert (strategy.status, strategy.definition.name) == (Status.DRAFT, "BTC RSI Strategy")


async def test_what_is_open_is_bound_and_not_in_cash(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_place(tmp_path, on_candle=plan([enter()])) as place:
        one = (await place.create(entry=[{**TRIGGER, "timeframe": "5m"}], leverage=2)).id
        await place.bring(one, "paper")
        for _ in range(5):
            await place.home.close()
        await place.home.trade()
        await place.home.settle()
        state = (await place.dialect.dialect_get(ALICE, request.Addressed(id=one))).strategy.execution_state
        (position,) = place.home.session(one).positions.values()

    assert state.num_open_positions == 1
    assert state.cash_balance == round(float(10_000 - position.margin()), 2) < 10_000
    assert abs(state.account_value - 10_000) < float(position.margin())


async def test_a_step_that_fails_says_what_was_done_before_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_place(tmp_path) as place:
        one = (await place.create()).id
        assert await place.bring(one, "paper") == "paper"
        answers = answering(place.home)
        fields = {each.name: getattr(answers, each.name) for each in attrs.fields(Answers)}
        told: list[str] = []
        # The second time the first step has nothing before it.
        for _ in range(2):
            place.dialect.operations = Refusing(**fields, trouble=ExchangeError("the venue did not answer"))
            with pytest.raises(ExchangeError) as refused:
                await place.bring(one, "live")
            told.append(refused.value.message)
        place.dialect.operations = answers

        assert told == ["the venue did not answer; done before that: pause", "the venue did not answer"]
        assert place.home.member(one).strategy.status is Status.PAUSED
        assert await place.bring(one, "paper") == "paper"
        assert await place.bring(one, "archived") == "archived"
        with pytest.raises(InvalidState):
            await place.bring(one, "inactive")


@pytest.mark.parametrize(("holds", "refusal"), [(True, InvalidState), (False, InsufficientPermission)])
async def test_what_cannot_become_live_trades_on_as_it_did(
    tmp_path: Path, autojump_clock: MockClock, holds: bool, refusal: type[Exception]
) -> None:
    async with at_place(tmp_path, on_candle=plan([enter()])) as place:
        one = (await place.create(entry=[{**TRIGGER, "timeframe": "5m"}], leverage=2)).id
        await place.bring(one, "paper")
        if holds:
            for _ in range(5):
                await place.home.close()
            await place.home.trade()
            await place.home.settle()
        else:
            place.organisations.paper = ACCOUNT
        with pytest.raises(refusal, match="open positions" if holds else "on paper"):
            await place.bring(one, "live")

        assert place.home.member(one).strategy.status is Status.DEPLOYED


async def test_one_that_failed_becomes_inactive_again_and_trades_not_before(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_place(tmp_path) as place:
        one = (await place.create()).id
        await place.bring(one, "paper")
        await place.home.lifecycle.halt(None, one, code="SIM_HALT", message="as a test")
        told = (await place.dialect.dialect_get(ALICE, request.Addressed(id=one))).strategy

        assert (told.status, told.error and told.error.code) == ("inactive", "SIM_HALT")
        with pytest.raises(InvalidState, match="make it inactive first"):
            await place.bring(one, "paper")
        assert await place.bring(one, "inactive") == "inactive"
        assert await place.bring(one, "paper") == "paper"


async def test_an_activation_goes_on_as_before_and_begins_as_the_account_trades(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_place(tmp_path) as place:
        dialect = place.dialect

        async def activated(id: str, *, dry_run: bool | None = None) -> str:
            told = await dialect.dialect_activate_all(ALICE, shapes.ActivateAsked(id=id, dry_run=dry_run))
            await dialect.dialect_deactivate_all(ALICE, request.Addressed(id=id))
            return told.strategy.status

        one = (await place.create()).id
        assert [await activated(one, dry_run=True), await activated(one), await activated(one, dry_run=False)] == [
            "paper", "paper", "live",
        ]  # fmt: skip
        assert await activated(one) == "live"
        place.organisations.paper = ACCOUNT
        assert await activated((await place.create(name="two")).id) == "paper"


async def test_a_change_is_the_same_as_everywhere(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_place(tmp_path) as place:
        one = (await place.create()).id

        async def changed(**fields: Any) -> shapes.StrategyTold:
            return (await place.dialect.dialect_update(BOB, shapes.UpdateAsked(id=one, **fields))).strategy

        told = await changed(name="other", reward_factor=3.0, exit=({**TRIGGER, "timeframe": "15m"},))
        assert (told.name, told.primary_tf, told.rules and told.rules.reward_factor) == ("other", "15m", 3.0)
        assert told.owner == "alice"
        await place.bring(one, "paper")
        with pytest.raises(InvalidState):
            await changed(name="third")
