"""A daemon that holds too much memory enters nothing, and ends the strategy that took it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.surfaces.daemon import BRISK, GRID, running
from tests.surfaces.plugins import install

SHAPE: dict[str, Any] = {
    "template_id": "tpl_hostile",
    "symbols": ["BTCUSDT"],
    "timeframe": "1m",
    "capital": "5000.00",
}
SUPERVISION = "\n[supervision]\nbackoff_min_s = 0.01\nbackoff_max_s = 0.05\n"


def test_a_strategy_that_hoards_ends_in_error_beside_a_neighbour_who_does_not(tmp_path: Path) -> None:
    # Half of the limit is less than any daemon holds, so that every call is weighed.
    config = f"{BRISK}{SUPERVISION}\n[guard]\nmemory_mib_max = 100\nstrategy_memory_mib_max = 16\n"
    with running(tmp_path / "daemon", config, variables=install("plugin_hostile", tmp_path)) as daemon:
        neighbour = daemon.create("neighbour", {**SHAPE, "template_id": "tpl_vigilant", "params": {}})
        hoarder = daemon.create("hoarder", {**SHAPE, "params": {"misdeed": "hoard", "place": "on_candle"}})
        for each in (neighbour, hoarder):
            daemon.ask("strategy.deploy", id=each, dry_run=True)

        daemon.wait_for(lambda: daemon.get(hoarder)["status"] == "error")

        told = daemon.get(hoarder)["error"]
        assert told["code"] == "MEMORY_OVERRUN"
        assert "of memory and kept them" in told["message"]
        state = daemon.ask("strategy.state", id=neighbour)
        assert (state["status"], state["restarts"]) == ("deployed", 0)


def test_a_daemon_that_holds_too_much_enters_nothing(tmp_path: Path) -> None:
    config = f"{BRISK}\n[guard]\nmemory_mib_max = 32\n"
    with running(tmp_path / "daemon", config) as daemon:
        daemon.wait_for(lambda: "memory" in [each["condition"] for each in daemon.ask("status")["conditions"]])

        assert daemon.refusal("strategy.create", name="newcomer", **GRID) == "UNAVAILABLE"
        daemon.wait_for(lambda: daemon.ask("condition.logs")["data"])
        (turn,) = daemon.ask("condition.logs")["data"]
        assert (turn["condition"], turn["turn"]) == ("memory", "entered")
        assert "MiB are held, of at most 32" in daemon.pipaid("status")


def test_a_strategy_that_takes_too_much_at_once_is_refused_it(tmp_path: Path) -> None:
    config = f"{BRISK}{SUPERVISION}restarts_max = 1\n[guard]\nmemory_mib_max = 300\n"
    with running(tmp_path / "daemon", config, variables=install("plugin_hostile", tmp_path)) as daemon:
        gorger = daemon.create("gorger", {**SHAPE, "params": {"misdeed": "gorge", "place": "on_candle"}})
        daemon.ask("strategy.deploy", id=gorger, dry_run=True)

        daemon.wait_for(lambda: daemon.get(gorger)["status"] == "error")
        assert daemon.get(gorger)["error"]["message"].startswith("MemoryError")
        assert daemon.end() == 0
