"""Strategies bound to accounts of a real daemon: each cell of the lifecycle for all of them, and kills in its midst."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Generator
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest

from pipaid.errors import NotFound, Unavailable
from tests.surfaces.daemon import BRISK, DCA, Daemon, running
from tests.surfaces.test_daemon_lifecycle import ALLOWED, ARGUMENTS, OPERATIONS, STATES

OWN: Final = "acct_main"
KILLS: Final = 3
BETWEEN_S: Final = (0.05, 0.5)
# A daemon that dies at the first commit that has a record with these words in it, before that is durable or after.
DYING = """
import os, signal
from pipaid.storage.sqlite import SqliteJournal
commit = SqliteJournal.commit
def dying(self, batches):
    records = [record for batch in batches for record in batch.records]
    meant = any(record.entity == "{entity}" and {words!r} in record.data for record in records)
    if meant and "{point}" == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    outcomes = commit(self, batches)
    if meant:
        os.kill(os.getpid(), signal.SIGKILL)
    return outcomes
SqliteJournal.commit = dying
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Generator[Daemon, None, None]:
    with running(tmp_path_factory.mktemp("bindings"), BRISK) as started:
        yield started


@pytest.fixture(scope="module")
def accounts(daemon: Daemon) -> list[str]:
    return [daemon.ask("account.create", name=name)["id"] for name in ("one", "two")]


def bind(daemon: Daemon, leader: str, *accounts: str, **fields: Any) -> list[str]:
    """Bind a strategy to accounts and return who trades there."""
    asked = [daemon.ask("strategy.bind", id=leader, account_id=account, **fields) for account in accounts]
    return [each["strategy_id"] for each in asked]


def family(daemon: Daemon, leader: str) -> dict[str, str]:
    """Return the accounts that a strategy is bound to, and how it stands there."""
    return {each["account_id"]: each["status"] for each in daemon.ask("strategy.bindings", id=leader)["data"]}


def brought_to(daemon: Daemon, accounts: list[str], state: str, name: str) -> str:
    """Create a strategy that is bound to its own account and to others, and bring all of them to a state."""
    one = daemon.create(name)
    followers = bind(daemon, one, OWN, *accounts)
    if state not in ("draft", "deleted"):
        daemon.ask("strategy.deploy", id=one, dry_run=True)
    if state in ("paused", "stopped", "deleted"):
        daemon.ask(
            {"paused": "strategy.pause", "stopped": "strategy.stop", "deleted": "strategy.delete"}[state], id=one
        )
    if state == "error":
        for each in followers:
            daemon.ask("sim.halt", id=each)
    return one


@pytest.mark.parametrize(("state", "operation"), sorted(ALLOWED))
def test_an_allowed_operation_is_carried_out_on_every_account(
    daemon: Daemon, accounts: list[str], state: str, operation: str
) -> None:
    one = brought_to(daemon, accounts, state, f"{state} {operation}")

    answer = daemon.ask(f"strategy.{operation}", id=one, **ARGUMENTS.get(operation, {}))

    after = ALLOWED[state, operation]
    if after == "deleted":
        left = [each["id"] for each in daemon.ask("strategy.list", limit=100)["data"] if each.get("follows") == one]
        assert (daemon.refusal("strategy.get", id=one), left) == ("NOT_FOUND", [])
        return
    assert family(daemon, one) == dict.fromkeys([OWN, *accounts], after)
    if operation == "trigger":
        evaluated = [daemon.ask("run.get", id=each)["account_id"] for each in answer["run_ids"]]
        assert sorted(evaluated) == sorted([OWN, *accounts])


@pytest.mark.parametrize(("state", "operation"), sorted(set(product(STATES, OPERATIONS)) - set(ALLOWED)))
def test_a_forbidden_operation_is_refused_and_changes_nothing_on_any_account(
    daemon: Daemon, accounts: list[str], state: str, operation: str
) -> None:
    one = brought_to(daemon, accounts, state, f"{state} not {operation}")
    before = None if state == "deleted" else family(daemon, one)

    code = daemon.refusal(f"strategy.{operation}", id=one, **ARGUMENTS.get(operation, {}))

    assert code == ("NOT_FOUND" if state == "deleted" else "INVALID_STATE")
    assert before is None or family(daemon, one) == before


@pytest.mark.parametrize("state", STATES)
def test_a_strategy_is_bound_until_it_is_stopped_and_parted_in_any_state(
    daemon: Daemon, accounts: list[str], state: str
) -> None:
    first, second = accounts
    one = brought_to(daemon, [first], state, f"{state} bound")
    if state in ("stopped", "deleted"):
        code = daemon.refusal("strategy.bind", id=one, account_id=second)
        assert code == ("NOT_FOUND" if state == "deleted" else "INVALID_STATE")
    else:
        bind(daemon, one, second)
        assert family(daemon, one)[second] == ("deployed" if state == "deployed" else "draft")
    if state == "deleted":
        assert daemon.refusal("strategy.unbind", id=one, account_id=first) == "NOT_FOUND"
    else:
        parted = daemon.ask("strategy.unbind", id=one, account_id=first)
        assert daemon.refusal("strategy.get", id=parted["strategy_id"]) == "NOT_FOUND"
        assert daemon.ask("strategy.trades", id=parted["strategy_id"])["data"] == []
        assert first not in family(daemon, one)


def test_the_command_line_binds_lists_and_parts(daemon: Daemon, accounts: list[str]) -> None:
    daemon.create("by hand")

    daemon.pipaid("strategy", "bind", "by hand", accounts[0], "--capital-share", "0.25")
    daemon.pipaid("deploy", "by hand", "--dry-run")
    listed = daemon.pipaid("strategy", "bindings", "by hand")
    daemon.pipaid("pause", "by hand")
    daemon.pipaid("strategy", "unbind", "by hand", accounts[0])

    heads, _, row = listed.splitlines()
    assert heads.split()[:4] == ["ACCOUNT", "SHARE", "CAPITAL", "ENABLED"]
    assert row.split()[:4] == [accounts[0], "0.25", "1250.00", "yes"]
    assert "nothing to list" in daemon.pipaid("strategy", "bindings", "by hand")


# Kills.


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Generator[Daemon, None, None]:
    with running(tmp_path_factory.mktemp("mortal"), BRISK) as started:
        for name in ("one", "two"):
            started.ask("account.create", name=name)
        yield started


@pytest.fixture(scope="module")
def bindable(mortal: Daemon) -> list[str]:
    return [each["id"] for each in mortal.ask("account.list")["data"] if each["id"] != OWN]


def die_over(daemon: Daemon, point: str, entity: str, words: str, op: str, **args: Any) -> None:
    """Ask a daemon that dies over just this, and start another one."""
    daemon.end()
    daemon.before = f"exec({DYING.format(point=point, entity=entity, words=words.encode())!r})"
    daemon.start()
    daemon.before = "pass"
    with pytest.raises(Unavailable):
        daemon.ask(op, **args)
    assert daemon.process is not None
    daemon.process.wait()
    daemon.start()


def sound(daemon: Daemon) -> None:
    """Demand that no binding is without its follower, no order is there twice, and every fill adds up."""
    listed = daemon.ask("strategy.list", limit=100)["data"]
    there = {each["id"]: each for each in listed}
    bound = {each["strategy_id"]: one["id"] for one in listed for each in one.get("bindings", ())}
    assert all(there[follower].get("follows", leader) == leader for follower, leader in bound.items())
    assert {each["id"] for each in listed if "follows" in each} <= bound.keys()
    # Asked of a leader, the orders of all who follow it come with its own.
    orders = [
        order["client_order_id"]
        for one in listed
        if "follows" not in one
        for order in daemon.ask("strategy.orders", id=one["id"], limit=100)["data"]
    ]
    assert [key for key, count in Counter(orders).items() if count > 1] == []


@pytest.mark.parametrize("point", ["before", "after"])
def test_a_daemon_that_dies_over_a_binding_has_it_wholly_or_not_at_all(
    mortal: Daemon, bindable: list[str], point: str
) -> None:
    one = mortal.create(f"dying {point}", DCA)
    bind(mortal, one, OWN)
    mortal.ask("strategy.deploy", id=one, dry_run=True)
    account = bindable[0]

    die_over(mortal, point, "binding", account, "strategy.bind", id=one, account_id=account)
    assert family(mortal, one) == {OWN: "deployed", **({account: "deployed"} if point == "after" else {})}
    sound(mortal)
    # To ask once more finishes it or changes nothing.
    (follower,) = bind(mortal, one, account)
    assert family(mortal, one) == {OWN: "deployed", account: "deployed"}
    mortal.wait_for(lambda: mortal.get(follower)["stats"]["open_positions"] >= 1)
    held = mortal.get(follower)["stats"]["open_positions"]

    mortal.end()
    mortal.start()
    assert mortal.get(follower)["stats"]["open_positions"] >= held
    # The first record of its end is that of the follower.
    die_over(mortal, point, "strategy", f'"follows":"{one}"', "strategy.unbind", id=one, account_id=account)
    assert family(mortal, one) == {OWN: "deployed", **({account: "deployed"} if point == "before" else {})}
    sound(mortal)
    if point == "before":
        mortal.wait_for(lambda: mortal.get(follower)["stats"]["open_positions"] >= held)
        mortal.ask("strategy.unbind", id=one, account_id=account)
    assert mortal.refusal("strategy.unbind", id=one, account_id=account) == "NOT_FOUND"
    assert family(mortal, one) == {OWN: "deployed"}
    mortal.ask("strategy.stop", id=one)


@pytest.mark.parametrize("point", ["before", "after"])
def test_a_daemon_that_dies_over_a_trigger_has_each_evaluation_wholly_or_not_at_all(
    mortal: Daemon, bindable: list[str], point: str
) -> None:
    one = mortal.create(f"triggered {point}")
    followers = bind(mortal, one, OWN, *bindable)
    mortal.ask("strategy.deploy", id=one, dry_run=True)

    die_over(mortal, point, "run", '"cause":"trigger"', "strategy.trigger", id=one)

    runs = {each: triggered(mortal, each) for each in followers}
    assert all(len(found) <= 1 for found in runs.values())
    assert sum(map(len, runs.values())) >= (1 if point == "after" else 0)
    for each, found in runs.items():
        assert mortal.ask("strategy.state", id=each)["evaluations"] >= len(found)
    sound(mortal)
    assert len(mortal.ask("strategy.trigger", id=one)["run_ids"]) == 3
    mortal.ask("strategy.stop", id=one)


def triggered(daemon: Daemon, id: str) -> list[Any]:
    page = daemon.ask("strategy.runs", id=id, limit=100)
    return [each for each in page["data"] if each["cause"] == "trigger" and each["strategy_id"] == id]


def test_kills_at_any_moment_break_no_promise(tmp_path: Path) -> None:
    chance = random.Random(11)
    with running(tmp_path, BRISK) as daemon:
        account = daemon.ask("account.create", name="one")["id"]
        leaders = [daemon.create(f"leader {number}", DCA) for number in range(3)]
        for one in leaders:
            bind(daemon, one, OWN)
            daemon.ask("strategy.deploy", id=one, dry_run=True)
        over = threading.Event()
        promised: dict[str, set[bool]] = {one: {False} for one in leaders}
        cut: list[str] = []

        def work(one: str) -> None:
            while not over.is_set():
                wanted = promised[one] == {False}
                op = "strategy.bind" if wanted else "strategy.unbind"
                promised[one] = {True, False}
                try:
                    daemon.ask(op, id=one, account_id=account)
                    promised[one] = {wanted}
                    daemon.ask("strategy.trigger", id=one)
                except Unavailable:
                    cut.append(op)
                    time.sleep(BETWEEN_S[0])
                except NotFound:
                    promised[one] = {False}

        threads = [threading.Thread(target=work, args=(one,)) for one in leaders]
        for thread in threads:
            thread.start()
        for _ in range(KILLS):
            time.sleep(chance.uniform(*BETWEEN_S))
            daemon.kill()
            daemon.start()
        time.sleep(BETWEEN_S[1])
        over.set()
        for thread in threads:
            thread.join()

        for one in leaders:
            assert (account in family(daemon, one)) in promised[one]
        sound(daemon)
        daemon.end()
        daemon.verify()
    assert cut
