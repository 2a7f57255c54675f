"""Check a configuration, or everything: each finding with its place and its remedy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from pipaid.cli.drawing import drawn
from pipaid.cli.exits import Exit
from pipaid.cli.foretelling import foretold
from pipaid.cli.sheet import Column, Kind, listing
from pipaid.cli.terminal import Terminal
from pipaid.config import Declaration, Effective, Mistake, examine
from pipaid.doctor import Finding, Verdict, diagnose
from pipaid.engine.params import structure_params
from pipaid.errors import InvalidParameter
from pipaid.model.instrument import STRATEGY_TIMEFRAMES
from pipaid.model.money import plain
from pipaid.plugins import Catalogue, load_templates
from pipaid.seams import World

# What the packaged service reads; it is what counts when no file is named.
SYSTEM_CONFIG: Final = Path("/etc/pipaid/pipaid.toml")


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """A value in effect, as programs read it."""

    key: str
    value: str
    source: str


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A mistake, as programs read it."""

    place: str
    key: str
    wrong: str
    allowed: str
    remedy: str


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What to know of a strategy, as programs read it."""

    strategy: str
    note: str


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration, as programs read it."""

    file: str | None
    values: tuple[Value, ...]
    mistakes: tuple[Fault, ...]
    strategies: int
    notes: tuple[Note, ...] = ()


def check(terminal: Terminal, file: Path | None) -> int:
    """Print every value with its source and every mistake with its remedy; end with 1 if there is one."""
    file = chosen(file)
    examined = examine(file, World())
    declarations = examined.config.declarations if examined.config is not None else ()
    declared = len(declarations)
    mistakes = (*examined.mistakes, *strategy_mistakes(declarations))
    config = examined.config
    notes = [] if mistakes or config is None else list(foretold(config, declarations))
    if terminal.as_json:
        checked = Checked(
            file=str(file) if file is not None else None,
            values=tuple(Value(key=each.key, value=each.value, source=each.source) for each in examined.values),
            mistakes=tuple(map(_fault, mistakes)),
            strategies=declared,
            notes=tuple(Note(strategy=name, note=note) for name, note in notes),
        )
        terminal.say_json(msgspec.json.encode(checked))
    else:
        _show_values(terminal, examined.values)
        _show_verdict(terminal, mistakes, f"{file or 'the built-in defaults'}: no mistakes; {declared} strategies")
        for name, note in notes:
            terminal.say(f"{name}: {note}")
    return Exit.REFUSED if mistakes else Exit.OK


def strategy_mistakes(declarations: Sequence[Declaration]) -> list[Mistake]:
    """Return what the templates have against the strategies that are declared for them.

    Which instruments there are, and their filters, only the venue knows: the daemon judges those at its start.
    """
    if not declarations:
        return []
    catalogue = load_templates()
    return [mistake for declared in declarations for mistake in _mistakes_of(declared, catalogue)]


def _mistakes_of(declared: Declaration, catalogue: Catalogue) -> Iterator[Mistake]:
    try:
        template = catalogue.get(declared.template_id)
    except InvalidParameter as trouble:
        known = ", ".join(sorted(catalogue.templates))
        remedy = "write the id of an installed template, or mend the package it comes from"
        yield _unfit(declared, "template_id", trouble.message, remedy, allowed=known)
        return
    if len(declared.symbols) > 1 and not template.multi_symbol:
        several = f"{template.id} trades one symbol only"
        yield _unfit(declared, "symbols", several, "declare one strategy for each symbol")
    if declared.timeframe not in STRATEGY_TIMEFRAMES:
        unfit = f"must be one of {', '.join(STRATEGY_TIMEFRAMES)}, got {declared.timeframe}"
        yield _unfit(declared, "timeframe", unfit, 'write one of these, such as: timeframe = "15m"')
    if declared.capital < template.capital_min:
        too_little = f"must be at least {plain(template.capital_min)} for {template.id}, got {plain(declared.capital)}"
        yield _unfit(declared, "capital", too_little, f'write: capital = "{plain(template.capital_min)}"')
    try:
        structure_params(
            template,
            declared.params,
            symbols=declared.symbols,
            timeframe=declared.timeframe,
            capital=declared.capital,
        )
    except InvalidParameter as trouble:
        for name, reason in trouble.details or (("", trouble.message),):
            key = f"params.{name}" if name not in ("", "params") else "params"
            yield _unfit(declared, key, reason, "correct it in the params of this strategy")


def _unfit(declared: Declaration, key: str, wrong: str, remedy: str, *, allowed: str = "") -> Mistake:
    return Mistake(
        place=declared.source,
        key=f'strategy "{declared.name}": {key}',
        wrong=wrong,
        allowed=allowed or f"what {declared.template_id} takes; `pipaid template get {declared.template_id}` shows it",
        remedy=remedy,
    )


def examine_all(terminal: Terminal, config: Path | None, state: Path | None) -> int:
    """Print every finding of the doctor with its remedy; end with 1 if anything is bad."""
    world = World()
    overrides = {"daemon.state_dir": str(state)} if state is not None else {}
    findings = diagnose(examine(chosen(config), world, overrides=overrides), world)
    bad = sum(finding.verdict is Verdict.BAD for finding in findings)
    if terminal.as_json:
        terminal.say_json(msgspec.json.encode({"data": list(map(_told, findings)), "bad": bad}))
    else:
        columns = (
            Column("VERDICT", lambda each: each.verdict.value, Kind.STATUS, 0),
            Column("WHAT", lambda each: each.name, rank=0),
            Column("FOUND", lambda each: each.found, Kind.PROSE, 0),
            Column("REMEDY", lambda each: each.remedy, Kind.PROSE, 0),
        )
        wary = sum(finding.verdict is Verdict.WARNING for finding in findings)
        told = [f"{bad} to mend"] * bool(bad) + ["1 warning" if wary == 1 else f"{wary} warnings"] * bool(wary)
        terminal.show(drawn([listing("", findings, columns, ", ".join(told) or "nothing to mend")]))
    return Exit.REFUSED if bad else Exit.OK


def chosen(file: Path | None) -> Path | None:
    """Return the configuration that is meant: the one that was named, else that of the system, if there is one."""
    if file is None and SYSTEM_CONFIG.exists():
        return SYSTEM_CONFIG
    return file


def _show_values(terminal: Terminal, values: tuple[Effective, ...]) -> None:
    columns = (
        Column("KEY", lambda each: each.key, rank=0),
        Column("VALUE", lambda each: each.value, Kind.PROSE, 0),
        Column("SOURCE", lambda each: each.source, Kind.LABEL),
    )
    terminal.show(drawn([listing("", values, columns)]))


def _show_verdict(terminal: Terminal, mistakes: Sequence[Mistake], good: str) -> None:
    count = len(mistakes)
    if not count:
        terminal.say(good)
        return
    terminal.warn("1 mistake:" if count == 1 else f"{count} mistakes:")
    for mistake in mistakes:
        terminal.warn(str(mistake))


def _fault(mistake: Mistake) -> Fault:
    return Fault(
        place=mistake.place,
        key=mistake.key,
        wrong=mistake.wrong,
        allowed=mistake.allowed,
        remedy=mistake.remedy,
    )


def _told(finding: Finding) -> dict[str, str]:
    return {
        "name": finding.name,
        "verdict": finding.verdict.value,
        "found": finding.found,
        "remedy": finding.remedy,
    }
