"""A disk that fails or fills up under a real daemon: it stops, takes back what rests, and leaves nothing damaged."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipaid.errors import PipaidError
from tests.surfaces.daemon import BRISK, GRID, Daemon, running
from tests.surfaces.daemons import pipaid
from tests.surfaces.faults import FAULTS, breakable, strike

EX_TEMPORARY = 75
# It takes a fraction of a second; the bound leaves room for a machine that has much else to do.
ENDS_S = 20.0
RESTING: Mapping[str, Any] = {**GRID, "params": {**GRID["params"], "grid_levels": 40}, "capital": "100000.00"}


def let_rest(daemon: Daemon) -> str:
    """Deploy a strategy whose entries rest at the desk."""
    one = daemon.create("rests", RESTING)
    daemon.ask("strategy.deploy", id=one, dry_run=False)
    daemon.wait_for(lambda: sent(daemon) >= 10)
    return one


def sent(daemon: Daemon) -> int:
    return int(daemon.ask("metrics")["data"]['pipaid_orders_sent_total{desk="simulated"}'])


def refused(daemon: Daemon) -> None:
    """Ask for something that needs the journal until it cannot be had."""
    try:
        while True:
            daemon.create(f"one more {time.monotonic_ns()}")
    except (PipaidError, OSError):
        pass


def grow_no_more(daemon: Daemon) -> None:
    """Let no file grow beyond the middle of a page: the last write is a short one."""
    size = (daemon.state / "journal.db-wal").stat().st_size
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (size + 1_000, size + 1_000))


def withdrawn(daemon: Daemon) -> int:
    """Return how many entries the daemon said it took back."""
    return sum(line["orders"] for line in daemon.said("entries.withdrawn"))


def assert_stopped_well(daemon: Daemon, begun_s: float) -> None:
    assert daemon.exit_code() == EX_TEMPORARY
    assert time.monotonic() - begun_s < ENDS_S
    assert [each["condition"] for each in daemon.said("condition.entered")] == ["journal"]
    assert withdrawn(daemon) >= 10


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_failing_disk_ends_trading_takes_back_entries_and_damages_nothing(tmp_path: Path, fault: str) -> None:
    daemon = breakable(Daemon(tmp_path, BRISK), fault)
    try:
        daemon.start()
        one = let_rest(daemon)

        begun_s = time.monotonic()
        strike(daemon)
        refused(daemon)

        assert_stopped_well(daemon, begun_s)
        daemon.verify()
        daemon.start()
        assert daemon.get(one)["status"] == "deployed"
        daemon.wait_for(lambda: daemon.ask("status")["working_orders"] >= 10)
        daemon.wait_for(lambda: daemon.ask("condition.logs")["data"])
        turns = daemon.ask("condition.logs")["data"]
        assert [(each["condition"], each["turn"]) for each in turns] == [("journal", "left"), ("journal", "entered")]
    finally:
        daemon.end_all()


def test_a_write_that_is_cut_short_ends_trading_the_same_way(tmp_path: Path) -> None:
    with running(tmp_path, BRISK) as daemon:
        let_rest(daemon)

        begun_s = time.monotonic()
        grow_no_more(daemon)
        refused(daemon)

        assert_stopped_well(daemon, begun_s)
        daemon.verify()


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_start_on_a_failing_disk_may_be_tried_again(tmp_path: Path, fault: str) -> None:
    with running(tmp_path, BRISK) as daemon:
        one = let_rest(daemon)
        daemon.kill()
        daemon.before = f"from tests.surfaces.faults import FAULTS, fail; fail(*FAULTS[{fault!r}])"
        for _ in range(3):
            daemon.spawn()
            assert daemon.exit_code() == EX_TEMPORARY
            assert "Traceback" not in daemon.tail()
        daemon.verify()
        daemon.before = "pass"
        daemon.start()
        assert daemon.get(one)["status"] == "deployed"


@pytest.mark.parametrize(("fault", "how"), [("full", "operation"), ("sync error", "signal")])
def test_a_kill_switch_thrown_on_a_failing_disk_holds_over_the_restart(tmp_path: Path, fault: str, how: str) -> None:
    daemon = breakable(Daemon(tmp_path), fault)
    try:
        daemon.start()
        let_rest(daemon)
        strike(daemon)
        if how == "signal":
            os.kill(daemon.pid, signal.SIGUSR2)
        else:
            assert daemon.refusal("kill.activate", reason="the disk smells") == "UNAVAILABLE"
        assert daemon.exit_code() == EX_TEMPORARY
        assert withdrawn(daemon) >= 10
        daemon.before = "pass"

        daemon.start()

        assert daemon.ask("kill.get")["is_active"] is True
        daemon.wait_for(lambda: daemon.ask("status")["working_orders"] == 0)
        assert daemon.refusal("kill.deactivate") == "INVALID_STATE"
        (daemon.state / "KILL").unlink()
        assert daemon.ask("kill.deactivate")["is_active"] is False
    finally:
        daemon.end_all()


def test_a_daemon_whose_journal_another_one_took_leaves_and_touches_nothing_of_its(tmp_path: Path) -> None:
    first, second = Daemon(tmp_path), Daemon(tmp_path, variables={"PIPAID__DAEMON__RUNTIME_DIR": str(tmp_path / "run")})
    (tmp_path / "run").mkdir(parents=True)
    try:
        first.start()
        let_rest(first)
        # The lock is one on a file; somebody took that away.
        (first.state / "journal.witness").unlink()
        told = len(first.said())
        second.start()

        refused(first)

        assert first.exit_code() == EX_TEMPORARY
        said = [line["event"] for line in first.said()[told:]]
        assert "daemon.given_up" in said
        assert "entries.withdrawn" not in said
        assert second.process is not None
        assert second.process.poll() is None
    finally:
        first.end_all()
        second.end_all()


def test_little_room_stops_entries_and_lets_everything_else_go_on(tmp_path: Path) -> None:
    # More than any disk has: the mark is what a test can set, and the room is not.
    with running(tmp_path, f"{BRISK}\n[journal]\nfree_mib_min = 10000000\n") as daemon:
        status = daemon.ask("status")
        one = daemon.create("rests", RESTING)
        daemon.ask("strategy.deploy", id=one)
        seen = daemon.ask("status")["market"]["candles"]
        daemon.wait_for(lambda: daemon.ask("status")["market"]["candles"] >= seen + 20)

        assert status["state"] == "degraded"
        (condition,) = status["conditions"]
        assert (condition["condition"], condition["blocks_entries"]) == ("disk", True)
        assert daemon.ask("health")["status"] == "degraded"
        assert daemon.ask("strategy.state", id=one)["may_not_enter"].startswith("disk: ")
        assert daemon.ask("status")["working_orders"] == 0
        assert "disk" in daemon.pipaid("status")
        assert "entered" in daemon.pipaid("condition", "logs")
        told = pipaid("doctor", "--config", str(tmp_path / "pipaid.toml"), PIPAID__DAEMON__STATE_DIR=str(daemon.state))
        assert told.code != 0
        assert "disk since " in " ".join(told.out.split())
