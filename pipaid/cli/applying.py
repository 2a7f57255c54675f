"""Carry out what declared strategies need, and say what became of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from attrs import frozen

from pipaid.cli.exits import Exit
from pipaid.cli.planning import Outcome, Plan, plans
from pipaid.cli.sheet import Column, Kind, listing
from pipaid.cli.terminal import NotReachable, Terminal
from pipaid.config import Declaration, load_declarations
from pipaid.errors import NotFound, PipaidError
from pipaid.model.reply import StrategyObject
from pipaid.seams import SystemDisk

AS_IT_WAS: Final = "it was deployed again as it was"


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one declared strategy."""

    name: str
    id: str | None
    outcome: Outcome
    steps: tuple[str, ...]
    why: tuple[str, ...]
    place: str
    notes: tuple[str, ...] = ()


@frozen
class _Refused:
    """How far a plan came, and what stood in its way."""

    id: str | None
    trouble: PipaidError
    undone: str = ""
    partly: bool = False


def apply_files(terminal: Terminal, files: Sequence[Path], *, dry_run: bool) -> int:
    """Apply declarations out of files; end with 1 if anything was refused. Raise NotFound if a file is missing."""
    missing = [str(file) for file in files if not file.exists()]
    if missing:
        raise NotFound(f"there is no file {' and no file '.join(missing)}")
    declared = load_declarations(files, SystemDisk())
    applied = apply_declarations(terminal, declared, dry_run=dry_run)
    if terminal.as_json:
        terminal.say_json(msgspec.json.encode({"data": applied, "dry_run": dry_run}))
    else:
        show_applied(terminal, applied, dry_run=dry_run)
    return Exit.REFUSED if any(each.outcome in (Outcome.REFUSED, Outcome.PARTLY) for each in applied) else Exit.OK


def apply_declarations(terminal: Terminal, declared: Sequence[Declaration], *, dry_run: bool = False) -> list[Applied]:
    """Make strategies what is declared; what is refused of one is no reason to leave out the next."""
    return [
        _outcome(plan) if dry_run else _carried_out(terminal, plan) for plan in plans(declared, terminal.strategies())
    ]


def show_applied(terminal: Terminal, applied: Iterable[Applied], *, dry_run: bool) -> None:
    """Print one line a strategy, and the sum."""
    from pipaid.cli.drawing import drawn

    rows = list(applied)
    columns = (
        Column("STRATEGY", lambda each: each.name, Kind.LABEL, 0),
        Column("OUTCOME", lambda each: each.outcome, Kind.STATUS, 0),
        Column("STEPS", lambda each: ", ".join(each.steps)),
        Column("WHY", lambda each: "; ".join(each.why), Kind.PROSE, 0),
    )
    counts = [f"{sum(each.outcome is outcome for each in rows)} {outcome.value}" for outcome in Outcome]
    note = f"{', '.join(counts)}{' (nothing was done: --dry-run)' if dry_run else ''}"
    terminal.show(drawn([listing("", rows, columns, note)]))
    for each in rows:
        for told in each.notes:
            terminal.say(f"{each.name}: {told}")


def _carried_out(terminal: Terminal, plan: Plan) -> Applied:
    strategy = plan.existing
    done: list[str] = []
    notes: dict[str, None] = {}
    for step in plan.steps:
        args: dict[str, Any] = {**step.args}
        if strategy is not None:
            args["id"] = strategy.id
        try:
            strategy = terminal.ask(step.op, StrategyObject, **args)
        except NotReachable:
            raise
        except PipaidError as trouble:
            return _outcome(plan, _left(terminal, plan, strategy, trouble, done=done), done)
        done.append(step.op.rpartition(".")[2])
        notes.update(dict.fromkeys(strategy.notes or ()))
    return msgspec.structs.replace(_outcome(plan, None, done, strategy), notes=tuple(notes))


def _left(
    terminal: Terminal, plan: Plan, strategy: StrategyObject | None, trouble: PipaidError, *, done: Sequence[str]
) -> _Refused:
    """Leave a strategy whose plan was refused half-way as it was, or say what it is now and how to go on."""
    if strategy is None or not done:
        return _Refused(strategy.id if strategy else None, trouble)
    if done == ["pause"]:
        undone = _redeployed(terminal, plan.existing)
        return _Refused(strategy.id, trouble, undone, partly=undone != AS_IT_WAS)
    again = "mend the cause and apply the file again"
    ways = again if strategy.run is None else f"{again}, or go on as it is: pipaid resume {strategy.id}"
    return _Refused(strategy.id, trouble, f"it is {strategy.status} now, with what was changed: {ways}", partly=True)


def _redeployed(terminal: Terminal, before: StrategyObject | None) -> str:
    """Let a strategy that was paused for a change that was refused go on as it did before."""
    assert before is not None
    assert before.run is not None
    run = before.run
    args = {"id": before.id, "dry_run": run.dry_run, "capital": run.capital, "leverage": run.leverage}
    try:
        terminal.ask("strategy.deploy", StrategyObject, **args)
    except PipaidError as trouble:
        return f"it stays paused, because it could not be deployed again: {trouble.code}: {trouble.message}"
    return AS_IT_WAS


def _outcome(
    plan: Plan, refused: _Refused | None = None, done: Sequence[str] = (), strategy: StrategyObject | None = None
) -> Applied:
    steps = tuple(done) if done or refused else tuple(step.op.rpartition(".")[2] for step in plan.steps)
    known = strategy or plan.existing
    known_id, outcome, why = (known.id if known else None), plan.outcome, plan.why
    if refused is not None:
        details = "; ".join(f"{field} {reason}" for field, reason in refused.trouble.details)
        told = details or refused.trouble.message
        known_id, outcome = refused.id, Outcome.PARTLY if refused.partly else Outcome.REFUSED
        why = (*plan.why, f"{refused.trouble.code}: {told}", *filter(None, [refused.undone]))
    return Applied(
        name=plan.declared.name, id=known_id, outcome=outcome, steps=steps, why=why, place=plan.declared.source
    )
