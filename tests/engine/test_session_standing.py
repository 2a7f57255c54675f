"""Who is asked when: standing, interest, runs, evaluations and what is remembered of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipaid.engine.book import Book, BookMemory
from pipaid.engine.effects import run_id
from pipaid.engine.template import Exit, View, Wakes
from pipaid.model.event import OrderCancelled, OrderPlaced
from pipaid.model.order import OrderFact
from pipaid.model.position import CloseReason
from pipaid.model.record import Kind
from pipaid.model.run import RUNS_KEPT, Evaluation
from pipaid.model.strategy import Status
from pipaid.signals.series import EVERY, Condition
from tests.builders import (
    OTHER,
    SYMBOL,
    enter,
    held_of,
    limit,
    make_bench,
    make_run,
    make_strategy,
    opened,
    plan,
    scripted,
    wishing,
)
from tests.engine.hearing import Heard, become

# Standing.


@pytest.mark.parametrize("status", [Status.ERROR, Status.STOPPED])
def test_a_halted_session_books_fills_and_never_asks_its_template(status: Status) -> None:
    heard = Heard()
    template = scripted(
        on_candle=plan([enter(), limit("95")]),
        on_opened=heard("opened"),
        on_closed=heard("closed"),
        on_entry_lost=heard("lost"),
    )
    bench = make_bench(template)
    bench.close()
    become(bench, status, withdraw_entries="engine")

    bench.fill(bench.placed[0])
    bench.end(bench.placed[1], OrderFact.EXPIRE)
    bench.close()
    bench.settle(bench.session.close_positions(CloseReason.MANUAL))
    bench.fill(bench.placed[2])

    assert heard.said == []
    assert len(bench.cancels) == 2
    assert bench.trades[0].reason is CloseReason.MANUAL
    assert bench.session.interest(SYMBOL) == ()


def test_pausing_withdraws_entries_and_keeps_exits() -> None:
    bench = opened(enter(stop_price=Decimal(90)), [limit("95"), held_of(price=Decimal(120))])
    bench.close()

    become(bench, Status.PAUSED, withdraw_entries="pause")
    bench.end(bench.placed[2], detail="Order cancelled.")

    assert [order.price for order in bench.cancels] == [95]
    assert bench.said(OrderCancelled)[0].reason == "pause"
    assert {order.price for order in bench.working} == {Decimal(90), Decimal(120)}


@pytest.mark.parametrize(("reason", "cancelled"), [(CloseReason.PAUSE_CLOSE, "pause"), (CloseReason.RISK, "engine")])
def test_closing_everything_withdraws_entries_and_leaves_at_the_market(reason: CloseReason, cancelled: str) -> None:
    bench = opened(None, [limit("95"), held_of(price=Decimal(120))])
    bench.close()

    bench.settle(bench.session.close_positions(reason))
    assert [order.price for order in bench.cancels] == [95, 120]
    bench.end(bench.placed[1])
    bench.end(bench.placed[2])
    bench.fill(bench.placed[3])

    assert bench.trades[0].reason is reason
    assert bench.said(OrderCancelled)[0].reason == cancelled
    assert not bench.working


def test_stopping_lets_no_exit_wait() -> None:
    bench = opened(None, [held_of(price=Decimal(120))], [held_of(price=Decimal(115))])
    bench.close()
    bench.close()

    bench.settle(bench.session.withdraw("engine", entries_only=False))
    bench.end(bench.placed[1])

    assert len(bench.placed) == 2
    assert not bench.working


@pytest.mark.parametrize(
    ("status", "holding", "interest"),
    [
        (Status.DEPLOYED, False, "flat"),
        (Status.DEPLOYED, True, "holding"),
        (Status.PAUSED, False, None),
        (Status.PAUSED, True, "holding"),
        (Status.ERROR, True, None),
        (Status.STOPPED, True, None),
    ],
)
def test_a_session_is_asked_as_its_template_wants(status: Status, holding: bool, interest: str | None) -> None:
    conditions: dict[str, Any] = {"flat": (Condition("above", right=1.0),), "holding": (Condition("below", right=2.0),)}
    bench = make_bench(scripted(wakes=lambda self: Wakes(**conditions), on_candle=plan([enter()])))
    bench.close()
    if holding:
        bench.fill(bench.placed[0])
    bench.session.strategy = msgspec.structs.replace(bench.session.strategy, status=status)

    assert bench.session.interest(SYMBOL) == (conditions[interest] if interest else ())


def test_a_change_of_interest_is_told() -> None:
    bench = opened(None, [held_of()])
    assert bench.session.interest(SYMBOL) == (EVERY,)
    assert bench.session.interest_changed == {SYMBOL}
    bench.session.interest_changed.clear()

    bench.close()
    assert bench.session.interest_changed == set()
    bench.fill(bench.placed[1])
    assert bench.session.interest_changed == {SYMBOL}


# Evaluations.


def test_a_deployment_asks_once_a_symbol_and_remembers_the_run() -> None:
    heard = Heard()
    bench = make_bench(scripted(on_start=heard("start")), symbols=(OTHER, SYMBOL))

    effects = bench.settle(bench.session.on_start())

    assert heard.names == ["start", "start"]
    assert bench.session.brain.started == "run_1"
    assert effects.brain is not None
    assert not effects.runs


def test_a_new_run_begins_its_figures_anew_and_keeps_the_day() -> None:
    bench = opened(None, [held_of()])
    bench.close()
    bench.fill(bench.placed[1], price="90")
    bench.strategy = make_strategy(run=make_run(id="run_2"))
    bench.rebuild()

    bench.settle(bench.session.on_start())

    brain = bench.session.brain
    assert (brain.run_pnl, brain.day_pnl, brain.tally.pnl) == ({}, Decimal(0), Decimal(-10))
    assert bench.session.equity(SYMBOL) == 1000


def test_a_run_of_the_other_mode_begins_its_day_anew() -> None:
    bench = make_bench()
    for number, dry_run, pnl in ((1, True, -7), (2, True, -7), (3, False, 0)):
        bench.strategy = make_strategy(run=make_run(id=f"run_{number}", dry_run=dry_run))
        bench.rebuild()
        bench.settle(bench.session.on_start())
        if number == 1:
            bench.session.brain = msgspec.structs.replace(bench.session.brain, day_pnl=Decimal(-7))
            bench.settle(bench.session.withdraw("engine", entries_only=True))
        assert bench.session.brain.day_pnl == pnl


def test_a_candle_is_decided_on_once() -> None:
    heard = Heard()
    bench = make_bench(scripted(on_candle=heard("candle", limit("90"))))

    bench.close()
    assert bench.session.on_candle(SYMBOL) is None
    bench.rebuild()
    assert bench.session.on_candle(SYMBOL) is None

    assert heard.names == ["candle"]


def test_a_plain_hold_leaves_nothing() -> None:
    bench = make_bench()

    effects = bench.close()

    assert effects.empty
    assert not bench.journal.rows


def test_a_state_that_changes_is_saved() -> None:
    class Seen(msgspec.Struct, frozen=True):
        """How many candles a template has seen."""

        count: int = 0

    def on_candle(self: Any, view: View) -> tuple[()]:
        before = self.state.get(view.symbol, Seen())
        self.state[view.symbol] = Seen(before.count + 1)
        return ()

    template = scripted(state_type=Seen)
    template.on_candle = on_candle  # type: ignore[method-assign]
    bench = make_bench(template)
    bench.close()
    bench.close()

    bench.rebuild()
    bench.close()

    assert bench.session.template.state == {SYMBOL: Seen(3)}


def test_what_decided_something_is_kept_as_a_run() -> None:
    bench = wishing(limit("95"), enter(quantity=Decimal(100)))

    (run,) = bench.journal.read("run", Evaluation)
    assert (run.cause, run.status, run.final_action, run.at_ms) == ("candle", "completed", "BUY", bench.quotes.now_ms)
    assert [step.status for step in run.steps] == ["ok", "ok", "refused", "ok"]


def test_a_trigger_is_kept_even_if_it_decides_nothing() -> None:
    heard = Heard()
    bench = make_bench(scripted(on_candle=heard("candle")), symbols=(SYMBOL, OTHER))
    bench.close()

    effects = bench.settle(bench.session.on_trigger())

    assert [(run.cause, run.status, run.symbol) for run in effects.runs] == [
        ("trigger", "hold", SYMBOL),
        ("trigger", "hold", OTHER),
    ]
    assert heard.names == ["candle", "candle"]  # Of the other symbol no candle is known yet.


def test_the_last_thousand_runs_are_kept() -> None:
    bench = make_bench(scripted(on_candle=lambda view: [Exit(position_id="pos_gone")]))
    brain = msgspec.structs.replace(bench.session.brain, runs_made=RUNS_KEPT - 1)
    bench.session.brain = brain

    dropped: list[tuple[str, str]] = []
    for _ in range(3):
        records = bench.close().batch().records
        dropped.extend((record.entity, record.key) for record in records if record.kind is Kind.DROP)

    assert bench.session.brain.runs_made == RUNS_KEPT + 2
    assert dropped == [("run", run_id(bench.strategy.id, number)) for number in (1, 2)]
    assert len(bench.journal.read("run", Evaluation)) == 3


def test_the_account_s_profit_is_journalled_with_the_trade_that_moved_it() -> None:
    bench = opened(None, [held_of()], book=Book(name="paper"))
    assert ("book", "paper") not in bench.journal.rows

    bench.close()
    bench.fill(bench.placed[1], price="90")

    (memory,) = bench.journal.read("book", BookMemory)
    assert (memory.pnl, memory.peak) == (Decimal(-10), Decimal(0))


def test_orders_are_told_before_their_fills_and_carry_their_own_price() -> None:
    bench = opened(enter(stop_price=Decimal(90), take_profit_price=Decimal(120)), [limit("95")])
    bench.close()

    market, stop, target, resting = bench.said(OrderPlaced)
    assert (market.price, market.stop_price, market.type) == (None, None, "market")
    assert (stop.price, stop.stop_price, target.stop_price) == (None, Decimal(90), Decimal(120))
    assert (resting.price, resting.stop_price, resting.reduce_only) == (Decimal("95.0"), None, False)
    assert (stop.reduce_only, stop.position_id) == (True, bench.lots[0].id)
