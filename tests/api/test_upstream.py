"""The way to the daemon: what is said of a command whose answer will not come."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pipaid.api.upstream import Upstream
from pipaid.errors import AnswerLost, PipaidError, Unavailable
from pipaid.model.operation import operation_named
from pipaid.wire.envelope import Forwarded

FORWARDED = Forwarded(method="POST", target="/", address="127.0.0.1", request_id="req_00000000000a")


def ask_who_ends(folder: Path, operation: str, key: str | None) -> None:
    """Ask somebody who takes the question and ends."""

    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    async def ask() -> None:
        async with await asyncio.start_unix_server(end, folder / "forward.sock"):
            upstream = Upstream(folder / "forward.sock")
            try:
                await upstream.ask(operation_named(operation), FORWARDED, key)
            finally:
                await upstream.close()

    asyncio.run(ask())


@pytest.mark.parametrize("key", ["k-1", None])
def test_a_lost_command_may_be_repeated_if_it_has_a_key(tmp_path: Path, key: str | None) -> None:
    with pytest.raises(AnswerLost) as lost:
        ask_who_ends(tmp_path, "strategy.pause", key)

    assert lost.value.repeat is (key is not None)


def test_a_lost_question_may_be_asked_again(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        ask_who_ends(tmp_path, "strategy.get", None)


async def wait_for_nothing(operation: str, path: Path, *, end: bool) -> BaseException | None:
    """Ask somebody who takes the question and says nothing, and `end` meanwhile or not; return what became of that."""
    taken, left = asyncio.Event(), asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        taken.set()
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    upstream = Upstream(path, look_s=0.05)
    async with await asyncio.start_unix_server(hold, path):
        asked = asyncio.create_task(upstream.ask(operation_named(operation), FORWARDED))
        await taken.wait()
        if end:
            asked.cancel()
        await asyncio.wait([asked])
        await upstream.close()
        await left.wait()
    return asked.exception()


@pytest.mark.parametrize(("operation", "expected"), [("strategy.pause", AnswerLost), ("strategy.get", Unavailable)])
def test_a_command_that_is_cut_short_may_have_been_done_and_a_question_was_not(
    tmp_path: Path, operation: str, expected: type[PipaidError]
) -> None:
    assert isinstance(asyncio.run(wait_for_nothing(operation, tmp_path / "forward.sock", end=True)), expected)


def test_a_daemon_that_says_nothing_is_not_well(tmp_path: Path) -> None:
    found = asyncio.run(wait_for_nothing("health", tmp_path / "forward.sock", end=False))

    assert isinstance(found, Unavailable)
