"""From the fields of a request to the options of a verb, and from what was typed back to JSON values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
from typing import Any, Final

import msgspec
import typer
from attrs import frozen
from msgspec import NODEFAULT, inspect

from pipaid.cli.completion import complete_strategy, complete_template
from pipaid.model.operation import Operation
from pipaid.model.parsing import allowed_values
from pipaid.model.request import Page
from pipaid.model.route import names_in

OFF: Final = "off"
PARAM: Final = "param"
ALL: Final = "all"
_CAPITAL: Final = re.compile("[A-Z]")
Reading = Callable[[Any], Any]
Completion = Callable[[str], list[str]]
# What the type of a field does not say.
ABOUT: Final[Mapping[tuple[str, str], str]] = {
    ("strategy.deploy", "dry_run"): (
        "as a dry run: orders are filled on paper inside the daemon; or on its account "
        "[default: as in its last run; at first on its account]"
    ),
    ("events.tail", "ext"): "also the extended events (risk_blocked, resumed, lagged)",
}


@frozen
class Asked:
    """One field of a request as a verb takes it; `read` turns what was typed into the JSON value under `key`."""

    field: str
    key: str
    parameter: Parameter
    read: Reading


def asked_of(operation: Operation) -> tuple[Asked, ...]:
    """Return what a verb takes: the id as its argument, everything else as options."""
    allowed = allowed_values(operation.request)
    kind = inspect.type_info(operation.request)
    assert isinstance(kind, inspect.StructType)
    ordered = sorted(kind.fields, key=lambda each: each.name != operation.id_field)
    return tuple(_asked(operation, each, allowed[each.encode_name]) for each in ordered)


def parameters_of(operation: Operation) -> list[Parameter]:
    """Return the parameters of the function behind a verb."""
    parameters = [asked.parameter for asked in asked_of(operation)]
    if "params" in operation.request.__struct_fields__:
        about = "one of the params, such as lookback=24; may be repeated"
        parameters.append(_option(PARAM, list[str] | None, None, about, metavar="KEY=VALUE"))
    if issubclass(operation.request, Page):
        parameters.append(_option(ALL, bool, False, "follow the pages to the end", "--all"))
    return parameters


def args_of(operation: Operation, typed: dict[str, Any]) -> dict[str, Any]:
    """Return the request's arguments out of what was typed; what was left out is left out."""
    args: dict[str, Any] = {}
    for asked in asked_of(operation):
        value = typed.get(asked.field)
        if value is not None:
            args[asked.key] = asked.read(value)
    if typed.get(PARAM):
        args["params"] = with_params(args.get("params", {}), typed[PARAM])
    if operation.name == "strategy.create" or (operation.name == "backtest.create" and "strategy_id" not in args):
        args.setdefault("params", {})
    return args


def with_params(params: Any, written: Sequence[str]) -> Any:
    """Return params with each KEY=VALUE placed; a dot in the key reaches into a table: `risk.cooldown_bars=3`."""
    placed: Any = msgspec.json.decode(msgspec.json.encode(params))
    for text in written:
        route, equals, value = text.partition("=")
        *tables, key = route.split(".")
        if not equals or not key:
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--param")
        try:
            table = placed
            for name in tables:
                table = table.setdefault(name, {})
            table[key] = param_value(value)
        except (AttributeError, TypeError):
            raise typer.BadParameter(
                f"{text!r} stands below something that is no table", param_hint="--param"
            ) from None
    return placed


def param_value(text: str) -> Any:
    """Return what a typed param means: a whole number, a flag or JSON; everything else, a decimal too, is text."""
    if text in ("true", "false"):
        return text == "true"
    if text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 18:
        return int(text)
    if text[:1] in ('"', "[", "{"):
        return _json(text, "--param")
    return text


def _asked(operation: Operation, each: inspect.Field, allowed: str) -> Asked:
    if each.name in _arguments(operation):
        return Asked(each.name, each.encode_name, _argument(operation, each, allowed), str)
    # A field without a default that may be left out stays as it is on the other side, so null can mean something else.
    liftable = not each.required and each.default is NODEFAULT and _nullable(each.type)
    default = None if each.default is NODEFAULT else each.default
    required = each.required and each.name != "params"
    hint, read, names = _way(each, liftable=liftable)
    names += tuple(f"--{alias}" for alias, field in operation.request.aliases.items() if field == each.encode_name)
    shown = f" [default: {_shown(default)}]" if default is not None and hint is not bool else ""
    about = ABOUT.get((operation.name, each.name), f"{allowed}, or {OFF}" if liftable else allowed)
    parameter = _option(
        each.name,
        hint if required else hint | None,
        Parameter.empty if required else None,
        about + shown,
        *names,
        completion=complete_template if each.name == "template_id" else _completion(_choices(each.type)),
        metavar="JSON" if isinstance(_kinds(each.type)[0], inspect.DictType) else "",
    )
    return Asked(each.name, each.encode_name, parameter, read)


def _way(each: inspect.Field, *, liftable: bool) -> tuple[Any, Reading, tuple[str, ...]]:
    """Return how a field is typed: its type for typer, how it is read, and the names of its option."""
    dashed = _CAPITAL.sub(lambda found: f"-{found[0].lower()}", each.encode_name.replace("_", "-"))
    kinds = [kind for kind in _kinds(each.type) if not isinstance(kind, inspect.NoneType)]
    first = kinds[0]
    if isinstance(first, inspect.BoolType):
        return bool, bool, (f"--{dashed}/--no-{dashed}",)
    if isinstance(first, inspect.VarTupleType):
        names = (f"--{dashed}", f"--{dashed.removesuffix('s')}") if dashed.endswith("s") else (f"--{dashed}",)
        return list[str], _listed, names
    if isinstance(first, inspect.DictType):
        return str, lambda text: _json(text, f"--{dashed}"), (f"--{dashed}",)
    if len(kinds) > 1:
        return str, _number_or_json, (f"--{dashed}",)
    if isinstance(first, inspect.LiteralType) and all(isinstance(value, int) for value in first.values):
        return int, int, (f"--{dashed}",)
    if isinstance(first, inspect.IntType) and not liftable and not _is_moment(each.type):
        return int, int, (f"--{dashed}",)
    if isinstance(first, inspect.IntType):
        return str, _number_or_off if liftable else _number_or_text, (f"--{dashed}",)
    return str, _text_or_off if liftable else str, (f"--{dashed}",)


def _kinds(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    """Return the types of a field without what is said about them."""
    if isinstance(kind, inspect.Metadata):
        return _kinds(kind.type)
    if isinstance(kind, inspect.UnionType):
        return tuple(inner for each in kind.types for inner in _kinds(each))
    return (kind,)


def _is_moment(kind: inspect.Type) -> bool:
    """Tell whether a number of milliseconds may also be written as people write a moment."""
    if isinstance(kind, inspect.UnionType):
        return any(map(_is_moment, kind.types))
    if not isinstance(kind, inspect.Metadata):
        return False
    extra = kind.extra  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # It is a bare dict.
    return extra is not None and "moment" in extra


def _nullable(kind: inspect.Type) -> bool:
    return any(isinstance(each, inspect.NoneType) for each in _kinds(kind))


def _choices(kind: inspect.Type) -> tuple[str, ...]:
    first = _kinds(kind)[0]
    if isinstance(first, inspect.VarTupleType):
        return _choices(first.item_type)
    if isinstance(first, inspect.EnumType):
        return tuple(str(each.value) for each in first.cls)
    return tuple(map(str, first.values)) if isinstance(first, inspect.LiteralType) else ()


def _arguments(operation: Operation) -> tuple[str, ...]:
    """Return the fields that are typed without their names."""
    fields = operation.request.__struct_fields__
    if operation.name.startswith("market."):
        return tuple(name for name in ("symbol", "interval") if name in fields)
    # Whom it is about comes first, and the path names those.
    return fields if len(fields) == 1 else (operation.id_field or "", *names_in(operation.path))


def _argument(operation: Operation, each: inspect.Field, allowed: str) -> Parameter:
    first = each.name == operation.id_field
    by_name = first and addresses_strategy(operation)
    about = f"{allowed}, or the name of a strategy" if by_name else allowed
    default = typer.Argument(
        ... if each.required else each.default,
        help=about,
        show_default=not each.required,
        metavar=each.name.upper(),
        autocompletion=(_named(operation) if first else None) or _completion(_choices(each.type)),
    )
    return Parameter(each.name, Parameter.KEYWORD_ONLY, default=default, annotation=str)


def _named(operation: Operation) -> Completion | None:
    """Return what completes the id of an operation, where the daemon can list what it may be."""
    if addresses_strategy(operation):
        return complete_strategy
    return complete_template if operation.name == "template.get" else None


def addresses_strategy(operation: Operation) -> bool:
    """Tell whether the id of an operation is that of a strategy, so that its name will do as well."""
    return operation.id_field is not None and operation.name.startswith(("strategy.", "sim.", "events."))


def _option(
    name: str, hint: Any, default: Any, about: str, *names: str, completion: Completion | None = None, metavar: str = ""
) -> Parameter:
    option = typer.Option(
        ... if default is Parameter.empty else default,
        *(names or (f"--{name.replace('_', '-')}",)),
        help=about,
        show_default=False,
        metavar=None if hint in (bool, bool | None) else metavar or _metavar(hint),
        autocompletion=completion,
    )
    return Parameter(name, Parameter.KEYWORD_ONLY, default=option, annotation=hint)


def _completion(choices: tuple[str, ...]) -> Completion | None:
    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete if choices else None


def _metavar(hint: Any) -> str:
    return "N" if hint in (int, int | None) else "TEXT"


def _shown(value: Any) -> str:
    return str(getattr(value, "value", value))


def _listed(typed: Sequence[str]) -> list[str]:
    return [part for text in typed for part in text.split(",") if part]


def _json(text: str, hint: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as trouble:
        raise typer.BadParameter(f"not JSON: {trouble}", param_hint=hint) from None


def _number_or_text(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else text


def _number_or_json(text: str) -> Any:
    return _json(text, "--since-seq") if text[:1] == "{" else _number_or_text(text)


def _number_or_off(text: str) -> int | str | None:
    return None if text == OFF else _number_or_text(text)


def _text_or_off(text: str) -> str | None:
    return None if text == OFF else text
