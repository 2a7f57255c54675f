"""Webhooks of a real daemon: over HTTP as documented, and no event lost however often the daemon is killed."""

from __future__ import annotations

import random
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.surfaces.api import SEPARATE, Api, User, serving
from tests.surfaces.daemon import BRISK, DCA, Daemon, running
from tests.surfaces.receivers import Receiver, receiving

PRIVATE = "\n[webhooks]\nallow_private_targets = true\n"
HOOKS = "/v1/webhooks"
WITHIN_S = 60.0
KILLS = 3


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Generator[Api, None, None]:
    with serving(tmp_path_factory.mktemp("webhooks"), SEPARATE + PRIVATE) as started:
        yield started


@pytest.fixture
def receiver() -> Generator[Receiver, None, None]:
    with receiving() as started:
        yield started


def made(user: User, receiver: Receiver, *events: str, **more: Any) -> dict[str, Any]:
    answer = user.send("POST", HOOKS, {"url": receiver.url, "events": events or ("*",), **more})
    assert answer.status_code == 201, answer.text
    receiver.secret = answer.json()["secret"]
    return dict(answer.json())


def test_over_http_a_webhook_lives_as_documented(api: Api, receiver: Receiver) -> None:
    user = api.user("webhooks:read", "webhooks:write")
    webhook = made(user, receiver, "strategy.*", description="mine")
    one = f"{HOOKS}/{webhook['id']}"

    assert (webhook["status"], len(webhook["secret"])) == ("active", 40)
    assert "secret" not in user.send("GET", one).json()
    assert [each["id"] for each in user.send("GET", HOOKS).json()["data"]] == [webhook["id"]]
    assert user.send("PATCH", one, {"status": "paused"}).json()["status"] == "paused"
    assert user.send("GET", f"{HOOKS}?status=active").json() == {"data": [], "next_cursor": None}
    tested = user.send("POST", f"{one}/test", {})
    assert (tested.status_code, tested.json()["delivered"], tested.json()["response_status"]) == (200, True, 200)
    fresh = user.send("POST", f"{one}/rotate-secret")
    assert fresh.json()["secret"] != webhook["secret"]
    assert user.send("GET", f"{one}/deliveries").json() == {"data": [], "next_cursor": None}
    assert user.send("DELETE", one).json() == {"deleted": True, "id": webhook["id"]}
    assert user.send("GET", one).json()["code"] == "NOT_FOUND"
    assert receiver.forged == 0


def test_a_test_that_fails_is_still_answered_well(api: Api, receiver: Receiver) -> None:
    user = api.user("trade")
    webhook = made(user, receiver)
    receiver.answer = lambda attempt, letter: 500
    answer = user.send("POST", f"{HOOKS}/{webhook['id']}/test", {"event_type": "strategy.position_closed"})

    assert answer.status_code == 200
    assert (answer.json()["delivered"], answer.json()["error"]) == (False, "it answered 500")
    user.send("DELETE", f"{HOOKS}/{webhook['id']}")


def test_strangers_and_keys_without_the_scope_are_refused(api: Api, receiver: Receiver) -> None:
    owner = api.user("trade")
    one = f"{HOOKS}/{made(owner, receiver)['id']}"
    account = api.daemon.ask("account.create", name="another")["id"]
    stranger, reader, other = api.user("trade", account=account), api.user("read-only"), api.user("strategies:write")
    forger = User(api.url, owner.api_key, "not the secret")
    body = {"url": receiver.url, "events": ["*"]}
    calls: list[tuple[str, str, Any]] = [
        ("GET", one, None), ("PATCH", one, {"status": "paused"}), ("DELETE", one, None), ("POST", f"{one}/test", {}),
        ("POST", f"{one}/rotate-secret", None), ("GET", f"{one}/deliveries", None),
    ]  # fmt: skip

    assert {stranger.send(*call).status_code for call in calls} == {404}
    assert {stranger.send(*call).json()["code"] for call in calls} == {"NOT_FOUND"}
    assert {forger.send(*call).status_code for call in [*calls, ("POST", HOOKS, body), ("GET", HOOKS, None)]} == {401}
    assert {other.send(*call).status_code for call in [*calls, ("POST", HOOKS, body), ("GET", HOOKS, None)]} == {403}
    writing = [call for call in calls if call[0] != "GET"]
    assert {reader.send(*call).status_code for call in [*writing, ("POST", HOOKS, body)]} == {403}
    assert reader.send("GET", one).status_code == 200
    assert owner.send("DELETE", one).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "ftp://example.com", "events": ["*"]}, "url"),
        ({"url": "https://example.com", "events": []}, "events"),
        ({"url": "https://example.com", "events": ["account.balance_low"]}, "balance_low_threshold"),
    ],
)
def test_what_is_wrong_is_named(api: Api, body: dict[str, Any], field: str) -> None:
    answer = api.user("trade").send("POST", HOOKS, body)

    assert answer.status_code == 400
    assert [each["field"] for each in answer.json()["details"]] == [field]


def test_a_repeated_creation_makes_one_webhook_and_tells_no_secret_again(api: Api, receiver: Receiver) -> None:
    user = api.user("trade")
    body = {"url": receiver.url, "events": ["*"]}
    first, second = (user.send("POST", HOOKS, body, headers={"Idempotency-Key": "once"}).json() for _ in range(2))

    assert first["id"] == second["id"]
    assert (len(first["secret"]), second["secret"]) == (40, None)
    user.send("DELETE", f"{HOOKS}/{first['id']}")


def test_what_befalls_an_account_is_delivered(api: Api, receiver: Receiver) -> None:
    user = api.user("trade")
    webhook = made(user, receiver, "*")
    strategy = api.daemon.create("told of")
    api.daemon.ask("strategy.update", id=strategy, capital="6000")
    key = api.daemon.ask("key.create", name="another", scopes=["read-only"])
    api.daemon.ask("key.rotate", id=key["api_key"])
    api.daemon.ask("kill.activate", reason="a drill")
    api.daemon.ask("kill.deactivate")
    api.daemon.ask("strategy.deploy", id=strategy, dry_run=True)
    api.daemon.ask("strategy.pause", id=strategy)
    job = api.daemon.ask(
        "backtest.create", strategy_id=strategy, start="2025-05-30T00:00:00Z", end="2025-05-30T06:00:00Z"
    )
    expected = {
        "strategy.created", "strategy.updated", "account.api_key_rotated", "account.kill_switch", "strategy.deployed",
        "strategy.paused", "backtest.job_done",
    }  # fmt: skip
    api.daemon.wait_for(lambda: expected <= set(receiver.types()), within_s=WITHIN_S)
    letters = {letter["type"]: letter["data"] for letter in receiver.taken.values()}

    assert letters["strategy.created"]["strategy"]["id"] == strategy
    assert (letters["strategy.deployed"]["strategy_id"], letters["strategy.deployed"]["name"]) == (strategy, "told of")
    assert letters["backtest.job_done"]["job_id"] == job["id"]
    assert letters["backtest.job_done"]["strategy_id"] == strategy
    assert letters["backtest.job_done"]["metrics"]["total_trades"] >= 0
    assert letters["account.api_key_rotated"]["key_prefix"] == key["api_key"][:11]
    assert receiver.forged == 0
    user.send("DELETE", f"{HOOKS}/{webhook['id']}")


def test_nothing_is_lost_over_kills_with_a_backlog(tmp_path: Path, receiver: Receiver) -> None:
    chance = random.Random(7)
    # Half of all fails the first time, and so waits when the daemon is killed.
    receiver.answer = lambda attempt, letter: 503 if attempt == 1 and int(letter["id"][-1], 16) % 2 else 200
    with running(tmp_path, BRISK + PRIVATE) as daemon:
        webhook = daemon.ask("webhook.create", url=receiver.url, events=["strategy.*"])
        receiver.secret = webhook["secret"]
        strategies = [daemon.create(f"dca {number}", DCA) for number in range(3)]
        for strategy in strategies:
            daemon.ask("strategy.deploy", id=strategy, dry_run=True)
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.3, 1.5))
            daemon.kill()
            daemon.start()
        for strategy in strategies:
            daemon.ask("strategy.stop", id=strategy, close_positions=True)
        told = {event["event_id"] for strategy in strategies for event in daemon.events(strategy)}
        daemon.wait_for(lambda: told <= set(receiver.taken), within_s=WITHIN_S)
        daemon.wait_for(lambda: not waiting(daemon), within_s=WITHIN_S)
        shown = daemon.ask("webhook.get", id=webhook["id"])
        daemon.end()
        daemon.verify()

    assert len(told) > 3 * KILLS
    assert (receiver.forged, shown["status"], shown["consecutive_failures"]) == (0, "active", 0)
    assert any(attempt == 2 for _, attempt in receiver.heard)


def waiting(daemon: Daemon) -> int:
    return int(daemon.ask("status")["webhooks"]["waiting"])
