"""The replay market: what was recorded comes again in order, whole, exact, and never before its time."""

from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from pipaid.errors import InvalidParameter, UnknownSymbol
from pipaid.model.candle import Candle, CandleBuilder, MarketTrade
from pipaid.model.instrument import Timeframe
from pipaid.seams import SystemDisk
from pipaid.venues.recorded import Recorded, load
from pipaid.venues.replay import ReplayMarket
from pipaid.venues.venue import Closed, Ended, Funding, Opened, Ranged
from pipaid.wire.activity import Activity
from tests.venues.following import CANDLE_HEADER, SHARED, TrioClock, eurusd_minutes, followed, write_csv

D = Decimal
MINUTE_MS = 60_000
START_MS = 1_748_169_000_000


def make_market(
    recorded: Recorded, *, start_ms: int | None = None, resume_ms: int | None = None, speed: float | None = None
) -> ReplayMarket:
    return ReplayMarket(recorded, TrioClock(), Activity(), start_ms=start_ms, resume_ms=resume_ms, speed=speed)


def row(minute: int, prices: str = "10 12 9 11", volume: str = "1.5") -> str:
    return ",".join((str(START_MS + minute * MINUTE_MS), *prices.split(), volume))


def write_candles(folder: Path, symbol: str, minutes: list[int]) -> None:
    write_csv(folder / f"{symbol}-1m-test.csv.gz", CANDLE_HEADER, [row(minute) for minute in minutes])


def loaded(folder: Path, pattern: str = "*", symbols: tuple[str, ...] = ()) -> Recorded:
    return load(SystemDisk(), [str(folder / pattern)], symbols=symbols)


def real_candles() -> list[Path]:
    return sorted(SHARED.glob("candles/*/*.csv.gz")) + sorted(SHARED.glob("bars-1m-bidask/*/*-trade-*.csv.gz"))


@pytest.fixture
def euros(eurusd_hours_csv: Path, tmp_path: Path) -> Recorded:
    eurusd_minutes(eurusd_hours_csv, tmp_path, 600)
    return loaded(tmp_path)


async def test_each_minute_is_opened_ranged_and_closed_with_all_symbols_that_have_it(tmp_path: Path) -> None:
    write_candles(tmp_path, "AAAUSDT", [0, 1, 3])
    write_candles(tmp_path, "BBBUSDT", [1, 2, 3])

    updates = await followed(make_market(loaded(tmp_path)))

    told = [
        (type(update).__name__, (update.time_ms - START_MS) // MINUTE_MS, "".join(sorted(_symbols(update))))
        for update in updates
    ]
    assert told == [
        *_phases(0, "A"), *_phases(1, "AB"), *_phases(2, "B"), *_phases(3, "AB"), ("Ended", 4, ""),
    ]  # fmt: skip


def _phases(minute: int, symbols: str) -> list[tuple[str, int, str]]:
    return [("Opened", minute, symbols), ("Ranged", minute, symbols), ("Closed", minute + 1, symbols)]


def _symbols(update: object) -> list[str]:
    if isinstance(update, Opened):
        return [symbol[0] for symbol in update.prices]
    return [candle.symbol[0] for candle in update.candles] if isinstance(update, Ranged | Closed) else []


async def test_real_candles_come_back_exactly_as_they_were_written(euros: Recorded, tmp_path: Path) -> None:
    market = make_market(euros)
    minutes = [update for update in await followed(market) if isinstance(update, Closed)]

    played = [candle for update in minutes for candle in update.candles]

    written = gzip.decompress((tmp_path / "EURUSD-1m-real.csv.gz").read_bytes()).decode().splitlines()[1:]
    source = [tuple(map(D, line.split(",")[1:])) for line in written]
    assert [(each.open, each.high, each.low, each.close, each.volume) for each in played] == source
    assert len(played) == 600
    assert euros.instruments["EURUSD"].tick_size == D("0.00001")


@given(
    end=st.integers(-10, 700),
    ahead=st.integers(0, 600),
    count=st.integers(0, 50),
    frame=st.sampled_from(list(Timeframe)),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_history_never_looks_ahead_and_is_whole(
    euros: Recorded, end: int, ahead: int, count: int, frame: Timeframe
) -> None:
    tape = euros.candles["EURUSD"]
    now_ms = tape.time_ms(0) + ahead * MINUTE_MS
    end_ms = tape.time_ms(0) + end * MINUTE_MS

    async def ask() -> list[Candle]:
        market = make_market(euros, resume_ms=now_ms)
        return await market.history("EURUSD", frame, end_ms=end_ms, count=count)

    candles = trio.run(ask)

    builder = CandleBuilder("EURUSD", frame)
    past = [tape.candle(index) for index in range(tape.after(min(end_ms, now_ms)))]
    expected = [closed for candle in past for closed in builder.add(candle)]
    assert candles == (expected[-count:] if count else [])
    assert all(candle.close_time_ms <= min(end_ms, now_ms) for candle in candles)


@pytest.mark.parametrize("done", [0, 1, 7, 599, 600])
async def test_a_resumed_replay_plays_what_was_left(euros: Recorded, done: int) -> None:
    whole = await followed(make_market(euros))
    resume_ms = euros.candles["EURUSD"].time_ms(0) + done * MINUTE_MS

    resumed = await followed(make_market(euros, resume_ms=resume_ms))

    assert resumed == whole[done * 3 :]


async def test_a_later_start_leaves_the_rest_as_history(euros: Recorded) -> None:
    start_ms = euros.candles["EURUSD"].time_ms(100)
    market = make_market(euros, start_ms=start_ms)

    past = await market.history("EURUSD", Timeframe.M1, end_ms=2**50, count=1_000)

    assert len(past) == 100
    assert past[-1].close_time_ms == start_ms == market.now_ms()
    assert await market.prices() == {"EURUSD": past[-1].close}
    assert isinstance((await followed(market, 1))[0], Opened)


async def test_before_the_first_candle_no_price_is_known(euros: Recorded) -> None:
    assert await make_market(euros).prices() == {}


async def test_a_paced_replay_opens_a_minute_and_closes_it_a_minute_later(
    euros: Recorded, autojump_clock: MockClock
) -> None:
    market = make_market(euros, speed=60.0)
    begun = market.clock.monotonic_s()

    moments = [(market.clock.monotonic_s() - begun) for _ in range(6) if await followed(market, 1)]

    assert moments == pytest.approx([0, 1, 1, 1, 2, 2], abs=0.03)


async def test_funding_falls_due_before_the_minute_opens_at_the_last_close(tmp_path: Path) -> None:
    write_csv(tmp_path / "AAAUSDT-1m.csv", CANDLE_HEADER, [row(0), row(1, "11 13 11 12"), row(2)])
    times = [START_MS - MINUTE_MS, START_MS + 3, START_MS + 2 * MINUTE_MS + 7]
    rates = [f"{time},0.000{index}" for index, time in enumerate(times, 1)]
    write_csv(tmp_path / "AAAUSDT-funding.csv", "funding_time_ms,funding_rate", rates)

    updates = await followed(make_market(loaded(tmp_path)))

    assert [type(update).__name__[0] for update in updates] == [*"ORCORCFORCE"]
    assert updates[6] == Funding(START_MS + 2 * MINUTE_MS, "AAAUSDT", D("0.0003"), D(12))


async def test_market_trades_are_played_with_the_candles_they_make(tmp_path: Path) -> None:
    prints = ["100,7,1,0", "59999,9,2,1", "60000,8,1,0", "200000,5,0.5,1"]
    rows = [f"{START_MS + int(line.split(',')[0])},{line.split(',', 1)[1]}" for line in prints]
    write_csv(tmp_path / "AAAUSD-trades.csv.gz", "time_ms,price,size,is_buyer_maker", rows)
    market = make_market(loaded(tmp_path))

    updates = await followed(market)

    assert [type(update).__name__[0] for update in updates] == [*"MMCMCMCE"]
    assert updates[1] == MarketTrade("AAAUSD", START_MS + 59_999, D(9), D(2), buyer_is_maker=True)
    candle = Candle("AAAUSD", Timeframe.M1, START_MS, D(7), D(9), D(7), D(9), D(3))
    assert updates[2] == Closed(START_MS + MINUTE_MS, (candle,))
    assert updates[-1] == Ended(START_MS + 4 * MINUTE_MS)
    assert (await market.history("AAAUSD", Timeframe.M1, end_ms=2**50, count=9))[0] == candle


async def test_only_the_symbols_named_are_taken(tmp_path: Path) -> None:
    write_candles(tmp_path, "AAAUSDT", [0])
    write_candles(tmp_path, "BBBUSDT", [0])

    assert list(loaded(tmp_path, symbols=("BBBUSDT", "CCCUSDT")).candles) == ["BBBUSDT"]
    with pytest.raises(InvalidParameter, match="no candles and no market trades of CCCUSDT"):
        loaded(tmp_path, symbols=("CCCUSDT",))


async def test_a_symbol_that_was_not_recorded_has_no_history(euros: Recorded) -> None:
    with pytest.raises(UnknownSymbol, match="recorded: EURUSD"):
        await make_market(euros).history("NOSUCH", Timeframe.M1, end_ms=0, count=1)


def test_a_replay_cannot_begin_after_its_data(euros: Recorded) -> None:
    with pytest.raises(InvalidParameter, match="what was recorded ends"):
        make_market(euros, start_ms=2**50)


@pytest.mark.parametrize("path", [None, *real_candles()], ids=lambda path: "EURUSD" if path is None else path.name)
async def test_every_real_file_is_played_whole_and_in_order(path: Path | None, euros: Recorded) -> None:
    recorded = euros if path is None else load(SystemDisk(), [str(path)])
    ((symbol, tape),) = recorded.candles.items()
    last_ms = tape.time_ms(len(tape) - 1)
    market = make_market(recorded, start_ms=max(tape.time_ms(0), last_ms - 500 * MINUTE_MS))

    closes = [update for update in await followed(market) if isinstance(update, Closed)]

    assert closes[-1].time_ms == market.now_ms() == last_ms + MINUTE_MS
    assert all(candle.objection() is None for update in closes for candle in update.candles)
    whole = await market.history(symbol, Timeframe.M1, end_ms=market.now_ms(), count=10**6)
    assert len(whole) == len(tape)


# The month of candles lies beside the repository and not in it; without it there is no such test.
if (SHARED / "candles" / "binance-usdm").is_dir():

    async def test_a_real_month_of_five_symbols_lines_up_with_its_funding() -> None:
        folder = SHARED / "candles" / "binance-usdm"
        files = [str(folder / "*USDT-1m-*.csv.gz"), str(SHARED / "funding" / "binance-usdm" / "*.csv.gz")]
        table = SHARED / "exchange-info" / "binance-usdt-ticks-and-lots-2026.csv.gz"
        recorded = load(SystemDisk(), files, instruments_file=table)
        overlap_ms = 1_748_169_300_000
        market = make_market(recorded, start_ms=overlap_ms + 23 * 86_400_000)

        updates = await followed(market)

        closes = [update for update in updates if isinstance(update, Closed)]
        assert {len(update.candles) for update in closes[:-2]} == {5}
        due = sorted({(update.time_ms % 86_400_000) // 3_600_000 for update in updates if isinstance(update, Funding)})
        assert due == [0, 8, 16]
        assert recorded.instruments["BTCUSDT"].tick_size == D("0.1")
        assert recorded.instruments["SOLUSDT"].lot_size == D("0.01")
