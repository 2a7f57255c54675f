"""The blocking client: the same protocol without an event loop, and a start that costs next to nothing."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipaid.errors import InvalidState, Unavailable
from pipaid.wire.client import BlockingClient


@contextmanager
def answering(path: Path, *replies: bytes) -> Generator[Path]:
    """Answer each line of one connection with the next reply, and close after the last."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(1)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as lines:
            for reply in replies:
                lines.readline()
                if reply:
                    connection.sendall(reply)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield path
    finally:
        thread.join(10)
        listener.close()


def test_a_call_returns_the_result(tmp_path: Path) -> None:
    with (
        answering(tmp_path / "s", b'{"id":1,"ok":true,"result":{"pong":true}}\n') as path,
        BlockingClient(path) as client,
    ):
        assert client.call("ping") == b'{"pong":true}'


def test_a_long_answer_arrives_whole(tmp_path: Path) -> None:
    long = b'"' + b"x" * 1_000_000 + b'"'

    with answering(tmp_path / "s", b'{"id":1,"ok":true,"result":%b}\n' % long) as path, BlockingClient(path) as client:
        assert client.call("ping") == long


def test_a_refusal_is_raised(tmp_path: Path) -> None:
    no = b'{"id":1,"ok":false,"error":{"code":"INVALID_STATE","message":"not now"}}\n'

    with answering(tmp_path / "s", no) as path, BlockingClient(path) as client:
        with pytest.raises(InvalidState, match="not now"):
            client.call("strategy.pause", {"id": "strat_1"})


def test_a_tail_yields_until_the_daemon_leaves(tmp_path: Path) -> None:
    events = b'{"id":1,"ok":true,"event":{"seq":1}}\n{"id":1,"ok":true,"event":{"seq":2}}\n'
    got: list[bytes] = []

    with answering(tmp_path / "s", events) as path, BlockingClient(path) as client:
        with pytest.raises(Unavailable, match="closed the connection"):
            got.extend(iter(client.tail()))
    with answering(tmp_path / "t", events) as path, BlockingClient(path) as client:
        frames = client.tail()
        got = [next(frames), next(frames)]

    assert got == [b'{"seq":1}', b'{"seq":2}']


@pytest.mark.parametrize("reply", [b"HTTP/1.1 200 OK\r\n", b"\xff\n", b"[]\n", b'{"id":1}\n'])
def test_something_else_that_answers_is_recognised(tmp_path: Path, reply: bytes) -> None:
    with answering(tmp_path / "s", reply) as path, BlockingClient(path) as client:
        with pytest.raises(Unavailable, match="no pipaid daemon"):
            client.call("ping")


def test_a_silent_daemon_is_given_up(tmp_path: Path) -> None:
    with answering(tmp_path / "s", b"", b""), BlockingClient(tmp_path / "s", answer_s=0.05) as client:
        with pytest.raises(Unavailable, match="did not answer within"):
            client.call("ping")


@pytest.mark.parametrize("name", ["nothing", "x" * 200])
def test_where_nobody_answers_the_client_says_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(Unavailable, match="no daemon answers on"):
        BlockingClient(tmp_path / name)


def test_the_client_and_the_table_load_no_event_loop() -> None:
    program = (
        "import sys, pipaid.wire.client, pipaid.model.operation; "
        "print([name for name in ('trio', 'asyncio', 'attrs', 'cattrs', 'structlog') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "[]"
