"""What is said of a set of params: on which parts of the past it is played, and what comes of what was held out."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest

from pipaid.backtesting import Backtest
from pipaid.errors import InvalidParameter
from pipaid.optimising.scoring import Candidate, Score, judged, ranked, walked, windows
from tests.oracles.crossover import START_MS, Crossover, synthetic

DAY_MS = 86_400_000


def made() -> Backtest:
    return Backtest(template=Crossover, candles={"BTCUSDT": synthetic(8_000)}, capital=1_000_000)


def score(seen: str | None, unseen: str | None, *, window: int = 0, trades: int = 50) -> Score:
    figures = [None if each is None else Decimal(each) for each in (seen, unseen)]
    return Score(window=window, chosen_on=figures[0], held_out=figures[1], trades=trades, held_out_trades=9)


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
