"""What a model is asked and what it says: questions leave a session as effects, answers come back to it as facts."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

import msgspec

# In characters; what is asked and what is answered is kept with the evaluation.
PROMPT_MAX: Final = 24_000
ANSWER_MAX: Final = 16_000
MILLION: Final = Decimal(1_000_000)
# What a provider puts around a question by itself: words about tools, marks between the parts.
TOKENS_AROUND_MAX: Final = 1_000


class Verdict(StrEnum):
    """What came of a question; only `answered` holds text that may be read as a decision."""

    ANSWERED = "answered"
    LATE = "late"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    MALFORMED = "malformed"
    UNCONFIGURED = "unconfigured"
    INTERRUPTED = "interrupted"
    UNRECORDED = "unrecorded"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a model: asked at most once, by whom and about what, with all that may be spent on it.

    `role` says who is to answer (such as `decision` or `technical`), `answer_schema` which JSON is expected. Times in
    milliseconds: `asked_at_ms` of the venue, `patience_ms` from the moment it is sent.
    """

    id: str
    strategy_id: str
    run_id: str
    symbol: str
    role: str
    provider: str
    model: str
    system: str
    prompt: str
    answer_schema: dict[str, Any]
    tokens_max: int
    patience_ms: int
    asked_at_ms: int

    @property
    def tokens_in_max(self) -> int:
        """Return more tokens than are read of it: none is shorter than a byte."""
        told = len(self.system.encode()) + len(self.prompt.encode())
        return told + len(msgspec.json.encode(self.answer_schema)) + TOKENS_AROUND_MAX


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a question: the text as the model wrote it, or why there is none; tokens as the provider counts.

    Zero tokens mean that nothing was sent, or that it was not taken; none at all, that nobody knows what it cost.
    """

    question_id: str
    verdict: Verdict
    text: str = ""
    error: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    took_ms: int = 0


class RecordedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a model said to a question that is known by its symbol, its venue time in milliseconds and its role."""

    symbol: str
    asked_at_ms: int
    role: str
    verdict: Verdict
    answer: str = ""
    error: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    provider: str = ""
    model: str = ""


class Tariff(msgspec.Struct, frozen=True, kw_only=True):
    """What a model costs, in money for a million tokens read and written."""

    read: Decimal
    written: Decimal

    def cost(self, tokens_in: int, tokens_out: int) -> Decimal:
        """Return what so many tokens cost."""
        return (self.read * tokens_in + self.written * tokens_out) / MILLION

    def ceiling(self, question: Question) -> Decimal:
        """Return what a question costs at the very most: so much is set aside before it is asked."""
        return self.cost(question.tokens_in_max, question.tokens_max)
