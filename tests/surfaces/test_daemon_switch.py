"""The kill switch by command, signal and file, draining, reloading and the log level, on a real daemon."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.surfaces.daemon import BRISK, DCA, GRID, Daemon, names_of, running

# It buys every five minutes and leaves each lot soon, on one side or the other.
TRADER: Mapping[str, Any] = {
    **DCA,
    "params": {"interval": "5m", "buy_amount": "200", "take_profit_pct": "0.002", "stop_loss_pct": "0.002"},
}
STRATEGIES = 4


def by_command(daemon: Daemon) -> None:
    answer = daemon.ask("kill.activate", reason="rehearsal")
    assert (answer["is_active"], answer["reason"]) == (True, "rehearsal")


def by_signal(daemon: Daemon) -> None:
    os.kill(daemon.pid, signal.SIGUSR2)
    daemon.wait_for(lambda: daemon.ask("kill.get")["is_active"])


def by_file(daemon: Daemon) -> None:
    (daemon.state / "KILL").touch()
    daemon.wait_for(lambda: daemon.ask("kill.get")["is_active"])


def release(daemon: Daemon) -> None:
    (daemon.state / "KILL").unlink(missing_ok=True)
    assert daemon.ask("kill.deactivate")["is_active"] is False


def traders(daemon: Daemon) -> list[str]:
    """Deploy strategies that trade, on paper and not, and wait until all of them hold something."""
    ids = [daemon.create(f"trader {number}", TRADER) for number in range(STRATEGIES)]
    for number, one in enumerate(ids):
        daemon.ask("strategy.deploy", id=one, dry_run=number % 2 == 0)
    daemon.wait_for(lambda: all("position_opened" in names_of(daemon.events(one)) for one in ids))
    return ids


def entries(daemon: Daemon, ids: list[str]) -> int:
    """Return how many orders that open something were placed so far."""
    placed = [event for one in ids for event in daemon.events(one) if event["event"] == "order_placed"]
    return sum(not event["data"]["reduce_only"] for event in placed)


def opened(daemon: Daemon, ids: list[str]) -> int:
    return sum(names_of(daemon.events(one)).count("position_opened") for one in ids)


def wait_for_candles(daemon: Daemon, count: int) -> None:
    begun = daemon.ask("status")["market"]["candles"]
    daemon.wait_for(lambda: daemon.ask("status")["market"]["candles"] >= begun + count)


@pytest.mark.parametrize("activate", [by_command, by_signal, by_file])
def test_it_blocks_entries_everywhere_until_released_and_lets_exits_go_on(
    tmp_path: Path, activate: Callable[[Daemon], None]
) -> None:
    with running(tmp_path, BRISK) as daemon:
        ids = traders(daemon)

        activate(daemon)

        before = entries(daemon, ids)
        held = opened(daemon, ids)
        wait_for_candles(daemon, 30)
        assert entries(daemon, ids) == before
        assert opened(daemon, ids) == held
        daemon.wait_for(lambda: all(daemon.get(one)["stats"]["open_positions"] == 0 for one in ids))
        fresh = daemon.create("deployed while it is active", TRADER)
        daemon.ask("strategy.deploy", id=fresh)
        assert "order_placed" not in names_of(daemon.events(fresh))

        daemon.kill()
        daemon.start()

        assert daemon.ask("kill.get")["is_active"] is True
        wait_for_candles(daemon, 20)
        assert entries(daemon, [*ids, fresh]) == before
        release(daemon)
        daemon.wait_for(lambda: entries(daemon, ids) > before)


def test_it_withdraws_what_works_and_closes_what_is_open_if_asked(tmp_path: Path) -> None:
    with running(tmp_path, BRISK) as daemon:
        ids = traders(daemon)
        resting = daemon.create("rests", GRID, params={**GRID["params"], "grid_levels": 12})
        daemon.ask("strategy.deploy", id=resting)
        daemon.wait_for(lambda: daemon.ask("strategy.orders", id=resting, state="working")["data"])

        daemon.ask("kill.activate", reason="close all", close_positions=True)

        everything = [*ids, resting]
        daemon.wait_for(lambda: all(daemon.get(one)["stats"]["open_positions"] == 0 for one in everything))
        daemon.wait_for(lambda: daemon.ask("strategy.orders", id=resting, state="working")["data"] == [])
        assert daemon.get(resting)["status"] == "deployed"


def test_every_turn_of_it_is_kept_with_its_reason_and_its_author(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        by_command(daemon)
        release(daemon)
        by_signal(daemon)
        release(daemon)
        by_file(daemon)
        assert daemon.refusal("kill.activate") == "INVALID_PARAMETER"
        daemon.kill()
        daemon.start()

        turns = daemon.ask("kill.logs")["data"]

        assert [turn["action"] for turn in turns] == ["activate", "deactivate", "activate", "deactivate", "activate"]
        assert turns[0]["by"] == "file"
        assert turns[2]["by"] == "signal"
        assert turns[4]["reason"] == "rehearsal"
        release(daemon)
        assert daemon.refusal("kill.deactivate") == "INVALID_STATE"


def test_the_file_holds_against_a_release_as_long_as_it_lies_there(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        by_file(daemon)
        assert daemon.refusal("kill.deactivate") == "INVALID_STATE"
        assert daemon.ask("kill.get")["is_active"] is True

        release(daemon)

        # Long enough for the daemon to look for the file a few times.
        up = daemon.ask("status")["uptime_s"]
        daemon.wait_for(lambda: daemon.ask("status")["uptime_s"] >= up + 2)
        assert daemon.ask("kill.get")["is_active"] is False


def test_it_withdraws_a_thousand_resting_orders(tmp_path: Path) -> None:
    shape = {**GRID, "params": {**GRID["params"], "grid_levels": 100}, "capital": "100000.00"}
    with running(tmp_path) as daemon:
        for number in range(45):
            daemon.ask("strategy.deploy", id=daemon.create(f"rests {number}", shape))
        daemon.wait_for(lambda: daemon.ask("status")["working_orders"] >= 1_000)

        daemon.ask("kill.activate", reason="all of them")
        daemon.wait_for(lambda: daemon.ask("status")["working_orders"] == 0)

        assert daemon.ask("kill.get")["is_active"] is True
        assert daemon.said("order.unknown") == daemon.said("strategy.crashed") == []


def test_draining_takes_no_entries_and_no_commands_while_exits_go_on(tmp_path: Path) -> None:
    with running(tmp_path, BRISK) as daemon:
        ids = traders(daemon)

        answer = daemon.ask("drain")

        before = entries(daemon, ids)
        assert answer["state"] == "draining"
        assert daemon.ask("health")["status"] == "draining"
        assert daemon.refusal("strategy.create", name="late", **GRID) == "UNAVAILABLE"
        assert daemon.refusal("strategy.deploy", id=ids[0]) == "UNAVAILABLE"
        daemon.wait_for(lambda: all(daemon.get(one)["stats"]["open_positions"] == 0 for one in ids))
        assert entries(daemon, ids) == before
        assert daemon.end() == 0
        daemon.start()
        assert daemon.ask("status")["state"] == "running"
        daemon.wait_for(lambda: entries(daemon, ids) > before)


@pytest.mark.parametrize("how", ["operation", "signal"])
def test_a_reload_takes_the_log_level_and_names_what_waits_for_a_restart(tmp_path: Path, how: str) -> None:
    with running(tmp_path) as daemon:
        config = tmp_path / "pipaid.toml"
        text = config.read_text().replace("speed = 1.0", "speed = 2.0")
        config.write_text(f'{text}\n[log]\nlevel = "debug"\n')

        if how == "operation":
            answer = daemon.ask("reload")
            assert answer == {"changed": ["log.level"], "needs_restart": ["market.speed"]}
        else:
            os.kill(daemon.pid, signal.SIGHUP)
            daemon.wait_for(lambda: daemon.said("daemon.reloaded"))

        assert daemon.said("daemon.reloaded")[-1]["needs_restart"] == ["market.speed"]
        assert daemon.ask("status")["log_level"] == "debug"


def test_the_kill_switch_and_a_reload_may_come_before_the_daemon_is_ready(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.spawn()
    try:
        daemon.wait_for(lambda: catches(daemon.pid, signal.SIGUSR2) and catches(daemon.pid, signal.SIGHUP))
        os.kill(daemon.pid, signal.SIGUSR2)
        os.kill(daemon.pid, signal.SIGHUP)

        daemon.wait_for(lambda: daemon.said("daemon.ready"))
        daemon.wait_for(lambda: daemon.said("daemon.reloaded"))
        daemon.wait_for(lambda: daemon.ask("kill.get")["is_active"])
    finally:
        daemon.end_all()


def test_a_reload_that_comes_while_the_daemon_ends_does_not_cut_it_short(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        process = daemon.process
        assert process is not None
        os.kill(daemon.pid, signal.SIGTERM)
        while process.poll() is None:
            os.kill(daemon.pid, signal.SIGHUP)
            time.sleep(0.0005)

        assert process.returncode == 0, daemon.tail()
        assert daemon.said("daemon.stopped")


def catches(pid: int, number: signal.Signals) -> bool:
    """Tell whether a signal does not end a process any more."""
    (line,) = [each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("SigCgt:")]
    return bool(int(line.split()[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("how", ["operation", "signal"])
def test_a_reload_of_a_broken_config_is_refused_and_changes_nothing(tmp_path: Path, how: str) -> None:
    with running(tmp_path) as daemon:
        (tmp_path / "pipaid.toml").write_text('[log]\nlevel = "loud"\n[market]\nspeed = "fast"\n')

        if how == "operation":
            assert daemon.refusal("reload") in ("INVALID_PARAMETER", "INVALID_STATE")
        else:
            os.kill(daemon.pid, signal.SIGHUP)
            daemon.wait_for(lambda: "loud" in daemon.tail())

        assert daemon.ask("status")["log_level"] == "info"
        assert daemon.ask("health")["status"] == "healthy"


def test_the_log_level_can_be_changed_for_a_while(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        assert daemon.ask("log.level", level="error") == {"level": "error", "before": "info"}
        quiet = len(daemon.said())
        daemon.create("unheard")
        assert len(daemon.said()) == quiet
        assert daemon.ask("log.level", level="debug")["before"] == "error"
        daemon.create("heard")
        assert len(daemon.said()) > quiet
        assert daemon.refusal("log.level", level="loud") == "INVALID_PARAMETER"
