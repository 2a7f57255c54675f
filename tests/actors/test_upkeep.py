"""Upkeep heeds the kill file within a moment, forgets now and then, and tells how far a recorded market has come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from actors.upkeep import Upkeep
from pipaid.seams import World
from tests.actors.homes import HandMarket, TrioClock, at_home
from tests.builders import START_MS, scripted

DAY_US = 24 * 3_600_000_000

pytestmark = pytest.mark.usefixtures("logged")


@define
class Pruner:
    """A recorder that writes down what it is asked to forget."""

    asked: list[tuple[float, int | None, int]] = field(factory=list[tuple[float, int | None, int]])

    async def prune(self, *, older_than_us: int | None = None, keep_events: int = 0, held_n: int | None = None) -> int:
        self.asked.append((trio.current_time(), older_than_us, keep_events))
        return 0


@define
class Thrown:
    """A kill switch that writes down why it is thrown."""

    reasons: list[str] = field(factory=list[str])

    @property
    def active(self) -> bool:
        return bool(self.reasons)

    async def activate(self, reason: str, *, by: str, close_positions: bool) -> Any:
        self.reasons.append(reason)


async def keeping(upkeep: Upkeep, act: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(upkeep.run)
        await act()
        nursery.cancel_scope.cancel()


async def test_the_kill_file_is_heeded_while_it_stands(tmp_path: Path, autojump_clock: MockClock) -> None:
    folder, file = tmp_path / "state", tmp_path / "KILL"
    folder.mkdir()
    async with at_home(folder, scripted()) as home:
        upkeep = Upkeep(home.world, home.recorder, home.portfolio, home.market, file, 10, DAY_US)

        def thrown() -> bool:
            return home.portfolio.active

        async def act() -> None:
            await trio.sleep(5)
            assert not thrown()
            file.touch()
            await trio.sleep(0.5)
            assert thrown()
            assert str(file) in home.portfolio.kill.reason
            await trio.sleep(5)
            assert len(await home.portfolio.logs(10)) == 1

            # Released while the file still stands, it is thrown again.
            await home.portfolio.deactivate(by="somebody")
            await trio.sleep(0.5)
            assert thrown()

            file.unlink()
            await home.portfolio.deactivate(by="somebody")
            await trio.sleep(5)
            assert not thrown()

        await keeping(upkeep, act)


@pytest.mark.parametrize(
    ("every_s", "moments_s"), [(3_600.0, [60, 3_660, 7_260]), (2_000.0, [60, 2_060, 4_060, 6_060])]
)
async def test_it_prunes_soon_after_the_start_and_again_and_again(
    tmp_path: Path, autojump_clock: MockClock, every_s: float, moments_s: list[int]
) -> None:
    pruner, clock, kept_us, rows = Pruner(), TrioClock(), 2 * 3_600_000_000, list[float]()
    upkeep = Upkeep(World(clock=clock), pruner, Thrown(), HandMarket(), tmp_path / "KILL", 77, kept_us, every_s)

    async def prune_rows() -> int:
        rows.append(trio.current_time())
        return 0

    upkeep.prune_rows = prune_rows
    await keeping(upkeep, partial(trio.sleep, 7_500))

    # What is dropped of the tables can be forgotten at once.
    assert rows == moments_s
    assert [at_s for at_s, _, _ in pruner.asked] == moments_s
    assert all(
        (older_than_us, kept) == (START_MS * 1000 + round(at_s * 1e6) - kept_us, 77)
        for at_s, older_than_us, kept in pruner.asked
    )


async def test_the_kill_file_is_heeded_while_much_is_forgotten(tmp_path: Path, autojump_clock: MockClock) -> None:
    class Busy(Pruner):
        async def prune(
            self, *, older_than_us: int | None = None, keep_events: int = 0, held_n: int | None = None
        ) -> int:
            await trio.sleep_forever()
            raise AssertionError

    file, switch = tmp_path / "KILL", Thrown()
    upkeep = Upkeep(World(clock=TrioClock()), Busy(), switch, HandMarket(), file, 77, DAY_US)

    async def act() -> None:
        await trio.sleep(100)
        file.touch()
        await trio.sleep(0.25)

    await keeping(upkeep, act)

    assert switch.reasons == [f"the file {file} exists"]


async def test_the_way_of_a_recorded_market_is_told(
    tmp_path: Path, autojump_clock: MockClock, logged: list[Any]
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        home.market.ends_ms = START_MS + 240_000
        upkeep = Upkeep(home.world, home.recorder, home.portfolio, home.market, tmp_path / "KILL", 10, DAY_US)

        async def act() -> None:
            await home.close()
            await trio.sleep(6)

        await keeping(upkeep, act)

    assert [entry["done_pct"] for entry in logged if entry["event"] == "market.progress"] == [25.0]
