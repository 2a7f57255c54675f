"""The consultant: carries questions to models and answers back, within what a day may cost, beside all trading."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Final

import msgspec
import trio
from attrs import define, field

from actors.actor import Writer
from pipaid.errors import PipaidError, Unavailable
from pipaid.logs import get_log, holds_secret
from pipaid.model.consult import PROMPT_MAX, Answer, Question, Tariff, Verdict
from pipaid.model.moment import iso_seconds
from pipaid.model.money import ZERO, plain
from pipaid.model.record import Batch
from pipaid.model.report import LlmFigures, ModelFigures
from pipaid.seams import Clock
from pipaid.storage.spending import DAYS_KEPT, SpentDay, spent_days, spent_records
from pipaid.wire.models import Provider

MINUTE_S: Final = 60.0
Answered = Callable[[Answer], None]


@define(eq=False)
class Errand:
    """A question on its way, and whom its answer goes to; `turn` is set once it may be sent."""

    question: Question
    tariff: Tariff
    answered: Answered
    turn: trio.Event = field(factory=trio.Event)


@define(eq=False)
class Line:
    """A provider with the questions that wait for their turn with it, the first come first."""

    provider: Provider
    concurrent_max: int
    per_minute_max: int
    open: int = 0
    waiting: deque[Errand] = field(factory=deque[Errand])
    # When each of the last questions was sent.
    _sent_s: deque[float] = field(factory=deque[float])

    def enter(self, errand: Errand) -> None:
        """Stand at the end."""
        self.waiting.append(errand)
        self._advance()

    def leave(self, errand: Errand) -> None:
        """Go, with the turn or without having had one."""
        if errand.turn.is_set():
            self.open -= 1
        else:
            self.waiting.remove(errand)
        self._advance()

    def _advance(self) -> None:
        while self.waiting and self.open < self.concurrent_max:
            self.open += 1
            self.waiting.popleft().turn.set()

    async def pace(self, clock: Clock) -> None:
        """Wait until one more may be sent within a minute."""
        while len(self._sent_s) >= self.per_minute_max:
            wait_s = self._sent_s[0] + MINUTE_S - clock.monotonic_s()
            if wait_s > 0:
                await clock.sleep(wait_s)
            else:
                self._sent_s.popleft()
        self._sent_s.append(clock.monotonic_s())


@define(eq=False)
class Consultant:
    """Ask each question once; `lines` are the providers by name, `tariffs` what their models cost.

    What a question may cost is durable before it is sent, and only ever becomes less when it is known what it did cost:
    a daemon that is killed has spent at least what it was charged for.
    """

    writer: Writer
    clock: Clock
    lines: Mapping[str, Line]
    tariffs: Mapping[tuple[str, str], Tariff]
    money_per_day_max: Decimal
    waiting_max: int
    _days: dict[str, SpentDay] = field(factory=dict[str, SpentDay], init=False)
    # What was asked before there was anybody to carry it.
    _early: list[Errand] = field(factory=list[Errand], init=False)
    _nursery: trio.Nursery | None = field(default=None, init=False)
    _verdicts: Counter[Verdict] = field(factory=Counter[Verdict], init=False)
    _models: dict[tuple[str, str], ModelFigures] = field(factory=dict[tuple[str, str], ModelFigures], init=False)

    async def load(self) -> None:
        """Read what the journal knows of the money that was spent."""
        self._days = await self.writer.read(spent_days)

    def consult(self, question: Question, answered: Answered) -> None:
        """Take a question that is durable; `answered` is called once, at once if it is not even sent."""
        lack = self.lacks(question.provider, question.model)
        if lack:
            self._end(question, _unsent(question, Verdict.UNCONFIGURED, lack), answered)
            return
        line, tariff = self.lines[question.provider], self.tariffs[question.provider, question.model]
        objection = self._objection(question, line)
        if objection:
            self._end(question, _unsent(question, Verdict.REFUSED, objection), answered)
            return
        errand = Errand(question, tariff, answered)
        line.enter(errand)
        if self._nursery is None:
            self._early.append(errand)
        else:
            self._nursery.start_soon(self._carry, line, errand)

    def lacks(self, provider: str, model: str) -> str:
        """Say what to add to the configuration so that a model can be asked, or nothing if it can."""
        if provider in self.lines and (provider, model) in self.tariffs:
            return ""
        table = f"llm.providers.{provider or 'NAME'}"
        also = "" if provider in self.lines else f'[{table}] with kind = "anthropic" or "openai" and its key_file, and '
        prices = f'[{table}.models."{model or "NAME"}"] with read and written, the prices'
        return f'model "{model}" of provider "{provider}" is not configured: add {also}{prices}'

    def _objection(self, question: Question, line: Line) -> str:
        told = question.system + question.prompt
        if holds_secret(told):
            return "its prompt holds a secret"
        if len(told) > 2 * PROMPT_MAX:
            return f"its prompt has {len(told)} characters, of at most {2 * PROMPT_MAX}"
        if len(line.waiting) >= self.waiting_max:
            return f"too many questions: {len(line.waiting)} wait for {question.provider} already"
        own = sum(errand.question.strategy_id == question.strategy_id for errand in line.waiting)
        if own >= max(1, self.waiting_max // 2):
            # Whoever asks about a hundred symbols at once leaves room for the others.
            return f"too many questions: {own} of this strategy wait for {question.provider} already"
        return ""

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry questions until cancelled; those that are under way then are interrupted."""
        try:
            async with trio.open_nursery() as nursery:
                early, self._early = self._early, []
                for errand in early:
                    nursery.start_soon(self._carry, self.lines[errand.question.provider], errand)
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    async def _carry(self, line: Line, errand: Errand) -> None:
        question = errand.question
        patience_s = question.patience_ms / 1_000
        answer = _unsent(question, Verdict.INTERRUPTED, "the daemon stopped asking; nothing was sent")
        try:
            with trio.move_on_after(patience_s) as patience:
                await errand.turn.wait()
                await line.pace(self.clock)
                # From here on time is counted by whoever asks.
                patience.deadline = math.inf
                answer = Answer(question_id=question.id, verdict=Verdict.INTERRUPTED, error="the daemon stopped asking")
                answer = await self._ask(line.provider, errand)
            if patience.cancelled_caught:
                answer = _unsent(
                    question, Verdict.LATE, f"its turn did not come within {patience_s:g} s; nothing was sent"
                )
        finally:
            line.leave(errand)
            self._end(question, answer, errand.answered)

    async def _ask(self, provider: Provider, errand: Errand) -> Answer:
        question = errand.question
        day, ceiling = self._today(), errand.tariff.ceiling(question)
        objection = await self._set_aside(day, ceiling)
        if objection:
            return _unsent(question, Verdict.REFUSED, objection)
        try:
            answer = await provider.ask(question)
        except Exception as trouble:  # noqa: BLE001 - one answer that nobody thought of ends no other question
            error = f"what came back could not be dealt with: {type(trouble).__name__}"
            answer = Answer(question_id=question.id, verdict=Verdict.MALFORMED, error=error)
        self._settle(day, errand, ceiling, answer)
        return answer

    # Money.

    def _today(self) -> str:
        # What is paid is paid on a day of the world, whatever day it is at the venue.
        return iso_seconds(self.clock.now_us() // 1_000)[:10]

    def _spent(self, day: str) -> SpentDay:
        return self._days.get(day, SpentDay())

    async def _set_aside(self, day: str, ceiling: Decimal) -> str:
        """Charge the day with what a question may cost; return why that cannot be, and nothing once it is durable."""
        spent = self._spent(day)
        if ceiling and spent.charged + ceiling > self.money_per_day_max:
            gone_already = f"{plain(spent.charged)} of llm.money_per_day_max = {plain(self.money_per_day_max)}"
            return (
                f"{gone_already} are spent or set aside on {day}, and this may cost {plain(ceiling)}; nothing was sent"
            )
        gone = sorted(self._days)[: -DAYS_KEPT + 1] if day not in self._days else []
        for each in gone:
            del self._days[each]
        self._days[day] = _more(spent, charged=ceiling, questions=1)
        try:
            await self.writer.commit(Batch(records=spent_records(day, self._days[day], gone)))
        except PipaidError as trouble:
            # Whether it is durable or not, it stays charged: nobody can tell any more.
            return f"what it may cost could not be noted: {trouble.message}; nothing was sent"
        return ""

    def _settle(self, day: str, errand: Errand, ceiling: Decimal, answer: Answer) -> None:
        """Charge what was counted instead of what was set aside; what nobody counted stays as it is."""
        if answer.tokens_in is None or answer.tokens_out is None or day not in self._days:
            return
        cost = errand.tariff.cost(answer.tokens_in, answer.tokens_out)
        spent = self._days[day]
        self._days[day] = _more(spent, charged=cost - ceiling, tokens_in=answer.tokens_in, tokens_out=answer.tokens_out)
        # If there is no room for it, it is written with the next; until then the journal knows of more.
        with suppress(Unavailable):
            self.writer.submit(Batch(records=spent_records(day, self._days[day])))

    # Figures.

    def _end(self, question: Question, answer: Answer, answered: Answered) -> None:
        """Give an answer to whoever waits for it, and count it."""
        self._verdicts[answer.verdict] += 1
        key = question.provider, question.model
        if key in self.tariffs:
            known = self._models.get(key) or ModelFigures(provider=question.provider, model=question.model)
            self._models[key] = msgspec.structs.replace(
                known,
                questions=known.questions + 1,
                answered=known.answered + (answer.verdict is Verdict.ANSWERED),
                tokens_in=known.tokens_in + (answer.tokens_in or 0),
                tokens_out=known.tokens_out + (answer.tokens_out or 0),
            )
        if answer.verdict is not Verdict.ANSWERED:
            get_log().warning(
                "question.failed",
                strategy_id=question.strategy_id,
                question=question.id,
                provider=question.provider,
                verdict=answer.verdict.value,
                reason=answer.error,
            )
        answered(answer)

    def figures(self) -> LlmFigures:
        """Return what was asked since the start, and what today has cost."""
        return LlmFigures(
            providers=len(self.lines),
            waiting=sum(len(line.waiting) for line in self.lines.values()),
            open=sum(line.open for line in self.lines.values()),
            verdicts={verdict.value: self._verdicts[verdict] for verdict in Verdict if self._verdicts[verdict]},
            models=tuple(self._models[key] for key in sorted(self._models)),
            money_today=plain(self._spent(self._today()).charged),
            money_per_day_max=plain(self.money_per_day_max),
        )


def _unsent(question: Question, verdict: Verdict, error: str) -> Answer:
    """Return why a question was not sent: nothing is paid for it."""
    return Answer(question_id=question.id, verdict=verdict, error=error, tokens_in=0, tokens_out=0)


def _more(
    spent: SpentDay, *, charged: Decimal = ZERO, questions: int = 0, tokens_in: int = 0, tokens_out: int = 0
) -> SpentDay:
    return SpentDay(
        charged=spent.charged + charged,
        questions=spent.questions + questions,
        tokens_in=spent.tokens_in + tokens_in,
        tokens_out=spent.tokens_out + tokens_out,
    )
