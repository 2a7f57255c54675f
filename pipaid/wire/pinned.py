"""Connections to strangers: only to addresses that were looked at, and no more comes over one than it may."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import httpcore2
import trio
from attrs import define, field

from pipaid import __version__
from pipaid.model.target import Target, forbidden
from pipaid.seams import Net

# A host with many addresses is tried at the first few.
ADDRESSES_MAX: Final = 3
CONNECT_S_MAX: Final = 4.0
# A piece of an answer is taken apart on the loop, and trading waits meanwhile: so it is a small one.
READ_BYTES_MAX: Final = 2_048
# A receiver may send interim answers first, such as 100 Continue; so many in all.
ANSWERS_MAX: Final = 8


class Unreachable(Exception):
    """Why nothing was sent, in words for whoever keeps the receiver."""


class _Overlong(trio.BrokenResourceError):
    """More comes over a connection than it may."""


async def addresses_of(net: Net, target: Target, holder: str, *, private: bool) -> list[str]:
    """Return where to connect; raise Unreachable if any of it is a place that nothing is sent to."""
    if target.literal:
        found = [target.host]
    else:
        try:
            found = await net.resolve(target.host, target.port, holder)
        except (OSError, UnicodeError) as trouble:
            raise Unreachable(f"{target.host[:80]} has no address: {in_words(trouble)}") from None
    for address in found:
        meaning = "" if private else forbidden(address)
        if meaning:
            # One that is mixed with public ones is no accident either.
            raise Unreachable(f"{target.host[:80]} leads to {address}, which is {meaning}; nothing was sent")
    return found[:ADDRESSES_MAX]


def request_to(target: Target, headers: Mapping[str, str], body: bytes) -> httpcore2.Request:
    """Return a request that brings JSON and lets the connection end with its answer."""
    url = httpcore2.URL(
        scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path.encode()
    )
    own = {
        "Host": target.authority,
        "User-Agent": f"pipaid/{__version__}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "Accept-Encoding": "identity",
    }
    heads = [(name.encode(), value.encode()) for name, value in {**own, **headers}.items()]
    return httpcore2.Request(b"POST", url, headers=heads, content=body)


def in_words(trouble: BaseException) -> str:
    """Return what went wrong as far as its cause is known."""
    deepest: BaseException = trouble
    while not str(deepest) or isinstance(deepest.__cause__, ssl.SSLError):
        following = deepest.__cause__ or deepest.__context__
        if following is None:
            break
        deepest = following
    text = str(deepest) or type(trouble).__name__
    return text.encode("ascii", "replace").decode()


@define(eq=False)
class Pinned(httpcore2.AsyncNetworkBackend):
    """Connect to the addresses that were looked at, whatever host is asked for; encryption is judged by the host.

    The last of `streams` is what the request goes over; `received_max` bounds the bytes of a whole connection.
    """

    net: Net
    addresses: list[str]
    received_max: int
    streams: list[Pieces] = field(factory=lambda: list[Pieces](), init=False)

    @property
    def has_written(self) -> bool:
        """Tell whether any of a request may be on its way."""
        return any(stream.has_written for stream in self.streams)

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *_: Any, **__: Any
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address that lets itself be connected to."""
        trouble: OSError | None = None
        for address in self.addresses:
            with trio.move_on_after(CONNECT_S_MAX):
                try:
                    stream = await self.net.connect_address(address, port)
                    return Pieces(_Metered(stream, self.received_max), self.streams)
                except OSError as refused:
                    trouble = refused
        raise httpcore2.ConnectError(in_words(trouble) if trouble else "no connection could be made")


class _Metered(trio.abc.Stream):
    """A connection over which no more comes than it may."""

    def __init__(self, stream: trio.SocketStream, received_max: int) -> None:
        self._stream = stream
        self._max = self._left = received_max

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._left <= 0:
            raise _Overlong(f"its answer has more than {self._max} bytes")
        data = bytes(await self._stream.receive_some(min(self._left, max_bytes or self._left)))
        self._left -= len(data)
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


class Pieces(httpcore2.AsyncNetworkStream):
    """A stream of which little is read at once; all its time is that of the whole attempt."""

    def __init__(self, stream: trio.abc.Stream, streams: list[Pieces]) -> None:
        self._stream = stream
        self._streams = streams
        self._answers = 0
        self.has_written = False
        self.has_ended = False
        streams.append(self)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read a little."""
        try:
            data = bytes(await self._stream.receive_some(min(max_bytes, READ_BYTES_MAX)))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as broken:
            if isinstance(broken, _Overlong) or isinstance(broken.__cause__, _Overlong):
                raise httpcore2.RemoteProtocolError(in_words(broken)) from broken
            raise httpcore2.ReadError(in_words(broken)) from broken
        self.has_ended = not data
        # Each interim answer is taken apart like a whole one, and thousands of them fit into what may be read. A text
        # in JSON may name HTTP/ as often as it likes, but begins no line with it.
        self._answers += (b"\n" + data).count(b"\nHTTP/")
        if self._answers > ANSWERS_MAX:
            raise httpcore2.RemoteProtocolError(f"it begins more than {ANSWERS_MAX} answers")
        return data

    async def pass_over(self) -> None:
        """Read what is left, without a look at it, until the other side has no more to say."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while await self._stream.receive_some(READ_BYTES_MAX):
                pass

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it."""
        self.has_written = True
        try:
            await self._stream.send_all(buffer)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as broken:
            raise httpcore2.WriteError(in_words(broken)) from broken

    async def aclose(self) -> None:
        """Close without a goodbye."""
        await trio.aclose_forcefully(self._stream)

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """Go on encrypted, with whoever proves to be that host."""
        assert server_hostname, "a certificate is judged by the host's name"
        secured = trio.SSLStream(self._stream, ssl_context, server_hostname=server_hostname, https_compatible=True)
        try:
            await secured.do_handshake()
        except BaseException as trouble:
            await self.aclose()
            if isinstance(trouble, trio.BrokenResourceError):
                raise httpcore2.ConnectError(in_words(trouble)) from trouble
            raise
        return Pieces(secured, self._streams)

    def get_extra_info(self, info: str) -> Any:
        """Return nothing: nobody has to know."""
        return None
