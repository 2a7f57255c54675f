"""The way to the daemon: what is said of a command whose answer will not come."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pipaid.api.upstream import Upstream
from pipaid.errors import AnswerLost, Unavailable
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
