"""The synthetic market: the same seed gives the same prices, history is what was traded, and it looks like a market."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from pipaid.errors import UnknownSymbol
from pipaid.model.candle import Candle, CandleBuilder, MarketTrade
from pipaid.model.instrument import Timeframe
from pipaid.venues.path import CHUNK_MINUTES, Nature, PricePath
from pipaid.venues.playback import BATCH_S
from pipaid.venues.synthetic import SyntheticMarket
from pipaid.venues.venue import Closed, Ended, Opened, Ranged
from pipaid.wire.activity import Activity
from tests.venues.following import TrioClock, followed

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT")
START_MS = 1_760_000_400_000
NATURE = Nature(950_000, 0.017, 400)
MINUTE_MS = 60_000


def make_market(
    *,
    symbols: tuple[str, ...] = SYMBOLS,
    seed: int = 1,
    speed: float | str = "max",
    start_ms: int = START_MS,
    minutes: int | None = None,
    resume_ms: int | None = None,
) -> SyntheticMarket:
    return SyntheticMarket(
        symbols=symbols,
        seed=seed,
        clock=TrioClock(),
        activity=Activity(),
        start_ms=start_ms,
        resume_ms=resume_ms,
        end_ms=None if minutes is None else start_ms + minutes * MINUTE_MS,
        speed=speed,
    )


@given(seed=st.integers(0, 2**63 - 1), start_s=st.integers(0, 2**32), cut=st.integers(1, 299))
@settings(max_examples=50)
def test_a_price_depends_on_nothing_but_seed_symbol_and_second(seed: int, start_s: int, cut: int) -> None:
    path = PricePath(seed, "BTCUSDT", NATURE)

    whole = path.seconds(start_s, 300)
    parts = path.seconds(start_s, cut), path.seconds(start_s + cut, 300 - cut)

    for column, (left, right) in zip(whole, zip(*parts, strict=True), strict=True):
        assert column.tolist() == left.tolist() + right.tolist()
        assert column.min() >= 1


def test_minutes_are_the_same_wherever_an_evaluation_is_cut() -> None:
    path = PricePath(1, "BTCUSDT", NATURE)
    first = START_MS // MINUTE_MS

    whole = path.minutes(first, CHUNK_MINUTES + 100)
    late = path.minutes(first + CHUNK_MINUTES - 50, 150)

    assert whole.close[-150:].tolist() == late.close.tolist()
    assert whole.volume[-150:].tolist() == late.volume.tolist()


def test_another_process_makes_the_same_prices() -> None:
    script = (
        "from pipaid.venues.path import Nature, PricePath\n"
        f"print(PricePath(7, 'BTCUSDT', Nature(950_000, 0.017, 400)).seconds({START_MS // 1000}, 5)[0].tolist())"
    )

    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert told.strip() == str(PricePath(7, "BTCUSDT", NATURE).seconds(START_MS // 1000, 5)[0].tolist())


def test_these_prices_are_known_on_every_machine() -> None:
    ticks, lots = PricePath(1, "BTCUSDT", NATURE).seconds(1_760_000_400, 6)

    assert ticks.tolist() == [1110308, 1110346, 1110338, 1110369, 1110299, 1110239]
    assert lots.tolist() == [743, 244, 125, 344, 319, 423]


def test_seeds_and_symbols_go_their_own_ways() -> None:
    first = START_MS // MINUTE_MS
    closes = [
        PricePath(seed, symbol, NATURE).minutes(first, 50).close.tolist()
        for seed, symbol in ((1, "BTCUSDT"), (2, "BTCUSDT"), (1, "ETHUSDT"))
    ]

    assert len({tuple(each) for each in closes}) == 3


async def test_history_is_made_of_the_trades_that_were_played(autojump_clock: MockClock) -> None:
    market = make_market(speed=600.0, minutes=3, symbols=("BTCUSDT", "XRPUSDT"))
    trades: dict[str, list[MarketTrade]] = {"BTCUSDT": [], "XRPUSDT": []}
    closed: list[Candle] = []

    for update in await followed(market):
        if isinstance(update, MarketTrade):
            trades[update.symbol].append(update)
        elif isinstance(update, Closed):
            closed.extend(update.candles)

    for symbol, prints in trades.items():
        assert [each.time_ms for each in prints] == [START_MS + second * 1000 for second in range(180)]
        made = [_candle(prints[start : start + 60]) for start in range(0, 180, 60)]
        assert [candle for candle in closed if candle.symbol == symbol] == made
        assert await market.history(symbol, Timeframe.M1, end_ms=market.now_ms(), count=3) == made


def _candle(trades: list[MarketTrade]) -> Candle:
    prices = [trade.price for trade in trades]
    volume = sum((trade.quantity for trade in trades), Decimal(0))
    ends = (prices[0], max(prices), min(prices), prices[-1])
    return Candle(trades[0].symbol, Timeframe.M1, trades[0].time_ms, *ends, volume)


@pytest.mark.parametrize("timeframe", [frame for frame in Timeframe if frame is not Timeframe.M1])
async def test_larger_candles_are_made_of_the_smaller_ones(timeframe: Timeframe) -> None:
    market = make_market(start_ms=START_MS + 1_234 * MINUTE_MS)
    minutes = timeframe.ms // MINUTE_MS

    large = await market.history("ETHUSDT", timeframe, end_ms=market.now_ms(), count=3)

    small = await market.history("ETHUSDT", Timeframe.M1, end_ms=large[-1].close_time_ms, count=3 * minutes)
    builder = CandleBuilder("ETHUSDT", timeframe)
    assert [closed for candle in small for closed in builder.add(candle)] == large
    assert market.now_ms() - timeframe.ms < large[-1].close_time_ms <= market.now_ms()


async def test_history_reaches_back_thirty_days_and_never_ahead() -> None:
    market = make_market()

    month = await market.history("BTCUSDT", Timeframe.H1, end_ms=START_MS + 10**9, count=720)

    assert len(month) == 720
    assert month[-1].close_time_ms <= START_MS
    assert all(later.open_time_ms - earlier.open_time_ms == Timeframe.H1.ms for earlier, later in pairwise(month))
    assert all(candle.objection() is None for candle in month)


async def test_an_unknown_symbol_is_refused() -> None:
    with pytest.raises(UnknownSymbol, match="listed: BTCUSDT"):
        await make_market().history("NOSUCH", Timeframe.M1, end_ms=START_MS, count=1)


@pytest.mark.parametrize("symbol", [*SYMBOLS, "DOGEUSDT"])
async def test_prices_and_volumes_fit_the_instruments_filters(symbol: str) -> None:
    market = make_market(symbols=(symbol,))
    instrument = (await market.instruments())[symbol]

    for candle in await market.history(symbol, Timeframe.M1, end_ms=START_MS, count=200):
        for price in (candle.open, candle.high, candle.low, candle.close):
            assert price % instrument.tick_size == 0
        assert candle.volume % instrument.lot_size == 0
        assert candle.volume * candle.close > 60 * instrument.notional_min


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_volatility_is_that_of_a_market(seed: int) -> None:
    minutes = PricePath(seed, "BTCUSDT", NATURE).minutes(START_MS // MINUTE_MS, 60 * 1440)

    ranges_bps = (minutes.high - minutes.low) / minutes.open * 10_000
    days = minutes.high.reshape(60, 1440).max(axis=1) - minutes.low.reshape(60, 1440).min(axis=1)
    days_pct = days / minutes.open[::1440] * 100

    assert 3 < ranges_bps.mean() < 10
    assert 2 < days_pct.mean() < 4.5
    assert 0.5 * NATURE.base_ticks < minutes.low.min() < minutes.high.max() < 2 * NATURE.base_ticks
    assert np.abs(np.diff(np.log(minutes.close))).max() < 0.03


def test_no_seed_takes_a_price_out_of_reason() -> None:
    for seed in range(40):
        closes = PricePath(seed, "BTCUSDT", NATURE).seconds(START_MS // 1000, 1)[0]
        assert 0.4 * NATURE.base_ticks < closes[0] < 2.5 * NATURE.base_ticks


async def test_at_full_speed_each_minute_opens_ranges_and_closes_in_lockstep() -> None:
    market = make_market(minutes=2, symbols=("BTCUSDT", "ETHUSDT"))
    start = START_MS

    first, second, third, *_, last = await followed(market)

    assert isinstance(first, Opened)
    assert isinstance(second, Ranged)
    assert isinstance(third, Closed)
    assert (first.time_ms, second.time_ms, third.time_ms) == (start, start, start + MINUTE_MS)
    assert second.candles == third.candles
    assert first.prices == {candle.symbol: candle.open for candle in second.candles}
    assert last == Ended(start + 2 * MINUTE_MS)


async def test_a_resumed_market_plays_what_was_left() -> None:
    whole = await followed(make_market(minutes=25))

    resumed = await followed(make_market(minutes=25, resume_ms=START_MS + 13 * MINUTE_MS))

    assert resumed == whole[13 * 3 :]


async def test_speed_is_venue_seconds_per_second(autojump_clock: MockClock) -> None:
    for speed, updates in ((1.0, 5), (10.0, 50)):
        market = make_market(speed=speed, symbols=("BTCUSDT",))
        clock = market.clock
        begun = clock.monotonic_s()

        await followed(market, updates + 1)

        assert clock.monotonic_s() - begun == pytest.approx(5.0)
        assert market.now_ms() == START_MS + updates * 1000


async def test_at_high_speed_what_fell_due_comes_in_batches(autojump_clock: MockClock) -> None:
    market = make_market(speed=6000.0)
    clock = market.clock
    assert isinstance(clock, TrioClock)

    await followed(market, 5 * 600)

    assert clock.monotonic_s() == pytest.approx(0.1, abs=0.03)
    assert min(clock.sleeps) >= BATCH_S
    assert len(clock.sleeps) <= 6


async def test_a_market_that_fell_behind_does_not_rush(autojump_clock: MockClock) -> None:
    market = make_market(speed=1.0, symbols=("BTCUSDT",))
    clock = market.clock
    await followed(market, 3)
    await clock.sleep(100)

    await followed(market, 1)
    late = clock.monotonic_s()
    await followed(market, 3)

    assert clock.monotonic_s() - late == pytest.approx(3.0)


async def test_the_last_prices_are_those_before_now() -> None:
    market = make_market()

    (last,) = await market.history("XRPUSDT", Timeframe.M1, end_ms=START_MS, count=1)

    assert (await market.prices())["XRPUSDT"] == last.close
