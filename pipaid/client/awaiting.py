"""The client for programs that do something else meanwhile: the same as the one that waits, under trio and asyncio."""

from __future__ import annotations

from collections import deque
from ssl import SSLContext
from types import TracebackType
from typing import Any

import anyio
import httpx2
from attrs import define, field

from pipaid.client.asking import ANSWER_S, PATIENCE_S, URL, Asking, Heard, Listing, Way


class AsyncClient:
    """What `Client` is, with methods that are awaited; under trio and under asyncio."""

    def __init__(
        self,
        api_key: str,
        secret: str,
        url: str = URL,
        *,
        patience_s: float = PATIENCE_S,
        tls: SSLContext | None = None,
    ) -> None:
        self._way = Way(api_key, secret.encode(), url.rstrip("/"), patience_s)
        self._http = httpx2.AsyncClient(timeout=ANSWER_S, verify=tls or True, trust_env=False)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, trouble: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the connections."""
        await self._http.aclose()

    async def ask(self, operation: str, /, *, idempotency_key: str | None = None, **arguments: Any) -> dict[str, Any]:
        """Return the answer of an operation; raise its refusal as the exception that bears its code."""
        asking = self._way.asking(operation, arguments, idempotency_key)
        while (pause_s := asking.hear(await self._sent(asking))) is not None:  # noqa: ASYNC110 - nobody could tell
            await anyio.sleep(pause_s)
        return asking.told

    def each(self, operation: str, /, **arguments: Any) -> AsyncRows:
        """Return what a listing lists, page after page, for `async for`."""
        return AsyncRows(self, operation, Listing(arguments))

    async def _sent(self, asking: Asking) -> Heard:
        try:
            return await self._http.request(asking.method, asking.url, content=asking.body, headers=asking.headers())
        except httpx2.TransportError as lost:
            return lost


@define(eq=False)
class AsyncRows:
    """The rows of a listing; unlike a generator, it may be left at any row without being closed."""

    _client: AsyncClient
    _operation: str
    _listing: Listing
    _rows: deque[dict[str, Any]] = field(factory=deque[dict[str, Any]], init=False)

    def __aiter__(self) -> AsyncRows:
        return self

    async def __anext__(self) -> dict[str, Any]:
        while not self._rows:
            if not self._listing.goes_on:
                raise StopAsyncIteration
            page = await self._client.ask(self._operation, **self._listing.arguments)
            self._rows.extend(self._listing.rows_of(page))
        return self._rows.popleft()
