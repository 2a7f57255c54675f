"""Following events over the control socket: live, from the past, until stopped, and never at anybody else's expense."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from pipaid.seams import SystemNet
from pipaid.wire.caller import Limits, Role
from pipaid.wire.lines import connected
from tests.actors.controls import Control, RawClient, open_control

ONE, TWO = "strat_00000001", "strat_00000002"


async def begun(client: RawClient, id: int | str, args: dict[str, Any] | None = None) -> None:
    """Begin a tail; the answer to what was asked after it proves that it has begun."""
    await client.ask(id, "events.tail", args or {})
    await client.ask("after", "ping")
    assert (await client.told())["id"] == "after"


async def heard(client: RawClient, count: int) -> list[tuple[Any, str, int]]:
    answers = [await client.told() for _ in range(count)]
    return [(answer["id"], answer["event"]["id"], answer["event"].get("seq", 0)) for answer in answers]


async def test_a_tail_hears_what_becomes_durable_after_it_began(tmp_path: Path) -> None:
    async with open_control(tmp_path) as control, control.client(Role.OBSERVE) as client:
        await control.emit(ONE)
        await begun(client, 5)
        await control.emit(ONE, TWO)

        assert await heard(client, 2) == [(5, ONE, 2), (5, TWO, 1)]


async def test_a_tail_of_one_strategy_from_a_number_on_has_no_seam(tmp_path: Path) -> None:
    async with open_control(tmp_path) as control, control.client() as client:
        for _ in range(5):
            await control.emit(ONE, TWO)
        await client.ask("t", "events.tail", {"id": ONE, "since_seq": 2})
        first = await heard(client, 1)
        await control.emit(ONE, TWO)

        assert first + await heard(client, 3) == [("t", ONE, seq) for seq in (3, 4, 5, 6)]


async def test_extended_events_come_on_request(tmp_path: Path) -> None:
    async with open_control(tmp_path) as control, control.client() as client:
        await begun(client, "ext", {"ext": True})
        await begun(client, "strict")
        await control.emit(ONE, opt_in=True)
        await control.emit(ONE)

        answers = [await client.told() for _ in range(3)]

    names = sorted((answer["id"], answer["event"]["event"]) for answer in answers)
    assert names == [("ext", "order_cancelled"), ("ext", "resumed"), ("strict", "order_cancelled")]


async def test_nothing_follows_the_answer_to_a_stop(tmp_path: Path) -> None:
    async with open_control(tmp_path) as control, control.client() as client:
        await begun(client, 1)
        await begun(client, 2)
        await client.ask(3, "events.stop", {"tail": 1})
        assert (await client.told())["result"] == {"stopped": [1]}
        await control.emit(ONE)
        assert await heard(client, 1) == [(2, ONE, 1)]

        await client.ask(4, "events.stop")
        assert (await client.told())["result"] == {"stopped": [2]}
        await control.emit(ONE)
        await client.ask(5, "ping")

        assert (await client.told())["id"] == 5
        assert control.hub.subscribers == 0


async def test_a_stop_in_the_midst_of_a_flood_leaves_whole_lines(tmp_path: Path) -> None:
    async with open_control(tmp_path) as control, control.client() as client:
        await begun(client, 1)
        for _ in range(200):
            await control.emit(*[ONE] * 20)
        await client.ask(2, "events.stop")
        await client.ask(3, "ping")

        answers: list[dict[str, Any]] = []
        while not answers or answers[-1]["id"] != 3:
            answers.append(await client.told())

    assert [answer["id"] for answer in answers[-2:]] == [2, 3]
    assert {answer["id"] for answer in answers[:-2]} <= {1}


async def test_a_tail_that_waits_is_not_idle_and_afterwards_is(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_control(tmp_path) as control, control.client() as client:
        await begun(client, 1)
        await trio.sleep(100)
        await control.emit(ONE)
        assert await heard(client, 1) == [(1, ONE, 1)]
        await client.ask(2, "events.stop")
        await client.told()

        with trio.fail_after(31):
            assert await client.hear() is None


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"id": "strat_ffffffff"}, "NOT_FOUND"),
        ({"since_seq": 5}, "INVALID_PARAMETER"),
        ({"since_seq": -1}, "INVALID_PARAMETER"),
        ({"speed": "max"}, "INVALID_PARAMETER"),
    ],
)
async def test_a_tail_of_nonsense_is_refused_and_leaves_nothing(
    tmp_path: Path, args: dict[str, Any], code: str
) -> None:
    async with open_control(tmp_path) as control, control.client() as client:
        await client.ask(1, "events.tail", args)

        assert await client.code() == code
        assert control.hub.subscribers == 0


async def test_a_connection_has_a_bounded_number_of_tails(tmp_path: Path) -> None:
    async with open_control(tmp_path, limits=Limits(tails_max=2)) as control, control.client() as client:
        await begun(client, 1)
        await begun(client, 2)
        await client.ask(3, "events.tail")

        assert await client.code() == "RATE_LIMITED"


async def test_a_tail_ends_with_its_connection(tmp_path: Path) -> None:
    async with open_control(tmp_path) as control:
        async with control.client() as client:
            await begun(client, 1)
            assert control.hub.subscribers == 1
        await wait_all_tasks_blocked()

        assert control.hub.subscribers == 0
        assert control.server.clients == 0


async def flood(control: Control, batches: int) -> None:
    for _ in range(batches):
        await control.emit(*[ONE] * 500)


async def test_a_tail_that_nobody_reads_is_dropped_and_holds_up_nobody(
    tmp_path: Path, autojump_clock: MockClock, logged: list[MutableMapping[str, Any]]
) -> None:
    async with open_control(tmp_path) as control, control.client() as deaf, control.client() as other:
        await begun(deaf, 1)
        await begun(other, 1)
        seqs: list[int] = []

        for _ in range(20):
            await flood(control, 1)
            seqs.extend([seq for _, _, seq in await heard(other, 500)])
        await trio.sleep(6)

        assert seqs == list(range(1, 10_001))
        assert (control.server.clients, control.hub.subscribers) == (1, 1)
        assert [each["event"] for each in logged if each["log_level"] == "warning"] == ["client.dropped"]


async def test_a_reader_that_fell_behind_is_told_what_it_lost(tmp_path: Path) -> None:
    async with open_control(tmp_path) as control, control.client() as client:
        await begun(client, 1, {"ext": True})
        await flood(control, 20)
        seen: list[tuple[int, int]] = []
        while not seen or seen[-1][1] < 10_000:
            event = (await client.told())["event"]
            data = event["data"]
            lagged = event["event"] == "lagged"
            seen.append((data["from_seq"], data["to_seq"]) if lagged else (event["seq"], event["seq"]))

    assert max(last - first for first, last in seen) > 100
    assert [first for first, _ in seen] == [1, *[last + 1 for _, last in seen[:-1]]]


async def test_the_tail_of_a_strict_reader_that_fell_behind_ends_before_the_hole_and_can_be_resumed(
    tmp_path: Path,
) -> None:
    async with open_control(tmp_path) as control, control.client() as client:
        await begun(client, 1)
        await flood(control, 20)
        seqs: list[int] = []
        while (line := await client.told())["ok"]:
            seqs.append(line["event"]["seq"])

        assert (line["id"], line["error"]["code"]) == (1, "RATE_LIMITED")
        await client.ask(2, "events.tail", {"id": ONE, "since_seq": seqs[-1]})
        while seqs[-1] < 10_000:
            seqs.append((await client.told())["event"]["seq"])

    assert seqs == list(range(1, 10_001))


async def test_the_client_of_the_project_follows_events(tmp_path: Path) -> None:
    async with open_control(tmp_path) as control:
        await control.emit(ONE)
        async with connected(SystemNet(), control.folder / "observe.sock") as client:
            async with client.tail(ONE, since_seq=0) as frames:
                first = await anext(frames)
            await client.call("ping")

        assert b'"seq":1' in first
        assert control.hub.subscribers == 0
