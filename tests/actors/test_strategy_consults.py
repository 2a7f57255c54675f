"""A strategy's actor and the models it asks: a question leaves when it is durable, and its answer is one more fact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from pipaid.engine.effects import Brain
from pipaid.engine.template import Enter, Template
from pipaid.model.consult import Answer, Question, Tariff, Verdict
from pipaid.model.run import Evaluation
from tests.actors.homes import Home, at_home
from tests.builders import SYMBOL, enter, plan
from tests.engine.consults import TARIFF, asking, consult

pytestmark = pytest.mark.usefixtures("logged")


@define
class Oracle:
    """A consultant that keeps questions until a test answers them."""

    home: Home
    asked: list[Question] = field(factory=list[Question])
    waiting: list[Callable[[Answer], None]] = field(factory=list[Callable[[Answer], None]])
    durable: list[bool] = field(factory=list[bool])

    def __call__(self, question: Question, answered: Callable[[Answer], None]) -> None:
        self.asked.append(question)
        self.waiting.append(answered)
        row = self.home.journal.get("run", question.run_id)
        self.durable.append(row is not None and row.state == "running")

    def answer(self, at: int = -1, **fields: Any) -> None:
        told: dict[str, Any] = {"verdict": Verdict.ANSWERED, "text": "buy", "tokens_in": 10, "tokens_out": 1}
        self.waiting[at](Answer(question_id=self.asked[at].id, **{**told, **fields}))


def consulted(home: Home) -> Oracle:
    """Let a home's strategies ask a test, for a price."""
    home.consult = oracle = Oracle(home)
    home.roster.tariffs = PRICES
    return oracle


PRICES: dict[tuple[str, str], Tariff] = {("main", "oracle-1"): TARIFF}


def buys(*_: object) -> list[Enter]:
    return [enter()]


def buying() -> type[Template]:
    return asking(on_candle=plan([consult()]), on_answer=buys)


class Killed(Exception):
    """The daemon ends without a word."""


def runs(home: Home) -> list[Evaluation]:
    return home.stored("run", Evaluation)


async def test_a_question_is_in_the_journal_before_it_leaves(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, buying()) as home:
        oracle = consulted(home)
        await home.deploy()
        await home.end_minute()
        await wait_all_tasks_blocked()

        assert oracle.durable == [True]
        oracle.answer()
        await home.settle()


async def test_an_answer_leads_to_an_order(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, buying()) as home:
        oracle = consulted(home)
        strategy = await home.deploy()
        await home.end_minute()
        await wait_all_tasks_blocked()
        oracle.answer()
        await home.settle()

        (run,) = runs(home)
        assert (run.status, len(home.orders(strategy.id))) == ("completed", 1)


async def test_there_is_work_in_flight_until_a_model_has_answered(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, buying()) as home:
        oracle = consulted(home)
        await home.deploy()
        await home.end_minute()
        await wait_all_tasks_blocked()
        before = home.activity.count
        oracle.answer()
        await home.settle()

        assert (before, home.activity.count) == (1, 0)


async def test_an_answer_given_twice_is_taken_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, buying()) as home:
        oracle = consulted(home)
        strategy = await home.deploy()
        await home.end_minute()
        await wait_all_tasks_blocked()
        oracle.answer()
        oracle.answer()
        await home.settle()

        assert (len(home.orders(strategy.id)), home.activity.count) == (1, 0)


async def test_an_answer_finds_room_in_a_full_mailbox(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, buying()) as home:
        oracle = consulted(home)
        strategy = await home.deploy()
        await home.end_minute()
        await wait_all_tasks_blocked()
        actor = home.actor(strategy.id)
        actor.mailbox.hold()
        while not actor.mailbox.full:
            actor.command(lambda _: None)
        oracle.answer()
        actor.mailbox.release()
        await home.settle()

        assert len(home.orders(strategy.id)) == 1


async def test_a_crash_ends_the_question_and_its_answer_changes_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    def crash(_: Any) -> Any:
        raise RuntimeError("not today")

    async with at_home(tmp_path, buying()) as home:
        oracle = consulted(home)
        strategy = await home.deploy()
        await home.end_minute()
        await wait_all_tasks_blocked()
        with pytest.raises(Exception, match="it failed"):
            await home.actor(strategy.id).perform(crash)
        await wait_all_tasks_blocked()
        await home.actor(strategy.id).up()
        (run,) = runs(home)
        oracle.answer()
        await home.settle()

        (after,) = runs(home)
        assert after == run
        assert run.steps[4].output["verdict"] == "interrupted"
        assert (len(oracle.asked), home.activity.count) == (1, 0)


async def test_after_a_restart_nothing_is_asked_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    oracles: list[Oracle] = []
    try:
        async with at_home(tmp_path, asking(on_candle=plan([consult()]))) as home:
            oracles.append(consulted(home))
            await home.deploy()
            await home.end_minute()
            await wait_all_tasks_blocked()
            raise Killed
    except* Killed:
        pass
    template = asking(on_candle=plan(), on_answer=buys)
    async with at_home(tmp_path, template) as home:
        again = consulted(home)
        await home.settle()

        (run,), (brain,) = runs(home), home.stored("brain", Brain)
        (question,) = oracles[0].asked
        assert (again.asked, brain.questions, run.steps[4].output["verdict"]) == ([], {}, "interrupted")
        assert brain.spending.tokens == question.tokens_in_max + question.tokens_max


async def test_a_strategy_that_is_stopped_leaves_no_work_in_flight(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, buying()) as home:
        oracle = consulted(home)
        strategy = await home.deploy()
        await home.end_minute()
        await wait_all_tasks_blocked()
        await home.lifecycle.stop(None, strategy.id, close_positions=False)
        await home.settle()
        oracle.answer()

        (run,) = runs(home)
        assert (run.status, run.detail, home.activity.count) == ("skipped", "the strategy is stopped", 0)


async def test_without_any_model_a_run_says_so(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, asking(on_candle=plan([consult()]))) as home:
        home.roster.tariffs = PRICES
        strategy = await home.deploy()
        await home.close()

        (run,) = runs(home)
        assert (run.status, run.detail) == ("failed", "unconfigured: no provider of models named main is configured")
        assert home.session(strategy.id).brain.spending.tokens == 0


async def test_a_model_without_a_price_is_not_asked(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, buying()) as home:
        oracle = consulted(home)
        home.roster.tariffs = {}
        await home.deploy()
        await home.close()

        (run,) = runs(home)
        assert (oracle.asked, run.status, run.detail[:22]) == ([], "skipped", "refused by llm_tariff:")
        assert run.symbol == SYMBOL
