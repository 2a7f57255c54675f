"""The client for scripts that wait: it signs requests, follows pages and events, and repeats what may be repeated."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from ssl import SSLContext
from types import TracebackType
from typing import Any, Final

import httpcore2
import httpx2
from attrs import define, field

from pipaid.client.asking import ANSWER_S, Asking, Heard, Listing
from pipaid.client.following import GONE, QUIET_S, READ_BYTES, Event, Following
from pipaid.client.holder import KeyHolder
from pipaid.model.job import TERMINAL

# What the socket module calls SHUT_RDWR.
BOTH_WAYS: Final = 2


@define(eq=False)
class Events:
    """Events, one after the other, over connections that are made anew whenever one is lost.

    It goes on until it is closed, which another thread may do as well. While nobody asks it for the next event the
    server may lose its patience; that costs a connection and no event.
    """

    _http: httpx2.Client
    _following: Following
    _answer: httpx2.Response | None = field(default=None, init=False)
    _over: threading.Event = field(factory=threading.Event, init=False)

    @property
    def position(self) -> dict[str, int]:
        """Return where this is: given as `after`, it goes on behind the last event that was handed out."""
        return dict(self._following.position)

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, trouble: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Events:
        return self

    def __next__(self) -> Event:
        while (event := self._following.next()) is None:
            if self._over.wait(self._following.pause()):
                raise StopIteration
            try:
                self._go_on()
            except GONE as trouble:
                self._hang_up()
                self._following.fail(trouble)
        return event

    def close(self) -> None:
        """End it: whoever waits for an event gets none any more."""
        self._over.set()
        if self._answer is not None:
            # Whoever reads is woken by this, and not by the end of the descriptor alone.
            with suppress(OSError):
                self._line.get_extra_info("socket").shutdown(BOTH_WAYS)
        self._hang_up()

    def _go_on(self) -> None:
        """Read once, on a new connection if there is none."""
        if self._answer is None:
            request = self._http.build_request("GET", self._following.url, headers=self._following.headers())
            self._answer = self._http.send(request, stream=True)
            if not self._answer.is_informational:
                self._answer.read()
            due = self._following.opened(self._answer)
        else:
            due = self._following.received(self._line.read(READ_BYTES, QUIET_S))
        if due:
            self._line.write(due, QUIET_S)

    @property
    def _line(self) -> httpcore2.NetworkStream:
        assert self._answer is not None
        line: httpcore2.NetworkStream = self._answer.extensions["network_stream"]
        return line

    def _hang_up(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()


class Client(KeyHolder[Events]):
    __doc__ = KeyHolder.__doc__

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

    def wait_for(self, id: str) -> dict[str, Any]:
        """Return a backtest once it is over, however it ended."""
        job = self.ask("backtest.get", id=id)
        if job["status"] in TERMINAL:
            return job
        with self.events(id, after=0) as events:
            while next(events)["event"] not in TERMINAL:
                pass
        return self.ask("backtest.get", id=id)

    def _prepare(self, trusted: SSLContext | bool) -> None:
        self._http = httpx2.Client(timeout=ANSWER_S, verify=trusted, trust_env=False)

    def _events(self, following: Following) -> Events:
        return Events(self._http, following)

    def _sent(self, asking: Asking) -> Heard:
        try:
            return self._http.request(asking.method, asking.url, content=asking.body, headers=asking.headers())
        except httpx2.TransportError as lost:
            return lost
