"""An alarm is left with the feed, asks once when the price has come, and is remembered as exactly as an order."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from pipaid.engine.alarms import Alarms, PriceAlarm, Touch
from pipaid.engine.effects import Effects
from pipaid.engine.template import Alarm, ExitAll, Intent, View
from pipaid.engine.wishes import Nonsense
from pipaid.model.order import OrderType, Side
from pipaid.model.position import CloseReason, Direction
from pipaid.model.strategy import Status
from tests.builders import OTHER, SYMBOL, Bench, enter, make_bench, make_definition, make_strategy, plan, scripted

LEVELS = st.none() | st.integers(80, 120).map(Decimal)


def alarm(below: str | None = None, above: str | None = None, symbol: str = SYMBOL) -> Alarm:
    """Wish to be asked at these levels."""
    low, high = (None if level is None else Decimal(level) for level in (below, above))
    return Alarm(symbol=symbol, below=low, above=high)


def nothing(view: View, level: Decimal) -> tuple[()]:
    """Wish nothing."""
    return ()


def leave(view: View, level: Decimal) -> list[Intent]:
    """Wish to leave everything."""
    return [ExitAll(symbol=view.symbol, reason=CloseReason.TAKE_PROFIT)]


def alarmed(*wishes: Any, on_price: Callable[[View, Decimal], Any] = nothing) -> Bench:
    """Make a bench whose template wished all this on the first candle."""
    bench = make_bench(scripted(on_candle=plan(wishes), on_price=on_price))
    bench.close()
    return bench


def touch(bench: Bench, low: str, high: str | None = None) -> Effects | None:
    """Let the price run through a range in the next market step, and return what the session decides."""
    bench.quotes.step += 1
    return bench.session.on_price(Touch(SYMBOL, bench.quotes.step, Decimal(low), Decimal(high or low)))


def noting(heard: list[Decimal], what: Callable[[View, Decimal], Decimal] = lambda _, level: level) -> Any:
    """Return a callback that notes what it was told and wishes nothing."""

    def callback(view: View, level: Decimal) -> tuple[()]:
        heard.append(what(view, level))
        return ()

    return callback


def levels(bench: Bench) -> tuple[Decimal | None, Decimal | None] | None:
    """Return the levels that the session waits for."""
    waiting = bench.session.alarm(SYMBOL)
    return None if waiting is None else (waiting.below, waiting.above)


# The session.


@pytest.mark.parametrize(("price", "level"), [("90", "90"), ("89.9", "90"), ("110", "110"), ("200", "110")])
def test_a_touched_alarm_asks_once_and_names_its_level(price: str, level: str) -> None:
    heard: list[Decimal] = []
    bench = alarmed(alarm("90", "110"), on_price=noting(heard))

    assert touch(bench, "90.1", "109.9") is None
    bench.settle(touch(bench, price))
    assert touch(bench, price) is None

    assert heard == [Decimal(level)]
    assert levels(bench) is None


def test_a_new_alarm_takes_the_place_of_the_old_one_and_none_removes_it() -> None:
    bench = make_bench(scripted(on_candle=plan([alarm("90")], [alarm(above="110")], [alarm()])))

    seen: list[Any] = []
    for _ in range(3):
        bench.close()
        seen.append(levels(bench))

    assert seen == [(Decimal(90), None), (None, Decimal(110)), None]


def test_each_symbol_has_an_alarm_of_its_own() -> None:
    definition = make_definition(symbols=(SYMBOL, OTHER))
    bench = make_bench(
        scripted(on_candle=plan([alarm("90"), alarm("50", symbol=OTHER)])), strategy=make_strategy(definition)
    )
    bench.close()

    bench.settle(touch(bench, "80"))

    waiting = bench.session.alarm(OTHER)
    assert levels(bench) is None
    assert waiting is not None
    assert waiting.below == Decimal(50)


def test_the_step_in_which_an_alarm_was_set_does_not_touch_it() -> None:
    bench = alarmed(alarm("90"))
    bench.quotes.step -= 1

    assert touch(bench, "80") is None
    assert touch(bench, "80") is not None


def test_an_alarm_set_again_at_once_waits_for_the_next_step() -> None:
    bench = alarmed(alarm("90"), on_price=lambda view, level: [alarm("90")])

    bench.settle(touch(bench, "80"))

    assert bench.session.on_price(Touch(SYMBOL, bench.quotes.step, Decimal(80), Decimal(80))) is None
    assert touch(bench, "80") is not None


def test_the_same_levels_again_are_no_news() -> None:
    bench = make_bench(scripted(on_candle=plan([alarm("90")], [alarm("90")])))
    bench.close()
    before = bench.session.brain.alarms[SYMBOL]

    bench.close()

    assert bench.session.brain.alarms[SYMBOL] is before


def test_setting_and_using_up_are_told_to_whoever_keeps_the_alarms() -> None:
    bench = alarmed(alarm("90"))
    set_at = set(bench.session.interest_changed)
    bench.session.interest_changed.clear()

    touch(bench, "80")

    assert set_at == bench.session.interest_changed == {SYMBOL}


def test_an_alarm_survives_a_restart_and_fires_only_once_over_all_of_them() -> None:
    bench = alarmed(enter(), alarm("90"), on_price=leave)
    bench.fill(bench.placed[0])
    bench.rebuild()
    assert levels(bench) == (Decimal(90), None)

    lost = touch(bench, "80")
    bench.rebuild()
    found = bench.session.on_price(Touch(SYMBOL, bench.quotes.step, Decimal(80), Decimal(80)))
    assert lost is not None
    assert found is not None
    assert [each.order for each in found.place] == [each.order for each in lost.place]
    bench.settle(found)
    bench.rebuild()

    assert touch(bench, "80") is None


def test_a_decision_for_nothing_uses_the_alarm_up_for_good() -> None:
    bench = alarmed(alarm("90"))

    bench.settle(touch(bench, "80"))
    bench.rebuild()

    assert levels(bench) is None


def test_a_market_played_again_passes_an_alarm_in_the_steps_before_it_was_set() -> None:
    bench = alarmed(alarm("90"))
    set_in = bench.quotes.step
    bench.rebuild()
    bench.quotes.step = set_in - 3

    assert [touch(bench, "80") for _ in range(3)] == [None, None, None]
    assert touch(bench, "80") is not None


@pytest.mark.parametrize(
    ("status", "holding", "waits"),
    [
        (Status.DEPLOYED, False, True),
        (Status.DEPLOYED, True, True),
        (Status.PAUSED, False, False),
        (Status.PAUSED, True, True),
        (Status.ERROR, True, False),
        (Status.STOPPED, False, False),
    ],
)
def test_who_is_paused_is_asked_about_what_it_holds_only(status: Status, holding: bool, waits: bool) -> None:
    bench = alarmed(*([enter()] if holding else []), alarm("90"))
    if holding:
        bench.fill(bench.placed[0])

    bench.settle(bench.session.become(msgspec.structs.replace(bench.strategy, status=status)))

    assert (levels(bench) is not None) is waits
    assert (touch(bench, "80") is not None) is waits


@pytest.mark.parametrize(("level", "reason"), [("80", CloseReason.STOP_LOSS), ("120", CloseReason.TAKE_PROFIT)])
def test_an_alarm_that_guards_lots_is_heeded_by_the_engine_once_the_strategy_is_halted(
    level: str, reason: CloseReason
) -> None:
    heard: list[Decimal] = []
    guarding = Alarm(symbol=SYMBOL, below=Decimal(90), above=Decimal(110), exits=True)
    bench = alarmed(enter(), guarding, on_price=noting(heard))
    bench.fill(bench.placed[0])
    bench.settle(bench.session.become(msgspec.structs.replace(bench.strategy, status=Status.ERROR)))

    effects = touch(bench, level)

    assert effects is not None
    assert [(each.order.type, each.order.reduce_only, each.order.reason) for each in effects.place] == [
        (OrderType.MARKET, True, reason.value)
    ]
    assert heard == []
    assert levels(bench) is None


def test_an_alarm_that_was_not_heeded_is_there_again_after_the_pause() -> None:
    bench = alarmed(alarm("90"))
    bench.settle(bench.session.become(msgspec.structs.replace(bench.strategy, status=Status.PAUSED)))
    touch(bench, "80")

    bench.settle(bench.session.become(bench.strategy))

    assert touch(bench, "80") is not None


@pytest.mark.parametrize(("direction", "level"), [(Direction.LONG, "90"), (Direction.SHORT, "110")])
def test_of_two_levels_in_one_range_the_losing_one_counts(direction: Direction, level: str) -> None:
    heard: list[Decimal] = []
    bench = alarmed(enter(direction=direction), alarm("90", "110"), on_price=noting(heard))
    bench.fill(bench.placed[0])

    touch(bench, "85", "115")

    assert heard == [Decimal(level)]


def test_the_price_seen_is_the_last_one_known_and_not_the_level() -> None:
    seen: list[Decimal] = []
    bench = alarmed(alarm("90"), on_price=noting(seen, lambda view, _: view.price))

    touch(bench, "85", "101")

    assert seen == [Decimal(100)]


def test_all_lots_of_a_symbol_leave_on_one_wish() -> None:
    bench = alarmed(
        *(enter(tag=f"B{number}") for number in range(5)),
        alarm(above="110"),
        on_price=leave,
    )
    entries = list(bench.placed)
    for order in entries:
        bench.fill(order)

    bench.settle(touch(bench, "110"))
    exits = bench.placed[5:]
    for order in exits:
        bench.fill(order, price="110")

    assert [(order.type, order.side) for order in exits] == [(OrderType.MARKET, Side.SELL)] * 5
    assert [trade.reason for trade in bench.trades] == [CloseReason.TAKE_PROFIT] * 5


def test_a_decision_on_a_price_is_kept_as_an_evaluation() -> None:
    bench = alarmed(enter(), alarm("90"), on_price=leave)
    bench.fill(bench.placed[0])

    effects = touch(bench, "80")

    assert effects is not None
    (run,) = effects.runs
    assert (run.cause, run.status, run.final_action) == ("price", "completed", "SELL")


@pytest.mark.parametrize(
    "wish",
    [
        alarm("0"),
        alarm("-1"),
        alarm("NaN"),
        alarm("110", "90"),
        alarm("100", "100"),
        alarm("90", symbol="DOGEUSDT"),
        Alarm(symbol=SYMBOL, below=90.0),  # type: ignore[arg-type] # what a careless author writes
        ExitAll(symbol="DOGEUSDT"),
        ExitAll(symbol=SYMBOL, reason="fun"),  # type: ignore[arg-type] # what a careless author writes
    ],
)
def test_levels_that_cannot_be_meant_are_refused(wish: Any) -> None:
    with pytest.raises(Nonsense):
        alarmed(wish)


# Those who wait.


@define(eq=False)
class Someone:
    """Somebody who waits for a price."""

    id: str


def at(step: int, below: str | None = None, above: str | None = None) -> PriceAlarm:
    """Make an alarm."""
    wished = alarm(below, above)
    return PriceAlarm(step, wished.below, wished.above)


def test_only_those_touched_are_handed_out_and_each_once() -> None:
    alarms = Alarms[Someone]()
    some = [Someone(f"s{number}") for number in range(10)]
    for number, one in enumerate(some):
        alarms.keep(one, SYMBOL, at(0, str(90 - number), str(110 + number)))

    through = alarms.take(SYMBOL, Decimal(88), Decimal(111), step=1)

    assert [one.id for one, _ in through] == ["s0", "s1", "s2"]
    assert alarms.take(SYMBOL, Decimal(88), Decimal(111), step=2) == []


def test_an_alarm_kept_again_unchanged_stays_and_one_without_an_owner_goes() -> None:
    alarms, someone = Alarms[Someone](), Someone("s")
    for _ in range(3):
        alarms.keep(someone, SYMBOL, at(0, "90"))
    alarms.keep(someone, OTHER, at(0, "90"))

    assert len(alarms.take(SYMBOL, Decimal(80), Decimal(80), step=1)) == 1
    alarms.forget("s")
    alarms.forget("s")
    assert alarms.take(OTHER, Decimal(80), Decimal(80), step=1) == []


@given(
    moves=st.lists(st.tuples(st.integers(0, 4), LEVELS, LEVELS, st.integers(80, 120), st.integers(0, 9)), max_size=60)
)
def test_the_heaps_agree_with_looking_at_every_alarm(
    moves: list[tuple[int, Decimal | None, Decimal | None, int, int]],
) -> None:
    alarms, kept = Alarms[Someone](), dict[str, PriceAlarm]()
    some = [Someone(f"s{number}") for number in range(5)]
    for step, (number, below, above, lowest, width) in enumerate(moves):
        waiting = PriceAlarm(step - number % 2, below, above) if (below, above) != (None, None) else None
        alarms.keep(some[number], SYMBOL, waiting)
        kept.pop(some[number].id, None)
        if waiting is not None:
            kept[some[number].id] = waiting
        low, high = Decimal(lowest), Decimal(lowest + width)
        touched = {key for key, each in kept.items() if each.met(Touch(SYMBOL, step, low, high)) is not None}

        assert {one.id for one, _ in alarms.take(SYMBOL, low, high, step=step)} == touched

        for key in touched:
            del kept[key]
