"""What `pipaid` offers: verbs out of the operation table, and those that need no daemon or a whole screen."""

from __future__ import annotations

from typing import Any, Final

import typer

from pipaid import __version__
from pipaid.cli import data, everyday, offline, signals, trying
from pipaid.cli.exits import Exit, exit_table
from pipaid.cli.terminal import SOCKET_VARIABLE
from pipaid.cli.verbs import add_operations, add_verb, shared_parameters

ABOUT: Final = f"""pipaid {__version__}: one daemon that hosts your trading strategies, and all you can ask of it.

A strategy is named by its id or by its name. Tables are for people; --json prints what the daemon answered, byte for
byte.
"""
BELOW: Final = f"""\b
The control socket is --socket, else ${SOCKET_VARIABLE}, else $RUNTIME_DIRECTORY/control.sock,
else ./var/control.sock, else /run/pipaid/control.sock.

\b
Exit codes:
{exit_table()}
"""


def run() -> None:
    """Run `pipaid` with the arguments of this process."""
    try:
        application()()
    except KeyboardInterrupt:
        raise SystemExit(Exit.INTERRUPTED) from None


def application() -> typer.Typer:
    """Return the whole command."""
    app = typer.Typer(
        name="pipaid",
        help=ABOUT,
        epilog=BELOW,
        no_args_is_help=True,
        # Plain help: the decorated one would cost more time at the start than all the rest together.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(_shared())
    everyday.add_to(app)
    add_operations(app)
    offline.add_to(app)
    data.add_to(app)
    signals.add_to(app)
    trying.add_to(app)
    add_verb(app, "version", offline.version)
    return app


def _shared() -> Any:
    """Return what keeps the options that stand before the verb."""
    import inspect

    def remember(context: typer.Context, **typed: Any) -> None:
        context.obj = typed

    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    signature = inspect.Signature([context, *shared_parameters()])
    setattr(remember, "__signature__", signature)  # noqa: B010 - functions declare no such attribute
    return remember
