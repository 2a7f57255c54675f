"""`pipaid data` on real files: everything the venue publishes goes in, and what is wrong is named by file and row."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import msgspec
import pytest

from pipaid.seams import SystemDisk
from pipaid.venues.recorded import load
from tests.surfaces.daemons import Ended, pipaid

HEADER = "open_time_ms,open,high,low,close,volume"
# Three minutes of a perpetual as collected, and one as the venue publishes it.
ROWS = (
    "1748169180000,107731.0,107740.3,107720.0,107740.2,33.116",
    "1748169240000,107740.3,107758.0,107740.2,107757.9,41.322",
    "1748169300000,107757.9,107758.0,107722.1,107722.1,50.705",
)
PUBLISHED = (
    "1577836800000,7195.24000000,7196.25000000,7183.14000000,7186.68000000,51.64281200,1577836859999,"
    "371233.51835535,493,19.59823000,140888.41428273,0"
)


def data(folder: Path, *words: str) -> Ended:
    return pipaid("data", *words, "--data", str(folder / "candles"))


def written(path: Path, *rows: str, header: str | None = HEADER) -> str:
    """Write a file, packed as its name says; return its path."""
    text = "\n".join((*((header,) if header is not None else ()), *rows, "")).encode()
    if path.suffix == ".gz":
        text = gzip.compress(text)
    elif path.suffix == ".zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(f"{path.stem}.csv", text)
        text = buffer.getvalue()
    path.write_bytes(text)
    return str(path)


@pytest.mark.parametrize("name", ["BTCUSDT-1m.csv", "BTCUSDT-1m-2025.csv.gz", "BTCUSDT-1m-2025-05.zip"])
def test_files_go_in_however_they_are_packed(tmp_path: Path, name: str) -> None:
    done = data(tmp_path, "import", written(tmp_path / name, *ROWS), "--venue", "binance-usdm")

    assert (done.code, done.out) == (0, f"{name}: 3 candles of BTCUSDT 1m, 3 in all\n"), done.err
    listed = msgspec.json.decode(data(tmp_path, "list", "--json").out)
    assert [(each["venue"], each["symbol"], each["rows"], each["price_decimals"]) for each in listed] == [
        ("binance-usdm", "BTCUSDT", 3, 1)
    ]
    assert data(tmp_path, "check").out == "binance-usdm BTCUSDT 1m: 3 candles, no fault\n"


def test_the_published_layout_has_no_header_and_market_trades_become_minutes(tmp_path: Path) -> None:
    published = written(tmp_path / "BTCUSDT-1m-2020-01-01.csv", PUBLISHED, header=None)
    trades = written(
        tmp_path / "ETHUSD-trades.csv.gz",
        "1625097621647,2274.53,0.5,1", "1625097650000,2275.1,0.25,0", "1625097700000,2270,1,1",
        header="time_ms,price,size,is_buyer_maker",
    )  # fmt: skip
    done = data(tmp_path, "import", published, trades)

    assert done.out.splitlines() == [
        "BTCUSDT-1m-2020-01-01.csv: 1 candles of BTCUSDT 1m, 1 in all",
        "ETHUSD-trades.csv.gz: 2 candles of ETHUSD 1m, 2 in all",
    ]


def test_a_wrong_file_is_named_with_its_row_and_harms_no_other(tmp_path: Path) -> None:
    good = written(tmp_path / "BTCUSDT-1m-a.csv", *ROWS)
    letters = written(tmp_path / "ETHUSDT-1m-b.csv", ROWS[0], "1748169240000,1,2,x,1,1")
    order = written(tmp_path / "ETHUSDT-1m-c.csv", *ROWS[::-1])
    quotes = written(tmp_path / "ETHUSDT-1m-d.csv", "1,2", header="time_s,bid")
    nobody = written(tmp_path / "1m.csv", *ROWS)
    torn = tmp_path / "ETHUSDT-1m-e.zip"
    torn.write_bytes(b"PK\x03\x04 torn")
    done = data(tmp_path, "import", letters, order, quotes, nobody, str(torn), str(tmp_path / "ETHUSDT-none.csv"), good)

    assert done.code != 0
    assert done.out == "BTCUSDT-1m-a.csv: 3 candles of BTCUSDT 1m, 3 in all\n"
    told = done.err.splitlines()
    assert len(told) == 6, done.err
    for line, expected in zip(
        told,
        ("row 3: 'x' is no number", "candle 0 is row 2", "neither that of candles", "no symbol in the name",
         "not a zip file", "there is no such file"),
        strict=True,
    ):  # fmt: skip
        assert expected in line, line
    assert "candle 1 at 2025-05-25T10:34:00Z: the time goes back" in told[1]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ((), "BTCUSDT-1m-bad.csv: the file has a header and no rows"),
        ((0, 2, 1), "candle 0 is row 2): BTCUSDT: candle 2 at 2025-05-25T10:34:00Z: the time goes back"),
        ((0, 1, 1), "candle 0 is row 2): BTCUSDT: candle 2 at 2025-05-25T10:34:00Z: a second candle of this time"),
        ((0, "1748169210000,1,1,1,1,1"), "candle 1 at 2025-05-25T10:33:30Z: it and the one before are 30 s apart"),
        ((0, "1748169240000,1,1,1,nan,1"), "candle 0 is row 2): BTCUSDT: candle 1: close is nan, not a number"),
        ((0, "1748169240000,1,inf,1,1,1"), "candle 1: high is inf, not a number"),
        ((0, "1748169240000,1,1,0,1,1"), "candle 1 at 2025-05-25T10:34:00Z: a price is not above zero"),
        ((0, "1748169240000,1,1,1"), "BTCUSDT-1m-bad.csv: row 3: 6 columns"),
        ((0, 1, "1748169240000,1,1,1,1,1"), "candle 2 at 2025-05-25T10:34:00Z: a second candle of this time"),
    ],
)
def test_candles_that_cannot_be_are_refused_by_file_and_row(
    tmp_path: Path, rows: tuple[int | str, ...], complaint: str
) -> None:
    lines = (ROWS[row] if isinstance(row, int) else row for row in rows)
    done = data(tmp_path, "import", written(tmp_path / "BTCUSDT-1m-bad.csv", *lines))

    assert done.code == 1
    assert "BTCUSDT-1m-bad.csv" in done.err
    assert complaint in done.err
    assert data(tmp_path, "list", "--json").out.strip() == "[]"


def test_a_file_of_nothing_and_market_trades_that_cannot_be_are_refused_by_name(tmp_path: Path) -> None:
    empty = tmp_path / "BTCUSDT-1m-empty.csv"
    empty.write_bytes(b"")
    trades = written(
        tmp_path / "ETHUSD-trades.csv", "1625097621647,2274.53,0.5,1", "1625097621646,2275.1,0.25,0",
        header="time_ms,price,size,is_buyer_maker",
    )  # fmt: skip

    done = data(tmp_path, "import", str(empty), trades)

    assert "BTCUSDT-1m-empty.csv: the file is empty" in done.err
    assert "ETHUSD-trades.csv (market trade 0 is row 2): ETHUSD: market trade 1: the time goes back" in done.err


def test_what_differs_is_refused_until_it_is_to_replace(tmp_path: Path) -> None:
    data(tmp_path, "import", written(tmp_path / "BTCUSDT-1m-a.csv", *ROWS))
    other = written(tmp_path / "BTCUSDT-1m-b.csv", ROWS[0], ROWS[1].replace("107757.9", "107750"))

    refused = data(tmp_path, "import", other)
    assert "import with --replace to take the new ones" in refused.err
    assert "BTCUSDT-1m-b.csv: BTCUSDT: 1 candles differ" in refused.err
    assert "the first is candle 1 at 2025-05-25T10:34:00Z" in refused.err
    assert data(tmp_path, "import", other, "--replace").code == 0


def test_gaps_are_listed_and_make_the_check_fail(tmp_path: Path) -> None:
    data(tmp_path, "import", written(tmp_path / "BTCUSDT-1m.csv", ROWS[0], ROWS[2]), "--timeframe", "1m")
    done = data(tmp_path, "check", "BTCUSDT")

    assert done.code != 0
    assert done.out.splitlines() == [
        "local BTCUSDT 1m: 2 candles, 1 fault",
        "  candle 1 at 2025-05-25T10:35:00Z: 1 candle is missing since 2025-05-25T10:33:00Z",
    ]
    assert "no candles of NOPE" in data(tmp_path, "check", "NOPE").err
    assert "one of 1m, 5m" in data(tmp_path, "import", str(tmp_path / "BTCUSDT-1m.csv"), "--timeframe", "2m").err


def test_what_is_exported_is_what_was_imported_and_a_daemon_replays_it(tmp_path: Path) -> None:
    data(tmp_path, "import", written(tmp_path / "BTCUSDT-1m.csv", *ROWS), "--venue", "binance-usdm")
    data(tmp_path, "import", written(tmp_path / "ETHUSDT-1m.csv", *ROWS))

    done = data(tmp_path, "export", "BTCUSDT", "--into", str(tmp_path / "out"))

    path = tmp_path / "out" / "BTCUSDT-1m-binance-usdm.csv.gz"
    assert (done.code, done.out) == (0, f"{path}: 3 candles\n"), done.err
    assert gzip.decompress(path.read_bytes()).decode().splitlines() == [HEADER, *ROWS]
    first = path.read_bytes()
    assert data(tmp_path, "export", "--into", str(tmp_path / "out")).out.count("\n") == 2
    assert path.read_bytes() == first
    config = tmp_path / "pipaid.toml"
    config.write_text('[market]\nkind = "replay"\nsymbols = []\nfiles = ["out/*-1m-*.csv.gz"]', encoding="utf-8")
    assert pipaid("config", "check", str(config)).code == 0
    load(SystemDisk(), [str(tmp_path / "out" / "*-1m-*.csv.gz")])


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("SOLUSDT",), "no candles of SOLUSDT in "),
        (("BTCUSDT", "--venue", "moon"), "no candles of BTCUSDT at moon in "),
        (("--venue", "moon"), "no candles of any symbol at moon in "),
    ],
)
def test_what_there_is_none_of_is_not_exported(tmp_path: Path, words: tuple[str, ...], complaint: str) -> None:
    data(tmp_path, "import", written(tmp_path / "BTCUSDT-1m.csv", *ROWS))

    done = data(tmp_path, "export", *words, "--into", str(tmp_path / "out"))

    assert (done.code, done.out) == (4, "")
    assert complaint in done.err


def test_a_check_of_no_candles_says_what_the_list_says(tmp_path: Path) -> None:
    checked, listed = data(tmp_path, "check"), data(tmp_path, "list")

    assert (checked.code, checked.out) == (0, listed.out)
    assert checked.out.startswith("no candles in ")
