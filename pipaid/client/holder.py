"""What both clients are before either waits: somebody with a key, who knows where it opens something."""

from __future__ import annotations

from abc import ABC, abstractmethod
from ssl import SSLContext
from typing import Any, Generic, TypeVar

from pipaid.client.asking import PATIENCE_S, URL, Way
from pipaid.client.following import STREAM_URL, Following, Position, Subscription, subscriptions_to

EventsT = TypeVar("EventsT")


class KeyHolder(ABC, Generic[EventsT]):
    """One key's way to the API; an operation is called by its name, such as `strategy.create`.

    A daemon that is away and a budget that is spent are waited for up to `patience_s`. Each command carries an
    idempotency key, so that one whose answer got lost is sent again, and acts once at most: where the daemon ended
    in the midst of it, InvalidState says so. `stream` is where the event stream is, `tls` says whom to trust besides
    the authorities that everybody does.
    """

    def __init__(
        self,
        api_key: str,
        secret: str,
        url: str = URL,
        *,
        stream: str = STREAM_URL,
        patience_s: float = PATIENCE_S,
        tls: SSLContext | None = None,
    ) -> None:
        self._way = Way(api_key, secret.encode(), url.rstrip("/"), patience_s)
        self._stream = stream
        self._prepare(tls or True)

    def events(self, *ids: str, after: int | Position | None = None, ext: bool = False) -> EventsT:
        """Follow strategies, all of them under `*`, and backtests: their events as they happen, each once.

        `after` is None for what comes from now on, 0 for everything that is retained, or the `position` of another
        time. Of what nobody can tell any more an event `lagged` names the numbers. `ext` adds the extended events.
        """
        return self._events(Following(self._way, self._stream, subscriptions_to(ids), after, ext))

    def watch(self, channel: str, **params: Any) -> EventsT:
        """Follow a market channel, such as `market.klines` of a symbol and an interval: what is, not what was."""
        return self._events(Following(self._way, self._stream, (Subscription(channel, params=params),)))

    @abstractmethod
    def _prepare(self, trusted: SSLContext | bool) -> None:
        """Make ready to connect."""

    @abstractmethod
    def _events(self, following: Following) -> EventsT:
        """Return the events of a stream."""
