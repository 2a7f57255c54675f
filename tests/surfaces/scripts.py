"""Scripts that use the clients of the package, each of which a test can try alike."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, Protocol

from anyio.from_thread import BlockingPortal, start_blocking_portal
from attrs import define

from pipaid.sdk import AsyncClient, Client
from tests.surfaces.api import Api

# How a script may wait: without an event loop, and in one of two.
WAYS = ("blocking", "trio", "asyncio")


class Asks(Protocol):
    """What all clients have in common, as seen by who waits for them."""

    def ask(self, operation: str, /, **arguments: Any) -> dict[str, Any]: ...
    def each(self, operation: str, /, **arguments: Any) -> Iterator[dict[str, Any]]: ...
    def first_event(self, id: str) -> dict[str, Any]:
        """Return the oldest event that is retained of a strategy."""
        ...


class Waiting(Client):
    """The client that waits, as it is."""

    def first_event(self, id: str) -> dict[str, Any]:
        with self.events(id, after=0) as events:
            return next(events)


@define
class Awaited:
    """A client in an event loop, for who stands outside of it."""

    client: AsyncClient
    portal: BlockingPortal

    def ask(self, operation: str, /, **arguments: Any) -> dict[str, Any]:
        return self.portal.call(partial(self.client.ask, operation, **arguments))

    def each(self, operation: str, /, **arguments: Any) -> Iterator[dict[str, Any]]:
        rows = self.client.each(operation, **arguments)
        while True:
            try:
                yield self.portal.call(rows.__anext__)
            except StopAsyncIteration:
                return

    def first_event(self, id: str) -> dict[str, Any]:
        async def first() -> dict[str, Any]:
            async with self.client.events(id, after=0) as events:
                return await anext(events)

        return self.portal.call(first)


@contextmanager
def script(api: Api, way: str, *scopes: str, account: str | None = None, **more: Any) -> Generator[Asks, None, None]:
    """Return a client of somebody with a new key."""
    user = api.user(*scopes, account=account)
    with client_in(way, user.api_key, user.secret, api.url, **more) as client:
        yield client


@contextmanager
def client_in(way: str, *words: str, **more: Any) -> Generator[Asks, None, None]:
    """Return a client that waits in one of the ways."""
    if way == "blocking":
        with closing(Waiting(*words, **more)) as client:
            yield client
    else:
        with start_blocking_portal(way) as portal:
            with portal.wrap_async_context_manager(AsyncClient(*words, **more)) as client:
                yield Awaited(client, portal)
