"""To explain a strategy asks no model and orders nothing: it says what it would do, or what was recorded of it."""

from __future__ import annotations

import msgspec

from pipaid.engine.asking import at_once
from pipaid.engine.book import Caps
from pipaid.engine.explanation import Past, explain, memory_at, recollect
from pipaid.engine.template import Exit, Template
from pipaid.model.report import Why
from pipaid.model.run import Evaluation
from tests.builders import START_MS, SYMBOL, Bench, Wish, enter, opened, scripted
from tests.engine.consults import always, asked, asking


def explained(bench: Bench, template: type[Template], kept: Evaluation | None = None) -> Why:
    now_ms, memory = bench.quotes.now_ms, bench.journal.memory()
    past = Past(
        at_ms=now_ms,
        memory=memory_at(memory, list(memory.positions), list(memory.orders), now_ms),
        series=bench.series[SYMBOL],
        instrument=bench.instruments[SYMBOL],
        caps=Caps(),
        blocked="",
        kept=kept,
    )
    strategy = msgspec.structs.replace(bench.strategy, deployed_at_ms=START_MS)
    return explain(strategy, recollect(strategy, template, past, shield=at_once), past)


def test_it_says_whom_it_would_ask_and_asks_nobody() -> None:
    template = asking()
    bench = asked(template)

    why = explained(bench, template)

    assert why.decision.startswith("it would ask oracle-1 of main")
    assert why.intents[0]["intent"] == "consult"
    assert "prompt" not in why.intents[0]
    assert len(bench.asked) == 1


def test_what_a_model_led_to_is_told_from_the_record() -> None:
    template = asking(on_answer=always(enter))
    bench = asked(template)
    bench.answer("buy")

    why = explained(bench, template, kept=bench.runs[0])

    assert why.decision == "ordered buy 1 BTCUSDT"


def test_what_would_change_nothing_is_told_as_a_hold() -> None:
    bench = opened(enter(), [lambda lot: Exit(position_id=lot.id)])
    for _ in range(2):
        bench.close()
    leaving = scripted(on_candle=lambda view: [Exit(position_id=lot.id) for lot in view.positions])

    why = explained(bench, leaving)

    assert why.decision == "hold: what was wished for is so already, or on its way"


def test_what_changed_nothing_is_told_from_the_record_with_what_was_wished() -> None:
    leave: Wish = lambda lot: Exit(position_id=lot.id)  # noqa: E731 - a name for what is wished twice
    bench = opened(enter(), [leave], [leave])
    for _ in range(2):
        bench.close()

    why = explained(bench, scripted(), kept=bench.journal.read("run", Evaluation)[-1])

    assert why.decision == "hold: what was wished for is so already, or on its way"
    assert [each["intent"] for each in why.intents] == ["exit"]
