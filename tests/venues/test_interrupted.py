"""The bad line from a simulated market: what each fault does to prices and candles, and that nothing stays behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from decimal import Decimal

import pytest

import pipaid.venues.interrupted as interrupted_module
from pipaid.errors import ExchangeError
from pipaid.model.candle import Candle, MarketTrade
from pipaid.model.fault import REPORT_FAULTS, Fault
from pipaid.model.instrument import Timeframe
from pipaid.seams import SystemRandom
from pipaid.venues.faults import Faults
from pipaid.venues.interrupted import UnreliableMarket
from pipaid.venues.venue import Closed, Ended, Market, MarketUpdate, Opened, Ranged
from tests.actors.homes import HandMarket
from tests.engine.paper import MINUTE_MS, START_MS, SYMBOL, make_candle, make_trade

CANDLE = make_candle(0, "100 100 100 100")
TRADES = tuple(make_trade(second, "100") for second in range(60))


class Told(HandMarket):
    """A market that tells what it was given and ends."""

    def __init__(self, updates: Sequence[MarketUpdate]) -> None:
        super().__init__()
        self.told = updates

    async def updates(self) -> AsyncIterator[MarketUpdate]:  # type: ignore[override]  # A list needs no channel.
        for update in self.told:
            yield update

    async def history(self, symbol: str, timeframe: Timeframe, *, end_ms: int, count: int) -> list[Candle]:
        return [CANDLE]


async def heard(faults: Faults, *updates: MarketUpdate) -> list[MarketUpdate]:
    market: Market = UnreliableMarket(Told(updates), faults)
    return [update async for update in market.updates()]


def ordering(kind: Fault, times: int = 1) -> Faults:
    faults = Faults(SystemRandom(seed=1))
    faults.order(kind, times)
    return faults


async def test_without_faults_everything_comes_as_it_was_told() -> None:
    assert await heard(Faults(SystemRandom(seed=1)), *TRADES) == list(TRADES)


async def test_what_is_dropped_is_missing() -> None:
    assert await heard(ordering(Fault.DROPPED, 3), *TRADES) == list(TRADES[3:])


async def test_what_is_doubled_comes_twice() -> None:
    assert await heard(ordering(Fault.DOUBLED), *TRADES) == [TRADES[0], *TRADES]


async def test_what_is_delayed_comes_after_what_it_preceded() -> None:
    told = await heard(ordering(Fault.DELAYED), *TRADES)

    assert sorted(told, key=lambda update: update.time_ms) == list(TRADES)
    assert told.index(TRADES[0]) > 0


async def test_a_silent_market_tells_everything_in_order_when_it_speaks_again() -> None:
    faults = ordering(Fault.SILENT)
    line = UnreliableMarket(Told(TRADES), faults).updates()

    first = await line.__anext__()

    assert first == TRADES[0]
    assert faults.happened == {Fault.SILENT: 1}
    assert [update async for update in line] == list(TRADES[1:])
    # Nothing came before the silence was over, and by then a third of the minute had been told.
    assert len(await heard(ordering(Fault.SILENT), *TRADES[:20])) == 0


async def test_a_cut_loses_what_was_held_back() -> None:
    faults = ordering(Fault.SILENT)
    line = UnreliableMarket(Told(TRADES), faults).updates()
    faults.order(Fault.CUT)

    # Reports are drawn in the order of their kinds: first the silence begins, then the cut ends it.
    assert [update async for update in line] == list(TRADES[2:])


async def test_only_trades_and_closes_go_wrong() -> None:
    steps: list[MarketUpdate] = [
        Opened(START_MS, {SYMBOL: Decimal(100)}),
        Ranged(START_MS, (CANDLE,)),
        Closed(START_MS + MINUTE_MS, (CANDLE,)),
        Ended(START_MS + MINUTE_MS),
    ]

    assert await heard(ordering(Fault.DROPPED, 9), *steps) == [steps[0], steps[1], steps[3]]


async def test_the_end_of_a_market_lets_everything_go() -> None:
    ended = Ended(TRADES[9].time_ms)

    assert await heard(ordering(Fault.SILENT), *TRADES[:10], ended) == [*TRADES[:10], ended]


async def test_what_is_held_back_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupted_module, "HELD_MAX", 5)

    told = await heard(ordering(Fault.SILENT), *TRADES[:10])

    assert told == list(TRADES[5:10])


async def test_history_is_not_told_once() -> None:
    market = UnreliableMarket(Told(()), ordering(Fault.OUTAGE))

    with pytest.raises(ExchangeError, match="not answered"):
        await market.history(SYMBOL, Timeframe.M1, end_ms=START_MS, count=1)
    assert await market.history(SYMBOL, Timeframe.M1, end_ms=START_MS, count=1) == [CANDLE]


async def test_everything_else_is_the_market_itself() -> None:
    plain = HandMarket()
    market: Market = UnreliableMarket(plain, Faults(SystemRandom(seed=1)))

    assert (market.name, market.listed_ms, market.ends_ms) == (plain.name, plain.listed_ms, plain.ends_ms)
    assert market.now_ms() == plain.now_ms()
    assert await market.prices() == await plain.prices()
    assert await market.instruments() == await plain.instruments()


async def test_the_same_seed_gives_the_same_faults() -> None:
    rates: dict[Fault, float] = dict.fromkeys(REPORT_FAULTS, 0.05)

    told = [await heard(Faults(SystemRandom(seed=seed), dict(rates)), *TRADES) for seed in (7, 7, 8)]

    assert told[0] == told[1]
    assert told[0] != told[2]
    assert all(isinstance(update, MarketTrade) for update in told[0])
