"""Whatever a model says: nothing that risk did not see, nothing beyond the budget, and every run ends with a reason."""

from __future__ import annotations

import json
from decimal import Decimal
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipaid.model.consult import Answer, Verdict
from pipaid.model.order import Order, OrderType
from pipaid.model.run import Cause
from templates.analyst import Analyst
from templates.deciding import FORMS, Said, Unreadable, read
from tests.builders import SYMBOL, Bench
from tests.templates.analysts import RULES, analyst

TOKENS = 24_000
MONEY = Decimal("0.12")
MODES = ("llm_only", "rule_then_llm", "rule_only", "hybrid_validator", "multi_agent")
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(), st.text(max_size=20), st.just([1])
)
MEMBERS = st.sampled_from(["action", "confidence", "reason", "argument", "stop", "target", "scale", "size"])
FENCES = st.sampled_from(["{}", "```json\n{}\n```", "```\n{}\n```", "I think: {}", "{} ", "{}{}"])


def fenced(fence: str, value: Any) -> str:
    return fence.replace("{}", json.dumps(value))


TEXTS = st.text(max_size=60) | st.builds(fenced, FENCES, VALUES | st.dictionaries(MEMBERS, VALUES, max_size=6))
DAY_MS = 86_400_000
LATER_MS = (1_000, 59_000, 601_000, DAY_MS, DAY_MS)


def meant(chance: Random, role: str, price: Decimal) -> str:
    """Return an answer in the form that was asked for, with levels around the price."""
    form = FORMS[role]
    levels = {name: chance.choice([None, float(price) * chance.uniform(0.85, 1.15)]) for name in ("stop", "target")}
    numbers = {**levels, "scale": chance.choice([None, chance.uniform(0, 1.1)])}
    known = {name: numbers[name] for name in form.numbers}
    said = {
        "action": chance.choice(form.actions),
        "confidence": round(chance.uniform(0.6, 1), 2),
        form.text: "so it is",
    }
    return chance.choice(["{}", "```json\n{}\n```"]).replace("{}", json.dumps({**said, **known}))


@given(mode=st.sampled_from(MODES), seed=st.integers(0, 2**32), texts=st.lists(TEXTS, min_size=1, max_size=10))
@settings(max_examples=100)
def test_whatever_a_model_says(mode: str, seed: int, texts: list[str]) -> None:
    chance = Random(seed)
    ruled: dict[str, Any] = RULES if mode in ("rule_then_llm", "rule_only", "hybrid_validator") else {}
    tokens, money = chance.choice([(TOKENS, Decimal(1_000)), (10**9, MONEY)])
    budget: dict[str, Any] = {"budget_tokens_per_day": tokens, "budget_money_per_day": str(money)}
    bench = analyst(execution_mode=mode, patience_s=600, **budget, **ruled)
    for _ in range(30):
        before = len(bench.placed)
        act(bench, chance)
        while bench.session.brain.questions and chance.random() < 0.9:
            waiting = bench.session.brain.questions[SYMBOL]
            answer = Answer(
                question_id=waiting.id,
                verdict=chance.choice([Verdict.ANSWERED] * 30 + list(Verdict)),
                text=chance.choice([meant(chance, waiting.role, bench.quotes.price(SYMBOL))] * 4 + texts[:1]),
                tokens_in=chance.choice([None, chance.randint(-5, 900)]),
                tokens_out=chance.choice([None, chance.randint(-5, 100)]),
            )
            texts = texts[1:] + texts[:1]
            bench.settle(bench.session.on_answer(answer))
        hold_to_account(bench, bench.placed[before:])
    for question in bench.asked:
        bench.answer("", question, verdict=Verdict.UNREACHABLE)
    explained(bench)


def act(bench: Bench, chance: Random) -> None:
    """Let something happen."""
    session: Any = bench.session
    match chance.choice(["close"] * 5 + ["price", "fill", "fill", "trigger", "tend", "wait", "switch", "restart"]):
        case "close":
            bench.close(f"{chance.uniform(95, 105):.1f}")
        case "price":
            bench.price(f"{chance.uniform(97, 103):.1f}")
        case "fill":
            for order in [order for order in bench.working if not order.reduce_only or order.type is OrderType.MARKET]:
                bench.fill(order, price=str(bench.quotes.price(SYMBOL)))
        case "trigger":
            bench.settle(session.on_trigger())
        case "tend":
            session._begin()
            session._evaluate(SYMBOL, Cause.SCHEDULE, session.template.on_maintenance)
            bench.settle(session._finish(force=True))
        case "wait":
            bench.wait(chance.choice(LATER_MS))
        case "switch":
            bench.book.blocked = chance.choice(["switch", "", "", ""])
        case _:
            bench.rebuild()


def hold_to_account(bench: Bench, placed: list[Order]) -> None:
    """Hold one step to what may never happen."""
    session = bench.session
    entered = [order for order in placed if not order.reduce_only]
    assert not (entered and bench.book.blocked)
    for order in entered:
        assert order.stop_price is not None
        assert order.quantity * order.price <= session.capital[SYMBOL] * session.leverage
        # What is lost at the stop is the share that the strategy may lose, give or take the lot it is rounded down to.
        risked = order.quantity * abs(order.price - order.stop_price)
        assert risked <= Decimal("0.0101") * max(session.equity(SYMBOL), session.capital[SYMBOL])
    brain = session.brain
    assert brain.spending.tokens <= session.limits.spending.tokens
    assert brain.spending.money <= session.limits.spending.money
    assert len(brain.questions) <= 1
    running = [run for run in bench.runs if run.status == "running"]
    assert len(running) == len(brain.questions)


def explained(bench: Bench) -> None:
    """Hold every evaluation to its end: it says what was done, or why nothing was."""
    assert bench.session.brain.questions == {}
    for run in bench.runs:
        assert run.status != "running"
        orders = [step for step in run.steps if step.step_name == "order" and step.status == "ok"]
        assert orders or run.detail or run.status in ("completed", "hold")
        if run.status in ("failed", "skipped"):
            assert run.detail
        assert all("answer" in step.output for step in run.steps if step.step_name == "model")


@given(text=TEXTS, role=st.sampled_from(sorted(FORMS)))
@settings(max_examples=400)
def test_an_answer_is_read_whole_or_not_at_all(text: str, role: str) -> None:
    form = FORMS[role]
    try:
        said = read(text, form)
    except Unreadable:
        return
    assert isinstance(said, Said)
    assert said.action in form.actions
    assert 0 <= said.confidence <= 1
    assert said.scale is None or 0 < said.scale <= 1
    assert all(level is None or level.is_finite() for level in (said.stop, said.target))


def test_the_analysts_here_ask_more_than_once_a_day() -> None:
    bench = analyst(budget_tokens_per_day=TOKENS, budget_money_per_day=str(MONEY))
    bench.close()

    (question,) = bench.asked
    assert 2 * (question.tokens_in_max + question.tokens_max) < TOKENS
    assert isinstance(bench.session.template, Analyst)
