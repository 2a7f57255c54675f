"""An evaluation over which its session breaks down leaves a run that failed and says why; nothing else of it stays."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from trio.testing import MockClock

from actors.actor import Intensity
from pipaid.engine.effects import BRAIN_BYTES_MAX
from pipaid.engine.template import Enter, Intent, View
from pipaid.errors import InvalidParameter, InvalidState
from pipaid.model.order import Order
from pipaid.model.run import Cause, Evaluation, RunStatus
from pipaid.model.strategy import Status, Strategy
from tests.actors.homes import ACCOUNT, Home, at_home
from tests.builders import OTHER, SYMBOL, enter, scripted

pytestmark = pytest.mark.usefixtures("logged")


class Hoard(msgspec.Struct, frozen=True):
    """What a template remembers, however much that is."""

    text: str = ""


class Moods:
    """A template's callback that wishes an entry, or fails on some symbol if it has come to that."""

    def __init__(self) -> None:
        self.trouble: BaseException | None = None
        self.fails_on = SYMBOL

    def __call__(self, view: View) -> Iterable[Intent]:
        if self.trouble is not None and view.symbol == self.fails_on:
            raise self.trouble
        return [wish(view)] if self.trouble is not None else []


def wish(view: View) -> Enter:
    return enter(symbol=view.symbol)


def runs_of(home: Home, strategy: Strategy) -> list[Evaluation]:
    return sorted(home.stored("run", Evaluation, owner=strategy.id), key=lambda run: (run.at_ms, run.symbol))


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (ValueError("not when asked"), "ValueError: not when asked (in __call__, test_failed_runs.py line "),
        (SystemExit("not when asked"), "SystemExit: not when asked"),
        # It looks like a refusal of ours, but what has been begun is not simply left standing.
        (InvalidParameter("not when asked"), "not when asked"),
    ],
)
async def test_a_trigger_over_which_the_session_breaks_down_is_answered_with_a_run_that_failed(
    trouble: BaseException, told: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    moods = Moods()
    async with at_home(tmp_path, scripted(on_candle=moods)) as home:
        strategy = await home.deploy()
        await home.close()
        (held,) = await home.lifecycle.trigger(ACCOUNT, strategy.id)
        moods.trouble = trouble
        (failed,) = await home.lifecycle.trigger(ACCOUNT, strategy.id)
        moods.trouble = None
        await home.settle()

        runs = {run.id: run for run in runs_of(home, strategy)}
        assert set(runs) == {held, failed}
        assert (runs[held].status, runs[failed].status) == (RunStatus.HOLD, RunStatus.FAILED)
        assert told in runs[failed].detail
        assert [step.status for step in runs[failed].steps[1:]] == ["failed", "none", "none"]
        assert runs[failed].steps[1].error == runs[failed].detail
        assert home.member(strategy.id).failures.total == 1
        assert home.session(strategy.id).brain.runs_made == 2


async def test_what_was_decided_before_the_failure_is_undone_with_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    moods = Moods()
    async with at_home(tmp_path, scripted(on_candle=moods)) as home:
        strategy = await home.deploy(symbols=(SYMBOL, OTHER))
        await home.close()
        await home.close(symbol=OTHER)
        moods.trouble, moods.fails_on = ValueError("no such knob"), OTHER
        failed = await home.lifecycle.trigger(ACCOUNT, strategy.id)
        moods.trouble = None
        await home.settle()

        first, second = sorted(runs_of(home, strategy), key=lambda run: failed.index(run.id))
        assert (first.symbol, second.symbol) == (SYMBOL, OTHER)
        assert {first.status, second.status} == {RunStatus.FAILED}
        assert first.detail.startswith(f"undone with the evaluation of {OTHER}, which failed: ValueError: no such knob")
        assert home.stored("order", Order) == []
        assert home.orders(strategy.id) == []


async def test_what_cannot_be_stored_fails_the_evaluation_that_led_to_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    hoard: list[str] = []

    def remember(self: Any, view: View) -> Iterable[Intent]:
        self.state[view.symbol] = Hoard("".join(hoard))
        return ()

    template = scripted(state_type=Hoard)
    template.on_candle = remember  # type: ignore[method-assign]
    async with at_home(tmp_path, template) as home:
        strategy = await home.deploy()
        await home.close()
        hoard.append("x" * BRAIN_BYTES_MAX)
        (failed,) = await home.lifecycle.trigger(ACCOUNT, strategy.id)
        hoard.clear()
        await home.settle()

        (run,) = runs_of(home, strategy)
        assert (run.id, run.status) == (failed, RunStatus.FAILED)
        assert "what the template remembers takes" in run.detail


async def test_each_attempt_at_a_candle_is_kept_until_the_strategy_is_given_up(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    moods = Moods()
    async with at_home(tmp_path, scripted(on_candle=moods), intensity=Intensity(restarts_max=2)) as home:
        strategy = await home.deploy()
        moods.trouble = ValueError("not today")
        await home.close()

        runs = runs_of(home, strategy)
        assert [(run.cause, run.status) for run in runs] == [(Cause.CANDLE, RunStatus.FAILED)] * 3
        assert home.member(strategy.id).strategy.status is Status.ERROR
        assert home.member(strategy.id).strategy.fault is not None


async def test_a_refusal_leaves_no_run(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=Moods())) as home:
        strategy = await home.deploy()
        await home.lifecycle.pause(ACCOUNT, strategy.id, close_positions=False)
        with pytest.raises(InvalidState, match="deploy it first"):
            await home.lifecycle.trigger(ACCOUNT, strategy.id)

        assert runs_of(home, strategy) == []


async def test_a_crash_over_anything_else_is_no_evaluation(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=Moods())) as home:
        strategy = await home.deploy()
        await home.close()
        home.actor(strategy.id)._crash(ValueError("a crash from anywhere"))
        await home.settle()

        assert runs_of(home, strategy) == []
