"""Templates that ask a model, for tests of what becomes of the question and of the answer."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from pipaid.engine.guards import Guards
from pipaid.engine.spending import Allowance
from pipaid.engine.template import Consult, Intent, Template, View
from pipaid.model.consult import Answer, Question, Tariff
from pipaid.model.instrument import Timeframe
from pipaid.model.run import Evaluation, RunStep
from tests.builders import SYMBOL, Bench, make_bench, scripted

PROVIDER, MODEL = "main", "oracle-1"
TARIFF = Tariff(read=Decimal(3), written=Decimal(15))
TARIFFS = {(PROVIDER, MODEL): TARIFF}


def consult(**fields: Any) -> Consult:
    given: dict[str, Any] = {
        "symbol": SYMBOL,
        "role": "decision",
        "provider": PROVIDER,
        "model": MODEL,
        "prompt": "What now?",
        "tokens_max": 100,
        "patience_ms": 30_000,
    }
    return Consult(**{**given, **fields})


def always(wish: Callable[[], Any]) -> Callable[..., Any]:
    """Return a callback that wishes the same whenever it is asked."""
    return lambda *_: [wish()]


def noting(answers: list[Answer], *wishes: Intent) -> Callable[..., Any]:
    """Return a callback that writes each answer down and wishes always the same."""

    def on_answer(view: View, question: Question, answer: Answer) -> Any:
        answers.append(answer)
        return wishes

    return on_answer


def asking(money: str = "1", tokens: int = 1_000_000, **callbacks: Any) -> type[Template]:
    """Make a template that asks at each candle, unless told otherwise, and may spend so much a day."""
    may = Guards(spending=Allowance(money=Decimal(money), tokens=tokens))

    def guards(params: Any, timeframe: Timeframe) -> Guards:
        return may

    callbacks.setdefault("on_candle", always(consult))
    return scripted(guards=staticmethod(guards), **callbacks)


def asked(template: type[Template] | None = None, **more: Any) -> Bench:
    """Make a bench whose first candle has just led to a question."""
    given: dict[str, Any] = {"tariffs": TARIFFS, **more}
    bench = make_bench(template or asking(), **given)
    bench.close()
    return bench


def each_its_own(view: View) -> list[Intent]:
    """Ask about the symbol that is decided on, with much patience."""
    return [consult(symbol=view.symbol, patience_ms=600_000)]


def model_step(run: Evaluation) -> RunStep:
    (step,) = (step for step in run.steps if step.step_name == "model")
    return step


def verdict_of(run: Evaluation) -> str:
    return str(model_step(run).output["verdict"])


def refusals(run: Evaluation) -> list[str]:
    return [no["rule"] for step in run.steps for no in step.output.get("refusals", ())]


def spent(bench: Bench) -> tuple[int, Decimal]:
    return bench.session.brain.spending.tokens, bench.session.brain.spending.money
