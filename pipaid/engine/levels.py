"""Price levels of one symbol, the nearest first, so that a price costs two comparisons until it touches something."""

from __future__ import annotations

import heapq
from decimal import Decimal
from typing import Any, Final, Generic, TypeVar

from attrs import define, field

from pipaid.model.money import ZERO

NEVER: Final = Decimal("Infinity")
# Dropped levels stay in the heaps until they come to the top or until there are this many and they are the majority.
DEAD_MIN: Final = 64

Item = TypeVar("Item")


@define(eq=False)
class Level(Generic[Item]):
    """A price somebody waits for: touched from above if it is falling, from below otherwise."""

    price: Decimal
    falling: bool
    item: Item
    alive: bool = True
    held: bool = False


@define(eq=False)
class Levels(Generic[Item]):
    """Keep levels in two heaps with lazy deletion.

    `below` is the highest falling level and `above` the lowest rising one: while `below < price < above`, nothing is
    touched. Without levels on a side they are zero and infinity.
    """

    below: Decimal = ZERO
    above: Decimal = NEVER
    _falling: list[tuple[Decimal, int, Level[Item]]] = field(factory=list[Any])
    _rising: list[tuple[Decimal, int, Level[Item]]] = field(factory=list[Any])
    _added: int = 0
    _dead: int = 0

    def add(self, level: Level[Item]) -> None:
        """Wait for a level, for the first time or again after it was taken."""
        assert level.alive, "a dropped level is not waited for again"
        assert not level.held, "a level is held once"
        level.held = True
        self._added += 1
        if level.falling:
            heapq.heappush(self._falling, (-level.price, self._added, level))
            self.below = max(self.below, level.price)
        else:
            heapq.heappush(self._rising, (level.price, self._added, level))
            self.above = min(self.above, level.price)

    def drop(self, level: Level[Item]) -> None:
        """Wait no longer for a level."""
        level.alive = False
        if not level.held:
            return
        self._dead += 1
        if self._dead > DEAD_MIN and self._dead * 2 > len(self._falling) + len(self._rising):
            self._compact()
        self._settle()

    def take(self, low: Decimal, high: Decimal) -> list[Level[Item]]:
        """Remove and return the levels that prices between low and high touch, nearest first on each side."""
        taken: list[Level[Item]] = []
        for heap, limit in ((self._falling, -low), (self._rising, high)):
            while heap and heap[0][0] <= limit:
                level = heapq.heappop(heap)[2]
                level.held = False
                if level.alive:
                    taken.append(level)
                else:
                    self._dead -= 1
        self._settle()
        return taken

    def _settle(self) -> None:
        for heap in (self._falling, self._rising):
            while heap and not heap[0][2].alive:
                heapq.heappop(heap)[2].held = False
                self._dead -= 1
        self.below = -self._falling[0][0] if self._falling else ZERO
        self.above = self._rising[0][0] if self._rising else NEVER

    def _compact(self) -> None:
        for heap in (self._falling, self._rising):
            heap[:] = [entry for entry in heap if entry[2].alive]
            heapq.heapify(heap)
        self._dead = 0
