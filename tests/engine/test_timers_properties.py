"""Occasions through restarts and clocks that are set: each is dealt with once, or told to be missed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipaid.model.moment import parse_iso
from pipaid.model.run import Evaluation, RunStatus
from tests.builders import MINUTE_MS, make_bench, make_definition, make_run, make_strategy, scripted
from tests.engine.test_timers import HOUR_MS, Asked, planned, start
from tests.oracles.clocks import occasions, utc


class Life:
    """A session that lives through restarts and clocks that are set, called whenever its time has come."""

    def __init__(self, schedule: dict[str, Any], begun_ms: int) -> None:
        asked = Asked()
        template = scripted(on_candle=asked.by("candle"))
        run = make_run(started_at_ms=begun_ms)
        definition = make_definition(params={"schedule": schedule})
        self.bench = make_bench(template, strategy=make_strategy(definition, run=run))
        self.bench.quotes.now_ms = begun_ms
        start(self.bench)

    def move(self, ms: int) -> None:
        """Let venue time go on, or back."""
        self.bench.quotes.now_ms += ms

    def call(self, dies: str) -> None:
        """Call the session if it is due; it dies before or after its commit, or it lives."""
        due_ms = self.bench.session.due_ms
        if due_ms is None or due_ms > self.bench.quotes.now_ms:
            return
        effects = self.bench.session.on_due()
        if dies != "before":
            self.bench.settle(effects)
        if dies:
            self.bench.rebuild()

    def told(self) -> tuple[list[int], list[tuple[int, int, int]]]:
        """Return the occasions that were dealt with, and the spans of those missed with how many there were."""
        runs = self.bench.journal.read("run", Evaluation)
        dealt = [planned(run) for run in runs if run.status is not RunStatus.SKIPPED]
        missed = [run.steps[0].output for run in runs if run.status is RunStatus.SKIPPED]
        return dealt, [(parse_iso(each["first"]), parse_iso(each["last"]), each["occasions"]) for each in missed]


MOVES = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from((1_000, 20_000, MINUTE_MS, 61_000, 5 * MINUTE_MS, 20 * MINUTE_MS)),
            st.sampled_from((HOUR_MS, 5 * HOUR_MS, -MINUTE_MS, -HOUR_MS)),
        ),
        st.sampled_from(("", "", "", "before", "after", "restart")),
    ),
    min_size=5,
    max_size=60,
)
SCHEDULES: list[tuple[dict[str, Any], str]] = [
    ({"trigger": "cron", "cron": "*/10 * * * *", "timezone": "Europe/Berlin"}, "2026-03-29"),
    ({"trigger": "cron", "cron": "30 2 * * *", "timezone": "Europe/Berlin"}, "2026-03-29"),
    ({"trigger": "cron", "cron": "*/7 1-3 * * *", "timezone": "Europe/Berlin"}, "2026-10-25"),
    ({"trigger": "cron", "cron": "15,45 0-3 * * *", "timezone": "America/New_York"}, "2026-11-01"),
    ({"trigger": "cron", "cron": "*/15 * * * *", "timezone": "Australia/Lord_Howe"}, "2026-10-03"),
    ({"trigger": "cron", "cron": "0 0 29 2 *", "timezone": "Asia/Kathmandu"}, "2028-02-28"),
]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SCHEDULES), st.integers(0, 18 * 60), MOVES)
def test_each_occasion_is_dealt_with_once_or_told_to_be_missed_whatever_happens(
    planned_: tuple[dict[str, Any], str], begun_minutes: int, moves: list[tuple[int, str]]
) -> None:
    schedule, day = planned_
    begun = utc(day) - timedelta(hours=12) + timedelta(minutes=begun_minutes)
    begun_ms = latest_ms = int(begun.timestamp() * 1000)
    life = Life(schedule, begun_ms)
    for ms, dies in moves:
        life.move(ms)
        latest_ms = max(latest_ms, life.bench.quotes.now_ms)
        if dies == "restart":
            life.bench.rebuild()
        life.call(dies if dies in ("before", "after") else "")
    life.move(latest_ms - life.bench.quotes.now_ms)
    life.call("")

    dealt, missed = life.told()
    until = begun + timedelta(milliseconds=latest_ms - begun_ms)
    shown = [int(each.timestamp() * 1000) for each in occasions(schedule["cron"], schedule["timezone"], begun, until)]
    spans = [[at_ms for at_ms in shown if first <= at_ms <= last] for first, last, _ in missed]
    assert [len(span) for span in spans] == [count for *_, count in missed]
    assert sorted([*dealt, *(at_ms for span in spans for at_ms in span)]) == shown
