"""How a market that is made or recorded passes time: in lockstep with what it causes, at a pace, or both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import trio
from attrs import define, field

from pipaid.seams import Clock
from pipaid.venues.venue import MarketUpdate, Ranged
from pipaid.wire.activity import Activity

# At high speed, what fell due is handed out together; the pause in between is never shorter than this.
BATCH_S: Final = 0.02
# A market that fell further behind than this goes on from where it is instead of rushing after the clock.
LATE_MAX_S: Final = 1.0
# Out of lockstep, a market waits when so much of what it caused has not been dealt with.
BACKLOG_MAX: Final = 10_000
UPDATES_PER_TURN_MAX: Final = 64


@define(eq=False)
class Playback:
    """Hand out updates in their order.

    `speed` is venue seconds per second, nothing for as fast as possible. In lockstep no update comes before everything
    the last one caused has been dealt with.
    """

    steps: Iterator[MarketUpdate]
    clock: Clock
    activity: Activity
    speed: float | None
    lockstep: bool
    now_ms: int
    _begun_s: float | None = field(default=None, init=False)
    _begun_ms: int = field(default=0, init=False)
    _turn: int = field(default=0, init=False)

    def __aiter__(self) -> Playback:
        """Return the iterator itself."""
        return self

    async def __anext__(self) -> MarketUpdate:
        """Wait until the next update is due, and return it."""
        await self._give_way()
        update = next(self.steps, None)
        if update is None:
            raise StopAsyncIteration
        due_ms = update.candles[0].close_time_ms if isinstance(update, Ranged) else update.time_ms
        if self.speed is not None:
            await self._wait(due_ms, self.speed)
        self.now_ms = max(self.now_ms, update.time_ms)
        return update

    async def _give_way(self) -> None:
        if self.lockstep or self.activity.count > BACKLOG_MAX:
            await self.activity.idle()
            return
        self._turn = (self._turn + 1) % UPDATES_PER_TURN_MAX
        if not self._turn:
            await trio.lowlevel.checkpoint()

    async def _wait(self, due_ms: int, speed: float) -> None:
        now_s = self.clock.monotonic_s()
        if self._begun_s is None:
            self._begun_s, self._begun_ms = now_s, self.now_ms
        ahead_s = self._begun_s + (due_ms - self._begun_ms) / 1000 / speed - now_s
        if ahead_s > 0:
            await self.clock.sleep(max(ahead_s, BATCH_S))
        elif ahead_s < -LATE_MAX_S:
            self._begun_s, self._begun_ms = now_s, due_ms
