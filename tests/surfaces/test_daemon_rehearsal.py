"""Rehearsals on a real daemon: what an operator lets go wrong at the simulated venue leaves the books right."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.surfaces.daemon import BRISK, DCA, Daemon, running

# Nearly everything that can go wrong does so now and then; what is late meets a venue whose requests expire.
STORMY = f"""{BRISK}
[desk]
request_expiry = true

[desk.faults]
seed = 7
lost = "0.05"
unanswered = "0.1"
late = "0.05"
broken = "0.1"
garbled = "0.05"
dropped = "0.1"
doubled = "0.1"
delayed = "0.1"
cut = "0.05"
outage = "0.05"
"""
# It buys every five minutes and leaves each lot soon, on one side or the other.
TRADER = {
    **DCA,
    "params": {"interval": "5m", "buy_amount": "200", "take_profit_pct": "0.002", "stop_loss_pct": "0.002"},
}


def fault(daemon: Daemon, kind: str) -> None:
    """Order a fault with the command line, at the desk on which the strategies of these tests trade."""
    shown = daemon.pipaid("sim", "fault", "--kind", kind, "--at", "simulated")
    assert shown.splitlines()[-1].split()[:5] == ["simulated", kind, "0", "1", "0"]


def happened(daemon: Daemon) -> dict[str, int]:
    rows = daemon.ask("sim.faults")["data"]
    return {row["kind"]: row["happened"] for row in rows if row["happened"]}


def orders(daemon: Daemon, id: str) -> list[Any]:
    """Return a strategy's orders, oldest first."""
    return list(reversed(daemon.ask("strategy.orders", id=id, limit=100)["data"]))


def settled(daemon: Daemon, id: str) -> bool:
    """Tell whether all its orders have ended."""
    return not daemon.ask("strategy.orders", id=id, state="working")["data"]


def bought(daemon: Daemon, id: str) -> Decimal:
    positions = daemon.ask("strategy.positions", id=id, state="open", limit=100)["data"]
    return sum((Decimal(position["qty"]) for position in positions), Decimal(0))


def first_order_of(daemon: Daemon) -> tuple[str, Any]:
    """Deploy a strategy that buys at once, and return its first order when that has ended."""
    one = daemon.create("buyer", DCA)
    daemon.ask("strategy.deploy", id=one)
    daemon.wait_for(lambda: orders(daemon, one) and orders(daemon, one)[0]["ended_at"])
    return one, orders(daemon, one)[0]


@pytest.mark.parametrize(
    ("kind", "status"), [("unanswered", "filled"), ("lost", "absent"), ("dropped", "filled"), ("cut", "filled")]
)
def test_an_order_ends_once_and_as_the_venue_has_it(tmp_path: Path, kind: str, status: str) -> None:
    with running(tmp_path, BRISK) as daemon:
        fault(daemon, kind)
        assert f"{kind} next 1 times" in daemon.pipaid("status")

        one, first = first_order_of(daemon)

        assert first["status"] == status
        assert happened(daemon) == {kind: 1}
        daemon.wait_for(lambda: len(orders(daemon, one)) >= 3)
        daemon.ask("strategy.pause", id=one)
        daemon.wait_for(lambda: settled(daemon, one))
        everything = orders(daemon, one)
        # The last one may have been withdrawn by the pause.
        assert {order["status"] for order in everything[1:]} <= {"filled", "cancelled"}
        assert bought(daemon, one) == sum(Decimal(order["filled_qty"]) for order in everything) > 0
        assert daemon.end() == 0
        daemon.verify()


def test_a_ban_refuses_what_is_sent_until_it_ends(tmp_path: Path) -> None:
    with running(tmp_path, BRISK) as daemon:
        fault(daemon, "banned")

        one, first = first_order_of(daemon)

        assert first["status"] == "rejected"
        assert first["detail"].startswith("429")
        daemon.wait_for(lambda: bought(daemon, one) > 0)
        assert happened(daemon) == {"banned": 1}


def test_after_a_storm_and_a_kill_everything_adds_up(tmp_path: Path) -> None:
    with running(tmp_path, STORMY) as daemon:
        ids = [daemon.create(f"trader {number}", TRADER) for number in range(4)]
        for one in ids:
            daemon.ask("strategy.deploy", id=one)
        assert "rehearsal: simulated is set to faults: lost 0.05 of the time" in daemon.pipaid("status")
        daemon.wait_for(lambda: len(happened(daemon)) >= 8)

        daemon.kill()
        daemon.start()
        daemon.wait_for(lambda: len(happened(daemon)) >= 6)
        daemon.ask("sim.calm")
        daemon.ask("kill.activate", reason="the rehearsal is over", close_positions=True)

        daemon.wait_for(lambda: all(settled(daemon, one) and not bought(daemon, one) for one in ids))
        assert all(daemon.get(one)["status"] == "deployed" for one in ids)
        assert not any(line.startswith("rehearsal") for line in daemon.ask("status")["degraded"])
        assert daemon.end() == 0
        daemon.verify()
