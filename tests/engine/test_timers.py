"""A session with a schedule: asked at occasions, each once or told to be missed, and at none of the candles between."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from attrs import define, field

from pipaid.engine.effects import Effects
from pipaid.engine.params import structure_schedule
from pipaid.engine.template import Enter, Template, View
from pipaid.engine.timers import GRACE_MS
from pipaid.engine.wishes import Nonsense
from pipaid.model.instrument import Timeframe
from pipaid.model.order import OrderFact
from pipaid.model.run import Cause, Evaluation, RunStatus, StepName, TaskType
from pipaid.model.strategy import Status
from pipaid.signals.series import EVERY
from tests.builders import (
    MINUTE_MS,
    OTHER,
    START_MS,
    SYMBOL,
    Bench,
    enter,
    held_of,
    make_bench,
    make_run,
    refusal,
    scripted,
)  # fmt: skip

HOUR_MS = 3_600_000
QUARTERS: dict[str, Any] = {"trigger": "interval", "interval_minutes": 15}


@define
class Asked:
    """What a template was asked, and when."""

    said: list[tuple[str, str, int]] = field(factory=list[tuple[str, str, int]])
    wishes: list[Any] = field(factory=list[Any])

    def by(self, callback: str) -> Any:
        def hear(view: View, *_: object) -> list[Any]:
            self.said.append((callback, view.symbol, view.now_ms))
            return [wish(view.positions[0]) if callable(wish) else wish for wish in self._next()]

        return hear

    def _next(self) -> list[Any]:
        return self.wishes.pop(0) if self.wishes else []


def make_scheduled(
    schedule: dict[str, Any], *, starts: bool = True, maintains: int | None = None, **definition: Any
) -> tuple[Bench, Asked]:
    asked = Asked()
    hear = asked.by("maintenance")

    def maintenance_ms(_: Template) -> int | None:
        return maintains

    def on_maintenance(_: Template, view: View) -> list[Any]:
        heard: list[Any] = hear(view)
        return heard

    members: dict[str, Any] = {"maintenance_ms": maintenance_ms, "on_maintenance": on_maintenance}
    template = scripted(on_start=asked.by("start"), on_candle=asked.by("candle"), **members)
    if not starts:
        # As in a template that has none of its own.
        setattr(template, "on_start", Template.on_start)  # noqa: B010 - a method is not to be assigned otherwise
    bench = make_bench(template, params={"schedule": schedule}, **definition)
    return bench, asked


def start(bench: Bench) -> Effects:
    return bench.settle(bench.session.on_start())


def ring(bench: Bench) -> Effects | None:
    effects = bench.session.on_due()
    bench.settle(effects)
    return effects


def due(bench: Bench) -> int | None:
    return bench.session.due_ms


def runs_of(bench: Bench) -> list[Evaluation]:
    return sorted(bench.journal.read("run", Evaluation), key=lambda run: run.at_ms)


def planned(run: Evaluation) -> int:
    """Return for when an evaluation was planned."""
    (data, *_) = run.steps
    return int(data.output["occasion_ms"])


def test_with_a_schedule_the_template_is_asked_at_its_occasions_and_at_no_candle_between() -> None:
    bench, asked = make_scheduled(QUARTERS, timeframe=Timeframe.M5)
    start(bench)
    asked.said.clear()

    for _ in range(7):
        bench.close()
        assert bench.session.interest(SYMBOL) == ()
        if bench.session.due_ms == bench.quotes.now_ms:
            ring(bench)

    assert asked.said == [("candle", SYMBOL, START_MS + quarter * 15 * MINUTE_MS) for quarter in (1, 2)]
    assert [(run.cause, run.status, planned(run)) for run in runs_of(bench)] == [
        (Cause.SCHEDULE, RunStatus.HOLD, START_MS + quarter * 15 * MINUTE_MS) for quarter in (1, 2)
    ]


def test_before_its_time_a_session_decides_nothing() -> None:
    bench, asked = make_scheduled(QUARTERS)
    start(bench)
    bench.wait(15 * MINUTE_MS - 1)

    assert bench.session.due_ms == START_MS + 15 * MINUTE_MS
    assert bench.session.on_due() is None
    assert asked.said == [("start", SYMBOL, START_MS)]


def test_a_template_without_a_beginning_of_its_own_waits_for_the_first_occasion() -> None:
    bench, asked = make_scheduled(QUARTERS, starts=False)
    bench.close()

    start(bench)
    assert asked.said == []
    bench.wait(15 * MINUTE_MS)
    ring(bench)

    assert asked.said == [("candle", SYMBOL, START_MS + 16 * MINUTE_MS)]


def test_without_a_schedule_there_is_no_time_to_wait_for() -> None:
    bench = make_bench()
    start(bench)

    assert bench.session.due_ms is None
    assert bench.session.interest(SYMBOL) == (EVERY,)
    assert bench.session.brain.timers == {}
    bench.wait(10 * HOUR_MS)
    assert bench.session.on_due() is None


def test_an_occasion_is_dealt_with_in_the_commit_that_tells_of_it() -> None:
    bench, _ = make_scheduled(QUARTERS)
    start(bench)
    bench.wait(15 * MINUTE_MS)

    # It dies before the commit: the occasion is dealt with again, and for the first time as far as is known.
    assert bench.session.on_due() is not None
    bench.rebuild()
    assert ring(bench) is not None
    # It dies after the commit: it is not.
    bench.rebuild()
    assert ring(bench) is None
    assert bench.session.due_ms == START_MS + 30 * MINUTE_MS
    assert len(runs_of(bench)) == 1


def test_orders_of_an_occasion_and_its_being_dealt_with_are_one_batch() -> None:
    bench, asked = make_scheduled(QUARTERS)
    start(bench)
    bench.close()
    asked.wishes = [[enter(tag="a")]]
    bench.wait(14 * MINUTE_MS)

    effects = bench.session.on_due()

    assert effects is not None
    kinds = {record.entity for record in effects.batch().records}
    assert kinds == {"order", "run", "brain"}
    (run,) = effects.runs
    assert (run.status, run.order_ids) == (RunStatus.COMPLETED, (effects.place[0].order.id,))


@pytest.mark.parametrize(("late_ms", "asks"), [(0, True), (GRACE_MS, True), (GRACE_MS + 1, False)])
def test_an_occasion_is_made_up_for_within_a_minute_and_never_later(late_ms: int, asks: bool) -> None:
    bench, asked = make_scheduled(QUARTERS)
    start(bench)
    bench.close()
    asked.said.clear()
    bench.wait(14 * MINUTE_MS + late_ms)

    ring(bench)

    assert [name for name, _, _ in asked.said] == (["candle"] if asks else [])
    assert [run.status for run in runs_of(bench)] == [RunStatus.HOLD if asks else RunStatus.SKIPPED]
    assert bench.session.due_ms == START_MS + 30 * MINUTE_MS


def test_what_passed_while_the_daemon_was_down_is_one_run_that_tells_of_all() -> None:
    bench, asked = make_scheduled(QUARTERS, symbols=(SYMBOL, OTHER))
    start(bench)
    bench.wait(2 * HOUR_MS + 5 * MINUTE_MS)
    bench.rebuild()

    ring(bench)

    (run,) = runs_of(bench)
    assert (run.status, run.cause, run.task_type) == (RunStatus.SKIPPED, Cause.SCHEDULE, TaskType.SIGNAL)
    assert run.steps[0].output == {
        "occasions": 8, "more": False, "first": "2023-11-15T00:15:00Z", "last": "2023-11-15T02:00:00Z", "why": "down",
        "plan": "every 15 min", "symbols": [SYMBOL, OTHER],
    }  # fmt: skip
    assert run.detail.startswith("8 occasions from 2023-11-15T00:15:00Z to 2023-11-15T02:00:00Z were missed: neither")
    assert [name for name, *_ in asked.said] == ["start", "start"]


def test_the_last_occasion_of_a_restart_is_made_up_for_if_it_has_just_been() -> None:
    bench, asked = make_scheduled(QUARTERS)
    start(bench)
    bench.close()
    asked.said.clear()
    bench.wait(44 * MINUTE_MS + 30_000)
    bench.rebuild()

    ring(bench)

    skipped, made_up = runs_of(bench)
    assert skipped.steps[0].output["occasions"] == 2
    assert planned(made_up) == START_MS + 45 * MINUTE_MS
    assert len(asked.said) == 1


def test_what_passed_while_venue_time_leapt_is_told_apart_from_what_passed_without_a_daemon() -> None:
    bench, _ = make_scheduled(QUARTERS)
    start(bench)
    bench.wait(HOUR_MS + 61_000)

    ring(bench)

    (run,) = runs_of(bench)
    assert run.steps[0].output["why"] == "late"
    assert run.steps[0].output["occasions"] == 4


def test_when_the_clock_goes_back_no_occasion_comes_again() -> None:
    bench, asked = make_scheduled(QUARTERS)
    start(bench)
    bench.wait(30 * MINUTE_MS)
    ring(bench)
    asked.said.clear()

    bench.wait(-HOUR_MS)
    assert ring(bench) is None
    bench.rebuild()
    assert ring(bench) is None
    bench.wait(HOUR_MS)
    assert ring(bench) is None
    bench.wait(15 * MINUTE_MS)
    assert ring(bench) is not None


def redeployed(bench: Bench, number: int, **definition: Any) -> None:
    """Begin another run now, as a deployment does."""
    run = make_run(id=f"run_{number}", started_at_ms=bench.quotes.now_ms)
    strategy = msgspec.structs.replace(bench.strategy, status=Status.DEPLOYED, run=run)
    if definition:
        changed = msgspec.structs.replace(strategy.definition, **definition)
        strategy = msgspec.structs.replace(strategy, definition=changed)
    bench.strategy = strategy
    bench.rebuild()
    start(bench)


def paused(bench: Bench) -> None:
    bench.strategy = msgspec.structs.replace(bench.strategy, status=Status.PAUSED)
    bench.settle(bench.session.become(bench.strategy))


def test_what_passed_while_the_strategy_was_paused_is_told_at_the_next_deployment() -> None:
    bench, _ = make_scheduled(QUARTERS)
    start(bench)
    paused(bench)
    assert due(bench) is None
    bench.wait(HOUR_MS)
    assert ring(bench) is None
    assert runs_of(bench) == []

    redeployed(bench, 2)

    (run,) = runs_of(bench)
    assert (run.steps[0].output["why"], run.steps[0].output["occasions"]) == ("paused", 4)
    assert bench.session.due_ms == START_MS + 75 * MINUTE_MS
    assert ring(bench) is None


def test_a_deployment_after_the_clock_went_back_asks_at_no_occasion_again() -> None:
    bench, _ = make_scheduled(QUARTERS)
    start(bench)
    bench.wait(30 * MINUTE_MS)
    ring(bench)
    paused(bench)
    bench.wait(-25 * MINUTE_MS)

    redeployed(bench, 2)

    assert bench.session.due_ms == START_MS + 45 * MINUTE_MS


def test_a_changed_schedule_begins_at_its_deployment_and_misses_nothing_before() -> None:
    bench, _ = make_scheduled(QUARTERS)
    start(bench)
    paused(bench)
    bench.wait(HOUR_MS)

    redeployed(bench, 2, params={"schedule": {"trigger": "interval", "interval_minutes": 7}})

    assert runs_of(bench) == []
    assert bench.session.due_ms == structure_schedule(bench.strategy.definition.params).after(bench.quotes.now_ms)


def test_a_schedule_begins_when_the_strategy_was_deployed_and_not_when_it_was_first_asked() -> None:
    bench, _ = make_scheduled(QUARTERS)
    bench.wait(40 * MINUTE_MS)

    start(bench)
    ring(bench)

    (run,) = runs_of(bench)
    assert run.steps[0].output["occasions"] == 2
    assert run.steps[0].output["first"] == "2023-11-15T00:15:00Z"


def holding(schedule: dict[str, Any], **more: Any) -> tuple[Bench, Asked]:
    """Return a bench with one open lot."""
    bench, asked = make_scheduled(schedule, **more)
    bench.close()
    asked.wishes = [[enter(tag="a")]]
    start(bench)
    bench.fill(bench.placed[0])
    asked.said.clear()
    return bench, asked


def test_a_paused_strategy_looks_after_what_it_holds_at_its_occasions() -> None:
    bench, asked = holding(QUARTERS, symbols=(SYMBOL, OTHER))
    paused(bench)
    bench.wait(14 * MINUTE_MS)

    asked.wishes = [[held_of()]]
    ring(bench)

    assert asked.said == [("candle", SYMBOL, START_MS + 15 * MINUTE_MS)]
    assert [order.reduce_only for order in bench.placed] == [False, True]


def test_an_exit_that_was_lost_is_wished_again_at_the_next_candle_although_there_is_a_schedule() -> None:
    bench, asked = holding(QUARTERS)
    bench.wait(14 * MINUTE_MS)
    asked.wishes = [[held_of()]]
    ring(bench)
    leaving = bench.placed[-1]
    bench.news(leaving, OrderFact.REFUSE, "no")
    asked.said.clear()

    assert bench.session.interest(SYMBOL) == (EVERY,)
    bench.close()

    assert [order.reduce_only for order in bench.placed] == [False, True, True]
    assert asked.said == []
    assert bench.session.interest(SYMBOL) == ()


def test_maintenance_comes_at_its_own_times_while_something_is_held() -> None:
    bench, asked = make_scheduled({}, maintains=10 * MINUTE_MS, symbols=(SYMBOL, OTHER))
    bench.close()
    start(bench)
    assert due(bench) is None
    bench.wait(12 * MINUTE_MS)
    asked.wishes = [[enter(tag="a")]]
    bench.close()
    bench.fill(bench.placed[0])
    asked.said.clear()

    assert bench.session.due_ms == START_MS + 20 * MINUTE_MS
    bench.wait(6 * MINUTE_MS)
    asked.wishes = [[held_of()]]
    ring(bench)

    assert asked.said == [("maintenance", SYMBOL, START_MS + 20 * MINUTE_MS)]
    run = runs_of(bench)[-1]
    assert (run.task_type, run.cause, run.status) == (TaskType.MAINTENANCE, Cause.SCHEDULE, RunStatus.COMPLETED)
    assert bench.session.due_ms == START_MS + 30 * MINUTE_MS
    bench.fill(bench.placed[-1])
    assert due(bench) is None


def test_maintenance_that_was_missed_is_told_for_as_long_as_something_was_held() -> None:
    bench, _ = holding({}, maintains=10 * MINUTE_MS)
    bench.wait(HOUR_MS + MINUTE_MS)
    bench.rebuild()

    ring(bench)

    run = runs_of(bench)[-1]
    assert (run.task_type, run.status) == (TaskType.MAINTENANCE, RunStatus.SKIPPED)
    assert (run.steps[0].output["occasions"], run.steps[0].output["why"]) == (6, "down")


@pytest.mark.parametrize(("late_ms", "tends"), [(-1, False), (0, True), (GRACE_MS, True), (GRACE_MS + 1, False)])
def test_what_is_held_is_tended_while_its_occasion_may_still_be_dealt_with(late_ms: int, tends: bool) -> None:
    bench, _ = holding({}, maintains=10 * MINUTE_MS, symbols=(SYMBOL, OTHER))
    bench.wait(9 * MINUTE_MS + late_ms)

    assert (bench.session.tends(SYMBOL), bench.session.tends(OTHER)) == (tends, False)


def test_both_timers_of_one_moment_are_one_commit() -> None:
    bench, asked = holding(QUARTERS, maintains=5 * MINUTE_MS)
    bench.wait(14 * MINUTE_MS)

    effects = ring(bench)

    assert effects is not None
    assert [run.task_type for run in effects.runs] == [TaskType.SIGNAL, TaskType.MAINTENANCE, TaskType.MAINTENANCE]
    assert [run.status for run in effects.runs] == [RunStatus.HOLD, RunStatus.SKIPPED, RunStatus.HOLD]
    assert [name for name, *_ in asked.said] == ["candle", "maintenance"]


@pytest.mark.parametrize("period_ms", [0, -MINUTE_MS, 90_000, 60_000.0, True, "60000"])
def test_maintenance_at_what_are_no_whole_minutes_is_nonsense(period_ms: Any) -> None:
    with pytest.raises(Nonsense, match="maintenance_ms returned"):
        make_scheduled({}, maintains=period_ms)


def test_in_hours_that_are_skipped_nothing_is_entered_and_exits_go_on() -> None:
    bench, asked = make_scheduled({"skip_hours": [0, 3], "skip_hours_timezone": "Asia/Tokyo"})
    bench.close()
    # It is nine o'clock there.
    bench.wait(15 * HOUR_MS)
    asked.wishes = [[enter(tag="a")]]
    bench.close()
    assert refusal(bench) == ("skip_hours", "not in 00, 03", "00")

    bench, asked = holding({"skip_hours": [0, 3], "skip_hours_timezone": "Asia/Tokyo"})
    bench.wait(15 * HOUR_MS)
    asked.wishes = [[held_of()]]
    bench.close()
    assert bench.placed[-1].reduce_only


def test_whoever_skips_no_hour_has_that_gate_off() -> None:
    bench = make_bench()

    (gate,) = [each for each in bench.session.probe(SYMBOL) if each.rule == "skip_hours"]
    assert (gate.verdict, gate.limit, gate.value) == ("off", None, "any")


def test_what_is_planned_and_what_is_missed_is_told_in_plain_words() -> None:
    bench, _ = make_scheduled({"trigger": "cron", "cron": "0 9 * * 1-5", "timezone": "America/New_York"})
    start(bench)
    bench.wait(15 * HOUR_MS)

    ring(bench)

    (run,) = runs_of(bench)
    assert run.steps[0].step_name is StepName.DATA
    assert run.detail == (
        "1 occasion at 2023-11-15T14:00:00Z was missed: venue time went on by more than 60 s at once, or the "
        "strategy was busy as long"
    )


def test_a_wish_at_an_occasion_passes_the_same_gate() -> None:
    bench, asked = make_scheduled(QUARTERS, capital=Decimal(10))
    start(bench)
    bench.close()
    bench.wait(14 * MINUTE_MS)
    asked.wishes = [[Enter(symbol=SYMBOL, direction=enter().direction, quantity=Decimal(1000))]]

    ring(bench)

    assert refusal(bench)[0] == "allocation"
    assert bench.placed == []
