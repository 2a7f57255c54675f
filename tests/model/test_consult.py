"""What a question may cost is known before it is asked, and what it did cost is never less than was counted."""

from __future__ import annotations

from decimal import Decimal

from pipaid.model.consult import TOKENS_AROUND_MAX, Answer, Question, Tariff, Verdict

TARIFF = Tariff(read=Decimal(3), written=Decimal(15))


def question(prompt: str = "ä" * 100, system: str = "b" * 50, tokens_max: int = 200) -> Question:
    return Question(
        id="q_1",
        strategy_id="strat_1",
        run_id="run_1",
        symbol="BTCUSDT",
        role="decision",
        provider="main",
        model="m",
        system=system,
        prompt=prompt,
        answer_schema={},
        tokens_max=tokens_max,
        patience_ms=1_000,
        asked_at_ms=0,
    )


def test_no_token_is_shorter_than_a_byte() -> None:
    assert question().tokens_in_max == 200 + 50 + len("{}") + TOKENS_AROUND_MAX


def test_the_ceiling_is_what_all_of_it_would_cost() -> None:
    assert TARIFF.ceiling(question()) == (3 * Decimal(1_252) + 15 * Decimal(200)) / 1_000_000


def test_what_was_counted_is_charged() -> None:
    answer = Answer(question_id="q_1", verdict=Verdict.ANSWERED, text="{}", tokens_in=100, tokens_out=10)

    assert TARIFF.charge(question(), answer) == Decimal("0.00045")


def test_what_nobody_counted_costs_all_that_was_set_aside() -> None:
    late = Answer(question_id="q_1", verdict=Verdict.LATE)
    half = Answer(question_id="q_1", verdict=Verdict.ANSWERED, text="{}", tokens_in=1)

    assert TARIFF.charge(question(), late) == TARIFF.charge(question(), half) == TARIFF.ceiling(question())


def test_what_was_not_sent_costs_nothing() -> None:
    unsent = Answer(question_id="q_1", verdict=Verdict.UNREACHABLE, tokens_in=0, tokens_out=0)

    assert TARIFF.charge(question(), unsent) == 0
