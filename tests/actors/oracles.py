"""A consultant on a journal, and a provider that answers as a test says."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import trio
from attrs import define, field

from actors.consultant import Consultant, Line
from actors.recorder import Recorder
from pipaid.model.consult import Answer, Question, Tariff, Verdict
from pipaid.storage.spending import SpentDay, spent_days
from pipaid.storage.sqlite import SqliteJournal
from pipaid.wire.models import Provider
from tests.actors.homes import TrioClock
from tests.endpoints import make_question
from tests.storage.journals import open_journal

# One unit of money for a thousand tokens, whichever way they go.
TARIFF = Tariff(read=Decimal(1_000), written=Decimal(1_000))
FREE = Tariff(read=Decimal(0), written=Decimal(0))
CEILING = TARIFF.ceiling(make_question())

Behaviour = Callable[[Question], Awaitable[Answer]]


def answer_to(question: Question, verdict: Verdict = Verdict.ANSWERED, **fields: Any) -> Answer:
    """Return an answer of a hundred tokens."""
    given: dict[str, Any] = {"text": "{}", "tokens_in": 90, "tokens_out": 10}
    return Answer(question_id=question.id, verdict=verdict, **{**given, **fields})


@define(eq=False)
class Oracle:
    """Answer after a while, with whatever the next turn says."""

    after_s: float = 1.0
    turns: deque[Behaviour] = field(factory=deque[Behaviour])
    asked: list[Question] = field(factory=list[Question])
    at_s: list[float] = field(factory=list[float])
    at_once: int = 0
    at_once_most: int = 0

    async def ask(self, question: Question) -> Answer:
        """Answer one question."""
        self.asked.append(question)
        self.at_s.append(trio.current_time())
        self.at_once += 1
        self.at_once_most = max(self.at_once_most, self.at_once)
        try:
            await trio.sleep(self.after_s)
            return await self.turns.popleft()(question) if self.turns else answer_to(question)
        finally:
            self.at_once -= 1


@define(eq=False)
class Office:
    """A journal, and the consultant of one life of a daemon on it."""

    folder: Path
    money_per_day_max: Decimal = Decimal(1_000)
    waiting_max: int = 64
    concurrent_max: int = 4
    per_minute_max: int = 1_000
    oracle: Oracle = field(factory=Oracle)
    provider: Provider | None = None
    clock: TrioClock = field(factory=TrioClock)
    answers: list[Answer] = field(factory=list[Answer])
    journal: SqliteJournal = field(init=False)
    recorder: Recorder = field(init=False)
    consultant: Consultant = field(init=False)
    nursery: trio.Nursery = field(init=False)

    @asynccontextmanager
    async def open(self, *, running: bool = True) -> AsyncGenerator[Office]:
        """Live until the block is left, at once and with no goodbye to anybody."""
        self.journal = open_journal(self.folder)
        self.recorder = Recorder(self.journal, lambda _: None, self.clock, threaded=False)
        line = Line(self.provider or self.oracle, self.concurrent_max, self.per_minute_max)
        self.consultant = Consultant(
            writer=self.recorder,
            clock=self.clock,
            lines={"main": line},
            tariffs={("main", "small"): TARIFF, ("main", "free"): FREE},
            money_per_day_max=self.money_per_day_max,
            waiting_max=self.waiting_max,
        )
        try:
            async with trio.open_nursery() as recording:
                await recording.start(self._record)
                await self.consultant.load()
                async with trio.open_nursery() as self.nursery:
                    if running:
                        await self.nursery.start(self.consultant.run)
                    yield self
                    self.nursery.cancel_scope.cancel()
                recording.cancel_scope.cancel()
        finally:
            self.journal.close()

    async def _record(self, task_status: trio.TaskStatus[None]) -> None:
        await self.recorder.run(task_status=task_status)

    def ask(self, number: int = 1, **fields: Any) -> None:
        """Have a question carried; its answer is among `answers` once it is there."""
        self.consultant.consult(make_question(number, **fields), self.answers.append)

    async def answer(self, number: int = 1, **fields: Any) -> Answer:
        """Ask and wait for the answer."""
        there = trio.Event()
        found: list[Answer] = []

        def take(answer: Answer) -> None:
            found.append(answer)
            there.set()

        self.consultant.consult(make_question(number, **fields), take)
        await there.wait()
        return found[0]

    async def days(self) -> dict[str, SpentDay]:
        """Return what is durable by now of what was spent."""
        # A batch that brings nothing is behind all that was handed over before.
        await trio.testing.wait_all_tasks_blocked()
        return await self.recorder.read(partial(spent_days))

    @property
    def verdicts(self) -> list[tuple[str, Verdict]]:
        """Return how the questions ended, in the order of their answers."""
        return [(answer.question_id, answer.verdict) for answer in self.answers]
