"""One way to print each reply: most as sheets, a few in their own words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pipaid.cli.drawing import drawn
from pipaid.cli.explaining import explained
from pipaid.cli.jobs import job_sheets
from pipaid.cli.markets import MarketData, market_sheets
from pipaid.cli.sheet import Sheet, sheets_of
from pipaid.cli.terminal import Terminal
from pipaid.model.account import TokenObject, TokensRotated
from pipaid.model.job import JobObject
from pipaid.model.operation import Operation
from pipaid.model.reply import Deleted, Reply, StrategyObject, Triggered
from pipaid.model.report import (
    Draining,
    KeyWithSecret,
    LogLevelSet,
    Pong,
    Reloaded,
    ShuttingDown,
    TemplateObject,
    Why,
)

# Params whose members are alike and many.
_TABLES: Final = frozenset({"cooldown_config"})


def print_reply(terminal: Terminal, operation: Operation, reply: Reply) -> None:
    """Print a reply for people."""
    said = _SAID.get(type(reply))
    # An object that was asked for is shown whole; one that was changed is confirmed in a line.
    if said is not None and not (isinstance(reply, StrategyObject) and not operation.mutating):
        terminal.say(said(reply))
        return
    terminal.show(drawn(_shown(reply)))


def _shown(reply: Reply) -> list[Sheet]:
    if isinstance(reply, Why):
        return list(explained(reply))
    if isinstance(reply, TemplateObject):
        return _template(reply)
    if isinstance(reply, JobObject):
        return list(job_sheets(reply))
    if isinstance(reply, MarketData):
        return list(market_sheets(reply))
    return list(sheets_of(reply))


def _template(template: TemplateObject) -> list[Sheet]:
    from pipaid.cli.sheet import Column, Kind, listing

    facts = Sheet(
        f"{template.template_id} version {template.version}", (), (), f"{template.description} "
        f"At least {template.min_capital}; {'several symbols' if template.multi_symbol else 'one symbol'}."
    )  # fmt: skip
    columns = (
        Column("PARAM", lambda each: each[0], rank=0),
        Column("TYPE", lambda each: _type(each[1]), rank=3),
        Column("DEFAULT", lambda each: each[2], Kind.FAINT, 2),
        Column("ALLOWED", lambda each: _allowed(each[1]), Kind.LABEL),
        Column("MEANING", lambda each: each[1].get("description"), Kind.PROSE, 0),
    )
    return [facts, listing("", list(_params(template.params_schema)), columns)]


def _params(schema: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Mapping[str, Any], Any]]:
    """Yield every param with its schema and its default, those within others by their path."""
    required = schema.get("required", [])
    properties: dict[str, dict[str, Any]] = schema.get("properties", {})
    for name, knob in properties.items():
        yield f"{place}{name}", knob, "required" if name in required else knob.get("default")
        if knob.get("type") == "array":
            yield from _params(knob["items"], f"{place}{name}[].")
        elif knob.get("type") == "object" and name not in _TABLES:
            yield from _params(knob, f"{place}{name}.")


def _type(schema: Mapping[str, Any]) -> str:
    kinds = schema.get("type") or ("choice" if "enum" in schema else "")
    return kinds if isinstance(kinds, str) else " or ".join(kinds)


def _allowed(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None and high is None:
        return ""
    return f"{'' if low is None else low} to {'' if high is None else high}".strip()


def _strategy(reply: Any) -> str:
    told = ""
    if reply.status == "deployed" and reply.dry_run is not None:
        told = " (dry run)" if reply.dry_run else " (on its account)"
    said = [f"{reply.id} {reply.name!r} is {reply.status}{told}"]
    return "\n".join([*said, *(reply.notes or ())])


def _reloaded(reply: Any) -> str:
    waiting = [
        f"{key}: looser: in force after a restart, or by `pipaid risk set`"
        if key.startswith("risk.")
        else f"{key}: in force after a restart"
        for key in reply.needs_restart
    ]
    return "\n".join([*(f"{key}: in force" for key in reply.changed), *waiting]) or "nothing has changed"


def _key(reply: Any) -> str:
    if reply.secret is None:
        return f"key {reply.api_key} ({reply.name}); its secret was shown once and is not kept"
    return f"key     {reply.api_key}\nsecret  {reply.secret}\nThe secret is shown this once and kept nowhere."


def _token(reply: Any) -> str:
    whose = f"of {reply.user} in {reply.organisation}, good until {reply.expires_at}"
    if reply.token is None:
        return f"token {reply.token_id} {whose}; it was shown once and is not kept"
    return f"{reply.token}\nThe token {whose}; it is shown this once and kept nowhere."


_SAID: Final[Mapping[type[Reply], Callable[[Any], str]]] = {
    StrategyObject: _strategy,
    Deleted: lambda reply: f"{reply.id} is deleted",
    Triggered: lambda reply: "evaluated: " + (", ".join(reply.run_ids) or "nothing was decided"),
    KeyWithSecret: _key,
    TokenObject: _token,
    TokensRotated: lambda reply: f"every token made so far is void; the next ones have version {reply.version}",
    Pong: lambda reply: f"pong at {reply.ts}",
    LogLevelSet: lambda reply: f"logging {reply.level} and above (was {reply.before})",
    Reloaded: _reloaded,
    Draining: lambda reply: (
        f"the daemon is {reply.state}: no entries any more; {reply.open_positions} positions and "
        f"{reply.working_orders} orders are left; a restart takes entries again"
    ),
    ShuttingDown: lambda reply: f"the daemon is {reply.state}",
}
