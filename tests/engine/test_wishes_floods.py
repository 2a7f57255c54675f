"""A flood of wishes is slowed down with a cause, counted, and costs the others next to nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pipaid.engine.asking import INTENTS_MAX
from pipaid.engine.effects import BRAIN_BYTES_MAX
from pipaid.engine.template import Alarm, CancelEntries, Exit, Protect
from pipaid.engine.tracing import JUDGED_MAX, TOLD_MAX
from pipaid.engine.wishes import ENTRIES_AT_ONCE_MAX, ENTRY_EVERY_MS, REFUSALS_AT_ONCE_MAX
from pipaid.model.event import RiskBlocked
from pipaid.model.instrument import MINUTE_MS
from pipaid.model.order import OrderType
from tests.builders import SYMBOL, Bench, enter, held, limit, make_bench, opened, plan, scripted

A_MINUTE = MINUTE_MS // ENTRY_EVERY_MS


def flooding(**more: Any) -> Bench:
    """Make a bench whose template wishes new entries without end, and withdraws those of before."""
    made = [0]

    def on_candle(_: Any) -> list[Any]:
        made[0] += 1
        cancel = CancelEntries(symbol=SYMBOL)
        return [cancel, *(limit("90", quantity=Decimal("0.01"), tag=f"{made[0]}-{each}") for each in range(500))]

    return make_bench(scripted(on_candle=on_candle), capital=Decimal(100_000), **more)


def test_entries_beyond_a_ladder_come_at_a_pace() -> None:
    bench = flooding()

    assert len(bench.close().place) == ENTRIES_AT_ONCE_MAX
    (blocked,) = bench.said(RiskBlocked)
    assert blocked.rule == "entry_flood"
    assert [len(bench.close().place) for _ in range(3)] == [A_MINUTE] * 3
    assert bench.book.refusals["entry_flood"] == 4 * 500 - ENTRIES_AT_ONCE_MAX - 3 * A_MINUTE


def test_the_pace_survives_a_restart_and_a_quiet_time_makes_up_for_it() -> None:
    bench = flooding()
    bench.close()
    bench.rebuild()
    assert len(bench.close().place) == A_MINUTE

    bench.wait(ENTRIES_AT_ONCE_MAX * ENTRY_EVERY_MS)
    assert len(bench.close().place) == ENTRIES_AT_ONCE_MAX


def test_a_market_that_begins_anew_finds_no_debt_of_years() -> None:
    bench = flooding()
    bench.wait(10**11)
    bench.close()
    bench.quotes.now_ms -= 10**11
    bench.session.quotes = bench.quotes

    assert bench.session._flooded_ms() == ENTRIES_AT_ONCE_MAX * ENTRY_EVERY_MS


def test_refusals_without_end_are_cut_short() -> None:
    wishes = [enter(quantity=Decimal(10**6), tag=str(each)) for each in range(INTENTS_MAX)]
    bench = make_bench(scripted(on_candle=plan(wishes)))
    bench.close()

    refusals = bench.book.refusals
    assert refusals["entry_flood"] == INTENTS_MAX - REFUSALS_AT_ONCE_MAX
    assert refusals.total() == INTENTS_MAX


def test_an_evaluation_keeps_a_bounded_part_of_a_flood() -> None:
    bench = flooding()
    effects = bench.close()

    (run,) = effects.runs
    steps = {step.step_name.value: step.output for step in run.steps}
    assert (len(steps["signal"]["intents"]), steps["signal"]["count"]) == (TOLD_MAX, 501)
    assert (len(steps["order"]["orders"]), steps["order"]["count"]) == (TOLD_MAX, ENTRIES_AT_ONCE_MAX)
    assert len(steps["risk"]["entries"]) == JUDGED_MAX
    assert len(run.order_ids) == TOLD_MAX


def test_of_wishes_for_one_lot_in_one_decision_the_last_counts() -> None:
    bench = opened(
        None,
        [
            lambda lot: Protect(position_id=lot.id, stop_price=Decimal(50)),
            lambda lot: held(lot, price=Decimal(150)),
            lambda lot: Protect(position_id=lot.id, stop_price=Decimal(60)),
            lambda lot: held(lot, price=Decimal(160)),
        ],
    )
    effects = bench.close()

    placed = {approved.order.type: approved.order.price for approved in effects.place}
    assert placed == {OrderType.STOP: Decimal(60), OrderType.LIMIT: Decimal(160)}
    assert effects.cancel == []


def test_of_alarms_for_one_symbol_the_last_counts() -> None:
    wishes = [Alarm(symbol=SYMBOL, below=Decimal(each)) for each in (50, 60, 70)]
    bench = make_bench(scripted(on_candle=plan(wishes)))
    bench.close()

    alarm = bench.session.alarm(SYMBOL)
    assert alarm is not None
    assert alarm.below == 70


def test_a_memory_beyond_the_bound_is_not_stored() -> None:
    bench = make_bench(scripted(on_candle=plan([Exit(position_id="pos_none")])))
    bench.session.template.state[SYMBOL] = "x" * BRAIN_BYTES_MAX  # type: ignore[assignment]
    bench.session._dirty = True

    with pytest.raises(TypeError, match="what the template remembers takes 262"):
        bench.close()
