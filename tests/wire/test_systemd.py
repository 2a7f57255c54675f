"""The service manager hears the truth over a real datagram socket and hands over real listening sockets."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from pipaid.errors import InvalidParameter
from pipaid.wire.systemd import Notifier, activated, listeners, watchdog_s
from tests.house.tree import ROOT

# Answers each connection on each socket it was handed with the socket's name, and says what it got.
ACTIVATED = """
import json, os, sys
from pipaid.wire.systemd import activated
os.environ["LISTEN_PID"] = str(os.getpid())
handed = activated(os.environ, pid=os.getpid())
print(json.dumps({name: len(sockets) for name, sockets in handed.items()}), flush=True)
for name, sockets in handed.items():
    for sock in sockets:
        assert not sock.get_inheritable()
        sock.setblocking(True)
        connection, _ = sock.accept()
        connection.sendall(name.encode())
        connection.close()
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Listen the way the service manager does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        yield sock


@pytest.fixture
def told(manager: socket.socket) -> Iterator[Notifier]:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.getsockname()})
    yield notifier
    notifier.close()


def heard(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def test_the_life_of_a_daemon_is_told(manager: socket.socket, told: Notifier) -> None:
    assert told.connected
    assert all(
        [
            told.extend(30),
            told.status("reconciling 3 accounts"),
            told.ready("trading"),
            told.feed(),
            told.reloading(monotonic_us=123_456_789),
            told.ready(),
            told.stopping("closing"),
        ]
    )

    assert [heard(manager) for _ in range(7)] == [
        ["EXTEND_TIMEOUT_USEC=30000000"],
        ["STATUS=reconciling 3 accounts"],
        ["READY=1", "STATUS=trading"],
        ["WATCHDOG=1"],
        ["RELOADING=1", "MONOTONIC_USEC=123456789"],
        ["READY=1"],
        ["STOPPING=1", "STATUS=closing"],
    ]


def test_a_status_forges_no_other_assignment(manager: socket.socket, told: Notifier) -> None:
    told.status("fine\nSTOPPING=1\n" + "x" * 10_000)

    (line,) = heard(manager)
    assert line.startswith("STATUS=fine STOPPING=1 x")
    assert len(line) < 300


def test_an_abstract_address_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0pipaid-test-{os.getpid()}")
        sock.settimeout(5)

        notifier = Notifier.from_environment({"NOTIFY_SOCKET": f"@pipaid-test-{os.getpid()}"})
        notifier.ready()
        notifier.close()

        assert heard(sock) == ["READY=1"]


def test_without_a_manager_nothing_is_said() -> None:
    told = Notifier.from_environment({})

    assert not told.connected
    assert not told.ready()
    assert not told.feed()


def test_a_manager_that_is_gone_ends_nothing(manager: socket.socket, told: Notifier) -> None:
    manager.close()

    assert not told.feed()
    told.close()
    assert not told.feed()


def test_a_manager_that_does_not_read_is_not_waited_for(told: Notifier) -> None:
    # The queue of a datagram socket is short; the send that finds it full gives up after a moment.
    assert not all(told.feed() for _ in range(10_000))


def test_an_address_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="cannot be connected to"):
        Notifier.from_environment({"NOTIFY_SOCKET": str(tmp_path / "absent")})


@pytest.mark.parametrize(
    ("variables", "period_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "10000000"}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "7"}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
    ],
)
def test_the_watchdog_period_is_for_this_process_only(variables: dict[str, str], period_s: float | None) -> None:
    assert watchdog_s(variables, pid=7) == period_s


def hand_over(sockets: dict[str, socket.socket]) -> subprocess.Popen[str]:
    """Start a process the way the manager does: its sockets are the descriptors from 3 on."""
    inherited = {number: os.dup(sock.fileno()) for number, sock in enumerate(sockets.values(), start=3)}
    shell = " ".join(f"{number}<&{descriptor}" for number, descriptor in inherited.items())
    process = subprocess.Popen(
        ["bash", "-c", f'exec "$0" -c "$1" {shell}', sys.executable, ACTIVATED],
        env={"LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": ":".join(sockets), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=tuple(inherited.values()),
    )
    for descriptor in inherited.values():
        os.close(descriptor)
    return process


def test_a_child_serves_the_sockets_it_was_handed(tmp_path: Path) -> None:
    sockets: dict[str, socket.socket] = {}
    for name in ("control", "observe"):
        sockets[name] = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sockets[name].bind(str(tmp_path / name))
        sockets[name].listen()
    sockets["stream"] = socket.create_server(("127.0.0.1", 0))

    with hand_over(sockets) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"control": 1, "observe": 1, "stream": 1}
        answers: dict[str, bytes] = {}
        for name, listening in sockets.items():
            with socket.socket(listening.family, socket.SOCK_STREAM) as client:
                client.settimeout(10)
                client.connect(listening.getsockname())
                answers[name] = client.recv(100)

    assert process.returncode == 0
    assert answers == {"control": b"control", "observe": b"observe", "stream": b"stream"}
    for listening in sockets.values():
        listening.close()


def test_sockets_for_another_process_are_left_alone() -> None:
    assert activated({"LISTEN_PID": "8", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "control"}, pid=7) == {}
    assert activated({}, pid=7) == {}
    assert activated({"LISTEN_PID": "7", "LISTEN_FDS": "0"}, pid=7) == {}


@pytest.mark.parametrize(
    ("count", "names", "reason"),
    [
        ("1", "metrics", "hands over 'metrics'"),
        ("1", "", "hands over ''"),
        ("2", "control", "hands over 'unknown'"),
        ("99", "control", "LISTEN_FDS=99"),
        ("one", "control", "LISTEN_FDS=one"),
    ],
)
def test_an_unclear_handover_is_refused(count: str, names: str, reason: str) -> None:
    with pytest.raises(InvalidParameter, match=reason):
        activated({"LISTEN_PID": "7", "LISTEN_FDS": count, "LISTEN_FDNAMES": names}, pid=7)


def test_a_descriptor_that_does_not_listen_is_refused() -> None:
    code = (
        "import os, socket, sys\n"
        "from pipaid.wire.systemd import activated\n"
        "from pipaid.errors import InvalidParameter\n"
        "kind = socket.SOCK_DGRAM if sys.argv[1] == 'datagram' else socket.SOCK_STREAM\n"
        "sock = socket.socket(socket.AF_UNIX, kind)\n"
        "read, _ = os.pipe()\n"
        "os.dup2(read if sys.argv[1] == 'pipe' else sock.fileno(), 3)\n"
        "try:\n"
        "    activated({'LISTEN_PID': '7', 'LISTEN_FDS': '1', 'LISTEN_FDNAMES': 'control'}, pid=7)\n"
        "except InvalidParameter as refusal:\n"
        "    print(refusal)\n"
    )
    for kind, reason in (("datagram", "does not listen"), ("stream", "does not listen"), ("pipe", "is no socket")):
        told = subprocess.run([sys.executable, "-c", code, kind], cwd=ROOT, capture_output=True, text=True, check=True)
        assert reason in told.stdout


async def test_trio_serves_a_socket_that_was_handed_over(tmp_path: Path) -> None:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(tmp_path / "control"))
    sock.listen()
    (listener,) = listeners({"control": [sock]})["control"]

    async with listener, await trio.open_unix_socket(str(tmp_path / "control")) as client:
        async with await listener.accept() as server:
            await server.send_all(b"hello")
            assert await client.receive_some(10) == b"hello"
