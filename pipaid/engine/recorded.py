"""Answers that models gave once, to be given again where a strategy is played anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import msgspec

from pipaid.model.consult import Answer, Question, Verdict

# By symbol, venue time of the question and role.
Answers = Mapping[tuple[str, int, str], Answer]
UNRECORDED: Final = "llm_unrecorded"


def answer_again(answers: Answers, question: Question, missing: Counter[str]) -> Answer:
    """Return what was answered to a question of that symbol, moment and role; count one that was never asked."""
    recorded = answers.get((question.symbol, question.asked_at_ms, question.role))
    if recorded is None:
        missing[UNRECORDED] += 1
        return Answer(question_id=question.id, verdict=Verdict.UNRECORDED, error="no answer was recorded")
    return msgspec.structs.replace(recorded, question_id=question.id)
