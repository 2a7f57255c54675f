"""One request to a stranger: only to an address that was looked at, in bounded time, reading no more than a little."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import httpcore2
import trio
from attrs import define, field

from pipaid import __version__
from pipaid.errors import InvalidParameter
from pipaid.model.target import Target, checked_target, forbidden
from pipaid.model.webhook import Outcome
from pipaid.seams import Clock, Net

ANSWER_S_MAX: Final = 10.0
# What is taken from a receiver over one connection, certificates included; it has nothing to say that would need more.
RECEIVED_BYTES_MAX: Final = 65_536
# A piece of an answer is taken apart on the loop, and trading waits meanwhile: so it is a small one.
READ_BYTES_MAX: Final = 2_048
# A receiver may send interim answers first, such as 100 Continue; so many in all.
ANSWERS_MAX: Final = 8
# Once it is known that a letter was taken, the rest of the answer is read for so long, to part on good terms.
REST_S_MAX: Final = 1.0
# A host with many addresses is tried at the first few.
ADDRESSES_MAX: Final = 3
CONNECT_S_MAX: Final = 4.0
ERROR_CHARS_MAX: Final = 200


class Unreachable(Exception):
    """Why nothing was sent, in words for whoever keeps the receiver."""


@define(eq=False)
class Post:
    """Send letters; nothing is kept between two of them, so that no address outlives the look at it."""

    net: Net
    clock: Clock
    # Whether hosts of this machine and of private networks may be sent to, and without encryption.
    private: bool = False
    answer_s_max: float = ANSWER_S_MAX
    _context: ssl.SSLContext | None = field(default=None, init=False)

    async def send(self, url: str, headers: Mapping[str, str], body: bytes, holder: str = "") -> Outcome:
        """Post a letter of a holder once and say what came of it; whatever a receiver does, nothing is raised."""
        began_s = self.clock.monotonic_s()
        status: list[int] = []
        error: str | None = None
        with trio.move_on_after(self.answer_s_max) as patience:
            try:
                target = checked_target(url, private=self.private)
                backend = _Pinned(self.net, await self._addresses(target, holder))
                await self._exchange(target, backend, _request(target, headers, body), status.append)
            except (Unreachable, InvalidParameter) as trouble:
                error = str(trouble)
            except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError) as trouble:
                error = _in_words(trouble)
        took_ms = max(0, round((self.clock.monotonic_s() - began_s) * 1_000))
        if status:
            return Outcome(status=status[0], time_ms=took_ms, error=_objection(status[0]))
        if patience.cancelled_caught:
            error = f"no answer within {self.answer_s_max:g} s"
        return Outcome(error=(error or "no answer")[:ERROR_CHARS_MAX])

    async def _exchange(
        self, target: Target, backend: _Pinned, request: httpcore2.Request, on_status: Callable[[int], None]
    ) -> None:
        connection = httpcore2.AsyncHTTPConnection(
            request.url.origin,
            ssl_context=await self._trusted() if target.scheme == "https" else None,
            network_backend=backend,
        )
        try:
            response = await connection.handle_async_request(request)
            on_status(response.status)
            with trio.move_on_after(REST_S_MAX):
                await backend.streams[-1].pass_over()
        finally:
            with trio.CancelScope(shield=True):
                await connection.aclose()

    async def _addresses(self, target: Target, holder: str) -> list[str]:
        """Return where to connect; raise Unreachable if any of it is a place that nothing is sent to."""
        if target.literal:
            found = [target.host]
        else:
            try:
                found = await self.net.resolve(target.host, target.port, holder)
            except (OSError, UnicodeError) as trouble:
                raise Unreachable(f"{target.host[:80]} has no address: {_in_words(trouble)}") from None
        for address in found:
            meaning = "" if self.private else forbidden(address)
            if meaning:
                # One that is mixed with public ones is no accident either.
                raise Unreachable(f"{target.host[:80]} leads to {address}, which is {meaning}; nothing was sent")
        return found[:ADDRESSES_MAX]

    async def _trusted(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = await self.net.trust()
        return self._context


def _request(target: Target, headers: Mapping[str, str], body: bytes) -> httpcore2.Request:
    url = httpcore2.URL(
        scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path.encode()
    )
    return httpcore2.Request(b"POST", url, headers=_heads(target, headers, body), content=body)


def _heads(target: Target, headers: Mapping[str, str], body: bytes) -> list[tuple[bytes, bytes]]:
    own = {
        "Host": target.authority,
        "User-Agent": f"pipaid/{__version__}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "Accept-Encoding": "identity",
    }
    return [(name.encode(), value.encode()) for name, value in {**own, **headers}.items()]


def _objection(status: int) -> str | None:
    """Say why an answer means that a letter was not taken, or nothing if it was."""
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"it answered {status}, and redirects are not followed"
    return f"it answered {status}"


def _in_words(trouble: BaseException) -> str:
    """Return what went wrong as far as its cause is known."""
    deepest: BaseException = trouble
    while not str(deepest) or isinstance(deepest.__cause__, ssl.SSLError):
        following = deepest.__cause__ or deepest.__context__
        if following is None:
            break
        deepest = following
    text = str(deepest) or type(trouble).__name__
    return text.encode("ascii", "replace").decode()


class _Pinned(httpcore2.AsyncNetworkBackend):
    """Connect to the addresses that were looked at, whatever host is asked for; encryption is judged by the host.

    The last of `streams` is what the request goes over.
    """

    def __init__(self, net: Net, addresses: list[str]) -> None:
        self._net = net
        self._addresses = addresses
        self.streams: list[_Pieces] = []

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *_: Any, **__: Any
    ) -> httpcore2.AsyncNetworkStream:
        trouble: OSError | None = None
        for address in self._addresses:
            with trio.move_on_after(CONNECT_S_MAX):
                try:
                    return _Pieces(_Metered(await self._net.connect_address(address, port)), self.streams)
                except OSError as refused:
                    trouble = refused
        raise httpcore2.ConnectError(_in_words(trouble) if trouble else "no connection could be made")


class _Metered(trio.abc.Stream):
    """A connection over which no more comes than it may."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._left = RECEIVED_BYTES_MAX

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._left <= 0:
            raise trio.BrokenResourceError(f"its answer has more than {RECEIVED_BYTES_MAX} bytes")
        data = bytes(await self._stream.receive_some(min(self._left, max_bytes or self._left)))
        self._left -= len(data)
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Pieces(httpcore2.AsyncNetworkStream):
    """A stream of which little is read at once; all its time is that of the whole attempt."""

    def __init__(self, stream: trio.abc.Stream, streams: list[_Pieces]) -> None:
        self._stream = stream
        self._streams = streams
        self._answers = 0
        streams.append(self)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            data = bytes(await self._stream.receive_some(min(max_bytes, READ_BYTES_MAX)))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as broken:
            raise httpcore2.ReadError(_in_words(broken)) from broken
        # Each interim answer is taken apart like a whole one, and thousands of them fit into what may be read.
        self._answers += data.count(b"HTTP/")
        if self._answers > ANSWERS_MAX:
            raise httpcore2.RemoteProtocolError(f"it begins more than {ANSWERS_MAX} answers")
        return data

    async def pass_over(self) -> None:
        """Read what is left, without a look at it, until the other side has no more to say."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while await self._stream.receive_some(READ_BYTES_MAX):
                pass

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            await self._stream.send_all(buffer)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as broken:
            raise httpcore2.WriteError(_in_words(broken)) from broken

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        assert server_hostname, "a certificate is judged by the host's name"
        secured = trio.SSLStream(self._stream, ssl_context, server_hostname=server_hostname, https_compatible=True)
        try:
            await secured.do_handshake()
        except BaseException as trouble:
            await self.aclose()
            if isinstance(trouble, trio.BrokenResourceError):
                raise httpcore2.ConnectError(_in_words(trouble)) from trouble
            raise
        return _Pieces(secured, self._streams)

    def get_extra_info(self, info: str) -> Any:
        return None
