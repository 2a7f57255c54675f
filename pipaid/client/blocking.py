"""The client for scripts that wait: it signs each request, follows pages, and repeats what may be repeated."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ssl import SSLContext
from types import TracebackType
from typing import Any

import httpx2

from pipaid.client.asking import ANSWER_S, PATIENCE_S, URL, Asking, Heard, Listing, Way


class Client:
    """One key's way to the API; an operation is called by its name, such as `strategy.create`.

    A daemon that is away and a budget that is spent are waited for up to `patience_s`. Each command carries an
    idempotency key, so that one whose answer got lost is sent again, and acts once at most: where the daemon ended
    in the midst of it, InvalidState says so. `tls` says whom to trust besides the authorities that everybody does.
    """

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
        self._http = httpx2.Client(timeout=ANSWER_S, verify=tls or True, trust_env=False)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, trouble: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def ask(self, operation: str, /, *, idempotency_key: str | None = None, **arguments: Any) -> dict[str, Any]:
        """Return the answer of an operation; raise its refusal as the exception that bears its code."""
        asking = self._way.asking(operation, arguments, idempotency_key)
        while (pause_s := asking.hear(self._sent(asking))) is not None:
            time.sleep(pause_s)
        return asking.told

    def each(self, operation: str, /, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Yield what a listing lists, page after page."""
        listing = Listing(arguments)
        while listing.goes_on:
            yield from listing.rows_of(self.ask(operation, **listing.arguments))

    def _sent(self, asking: Asking) -> Heard:
        try:
            return self._http.request(asking.method, asking.url, content=asking.body, headers=asking.headers())
        except httpx2.TransportError as lost:
            return lost
