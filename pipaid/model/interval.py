"""The fifteen lengths of a candle that market data is told in, and where each candle of them begins."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from pipaid.model.instrument import MINUTE_MS
from pipaid.model.moment import DAY_MS

HOUR_MS: Final = 60 * MINUTE_MS
# The epoch was a Thursday.
_MONDAY_MS: Final = 4 * DAY_MS
_MONTHS: Final = 12


class Interval(StrEnum):
    """The length of a candle of market data; `1M` is a month, so capitals count.

    Candles lie end to end in UTC: weeks begin on Monday, months are those of the calendar, and all others are counted
    from the epoch, those of three days too.
    """

    M1 = "1m"
    M3 = "3m"
    M5 = "5m"
    M15 = "15m"
    M30 = "30m"
    H1 = "1h"
    H2 = "2h"
    H4 = "4h"
    H6 = "6h"
    H8 = "8h"
    H12 = "12h"
    D1 = "1d"
    D3 = "3d"
    W1 = "1w"
    MONTH = "1M"

    @property
    def below_hours(self) -> bool:
        """Tell whether hours are too long to build it of."""
        return _LENGTH_MS.get(self, HOUR_MS) < HOUR_MS

    def number(self, at_ms: int) -> int:
        """Return the number of the candle in which a moment lies; each begins where the one before ends."""
        if self is Interval.MONTH:
            moment = datetime.fromtimestamp(at_ms // 1_000, UTC)
            return moment.year * _MONTHS + moment.month - 1
        return (at_ms - _ANCHOR_MS.get(self, 0)) // _LENGTH_MS[self]

    def opens_ms(self, number: int) -> int:
        """Return when the candle of a number begins."""
        if self is Interval.MONTH:
            year, month = divmod(number, _MONTHS)
            return int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp()) * 1_000
        return number * _LENGTH_MS[self] + _ANCHOR_MS.get(self, 0)

    def start_of(self, at_ms: int) -> int:
        """Return when the candle begins in which a moment lies."""
        return self.opens_ms(self.number(at_ms))

    def end_of(self, at_ms: int) -> int:
        """Return the first millisecond after the candle in which a moment lies."""
        return self.opens_ms(self.number(at_ms) + 1)


_LENGTH_MS: Final[dict[Interval, int]] = {
    Interval.M1: MINUTE_MS,
    Interval.M3: 3 * MINUTE_MS,
    Interval.M5: 5 * MINUTE_MS,
    Interval.M15: 15 * MINUTE_MS,
    Interval.M30: 30 * MINUTE_MS,
    Interval.H1: HOUR_MS,
    Interval.H2: 2 * HOUR_MS,
    Interval.H4: 4 * HOUR_MS,
    Interval.H6: 6 * HOUR_MS,
    Interval.H8: 8 * HOUR_MS,
    Interval.H12: 12 * HOUR_MS,
    Interval.D1: DAY_MS,
    Interval.D3: 3 * DAY_MS,
    Interval.W1: 7 * DAY_MS,
}
_ANCHOR_MS: Final[dict[Interval, int]] = {Interval.W1: _MONDAY_MS}
