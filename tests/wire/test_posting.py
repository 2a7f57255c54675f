"""A letter goes to the address that was looked at or nowhere, and a receiver takes a bounded time and little memory."""

from __future__ import annotations

import re
import ssl
import subprocess
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import h11
import pytest
import trio
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from pipaid.model.target import forbidden
from pipaid.model.webhook import Outcome
from pipaid.seams import SystemClock, SystemNet
from pipaid.wire.pinned import ADDRESSES_MAX
from pipaid.wire.posting import RECEIVED_BYTES_MAX, Post

HOST = "receiver.example.com"
PUBLIC = "93.184.216.34"
OTHER_PUBLIC = "2606:4700::1111"
BODY = b'{"id":"evt_1"}'
HEADS = {"X-PipAI-Event-Id": "evt_1"}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PATIENCE_S = 0.3

Behaviour = Callable[[trio.abc.Stream], Awaitable[None]]


@define(eq=False)
class Looks(SystemNet):
    """A network in which names mean what the test says, and all public addresses lead to one port of this machine."""

    port: int = 0
    answers: deque[list[str] | OSError] = field(factory=deque[list[str] | OSError])
    asked: list[str] = field(factory=list[str])
    connected: list[tuple[str, int]] = field(factory=list[tuple[str, int]])
    dead: frozenset[str] = frozenset()
    trusted: ssl.SSLContext | None = None

    async def trust(self) -> ssl.SSLContext:
        return await super().trust() if self.trusted is None else self.trusted

    async def resolve(self, host: str, port: int, holder: str = "") -> list[str]:
        await trio.lowlevel.checkpoint()
        self.asked.append(host)
        answer = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, OSError):
            raise answer
        return answer

    async def connect_address(self, address: str, port: int) -> trio.SocketStream:
        self.connected.append((address, port))
        if address in self.dead:
            raise OSError(111, "Connection refused")
        return await super().connect_address("127.0.0.1", self.port)


def answering(answer: bytes) -> Behaviour:
    async def behave(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        await stream.send_all(answer)

    return behave


async def read_request(stream: trio.abc.Stream) -> list[h11.Event]:
    """Read a whole request and return what it was made of."""
    connection, events = h11.Connection(h11.SERVER), list[h11.Event]()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some()))
            continue
        assert isinstance(event, h11.Event)
        events.append(event)
        if isinstance(event, h11.EndOfMessage):
            return events


async def endless(start: bytes, piece: bytes, stream: trio.abc.Stream) -> None:
    await read_request(stream)
    await stream.send_all(start)
    while True:
        await stream.send_all(piece)


async def silent(stream: trio.abc.Stream) -> None:
    await trio.sleep_forever()


async def closing(stream: trio.abc.Stream) -> None:
    await stream.aclose()


async def dripping(stream: trio.abc.Stream) -> None:
    await read_request(stream)
    for letter in OK:
        await stream.send_all(bytes([letter]))
        await trio.sleep(PATIENCE_S / 10)


async def resetting(stream: trio.abc.Stream) -> None:
    await read_request(stream)
    assert isinstance(stream, trio.SocketStream)
    # What lingers for no time at all is reset.
    stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    await trio.aclose_forcefully(stream)


async def taking_then_silent(stream: trio.abc.Stream) -> None:
    await read_request(stream)
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    await trio.sleep_forever()


@asynccontextmanager
async def receiver(behave: Behaviour, secured: ssl.SSLContext | None = None) -> AsyncGenerator[Looks]:
    """Have a receiver that behaves in a certain way, and a network in which the host's name leads to it."""

    async def meet(stream: trio.SocketStream) -> None:
        given = stream if secured is None else trio.SSLStream(stream, secured, server_side=True, https_compatible=True)
        try:
            await behave(given)
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, meet, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        port: int = listener.socket.getsockname()[1]
        yield Looks(port=port, answers=deque([[PUBLIC]]))
        nursery.cancel_scope.cancel()


def post(net: Looks, *, private: bool = False, trusted: ssl.SSLContext | None = None) -> Post:
    net.trusted = trusted
    return Post(net, SystemClock(), private=private, answer_s_max=PATIENCE_S)


async def sent(behave: Behaviour) -> Outcome:
    async with receiver(behave) as net:
        return await post(net, private=True).send(f"http://{HOST}/hooks?a=b", HEADS, BODY)


async def test_a_letter_arrives_as_it_was_written() -> None:
    heard: list[h11.Event] = []

    async def behave(stream: trio.abc.Stream) -> None:
        heard.extend(await read_request(stream))
        await stream.send_all(OK)

    outcome = await sent(behave)

    request, *data, _ = heard
    assert isinstance(request, h11.Request)
    heads = dict(request.headers)
    assert (request.method, request.target) == (b"POST", b"/hooks?a=b")
    assert (heads[b"host"], heads[b"content-type"]) == (HOST.encode(), b"application/json")
    assert (heads[b"x-pipai-event-id"], heads[b"content-length"]) == (b"evt_1", b"14")
    assert b"".join(bytes(each.data) for each in data if isinstance(each, h11.Data)) == BODY
    assert (outcome.status, outcome.error, outcome.is_taken) == (200, None, True)
    assert outcome.time_ms is not None


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_success_means_that_it_was_taken(status: int) -> None:
    assert (await sent(answering(b"HTTP/1.1 %d OK\r\nContent-Length: 0\r\n\r\n" % status))).is_taken


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308, 400, 404, 410, 429, 500, 503, 599])
async def test_anything_else_means_that_it_was_not(status: int) -> None:
    outcome = await sent(answering(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status))

    assert (outcome.status, outcome.is_taken) == (status, False)
    assert str(status) in (outcome.error or "")


async def test_a_redirect_is_not_followed() -> None:
    there = b"HTTP/1.1 307 There\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n"
    async with receiver(silent) as other:
        async with receiver(answering(there % other.port)) as net:
            outcome = await post(net, private=True).send(f"http://{HOST}/", HEADS, BODY)

    assert net.connected == [(PUBLIC, 80)]
    assert (outcome.status, outcome.is_taken) == (307, False)
    assert "redirects are not followed" in (outcome.error or "")


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (silent, "no answer within 0.3 s"),
        (dripping, "no answer within 0.3 s"),
        (closing, "disconnected|reset|Broken"),
        (resetting, "reset|Broken|read"),
        (partial(endless, b"HTTP/1.1 200 OK\r\n", b"X-More: heads\r\n" * 100), "more than|too long|bytes"),
        (partial(endless, b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "more than 8 answers"),
        (answering(b"nonsense\r\n\r\n"), "illegal|status line"),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), "Content-Length"),
        (answering(b"HTTP/1.1 99999 OK\r\n\r\n"), "illegal|status"),
        (
            answering(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
            "UPGRADE",
        ),
    ],
)
async def test_a_receiver_that_misbehaves_has_taken_nothing(behave: Behaviour, reason: str) -> None:
    outcome = await sent(behave)

    assert not outcome.is_taken
    assert outcome.error is not None
    assert re.search(reason, outcome.error), outcome


@pytest.mark.parametrize(
    "behave",
    [
        taking_then_silent,
        partial(endless, b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 10_000),
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort"),
        answering(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxxx"),
    ],
)
async def test_once_it_said_that_it_took_it_nothing_else_counts(behave: Behaviour) -> None:
    assert (await sent(behave)).is_taken


async def test_no_more_is_taken_from_a_receiver_than_is_needed() -> None:
    given = 0

    async def behave(stream: trio.abc.Stream) -> None:
        nonlocal given
        assert isinstance(stream, trio.SocketStream)
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 4_096)
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send_all(b"x" * 4_096)
            given += 4_096

    await sent(behave)

    # What the system took into its own buffers meanwhile was never read.
    assert given < 200 * RECEIVED_BYTES_MAX


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["10.0.0.7"], ["169.254.169.254"], ["::1"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"],
     ["fe80::1%eth0"], [PUBLIC, "10.0.0.7"], ["192.168.1.1", PUBLIC]],
)  # fmt: skip
async def test_a_name_that_leads_to_a_forbidden_place_is_not_connected_to(addresses: list[str]) -> None:
    async with receiver(answering(OK)) as net:
        net.answers = deque([addresses])
        outcome = await post(net).send(f"https://{HOST}/", HEADS, BODY)

    assert (net.connected, outcome.is_taken, outcome.status) == ([], False, None)
    assert "nothing was sent" in (outcome.error or "")


async def test_a_name_that_means_something_else_at_the_second_look_is_not_followed(secured: Secured) -> None:
    async with receiver(answering(OK), secured.server) as net:
        net.answers = deque([[PUBLIC], ["127.0.0.1"]])
        posting = post(net, trusted=secured.client)
        first = await posting.send(f"https://{HOST}/", HEADS, BODY)
        second = await posting.send(f"https://{HOST}/", HEADS, BODY)

    assert (first.is_taken, second.is_taken) == (True, False)
    assert (net.asked, net.connected) == ([HOST, HOST], [(PUBLIC, 443)])


async def test_a_host_is_looked_up_once_and_connected_to_where_it_was_found(secured: Secured) -> None:
    async with receiver(answering(OK), secured.server) as net:
        net.answers = deque([[PUBLIC, OTHER_PUBLIC], ["10.0.0.1"]])
        net.dead = frozenset({PUBLIC})
        outcome = await post(net, trusted=secured.client).send(f"https://{HOST}:8443/", HEADS, BODY)

    assert outcome.is_taken
    assert (net.asked, net.connected) == ([HOST], [(PUBLIC, 8443), (OTHER_PUBLIC, 8443)])


async def test_of_many_addresses_a_few_are_tried() -> None:
    async with receiver(answering(OK)) as net:
        addresses = [f"93.184.216.{number}" for number in range(1, 20)]
        net.answers, net.dead = deque([addresses]), frozenset(addresses)
        outcome = await post(net).send(f"https://{HOST}/", HEADS, BODY)

    assert len(net.connected) == ADDRESSES_MAX
    assert "refused" in (outcome.error or "")


async def test_a_name_without_an_address_is_said_to_have_none() -> None:
    async with receiver(answering(OK)) as net:
        net.answers = deque([OSError(-2, "Name or service not known")])
        outcome = await post(net).send(f"https://{HOST}/", HEADS, BODY)

    assert "has no address" in (outcome.error or "")


@pytest.mark.parametrize("url", [f"http://{HOST}/", "https://127.0.0.1/", "https://localhost/", "https://2130706433/"])
async def test_what_would_be_refused_today_is_not_sent_because_it_was_allowed_once(url: str) -> None:
    async with receiver(answering(OK)) as net:
        outcome = await post(net).send(url, HEADS, BODY)

    assert (net.asked, net.connected, outcome.is_taken) == ([], [], False)


async def test_a_certificate_that_nobody_vouches_for_is_not_trusted(secured: Secured) -> None:
    async with receiver(answering(OK), secured.server) as net:
        outcome = await post(net).send(f"https://{HOST}/", HEADS, BODY)

    assert not outcome.is_taken
    assert "certificate verify failed" in (outcome.error or "")


async def test_a_certificate_of_another_host_is_not_trusted(secured: Secured) -> None:
    async with receiver(answering(OK), secured.server) as net:
        outcome = await post(net, trusted=secured.client).send("https://other.example.com/", HEADS, BODY)

    assert not outcome.is_taken
    assert "other.example.com" in (outcome.error or "")


async def test_who_speaks_no_tls_gets_nothing() -> None:
    heard: list[bytes] = []

    async def behave(stream: trio.abc.Stream) -> None:
        heard.append(bytes(await stream.receive_some()))
        await stream.send_all(OK)

    async with receiver(behave) as net:
        outcome = await post(net).send(f"https://{HOST}/", HEADS, BODY)

    assert not outcome.is_taken
    assert BODY not in heard[0]


async def test_a_handshake_that_does_not_end_takes_no_longer_than_an_answer_may() -> None:
    async with receiver(silent) as net:
        outcome = await post(net).send(f"https://{HOST}/", HEADS, BODY)

    assert outcome.error == "no answer within 0.3 s"


async def test_real_names_and_addresses_are_found_and_connected_to() -> None:
    async with receiver(answering(OK)) as net:
        real = Post(SystemNet(), SystemClock(), private=True)
        named = await real.send(f"http://localhost:{net.port}/", HEADS, BODY)
        numbered = await real.send(f"http://127.0.0.1:{net.port}/", HEADS, BODY)
        missing = await real.send("http://name.invalid/", HEADS, BODY)

    assert (named.is_taken, numbered.is_taken) == (True, True)
    assert "has no address" in (missing.error or "")


@define
class Secured:
    """A certificate for the host, on both sides."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Secured:
    """Make a certificate that only who is told to does trust."""
    folder: Path = tmp_path_factory.mktemp("certificate")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", key, "-out", certificate],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return Secured(server, ssl.create_default_context(cafile=certificate))


ADDRESSES = st.one_of(
    st.sampled_from([PUBLIC, OTHER_PUBLIC, "127.0.0.1", "10.0.0.1", "::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]),
    st.integers(0, 2**32 - 1).map(lambda number: str(IPv4Address(number))),
    st.integers(0, 2**128 - 1).map(lambda number: str(IPv6Address(number))),
)


@given(answers=st.lists(st.lists(ADDRESSES, min_size=1, max_size=4), min_size=1, max_size=4))
async def test_whatever_a_name_means_nothing_is_connected_to_that_is_forbidden(answers: list[list[str]]) -> None:
    net = Looks(answers=deque(answers), dead=frozenset(address for answer in answers for address in answer))
    posting = post(net, trusted=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    for answer in answers:
        net.connected.clear()
        outcome = await posting.send(f"https://{HOST}/", HEADS, BODY)

        assert not outcome.is_taken
        reached = [address for address, _ in net.connected]
        assert reached == ([] if any(map(forbidden, answer)) else answer[:ADDRESSES_MAX])
