"""Moments in and out of ISO 8601, and identities out of facts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipaid.model.ident import (
    CLIENT_ORDER_ID_MAX,
    STRATEGY_ID,
    client_order_id,
    derived_id,
    random_id,
    strategy_id,
)
from pipaid.model.moment import DAY_MS, iso_millis, iso_seconds, parse_iso, utc_day

AT_MS = 1_770_091_506_078


def test_moments_are_shown_in_utc() -> None:
    assert iso_seconds(AT_MS) == "2026-02-03T04:05:06Z"
    assert iso_millis(AT_MS) == "2026-02-03T04:05:06.078Z"


def test_whole_seconds_are_cut_and_not_rounded() -> None:
    assert iso_seconds(AT_MS // 1000 * 1000 + 999) == "2026-02-03T04:05:06Z"


@pytest.mark.parametrize(
    "text",
    ["2026-02-03T04:05:06.078Z", "2026-02-03T05:05:06.078+01:00", "2026-02-03T04:05:06.078", "2026-02-03 04:05:06.078"],
)
def test_moments_are_read_whatever_their_zone(text: str) -> None:
    assert parse_iso(text) == AT_MS


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01T00:00:00Z", "1770091506078x"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"isoformat|month"):
        parse_iso(text)


@given(st.integers(0, 253_402_300_799_999))
def test_a_moment_survives_its_text(at_ms: int) -> None:
    assert parse_iso(iso_millis(at_ms)) == at_ms


def test_a_day_changes_at_midnight_utc() -> None:
    assert utc_day(DAY_MS - 1) == 0
    assert utc_day(DAY_MS) == 1


def test_ids_have_the_published_shapes() -> None:
    assert STRATEGY_ID.fullmatch(strategy_id(bytes(range(8))))
    assert strategy_id(b"\x8f\x2a\x1b\x00rest") == "strat_8f2a1b00"
    assert random_id("run", bytes(range(6))) == "run_000102030405"
    assert re.fullmatch(r"ord_[0-9a-f]{12}", derived_id("ord", "strat_1", 7))


def test_a_derived_id_depends_on_nothing_but_its_facts() -> None:
    assert derived_id("ord", "strat_1", 7) == derived_id("ord", "strat_1", 7)
    assert len({derived_id("x", "a", "bc"), derived_id("x", "ab", "c"), derived_id("x", "a", "b", "c")}) == 3


@given(st.text(max_size=40), st.text(max_size=40), st.integers(0, 2**40 - 1))
def test_a_client_order_id_fits_every_venue(account: str, strategy: str, sequence: int) -> None:
    made = client_order_id(account, strategy, sequence)

    assert re.fullmatch(r"[a-z0-9]+", made)
    assert len(made) <= CLIENT_ORDER_ID_MAX


def test_client_order_ids_are_ordered_by_their_number_and_told_apart_by_their_owner() -> None:
    made = [client_order_id("acct", "strat_1", number) for number in (1, 9, 10, 255, 256, 4096)]

    assert made == sorted(made)
    assert client_order_id("acct", "strat_1", 1) != client_order_id("acct", "strat_2", 1)
    assert client_order_id("acct_1", "strat", 1) != client_order_id("acct_2", "strat", 1)
