"""A model is asked at most once at a time, within what it may cost; what it says is one more thing to decide on."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipaid.engine.consulting import ROUNDS_MAX
from pipaid.engine.template import Conclude, View
from pipaid.engine.wishes import Nonsense
from pipaid.model.consult import Answer, Question, Verdict
from pipaid.model.run import RunStatus
from pipaid.model.strategy import Status
from tests.builders import (
    DAY_MS,
    OTHER,
    SYMBOL,
    Bench,
    enter,
    held,
    make_bench,
    make_run,
    plan,
    refusal,
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


# A question.


def test_a_question_leaves_with_its_run_and_its_worst_cost_in_the_same_batch() -> None:
    bench = asked()

    (question,) = bench.asked
    (run,) = bench.runs
    waiting = bench.journal.memory().brain.questions[SYMBOL]
    assert (question.run_id, run.status, waiting.id) == (run.id, RunStatus.RUNNING, question.id)
    assert model_step(run).output["prompt"] == "What now?"
    tokens = question.tokens_in_max + 100
    assert spent(bench) == (tokens, TARIFF.ceiling(question))
    assert bench.placed == []


def test_an_answer_is_decided_on_and_ends_the_run_with_what_it_cost() -> None:
    bench = asked(asking(on_answer=BUY))

    bench.answer("buy", tokens_in=500, tokens_out=20, took_ms=1_234)

    (run,) = bench.runs
    (order,) = bench.placed
    step = model_step(run)
    assert (run.status, run.final_action, run.cause) == ("completed", "BUY", "candle")
    assert [each.step_name for each in run.steps] == [
        "data",
        "signal",
        "risk",
        "order",
        "model",
        "signal",
        "risk",
        "order",
    ]
    assert [each.seq for each in run.steps] == list(range(1, 9))
    assert run.steps[-1].output["orders"][0]["order_id"] == order.id
    assert (step.status, step.output["answer"], step.duration_us) == ("ok", "buy", 1_234_000)
    assert (step.output["tokens_in"], step.output["tokens_out"]) == (500, 20)
    assert step.output["cost"] == "0.0018"
    assert spent(bench) == (520, Decimal("0.0018"))
    assert bench.session.brain.questions == {}


def test_an_answer_that_leads_to_nothing_is_a_hold() -> None:
    bench = asked()

    bench.answer("hold")

    assert [(run.status, run.detail) for run in bench.runs] == [("hold", "")]


def test_what_a_template_concludes_is_how_the_run_ends() -> None:
    bench = asked(asking(on_answer=always(lambda: Conclude(symbol=SYMBOL, status="failed", reason="no JSON"))))

    bench.answer("maybe")

    (run,) = bench.runs
    assert (run.status, run.detail, run.steps[-3].error) == ("failed", "no JSON", "no JSON")


def test_an_answer_to_what_was_not_asked_changes_nothing() -> None:
    bench = asked()
    before = bench.session.brain
    stranger = msgspec.structs.replace(bench.asked[0], id="ask_other")

    effects = bench.answer("buy", stranger)

    assert effects.empty
    assert bench.session.brain == before


def test_the_same_answer_twice_counts_once() -> None:
    bench = asked(asking(on_answer=BUY))

    for _ in range(2):
        bench.answer("buy", bench.asked[0])

    assert (len(bench.placed), bench.session.brain.spending.questions) == (1, 1)


def test_what_the_template_gets_back_says_which_question_it_was() -> None:
    seen: list[Question] = []

    def on_answer(view: View, question: Question, answer: Answer) -> tuple[()]:
        seen.append(question)
        return ()

    bench = asked(asking(on_answer=on_answer))
    bench.answer("hold")

    (question,) = seen
    assert (question.id, question.role, question.asked_at_ms) == (bench.asked[0].id, "decision", bench.quotes.now_ms)
    assert (question.prompt, question.answer_schema) == ("", {})


def test_one_answer_may_lead_to_the_next_question_within_the_same_run() -> None:
    roles = iter(["risk", "decision"])

    def on_answer(view: Any, question: Any, answer: Any) -> Any:
        role = next(roles, None)
        return [consult(role=role)] if role else [enter()]

    bench = asked(asking(on_answer=on_answer, on_candle=plan([consult(role="technical")])))
    for _ in range(3):
        bench.answer("so be it")

    (run,) = bench.runs
    assert [question.role for question in bench.asked] == ["technical", "risk", "decision"]
    assert {question.run_id for question in bench.asked} == {run.id}
    assert [step.output["role"] for step in run.steps if step.step_name == "model"] == ["technical", "risk", "decision"]
    assert (run.status, len(bench.placed)) == ("completed", 1)


def test_nobody_asks_for_ever() -> None:
    bench = asked(asking(on_answer=always(consult), on_candle=plan([consult()])))

    for _ in range(ROUNDS_MAX):
        bench.answer("and now?")

    (run,) = bench.runs
    assert (len(bench.asked), run.status, refusals(run)) == (ROUNDS_MAX, "skipped", ["consulting"])


# One at a time.


def test_a_candle_that_comes_meanwhile_is_skipped_with_a_run() -> None:
    bench = asked()

    bench.close()

    first, second = bench.runs
    assert (first.status, second.status, refusals(second)) == (RunStatus.RUNNING, "skipped", ["consulting"])
    assert len(bench.asked) == 1


def test_a_trigger_that_comes_meanwhile_is_skipped_with_a_run() -> None:
    bench = asked()

    bench.settle(bench.session.on_trigger())

    assert [run.status for run in bench.runs] == [RunStatus.RUNNING, "skipped"]
    assert len(bench.asked) == 1


def test_leaving_does_not_wait_for_an_answer() -> None:
    steps: list[Callable[[View], Any]] = [
        lambda view: [enter()],
        lambda view: [consult()],
        lambda view: [held(view.positions[0]), consult()],
    ]

    def on_candle(view: View) -> Any:
        return steps.pop(0)(view)

    bench = make_bench(asking(on_candle=on_candle), tariffs=TARIFFS)
    bench.close()
    bench.fill(bench.placed[0])
    bench.close()
    bench.close()

    assert len(bench.asked) == 1
    assert bench.placed[-1].reduce_only
    assert (bench.runs[-1].status, refusals(bench.runs[-1])) == ("completed", ["consulting"])


def test_each_symbol_has_a_question_of_its_own() -> None:
    bench = make_bench(asking(on_candle=each_its_own), tariffs=TARIFFS, symbols=(SYMBOL, OTHER))
    bench.close()
    bench.close(symbol=OTHER)

    assert {question.symbol for question in bench.asked} == {SYMBOL, OTHER}


def test_only_an_evaluation_may_ask_and_only_about_its_own_symbol() -> None:
    reacting = make_bench(asking(on_candle=plan([enter()]), on_opened=always(consult)), tariffs=TARIFFS)
    reacting.close()
    straying = make_bench(
        asking(on_candle=always(lambda: consult(symbol=OTHER))), tariffs=TARIFFS, symbols=(SYMBOL, OTHER)
    )

    with pytest.raises(Nonsense, match="what an order led to is none"):
        reacting.fill(reacting.placed[0])
    with pytest.raises(Nonsense, match=f"an evaluation of {SYMBOL}"):
        straying.close()


# Nothing is paid for in vain.


def switch(bench: Bench) -> None:
    bench.book.blocked = "switch"


def drain(bench: Bench) -> None:
    bench.session.entries_closed = "draining"


def age(bench: Bench) -> None:
    bench.quotes.stale.add(SYMBOL)


def dispute(bench: Bench) -> None:
    bench.quotes.frozen[bench.book.name] = frozenset({SYMBOL})


@pytest.mark.parametrize(
    ("rule", "hinder"), [("kill_switch", switch), ("status", drain), ("stale_data", age), ("unassigned", dispute)]
)
def test_nobody_is_asked_where_nothing_could_come_of_it(rule: str, hinder: Callable[[Bench], None]) -> None:
    bench = make_bench(asking(), tariffs=TARIFFS)
    hinder(bench)

    bench.close()

    (run,) = bench.runs
    assert (bench.asked, run.status, refusals(run), spent(bench)) == ([], "skipped", [rule], (0, Decimal(0)))
    assert refusal(bench)[0] == rule


def test_nobody_is_asked_when_no_trade_is_left_for_the_day() -> None:
    bench = make_bench(asking(), tariffs=TARIFFS, risk={"max_trades_per_day": 1})
    bench.session.brain = msgspec.structs.replace(bench.session.brain, day=bench.quotes.now_ms // DAY_MS, day_trades=1)

    bench.close()

    assert (bench.asked, refusals(bench.runs[0])) == ([], ["daily_limit"])


def test_what_is_held_is_asked_about_although_nothing_could_be_entered() -> None:
    bench = make_bench(asking(on_candle=plan([enter()], [consult()])), tariffs=TARIFFS)
    bench.close()
    bench.fill(bench.placed[0])
    bench.book.blocked = "switch"

    bench.close()

    assert len(bench.asked) == 1


def test_a_rehearsal_asks_nobody_and_says_that_it_would() -> None:
    bench = make_bench(asking(), tariffs=TARIFFS)
    bench.close()
    bench.answer("hold")

    trace = bench.session.rehearse(SYMBOL)

    assert [type(wish).__name__ for wish in trace.wished] == ["Consult"]
    assert (len(bench.asked), bench.session.brain.questions) == (1, {})


def test_a_run_that_has_made_room_while_it_waited_does_not_come_back() -> None:
    bench = asked(asking(on_candle=each_its_own), symbols=(SYMBOL, OTHER))
    bench.session.runs_kept = 1
    bench.close(symbol=OTHER)
    _, second = bench.asked
    assert [run.id for run in bench.runs] == [second.run_id]

    bench.answer("hold", bench.asked[0])

    assert [run.id for run in bench.runs] == [second.run_id]
    assert list(bench.session.brain.questions) == [OTHER]


# What comes late is only an intent.


def test_an_answer_after_the_kill_switch_opens_nothing() -> None:
    bench = asked(asking(on_answer=BUY))

    switch(bench)
    bench.answer("buy")

    (run,) = bench.runs
    assert (bench.placed, run.status, refusals(run)) == ([], "skipped", ["kill_switch"])


def test_an_answer_after_a_pause_opens_nothing() -> None:
    bench = asked(asking(on_answer=BUY))
    paused = msgspec.structs.replace(bench.strategy, status=Status.PAUSED)

    bench.settle(bench.session.become(paused))
    bench.answer("buy")

    (run,) = bench.runs
    assert (bench.placed, run.status, refusals(run)) == ([], "skipped", ["status"])


def test_a_stop_ends_the_run_and_what_is_answered_then_is_not_looked_at() -> None:
    bench = asked(asking(on_answer=BUY))
    stopped = msgspec.structs.replace(bench.strategy, status=Status.STOPPED)
    bench.settle(bench.session.become(stopped))
    bench.answer("buy")

    (run,) = bench.runs
    assert (bench.placed, run.status, run.detail) == ([], "skipped", "the strategy is stopped")


def test_an_answer_to_another_deployment_is_not_looked_at() -> None:
    bench = asked(asking(on_answer=BUY))
    question = bench.asked[0]
    again = msgspec.structs.replace(bench.strategy, run=make_run(id="run_2", dry_run=False))
    bench.settle(bench.session.become(again))
    bench.answer("buy", question)

    (run,) = bench.runs
    assert (bench.placed, run.status, refusals(run)) == ([], "skipped", ["status"])


def test_a_new_start_forgets_what_was_asked_before() -> None:
    bench = asked(asking(on_answer=BUY))
    before = spent(bench)

    bench.settle(bench.session.on_start())

    # Nobody knows whether it was paid for.
    assert (bench.session.brain.questions, bench.runs[0].status, spent(bench)) == ({}, "skipped", before)


def test_a_stale_answer_is_late_and_paid_for() -> None:
    answers: list[Answer] = []
    bench = asked(asking(on_answer=noting(answers)))
    bench.wait(30_001)

    bench.answer("buy", tokens_in=500, tokens_out=20)

    (run,) = bench.runs
    assert ([each.verdict for each in answers], run.status, verdict_of(run)) == ([Verdict.LATE], "failed", "late")
    assert model_step(run).error == "it came 30001 ms after the question, of at most 30000"
    assert spent(bench)[0] == 520


@pytest.mark.parametrize("verdict", sorted(set(Verdict) - {Verdict.ANSWERED, Verdict.UNRECORDED}))
def test_no_answer_is_a_failure_that_says_why(verdict: Verdict) -> None:
    bench = asked()

    bench.answer(verdict=verdict, error="because", tokens_in=None, tokens_out=None)

    (run,) = bench.runs
    assert (run.status, verdict_of(run), model_step(run).error) == ("failed", verdict, "because")


def test_what_was_never_recorded_is_a_hold() -> None:
    bench = asked()

    bench.answer(verdict=Verdict.UNRECORDED)

    assert (bench.runs[0].status, bench.runs[0].detail) == ("hold", "")
