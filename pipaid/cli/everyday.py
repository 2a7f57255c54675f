"""The verbs of every day that are more than one request: declare strategies, watch them, try everything out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from pipaid.cli.completion import complete_strategy
from pipaid.cli.terminal import Terminal
from pipaid.errors import InvalidState
from pipaid.model.reply import StrategyObject

REFRESH_S: Final = 1.0


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    from pipaid.cli.verbs import add_verb

    for name, verb in (("demo", demo), ("top", top), ("apply", apply), ("resume", resume)):
        add_verb(app, name, verb)


def apply(
    terminal: Terminal,
    files: Annotated[list[Path], typer.Argument(help="TOML files with [[strategy]] tables", metavar="FILE...")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done, and do nothing")] = False,
) -> int:
    """Make strategies what TOML files declare.

    They are created, changed, deployed and paused as the files say, and never deleted.

    A strategy that already is as declared is left alone, so the same files can be applied again and again. A deployed
    one that differs is paused, changed and deployed again; what it holds stays open meanwhile.
    """
    from pipaid.cli.applying import apply_files

    return apply_files(terminal, files, dry_run=dry_run)


def top(
    terminal: Terminal,
    every: Annotated[float, typer.Option("--every", help="seconds between two looks", min=0.1, max=3600)] = REFRESH_S,
    once: Annotated[bool, typer.Option("--once", help="print one frame and end")] = False,
) -> int:
    """Watch strategies and events live; Ctrl-C leaves."""
    from pipaid.cli.top import watch

    return watch(terminal, every_s=every, once=once)


def demo(
    terminal: Terminal,
    seconds: Annotated[
        float | None, typer.Option("--seconds", help="end after so long (default: with Ctrl-C)", min=1, max=86_400)
    ] = None,
    state: Annotated[
        Path | None, typer.Option("--state", help="keep the state here (default: a temporary directory)")
    ] = None,
) -> int:
    """Watch six strategies trade on a made-up market.

    A daemon is started for it, with time compressed; it and its state are gone when the demo ends. With --seconds it
    ends by itself, and says whether at least four strategies traded.
    """
    from pipaid.cli.demo import show_demo

    return show_demo(terminal, seconds=seconds, state=state)


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
    from pipaid.model.operation import OPERATIONS

    known = terminal.ask("strategy.get", StrategyObject, id=strategy_id(terminal, id))
    if known.run is None:
        raise InvalidState(f"{known.name!r} was never deployed; `pipaid deploy` begins, with --dry-run as a dry run")
    return carry_out(terminal, OPERATIONS["strategy.deploy"], {"id": known.id, "dry_run": known.run.dry_run})
