"""Why a strategy did what it did: the record first, then where it stood, then what it would have done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from attrs import define, field
from trio.testing import MockClock

from actors.actor import Phase
from actors.watchdog import Overrun
from pipaid.engine.risk import Caps
from pipaid.engine.template import Intent, Template, View
from pipaid.engine.tracing import step
from pipaid.errors import Unavailable
from pipaid.model import report, request
from pipaid.model.moment import iso_millis, iso_seconds, parse_iso
from pipaid.model.record import Batch, Kind, Record
from pipaid.model.run import Cause, Evaluation, RunStatus, StepName, StepStatus, TaskType, numbered
from pipaid.model.strategy import Strategy
from pipaid.signals.series import Feature, Live, Series
from tests.actors.homes import ACCOUNT, Home, at_home
from tests.actors.test_answers import ME, answering
from tests.actors.test_records import evaluation, stored
from tests.builders import MINUTE_MS, START_MS, SYMBOL, enter, limit, scripted

pytestmark = pytest.mark.usefixtures("logged")


@define(eq=False)
class Hasty:
    """A guard under which a callback has no time at all, unless it is given more of it."""

    calls_max: int
    inside: bool = field(default=False, init=False)

    def rest(self) -> None:
        """Note nothing."""

    def run(self, number: int, callback: Callable[..., Any], *args: object) -> Any:
        """Interrupt it at once."""
        raise Overrun(number, 21, blocked=False)

    def run_as(self, phase: Phase, number: int, callback: Callable[..., Any], *args: object) -> Any:
        """Interrupt it at once."""
        return self.run(number, callback, *args)

    def run_patiently(self, number: int, callback: Callable[..., Any], *args: object) -> Any:
        """Call it, so many times."""
        self.calls_max -= 1
        if self.calls_max < 0:
            raise Overrun(number, 205, blocked=False)
        self.inside = True
        try:
            return callback(*args)
        finally:
            self.inside = False


async def why(home: Home, strategy: Strategy, at: int | None = None) -> report.Why:
    return await answering(home).strategy_why(ME, request.StrategyWhy(id=strategy.id, at=at))


def always(view: View) -> Iterable[Intent]:
    return [enter()]


async def test_what_every_gate_said_is_told_as_it_was_recorded(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=always)) as home:
        home.books[True].caps = Caps(exposure_max=Decimal(250))
        first, second = await home.deploy("first"), await home.deploy("second")
        await home.close()
        entered_ms = home.quotes.now_ms
        told = {each.id: await why(home, each, entered_ms) for each in (first, second)}

        exposures = {
            gate.value for each in told.values() for gate in each.gates if gate.gate == "account_exposure"
        }  # fmt: skip
        # The one that came second saw what the first had ordered, which nobody could reckon anew.
        assert exposures == {"101", "202"}
        assert {each.status for each in told.values()} == {"deployed"}
        assert {each.run_status for each in told.values()} == {"completed"}


async def test_a_strategy_that_was_paused_or_halted_says_so(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=lambda _: [])) as home:
        strategy = await home.deploy()
        deployed_ms = home.quotes.now_ms
        await home.close()
        await home.close()
        await home.lifecycle.pause(ACCOUNT, strategy.id, close_positions=False)
        await home.close()
        paused = await why(home, strategy)
        paused_ms = home.quotes.now_ms - 1
        await home.families.deploy(ACCOUNT, strategy.id, capital=None, leverage=None, dry_run=True)
        await home.close()
        await home.lifecycle.halt(ACCOUNT, strategy.id, code="SIM_HALT", message="a drill")
        await home.close()
        halted = await why(home, strategy)
        halted_ms = home.quotes.now_ms - 1
        await home.lifecycle.reset(ACCOUNT, strategy.id)
        await home.close()

        assert (paused.status, halted.status) == ("paused", "error")
        assert paused.decision.startswith("nothing: it was paused since 20")
        assert halted.decision.startswith("nothing: it was in error since 20")
        assert halted.decision.endswith(": a drill")
        (gate,) = [gate for gate in halted.gates if gate.gate == "status"]
        assert (gate.verdict, gate.value) == ("refused", "error")
        # The same is told later, whatever became of it since.
        assert (await why(home, strategy, paused_ms)).decision == paused.decision
        assert (await why(home, strategy, halted_ms)).decision == halted.decision
        assert (await why(home, strategy, deployed_ms + 61_000)).status == "deployed"
        assert (await why(home, strategy)).status == "paused"


async def test_what_looks_after_a_lot_while_it_is_paused_is_told_with_that(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=lambda view: [] if view.positions else [enter()])) as home:
        strategy = await home.deploy()
        await home.close()
        await home.trade()
        await home.lifecycle.pause(ACCOUNT, strategy.id, close_positions=False)
        await home.close()

        told = await why(home, strategy)
        assert told.decision.startswith("hold; it was paused since ")


@pytest.mark.parametrize(
    ("fields", "decision"),
    [
        (
            {"status": RunStatus.SKIPPED, "cause": Cause.SCHEDULE, "detail": "3 occasions passed while it was down"},
            "skipped: 3 occasions passed while it was down",
        ),
        ({"status": RunStatus.FAILED, "detail": "ValueError: not today"}, "failed: ValueError: not today"),
        ({"status": RunStatus.RUNNING}, "running"),
        ({"status": RunStatus.HOLD, "cause": Cause.TRIGGER}, "hold"),
        ({"status": RunStatus.HOLD, "cause": Cause.CANDLE, "detail": "it is long already"}, "hold: it is long already"),
        ({"status": RunStatus.COMPLETED}, "a change to working orders"),
    ],
)
async def test_the_record_is_told_as_what_it_is(
    fields: dict[str, Any], decision: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=lambda _: [limit("90")])) as home:
        strategy = await home.draft()
        await home.close()
        run = evaluation(strategy.id, 1, **{"at_ms": home.quotes.now_ms, **fields})
        await home.recorder.commit(Batch(records=[stored(run)]))

        told = await why(home, strategy)
        assert (told.decision, told.run_id, told.run_status) == (decision, run.id, run.status.value)


async def test_a_plain_hold_leaves_a_place_in_memory(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=lambda _: [])) as home:
        strategy = await home.deploy()
        for _ in range(20):
            await home.close()
        state = await answering(home).strategy_state(ME, request.Addressed(id=strategy.id))
        at_ms = home.quotes.now_ms
        asked = await why(home, strategy)
        # A candle of which the session was not told, as where nothing that it waits for holds.
        home.session(strategy.id).holds.pop()
        not_asked = await why(home, strategy)
        home.session(strategy.id).holds.clear()
        unknown = await why(home, strategy)

        assert (state.held, len(state.holds), state.evaluations) == (21, 16, 0)
        assert (parse_iso(state.holds[0].at), state.holds[0].symbol) == (at_ms, SYMBOL)
        assert (asked.decision, unknown.decision) == ("hold", "hold")
        assert not_asked.decision == "hold: nothing that it waits for held, so it was not asked"


async def test_of_several_at_one_moment_the_last_one_is_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=lambda _: [])) as home:
        strategy = await home.draft()
        await home.close()
        runs = [evaluation(strategy.id, number, at_ms=home.quotes.now_ms, detail=str(number)) for number in range(1, 6)]
        await home.recorder.commit(Batch(records=[stored(run) for run in runs]))

        assert (await why(home, strategy)).run_id == runs[-1].id


async def test_of_an_occasion_that_was_missed_it_is_told_that_it_was(tmp_path: Path, autojump_clock: MockClock) -> None:
    every = {"schedule": {"trigger": "interval", "interval_minutes": 2}}
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy(params=every)
        await home.lifecycle.pause(None, strategy.id, close_positions=False)
        for _ in range(6):
            await home.close()
        await home.lifecycle.deploy(None, strategy.id, capital=None, leverage=None, dry_run=True)
        await home.settle()
        for _ in range(2):
            await home.close()

        told = [(await why(home, strategy, START_MS + minute * MINUTE_MS)) for minute in (2, 4, 8, 7)]
        state = await answering(home).strategy_state(ME, request.Addressed(id=strategy.id))

        missed, next_one = told[0].decision, iso_seconds(START_MS + 8 * MINUTE_MS)
        assert missed.startswith("skipped: 3 occasions from ")
        nothing = f"nothing: it is asked at occasions alone (every 2 min); the next one is at {next_one}"
        assert [each.decision for each in told] == [missed, missed, "hold", nothing]
        assert parse_iso(told[1].at) == START_MS + 4 * MINUTE_MS
        assert state.next_occasion == iso_millis(START_MS + 10 * MINUTE_MS)

        for run in home.stored("run", Evaluation, owner=strategy.id):
            await home.recorder.commit(Batch(records=[Record("run", run.id, Kind.DROP)]))
        dropped = await why(home, strategy, START_MS + 8 * MINUTE_MS)
        assert dropped.decision == "nothing is known of this occasion (every 2 min): no record of it is kept"


async def test_a_maintenance_that_was_missed_says_nothing_of_what_was_decided(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=lambda _: [])) as home:
        strategy = await home.deploy()
        for _ in range(3):
            await home.close()
        spans = {"first": iso_seconds(START_MS), "last": iso_seconds(home.quotes.now_ms), "symbols": [SYMBOL]}
        missed = evaluation(
            strategy.id,
            1,
            at_ms=home.quotes.now_ms,
            cause=Cause.SCHEDULE,
            status=RunStatus.SKIPPED,
            steps=numbered(step(StepName.DATA, StepStatus.SKIPPED, spans)),
        )
        at_ms = START_MS + MINUTE_MS + 30_000
        told: list[str] = []
        for task in TaskType:
            kept = msgspec.structs.replace(missed, id=f"run_{task}", task_type=task)
            await home.recorder.commit(Batch(records=[stored(kept)]))
            told.append((await why(home, strategy, at_ms)).decision)
            await home.recorder.commit(Batch(records=[Record("run", kept.id, Kind.DROP)]))

        assert [words.partition(":")[0] for words in told] == ["skipped", "hold"]


async def test_what_the_template_broke_down_over_is_not_tried_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    asked: list[int] = []

    def on_candle(_: View) -> Iterable[Intent]:
        asked.append(1)
        if len(asked) == 2:
            raise ValueError("not when asked")
        return []

    async with at_home(tmp_path, scripted(on_candle=on_candle)) as home:
        strategy = await home.deploy()
        await home.close()
        await home.lifecycle.trigger(ACCOUNT, strategy.id)
        before = len(asked)
        told = await why(home, strategy)

        assert told.decision.startswith("failed: ValueError: not when asked (in on_candle, test_why.py line ")
        assert len(asked) == before


async def test_to_look_back_is_no_callback_that_has_to_hurry(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Feature("ema", (5,))
    guard = Hasty(calls_max=9)

    def reading(_: Template) -> tuple[Feature, ...]:
        return (read,)

    made: dict[Feature, bool] = {}
    start = Series._started

    def started(self: Series, feature: Feature) -> Live:
        made[feature] = guard.inside
        return start(self, feature)

    async with at_home(tmp_path, scripted(on_candle=always, features=reading)) as home:
        strategy = await home.deploy()
        await home.close()
        answers = answering(home)
        answers.guard = guard
        monkeypatch.setattr(Series, "_started", started)
        told = await answers.strategy_why(ME, request.StrategyWhy(id=strategy.id))

        assert told.decision == "ordered buy 1 BTCUSDT"
        assert made[read] is False, "what is ours costs the template nothing"


async def test_a_look_back_that_takes_too_long_says_so_and_blames_no_candle(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=always)) as home:
        strategy = await home.deploy()
        await home.close()
        answers = answering(home)
        for calls in range(3):
            answers.guard = Hasty(calls_max=calls)
            with pytest.raises(Unavailable) as caught:
                await answers.strategy_why(ME, request.StrategyWhy(id=strategy.id))
            told = f"what {strategy.id} did could not be computed again within 205 ms; try again"
            assert str(caught.value) == told


async def test_what_could_not_be_foretold_is_noted_to_be_so(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=always, foretells=True)) as home:
        strategy = await home.deploy()
        answers = answering(home)
        answers.guard = Hasty(calls_max=2)
        assert await answers.notes(strategy) == (), "it is in no hurry"
        answers.guard = Hasty(calls_max=1)
        assert await answers.notes(strategy) == ("how often it would have entered could not be counted",)
