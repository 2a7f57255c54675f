"""No more evaluations are kept than is asked for, and those of a deleted strategy for a while only."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from actors.retention import DROPPED_AT_ONCE, Retention
from pipaid.engine.effects import run_id
from pipaid.model.order import Order
from pipaid.model.run import Evaluation
from pipaid.model.strategy import Strategy
from tests.actors.homes import ACCOUNT, Home, at_home
from tests.actors.test_records import evaluation, keep
from tests.builders import enter, scripted

HOUR_US = 3_600_000_000
pytestmark = pytest.mark.usefixtures("logged")


def retaining(home: Home, kept: int) -> Retention:
    return Retention(home.recorder, home.roster, home.world.clock, kept, HOUR_US)


def numbers(home: Home, strategy: Strategy, *, most: int = 1_000) -> set[int]:
    there = {run.id for run in home.stored("run", Evaluation, owner=strategy.id)}
    return {number for number in range(most) if run_id(strategy.id, number) in there}


async def test_a_lower_number_leaves_the_newest_of_each(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        many, few = await home.draft("many"), await home.draft("few")
        count = 3 * DROPPED_AT_ONCE
        await keep(home, *(evaluation(many.id, number) for number in range(count)))
        await keep(home, *(evaluation(few.id, number) for number in range(7)))

        assert await retaining(home, 10).prune() == count - 10
        assert numbers(home, many) == set(range(count - 10, count))
        assert numbers(home, few) == set(range(7))
        assert await retaining(home, 10).prune() == 0


async def test_a_session_keeps_no_more_than_is_asked_for_by_itself(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        home.roster.runs_kept = 10
        strategy = await home.deploy()
        for _ in range(13):
            await home.lifecycle.trigger(ACCOUNT, strategy.id)

        assert numbers(home, strategy) == set(range(4, 14))
        assert await retaining(home, 10).prune() == 0


async def test_a_higher_number_lets_them_grow_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        home.roster.runs_kept = 10
        strategy = await home.deploy()
        for _ in range(12):
            await home.lifecycle.trigger(ACCOUNT, strategy.id)
        home.roster.runs_kept = 15
        await home.roster.reload(home.member(strategy.id))
        for _ in range(8):
            await home.lifecycle.trigger(ACCOUNT, strategy.id)

        assert numbers(home, strategy) == set(range(6, 21))


async def test_those_of_a_deleted_strategy_go_after_a_while_and_nothing_else_of_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=lambda view: [] if view.positions else [enter()])) as home:
        gone, there = await home.deploy("gone"), await home.deploy("there")
        await home.close()
        await home.trade()
        await home.lifecycle.pause(ACCOUNT, gone.id, close_positions=False)
        await home.lifecycle.delete(ACCOUNT, gone.id)
        retention = retaining(home, 10)

        assert await retention.prune() == 0
        await trio.sleep(3_590)
        assert await retention.prune() == 0
        await trio.sleep(11)
        assert await retention.prune() == 1

        assert (numbers(home, gone), numbers(home, there)) == (set(), {1})
        assert len(home.stored("order", Order, owner=gone.id)) == 1
