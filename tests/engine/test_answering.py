"""The record of an evaluation in which models were asked tells of all that came of it, before an answer and after."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pipaid.model.consult import Verdict
from tests.builders import enter, plan
from tests.engine.consults import always, asked, asking, consult

ENTRY = enter(tag="a", quantity=Decimal(1), stop_price=Decimal(90))


@pytest.mark.parametrize("verdict", [Verdict.ANSWERED, Verdict.UNREACHABLE])
def test_a_run_that_has_ordered_before_it_asked_is_completed_whatever_the_answer(verdict: Verdict) -> None:
    bench = asked(asking(on_candle=plan([ENTRY, consult()])))

    bench.answer("hold", verdict=verdict)

    (run,), (order,) = bench.runs, bench.placed
    assert (run.status, run.final_action, run.detail) == ("completed", "BUY", "")
    assert (run.order_ids, run.trade_id) == ((order.id,), order.position_id)


def test_orders_from_before_a_question_and_from_its_answer_are_of_one_run() -> None:
    another = enter(tag="b", quantity=Decimal(1), stop_price=Decimal(90))
    bench = asked(asking(on_candle=plan([ENTRY, consult()]), on_answer=always(lambda: another)))

    bench.answer("buy more")

    (run,), (first, second) = bench.runs, bench.placed
    assert (run.order_ids, run.trade_id) == ((first.id, second.id), first.position_id)


def test_a_run_lasts_as_long_as_all_its_answers_took() -> None:
    rounds = iter([[consult(role="decision")], ()])

    def on_answer(*_: Any) -> Any:
        return next(rounds)

    bench = asked(asking(on_candle=plan([consult(role="technical")]), on_answer=on_answer))
    bench.answer("first", took_ms=1_200)
    bench.answer("second", took_ms=34)

    (run,) = bench.runs
    assert run.duration_us == 1_234_000
