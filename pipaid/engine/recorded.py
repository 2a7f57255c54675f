"""Answers that models gave once, to be given again where a strategy is played anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

import msgspec

from pipaid.errors import InvalidParameter
from pipaid.model.consult import Answer, Question, RecordedAnswer, Verdict
from pipaid.model.run import Cause, StepName

# By symbol, venue time of the question and role.
Answers = Mapping[tuple[str, int, str], Answer]
UNRECORDED: Final = "llm_unrecorded"
# Nobody answered these, and so nobody would have later.
_NEVER: Final = frozenset({Verdict.UNRECORDED})


class Step(Protocol):
    """A step of an evaluation, as it is kept or as it is shown."""

    @property
    def step_name(self) -> str:
        """Return what it is about."""
        ...

    @property
    def output(self) -> dict[str, Any]:
        """Return what came of it."""
        ...


def answer_again(answers: Answers, question: Question, missing: Counter[str]) -> Answer:
    """Return what was answered to a question of that symbol, moment and role; count one that was never asked."""
    recorded = answers.get((question.symbol, question.asked_at_ms, question.role))
    if recorded is None:
        missing[UNRECORDED] += 1
        return Answer(question_id=question.id, verdict=Verdict.UNRECORDED, error="no answer was recorded")
    return msgspec.structs.replace(recorded, question_id=question.id)


def is_replayed(cause: str) -> bool:
    """Tell whether what led to an evaluation comes again when a strategy is played anew; what somebody did does not."""
    return cause != Cause.TRIGGER


def recorded_in(symbol: str, steps: Iterable[Step]) -> Iterator[RecordedAnswer]:
    """Yield what models answered in an evaluation of a symbol; a question that is still open is left out."""
    for step in steps:
        told = step.output
        if step.step_name == StepName.MODEL and "verdict" in told and told["verdict"] not in _NEVER:
            yield msgspec.convert({"symbol": symbol, **told}, RecordedAnswer)


def by_question(recorded: Iterable[RecordedAnswer]) -> dict[tuple[str, int, str], Answer]:
    """Return answers by what was asked; raise InvalidParameter where two disagree about one question."""
    answers: dict[tuple[str, int, str], Answer] = {}
    for each in recorded:
        key = each.symbol, each.asked_at_ms, each.role
        answer = Answer(
            question_id="",
            verdict=each.verdict,
            text=each.answer,
            error=each.error,
            tokens_in=each.tokens_in,
            tokens_out=each.tokens_out,
        )
        if answers.setdefault(key, answer) != answer:
            raise InvalidParameter(f"answers: two of {each.symbol} at {each.asked_at_ms} as {each.role} disagree")
    return answers
