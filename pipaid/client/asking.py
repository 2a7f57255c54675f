"""What a client of the HTTP API decides without waiting: forms, signatures, what is sent again and when, refusals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import quote, urlencode

import httpx2
import msgspec
from attrs import define, field

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

# What comes back when something is sent: an answer, or the news that there is none.
Heard: TypeAlias = httpx2.Response | httpx2.TransportError


@define(eq=False)
class Way:
    """One key's way to the daemon: where it is, how to sign for it, and how long to wait for it."""

    api_key: str
    secret: bytes = field(repr=False)
    url: str
    patience_s: float = PATIENCE_S
    world: World = field(factory=World, repr=False)
    _signed_ms: int = 0

    def asking(self, operation: str, arguments: Mapping[str, Any], idempotency_key: str | None) -> Asking:
        """Return an operation on its way."""
        asked = operation_named(operation)
        if not asked.path:
            raise NotFound(f"{operation} is not served over HTTP; `pipaid` and the control socket have it")
        target, body = form_of(asked, arguments)
        key = idempotency_key or self.world.ids.entropy(16).hex()
        return Asking(self, asked, target, body, key, self.patience())

    def signed(self, method: str, target: str, body: bytes = b"") -> tuple[int, str]:
        """Return a timestamp and the signature over it.

        Each timestamp is later than the one before: two equal commands would look like one that was sent twice.
        """
        self._signed_ms = max(self._signed_ms + 1, self.world.clock.now_us() // 1_000)
        return self._signed_ms, sign(self.secret, canonical(str(self._signed_ms), method, target, body))

    def patience(self) -> Patience:
        """Return as much of it as there is, beginning now."""
        return Patience(self.world, self.world.clock.monotonic_s() + self.patience_s)


@define
class Patience:
    """How long something is tried again."""

    world: World
    until_s: float

    def allows(self, pause_s: float) -> bool:
        """Tell whether there is so much of it left."""
        return self.world.clock.monotonic_s() + pause_s <= self.until_s


@define(eq=False)
class Asking:
    """One operation on its way: what is sent, and what becomes of it.

    What was refused because a budget is spent or the daemon is away, or of which the daemon says that it may be sent
    again, is sent again: signed anew, under the same idempotency key. So is what nobody answered.
    """

    way: Way
    asked: Operation
    target: str
    body: bytes
    idempotency_key: str
    patience: Patience
    told: dict[str, Any] = field(factory=dict[str, Any], init=False)

    @property
    def method(self) -> str:
        """Return the method of the request."""
        return self.asked.method

    @property
    def url(self) -> str:
        """Return where it goes."""
        return self.way.url + self.target

    def headers(self) -> dict[str, str]:
        """Sign the request as it is sent now."""
        timestamp, signature = self.way.signed(self.method, self.target, self.body)
        headers = {
            "X-PipAI-API-Key": self.way.api_key,
            "X-PipAI-Timestamp": str(timestamp),
            "X-PipAI-Signature": signature,
        }
        return headers | ({"Idempotency-Key": self.idempotency_key} if self.asked.mutating else {})

    def hear(self, heard: Heard) -> float | None:
        """Take an answer into `told`, or return in how many seconds to send it again, or raise the refusal."""
        if isinstance(heard, httpx2.Response) and heard.is_success:
            self.told = heard.json()
            return None
        trouble = trouble_in(heard, self.way.url)
        pause_s = pause_after(trouble)
        if pause_s is None or not self.patience.allows(pause_s):
            raise trouble
        return pause_s


@define(eq=False)
class Listing:
    """A listing that is followed page by page."""

    arguments: dict[str, Any]
    goes_on: bool = True

    def rows_of(self, page: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the rows of a page, and ask for the one after it next."""
        if "data" not in page:
            raise TypeError("each is for listings, which are answered in pages; ask for the whole answer with ask")
        self.arguments["cursor"] = page.get("next_cursor")
        self.goes_on = self.arguments["cursor"] is not None
        rows: list[dict[str, Any]] = page["data"]
        return rows


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


def trouble_in(heard: Heard, url: str) -> PipaidError:
    """Return the refusal that an answer is; whoever stands between may answer in words of its own, or nobody at all."""
    if isinstance(heard, httpx2.TransportError):
        return nobody(url, heard)
    try:
        return refusal(msgspec.json.decode(heard.content, type=Trouble))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        silent = heard.status_code in (httpx2.codes.SERVICE_UNAVAILABLE, httpx2.codes.BAD_GATEWAY)
        return (Unavailable if silent else PipaidError)(f"the answer is {heard.status_code} without a reason")


def nobody(url: str, trouble: BaseException) -> Unavailable:
    """Return that nobody answers, for the first reason that has words: some wrap it into what says nothing."""
    at: BaseException | None = trouble
    while at is not None and not str(at):
        at = at.__cause__ or at.__context__
    return Unavailable(f"nobody answers at {url}: {at or type(trouble).__name__}")


def pause_after(trouble: PipaidError) -> float | None:
    """Return after how many seconds to try again, None for what will not end by itself."""
    if isinstance(trouble, RateLimited):
        return max(AGAIN_S, trouble.retry_after_ms / 1_000)
    return AGAIN_S if trouble.repeat or isinstance(trouble, Unavailable) else None


def _in_query(value: object) -> str:
    if isinstance(value, list | tuple):
        return msgspec.json.encode(value).decode()
    return str(value).lower() if isinstance(value, bool) else str(value)
