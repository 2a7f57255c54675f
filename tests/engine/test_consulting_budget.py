"""What models may cost is never exceeded, over days and restarts, and what they say is a stranger's."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipaid.engine.spending import Spending
from pipaid.engine.template import Conclude
from pipaid.engine.wishes import Nonsense
from pipaid.model.consult import ANSWER_MAX, Answer, Verdict
from pipaid.model.strategy import Status
from tests.builders import (
    DAY_MS,
    MINUTE_MS,
    OTHER,
    SYMBOL,
    enter,
    make_bench,
    make_definition,
    make_strategy,
    scripted,
)
from tests.engine.consults import (
    TARIFF,
    TARIFFS,
    always,
    asked,
    asking,
    consult,
    each_its_own,
    model_step,
    noting,
    refusals,
    spent,
    verdict_of,
)

BUY = always(lambda: enter(quantity=Decimal(1), stop_price=Decimal(90)))


# The budget.


def ceiling() -> tuple[int, Decimal]:
    """Return the most that a question of these tests can come to."""
    question = asked().asked[0]
    return question.tokens_in_max + question.tokens_max, TARIFF.ceiling(question)


def test_a_question_that_just_fits_is_asked_and_one_token_less_is_too_little() -> None:
    tokens, _ = ceiling()

    assert len(asked(asking(tokens=tokens)).asked) == 1
    bench = asked(asking(tokens=tokens - 1))
    assert (bench.asked, refusals(bench.runs[0])) == ([], ["llm_budget"])
    left = f"{tokens - 1} of {tokens - 1} a day are left"
    assert bench.runs[0].detail == f"refused by llm_budget: one question may take up to {tokens} tokens, and {left}"


def test_money_that_is_not_enough_is_said_to_be_left_and_not_to_be_spent() -> None:
    _, money = ceiling()

    bench = asked(asking(money="0.001"))

    told = f"refused by llm_budget: one question may cost up to {money:f}, and 0.001 of 0.001 a day is left"
    assert bench.runs[0].detail == told


def test_a_question_that_meets_an_open_one_is_refused_in_words() -> None:
    bench = asked()
    bench.close()

    assert bench.runs[-1].detail == f"refused by consulting: another question about {SYMBOL} was still open"


def test_a_question_that_just_can_be_paid_is_asked_and_one_bit_less_is_too_little() -> None:
    _, money = ceiling()

    assert len(asked(asking(money=str(money))).asked) == 1
    bench = asked(asking(money=str(money - Decimal("1e-9"))))
    assert (bench.asked, bench.runs[0].status, refusals(bench.runs[0])) == ([], "skipped", ["llm_budget"])


def test_what_was_set_aside_and_not_used_can_be_used() -> None:
    tokens, _ = ceiling()
    bench = asked(asking(tokens=tokens + 50))

    bench.answer("hold", tokens_in=30, tokens_out=20)
    bench.close()

    assert len(bench.asked) == 2


def test_what_nobody_counted_is_taken_for_all_that_was_set_aside() -> None:
    bench = asked()
    before = spent(bench)

    bench.answer("hold", tokens_in=None, tokens_out=None)

    assert spent(bench) == before


@pytest.mark.parametrize("count", [0, -5, 10**30])
def test_a_count_that_cannot_be_is_none(count: int) -> None:
    bench = asked()
    before = spent(bench)

    bench.answer("hold", tokens_in=count, tokens_out=count)

    assert spent(bench) == before


def test_a_provider_that_counts_more_than_was_set_aside_is_paid_and_then_asked_no_more() -> None:
    tokens, _ = ceiling()
    bench = asked(asking(tokens=3 * tokens))

    bench.answer("hold", tokens_in=10 * tokens, tokens_out=7)
    bench.close()

    assert (spent(bench)[0], len(bench.asked)) == (10 * tokens + 7, 1)


@pytest.mark.parametrize("verdict", [Verdict.UNREACHABLE, Verdict.REFUSED, Verdict.LATE])
def test_what_was_not_sent_costs_nothing(verdict: Verdict) -> None:
    bench = asked()

    bench.answer(verdict=verdict, tokens_in=0, tokens_out=0)

    assert spent(bench) == (0, Decimal(0))


def test_a_new_day_begins_with_nothing_spent_and_yesterdays_answer_is_yesterdays() -> None:
    tokens, _ = ceiling()
    bench = asked(asking(tokens=tokens))
    first = bench.asked[0]
    bench.wait(DAY_MS)
    bench.answer("hold", first, tokens_in=1, tokens_out=1)
    bench.close()

    assert len(bench.asked) == 2
    assert bench.session.brain.spending.tokens == bench.asked[1].tokens_in_max + 100


def test_a_clock_that_is_set_back_over_midnight_gives_no_day_twice() -> None:
    tokens, _ = ceiling()
    bench = asked(asking(tokens=tokens))
    bench.answer("hold")
    bench.wait(DAY_MS - bench.quotes.now_ms % DAY_MS)
    for step_ms in (0, -MINUTE_MS, 2 * MINUTE_MS):
        bench.wait(step_ms)
        bench.session.on_trigger()
        bench.session.interrupt()

    assert bench.session.brain.questions_made == 2


@pytest.mark.parametrize(("day", "counts"), [(8, False), (9, True), (10, True), (11, False)])
def test_what_was_spent_counts_on_its_day_and_where_the_clock_went_back_by_one_and_on_no_other(
    day: int, counts: bool
) -> None:
    spending = Spending(day=10, money=Decimal(1), tokens=100, questions=1)

    assert spending.on(day) == (spending if counts else Spending(day=day))


def test_a_question_over_midnight_does_not_lessen_what_the_new_day_has_spent() -> None:
    bench = make_bench(
        asking(on_candle=each_its_own),
        tariffs=TARIFFS,
        symbols=(SYMBOL, OTHER),
    )
    bench.wait(DAY_MS - 2 * MINUTE_MS)
    bench.close()
    bench.wait(MINUTE_MS)
    bench.close(symbol=OTHER)
    yesterdays, todays = bench.asked
    before = spent(bench)

    bench.answer("hold", yesterdays, tokens_in=1, tokens_out=1)

    assert before == (todays.tokens_in_max + 100, TARIFF.ceiling(todays))
    assert spent(bench) == before


def test_a_template_that_says_nothing_of_a_budget_spends_nothing() -> None:
    bench = asked(scripted(on_candle=always(consult)))

    assert (bench.asked, refusals(bench.runs[0])) == ([], ["llm_budget"])


def test_a_model_without_a_price_is_not_asked() -> None:
    bench = asked(tariffs={})

    assert (bench.asked, refusals(bench.runs[0])) == ([], ["llm_tariff"])


# Restarts.


def test_a_restart_ends_the_question_and_asks_it_no_more() -> None:
    bench = asked()
    before = spent(bench)

    bench.rebuild()

    (run,) = bench.runs
    assert (run.status, verdict_of(run)) == ("failed", "interrupted")
    assert (len(bench.asked), bench.session.brain.questions, spent(bench)) == (1, {}, before)
    assert bench.answer("buy", bench.asked[0]).empty


def test_a_template_is_told_of_an_interruption_and_may_decide() -> None:
    answers: list[Answer] = []
    bench = asked(asking(on_answer=noting(answers)))

    bench.rebuild()
    bench.rebuild()

    assert [each.verdict for each in answers] == [Verdict.INTERRUPTED]


def test_after_a_restart_the_budget_is_what_it_was() -> None:
    tokens, _ = ceiling()
    bench = asked(asking(tokens=2 * tokens - 1))

    bench.rebuild()
    bench.close()

    assert (len(bench.asked), refusals(bench.runs[-1])) == (1, ["llm_budget"])


def test_the_question_of_a_strategy_in_error_is_ended_without_its_template() -> None:
    bench = asked(asking(on_answer=BUY))
    bench.strategy = msgspec.structs.replace(bench.strategy, status=Status.ERROR)

    bench.rebuild()

    (run,) = bench.runs
    assert (bench.placed, run.status, bench.session.brain.questions) == ([], "skipped", {})


def test_the_question_about_a_symbol_that_is_traded_no_more_is_ended_without_its_template() -> None:
    bench = asked(asking(on_answer=BUY), symbols=(SYMBOL, OTHER))
    definition = msgspec.structs.replace(bench.strategy.definition, symbols=(OTHER,))
    bench.strategy = msgspec.structs.replace(bench.strategy, definition=definition)

    bench.rebuild()

    (run,) = bench.runs
    assert (run.status, run.detail) == ("skipped", f"{SYMBOL} is none of the strategy's any more")
    assert bench.session.brain.questions == {}


# What is said is a stranger's.


def test_an_answer_that_cannot_be_stored_is_made_so() -> None:
    answers: list[Answer] = []
    bench = asked(asking(on_answer=noting(answers)))

    bench.answer("half \ud83d a character", error="\udc00")

    assert [each.text for each in answers] == ["half ? a character"]
    assert model_step(bench.runs[0]).error == "?"


def test_an_answer_without_end_is_malformed() -> None:
    bench = asked(asking(on_answer=BUY))

    bench.answer("x" * (ANSWER_MAX + 1))

    step = model_step(bench.runs[0])
    assert (step.output["verdict"], step.output["answer"]) == ("malformed", "")


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "x" * 24_001},
        {"prompt": "x" * 20_000, "system": "x" * 20_000},
        {"prompt": "\ud800"},
        {"prompt": b"bytes"},
        {"role": ""},
        {"model": "m" * 129},
        {"tokens_max": 0},
        {"tokens_max": True},
        {"tokens_max": 1e3},
        {"patience_ms": 999},
        {"patience_ms": 600_001},
        {"answer_schema": []},
        {"answer_schema": {"a": object()}},
        {"answer_schema": {1: "a"}},
        {"answer_schema": {"a": float("nan")}},
        {"answer_schema": {"a": [0] * 600}},
        {"answer_schema": {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": {}}}}}}}}}}},
        {"symbol": "NONE"},
    ],
)
def test_a_question_that_cannot_be_meant_is_nonsense(fields: dict[str, Any]) -> None:
    with pytest.raises(Nonsense):
        asked(asking(on_candle=always(lambda: consult(**fields))))


@pytest.mark.parametrize("fields", [{"status": "completed"}, {"reason": "x" * 201}, {"reason": None}])
def test_a_conclusion_that_cannot_be_meant_is_nonsense(fields: dict[str, Any]) -> None:
    given: dict[str, Any] = {"symbol": SYMBOL, "status": "hold", "reason": "so"}

    with pytest.raises(Nonsense):
        asked(scripted(on_candle=always(lambda: Conclude(**{**given, **fields}))))


def test_a_conclusion_at_a_candle_is_kept() -> None:
    bench = make_bench(scripted(on_candle=always(lambda: Conclude(symbol=SYMBOL, status="hold", reason="quiet"))))

    bench.close()

    (run,) = bench.runs
    assert (run.status, run.detail) == ("hold", "quiet")


def test_a_question_is_told_in_its_own_step_and_nowhere_else() -> None:
    (run,) = asked(strategy=make_strategy(make_definition(params={}))).runs

    assert "prompt" not in run.steps[1].output["intents"][0]
