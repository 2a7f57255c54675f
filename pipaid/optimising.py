"""Sweeps over params: every candidate on the part of the past that it may learn from, and on the part after it.

The past is cut into windows that walk forward: each has a part to choose on, and right after it a part that the choice
has not seen. What is good only on the first is made for it.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from itertools import product
from math import prod
from typing import Any, Final, Literal

import msgspec
from attrs import evolve

from pipaid.backtesting import Backtest
from pipaid.errors import InvalidParameter, PipaidError
from pipaid.model.backtest import BacktestResult
from pipaid.seams import Random, SystemRandom

Method = Literal["grid", "random"]
METHODS: Final[tuple[Method, ...]] = ("grid", "random")
METRICS: Final = ("sharpe", "sortino", "calmar", "cagr", "expected_value")
CANDIDATES_MAX: Final = 100_000
WINDOWS_MAX: Final = 100
# A float tells all places of it apart.
SPACE_MAX: Final = 2**53
# With fewer trades than this to choose on, chance decides.
TRADES_MIN: Final = 30

Space = Mapping[str, Sequence[Any]]


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


def candidates(space: Space, method: Method, *, tries: int, seed: int) -> list[dict[str, Any]]:
    """Return the sets of params to try: all of them, or so many different ones drawn by a seed."""
    if not space:
        raise InvalidParameter("param: name at least one to sweep over, such as fast=5:20:5 or slow=30,50")
    size = prod(len(values) for values in space.values())
    if method == "random":
        if size > SPACE_MAX:
            raise InvalidParameter(f"param: a space of {size} sets is too large to draw from; give fewer values")
        if tries > CANDIDATES_MAX:
            raise InvalidParameter(f"tries: {tries} are more than {CANDIDATES_MAX}")
        return [_at(space, place) for place in _drawn(size, min(tries, size), SystemRandom(seed=seed))]
    if size > CANDIDATES_MAX:
        raise InvalidParameter(
            f"param: {size} sets are more than {CANDIDATES_MAX}; choose --method random or fewer values"
        )
    return [dict(zip(space, values, strict=True)) for values in product(*space.values())]


def _drawn(size: int, count: int, chance: Random) -> list[int]:
    """Return so many different places of a space."""
    if size <= CANDIDATES_MAX:
        return sorted(range(size), key=lambda _: chance.uniform(0, 1))[:count]
    found: dict[int, None] = {}
    # So many fit in many times over, so that few are drawn twice.
    while len(found) < count:
        found[int(chance.uniform(0, size))] = None
    return list(found)


def _at(space: Space, place: int) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name, values in space.items():
        place, which = divmod(place, len(values))
        chosen[name] = values[which]
    return chosen


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


def swept(
    make: Callable[[], Backtest], sets: Sequence[dict[str, Any]], parts: Sequence[Window], *, metric: str, jobs: int
) -> Iterator[Candidate]:
    """Yield each candidate as it is done, in any order; leaving the iterator ends the processes at once.

    `make` returns the backtest in a process of its own: it has to be a function that can be sent there.
    """
    if metric not in METRICS:
        raise InvalidParameter(f"metric: must be one of {', '.join(METRICS)}, got {metric!r:.40}")
    if jobs == 1:
        backtest = make()
        for params in sets:
            yield judged(backtest, params, parts, metric)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(jobs, len(sets)), initializer=_begin, initargs=(make, tuple(parts), metric)) as pool:
        yield from pool.imap_unordered(_judged, sets)


def judged(backtest: Backtest, params: Mapping[str, Any], parts: Sequence[Window], metric: str) -> Candidate:
    """Play one set of params over both parts of every window."""
    whole = evolve(backtest, params={**backtest.params, **params})
    scores: list[Score] = []
    try:
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


def values_of(text: str) -> tuple[str, list[Any]]:
    """Return the name and the values of `name=a,b,c` or `name=first:last:step`; raise InvalidParameter otherwise."""
    name, equals, listed = text.partition("=")
    if not equals or not name or not listed:
        raise InvalidParameter(f"param {text!r:.60}: write name=5,10,20 or name=first:last:step")
    bounds = listed.split(":")
    if len(bounds) == 1:
        return name, [_value(each) for each in listed.split(",")]
    try:
        first, last, step = map(Decimal, bounds)
        if not (step > 0 and first <= last and all(each.is_finite() for each in (first, last, step))):
            raise ValueError
        count = int((last - first) / step) + 1
    except (InvalidOperation, ValueError):
        raise InvalidParameter(f"param {text!r:.60}: first:last:step, with a step above zero, expected") from None
    if count > CANDIDATES_MAX:
        raise InvalidParameter(f"param {text!r:.60}: {count} values are more than {CANDIDATES_MAX}")
    return name, [_value(str(first + number * step)) for number in range(count)]


def _value(text: str) -> Any:
    """Return a value as a client would send it: whole numbers and flags as such, all else as text."""
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.lstrip("-").isdecimal() and text.isascii() else text


def _figure(result: BacktestResult, metric: str) -> Decimal | None:
    figure: Decimal | None = getattr(result.metrics, metric)
    return figure


def _mean(figures: Sequence[Decimal | None]) -> Decimal | None:
    known = [figure for figure in figures if figure is not None]
    return sum(known, Decimal(0)) / len(known) if known and len(known) == len(figures) else None


# In a process of its own.

_work: dict[str, Any] = {}


def _begin(make: Callable[[], Backtest], parts: Sequence[Window], metric: str) -> None:
    # Whoever asked ends it; an interruption meant for him is none of its business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _work.update(backtest=make(), parts=parts, metric=metric)


def _judged(params: dict[str, Any]) -> Candidate:
    return judged(_work["backtest"], params, _work["parts"], _work["metric"])
