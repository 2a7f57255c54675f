"""The application: routes out of the operation table, requests passed on whole, answers as the contract has them."""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from attrs import define, field
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from pipaid import errors
from pipaid.api.asyncapi import stream_document
from pipaid.api.openapi import document
from pipaid.api.page import page_of
from pipaid.api.upstream import Upstream
from pipaid.dialect.refusing import code_of
from pipaid.dialect.shapes import Refusal
from pipaid.errors import InvalidParameter, MethodNotAllowed, NotFound, PayloadTooLarge, PipaidError, Unavailable
from pipaid.logs import get_log
from pipaid.model.ident import random_id
from pipaid.model.moment import iso_millis
from pipaid.model.operation import OPERATIONS, Operation
from pipaid.model.report import Health, Metrics
from pipaid.seams import World
from pipaid.wire.envelope import BODY_BYTES_MAX, KEY_CHARS_MAX, Answer, Forwarded, Standing, Trouble, trouble_of
from pipaid.wire.identity import Identity

RETRY_AFTER_S: Final = 1
JSON: Final = "application/json"
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
REQUEST_ID: Final = "X-Request-Id"
DIALECT: Final = "/api/v1/"
# What a daemon says of itself that can be asked for anything.
AT_WORK: Final = ("healthy", "degraded", "draining")

_STATUS_OF: Final[Mapping[str, int]] = {
    kind.code: kind.http_status
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, PipaidError)
}
_KEY: Final = re.compile(rf"[!-~]{{1,{KEY_CHARS_MAX}}}")
_encode: Final = msgspec.json.Encoder().encode

Answering = Callable[[Request], Awaitable[Response]]


# The page needs nothing from anywhere, so nothing may be loaded into it.
PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"


@define(eq=False)
class Api:
    """Answer HTTP requests: nothing is judged here but their form. A body has to come within `body_s`."""

    upstream: Upstream
    world: World
    identity: Identity | None = None
    body_s: float = 10.0
    answered: Counter[int] = field(factory=Counter[int])

    def app(self) -> Starlette:
        """Return the application: the operations that have a path, and what describes them."""
        handlers: dict[Any, Any] = {HTTPException: self._astray, Exception: self._broken}
        described = document()
        own = [
            Route("/openapi.json", self._fixed(_encode(described), JSON)),
            Route("/asyncapi.json", self._fixed(_encode(stream_document()), JSON)),
            Route("/docs", self._fixed(page_of(described).encode(), "text/html")),
        ]
        app = Starlette(routes=[*own, *self._routes()], exception_handlers=handlers)
        # A path with a slash too many is another path, and a signature over it is not one over this.
        app.router.redirect_slashes = False
        return app

    def _routes(self) -> list[Route]:
        """Return one route a path, those without a name in them first."""
        by_path: dict[str, dict[str, Operation]] = {}
        for operation in OPERATIONS.values():
            if operation.path:
                by_path.setdefault(operation.path, {})[operation.method] = operation
        return [
            Route(path, self._answering(by_path[path]), methods=list(by_path[path]))
            for path in sorted(by_path, key=lambda path: ("{" in path, path))
        ]

    def _answering(self, operations: Mapping[str, Operation]) -> Answering:
        async def answer(request: Request) -> Response:
            return await self._answer(operations["GET" if request.method == "HEAD" else request.method], request)

        return answer

    def _fixed(self, body: bytes, kind: str) -> Answering:
        async def answer(_: Request) -> Response:
            headers = {**self._headers(self._request_id()), "Content-Security-Policy": PAGE_POLICY}
            return self._said(body, HTTPStatus.OK, {**headers, "X-Content-Type-Options": "nosniff"}, kind)

        return answer

    async def _answer(self, operation: Operation, request: Request) -> Response:
        request_id = self._request_id()
        try:
            body = await _body(request, self.body_s)
            forwarded = _forwarded(request, body, request_id, bearing=operation.dialect)
            key = _idempotency_key(request) if operation.mutating else None
            answer = await self.upstream.ask(operation, forwarded, key)
        except PipaidError as trouble:
            if operation.name == "health" and isinstance(trouble, Unavailable):
                return self._unhealthy(trouble, request_id)
            if operation.name == "metrics" and isinstance(trouble, Unavailable):
                return self._figures(None, request_id)
            return self._refused(trouble, request_id, spoken=operation.dialect)
        if not answer.ok:
            trouble_told = answer.error or Trouble(PipaidError.code, "the daemon refused without a reason")
            status = _STATUS_OF.get(trouble_told.code, PipaidError.http_status)
            headers = self._headers(request_id, answer.budget, trouble_told.retry_after_ms, status)
            return self._no(trouble_told, status, headers, spoken=operation.dialect)
        return self._done(operation, answer, request_id)

    def _done(self, operation: Operation, answer: Answer, request_id: str) -> Response:
        if operation.name == "metrics":
            return self._figures(msgspec.json.decode(answer.result, type=Metrics), request_id)
        status = operation.http_status
        if operation.name == "health" and msgspec.json.decode(answer.result, type=Health).status not in AT_WORK:
            status = HTTPStatus.SERVICE_UNAVAILABLE
        return self._said(bytes(answer.result), status, self._headers(request_id, answer.budget))

    def _refused(self, trouble: PipaidError, request_id: str, *, spoken: bool = False, **headers: str) -> Response:
        status = trouble.http_status
        made = self._headers(request_id, status=status)
        return self._no(trouble_of(trouble, request_id), status, {**made, **headers}, spoken=spoken)

    def _no(self, trouble: Trouble, status: int, headers: Mapping[str, str], *, spoken: bool) -> Response:
        if spoken and status == HTTPStatus.UNAUTHORIZED:
            headers = {**headers, "WWW-Authenticate": "Bearer"}
        return self._said(_told(trouble, spoken=spoken), status, headers)

    def _headers(
        self, request_id: str, budget: Standing | None = None, retry_after_ms: int = 0, status: int = HTTPStatus.OK
    ) -> dict[str, str]:
        headers = {REQUEST_ID: request_id, "Cache-Control": "no-store"}
        if budget is not None:
            whole_at_s = math.ceil((self.world.clock.now_us() / 1_000 + budget.full_in_ms) / 1_000)
            headers["X-RateLimit-Limit"] = str(budget.limit)
            headers["X-RateLimit-Remaining"] = str(budget.remaining)
            headers["X-RateLimit-Reset"] = str(whole_at_s)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            headers["Retry-After"] = str(max(1, math.ceil(retry_after_ms / 1_000)))
        elif status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = str(RETRY_AFTER_S)
        return headers

    def _said(self, body: bytes, status: int, headers: Mapping[str, str], kind: str = JSON) -> Response:
        self.answered[status] += 1
        return Response(body, status, headers=headers, media_type=kind)

    def _unhealthy(self, trouble: PipaidError, request_id: str) -> Response:
        """Say that this process is there and the daemon is not."""
        now = iso_millis(self.world.clock.now_us() // 1_000)
        told = {"status": "unavailable", "timestamp": now, "code": trouble.code, "message": trouble.message}
        status = trouble.http_status
        return self._said(_encode(told), status, self._headers(request_id, status=status))

    def _figures(self, metrics: Metrics | None, request_id: str) -> Response:
        """Return the figures of the daemon, if there is one, and of this process, as Prometheus reads them."""
        figures: dict[str, int | float] = {"pipaid_up": int(metrics is not None), **(metrics.data if metrics else {})}
        for status in sorted(self.answered):
            figures[f'pipaid_http_answers_total{{status="{status}"}}'] = self.answered[status]
        figures["pipaid_http_under_way"] = self.upstream.under_way
        if self.identity is not None:
            figures["pipaid_http_certificate_ends_seconds"] = self.identity.validity.ends_ms // 1_000
        return self._said(exposition(figures).encode(), HTTPStatus.OK, self._headers(request_id), TEXT)

    def refuse(self, trouble: PipaidError) -> Response:
        """Return a refusal with which the connection ends."""
        return self._refused(trouble, self._request_id(), Connection="close")

    async def _astray(self, request: Request, trouble: HTTPException) -> Response:
        """Answer what no route takes."""
        if trouble.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = (trouble.headers or {}).get("Allow", "")
            refusal = MethodNotAllowed(f"{request.method[:16]} is not for this path; {allowed} may be asked of it")
            return self._refused(refusal, self._request_id(), spoken=_is_spoken(request), Allow=allowed)
        nothing = NotFound("there is nothing at this path; /openapi.json lists what there is")
        return self._refused(nothing, self._request_id(), spoken=_is_spoken(request))

    async def _broken(self, request: Request, trouble: Exception) -> Response:
        request_id = self._request_id()
        get_log().error("http.failed", request_id=request_id, path=request.url.path, exc_info=trouble)
        answer = PipaidError(f"this failed inside the HTTP process; its log has the cause under {request_id}")
        return self._refused(answer, request_id, spoken=_is_spoken(request))

    def _request_id(self) -> str:
        return random_id("req", self.world.ids.entropy(6))


def _is_spoken(request: Request) -> bool:
    """Tell whether a path is where the dialect is spoken, whether or not anything is there."""
    path: str = request.scope["path"]
    return path.startswith(DIALECT)


def _told(trouble: Trouble, *, spoken: bool) -> bytes:
    """Return a refusal as JSON, in the words of the dialect where that is spoken."""
    if not spoken:
        return _encode(trouble)
    code = code_of(trouble.code, [detail.reason for detail in trouble.details])
    told = {name: getattr(trouble, name) for name in ("message", "details", "request_id", "retry_after_ms", "repeat")}
    return _encode(Refusal(success=False, code=code, **told))


def exposition(figures: Mapping[str, float]) -> str:
    """Return figures by name, labels in braces, in the text format of Prometheus."""
    lines: list[str] = []
    families: dict[str, list[str]] = {}
    for name, value in figures.items():
        families.setdefault(name.partition("{")[0], []).append(f"{name} {value}")
    for family, rows in families.items():
        lines += [f"# TYPE {family} {'counter' if family.endswith('_total') else 'gauge'}", *rows]
    return "\n".join(lines) + "\n"


def _forwarded(request: Request, body: str, request_id: str, *, bearing: bool) -> Forwarded:
    query: bytes = request.scope["query_string"]
    path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    try:
        target = (path + b"?" + query if query else path).decode("ascii")
    except UnicodeDecodeError:
        raise InvalidParameter("a path and its query hold nothing but ASCII; everything else is escaped") from None
    return Forwarded(
        method=request.method,
        target=target,
        address=request.client.host[:64] if request.client else "",
        request_id=request_id,
        body=body,
        api_key=_header(request, "X-PipAI-API-Key"),
        timestamp=_header(request, "X-PipAI-Timestamp"),
        signature=_header(request, "X-PipAI-Signature"),
        # Where it opens nothing it goes no further.
        authorization=_header(request, "Authorization") if bearing else "",
    )


def _header(request: Request, name: str) -> str:
    """Return a header that stands there once, for what stands there twice was read by nobody who signed it."""
    given = request.headers.getlist(name)
    if len(given) > 1:
        raise InvalidParameter(f"{name} stands there more than once")
    return given[0] if given else ""


def _idempotency_key(request: Request) -> str | None:
    if "Idempotency-Key" not in request.headers:
        return None
    key = _header(request, "Idempotency-Key")
    if not _KEY.fullmatch(key):
        raise InvalidParameter(f"Idempotency-Key is 1 to {KEY_CHARS_MAX} printable characters of ASCII without spaces")
    return key


async def _body(request: Request, within_s: float) -> str:
    """Return the body; refuse one that is too large as soon as that is known, and one that does not come."""
    too_large = PayloadTooLarge(f"a body may have {BODY_BYTES_MAX} bytes")
    announced = request.headers.get("Content-Length", "0")
    if announced.isdecimal() and int(announced[:20]) > BODY_BYTES_MAX:
        raise too_large
    received = bytearray()
    try:
        async with asyncio.timeout(within_s):
            async for piece in request.stream():
                received += piece
                if len(received) > BODY_BYTES_MAX:
                    raise too_large
        return received.decode()
    except TimeoutError:
        raise InvalidParameter(f"the body did not come within {within_s:g} s") from None
    except ClientDisconnect:
        raise InvalidParameter("the client left before its body had come") from None
    except UnicodeDecodeError:
        raise InvalidParameter("the body is not UTF-8") from None
