"""Bearer tokens: JSON Web Tokens of exactly one form, which nobody but the daemon makes, and it alone reads.

The header is compared and never read, so that no token can choose how it is judged; nothing else is decoded before the
signature over it has been found right.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from pipaid.errors import InvalidSignature, KeyExpired
from pipaid.model.account import TTL_S_MAX
from pipaid.model.moment import iso_seconds

TOKEN_CHARS_MAX: Final = 2_048
# A clock that was set back in between may find a token of its own that was made a little later.
SKEW_S: Final = 30
_Short = Annotated[str, Meta(min_length=1, max_length=64)]
_Seconds = Annotated[int, Meta(ge=0, le=2**40)]
_encode: Final = msgspec.json.Encoder().encode


class Claims(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a token says: for which user of which organisation it speaks, what they may do, and from when to when.

    `scope` names scopes with blanks between them; `jti` is the token's own id.
    """

    sub: _Short
    org: _Short
    scope: Annotated[str, Meta(max_length=256)]
    iat: _Seconds
    exp: _Seconds
    jti: _Short


def made_token(claims: Claims, key: bytes, version: int) -> str:
    """Return the token with these claims, signed with one version of the key."""
    signed = f"{_header(version)}.{_text(_encode(claims))}"
    return f"{signed}.{_signature(signed, key)}"


def read_token(token: str, key: bytes, version: int, *, now_s: int) -> Claims:
    """Return what a token says; raise InvalidSignature for one that is not ours, KeyExpired for one that was once."""
    if len(token) > TOKEN_CHARS_MAX or not token.isascii():
        raise InvalidSignature(f"a token is ASCII of at most {TOKEN_CHARS_MAX} characters")
    signed, _, signature = token.rpartition(".")
    header, _, payload = signed.partition(".")
    right = hmac.compare_digest(_signature(signed, key), signature)
    if not right or header != _header(version):
        raise InvalidSignature("the token is none that this daemon made, or tokens were rotated since")
    try:
        claims = msgspec.json.decode(base64.b64decode(payload + "=" * (-len(payload) % 4), b"-_", True), type=Claims)
    except (binascii.Error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InvalidSignature("the token does not say what a token has to") from None
    if claims.iat > now_s + SKEW_S:
        raise InvalidSignature("the token was made later than now")
    if claims.exp - claims.iat > TTL_S_MAX:
        raise InvalidSignature(f"the token is good for longer than {TTL_S_MAX} s")
    if now_s >= claims.exp:
        raise KeyExpired(f"the token was good until {iso_seconds(claims.exp * 1_000)}; make a new one")
    return claims


def _header(version: int) -> str:
    return _text(_encode({"alg": "HS256", "typ": "JWT", "kid": str(version)}))


def _signature(signed: str, key: bytes) -> str:
    return _text(hmac.new(key, signed.encode(), hashlib.sha256).digest())


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
