"""What the books know before the first strategy decides after a restart."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.recollection import recollect
from actors.recorder import Recorder
from pipaid.engine.book import Book
from pipaid.engine.effects import Brain, DayFigures, encode, order_record, position_record, remains_of, strategy_record
from pipaid.engine.risk import likeness_of
from pipaid.model.moment import utc_day
from pipaid.model.order import Order, OrderStatus
from pipaid.model.position import Position
from pipaid.model.record import Batch, Kind, Record
from pipaid.model.strategy import Status
from tests.actors.homes import TrioClock
from tests.builders import START_MS, STRATEGY_ID, SYMBOL, make_order, make_position, make_run, make_strategy
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


@pytest.mark.parametrize("end", [{"status": Status.STOPPED}, {"status": Status.PAUSED, "deleted_at_ms": START_MS}])
async def test_a_lot_that_its_ended_strategy_gave_up_still_counts_as_opened(
    tmp_path: Path, end: dict[str, Any]
) -> None:
    ended = msgspec.structs.replace(make_strategy(), **end)
    records = [strategy_record(ended), position_record(make_position(opened_at_ms=START_MS))]

    books = await recollected(tmp_path, records)

    assert books[True].opened_within(SYMBOL, NOW_MS) == 1


async def test_open_lots_and_working_entries_count_against_the_rates_from_the_first_decision_on(tmp_path: Path) -> None:
    lot = make_position(id="pos_7", strategy_id="strat_other", opened_at_ms=START_MS)
    order = make_order(1, status=OrderStatus.OPEN, placed_at_ms=START_MS)

    books = await recollected(tmp_path, [strategy_record(make_strategy())], [order], [lot])

    assert books[True].opened_within(SYMBOL, NOW_MS) == 1
    assert books[True].rates.within(NOW_MS, 60_000) == (1, Decimal(100))
    assert books[True].rates.alike(NOW_MS, likeness_of(order)) == 1


def remembered(brain: Brain, **strategy: Any) -> list[Record]:
    """Return the records of a strategy and its memory."""
    return [
        strategy_record(make_strategy(**strategy)),
        Record("brain", STRATEGY_ID, Kind.PUT, encode(brain), STRATEGY_ID),
    ]


async def test_the_day_of_a_deleted_strategy_counts_until_it_is_over(tmp_path: Path) -> None:
    brain = Brain(
        at_ms=NOW_MS, dry_run=True, day=utc_day(NOW_MS), day_pnl=Decimal(-900), day_orders=7, state={SYMBOL: {"a": 1}}
    )

    books = await recollected(tmp_path, remembered(remains_of(brain), run=make_run(), deleted_at_ms=NOW_MS))

    assert (books[True].day_pnl, books[True].day_orders) == (Decimal(-900), 7)
    assert remains_of(brain).state == {}


async def test_the_day_of_the_mode_that_was_left_counts_there(tmp_path: Path) -> None:
    day = utc_day(NOW_MS)
    brain = Brain(
        at_ms=NOW_MS, dry_run=False, day=day, day_pnl=Decimal(-1), day_orders=2,
        other_mode=DayFigures(day, 3, 7, Decimal(-900)),
    )  # fmt: skip

    books = await recollected(tmp_path, remembered(brain, run=make_run(dry_run=False)))

    assert (books[False].day_pnl, books[False].day_orders) == (Decimal(-1), 2)
    assert (books[True].day_pnl, books[True].day_orders) == (Decimal(-900), 7)
