"""Sweeps over params: what is tried, on which parts of the past, and what is said of what comes out."""

from __future__ import annotations

import multiprocessing
import time
from decimal import Decimal
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from pipaid.backtesting import Backtest
from pipaid.errors import InvalidParameter
from pipaid.optimising import (
    CANDIDATES_MAX,
    Candidate,
    Score,
    candidates,
    judged,
    ranked,
    swept,
    values_of,
    walked,
    windows,
)
from tests.oracles.crossover import START_MS, Crossover, synthetic

DAY_MS = 86_400_000


def made() -> Backtest:
    return Backtest(template=Crossover, candles={"BTCUSDT": synthetic(8_000)}, capital=1_000_000)


def score(seen: str | None, unseen: str | None, *, window: int = 0, trades: int = 50) -> Score:
    figures = [None if each is None else Decimal(each) for each in (seen, unseen)]
    return Score(window=window, chosen_on=figures[0], held_out=figures[1], trades=trades, held_out_trades=9)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("fast=5,10,20", [5, 10, 20]),
        ("fast=5:20:5", [5, 10, 15, 20]),
        ("risk=0.1:0.3:0.1", ["0.1", "0.2", "0.3"]),
        ("side=long,short", ["long", "short"]),
        ("allow_short=true,false", [True, False]),
        ("shift=-3:-1:1", [-3, -2, -1]),
    ],
)
def test_values_are_lists_or_ranges(text: str, values: list[Any]) -> None:
    assert values_of(text) == (text.partition("=")[0], values)


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


@pytest.mark.parametrize(("count", "held_out"), [(1, "0.3"), (3, "0.3"), (10, "0.5"), (100, "0.05")])
def test_windows_walk_forward_to_the_end_without_a_gap_between_what_is_held_out(count: int, held_out: str) -> None:
    parts = windows(START_MS, START_MS + 100 * DAY_MS, count=count, held_out=Decimal(held_out))

    assert (parts[0].begin_ms, parts[-1].end_ms) == (START_MS, START_MS + 100 * DAY_MS)
    for part in parts:
        assert part.begin_ms < part.until_ms < part.end_ms
        share = Decimal(part.end_ms - part.until_ms) / (part.end_ms - part.begin_ms)
        assert share == pytest.approx(Decimal(held_out), abs=Decimal("0.001"))
    for before, after in pairwise(parts):
        assert abs(after.until_ms - before.end_ms) <= 2


@pytest.mark.parametrize(("count", "held_out"), [(0, "0.3"), (101, "0.3"), (3, "0"), (3, "1")])
def test_windows_that_make_no_sense_are_refused(count: int, held_out: str) -> None:
    with pytest.raises(InvalidParameter):
        windows(0, DAY_MS, count=count, held_out=Decimal(held_out))


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [
        ([score("2", "1.5")], "holds"),
        ([score("2", "0.5")], "likely overfitted"),
        ([score("2", "-3")], "likely overfitted"),
        ([score("-1", "2")], "loses even where it was chosen"),
        ([score("2", "2", trades=9)], "too few trades to tell"),
        ([score("2", None)], ""),
        ([score("3", "2"), score("1", "0.2", window=1)], "holds"),
    ],
)
def test_the_verdict_holds_what_was_chosen_against_what_it_had_not_seen(scores: list[Score], verdict: str) -> None:
    assert Candidate(params={}, scores=tuple(scores)).verdict == verdict


def test_the_best_come_first_and_each_window_chooses_its_own() -> None:
    one = Candidate(params={"a": 1}, scores=(score("2", "1"), score("0", "1", window=1)))
    two = Candidate(params={"a": 2}, scores=(score("1", "1"), score("4", "-1", window=1)))
    failed = Candidate(params={"a": 3}, failed="too much")

    assert [each.params["a"] for each in ranked([failed, one, two])] == [2, 1, 3]
    assert [(each.params["a"], part.window) for each, part in walked([failed, one, two], 2)] == [(1, 0), (2, 1)]


def test_what_is_held_out_is_played_with_what_was_before_as_history_and_nothing_else() -> None:
    plan = made().plan()
    (part,) = windows(plan.begin_ms, plan.end_ms, count=1, held_out=Decimal("0.4"))

    found = judged(made(), {"fast": 5, "slow": 20}, [part], "sharpe")

    seen = Backtest(
        template=Crossover,
        candles={"BTCUSDT": synthetic(8_000)},
        capital=1_000_000,
        params={"fast": 5, "slow": 20},
        end=part.until_ms - 1,
    ).run()
    assert found.scores[0].trades == len(seen.trades) > 20
    assert found.scores[0].held_out_trades > 10


def test_processes_come_to_what_one_comes_to_and_a_bad_set_harms_no_other() -> None:
    plan = made().plan()
    parts = windows(plan.begin_ms, plan.end_ms, count=2, held_out=Decimal("0.3"))
    sets = [{"fast": fast, "slow": 20} for fast in (3, 5, 1, 8)]

    alone = ranked(list(swept(made, sets, parts, metric="sharpe", jobs=1)))
    together = ranked(list(swept(partial(made), sets, parts, metric="sharpe", jobs=2)))

    assert alone == together
    assert [one.params["fast"] for one in alone if one.failed] == [1]
    assert "fast: must be" in next(one.failed for one in alone if one.failed)


def test_leaving_a_sweep_ends_its_processes_at_once() -> None:
    plan = made().plan()
    parts = windows(plan.begin_ms, plan.end_ms, count=1, held_out=Decimal("0.3"))
    running = swept(made, [{"fast": fast, "slow": 200} for fast in range(2, 150)], parts, metric="sharpe", jobs=2)

    next(running)
    assert len(multiprocessing.active_children()) == 2
    running.close()  # type: ignore[attr-defined]  # it is a generator

    until = time.monotonic() + 10
    while multiprocessing.active_children() and time.monotonic() < until:
        time.sleep(0.01)
    assert multiprocessing.active_children() == []


def test_a_metric_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="metric: must be one of sharpe"):
        next(swept(made, [{}], [], metric="luck", jobs=1))
