"""Schedules on a real daemon that dies at their commits: each occasion is dealt with once, or told to be missed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from pipaid.model.moment import parse_iso
from pipaid.model.run import Cause, Evaluation, RunStatus
from pipaid.storage.reading import SqliteReader
from tests.oracles.clocks import occasions, utc
from tests.surfaces.daemon import BRISK, Daemon, running
from tests.surfaces.test_daemon_bindings import DYING

SCHEDULES: Final[dict[str, dict[str, Any]]] = {
    "by interval": {"trigger": "interval", "interval_minutes": 3},
    "by the clock": {"trigger": "cron", "cron": "*/4 * * * *", "timezone": "Australia/Lord_Howe"},
}
MOMENTUM: Final[dict[str, Any]] = {
    "template_id": "tpl_momentum", "symbols": ["BTCUSDT"], "timeframe": "1m", "capital": "5000.00",
}  # fmt: skip
# As many occasions are waited for after the last kill.
LATER: Final = 3


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Let a daemon die at commits of scheduled runs, before they are durable and after, and live on for some time."""
    with running(tmp_path_factory.mktemp("schedules"), BRISK) as daemon:
        ids = {name: daemon.create(name, MOMENTUM, params={"schedule": each}) for name, each in SCHEDULES.items()}
        for one in ids.values():
            daemon.ask("strategy.deploy", id=one, dry_run=True)
        daemon.wait_for(lambda: all(scheduled(daemon, one) for one in ids.values()))
        daemon.kill()
        for point in ("before", "after", "before"):
            dying = DYING.format(entity="run", words=b'"cause":"schedule"', point=point)
            daemon.before = f"exec({dying!r})"
            daemon.spawn()
            assert daemon.exit_code() == -9
        daemon.before = "pass"
        daemon.start()
        counts = {one: len(scheduled(daemon, one)) for one in ids.values()}
        daemon.wait_for(lambda: all(len(scheduled(daemon, one)) >= counts[one] + LATER for one in ids.values()))
        return daemon.state, ids


def scheduled(daemon: Daemon, one: str) -> list[Evaluation]:
    return kept(daemon.state, one)


def kept(state: Path, one: str) -> list[Evaluation]:
    reader = SqliteReader(state / "journal.db")
    try:
        runs = [msgspec.json.decode(row.data, type=Evaluation) for row in reader.rows("run", owner=one)]
    finally:
        reader.close()
    return [run for run in runs if run.cause is Cause.SCHEDULE]


@pytest.mark.parametrize("name", SCHEDULES)
def test_killed_at_its_commits_a_daemon_deals_with_each_occasion_once_or_says_that_it_was_missed(
    name: str, lived: tuple[Path, dict[str, str]]
) -> None:
    state, ids = lived
    runs = kept(state, ids[name])
    dealt = [run.steps[0].output["occasion_ms"] for run in runs if run.status is not RunStatus.SKIPPED]
    skipped = [run.steps[0].output for run in runs if run.status is RunStatus.SKIPPED and "plan" in run.steps[0].output]
    spans = [(parse_iso(each["first"]), parse_iso(each["last"])) for each in skipped]
    first_ms, last_ms = min(dealt), max(dealt)
    schedule = SCHEDULES[name]
    cron, zone = schedule.get("cron", "*/3 * * * *"), schedule.get("timezone", "UTC")
    begun = utc("1970-01-01") + timedelta(milliseconds=first_ms - 1)
    until = utc("1970-01-01") + timedelta(milliseconds=last_ms)
    shown = [int(each.timestamp() * 1000) for each in occasions(cron, zone, begun, until)]

    missed = [at_ms for at_ms in shown for first, last in spans if first <= at_ms <= last]
    assert sorted([*dealt, *missed]) == shown
    assert len(dealt) > LATER
