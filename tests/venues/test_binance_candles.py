"""Pages of candles: exact to the last digit, and refused by row when they cannot be true."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from pipaid.errors import ExchangeError
from pipaid.model.instrument import Timeframe
from pipaid.venues.binance_candles import PageAsked, candles_of
from tests.venues.candle_server import MINUTE_MS, START_MS, Row, minutes, row

ASKED = PageAsked("BTCUSDT", Timeframe.M1, START_MS, START_MS + 100 * MINUTE_MS, 10, "https://venue.test/x, page 7")
# As the venue documents it.
DOCUMENTED = (
    b'[[1499040000000,"0.01634790","0.80000000","0.01575800","0.01577100","148976.11427815",1499126399999,'
    b'"2434.19055334",308,"1756.87402397","28.46694368","17928899.62484339"]]'
)


def test_a_page_is_read_to_the_last_digit() -> None:
    asked = evolve(ASKED, timeframe=Timeframe.D1, start_ms=1_499_040_000_000, end_ms=1_499_126_400_000)
    candles = candles_of(DOCUMENTED, asked)

    assert candles is not None
    (only,) = candles
    assert (only.open, only.high, only.low, only.close) == tuple(
        map(Decimal, ("0.0163479", "0.8", "0.015758", "0.015771"))
    )
    assert (only.volume, only.open_time_ms) == (Decimal("148976.11427815"), 1_499_040_000_000)


def test_numbers_without_quotes_and_with_exponents_are_read_too() -> None:
    body = b'[[%d,107731.50,"1.077315E5",107731.5,107731.5,"0E-8",%d]]' % (START_MS, START_MS + 59_999)
    candles = candles_of(body, ASKED)

    assert candles is not None
    (only,) = candles
    assert {only.open, only.high, only.low, only.close} == {Decimal("107731.5")}
    assert only.volume == 0


def test_an_empty_page_is_nothing() -> None:
    assert candles_of(b"[]", ASKED) is None


@given(st.lists(st.tuples(st.integers(1, 10**12), st.integers(0, 3)), min_size=1, max_size=10))
def test_whatever_decimals_come_they_are_kept(units: list[tuple[int, int]]) -> None:
    prices = [Decimal(number).scaleb(-places) for number, places in units]
    rows = [
        [START_MS + place * MINUTE_MS, *[f"{price:f}"] * 5, START_MS + place * MINUTE_MS + 59_999]
        for place, price in enumerate(prices)
    ]
    candles = candles_of(msgspec.json.encode(rows), ASKED)

    assert candles is not None
    assert [each.close for each in candles] == prices
    assert [each.volume for each in candles] == prices


def changed(place: int, **columns: Any) -> list[Row]:
    """Return five rows, one of which is wrong."""
    rows = minutes(range(5))
    for name, value in columns.items():
        rows[place][("time", "open", "high", "low", "close", "volume", "end").index(name)] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (changed(2, close="x"), 'row 3 at 2023-11-15T00:02:00Z: close is "x"'),
        (changed(2, close="NaN"), 'row 3 at 2023-11-15T00:02:00Z: close is "NaN"'),
        (changed(2, close=None), "row 3 at 2023-11-15T00:02:00Z: close is null"),
        (changed(2, open="1_0"), 'open is "1_0"'),
        (changed(2, open=" 1"), 'open is " 1"'),
        (changed(2, open="١"), "row 3"),
        (changed(2, volume="-1"), 'volume is "-1"'),
        (changed(2, high="1e999999999"), 'high is "1e999999999"'),
        (changed(2, high="9" * 500), "row 3"),
        (changed(2, high="1e40"), "row 3: BTCUSDT: a number has more than"),
        (changed(2, low="0.00000000000000001"), "row 3: BTCUSDT: a number has more than 12 decimals"),
        (changed(2, low="0"), "row 3 at 2023-11-15T00:02:00Z: a price is not above zero"),
        (changed(2, high="1"), "row 3 at 2023-11-15T00:02:00Z: high and low do not enclose open and close"),
        (changed(2, time=START_MS + MINUTE_MS), "row 3: the open time 2023-11-15T00:01:00Z lies outside"),
        (changed(2, time=START_MS), "row 3: the open time 2023-11-15T00:00:00Z lies outside"),
        (changed(0, time=START_MS - MINUTE_MS), "row 1: the open time 2023-11-14T23:59:00Z lies outside"),
        (changed(4, time=START_MS + 100 * MINUTE_MS), "row 5: the open time 2023-11-15T01:40:00Z lies outside"),
        (changed(2, time=10**30), "row 3: rows of candles expected"),
        (changed(2, time=-1), "row 3: rows of candles expected"),
        (changed(2, time="1"), "row 3: rows of candles expected"),
        (changed(2, time=1.5), "row 3: rows of candles expected"),
        (
            changed(4, time=START_MS + 4 * MINUTE_MS + 1),
            "row 5 at 2023-11-15T00:04:00Z: the open time is not a multiple",
        ),
        ([row(START_MS, 5 * MINUTE_MS)], "row 1 at 2023-11-15T00:00:00Z: it ends at 2023-11-15T00:04:59Z"),
        (changed(1, end=0), "row 2 at 2023-11-15T00:01:00Z: it ends at 1970"),
        (minutes(range(11)), "11 rows where at most 10 were asked for"),
        ([[START_MS, "1", "1", "1"]], "row 1: rows of candles expected"),
        ([7], "row 1: rows of candles expected"),
        ({"symbol": "ETHUSDT"}, "rows of candles expected"),
        (None, "rows of candles expected"),
    ],
)
def test_a_page_that_cannot_be_true_is_refused_with_its_row(rows: Any, told: str) -> None:
    with pytest.raises(ExchangeError) as refused:
        candles_of(msgspec.json.encode(rows), ASKED)
    assert refused.value.message.startswith("https://venue.test/x, page 7")
    assert told in refused.value.message


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<!DOCTYPE html><html>We are down", "JSON expected, a page for people came: '<!DOCTYPE html>"),
        (b"", "JSON expected, something else came: ''"),
        (b"[[1", "JSON expected, something else came"),
        (b"\xff\xfe\x00", "JSON expected, something else came"),
        (b"[" * 100_000, "row 1"),
        (b"[[" + b"9" * 5_000, "row 1"),
    ],
)
def test_what_is_no_json_is_refused(body: bytes, told: str) -> None:
    with pytest.raises(ExchangeError) as refused:
        candles_of(body, ASKED)
    assert told in refused.value.message


@given(st.data())
def test_a_damaged_page_is_refused_or_still_true(data: st.DataObject) -> None:
    body = bytearray(msgspec.json.encode(minutes(range(4))))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        candles = candles_of(bytes(body), ASKED)
    except ExchangeError:
        return
    assert candles is None or not [fault for fault in candles.faults() if fault.kind != "gap"]
