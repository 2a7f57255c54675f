"""Candles from a venue, page by page: what is there already is not asked for, and what came is kept as it comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Final, Protocol

import numpy as np
from attrs import define, field, frozen

from pipaid.errors import Busy, InvalidParameter
from pipaid.model.columns import Candles, Integers
from pipaid.model.instrument import Timeframe
from pipaid.model.moment import iso_seconds
from pipaid.seams import Clock

# An interruption that leaves no time for goodbyes loses at most so many.
KEEP_CANDLES: Final = 50_000
# For some hundred milliseconds after its end a candle may still change.
SETTLE_MS: Final = 5_000
BUSY_TRIES_MAX: Final = 100
BUSY_WAIT_S: Final = 0.1


class CandlePages(Protocol):
    """What a venue tells about the past."""

    @property
    def page_max(self) -> int:
        """Return how many candles a page may hold."""
        ...

    async def candles(
        self, symbol: str, timeframe: Timeframe, *, start_ms: int, end_ms: int, count: int
    ) -> Candles | None:
        """Return the first candles of a span, up to `count` and in order, or nothing if there are none."""
        ...


@frozen
class Span:
    """Candles that open from the start on and before the end, both on the grid of their timeframe."""

    start_ms: int
    end_ms: int


def closed_span(start_ms: int, end_ms: int, timeframe: Timeframe, *, now_ms: int) -> tuple[Span, bool]:
    """Return the candles between two moments that are final by now, and whether the end had to be brought forward."""
    step = timeframe.ms
    first, last = -(-start_ms // step) * step, -(-end_ms // step) * step
    final = (now_ms - SETTLE_MS) // step * step
    if first >= min(last, final):
        raise InvalidParameter(
            f"no candle of {timeframe} opens from {iso_seconds(start_ms)} on and before {iso_seconds(end_ms)} and is "
            f"closed by now, {iso_seconds(now_ms)}"
        )
    return Span(first, min(last, final)), last > final


def missing(times: Integers, timeframe: Timeframe, span: Span) -> list[Span]:
    """Return the parts of a span of which no candle is there; the times are ascending."""
    step = timeframe.ms
    inside = times[slice(*np.searchsorted(times, (span.start_ms, span.end_ms)))]
    edges = np.concatenate(([span.start_ms - step], inside, [span.end_ms]))
    return [Span(int(edges[at]) + step, int(edges[at + 1])) for at in np.flatnonzero(np.diff(edges) > step)]


@define
class Download:
    """One symbol's candles on their way: `keep` stores some durably, `moved` hears how many more are settled.

    What the venue does not have is settled too: it is asked for once, and again by the next download.
    """

    pages: CandlePages
    symbol: str
    timeframe: Timeframe
    clock: Clock
    keep: Callable[[Candles], object]
    moved: Callable[[int], None]
    fetched: int = field(default=0, init=False)
    _pending: list[Candles] = field(factory=list[Candles], init=False)

    async def run(self, spans: Sequence[Span]) -> None:
        """Fetch these spans in order; whatever ends this early, what had come is kept."""
        try:
            for span in spans:
                await self._fetch(span)
        finally:
            await self._flush()

    async def _fetch(self, span: Span) -> None:
        step, cursor = self.timeframe.ms, span.start_ms
        while cursor < span.end_ms:
            count = min(self.pages.page_max, (span.end_ms - cursor) // step)
            page = await self.pages.candles(
                self.symbol, self.timeframe, start_ms=cursor, end_ms=span.end_ms, count=count
            )
            after = span.end_ms if page is None else int(page.time_ms[-1]) + step
            if page is not None:
                self._pending.append(page)
                if sum(map(len, self._pending)) >= KEEP_CANDLES:
                    await self._flush()
            self.moved((after - cursor) // step)
            cursor = after

    async def _flush(self) -> None:
        """Keep what has come since the last time, and wait a while for whoever writes there too."""
        if not self._pending:
            return
        candles = reduce(Candles.joined, self._pending)
        for _ in range(BUSY_TRIES_MAX):
            try:
                self.keep(candles)
                break
            except Busy:
                await self.clock.sleep(BUSY_WAIT_S)
        else:
            self.keep(candles)
        self.fetched += len(candles)
        self._pending.clear()
