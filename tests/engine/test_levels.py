"""Price levels: the nearest are known at once, touched ones come out once and in order, dropped ones never."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipaid.engine.levels import DEAD_MIN, NEVER, Level, Levels

prices = st.integers(1, 60).map(Decimal)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("add"), prices, st.booleans()),
        st.tuples(st.just("drop"), st.integers(0, 200), st.just(False)),
        st.tuples(st.just("take"), prices, prices),
    ),
    max_size=200,
)


@given(actions)
def test_levels_agree_with_a_plain_list(stream: list[tuple[str, Decimal, Decimal]]) -> None:
    levels, plain = Levels[int](), list[Level[int]]()
    for number, (kind, one, other) in enumerate(stream):
        if kind == "add":
            level = Level(one, bool(other), number)
            levels.add(level)
            plain.append(level)
        elif kind == "drop" and plain:
            levels.drop(plain.pop(int(one) % len(plain)))
        elif kind == "take":
            low, high = min(one, other), max(one, other)
            taken = levels.take(low, high)
            falling = [level for level in plain if level.falling and level.price >= low]
            rising = [level for level in plain if not level.falling and level.price <= high]
            expected = sorted(falling, key=lambda level: -level.price) + sorted(rising, key=lambda level: level.price)
            assert taken == expected
            plain = [level for level in plain if level not in taken]

        assert levels.below == max((level.price for level in plain if level.falling), default=Decimal(0))
        assert levels.above == min((level.price for level in plain if not level.falling), default=NEVER)


def test_dropped_levels_do_not_pile_up() -> None:
    levels = Levels[int]()
    levels.add(Level(Decimal(100), True, 0))
    for number in range(10_000):
        level = Level(Decimal(50), True, number)
        levels.add(level)
        levels.drop(level)

    assert len(levels._falling) <= 2 * DEAD_MIN + 2


def test_a_level_is_waited_for_once_and_not_after_it_was_dropped() -> None:
    levels = Levels[int]()
    level = Level(Decimal(1), True, 0)
    levels.add(level)

    with pytest.raises(AssertionError):
        levels.add(level)
    levels.drop(level)
    with pytest.raises(AssertionError):
        levels.add(level)
