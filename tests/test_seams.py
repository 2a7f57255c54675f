"""What a forked child inherits, how name servers that do not answer are borne, and sockets in deep folders."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from pipaid.errors import Unavailable
from pipaid.seams import RESOLVING_MAX, SystemDisk, SystemNet
from pipaid.wire.client import BlockingClient

FORKED = """
import os, sys
from pathlib import Path
from pipaid.seams import SystemDisk
held = SystemDisk().hold(Path(sys.argv[1]))
if os.fork() == 0:
    print("forked", flush=True)
    os.read(0, 1)
    os._exit(0)
os.read(0, 1)
os._exit(0)
"""


def test_a_forked_child_neither_ends_a_lock_nor_outlives_it(tmp_path: Path) -> None:
    path = tmp_path / "held"
    words = [sys.executable, "-c", FORKED, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"forked\n"
        with pytest.raises(BlockingIOError):
            SystemDisk().hold(path)

        parent.kill()
        parent.wait()

        SystemDisk().hold(path).release()
        parent.stdin.close()


async def test_names_that_are_never_answered_to_one_holder_keep_no_other_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, answered = SystemNet(), threading.Event()

    def ask(host: str, port: int, **_: Any) -> list[Any]:
        if host == "dead.example.com":
            answered.wait(30)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", port))]

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    try:
        # Each is given up after a moment, and more come than there are threads: those hang on all the same.
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                for _ in range(RESOLVING_MAX + 1):
                    nursery.start_soon(net.resolve, "dead.example.com", 443, "acct_dead")
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        with trio.fail_after(5):
            found = await net.resolve("alive.example.com", 443, "acct_alive")
    finally:
        answered.set()

    assert found == ["93.184.216.34"]


async def test_a_socket_in_a_folder_too_deep_for_the_kernel_is_found_all_the_same(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    path, net = deep / "control.sock", SystemNet()

    async with await net.listen_unix(path, mode=0o600) as listener, await net.connect_unix(path) as asking:
        async with await listener.accept() as asked:
            await asking.send_all(b"?")
            assert await asked.receive_some() == b"?"
        with pytest.raises(FileExistsError, match="another process answers on"):
            await net.listen_unix(path, mode=0o600)
        held = len(list(Path("/proc/self/fd").iterdir()))
        with BlockingClient(path):
            assert len(list(Path("/proc/self/fd").iterdir())) == held + 1
    assert path.stat().st_mode & 0o777 == 0o600

    # What nobody listens on any more is replaced.
    async with await net.listen_unix(path, mode=0o600):
        pass
    with pytest.raises(Unavailable, match="no daemon answers on"):
        BlockingClient(deep / "nowhere" / "control.sock")
