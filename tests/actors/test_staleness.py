"""No entry on stale data: after a pause every price has to be heard again, and what waited too long is not sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, MutableMapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.actor import REQUEST_WINDOW_MS, OrderNews
from actors.feed import Feed
from actors.recorder import Recorder
from actors.watchdog import Guard
from pipaid.engine.quotes import Quotes
from pipaid.model.candle import MarketTrade
from pipaid.model.record import Batch
from pipaid.storage.store import Committed
from pipaid.venues.venue import Closed
from pipaid.wire.activity import Activity
from tests.actors.desks import approved, leaving
from tests.actors.homes import HandMarket, at_home
from tests.actors.test_gateway import Post
from tests.actors.test_lookout import SteppedClock
from tests.builders import START_MS, STRATEGY_ID, SYMBOL, enter, make_candle, plan, scripted
from tests.storage.journals import open_journal

pytestmark = pytest.mark.usefixtures("logged")

STALE_AFTER_S = 10.0


@define(eq=False)
class Listening:
    """A feed on a market that a test moves, with nobody seated at it."""

    market: HandMarket
    clock: SteppedClock
    quotes: Quotes = field(factory=Quotes)

    async def hear(self) -> None:
        """Let the market trade now."""
        self.market.time_ms = START_MS + round(self.clock.monotonic_s() * 1_000)
        await self.market.say(MarketTrade(SYMBOL, self.market.time_ms, Decimal(100), Decimal(1)))
        await wait_all_tasks_blocked()

    def stale(self) -> bool:
        return SYMBOL in self.quotes.stale


@asynccontextmanager
async def listening(folder: Path, *, stale_after_s: float = STALE_AFTER_S) -> AsyncGenerator[Listening]:
    journal = open_journal(folder)
    clock = SteppedClock()
    activity = Activity()
    recorder = Recorder(journal, lambda _: None, clock, activity, threaded=False)
    heard = Listening(HandMarket(), clock)
    feed = Feed(heard.market, heard.quotes, recorder, Guard(clock), clock, activity, stale_after_s=stale_after_s)
    try:
        await feed.prepare()
        feed.gate.set()
        async with trio.open_nursery() as nursery:
            await nursery.start(recorder.run)
            await nursery.start(feed.run)
            await trio.sleep(1)
            yield heard
            nursery.cancel_scope.cancel()
    finally:
        journal.close()


async def test_after_a_pause_prices_are_stale_until_they_are_heard_again(
    tmp_path: Path, autojump_clock: MockClock, logged: list[MutableMapping[str, Any]]
) -> None:
    async with listening(tmp_path) as heard:
        await heard.hear()
        assert not heard.stale()

        heard.clock.pause(5, computing=False)
        await trio.sleep(0.6)
        assert heard.stale()

        await heard.hear()
        assert not heard.stale()
    assert [entry["symbols"] for entry in logged if entry["event"] == "feed.doubted"] == [2]


async def test_a_candle_that_is_the_first_thing_after_a_pause_finds_the_prices_stale(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with listening(tmp_path) as heard:
        await heard.hear()
        heard.clock.pause(3, computing=True)

        candle = make_candle(0, "100")
        heard.market.time_ms = candle.close_time_ms
        await heard.market.say(Closed(candle.close_time_ms, (candle,)))
        await wait_all_tasks_blocked()

        assert heard.stale()


async def test_a_moment_of_much_work_is_no_pause(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with listening(tmp_path) as heard:
        await heard.hear()
        heard.clock.pause(0.9, computing=True)
        await trio.sleep(0.6)

        assert not heard.stale()


async def test_in_lockstep_no_price_becomes_stale(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with listening(tmp_path, stale_after_s=0.0) as heard:
        await heard.hear()
        heard.clock.pause(3_600, computing=False)
        await trio.sleep(60)

        assert not heard.stale()


# At the gateway.


async def refused(post: Post) -> list[str]:
    """Let everything go out; return what was said of that which did not."""
    post.desk.gate.set()
    await post.quiet()
    news = [letter for letter in post.boxes[STRATEGY_ID].letters if isinstance(letter, OrderNews)]
    return [detail for letter in news for _, _, detail in letter.facts if detail]


async def test_an_entry_that_waited_longer_than_a_request_is_good_for_is_not_sent() -> None:
    post = Post()
    post.desk.gate = trio.Event()
    async with post.running():
        post.send(leaving(1), approved(2), leaving(3))
        await wait_all_tasks_blocked()
        post.clock.us += REQUEST_WINDOW_MS * 1_000 + 100_000

        told = await refused(post)

    assert post.desk.calls == ["pp0001", "pp0003"]
    assert told == ["never sent: it was decided on 5.1 s ago, which is longer than a request is good for"]


async def test_an_entry_whose_commit_hung_is_not_sent(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter()]))) as home:
        strategy = await home.deploy()
        commit = home.recorder.commit

        async def hang(batch: Batch) -> Committed:
            await trio.sleep(REQUEST_WINDOW_MS / 1_000 + 1)
            return await commit(batch)

        home.actor(strategy.id).writer = cast("Any", SimpleNamespace(commit=hang, read=home.recorder.read))
        await home.actor(strategy.id).perform(lambda session: session.on_trigger())
        await home.settle()

        assert home.gateway.sent == 0
        assert home.orders(strategy.id) == []


async def test_an_entry_on_a_symbol_that_came_into_dispute_while_it_waited_is_not_sent() -> None:
    post = Post()
    post.desk.gate = trio.Event()
    async with post.running():
        post.send(leaving(1), approved(2), leaving(3))
        await wait_all_tasks_blocked()
        post.gateway.quotes.frozen["paper"] = frozenset({SYMBOL})

        told = await refused(post)

    assert post.desk.calls == ["pp0001", "pp0003"]
    assert told == [f"never sent: what is held of {SYMBOL} is in dispute since it was decided on"]


async def test_an_entry_whose_price_became_stale_while_it_waited_is_not_sent() -> None:
    post = Post()
    post.desk.gate = trio.Event()
    async with post.running():
        post.send(leaving(1), approved(2), leaving(3))
        await wait_all_tasks_blocked()
        post.gateway.quotes.stale.add(SYMBOL)

        told = await refused(post)

    assert post.desk.calls == ["pp0001", "pp0003"]
    assert told == ["never sent: its price has become stale"]
