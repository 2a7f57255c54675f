"""Occasions at which nobody was asked: how they are counted, numbered and told, and which are none."""

from __future__ import annotations

from pipaid.engine.schedule import COUNTED_MAX
from tests.builders import MINUTE_MS
from tests.engine.test_timers import HOUR_MS, QUARTERS, make_scheduled, paused, redeployed, ring, runs_of, start


def test_what_was_missed_is_numbered_like_every_other_run() -> None:
    bench, _ = make_scheduled(QUARTERS)
    start(bench)
    bench.close()
    bench.wait(44 * MINUTE_MS)
    bench.rebuild()

    ring(bench)

    assert [(run.number, run.status) for run in runs_of(bench)] == [(1, "skipped"), (2, "hold")]


def test_of_more_than_are_counted_it_is_said_that_there_were_more() -> None:
    bench, _ = make_scheduled({"trigger": "interval", "interval_minutes": 1})
    start(bench)
    bench.wait((COUNTED_MAX + 200) * MINUTE_MS)
    bench.rebuild()

    ring(bench)

    missed = runs_of(bench)[0]
    assert (missed.steps[0].output["occasions"], missed.steps[0].output["more"]) == (COUNTED_MAX, True)
    assert missed.detail.startswith(f"at least {COUNTED_MAX} occasions from ")


def test_a_maintenance_that_had_nothing_to_look_after_was_not_missed() -> None:
    bench, _ = make_scheduled({}, maintains=10 * MINUTE_MS)
    start(bench)
    paused(bench)
    bench.wait(HOUR_MS)

    redeployed(bench, 2)
    ring(bench)

    assert runs_of(bench) == []
