"""When a strategy is to decide, other than at each candle: at intervals, or as a cron expression says, in a time zone.

Occasions are whole minutes of venue time, found by calculation alone: whoever asks anew finds the same ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from itertools import islice, takewhile
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

import attrs
from attrs import frozen
from cronsim import CronSim, CronSimError

from pipaid.engine.knobs import choice_param, integer_param, integers_param, optional_param, text_param
from pipaid.model.instrument import MINUTE_MS

SCHEDULE: Final = "schedule"
CANDLE_CLOSE: Final = "candle_close"
INTERVAL_MINUTES_MAX: Final = 10_080
# So many occasions that were missed are counted; the first and the last are told however many there were.
COUNTED_MAX: Final = 1_000
_FIELDS: Final = 5
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_MINUTE: Final = timedelta(minutes=1)
# Beyond it there are no dates to reckon with.
_END_MS: Final = (datetime(9900, 1, 1, tzinfo=UTC) - _EPOCH) // _MILLISECOND
# What a machine calls its own zone is another one elsewhere.
_NOWHERE: Final = frozenset({"localtime"})


@frozen(kw_only=True)
class ScheduleParams:
    """When every template is asked, and when it may enter, under `schedule`."""

    trigger: str = choice_param(
        "What a strategy decides at: each candle of its timeframe, an interval or a cron expression",
        choices=(CANDLE_CLOSE, "interval", "cron"),
        default=CANDLE_CLOSE,
    )
    interval_minutes: int | None = optional_param(
        integer_param(
            "Minutes from one occasion to the next, counted from the beginning of 1970 in UTC",
            low=1,
            high=INTERVAL_MINUTES_MAX,
        )
    )
    cron: str | None = optional_param(
        text_param("Minute, hour, day of month, month and day of week, as Debian's cron reads them")
    )
    timezone: str = text_param("IANA time zone in which the cron expression is read", default="UTC")
    skip_hours: tuple[int, ...] = integers_param(
        "Hours of the day, in local time, in which nothing is entered", low=0, high=23, most=24
    )
    skip_hours_timezone: str | None = optional_param(
        text_param("IANA time zone of those hours, if not the one of the cron expression")
    )


@frozen
class Passed:
    """Occasions that have passed: how many, of which no more than so many are counted, the first and the last."""

    count: int
    first_ms: int
    last_ms: int


@frozen
class Every:
    """Whole multiples of a period since the Unix epoch."""

    period_ms: int

    @property
    def plan(self) -> str:
        """Say it in one line, the same for the same occasions."""
        return f"every {self.period_ms // MINUTE_MS} min"

    def after(self, time_ms: int) -> int | None:
        """Return the first occasion after a moment."""
        return (time_ms // self.period_ms + 1) * self.period_ms

    def passed(self, after_ms: int, until_ms: int) -> Passed | None:
        """Return what passed after one moment and up to another one."""
        first, last = after_ms // self.period_ms + 1, until_ms // self.period_ms
        if last < first:
            return None
        return Passed(min(last - first + 1, COUNTED_MAX), first * self.period_ms, last * self.period_ms)


@frozen
class Cron:
    """What a cron expression matches on the clocks of a time zone.

    An expression that names minute and hour means an occasion a day, whatever the clocks do: a time that they leap over
    is made up for in the first minute after, and one that comes twice counts once, the first time. One whose minute or
    hour begins with `*` means readings of the clock: what is leapt over is left out, and what comes twice counts twice.
    """

    expression: str
    zone: ZoneInfo

    @property
    def plan(self) -> str:
        """Say it in one line, the same for the same occasions."""
        return f"cron {' '.join(self.expression.upper().split())} {self.zone.key}"

    def after(self, time_ms: int) -> int | None:
        """Return the first occasion after a moment; nothing if none comes within fifty years."""
        return next(self._following(time_ms), None)

    def passed(self, after_ms: int, until_ms: int) -> Passed | None:
        """Return what passed after one moment and up to another one."""
        early = takewhile(lambda at_ms: at_ms <= until_ms, self._following(after_ms))
        counted = list(islice(early, COUNTED_MAX))
        if not counted:
            return None
        return Passed(len(counted), counted[0], self._last(counted[-1], until_ms))

    def _last(self, known_ms: int, until_ms: int) -> int:
        """Return the last occasion up to a moment, given one of them."""
        far_ms = until_ms
        while known_ms < far_ms:
            middle_ms = (known_ms + far_ms) // 2
            found_ms = self.after(middle_ms)
            if found_ms is None or found_ms > until_ms:
                far_ms = middle_ms
            else:
                known_ms = found_ms
        return known_ms

    def _following(self, time_ms: int) -> Iterator[int]:
        """Yield the occasions after a moment, in order."""
        if not 0 <= time_ms < _END_MS:
            return
        last_ms = time_ms
        for at in self._from((_EPOCH + time_ms * _MILLISECOND).astimezone(self.zone)):
            at_ms = (at - _EPOCH) // _MILLISECOND
            if at_ms > last_ms:
                yield at_ms
                last_ms = at_ms

    def _from(self, local: datetime) -> Iterator[datetime]:
        """Yield the occasions from about a local time on, in order; some may lie before it, and some come twice."""
        # If this is an hour that comes again, what of it is over comes again as well.
        again = _offset(local) - _offset(local.replace(fold=1))
        second: deque[datetime] = deque()
        for wall in CronSim(self.expression, local.replace(tzinfo=None) - again):
            moments = self._moments(wall)
            while second and moments and second[0] < moments[0]:
                yield second.popleft()
            yield from moments[:1]
            second.extend(moments[1:])
        yield from second

    def _moments(self, wall: datetime) -> tuple[datetime, ...]:
        """Return when the clocks show a time, as far as that counts."""
        first, second = (wall.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if first.astimezone(self.zone).replace(tzinfo=None) != wall:
            return () if self._reads_clocks else (self._leapt_to(wall),)
        return (first, second) if self._reads_clocks and second != first else (first,)

    def _leapt_to(self, wall: datetime) -> datetime:
        """Return the first minute after a time that the clocks leap over."""
        while True:
            wall += _MINUTE
            first = wall.replace(tzinfo=self.zone).astimezone(UTC)
            if first.astimezone(self.zone).replace(tzinfo=None) == wall:
                return first

    @property
    def _reads_clocks(self) -> bool:
        minute, hour, *_ = self.expression.split()
        return minute.startswith("*") or hour.startswith("*")


@frozen
class Schedule:
    """What `params.schedule` comes to; one without occasions decides at each candle."""

    params: ScheduleParams = attrs.field(factory=ScheduleParams)

    @cached_property
    def occasions(self) -> Every | Cron | None:
        """Return when it is to decide, if not at each candle."""
        params = self.params
        if params.trigger == "interval":
            assert params.interval_minutes is not None, "an interval without minutes is refused"
            return Every(params.interval_minutes * MINUTE_MS)
        if params.trigger == "cron":
            assert params.cron is not None, "a cron trigger without expression is refused"
            return Cron(params.cron, ZoneInfo(params.timezone))
        return None

    def after(self, time_ms: int) -> int | None:
        """Return the first occasion after a moment; nothing if there are none."""
        return None if self.occasions is None else self.occasions.after(time_ms)

    def skips(self, time_ms: int) -> bool:
        """Tell whether nothing may be entered at a moment."""
        return self.local_hour(time_ms) in self.params.skip_hours

    def local_hour(self, time_ms: int) -> int:
        """Return the hour of the day at a moment, where those that are skipped are counted."""
        zone = ZoneInfo(self.params.skip_hours_timezone or self.params.timezone)
        return (_EPOCH + time_ms * _MILLISECOND).astimezone(zone).hour


def schedule_objections(params: ScheduleParams) -> Mapping[str, str]:
    """Return what is wrong with a schedule whose members are good by themselves, by name."""
    mistakes: dict[str, str] = {}
    for name, trigger in (("interval_minutes", "interval"), ("cron", "cron")):
        given = getattr(params, name) is not None
        if params.trigger == trigger and not given:
            mistakes[name] = f"is required with trigger {trigger}"
        elif params.trigger != trigger and given:
            mistakes[name] = f"has no effect with trigger {params.trigger}; leave it out or set trigger to {trigger}"
    for name in ("timezone", "skip_hours_timezone"):
        zone = getattr(params, name)
        if zone is not None and zone not in known_zones():
            mistakes[name] = f"must be an IANA time zone such as Europe/Berlin or UTC, got {zone!r:.60}"
    if params.cron is not None and "cron" not in mistakes and (objection := cron_objection(params.cron)):
        mistakes["cron"] = objection
    return mistakes


def cron_objection(expression: str) -> str:
    """Return what is wrong with a cron expression, or nothing."""
    fields = expression.split()
    if len(fields) != _FIELDS:
        return f"must have {_FIELDS} fields (minute, hour, day of month, month, day of week), got {len(fields)}"
    try:
        never = next(CronSim(expression, datetime(2000, 1, 1)), None) is None  # noqa: DTZ001 - a clock without a zone
    except CronSimError as trouble:
        return f"{str(trouble).lower()} in {expression!r:.80}"
    return f"{expression!r:.80} never comes to pass" if never else ""


@lru_cache(maxsize=1)
def known_zones() -> frozenset[str]:
    """Return the names of all time zones."""
    return frozenset(available_timezones() - _NOWHERE)


def _offset(local: datetime) -> timedelta:
    offset = local.utcoffset()
    assert offset is not None, "a local time has a zone"
    return offset
