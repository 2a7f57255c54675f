"""Signatures are judged as the contract says: its vectors, its window, its replays, its scopes."""

from __future__ import annotations

import hashlib
import hmac

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipaid.errors import InvalidParameter, InvalidSignature, RateLimited
from pipaid.model.letter import signed_text
from pipaid.wire.signing import (
    SECRET_CHARS,
    WINDOW_MS,
    ReplayMemory,
    Scope,
    SignedRequest,
    canonical,
    check_form,
    derive_secret,
    expand_scopes,
    matches,
    sign,
)
from pipaid.wire.websocket import close_frame

SECRET = b"pk_demo_secret_7Qm2"
AT = "1767225600000"
NOW_MS = int(AT)
VECTORS = [
    (
        "POST",
        "/v1/strategies/strat_5e07c1d9/deploy",
        b'{"dry_run":true}',
        "6a9ca7932bdb362790e5139dbdad8a9f1e0f3ab9311b6152561b14804b60e0c0",
    ),
    ("GET", "/v1/strategies/strat_5e07c1d9", b"", "77a2cccaa02768a0d557f7ce0254bf037cb1a602b2cbd16e868604bd2e03bede"),
    (
        "GET",
        "/v1/strategies?status=paused&limit=5",
        b"",
        "b6f95ee58b5dcf7264f9c58e0036d6715c975baf6aaed53278c63cde1877f590",
    ),
    ("GET", "/v1/strategies", b"", "fd6d9bc543e0ddbe22ab28b554d3c68477b0c44baa88f3a28b5b8aa932e23464"),
    ("GET", "/v1/ws", b"", "f602d674691efa1ce82578cb55289d583235b966a1ba98cda78215342984fdd6"),
]


def make_request(
    *,
    api_key: str = "pk_1",
    timestamp: str = AT,
    signature: str | None = None,
    method: str = "GET",
    target: str = "/v1/ws",
    body: bytes = b"",
) -> SignedRequest:
    if signature is None:
        signature = sign(SECRET, canonical(timestamp, method, target, body))
    return SignedRequest(
        api_key=api_key, timestamp=timestamp, signature=signature, method=method, target=target, body=body
    )


@pytest.mark.parametrize(("method", "target", "body", "signature"), VECTORS)
def test_the_published_vectors_hold(method: str, target: str, body: bytes, signature: str) -> None:
    assert sign(SECRET, canonical(AT, method, target, body)) == signature
    assert matches(SECRET, make_request(method=method, target=target, body=body, signature=signature))


def test_a_signature_over_the_bare_path_is_accepted_unless_the_query_is_strict() -> None:
    bare = sign(SECRET, canonical(AT, "GET", "/v1/strategies"))
    request = make_request(target="/v1/strategies?status=paused&limit=5", signature=bare)

    assert matches(SECRET, request)
    assert not matches(SECRET, request, strict_query=True)


def test_a_signature_over_another_query_is_not_accepted() -> None:
    other = sign(SECRET, canonical(AT, "GET", "/v1/strategies?limit=6"))

    assert not matches(SECRET, make_request(target="/v1/strategies?limit=5", signature=other))


@pytest.mark.parametrize("skew_ms", [-WINDOW_MS, 0, WINDOW_MS])
def test_the_window_includes_both_ends(skew_ms: int) -> None:
    check_form(make_request(), now_ms=NOW_MS - skew_ms)


@pytest.mark.parametrize(("skew_ms", "side"), [(-WINDOW_MS - 1, "behind"), (WINDOW_MS + 1, "ahead of")])
def test_a_stale_timestamp_is_refused_and_the_message_says_on_which_side(skew_ms: int, side: str) -> None:
    with pytest.raises(InvalidSignature, match=side):
        check_form(make_request(), now_ms=NOW_MS - skew_ms)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("api_key", ""),
        ("api_key", "k" * 65),
        ("api_key", "schlüssel"),
        ("api_key", "pk_1\n"),
        ("timestamp", ""),
        ("timestamp", "-1767225600000"),
        ("timestamp", "1767225600000.0"),
        ("timestamp", "١٧٦٧٢٢٥٦٠٠٠٠٠"),
        ("timestamp", "9" * 5_000),
        ("signature", ""),
        ("signature", "F" * 64),
        ("signature", "f" * 63),
        ("signature", "é" * 64),
    ],
)
def test_what_is_missing_or_malformed_is_refused_before_any_key_is_looked_at(field: str, value: str) -> None:
    request = msgspec.structs.replace(make_request(), **{field: value})

    with pytest.raises(InvalidSignature):
        check_form(request, now_ms=NOW_MS)


def test_who_signed_nothing_is_told_what_to_send_also_where_a_connection_is_closed_for_it() -> None:
    with pytest.raises(InvalidSignature, match="X-PipAI-API-Key, X-PipAI-Timestamp, X-PipAI-Signature") as refused:
        check_form(make_request(signature=""), now_ms=NOW_MS)

    assert close_frame(4401, str(refused.value)).endswith(str(refused.value).encode())


@given(st.text(), st.text(), st.text())
def test_no_text_breaks_the_check(api_key: str, timestamp: str, signature: str) -> None:
    request = make_request(api_key=api_key, timestamp=timestamp, signature=signature)
    try:
        check_form(request, now_ms=NOW_MS)
    except InvalidSignature:
        return
    assert not matches(SECRET, request) or signature == sign(SECRET, canonical(timestamp, "GET", "/v1/ws"))


def test_secrets_are_derived_from_nothing_but_master_key_id_and_version() -> None:
    digest = hmac.new(b"m" * 32, b"pk_1\x1f2", hashlib.sha256).digest()
    secret = derive_secret(b"m" * 32, "pk_1", 2)

    assert len(secret) == SECRET_CHARS == 40
    assert secret.isascii()
    assert secret.isalnum()
    assert secret == derive_secret(b"m" * 32, "pk_1", 2)
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    value = sum(alphabet.index(digit) * 62**place for place, digit in enumerate(secret))
    assert value == int.from_bytes(digest) % 62**40
    assert len({derive_secret(key, name, v) for key in (b"m" * 32, b"n" * 32) for name in "ab" for v in (1, 2)}) == 8


def test_permission_names_expand_to_scopes() -> None:
    reads = {Scope.STRATEGIES_READ, Scope.BACKTEST_READ, Scope.WEBHOOKS_READ}
    writes = {Scope.STRATEGIES_WRITE, Scope.BACKTEST_WRITE, Scope.WEBHOOKS_WRITE}

    assert expand_scopes(["read-only"]) == reads
    assert expand_scopes(["trade"]) == reads | writes
    assert expand_scopes(["withdraw"]) == set()
    assert expand_scopes(["withdraw", "webhooks:read", "admin"]) == {Scope.WEBHOOKS_READ, Scope.ADMIN}
    with pytest.raises(InvalidParameter, match="'everything'"):
        expand_scopes(["everything"])


def test_a_repeated_mutation_is_refused_and_one_of_another_key_is_not() -> None:
    memory = ReplayMemory()
    memory.note(make_request(), now_ms=NOW_MS)

    with pytest.raises(InvalidSignature, match="before"):
        memory.note(make_request(), now_ms=NOW_MS + WINDOW_MS)
    memory.note(make_request(api_key="pk_2"), now_ms=NOW_MS)
    memory.note(make_request(timestamp=str(NOW_MS + 1)), now_ms=NOW_MS)


def test_a_clock_set_back_does_not_let_a_request_through_twice() -> None:
    memory = ReplayMemory()
    memory.note(make_request(), now_ms=NOW_MS)
    for later in range(100):
        at_ms = NOW_MS + 3_600_000 + later
        memory.note(make_request(timestamp=str(at_ms)), now_ms=at_ms)

    with pytest.raises(InvalidSignature):
        memory.note(make_request(), now_ms=NOW_MS)


def test_a_full_memory_forgets_what_is_stale_and_refuses_when_nothing_is() -> None:
    memory = ReplayMemory(per_key_max=10)
    for number in range(10):
        memory.note(make_request(timestamp=str(NOW_MS + number)), now_ms=NOW_MS)

    with pytest.raises(RateLimited):
        memory.note(make_request(timestamp=str(NOW_MS + 10)), now_ms=NOW_MS + WINDOW_MS)
    memory.note(make_request(timestamp=str(NOW_MS + 10)), now_ms=NOW_MS + WINDOW_MS + 1)
    with pytest.raises(InvalidSignature):
        memory.note(make_request(timestamp=str(NOW_MS + 9)), now_ms=NOW_MS + WINDOW_MS + 1)


def test_a_delivery_is_signed_as_its_receivers_expect() -> None:
    body = b'{"id":"evt_00c0ffee1234","type":"webhook.test","created_at":"2026-01-01T00:00:00.000Z","data":{}}'

    signature = sign(b"wHs3crEt0000000000000000000000000000ABCD", signed_text("1767225600000", body))

    assert signature == "db3ccb6076b1c8739c0e76ecb8ec7ce39c06f259f333bd7bbd8b57393a56267f"
