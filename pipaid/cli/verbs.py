"""Verbs out of the operation table: each operation becomes a command with its fields as options."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any, Final, cast

import typer

from pipaid.cli.exits import Exit, exit_of
from pipaid.cli.options import ALL, addresses_strategy, args_of, parameters_of
from pipaid.cli.terminal import NotReachable, Terminal, socket_path
from pipaid.errors import InvalidState, PipaidError
from pipaid.model.operation import OPERATIONS, Operation

# The one ends a tail of the same connection, and a verb has none but its own: Ctrl-C ends that. What the others tell is
# known without a daemon (`pipaid.cli.signals`).
WITHOUT_VERB: Final = frozenset({"events.stop", "signal.list", "signal.get"})
GROUPS: Final = {
    "strategy": "Create, change, deploy and look at strategies",
    "run": "Look at evaluations",
    "template": "Look at templates and their params",
    "kill": "Block entries everywhere, and allow them again",
    "risk": "Look at the account's caps and change them",
    "events": "Follow events",
    "account": "Make and list accounts",
    "key": "Make, list and end API keys",
    "token": "Make bearer tokens for users, and void them all",
    "condition": "Look at what kept the daemon from doing all it should",
    "log": "Change what the daemon logs",
    "sim": "Faults on the simulated venue",
    "job": "Backtests that the daemon plays",
    "webhook": "Have events delivered to addresses of your own",
    "market": "Look at instruments, candles, the book, tickers and market trades",
}
# Where the name of the group is another verb's.
GROUP_OF: Final = {"backtest": "job"}
ALIASES: Final = (
    "list", "get", "create", "deploy", "pause", "stop", "why", "positions", "orders", "trades",
)  # fmt: skip
FOLLOWS_TO_THE_END: Final = 10_000

_SOCKET: Final = "socket"
_JSON: Final = "json"
_PLAIN: Final = "no_color"

Verb = Callable[..., int | None]


def add_operations(app: typer.Typer) -> None:
    """Add every operation: one group a prefix, those without a prefix and the most used ones at the top."""
    groups: dict[str, typer.Typer] = {}
    for name in ALIASES:
        add_operation(app, OPERATIONS[f"strategy.{name}"])
    for operation in OPERATIONS.values():
        if operation.name in WITHOUT_VERB or operation.dialect:
            continue
        prefix = operation.name.rpartition(".")[0]
        if not prefix:
            add_operation(app, operation)
            continue
        prefix = GROUP_OF.get(prefix, prefix)
        if prefix not in groups:
            groups[prefix] = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help=GROUPS.get(prefix))
            app.add_typer(groups[prefix], name=prefix)
        add_operation(groups[prefix], operation)


def add_operation(app: typer.Typer, operation: Operation) -> None:
    """Add one operation as a command."""

    def verb(terminal: Terminal, **typed: Any) -> int | None:
        return carry_out(terminal, operation, typed)

    own = parameters_of(operation)
    app.command(operation.name.rpartition(".")[2].replace("_", "-"), help=f"{operation.summary}.")(
        as_command(verb, own)
    )


def add_verb(app: typer.Typer, name: str, verb: Verb) -> None:
    """Add a command that is written out; its first parameter is the terminal, its help its docstring."""
    own = list(inspect.signature(verb, eval_str=True).parameters.values())[1:]
    app.command(name, help=inspect.getdoc(verb))(as_command(verb, own))


def as_command(verb: Verb, own: list[Parameter]) -> Callable[..., None]:
    """Return what typer calls: it takes the verb's options and the shared ones, and ends with an exit code."""

    def command(context: typer.Context, **typed: Any) -> None:
        shared = dict(cast("dict[str, Any]", context.obj or {}))
        for name in (_SOCKET, _JSON, _PLAIN):
            given = typed.pop(name, None)
            shared[name] = given or shared.get(name)
        raise typer.Exit(ended(verb, terminal_of(shared), typed))

    context = Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)
    keyword = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in own]
    signature = Signature([context, *keyword, *shared_parameters()])
    # Typer reads what a command takes from its signature, and this one is put together here.
    setattr(command, "__signature__", signature)  # noqa: B010 - functions declare no such attribute
    return command


def shared_parameters() -> list[Parameter]:
    """Return the options that every verb has, and `pipaid` itself before the verb."""
    options: dict[str, tuple[Any, Any]] = {
        _SOCKET: (Path | None, typer.Option(None, "--socket", help="the daemon's control socket", metavar="PATH")),
        _JSON: (bool, typer.Option(False, "--json", help="print JSON for programs", show_default=False)),
        _PLAIN: (bool, typer.Option(False, "--no-color", help="print without colours", show_default=False)),
    }
    return [
        Parameter(name, Parameter.KEYWORD_ONLY, default=option, annotation=hint)
        for name, (hint, option) in options.items()
    ]


def terminal_of(shared: dict[str, Any]) -> Terminal:
    """Return the terminal of this process."""
    from pipaid.seams import SystemEnv

    variables = SystemEnv().variables()
    return Terminal(
        variables=variables,
        out=sys.stdout,
        err=sys.stderr,
        socket=socket_path(shared.get(_SOCKET), variables),
        as_json=bool(shared.get(_JSON)),
        plain=bool(shared.get(_PLAIN)),
    )


def ended(verb: Verb, terminal: Terminal, typed: dict[str, Any]) -> int:
    """Carry a verb out and return its exit code; what was refused stands on standard error with its code."""
    try:
        with terminal:
            return verb(terminal, **typed) or Exit.OK
    except NotReachable as trouble:
        _complain(terminal, trouble)
        return Exit.NOT_REACHABLE
    except PipaidError as trouble:
        _complain(terminal, trouble)
        return exit_of(trouble.code)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Python would complain about the same pipe once more when it flushes at the end.
        sys.stdout = None  # It is what Python itself does without a terminal.
        return Exit.PIPE_CLOSED


def _complain(terminal: Terminal, trouble: PipaidError) -> None:
    from pipaid.cli.sheet import printable

    if terminal.as_json:
        from pipaid.wire.envelope import error_body

        terminal.warn(error_body(trouble).decode())
        return
    lines = trouble.message.removeprefix(f"{trouble.code}: ").splitlines() or [""]
    terminal.warn("\n".join([f"error: {trouble.code}: {printable(lines[0])}", *map(printable, lines[1:])]))


def carry_out(terminal: Terminal, operation: Operation, typed: dict[str, Any]) -> int | None:
    """Ask for an operation as it was typed, print what is answered, and return the exit code if it is not 0."""
    follow_pages = typed.pop(ALL, False)
    args = args_of(operation, typed)
    if addresses_strategy(operation):
        from pipaid.cli.naming import strategy_id

        args["id"] = strategy_id(terminal, args["id"])
    if args.get("strategy_id"):
        from pipaid.cli.naming import strategy_id

        args["strategy_id"] = strategy_id(terminal, args["strategy_id"])
    if operation.name == "strategy.deploy":
        from pipaid.cli.deploying import in_its_mode

        args = in_its_mode(terminal, args)
    if operation.streaming:
        from pipaid.cli.tail import follow

        return follow(terminal, args)
    try:
        cursor = _answered(terminal, operation, args)
    except InvalidState as refusal:
        if terminal.as_json:
            raise
        from pipaid.cli.confirming import with_command

        raise with_command(refusal, operation.name.replace(".", " "), typed) from None
    if operation.name == "strategy.deploy" and not terminal.as_json:
        from pipaid.cli.deploying import warn_of_switch

        warn_of_switch(terminal)
    for _ in range(FOLLOWS_TO_THE_END):
        if not follow_pages or cursor is None:
            break
        cursor = _answered(terminal, operation, {**args, "cursor": cursor})
    return None


def _answered(terminal: Terminal, operation: Operation, args: dict[str, Any]) -> str | None:
    """Ask once, print the answer, and return the cursor of the next page if there is one."""
    from pipaid.model.reply import read_reply

    answer = terminal.call(operation.name, args)
    reply = read_reply(operation.reply, answer)
    if terminal.as_json:
        terminal.say_json(answer)
    else:
        from pipaid.cli.printing import print_reply

        print_reply(terminal, operation, reply)
    return getattr(reply, "next_cursor", None)
