"""Lockstep: no update comes before everything the last one caused has been dealt with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from pipaid.venues.playback import BACKLOG_MAX, Playback
from pipaid.venues.venue import Closed, MarketUpdate
from pipaid.wire.activity import Activity
from tests.venues.following import TrioClock


def closes(count: int) -> Iterator[MarketUpdate]:
    return (Closed(minute * 60_000, ()) for minute in range(1, count + 1))


def make_playback(activity: Activity, *, lockstep: bool = True, speed: float | None = None, count: int = 3) -> Playback:
    return Playback(closes(count), TrioClock(), activity, speed=speed, lockstep=lockstep, now_ms=0)


async def test_in_lockstep_the_next_update_waits_for_what_the_last_one_caused() -> None:
    activity = Activity()
    seen: list[int] = []

    async def follow() -> None:
        async for update in make_playback(activity):
            seen.append(update.time_ms)
            activity.begin()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        for count in (1, 2, 3):
            await wait_all_tasks_blocked()
            assert len(seen) == count
            activity.end()

    assert seen == [60_000, 120_000, 180_000]


async def test_out_of_lockstep_a_market_waits_only_for_a_large_backlog() -> None:
    activity = Activity()
    playback = make_playback(activity, lockstep=False)
    activity.begin(BACKLOG_MAX)
    assert (await playback.__anext__()).time_ms == 60_000

    activity.begin()
    with trio.move_on_after(0.01) as scope:
        await playback.__anext__()
    assert scope.cancelled_caught

    activity.end(BACKLOG_MAX + 1)
    assert (await playback.__anext__()).time_ms == 120_000


async def test_a_market_without_more_updates_ends_for_good() -> None:
    playback = make_playback(Activity(), count=1)

    assert [update.time_ms async for update in playback] == [60_000]
    with pytest.raises(StopAsyncIteration):
        await playback.__anext__()


async def test_lockstep_may_be_paced_too(autojump_clock: MockClock) -> None:
    playback = make_playback(Activity(), speed=60.0)

    times = [playback.clock.monotonic_s() async for _ in playback]

    assert [time - times[0] for time in times] == pytest.approx([0, 1, 2])


async def test_other_tasks_get_their_turn_while_a_market_hurries() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        async for _ in make_playback(Activity(), lockstep=False, count=1_000):
            pass
        nursery.cancel_scope.cancel()

    assert turns >= 10
