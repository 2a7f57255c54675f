"""The control socket over real Unix sockets: who may ask what, in which order, and what misbehaving costs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from pipaid.errors import ExchangeError, InvalidState, InvariantBroken
from pipaid.model.reply import Reply
from pipaid.model.report import Pong
from pipaid.seams import SystemNet
from pipaid.wire.caller import Caller, Limits, Role
from pipaid.wire.envelope import LINE_BYTES_MAX, Outcome
from pipaid.wire.lines import connected
from tests.actors.controls import Steps, open_control


async def refuse(caller: Caller, request: Any) -> Reply:
    raise InvalidState("only a deployed strategy can be paused")


async def test_a_request_gets_the_answer_with_its_id(tmp_path: Path) -> None:
    async with open_control(tmp_path) as control, control.client() as client:
        await client.ask("seven", "ping")

        answer = await client.hear()

    assert answer == {"id": "seven", "ok": True, "result": {"ts": "2026-01-01T00:00:00Z", "pong": True}}


async def test_a_refusal_has_code_message_and_details(tmp_path: Path) -> None:
    async with open_control(tmp_path, {"strategy.pause": refuse}) as control, control.client() as client:
        await client.ask(1, "strategy.pause", {"id": "strat_00000001"})
        await client.ask(2, "strategy.pause", {"close_positions": 1, "force": True})
        refused, invalid = await client.told(), await client.told()
        if refused["id"] == 2:
            refused, invalid = invalid, refused

    assert refused["error"] == {"code": "INVALID_STATE", "message": "only a deployed strategy can be paused"}
    assert invalid["error"]["code"] == "INVALID_PARAMETER"
    assert [detail["field"] for detail in invalid["error"]["details"]] == ["id", "close_positions", "force"]


async def test_an_unknown_operation_is_not_found_and_the_connection_stays(tmp_path: Path) -> None:
    async with open_control(tmp_path) as control, control.client() as client:
        for op in ("strategy.explode", "strategy.list"):
            await client.ask(1, op)
            assert await client.code() == "NOT_FOUND"

        await client.ask(2, "ping")
        assert (await client.told())["ok"] is True


async def test_the_observing_socket_answers_questions_only(tmp_path: Path) -> None:
    steps = Steps()

    async with open_control(tmp_path, {"strategy.delete": steps.perform, "strategy.get": steps.perform}) as control:
        async with control.client(Role.OBSERVE) as client:
            await client.ask(1, "strategy.delete", {"id": "strat_00000001"})
            assert await client.code() == "INSUFFICIENT_PERMISSION"
            await client.ask(2, "strategy.get", {"id": "strat_00000001"})
            assert (await client.told())["ok"] is True

    assert steps.begun == ["strat_00000001"]


async def test_the_caller_is_known_by_pid_and_uid(tmp_path: Path) -> None:
    callers: list[Caller] = []

    async def note(caller: Caller, request: Any) -> Reply:
        callers.append(caller)
        return Pong(ts="")

    async with open_control(tmp_path, {"ping": note}) as control:
        async with control.client() as client:
            await client.ask(1, "ping")
            await client.told()

    (caller,) = callers
    assert (caller.peer.pid, caller.peer.uid, caller.role) == (os.getpid(), os.getuid(), Role.OPERATE)
    assert caller.who == f"uid {os.getuid()}, pid {os.getpid()}"


async def test_every_command_is_written_into_the_log(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with open_control(tmp_path, {"strategy.pause": refuse}) as control, control.client() as client:
            await client.ask(1, "strategy.pause", {"id": "strat_00000001"})
            await client.told()

    (entry,) = [entry for entry in logs if entry["event"] == "command.answered"]
    assert (entry["operation"], entry["target"], entry["ok"], entry["pid"]) == (
        "strategy.pause", "strat_00000001", False, os.getpid(),
    )  # fmt: skip


async def test_questions_overlap_and_answers_come_as_they_are_ready(tmp_path: Path) -> None:
    steps = Steps(gates={"slow": trio.Event()})

    async with open_control(tmp_path, {"strategy.get": steps.perform}) as control, control.client() as client:
        await client.ask(1, "strategy.get", {"id": "slow"})
        await client.ask(2, "strategy.get", {"id": "fast"})
        first = await client.told()
        steps.gates["slow"].set()
        second = await client.told()

    assert (first["id"], second["id"]) == (2, 1)


async def test_mutations_of_one_connection_are_carried_out_in_order(tmp_path: Path) -> None:
    names = [f"strat_{number}" for number in range(10)]
    steps = Steps(gates={"strat_0": trio.Event()})

    async with open_control(tmp_path, {"strategy.delete": steps.perform}) as control, control.client() as client:
        for name in names:
            await client.ask(name, "strategy.delete", {"id": name})
        await wait_all_tasks_blocked()
        begun_while_waiting = list(steps.begun)
        steps.gates["strat_0"].set()
        answered = {(await client.told())["id"] for _ in names}

    assert begun_while_waiting == ["strat_0"]
    assert steps.done == names
    assert answered == set(names)


async def test_the_kill_switch_waits_for_nobody(tmp_path: Path) -> None:
    steps = Steps(gates={"stuck": trio.Event()})

    async def activate(caller: Caller, request: Any) -> Reply:
        return Pong(ts="")

    operations = {"strategy.delete": steps.perform, "kill.activate": activate}
    async with open_control(tmp_path, operations) as control, control.client() as client:
        await client.ask(1, "strategy.delete", {"id": "stuck"})
        await client.ask(2, "kill.activate", {"reason": "enough"})
        assert (await client.told())["id"] == 2
        steps.gates["stuck"].set()
        assert (await client.told())["id"] == 1


async def test_no_more_than_its_share_of_requests_is_under_way(tmp_path: Path) -> None:
    names = [f"q{number}" for number in range(20)]
    steps = Steps(gates={name: trio.Event() for name in names})

    async with open_control(tmp_path, {"strategy.get": steps.perform}, limits=Limits(asks_max=4)) as control:
        async with control.client() as client, control.client() as other:
            for name in names:
                await client.ask(name, "strategy.get", {"id": name})
            await wait_all_tasks_blocked()
            under_way = len(steps.begun)
            await other.ask(1, "ping")
            assert (await other.told())["ok"] is True
            for gate in steps.gates.values():
                gate.set()
            answered = {(await client.told())["id"] for _ in names}

    assert under_way == 4
    assert answered == set(names)


async def test_a_command_is_finished_although_its_sender_left(tmp_path: Path) -> None:
    steps = Steps(gates={"slow": trio.Event()})

    async with open_control(tmp_path, {"strategy.delete": steps.perform, "strategy.get": steps.perform}) as control:
        async with control.client() as client:
            await client.ask(1, "strategy.delete", {"id": "slow"})
            await client.ask(2, "strategy.get", {"id": "slow"})
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        steps.gates["slow"].set()
        await control.server.quiet()

        assert "slow" in steps.done
        assert control.server.clients == 0


async def test_whoever_ends_its_half_still_gets_its_answers(tmp_path: Path) -> None:
    steps = Steps(gates={"slow": trio.Event()})

    async with open_control(tmp_path, {"strategy.get": steps.perform}) as control, control.client() as client:
        await client.ask(1, "strategy.get", {"id": "slow"})
        await client.stream.send_eof()
        await wait_all_tasks_blocked()
        steps.gates["slow"].set()

        assert (await client.told())["result"] == {"id": "slow", "deleted": True}
        assert await client.hear() is None


@pytest.mark.parametrize(
    "trouble",
    [
        RuntimeError("secret detail"),
        SystemExit(3),
        GeneratorExit(),
        RecursionError(),
        BaseExceptionGroup("several", [SystemExit(1), ValueError()]),
        InvariantBroken("an order that is filled cannot ack"),
    ],
    ids=repr,
)
async def test_a_bug_costs_an_answer_and_is_logged_under_its_number(tmp_path: Path, trouble: BaseException) -> None:
    async def fail(caller: Caller, request: Any) -> Reply:
        raise trouble

    with capture_logs() as logs:
        async with open_control(tmp_path, {"strategy.delete": fail, "strategy.get": fail}) as control:
            async with control.client() as client:
                for op in ("strategy.delete", "strategy.get"):
                    await client.ask(1, op, {"id": "x"})
                    error = (await client.told())["error"]
                    assert error["code"] == "INTERNAL_ERROR"
                    assert "secret" not in error["message"]
                    assert [entry["request_id"] for entry in logs if entry["event"] == "operation.failed"][-1] == (
                        error["request_id"]
                    )
                await client.ask(2, "ping")
                assert (await client.told())["ok"] is True


class Forgetful:
    """A memory that fails as nothing of ours should."""

    async def once(self, key: str, body: bytes, act: object) -> Outcome:
        raise OSError("the disk is gone")


async def test_a_bug_outside_of_operations_costs_an_answer_too(tmp_path: Path) -> None:
    def nobody_knows(strategy_id: str) -> str | None:
        raise LookupError(strategy_id)

    async with open_control(tmp_path, {"strategy.delete": refuse}) as control, control.client() as client:
        control.server.owner_of = nobody_knows
        control.server.repeats = Forgetful()
        await client.ask(1, "events.tail", {"id": "strat_00000001"})
        tail = await client.told()
        await client.ask(2, "strategy.delete", {"id": "strat_00000001"}, idempotency_key="k")
        command = await client.told()
        await client.ask(3, "ping")
        assert (await client.told())["ok"] is True

    assert [(answer["id"], answer["error"]["code"]) for answer in (tail, command)] == [
        (1, "INTERNAL_ERROR"),
        (2, "INTERNAL_ERROR"),
    ]


async def test_an_answer_that_cannot_be_encoded_is_a_bug_like_any_other(tmp_path: Path) -> None:
    async def nonsense(caller: Caller, request: Any) -> Reply:
        return Pong(ts=object())  # type: ignore[arg-type]  # The mistake is the point.

    async with open_control(tmp_path, {"ping": nonsense}) as control, control.client() as client:
        await client.ask(1, "ping")

        assert await client.code() == "INTERNAL_ERROR"


async def test_an_answer_beyond_the_bound_is_refused(tmp_path: Path) -> None:
    async def huge(caller: Caller, request: Any) -> Reply:
        return Pong(ts="x" * 9_000_000)

    async with open_control(tmp_path, {"ping": huge}) as control, control.client() as client:
        await client.ask(1, "ping")

        assert await client.code() == "PAYLOAD_TOO_LARGE"


async def test_a_line_too_long_is_answered_and_costs_the_connection(tmp_path: Path) -> None:
    async with open_control(tmp_path) as control:
        async with control.client() as client, trio.open_nursery() as nursery:
            await client.ask(1, "ping")
            nursery.start_soon(client.stream.send_all, b"[" * (LINE_BYTES_MAX * 8))
            answers = [await client.told(), await client.told()]
            assert await client.hear() is None

        async with control.client() as client:
            await client.ask(1, "ping")
            assert (await client.told())["ok"] is True

    assert answers[0]["ok"] is True
    assert answers[1] == {
        "id": None,
        "ok": False,
        "error": {"code": "PAYLOAD_TOO_LARGE", "message": f"a line may have {LINE_BYTES_MAX} bytes"},
    }


async def test_a_line_at_the_bound_is_served(tmp_path: Path) -> None:
    async with open_control(tmp_path) as control, control.client() as client:
        frame = b'{"id":1,"op":"ping","args":{}%b}'
        await client.send(frame % (b" " * (LINE_BYTES_MAX - len(frame) + 2)))

        assert (await client.told())["ok"] is True


async def test_a_silent_client_is_let_go(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_control(tmp_path) as control, control.client() as client:
        await client.ask(1, "ping")
        await client.told()
        started = trio.current_time()

        assert await client.hear() is None
        assert trio.current_time() - started == pytest.approx(30.0)


async def test_half_a_line_does_not_keep_a_connection(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_control(tmp_path) as control, control.client() as client:
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_trickle, client.stream)
            assert await client.hear() is None
            nursery.cancel_scope.cancel()

        assert trio.current_time() - started == pytest.approx(30.0)


async def _trickle(stream: trio.SocketStream) -> None:
    for _ in range(100):
        await stream.send_all(b" ")
        await trio.sleep(1)


async def test_whoever_waits_for_an_answer_is_not_idle(tmp_path: Path, autojump_clock: MockClock) -> None:
    async def slow(caller: Caller, request: Any) -> Reply:
        await trio.sleep(45)
        return Pong(ts="")

    async with open_control(tmp_path, {"ping": slow}) as control, control.client() as client:
        await client.ask(1, "ping")

        assert (await client.told())["ok"] is True


async def test_a_client_that_does_not_read_is_dropped_and_nobody_waits_for_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async def large(caller: Caller, request: Any) -> Reply:
        return Pong(ts="x" * 4_000_000)

    async with open_control(tmp_path, {"status": large}) as control:
        async with control.client() as deaf, control.client() as other:
            await deaf.ask(1, "status")
            await other.ask(1, "ping")
            assert (await other.told())["ok"] is True
            assert control.server.clients == 2
            with trio.fail_after(6):
                while control.server.clients == 2:
                    await other.ask(2, "ping")
                    await other.told()
                    await trio.sleep(0.5)


async def test_one_client_too_many_is_told_so(tmp_path: Path) -> None:
    async with open_control(tmp_path, limits=Limits(clients_max=3)) as control:
        async with control.client() as one, control.client() as two, control.client() as three:
            for client in (one, two, three):
                await client.ask(1, "ping")
                await client.told()
            async with control.client() as fourth:
                assert await fourth.code() == "UNAVAILABLE"
                assert await fourth.hear() is None
        await wait_all_tasks_blocked()
        async with control.client() as fifth:
            await fifth.ask(1, "ping")
            assert (await fifth.told())["ok"] is True


async def test_the_end_waits_for_the_answer_of_whoever_asked_for_it(tmp_path: Path) -> None:
    steps = Steps(gates={"slow": trio.Event()})
    quiet: list[bool] = []

    async def end() -> None:
        await control.server.quiet()
        quiet.append(True)

    async with open_control(tmp_path, {"strategy.delete": steps.perform}) as control, control.client() as client:
        async with trio.open_nursery() as nursery:
            await client.ask(1, "strategy.delete", {"id": "slow"})
            await wait_all_tasks_blocked()
            nursery.start_soon(end)
            await wait_all_tasks_blocked()
            assert quiet == []
            steps.gates["slow"].set()
        assert quiet == [True]
        assert (await client.told())["ok"] is True


async def test_the_client_of_the_project_speaks_the_same_protocol(tmp_path: Path) -> None:
    async def broken_venue(caller: Caller, request: Any) -> Reply:
        raise ExchangeError("the venue did not confirm every close")

    async with open_control(tmp_path, {"strategy.pause": broken_venue}) as control:
        async with connected(SystemNet(), control.folder / "operate.sock") as client:
            assert msgspec.json.decode(await client.call("ping"))["pong"] is True
            with pytest.raises(ExchangeError, match="did not confirm"):
                await client.call("strategy.pause", {"id": "strat_00000001"})
