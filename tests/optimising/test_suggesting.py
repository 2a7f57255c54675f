"""The chooser that learns: it finds what is good in fewer tries, tries nothing twice, and is the same for a seed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from pipaid.errors import InvalidParameter
from pipaid.optimising.processes import Processes
from pipaid.optimising.scoring import Candidate, Score, ranked
from pipaid.optimising.suggesting import Suggested, is_scale
from pipaid.optimising.sweeping import Alone, Params, swept
from tests.optimising.sweeps import exam, made

SPACE: dict[str, list[Any]] = {"fast": list(range(2, 202)), "slow": ["25", "30.5", "40"], "side": ["long", "both"]}


def tried(chooser: Suggested, worth: Callable[[Params], Decimal | None]) -> list[Params]:
    """Let it choose to the end, and return the sets in order."""
    found: list[Params] = []
    while (params := chooser.ask()) is not None:
        found.append(params)
        figure = worth(params)
        score = Score(window=0, chosen_on=figure, held_out=Decimal(-9), trades=50, held_out_trades=9)
        chooser.tell(Candidate(params=params, scores=(score,)))
    return found


def hill(params: Params) -> Decimal:
    height: int = 100 - abs(params["fast"] - 150) + (params["side"] == "both")
    return height + Decimal(params["slow"]) / 100


def test_it_climbs_where_the_earlier_sets_were_good_and_tries_none_twice() -> None:
    sets = tried(Suggested(SPACE, 60, 3), hill)

    assert len(sets) == len({str(each) for each in sets}) == 60
    assert all(params[name] in SPACE[name] for params in sets for name in SPACE)
    early, late = (sum(map(hill, part)) / 20 for part in (sets[:20], sets[-20:]))
    assert late > early + 10


def test_equal_seeds_try_equal_sets() -> None:
    assert tried(Suggested(SPACE, 30, 3), hill) == tried(Suggested(SPACE, 30, 3), hill)
    assert tried(Suggested(SPACE, 30, 3), hill) != tried(Suggested(SPACE, 30, 4), hill)


def test_a_small_space_is_tried_whole_and_no_more() -> None:
    chooser = Suggested({"a": [1, 2, 3], "b": [True, False]}, 100, 0)

    assert len(tried(chooser, lambda _: Decimal(1))) == chooser.count == 6


@pytest.mark.parametrize("seed", range(2))
def test_what_is_suggested_over_and_over_makes_room_for_what_was_not_tried(seed: int) -> None:
    space: dict[str, list[Any]] = {"fast": list(range(30)), "slow": ["a", "b"]}

    sets = tried(Suggested(space, 60, seed), lambda params: Decimal(params["fast"] == 3) * 1_000)

    assert len({str(each) for each in sets}) == 60


def test_sets_that_come_to_nothing_teach_nothing() -> None:
    assert len(tried(Suggested(SPACE, 20, 0), lambda _: None)) == 20


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([5, 10, 20], True),
        (["0.1", "0.25"], True),
        ([20, 10], False),
        (["long", "short"], False),
        ([False, True], False),
        ([1, "two"], False),
    ],
)
def test_numbers_that_rise_are_a_scale_and_all_else_are_choices(values: list[Any], scale: bool) -> None:
    assert is_scale(values) is scale


def test_it_chooses_for_a_crew_as_for_one_alone() -> None:
    space = {"fast": [2, 3, 4, 5], "slow": [20, 25]}

    one = ranked(list(swept(Suggested(space, 8, 1), Alone(made, exam()))))
    many = ranked(list(swept(Suggested(space, 8, 1), Processes(made, exam(), 2))))

    assert one == many
    assert len(one) == 8


def test_without_optuna_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)

    with pytest.raises(InvalidParameter, match=r"pip install 'pipaid\[optimise\]'"):
        Suggested(SPACE, 5, 0)


@pytest.mark.parametrize(
    ("space", "tries"), [({}, 5), ({"a": [1]}, 100_001), ({name: list(range(10_000)) for name in "abcd"}, 5)]
)
def test_what_cannot_be_chosen_from_is_refused(space: dict[str, list[Any]], tries: int) -> None:
    with pytest.raises(InvalidParameter):
        Suggested(space, tries, 0)
