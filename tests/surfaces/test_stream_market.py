"""Market channels: who may watch, what is told and how often, and what becomes of those who read slowly."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from actors.broadcast import CANDLE_S, Broadcast
from actors.stream import StreamLimits
from pipaid.errors import ExchangeError
from pipaid.model.interval import Interval
from pipaid.model.turnover import Turnover
from pipaid.venues.synthetic import SyntheticMarket
from pipaid.wire.activity import Activity
from pipaid.wire.watcher import Watcher
from pipaid.wire.websocket import text_frame
from tests.actors.board import BEGUN_MS, LISTED_MS, MINUTE_MS, SYMBOLS, Stage, on_stage, synthetic
from tests.surfaces.streams import Client, Desk, MemoryListener, VirtualClock, open_desk, until
from tests.venues.following import TrioClock

UNHURRIED = StreamLimits(frames_per_s=1_000_000.0)
KLINES = {"channel": "market.klines", "params": {"symbol": "BTCUSDT", "interval": "1m"}}
DEPTH = {"channel": "market.depth", "params": {"symbol": "BTCUSDT", "depth": 5}}
TICKER = {"channel": "market.ticker", "params": {"symbol": "BTCUSDT"}}
EVERY = {"channel": "market.ticker", "params": {"symbol": "*"}}


@define
class Hall:
    """A market with a stream before it, in trio's own time."""

    stage: Stage
    desk: Desk
    broadcast: Broadcast


@asynccontextmanager
async def in_hall(
    folder: Path, market: SyntheticMarket | None = None, *, play: bool = True, limits: StreamLimits = UNHURRIED
) -> AsyncGenerator[Hall]:
    for name in ("market", "stream"):
        (folder / name).mkdir()
    async with on_stage(folder / "market", market, play=play) as stage:
        broadcast = Broadcast(stage.board, VirtualClock())
        async with open_desk(folder / "stream", memory=MemoryListener(), limits=limits, market=broadcast) as desk:
            yield Hall(stage, desk, broadcast)


async def heard(client: Client, seconds: float) -> list[tuple[float, dict[str, Any]]]:
    """Return all that comes within a time, with when it came."""
    begun_s = trio.current_time()
    found: list[tuple[float, dict[str, Any]]] = []
    with trio.move_on_after(seconds):
        while True:
            frame = msgspec.json.decode(await client.socket.get_message())
            found.append((trio.current_time() - begun_s, frame))
    return found


def told(frames: list[tuple[float, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [frame for _, frame in frames]


@pytest.mark.parametrize("path", ["/v1/ws", "/ws"])
async def test_whoever_watches_the_market_need_not_say_who_it_is(
    path: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with in_hall(tmp_path) as hall, hall.desk.connected(path, signed=False) as client:
        await trio.sleep(4.9)
        ack = await client.ask(op="subscribe", req_id="a", **KLINES)
        frames = told(await heard(client, 30))
        await client.say(op="unsubscribe", req_id=7, **KLINES)
        over = [frame for frame in told(await heard(client, 0.5)) if frame.get("op") == "ack"]
        code = await client.close_code()

    assert ack == {"op": "ack", "channel": "market.klines", "params": KLINES["params"], "ok": True, "req_id": "a"}
    assert {frame["event"] for frame in frames} == {"kline"}
    assert over == [{**ack, "req_id": 7}]
    # From then on it is a stranger again.
    assert code == 4401


@pytest.mark.parametrize(
    ("frame", "code", "name"),
    [
        ({"channel": "market.klines", "params": {"symbol": "BTCEUR", "interval": "1m"}}, "UNKNOWN_SYMBOL", "BTCEUR"),
        ({"channel": "market.depth", "params": {"symbol": "BTCEUR", "depth": 5}}, "UNKNOWN_SYMBOL", "BTCEUR"),
        ({"channel": "market.ticker", "params": {"symbol": "BTCEUR"}}, "UNKNOWN_SYMBOL", "BTCEUR"),
        (
            {"channel": "market.klines", "params": {"symbol": "btcusdt", "interval": "1m"}},
            "INVALID_PARAMETER",
            "symbol",
        ),
        ({"channel": "market.klines", "params": {"symbol": "*", "interval": "1m"}}, "INVALID_PARAMETER", "symbol"),
        (
            {"channel": "market.klines", "params": {"symbol": "BTCUSDT", "interval": "1H"}},
            "INVALID_PARAMETER",
            "interval",
        ),
        ({"channel": "market.klines", "params": {"symbol": "BTCUSDT"}}, "INVALID_PARAMETER", "interval"),
        ({"channel": "market.klines"}, "INVALID_PARAMETER", "symbol"),
        ({"channel": "market.klines", "params": [1]}, "INVALID_PARAMETER", "params"),
        ({"channel": "market.depth", "params": {"symbol": "BTCUSDT", "depth": 500}}, "INVALID_PARAMETER", "depth"),
        ({"channel": "market.depth", "params": {"symbol": "BTCUSDT", "depth": "5"}}, "INVALID_PARAMETER", "depth"),
        ({"channel": "market.ticker", "params": {"symbol": "*", "speed": 1}}, "INVALID_PARAMETER", "speed"),
        ({"channel": "market.trades", "params": {"symbol": "BTCUSDT"}}, "INVALID_PARAMETER", "market.trades"),
    ],
)
async def test_what_cannot_be_watched_is_refused_in_its_acknowledgement(
    frame: dict[str, Any], code: str, name: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with in_hall(tmp_path, play=False) as hall, hall.desk.connected(signed=False) as client:
        ack = await client.ask(op="subscribe", req_id="r", **frame)
        code_at_the_end = await client.close_code()

    assert (ack["op"], ack["ok"], ack["code"], ack["req_id"]) == ("ack", False, code, "r")
    assert name in ack["message"]
    # A subscription that was refused is none.
    assert code_at_the_end == 4401


async def test_what_was_not_subscribed_cannot_be_ended(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with in_hall(tmp_path, play=False) as hall, hall.desk.connected() as client:
        ack = await client.ask(op="unsubscribe", **DEPTH)

    assert (ack["ok"], ack["code"]) == (False, "NOT_FOUND")


async def test_events_of_strategies_come_over_the_same_connection(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with in_hall(tmp_path) as hall, hall.desk.connected() as client:
        await client.subscribe("strat_00000000")
        await client.ask(op="subscribe", **TICKER)
        await hall.desk.emit("strat_00000000")
        frames = told(await heard(client, 3.5))

    assert [frame["event"] for frame in frames].count("order_cancelled") == 1
    assert [frame["event"] for frame in frames].count("ticker") >= 3


async def test_a_candle_is_told_as_it_forms_and_once_when_it_has_closed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with in_hall(tmp_path) as hall, hall.desk.connected(signed=False) as client:
        await trio.sleep(3.5)
        for interval in ("1m", "3m"):
            await client.say(
                op="subscribe", channel="market.klines", params={"symbol": "BTCUSDT", "interval": interval}
            )
        frames = told([each for each in await heard(client, 403) if "event" in each[1]])
        rows = {interval: await hall.stage.rows("BTCUSDT", interval, limit=10) for interval in ("1m", "3m")}

    for interval, minutes in (("1m", 1), ("3m", 3)):
        pushes = [frame["kline"] for frame in frames if frame["interval"] == interval]
        closed = [push for push in pushes if push["is_closed"]]
        starts = [BEGUN_MS + number * minutes * MINUTE_MS for number in range(6 // minutes)]
        assert [push["open_time"] for push in closed] == starts
        # The word that one has closed is what anybody is told who asks for it later.
        later = {row[0]: row for row in rows[interval]}
        for push in closed:
            names = "open_time open high low close volume close_time quote_volume trades taker_buy_volume"
            assert [push[name] for name in [*names.split(), "taker_buy_quote_volume"]] == later[push["open_time"]]
        # In order: all of a candle before its end, nothing of it afterwards, and no push says what the one before said.
        places = [(push["open_time"], push["is_closed"]) for push in pushes]
        assert places == sorted(places)
        assert all(one != other for one, other in pairwise(pushes))
        counts = [push["trades"] for push in pushes if push["open_time"] == starts[1]]
        assert counts == sorted(counts)
        assert len(counts) > 40
    assert all(frame["symbol"] == "BTCUSDT" and isinstance(frame["ts"], int) for frame in frames)


async def test_a_candle_that_changes_all_the_time_is_told_four_times_a_second(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    market = synthetic(speed=50.0)
    async with in_hall(tmp_path, market) as hall, hall.desk.connected(signed=False) as client:
        await client.ask(op="subscribe", channel="market.klines", params={"symbol": "BTCUSDT", "interval": "1h"})
        frames = [(at, frame["kline"]) for at, frame in await heard(client, 18)]

    forming = [at for at, push in frames if not push["is_closed"]]
    assert all(other - one >= CANDLE_S - 0.01 for one, other in pairwise(forming))
    assert len(forming) >= 55
    assert [push["is_closed"] for _, push in frames] == [False] * len(frames)


async def test_who_joins_is_told_the_candle_as_it_stands(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with in_hall(tmp_path, play=False) as hall, hall.desk.connected() as first, hall.desk.connected() as second:
        params = {"symbol": "BTCUSDT", "interval": "1h"}
        await first.ask(op="subscribe", channel="market.klines", params={**params, "interval": "1d"})
        one = await first.hear()
        await second.ask(op="subscribe", channel="market.klines", params={**params, "interval": "1d"})
        other = await second.hear()
        again = await second.ask(op="subscribe", channel="market.klines", params={**params, "interval": "1d"})
        more = told(await heard(second, 5))

    # Nothing happens in this market, so there is nothing more to tell.
    assert one == other
    assert again["ok"]
    assert more == []


@define(eq=False)
class Failing(SyntheticMarket):
    """A market that does not answer for a while."""

    out: bool = False

    async def turnover(self, symbol: str, interval: Interval, *, first_ms: int, end_ms: int) -> list[Turnover]:
        if self.out:
            raise ExchangeError("no answer")
        return await super().turnover(symbol, interval, first_ms=first_ms, end_ms=end_ms)


async def test_a_candle_that_closes_while_the_market_does_not_answer_is_told_afterwards_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    market = Failing(SYMBOLS, 3, TrioClock(), Activity(), start_ms=BEGUN_MS, listed_ms=LISTED_MS)
    async with in_hall(tmp_path, market) as hall, hall.desk.connected(signed=False) as client:
        await client.ask(op="subscribe", **KLINES)
        await heard(client, 50)
        market.out = True
        meanwhile = told(await heard(client, 100))
        market.out = False
        after = told(await heard(client, 60))

    assert not any(frame["kline"]["is_closed"] for frame in meanwhile)
    closed = [frame["kline"]["open_time"] for frame in after if frame["kline"]["is_closed"]]
    assert closed == [BEGUN_MS, BEGUN_MS + MINUTE_MS, BEGUN_MS + 2 * MINUTE_MS]


@pytest.mark.parametrize("depth", [5, 100])
async def test_a_whole_book_comes_ten_times_a_second_and_its_number_goes_up(
    depth: int, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with in_hall(tmp_path) as hall, hall.desk.connected(signed=False) as client:
        await client.ask(op="subscribe", channel="market.depth", params={"symbol": "BTCUSDT", "depth": depth})
        frames = await heard(client, 5.05)

    assert len(frames) == 50
    assert all(other[0] - one[0] == pytest.approx(0.1, abs=0.01) for one, other in pairwise(frames))
    for frame in told(frames):
        assert list(frame) == ["event", "ts", "symbol", "lastUpdateId", "bids", "asks"]
        assert (len(frame["bids"]), len(frame["asks"])) == (depth, depth)
        assert Decimal(frame["bids"][0][0]) < Decimal(frame["asks"][0][0])
    assert all(other["lastUpdateId"] > one["lastUpdateId"] for one, other in pairwise(told(frames)))


async def test_all_who_watch_a_book_are_shown_the_same_one(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with in_hall(tmp_path) as hall, hall.desk.connected() as small, hall.desk.connected() as deep:
        await small.ask(op="subscribe", **DEPTH)
        await deep.ask(op="subscribe", channel="market.depth", params={"symbol": "BTCUSDT", "depth": 20})
        await trio.sleep(0.3)
        first = {frame["lastUpdateId"]: frame for frame in told(await heard(small, 1))}
        second = {frame["lastUpdateId"]: frame for frame in told(await heard(deep, 0.01))}

    common = first.keys() & second.keys()
    assert len(common) > 5
    assert all(second[number]["bids"][:5] == first[number]["bids"] for number in common)


async def test_a_ticker_comes_every_second_whether_or_not_anything_is_traded(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with in_hall(tmp_path, play=False) as hall, hall.desk.connected(signed=False) as client:
        await client.ask(op="subscribe", **EVERY)
        await client.ask(op="subscribe", **TICKER)
        frames = await heard(client, 10.5)
        answer = await hall.stage.ask("market.ticker", symbol="BTCUSDT")
        await client.say(op="unsubscribe", **EVERY)
        await heard(client, 0.1)
        fewer = told(await heard(client, 5))

    for symbol in SYMBOLS:
        at = [moment for moment, frame in frames if frame["symbol"] == symbol]
        assert len(at) in (10, 11)
        assert all(other - one == pytest.approx(1.0, abs=0.01) for one, other in pairwise(at))
    last = next(frame for _, frame in reversed(frames) if frame["symbol"] == "BTCUSDT")
    assert last == {"event": "ticker", "ts": BEGUN_MS, **answer}
    assert [frame["symbol"] for frame in fewer] == ["BTCUSDT"] * 5


@define(eq=False)
class Counted:
    """A board that notes each time that it is looked at."""

    board: Any
    looks: list[str] = field(factory=list[str])

    def __getattr__(self, name: str) -> Any:
        self.looks.append(name)
        return getattr(self.board, name)


async def test_nothing_is_worked_out_while_nobody_watches(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with in_hall(tmp_path) as hall:
        counted = Counted(hall.stage.board)
        hall.broadcast.sights = cast(Any, counted)
        await trio.sleep(70)
        unwatched = list(counted.looks)
        async with hall.desk.connected() as one, hall.desk.connected() as other:
            for client in (one, other):
                for frame in (KLINES, DEPTH, TICKER):
                    await client.say(op="subscribe", **frame)
            await trio.sleep(10.3)
            watched = list(counted.looks)
            for frame in (KLINES, DEPTH):
                await one.say(op="unsubscribe", **frame)
        await trio.sleep(1)
        counted.looks.clear()
        await trio.sleep(70)

    assert unwatched == []
    # For two who watch, everything is looked at once.
    assert 100 <= watched.count("book") <= 104
    assert 10 <= watched.count("ticker") <= 11
    assert counted.looks == []


async def test_a_connection_may_watch_no_more_than_it_may_subscribe_to(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    limits = StreamLimits(frames_per_s=1_000_000.0, subscriptions_max=3)
    async with in_hall(tmp_path, play=False, limits=limits) as hall, hall.desk.connected() as client:
        await client.subscribe("strat_00000000")
        acks = [await client.ask(op="subscribe", **frame) for frame in (KLINES, EVERY)]
        last = await client.ask(op="subscribe", **DEPTH)
        again = await client.ask(op="subscribe", **EVERY)

    assert [ack["ok"] for ack in acks] == [True, True]
    assert (last["ok"], last["code"]) == (False, "RATE_LIMITED")
    assert again["ok"]


def test_of_each_thing_the_newest_waits_and_the_word_that_it_closed_is_not_lost() -> None:
    news: list[int] = []
    watcher = Watcher(lambda: news.append(1))

    for number in range(1_000):
        watcher.put(("candle", False), b"forming %d " % number)
        watcher.put("book", b"book %d " % number)
    watcher.put(("candle", True), b"closed ", instead_of=("candle", False))
    for number in range(1_000):
        watcher.put(("candle", False), b"next %d " % number)

    assert news == [1]
    assert watcher.take() == b"book 999 closed next 999 "
    assert watcher.take() == b""
    watcher.put("book", b"book")
    assert news == [1, 1]


async def test_who_does_not_read_costs_no_more_than_the_newest_and_reads_that(tmp_path: Path) -> None:
    async with open_desk(tmp_path, limits=UNHURRIED) as desk, desk.connected() as reader, desk.connected() as sleeper:
        await reader.ask(op="ping")
        await sleeper.ask(op="ping")
        slow = list(desk.server._clients)[1]
        # The client's library reads into a buffer of its own that holds one message.
        size, sent = 100_000, 0
        filled = False
        while not filled:
            assert sent < 1_000, "the system takes everything"
            slow.watcher.put("book", text_frame(b'{"event":"depth","n":%d,"pad":"%b"}' % (sent, b"x" * size)))
            sent += 1
            await trio.sleep(0.002)
            filled = len(slow.watcher._waiting) == 1 and slow.tap._sleeper is None
        for _ in range(10_000):
            sent += 1
            slow.watcher.put("book", text_frame(b'{"event":"depth","n":%d,"pad":"%b"}' % (sent, b"x" * size)))
        waiting = dict(slow.watcher._waiting)
        # Nobody else notices.
        pong = await reader.ask(op="ping")
        numbers: list[int] = []
        while not numbers or numbers[-1] < sent:
            frame = await sleeper.hear()
            assert frame["event"] == "depth"
            numbers.append(frame["n"])
        await until(lambda: slow.tap._sleeper is not None)

    assert pong["op"] == "pong"
    assert len(waiting) == 1
    assert numbers == sorted(numbers)
    assert len(numbers) < sent - 9_000
