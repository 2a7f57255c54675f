"""What the books know before the first strategy decides after a restart."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from actors.recollection import recollect
from actors.recorder import Recorder
from pipaid.engine.book import Book
from pipaid.engine.effects import order_record, position_record, strategy_record
from pipaid.model.order import Order, OrderStatus
from pipaid.model.position import Position
from pipaid.model.record import Batch, Record
from tests.actors.homes import TrioClock
from tests.builders import START_MS, STRATEGY_ID, SYMBOL, make_order, make_position, make_strategy
from tests.storage.journals import open_journal

NOW_MS = START_MS + 30_000


async def recollected(
    folder: Path, records: list[Record], orders: list[Order] | None = None, positions: list[Position] | None = None
) -> dict[bool, Book]:
    books = {True: Book(), False: Book()}
    journal = open_journal(folder)
    try:
        journal.commit([Batch(records=records)])
        recorder = Recorder(journal, lambda _: None, TrioClock(), threaded=False)
        await recollect(recorder, books.__getitem__, (orders or [], positions or []), NOW_MS)
    finally:
        journal.close()
    return books


async def test_what_is_held_and_working_counts_before_any_session_is_loaded(tmp_path: Path) -> None:
    lot = make_position(id="pos_7", strategy_id="strat_other")
    order = make_order(1, status=OrderStatus.OPEN)

    books = await recollected(tmp_path, [], [order], [lot])

    assert (books[True].positions, books[True].orders) == (2, 1)
    assert books[True].value == lot.open_value + order.quantity * order.price
    assert books[True].exposure(STRATEGY_ID).entries == 1
    assert books[False].value == 0


async def test_what_ended_just_now_still_counts_against_the_rates(tmp_path: Path) -> None:
    ended = make_order(2, status=OrderStatus.CANCELLED, placed_at_ms=START_MS)
    records = [strategy_record(make_strategy()), order_record(ended)]

    books = await recollected(tmp_path, records)

    assert books[True].rates.within(NOW_MS, 60_000) == (1, Decimal(100))


async def test_a_lot_that_is_closed_still_counts_as_opened(tmp_path: Path) -> None:
    lot = make_position(closed_at_ms=START_MS + 10_000, exit_quantity=Decimal(1), exit_value=Decimal(100))
    records = [strategy_record(make_strategy()), position_record(lot)]

    books = await recollected(tmp_path, records)

    assert books[True].opened_within(SYMBOL, NOW_MS) == 1
