"""Signed requests with anything changed: none is taken unless the very same bytes were signed."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from random import Random
from typing import Final, cast

import msgspec
from attrs import define, field

from actors.actor import Writer
from actors.keys import ApiKey, KeyRing
from pipaid.errors import InvalidSignature, KeyExpired, RateLimited
from pipaid.seams import SystemClock, SystemIds
from pipaid.wire.signing import SignedRequest, canonical, derive_secret, sign
from tests.fuzz.literals import damaged
from tests.fuzz.target import Target

MASTER_KEY: Final = bytes(range(32))
NOW_MS: Final = 1_767_225_600_000
REQUESTS: Final = (
    ("POST", "/v1/strategies/strat_5e07c1d9/deploy", b'{"dry_run":true}'),
    ("GET", "/v1/strategies?status=paused&limit=5", b""),
    ("GET", "/v1/ws", b""),
    ("DELETE", "/v1/strategies/strat_5e07c1d9", b""),
)
_PARTS: Final = ("api_key", "timestamp", "signature", "method", "target", "body")
_STRANGE: Final = (
    "", "0", "-1", "é", "\u0661", "\ud800", "\x00", "A" * 64, "g" * 64, "0" * 64, "\uff10" * 64, "pk_live", "9" * 16,
    "9" * 17,
)  # fmt: skip

Case = list[tuple[str, str]]


@define
class _Standing(SystemClock):
    """A clock that stands."""

    def now_us(self) -> int:
        return NOW_MS * 1000


@define
class Ring:
    """A key ring with a live key, a rotated one and a revoked one."""

    keys: KeyRing = field(init=False)

    def __attrs_post_init__(self) -> None:
        # Nothing is written: the keys are there from the beginning.
        self.keys = KeyRing(cast(Writer, None), _Standing(), SystemIds(), MASTER_KEY)
        live = ApiKey(api_key="pk_live", name="live", account="acct_main", scopes=("trade",), created_at_ms=0)
        self.keys._keys = {  # pyright: ignore[reportPrivateUsage] - as after loading
            "pk_live": live,
            "pk_rotated": _with(live, "pk_rotated", version=3, previous_until_ms=NOW_MS + 1),
            "pk_revoked": _with(live, "pk_revoked", revoked_at_ms=NOW_MS - 1),
        }


def _with(key: ApiKey, api_key: str, **more: int) -> ApiKey:
    return msgspec.structs.replace(key, api_key=api_key, **more)


@cache
def ring() -> KeyRing:
    """Return the ring that all are judged by."""
    return Ring().keys


def good(chance: Random) -> dict[str, str]:
    """Return a request as an honest client signs it."""
    method, target, body = chance.choice(REQUESTS)
    key = chance.choice(("pk_live", "pk_live", "pk_rotated"))
    timestamp = str(NOW_MS + chance.randrange(-30_000, 30_001))
    version = 1 if key == "pk_live" else chance.choice((2, 3))
    signature = sign(derive_secret(MASTER_KEY, key, version).encode(), canonical(timestamp, method, target, body))
    parts = (key, timestamp, signature, method, target, body.decode())
    return dict(zip(_PARTS, parts, strict=True))


def make(chance: Random) -> Case:
    """Return a good request and then what is changed of it."""
    request = good(chance)
    case: Case = list(request.items())
    for _ in range(chance.choice((0, 1, 1, 1, 2))):
        case.append(_change(chance, request))
    return case


def _change(chance: Random, request: dict[str, str]) -> tuple[str, str]:
    name = chance.choice(_PARTS)
    text = request[name]
    match chance.randrange(6):
        case 0:
            return name, chance.choice(_STRANGE)
        case 1:
            return name, text.swapcase()
        case 2:
            return name, text + chance.choice(("\n", " ", "\x00", "0", "%20", "&a=b", "?"))
        case 3:
            return name, chance.choice(("\n", " ", "0", "+", "-")) + text
        case _:
            return name, damaged(chance, text.encode()).decode("latin-1")


def check(case: Case) -> None:
    """Judge a request: it is taken if what was signed is what arrived, else refused as a bad or an old one."""
    signed = dict(case[: len(_PARTS)])
    if tuple(signed) != _PARTS:
        return
    given = signed | dict(case[len(_PARTS) :])
    request = _request(given)
    if request is None:
        return
    accepted = False
    with suppress(InvalidSignature, KeyExpired, RateLimited):
        caller = ring().authenticate(request, mutating=False)
        accepted = True
        assert caller.api_key == given["api_key"] == signed["api_key"]
    same = _canonical(signed) in (_canonical(given), _bare(given))
    fits = same and given["signature"] == signed["signature"] and given["api_key"] == signed["api_key"]
    assert accepted == (fits and _in_form(given)), "taken" if accepted else "refused"


def _request(given: dict[str, str]) -> SignedRequest | None:
    """Return the request, unless it holds what no wire can carry to here."""
    try:
        body = given["body"].encode()
        (given["method"] + given["target"]).encode()
    except UnicodeEncodeError:
        return None
    return SignedRequest(
        api_key=given["api_key"],
        timestamp=given["timestamp"],
        signature=given["signature"],
        method=given["method"],
        target=given["target"],
        body=body,
    )


def _canonical(given: dict[str, str]) -> str:
    return given["timestamp"] + given["method"] + given["target"] + given["body"]


def _bare(given: dict[str, str]) -> str:
    """Return what may have been signed instead: the path without its query."""
    return given["timestamp"] + given["method"] + given["target"].partition("?")[0] + given["body"]


def _in_form(given: dict[str, str]) -> bool:
    return given["timestamp"].isascii() and abs(int(given["timestamp"]) - NOW_MS) <= 30_000


TARGET: Final = Target(name="signatures", make=make, check=check)
