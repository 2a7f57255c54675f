"""What was traded, looked up piece by piece: no piece holds anybody up, and whole hours are added up once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import trio
from attrs import define, field

from pipaid.model.instrument import MINUTE_MS
from pipaid.model.interval import HOUR_MS, Interval
from pipaid.model.turnover import Grouping, Turnover

# So many minutes are looked up at once: a few milliseconds.
STRIDE: Final = 120
# Hours that are kept, about a kilobyte each: those of a month of five symbols.
HOURS_MAX: Final = 4_096


@define(eq=False)
class Past:
    """Turnover of any interval out of that of minutes; `minutes` tells of some minutes, from a number on."""

    minutes: Callable[[str, int, int], list[Turnover]]
    _hours: OrderedDict[tuple[str, int], Turnover | None] = field(
        factory=lambda: OrderedDict[tuple[str, int], Turnover | None]()
    )

    async def turnover(self, symbol: str, interval: Interval, *, first_ms: int, end_ms: int) -> list[Turnover]:
        """Return what was traded from a moment on and before another, cut into intervals; both are whole minutes."""
        grouping = Grouping(interval)
        whole_ms, whole_end_ms = -(-first_ms // HOUR_MS) * HOUR_MS, end_ms // HOUR_MS * HOUR_MS
        if interval.below_hours or whole_ms >= whole_end_ms:
            await self._add_minutes(grouping, symbol, first_ms, end_ms)
            return grouping.made
        await self._add_minutes(grouping, symbol, first_ms, whole_ms)
        for start_ms in range(whole_ms, whole_end_ms, STRIDE * MINUTE_MS):
            grouping.take(await self._whole(symbol, start_ms, min(start_ms + STRIDE * MINUTE_MS, whole_end_ms)))
        await self._add_minutes(grouping, symbol, whole_end_ms, end_ms)
        return grouping.made

    async def _whole(self, symbol: str, first_ms: int, end_ms: int) -> list[Turnover]:
        """Return a few whole hours; those with nothing in them are left out, and remembered all the same."""
        keys = [(symbol, number) for number in range(first_ms // HOUR_MS, end_ms // HOUR_MS)]
        if not all(key in self._hours for key in keys):
            grouping = Grouping(Interval.H1)
            await self._add_minutes(grouping, symbol, first_ms, end_ms)
            found = {each.open_ms // HOUR_MS: each for each in grouping.made}
            self._hours.update((key, found.get(key[1])) for key in keys)
        for key in keys:
            self._hours.move_to_end(key)
        while len(self._hours) > HOURS_MAX:
            self._hours.popitem(last=False)
        hours = [self._hours[key] for key in keys]
        return [each for each in hours if each is not None]

    async def _add_minutes(self, grouping: Grouping, symbol: str, first_ms: int, end_ms: int) -> None:
        end = end_ms // MINUTE_MS
        for first in range(first_ms // MINUTE_MS, end, STRIDE):
            await trio.lowlevel.checkpoint()
            grouping.take(self.minutes(symbol, first, min(STRIDE, end - first)))
