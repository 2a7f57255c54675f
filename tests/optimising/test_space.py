"""What a sweep tries: lists, ranges, grids and draws."""

from __future__ import annotations

from typing import Any

import pytest

from pipaid.errors import InvalidParameter
from pipaid.optimising.space import CANDIDATES_MAX, candidates, values_of


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("fast=5,10,20", [5, 10, 20]),
        ("fast=5:20:5", [5, 10, 15, 20]),
        ("risk=0.1:0.3:0.1", ["0.1", "0.2", "0.3"]),
        ("side=long,short", ["long", "short"]),
        ("allow_short=true,false", [True, False]),
        ("fast=5,5,8,5", [5, 8]),
        ("flag=1,true,1", [1, True]),
        ("shift=-3:-1:1", [-3, -2, -1]),
    ],
)
def test_values_are_lists_or_ranges(text: str, values: list[Any]) -> None:
    name, found = values_of(text)

    assert name == text.partition("=")[0]
    assert list(map(repr, found)) == list(map(repr, values))


@pytest.mark.parametrize(
    "text", ["fast", "=5", "fast=", "a=1:2", "a=1:2:0", "a=2:1:1", "a=x:y:z", "a=1:inf:1", "a=0:1:1e-9"]
)
def test_what_is_no_list_and_no_range_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        values_of(text)


def test_a_grid_is_every_combination_and_a_draw_is_some_of_them_once_each() -> None:
    space: dict[str, list[Any]] = {"a": [1, 2, 3], "b": ["x", "y"]}

    grid = candidates(space, "grid", tries=1, seed=0)
    drawn = candidates(space, "random", tries=4, seed=7)

    assert len(grid) == 6
    assert {(one["a"], one["b"]) for one in grid} == {(a, b) for a in (1, 2, 3) for b in ("x", "y")}
    assert len({(one["a"], one["b"]) for one in drawn}) == 4
    assert drawn == candidates(space, "random", tries=4, seed=7)
    assert len(candidates(space, "random", tries=99, seed=7)) == 6


def test_a_space_that_is_too_large_is_refused_unless_drawn_from() -> None:
    space = {name: list(range(200)) for name in "abc"}

    with pytest.raises(InvalidParameter, match=f"more than {CANDIDATES_MAX}"):
        candidates(space, "grid", tries=1, seed=0)
    assert len(candidates(space, "random", tries=5, seed=0)) == 5
    with pytest.raises(InvalidParameter, match="name at least one"):
        candidates({}, "grid", tries=1, seed=0)
