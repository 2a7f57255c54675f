"""The wall clock is for display and signatures: whatever it does, the same is traded in the same time."""

from __future__ import annotations

from decimal import Decimal
from itertools import count, cycle
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from pipaid.errors import InvalidSignature
from pipaid.sdk import Exit
from pipaid.seams import SystemRandom, World
from tests.actors.homes import TrioClock, at_home
from tests.actors.test_keys import HandClock, new_key, open_ring, signed
from tests.builders import enter, limit, scripted

pytestmark = pytest.mark.usefixtures("logged")

HOUR_US = 3_600_000_000
HOUR_MS = 3_600_000
TRADED = ("brain", "order", "position", "fill", "run", "book", "market")


@define(eq=False)
class LeapingClock(TrioClock):
    """trio's clock with a wall clock that leaps by an hour, forth and back and further back, at every look."""

    leaps: cycle[int] = field(factory=lambda: cycle((0, HOUR_US, -HOUR_US, 2 * HOUR_US, -3 * HOUR_US)))

    def now_us(self) -> int:
        return super().now_us() + next(self.leaps)


@define
class CountedIds:
    """Identities that are the same in every run."""

    numbers: count[int] = field(factory=count)

    def entropy(self, size: int) -> bytes:
        return next(self.numbers).to_bytes(size, "big")


def trading() -> Any:
    """Return a template that enters, rests, protects and leaves, by candles."""

    def on_candle(view: Any) -> list[Any]:
        if len(view.positions) >= 3:
            return [Exit(position_id=position.id) for position in view.positions]
        return [enter(stop_price=Decimal(90)), limit("97", tag=str(view.now_ms))]

    return scripted(on_candle=on_candle)


async def traded(folder: Path, clock: TrioClock) -> dict[str, Any]:
    """Let a strategy trade for a while under a clock, over a crash of its own; return all that came of it."""
    folder.mkdir()
    prices = cycle(("100", "99", "96", "101", "103", "88", "100"))
    world = World(clock=clock, random=SystemRandom(seed=1), ids=CountedIds())
    async with at_home(folder, trading(), world=world) as home:
        strategy = await home.deploy()
        for number in range(30):
            price = next(prices)
            await home.close(price)
            await home.trade(price)
            if number == 15:
                home.actor(strategy.id)._crash(ValueError("a crash from anywhere"))
                await home.settle()
        found: dict[str, Any] = {entity: [row.data for row in home.journal.rows(entity)] for entity in TRADED}
        # What befell the account is told by the clock on the wall.
        told = [event.frame for event in home.events if event.strategy_id == strategy.id]
        return {**found, "told": told, "took": trio.current_time()}


async def test_whatever_the_wall_clock_does_the_same_is_traded_in_the_same_time(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    steady = await traded(tmp_path / "steady", TrioClock())
    took_s = steady.pop("took")
    leaping = await traded(tmp_path / "leaping", LeapingClock())

    assert leaping.pop("took") - took_s == pytest.approx(took_s)
    assert len(steady["fill"]) > 10
    assert len(steady["told"]) > 30
    for name, values in steady.items():
        assert leaping[name] == values, name


@pytest.mark.parametrize("step_ms", [HOUR_MS, -HOUR_MS])
async def test_a_clock_that_is_an_hour_off_refuses_signatures_until_it_is_right(tmp_path: Path, step_ms: int) -> None:
    ours, theirs = HandClock(), HandClock()
    async with open_ring(tmp_path, ours) as ring:
        key = await ring.create(new_key(), account="acct_1")
        assert ring.authenticate(signed(key, theirs)).account == "acct_1"

        ours.at_us += step_ms * 1_000
        with pytest.raises(InvalidSignature, match=f"{HOUR_MS} ms"):
            ring.authenticate(signed(key, theirs))

        ours.at_us -= step_ms * 1_000
        assert ring.authenticate(signed(key, theirs)).account == "acct_1"
