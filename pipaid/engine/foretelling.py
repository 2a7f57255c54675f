"""What can be said of a strategy before it trades: how often it would have entered, and which params do nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from pipaid.engine.params import structure_params
from pipaid.engine.template import Template
from pipaid.model.columns import Candles
from pipaid.model.instrument import Timeframe
from pipaid.model.moment import iso_seconds
from pipaid.model.strategy import StrategyDefinition
from pipaid.signals.columns import Columns, Truths
from pipaid.signals.series import Condition, Feature
from pipaid.signals.warming import ENOUGH, candles_needed

NOTES_MAX: Final = 20
NOTE_CHARS_MAX: Final = 500


def notes_on(
    definition: StrategyDefinition, template: type[Template], pasts: Mapping[str, Mapping[Timeframe, Candles]]
) -> tuple[str, ...]:
    """Return what to know of a strategy, given the past candles of each symbol by timeframe, as far as there are any.

    It runs the template's code: the caller puts a budget on it.
    """
    params: Any = structure_params(
        template,
        definition.params,
        symbols=definition.symbols,
        timeframe=definition.timeframe,
        capital=definition.capital,
    )
    told = [str(note) for note in template.remarks(params, definition.capital)]
    one = template(params)
    conditions = one.enters_on()
    if conditions:
        told += (_entries(symbol, definition.timeframe, conditions, past) for symbol, past in pasts.items())
    asked = {*one.features(), *(feature for condition in conditions.values() for feature in condition.features)}
    for symbol, past in pasts.items():
        candles = past.get(definition.timeframe)
        if candles is not None:
            counts = {timeframe: len(each) for timeframe, each in past.items()}
            ends_ms = int(candles.time_ms[-1]) + definition.timeframe.ms
            told += warming(symbol, definition.timeframe, asked, counts, now_ms=ends_ms)
    return tuple(note[:NOTE_CHARS_MAX] for note in told[:NOTES_MAX])


def warming(
    symbol: str, own: Timeframe, features: Iterable[Feature], counts: Mapping[Timeframe, int], *, now_ms: int
) -> Iterator[str]:
    """Yield of which candles there are too few as yet for what a strategy reads, given how many of each there are."""
    needed: dict[Timeframe, int] = {}
    for feature in features:
        timeframe = feature.timeframe or own
        if counts.get(timeframe, 0) < ENOUGH:
            many = candles_needed(feature.name, feature.params)
            needed[timeframe] = max(needed.get(timeframe, 0), many)
    for timeframe in sorted(needed, key=lambda each: each.ms):
        missing = needed[timeframe] - counts.get(timeframe, 0)
        if missing > 0:
            ready = iso_seconds((now_ms // timeframe.ms + missing) * timeframe.ms)
            yield (
                f"{symbol}: it reads what takes {needed[timeframe]} candles of {timeframe}, of which {missing} are "
                f"still to come: not all of it has a value before {ready}"
            )


def _entries(
    symbol: str, own: Timeframe, conditions: Mapping[str, Condition], past: Mapping[Timeframe, Candles]
) -> str:
    candles = past.get(own)
    if candles is None or any(_timeframe(condition, own) not in past for condition in conditions.values()):
        return f"{symbol}: there are no past candles to tell how often it would have entered"
    truths = {name: _held(condition, own, past) for name, condition in conditions.items()}
    together = _begun(np.logical_and.reduce(list(truths.values())))
    began, ended = iso_seconds(int(candles.time_ms[0])), iso_seconds(int(candles.time_ms[-1]) + own.ms)
    span = f"in the {len(candles)} candles of {own} from {began} to {ended}"
    each = ", ".join(f"{name} {_begun(held)} times" for name, held in truths.items())
    if together:
        return f"{symbol}: the entry rules came to hold together {_times(together)} {span}; {each}"
    return f"{symbol}: the entry rules never held together {span}, so it would not have entered once; {each}"


def _timeframe(condition: Condition, own: Timeframe) -> Timeframe:
    return condition.timeframe or own


def _held(condition: Condition, own: Timeframe, past: Mapping[Timeframe, Candles]) -> Truths:
    """Return at which of the strategy's own candles a condition held, as of the last of its candles closed by then."""
    timeframe = _timeframe(condition, own)
    candles, theirs = past[own], past[timeframe]
    truths = Columns(theirs).holds(condition.bare)
    if timeframe is own:
        return truths
    places = np.searchsorted(theirs.time_ms + timeframe.ms, candles.time_ms + own.ms, side="right") - 1
    held: Truths = (places >= 0) & truths[np.maximum(places, 0)]
    return held


def _begun(truths: Truths) -> int:
    """Return how often something came to be true."""
    return int(np.count_nonzero(np.diff(truths.astype(np.int8), prepend=0) > 0))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
