"""Questions over HTTP: each is bounded in time and in what is read of the answer, and goes where it was sent."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Final
from urllib.parse import urlencode, urlsplit

import httpx2
import trio
from attrs import define, frozen

from pipaid import __version__
from pipaid.config.sense import is_loopback
from pipaid.errors import ExchangeError, InvalidParameter

ANSWER_BYTES_MAX: Final = 8_388_608
CONNECT_S_MAX: Final = 10.0
SILENCE_S_MAX: Final = 20.0
# Whoever sends a byte now and then is not silent, and is not waited for either.
REQUEST_S_MAX: Final = 60.0


class NoAnswer(ExchangeError):
    """A question came to nothing on its way there or back; asking again may help."""


@frozen
class Answer:
    """What came back: the names of the headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@define
class Web:
    """One host that is asked."""

    base: str
    _client: httpx2.AsyncClient

    def address(self, path: str, query: Mapping[str, str | int]) -> str:
        """Return the whole address of a question."""
        return f"{self.base}{path}?{urlencode(query)}" if query else f"{self.base}{path}"

    async def get(self, address: str) -> Answer:
        """Ask once. Raise NoAnswer if nothing, or not all of it, came back, and ExchangeError if it was too much."""
        with trio.move_on_after(REQUEST_S_MAX):
            try:
                async with self._client.stream("GET", address) as response:
                    packed = bytearray()
                    async with aclosing(response.aiter_raw()) as chunks:
                        async for chunk in chunks:
                            packed += chunk
                            if len(packed) > ANSWER_BYTES_MAX:
                                raise _too_long(address)
            except httpx2.TransportError as trouble:
                raise NoAnswer(f"{address}: {type(trouble).__name__}: {str(trouble) or 'no more is known'}") from None
            headers = {name.lower(): value for name, value in response.headers.items()}
            body = _unpacked(address, bytes(packed), headers.get("content-encoding", "identity"))
            return Answer(response.status_code, headers, body)
        raise NoAnswer(f"{address}: no whole answer within {REQUEST_S_MAX:g} s")


@asynccontextmanager
async def web(base: str) -> AsyncGenerator[Web, None]:
    """Keep a connection to a host while the block runs.

    The environment's proxies and certificates are used, except for this machine itself.
    """
    client = httpx2.AsyncClient(
        timeout=httpx2.Timeout(SILENCE_S_MAX, connect=CONNECT_S_MAX),
        headers={"User-Agent": f"pipaid/{__version__}", "Accept-Encoding": "gzip"},
        limits=httpx2.Limits(max_connections=1),
        trust_env=not is_loopback(urlsplit(base).hostname or ""),
    )
    async with client:
        yield Web(base, client)


def checked_base(text: str) -> str:
    """Return an address under which paths can be asked for; raise InvalidParameter for one that is unsafe or none."""
    try:
        parts = urlsplit(text)
        host, _, _ = parts.hostname, parts.port, httpx2.URL(text)
    except (ValueError, httpx2.InvalidURL) as trouble:
        raise InvalidParameter(f"address {text[:200]!r}: {trouble}") from None
    if not host or parts.username is not None or parts.query or parts.fragment or not text.isascii():
        raise InvalidParameter(f"address {text[:200]!r}: https://HOST, or one with a path behind it, expected")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise InvalidParameter(
            f"address {text[:200]!r}: https:// expected; http:// is for this machine only, such as http://127.0.0.1:8080"
        )
    return text.rstrip("/")


def _unpacked(address: str, packed: bytes, encoding: str) -> bytes:
    if encoding == "identity":
        return packed
    if encoding != "gzip":
        raise ExchangeError(f"{address}: the answer is packed as {encoding[:40]!r}, which was not asked for")
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        body = inflater.decompress(packed, ANSWER_BYTES_MAX + 1)
    except zlib.error as trouble:
        raise ExchangeError(f"{address}: the answer cannot be unpacked: {trouble}") from None
    if len(body) > ANSWER_BYTES_MAX:
        raise _too_long(address)
    if not inflater.eof:
        raise NoAnswer(f"{address}: the answer is cut off")
    return body


def _too_long(address: str) -> ExchangeError:
    return ExchangeError(f"{address}: the answer is longer than {ANSWER_BYTES_MAX} bytes")
