"""In which mode a strategy goes on: in the one it was in, unless whoever deploys it names another."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pipaid.cli.terminal import Terminal
from pipaid.errors import PipaidError
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
