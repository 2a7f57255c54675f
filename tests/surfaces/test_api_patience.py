"""What clients of the HTTP API can ask of its patience: slow heads, slow bodies, answers that nobody reads."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import psutil
import pytest
from attrs import frozen

from tests.surfaces.api import Api, serving
from tests.surfaces.daemon import GRID

HEAD_S = 0.5
CONNECTIONS_MAX = 16
# What clients that do not read may cost all together.
GROWN_MAX = 24 * 1024 * 1024
HEAD = b"GET /health HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Generator[Api, None, None]:
    variables = {"PIPAID__HTTP__HEAD_S": str(HEAD_S), "PIPAID__HTTP__CONNECTIONS_MAX": str(CONNECTIONS_MAX)}
    with serving(tmp_path_factory.mktemp("api"), variables=variables) as api:
        yield api


@contextmanager
def connected(api: Api) -> Generator[socket.socket, None, None]:
    with socket.create_connection(("127.0.0.1", api.port), timeout=30) as client:
        yield client


def ended(client: socket.socket) -> bool:
    """Wait for the other side to end the connection; tell whether it did so without an answer."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def answer_to(client: socket.socket) -> bytes:
    """Read one answer to its end, which is the end of its body."""
    received = b""
    while not received.endswith(b"}"):
        piece = client.recv(65_536)
        assert piece, "it closed the connection"
        received += piece
    return received


@frozen
class Whole:
    """An answer with which a connection ended."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]


def read_whole(client: socket.socket) -> Whole:
    """Read an answer to the end of the connection."""
    received = b""
    while piece := client.recv(65_536):
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Whole(int(first.split()[1]), headers, msgspec.json.decode(body))


def assert_refused(answer: Whole, code: str) -> None:
    assert answer.body.keys() == {"code", "message", "request_id"}
    assert answer.body["code"] == code
    assert answer.headers["x-request-id"] == answer.body["request_id"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["connection"] == "close"


def drip(client: socket.socket, text: bytes) -> None:
    """Send a text byte by byte, each long before a head has to be there."""
    for at in range(len(text)):
        client.sendall(text[at : at + 1])
        time.sleep(HEAD_S / 10)


def flood(client: socket.socket, text: bytes) -> None:
    """Send a text again and again, and read nothing."""
    client.settimeout(0.1)
    while True:
        client.sendall(text)


@pytest.mark.parametrize("sent", [b"", b"G", HEAD])
def test_a_head_that_does_not_come_whole_costs_its_sender_the_connection(api: Api, sent: bytes) -> None:
    with connected(api) as client:
        client.sendall(sent)

        assert ended(client)


def test_a_head_that_comes_in_drops_is_not_waited_for_any_longer(api: Api) -> None:
    with connected(api) as client, pytest.raises((ConnectionResetError, BrokenPipeError)):
        drip(client, HEAD * 100)


def test_a_connection_that_is_kept_may_say_nothing_for_longer_than_a_head_may_take(api: Api) -> None:
    with connected(api) as client:
        for _ in range(2):
            client.sendall(HEAD + b"\r\n")
            assert answer_to(client).startswith(b"HTTP/1.1 200")
            time.sleep(2 * HEAD_S)


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        HEAD + b"Content-Length: many\r\n\r\n",
        HEAD + b"X-Long: " + b"x" * 40_000,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nno length\r\n",
    ],
    ids=["no request", "no host", "no length", "a long head", "no chunk"],
)
def test_what_cannot_be_read_is_refused_in_the_shape_of_every_refusal(api: Api, sent: bytes) -> None:
    with connected(api) as client:
        client.sendall(sent)
        answer = read_whole(client)

    assert answer.status == 400
    assert_refused(answer, "INVALID_PARAMETER")


def test_a_body_that_comes_in_drops_is_waited_for_so_long_and_no_longer(api: Api) -> None:
    with connected(api) as client:
        client.sendall(b"POST /v1/strategies HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            drip(client, b" " * 1_000)


def test_who_comes_when_all_places_are_taken_is_told_so_and_those_who_are_there_are_served(api: Api) -> None:
    with ExitStack() as there:
        kept = [there.enter_context(connected(api)) for _ in range(CONNECTIONS_MAX)]
        for each in kept:
            each.sendall(HEAD + b"\r\n")
            assert answer_to(each).startswith(b"HTTP/1.1 200")
        with connected(api) as late:
            late.sendall(HEAD + b"\r\n")
            refused = read_whole(late)
        kept[-1].sendall(HEAD + b"\r\n")
        served = answer_to(kept[-1])

    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert_refused(refused, "UNAVAILABLE")
    assert served.startswith(b"HTTP/1.1 200")


def test_strangers_that_say_nothing_keep_nobody_out_for_long(api: Api) -> None:
    idle = [socket.create_connection(("127.0.0.1", api.port), timeout=30) for _ in range(2 * CONNECTIONS_MAX)]
    try:
        assert all(ended(each) for each in idle)
        assert httpx2.get(f"{api.url}/health", trust_env=False).status_code == 200
    finally:
        for each in idle:
            each.close()


def test_a_client_that_reads_nothing_holds_up_nobody_else(api: Api) -> None:
    with connected(api) as client:
        with pytest.raises(TimeoutError):
            flood(client, HEAD.replace(b"/health", b"/openapi.json") + b"\r\n")

        assert httpx2.get(f"{api.url}/health", trust_env=False).status_code == 200


def test_clients_that_read_nothing_take_no_memory(api: Api) -> None:
    assert api.process is not None
    process = psutil.Process(api.process.pid)
    before = process.memory_info().rss
    with ExitStack() as there:
        for _ in range(CONNECTIONS_MAX - 1):
            client = there.enter_context(connected(api))
            with pytest.raises(TimeoutError):
                flood(client, (HEAD.replace(b"/health", b"/openapi.json") + b"\r\n") * 100)
        grown = process.memory_info().rss - before

        assert httpx2.get(f"{api.url}/health", trust_env=False).status_code == 200
    assert grown < GROWN_MAX


def test_who_leaves_before_the_answer_finds_it_again_under_the_key(api: Api) -> None:
    user = api.user()
    key, asked = {"Idempotency-Key": "left-early"}, {"name": "left early", **GRID}
    made = user.signed("POST", "/v1/strategies", asked, headers=key)
    head = "".join(f"{name}: {value}\r\n" for name, value in {**made.headers, "Host": "x"}.items() if name != "host")
    with connected(api) as client:
        client.sendall(f"POST /v1/strategies HTTP/1.1\r\n{head}\r\n".encode() + made.content)

    found = user.send("POST", "/v1/strategies", asked, headers=key)
    listed = user.send("GET", "/v1/strategies").json()["data"]

    assert found.status_code == 201
    assert [each["id"] for each in listed if each["name"] == "left early"] == [found.json()["id"]]


def test_as_many_are_served_as_may_be_whatever_limit_it_was_started_under(tmp_path: Path) -> None:
    def begin() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    with serving(tmp_path, variables={"PIPAID__HTTP__CONNECTIONS_MAX": "200"}) as api, ExitStack() as there:
        api.end()
        api.start(preexec_fn=begin)
        kept = [there.enter_context(connected(api)) for _ in range(200)]
        for each in kept:
            each.sendall(HEAD + b"\r\n")
        assert all(answer_to(each).startswith(b"HTTP/1.1 200") for each in kept)
