"""What a set of params is worth: on the part of the past that it may learn from, and on the part after it.

The past is cut into windows that walk forward: each has a part to choose on, and right after it a part that the choice
has not seen. What is good only on the first is made for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
from attrs import evolve

from pipaid.backtesting import Backtest
from pipaid.errors import InvalidParameter, PipaidError
from pipaid.model.backtest import BacktestResult
from pipaid.optimising.placing import placed

METRICS: Final = ("sharpe", "sortino", "calmar", "cagr", "expected_value")
WINDOWS_MAX: Final = 100
# With fewer trades than this to choose on, chance decides.
TRADES_MIN: Final = 30


class Window(msgspec.Struct, frozen=True):
    """A part of the past to choose on, and the one right after it; moments in UTC ms, ends are not played."""

    begin_ms: int
    until_ms: int
    end_ms: int


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate came to in one window: the metric on both parts, nothing where it is infinite."""

    window: int
    chosen_on: Decimal | None
    held_out: Decimal | None
    trades: int
    held_out_trades: int


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One set of params with its scores; `failed` says why it could not be played."""

    params: dict[str, Any]
    scores: tuple[Score, ...] = ()
    failed: str = ""

    @property
    def chosen_on(self) -> Decimal | None:
        """Return the mean of the metric on the parts to choose on."""
        return _mean([score.chosen_on for score in self.scores])

    @property
    def held_out(self) -> Decimal | None:
        """Return the mean of the metric on the parts after them."""
        return _mean([score.held_out for score in self.scores])

    @property
    def verdict(self) -> str:
        """Say what the part that was held out makes of the choice."""
        if self.failed:
            return "failed"
        if sum(score.trades for score in self.scores) < TRADES_MIN:
            return "too few trades to tell"
        seen, unseen = self.chosen_on, self.held_out
        if seen is None or unseen is None:
            return ""
        if seen <= 0:
            return "loses even where it was chosen"
        return "likely overfitted" if unseen < seen / 2 else "holds"


def windows(begin_ms: int, end_ms: int, *, count: int, held_out: Decimal) -> list[Window]:
    """Cut a span into windows that walk forward; the parts that are held out follow one another to its end."""
    if not 1 <= count <= WINDOWS_MAX:
        raise InvalidParameter(f"windows: must be 1 to {WINDOWS_MAX}, got {count}")
    if not Decimal("0.05") <= held_out <= Decimal("0.95"):
        raise InvalidParameter(f"held_out: must be 0.05 to 0.95 of a window, got {held_out}")
    ratio = held_out / (1 - held_out)
    chosen_on = (end_ms - begin_ms) / (1 + count * ratio)
    found: list[Window] = []
    for number in range(count):
        start = begin_ms + number * chosen_on * ratio
        until = start + chosen_on
        last = number == count - 1
        found.append(Window(int(start), int(until), end_ms if last else int(until + chosen_on * ratio)))
    return found


def judged(backtest: Backtest, params: Mapping[str, Any], parts: Sequence[Window], metric: str) -> Candidate:
    """Play one set of params over both parts of every window."""
    scores: list[Score] = []
    try:
        # Looked up once, and not for each part.
        template = backtest.template_class()
        whole = evolve(backtest, template=template, params=placed(backtest.params, params))
        for number, part in enumerate(parts):
            seen = evolve(whole, start=part.begin_ms, end=part.until_ms - 1).run().raw
            unseen = evolve(whole, start=part.until_ms, end=part.end_ms - 1).run().raw
            scores.append(
                Score(
                    window=number,
                    chosen_on=_figure(seen, metric),
                    held_out=_figure(unseen, metric),
                    trades=len(seen.trades),
                    held_out_trades=len(unseen.trades),
                )
            )
    except PipaidError as trouble:
        return Candidate(params=dict(params), failed=trouble.message)
    return Candidate(params=dict(params), scores=tuple(scores))


def ranked(found: Sequence[Candidate]) -> list[Candidate]:
    """Return candidates by what they came to where they could be chosen, the best first; failed ones last."""

    def place(one: Candidate) -> tuple[bool, Decimal, str]:
        worth = one.chosen_on
        return worth is None, -(worth or Decimal(0)), msgspec.json.encode(one.params, order="sorted").decode()

    return sorted(found, key=place)


def walked(found: Sequence[Candidate], count: int) -> list[tuple[Candidate, Score]]:
    """Return for each window the candidate that would have been chosen there, and what became of it."""
    chosen: list[tuple[Candidate, Score]] = []
    for number in range(count):
        scored = [
            (one, score)
            for one in ranked(found)
            for score in one.scores[number : number + 1]
            if score.chosen_on is not None
        ]
        if scored:
            chosen.append(max(scored, key=lambda each: each[1].chosen_on or Decimal(0)))
    return chosen


def _figure(result: BacktestResult, metric: str) -> Decimal | None:
    figure: Decimal | None = getattr(result.metrics, metric)
    return figure


def _mean(figures: Sequence[Decimal | None]) -> Decimal | None:
    known = [figure for figure in figures if figure is not None]
    return sum(known, Decimal(0)) / len(known) if known and len(known) == len(figures) else None
