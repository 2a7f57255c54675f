"""`pipaid data download` as a program: it goes on where it was ended, and says what came of it."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Generator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from attrs import evolve

from pipaid.cli.downloading import BANS
from pipaid.cli.exits import Exit
from pipaid.model.candle import Candle
from pipaid.model.instrument import Timeframe
from pipaid.storage.candles import CandleStore
from pipaid.venues.downloading import KEEP_CANDLES
from tests.surfaces.daemons import Ended, command, environment, in_terminal, pipaid
from tests.venues.candle_server import MINUTE_MS, START_MS, CandleServer, Reply, Row, candle_server, minutes

SYMBOL = "BTCUSDT"
VENUE = "binance-usdm"
FROM, TO = "2023-11-15", "2023-11-15T01:00:00Z"
ENDS_S_MAX = 60.0


@pytest.fixture
def server() -> Generator[CandleServer]:
    with candle_server() as shown:
        yield shown


def words(server: CandleServer, folder: Path, *more: str) -> list[str]:
    return ["data", "download", "--base-url", server.base, "--data", str(folder), *more]


def download(server: CandleServer, folder: Path, *more: str) -> Ended:
    return pipaid(*words(server, folder, *more))


def kept(folder: Path, symbol: str = SYMBOL) -> list[Candle]:
    held = CandleStore(folder).held(VENUE, symbol, Timeframe.M1)
    return [] if held is None else list(held)


def candle(row: Row) -> Candle:
    return Candle(SYMBOL, Timeframe.M1, row[0], *(Decimal(text) for text in row[1:6]))


def test_candles_come_with_their_gaps_named_and_once(server: CandleServer, tmp_path: Path) -> None:
    server.rows[SYMBOL] = minutes([*range(3, 20), *range(22, 50)])
    done = download(server, tmp_path, SYMBOL, "--from", FROM, "--to", TO)

    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "BTCUSDT 1m: 45 candles fetched, 45 in all",
        "  the venue has none before 2023-11-15T00:03:00Z",
        "  candle 17 at 2023-11-15T00:22:00Z: 2 candles are missing since 2023-11-15T00:19:00Z",
        "  the venue has none after 2023-11-15T00:49:00Z",
    ]
    assert kept(tmp_path) == [candle(row) for row in server.rows[SYMBOL]]

    checked = pipaid("data", "check", "--data", str(tmp_path))
    assert checked.out.splitlines()[1] == done.out.splitlines()[2]

    again = download(server, tmp_path, SYMBOL.lower(), "--from", FROM, "--to", TO, "--json")
    told = msgspec.json.decode(again.out)
    assert (again.code, told["fetched"], told["rows"], told["clipped"]) == (0, 0, 45, False)
    assert [each["kind"] for each in told["gaps"]] == ["begin", "gap", "end"]


def test_an_end_in_the_future_is_brought_forward_and_said_so(server: CandleServer, tmp_path: Path) -> None:
    server.now_ms = START_MS + 30 * MINUTE_MS + 20_000
    server.rows[SYMBOL] = minutes(range(31))
    done = download(server, tmp_path, SYMBOL, "--from", FROM, "--to", "2030-01-01")

    assert (done.code, done.out) == (0, "BTCUSDT 1m: 30 candles fetched, 30 in all\n")
    assert done.err == (
        "the candles that open at 2023-11-15T00:30:00Z and later are not closed yet; those before it are fetched\n"
    )
    assert kept(tmp_path)[-1].open_time_ms == START_MS + 29 * MINUTE_MS

    server.now_ms += MINUTE_MS
    assert download(server, tmp_path, SYMBOL, "--from", FROM).out == "BTCUSDT 1m: 1 candles fetched, 31 in all\n"


def test_a_symbol_that_is_not_listed_or_has_none_harms_no_other(server: CandleServer, tmp_path: Path) -> None:
    server.rows |= {SYMBOL: minutes(range(5)), "LATEUSDT": minutes(range(9_000, 9_010))}
    done = download(server, tmp_path, "BTCUSD", "LATEUSDT", SYMBOL, "--from", FROM, "--to", "2023-11-15T00:05")

    assert (done.code, done.out) == (Exit.REFUSED, "BTCUSDT 1m: 5 candles fetched, 5 in all\n")
    assert done.err.splitlines() == [
        "refused: binance-usdm lists no BTCUSD; near it are BTCUSDT",
        f"refused: {VENUE} has no candle of LATEUSDT 1m from 2023-11-15T00:00:00Z on and before 2023-11-15T00:05:00Z",
    ]


def test_larger_candles_lie_beside_the_smaller_ones(server: CandleServer, tmp_path: Path) -> None:
    server.rows[SYMBOL] = minutes(range(60))
    download(server, tmp_path, SYMBOL, "--from", FROM, "--to", TO)
    held = CandleStore(tmp_path).read(VENUE, SYMBOL, Timeframe.H1)
    server.rows[SYMBOL] = [
        [START_MS, *(str(each) for each in (held.candle(0).open, held.candle(0).high, held.candle(0).low)),
         str(held.candle(0).close), str(held.candle(0).volume), START_MS + 60 * MINUTE_MS - 1]
    ]  # fmt: skip
    done = download(server, tmp_path, SYMBOL, "--from", FROM, "--to", TO, "--timeframe", "1h")

    assert (done.code, done.out) == (0, "BTCUSDT 1h: 1 candles fetched, 1 in all\n")


def test_what_is_there_is_taken_anew_when_told_so(server: CandleServer, tmp_path: Path) -> None:
    server.rows[SYMBOL] = minutes(range(5))
    download(server, tmp_path, SYMBOL, "--from", FROM, "--to", "2023-11-15T00:05")
    server.rows[SYMBOL][2][5] = "77.5"
    assert "0 candles fetched" in download(server, tmp_path, SYMBOL, "--from", FROM, "--to", "2023-11-15T00:05").out
    done = download(server, tmp_path, SYMBOL, "--from", FROM, "--to", "2023-11-15T00:05", "--replace")

    assert done.out == "BTCUSDT 1m: 5 candles fetched, 5 in all\n"
    assert kept(tmp_path)[2].volume == Decimal("77.5")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ([SYMBOL, "--from", "yesterday"], "--from 'yesterday': a date such as 2025-01-31"),
        ([SYMBOL, "--from", "1969-12-31"], "--from '1969-12-31': a date"),
        ([SYMBOL, "--from", FROM, "--to", FROM], f"--from {FROM} is not before --to {FROM}"),
        ([SYMBOL, "--from", "2040-01-01"], "is closed by now"),
        ([SYMBOL, "--from", FROM, "--timeframe", "2m"], "one of 1m, 5m"),
        ([SYMBOL, "--from", FROM, "--venue", "mtgox"], "venue 'mtgox': one of binance-usdm, binance-spot expected"),
        (["../../x", "--from", FROM], "symbol '../../X': letters"),
        ([SYMBOL, "--from", FROM, "--base-url", "http://fapi.binance.com"], "http:// is for this machine only"),
    ],
)
def test_what_makes_no_sense_is_refused(server: CandleServer, tmp_path: Path, more: list[str], told: str) -> None:
    server.rows[SYMBOL] = minutes(range(5))
    done = download(server, tmp_path, *more)

    assert (done.code, done.out) == (Exit.REFUSED, "")
    assert done.err.startswith("error: INVALID_PARAMETER: ")
    assert told in done.err
    assert server.pages() == []
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_true_ends_it_with_its_place(server: CandleServer, tmp_path: Path) -> None:
    server.rows[SYMBOL] = minutes(range(5))
    server.cues.append(lambda reply: evolve(reply, body=reply.body.replace(b'"', b"'")))
    done = download(server, tmp_path, SYMBOL, "--from", FROM, "--to", TO)

    assert (done.code, done.out, kept(tmp_path)) == (Exit.TRY_LATER, "", [])
    assert done.err.startswith(f"error: EXCHANGE_ERROR: {server.base}/fapi/v1/klines?symbol=BTCUSDT&interval=1m&")
    assert ", page 1: JSON expected" in done.err


def test_a_ban_ends_it_with_what_had_come_kept_and_is_kept_to(server: CandleServer, tmp_path: Path) -> None:
    server.rows[SYMBOL] = minutes(range(2_500))
    server.cues.extend([None, None, lambda reply: Reply(418, b"{}", {"Retry-After": "7200"})])
    done = download(server, tmp_path, SYMBOL, "--from", FROM, "--to", "2023-11-17")

    assert done.code == Exit.TRY_LATER
    assert "it asks to be left alone until " in done.err
    assert len(kept(tmp_path)) == 2_000

    asked = len(server.asked)
    again = download(server, tmp_path, SYMBOL, "--from", FROM, "--to", "2023-11-17")
    assert (again.code, len(server.asked)) == (Exit.TRY_LATER, asked)
    assert f"{server.base} asked to be left alone until " in again.err

    (tmp_path / BANS).write_text(msgspec.json.encode({server.base: 1, "https://other.example": 10**13}).decode())
    assert download(server, tmp_path, SYMBOL, "--from", FROM, "--to", "2023-11-17").code == 0
    assert kept(tmp_path) == [candle(row) for row in server.rows[SYMBOL]]


def test_after_a_kill_it_goes_on_from_what_it_had_kept(server: CandleServer, tmp_path: Path) -> None:
    pages, killed_at = 2 * KEEP_CANDLES // 1_000 + 20, KEEP_CANDLES // 1_000 + 20
    server.rows[SYMBOL] = minutes(range(pages * 1_000))
    reached, go_on = threading.Event(), threading.Event()

    def stall(reply: Reply) -> Reply:
        reached.set()
        go_on.wait(ENDS_S_MAX)
        return reply

    server.used_weight = lambda _: "1"
    server.cues.extend([*[None] * (killed_at - 1), stall])
    span = ("--from", FROM, "--to", "2024-03-01")
    process = subprocess.Popen(
        command("admin", *words(server, tmp_path, SYMBOL, *span)), env=environment(), stdout=subprocess.DEVNULL
    )
    try:
        assert reached.wait(ENDS_S_MAX)
    finally:
        process.kill()
        assert process.wait(ENDS_S_MAX) == -signal.SIGKILL
        go_on.set()

    held = len(kept(tmp_path))
    assert held == KEEP_CANDLES
    server.asked.clear()
    done = download(server, tmp_path, SYMBOL, *span)

    assert done.code == 0, done.err
    assert done.out.startswith(f"BTCUSDT 1m: {(pages * 1_000) - held} candles fetched, {pages * 1_000} in all\n")
    assert min(int(page["startTime"]) for page in server.pages()) == START_MS + held * MINUTE_MS
    table = CandleStore(tmp_path).held(VENUE, SYMBOL, Timeframe.M1)
    assert table is not None
    assert table.time_ms.tolist() == [row[0] for row in server.rows[SYMBOL]]
    assert [table.candle(place) for place in (0, held - 1, held, -1)] == [
        candle(server.rows[SYMBOL][place]) for place in (0, held - 1, held, -1)
    ]


def test_a_person_sees_how_far_it_is_and_may_interrupt_it(server: CandleServer, tmp_path: Path) -> None:
    server.rows[SYMBOL] = minutes(range(4_000))
    go_on = threading.Event()

    def stall(reply: Reply) -> Reply:
        go_on.wait(ENDS_S_MAX)
        return reply

    server.cues.extend([None, None, stall])
    try:
        arguments = command("admin", *words(server, tmp_path, SYMBOL, "--from", FROM, "--to", "2023-11-17T18:40"))
        done = in_terminal(arguments, until="2000/4000")
    finally:
        go_on.set()

    assert done.code == Exit.INTERRUPTED, done.out
    assert "BTCUSDT 1m" in done.out
    assert "interrupted; what was fetched is kept, and the same command goes on from there" in done.out
    assert len(kept(tmp_path)) == 2_000


def test_on_a_terminal_each_result_stands_on_a_line_of_its_own(server: CandleServer, tmp_path: Path) -> None:
    server.rows |= {SYMBOL: minutes(range(60)), "ETHUSDT": minutes(range(60))}
    arguments = command("admin", *words(server, tmp_path, SYMBOL, "ETHUSDT", "--from", FROM, "--to", TO))
    done = in_terminal(arguments, until="nothing ends it early")

    assert done.code == 0, done.out
    for symbol in (SYMBOL, "ETHUSDT"):
        assert f"{symbol} 1m \x1b[" in done.out
        assert f"\x1b[2K{symbol} 1m: 60 candles fetched, 60 in all\r\n" in done.out
