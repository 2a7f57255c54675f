"""An evaluation kept: what was seen, wished, judged and ordered, as plain JSON values."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipaid.engine.risk import Refused
from pipaid.engine.template import Alarm, CancelEntries, Enter, Exit, ExitAll, Protect
from pipaid.engine.tracing import SO_ALREADY, Trace, told
from pipaid.engine.wishes import Nonsense
from pipaid.model.order import OrderType, Side
from pipaid.model.position import CloseReason, Direction
from pipaid.model.run import Cause, Evaluation
from tests.builders import (
    OTHER,
    START_MS,
    SYMBOL,
    Wish,
    enter,
    limit,
    make_bench,
    make_candle,
    make_order,
    make_strategy,
    opened,
    plan,
    scripted,
    wishing,
)

NO = Refused("cooldown", "2", "1")


def traced(*, wishes: int = 0, refusals: int = 0, orders: tuple[Side, ...] = (), **fields: Any) -> Evaluation:
    trace = Trace(cause=Cause.CANDLE, symbol=SYMBOL, at_ms=START_MS, candle=make_candle(0, "100"), **fields)
    for _ in range(wishes):
        trace.intend(enter())
    for _ in range(refusals):
        trace.refused(NO)
    for number, side in enumerate(orders):
        trace.ordered(make_order(number, side=side))
    return trace.evaluation("run_1", make_strategy())


@pytest.mark.parametrize(
    ("trace", "status", "action"),
    [
        ({}, "hold", "HOLD"),
        ({"wishes": 1}, "hold", "HOLD"),
        ({"wishes": 1, "changed": True}, "completed", "HOLD"),
        ({"wishes": 2, "refusals": 1, "changed": True}, "completed", "HOLD"),
        ({"wishes": 1, "refusals": 1}, "skipped", "HOLD"),
        ({"wishes": 1, "orders": (Side.BUY,)}, "completed", "BUY"),
        ({"wishes": 2, "refusals": 1, "orders": (Side.SELL, Side.BUY)}, "completed", "SELL"),
    ],
)
def test_an_evaluation_says_how_it_ended(trace: dict[str, Any], status: str, action: str) -> None:
    run = traced(**trace)

    assert (run.status, run.final_action) == (status, action)


def test_the_steps_are_always_the_same_four() -> None:
    for run in (traced(), traced(wishes=1, refusals=1), traced(wishes=1, orders=(Side.BUY,))):
        assert [(step.seq, step.step_name) for step in run.steps] == [
            (1, "data"),
            (2, "signal"),
            (3, "risk"),
            (4, "order"),
        ]


def test_the_steps_tell_what_happened() -> None:
    seen: dict[str, Any] = {"features": {"rsi[14]": 28.5, "sma[50]": None}, "reasons": {"enter: rsi": True}}
    data, signal, risk, order = traced(wishes=1, refusals=1, orders=(Side.BUY,), **seen).steps

    assert data.output == {"open_time_ms": START_MS, "close": "100", "features": {"rsi[14]": 28.5, "sma[50]": None}}
    assert signal.output == {"intents": [told(enter())], "rules": {"enter: rsi": True}}
    assert (risk.status, risk.output) == (
        "refused",
        {"refusals": [{"rule": "cooldown", "limit": "2", "value": "1"}]},
    )
    assert (order.status, order.output) == ("ok", {"orders": [{"order_id": "ord_0", "side": "buy", "qty": "1"}]})


def test_an_evaluation_leads_to_its_orders_and_to_the_lot_of_the_first() -> None:
    run = traced(wishes=1, orders=(Side.BUY, Side.SELL))

    assert (run.order_ids, run.trade_id) == (("ord_0", "ord_1"), make_order(0).position_id)
    assert (traced().order_ids, traced().trade_id) == ((), "")


def test_what_was_skipped_says_why() -> None:
    assert traced(wishes=1, refusals=2).detail == "refused by cooldown: until 1970-01-01T00:00:00Z"
    assert Refused("size", "at least 1", "0").told == "refused by size: 0 against at least 1"
    assert traced(wishes=1, orders=(Side.BUY,)).detail == ""


AGAIN: dict[str, Wish] = {
    "protect": lambda lot: Protect(position_id=lot.id, stop_price=Decimal(90)),
    "enter": lambda _: enter(tag="dip", type=OrderType.LIMIT, price=Decimal(80)),
    "alarm": lambda _: Alarm(symbol=SYMBOL, below=Decimal(70), exits=False),
    "exit": lambda lot: Exit(position_id=lot.id),
    "exit at a price": lambda lot: Exit(position_id=lot.id, price=Decimal(120)),
    "exit all": lambda _: ExitAll(symbol=SYMBOL),
}


@pytest.mark.parametrize("wish", AGAIN)
def test_what_is_wished_for_again_changes_nothing(wish: str) -> None:
    bench = opened(enter(), [AGAIN[wish]], [AGAIN[wish]], [])

    for _ in range(3):
        bench.close()

    runs = bench.journal.read("run", Evaluation)
    assert [(run.status, run.detail) for run in runs[1:]] == [("completed", ""), ("hold", SO_ALREADY)]


def test_entries_are_withdrawn_once() -> None:
    bench = opened(enter(), [limit("80")], [CancelEntries(symbol=SYMBOL)], [CancelEntries(symbol=SYMBOL)])

    for _ in range(3):
        bench.close()

    statuses = [run.status for run in bench.journal.read("run", Evaluation)]
    assert statuses == ["completed", "completed", "completed", "hold"]


def test_without_a_candle_nothing_was_seen() -> None:
    run = Trace(cause=Cause.DEPLOY, symbol=SYMBOL, at_ms=START_MS).evaluation("run_1", make_strategy())

    assert (run.steps[0].status, run.steps[0].output) == ("none", {})
    assert run.detail == "no candle had closed yet"


def test_it_is_kept_what_each_gate_said_of_an_entry() -> None:
    bench = wishing(enter(quantity=Decimal(1)), enter(quantity=Decimal(100), tag="large"))

    (run,) = bench.journal.read("run", Evaluation)
    passed, refused = run.steps[2].output["entries"]
    assert (passed["side"], passed["qty"], passed["price"]) == ("buy", "1", "100")
    assert {gate["verdict"] for gate in passed["gates"]} == {"passed"}
    said = {gate["gate"]: (gate["verdict"], gate["limit"], gate["value"]) for gate in refused["gates"]}
    assert said["status"] == ("passed", "deployed", "deployed")
    (no,) = run.steps[2].output["refusals"]
    assert said[no["rule"]] == ("refused", no["limit"], no["value"])


def test_an_evaluation_takes_as_long_as_its_steps() -> None:
    bench = make_bench(scripted(on_candle=plan([], [], [enter()], [])), symbols=(SYMBOL, OTHER))
    bench.close()
    bench.close(symbol=OTHER)
    moments = iter((10.25, 10.5, 10.75, 12.0, 13.125))
    bench.session.lap = lambda: next(moments)

    effects = bench.session.on_trigger()

    took = [[step.duration_us for step in run.steps] for run in effects.runs]
    assert took == [[0, 250_000, 250_000, 0], [0, 1_125_000, 0, 0]]
    assert [run.duration_us for run in effects.runs] == [500_000, 1_125_000]


def test_a_template_that_tells_its_rules_badly_is_told_so() -> None:
    bench = make_bench(scripted(on_candle=lambda _: [enter()]))
    bench.session.template.reasons = lambda view: ["enter"]  # type: ignore[method-assign,assignment,return-value]

    with pytest.raises(Nonsense, match="return a mapping of names"):
        bench.close()


@pytest.mark.parametrize(
    ("intent", "plain"),
    [
        (
            limit("99.5", tag="a", direction=Direction.SHORT),
            {
                "intent": "enter", "symbol": SYMBOL, "direction": "short", "tag": "a", "type": "limit",
                "price": "99.5", "quantity": "1",
            },
        ),
        (
            Exit(position_id="pos_1", reason=CloseReason.TIME_EXIT),
            {"intent": "exit", "position_id": "pos_1", "reason": "time_exit"},
        ),
        (
            CancelEntries(symbol=SYMBOL, tags=frozenset({"b", "a"})),
            {"intent": "cancel_entries", "symbol": SYMBOL, "tags": ["a", "b"]},
        ),
        (CancelEntries(symbol=SYMBOL), {"intent": "cancel_entries", "symbol": SYMBOL}),
        (
            Protect(position_id="pos_1", stop_price=Decimal("90.0")),
            {"intent": "protect", "position_id": "pos_1", "stop_price": "90.0"},
        ),
    ],
)  # fmt: skip
def test_a_wish_is_told_without_what_was_left_open(intent: Any, plain: dict[str, Any]) -> None:
    assert told(intent) == plain
    assert msgspec.json.decode(msgspec.json.encode(told(intent))) == plain


def test_a_wish_of_a_kind_derived_from_ours_is_told_as_ours() -> None:
    class Special(Enter, frozen=True, kw_only=True):
        """A template's own kind of entry."""

    assert told(Special(symbol=SYMBOL, direction=Direction.LONG, quantity=Decimal(1)))["intent"] == "enter"
