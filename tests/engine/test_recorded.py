"""What models answered is taken out of evaluations and given again to the same questions, and to no others."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pytest

from pipaid.engine.recorded import UNRECORDED, by_question, recorded_in
from pipaid.errors import InvalidParameter
from pipaid.model.consult import RecordedAnswer, Verdict
from pipaid.sdk import Backtest, Candles, answers_from_file
from tests.builders import SYMBOL
from tests.engine.consults import asked, asking, noting
from tests.templates.analysts import EXECUTION, decision

HOUR_MS = 3_600_000
BUY = RecordedAnswer(symbol=SYMBOL, asked_at_ms=1, role="decision", verdict=Verdict.ANSWERED, answer="buy", tokens_in=7)


def test_what_was_answered_is_taken_out_of_an_evaluation() -> None:
    bench = asked()
    bench.answer("buy", tokens_in=70, tokens_out=3)

    (recorded,) = recorded_in(SYMBOL, bench.runs[0].steps)

    assert (recorded.asked_at_ms, recorded.role, recorded.answer) == (bench.asked[0].asked_at_ms, "decision", "buy")
    assert (recorded.tokens_in, recorded.tokens_out, recorded.model) == (70, 3, "oracle-1")


def test_why_there_is_no_answer_is_recorded_as_well() -> None:
    bench = asked()
    bench.answer(verdict=Verdict.UNREACHABLE, error="nobody there")

    (recorded,) = recorded_in(SYMBOL, bench.runs[0].steps)

    assert (recorded.verdict, recorded.error) == (Verdict.UNREACHABLE, "nobody there")


def test_a_question_that_is_open_has_no_answer() -> None:
    assert list(recorded_in(SYMBOL, asked(asking(on_answer=noting([]))).runs[0].steps)) == []


def test_two_answers_to_one_question_are_refused_unless_they_are_the_same() -> None:
    other = msgspec.structs.replace(BUY, answer="sell")

    assert len(by_question([BUY, BUY])) == 1
    with pytest.raises(InvalidParameter, match="disagree"):
        by_question([BUY, other])


def test_answers_are_read_back_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b"\n".join(map(msgspec.json.encode, [BUY, BUY])) + b"\n")

    assert answers_from_file(path) == (BUY, BUY)


@pytest.mark.parametrize("line", [b"{}", b"buy", b"\xff", b'{"symbol": 5}', b'{"x":' + b"[" * 100_000])
def test_a_line_that_is_no_answer_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(msgspec.json.encode(BUY) + b"\n" + line)

    with pytest.raises(InvalidParameter, match=r"answers\.jsonl, line 2: no recorded answer"):
        answers_from_file(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="cannot be read"):
        answers_from_file(tmp_path / "none.jsonl")


def test_a_backtest_goes_by_what_was_answered_and_counts_what_was_not() -> None:
    times = np.arange(50) * HOUR_MS
    flat = np.full(50, 100.0)
    candles = Candles(
        {"time_ms": times, "open": flat, "high": flat + 5, "low": flat - 1, "close": flat, "volume": flat},
        symbol=SYMBOL,
        timeframe="1h",
    )
    answers = [
        msgspec.structs.replace(BUY, asked_at_ms=hour * HOUR_MS, answer=decision(action))
        for hour, action in ((10, "BUY"), (20, "BUY"), (30, "HOLD"))
    ]
    params = {"llm_provider": "any", "llm_model": "any", "execution_config": EXECUTION}
    backtest = Backtest(
        template="tpl_analyst", candles={SYMBOL: candles}, params=params, capital=Decimal(1_000), answers=answers
    )
    result = backtest.run()

    # The target is four away, and each of the two buys reaches it in the candle after.
    assert [trade.reason for trade in result.trades] == ["take_profit", "take_profit"]
    assert result.raw.refusals == {UNRECORDED: 47}
