"""Signed requests: what is signed, how a signature is judged, what a key may do, and who has been heard before."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final, Protocol

import msgspec
from attrs import define, field

from pipaid.errors import InvalidParameter, InvalidSignature, RateLimited

WINDOW_MS: Final = 30_000
WINDOW_MS_MAX: Final = 300_000
API_KEY_CHARS_MAX: Final = 64
# A key may sign this many mutations within one window; its rate budget runs out long before.
REPLAYS_PER_KEY_MAX: Final = 4_096
# Short enough for the reason with which a WebSocket is closed.
UNSIGNED: Final = (
    "key, timestamp and signature are all needed (X-PipAI-API-Key, X-PipAI-Timestamp, X-PipAI-Signature over HTTP)"
)

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Two digits at a time, the lower one first: a secret is derived for each request that is signed.
_PAIRS: Final = tuple(low + high for high in _BASE62 for low in _BASE62)
SECRET_CHARS: Final = 40
_API_KEY: Final = re.compile(rf"[0-9A-Za-z_\-]{{1,{API_KEY_CHARS_MAX}}}")
_TIMESTAMP: Final = re.compile(r"[0-9]{1,16}")
_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}")


class Scope(StrEnum):
    """What a key may be allowed to do; an operation asks for exactly one."""

    STRATEGIES_READ = "strategies:read"
    STRATEGIES_WRITE = "strategies:write"
    BACKTEST_READ = "backtest:read"
    BACKTEST_WRITE = "backtest:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    ADMIN = "admin"


_SCOPES: Final[dict[str, Scope]] = {scope.value: scope for scope in Scope}
_READS: Final = frozenset(scope for scope in Scope if scope.endswith(":read"))
_WRITES: Final = frozenset(scope for scope in Scope if scope.endswith(":write"))
# No operation moves funds, so the permission to withdraw opens nothing.
_PERMISSIONS: Final[dict[str, frozenset[Scope]]] = {
    "read-only": _READS,
    "trade": _READS | _WRITES,
    "withdraw": frozenset(),
}


class SignedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request as its sender signed it; `target` is the path with its query, byte for byte as on the wire."""

    api_key: str
    timestamp: str
    signature: str
    method: str
    target: str
    body: bytes = b""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks: the key and the version of its secret, or the user; the account they act for, and what they may do."""

    api_key: str
    account: str
    scopes: frozenset[Scope]
    version: int = 0
    user: str = ""
    organisation: str = ""

    @property
    def holder(self) -> str:
        """Return whose rate budget is charged: however many tokens a user has, they have one. No key has a slash."""
        return f"{self.organisation}/{self.user}" if self.user else self.api_key


def expand_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Return the scopes that a list of scopes and of the three permission names stands for."""
    scopes: set[Scope] = set()
    for name in names:
        if name in _PERMISSIONS:
            scopes |= _PERMISSIONS[name]
        elif name in _SCOPES:
            scopes.add(_SCOPES[name])
        else:
            allowed = ", ".join([*_PERMISSIONS, *Scope])
            raise InvalidParameter(f"scope {name!r} is not one of {allowed}", details=(("scopes", "unknown scope"),))
    return frozenset(scopes)


def canonical(timestamp: str, method: str, target: str, body: bytes = b"") -> bytes:
    """Return what is signed: the four parts one after the other, nothing between them."""
    return f"{timestamp}{method}{target}".encode() + body


def sign(secret: bytes, message: bytes) -> str:
    """Return the lower-case hex HMAC-SHA256."""
    return hmac.new(secret, message, hashlib.sha256).hexdigest()


def derive_secret(master_key: bytes, api_key: str, version: int) -> str:
    """Return the secret of one version of a key, which therefore needs to be kept nowhere."""
    digest = hmac.new(master_key, f"{api_key}\x1f{version}".encode(), hashlib.sha256).digest()
    number = int.from_bytes(digest)
    pairs: list[str] = []
    for _ in range(SECRET_CHARS // 2):
        number, pair = divmod(number, 62 * 62)
        pairs.append(_PAIRS[pair])
    return "".join(pairs)


def check_form(request: SignedRequest, *, now_ms: int, window_ms: int = WINDOW_MS) -> None:
    """Refuse what is missing, malformed or stale: everything that can be told without knowing the key."""
    if not request.api_key or not request.timestamp or not request.signature:
        raise InvalidSignature(UNSIGNED)
    if not _API_KEY.fullmatch(request.api_key):
        raise InvalidSignature("the API key is malformed")
    if not _TIMESTAMP.fullmatch(request.timestamp):
        raise InvalidSignature("the timestamp is malformed: Unix milliseconds are needed")
    if not _SIGNATURE.fullmatch(request.signature):
        raise InvalidSignature("the signature is malformed: 64 lower-case hex digits are needed")
    skew_ms = int(request.timestamp) - now_ms
    if abs(skew_ms) > window_ms:
        side = "ahead of" if skew_ms > 0 else "behind"
        raise InvalidSignature(f"the timestamp is {abs(skew_ms)} ms {side} this clock; {window_ms} ms are allowed")


def matches(secret: bytes, request: SignedRequest, *, strict_query: bool = False) -> bool:
    """Tell in constant time whether the secret made the signature.

    A signature over the bare path is accepted too unless `strict_query` is set: only reads take a query, so that this
    looser form cannot alter a mutation.
    """
    given = request.signature.encode()
    full = sign(secret, canonical(request.timestamp, request.method, request.target, request.body))
    accepted = hmac.compare_digest(full.encode(), given)
    path, query, _ = request.target.partition("?")
    if query and not strict_query:
        bare = sign(secret, canonical(request.timestamp, request.method, path, request.body))
        accepted |= hmac.compare_digest(bare.encode(), given)
    return accepted


@define
class ReplayMemory:
    """Remember the last verified mutations of each key, at least until their timestamps have left the window.

    Only requests whose signature was right are noted, so strangers cannot fill it. Stale ones are forgotten when their
    room is needed and not before: a wall clock that is set back opens the window again for what was signed then.
    """

    window_ms: int = WINDOW_MS
    per_key_max: int = REPLAYS_PER_KEY_MAX
    _heard: dict[str, dict[tuple[str, str], int]] = field(factory=dict[str, dict[tuple[str, str], int]], init=False)

    def note(self, request: SignedRequest, *, now_ms: int) -> None:
        """Note a verified mutation; refuse it if it has been heard before, or if the key's room is full."""
        heard = self._heard.setdefault(request.api_key, {})
        mark = (request.timestamp, request.signature)
        if mark in heard:
            raise InvalidSignature("this request was received before; sign each one with a timestamp of its own")
        if len(heard) >= self.per_key_max:
            oldest = next(iter(heard))
            if heard[oldest] >= now_ms:
                raise RateLimited(f"more than {self.per_key_max} signed mutations within {self.window_ms} ms")
            del heard[oldest]
        heard[mark] = int(request.timestamp) + self.window_ms

    def forget(self, api_key: str) -> None:
        """Forget everything about a key that no longer opens anything."""
        self._heard.pop(api_key, None)


class Authority(Protocol):
    """Who knows the keys."""

    def authenticate(self, request: SignedRequest) -> Caller:
        """Return who signed the request, or raise InvalidSignature or KeyExpired."""
        ...

    def is_live(self, caller: Caller) -> bool:
        """Tell whether the secret with which a caller was authenticated still opens anything."""
        ...
