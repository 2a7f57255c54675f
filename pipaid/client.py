"""A client of the HTTP API for scripts: it signs each request, follows pages, and repeats what may be repeated."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from ssl import SSLContext
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote, urlencode

import httpx2
import msgspec

from pipaid.errors import NotFound, PipaidError, RateLimited, Unavailable
from pipaid.model.operation import Operation, operation_named
from pipaid.model.route import names_in
from pipaid.seams import World
from pipaid.wire.envelope import Trouble, refusal
from pipaid.wire.signing import canonical, sign

URL: Final = "http://127.0.0.1:5001"
# A pause that closes positions may take half a minute.
ANSWER_S: Final = 60.0
PATIENCE_S: Final = 30.0
AGAIN_S: Final = 0.25


class Client:
    """One key's way to the API; an operation is called by its name, such as `strategy.create`.

    A daemon that is away and a budget that is spent are waited for up to `patience_s`. Each command carries an
    idempotency key, so one whose answer got lost is sent again and still carried out once. `tls` says whom to trust
    besides the authorities that everybody does.
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
        self._api_key = api_key
        self._secret = secret.encode()
        self._url = url.rstrip("/")
        self._patience_s = patience_s
        self._world = World()
        self._signed_ms = 0
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
        asked = operation_named(operation)
        if not asked.path:
            raise NotFound(f"{operation} is not served over HTTP; `pipaid` and the control socket have it")
        target, body = form_of(asked, arguments)
        key = idempotency_key or self._world.ids.entropy(16).hex()
        until_s = self._world.clock.monotonic_s() + self._patience_s
        while True:
            try:
                return self._once(asked, target, body, key)
            except (RateLimited, Unavailable) as trouble:
                wait_s = AGAIN_S
                if isinstance(trouble, RateLimited):
                    wait_s = max(AGAIN_S, trouble.retry_after_ms / 1_000)
                if self._world.clock.monotonic_s() + wait_s > until_s:
                    raise
            time.sleep(wait_s)

    def each(self, operation: str, /, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Yield what a listing lists, page after page."""
        cursor: str | None = arguments.pop("cursor", None)
        while True:
            page = self.ask(operation, cursor=cursor, **arguments)
            yield from page["data"]
            cursor = page.get("next_cursor")
            if cursor is None:
                return

    def _once(self, asked: Operation, target: str, body: bytes, key: str) -> dict[str, Any]:
        headers = self._signature(asked.method, target, body)
        if asked.mutating:
            headers["Idempotency-Key"] = key
        try:
            answer = self._http.request(asked.method, self._url + target, content=body, headers=headers)
        except httpx2.TransportError as trouble:
            raise Unavailable(f"nobody answers at {self._url}: {trouble}") from None
        if answer.is_success:
            told: dict[str, Any] = answer.json()
            return told
        raise _refusal_in(answer)

    def _signature(self, method: str, target: str, body: bytes) -> dict[str, str]:
        """Sign, each time with a later timestamp than before: two equal commands would look like one sent twice."""
        self._signed_ms = max(self._signed_ms + 1, self._world.clock.now_us() // 1_000)
        timestamp = str(self._signed_ms)
        return {
            "X-PipAI-API-Key": self._api_key,
            "X-PipAI-Timestamp": timestamp,
            "X-PipAI-Signature": sign(self._secret, canonical(timestamp, method, target, body)),
        }


def form_of(asked: Operation, arguments: Mapping[str, Any]) -> tuple[str, bytes]:
    """Return target and body of a request: arguments that are None are left out of a query, and stand in a body.

    What Python keeps for itself is written with an underscore behind it, as in `from_`.
    """
    in_path = names_in(asked.path)
    target = asked.path
    for name in in_path:
        if not arguments.get(name):
            raise TypeError(f"{asked.name} needs {name}")
        target = target.replace(f"{{{name}}}", quote(str(arguments[name]), safe=""))
    rest = {name.removesuffix("_"): value for name, value in arguments.items() if name not in in_path}
    if asked.method != "GET":
        return target, msgspec.json.encode(rest) if rest else b""
    given = {name: _in_query(value) for name, value in rest.items() if value is not None}
    return (f"{target}?{urlencode(given)}" if given else target), b""


def _in_query(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refusal_in(answer: httpx2.Response) -> PipaidError:
    """Return the refusal that an answer is; whoever stands between may answer in words of its own."""
    try:
        trouble = msgspec.json.decode(answer.content, type=Trouble)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        if answer.status_code in (httpx2.codes.SERVICE_UNAVAILABLE, httpx2.codes.BAD_GATEWAY):
            return Unavailable(f"the answer is {answer.status_code} without a reason")
        return PipaidError(f"the answer is {answer.status_code} without a reason")
    told = refusal(trouble)
    if isinstance(told, RateLimited):
        told.retry_after_ms = trouble.retry_after_ms
    return told
