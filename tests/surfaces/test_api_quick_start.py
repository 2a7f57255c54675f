"""The published way from nothing to a running strategy, over HTTP: create, try, deploy, watch, pause, change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipaid.client.following import Event
from pipaid.sdk import Client
from tests.surfaces.api import serving
from tests.surfaces.daemon import BRISK, DCA, assert_gapless, names_of

PARAMS = {"interval": "5m", "buy_amount": "200"}
CONFIG = f"{BRISK}\n[http]\nport = 0\n[backtest]\nmemory_mib_max = 400\n"


def test_a_strategy_is_created_tried_deployed_watched_paused_and_deployed_anew(tmp_path: Path) -> None:
    with serving(tmp_path, CONFIG) as api:
        user = api.user()
        with Client(user.api_key, user.secret, api.url, stream=api.stream) as client:
            made = client.ask("strategy.create", name="quick start", **DCA)
            job = client.ask(
                "backtest.create", strategy_id=made["id"], start="2025-05-30T00:00:00Z", end="2025-05-30T12:00:00Z"
            )
            tried = client.wait_for(job["id"])
            client.ask("strategy.deploy", id=made["id"], dry_run=True)
            with client.events(made["id"], after=0) as events:
                watched = read_until("position_opened", events)
                paused = client.ask("strategy.pause", id=made["id"], close_positions=True)
                told = api.daemon.events(made["id"])
                watched += read_until("paused", events)
            client.ask("strategy.update", id=made["id"], params={**PARAMS, "buy_amount": "300"})
            again = client.ask("strategy.deploy", id=made["id"], dry_run=True)
            held: list[dict[str, Any]] = list(client.each("strategy.positions", id=made["id"], state="closed"))
            jobs = list(client.each("backtest.list", status="done"))

    assert (job["status"], tried["status"], tried["progress"]) == ("queued", "done", 1.0), tried
    assert tried["result"]["metrics"]["total_trades"] >= 0
    assert [each["id"] for each in jobs] == [job["id"]]
    assert (paused["status"], paused["stats"]["open_positions"]) == ("paused", 0)
    # What was closed is told before the pause is, and all of it before the answer.
    names = names_of(told)
    assert names[0] == "deployed"
    assert names[-1] == "paused"
    assert names.count("position_closed") == names.count("position_opened") == len(held) > 0
    assert_gapless(told)
    assert [(each["seq"], each["event"]) for each in watched] == [(each["seq"], each["event"]) for each in told]
    assert (again["status"], again["params"]["buy_amount"], again["dry_run"]) == ("deployed", "300", True)


def read_until(name: str, events: Iterator[Event]) -> list[Event]:
    """Return what is told up to an event of this name."""
    found: list[Event] = []
    while not found or found[-1]["event"] != name:
        found.append(next(events))
    return found
