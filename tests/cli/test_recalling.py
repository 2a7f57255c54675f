"""`pipaid answers` writes what models said, the oldest first, in the words that a backtest reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from pipaid.model.consult import RecordedAnswer
from pipaid.model.reply import RunPage, run_object
from pipaid.model.request import Addressed, StrategyRuns
from tests.cli.answering import control, pipaid
from tests.engine.consults import asked

STRATEGY = "strat_5e07c1d9"


def test_answers_are_written_the_oldest_first_a_line_each(tmp_path: Path) -> None:
    bench = asked()
    bench.answer("buy")
    bench.close()
    bench.answer("sell")
    runs = {run.id: run for run in bench.runs}
    older, newer = bench.runs

    def page(request: StrategyRuns) -> RunPage:
        one = newer if request.cursor is None else older
        return RunPage(data=(run_object(one),), next_cursor="more" if request.cursor is None else None)

    def one(request: Addressed) -> Any:
        return run_object(runs[request.id], steps=True)

    with control(tmp_path, {"strategy.runs": page, "run.get": one}) as served:
        ended = pipaid("answers", STRATEGY, socket_path=served.path)

    assert (ended.code, ended.err) == (0, "")
    answers = [msgspec.json.decode(line, type=RecordedAnswer) for line in ended.out.splitlines()]
    assert [each.answer for each in answers] == ["buy", "sell"]
    assert [each.asked_at_ms for each in answers] == [question.asked_at_ms for question in bench.asked]
