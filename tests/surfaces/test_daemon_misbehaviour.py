"""What a strategy may do at worst ends that strategy, with a cause that a person understands, and no other."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from attrs import frozen

from tests.surfaces.daemon import BRISK, Daemon, assert_gapless, names_of, running
from tests.surfaces.plugins import install

NEIGHBOURS = 100
# Three attempts without long waits in between, so that the worst is over soon.
CONFIG = f"{BRISK}\n[supervision]\nrestarts_max = 2\nbackoff_min_s = 0.01\nbackoff_max_s = 0.05\n"
CRASH = "ENGINE_CRASH"
# What each misdeed is called when it is told; the place is told besides.
RAISED = {
    "value_error": "ValueError: the sky is falling",
    "no_message": "AssertionError: no message",
    "unprintable": "Unprintable: its message cannot be read",
    "system_exit": "SystemExit: I am leaving",
    "keyboard_interrupt": "KeyboardInterrupt: no message",
    "generator_exit": "GeneratorExit: enough",
    "stop_iteration": "RuntimeError: Hostile.on_candle raised StopIteration",
    "group": "2 errors: ValueError: the first",
    "base_group": "2 errors: SystemExit: 3",
    "recursion": "RecursionError: maximum recursion depth exceeded",
    "spawn": "RuntimeError: a template may not start threads",
    "spin": "RuntimeError: a template may not start threads",
}
NONSENSE = {
    "pour": "Hostile.on_candle returned more than 512 intents at once",
    "flood": "Hostile.on_candle returned more than 512 intents at once",
    "nothing": "Hostile.on_candle returned None; return intents, or () for none",
    "number": "Hostile.on_candle returned 42; return intents, or () for none",
    "objects": "Hostile.on_candle",
    "not_a_number": "NaN",
    "infinite": "Infinity",
    "negative": "-1",
    "float": "1.5",
    "text": "'1'",
    "foreign_symbol": "DOGEUSDT",
    "no_amount": "exactly one of quantity, notional and risk must be given",
    "huge": "quantity has more than 18 digits before the point: 1E+999999",
    "fork": "RuntimeError: a template may not start processes",
    "spoil": "what the template remembers cannot be stored",
}
# Nobody raised these where they were made, so that nothing tells their place.
UNPLACED = frozenset({"stop_iteration", "group", "base_group"})
PLACES = ("init", "features", "wakes", "allocation", "on_start", "on_candle", "on_opened", "on_closed", "on_price")


@frozen
class Case:
    """One misdeed at one place, and what the daemon is to say of it."""

    misdeed: str
    place: str
    code: str
    cause: str

    @property
    def name(self) -> str:
        return f"{self.misdeed} in {self.place}"


CASES = (
    *(Case(misdeed, "on_candle", CRASH, cause) for misdeed, cause in (RAISED | NONSENSE).items()),
    *(Case("loop", place, "CALLBACK_OVERRUN", "ran for") for place in PLACES),
    *(Case("value_error", place, CRASH, RAISED["value_error"]) for place in PLACES if place != "on_candle"),
    *(Case("system_exit", place, CRASH, RAISED["system_exit"]) for place in PLACES if place != "on_candle"),
    *(Case("recursion", place, CRASH, RAISED["recursion"]) for place in PLACES if place != "on_candle"),
    *(Case("number", place, CRASH, f"Hostile.{place} returned 42") for place in ("on_start", "on_opened", "on_closed")),
)


@frozen
class Village:
    """A daemon in which all the hostile have come to their end, among neighbours who do no harm."""

    daemon: Daemon
    hostile: dict[str, str]
    neighbours: list[str]
    told: dict[str, Any]


@pytest.fixture(scope="module")
def village(tmp_path_factory: pytest.TempPathFactory) -> Generator[Village, None, None]:
    """Deploy the harmless and the hostile by turns, and wait until the worst is over."""
    folder = tmp_path_factory.mktemp("village")
    with running(folder / "daemon", CONFIG, variables=install("plugin_hostile", folder)) as daemon:
        harmless: dict[str, Any] = {
            "template_id": "tpl_vigilant",
            "params": {},
            "symbols": ["BTCUSDT", "ETHUSDT"],
            "timeframe": "1m",
            "capital": "1000.00",
        }
        neighbours = [daemon.create(f"neighbour {number}", harmless) for number in range(NEIGHBOURS)]
        hostile: dict[str, str] = {}
        for case in CASES:
            params = {"misdeed": case.misdeed, "place": case.place}
            shape = {**harmless, "template_id": "tpl_hostile", "params": params, "symbols": ["BTCUSDT"]}
            hostile[case.name] = daemon.create(case.name, {**shape, "capital": "5000.00"})
        for each in [*neighbours[::2], *hostile.values(), *neighbours[1::2]]:
            daemon.ask("strategy.deploy", id=each, dry_run=True)
        begun = daemon.ask("status")["market"]["candles"]
        daemon.wait_for(lambda: daemon.ask("status")["market"]["candles"] >= begun + 40)
        told = {name: daemon.get(one) for name, one in hostile.items()}
        yield Village(daemon, hostile, neighbours, told)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_misdeed_ends_in_error_with_an_understandable_cause(village: Village, case: Case) -> None:
    told = village.told[case.name]

    assert told["status"] == "error"
    assert told["error"]["code"] == case.code
    assert case.cause in told["error"]["message"]
    assert "Traceback" not in told["error"]["message"]
    if case.misdeed in RAISED and case.misdeed not in UNPLACED:
        assert "hostile.py line" in told["error"]["message"]
    events = village.daemon.events(village.hostile[case.name])
    assert_gapless(events)
    assert names_of(events).count("error") == 1


def test_the_neighbours_miss_no_candle(village: Village) -> None:
    daemon = village.daemon
    for neighbour in village.neighbours:
        state = daemon.ask("strategy.state", id=neighbour)
        assert (state["status"], state["restarts"]) == ("deployed", 0), daemon.get(neighbour)["error"]
    now = daemon.ask("status")["venue_time"]
    behind = [neighbour for neighbour in village.neighbours if not reached(daemon, neighbour, now)]
    assert behind == []


def reached(daemon: Daemon, one: str, moment: str) -> bool:
    """Tell whether a strategy was asked about the last candle before a moment, on each of its symbols."""
    minute = f"{moment[:16]}:00.000Z"
    return all(each["evaluated_at"] >= minute for each in daemon.ask("strategy.state", id=one)["symbols"])


def test_the_daemon_itself_took_no_harm(village: Village) -> None:
    daemon = village.daemon
    assert daemon.ask("status")["state"] == "running"
    assert [child["name"] for child in daemon.ask("actors")["data"] if child["restarts"]] == []
    assert daemon.ask("metrics")["data"]["pipaid_activity"] < 5
    assert daemon.said("child.failed") == []


def test_one_in_error_can_be_stopped_reset_and_deleted(village: Village) -> None:
    daemon = village.daemon
    stopped, reset, deleted = (
        village.hostile[f"{misdeed} in on_start"] for misdeed in ("value_error", "loop", "number")
    )

    assert daemon.ask("strategy.stop", id=stopped)["status"] == "stopped"
    again = daemon.ask("strategy.reset", id=reset)
    assert (again["status"], again["error"]) == ("paused", None)
    assert daemon.ask("strategy.deploy", id=reset, dry_run=True)["id"] == reset
    daemon.wait_for(lambda: daemon.get(reset)["status"] == "error")
    assert daemon.ask("strategy.delete", id=deleted)["deleted"] is True


@pytest.mark.parametrize("misdeed", sorted({*RAISED, "loop", "nothing", "number"} - {"recursion"}))
def test_a_template_that_breaks_while_params_are_checked_is_refused(village: Village, misdeed: str) -> None:
    shape = {"template_id": "tpl_hostile", "params": {"misdeed": misdeed, "place": "check"}, "symbols": ["BTCUSDT"],
             "timeframe": "1m", "capital": "1000.00"}  # fmt: skip

    assert village.daemon.refusal("strategy.create", name=f"checked {misdeed}", **shape) == "INVALID_PARAMETER"
    assert village.daemon.ask("ping")["pong"] is True
