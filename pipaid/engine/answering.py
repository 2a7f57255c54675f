"""How an evaluation's record tells of the models that were asked in it: each question with what came of it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from pipaid.engine.spending import OpenQuestion
from pipaid.engine.tracing import Trace, step
from pipaid.model.consult import Answer, Question, Verdict
from pipaid.model.money import plain
from pipaid.model.run import Evaluation, RunStatus, StepName, StepStatus, numbered
from pipaid.model.strategy import Strategy

# Nothing went wrong, there is just nothing to go by.
_NO_FAILURE: Final = {Verdict.ANSWERED: StepStatus.OK, Verdict.UNRECORDED: StepStatus.NONE}


def with_question(run: Evaluation, question: Question, waiting: OpenQuestion) -> Evaluation:
    """Return a record that waits for the answer to a question."""
    asked: dict[str, Any] = {
        "question_id": question.id,
        "role": question.role,
        "provider": question.provider,
        "model": question.model,
        "asked_at_ms": question.asked_at_ms,
        "system": question.system,
        "prompt": question.prompt,
        "reserved": {"tokens_in": waiting.tokens_in, "tokens_out": waiting.tokens_out, "cost": plain(waiting.money)},
    }
    steps = numbered(*run.steps, step(StepName.MODEL, StepStatus.PENDING, asked))
    return msgspec.structs.replace(run, status=RunStatus.RUNNING, detail="", steps=steps)


def with_answer(run: Evaluation, waiting: OpenQuestion, answer: Answer) -> Evaluation:
    """Return a record whose last question has come to its end."""
    *before, asked = run.steps
    answered: dict[str, Any] = {
        "verdict": answer.verdict.value,
        "answer": answer.text,
        "error": answer.error,
        "tokens_in": answer.tokens_in,
        "tokens_out": answer.tokens_out,
        "cost": plain(waiting.tariff.cost(*waiting.counted(answer))),
    }
    took_us = answer.took_ms * 1_000
    asked = msgspec.structs.replace(
        asked,
        status=_NO_FAILURE.get(answer.verdict, StepStatus.FAILED),
        output={**asked.output, **answered},
        error=answer.error or None,
        duration_us=took_us,
    )
    return msgspec.structs.replace(run, steps=(*before, asked), duration_us=run.duration_us + took_us)


def continued(run: Evaluation, trace: Trace, strategy: Strategy, answer: Answer) -> Evaluation:
    """Return a record with what was decided on an answer, which ends it."""
    after = trace.evaluation(run.id, strategy)
    status, detail = after.status, after.detail
    if run.order_ids:
        status = RunStatus.COMPLETED
    elif status is RunStatus.HOLD and trace.concluded is None and answer.verdict not in _NO_FAILURE:
        status, detail = RunStatus.FAILED, f"{answer.verdict}: {answer.error}"
    return msgspec.structs.replace(
        run,
        status=status,
        detail=detail,
        final_action=run.final_action if run.order_ids else after.final_action,
        steps=numbered(*run.steps, *after.steps[1:]),
        order_ids=run.order_ids + after.order_ids,
        trade_id=run.trade_id or after.trade_id,
    )


def concluded(run: Evaluation, why: str) -> Evaluation:
    """Return a record that ends here, whatever was answered."""
    refusal = {"rule": "status", "limit": "deployed", "value": why}
    shut = step(StepName.RISK, StepStatus.REFUSED, {"refusals": [refusal]})
    return msgspec.structs.replace(run, status=RunStatus.SKIPPED, detail=why, steps=numbered(*run.steps, shut))
