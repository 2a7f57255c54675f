"""Averages that never forget, over whole columns: the blocks of a series side by side, each from its anchor on.

A live average is a pure function of the candles since its anchor, and every block has an anchor of its own
(`pipaid.signals.series`). So each block is a lane, and a step takes one candle of every lane and does with them just
what a live update does with one. The lanes are walked twice: first as the blocks that others are anchored to, which
tells the level with which the block after each begins, and then for the values themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from attrs import frozen

from pipaid.model.columns import Candles, Floats, Integers

# So many lanes are computed at a time, which bounds the memory that an average takes while it is made.
LANES_MAX: Final = 200


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
    seeds: Callable[[Candles, Integers], Sequence[Floats]]
    added: Callable[[Candles, int, int], Sequence[Floats]]
    shown: Callable[..., Floats]


def smoothed(candles: Candles, blocks: Blocks, smoothing: Smoothing) -> tuple[Floats, Floats]:
    """Return what is shown at each candle, and what was shown before the first of each block as of its anchor.

    It is not a number while there are fewer candles than the window is long.
    """
    value, before = np.empty(len(candles)), np.empty(len(blocks.firsts))
    last: Floats | None = None
    for start in range(0, len(blocks.firsts), LANES_MAX):
        some = blocks.some(start, LANES_MAX)
        first, end = int(some.firsts[0]), int(some.ends[-1])
        lanes = _Lanes(some, smoothing.added(candles, first, end))
        finals = lanes.finals(candles, smoothing)
        begins = np.concatenate((np.zeros_like(finals[:, :1]) if last is None else last, finals[:, :-1]), axis=1)
        last = finals[:, -1:]
        before[start : start + LANES_MAX] = smoothing.shown(*begins)
        value[first:end] = smoothing.shown(*lanes.levels(candles, smoothing, begins))
    value[blocks.warming(smoothing.window)] = np.nan
    before[blocks.known < smoothing.window] = np.nan
    return value, before


class _Lanes:
    """What the candles of some blocks add to levels: a row for each step; short lanes are filled up at the end."""

    __slots__ = ("_blocks", "_count", "_lengths", "_rows")

    def __init__(self, blocks: Blocks, added: Sequence[Floats]) -> None:
        self._blocks = blocks
        self._count = len(added)
        self._lengths = blocks.ends - blocks.firsts
        self._rows = np.zeros((int(self._lengths.max()), len(added), len(blocks.firsts)))
        for level, numbers in enumerate(added):
            for lane, (start, end) in enumerate(self._places()):
                self._rows[: end - start, level, lane] = numbers[start:end]

    def finals(self, candles: Candles, smoothing: Smoothing) -> Floats:
        """Return the levels after the last candle of each block that is its own anchor, as an array by lane."""
        rows, seeding = self._rows, smoothing.seeding
        kept = rows[:seeding].copy()
        rows[: seeding - 1] = 0.0
        if seeding <= len(rows):
            rows[seeding - 1] = smoothing.seeds(candles, self._blocks.firsts)
        level = np.zeros_like(rows[0])
        finals: Floats = level.copy()
        step = np.empty_like(level)
        done = 0
        for length in np.unique(self._lengths).tolist():
            for added in rows[done:length]:
                np.multiply(level, smoothing.keep, out=step)
                np.add(step, added, out=level)
            np.copyto(finals, level, where=self._lengths == length)
            done = length
        rows[:seeding] = kept
        return finals

    def levels(self, candles: Candles, smoothing: Smoothing, begins: Floats) -> list[Floats]:
        """Return the levels at each candle in the order of the candles; the lanes are used up by that."""
        rows, seeding = self._rows, smoothing.seeding
        level = begins.copy()
        known = self._blocks.known
        fresh = np.flatnonzero(known < seeding)
        seeds = smoothing.seeds(candles, self._blocks.anchors[fresh])
        for number, lane in enumerate(fresh.tolist()):
            # Nothing of what came before the seed is left in it: a level of zero stays zero, and adds nothing.
            place = seeding - 1 - int(known[lane])
            level[:, lane] = 0.0
            rows[:place, :, lane] = 0.0
            if place < len(rows):
                rows[place, :, lane] = [each[number] for each in seeds]
        step = np.empty_like(level)
        for added in rows:
            np.multiply(level, smoothing.keep, out=step)
            np.add(step, added, out=added)
            level = added
        made = [np.empty(int(self._lengths.sum())) for _ in range(self._count)]
        for number, numbers in enumerate(made):
            for lane, (start, end) in enumerate(self._places()):
                numbers[start:end] = rows[: end - start, number, lane]
        return made

    def _places(self) -> list[tuple[int, int]]:
        blocks = self._blocks
        first = blocks.firsts[0]
        return list(zip((blocks.firsts - first).tolist(), (blocks.ends - first).tolist(), strict=True))
