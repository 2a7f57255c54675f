"""Files of recorded data: told apart by header, and refused with file, row and reason when they cannot be true."""

from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path

import pytest

from pipaid.errors import InvalidParameter
from pipaid.seams import SystemDisk
from pipaid.venues.recorded import Recorded, load
from pipaid.venues.symbols import base_and_quote
from tests.venues.following import CANDLE_HEADER, write_csv

D = Decimal
START_MS = 1_748_169_000_000
GOOD = f"{START_MS},10,12,9,11,1.5"
NEXT = f"{START_MS + 60_000},11,12,9,11,1.5"


def loaded(folder: Path, pattern: str = "*") -> Recorded:
    return load(SystemDisk(), [str(folder / pattern)])


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("x,10,12,9,11,1.5", "row 3: 6 columns with a time in milliseconds or ISO 8601"),
        (f"{START_MS + 60_000},10,12,9,11", "row 3: 6 columns"),
        (f"{START_MS + 60_000},10,12,9,abc,1.5", "row 3: 'abc' is no number"),
        (f"{START_MS + 60_000},10,NaN,9,11,1.5", "row 3: 'NaN' is no number"),
        (f"{START_MS + 60_000},10,10.5,9,11,1.5", "row 3: high and low do not enclose open and close"),
        (f"{START_MS + 60_000},10,12,-9,11,1.5", "row 3: a price is not a positive number"),
        (f"{START_MS + 60_000},10,12,9,11,-1", "row 3: the volume is not"),
        (f"{START_MS + 60_001},10,12,9,11,1.5", "row 3: the open time is not a multiple of 1m"),
        (GOOD, "row 3: the time does not go up"),
        ("", "row 3: 6 columns"),
    ],
)
def test_a_row_that_cannot_be_true_is_named_by_file_and_row(tmp_path: Path, wrong: str, reason: str) -> None:
    path = write_csv(tmp_path / "AAAUSDT-1m.csv", CANDLE_HEADER, [GOOD, wrong, NEXT])

    with pytest.raises(InvalidParameter) as caught:
        loaded(tmp_path)

    assert str(path) in caught.value.message
    assert reason in caught.value.message


@pytest.mark.parametrize(
    ("row", "reason"),
    [("5,0,1", "above zero"), ("5,1,x", "'x' is no number"), ("3,1,1", "the time goes back")],
)
def test_a_market_trade_that_cannot_be_true_is_named(tmp_path: Path, row: str, reason: str) -> None:
    write_csv(tmp_path / "AAAUSDT-trades.csv", "time_ms,price,size", ["4,1,1", row])

    with pytest.raises(InvalidParameter, match=f"row 3: .*{reason}"):
        loaded(tmp_path)


def test_many_faults_are_named_up_to_a_bound(tmp_path: Path) -> None:
    write_csv(tmp_path / "AAAUSDT-1m.csv", CANDLE_HEADER, ["bad"] * 100)

    with pytest.raises(InvalidParameter) as caught:
        loaded(tmp_path)

    assert len(caught.value.details) == 10


def test_a_pattern_that_matches_nothing_says_where_it_looked_and_what_to_get(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter) as caught:
        loaded(tmp_path / "nowhere", "*.csv")

    assert f"{tmp_path / 'nowhere'} does not exist" in caught.value.message
    assert CANDLE_HEADER in caught.value.message
    with pytest.raises(InvalidParameter, match="holds no such file"):
        loaded(tmp_path, "*.csv")


def test_a_foreign_header_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    write_csv(tmp_path / "AAAUSDT-1m.csv", "time_ms,bid_open,ask_open", ["1,2,3"])

    with pytest.raises(InvalidParameter, match="neither that of candles"):
        loaded(tmp_path)


def test_a_file_without_a_symbol_in_its_name_is_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "candles.csv", CANDLE_HEADER, [GOOD])

    with pytest.raises(InvalidParameter, match="no symbol in the name"):
        loaded(tmp_path)


def test_a_damaged_or_cut_gzip_file_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress("\n".join([CANDLE_HEADER, GOOD, NEXT]).encode())
    for data, reason in ((whole[: len(whole) // 2], "cut off"), (b"plain text", "not a gzip file")):
        (tmp_path / "AAAUSDT-1m.csv.gz").write_bytes(data)
        with pytest.raises(InvalidParameter, match=reason):
            loaded(tmp_path)


def test_a_file_larger_than_the_bound_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipaid.venues.files.FILE_BYTES_MAX", 20)
    for name in ("AAAUSDT-1m.csv", "AAAUSDT-1m.csv.gz"):
        path = write_csv(tmp_path / name, CANDLE_HEADER, [GOOD])
        with pytest.raises(InvalidParameter, match="more than 20 bytes"):
            load(SystemDisk(), [str(path)])


def test_candles_of_another_timeframe_are_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "AAAUSDT-5m.csv", CANDLE_HEADER, [GOOD, f"{START_MS + 300_000},11,12,9,11,1.5"])

    with pytest.raises(InvalidParameter, match="5 minutes apart"):
        loaded(tmp_path)


def test_candles_and_market_trades_do_not_mix(tmp_path: Path) -> None:
    write_csv(tmp_path / "AAAUSDT-1m.csv", CANDLE_HEADER, [GOOD])
    write_csv(tmp_path / "BBBUSDT-trades.csv", "time_ms,price,size", ["4,1,1"])

    with pytest.raises(InvalidParameter, match="not both"):
        loaded(tmp_path)


def test_published_files_need_no_header_and_may_count_microseconds(tmp_path: Path) -> None:
    columns = f"10,12,9,11,1.5,{START_MS + 59_999},16,3,1,10,0"
    write_csv(tmp_path / "AAAUSDT-1m-2025-05.csv", "", [f"{START_MS}000,{columns}"])

    tape = loaded(tmp_path).candles["AAAUSDT"]

    assert [tape.time_ms(index) for index in range(len(tape))] == [START_MS]
    assert tape.candle(0).close == 11


def test_files_of_one_symbol_join_and_may_overlap_where_they_agree(tmp_path: Path) -> None:
    write_csv(tmp_path / "AAAUSDT-1m-b.csv", CANDLE_HEADER, [NEXT, f"{START_MS + 120_000},11,12,9,11,1.5"])
    write_csv(tmp_path / "AAAUSDT-1m-c.csv", CANDLE_HEADER, [GOOD, NEXT.replace("1.5", "1.50")])

    assert len(loaded(tmp_path).candles["AAAUSDT"]) == 3

    write_csv(tmp_path / "AAAUSDT-1m-d.csv", CANDLE_HEADER, [GOOD, NEXT.replace("12", "13")])
    with pytest.raises(InvalidParameter, match="another candle of the same minute"):
        loaded(tmp_path)


def test_steps_are_inferred_from_the_finest_decimals_or_taken_from_a_table(tmp_path: Path) -> None:
    rows = [f"{START_MS},10.0,12.250,9.5,11,1.500", f"{START_MS + 60_000},11,12,9,11,33.35399601000002"]
    write_csv(tmp_path / "AAAUSDT-1m.csv", CANDLE_HEADER, rows)
    header = "market,symbol,type,minimum_price_variation,lot_size,minimum_order_size"
    listed_rows = ["b,AAAUSDT,crypto,0.5,0.1,7", "b,AAAUSDT,cryptofuture,0.25,0.2", "b,BBB,crypto,x,y,z"]
    table = write_csv(tmp_path / "table.csv", header, listed_rows)

    inferred = loaded(tmp_path, "AAA*").instruments["AAAUSDT"]
    listed = load(SystemDisk(), [str(tmp_path / "AAA*")], instruments_file=table).instruments["AAAUSDT"]

    assert (inferred.tick_size, inferred.lot_size, inferred.base) == (D("0.01"), D("0.00000001"), "AAA")
    assert (listed.tick_size, listed.lot_size, listed.notional_min) == (D("0.25"), D("0.2"), D(5))


def test_a_table_row_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write_csv(tmp_path / "AAAUSDT-1m.csv", CANDLE_HEADER, [GOOD])
    table = write_csv(tmp_path / "table.csv", "symbol,type,minimum_price_variation,lot_size", ["AAAUSDT,crypto,x,1"])

    with pytest.raises(InvalidParameter, match="row 2: 'x' is no number"):
        load(SystemDisk(), [str(tmp_path / "AAA*")], instruments_file=table)


@pytest.mark.parametrize(
    ("symbol", "split"),
    [("BTCUSDT", ("BTC", "USDT")), ("ETHUSD", ("ETH", "USD")), ("USDT", ("USDT", "USDT")), ("XYZ", ("XYZ", "USDT"))],
)
def test_a_symbol_is_split_into_base_and_quote(symbol: str, split: tuple[str, str]) -> None:
    assert base_and_quote(symbol) == split
