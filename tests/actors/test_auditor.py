"""An auditor finds what the stream did not say, each thing once, and leaves alone what is not ours."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

import actors.auditor as auditor_module
from pipaid.model.order import Execution, OrderFact, OrderStatus
from pipaid.model.stray import StrayKind, stray_fill
from tests.actors.offices import Office, ours
from tests.builders import (
    START_MS,
    STRATEGY_ID,
    make_fill,
    make_order,
)

pytestmark = pytest.mark.usefixtures("logged")

# Orders.


async def test_an_order_that_is_not_open_at_two_looks_running_is_in_doubt() -> None:
    order = ours()
    office = Office(working=[order])
    await office.auditor.compare_orders()
    assert office.doubts == {}
    office.show(order)
    await office.auditor.compare_orders()
    del office.desk.shown[order.client_order_id]
    await office.auditor.compare_orders()
    assert office.doubts == {}

    await office.auditor.compare_orders()

    assert office.doubts == {order.client_order_id: START_MS + 5_000}


async def test_an_intent_that_waits_for_the_disk_is_not_missed_at_the_venue() -> None:
    order = ours(status=OrderStatus.INTENDED)
    office = Office(working=[order])
    for _ in range(3):
        await office.auditor.compare_orders()
    office.keep("order", order.id, order)
    await office.auditor.compare_orders()
    assert office.doubts == {}

    await office.auditor.compare_orders()

    assert office.doubts == {order.client_order_id: START_MS + 5_000}


async def test_an_order_in_doubt_is_not_doubted_anew_and_one_being_sent_not_at_all() -> None:
    known, sending = ours(1), ours(2, status=OrderStatus.INTENDED)
    office = Office(working=[known, sending], carried={sending.client_order_id})
    office.doubts[known.client_order_id] = 7
    for _ in range(3):
        await office.auditor.compare_orders()

    assert office.doubts == {known.client_order_id: 7}


async def test_at_the_start_what_is_not_open_is_in_doubt_at_once_and_what_is_open_acknowledged() -> None:
    there, gone, fresh = ours(1, status=OrderStatus.INTENDED), ours(2), ours(3, status=OrderStatus.INTENDED)
    office = Office(working=[there, gone, fresh])
    office.show(there)
    before = frozenset({there.client_order_id, gone.client_order_id})
    for _ in range(2):
        await office.auditor.reconcile(before, patience=lambda: None)
        office.working = [msgspec.structs.replace(there, status=OrderStatus.OPEN), gone]

    assert office.doubts.keys() == {gone.client_order_id}
    assert office.box.heard == [f"{there.client_order_id} ack"]


async def test_the_start_waits_for_a_venue_that_does_not_answer(autojump_clock: MockClock) -> None:
    office = Office()
    office.desk.outage = OSError("unreachable")
    waits: list[float] = []

    def patience() -> None:
        waits.append(trio.current_time())
        if len(waits) == 4:
            office.desk.outage = None

    await office.auditor.reconcile(frozenset(), patience=patience)

    assert [round(after - before) for before, after in pairwise(waits)] == [5, 5, 5, 0, 0]


async def test_an_order_proven_absent_that_works_after_all_is_adopted_by_its_strategy() -> None:
    order = ours(status=OrderStatus.ABSENT)
    office = Office()
    office.keep("order", order.id, order)
    office.show(order)
    await office.auditor.compare_orders()

    assert office.box.heard == [f"{order.client_order_id} ack!"]
    assert office.desk.calls == []


@pytest.mark.parametrize("status", [OrderStatus.CANCELLED, OrderStatus.EXPIRED, OrderStatus.FILLED])
async def test_an_order_that_has_ended_for_us_and_stays_open_is_cancelled(status: OrderStatus) -> None:
    order = ours(status=status)
    office = Office()
    office.keep("order", order.id, order)
    office.show(order)
    await office.auditor.compare_orders()
    assert office.desk.calls == []

    await office.auditor.compare_orders()

    assert office.desk.calls == [f"-{order.client_order_id}"]


@pytest.mark.parametrize("status", [OrderStatus.ABSENT, OrderStatus.OPEN])
async def test_an_open_order_of_a_strategy_that_does_not_run_is_cancelled(status: OrderStatus) -> None:
    order = ours(status=status)
    office = Office(employed=False)
    office.keep("order", order.id, order)
    office.show(order)
    await office.auditor.compare_orders()
    await office.auditor.compare_orders()

    assert (office.desk.calls, office.box.letters) == ([f"-{order.client_order_id}"], [])


async def test_an_open_order_of_a_strategy_that_is_being_mended_is_left_alone() -> None:
    order = ours()
    office = Office()
    office.keep("order", order.id, order)
    office.show(order)
    for _ in range(3):
        await office.auditor.compare_orders()

    assert (office.desk.calls, office.box.letters, office.strays) == ([], [], [])


async def test_an_order_that_is_not_ours_is_put_aside_untouched_until_it_is_gone(logged: list[Any]) -> None:
    alien, forgotten = make_order(7, client_order_id="web_1"), ours(8)
    office = Office()
    office.show(alien, filled="0.2")
    office.show(forgotten)
    for _ in range(3):
        await office.auditor.compare_orders()

    assert office.strays == ["web_1", forgotten.client_order_id]
    assert (office.bucket.found["web_1"].kind, office.bucket.found["web_1"].quantity) == (
        StrayKind.ORDER,
        Decimal("0.2"),
    )
    assert (office.desk.calls, office.box.letters) == ([], [])
    assert len([entry for entry in logged if entry["event"] == "stray.found"]) == 2

    del office.desk.shown["web_1"]
    await office.auditor.compare_orders()
    assert office.strays == [forgotten.client_order_id]
    assert office.notebook.states["stray", "web_1"] == "settled"


async def test_an_order_that_stays_although_it_was_to_be_cancelled_is_told_at_each_look_but_the_first() -> None:
    order = ours(cancelling=True)
    office = Office(working=[order])
    office.show(order)
    for _ in range(3):
        await office.auditor.compare_orders()
    assert office.box.heard == [f"{order.client_order_id} stays"] * 2

    office.carried.add(order.client_order_id)
    await office.auditor.compare_orders()
    assert len(office.box.heard) == 2


async def test_fills_that_only_the_order_shows_put_it_in_doubt() -> None:
    order = ours(filled=Decimal("0.4"))
    office = Office(working=[order], can={"fills_since": False})
    office.show(order, OrderFact.FILL, filled="0.4")
    await office.auditor.compare_orders()
    await office.auditor.compare_orders()
    office.show(order, OrderFact.FILL, filled="0.6")
    await office.auditor.compare_orders()
    assert office.doubts == {}

    await office.auditor.compare_orders()

    assert office.doubts.keys() == {order.client_order_id}


@pytest.mark.parametrize("lists_fills", [True, False])
async def test_an_end_on_the_stream_has_the_order_read_where_no_list_of_fills_is(lists_fills: bool) -> None:
    order = ours(status=OrderStatus.CANCELLED)
    office = Office(can={"fills_since": lists_fills})
    office.keep("order", order.id, order)
    office.auditor.ended(order.client_order_id)
    await office.auditor.compare_orders()

    assert bool(office.doubts) is not lists_fills


# Fills.


async def test_a_fill_that_the_journal_has_at_neither_of_two_looks_is_delivered_once() -> None:
    order = ours()
    fill = make_fill(order, id="f1")
    office = Office()
    office.auditor._urgent = False
    office.desk.happened = [fill]
    await office.auditor.compare_fills()
    assert office.box.letters == []
    await office.auditor.compare_fills()
    assert office.box.heard == [f"{order.client_order_id} fill! 1"]

    office.keep("fill", "f1")
    for _ in range(4):
        await office.auditor.compare_fills()
    assert len(office.box.letters) == 1


async def test_after_an_interruption_a_fill_is_delivered_at_the_first_look() -> None:
    order = ours()
    office = Office()
    office.desk.happened = [make_fill(order, id="f1"), make_fill(order, id="f2")]
    office.keep("fill", "f1")
    await office.auditor.compare_fills()

    assert len(office.box.letters) == 1


async def test_what_a_strategy_has_no_time_for_is_not_sent_over_and_over() -> None:
    office = Office()
    office.desk.happened = [make_fill(ours(), id="f1")]
    for _ in range(33):
        await office.auditor.compare_fills()

    assert len(office.box.letters) == 6  # At looks 1, 2, 4, 8, 16 and 32.


async def test_a_fill_that_nobody_booked_yet_is_found_again_by_the_next_life() -> None:
    office = Office()
    await office.auditor.compare_fills()
    fill = make_fill(ours(), id="f1", time_ms=office.quotes.now_ms + 1_000)
    office.quotes.now_ms += 5_000
    office.desk.happened = [fill]
    for _ in range(40):
        # Its strategy does not get to it: it is being mended, or its mailbox is full.
        await office.auditor.compare_fills()
        office.quotes.now_ms += 10_000

    again = Office(notebook=office.notebook, quotes=office.quotes)
    again.desk.happened = [fill]
    await again.auditor.load()
    await again.auditor.compare_fills()
    await again.auditor.compare_fills()
    assert again.desk.asked_since[0] <= fill.time_ms
    assert len(again.box.letters) >= 1


async def test_fills_are_compared_from_where_they_were_compared_last_with_a_margin() -> None:
    office = Office()
    await office.auditor.load()
    await office.auditor.compare_fills()
    office.quotes.now_ms = START_MS + 400_000
    await office.auditor.compare_fills()
    await office.auditor.compare_fills()
    again = Office(notebook=office.notebook)
    again.quotes.now_ms = START_MS + 900_000
    await again.auditor.load()
    await again.auditor.compare_fills()

    assert office.desk.asked_since == [START_MS - 60_000, START_MS - 60_000, START_MS + 340_000]
    assert again.desk.asked_since == [START_MS + 340_000]
    assert office.notebook.commits == 3


async def test_a_silent_venue_moves_no_mark() -> None:
    office = Office()
    await office.auditor.load()
    await office.auditor.compare_fills()
    office.desk.outage = OSError("unreachable")
    office.quotes.now_ms = START_MS + 400_000
    with pytest.raises(OSError, match="unreachable"):
        await office.auditor.compare_fills()
    office.desk.outage = None
    await office.auditor.compare_fills()

    assert office.desk.asked_since == [START_MS - 60_000] * 2


async def test_more_fills_than_can_be_looked_into_wait_for_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditor_module, "FILLS_MISSING_MAX", 2)
    office = Office()
    office.desk.happened = [make_fill(ours(number), id=f"f{number}") for number in range(5)]
    for _ in range(7):
        await office.auditor.compare_fills()
        for letter in office.box.letters:
            assert isinstance(letter, Execution)
            assert letter.fill is not None
            office.keep("fill", letter.fill.id)

    assert {word.split()[0] for word in office.box.heard} == {ours(number).client_order_id for number in range(5)}


async def test_a_fill_that_is_nobodys_is_kept_once_and_let_go_when_its_owner_shows() -> None:
    office = Office()
    alien = make_fill(make_order(7, client_order_id="web_1"), id="t1")
    office.desk.happened = [alien]
    for _ in range(20):
        await office.auditor.compare_fills()
    assert (office.strays, office.bucket.total) == (["t1"], 1)

    early = make_fill(make_order(9, client_order_id="autoclose-pos_9"), id="t2")
    office.desk.happened.append(early)
    await office.auditor.compare_fills()
    await office.auditor.compare_fills()
    assert office.strays == ["t1", "t2"]
    office.keep("fill", "t2")
    await office.auditor.compare_fills()
    assert office.strays == ["t1"]


async def test_what_its_strategy_gave_up_is_not_offered_to_it_again() -> None:
    office = Office()
    fill = make_fill(ours(), id="f1")
    office.desk.happened = [fill]
    office.bucket.take(stray_fill(fill, fill.quantity, "paper", "it cannot be", strategy_id=STRATEGY_ID))
    await office.auditor.compare_fills()
    await office.auditor.compare_fills()

    assert office.box.letters == []
