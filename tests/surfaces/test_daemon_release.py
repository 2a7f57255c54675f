"""What the kill switch withdrew is taken up again when it is released, and a halted strategy keeps what guards it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipaid.errors import InvalidState
from tests.surfaces.daemon import BRISK, CALM, DCA, GRID, Daemon, running


def levels_of(daemon: Daemon, grid: str) -> list[str]:
    """Return the prices at which a grid's entries rest."""
    page = daemon.ask("strategy.orders", id=grid, state="working", limit=100)
    return sorted(order["price"] for order in page["data"] if not order["reduce_only"])


def test_a_grid_rests_its_levels_again_when_the_kill_switch_is_released(tmp_path: Path) -> None:
    with running(tmp_path, CALM) as daemon:
        grid = daemon.create("ether grid", GRID)
        daemon.ask("strategy.deploy", id=grid, dry_run=True)
        daemon.wait_for(lambda: levels_of(daemon, grid))
        before = levels_of(daemon, grid)
        daemon.ask("kill.activate", reason="a drill")
        daemon.wait_for(lambda: not levels_of(daemon, grid))

        daemon.ask("kill.deactivate")

        daemon.wait_for(lambda: levels_of(daemon, grid) == before)


def test_the_kill_switch_is_not_released_while_its_file_stands(tmp_path: Path) -> None:
    with running(tmp_path, CALM) as daemon:
        file = daemon.state / "KILL"
        file.touch()
        daemon.wait_for(lambda: daemon.ask("kill.get")["is_active"])

        with pytest.raises(InvalidState, match="remove it first"):
            daemon.ask("kill.deactivate")

        file.unlink()
        assert not daemon.ask("kill.deactivate")["is_active"]


def test_a_drained_daemon_still_closes_and_stops(tmp_path: Path) -> None:
    with running(tmp_path, BRISK) as daemon:
        dca = daemon.create("regular", DCA)
        daemon.ask("strategy.deploy", id=dca, dry_run=True)
        daemon.wait_for(lambda: daemon.get(dca)["stats"]["open_positions"])
        daemon.ask("drain")

        assert daemon.refusal("strategy.create", name="late", **GRID) == "UNAVAILABLE"
        paused = daemon.ask("strategy.pause", id=dca, close_positions=True)
        assert (paused["status"], paused["stats"]["open_positions"]) == ("paused", 0)
        assert daemon.ask("strategy.stop", id=dca)["status"] == "stopped"


def test_a_halted_strategy_leaves_its_lots_at_their_target(tmp_path: Path) -> None:
    shape = {
        **DCA,
        "params": {"interval": "5m", "buy_amount": "200", "take_profit_pct": "0.0005", "stop_loss_pct": "0.0005"},
    }
    with running(tmp_path, BRISK) as daemon:
        dca = daemon.create("guarded", shape)
        daemon.ask("strategy.deploy", id=dca, dry_run=True)
        daemon.wait_for(lambda: daemon.get(dca)["stats"]["open_positions"])
        daemon.ask("sim.halt", id=dca)

        daemon.wait_for(lambda: daemon.get(dca)["stats"]["open_positions"] == 0)

        reasons = {trade["reason"] for trade in daemon.ask("strategy.trades", id=dca)["data"]}
        assert reasons <= {"take_profit", "stop_loss"}
        assert reasons
