"""Evaluations of a real daemon that is killed over one, or whose strategy breaks down; asked for with filters."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests.surfaces.daemon import CALM, Daemon, running
from tests.surfaces.plugins import install
from tests.surfaces.test_daemon_bindings import die_over

# No candle closes meanwhile: it is asked when it is deployed, and when somebody asks for it.
SELLS: dict[str, Any] = {
    "template_id": "tpl_hostile",
    "params": {"misdeed": "nothing", "place": "init"},
    "symbols": ["BTCUSDT"],
    "timeframe": "1d",
    "capital": "5000.00",
}
BREAKS: dict[str, Any] = {**SELLS, "params": {"misdeed": "value_error", "place": "on_candle"}}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Generator[Daemon, None, None]:
    folder = tmp_path_factory.mktemp("runs")
    with running(
        folder, f"{CALM}\n[journal]\nruns_kept = 10\n", variables=install("plugin_hostile", folder)
    ) as started:
        yield started


def holding(daemon: Daemon, name: str) -> str:
    one = daemon.create(name, SELLS)
    daemon.ask("strategy.deploy", id=one, dry_run=True)
    daemon.wait_for(lambda: daemon.get(one)["stats"]["open_positions"] == 1)
    return one


def exits(daemon: Daemon, one: str) -> list[str]:
    return [order["id"] for order in daemon.ask("strategy.orders", id=one)["data"] if order["reduce_only"]]


@pytest.mark.parametrize("point", ["before", "after"])
def test_a_daemon_that_is_killed_over_a_trigger_has_the_run_with_all_it_led_to_or_nothing(
    daemon: Daemon, point: str
) -> None:
    one = holding(daemon, f"killed {point}")

    die_over(daemon, point, "run", '"cause":"trigger"', "strategy.trigger", id=one)

    runs = daemon.ask("strategy.runs", id=one, cause="trigger")["data"]
    assert len(runs) == len(exits(daemon, one)) == (1 if point == "after" else 0)
    if point == "before":
        assert daemon.get(one)["stats"]["open_positions"] == 1
        (triggered,) = daemon.ask("strategy.trigger", id=one)["run_ids"]
    else:
        triggered = runs[0]["id"]
    run = daemon.ask("run.get", id=triggered)
    daemon.wait_for(lambda: daemon.ask("strategy.trades", id=one)["data"])

    (trade,) = daemon.ask("strategy.trades", id=one)["data"]
    assert (run["status"], run["final_action"], run["dry_run"]) == ("completed", "SELL", True)
    assert (run["trade_id"], run["order_ids"]) == (trade["id"], exits(daemon, one))
    assert [step["step_name"] for step in run["steps"]] == ["data", "signal", "risk", "order"]
    assert sum(step["duration_us"] for step in run["steps"]) == run["duration_us"] > 0


def test_a_trigger_over_which_a_strategy_breaks_down_is_answered_with_the_run_that_failed(daemon: Daemon) -> None:
    one = daemon.create("breaks", BREAKS)
    daemon.ask("strategy.deploy", id=one, dry_run=True)

    (failed,) = daemon.ask("strategy.trigger", id=one)["run_ids"]

    run = daemon.ask("run.get", id=failed)
    assert (run["status"], run["cause"], run["order_ids"]) == ("failed", "trigger", [])
    assert run["detail"].startswith("ValueError: the sky is falling (in raise_it, hostile.py line ")
    assert daemon.get(one)["status"] == "deployed"
    assert "the sky is falling" in daemon.pipaid("why", one)


def test_the_newest_runs_are_kept_listed_and_narrowed(daemon: Daemon) -> None:
    one = holding(daemon, "asked often")
    triggered = [daemon.ask("strategy.trigger", id=one)["run_ids"][0] for _ in range(12)]

    page = daemon.ask("strategy.runs", id=one, limit=4)
    rest = daemon.ask("strategy.runs", id=one, limit=4, cursor=page["next_cursor"])
    listed = [run["id"] for run in page["data"] + rest["data"]]
    kept = {run["id"] for run in daemon.ask("strategy.runs", id=one)["data"]}

    assert kept == set(triggered[-10:])
    assert len(set(listed)) == 8
    assert set(listed) <= kept
    assert daemon.refusal("run.get", id=triggered[0]) == "NOT_FOUND"
    assert daemon.ask("strategy.runs", id=one, cause="candle")["data"] == []
    newest = page["data"][0]["created_at"]
    before = daemon.ask("strategy.runs", id=one, to=newest)["data"]
    since = daemon.ask("strategy.runs", id=one, **{"from": newest})["data"]
    assert {run["id"] for run in before + since} == kept
    assert {run["created_at"] for run in since} == {newest}
    assert all(run["created_at"] < newest for run in before)
    assert triggered[-1] in daemon.pipaid("strategy", "runs", "asked often", "--status", "hold", "--symbol", "BTCUSDT")
