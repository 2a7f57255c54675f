"""Models are asked: what a question may cost is set aside, and its answer is one more thing to decide on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from attrs import define, field

from pipaid.engine.answering import concluded, continued, with_answer, with_question
from pipaid.engine.effects import Effects, run_id
from pipaid.engine.evaluating import Evaluations
from pipaid.engine.risk import CONSULTING, LLM_BUDGET, Refused, text_of, within
from pipaid.engine.spending import OpenQuestion, storable
from pipaid.engine.template import Consult, Intent
from pipaid.engine.tracing import Trace
from pipaid.engine.wishes import Nonsense
from pipaid.model.consult import Answer, Question, Tariff, Verdict
from pipaid.model.ident import derived_id
from pipaid.model.moment import utc_day
from pipaid.model.money import ZERO, plain
from pipaid.model.run import Cause, Evaluation
from pipaid.model.strategy import Status

# So many questions may follow from one evaluation.
ROUNDS_MAX: Final = 8
# What says nothing about whether anything could be entered: it depends on what the entry would be.
_OF_THE_ENTRY: Final = frozenset({"hedging", "price_collar", "identical_orders"})
AT_WORK: Final = frozenset({Status.DEPLOYED, Status.PAUSED})
NO_TARIFF: Final = Tariff(read=ZERO, written=ZERO)


@define(eq=False)
class Consulting(Evaluations):
    """Keep an evaluation open while a model is asked: one at a time on a symbol.

    `tariffs` are the prices of models by provider and name; nothing at all means that no price is asked for. `asking`
    holds the records of open evaluations, by symbol; `_rounds` counts the questions of the one that goes on.
    """

    tariffs: Mapping[tuple[str, str], Tariff] | None = field(default=None, kw_only=True)
    asking: dict[str, Evaluation] = field(factory=dict[str, Evaluation], kw_only=True)
    _rounds: int = field(default=0, init=False)

    def _opened(self, run: Evaluation) -> Evaluation:
        """Return the record of an evaluation with the question that it now waits for, if it does."""
        if self._asked is None:
            return run
        run = with_question(run, self._asked, self.brain.questions[run.symbol])
        self.asking[run.symbol] = run
        return run

    def _put(self, number: int, run: Evaluation) -> None:
        # One that has waited until it was dropped does not come back.
        if number > self.brain.runs_made - self.runs_kept:
            self._effects.runs.append(run)

    # Questions.

    def _carry(self, intent: Intent, wisher: str) -> None:
        if not isinstance(intent, Consult):
            super()._carry(intent, wisher)
            return
        rehearsed = self._trace is not None and self._trace.rehearsed
        if self._trace is not None:
            self._trace.intend(intent)
        if intent.symbol != self._evaluated[0] and not rehearsed:
            what = f"of {self._evaluated[0]}" if self._evaluated[0] else "only: what an order led to is none"
            raise Nonsense(f"{wisher} returned a Consult on {intent.symbol}, which belongs into an evaluation {what}")
        question = self._question(intent)
        tariff = NO_TARIFF if self.tariffs is None else self.tariffs.get((intent.provider, intent.model))
        refused = self._may_not_ask(question, tariff)
        if refused is not None:
            self._refuse(intent.symbol, refused)
        elif not rehearsed:
            assert tariff is not None, "a question without a price is refused"
            self._ask(question, tariff)

    def _question(self, intent: Consult) -> Question:
        evaluation = self._evaluated[1]
        return Question(
            id=derived_id("ask", self.strategy.id, self.brain.questions_made + 1),
            strategy_id=self.strategy.id,
            run_id=run_id(self.strategy.id, evaluation),
            symbol=intent.symbol,
            role=intent.role,
            provider=intent.provider,
            model=intent.model,
            system=intent.system,
            prompt=intent.prompt,
            answer_schema=intent.answer_schema,
            tokens_max=intent.tokens_max,
            patience_ms=intent.patience_ms,
            asked_at_ms=self.quotes.now_ms,
        )

    def _may_not_ask(self, question: Question, tariff: Tariff | None) -> Refused | None:
        """Return why a question is not sent: it would come to nothing, or cost more than it may."""
        waiting = self.brain.questions.get(question.symbol)
        if waiting is not None:
            still = f"another question about {question.symbol} was still open"
            return Refused(CONSULTING, "one question at a time", still)
        if self._rounds >= ROUNDS_MAX:
            return Refused(CONSULTING, f"{ROUNDS_MAX} questions", f"one evaluation had asked {ROUNDS_MAX} questions")
        if tariff is None:
            return Refused("llm_tariff", "a model with a price", f"{question.model} of {question.provider}")
        return self._in_vain(question.symbol) or self._too_dear(question, tariff)

    def _in_vain(self, symbol: str) -> Refused | None:
        """Return what the gate would say to any entry on a symbol, unless something is held that may be left."""
        if self.quotes.is_stale(symbol):
            return Refused("stale_data", "fresh prices", symbol)
        if self._holding(symbol):
            return None
        self._expose()
        self._rebase()
        judged = [gate for gate in self.probe(symbol) if gate.rule not in _OF_THE_ENTRY]
        if not judged:
            return Refused("stale_data", "fresh prices", "none yet")
        shut = next((gate for gate in judged if not gate.passed), None)
        return None if shut is None else Refused(shut.rule, text_of(shut.limit), text_of(shut.value))

    def _too_dear(self, question: Question, tariff: Tariff) -> Refused | None:
        """Return how a question would go beyond what may be spent today, if it came to the most it can."""
        allowance, spent = self.limits.spending, self.brain.spending.on(utc_day(self.quotes.now_ms))
        tokens, money = question.tokens_in_max + question.tokens_max, tariff.ceiling(question)
        if not within(spent.tokens + tokens, allowance.tokens):
            left = f"{max(0, allowance.tokens - spent.tokens)} of {allowance.tokens} a day are left"
            needs = f"one question may take up to {tokens} tokens, and {left}"
            return Refused(LLM_BUDGET, f"{allowance.tokens} tokens a day", needs)
        if not within(spent.money + money, allowance.money):
            left = f"{plain(max(ZERO, allowance.money - spent.money))} of {plain(allowance.money)} a day is left"
            needs = f"one question may cost up to {plain(money)}, and {left}"
            return Refused(LLM_BUDGET, f"{plain(allowance.money)} of money a day", needs)
        return None

    def _ask(self, question: Question, tariff: Tariff) -> None:
        """Set aside what a question can cost, remember it, and have it sent once that is durable."""
        brain, run = self.brain, self.strategy.run
        waiting = OpenQuestion(
            id=question.id,
            evaluation=self._evaluated[1],
            deployment=run.id if run is not None else "",
            role=question.role,
            provider=question.provider,
            model=question.model,
            asked_at_ms=question.asked_at_ms,
            patience_ms=question.patience_ms,
            day=utc_day(question.asked_at_ms),
            tokens_in=question.tokens_in_max,
            tokens_out=question.tokens_max,
            tariff=tariff,
            rounds=self._rounds + 1,
        )
        self.brain = msgspec.structs.replace(
            brain,
            questions_made=brain.questions_made + 1,
            questions={**brain.questions, question.symbol: waiting},
            spending=brain.spending.on(waiting.day).plus(waiting.tokens, waiting.money, 1),
        )
        self._asked = question
        self._effects.questions.append(question)
        self._dirty = True

    # Answers.

    def on_answer(self, answer: Answer) -> Effects | None:
        """Decide on what came of a question; one that is not open any more changes nothing."""
        symbols = [symbol for symbol, waiting in self.brain.questions.items() if waiting.id == answer.question_id]
        if not symbols:
            return None
        self._begin()
        self._take(symbols[0], storable(answer))
        return self._finish(force=True)

    def interrupt(self) -> Effects | None:
        """Give up the questions that were open when the session was put together: they are never sent again."""
        if not self.brain.questions:
            return None
        self._begin()
        for symbol, waiting in list(self.brain.questions.items()):
            error = "the strategy started anew before there was an answer"
            self._take(symbol, Answer(question_id=waiting.id, verdict=Verdict.INTERRUPTED, error=error))
        return self._finish(force=True)

    def _forsake(self, why: str) -> None:
        """End open evaluations without asking the template; what was reserved for them may have been spent."""
        for symbol, waiting in list(self.brain.questions.items()):
            answer = Answer(question_id=waiting.id, verdict=Verdict.INTERRUPTED, error=why)
            self._close_question(symbol, answer)
            self._end(waiting, answer, symbol=symbol, shut=why)

    def _take(self, symbol: str, answer: Answer) -> None:
        """Pay for an answer, ask the template what it wishes now, and write both into the record."""
        waiting = self.brain.questions[symbol]
        late_ms = self.quotes.now_ms - waiting.asked_at_ms
        if answer.verdict is Verdict.ANSWERED and late_ms > waiting.patience_ms:
            error = f"it came {late_ms} ms after the question, of at most {waiting.patience_ms}"
            answer = msgspec.structs.replace(answer, verdict=Verdict.LATE, error=error)
        self._close_question(symbol, answer)
        trace = Trace(cause=Cause.ANSWER, symbol=symbol, at_ms=self.quotes.now_ms) if self.tells else None
        shut = self._may_not_decide(symbol, waiting)
        if not shut:
            if trace is not None:
                trace.candle = self.series[symbol].last
            self._rounds = waiting.rounds
            try:
                question = _without_words(self.strategy.id, symbol, waiting)
                self._within((symbol, waiting.evaluation), trace, self.template.on_answer, question, answer)
            finally:
                self._rounds = 0
        self._end(waiting, answer, symbol=symbol, trace=trace, shut=shut)

    def _may_not_decide(self, symbol: str, waiting: OpenQuestion) -> str:
        """Return why an answer is not even looked at."""
        run, status = self.strategy.run, self.strategy.status
        if status not in AT_WORK:
            return f"the strategy is {status}"
        if waiting.deployment != (run.id if run is not None else ""):
            return "it was asked in an earlier deployment"
        return "" if symbol in self.capital else f"{symbol} is none of the strategy's any more"

    def _close_question(self, symbol: str, answer: Answer) -> None:
        """Forget a question and settle what was reserved for it, on the day on which it was."""
        brain = self.brain
        waiting, spending = brain.questions[symbol], brain.spending
        if spending.day == waiting.day:
            counted = waiting.counted(answer)
            spending = spending.plus(sum(counted) - waiting.tokens, waiting.tariff.cost(*counted) - waiting.money)
        kept = {key: each for key, each in brain.questions.items() if key != symbol}
        self.brain = msgspec.structs.replace(brain, questions=kept, spending=spending)
        self._dirty = True

    def _end(
        self, waiting: OpenQuestion, answer: Answer, *, symbol: str, trace: Trace | None = None, shut: str
    ) -> None:
        """Write what came of a question into the record of its evaluation, which ends unless another one was asked."""
        run = self.asking.pop(symbol, None)
        if run is not None and self.tells:
            run = with_answer(run, waiting, answer)
            run = concluded(run, shut) if shut or trace is None else continued(run, trace, self.strategy, answer)
            self._put(waiting.evaluation, self._opened(run))
        self._asked = None


def _without_words(strategy_id: str, symbol: str, waiting: OpenQuestion) -> Question:
    """Return a question as a template gets it back: its words are with the record of the evaluation."""
    return Question(
        id=waiting.id,
        strategy_id=strategy_id,
        run_id=run_id(strategy_id, waiting.evaluation),
        symbol=symbol,
        role=waiting.role,
        provider=waiting.provider,
        model=waiting.model,
        system="",
        prompt="",
        answer_schema={},
        tokens_max=waiting.tokens_out,
        patience_ms=waiting.patience_ms,
        asked_at_ms=waiting.asked_at_ms,
    )
