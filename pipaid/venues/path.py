"""Made-up prices: a pure function of seed, symbol and second, with random access and without state.

The logarithm of a price is a Brownian path built by Lévy's midpoint construction: fixed points every 48 days, and from
there each midpoint is the mean of its neighbours plus a displacement that hashing yields. So trends and ranges appear
on every scale from seconds to weeks, while the price never strays far from its base. Calm and lively hours alternate,
and now and then a jump comes and decays. Hashes are integers and the rest are additions, multiplications, divisions
and square roots, which IEEE 754 defines to the last bit: the same seed gives the same prices on every machine.
"""

from __future__ import annotations

import hashlib
from math import sqrt
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Hashes = NDArray[np.uint64]
Flags = NDArray[np.bool_]

TOP_LEVEL: Final = 22
LIVELY_LEVEL_MAX: Final = 12
LIVELY_BLOCK_LEVEL: Final = 13
JUMP_BLOCK_S: Final = 21_600
# A chunk bounds the memory one evaluation takes; its length changes nothing in the prices.
CHUNK_MINUTES: Final = 2_048
MINUTE_S: Final = 60
DAY_S: Final = 86_400


class Nature(msgspec.Struct, frozen=True):
    """What a symbol is like: its price in ticks, the deviation of a day's return, and the lots traded in a second."""

    base_ticks: int
    day_deviation: float
    lots_per_s: int


class Minutes(msgspec.Struct, frozen=True):
    """Columns of one-minute candles: prices in ticks, volumes in lots."""

    open: Integers
    high: Integers
    low: Integers
    close: Integers
    volume: Integers


class PricePath:
    """The prices and volumes of one symbol, at one market trade a second."""

    def __init__(self, seed: int, symbol: str, nature: Nature) -> None:
        self.nature = nature
        self._name = f"{seed}\x1f{symbol}"
        self._keys = {level: self._key("level", level) for level in range(TOP_LEVEL + 1)}
        self._lively, self._jumps, self._volumes = self._key("lively"), self._key("jump"), self._key("volume")
        self._per_s = nature.day_deviation / sqrt(DAY_S)

    def seconds(self, start_s: int, count: int) -> tuple[Integers, Integers]:
        """Return prices in ticks and volumes in lots of `count` seconds."""
        logarithm = self._path(start_s - 1, count + 1)
        self._add_jumps(logarithm, start_s - 1)
        ratio = (1.0 + 0.5 * logarithm) / (1.0 - 0.5 * logarithm)  # exp, but for a term in the third power
        ticks = np.maximum(np.rint(self.nature.base_ticks * ratio), 1.0).astype(np.int64)
        moves = np.abs(np.diff(logarithm)) / self._per_s
        drawn = scattered(self._volumes, np.arange(start_s, start_s + count, dtype=np.int64))
        spread = unit(drawn) * unit(drawn << np.uint64(32))
        lots = np.floor(self.nature.lots_per_s * (0.1 + 2.0 * spread + 0.5 * moves))
        return ticks[1:], lots.astype(np.int64) + 1

    def minutes(self, first: int, count: int) -> Minutes:
        """Return `count` candles from minute `first` on; they are made of the very seconds that `seconds` returns."""
        parts = [
            self._minutes(start, min(CHUNK_MINUTES, first + count - start))
            for start in range(first, first + count, CHUNK_MINUTES)
        ]
        return joined(parts)

    def _minutes(self, first: int, count: int) -> Minutes:
        return minutes_of(*self.seconds(first * MINUTE_S, count * MINUTE_S))

    def _path(self, start_s: int, count: int) -> Floats:
        """Evaluate the Brownian path, from the coarsest level that covers the span down to seconds."""
        low, high = start_s >> TOP_LEVEL, ((start_s + count - 1) >> TOP_LEVEL) + 1
        anchors = np.arange(low, high + 1, dtype=np.int64)
        # Neighbouring anchors are independent; their difference is as wide as that of a Brownian path.
        values = _normal(scattered(self._keys[TOP_LEVEL], anchors)) * (self._per_s * sqrt(2**TOP_LEVEL / 2))
        for level in range(TOP_LEVEL - 1, -1, -1):
            odd = np.arange(2 * low + 1, 2 * high, 2, dtype=np.int64)
            finer = np.empty(2 * (high - low) + 1)
            finer[::2] = values
            finer[1::2] = (values[:-1] + values[1:]) * 0.5 + self._displacement(level, odd)
            wanted_low, wanted_high = start_s >> level, ((start_s + count - 1) >> level) + 1
            values = finer[wanted_low - 2 * low : wanted_high - 2 * low + 1]
            low, high = wanted_low, wanted_high
        return values[:count]

    def _displacement(self, level: int, odd: Integers) -> Floats:
        wide = _normal(scattered(self._keys[level], odd)) * (self._per_s * sqrt(2**level / 2))
        if level > LIVELY_LEVEL_MAX:
            return wide
        drawn = unit(scattered(self._lively, odd >> (LIVELY_BLOCK_LEVEL - level)))
        return wide * (0.6 + 0.9 * drawn * drawn)

    def _add_jumps(self, logarithm: Floats, start_s: int) -> None:
        """Add the jump of each block of six hours, if it has one; it decays within a block's length."""
        end_s = start_s + len(logarithm)
        blocks = np.arange(start_s // JUMP_BLOCK_S - 1, end_s // JUMP_BLOCK_S + 1, dtype=np.int64)
        drawn = scattered(self._jumps, blocks)
        for block, number in zip(blocks.tolist(), drawn.tolist(), strict=True):
            if number % 3:
                continue
            height = (2.0 + (number >> 8) % 4001 / 1000) * self.nature.day_deviation / 10
            begun_s = block * JUMP_BLOCK_S + (number >> 24) % JUMP_BLOCK_S
            left, right = max(begun_s, start_s), min(begun_s + JUMP_BLOCK_S, end_s)
            if left < right:
                ages = np.arange(left - begun_s, right - begun_s, dtype=np.float64)
                square = np.square(1.0 - ages / JUMP_BLOCK_S)
                logarithm[left - start_s : right - start_s] += (height if number >> 63 else -height) * (square * square)

    def _key(self, *facts: Any) -> np.uint64:
        text = "\x1f".join(map(str, (self._name, *facts)))
        return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def minutes_of(ticks: Integers, lots: Integers) -> Minutes:
    """Aggregate whole minutes of seconds."""
    rows = ticks.reshape(-1, MINUTE_S)
    return Minutes(rows[:, 0], rows.max(axis=1), rows.min(axis=1), rows[:, -1], lots.reshape(-1, MINUTE_S).sum(axis=1))


def joined(parts: list[Minutes]) -> Minutes:
    """Put columns one after the other."""
    if len(parts) == 1:
        return parts[0]
    return Minutes(*(np.concatenate([getattr(part, name) for part in parts]) for name in Minutes.__struct_fields__))


def scattered(key: np.uint64, index: Integers) -> Hashes:
    """Scatter indices over 64 bits (the finish of SplitMix64)."""
    mixed = index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def unit(drawn: Hashes) -> Floats:
    """Return numbers from 0 to 1, made of the upper 32 bits."""
    return (drawn >> np.uint64(32)).astype(np.float64) / float(2**32)


def _normal(drawn: Hashes) -> Floats:
    """Return nearly normal numbers of deviation 1: four uniform ones of 16 bits, added up."""
    total = np.zeros(len(drawn))
    for shift in (0, 16, 32, 48):
        total += ((drawn >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.float64)
    return (total - 131_070.0) / 37_837.23
