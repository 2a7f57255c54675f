"""The hub tells every subscriber everything it asked for once and in order, or exactly what it did not get."""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
from attrs import define, field

from actors.hub import BUNDLE_FRAMES_MAX, REPLAY_FRAMES, Hub
from actors.recorder import Recorder
from pipaid.engine.effects import strategy_record
from pipaid.errors import InvalidParameter
from pipaid.model.record import Batch
from pipaid.seams import SystemClock, SystemDisk
from pipaid.storage.sqlite import SqliteJournal
from pipaid.storage.store import StoredEvent
from pipaid.wire.tap import RING_FRAMES_MAX, Delivery, Tap
from tests.builders import START_MS, make_strategy
from tests.surfaces.streams import ACCOUNT, Owners, cancelled, resumed, strategy_ids

ONE, TWO = strategy_ids(2)
FOREIGN = "strat_ffffff00"


@define
class Scene:
    """A hub over a real journal."""

    hub: Hub
    recorder: Recorder
    journal: SqliteJournal
    owners: Owners

    async def emit(self, *strategies: str, opt_in: bool = False) -> None:
        await self.recorder.commit(Batch(events=[(resumed if opt_in else cancelled)(key) for key in strategies]))

    async def delete(self, key: str) -> None:
        """Delete a strategy as the lifecycle does: its row stays, and nobody is its owner any more."""
        account = self.owners.accounts.pop(key)
        await self.recorder.commit(
            Batch(records=[strategy_record(make_strategy(id=key, account=account, deleted_at_ms=START_MS))])
        )

    async def hear(self, tap: Tap, count: int) -> list[tuple[str, int]]:
        """Take so many events, and nothing that was lost."""
        heard = Heard()
        with trio.fail_after(20):
            while len(heard.events) < count:
                heard.take(await self.hub.take(tap))
        assert heard.lost == []
        return heard.events


@define
class HastyClock(SystemClock):
    """A clock that goes on by an hour whenever somebody looks at it."""

    at_us: int = 1_767_225_600_000_000

    def now_us(self) -> int:
        self.at_us += 3_600_000_000
        return self.at_us


@define
class Heard:
    """What one subscriber got: (strategy, number) of each event, 0 for extended ones; and what it was told it lost."""

    events: list[tuple[str, int]] = field(factory=list[tuple[str, int]])
    lost: list[tuple[str, int, int]] = field(factory=list[tuple[str, int, int]])

    def take(self, delivery: Delivery) -> None:
        self.lost += [(lost.strategy_id, lost.from_seq, lost.to_seq) for lost in delivery.lost]
        for bundle in delivery.bundles:
            self.events += [(event.strategy_id, event.seq) for event in bundle.events]


@asynccontextmanager
async def open_scene(folder: Path, *, threaded: bool = True, clock: SystemClock | None = None) -> AsyncGenerator[Scene]:
    clock = clock or SystemClock()
    journal = SqliteJournal.open(folder / "journal.db", disk=SystemDisk(), clock=clock, pid=os.getpid())
    recorder = Recorder(journal, publish=lambda events: hub.publish(events), clock=clock, threaded=threaded)
    owners = Owners({ONE: ACCOUNT, TWO: ACCOUNT, FOREIGN: "acct_other"})
    hub = Hub(recorder, owners)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(recorder.run)
            yield Scene(hub, recorder, journal, owners)
            nursery.cancel_scope.cancel()
    finally:
        journal.close()


def stored(n: int, strategy_id: str = ONE, *, size: int = 10) -> StoredEvent:
    return StoredEvent(n, strategy_id, n, False, b"x" * size)


async def test_a_subscriber_of_one_strategy_hears_that_one(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        tap = scene.hub.open(ACCOUNT)
        await scene.hub.subscribe(tap, ONE)
        await scene.emit(TWO, ONE, TWO, ONE)

        assert await scene.hear(tap, 2) == [(ONE, 1), (ONE, 2)]


async def test_under_the_wildcard_an_account_hears_its_own_and_nobody_elses(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        tap, everything = scene.hub.open(ACCOUNT), scene.hub.open(None)
        await scene.hub.subscribe(tap, "*")
        await scene.hub.subscribe(everything, "*")
        await scene.emit(FOREIGN, ONE, TWO)

        assert await scene.hear(tap, 2) == [(ONE, 1), (TWO, 1)]
        assert await scene.hear(everything, 3) == [(FOREIGN, 1), (ONE, 1), (TWO, 1)]


async def test_extended_events_go_to_those_who_asked(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        strict, extended = scene.hub.open(ACCOUNT), scene.hub.open(ACCOUNT)
        await scene.hub.subscribe(strict, ONE)
        await scene.hub.subscribe(extended, ONE, ext=True)
        await scene.emit(ONE, opt_in=True)
        await scene.emit(ONE)

        assert await scene.hear(strict, 1) == [(ONE, 1)]
        assert await scene.hear(extended, 2) == [(ONE, 0), (ONE, 1)]


async def test_each_event_comes_once_to_who_subscribed_to_it_twice(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        tap = scene.hub.open(ACCOUNT)
        for wanted in (ONE, "*", ONE):
            await scene.hub.subscribe(tap, wanted)
        await scene.emit(ONE, TWO)
        assert await scene.hear(tap, 2) == [(ONE, 1), (TWO, 1)]

        assert scene.hub.unsubscribe(tap, "*")
        await scene.emit(ONE, TWO, ONE)
        assert await scene.hear(tap, 2) == [(ONE, 2), (ONE, 3)]


async def test_what_waits_is_taken_back_with_its_subscription(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        tap = scene.hub.open(ACCOUNT)
        await scene.hub.subscribe(tap, ONE)
        await scene.hub.subscribe(tap, TWO)
        await scene.emit(ONE, TWO)

        assert scene.hub.unsubscribe(tap, ONE)
        assert not scene.hub.unsubscribe(tap, ONE)
        assert await scene.hear(tap, 1) == [(TWO, 1)]


async def test_the_past_comes_before_the_present(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        for _ in range(10):
            await scene.emit(ONE, TWO)
        tap = scene.hub.open(ACCOUNT)
        await scene.hub.subscribe(tap, ONE, since=4)
        await scene.emit(ONE)

        assert await scene.hear(tap, 7) == [(ONE, seq) for seq in range(5, 12)]


async def test_zero_under_the_wildcard_is_everything_retained(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        for _ in range(3):
            await scene.emit(ONE, TWO, FOREIGN)
        tap = scene.hub.open(ACCOUNT)
        resumption = await scene.hub.subscribe(tap, "*", since=0)
        heard = await scene.hear(tap, 6)

        assert resumption.oldest_seqs == ()
        assert sorted(heard) == [(key, seq) for key in (ONE, TWO) for seq in (1, 2, 3)]


async def test_under_the_wildcard_numbers_are_given_by_strategy_and_absent_means_from_now(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        for _ in range(3):
            await scene.emit(ONE, TWO, FOREIGN)
        tap = scene.hub.open(ACCOUNT)
        await scene.hub.subscribe(tap, "*", since={ONE: 1, FOREIGN: 0})
        await scene.emit(TWO, FOREIGN)
        heard = await scene.hear(tap, 3)

        assert sorted(heard) == [(ONE, 2), (ONE, 3), (TWO, 4)]
        with pytest.raises(InvalidParameter):
            await scene.hub.subscribe(tap, "*", since=7)


async def test_a_client_may_go_on_where_it_was_and_hear_all_of_who_came_since(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        for _ in range(3):
            await scene.emit(ONE, TWO, FOREIGN)
        tap = scene.hub.open(ACCOUNT)
        resumption = await scene.hub.subscribe(tap, "*", since={ONE: 2, "*": 0})
        await scene.emit(ONE)

        assert resumption.oldest_seqs == ()
        assert sorted(await scene.hear(tap, 5)) == [(ONE, 3), (ONE, 4), (TWO, 1), (TWO, 2), (TWO, 3)]
        with pytest.raises(InvalidParameter, match="may stand for the strategies that it does not name"):
            await scene.hub.subscribe(tap, "*", since={ONE: 2, "*": 1})


@pytest.mark.parametrize("account", [ACCOUNT, None])
async def test_a_strategy_deleted_while_its_client_was_away_is_told_to_its_end(
    tmp_path: Path, account: str | None
) -> None:
    async with open_scene(tmp_path) as scene:
        await scene.emit(ONE, FOREIGN, ONE, FOREIGN, ONE, TWO)
        for key in (ONE, FOREIGN):
            await scene.delete(key)
        deleted = [(ONE, 2), (ONE, 3)] + [(FOREIGN, 2)] * (account is None)
        one, all_of_it = scene.hub.open(account), scene.hub.open(account)
        await scene.hub.subscribe(one, "*", since={ONE: 1, FOREIGN: 1, TWO: 1, "strat_000000ff": 3})
        await scene.hub.subscribe(all_of_it, "*", since={ONE: 1, "*": 0})
        assert set(one.gates) == set(all_of_it.gates) == {ONE, TWO, *[FOREIGN] * (account is None)}
        await scene.emit(TWO)

        assert sorted(await scene.hear(one, len(deleted) + 1)) == sorted([*deleted, (TWO, 2)])
        unnamed = [(FOREIGN, 1)] * (account is None)
        expected = sorted([*deleted, *unnamed, (TWO, 1), (TWO, 2)])
        assert sorted(await scene.hear(all_of_it, len(expected))) == expected


async def test_who_is_up_to_date_or_ahead_hears_what_comes(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        await scene.emit(ONE)
        for since in (1, 99):
            tap = scene.hub.open(ACCOUNT)
            resumption = await scene.hub.subscribe(tap, ONE, since=since)
            assert resumption.oldest_seqs == ()
            await scene.emit(ONE)
            (event,) = await scene.hear(tap, 1)
            assert event[0] == ONE


async def test_a_past_longer_than_any_chunk_comes_whole_extended_events_included(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        count = 2 * REPLAY_FRAMES + 7
        for _ in range(3):
            await scene.recorder.commit(Batch(events=[resumed(ONE)] * count))
        await scene.recorder.commit(Batch(events=[cancelled(ONE)] * count))
        tap, strict = scene.hub.open(ACCOUNT), scene.hub.open(ACCOUNT)
        await scene.hub.subscribe(tap, ONE, since=0, ext=True)
        await scene.hub.subscribe(strict, ONE, since=0)

        heard = await scene.hear(tap, 4 * count)
        assert heard == [(ONE, 0)] * (3 * count) + [(ONE, seq) for seq in range(1, count + 1)]
        assert await scene.hear(strict, count) == [(ONE, seq) for seq in range(1, count + 1)]


@pytest.mark.parametrize("opt_ins", [0, 1, 40])
async def test_what_was_read_before_it_was_published_is_not_heard_again(opt_ins: int, tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        withheld: list[StoredEvent] = []
        scene.recorder.publish = withheld.extend
        await scene.emit(ONE, TWO, TWO, ONE)
        for _ in range(opt_ins):
            await scene.emit(ONE, TWO, opt_in=True)
        await scene.emit(TWO, ONE)
        first, again, everything = (scene.hub.open(ACCOUNT) for _ in range(3))
        for key in (ONE, TWO):
            await scene.hub.subscribe(first, key, since=0)
            await scene.hub.subscribe(again, key, since=3)
        await scene.hub.subscribe(everything, "*", since={ONE: 3, TWO: 2})
        assert sorted(await scene.hear(first, 6)) == [(key, seq) for key in (ONE, TWO) for seq in (1, 2, 3)]
        assert await scene.hear(everything, 1) == [(TWO, 3)]
        for _ in range(2):
            assert await scene.hub.take(again) == Delivery(), "it is up to date"

        # As the journal told it, then all at once, in which the audiences' turns go across the numbers.
        scene.hub.publish(withheld[:2])
        scene.hub.publish(withheld[2:])
        withheld.clear()
        await scene.emit(ONE, TWO)
        scene.hub.publish(withheld)
        for tap in (first, again, everything):
            assert await scene.hear(tap, 2) == [(ONE, 4), (TWO, 4)]
        scene.hub.publish([StoredEvent(withheld[-1].n + 1, ONE, 5, False, b"")])
        assert (first.gates, again.gates, everything.gates) == ({}, {}, {})


async def test_what_retention_took_is_told_with_its_range(tmp_path: Path) -> None:
    async with open_scene(tmp_path, clock=HastyClock()) as scene:
        for _ in range(50):
            await scene.emit(ONE)
        await scene.recorder.prune(older_than_us=2**62, keep_events=20)
        oldest = scene.journal.oldest_seq(ONE)
        assert oldest > 10
        tap, strict, current = (scene.hub.open(ACCOUNT) for _ in range(3))
        resumption = await scene.hub.subscribe(tap, ONE, since=3, ext=True)
        assert (await scene.hub.subscribe(strict, ONE, since=3)).oldest_seqs == ((ONE, oldest),)
        assert (await scene.hub.subscribe(current, ONE, since=oldest - 1)).oldest_seqs == ()

        heard = Heard()
        heard.take(await scene.hub.take(tap))
        assert resumption.oldest_seqs == ((ONE, oldest),)
        assert heard.lost == [(ONE, 4, oldest - 1)]
        assert heard.events == [(ONE, seq) for seq in range(oldest, 51)]
        assert await scene.hear(strict, 51 - oldest) == heard.events
        assert await scene.hear(current, 51 - oldest) == heard.events


@pytest.mark.parametrize("seed", range(40))
async def test_past_and_present_join_without_hole_or_repeat_under_concurrent_publishing(
    seed: int, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    async with open_scene(tmp_path, threaded=seed % 2 == 0) as scene:
        target = 400

        async def publish() -> None:
            for _ in range(target):
                size = rng.choice([1, 1, 1, 5])
                events = [rng.choice([cancelled, cancelled, resumed])(rng.choice([ONE, TWO])) for _ in range(size)]
                scene.recorder.submit(Batch(events=[*events, cancelled(ONE), cancelled(TWO)]))
                if rng.random() < 0.5:
                    await trio.lowlevel.checkpoint()

        async def follow() -> None:
            """Drop the connection again and again, and resume from the last number of each strategy."""
            for _ in range(rng.randrange(50)):
                await trio.lowlevel.checkpoint()
            known: dict[str, int] = {ONE: 0, TWO: 0}
            wildcard = rng.random() < 0.5
            while min(known.values()) < target:
                tap = scene.hub.open(ACCOUNT)
                if wildcard:
                    await scene.hub.subscribe(tap, "*", since=dict(known), ext=rng.random() < 0.5)
                else:
                    for key in (ONE, TWO):
                        await scene.hub.subscribe(tap, key, since=known[key], ext=rng.random() < 0.5)
                for _ in range(rng.randrange(1, 12)):
                    if min(known.values()) >= target:
                        break
                    delivery = await scene.hub.take(tap)
                    assert not delivery.lost
                    _require_next(known, delivery)
                scene.hub.close(tap)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(publish)
                for _ in range(5):
                    nursery.start_soon(follow)
        assert scene.hub.subscribers == 0


def _require_next(known: dict[str, int], delivery: Delivery) -> None:
    ns: defaultdict[str, int] = defaultdict(int)
    for bundle in delivery.bundles:
        for event in bundle.events:
            assert event.n > ns[event.strategy_id]
            ns[event.strategy_id] = event.n
            if event.seq:
                assert event.seq == known[event.strategy_id] + 1
                known[event.strategy_id] = event.seq


@pytest.mark.parametrize("seed", range(30))
def test_a_full_ring_drops_its_oldest_and_tells_exactly_which(seed: int) -> None:
    rng = random.Random(seed)
    tap = Tap(ACCOUNT, frames_max=rng.randrange(1, 60), bytes_max=rng.randrange(50, 3_000))
    tap.subscriptions["*"] = True
    hub = Hub(None, Owners({ONE: ACCOUNT, TWO: ACCOUNT}))  # type: ignore[arg-type]  # Nothing is read here.
    hub._taps[tap] = None
    hub._place(tap, "*")
    seqs = {ONE: 0, TWO: 0}
    accounted = {ONE: 0, TWO: 0}
    n = 0
    for _ in range(300):
        events: list[StoredEvent] = []
        for _ in range(rng.randrange(1, 8)):
            n += 1
            key = rng.choice([ONE, TWO])
            seqs[key] += 1
            events.append(StoredEvent(n, key, seqs[key], False, b"x" * rng.randrange(1, 40)))
        hub.publish(events)
        assert tap.pending_frames <= tap.frames_max
        if rng.random() < 0.1:
            _account_for(tap.take_live(), accounted)
    while tap.pending_frames:
        _account_for(tap.take_live(), accounted)
    _account_for(tap.take_live(), accounted)

    assert accounted == seqs


def _account_for(delivery: Delivery, accounted: dict[str, int]) -> None:
    """Check that what is lost and what is delivered follow each other without hole or overlap."""
    for lost in delivery.lost:
        assert lost.from_seq == accounted[lost.strategy_id] + 1
        accounted[lost.strategy_id] = lost.to_seq
    for bundle in delivery.bundles:
        for event in bundle.events:
            assert event.seq == accounted[event.strategy_id] + 1
            accounted[event.strategy_id] = event.seq


async def test_publishing_never_waits_for_a_subscriber_that_takes_nothing(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        stuck, lively = scene.hub.open(ACCOUNT), scene.hub.open(ACCOUNT)
        overflows: list[int] = []
        stuck.on_overflow = lambda: overflows.append(stuck.overflows)
        await scene.hub.subscribe(stuck, ONE, ext=True)
        await scene.hub.subscribe(lively, ONE)
        heard: list[tuple[str, int]] = []
        for number in range(3 * RING_FRAMES_MAX // 256):
            scene.hub.publish([stored(number * 256 + step + 1) for step in range(256)])
            heard += await scene.hear(lively, 256)

        assert heard == [(ONE, seq) for seq in range(1, 3 * RING_FRAMES_MAX + 1)]
        assert overflows == [1]
        taken = Heard()
        taken.take(stuck.take_live())
        while stuck.pending_frames:
            taken.take(stuck.take_live())
        assert taken.lost == [(ONE, 1, 2 * RING_FRAMES_MAX)]
        assert taken.events == [(ONE, seq) for seq in range(2 * RING_FRAMES_MAX + 1, 3 * RING_FRAMES_MAX + 1)]
        assert not stuck.overflowed


async def test_a_large_batch_travels_in_bundles_that_all_subscribers_share(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        taps = [scene.hub.open(ACCOUNT) for _ in range(3)]
        for tap in taps:
            await scene.hub.subscribe(tap, "*")
        scene.hub.publish([stored(number + 1) for number in range(BUNDLE_FRAMES_MAX + 1)])
        deliveries = [await scene.hub.take(tap) for tap in taps]

        assert [len(bundle.events) for bundle in deliveries[0].bundles] == [BUNDLE_FRAMES_MAX, 1]
        for delivery in deliveries[1:]:
            pairs: Sequence[tuple[object, object]] = list(zip(delivery.bundles, deliveries[0].bundles, strict=True))
            assert all(mine is theirs for mine, theirs in pairs)


async def test_a_closed_subscriber_leaves_nothing_behind(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        for wanted in (ONE, "*"):
            tap = scene.hub.open(ACCOUNT)
            await scene.hub.subscribe(tap, wanted, since=0)
            scene.hub.close(tap)
            await scene.emit(ONE)

            assert tap.pending_frames == 0
        assert (scene.hub.subscribers, scene.hub._by_account, scene.hub._by_strategy) == (0, {}, {})


async def test_a_subscriber_closed_while_it_subscribes_is_not_subscribed(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        tap = scene.hub.open(ACCOUNT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: scene.hub.subscribe(tap, ONE, since=0))
            await trio.testing.wait_all_tasks_blocked()
            scene.hub.close(tap)

        assert scene.hub._by_strategy == {}


async def test_the_frame_is_the_stored_event(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        tap = scene.hub.open(ACCOUNT)
        await scene.hub.subscribe(tap, ONE)
        await scene.emit(ONE)
        (bundle,) = (await scene.hub.take(tap)).bundles

    frame = msgspec.json.decode(bundle.events[0].frame)
    assert (frame["id"], frame["seq"], frame["event"]) == (ONE, 1, "order_cancelled")
