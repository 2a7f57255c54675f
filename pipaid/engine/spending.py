"""What may be spent on asking models: reserved at its worst before a question leaves, settled by what was counted."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec
from attrs import frozen

from pipaid.model.consult import ANSWER_MAX, Answer, Tariff, Verdict
from pipaid.model.money import ZERO

# More than any model takes: what is counted beyond is no count.
TOKENS_MAX: Final = 1_000_000_000
ERROR_MAX: Final = 500
# Of these something was read for certain, so that a count of none is none.
_READ: Final = frozenset({Verdict.ANSWERED, Verdict.MALFORMED})
# These were never sent.
_UNSENT: Final = frozenset({Verdict.UNCONFIGURED, Verdict.UNRECORDED})


@frozen(kw_only=True)
class Allowance:
    """What a strategy may spend on questions in a UTC day of venue time; nothing, unless somebody said otherwise."""

    money: Decimal = ZERO
    tokens: int = 0


class Spending(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a strategy spent on questions on a day, those that are open at their worst."""

    day: int = 0
    money: Decimal = ZERO
    tokens: int = 0
    questions: int = 0

    def on(self, day: int) -> Spending:
        """Return what was spent on a day: nothing yet, if it is another one; a clock set back over midnight is none."""
        return self if self.day - 1 <= day <= self.day else Spending(day=day)

    def plus(self, tokens: int, money: Decimal, questions: int = 0) -> Spending:
        """Return the spending with so much more, or less if that is below zero."""
        return msgspec.structs.replace(
            self,
            money=max(ZERO, self.money + money),
            tokens=max(0, self.tokens + tokens),
            questions=self.questions + questions,
        )


class OpenQuestion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question that waits for its answer, without its words: they stand in the record of its evaluation.

    `evaluation` is the number of that, `deployment` the run of the strategy it was asked in, `rounds` how many were
    asked in the evaluation so far. `tokens_in` and `tokens_out` are reserved at the tariff.
    """

    id: str
    evaluation: int
    deployment: str
    role: str
    provider: str
    model: str
    asked_at_ms: int
    patience_ms: int
    day: int
    tokens_in: int
    tokens_out: int
    tariff: Tariff
    rounds: int = 1

    @property
    def tokens(self) -> int:
        """Return how many tokens are reserved."""
        return self.tokens_in + self.tokens_out

    @property
    def money(self) -> Decimal:
        """Return what is reserved."""
        return self.tariff.cost(self.tokens_in, self.tokens_out)

    def counted(self, answer: Answer) -> tuple[int, int]:
        """Return the tokens to pay for: those counted, and where nothing was, those reserved."""
        if answer.verdict in _UNSENT:
            return 0, 0
        read = answer.verdict in _READ or bool(answer.text)
        tokens_in = _count(answer.tokens_in, 1 if read else 0, self.tokens_in)
        return tokens_in, _count(answer.tokens_out, 1 if read and answer.text else 0, self.tokens_out)


def _count(counted: int | None, least: int, reserved: int) -> int:
    return reserved if counted is None or not least <= counted <= TOKENS_MAX else counted


def storable(answer: Answer) -> Answer:
    """Return an answer as it can be kept: its text whole or not at all, and nothing in it that is no text."""
    if len(answer.text) > ANSWER_MAX:
        told = f"the answer has {len(answer.text)} characters, of at most {ANSWER_MAX}"
        verdict = Verdict.MALFORMED if answer.verdict is Verdict.ANSWERED else answer.verdict
        answer = msgspec.structs.replace(answer, text="", error=told, verdict=verdict)
    return msgspec.structs.replace(
        answer,
        text=_plain(answer.text),
        error=_plain(answer.error[:ERROR_MAX]),
        tokens_in=_known(answer.tokens_in),
        tokens_out=_known(answer.tokens_out),
        took_ms=min(max(0, answer.took_ms), TOKENS_MAX),
    )


def _plain(text: str) -> str:
    return text.encode(errors="replace").decode()


def _known(count: int | None) -> int | None:
    return count if count is not None and 0 <= count <= TOKENS_MAX else None
