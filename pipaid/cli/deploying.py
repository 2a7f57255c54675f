"""In which mode a strategy goes on: in the one it was in, unless whoever deploys it names another."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any

import typer

from pipaid.cli.completion import complete_strategy
from pipaid.cli.terminal import Terminal
from pipaid.errors import InvalidState, PipaidError
from pipaid.model.operation import OPERATIONS
from pipaid.model.reply import StrategyObject
from pipaid.model.report import KillSwitch


def in_its_mode(terminal: Terminal, args: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to deploy with: without a word about the mode it stays that of the last run, which may be none."""
    if args.get("dry_run") is not None:
        return dict(args)
    before = terminal.ask("strategy.get", StrategyObject, id=args["id"]).run
    return dict(args) if before is None else {**args, "dry_run": before.dry_run}


def warn_of_switch(terminal: Terminal) -> None:
    """Say that the kill switch keeps what was deployed from entering, if it is thrown."""
    with suppress(PipaidError):
        if terminal.ask("kill.get", KillSwitch).is_active:
            terminal.warn("the kill switch is thrown: nothing is entered until `pipaid kill deactivate`")


def resume(
    terminal: Terminal,
    id: Annotated[
        str, typer.Argument(help="the id or the name of a strategy", metavar="ID", autocompletion=complete_strategy)
    ],
) -> int | None:
    """Let a paused strategy trade again, in the mode it was in: as a dry run or on its account.

    It is `pipaid deploy` for one that has been deployed before.
    """
    from pipaid.cli.naming import strategy_id
    from pipaid.cli.verbs import carry_out

    known = terminal.ask("strategy.get", StrategyObject, id=strategy_id(terminal, id))
    if known.run is None:
        raise InvalidState(f"{known.name!r} was never deployed; `pipaid deploy` begins, with --dry-run as a dry run")
    return carry_out(terminal, OPERATIONS["strategy.deploy"], {"id": known.id, "dry_run": known.run.dry_run})
