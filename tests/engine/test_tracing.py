"""An evaluation kept: what was seen, wished, judged and ordered, as plain JSON values."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipaid.engine.risk import Refused
from pipaid.engine.template import CancelEntries, Enter, Exit, Protect
from pipaid.engine.tracing import Trace, told
from pipaid.model.order import Side
from pipaid.model.position import CloseReason, Direction
from pipaid.model.run import Evaluation
from tests.builders import START_MS, SYMBOL, enter, limit, make_candle, make_order, make_strategy

NO = Refused("cooldown", "2", "1")


def traced(*, wishes: int = 0, refusals: int = 0, orders: tuple[Side, ...] = ()) -> Evaluation:
    trace = Trace(cause="candle", symbol=SYMBOL, at_ms=START_MS)
    for _ in range(wishes):
        trace.intend(enter())
    for _ in range(refusals):
        trace.refused(NO)
    for number, side in enumerate(orders):
        trace.ordered(make_order(number, side=side))
    return trace.evaluation("run_1", make_strategy(), make_candle(0, "100"))


@pytest.mark.parametrize(
    ("trace", "status", "action"),
    [
        ({}, "hold", "HOLD"),
        ({"wishes": 1}, "completed", "HOLD"),
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
    data, signal, risk, order = traced(wishes=1, refusals=1, orders=(Side.BUY,)).steps

    assert data.output == {"open_time_ms": START_MS, "close": "100"}
    assert signal.output == {"intents": [told(enter())]}
    assert (risk.status, risk.output) == (
        "refused",
        {"refusals": [{"rule": "cooldown", "limit": "2", "value": "1"}]},
    )
    assert (order.status, order.output) == ("ok", {"orders": [{"order_id": "ord_0", "side": "buy", "qty": "1"}]})


def test_without_a_candle_nothing_was_seen() -> None:
    run = Trace(cause="deploy", symbol=SYMBOL, at_ms=START_MS).evaluation("run_1", make_strategy(), None)

    assert run.steps[0].output == {}


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
