"""What a question may cost is known before it is asked."""

from __future__ import annotations

from decimal import Decimal

from pipaid.model.consult import TOKENS_AROUND_MAX, Question, Tariff

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
