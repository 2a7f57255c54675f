"""Guarded calls per second, and market trades per second through feed, matching and quotes with orders at rest."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import msgspec
import trio

from actors.feed import Feed
from actors.recorder import Recorder
from actors.watchdog import BlackBox, Guard
from pipaid.engine.matching import MatchingBook, Terms
from pipaid.engine.quotes import Quotes
from pipaid.model.candle import MarketTrade
from pipaid.model.order import Order, OrderType, Side, market_step
from pipaid.seams import World
from pipaid.storage.sqlite import SqliteJournal
from pipaid.venues.playback import Playback
from pipaid.venues.simulated import SimulatedDesk
from pipaid.venues.venue import Ended
from pipaid.wire.activity import Activity
from tests.bench.child import answer, in_child
from tests.bench.figure import Figure, Goal, Size
from tests.bench.house import START_MS, Prepared, synthetic
from tests.bench.population import symbols_of

GOAL = Goal(1e6)
# So many venue seconds a second that making the tape takes no time.
AT_ONCE = 1e9


class Tape(msgspec.Struct, frozen=True, kw_only=True):
    """How much one child measures."""

    calls: int
    trades: int
    resting: int
    symbols: int


def measure(size: Size) -> list[Figure]:
    """Measure both in fresh processes."""
    tape = Tape(calls=size.calls, trades=size.trades, resting=size.resting, symbols=size.symbols)
    runs = [in_child("trades", tape) for _ in range(size.runs)]
    calls_s = [run["calls_s"] / size.calls for run in runs]
    trades_s = [run["trades_s"] / size.trades for run in runs]
    both_s = [call_s + trade_s for call_s, trade_s in zip(calls_s, trades_s, strict=True)]

    def figure(name: str, each_s: list[float], note: str, goal: Goal | None = None) -> Figure:
        return Figure(name=name, unit="/s CPU", values=tuple(1 / spent_s for spent_s in each_s), goal=goal, note=note)

    # No template asks for market trades yet, so a delivery is reckoned as the sum of the two ways it would go.
    return [
        figure("guarded deliveries of market trades", both_s, "the two below, one after the other", GOAL),
        figure("market trades through the feed", trades_s, f"{size.symbols} symbols, {size.resting} orders at rest"),
        figure("guarded calls with a market trade", calls_s, "budget armed, black box written, callback empty"),
    ]


def main(arguments: str) -> None:
    """Measure and answer."""
    tape = msgspec.json.decode(arguments, type=Tape)
    with tempfile.TemporaryDirectory(prefix="pipaid-bench-") as folder:
        answer({"calls_s": _guarded(tape, Path(folder)), "trades_s": trio.run(_fed, tape, Path(folder))})


class Listener:
    """What a strategy would be that does nothing with each market trade."""

    def on_trade(self, trade: MarketTrade) -> None:
        """Take note of nothing."""


def _guarded(tape: Tape, folder: Path) -> float:
    world = World()
    box = BlackBox(folder / "blackbox")
    guard = Guard(world.clock, box=box)
    guard.open()
    callback = Listener().on_trade
    trade = MarketTrade("BTCUSDT", START_MS, Decimal("95000.1"), Decimal("0.01"))
    run = guard.run
    try:
        begun_s = time.process_time()
        for _ in range(tape.calls):
            run(7, callback, trade)
        return time.process_time() - begun_s
    finally:
        guard.close()
        box.close()


async def _fed(tape: Tape, folder: Path) -> float:
    world, activity, quotes = World(), Activity(), Quotes()
    symbols = symbols_of(tape.symbols)
    past = synthetic(symbols, world, activity)
    trades, prices = await _tape(tape, symbols), await past.prices()
    playback = Playback(
        steps=iter([*trades, Ended(trades[-1].time_ms)]),
        clock=world.clock,
        activity=activity,
        speed=None,
        lockstep=False,
        now_ms=START_MS,
    )
    journal = SqliteJournal.open(folder / "journal.db", disk=world.disk, clock=world.clock, pid=world.env.pid())
    recorder = Recorder(journal, lambda _: None, world.clock, activity)
    feed = Feed(
        market=Prepared(past, "prepared", playback),
        quotes=quotes,
        writer=recorder,
        guard=Guard(world.clock),
        clock=world.clock,
        activity=activity,
        stale_after_s=10.0,
    )
    await feed.prepare()
    desk = SimulatedDesk(MatchingBook(feed.instruments, Terms()), activity)
    feed.desks.append(desk)
    for number in range(tape.resting):
        symbol = symbols[number % len(symbols)]
        await desk.place(_resting(number, symbol, prices[symbol]), expires_at_ms=START_MS)
    async with trio.open_nursery() as nursery:
        await nursery.start(recorder.run)
        feed.gate.set()
        begun_s = time.process_time()
        await feed.run()
        spent_s = time.process_time() - begun_s
        nursery.cancel_scope.cancel()
    journal.close()
    assert quotes.now_ms == trades[-1].time_ms, "the feed did not deal with every market trade"
    return spent_s


async def _tape(tape: Tape, symbols: Sequence[str]) -> list[MarketTrade]:
    """Return market trades as the synthetic market makes them, one a second for each symbol."""
    minutes = -(-tape.trades // (60 * len(symbols)))
    market = synthetic(symbols, World(), Activity(), minutes, speed=AT_ONCE)
    found = [update async for update in market.updates() if isinstance(update, MarketTrade)]
    return found[: tape.trades]


def _resting(number: int, symbol: str, price: Decimal) -> Order:
    """Return an order far enough from the price to rest for the whole bench: half of them buy, half of them sell."""
    buys = number // 2 % 2 == 0
    away = Decimal(30 + number % 20) / 100
    return Order(
        id=f"ord_{number}",
        client_order_id=f"pp{number:06}",
        strategy_id=f"strat_{number:08x}",
        account="acct_main",
        dry_run=True,
        run_id="run_1",
        position_id=f"pos_{number}",
        symbol=symbol,
        side=Side.BUY if buys else Side.SELL,
        type=OrderType.LIMIT,
        quantity=Decimal(1),
        price=round(price * (1 - away if buys else 1 + away), 1),
        reduce_only=False,
        placed_at_ms=START_MS,
        market_step=market_step(START_MS, 2),
    )


if __name__ == "__main__":
    main(sys.argv[1])
