"""Every cell of the lifecycle table over the control socket, and what each allowed transition promises."""

from __future__ import annotations

from collections.abc import Generator
from itertools import product
from typing import Any

import pytest

from tests.surfaces.daemon import BRISK, DCA, GRID, Daemon, assert_gapless, names_of, running

STATES = ("draft", "deployed", "paused", "stopped", "error", "deleted")
OPERATIONS = ("update", "deploy", "pause", "stop", "delete", "reset", "trigger")
# The status after each allowed operation, written out from the contract and not taken from the code's own table.
ALLOWED = {
    ("draft", "update"): "draft",
    ("draft", "deploy"): "deployed",
    ("draft", "delete"): "deleted",
    ("deployed", "pause"): "paused",
    ("deployed", "stop"): "stopped",
    ("deployed", "trigger"): "deployed",
    ("paused", "update"): "paused",
    ("paused", "deploy"): "deployed",
    ("paused", "stop"): "stopped",
    ("paused", "delete"): "deleted",
    ("stopped", "delete"): "deleted",
    ("error", "stop"): "stopped",
    ("error", "delete"): "deleted",
    ("error", "reset"): "paused",
}
ARGUMENTS: dict[str, dict[str, Any]] = {"update": {"capital": "7000.00"}}
TOLD = {"deployed": "deployed", "paused": "paused", "stopped": "stopped"}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Generator[Daemon, None, None]:
    """Run one daemon for all tests of this file: each has strategies of its own."""
    with running(tmp_path_factory.mktemp("lifecycle"), BRISK) as started:
        yield started


def brought_to(daemon: Daemon, state: str, name: str) -> str:
    """Create a strategy and bring it to a state."""
    one = daemon.create(name)
    if state not in ("draft", "deleted"):
        daemon.ask("strategy.deploy", id=one, dry_run=True)
    match state:
        case "paused":
            daemon.ask("strategy.pause", id=one)
        case "stopped":
            daemon.ask("strategy.stop", id=one)
        case "error":
            daemon.ask("sim.halt", id=one)
        case "deleted":
            daemon.ask("strategy.delete", id=one)
        case _:
            pass
    return one


def holding(daemon: Daemon, name: str, *, lots: int = 2, dry_run: bool = True) -> str:
    """Deploy a strategy that buys every five minutes, and wait until it holds some positions."""
    one = daemon.create(name, DCA)
    daemon.ask("strategy.deploy", id=one, dry_run=dry_run)
    daemon.wait_for(lambda: daemon.get(one)["stats"]["open_positions"] >= lots)
    return one


@pytest.mark.parametrize(("state", "operation"), sorted(ALLOWED))
def test_an_allowed_operation_answers_the_object_in_its_new_status(daemon: Daemon, state: str, operation: str) -> None:
    one = brought_to(daemon, state, f"{state} {operation}")
    before = daemon.get(one)

    answer = daemon.ask(f"strategy.{operation}", id=one, **ARGUMENTS.get(operation, {}))

    after = ALLOWED[state, operation]
    if after == "deleted":
        assert answer == {"deleted": True, "id": one}
        assert daemon.refusal("strategy.get", id=one) == "NOT_FOUND"
        return
    shown = daemon.get(one)
    assert shown["status"] == after
    assert set(shown) == set(before)
    if operation == "trigger":
        assert len(answer["run_ids"]) == 1
        assert daemon.ask("run.get", id=answer["run_ids"][0])["strategy_id"] == one
    else:
        assert {**answer, "stats": {}} == {**shown, "stats": {}}
    events = daemon.events(one)
    assert_gapless(events)
    if after != state:
        assert [event for event in events if event["event"] in STATES][-1]["event"] == TOLD[after]


@pytest.mark.parametrize(("state", "operation"), sorted(set(product(STATES, OPERATIONS)) - set(ALLOWED)))
def test_a_forbidden_operation_is_refused_and_changes_nothing(daemon: Daemon, state: str, operation: str) -> None:
    one = brought_to(daemon, state, f"{state} not {operation}")
    before = None if state == "deleted" else daemon.get(one)

    code = daemon.refusal(f"strategy.{operation}", id=one, **ARGUMENTS.get(operation, {}))

    assert code == ("NOT_FOUND" if state == "deleted" else "INVALID_STATE")
    if before is not None:
        after = daemon.get(one)
        assert {**after, "stats": {}} == {**before, "stats": {}}


def test_the_engine_may_halt_only_what_runs(daemon: Daemon) -> None:
    for state in ("draft", "stopped", "error"):
        assert daemon.refusal("sim.halt", id=brought_to(daemon, state, f"{state} halt")) == "INVALID_STATE"
    halted = daemon.ask("sim.halt", id=brought_to(daemon, "paused", "paused halt"))
    assert halted["status"] == "error"
    assert halted["error"]["code"] == "SIM_HALT"
    assert halted["error"]["message"]


def test_pausing_with_close_closes_everything_before_it_answers(daemon: Daemon) -> None:
    one = holding(daemon, "closing")

    paused = daemon.ask("strategy.pause", id=one, close_positions=True)

    events = daemon.events(one)
    assert paused["status"] == "paused"
    assert paused["stats"]["open_positions"] == 0
    assert paused["stats"]["total_trades"] >= 2
    assert events[-1]["event"] == "paused"
    assert events[-1]["data"] == {"status": "paused", "close_positions": True, "open_positions": 0}
    closed = [event["data"] for event in events if event["event"] == "position_closed"]
    assert len(closed) == names_of(events).count("position_opened") == paused["stats"]["total_trades"]
    assert {each["reason"] for each in closed} == {"pause_close"}
    assert_gapless(events)


def test_pausing_right_after_a_deployment_closes_what_was_on_its_way(daemon: Daemon) -> None:
    for number in range(10):
        one = daemon.create(f"on its way {number}", DCA)
        daemon.ask("strategy.deploy", id=one, dry_run=True)
        paused = daemon.ask("strategy.pause", id=one, close_positions=True)

        events = names_of(daemon.events(one))
        assert (paused["status"], paused["stats"]["open_positions"]) == ("paused", 0)
        assert daemon.get(one)["stats"]["open_positions"] == 0
        assert events.count("position_opened") == events.count("position_closed")
        assert events[-1] == "paused"


def test_pausing_without_close_keeps_positions_and_opens_nothing_new(daemon: Daemon) -> None:
    one = holding(daemon, "keeping")

    paused = daemon.ask("strategy.pause", id=one)
    held = paused["stats"]["open_positions"]
    candles = daemon.ask("status")["market"]["candles"]
    daemon.wait_for(lambda: daemon.ask("status")["market"]["candles"] >= candles + 10)

    assert held >= 2
    assert daemon.get(one)["stats"]["open_positions"] == held
    assert daemon.events(one)[-1]["event"] == "paused"
    assert daemon.ask("strategy.orders", id=one, state="working")["data"] == []


def test_stopping_with_close_closes_and_without_it_reports_what_is_left(daemon: Daemon) -> None:
    closing, leaving = holding(daemon, "stop closing"), holding(daemon, "stop leaving")

    closed = daemon.ask("strategy.stop", id=closing, close_positions=True)
    left = daemon.ask("strategy.stop", id=leaving)

    assert closed["stats"]["open_positions"] == 0
    assert daemon.events(closing)[-1]["data"] == {"status": "stopped", "open_positions": []}
    assert left["stats"]["open_positions"] >= 2
    reported = daemon.events(leaving)[-1]["data"]["open_positions"]
    assert len(reported) == left["stats"]["open_positions"]
    assert left["run"]["ended_at"] is not None
    assert daemon.get(leaving)["stats"]["open_positions"] == len(reported)


def test_overrides_of_a_deployment_leave_the_definition_as_it_is(daemon: Daemon) -> None:
    one = daemon.create("overriding")

    deployed = daemon.ask("strategy.deploy", id=one, capital="900.00", leverage=5, dry_run=True)

    assert (deployed["capital"], deployed["leverage"]) == ("5000.00", 2)
    assert (deployed["run"]["capital"], deployed["run"]["leverage"]) == ("900.00", 5)
    assert deployed["dry_run"] is True
    assert deployed["deployed_at"] is not None
    daemon.ask("strategy.pause", id=one)
    again = daemon.ask("strategy.deploy", id=one, dry_run=True)
    assert (again["run"]["capital"], again["run"]["leverage"]) == ("5000.00", 2)
    assert again["run"]["id"] != deployed["run"]["id"]


def test_capital_below_the_templates_minimum_is_refused_at_deployment(daemon: Daemon) -> None:
    one = daemon.create("too small")

    assert daemon.refusal("strategy.deploy", id=one, capital="1.00") == "INVALID_PARAMETER"
    assert daemon.refusal("strategy.deploy", id=one, leverage=21) == "INVALID_PARAMETER"
    assert daemon.get(one)["status"] == "draft"


def test_an_update_replaces_params_in_full_and_leaves_what_is_absent(daemon: Daemon) -> None:
    wide = {**GRID["params"], "grid_levels": 10, "spacing": "geometric"}
    one = daemon.create("replaced", params=wide)

    updated = daemon.ask("strategy.update", id=one, params=GRID["params"])

    assert updated["params"] == GRID["params"]
    assert (updated["capital"], updated["symbols"]) == ("5000.00", ["BTCUSDT"])
    assert daemon.refusal("strategy.update", id=one, params={"grid_levels": 6}) == "INVALID_PARAMETER"
    assert daemon.refusal("strategy.update", id=one, template_id="tpl_dca") == "INVALID_PARAMETER"
    assert daemon.refusal("strategy.update", id=one, dry_run=True) == "INVALID_PARAMETER"
    assert daemon.get(one) == updated


def test_an_empty_update_changes_nothing_at_all(daemon: Daemon) -> None:
    one = daemon.create("empty")
    before = daemon.get(one)

    assert daemon.ask("strategy.update", id=one) == before
    assert daemon.ask("strategy.update", id=one, name="empty") == before


def test_a_change_of_a_paused_strategy_takes_effect_at_its_next_deployment(daemon: Daemon) -> None:
    one = brought_to(daemon, "paused", "changed later")
    new = {**GRID["params"], "grid_levels": 12}

    changed = daemon.ask("strategy.update", id=one, params=new, symbols=["ETHUSDT"], capital="6000.00")

    assert changed["params"] == new
    assert [each["symbol"] for each in daemon.ask("strategy.state", id=one)["symbols"]] == ["BTCUSDT"]
    assert changed["run"]["capital"] == "5000.00"
    deployed = daemon.ask("strategy.deploy", id=one, dry_run=True)
    assert [each["symbol"] for each in daemon.ask("strategy.state", id=one)["symbols"]] == ["ETHUSDT"]
    assert deployed["run"]["capital"] == "6000.00"


def test_what_is_held_keeps_its_symbol_and_its_template(daemon: Daemon) -> None:
    one = holding(daemon, "held")
    daemon.ask("strategy.pause", id=one)

    assert daemon.refusal("strategy.update", id=one, symbols=["ETHUSDT"]) == "INVALID_STATE"
    other = {"template_id": "tpl_grid", "params": GRID["params"]}
    assert daemon.refusal("strategy.update", id=one, **other) == "INVALID_STATE"
    assert daemon.ask("strategy.update", id=one, symbols=["BTCUSDT", "ETHUSDT"])["symbols"] == ["BTCUSDT", "ETHUSDT"]


def test_live_positions_forbid_deletion_and_paper_ones_are_dropped(daemon: Daemon) -> None:
    live, paper = holding(daemon, "live", dry_run=False), holding(daemon, "paper")
    for one in (live, paper):
        daemon.ask("strategy.pause", id=one)

    assert daemon.refusal("strategy.delete", id=live) == "INVALID_STATE"
    assert daemon.ask("strategy.delete", id=paper) == {"deleted": True, "id": paper}
    assert daemon.ask("strategy.trades", id=paper)["data"] == []
    daemon.ask("strategy.deploy", id=live)
    daemon.ask("strategy.pause", id=live, close_positions=True)
    assert daemon.ask("strategy.delete", id=live) == {"deleted": True, "id": live}
    assert len(daemon.ask("strategy.trades", id=live)["data"]) >= 2


def test_a_mode_with_open_positions_cannot_be_left(daemon: Daemon) -> None:
    one = holding(daemon, "mode")
    daemon.ask("strategy.pause", id=one)

    assert daemon.refusal("strategy.deploy", id=one, dry_run=False) == "INVALID_STATE"
    daemon.ask("strategy.deploy", id=one, dry_run=True)
    daemon.ask("strategy.pause", id=one, close_positions=True)
    assert daemon.ask("strategy.deploy", id=one, dry_run=False)["dry_run"] is False


def test_names_are_unique_until_they_are_given_up(daemon: Daemon) -> None:
    first, second = daemon.create("taken"), daemon.create("other")

    assert daemon.refusal("strategy.create", name="taken", **GRID) == "DUPLICATE_NAME"
    assert daemon.refusal("strategy.update", id=second, name="taken") == "DUPLICATE_NAME"
    assert daemon.ask("strategy.update", id=first, name="moved")["name"] == "moved"
    assert daemon.ask("strategy.update", id=second, name="taken")["name"] == "taken"
    assert daemon.refusal("strategy.create", name="moved", **GRID) == "DUPLICATE_NAME"
    daemon.ask("strategy.delete", id=first)
    assert daemon.create("moved") != first


def test_everything_stands_after_a_kill(daemon: Daemon) -> None:
    ids = {state: brought_to(daemon, state, f"survives {state}") for state in STATES}
    before = {state: daemon.get(one) for state, one in ids.items() if state != "deleted"}
    daemon.kill()
    daemon.start()

    for state, shown in before.items():
        assert {**daemon.get(ids[state]), "stats": {}} == {**shown, "stats": {}}
        assert daemon.get(ids[state])["status"] == state
    assert daemon.refusal("strategy.get", id=ids["deleted"]) == "NOT_FOUND"
    assert daemon.refusal("strategy.create", name="survives draft", **GRID) == "DUPLICATE_NAME"
    assert daemon.create("survives deleted") not in ids.values()
    assert daemon.ask("strategy.reset", id=ids["error"])["status"] == "paused"
