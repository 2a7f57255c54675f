"""The backtests of one daemon: what its configuration, its market and its strategies are to a job."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final, Protocol

from attrs import define, evolve

from actors.backtests import Backtests, played
from actors.checks import Checks
from actors.feed import Feed
from actors.recorder import Recorder
from actors.roster import Roster
from pipaid.config import Config
from pipaid.engine.fees import Fees
from pipaid.engine.quotes import Quotes
from pipaid.jobs import Played, Task, settle
from pipaid.model.account import OWNER
from pipaid.model.job import Job, JobConfig, is_job
from pipaid.seams import World
from pipaid.storage.candles import CandleStore
from pipaid.storage.memories import answers_of
from pipaid.venues.venue import Market

MIB: Final = 1024 * 1024
CANDLES: Final = "candles"


@define(eq=False)
class Owners:
    """Whose a strategy or a job is, for those who listen to its events."""

    roster: Roster
    backtests: Backtests

    def owner_of(self, strategy_id: str) -> str | None:
        """Return the account that owns a strategy or a job."""
        known = self.backtests if is_job(strategy_id) else self.roster
        return known.owner_of(strategy_id)

    def strategies_of(self, account: str | None) -> list[str]:
        """Return the strategies of an account, or of all."""
        return self.roster.strategies_of(account)


class Parts(Protocol):
    """The parts of a daemon that its backtests depend on."""

    config: Config
    world: World
    recorder: Recorder
    roster: Roster
    checks: Checks
    feed: Feed
    quotes: Quotes


def backtests_of(parts: Parts) -> Backtests:
    """Return the backtests of a daemon that has all the rest."""
    config, clock, feed, quotes = parts.config, parts.world.clock, parts.feed, parts.quotes
    return Backtests(
        world=parts.world,
        writer=parts.recorder,
        owner=OWNER,
        slots=config.backtest.slots,
        run_s_max=float(config.backtest.run_s_max),
        store=CandleStore(_store(config)),
        notes=config.daemon.state_dir,
        play=partial(_played, parts.recorder),
        task_of=partial(task_of, config, feed.market),
        fees_of=partial(fees_of, config),
        definition_of=lambda account, strategy_id: parts.roster.member(account, strategy_id).strategy.definition,
        check=parts.checks.checked,
        instruments=lambda: feed.instruments,
        # A made-up market may be ahead of the clock on the wall.
        latest_ms=lambda: max(clock.now_us() // 1000, quotes.now_ms),
    )


async def _played(recorder: Recorder, task: Task) -> Played:
    """Have a worker play a task; a strategy that asked models hears again what they said."""
    strategy_id = task.config.strategy_id
    if strategy_id is not None:
        answers = await recorder.read(lambda reader: answers_of(reader, strategy_id))
        task = evolve(task, answers=answers)
    return await played(settle, task)


def fees_of(config: Config, job: JobConfig) -> Fees:
    """Return what a job is charged; raise InvalidParameter for fees that nobody knows."""
    desk = config.desk
    return Fees(
        model=job.fee_model,
        fee_bps=job.fee_bps,
        slippage_bps=job.slippage_bps,
        venue=(desk.maker_bps, desk.taker_bps),
        tiers=config.backtest.tiers,
    )


def task_of(config: Config, market: Market, job: Job, note: Path) -> Task:
    """Return what a worker needs for a job."""
    return Task(
        id=job.id,
        config=job.config,
        fees=fees_of(config, job.config),
        store=_store(config),
        market=config.market,
        now_ms=market.now_ms(),
        listed_ms=market.listed_ms,
        note=note,
        memory_bytes_max=config.backtest.memory_mib_max * MIB,
        run_s_max=float(config.backtest.run_s_max),
    )


def _store(config: Config) -> Path:
    return config.backtest.candles or config.daemon.state_dir / CANDLES
