"""The plan of `pipaid apply`: nothing for what already is as declared, and the fewest steps for everything else."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipaid.cli.planning import Outcome, plan, plans
from pipaid.config import Declaration
from pipaid.model.instrument import Timeframe
from pipaid.model.reply import FaultSummary, StrategyObject
from tests.cli.answering import strategy


def declared(**changes: Any) -> Declaration:
    """Return the declaration of what `strategy()` is, or what the changes make of it."""
    fields: dict[str, Any] = {
        "name": "sol range",
        "template_id": "tpl_grid",
        "params": {"upper_price": "190", "lower_price": "150", "grid_levels": 6},
        "symbols": ("SOLUSDT",),
        "timeframe": Timeframe("15m"),
        "capital": Decimal("2500"),
        "leverage": 2,
        "deploy": True,
        "dry_run": True,
    }
    return Declaration(**(fields | changes))


def flat() -> StrategyObject:
    """Return the same strategy without open positions, which keep it in its mode."""
    known = strategy()
    return msgspec.structs.replace(known, stats=msgspec.structs.replace(known.stats, open_positions=0))


def steps(made: Any) -> list[str]:
    return [step.op.removeprefix("strategy.") for step in made.steps]


def test_what_is_as_declared_is_left_alone() -> None:
    made = plan(declared(), strategy())

    assert (made.outcome, made.steps, made.why) == (Outcome.UNCHANGED, (), ())


def test_what_is_missing_is_created_and_deployed() -> None:
    made = plan(declared(), None)

    assert (made.outcome, steps(made)) == (Outcome.CREATED, ["create", "deploy"])
    assert made.steps[0].args["capital"] == "2500"
    assert made.steps[1].args == {"dry_run": True}


def test_what_is_missing_and_not_to_run_stays_a_draft() -> None:
    assert steps(plan(declared(deploy=False), None)) == ["create"]


@pytest.mark.parametrize(
    ("change", "sent"),
    [
        ({"params": {"grid_levels": 8, "upper_price": "190", "lower_price": "150"}}, {"params"}),
        ({"symbols": ("SOLUSDT", "BTCUSDT")}, {"symbols"}),
        ({"capital": Decimal("2500.01")}, {"capital"}),
        ({"timeframe": Timeframe("1h"), "leverage": 3}, {"timeframe", "leverage"}),
    ],
)
def test_a_deployed_one_that_differs_is_paused_changed_and_deployed(change: dict[str, Any], sent: set[str]) -> None:
    made = plan(declared(**change), strategy())

    assert (made.outcome, steps(made)) == (Outcome.CHANGED, ["pause", "update", "deploy"])
    assert set(made.steps[1].args) == sent
    assert len(made.why) == len(sent)


def test_the_way_capital_is_written_is_no_difference() -> None:
    assert plan(declared(capital=Decimal("2500.000")), strategy()).steps == ()


@pytest.mark.parametrize(("status", "expected"), [("draft", ["deploy"]), ("paused", ["deploy"]), ("deployed", [])])
def test_one_that_is_to_run_is_deployed(status: str, expected: list[str]) -> None:
    assert steps(plan(declared(), strategy(status=status))) == expected


@pytest.mark.parametrize(("status", "expected"), [("draft", []), ("paused", []), ("deployed", ["pause"])])
def test_one_that_is_not_to_run_is_paused(status: str, expected: list[str]) -> None:
    assert steps(plan(declared(deploy=False), strategy(status=status))) == expected


@pytest.mark.parametrize("status", ["draft", "paused"])
def test_one_that_rests_is_changed_without_a_pause(status: str) -> None:
    assert steps(plan(declared(leverage=3), strategy(status=status))) == ["update", "deploy"]
    assert steps(plan(declared(leverage=3, deploy=False), strategy(status=status))) == ["update"]


def test_a_dry_run_goes_to_its_account_by_way_of_a_pause() -> None:
    made = plan(declared(dry_run=False), flat())

    assert steps(made) == ["pause", "deploy"]
    assert made.steps[1].args == {"dry_run": False}
    assert made.why == ("is a dry run, declared on its account",)


def test_one_that_was_stopped_is_refused_with_the_way_out() -> None:
    made = plan(declared(), strategy(status="stopped"))

    assert (made.outcome, made.steps) == (Outcome.REFUSED, ())
    assert "pipaid strategy delete strat_5e07c1d9" in made.why[0]


def test_one_in_error_is_refused_with_its_cause() -> None:
    fault = FaultSummary(code="ENGINE_CRASH", message="it raised", at="2026-01-01T00:00:00Z")
    made = plan(declared(), strategy(status="error", error=fault))

    assert made.outcome is Outcome.REFUSED
    assert "ENGINE_CRASH: it raised" in made.why[0]
    assert "pipaid strategy reset strat_5e07c1d9" in made.why[0]


@pytest.mark.parametrize("status", ["stopped", "error"])
def test_one_that_ended_and_is_not_to_run_is_as_declared(status: str) -> None:
    assert plan(declared(deploy=False), strategy(status=status)).outcome is Outcome.UNCHANGED


def test_strategies_are_told_apart_by_name() -> None:
    made = plans([declared(), declared(name="other")], [strategy()])

    assert [each.outcome for each in made] == [Outcome.UNCHANGED, Outcome.CREATED]


def test_nothing_is_ever_deleted_or_stopped() -> None:
    kinds = [None, *(strategy(status=status) for status in ("draft", "deployed", "paused", "stopped", "error"))]
    asked = {
        step.op
        for existing in kinds
        for deploy in (True, False)
        for leverage in (2, 3)
        for step in plan(declared(deploy=deploy, leverage=leverage), existing).steps
    }

    assert asked == {f"strategy.{name}" for name in ("create", "update", "deploy", "pause")}


def test_a_plan_that_was_carried_out_leaves_nothing_to_do() -> None:
    wanted = declared(leverage=3, dry_run=False)
    before = flat()
    update = plan(wanted, before).steps[1].args
    assert before.run is not None
    run = msgspec.structs.replace(before.run, dry_run=False)
    after = msgspec.structs.replace(before, dry_run=False, run=run, **update)

    assert plan(wanted, after).outcome is Outcome.UNCHANGED
