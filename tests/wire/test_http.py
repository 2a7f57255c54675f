"""Questions over HTTP: bounded in time and size, and sent only where it is safe."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator

import httpx2
import pytest
import trio
from attrs import define
from trio.testing import MockClock

from pipaid.errors import ExchangeError, InvalidParameter
from pipaid.wire.http import ANSWER_BYTES_MAX, REQUEST_S_MAX, Answer, NoAnswer, Web, checked_base

BASE = "https://venue.test"


@define
class Drip(httpx2.AsyncByteStream):
    """A body that comes in parts, some time apart, and may never end."""

    parts: tuple[bytes, ...]
    apart_s: float = 0.0
    endless: bool = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            for part in self.parts:
                await trio.sleep(self.apart_s)
                yield part
            if not self.endless:
                return


@define
class Host(httpx2.AsyncBaseTransport):
    """A host that answers everything alike, or not at all."""

    body: Drip | None
    headers: dict[str, str]
    status: int = 200

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self.body is None:
            await trio.sleep_forever()
        return httpx2.Response(self.status, headers=self.headers, stream=self.body)


async def asked(body: Drip | None, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx2.AsyncClient(transport=Host(body, named, status)) as client:
        web = Web(BASE, client)
        return await web.get(web.address("/x", {"symbol": "BTCUSDT", "limit": 5}))


async def test_an_answer_comes_with_its_status_and_headers() -> None:
    answer = await asked(Drip((b"a", b"b")), 429, Retry_After="5")

    assert (answer.status, answer.body, answer.headers["retry-after"]) == (429, b"ab", "5")


async def test_an_answer_without_end_is_left_at_the_bound() -> None:
    with pytest.raises(ExchangeError, match=f"longer than {ANSWER_BYTES_MAX} bytes") as refused:
        await asked(Drip((b"x" * 65_536,), endless=True))
    assert refused.value.message.startswith("https://venue.test/x?symbol=BTCUSDT&limit=5: ")
    assert not isinstance(refused.value, NoAnswer)


async def test_a_host_that_is_silent_or_only_drips_is_not_waited_for(autojump_clock: MockClock) -> None:
    for body in (None, Drip((b"x",), apart_s=1.0, endless=True)):
        start_s = trio.current_time()
        with pytest.raises(NoAnswer, match="no whole answer within 60 s"):
            await asked(body)
        assert trio.current_time() - start_s == REQUEST_S_MAX


async def test_packed_answers_are_unpacked_within_the_same_bound() -> None:
    packed = gzip.compress(b"candles" * 1_000)
    assert (await asked(Drip((packed[:50], packed[50:])), Content_Encoding="gzip")).body == b"candles" * 1_000

    with pytest.raises(ExchangeError, match="longer than"):
        await asked(Drip((gzip.compress(bytes(ANSWER_BYTES_MAX + 1)),)), Content_Encoding="gzip")
    with pytest.raises(NoAnswer, match="cut off"):
        await asked(Drip((packed[:-5],)), Content_Encoding="gzip")
    with pytest.raises(ExchangeError, match="cannot be unpacked"):
        await asked(Drip((b"candles",)), Content_Encoding="gzip")
    with pytest.raises(ExchangeError, match="packed as 'deflate', which was not asked for"):
        await asked(Drip((zlib.compress(b"candles"),)), Content_Encoding="deflate")


@pytest.mark.parametrize(
    ("base", "kept"),
    [
        ("https://fapi.binance.com", "https://fapi.binance.com"),
        ("https://mirror.example/binance/", "https://mirror.example/binance"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost:1/x", "http://localhost:1/x"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_address_that_is_safe_is_taken(base: str, kept: str) -> None:
    assert checked_base(base) == kept


@pytest.mark.parametrize(
    "base",
    [
        "http://fapi.binance.com", "http://10.0.0.1", "http://127.0.0.1.example.com", "http://localhost.example",
        "ftp://127.0.0.1", "fapi.binance.com", "", "https://", "https://user:secret@fapi.binance.com",
        "https://fapi.binance.com?x=1", "https://fapi.binance.com#x", "https://fapi.binance.com:99999", "https://[::1",
        "https://fapi.bin\nance.com", "https://фapi.binance.com", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_an_address_that_is_unsafe_or_none_is_refused(base: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^address "):
        checked_base(base)
