"""The verbs that need no daemon: look into a journal, a configuration and an installation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from pipaid import __version__
from pipaid.cli.exits import Exit
from pipaid.cli.terminal import Terminal
from pipaid.errors import NotFound

JOURNAL_NAME: Final = "journal.db"
STATE: Final = Path("var")
State = Annotated[Path, typer.Option("--state", help="the daemon's state directory", metavar="DIR")]
ConfigFile = Annotated[
    Path | None,
    typer.Argument(
        help="a configuration file (default: /etc/pipaid/pipaid.toml, or the built-in defaults)", metavar="[FILE]"
    ),
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="the same as FILE", metavar="FILE")]


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    from pipaid.cli.verbs import add_verb

    add_verb(app, "doctor", doctor)
    config = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Check a configuration")
    add_verb(config, "check", check_config)
    app.add_typer(config, name="config")
    journal = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Judge a journal, also one in use")
    for name, verb in (("verify", verify), ("digest", digest), ("backup", backup)):
        add_verb(journal, name, verb)
    app.add_typer(journal, name="journal")


def version(terminal: Terminal) -> None:
    """Show the versions of pipaid and what it needs."""
    import platform
    import sqlite3
    from importlib.metadata import version as version_of

    import msgspec

    versions = {
        "pipaid": __version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version_of(name) for name in ("msgspec", "trio", "trio-websocket", "rich", "typer")},
    }
    if terminal.as_json:
        terminal.say_json(msgspec.json.encode(versions))
    else:
        terminal.say("\n".join(f"{name} {number}" for name, number in versions.items()))


def check_config(terminal: Terminal, file: ConfigFile = None, config: ConfigOption = None) -> int:
    """Show every value with its source, and all mistakes.

    Each mistake stands with its place and its remedy. The strategies that the configuration declares are checked too.
    Nothing is changed.
    """
    from pipaid.cli.checking import check

    return check(terminal, config or file)


def doctor(
    terminal: Terminal,
    file: ConfigFile = None,
    config: ConfigOption = None,
    state: Annotated[Path | None, typer.Option("--state", help="its state directory", metavar="DIR")] = None,
) -> int:
    """Find what is wrong, and say how to mend it.

    Looks at the installation, the configuration, the state directory and the daemon.
    """
    from pipaid.cli.checking import examine_all

    return examine_all(terminal, config or file, state)


def verify(terminal: Terminal, state: State = STATE) -> int:
    """Check all that a journal promises."""
    import msgspec

    from pipaid.cli.drawing import drawn
    from pipaid.cli.sheet import facts_of
    from pipaid.storage import inspect
    from pipaid.storage.connection import witness_path

    path = state / JOURNAL_NAME
    # One that is gone is judged too, if anything is left that vouches for it.
    report = inspect.verify(path if witness_path(path).exists() else _journal(state))
    if terminal.as_json:
        terminal.say_json(msgspec.json.encode(report))
    else:
        terminal.show(drawn(facts_of(report, without=("problems",))))
        for problem in report.problems:
            terminal.warn(f"problem: {problem}")
        count = len(report.problems)
        problems = "1 problem" if count == 1 else f"{count} problems"
        terminal.say("the journal is whole" if report.ok else f"the journal is broken: {problems}")
    return Exit.OK if report.ok else Exit.REFUSED


def digest(
    terminal: Terminal,
    state: State = STATE,
    each: Annotated[bool, typer.Option("--each", help="show the digest of each strategy too")] = False,
) -> None:
    """Print one digest over what all strategies did.

    It covers their fills, positions and statistics, and is equal for two journals that traded alike.
    """
    import msgspec

    from pipaid.cli.drawing import drawn
    from pipaid.cli.sheet import Column, Kind, listing
    from pipaid.storage import inspect

    found = inspect.digest(_journal(state))
    if terminal.as_json:
        terminal.say_json(msgspec.json.encode(found))
        return
    terminal.say(found.digest)
    if each:
        columns = (
            Column("ACCOUNT", lambda one: one.account),
            Column("STRATEGY", lambda one: one.name, Kind.LABEL, 0),
            Column("FILLS", lambda one: one.fills, Kind.NUMBER),
            Column("POSITIONS", lambda one: one.positions, Kind.NUMBER),
            Column("DIGEST", lambda one: one.digest, Kind.PROSE, 0),
        )
        terminal.show(drawn([listing("", found.strategies, columns)]))


def backup(
    terminal: Terminal,
    target: Annotated[Path, typer.Argument(help="the file to write, which must not exist yet", metavar="TARGET")],
    state: State = STATE,
) -> None:
    """Copy a journal, also one in use."""
    from pipaid.storage import inspect

    inspect.backup(_journal(state), target)
    terminal.say(f"{target} is a copy of {state / JOURNAL_NAME}")


def _journal(state: Path) -> Path:
    path = state / JOURNAL_NAME
    if not path.is_file():
        raise NotFound(f"there is no journal at {path}; name the daemon's state directory with --state DIR")
    return path
