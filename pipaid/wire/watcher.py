"""What one connection still has to be told of the market: of each thing that it watches the newest, and no more.

Whoever tells only ever puts something down and never waits; the connection's one sender takes it at its own pace.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Protocol

from attrs import define, field

from pipaid.errors import InvalidParameter, NotFound
from pipaid.wire.frames import ClientFrame


@define(eq=False)
class Watcher:
    """A connection as those see it who tell of the market.

    Frames wait by what they are about. A newer one takes the place of the one before, so that a connection that reads
    slowly costs no more memory than what it watches, and is never behind.
    """

    # Called when something waits that was not waiting before; it must not wait.
    on_news: Callable[[], None]
    # What it is subscribed to.
    topics: dict[Hashable, None] = field(factory=dict[Hashable, None])
    _waiting: dict[Hashable, bytes] = field(factory=dict[Hashable, bytes])

    def put(self, about: Hashable, frame: bytes, *, instead_of: Hashable = None) -> None:
        """Leave a frame, in place of one about the same, and of one about something that it supersedes."""
        self._waiting.pop(about, None)
        self._waiting.pop(instead_of, None)
        is_news = not self._waiting
        self._waiting[about] = frame
        if is_news:
            self.on_news()

    def take(self) -> bytes:
        """Take all that waits."""
        frames = b"".join(self._waiting.values())
        self._waiting.clear()
        return frames

    def forget(self, about: Callable[[Hashable], bool]) -> None:
        """Take back what waits about some things."""
        for each in [each for each in self._waiting if about(each)]:
            del self._waiting[each]


class Channels(Protocol):
    """Who tells of the market."""

    def subscribe(self, watcher: Watcher, frame: ClientFrame, *, room: int) -> dict[str, Any]:
        """Begin to tell what a frame asks for and return its params; raise why not, as without room for more."""
        ...

    def unsubscribe(self, watcher: Watcher, frame: ClientFrame) -> dict[str, Any]:
        """Tell it no more."""
        ...

    def leave(self, watcher: Watcher) -> None:
        """Forget a connection."""
        ...

    async def run(self) -> None:
        """Tell those who watch until cancelled."""
        ...


class NoChannels:
    """Where nobody tells of the market."""

    def subscribe(self, watcher: Watcher, frame: ClientFrame, *, room: int) -> dict[str, Any]:
        """Refuse."""
        raise InvalidParameter(f"{frame.channel[:64]} is not served here")

    def unsubscribe(self, watcher: Watcher, frame: ClientFrame) -> dict[str, Any]:
        """Refuse."""
        raise NotFound(f"{frame.channel[:64]} is not subscribed")

    def leave(self, watcher: Watcher) -> None:
        """Do nothing."""

    async def run(self) -> None:
        """Do nothing."""
