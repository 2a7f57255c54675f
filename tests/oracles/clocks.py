"""When a cron expression comes to pass, by looking at the clocks of a zone minute by minute."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
MARGIN = timedelta(hours=3)
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_NAMES = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))}


def occasions(expression: str, zone: str, after: datetime, until: datetime) -> list[datetime]:
    """Return each minute after one moment and up to another one at which the expression comes to pass."""
    minute, hour, day, month, weekday = expression.split()
    minutes, hours = _numbers(minute, *_RANGES[0]), _numbers(hour, *_RANGES[1])
    shown = readings(zone, after - MARGIN, until + MARGIN)
    days = {wall.date() for _, wall in shown}
    wanted = {date_ for date_ in days if _is_day(day, month, weekday, date_)}
    if minute.startswith("*") or hour.startswith("*"):
        found = {
            moment for moment, wall in shown if wall.minute in minutes and wall.hour in hours and wall.date() in wanted
        }
    else:
        times = [
            datetime(date_.year, date_.month, date_.day, hour, minute)  # noqa: DTZ001 - what a clock shows
            for date_ in wanted for hour in hours for minute in minutes
        ]  # fmt: skip
        found = set(_once_each(times, shown))
    return sorted(moment for moment in found if after < moment <= until)


@cache
def readings(zone: str, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Return what the clocks of a zone show at each minute."""
    place, moment, shown = ZoneInfo(zone), start.replace(second=0, microsecond=0), list[tuple[datetime, datetime]]()
    while moment < end:
        shown.append((moment, moment.astimezone(place).replace(tzinfo=None)))
        moment += MINUTE
    return shown


def _once_each(times: list[datetime], shown: list[tuple[datetime, datetime]]) -> Iterator[datetime]:
    """Yield the first minute at which the clocks show each time of day, or the first at which they are past it."""
    first: dict[datetime, datetime] = {}
    for moment, wall in shown:
        first.setdefault(wall, moment)
    for wall in times:
        if shown[0][1] <= wall <= shown[-1][1]:
            yield first[wall] if wall in first else min(moment for moment, reading in shown if reading > wall)


def _is_day(day: str, month: str, weekday: str, date_: date) -> bool:
    if date_.month not in _numbers(month, *_RANGES[3]):
        return False
    of_month = date_.day in _numbers(day, *_RANGES[2])
    of_week = not {date_.isoweekday(), date_.isoweekday() % 7}.isdisjoint(_numbers(weekday, *_RANGES[4]))
    both = day.startswith("*") or weekday.startswith("*")
    return (of_month and of_week) if both else (of_month or of_week)


@cache
def _numbers(field: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for term in field.split(","):
        span, _, step = term.partition("/")
        if span == "*":
            first, last = low, high
        else:
            begin, _, end = span.partition("-")
            first = _NAMES.get(begin, -1) if begin in _NAMES else int(begin)
            last = high if step and not end else int(end) if end else first
        found.update(range(first, last + 1, int(step or 1)))
    return frozenset(found)


def utc(text: str) -> datetime:
    """Read a moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
