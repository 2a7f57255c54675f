"""Tokens of one form: what the daemon made is read, whatever else is shown as one is refused before it is decoded."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipaid.errors import InvalidSignature, KeyExpired
from pipaid.model.account import TTL_S_MAX
from pipaid.wire.token import SKEW_S, TOKEN_CHARS_MAX, Claims, made_token, read_token

KEY = b"k" * 40
NOW_S = 1_767_225_600
CLAIMS = Claims(sub="alice", org="main", scope="strategies:read", iat=NOW_S, exp=NOW_S + 60, jti="tok_1")


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: Any, payload: bytes, key: bytes = KEY, digest: Any = hashlib.sha256) -> str:
    """Return a token that is put together by hand, with a signature that fits it."""
    before = f"{text(msgspec.json.encode(header))}.{text(payload)}"
    return f"{before}.{text(hmac.new(key, before.encode(), digest).digest())}"


OURS = {"alg": "HS256", "typ": "JWT", "kid": "1"}
PAYLOAD = msgspec.json.encode(CLAIMS)


def claims(**changed: Any) -> bytes:
    given = {**msgspec.to_builtins(CLAIMS), **changed}
    return msgspec.json.encode({name: value for name, value in given.items() if value is not None})


def test_a_token_comes_back_as_what_it_was_made_of() -> None:
    assert read_token(made_token(CLAIMS, KEY, 1), KEY, 1, now_s=NOW_S) == CLAIMS


def test_a_token_is_a_jwt_as_everybody_else_makes_it() -> None:
    assert made_token(CLAIMS, KEY, 1) == signed(OURS, PAYLOAD)


def test_the_signature_is_the_one_of_the_published_example() -> None:
    # RFC 7515, appendix A.1: its key, what it signs, and its signature.
    key = base64.urlsafe_b64decode(
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow=="
    )
    before = (
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
        ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    )
    example = f"{before}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

    assert text(hmac.new(key, before.encode(), hashlib.sha256).digest()) == example.rpartition(".")[2]
    # It is rightly signed, and still none of ours.
    with pytest.raises(InvalidSignature):
        read_token(example, key, 1, now_s=1_300_819_000)


@pytest.mark.parametrize(
    "token",
    [
        signed({"alg": "none"}, PAYLOAD),
        f"{text(b'{}')}.{text(PAYLOAD)}.",
        f"{text(msgspec.json.encode({'alg': 'none', 'typ': 'JWT'}))}.{text(PAYLOAD)}.",
        f"{text(msgspec.json.encode(OURS))}.{text(PAYLOAD)}.",
        f"{text(msgspec.json.encode(OURS))}.{text(PAYLOAD)}",
        signed({**OURS, "alg": "RS256"}, PAYLOAD),
        signed({**OURS, "alg": "HS512"}, PAYLOAD, digest=hashlib.sha512),
        signed({**OURS, "alg": "hs256"}, PAYLOAD),
        signed({**OURS, "kid": "2"}, PAYLOAD),
        signed({**OURS, "kid": "../../etc/passwd"}, PAYLOAD),
        signed({**OURS, "jku": "https://example.com/keys"}, PAYLOAD),
        signed({**OURS, "crit": ["exp"]}, PAYLOAD),
        signed({"alg": "HS256", "typ": "JWT"}, PAYLOAD),
        signed(OURS, PAYLOAD, key=b"another key"),
        signed(OURS, PAYLOAD, key=b""),
        signed(OURS, PAYLOAD) + "=",
        signed(OURS, PAYLOAD) + ".",
        signed(OURS, PAYLOAD).replace(".", ".."),
        signed(OURS, PAYLOAD)[:-1],
        " " + signed(OURS, PAYLOAD),
        "",
        "..",
        ".",
        "é" * 100,
        "\u202e" + signed(OURS, PAYLOAD),
        "a" * (TOKEN_CHARS_MAX + 1),
        "." * TOKEN_CHARS_MAX,
    ],
)
def test_a_token_that_nobody_here_made_is_refused(token: str) -> None:
    with pytest.raises(InvalidSignature):
        read_token(token, KEY, 1, now_s=NOW_S)


@pytest.mark.parametrize(
    "payload",
    [
        *(claims(**{name: None}) for name in ("sub", "org", "scope", "iat", "exp", "jti")),
        claims(scope=["strategies:read"]),
        claims(scope=None, scopes="strategies:read"),
        claims(exp=str(NOW_S + 60)),
        claims(exp=NOW_S + 60.5),
        claims(exp=True),
        claims(exp=-1),
        claims(exp=2**64),
        claims(exp=NOW_S + TTL_S_MAX + 1),
        claims(iat=NOW_S + SKEW_S + 1, exp=NOW_S + 3_600),
        claims(nbf=NOW_S + 3_600),
        claims(sub=""),
        claims(sub="x" * 65),
        claims(sub=7),
        b"[]",
        b"null",
        b"",
        b"\xff\xfe",
        b"[" * 700,
        PAYLOAD + b"x",
    ],
)
def test_a_token_of_ours_that_does_not_say_what_it_has_to_is_refused_all_the_same(payload: bytes) -> None:
    with pytest.raises(InvalidSignature):
        read_token(signed(OURS, payload), KEY, 1, now_s=NOW_S)


@pytest.mark.parametrize("later_s", [60, 61, 86_400])
def test_a_token_is_good_until_it_ends_and_not_a_second_longer(later_s: int) -> None:
    token = made_token(CLAIMS, KEY, 1)

    assert read_token(token, KEY, 1, now_s=NOW_S + 59) == CLAIMS
    with pytest.raises(KeyExpired, match="2026-01-01T00:01:00Z"):
        read_token(token, KEY, 1, now_s=NOW_S + later_s)


def test_a_clock_that_was_set_back_a_little_knows_its_tokens_still() -> None:
    token = made_token(CLAIMS, KEY, 1)

    assert read_token(token, KEY, 1, now_s=NOW_S - SKEW_S) == CLAIMS
    with pytest.raises(InvalidSignature):
        read_token(token, KEY, 1, now_s=NOW_S - SKEW_S - 1)


def test_no_single_change_of_a_character_is_overlooked() -> None:
    token = made_token(CLAIMS, KEY, 1)

    for at, letter in enumerate(token):
        for other in ("A" if letter != "A" else "B", ".", "="):
            if other != letter:
                with pytest.raises(InvalidSignature):
                    read_token(token[:at] + other + token[at + 1 :], KEY, 1, now_s=NOW_S)


@given(st.text(max_size=200) | st.text(alphabet="abcABC123-_.=", max_size=200))
def test_nothing_else_is_ever_a_token(token: str) -> None:
    with pytest.raises(InvalidSignature):
        read_token(token, KEY, 1, now_s=NOW_S)


@given(
    st.builds(
        Claims,
        sub=st.text("abc@.é", min_size=1, max_size=64),
        org=st.text("abc", min_size=1, max_size=64),
        scope=st.just(" ".join(["strategies:read", "strategies:write", "backtest:read", "webhooks:write", "admin"])),
        iat=st.integers(NOW_S - 1_000, NOW_S),
        exp=st.integers(NOW_S + 1, NOW_S + 86_400),
        jti=st.just("tok_0123456789ab"),
    )
)
def test_whatever_is_made_can_be_read(made: Claims) -> None:
    assert read_token(made_token(made, KEY, 7), KEY, 7, now_s=NOW_S) == made
