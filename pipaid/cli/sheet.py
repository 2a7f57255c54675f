"""Replies as sheets of text: which columns each listing has, and how any other object is laid out as facts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any, Final, cast

import msgspec
from attrs import frozen

from pipaid.model.account import AccountObject
from pipaid.model.binding import BindingObject
from pipaid.model.job import ListedJob
from pipaid.model.reply import (
    OrderObject,
    PositionObject,
    Reply,
    RunObject,
    StepObject,
    StrategyObject,
    TradeObject,
)
from pipaid.model.report import (
    AccountStatistics,
    ActorObject,
    ActorTree,
    ConditionObject,
    ConditionTurn,
    FaultObject,
    KeyObject,
    KillLog,
    Metrics,
    ModeStatistics,
    TemplateObject,
)
from pipaid.model.webhook import DeliveryObject, WebhookObject

NOTHING: Final = "–"
CELL_CHARS_MAX: Final = 400
# Output that no terminal shows is not folded: a line there is a row.
UNFOLDED_COLUMNS: Final = 10_000
# Columns that nobody ranked: the last one is the first to go.
RANK: Final = 1


class Kind(Enum):
    """How a column is aligned and coloured, and what becomes of it where the screen is too narrow for it.

    A label is cut with an ellipsis and prose is folded between its words; everything else keeps its width.
    """

    TEXT = "text"
    LABEL = "label"
    PROSE = "prose"
    FAINT = "faint"
    NUMBER = "number"
    SIGNED = "signed"
    STATUS = "status"


@frozen
class Column:
    """One column of a listing: its heading, where its values are found, and what kind they are.

    Where not all columns have room, those with the highest `rank` go first and those with 0 stay. `least` is the width
    that a column has in any case, so that a view that is drawn again and again does not jump.
    """

    title: str
    of: Callable[[Any], object]
    kind: Kind = Kind.TEXT
    rank: int = RANK
    least: int = 0

    @property
    def heading(self) -> Heading:
        """Return what a sheet keeps of it."""
        return Heading(self.title, self.kind, self.rank, self.least)


@frozen
class Heading:
    """The heading of a column of a sheet."""

    title: str
    kind: Kind = Kind.TEXT
    rank: int = RANK
    least: int = 0


@frozen
class Sheet:
    """A table of text under a title; without headings it is a list of facts."""

    title: str
    headings: tuple[Heading, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    headed: bool = True


def cell(value: object) -> str:
    """Return a value as one line that no terminal mistakes for a command."""
    if value is None or value == "" or value == ():
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(cell(each) for each in cast("Sequence[object]", value))
    if isinstance(value, dict | msgspec.Struct):
        return msgspec.json.encode(value).decode()[:CELL_CHARS_MAX]
    text = value if isinstance(value, str) else str(getattr(value, "value", value))
    return printable(text)[:CELL_CHARS_MAX]


def printable(text: str) -> str:
    """Return text without line breaks and without what would steer a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def moment(text: str | None) -> str:
    """Return a moment as people read it: whole seconds, with a space before the time."""
    if not text:
        return NOTHING
    return f"{text[:10]} {text[11:19]}" if len(text) >= 20 and text.endswith("Z") else cell(text)


def percent(fraction: str) -> str:
    """Return a fraction as people read it."""
    return f"{Decimal(fraction):.0%}"


def aligned(values: Sequence[str]) -> list[str]:
    """Return numbers filled up on the right so that their decimal points stand in one line."""
    places = [len(value) - value.index(".") if _is_number(value) and "." in value else 0 for value in values]
    most = max(places, default=0)
    return [
        value + " " * (most - own) if _is_number(value) else value for value, own in zip(values, places, strict=True)
    ]


def listing(
    title: str, items: Sequence[Any], columns: Sequence[Column], note: str = "", *, keep_all: bool = False
) -> Sheet:
    """Return a sheet with one row an item; columns that say nothing in any row are left out unless all are kept."""
    filled: list[tuple[Heading, list[str]]] = []
    for column in columns:
        values = [cell(column.of(item)) for item in items]
        if keep_all or not items or any(value != NOTHING for value in values):
            numeric = column.kind in (Kind.NUMBER, Kind.SIGNED)
            filled.append((column.heading, aligned(values) if numeric else values))
    rows = tuple(zip(*(values for _, values in filled), strict=True)) if filled else ()
    return Sheet(title, tuple(heading for heading, _ in filled), rows, note)


def sheets_of(reply: Reply) -> Iterator[Sheet]:
    """Yield what a person sees of a reply."""
    if "data" in reply.__struct_fields__ and not isinstance(reply, Metrics):
        yield _page(reply, _items(reply, "data"))
        yield from (_table(name, _items(reply, name)) for name in reply.__struct_fields__[1:] if _items(reply, name))
    elif isinstance(reply, Metrics):
        rows = tuple((name, cell(value)) for name, value in sorted(reply.data.items()))
        yield Sheet("", (Heading("METRIC", Kind.PROSE, 0), Heading("VALUE", Kind.NUMBER, 0)), rows)
    else:
        yield from facts_of(reply)


def facts_of(struct: msgspec.Struct, title: str = "", *, without: Collection[str] = ()) -> Iterator[Sheet]:
    """Yield the fields of an object as facts, then its lists as tables, each under its name; some are left out."""
    rows: list[tuple[str, str]] = []
    tables: list[Sheet] = []
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if value is msgspec.UNSET or name in without:
            continue
        if _holds_structs(value):
            tables.extend(_nested(name, value))
        else:
            rows.extend(_facts(name, value))
    if rows:
        yield Sheet(
            title, (Heading("FIELD", Kind.FAINT, 0), Heading("VALUE", Kind.PROSE, 0)), tuple(rows), headed=False
        )
    yield from tables


def _items(reply: Reply, name: str) -> tuple[Any, ...]:
    """Return a field that is a list of objects, or nothing for any other field."""
    value: Any = getattr(reply, name)
    return value if _holds_structs(value) else ()


def _page(reply: Reply, items: tuple[Any, ...]) -> Sheet:
    cursor = getattr(reply, "next_cursor", None)
    note = f"there are more: add --all, or --cursor {cursor}" if cursor else ""
    if isinstance(reply, ActorTree):
        items = tuple(_flattened(cast("tuple[ActorObject, ...]", items), 0))
        return listing("", items, _ACTOR_COLUMNS)
    if not items:
        return Sheet("", (), (), "nothing to list")
    return listing("", items, columns_of(_kind_of(items)), note)


def columns_of(kind: type[msgspec.Struct]) -> Sequence[Column]:
    """Return the columns of a listing of such objects; one that was never thought of shows all its fields."""
    known = _COLUMNS.get(kind)
    if known is not None:
        return known
    return [Column(name.upper().replace("_", " "), _attribute(name)) for name in kind.__struct_fields__]


def _kind_of(items: Sequence[Any]) -> type[msgspec.Struct]:
    return cast("type[msgspec.Struct]", type(items[0]))


def _attribute(name: str) -> Callable[[Any], object]:
    return lambda item: getattr(item, name)


def _table(name: str, items: tuple[Any, ...]) -> Sheet:
    return listing(name.replace("_", " "), items, columns_of(_kind_of(items)))


def _nested(name: str, items: tuple[msgspec.Struct, ...]) -> Iterator[Sheet]:
    """Yield a list as a table, or as one block an item where the items hold more than a row can show."""
    deep = any(
        _holds_structs(getattr(item, field)) or isinstance(getattr(item, field), dict)
        for item in items
        for field in item.__struct_fields__
    )
    if type(items[0]) in _COLUMNS or not deep:
        yield _table(name, items)
        return
    for item in items:
        yield from facts_of(item, cell(getattr(item, item.__struct_fields__[0])))


def _facts(name: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            yield from _facts(f"{name}.{field}", getattr(value, field))
    elif isinstance(value, dict) and value:
        for key, inner in cast("dict[str, object]", value).items():
            yield from _facts(f"{name}.{key}", inner)
    elif name.endswith("win_rate") and isinstance(value, str):
        yield name, percent(value)
    else:
        is_moment = name.endswith(("_at", ".at", "_time", "timestamp"))
        yield name, moment(value) if is_moment and isinstance(value, str) else cell(cast("Any", value))


def _holds_structs(value: object) -> bool:
    return isinstance(value, tuple) and any(isinstance(each, msgspec.Struct) for each in cast("tuple[object]", value))


def _flattened(actors: Sequence[ActorObject], depth: int) -> Iterator[tuple[int, ActorObject]]:
    for actor in actors:
        yield depth, actor
        yield from _flattened(actor.children, depth + 1)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).removeprefix("-").isdigit()


def mode(dry_run: bool | None) -> str | None:
    """Return how a strategy or an order trades: as a dry run or on its account; nothing if it never did."""
    return None if dry_run is None else ("dry run" if dry_run else "account")


def _at(name: str) -> Callable[[Any], object]:
    return lambda item: moment(getattr(item, name))


def _trouble(strategy: StrategyObject) -> str | None:
    """Return what is wrong with a strategy: why it was halted, or that it crashed and waits for its next start."""
    if strategy.error is not None:
        return strategy.error.code
    return None if strategy.restarting is msgspec.UNSET else f"restarting {strategy.restarting}"


_MODE: Final = Column("MODE", lambda item: mode(item.dry_run), Kind.FAINT, 3)
_FIGURES: Final = (
    Column("TRADES", lambda item: item.total_trades, Kind.NUMBER, 0),
    Column("WON", lambda item: percent(item.win_rate), Kind.NUMBER, 1),
    Column("PNL", lambda item: item.total_pnl, Kind.SIGNED, 0),
    Column("REALISED", lambda item: item.realised_pnl, Kind.SIGNED, 3),
    Column("FEES", lambda item: item.fees, Kind.NUMBER, 4),
    Column("FACTOR", lambda item: item.profit_factor, Kind.NUMBER, 5),
    Column("DRAWDOWN", lambda item: item.max_drawdown, Kind.NUMBER, 2),
    Column("OPEN", lambda item: item.open_positions, Kind.NUMBER, 6),
)
_COLUMNS: Final[Mapping[type[msgspec.Struct], tuple[Column, ...]]] = {
    StrategyObject: (
        Column("NAME", lambda item: item.name, Kind.LABEL, 0),
        Column("ID", lambda item: item.id, Kind.FAINT, 8),
        Column("STATUS", lambda item: item.status, Kind.STATUS, 0),
        _MODE,
        Column("TEMPLATE", lambda item: item.template_id, rank=6),
        Column("SYMBOLS", lambda item: item.symbols, Kind.LABEL, 2),
        Column("TIME", lambda item: item.timeframe, rank=7),
        Column("CAPITAL", lambda item: item.capital, Kind.NUMBER, 9),
        Column("LEV", lambda item: item.leverage, Kind.NUMBER, 10),
        Column("OPEN", lambda item: item.stats.open_positions, Kind.NUMBER, 0),
        Column("PNL", lambda item: item.stats.total_pnl, Kind.SIGNED, 0),
        Column("TRADES", lambda item: item.stats.total_trades, Kind.NUMBER, 4),
        Column("WON", lambda item: percent(item.stats.win_rate), Kind.NUMBER, 5),
        Column("ERROR", lambda item: _trouble(item), Kind.STATUS, 1),
        Column("FOLLOWS", lambda item: None if item.follows is msgspec.UNSET else item.follows, Kind.FAINT, 11),
    ),
    OrderObject: (
        Column("PLACED", _at("placed_at"), rank=2),
        Column("ID", lambda item: item.id, Kind.FAINT, 8),
        Column("SYMBOL", lambda item: item.symbol, rank=0),
        Column("SIDE", lambda item: item.side, rank=0),
        Column("TYPE", lambda item: item.type, rank=3),
        Column("STATUS", lambda item: item.status, Kind.STATUS, 0),
        _MODE,
        Column("QTY", lambda item: item.qty, Kind.NUMBER, 0),
        Column("FILLED", lambda item: item.filled_qty, Kind.NUMBER, 5),
        Column("PRICE", lambda item: item.price or item.stop_price, Kind.NUMBER, 0),
        Column("AVERAGE", lambda item: item.avg_price, Kind.NUMBER, 4),
        Column("FEE", lambda item: item.fee, Kind.NUMBER, 7),
        Column("TAG", lambda item: item.tag, Kind.LABEL, 9),
        Column("REASON", lambda item: item.reason, Kind.LABEL, 6),
    ),
    PositionObject: (
        Column("OPENED", _at("opened_at"), rank=4),
        Column("ID", lambda item: item.id, Kind.FAINT, 11),
        Column("SYMBOL", lambda item: item.symbol, rank=0),
        Column("SIDE", lambda item: item.side, rank=0),
        Column("STATE", lambda item: item.state, Kind.STATUS, 1),
        _MODE,
        Column("QTY", lambda item: item.qty, Kind.NUMBER, 0),
        Column("ENTRY", lambda item: item.entry_price, Kind.NUMBER, 0),
        Column("EXIT", lambda item: item.exit_price, Kind.NUMBER, 6),
        Column("STOP", lambda item: item.stop_price, Kind.NUMBER, 5),
        Column("TARGET", lambda item: item.take_profit_price, Kind.NUMBER, 7),
        Column("UNREALISED", lambda item: item.unrealised_pnl, Kind.SIGNED, 2),
        Column("PNL", lambda item: item.pnl, Kind.SIGNED, 0),
        Column("FEE", lambda item: item.fee, Kind.NUMBER, 10),
        Column("TAG", lambda item: item.tag, Kind.LABEL, 9),
        Column("REASON", lambda item: item.reason, Kind.LABEL, 8),
    ),
    TradeObject: (
        Column("OPENED", _at("opened_at"), rank=6),
        Column("CLOSED", _at("closed_at"), rank=1),
        Column("ID", lambda item: item.id, Kind.FAINT, 9),
        Column("SYMBOL", lambda item: item.symbol, rank=0),
        Column("SIDE", lambda item: item.side, rank=0),
        _MODE,
        Column("QTY", lambda item: item.qty, Kind.NUMBER, 0),
        Column("ENTRY", lambda item: item.entry_price, Kind.NUMBER, 0),
        Column("EXIT", lambda item: item.exit_price, Kind.NUMBER, 0),
        Column("PNL", lambda item: item.pnl, Kind.SIGNED, 0),
        Column("FEE", lambda item: item.fee, Kind.NUMBER, 5),
        Column("TAG", lambda item: item.tag, Kind.LABEL, 8),
        Column("REASON", lambda item: item.reason, Kind.LABEL, 4),
    ),
    RunObject: (
        Column("AT", _at("created_at"), rank=0),
        Column("ID", lambda item: item.id, Kind.FAINT, 0),
        Column("ACCOUNT", lambda item: item.account_id, Kind.LABEL, 6),
        _MODE,
        Column("SYMBOL", lambda item: item.symbol, rank=1),
        Column("CAUSE", lambda item: item.cause, rank=2),
        Column("STATUS", lambda item: item.status, Kind.STATUS, 0),
        Column("ACTION", lambda item: item.final_action, rank=2),
        Column("TOOK µs", lambda item: item.duration_us, Kind.NUMBER, 5),
        Column("WHY NOT", lambda item: item.detail, Kind.PROSE, 1),
    ),
    StepObject: (
        Column("STEP", lambda item: item.step_name, rank=0),
        Column("STATUS", lambda item: item.status, Kind.STATUS, 0),
        Column("TOOK µs", lambda item: item.duration_us, Kind.NUMBER, 2),
        Column("OUTPUT", lambda item: item.output, Kind.PROSE, 0),
        Column("ERROR", lambda item: item.error, Kind.PROSE, 0),
    ),
    AccountStatistics: (Column("ACCOUNT", lambda item: item.account_id, rank=0), *_FIGURES),
    ModeStatistics: (Column("MODE", lambda item: item.mode, rank=0), *_FIGURES),
    TemplateObject: (
        Column("TEMPLATE", lambda item: item.template_id, rank=0),
        Column("VERSION", lambda item: item.version, Kind.NUMBER),
        Column("MIN CAPITAL", lambda item: item.min_capital, Kind.NUMBER),
        Column("SEVERAL SYMBOLS", lambda item: item.multi_symbol),
        Column("DESCRIPTION", lambda item: item.description, Kind.PROSE, 0),
    ),
    WebhookObject: (
        Column("WEBHOOK", lambda item: item.id, rank=0),
        Column("STATUS", lambda item: item.status, Kind.STATUS, 0),
        Column("URL", lambda item: item.url, Kind.LABEL, 0),
        Column("EVENTS", lambda item: item.events, Kind.PROSE),
        Column("FAILURES", lambda item: item.consecutive_failures, Kind.NUMBER, 2),
        Column("LAST SUCCESS", _at("last_success_at"), rank=3),
        Column("LAST ATTEMPT", _at("last_delivery_at"), rank=4),
        Column("DESCRIPTION", lambda item: item.description, Kind.LABEL, 5),
    ),
    DeliveryObject: (
        Column("CREATED", _at("created_at"), rank=2),
        Column("DELIVERY", lambda item: item.id, Kind.FAINT, 6),
        Column("EVENT", lambda item: item.event_id, rank=5),
        Column("TYPE", lambda item: item.event_type, rank=0),
        Column("STATE", lambda item: item.state, Kind.STATUS, 0),
        Column("ATTEMPTS", lambda item: item.attempts, Kind.NUMBER, 1),
        Column("NEXT", _at("next_attempt_at"), rank=3),
        Column("ANSWER", lambda item: item.response_status, Kind.NUMBER, 4),
        Column("ERROR", lambda item: item.error, Kind.PROSE, 1),
    ),
    ListedJob: (
        Column("BACKTEST", lambda item: item.id, rank=0),
        Column("STATUS", lambda item: item.status, Kind.STATUS, 0),
        Column("DONE", lambda item: percent(str(item.progress)), Kind.NUMBER, 0),
        Column("TEMPLATE", lambda item: item.config.template_id, Kind.LABEL, 0),
        Column("SYMBOLS", lambda item: item.config.symbols, Kind.LABEL),
        Column("FROM", lambda item: moment(item.config.start), rank=3),
        Column("TO", lambda item: moment(item.config.end), rank=3),
        Column("SUBMITTED", _at("submitted_at"), rank=4),
        Column("TRADES", lambda item: item.result and item.result.metrics.total_trades, Kind.NUMBER),
        Column("SHARPE", lambda item: item.result and item.result.metrics.sharpe, Kind.SIGNED),
        Column("ERROR", lambda item: item.error and f"{item.error.code}: {item.error.message}", Kind.PROSE, 2),
    ),
    KeyObject: (
        Column("KEY", lambda item: item.api_key, rank=0),
        Column("NAME", lambda item: item.name, Kind.LABEL, 0),
        Column("STATE", lambda item: item.state, Kind.STATUS, 0),
        Column("SCOPES", lambda item: item.scopes, Kind.LABEL, 1),
        Column("CREATED", _at("created_at")),
        Column("EXPIRES", _at("expires_at")),
        Column("ROTATED", _at("rotated_at")),
        Column("GRACE UNTIL", _at("grace_until")),
    ),
    AccountObject: (
        Column("ACCOUNT", lambda item: item.id, rank=0),
        Column("NAME", lambda item: item.name, Kind.LABEL, 0),
        Column("ORGANISATION", lambda item: item.organisation, Kind.LABEL, 0),
        Column("VENUE", lambda item: item.venue),
        Column("MODE", lambda item: item.mode, rank=0),
        Column("CREATED", _at("created_at")),
    ),
    BindingObject: (
        Column("ACCOUNT", lambda item: item.account_id, rank=0),
        Column("SHARE", lambda item: item.capital_share, Kind.NUMBER, 2),
        Column("CAPITAL", lambda item: item.capital, Kind.NUMBER, 5),
        Column("ENABLED", lambda item: item.enabled, rank=3),
        Column("STRATEGY", lambda item: item.strategy_id, Kind.FAINT, 0),
        Column("STATUS", lambda item: item.status, Kind.STATUS, 0),
        _MODE,
        Column("OPEN", lambda item: item.open_positions, Kind.NUMBER, 0),
        Column("PNL", lambda item: item.total_pnl, Kind.SIGNED, 0),
        Column("TRADES", lambda item: item.total_trades, Kind.NUMBER, 4),
        Column("ERROR", lambda item: item.error, Kind.STATUS, 1),
        Column("BOUND", _at("bound_at"), rank=6),
    ),
    KillLog: (
        Column("AT", _at("timestamp"), rank=0),
        Column("ACTION", lambda item: item.action, rank=0),
        Column("BY", lambda item: item.by),
        Column("REASON", lambda item: item.reason, Kind.PROSE, 0),
    ),
    ConditionObject: (
        Column("CONDITION", lambda item: item.condition, Kind.STATUS, 0),
        Column("SINCE", _at("since"), rank=2),
        Column("WHAT", lambda item: item.detail, Kind.PROSE, 0),
        Column("MEANS", lambda item: item.means, Kind.PROSE, 1),
        Column("REMEDY", lambda item: item.remedy, Kind.PROSE, 0),
    ),
    FaultObject: (
        Column("AT", lambda item: item.at, rank=0),
        Column("KIND", lambda item: item.kind, rank=0),
        Column("SHARE", lambda item: item.share, Kind.NUMBER, 0),
        Column("ORDERED", lambda item: item.ordered, Kind.NUMBER, 0),
        Column("HAPPENED", lambda item: item.happened, Kind.NUMBER, 0),
        Column("MEANS", lambda item: item.means, Kind.PROSE),
    ),
    ConditionTurn: (
        Column("AT", _at("timestamp"), rank=0),
        Column("CONDITION", lambda item: item.condition, Kind.STATUS, 0),
        Column("TURN", lambda item: item.turn, rank=0),
        Column("LASTED s", lambda item: item.lasted_s or None, Kind.NUMBER),
        Column("WHAT", lambda item: item.detail, Kind.PROSE, 0),
    ),
}  # fmt: skip
_ACTOR_COLUMNS: Final = (
    Column("ACTOR", lambda item: f"{'. ' * item[0]}{item[1].name}", Kind.LABEL, 0),
    Column("KIND", lambda item: item[1].kind, Kind.FAINT),
    Column("STATE", lambda item: item[1].state, Kind.STATUS, 0),
    Column("RESTARTS", lambda item: item[1].restarts, Kind.NUMBER),
    Column("WAITING", lambda item: item[1].mailbox, Kind.NUMBER),
    Column("OF", lambda item: item[1].mailbox_max, Kind.NUMBER),
    Column("LAST FAILURE", lambda item: item[1].last_failure, Kind.PROSE, 0),
)
