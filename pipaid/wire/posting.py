"""One request to a stranger: only to an address that was looked at, in bounded time, reading no more than a little."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Final

import httpcore2
import trio
from attrs import define, field

from pipaid.errors import InvalidParameter
from pipaid.model.target import Target, checked_target
from pipaid.model.webhook import Outcome
from pipaid.seams import Clock, Net
from pipaid.wire.pinned import Pinned, Unreachable, addresses_of, in_words, request_to

ANSWER_S_MAX: Final = 10.0
# What is taken from a receiver over one connection, certificates included; it has nothing to say that would need more.
RECEIVED_BYTES_MAX: Final = 65_536
# Once it is known that a letter was taken, the rest of the answer is read for so long, to part on good terms.
REST_S_MAX: Final = 1.0
ERROR_CHARS_MAX: Final = 200


@define(eq=False)
class Post:
    """Send letters; nothing is kept between two of them, so that no address outlives the look at it."""

    net: Net
    clock: Clock
    # Whether hosts of this machine and of private networks may be sent to, and without encryption.
    private: bool = False
    answer_s_max: float = ANSWER_S_MAX
    _context: ssl.SSLContext | None = field(default=None, init=False)

    async def send(self, url: str, headers: Mapping[str, str], body: bytes, holder: str = "") -> Outcome:
        """Post a letter of a holder once and say what came of it; whatever a receiver does, nothing is raised."""
        began_s = self.clock.monotonic_s()
        status: list[int] = []
        error: str | None = None
        with trio.move_on_after(self.answer_s_max) as patience:
            try:
                target = checked_target(url, private=self.private)
                addresses = await addresses_of(self.net, target, holder, private=self.private)
                backend = Pinned(self.net, addresses, RECEIVED_BYTES_MAX)
                await self._exchange(target, backend, request_to(target, headers, body), status.append)
            except (Unreachable, InvalidParameter) as trouble:
                error = str(trouble)
            except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError) as trouble:
                error = in_words(trouble)
        took_ms = max(0, round((self.clock.monotonic_s() - began_s) * 1_000))
        if status:
            return Outcome(status=status[0], time_ms=took_ms, error=_objection(status[0]))
        if patience.cancelled_caught:
            error = f"no answer within {self.answer_s_max:g} s"
        return Outcome(error=(error or "no answer")[:ERROR_CHARS_MAX])

    async def _exchange(
        self, target: Target, backend: Pinned, request: httpcore2.Request, on_status: Callable[[int], None]
    ) -> None:
        connection = httpcore2.AsyncHTTPConnection(
            request.url.origin,
            ssl_context=await self._trusted() if target.scheme == "https" else None,
            network_backend=backend,
        )
        try:
            response = await connection.handle_async_request(request)
            on_status(response.status)
            with trio.move_on_after(REST_S_MAX):
                await backend.streams[-1].pass_over()
        finally:
            with trio.CancelScope(shield=True):
                await connection.aclose()

    async def _trusted(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = await self.net.trust()
        return self._context


def _objection(status: int) -> str | None:
    """Say why an answer means that a letter was not taken, or nothing if it was."""
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"it answered {status}, and redirects are not followed"
    return f"it answered {status}"
