"""The client for programs that do something else meanwhile: the same as the one that waits, under trio and asyncio."""

from __future__ import annotations

from collections import deque
from ssl import SSLContext
from types import TracebackType
from typing import Any

import anyio
import httpcore2
import httpx2
from attrs import define, field

from pipaid.client.asking import ANSWER_S, Asking, Heard, Listing
from pipaid.client.following import GONE, QUIET_S, READ_BYTES, Event, Following
from pipaid.client.holder import KeyHolder
from pipaid.model.job import TERMINAL


@define(eq=False)
class AsyncEvents:
    """What `Events` is, for `async for`; it starts no task, and may be cancelled and asked again."""

    _http: httpx2.AsyncClient
    _following: Following
    _answer: httpx2.Response | None = field(default=None, init=False)
    _over: anyio.Event = field(factory=anyio.Event, init=False)

    @property
    def position(self) -> dict[str, int]:
        """Return where this is: given as `after`, it goes on behind the last event that was handed out."""
        return dict(self._following.position)

    async def __aenter__(self) -> AsyncEvents:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, trouble: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncEvents:
        return self

    async def __anext__(self) -> Event:
        while (event := self._following.next()) is None:
            with anyio.move_on_after(self._following.pause()):
                await self._over.wait()
            if self._over.is_set():
                raise StopAsyncIteration
            try:
                await self._go_on()
            except GONE as trouble:
                await self._hang_up()
                self._following.fail(trouble)
        return event

    async def aclose(self) -> None:
        """End it: whoever waits for an event gets none any more."""
        self._over.set()
        await self._hang_up()

    async def _go_on(self) -> None:
        """Read once, on a new connection if there is none."""
        if self._answer is not None:
            due = self._following.received(await self._line.read(READ_BYTES, QUIET_S))
            await self._say(due)
            return
        request = self._http.build_request("GET", self._following.url, headers=self._following.headers())
        self._answer = await self._http.send(request, stream=True)
        if not self._answer.is_informational:
            await self._answer.aread()
        await self._say(self._following.opened(self._answer))

    async def _say(self, due: bytes) -> None:
        """Write all of it; a connection on which only a part of it was written is of no use any more."""
        try:
            if due:
                await self._line.write(due, QUIET_S)
        except BaseException:
            await self._hang_up()
            raise

    @property
    def _line(self) -> httpcore2.AsyncNetworkStream:
        assert self._answer is not None
        line: httpcore2.AsyncNetworkStream = self._answer.extensions["network_stream"]
        return line

    async def _hang_up(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            await answer.aclose()


class AsyncClient(KeyHolder[AsyncEvents]):
    """What `Client` is, with methods that are awaited; under trio and under asyncio."""

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

    async def wait_for(self, id: str) -> dict[str, Any]:
        """Return a backtest once it is over, however it ended."""
        job = await self.ask("backtest.get", id=id)
        if job["status"] in TERMINAL:
            return job
        async with self.events(id, after=0) as events:
            while (await anext(events))["event"] not in TERMINAL:
                pass
        return await self.ask("backtest.get", id=id)

    def _prepare(self, trusted: SSLContext | bool) -> None:
        self._http = httpx2.AsyncClient(timeout=ANSWER_S, verify=trusted, trust_env=False)

    def _events(self, following: Following) -> AsyncEvents:
        return AsyncEvents(self._http, following)

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
