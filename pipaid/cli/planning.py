"""What has to be done so that strategies are as their files declare: a plan, made without doing anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec
from attrs import field, frozen

from pipaid.config import Declaration
from pipaid.model.money import quote_text
from pipaid.model.reply import StrategyObject
from pipaid.model.strategy import Status


class Outcome(StrEnum):
    """What becomes of a declared strategy."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    PARTLY = "changed in part"
    REFUSED = "refused"


@frozen
class Step:
    """One request of a plan; the id of a strategy that does not exist yet is known only after its creation."""

    op: str
    args: Mapping[str, Any] = field(factory=dict[str, Any])


@frozen
class Plan:
    """What has to be done for one declared strategy, and why."""

    declared: Declaration
    outcome: Outcome
    steps: tuple[Step, ...] = ()
    why: tuple[str, ...] = ()
    existing: StrategyObject | None = None


def plans(declared: Sequence[Declaration], existing: Iterable[StrategyObject]) -> list[Plan]:
    """Return one plan for each declared strategy, in their order; strategies are told apart by name.

    Those that follow another one bear its name and are as that is.
    """
    by_name = {strategy.name: strategy for strategy in existing if strategy.follows is msgspec.UNSET}
    return [plan(each, by_name.get(each.name)) for each in declared]


def plan(declared: Declaration, existing: StrategyObject | None) -> Plan:
    """Return what makes one strategy as it is declared."""
    if existing is None:
        create = Step("strategy.create", _definition(declared))
        return Plan(declared, Outcome.CREATED, (create, _deploy(declared)) if declared.deploy else (create,))
    differences = tuple(_differences(declared, existing))
    status = Status(existing.status)
    if status in (Status.STOPPED, Status.ERROR):
        return _ended(declared, existing, differences)
    if declared.deploy and (held := _held_otherwise(declared, existing)):
        return Plan(declared, Outcome.REFUSED, (), (*differences, held), existing)
    steps: list[Step] = []
    why = list(differences)
    deployed = status is Status.DEPLOYED
    mode_differs = deployed and declared.deploy and existing.dry_run != declared.dry_run
    if mode_differs:
        why.append(
            "is a dry run, declared on its account" if existing.dry_run else "is on its account, declared a dry run"
        )
    if deployed and not declared.deploy:
        why.append("is deployed, declared not to be")
    if not deployed and declared.deploy:
        why.append(f"is {status}, declared deployed")
    if deployed and why:
        steps.append(Step("strategy.pause"))
    if differences:
        steps.append(Step("strategy.update", _changes(declared, existing)))
    if declared.deploy and (not deployed or why):
        steps.append(_deploy(declared))
    outcome = Outcome.CHANGED if steps else Outcome.UNCHANGED
    return Plan(declared, outcome, tuple(steps), tuple(why), existing)


def _ended(declared: Declaration, existing: StrategyObject, differences: tuple[str, ...]) -> Plan:
    """Return the plan for a strategy that no declaration can set going again."""
    if not declared.deploy and not differences:
        return Plan(declared, Outcome.UNCHANGED, (), (f"is {existing.status}",), existing)
    if existing.status == Status.STOPPED:
        why = f"is stopped for good: delete it (pipaid strategy delete {existing.id}), or declare another name"
    else:
        cause = f"{existing.error.code}: {existing.error.message}" if existing.error else "its cause is not known"
        why = f"is in error ({cause}): mend the cause, then pipaid strategy reset {existing.id}"
    return Plan(declared, Outcome.REFUSED, (), (why,), existing)


def _held_otherwise(declared: Declaration, existing: StrategyObject) -> str:
    """Say what keeps a strategy in the mode of its last run, or nothing."""
    run, held = existing.run, existing.stats.open_positions
    if run is None or run.dry_run == declared.dry_run or not held:
        return ""
    was, wanted = ("a dry run", "on its account") if run.dry_run else ("on its account", "a dry run")
    positions = "1 position is" if held == 1 else f"{held} positions are"
    return (
        f"is {was}, declared {wanted}, and {positions} open: close them first "
        f"(pipaid pause {existing.id} --close-positions), or declare dry_run = {str(run.dry_run).lower()}"
    )


def _definition(declared: Declaration) -> dict[str, Any]:
    return {
        "name": declared.name,
        "template_id": declared.template_id,
        "params": declared.params,
        "symbols": list(declared.symbols),
        "timeframe": declared.timeframe.value,
        "capital": format(declared.capital, "f"),
        "leverage": declared.leverage,
    }


def _compared(declared: Declaration, existing: StrategyObject) -> list[tuple[str, Any, Any]]:
    """Return each field of the definition as it is and as it is declared, in a form that can be compared."""
    wanted = _definition(declared)
    now: dict[str, Any] = {name: getattr(existing, name) for name in wanted}
    now["symbols"] = list(existing.symbols)
    # The daemon shows capital with two decimals.
    now["capital"], wanted["capital"] = quote_text(Decimal(existing.capital)), quote_text(declared.capital)
    return [(name, now[name], wanted[name]) for name in wanted]


def _differences(declared: Declaration, existing: StrategyObject) -> list[str]:
    return [
        f"{name} {_text(now)} → {_text(wanted)}"
        for name, now, wanted in _compared(declared, existing)
        if _text(now) != _text(wanted)
    ]


def _changes(declared: Declaration, existing: StrategyObject) -> dict[str, Any]:
    wanted = _definition(declared)
    return {name: wanted[name] for name, now, then in _compared(declared, existing) if _text(now) != _text(then)}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value, order="deterministic").decode()


def _deploy(declared: Declaration) -> Step:
    return Step("strategy.deploy", {"dry_run": declared.dry_run})
