"""A real daemon that is stopped and continued, for longer than anything it waits for: nothing twice, and it says so."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.surfaces.daemon import BRISK, DCA, Daemon, assert_gapless, running
from tests.surfaces.faults import sluggish, strike

EX_TEMPORARY = 75
# Longer than the loop, the journal, a client or the watchdog are allowed to stand still; short for a test.
STOPPED_S = 4.0
STRICT = f"{BRISK}\n[guard]\nstall_s = 2.0\n[control]\nidle_s = 2.0\n[stream]\nping_s = 1.0\n"


@contextmanager
def stopped(daemon: Daemon) -> Generator[None]:
    """Let the process stand still in the block, and for some time."""
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        yield
        time.sleep(STOPPED_S)
    finally:
        os.kill(daemon.pid, signal.SIGCONT)


def test_it_goes_on_where_it_was_and_does_nothing_twice(tmp_path: Path) -> None:
    with running(tmp_path, STRICT) as daemon:
        one = daemon.create("buys", DCA)
        daemon.ask("strategy.deploy", id=one)
        daemon.wait_for(lambda: daemon.get(one)["stats"]["open_positions"] >= 3)

        with stopped(daemon):
            pass

        daemon.wait_for(lambda: daemon.ask("status")["conditions"])
        status = daemon.ask("status")
        assert (status["state"], status["epoch"]) == ("degraded", 1)
        (condition,) = status["conditions"]
        assert condition["condition"] == "suspended"
        held = daemon.get(one)["stats"]["open_positions"]
        daemon.wait_for(lambda: daemon.get(one)["stats"]["open_positions"] > held)
        events = daemon.events(one)
        assert_gapless(events)
        orders = [event["data"]["client_order_id"] for event in events if event["event"] == "order_placed"]
        assert len(orders) == len(set(orders))
        filled = [event["data"] for event in events if event["event"] == "order_filled"]
        fills = [(each["client_order_id"], each["cum_qty"]) for each in filled]
        assert len(fills) == len(set(fills))
        assert daemon.said("watchdog.stalled") == []
        assert daemon.end() == 0
        daemon.verify()


def test_a_loop_that_is_busy_with_one_thing_says_so_and_goes_on(tmp_path: Path) -> None:
    daemon = sluggish(Daemon(tmp_path, BRISK), STOPPED_S)
    try:
        daemon.start()
        one = daemon.create("buys", DCA)
        daemon.ask("strategy.deploy", id=one)
        daemon.wait_for(lambda: daemon.get(one)["stats"]["open_positions"] >= 1)

        strike(daemon)

        daemon.wait_for(lambda: daemon.said("condition.entered"))
        (told,) = daemon.said("condition.entered")
        assert (told["condition"], daemon.ask("status")["state"]) == ("stalled", "degraded")
        assert daemon.said("feed.doubted")
        held = daemon.get(one)["stats"]["open_positions"]
        daemon.wait_for(lambda: daemon.get(one)["stats"]["open_positions"] > held)
        assert_gapless(daemon.events(one))
    finally:
        daemon.end_all()


def test_while_it_stands_still_no_other_takes_its_place(tmp_path: Path) -> None:
    with running(tmp_path, STRICT) as daemon:
        with stopped(daemon):
            second = Daemon(tmp_path, STRICT)
            second.spawn()
            assert second.exit_code() == EX_TEMPORARY

        daemon.wait_for(lambda: daemon.ask("status")["conditions"])
        assert daemon.ask("status")["epoch"] == 1
