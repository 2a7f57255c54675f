"""Judge what a life of the daemon left behind: whole, nothing lost of what was there or told, books that add up."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec
from attrs import define, field, frozen

from pipaid.engine.effects import Brain
from pipaid.model.money import ZERO, quote_text
from pipaid.model.order import BookedFill, Order
from pipaid.model.position import Position
from pipaid.model.strategy import Strategy
from pipaid.storage.connection import connect_to_read, witness_path
from pipaid.storage.inspect import verify
from tests.soak.commander import PREFIX, State, disagreements

JOURNAL: Final = "journal.db"


@frozen
class Told:
    """What the world has been told up to a moment: numbers of events, and what may be true of commanded strategies."""

    seqs: Mapping[str, int]
    commanded: Mapping[str, list[State]]


@frozen
class Ledger:
    """The fills of a journal in the order in which they were booked: how many, and what they come to."""

    fills: int = 0
    digest: bytes = b""


@frozen
class Verdict:
    """What was found in a journal."""

    problems: tuple[str, ...]
    ledger: Ledger
    epoch: int
    records: int
    pruned: int
    events: int
    orders: int
    trades: int


@define
class Books:
    """Everything in the journal's tables that is about money."""

    fills: list[BookedFill] = field(factory=list[BookedFill])
    orders: dict[str, Order] = field(factory=dict[str, Order])
    positions: dict[str, Position] = field(factory=dict[str, Position])
    brains: dict[str, Brain] = field(factory=dict[str, Brain])
    strategies: list[Strategy] = field(factory=list[Strategy])


def copy_journal(state: Path, folder: Path) -> None:
    """Copy the files of a journal that nobody writes to; what lies in the write-ahead log is recovered from it."""
    folder.mkdir(parents=True)
    path = state / JOURNAL
    for each in (path, path.with_name(f"{JOURNAL}-wal"), witness_path(path)):
        if each.exists():
            shutil.copyfile(each, folder / each.name)


def judge(folder: Path, before: Ledger, told: Told, *, closed: bool) -> Verdict:
    """Look at a copy for everything that has to be true of it, and delete it.

    `closed` says that its life ended in order.
    """
    path = folder / JOURNAL
    wal = path.with_name(f"{JOURNAL}-wal")
    problems = [f"an orderly end left {wal.stat().st_size} bytes of {wal.name}"] if closed and wal.exists() else []
    report = verify(path)
    problems += report.problems
    ledger = before
    books = Books()
    if report.ok:
        with closing(connect_to_read(path)) as connection:
            ledger, lost = _fills(connection, before)
            problems += lost
            books = _read(connection)
            seqs = dict(
                connection.execute(
                    "SELECT owner, max(sort) FROM record WHERE entity = 'event' GROUP BY owner"
                ).fetchall()
            )
        problems += _mistakes(books)
        problems += [
            f"event {seq} of {strategy_id} was told, and the journal ends at {seqs.get(strategy_id, 0)}"
            for strategy_id, seq in told.seqs.items()
            if seq > seqs.get(strategy_id, 0)
        ]
        problems += disagreements(told.commanded, _commanded(books.strategies))
    shutil.rmtree(folder)
    return Verdict(
        problems=tuple(problems),
        ledger=ledger,
        epoch=report.epoch,
        records=report.records,
        pruned=report.pruned,
        events=report.events,
        orders=len(books.orders),
        trades=sum(not position.is_open for position in books.positions.values()),
    )


def _fills(connection: Any, before: Ledger) -> tuple[Ledger, list[str]]:
    """Hash the fills in the order of their records; those of the journal before have to be the first of them."""
    digest, count = b"", 0
    problems: list[str] = []
    for key, data in connection.execute("SELECT key, data FROM entity WHERE entity = 'fill' ORDER BY n"):
        digest = hashlib.blake2b(digest + key.encode() + data, digest_size=16).digest()
        count += 1
        if count == before.fills and digest != before.digest:
            problems.append(f"the first {count} fills are not those that were there before")
    if count < before.fills:
        problems.append(f"there are {count} fills, and there were {before.fills}")
    return Ledger(count, digest), problems


def _read(connection: Any) -> Books:
    def rows(entity: str) -> list[tuple[str, bytes]]:
        found: list[tuple[str, bytes]] = connection.execute(
            "SELECT key, data FROM entity WHERE entity = ?", (entity,)
        ).fetchall()
        return found

    return Books(
        fills=[msgspec.json.decode(data, type=BookedFill) for _, data in rows("fill")],
        orders={key: msgspec.json.decode(data, type=Order) for key, data in rows("order")},
        positions={key: msgspec.json.decode(data, type=Position) for key, data in rows("position")},
        brains={key: msgspec.json.decode(data, type=Brain) for key, data in rows("brain")},
        strategies=[msgspec.json.decode(data, type=Strategy) for _, data in rows("strategy")],
    )


def _mistakes(books: Books) -> Iterator[str]:
    """Say where orders, fills, positions and figures do not come to the same."""
    used = Counter(order.client_order_id for order in books.orders.values())
    yield from (f"client order id {key} was used {times} times" for key, times in used.items() if times > 1)
    names = Counter((each.account, each.definition.name) for each in books.strategies if not each.deleted_at_ms)
    yield from (f"the name {key} was given {times} times" for key, times in names.items() if times > 1)
    filled: dict[str, Decimal] = {}
    moved: dict[tuple[str, str], Decimal] = {}
    counted: Counter[str] = Counter()
    for booked in books.fills:
        fill = booked.fill
        filled[booked.order_id] = filled.get(booked.order_id, ZERO) + fill.quantity
        place = (booked.position_id, fill.side.value)
        moved[place] = moved.get(place, ZERO) + fill.quantity
        counted[booked.strategy_id] += 1
        if booked.order_id not in books.orders:
            yield f"fill {fill.id} has no order {booked.order_id}"
    for order in books.orders.values():
        if order.filled != filled.get(order.id, ZERO) or order.filled > order.quantity:
            yield f"order {order.id} says {order.filled} of {order.quantity}, its fills {filled.get(order.id, ZERO)}"
    for lot in books.positions.values():
        entered = moved.get((lot.id, lot.direction.entry_side.value), ZERO)
        left = moved.get((lot.id, lot.direction.exit_side.value), ZERO)
        if (lot.entry_quantity, lot.exit_quantity) != (entered, left):
            yield f"position {lot.id} says {lot.entry_quantity} and {lot.exit_quantity}, its fills {entered} and {left}"
    closed = Counter(lot.strategy_id for lot in books.positions.values() if not lot.is_open)
    for strategy_id, brain in books.brains.items():
        found = (counted[strategy_id], closed[strategy_id])
        if (brain.tally.fills, brain.tally.trades) != found:
            yield f"{strategy_id} counts {brain.tally.fills} fills and {brain.tally.trades} trades, found {found}"


def _commanded(strategies: list[Strategy]) -> dict[str, State]:
    return {
        each.definition.name: State(each.id, each.status, quote_text(each.definition.capital))
        for each in strategies
        if each.definition.name.startswith(PREFIX) and not each.deleted_at_ms
    }
