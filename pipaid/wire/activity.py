"""A count of work in flight, so that simulated time can wait until everything it caused has been dealt with."""

from __future__ import annotations

import trio
from attrs import define, field


@define
class Activity:
    """Count units of work between `begin` and `end`; `idle` returns when none is left.

    Live venues never wait for it; a lockstep market takes no next step before it is idle.
    """

    _count: int = 0
    _waiters: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    @property
    def count(self) -> int:
        """Return how many units are in flight."""
        return self._count

    def begin(self, units: int = 1) -> None:
        """Note work that has been handed over and not yet dealt with."""
        self._count += units

    def end(self, units: int = 1) -> None:
        """Note that work has been dealt with, including everything it handed over in turn."""
        self._count -= units
        assert self._count >= 0, "more work ended than began"
        if self._count == 0:
            self._waiters.unpark_all()

    async def idle(self) -> None:
        """Wait until nothing is in flight."""
        while self._count:
            await self._waiters.park()
        await trio.lowlevel.checkpoint()
