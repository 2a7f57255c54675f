"""Models asked over HTTP: each question goes out once at most, and whatever comes back is bounded and named."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import aclosing
from typing import Final, Protocol

import httpcore2
import trio
from attrs import define, field

from pipaid.config.secret import Secret
from pipaid.errors import InvalidParameter
from pipaid.logs import without_secrets
from pipaid.model.consult import Answer, Question, Verdict
from pipaid.model.target import Target, checked_target, forbidden
from pipaid.seams import Clock, Net
from pipaid.wire.pinned import Pinned, Unreachable, addresses_of, in_words, request_to
from pipaid.wire.said import Said, Speech, malformed, objection_of, told

# The longest text, each character escaped, and what an API says around it.
ANSWER_BYTES_MAX: Final = 262_144
# What is taken over one connection, certificates included, and however it is cut into pieces.
RECEIVED_BYTES_MAX: Final = 524_288
# With these nothing was taken, and nothing is paid for.
_NOT_TAKEN: Final = frozenset({400, 401, 402, 403, 404, 405, 413, 415, 422, 429})
_UNSENT: Final = "nothing was sent"


class Provider(Protocol):
    """Somebody who lets models answer."""

    async def ask(self, question: Question) -> Answer:
        """Ask once and say what came of it; whatever the other side does, nothing is raised."""
        ...


@define(eq=False)
class HttpProvider:
    """An endpoint that is asked in the API it speaks; nothing is kept between two questions.

    A question is never asked again: whoever got it may have to be paid. `private` lets hosts of this machine and its
    networks be asked, and only those without encryption.
    """

    speech: Speech
    base_url: str
    net: Net
    clock: Clock
    key: Secret | None = None
    private: bool = False
    patience_s: float = 60.0
    _context: ssl.SSLContext | None = field(default=None, init=False)

    async def ask(self, question: Question) -> Answer:
        """Ask once and say what came of it; whatever the other side does, nothing is raised."""
        began_s = self.clock.monotonic_s()
        patience_s = max(0.0, min(question.patience_ms / 1_000, self.patience_s))
        backends: list[Pinned] = []
        said = Said(verdict=Verdict.LATE, error=f"no whole answer within {patience_s:g} s")
        with trio.move_on_after(patience_s):
            said = await self._asked(question, backends.append)
        if not any(backend.has_written for backend in backends):
            unsent = said.error if _UNSENT in said.error else f"{said.error}; {_UNSENT}"
            said = Said(verdict=said.verdict, error=unsent, tokens_in=0, tokens_out=0)
        return Answer(
            question_id=question.id,
            verdict=said.verdict,
            # Whoever was told a secret may say it again.
            text=without_secrets(said.text),
            error=without_secrets(said.error),
            tokens_in=said.tokens_in,
            tokens_out=said.tokens_out,
            took_ms=max(0, round((self.clock.monotonic_s() - began_s) * 1_000)),
        )

    async def _asked(self, question: Question, on_backend: Callable[[Pinned], None]) -> Said:
        try:
            target = checked_target(self.base_url + self.speech.path, private=self.private)
            addresses = await addresses_of(self.net, target, "models", private=self.private)
            _refuse_open(target, addresses)
            backend = Pinned(self.net, addresses, RECEIVED_BYTES_MAX)
            on_backend(backend)
            return await self._exchanged(target, backend, question)
        except (Unreachable, InvalidParameter) as trouble:
            return Said(verdict=Verdict.UNREACHABLE, error=told(trouble))
        except httpcore2.ProtocolError as trouble:
            return malformed(told(in_words(trouble)))
        except (httpcore2.NetworkError, httpcore2.TimeoutException, OSError) as trouble:
            return Said(verdict=Verdict.UNREACHABLE, error=told(in_words(trouble)))

    async def _exchanged(self, target: Target, backend: Pinned, question: Question) -> Said:
        key = None if self.key is None else self.key.reveal().decode("ascii")
        request = request_to(target, self.speech.headers(key), self.speech.body(question))
        connection = httpcore2.AsyncHTTPConnection(
            request.url.origin,
            ssl_context=await self._trusted() if target.scheme == "https" else None,
            network_backend=backend,
        )
        try:
            response = await connection.handle_async_request(request)
            body = bytearray()
            async with aclosing(response.aiter_stream()) as pieces:
                async for piece in pieces:
                    body += piece
                    if len(body) > ANSWER_BYTES_MAX:
                        return malformed(f"its answer has more than {ANSWER_BYTES_MAX} bytes")
            return self._judged(response, bytes(body))
        except httpcore2.RemoteProtocolError:
            if not backend.streams[-1].has_ended:
                raise
            return Said(verdict=Verdict.UNREACHABLE, error="the connection ended before the answer did")
        finally:
            with trio.CancelScope(shield=True):
                await connection.aclose()

    def _judged(self, response: httpcore2.Response, body: bytes) -> Said:
        status = response.status
        if 200 <= status < 300:
            packed = {name.lower(): value for name, value in response.headers}.get(b"content-encoding", b"identity")
            if packed != b"identity":
                return malformed(f"it is packed as {told(packed.decode('latin-1'))!r}, which was not asked for")
            return self.speech.read(body)
        if 300 <= status < 400:
            return Said(verdict=Verdict.UNREACHABLE, error=f"it answered {status}, and redirects are not followed")
        reason = objection_of(body)
        error = f"it answered {status}{': ' * bool(reason)}{reason}"
        if status in _NOT_TAKEN:
            return Said(verdict=Verdict.REFUSED, error=error, tokens_in=0, tokens_out=0)
        return Said(verdict=Verdict.REFUSED if status < 500 else Verdict.UNREACHABLE, error=error)

    async def _trusted(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = await self.net.trust()
        return self._context


def _refuse_open(target: Target, addresses: list[str]) -> None:
    """Raise Unreachable where a question and a key would be read by others on their way."""
    for address in addresses:
        if target.scheme == "http" and not forbidden(address):
            raise Unreachable(f"{target.host[:80]} leads to {address}, and plain http is for private networks alone")
