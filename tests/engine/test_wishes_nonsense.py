"""Nonsense of templates is named clearly, and goes nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from pipaid.engine.asking import INTENTS_MAX
from pipaid.engine.template import CancelEntries, Enter, Exit, Protect
from pipaid.engine.wishes import Nonsense
from pipaid.model.order import OrderType
from pipaid.model.position import Direction
from tests.builders import (
    SYMBOL,
    enter,
    held_of,
    limit,
    make_bench,
    opened,
    plan,
    scripted,
)

# Nonsense.

NONSENSE = [
    (None, "returned None"),
    (5, "returned 5; return intents"),
    (enter(), "return intents, or () for none"),
    ([None], "returned None: is no intent"),
    ("ab", "returned 'a': is no intent"),
    ([enter(quantity=None)], "exactly one of quantity, notional and risk"),
    ([enter(quantity=Decimal(1), notional=Decimal(1))], "exactly one of"),
    ([enter(quantity=1.5)], "quantity is not a Decimal: 1.5"),
    ([enter(quantity=Decimal("NaN"))], "quantity is not a number above zero: NaN"),
    ([enter(quantity=Decimal(0))], "quantity is not a number above zero: 0"),
    ([enter(notional=Decimal("Infinity"))], "notional is not a number above zero"),
    ([enter(risk=Decimal("0.1"))], "sizing by risk needs a stop price"),
    ([enter(risk=Decimal("1.1"), stop_price=Decimal(9))], "risk is a share of the equity"),
    ([enter(type=OrderType.LIMIT)], "a limit entry needs a price"),
    ([enter(type=OrderType.STOP, price=Decimal(9))], "not stop"),
    ([enter(type="market")], "type is not one of OrderType"),
    ([enter(price=Decimal(9))], "a market entry takes no price"),
    ([limit("-5")], "price is not a number above zero: -5"),
    ([enter(direction="long")], "direction is not one of Direction"),
    ([enter(stop_price=Decimal(9), take_profit_price=Decimal(8))], "each other's side"),
    ([enter(stop_price=Decimal("sNaN"))], "stop_price is not a number above zero"),
    ([enter(symbol="XRPUSDT")], "'XRPUSDT' is not one of the strategy's symbols BTCUSDT"),
    ([enter(symbol=None)], "is not one of the strategy's symbols"),
    ([enter(tag="x" * 65)], "tag is not a text of at most 64"),
    ([enter(reason=7)], "reason is not a text"),
    ([Exit(position_id="pos_1", price=Decimal(-1))], "price is not a number above zero"),
    ([Exit(position_id="pos_1", reason="because")], "reason is not one of CloseReason"),  # type: ignore[arg-type]
    ([CancelEntries(symbol="XRPUSDT")], "is not one of the strategy's symbols"),
    ([CancelEntries(symbol=SYMBOL, tags=["a"])], "tags is not a frozenset"),  # type: ignore[arg-type]
    ([Protect(position_id="pos_1", stop_price=Decimal("NaN"))], "stop_price is not a number above zero"),
    ([limit("90")] * (INTENTS_MAX + 1), f"more than {INTENTS_MAX} intents"),
]


@pytest.mark.parametrize(("returned", "told"), NONSENSE)
def test_nonsense_is_named_and_goes_nowhere(returned: Any, told: str) -> None:
    bench = make_bench(scripted(on_candle=lambda view: returned))

    with pytest.raises(Nonsense) as raised:
        bench.close()

    assert told in str(raised.value)
    assert len(str(raised.value)) < 600
    assert not bench.journal.rows


def test_endless_intents_are_cut_off() -> None:
    def endless(view: Any) -> Iterator[Any]:
        while True:
            yield limit("90")

    with pytest.raises(Nonsense, match="more than"):
        make_bench(scripted(on_candle=endless)).close()


def test_a_mistake_inside_a_template_keeps_its_own_name() -> None:
    def mistaken(view: Any) -> Iterator[Any]:
        yield None + 1  # type: ignore[operator]

    with pytest.raises(TypeError, match="unsupported operand"):
        make_bench(scripted(on_candle=mistaken)).close()


def test_levels_on_each_other_s_side_of_an_open_lot_are_nonsense() -> None:
    bench = opened(
        None, [lambda lot: Protect(position_id=lot.id, stop_price=Decimal(120), take_profit_price=Decimal(110))]
    )

    with pytest.raises(Nonsense, match="the stop 120 and the target 110 of a long position"):
        bench.close()


def test_an_exit_below_the_tick_is_nonsense() -> None:
    with pytest.raises(Nonsense, match=r"at 0\.01, which is below the tick 0\.1"):
        opened(None, [held_of(price=Decimal("0.01"))]).close()


def test_a_reaction_may_not_be_nonsense_either() -> None:
    bench = make_bench(scripted(on_candle=plan([enter()]), on_opened=lambda view, lot: None))
    bench.close()

    with pytest.raises(Nonsense, match=r"<lambda> returned None"):
        bench.fill(bench.placed[0])


class Endless(Decimal):
    """A number that never says what it is."""

    def is_finite(self) -> bool:
        raise AssertionError("a stranger's code ran outside its budget")


class Talkative(str):
    """A text that has more to say than its characters."""

    __slots__ = ()

    def __len__(self) -> int:
        raise AssertionError("a stranger's code ran outside its budget")


class Sneaky(Enter, frozen=True, kw_only=True):
    """A wish of a kind that nobody knows."""


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        (enter(quantity=Endless(1)), "quantity is not a Decimal"),
        (enter(tag=Talkative("x")), "tag is not a text"),
        (Sneaky(symbol=SYMBOL, direction=Direction.LONG), "is no intent"),
    ],
)
def test_what_only_looks_like_one_of_our_types_is_nonsense(wish: Any, why: str) -> None:
    bench = make_bench(scripted(on_candle=plan([wish])))

    with pytest.raises(Nonsense, match=why):
        bench.close()


def test_a_generator_that_is_cut_off_is_left_at_once() -> None:
    left: list[str] = []
    # Whoever keeps it does not keep it from being left.
    kept: list[Iterator[Any]] = []

    def wishes() -> Iterator[Any]:
        try:
            while True:
                yield limit("90")
        finally:
            left.append("left")

    def on_candle(view: Any) -> Iterator[Any]:
        kept.append(wishes())
        return kept[0]

    bench = make_bench(scripted(on_candle=on_candle))
    with pytest.raises(Nonsense, match="more than"):
        bench.close()
    assert left == ["left"]


def test_a_state_has_to_stay_a_dict() -> None:
    def on_candle(view: Any) -> Any:
        bench.session.template.state = [1]  # type: ignore[assignment]
        return ()

    bench = make_bench(scripted(on_candle=on_candle))
    with pytest.raises(Nonsense, match="made its state a list"):
        bench.close()
