"""What the books must know before the first strategy decides after a restart: what is at risk, and what was done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, TypeVar

import msgspec
from attrs import define, field

from actors.actor import Writer
from pipaid.engine.book import HOUR_MS, MINUTE_MS, Book, Deeds
from pipaid.engine.effects import Brain
from pipaid.engine.holdings import deeds_of, other_deeds_of, reserve_of
from pipaid.engine.risk import likeness_of
from pipaid.engine.stakes import exposure_of
from pipaid.model.order import Order
from pipaid.model.position import Position
from pipaid.model.strategy import EMPLOYED, Strategy
from pipaid.storage.store import Reader

# The longest window that a trade rate may have in the configuration.
OPENINGS_MS: Final = 168 * HOUR_MS
PAGE: Final = 100

PLACES: Final[dict[type, tuple[str, str]]] = {Position: ("position", "closed"), Order: ("order", "ended")}

T = TypeVar("T", bound=msgspec.Struct)


@define
class Past:
    """Lots that were opened and that nobody holds, entries that ended within the minute, what every strategy did."""

    lots: list[Position] = field(factory=list[Position])
    entries: list[Order] = field(factory=list[Order])
    deeds: list[tuple[bool, str, Deeds]] = field(factory=list[tuple[bool, str, Deeds]])


async def recollect(
    writer: Writer,
    books: Callable[[bool], Book],
    held: tuple[Sequence[Order], Sequence[Position]],
    now_ms: int,
) -> None:
    """Tell each book what counts against its caps from before.

    The sessions tell it as well, but one after the other: the first could decide as if nobody held anything.
    """
    _expose(books, *held)
    past = await writer.read(partial(_past, now_ms=now_ms))
    for lot in sorted(past.lots, key=lambda lot: lot.opened_at_ms):
        books(lot.dry_run).note_opening(lot.symbol, lot.id, lot.opened_at_ms)
    for entry in sorted(past.entries, key=lambda entry: entry.placed_at_ms):
        value = entry.quantity * reserve_of(entry)
        books(entry.dry_run).rates.add(entry.client_order_id, entry.placed_at_ms, value, likeness_of(entry))
    for dry, strategy_id, deeds in past.deeds:
        books(dry).note_deeds(strategy_id, deeds)


def _expose(books: Callable[[bool], Book], orders: Sequence[Order], positions: Sequence[Position]) -> None:
    theirs: dict[tuple[bool, str], tuple[list[Order], list[Position]]] = {}
    for order in orders:
        theirs.setdefault((order.dry_run, order.strategy_id), ([], []))[0].append(order)
    for position in positions:
        theirs.setdefault((position.dry_run, position.strategy_id), ([], []))[1].append(position)
    for (dry, strategy_id), (own_orders, own_positions) in theirs.items():
        entries = [(order, reserve_of(order)) for order in own_orders if not order.reduce_only]
        book = books(dry)
        book.set_exposure(strategy_id, exposure_of(own_positions, entries, orders=len(own_orders)))
        for lot in own_positions:
            book.note_opening(lot.symbol, lot.id, lot.opened_at_ms)
        for entry, reserve in entries:
            book.rates.add(entry.client_order_id, entry.placed_at_ms, entry.quantity * reserve, likeness_of(entry))


def _past(reader: Reader, *, now_ms: int) -> Past:
    past = Past()
    brains = {row.key: msgspec.json.decode(row.data, type=Brain) for row in reader.rows("brain")}
    for row in reader.rows("strategy"):
        brain = brains.get(row.key)
        if brain is None or brain.tally.trades:
            since_ms = now_ms - OPENINGS_MS
            past.lots += _since(reader, Position, row.key, since_ms)
        strategy = msgspec.json.decode(row.data, type=Strategy)
        if strategy.status not in EMPLOYED or strategy.deleted_at_ms:
            # Nobody holds them any more, and they were opened all the same.
            left = (
                msgspec.json.decode(lot.data, type=Position)
                for lot in reader.rows("position", owner=row.key, state="open")
            )
            past.lots += (lot for lot in left if lot.opened_at_ms > now_ms - OPENINGS_MS)
        if brain is None or brain.at_ms > now_ms - MINUTE_MS:
            ended = _since(reader, Order, row.key, now_ms - MINUTE_MS)
            past.entries += (order for order in ended if not order.reduce_only)
        if brain is not None and strategy.run is not None:
            past.deeds.append((strategy.run.dry_run, strategy.id, deeds_of(brain, strategy.run)))
            past.deeds.append((not strategy.run.dry_run, strategy.id, other_deeds_of(brain)))
    return past


def _since(reader: Reader, type: type[T], owner: str, since_ms: int) -> Iterator[T]:
    """Yield an owner's closed lots or ended orders, newest first, back to a moment."""
    entity, state = PLACES[type]
    before: tuple[int, str] | None = None
    while True:
        page = reader.page(entity, owner=owner, state=state, before=before, limit=PAGE)
        for row in page:
            if row.sort <= since_ms:
                return
            yield msgspec.json.decode(row.data, type=type)
        if len(page) < PAGE:
            return
        before = page[-1].sort, page[-1].key
