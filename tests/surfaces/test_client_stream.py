"""Scripts that follow the event stream: each event once and in order, over whatever happens to the connection."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio
from attrs import define, field

from actors.stream import StreamLimits
from pipaid.client.awaiting import AsyncEvents
from pipaid.client.following import Event
from pipaid.errors import InvalidParameter, InvalidSignature, NotFound, Unavailable
from pipaid.sdk import AsyncClient, Client
from tests.surfaces.scripts import WAYS
from tests.surfaces.streams import Desk, open_desk, strategy_ids, until

ONE, TWO, THREE = strategy_ids(3)
ALL = (ONE, TWO, THREE)
LIMITS = StreamLimits(frames_per_s=1_000_000.0)


@define
class Reader:
    """A script that follows events in a thread of its own, in one of the ways, until it has had enough."""

    desk: Desk
    way: str
    ids: tuple[str, ...]
    after: Any = None
    ext: bool = False
    patience_s: float = 20.0
    secret: str | None = None
    heard: list[Event] = field(factory=list[Event])
    position: dict[str, int] = field(factory=dict[str, int])
    on_event: Callable[[Event], None] = field(default=lambda _: None)

    async def read(self, count: int) -> list[Event]:
        """Return once so many events have come."""
        with trio.fail_after(30):
            await trio.to_thread.run_sync(self._run, count, abandon_on_cancel=True)
        return self.heard

    async def has(self, count: int) -> None:
        """Wait until so many events have come."""
        await until(lambda: len(self.heard) == count)

    def _run(self, count: int) -> None:
        if self.way == "blocking":
            self._block(count)
        else:
            anyio.run(self._await, count, backend=self.way)

    def _client_of(self, kind: Any) -> Any:
        desk = self.desk
        stream = f"ws://127.0.0.1:{desk.port}/v1/ws"
        return kind(desk.api_key, self.secret or desk.secret, stream=stream, patience_s=self.patience_s)

    def _block(self, count: int) -> None:
        client: Client
        with self._client_of(Client) as client, client.events(*self.ids, after=self.after, ext=self.ext) as events:
            while len(self.heard) < count:
                self._take(next(events))
            self.position = events.position

    async def _await(self, count: int) -> None:
        client: AsyncClient
        async with self._client_of(AsyncClient) as client:
            async with client.events(*self.ids, after=self.after, ext=self.ext) as events:
                while len(self.heard) < count:
                    self._take(await anext(events))
                self.position = events.position

    def _take(self, event: Event) -> None:
        self.heard.append(event)
        self.on_event(event)


def numbers_of(events: list[Event], key: str) -> list[int]:
    return [event["seq"] for event in events if event["id"] == key and "seq" in event]


def hang_up(desk: Desk) -> None:
    """End all connections as a network would."""
    for client in list(desk.server._clients):
        client._scope.cancel()


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def listened(desk: Desk) -> None:
    """Wait until somebody has subscribed."""
    clients = desk.server._clients
    await until(lambda: any(each.tap.subscriptions and not each._scope.cancel_called for each in clients))


async def test_what_happens_from_now_on_comes_and_nothing_from_before(tmp_path: Path, way: str) -> None:
    async with open_desk(tmp_path, strategies=ALL, limits=LIMITS) as desk:
        await desk.emit(ONE, TWO)
        reader = Reader(desk, way, ("*",))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.read, 3)
            await listened(desk)
            await desk.emit(TWO, ONE, THREE)

    assert sorted((event["id"], event["seq"]) for event in reader.heard) == [(ONE, 2), (TWO, 2), (THREE, 1)]
    assert reader.position == {ONE: 2, TWO: 2, THREE: 1, "*": 0}


async def test_a_script_goes_on_where_another_one_stopped(tmp_path: Path, way: str) -> None:
    async with open_desk(tmp_path, strategies=ALL, limits=LIMITS) as desk:
        for _ in range(4):
            await desk.emit(ONE, TWO)
        first = Reader(desk, way, ("*",), after=0)
        await first.read(3)
        await desk.emit(THREE)
        second = Reader(desk, way, ("*",), after=first.position)
        await second.read(6)

    for key, count in ((ONE, 4), (TWO, 4), (THREE, 1)):
        assert numbers_of([*first.heard, *second.heard], key) == list(range(1, count + 1))


@pytest.mark.parametrize("ids", [("*",), ALL], ids=["all", "each"])
async def test_nothing_is_lost_and_nothing_comes_twice_over_lost_connections(
    tmp_path: Path, way: str, ids: tuple[str, ...]
) -> None:
    chance = random.Random(7)
    count = 240
    async with open_desk(tmp_path, strategies=ALL, limits=LIMITS) as desk:
        reader = Reader(desk, way, ids, ext=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.read, count)
            for number in range(count):
                if number % 60 == 0:
                    await listened(desk)
                await desk.emit(chance.choice(ALL), opt_in=chance.random() < 0.2, note=f"{number}")
                if number % 60 == 30:
                    hang_up(desk)

        told = [event["data"].get("reason", event["data"].get("status")) for event in reader.heard]
        assert sorted(map(int, told)) == list(range(count))
        for key in ALL:
            seen = numbers_of(reader.heard, key)
            assert seen == list(range(1, len(seen) + 1))
        assert desk.server.accepted >= 5


@pytest.mark.parametrize("ext", [True, False], ids=["told", "closed"])
async def test_what_a_full_ring_dropped_is_asked_for_again(tmp_path: Path, way: str, ext: bool) -> None:
    async with open_desk(tmp_path, strategies=ALL, limits=LIMITS) as desk:
        reader = Reader(desk, way, ("*",), ext=ext)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.read, 39)
            await listened(desk)
            # What is read from the journal while a subscription begins does not wait in the ring.
            for known in (3, 6):
                await desk.emit(*ALL)
                await reader.has(known)
            for client in desk.server._clients:
                assert not client.tap.gates
                client.tap.frames_max = 4
            await desk.emit(*ALL * 10)
            await desk.emit(*ALL)

        assert {key: numbers_of(reader.heard, key) for key in ALL} == {key: list(range(1, 14)) for key in ALL}
        assert len(reader.heard) == 39
        assert desk.server.accepted == 2


async def test_what_retention_took_is_told_by_name(tmp_path: Path, way: str) -> None:
    async with open_desk(tmp_path, strategies=ALL, limits=LIMITS) as desk:
        for _ in range(5):
            await desk.emit(ONE)
        forget(desk, ONE, up_to=3)
        all_of_it = await Reader(desk, way, (ONE,), after=0).read(2)
        known = Reader(desk, way, (ONE,), after={ONE: 1})
        await known.read(3)

    assert numbers_of(all_of_it, ONE) == [4, 5]
    assert [event["event"] for event in known.heard] == ["lagged", "order_cancelled", "order_cancelled"]
    assert known.heard[0]["data"] == {"from_seq": 2, "to_seq": 3}
    assert known.position == {ONE: 5}


def forget(desk: Desk, key: str, *, up_to: int) -> None:
    """Let the journal lose events as retention would."""
    events = desk.journal.events(key, after_seq=0, limit=100)
    assert desk.journal.forget([event.n for event in events if event.seq <= up_to]) == up_to


async def test_backtests_are_followed_beside_strategies(tmp_path: Path, way: str) -> None:
    job = "bt_00000001"
    async with open_desk(tmp_path, strategies=(*ALL, job), limits=LIMITS) as desk:
        await desk.emit(ONE)
        await desk.emit_progress(job, 0.5)
        heard = await Reader(desk, way, (job, ONE), after=0).read(2)

    assert sorted(event["channel"] for event in heard) == ["backtest.status", "strategy.status"]


async def test_what_is_refused_is_raised(tmp_path: Path, way: str) -> None:
    async with open_desk(tmp_path, strategies=ALL, limits=LIMITS) as desk:
        with pytest.raises(NotFound):
            await Reader(desk, way, ("strat_ffffffff",)).read(1)
        with pytest.raises(InvalidSignature):
            await Reader(desk, way, (ONE,), secret="wrong").read(1)
        with pytest.raises(InvalidParameter):
            await Reader(desk, way, ()).read(1)


async def test_nobody_is_waited_for_beyond_the_patience_that_was_given(tmp_path: Path, way: str) -> None:
    async with open_desk(tmp_path, strategies=ALL, limits=LIMITS) as desk:
        reader = Reader(desk, way, (ONE,), patience_s=0.5)
        desk.port = 1
        with pytest.raises(Unavailable, match="nobody answers"):
            await reader.read(1)


async def test_another_thread_may_end_it_while_it_waits(tmp_path: Path) -> None:
    async with open_desk(tmp_path, strategies=ALL, limits=LIMITS) as desk:
        with Client(desk.api_key, desk.secret, stream=f"ws://127.0.0.1:{desk.port}/v1/ws") as client:
            events = client.events(ONE)
            heard: list[Event] = []
            with trio.fail_after(20):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.to_thread.run_sync, lambda: heard.extend(events))
                    await listened(desk)
                    events.close()

            assert (heard, list(events)) == ([], [])


async def test_a_cancelled_wait_for_an_event_loses_none(tmp_path: Path) -> None:
    async with open_desk(tmp_path, strategies=ALL, limits=LIMITS) as desk:
        async with AsyncClient(desk.api_key, desk.secret, stream=f"ws://127.0.0.1:{desk.port}/v1/ws") as client:
            events = client.events(ONE)
            with trio.fail_after(20):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(anext, events)
                    await listened(desk)
                    nursery.cancel_scope.cancel()
                await desk.emit(ONE)
                assert (await anext(events))["seq"] == 1
            assert desk.server.accepted == 1


async def test_another_task_may_end_it_while_it_waits(tmp_path: Path) -> None:
    ended: list[bool] = []

    async def wait(events: AsyncEvents) -> None:
        ended.append([event async for event in events] == [])

    async with open_desk(tmp_path, strategies=ALL, limits=LIMITS) as desk:
        async with AsyncClient(desk.api_key, desk.secret, stream=f"ws://127.0.0.1:{desk.port}/v1/ws") as client:
            events = client.events(ONE)
            with trio.fail_after(20):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wait, events)
                    await listened(desk)
                    await events.aclose()
    assert ended == [True]
