"""Cursors: opaque, bound to their filters, forgiving to the bare form, strict with everything else."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipaid.errors import InvalidParameter
from pipaid.model.paging import decode_cursor, encode_cursor, filters_hash
from pipaid.model.request import StrategyList
from pipaid.model.strategy import Status

FILTERS = filters_hash("strategy.list", StrategyList())


def packed(content: object) -> str:
    text = content if isinstance(content, bytes) else msgspec.json.encode(content)
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


@given(st.integers(0, 2**53), st.text(min_size=1, max_size=60), st.sampled_from([1, 1_000]))
def test_a_cursor_comes_back_as_it_was_made(sort: int, key: str, unit_us: int) -> None:
    cursor = encode_cursor(sort, key, filters=FILTERS, unit_us=unit_us)

    assert "=" not in cursor
    assert decode_cursor(cursor, filters=FILTERS, unit_us=unit_us) == (sort, key)


def test_a_cursor_is_compact_json_with_microseconds() -> None:
    cursor = encode_cursor(1_700_000_000_123, "ord_1", filters=FILTERS, unit_us=1_000)

    content = msgspec.json.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))

    assert content == {"v": 1, "k": "1700000000123000", "id": "ord_1", "f": FILTERS}


def test_no_cursor_is_the_first_page() -> None:
    assert decode_cursor(None, filters=FILTERS) is None


def test_a_cursor_of_other_filters_is_refused() -> None:
    cursor = encode_cursor(1, "strat_1", filters=FILTERS)
    other = filters_hash("strategy.list", StrategyList(status=Status.PAUSED))

    with pytest.raises(InvalidParameter, match="other filters"):
        decode_cursor(cursor, filters=other)


def test_limit_and_cursor_are_no_filters() -> None:
    assert filters_hash("strategy.list", StrategyList(limit=5, cursor="x")) == FILTERS
    assert filters_hash("strategy.orders", StrategyList()) != FILTERS


@pytest.mark.parametrize(("unit_us", "sort"), [(1, 1_767_290_400_000_000), (1_000, 1_767_290_400_000)])
def test_the_bare_form_starts_below_its_second(unit_us: int, sort: int) -> None:
    cursor = packed({"created_at": "2026-01-01T18:00:00Z"})

    assert decode_cursor(cursor, filters=FILTERS, unit_us=unit_us) == (sort, "")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "!!!",
        "a",
        "é",
        "x" * 600,
        packed(b"\xff"),
        packed(b"[" * 300),
        packed([]),
        packed("x"),
        packed({}),
        packed({"created_at": 5}),
        packed({"created_at": "soon"}),
        packed({"created_at": "1960-01-01T00:00:00Z"}),
        packed({"submitted_at": "2026-01-01T18:00:00Z"}),
        packed({"v": 2, "k": "1", "id": "x", "f": FILTERS}),
        packed({"v": True, "k": "1", "id": "x", "f": FILTERS}),
        packed({"v": 1, "k": 1, "id": "x", "f": FILTERS}),
        packed({"v": 1, "k": "-1", "id": "x", "f": FILTERS}),
        packed({"v": 1, "k": "١", "id": "x", "f": FILTERS}),
        packed({"v": 1, "k": "9" * 40, "id": "x", "f": FILTERS}),
        packed({"v": 1, "k": "1", "id": 5, "f": FILTERS}),
        packed({"v": 1, "k": "1", "id": "x", "f": FILTERS, "more": 1}),
        packed({"v": 1, "k": "1", "id": "x", "f": FILTERS}) + "==",
    ],
)
def test_a_malformed_cursor_is_refused_by_name(cursor: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        decode_cursor(cursor, filters=FILTERS)

    assert [field for field, _ in refused.value.details] == ["cursor"]


@given(st.text(max_size=80) | st.binary(max_size=60).map(packed))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    try:
        found = decode_cursor(text, filters=FILTERS)
    except InvalidParameter:
        return
    assert found is not None
