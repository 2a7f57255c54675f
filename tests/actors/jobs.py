"""A queue of backtests on a journal, and a hand that plays nothing until a test says what came of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import trio
import trio.testing
from attrs import define, field

from actors.backtests import Backtests
from actors.recorder import Recorder
from pipaid.config.sections import Market
from pipaid.engine.fees import Fees
from pipaid.errors import InvalidParameter, NotFound
from pipaid.jobs import Played, Task
from pipaid.model.backtest import MetricsObject
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.model.job import (
    BacktestCreate,
    Job,
)
from pipaid.model.request import Addressed
from pipaid.model.strategy import StrategyDefinition
from pipaid.seams import SystemRandom, World
from pipaid.storage.candles import CandleStore
from pipaid.storage.sqlite import SqliteJournal
from pipaid.storage.store import StoredEvent
from tests.actors.homes import TrioClock
from tests.builders import START_MS, SYMBOL, make_instrument
from tests.storage.journals import open_journal

DAY_MS = 86_400_000
METRICS = MetricsObject(
    sharpe="1.00", sortino=None, calmar=None, max_drawdown="-0.100", win_rate="0.500", profit_factor=None, cagr="0.100",
    expected_value="1.00", total_trades=3, avg_trade_duration_seconds=60,
)  # fmt: skip
RESULT: dict[str, Any] = {
    "metrics": msgspec.to_builtins(METRICS),
    "equity_curve": [],
    "trades": [],
    "refusals": {},
    "digest": "ab",
}
DONE = Played(result=msgspec.json.encode(RESULT | {"metrics_365": msgspec.to_builtins(METRICS)}), metrics=METRICS)


@define(frozen=True)
class Caller:
    """Who asks."""

    account: str | None = None
    who: str = "a test"


@define(eq=False)
class Hand:
    """Plays nothing until the test says what came of it."""

    begun: list[Task] = field(factory=list[Task])
    ended: int = 0
    on_end: Callable[[], object] = field(default=lambda: None)
    _verdicts: dict[int, tuple[trio.Event, list[Played | Exception]]] = field(factory=dict[int, Any])

    async def play(self, task: Task) -> Played:
        number = len(self.begun)
        self.begun.append(task)
        said, verdict = self._verdicts[number] = (trio.Event(), [])
        try:
            await said.wait()
        finally:
            self.ended += 1
            self.on_end()
        if isinstance(verdict[0], Exception):
            raise verdict[0]
        return verdict[0]

    async def say(self, number: int, verdict: Played | Exception) -> None:
        said, verdicts = self._verdicts[number]
        verdicts.append(verdict)
        said.set()
        await trio.testing.wait_all_tasks_blocked()


@define(eq=False)
class Office:
    """A journal, and the backtests of one life of a daemon on it."""

    folder: Path
    slots: int = 1
    hand: Hand = field(factory=Hand)
    told: list[StoredEvent] = field(factory=list[StoredEvent])
    strategies: dict[tuple[str | None, str], StrategyDefinition] = field(factory=dict[tuple[str | None, str], Any])
    journal: SqliteJournal = field(init=False)
    recorder: Recorder = field(init=False)
    jobs: Backtests = field(init=False)
    life: trio.CancelScope = field(init=False)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Office]:
        """Live until the block is left, which is an orderly end."""
        world = World(clock=TrioClock(), random=SystemRandom(seed=1))
        self.journal = open_journal(self.folder)
        self.recorder = Recorder(self.journal, self.told.extend, world.clock, threaded=False)
        self.jobs = Backtests(
            world=world,
            writer=self.recorder,
            owner="acct_main",
            slots=self.slots,
            run_s_max=100.0,
            store=CandleStore(self.folder / "candles"),
            notes=self.folder,
            play=self.hand.play,
            task_of=self._task,
            fees_of=lambda config: Fees(model=config.fee_model),
            definition_of=self._definition,
            check=self._check,
            instruments=lambda: {SYMBOL: make_instrument()},
            latest_ms=lambda: START_MS,
        )
        try:
            async with trio.open_nursery() as recording:
                await recording.start(self._record)
                async with trio.open_nursery() as nursery:
                    self.life = nursery.cancel_scope
                    await nursery.start(self.jobs.run)
                    await trio.testing.wait_all_tasks_blocked()
                    yield self
                    nursery.cancel_scope.cancel()
                recording.cancel_scope.cancel()
        finally:
            self.journal.close()

    async def _record(self, task_status: trio.TaskStatus[None]) -> None:
        await self.recorder.run(task_status=task_status)

    def _task(self, job: Job, note: Path) -> Task:
        return Task(
            id=job.id,
            config=job.config,
            fees=Fees(),
            store=self.folder,
            market=Market(),
            now_ms=START_MS,
            listed_ms=0,
            note=note,
            memory_bytes_max=1,
            run_s_max=100.0,
        )

    def _definition(self, account: str | None, strategy_id: str) -> StrategyDefinition:
        try:
            return self.strategies[account, strategy_id]
        except KeyError:
            raise NotFound(f"there is no strategy {strategy_id}") from None

    def _check(self, definition: StrategyDefinition, listed: Mapping[str, Instrument]) -> None:
        if any(symbol not in listed for symbol in definition.symbols):
            raise InvalidParameter("symbols: not listed", details=(("symbols", "not listed"),))

    async def create(self, account: str | None = None, **changed: Any) -> str:
        job = await self.jobs.backtest_create(Caller(account), asked(**changed))
        await trio.testing.wait_all_tasks_blocked()
        return job.id

    async def status(self, job_id: str) -> str:
        return (await self.jobs.backtest_get(Caller(), Addressed(id=job_id))).status

    def events(self, job_id: str) -> list[str]:
        frames = [msgspec.json.decode(event.frame) for event in self.told if event.strategy_id == job_id]
        assert [frame["seq"] for frame in frames] == list(range(frames[0]["seq"], frames[0]["seq"] + len(frames)))
        return [frame["event"] for frame in frames]


def asked(**changed: Any) -> BacktestCreate:
    fields: dict[str, Any] = {
        "template_id": "tpl_dca", "params": {}, "symbols": (SYMBOL,), "timeframe": Timeframe.M1,
        "capital": Decimal(1000), "start": START_MS - DAY_MS, "end": START_MS,
    }  # fmt: skip
    return BacktestCreate(**{**fields, **changed})
