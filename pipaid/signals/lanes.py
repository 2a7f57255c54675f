"""Averages that never forget, over whole columns: the blocks of a series side by side, each from its anchor on.

A live average is a pure function of the candles since its anchor, and every block has an anchor of its own
(`pipaid.signals.series`). So each block is a lane, and a step takes one candle of every lane and does with them just
what a live update does with one. The lanes are walked twice: first as the blocks that others are anchored to, which
tells the level with which the block after each begins, and then for the values themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
from attrs import frozen

from pipaid.model.columns import Candles, Floats, Integers

# So many lanes are computed at a time, which bounds the memory that an average takes while it is made.
LANES_MAX: Final = 200
# So many candles are brought into lanes and back at a time: few enough to stay close to the processor.
PART: Final = 2**15


@frozen(eq=False)
class Blocks:
    """Where the blocks of some candles begin and end, and where the block begins that each is anchored to."""

    firsts: Integers
    ends: Integers
    anchors: Integers

    @classmethod
    def of(cls, candles: Candles, length: int) -> Blocks:
        """Return the blocks of so many candle times; each is its own anchor if the one before has no candle."""
        numbers = candles.time_ms // (candles.timeframe.ms * length)
        firsts = np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1])) if len(candles) else np.empty(0, np.int64)
        follows = np.diff(numbers[firsts], prepend=-2) == 1
        anchors = np.where(follows, np.append(0, firsts[:-1])[: len(firsts)], firsts)
        return cls(firsts, np.append(firsts[1:], len(candles))[: len(firsts)], anchors)

    @property
    def known(self) -> Integers:
        """Return how many candles lie between each anchor and its block."""
        return self.firsts - self.anchors

    def warming(self, count: int) -> Integers:
        """Return the candles that have less than so many since their anchor, themselves included."""
        ends = np.minimum(self.ends, self.anchors + count - 1)
        short = np.flatnonzero(ends > self.firsts)
        firsts, lengths = self.firsts[short], (ends - self.firsts)[short]
        places: Integers = np.repeat(firsts - np.append(0, lengths.cumsum()[:-1])[: len(short)], lengths)
        return places + np.arange(len(places))

    def some(self, start: int, count: int) -> Blocks:
        """Return a few of them."""
        few = slice(start, start + count)
        return Blocks(self.firsts[few], self.ends[few], self.anchors[few])


@frozen(eq=False, kw_only=True)
class Smoothing:
    """Levels each of which is the one before times `keep` plus what a candle adds; and what they show.

    The first level is made of the first `seeding` candles since the anchor, and shown from the `window`-th on. There
    may be several levels side by side. `seeds` gets the anchors, `added` the first candle and the end.
    """

    keep: float
    window: int
    seeding: int
    levels: int = 1
    seeds: Callable[[Candles, Integers], Sequence[Floats]]
    added: Callable[[Candles, int, int], Sequence[Floats]]
    shown: Callable[..., Floats]


def smoothed(candles: Candles, blocks: Blocks, smoothing: Smoothing) -> tuple[Floats, Floats]:
    """Return what is shown at each candle, and what was shown before the first of each block as of its anchor.

    It is not a number while there are fewer candles than the window is long.
    """
    value, before = np.empty(len(candles)), np.empty(len(blocks.firsts))
    last = np.zeros((smoothing.levels, 1))
    for start in range(0, len(blocks.firsts), LANES_MAX):
        lanes = _Lanes(candles, blocks.some(start, LANES_MAX), smoothing)
        finals = lanes.finals()
        begins = np.concatenate((last, finals[:, :-1]), axis=1)
        last = finals[:, -1:]
        before[start : start + LANES_MAX] = smoothing.shown(*begins)
        lanes.walk(begins)
        lanes.show(value)
    value[blocks.warming(smoothing.window)] = np.nan
    before[blocks.known < smoothing.window] = np.nan
    return value, before


class _Lanes:
    """What the candles of some blocks add to levels: a row for each step; short lanes are filled up at the end."""

    __slots__ = ("_blocks", "_candles", "_lengths", "_rows", "_smoothing")

    def __init__(self, candles: Candles, blocks: Blocks, smoothing: Smoothing) -> None:
        self._candles = candles
        self._blocks = blocks
        self._smoothing = smoothing
        self._lengths = blocks.ends - blocks.firsts
        self._rows = np.zeros((int(self._lengths.max()), smoothing.levels, len(blocks.firsts)))
        for first, end, places in self._parts():
            added = smoothing.added(candles, first, end)
            for lane, start, stop in places:
                for level, numbers in enumerate(added):
                    self._rows[: stop - start, level, lane] = numbers[start - first : stop - first]

    def finals(self) -> Floats:
        """Return the levels after the last candle of each block that is its own anchor, as an array by lane."""
        rows, smoothing = self._rows, self._smoothing
        seeding = smoothing.seeding
        kept = rows[:seeding].copy()
        rows[: seeding - 1] = 0.0
        if seeding <= len(rows):
            rows[seeding - 1] = smoothing.seeds(self._candles, self._blocks.firsts)
        level = np.zeros_like(rows[0])
        finals: Floats = level.copy()
        step = np.empty_like(level)
        done = 0
        # Not by np.unique, which imports the whole of numpy.ma when it is first called.
        for length in sorted(set(self._lengths.tolist())):
            for added in rows[done:length]:
                np.multiply(level, smoothing.keep, out=step)
                np.add(step, added, out=level)
            np.copyto(finals, level, where=self._lengths == length)
            done = length
        rows[:seeding] = kept
        return finals

    def walk(self, begins: Floats) -> None:
        """Turn what is added by each candle into the levels there, from those with which each block begins."""
        rows, smoothing = self._rows, self._smoothing
        seeding = smoothing.seeding
        level = begins.copy()
        # Nothing of what came before the seed is left in it: a level of zero stays zero, and adds nothing.
        places = seeding - 1 - self._blocks.known
        fresh = np.flatnonzero(places >= 0)
        level[:, fresh] = 0.0
        seeded = fresh[places[fresh] < self._lengths[fresh]]
        seeds = smoothing.seeds(self._candles, self._blocks.anchors[seeded])
        for number, lane in enumerate(seeded.tolist()):
            rows[: places[lane], :, lane] = 0.0
            rows[places[lane], :, lane] = [each[number] for each in seeds]
        step = np.empty_like(level)
        for added in rows:
            np.multiply(level, smoothing.keep, out=step)
            np.add(step, added, out=added)
            level = added

    def show(self, value: Floats) -> None:
        """Write what the levels show, in the order of the candles."""
        for first, end, places in self._parts():
            levels = np.empty((self._smoothing.levels, end - first))
            for lane, start, stop in places:
                levels[:, start - first : stop - first] = self._rows[: stop - start, :, lane].T
            value[first:end] = self._smoothing.shown(*levels)

    def _parts(self) -> Iterator[tuple[int, int, list[tuple[int, int, int]]]]:
        """Yield the first candle and the end of a few lanes together, and the same of each with its number."""
        few: list[tuple[int, int, int]] = []
        last = len(self._lengths) - 1
        places = zip(self._blocks.firsts.tolist(), self._blocks.ends.tolist(), strict=True)
        for lane, (start, stop) in enumerate(places):
            few.append((lane, start, stop))
            first = few[0][1]
            if stop - first >= PART or lane == last:
                yield first, stop, few
                few = []
