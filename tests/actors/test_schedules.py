"""Occasions on a feed: after the candles of their moment, told by trade or clock, once, wherever life is cut off."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import trio
from trio.testing import MockClock

from pipaid.engine.rings import RING, SETTLE_MS
from pipaid.engine.template import Exit, Intent, Template, View, Wakes
from pipaid.model.run import Cause, Evaluation, RunStatus, TaskType
from pipaid.model.strategy import Strategy
from tests.actors.homes import HandMarket, Home, at_home
from tests.actors.lives import Cut, Life, recording
from tests.actors.test_feed_alarms import durable, numbered, walk
from tests.builders import MINUTE_MS, OTHER, START_MS, SYMBOL, NoParams, enter, scripted

TWO_MINUTES: dict[str, Any] = {"schedule": {"trigger": "interval", "interval_minutes": 2}}


def occasions_of(home: Home, strategy: Strategy) -> list[tuple[RunStatus, int]]:
    """Return the runs of occasions: when they were, from the beginning on, in minutes."""
    runs = home.stored("run", Evaluation, owner=strategy.id)
    scheduled = sorted((run for run in runs if run.cause is Cause.SCHEDULE), key=lambda run: run.at_ms)
    return [
        (run.status, (run.steps[0].output.get("occasion_ms", START_MS) - START_MS) // MINUTE_MS) for run in scheduled
    ]


async def test_an_occasion_is_asked_about_once_all_of_its_candles_have_closed(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    def on_candle(view: View) -> Iterable[Intent]:
        assert view.candle is not None
        seen.append((view.symbol, (view.candle.close_time_ms - START_MS) // MINUTE_MS))
        return ()

    async with at_home(tmp_path, scripted(on_candle=on_candle)) as home:
        strategy = await home.deploy(params=TWO_MINUTES, symbols=(SYMBOL, OTHER))
        for _ in range(2):
            begun_ms = home.market.time_ms
            await home.close()
            home.market.time_ms = begun_ms
            if begun_ms > START_MS:
                assert seen == []
            await home.close(symbol=OTHER)

        assert seen == [(SYMBOL, 2), (OTHER, 2)]
        assert occasions_of(home, strategy) == [(RunStatus.HOLD, 2), (RunStatus.HOLD, 2)]


async def test_a_candle_that_does_not_come_is_waited_for_a_few_seconds_of_venue_time(tmp_path: Path) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy(params=TWO_MINUTES)
        await home.close()
        home.market.time_ms = START_MS + 2 * MINUTE_MS + SETTLE_MS - 1_001

        await home.trade()
        assert occasions_of(home, strategy) == []
        await home.trade()

        assert occasions_of(home, strategy) == [(RunStatus.HOLD, 2)]


async def test_where_no_market_trade_tells_the_time_the_venue_s_clock_does(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy(params=TWO_MINUTES)
        await home.close()
        home.market.time_ms = START_MS + 2 * MINUTE_MS + SETTLE_MS - 1
        await trio.sleep(2)
        assert occasions_of(home, strategy) == []

        home.market.time_ms += 1
        await trio.sleep(2)
        await home.settle()

        assert occasions_of(home, strategy) == [(RunStatus.HOLD, 2)]
        assert home.quotes.now_ms == home.market.time_ms


async def test_a_strategy_that_is_busy_is_asked_as_soon_as_it_is_not(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy(params=TWO_MINUTES)
        await home.close()
        actor = home.actor(strategy.id)
        actor.mailbox.hold()
        home.activity.begin()
        await home.end_minute()
        await trio.sleep(1)
        assert list(actor.missed) == [RING]
        actor.mailbox.release()
        actor.mailbox.alarm()
        home.activity.end()
        await home.settle()

        assert occasions_of(home, strategy) == [(RunStatus.HOLD, 2)]


async def test_an_occasion_over_which_a_strategy_broke_down_is_dealt_with_once_it_is_back(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    failures = [RuntimeError("not now")]

    def on_candle(_: View) -> Iterable[Intent]:
        if failures:
            raise failures.pop()
        return ()

    async with at_home(tmp_path, scripted(on_candle=on_candle)) as home:
        strategy = await home.deploy(params=TWO_MINUTES)
        for _ in range(2):
            await home.close()
        await home.settle()

        dealt = [each for each in occasions_of(home, strategy) if each[0] is not RunStatus.FAILED]
        assert dealt == [(RunStatus.HOLD, 2)]


async def test_a_paused_strategy_is_not_asked_and_its_next_deployment_tells_of_it(tmp_path: Path) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy(params=TWO_MINUTES)
        await home.lifecycle.pause(None, strategy.id, close_positions=False)
        for _ in range(5):
            await home.close()
        assert occasions_of(home, strategy) == []
        await home.lifecycle.deploy(None, strategy.id, capital=None, leverage=None, dry_run=True)
        await home.settle()
        for _ in range(2):
            await home.close()

        assert [status for status, _ in occasions_of(home, strategy)] == [RunStatus.SKIPPED, RunStatus.HOLD]
        assert occasions_of(home, strategy)[-1] == (RunStatus.HOLD, 6)


async def test_what_passed_between_two_lives_is_one_skipped_run(tmp_path: Path) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy(params=TWO_MINUTES)
        for _ in range(3):
            await home.close()

    async with at_home(tmp_path, scripted(), market=HandMarket(time_ms=START_MS + 11 * MINUTE_MS)) as home:
        await home.close()
        (skipped,) = [
            run.steps[0].output
            for run in home.stored("run", Evaluation, owner=strategy.id)
            if run.status is RunStatus.SKIPPED
        ]

        assert (skipped["why"], skipped["occasions"]) == ("down", 4)
        assert [at for status, at in occasions_of(home, strategy) if status is RunStatus.HOLD] == [2, 12]


class Turning(Template):
    """Enter and leave in turn at its occasions, and note in its maintenance that it was asked."""

    id = "tpl_turning"
    description = "Turns."
    params_type = NoParams

    def wakes(self) -> Wakes:
        return Wakes(every=True)

    def maintenance_ms(self) -> int | None:
        return MINUTE_MS

    def on_candle(self, view: View) -> Iterable[Intent]:
        if view.positions:
            return [Exit(position_id=each.id) for each in view.positions]
        return [enter(symbol=view.symbol, tag="turn")]


async def test_no_cut_before_or_after_a_commit_changes_what_occasions_lead_to(tmp_path: Path) -> None:
    recorded = recording({SYMBOL: walk(1, 7), OTHER: walk(2, 7)})
    templates: dict[str, type[Template]] = {"tpl_turning": Turning}
    strategies = [
        numbered(1, template_id="tpl_turning", params=TWO_MINUTES, symbols=(SYMBOL, OTHER)),
        numbered(2, template_id="tpl_turning", params={"schedule": {"trigger": "cron", "cron": "*/3 * * * *"}}),
    ]
    counting = Cut(at=0, after=False)
    assert await Life(tmp_path / "whole", recorded, templates, counting).run(strategies)
    wanted = durable(tmp_path / "whole")
    runs = [row for (entity, _), row in wanted.items() if entity == "run"]
    assert {run["task_type"] for run in runs} == {TaskType.SIGNAL.value, TaskType.MAINTENANCE.value}
    assert {run["status"] for run in runs} == {"completed", "hold"}

    for at in range(1, counting.commits + 1):
        folder, cut = tmp_path / f"cut {at}", Cut(at=at, after=bool(at % 2))
        ended = await Life(folder, recorded, templates, cut).run(strategies)
        while not ended:
            ended = await Life(folder, recorded, templates).run()

        assert durable(folder) == wanted, cut
