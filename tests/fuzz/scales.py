"""Scales: what this process holds while something goes on in it, to see whether it grows."""

from __future__ import annotations

import gc
from typing import Final

import psutil
from attrs import define, field

# What may come and go between two moments of a busy process.
OBJECTS_MORE_MAX: Final = 2_000
MIB_MORE_MAX: Final = 6.0


@define
class Scales:
    """Objects and memory at moments of one's choosing; the first third of them is not held against anybody."""

    objects: list[int] = field(factory=list[int])
    mib: list[float] = field(factory=list[float])

    def weigh(self) -> None:
        """Take down what there is now."""
        gc.collect()
        self.objects.append(len(gc.get_objects()))
        self.mib.append(psutil.Process().memory_info().rss / 2**20)

    @property
    def growth(self) -> str:
        """Say what has grown since the first third, nothing if it is flat.

        What is under way comes and goes; what leaks raises the least that there ever is.
        """
        warm = len(self.objects) // 3
        assert warm >= 1, "weigh more often"
        more = min(self.objects[2 * warm :]) - min(self.objects[warm : 2 * warm])
        if more > OBJECTS_MORE_MAX:
            return f"{more} more objects: {self.objects}"
        heavier = self.mib[-1] - self.mib[warm]
        return f"{heavier:.1f} MiB more: {self.mib}" if heavier > MIB_MORE_MAX else ""
