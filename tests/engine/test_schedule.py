"""Occasions: found by calculation, and the same as those found by looking at the clocks minute by minute."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipaid.engine.params import structure_schedule
from pipaid.engine.schedule import (
    COUNTED_MAX,
    Cron,
    Every,
    Passed,
    Schedule,
    ScheduleParams,
    cron_objection,
    known_zones,
)
from pipaid.errors import InvalidParameter
from tests.oracles.clocks import occasions, utc

MINUTE_MS = 60_000
DAY_MS = 86_400_000
# Days on which the clocks of a zone are changed, by half an hour in one and at midnight in another, and others.
DAYS = {
    "UTC": ("2026-03-29", "2028-02-29"),
    "Europe/Berlin": ("2026-03-29", "2026-10-25", "2028-02-29"),
    "America/New_York": ("2026-03-08", "2026-11-01", "2026-12-31"),
    "Australia/Lord_Howe": ("2026-10-03", "2026-04-04", "2026-06-10"),
    "America/Santiago": ("2026-09-06", "2026-04-05"),
    "Asia/Kathmandu": ("2028-02-29",),
}
CHANGES = [(zone, day) for zone, days in DAYS.items() for day in days]
EXPRESSIONS = (
    "30 2 * * *", "*/15 * * * *", "0 * * * *", "*/7 2 * * *", "15 1,2,3 * * *", "0 0 * * *", "59 23 31 12 *",
    "0,30 0-4 * * *", "*/20 0 * * *", "10 5 29 2 *", "*/5 5 * * *", "0 9 * * 1-5", "5 2 1,25 * 0", "45 */3 * * *",
    "30 1-3/2 * * SUN",
)  # fmt: skip


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000)


def following(plan: Cron | Every, at_ms: int) -> Iterator[int]:
    while (next_ms := plan.after(at_ms)) is not None:
        yield next_ms
        at_ms = next_ms


def all_of(plan: Cron | Every, after_ms: int, until_ms: int) -> list[int]:
    return list(takewhile(lambda at_ms: at_ms <= until_ms, following(plan, after_ms)))


@pytest.mark.parametrize(("zone", "day"), CHANGES)
def test_occasions_are_those_that_the_clocks_show(zone: str, day: str) -> None:
    after, until = utc(day) - timedelta(days=1), utc(day) + timedelta(days=2)
    for expression in EXPRESSIONS:
        found = all_of(Cron(expression, ZoneInfo(zone)), ms(after), ms(until))

        assert found == [ms(moment) for moment in occasions(expression, zone, after, until)], expression


def fields(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda ends: f"{min(ends)}-{max(ends)}")
    # A single number with a step reaches to the end, and a span of one number is read as such.
    wide = st.tuples(number, number).filter(lambda ends: ends[0] < ends[1]).map(lambda ends: f"{ends[0]}-{ends[1]}")
    steps = st.tuples(st.just("*") | wide, st.integers(1, 9)).map(lambda parts: f"{parts[0]}/{parts[1]}")
    one = number.map(str) | span | steps
    return st.just("*") | one | st.lists(number.map(str) | span, min_size=2, max_size=3).map(",".join)


CRONS = st.tuples(fields(0, 59), fields(0, 5), fields(1, 31), fields(1, 12), fields(0, 7)).map(" ".join)
# Mostly one that comes to pass on every day.
DAILY = st.tuples(fields(0, 59), fields(0, 5)).map(lambda both: f"{' '.join(both)} * * *")


@settings(max_examples=100, deadline=None)
@given(DAILY | CRONS, st.sampled_from(CHANGES), st.integers(0, DAY_MS))
def test_whoever_asks_at_any_moment_finds_what_follows(expression: str, where: tuple[str, str], offset_ms: int) -> None:
    zone, day = where
    begin, until = utc(day) - timedelta(hours=12), utc(day) + timedelta(days=1)
    plan, after_ms = Cron(expression, ZoneInfo(zone)), ms(begin) + offset_ms
    shown = [at_ms for at_ms in map(ms, occasions(expression, zone, begin, until)) if at_ms > after_ms]

    near = list(islice(following(plan, after_ms), 100))
    assert [at_ms for at_ms in near if at_ms <= ms(until)] == shown[:100]
    told = Passed(min(len(shown), COUNTED_MAX), shown[0], shown[-1]) if shown else None
    assert plan.passed(after_ms, ms(until)) == told


def test_what_the_clocks_leap_over_is_made_up_for_in_the_first_minute_after() -> None:
    berlin = ZoneInfo("Europe/Berlin")

    assert Cron("30 2 * * *", berlin).after(ms(utc("2026-03-28T12:00"))) == ms(utc("2026-03-29T01:00"))
    assert Cron("*/30 2 * * *", berlin).after(ms(utc("2026-03-28T12:00"))) == ms(utc("2026-03-30T00:00"))


def test_what_comes_twice_counts_once_unless_it_is_a_reading_of_the_clocks() -> None:
    berlin, after_ms, until_ms = ZoneInfo("Europe/Berlin"), ms(utc("2026-10-24T12:00")), ms(utc("2026-10-25T12:00"))

    assert all_of(Cron("30 2 * * *", berlin), after_ms, until_ms) == [ms(utc("2026-10-25T00:30"))]
    assert all_of(Cron("*/30 2 * * *", berlin), after_ms, until_ms) == [
        ms(utc(f"2026-10-25T{time}")) for time in ("00:00", "00:30", "01:00", "01:30")
    ]


def test_a_leap_day_comes_every_four_years() -> None:
    plan = Cron("0 0 29 2 *", ZoneInfo("UTC"))

    assert plan.after(ms(utc("2025-01-01"))) == ms(utc("2028-02-29"))
    assert plan.after(ms(utc("2096-03-01"))) == ms(utc("2104-02-29"))


@given(st.integers(1, 10_080), st.integers(0, 4_102_444_800_000), st.integers(0, 40 * DAY_MS))
def test_an_interval_stands_at_whole_multiples_since_the_epoch(minutes: int, at_ms: int, span_ms: int) -> None:
    plan = Every(minutes * MINUTE_MS)
    first = plan.after(at_ms)

    assert first is not None
    assert 0 < first - at_ms <= plan.period_ms
    assert first % plan.period_ms == 0
    passed = plan.passed(at_ms, at_ms + span_ms)
    last = (at_ms + span_ms) // plan.period_ms * plan.period_ms
    count = (last - first) // plan.period_ms + 1
    assert passed == (Passed(min(count, COUNTED_MAX), first, last) if count > 0 else None)


@pytest.mark.parametrize(("expression", "count"), [("* * * * *", COUNTED_MAX), ("0 9 * * 1", 104), ("0 9 1 1 *", 3)])
def test_years_that_were_missed_are_counted_up_to_a_bound_and_bounded_exactly(expression: str, count: int) -> None:
    plan = Cron(expression, ZoneInfo("Europe/Berlin"))
    after_ms, until_ms = ms(utc("2026-01-01")), ms(utc("2028-01-01T12:00"))
    passed = plan.passed(after_ms, until_ms)

    assert passed is not None
    assert passed.count == count
    assert passed.first_ms == plan.after(after_ms)
    following = plan.after(passed.last_ms)
    assert following is not None
    assert passed.last_ms <= until_ms < following


def test_beyond_all_dates_there_are_no_occasions() -> None:
    plan = Cron("* * * * *", ZoneInfo("UTC"))

    assert plan.after(2**62) is None
    assert plan.passed(2**61, 2**62) is None


def test_a_schedule_that_says_nothing_is_asked_at_candles_and_skips_no_hour() -> None:
    schedule = structure_schedule({})

    assert schedule == Schedule()
    assert schedule.after(0) is None
    assert not any(schedule.skips(hour * 3_600_000) for hour in range(24))


def test_hours_are_skipped_as_the_clocks_of_their_zone_show_them() -> None:
    schedule = structure_schedule({"schedule": {"skip_hours": [2, 23], "skip_hours_timezone": "Asia/Kathmandu"}})

    # It is five hours and three quarters ahead, since 1986.
    assert not schedule.skips(ms(utc("2026-01-01T20:14")))
    assert schedule.skips(ms(utc("2026-01-01T20:15")))
    assert schedule.skips(ms(utc("2026-01-01T21:14")))
    assert not schedule.skips(ms(utc("2026-01-01T21:15")))


def test_the_zone_of_the_skipped_hours_is_the_one_of_the_cron_expression_unless_they_have_their_own() -> None:
    given_ = {"trigger": "cron", "cron": "0 9 * * *", "timezone": "America/New_York", "skip_hours": [9]}
    at_nine = ms(utc("2026-01-05T14:00"))

    assert structure_schedule({"schedule": given_}).skips(at_nine)
    assert not structure_schedule({"schedule": {**given_, "skip_hours_timezone": "UTC"}}).skips(at_nine)


@pytest.mark.parametrize(
    ("given_", "mistakes"),
    [
        ("daily", {"schedule": "must be an object, got 'daily'"}),
        ({"trigger": "daily"}, {"schedule.trigger": "must be one of candle_close, interval, cron, got 'daily'"}),
        ({"trigger": "interval"}, {"schedule.interval_minutes": "is required with trigger interval"}),
        ({"trigger": "cron"}, {"schedule.cron": "is required with trigger cron"}),
        (
            {"interval_minutes": 5, "cron": "0 9 * * *"},
            {
                "schedule.interval_minutes": "has no effect with trigger candle_close; leave it out or set trigger to "
                "interval",
                "schedule.cron": "has no effect with trigger candle_close; leave it out or set trigger to cron",
            },
        ),
        (
            {"trigger": "interval", "interval_minutes": 10_081},
            {"schedule.interval_minutes": "must be from 1 to 10080, got 10081"},
        ),
        (
            {"trigger": "cron", "cron": "* * * * * *"},
            {
                "schedule.cron": "must have 5 fields (minute, hour, day of month, month, day of week), got 6",
            },
        ),
        ({"trigger": "cron", "cron": "0 24 * * *"}, {"schedule.cron": "bad hour in '0 24 * * *'"}),
        ({"trigger": "cron", "cron": "0 0 30 2 *"}, {"schedule.cron": "bad day-of-month in '0 0 30 2 *'"}),
        ({"trigger": "cron", "cron": "9" * 200 + " 0 * * *"}, {"schedule.cron": None}),
        (
            {"timezone": "Mars/Base", "skip_hours_timezone": "../UTC"},
            {
                "schedule.timezone": "must be an IANA time zone such as Europe/Berlin or UTC, got 'Mars/Base'",
                "schedule.skip_hours_timezone": "must be an IANA time zone such as Europe/Berlin or UTC, got '../UTC'",
            },
        ),
        ({"timezone": "localtime"}, {"schedule.timezone": None}),
        ({"skip_hours": 5}, {"schedule.skip_hours": "must be a list of whole numbers, got 5"}),
        ({"skip_hours": [1, 24]}, {"schedule.skip_hours": "must be from 0 to 23, got 24"}),
        ({"skip_hours": [True]}, {"schedule.skip_hours": "must be a whole number, got True"}),
        ({"skip_hours": [1, 1]}, {"schedule.skip_hours": "must hold each number once, got [1, 1]"}),
        ({"skip_hours": list(range(25))}, {"schedule.skip_hours": "must have at most 24 elements, got 25"}),
        ({"hours": [1]}, {"schedule.hours": None}),
    ],
)
def test_every_mistake_of_a_schedule_is_named(given_: Any, mistakes: dict[str, str | None]) -> None:
    with pytest.raises(InvalidParameter) as refused:
        structure_schedule({"schedule": given_})

    found = dict(refused.value.details)
    assert found == {name: found[name] if reason is None else reason for name, reason in mistakes.items()}


def test_an_expression_that_hardly_ever_comes_to_pass_is_refused_only_if_it_never_does() -> None:
    assert cron_objection("0 0 31 4,6,9 *") == "bad day-of-month in '0 0 31 4,6,9 *'"
    assert cron_objection("0 0 * 2 MON#5") == ""
    assert Cron("0 0 * 2 TUE#5", ZoneInfo("UTC")).after(ms(utc("2026-01-01"))) == ms(utc("2028-02-29"))


@settings(max_examples=400)
@given(st.text(alphabet="0123456789*/-,#LW abMON²٣", max_size=200))
def test_any_text_is_an_expression_or_is_refused(text: str) -> None:
    objection = cron_objection(text)

    assert bool(objection) or Cron(text, ZoneInfo("UTC")).after(0) is not None
    assert not (objection and text in EXPRESSIONS)


def test_zones_are_known_by_the_names_that_mean_the_same_everywhere() -> None:
    assert {"UTC", "Europe/Berlin", "Australia/Lord_Howe"} <= known_zones()
    assert not {"localtime", "posixrules", "right/Europe/Berlin"} & known_zones()


def test_the_same_occasions_have_the_same_plan() -> None:
    plans = [
        Schedule(ScheduleParams(trigger="cron", cron=cron, timezone=zone)).occasions
        for cron, zone in (("0 9 * * mon", "UTC"), ("0  9 * * MON", "UTC"), ("0 9 * * MON", "Europe/Berlin"))
    ]

    assert [each.plan for each in plans if each is not None] == [
        "cron 0 9 * * MON UTC", "cron 0 9 * * MON UTC", "cron 0 9 * * MON Europe/Berlin",
    ]  # fmt: skip
    assert Every(15 * MINUTE_MS).plan == "every 15 min"
