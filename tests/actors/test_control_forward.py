"""Forwarded requests on the control socket: who signed, what they may, what it costs, and what the log says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from attrs import define, field
from structlog.testing import capture_logs

from actors.control import TURN_MAX
from actors.keys import KeyObject
from pipaid.errors import ExchangeError, InvalidState
from pipaid.model.reply import Deleted, Reply
from pipaid.model.report import Health, Pong
from pipaid.model.request import KeyCreate, ScopeName
from pipaid.wire.caller import Caller, Limits, Role
from pipaid.wire.signing import canonical, sign
from tests.actors.controls import Control, RawClient, Steps, open_control

STRATEGY = "/v1/strategies/strat_00000001"
REQUEST_ID = "req_0123456789ab"


@define
class Signer:
    """Somebody with a key, who signs each request a millisecond after the one before."""

    control: Control
    key: KeyObject
    sent: int = field(default=0)

    def signed(self, method: str, target: str, body: str = "", **changed: Any) -> dict[str, Any]:
        assert isinstance(self.key.secret, str)
        self.sent += 1
        timestamp = str(self.control.clock.us // 1_000 + self.sent)
        signature = sign(self.key.secret.encode(), canonical(timestamp, method, target, body.encode()))
        made = {"api_key": self.key.api_key, "timestamp": timestamp, "signature": signature}
        return {**unsigned(method, target, body=body), **made, **changed}


def unsigned(method: str, target: str, **more: str) -> dict[str, Any]:
    return {"method": method, "target": target, "address": "192.0.2.7", "request_id": REQUEST_ID, **more}


async def signer(control: Control, *scopes: ScopeName, account: str = "acct_main") -> Signer:
    asked = KeyCreate(name="one", scopes=scopes or ("trade",))
    return Signer(control, await control.keys.create(asked, account=account))


async def ask(client: RawClient, op: str, forwarded: dict[str, Any], **more: Any) -> dict[str, Any]:
    await client.ask(1, op, forwarded=forwarded, **more)
    return await client.told()


async def test_a_signed_request_is_carried_out_for_the_account_of_its_key(tmp_path: Path) -> None:
    callers: list[Caller] = []

    async def delete(caller: Caller, request: Any) -> Reply:
        callers.append(caller)
        return Deleted(id=request.id)

    async with open_control(tmp_path, {"strategy.delete": delete}) as control:
        one = await signer(control, account="acct_two")
        async with control.client(Role.FORWARD) as client:
            answer = await ask(client, "strategy.delete", one.signed("DELETE", STRATEGY))

    assert answer["result"] == {"id": "strat_00000001", "deleted": True}
    assert answer["budget"] == {"limit": 1_200, "remaining": 1_195, "full_in_ms": 250}
    (caller,) = callers
    assert (caller.account, caller.api_key, caller.who) == ("acct_two", one.key.api_key, f"key {one.key.api_key}")


async def test_what_nobody_signed_is_taken_where_nothing_is_asked_of_a_key(tmp_path: Path) -> None:
    callers: list[Caller] = []

    async def note(caller: Caller, request: Any) -> Reply:
        callers.append(caller)
        return Pong(ts="")

    async with open_control(tmp_path, {"health": note, "strategy.get": note}) as control:
        async with control.client(Role.FORWARD) as client:
            healthy = await ask(client, "health", unsigned("GET", "/health"))
            refused = await ask(client, "strategy.get", unsigned("GET", STRATEGY))

    assert healthy["ok"] is True
    assert healthy["budget"] == {"limit": 300, "remaining": 300, "full_in_ms": 0}
    assert (refused["error"]["code"], refused["error"]["request_id"]) == ("INVALID_SIGNATURE", REQUEST_ID)
    assert refused["budget"]["remaining"] == 299
    # No account, which is not the same as every account.
    assert [caller.account for caller in callers] == [""]


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "DELETE"},
        {"target": "/v1/strategies/strat_00000002"},
        {"body": "{}"},
        {"timestamp": "1767225600009"},
        {"timestamp": "1767225500001"},
        {"timestamp": ""},
        {"api_key": "pk_000000000000000000000000"},
        {"api_key": ""},
        {"signature": "0" * 64},
        {"signature": "é" * 64},
        {"signature": ""},
    ],
)
async def test_a_request_that_was_changed_after_it_was_signed_is_refused(
    tmp_path: Path, changed: dict[str, str]
) -> None:
    steps = Steps()

    operations = {"strategy.get": steps.perform, "strategy.delete": steps.perform}
    async with open_control(tmp_path, operations) as control:
        one = await signer(control)
        async with control.client(Role.FORWARD) as client:
            op = "strategy.delete" if "method" in changed else "strategy.get"
            answer = await ask(client, op, {**one.signed("GET", STRATEGY), **changed})

    assert answer["error"]["code"] == "INVALID_SIGNATURE"
    assert answer["budget"] == {"limit": 300, "remaining": 299, "full_in_ms": 200}
    assert steps.begun == []


async def test_what_is_asked_for_is_what_was_signed_whatever_the_carrier_says(tmp_path: Path) -> None:
    steps = Steps()

    operations = {"strategy.get": steps.perform, "strategy.delete": steps.perform, "key.list": steps.perform}
    async with open_control(tmp_path, operations) as control:
        one = await signer(control, "trade", "admin")
        async with control.client(Role.FORWARD) as client:
            for op in ("strategy.delete", "key.list", "shutdown"):
                answer = await ask(client, op, one.signed("GET", STRATEGY))
                assert answer["error"]["code"] == "NOT_FOUND"
            await client.ask(1, "strategy.get", {"id": "strat_00000002"}, forwarded=one.signed("GET", STRATEGY))
            assert await client.code() == "INVALID_PARAMETER"

    assert steps.begun == []


async def test_the_forwarding_socket_takes_nothing_of_its_carriers_own(tmp_path: Path) -> None:
    steps = Steps()

    async with open_control(tmp_path, {"strategy.get": steps.perform}) as control:
        async with control.client(Role.FORWARD) as client:
            for op in ("strategy.get", "ping", "events.tail", "shutdown", "key.create"):
                args = {"name": "x", "scopes": ["admin"]} if op == "key.create" else {"id": "strat_00000001"}
                await client.ask(1, op, {} if op in ("ping", "shutdown", "events.tail") else args)
                assert await client.code() == "INSUFFICIENT_PERMISSION"

    assert steps.begun == []


async def test_the_observing_socket_changes_nothing_for_anybody(tmp_path: Path) -> None:
    steps = Steps()

    operations = {"strategy.get": steps.perform, "strategy.delete": steps.perform}
    async with open_control(tmp_path, operations) as control:
        one = await signer(control)
        async with control.client(Role.OBSERVE) as client:
            refused = await ask(client, "strategy.delete", one.signed("DELETE", STRATEGY))
            assert (await ask(client, "strategy.get", one.signed("GET", STRATEGY)))["ok"] is True

    assert refused["error"]["code"] == "INSUFFICIENT_PERMISSION"
    assert steps.begun == ["strat_00000001"]


async def test_a_missing_scope_is_refused_and_charged(tmp_path: Path) -> None:
    steps = Steps()

    async with open_control(tmp_path, {"strategy.delete": steps.perform}) as control:
        one = await signer(control, "read-only")
        async with control.client(Role.FORWARD) as client:
            answer = await ask(client, "strategy.delete", one.signed("DELETE", STRATEGY))

    assert answer["error"]["code"] == "INSUFFICIENT_PERMISSION"
    assert answer["budget"]["remaining"] == 1_195
    assert steps.begun == []


async def test_a_mutation_that_is_heard_again_is_refused_and_a_question_is_not(tmp_path: Path) -> None:
    steps = Steps()

    operations = {"strategy.get": steps.perform, "strategy.delete": steps.perform}
    async with open_control(tmp_path, operations) as control:
        one = await signer(control)
        command, question = one.signed("DELETE", STRATEGY), one.signed("GET", STRATEGY)
        async with control.client(Role.FORWARD) as client:
            for _ in range(2):
                assert (await ask(client, "strategy.get", question))["ok"] is True
            assert (await ask(client, "strategy.delete", command))["ok"] is True
            again = await ask(client, "strategy.delete", command)

    assert again["error"]["code"] == "INVALID_SIGNATURE"
    # Whoever repeats what others signed pays for it, not they.
    assert again["budget"]["limit"] == 300
    assert steps.begun == ["strat_00000001"] * 3


async def test_a_revoked_key_is_told_so(tmp_path: Path) -> None:
    async with open_control(tmp_path) as control:
        one = await signer(control)
        await control.keys.revoke(one.key.api_key)
        async with control.client(Role.FORWARD) as client:
            answer = await ask(client, "strategy.get", one.signed("GET", STRATEGY))

    assert answer["error"]["code"] == "KEY_EXPIRED"


async def test_a_spent_budget_refuses_and_says_when_it_will_do(tmp_path: Path) -> None:
    steps = Steps()

    async with open_control(tmp_path, {"strategy.delete": steps.perform}) as control:
        one = await signer(control)
        async with control.client(Role.FORWARD) as client:
            for _ in range(240):
                assert (await ask(client, "strategy.delete", one.signed("DELETE", STRATEGY)))["ok"] is True
            refused = await ask(client, "strategy.delete", one.signed("DELETE", STRATEGY))
            control.clock.us += 250_000
            again = await ask(client, "strategy.delete", one.signed("DELETE", STRATEGY))

    assert (refused["error"]["code"], refused["error"]["retry_after_ms"]) == ("RATE_LIMITED", 250)
    assert refused["budget"]["remaining"] == 0
    assert again["ok"] is True


async def test_strangers_use_up_the_budget_of_their_address_and_of_no_key(tmp_path: Path) -> None:
    steps = Steps()

    async with open_control(tmp_path, {"strategy.get": steps.perform}) as control:
        one = await signer(control)
        async with control.client(Role.FORWARD) as client:
            codes = [
                (await ask(client, "strategy.get", one.signed("GET", STRATEGY, signature="0" * 64)))["error"]["code"]
                for _ in range(302)
            ]
            honest = await ask(client, "strategy.get", one.signed("GET", STRATEGY))

    assert codes == ["INVALID_SIGNATURE"] * 300 + ["RATE_LIMITED"] * 2
    assert honest["ok"] is True
    assert honest["budget"]["remaining"] == 1_199


async def test_an_idempotency_key_belongs_to_its_account(tmp_path: Path) -> None:
    steps = Steps()

    async with open_control(tmp_path, {"strategy.delete": steps.perform}) as control:
        one, two = await signer(control), await signer(control, account="acct_two")
        async with control.client(Role.FORWARD) as client:
            for who in (one, one, two):
                answer = await ask(client, "strategy.delete", who.signed("DELETE", STRATEGY), idempotency_key="once")
                assert answer["result"]["id"] == "strat_00000001"
            other = one.signed("DELETE", "/v1/strategies/strat_00000002")
            reused = await ask(client, "strategy.delete", other, idempotency_key="once")

    assert steps.done == ["strat_00000001", "strat_00000001"]
    assert reused["error"]["code"] == "INVALID_STATE"


async def test_mutations_that_others_sent_do_not_wait_for_each_other(tmp_path: Path) -> None:
    steps = Steps(gates={"strat_00000001": trio.Event()})

    async with open_control(tmp_path, {"strategy.delete": steps.perform}) as control:
        one = await signer(control)
        async with control.client(Role.FORWARD) as client:
            await client.ask(1, "strategy.delete", forwarded=one.signed("DELETE", STRATEGY))
            await client.ask(2, "strategy.delete", forwarded=one.signed("DELETE", "/v1/strategies/strat_00000002"))
            first = await client.told()
            steps.gates["strat_00000001"].set()
            second = await client.told()

    assert (first["id"], second["id"]) == (2, 1)


async def test_the_number_of_a_request_is_in_its_refusal_and_in_the_log(tmp_path: Path) -> None:
    async def refuse(caller: Caller, request: Any) -> Reply:
        raise InvalidState("only a deployed strategy can be paused")

    async def crash(caller: Caller, request: Any) -> Reply:
        raise ZeroDivisionError

    with capture_logs() as logs:
        async with open_control(tmp_path, {"strategy.pause": refuse, "strategy.get": crash}) as control:
            one = await signer(control)
            async with control.client(Role.FORWARD) as client:
                paused = await ask(client, "strategy.pause", one.signed("POST", f"{STRATEGY}/pause"))
                crashed = await ask(client, "strategy.get", one.signed("GET", STRATEGY))
                stranger = await ask(client, "strategy.get", unsigned("GET", STRATEGY))

    assert {each["error"]["request_id"] for each in (paused, crashed, stranger)} == {REQUEST_ID}
    told = {each["event"]: each for each in logs if each.get("request_id") == REQUEST_ID}
    assert set(told) == {"command.answered", "operation.failed", "request.answered", "request.refused"}
    assert told["command.answered"]["api_key"] == one.key.api_key
    assert told["command.answered"]["address"] == "192.0.2.7"


async def test_what_failed_at_the_venue_is_told_again_under_its_idempotency_key(tmp_path: Path) -> None:
    attempts: list[str] = []

    async def fail(caller: Caller, request: Any) -> Reply:
        attempts.append(request.id)
        raise ExchangeError("the venue did not answer")

    async with open_control(tmp_path, {"strategy.pause": fail}) as control:
        one = await signer(control)
        async with control.client(Role.FORWARD) as client:
            for _ in range(2):
                asked = one.signed("POST", f"{STRATEGY}/pause", "{}")
                answer = await ask(client, "strategy.pause", asked, idempotency_key="once")
                assert answer["error"]["code"] == "EXCHANGE_ERROR"

    assert len(attempts) == 1


async def test_a_body_may_be_larger_than_a_line_of_the_other_sockets_and_nested_no_deeper(tmp_path: Path) -> None:
    steps = Steps()

    async with open_control(tmp_path, {"strategy.pause": steps.perform}) as control:
        one = await signer(control)
        async with control.client(Role.FORWARD) as client:
            padded = '{"close_positions": false' + "\n" * 60_000 + "}"
            wide = await ask(client, "strategy.pause", one.signed("POST", f"{STRATEGY}/pause", padded))
            deep = await ask(client, "strategy.pause", one.signed("POST", f"{STRATEGY}/pause", "[" * 20))

    assert wide["ok"] is True
    assert deep["error"]["code"] == "INVALID_PARAMETER"


async def test_who_forwards_stays_connected_while_nobody_asks_anything(tmp_path: Path, autojump_clock: object) -> None:
    async with open_control(tmp_path, limits=Limits(idle_s=1.0)) as control:
        one = await signer(control)
        async with control.client(Role.FORWARD) as client:
            await trio.sleep(3_600)
            answer = await ask(client, "strategy.get", one.signed("GET", STRATEGY))

    assert answer["error"]["code"] == "NOT_FOUND"


async def test_only_the_owner_or_an_administrator_stops_the_whole_daemon(tmp_path: Path) -> None:
    stopped: list[str] = []

    async def activate(caller: Caller, request: Any) -> Reply:
        stopped.append(caller.who)
        return Pong(ts="")

    async with open_control(tmp_path, {"kill.activate": activate}) as control:
        owner, other = await signer(control), await signer(control, account="acct_two")
        admin = await signer(control, "admin", account="acct_two")
        async with control.client(Role.FORWARD) as client:
            answers = [
                await ask(
                    client, "kill.activate", one.signed("POST", "/v1/kill-switch/activate", '{"reason": "enough"}')
                )
                for one in (owner, other, admin)
            ]

    assert [answer["ok"] for answer in answers] == [True, False, True]
    assert answers[1]["error"]["code"] == "INSUFFICIENT_PERMISSION"
    assert "acts on the whole daemon" in answers[1]["error"]["message"]
    assert stopped == [f"key {owner.key.api_key}", f"key {admin.key.api_key}"]


async def test_whoever_else_has_work_waits_for_a_few_requests_and_not_for_all_that_came(tmp_path: Path) -> None:
    asked = 200
    async with open_control(tmp_path, {"health": healthy}) as control, control.client(Role.FORWARD) as client:
        most = 0

        async def bystander() -> None:
            nonlocal most
            while True:
                before = control.server.requests
                await trio.lowlevel.checkpoint()
                most = max(most, control.server.requests - before)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(bystander)
            one = {"op": "health", "args": {}, "forwarded": unsigned("GET", "/health")}
            await client.send(*(msgspec.json.encode({"id": number, **one}) for number in range(asked)))
            answers = [await client.told() for _ in range(asked)]
            nursery.cancel_scope.cancel()

    assert {each["id"] for each in answers if each["ok"]} == set(range(asked))
    # Two of its turns in a row may be the first of one round and the last of the next.
    assert 0 < most <= 2 * TURN_MAX


async def healthy(caller: Caller, request: Any) -> Reply:
    return Health(status="healthy", timestamp="2026-01-01T00:00:00Z", degraded=())
