"""Declared strategies: TOML files with [[strategy]] tables, read whole and refused whole with every mistake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, cast

from attrs import NOTHING, fields_dict, frozen

from pipaid.config.fields import Between, Objection, Spelled, hints_of, shown, structure
from pipaid.config.sections import Symbol
from pipaid.config.toml import Document, Mistake, Mistaken, Route, WrittenFloat, read_document, unknown_key
from pipaid.model.instrument import Timeframe
from pipaid.model.strategy import LEVERAGE_MAX, NAME_MAX, SYMBOLS_MAX, StrategyDefinition
from pipaid.seams import Disk

DECLARATIONS_MAX: Final = 10_000
TABLE: Final = "strategy"


@frozen(kw_only=True)
class Declaration:
    """One strategy as a file declares it; `source` is the file and line of its table."""

    name: Annotated[str, Spelled(r"(?s:.{1,64})", f"1 to {NAME_MAX} characters")]
    template_id: Annotated[str, Spelled("[a-z][a-z0-9_]{0,63}", "the id of a template, such as tpl_grid")]
    symbols: tuple[Symbol, ...]
    timeframe: Timeframe
    capital: Annotated[Decimal, Between("0.01", 10**15)]
    params: dict[str, Any]
    leverage: Annotated[int, Between(1, LEVERAGE_MAX)] = 1
    deploy: bool = False
    dry_run: bool = True
    source: str = ""

    @property
    def definition(self) -> StrategyDefinition:
        """Return what the journal keeps of it."""
        return StrategyDefinition(
            name=self.name,
            template_id=self.template_id,
            params=self.params,
            symbols=self.symbols,
            timeframe=self.timeframe,
            capital=self.capital,
            leverage=self.leverage,
        )


def load_declarations(paths: Sequence[Path], disk: Disk) -> list[Declaration]:
    """Return what the files declare, in order; raise Mistaken with every mistake in all of them."""
    mistakes: list[Mistake] = []
    found: list[Declaration] = []
    for path in paths:
        try:
            document = read_document(path, disk)
        except Mistaken as trouble:
            mistakes.extend(trouble.mistakes)
            continue
        found.extend(_declared(document, mistakes))
    mistakes.extend(_doubled(found))
    if len(found) > DECLARATIONS_MAX:
        mistakes.append(
            Mistake(
                place=str(paths[-1]),
                key=TABLE,
                wrong=f"{len(found)} strategies are declared",
                allowed=f"at most {DECLARATIONS_MAX}",
                remedy="declare fewer, or run a second daemon on its own state directory",
            )
        )
    if mistakes:
        raise Mistaken(mistakes)
    return found


def _declared(document: Document, mistakes: list[Mistake]) -> Iterator[Declaration]:
    mistakes.extend(
        unknown_key(document.place((name,)), name, name, [f"[[{TABLE}]]"]) for name in document.table if name != TABLE
    )
    tables = document.table.get(TABLE, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in cast("list[object]", tables)):
        mistakes.append(
            Mistake(
                place=document.place((TABLE,)),
                key=TABLE,
                wrong="it is one table, and a file may declare several",
                allowed=f"[[{TABLE}]] in double brackets",
                remedy=f"write [[{TABLE}]]",
            )
        )
        return
    for index, table in enumerate(cast("list[dict[str, object]]", tables)):
        before = len(mistakes)
        values = _values(document, (TABLE, index), table, mistakes)
        if len(mistakes) == before:
            yield Declaration(**values, source=document.place((TABLE, index)))


def _values(document: Document, route: Route, table: dict[str, object], mistakes: list[Mistake]) -> dict[str, Any]:
    hints = {name: hint for name, hint in hints_of(Declaration).items() if name != "source"}
    title = f'{TABLE} "{table["name"]}"' if isinstance(table.get("name"), str) else TABLE
    mistakes.extend(
        unknown_key(document.place((*route, name)), f"{title}: {name}", name, list(hints))
        for name in table
        if name not in hints
    )
    values: dict[str, Any] = {}
    for name, hint in hints.items():
        place = document.place((*route, name))
        if name not in table:
            if fields_dict(Declaration)[name].default is NOTHING:
                mistakes.append(_missing(place, f"{title}: {name}", name))
            continue
        try:
            values[name] = _params(table[name]) if name == "params" else structure(table[name], hint)
            if name == "symbols" and not 1 <= len(values[name]) <= SYMBOLS_MAX:
                raise Objection(f"it names {len(values[name])} symbols", allowed=f"1 to {SYMBOLS_MAX} symbols")
        except Objection as objection:
            mistakes.append(_mistake(place, f"{title}: {name}", objection))
        if name in values and name == "params":
            for inner, unfit in _unfit(table[name], ()):
                key = ".".join([f"{title}: {name}", *map(str, inner)])
                mistakes.append(_mistake(document.place((*route, name, *inner)), key, unfit))
    return values


def _mistake(place: str, key: str, objection: Objection) -> Mistake:
    last = key.rpartition(": ")[2].rpartition(".")[2]
    return Mistake(
        place=place,
        key=key,
        wrong=objection.wrong,
        allowed=objection.allowed,
        remedy=f"write: {last} = {objection.better}" if objection.better else "write an allowed value",
    )


def _params(value: object) -> dict[str, Any]:
    """Return params as a table; what they mean is for the template to judge."""
    if not isinstance(value, dict):
        raise Objection(f"{shown(value)} is not a table", allowed="a table of the template's params")
    return cast("dict[str, Any]", value)


def _unfit(params: object, route: Route) -> Iterator[tuple[Route, Objection]]:
    """Yield the params that a journal of decimals and JSON cannot carry."""
    allowed = "whole numbers, flags, text, and decimal numbers in quotes"
    for inner, leaf in _leaves(params, route):
        if isinstance(leaf, WrittenFloat):
            wrong = f"{leaf.text} is a float, which cannot hold money"
            yield inner, Objection(wrong, allowed=allowed, better=f'"{leaf.text}"')
        elif isinstance(leaf, date | time):
            yield inner, Objection(f"{leaf} is a TOML date", allowed=allowed, better=f'"{leaf}"')


def _leaves(value: object, route: Route) -> Iterator[tuple[Route, object]]:
    if isinstance(value, dict):
        for key, inner in cast("dict[str, object]", value).items():
            yield from _leaves(inner, (*route, key))
    elif isinstance(value, list):
        for index, inner in enumerate(cast("list[object]", value)):
            yield from _leaves(inner, (*route, index))
    else:
        yield route, value


def _missing(place: str, key: str, name: str) -> Mistake:
    examples = {
        "name": '"btc grid 15m"',
        "template_id": '"tpl_grid"',
        "params": "{ }",
        "symbols": '["BTCUSDT"]',
        "timeframe": '"15m"',
        "capital": '"1000.00"',
    }
    return Mistake(
        place=place,
        key=key,
        wrong="it is missing",
        allowed="it has no default",
        remedy=f"write: {name} = {examples[name]}",
    )


def _doubled(found: Sequence[Declaration]) -> Iterator[Mistake]:
    first: dict[str, str] = {}
    for declaration in found:
        earlier = first.setdefault(declaration.name, declaration.source)
        if earlier != declaration.source:
            yield Mistake(
                place=declaration.source,
                key=f'{TABLE} "{declaration.name}"',
                wrong=f"the name is already declared at {earlier}",
                allowed="names that are unique within the account",
                remedy="give one of the two another name",
            )
