"""Lines in both directions: cut within a bound, nested within a bound, written within a deadline."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from pipaid.errors import InvalidParameter, InvalidState, NotFound, PayloadTooLarge, PipaidError, Unavailable
from pipaid.seams import SystemNet
from pipaid.wire.envelope import (
    LINE_BYTES_MAX,
    NESTING_MAX,
    BadLine,
    Outcome,
    ask_line,
    error_line,
    read_answer,
    read_ask,
    refusal,
    too_deep,
)
from pipaid.wire.lines import LineReader, Outlet, connected, peer_of


@define
class Slices(trio.abc.ReceiveStream):
    """A stream that arrives in given pieces."""

    pieces: list[bytes]
    largest: int = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        return self.pieces.pop(0) if self.pieces else b""

    async def aclose(self) -> None:
        self.pieces.clear()


async def lines_of(pieces: Sequence[bytes], line_bytes_max: int = LINE_BYTES_MAX) -> list[bytes]:
    reader = LineReader(Slices(list(pieces)), line_bytes_max)
    lines: list[bytes] = []
    while (line := await reader.next_line()) is not None:
        lines.append(line)
    return lines


@given(st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), max_size=8), st.data())
def test_lines_come_out_as_they_went_in_however_they_were_sliced(lines: list[bytes], data: st.DataObject) -> None:
    sent = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=10)))
    pieces = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True) if start < end]

    assert trio.run(lines_of, pieces) == lines


async def test_an_unfinished_last_line_is_dropped() -> None:
    assert await lines_of([b"one\ntw", b"o"]) == [b"one"]


@pytest.mark.parametrize("pieces", [[b"x" * 11], [b"ok\n", b"x" * 5, b"x" * 6], [b"x" * 11 + b"\n"]])
async def test_a_line_beyond_the_bound_is_refused(pieces: list[bytes]) -> None:
    with pytest.raises(PayloadTooLarge):
        await lines_of(pieces, 10)


async def test_a_line_at_the_bound_is_taken() -> None:
    assert await lines_of([b"x" * 10 + b"\n", b"y" * 10, b"\n"], 10) == [b"x" * 10, b"y" * 10]


async def test_an_endless_line_costs_no_memory_beyond_the_bound() -> None:
    sent = 0

    @define
    class Endless(trio.abc.ReceiveStream):
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            nonlocal sent
            await trio.lowlevel.checkpoint()
            sent += 4_096
            return b"[" * 4_096

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLarge):
            await LineReader(Endless()).next_line()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert sent <= LINE_BYTES_MAX + 2 * 4_096
    assert peak < 4 * LINE_BYTES_MAX


async def test_many_tiny_lines_cost_linear_time() -> None:
    started = time.process_time()

    lines = await lines_of([b"\n" * 32_768] * 8)

    assert len(lines) == 8 * 32_768
    assert time.process_time() - started < 2.0


async def test_a_cancelled_read_loses_nothing() -> None:
    near, far = memory_stream_pair()
    reader = LineReader(far)
    await near.send_all(b"hal")
    with trio.move_on_after(0.01):
        await reader.next_line()

    await near.send_all(b"f\n")

    assert await reader.next_line() == b"half"


async def test_whoever_takes_nothing_is_given_up_after_the_deadline(autojump_clock: MockClock) -> None:
    near, _far = memory_stream_pair()
    near.send_stream.send_all_hook = trio.sleep_forever
    outlet = Outlet(near, 5.0)

    assert await outlet.send(b"x\n") is False
    assert outlet.broken
    assert await outlet.send(b"y\n") is False


async def test_a_write_that_was_cancelled_half_way_is_the_last(autojump_clock: MockClock) -> None:
    near, _far = memory_stream_pair()
    near.send_stream.send_all_hook = trio.sleep_forever
    outlet = Outlet(near, 5.0)

    with trio.move_on_after(1):
        await outlet.send(b"x\n")

    assert outlet.broken


def depth_of(value: Any) -> int:
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)  # pyright: ignore[reportUnknownArgumentType]  # Any JSON.
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)  # pyright: ignore[reportUnknownArgumentType]
    return 0


@given(
    st.recursive(
        st.text(alphabet='[]{}"\\a', max_size=8) | st.none(),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='[{"\\', max_size=3), inner, max_size=3)
        ),
        max_leaves=60,
    ),
    st.integers(0, 20),
)
def test_nesting_is_measured_outside_of_strings(value: Any, more: int) -> None:
    for _ in range(more):
        value = [value]

    assert too_deep(msgspec.json.encode(value)) == (depth_of(value) > NESTING_MAX)


@pytest.mark.parametrize(
    "line",
    [
        b"[" * LINE_BYTES_MAX,
        b"[]" * (LINE_BYTES_MAX // 2),
        b'"' * LINE_BYTES_MAX + b"[" * 20,
        b'\\"' * (LINE_BYTES_MAX // 2) + b"[" * 20,
        (b'"\\"[' * LINE_BYTES_MAX)[:LINE_BYTES_MAX],
        b'{"a":' * (LINE_BYTES_MAX // 5),
        b"\\" * LINE_BYTES_MAX + b"[{" * 10,
    ],
)
def test_no_line_takes_long_to_judge(line: bytes) -> None:
    started = time.process_time()

    for _ in range(10):
        with pytest.raises(BadLine):
            read_ask(line)

    assert time.process_time() - started < 0.5


def test_a_request_is_read_back_as_it_was_written() -> None:
    ask = read_ask(ask_line(7, "strategy.deploy", {"id": "strat_1", "dry_run": True}, "key-1")[:-1])

    assert (ask.id, ask.op, ask.idempotency_key) == (7, "strategy.deploy", "key-1")
    assert msgspec.json.decode(ask.args) == {"id": "strat_1", "dry_run": True}


@pytest.mark.parametrize(
    ("line", "id"),
    [
        (b"", None),
        (b"  ", None),
        (b"null", None),
        (b"[]", None),
        (b"{}", None),
        (b"\xff\xfe", None),
        (b'{"id":1,"op":"\xff"}', 1),
        (b'{"id":1,"op":"ping"', None),
        (b'{"id":1,"op":"ping"} {}', None),
        (b'{"id":1}', 1),
        (b'{"id":"a","op":5}', "a"),
        (b'{"id":1,"op":""}', 1),
        (b'{"id":1,"op":"ping","surprise":1}', 1),
        (b'{"id":1,"op":"ping","idempotency_key":5}', 1),
        (b'{"id":1,"op":"ping","idempotency_key":"%b"}' % (b"x" * 65), 1),
        (b'{"id":1.5,"op":"ping"}', None),
        (b'{"id":null,"op":"ping"}', None),
        (b'{"id":[1],"op":"ping"}', None),
        (b'{"id":"%b","op":"ping"}' % (b"x" * 65), None),
        (b'{"id":1,"op":"ping","args":NaN}', None),
        (b'{"id":1,"op":"ping","args":' + b"[" * 17 + b"]" * 17 + b"}", None),
    ],
)
def test_a_line_that_is_no_request_is_refused_with_the_id_it_had(line: bytes, id: int | str | None) -> None:
    with pytest.raises(BadLine) as refused:
        read_ask(line)

    assert refused.value.id == id
    assert len(refused.value.message) <= 200


def test_a_request_that_the_daemon_would_not_take_is_refused_before_it_is_sent() -> None:
    with pytest.raises(PayloadTooLarge):
        ask_line(1, "strategy.create", {"name": "x" * LINE_BYTES_MAX})


@pytest.mark.parametrize("kind", [InvalidParameter, InvalidState, NotFound, PayloadTooLarge, Unavailable, PipaidError])
def test_a_refusal_arrives_as_what_it_was(kind: type[PipaidError]) -> None:
    answer = read_answer(error_line(3, kind("not now", details=(("capital", "is required"),)), "req_1"))

    again = refusal(answer.error)

    assert (answer.id, answer.ok, type(again)) == (3, False, kind)
    assert "not now" in again.message
    assert "req_1" in again.message
    assert again.details == (("capital", "is required"),)


def test_an_outcome_is_an_answer() -> None:
    assert Outcome(ok=True, body=b'{"a":1}').line("x") == b'{"id":"x","ok":true,"result":{"a":1}}\n'
    assert Outcome(ok=False, body=b'{"code":"X"}').line(2) == b'{"id":2,"ok":false,"error":{"code":"X"}}\n'


@define
class Echo:
    """A server that answers what a test tells it to."""

    path: Path
    answers: dict[str, list[bytes]]
    asked: list[str] = field(factory=list[str])

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        listener = await SystemNet().listen_unix(self.path, mode=0o600)
        task_status.started()
        await trio.serve_listeners(self._meet, [listener])

    async def _meet(self, stream: trio.SocketStream) -> None:
        assert peer_of(stream).pid > 0
        reader = LineReader(stream)
        async with stream:
            while (line := await reader.next_line()) is not None:
                ask = read_ask(line)
                self.asked.append(ask.op)
                if ask.op == "leave":
                    return
                for body in self.answers[ask.op]:
                    await stream.send_all(b'{"id":%b,%b}\n' % (msgspec.json.encode(ask.id), body))


async def test_calls_that_overlap_get_their_own_answers(tmp_path: Path, nursery: trio.Nursery) -> None:
    server = Echo(tmp_path / "s", {"a": [b'"ok":true,"result":"A"'], "b": [b'"ok":true,"result":"B"']})
    await nursery.start(server.run)
    got: dict[int, bytes] = {}

    async def call(number: int) -> None:
        got[number] = await client.call("ab"[number % 2])

    async with connected(SystemNet(), server.path) as client:
        async with trio.open_nursery() as calls:
            for number in range(20):
                calls.start_soon(call, number)

    assert got == {number: b'"A"' if number % 2 == 0 else b'"B"' for number in range(20)}


async def test_a_call_is_told_when_the_daemon_leaves(tmp_path: Path, nursery: trio.Nursery) -> None:
    server = Echo(tmp_path / "s", {})
    await nursery.start(server.run)

    async with connected(SystemNet(), server.path) as client:
        for _ in range(2):
            with pytest.raises(Unavailable, match="closed the connection"):
                await client.call("leave")


async def test_a_tail_yields_events_until_it_is_left(tmp_path: Path, nursery: trio.Nursery) -> None:
    events = [b'"ok":true,"event":{"seq":%d}' % number for number in range(3)]
    server = Echo(tmp_path / "s", {"events.tail": events, "events.stop": [b'"ok":true,"result":{"stopped":[1]}']})
    await nursery.start(server.run)

    async with connected(SystemNet(), server.path) as client:
        async with client.tail() as frames:
            got = [await anext(frames), await anext(frames)]

    assert got == [b'{"seq":0}', b'{"seq":1}']
    assert server.asked == ["events.tail", "events.stop"]


async def test_a_refused_tail_raises_the_refusal(tmp_path: Path, nursery: trio.Nursery) -> None:
    no = b'"ok":false,"error":{"code":"NOT_FOUND","message":"no such strategy"}'
    server = Echo(tmp_path / "s", {"events.tail": [no], "events.stop": [b'"ok":true,"result":{"stopped":[]}']})
    await nursery.start(server.run)

    async with connected(SystemNet(), server.path) as client:
        async with client.tail("strat_1") as frames:
            with pytest.raises(NotFound, match="no such strategy"):
                await anext(frames)


async def test_where_nobody_answers_the_client_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no daemon answers on"):
        async with connected(SystemNet(), tmp_path / "nothing"):
            raise AssertionError("there is nothing to connect to")
