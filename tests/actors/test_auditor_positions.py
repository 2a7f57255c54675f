"""An auditor freezes what the books cannot explain, over restarts too, and looks by itself and after interruptions."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.auditor import LOOKS_MAX
from pipaid.errors import Unavailable
from pipaid.model.order import BookedFill, Execution, OrderFact, OrderStatus
from pipaid.model.position import Direction
from pipaid.model.record import Batch, Kind, Record
from pipaid.model.stray import Stray, stray_fill
from tests.actors.homes import at_home
from tests.actors.offices import Office
from tests.builders import (
    OTHER,
    START_MS,
    SYMBOL,
    enter,
    limit,
    make_fill,
    make_order,
    make_position,
    plan,
    scripted,
)

pytestmark = pytest.mark.usefixtures("logged")

# Positions.


async def test_what_differs_twice_is_frozen_until_it_agrees_again() -> None:
    short = make_position(2, direction=Direction.SHORT, entry_quantity=Decimal("0.4"))
    office = Office(lots=[make_position(1), short])
    auditor, quotes = office.auditor, office.quotes
    office.desk.held = {SYMBOL: Decimal("0.6")}
    await auditor.compare_positions()
    await auditor.compare_positions()
    assert auditor.frozen == frozenset()

    office.desk.held = {SYMBOL: Decimal("0.6"), OTHER: Decimal(-2)}
    await auditor.compare_positions()
    assert not quotes.is_frozen("paper", OTHER)
    await auditor.compare_positions()
    assert quotes.is_frozen("paper", OTHER)
    assert not quotes.is_frozen("paper", SYMBOL)
    assert not quotes.is_frozen("simulated", OTHER)
    assert auditor.amounts == {OTHER: Decimal(-2)}

    office.desk.held[OTHER] = Decimal(-1)
    await auditor.compare_positions()
    assert quotes.is_frozen("paper", OTHER)
    del office.desk.held[OTHER]
    await auditor.compare_positions()
    assert not quotes.is_frozen("paper", OTHER)


async def test_a_difference_that_moves_is_a_fill_on_its_way_for_so_long_and_no_longer() -> None:
    office = Office()
    for number in range(1, LOOKS_MAX):
        office.desk.held = {SYMBOL: Decimal(number)}
        await office.auditor.compare_positions()
    assert office.auditor.frozen == frozenset()

    # Somebody else trades on this account.
    office.desk.held = {SYMBOL: Decimal(LOOKS_MAX)}
    await office.auditor.compare_positions()
    assert office.auditor.frozen == {SYMBOL}

    office.desk.held = {}
    for number in range(1, 10):
        await office.auditor.compare_positions()
        office.desk.held = {SYMBOL: Decimal(number)} if number % 2 else {}
    assert office.auditor.frozen == frozenset()


async def test_nothing_is_entered_from_the_start_on_what_the_start_found_in_dispute() -> None:
    office = Office()
    office.desk.held = {SYMBOL: Decimal(1)}
    looks: list[None] = []

    await office.auditor.reconcile(frozenset(), patience=lambda: looks.append(None))

    assert office.auditor.frozen == {SYMBOL}
    assert len(looks) == 4
    assert ("desk", "paper") in office.notebook.rows


async def test_what_is_frozen_stays_so_over_a_restart() -> None:
    office = Office()
    office.desk.held = {SYMBOL: Decimal("0.3")}
    await office.auditor.compare_positions()
    await office.auditor.compare_positions()

    again = Office(notebook=office.notebook)
    assert not again.quotes.is_frozen("paper", SYMBOL)
    await again.auditor.load()
    assert again.quotes.is_frozen("paper", SYMBOL)
    assert again.auditor.amounts == {SYMBOL: Decimal("0.3")}
    await again.auditor.compare_positions()
    third = Office(notebook=office.notebook)
    await third.auditor.load()
    assert third.auditor.frozen == frozenset()


async def test_a_freeze_that_could_not_be_written_is_written_at_the_next_look() -> None:
    office = Office()
    office.desk.held = {SYMBOL: Decimal(1)}
    await office.auditor.compare_positions()
    office.notebook.broken = True
    with pytest.raises(Unavailable):
        await office.auditor.compare_positions()
    assert office.auditor.frozen == {SYMBOL}

    office.notebook.broken = False
    await office.auditor.compare_positions()
    assert ("desk", "paper") in office.notebook.rows


async def test_strays_are_settled_when_the_books_agree_about_their_symbol() -> None:
    office = Office()
    fill = make_fill(make_order(7, client_order_id="web_1"), id="t1")
    office.bucket.take(stray_fill(fill, Decimal(1), "paper", "nobody's"))
    await office.auditor.compare_positions()  # Which may have been asked before the stray was there.
    assert office.strays == ["t1"]
    office.desk.held = {SYMBOL: Decimal(1)}
    await office.auditor.compare_positions()
    assert office.strays == ["t1"]

    office.desk.held = {}
    await office.auditor.compare_positions()
    assert office.strays == []


# All the time.


async def test_everything_is_compared_by_itself_and_at_once_after_an_interruption(autojump_clock: MockClock) -> None:
    office = Office()
    asked = office.desk.asked
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        await nursery.start(office.auditor.run)
        await trio.sleep(61)
        for kind, every in (("orders", 5), ("fills", 10), ("positions", 30)):
            assert [round(at - started) for each, at in asked if each == kind] == list(range(every, 61, every))

        asked.clear()
        office.auditor.reconnected()
        await trio.sleep(1.9)
        assert [kind for kind, _ in asked] == ["fills", "orders", "positions"]

        # A storm of interruptions is no storm of questions.
        asked.clear()
        for _ in range(40):
            office.auditor.reconnected()
            await trio.sleep(0.5)
        assert 9 <= len([kind for kind, _ in asked if kind == "fills"]) <= 11
        nursery.cancel_scope.cancel()


async def test_a_difference_is_looked_at_again_soon_and_outages_are_survived(autojump_clock: MockClock) -> None:
    office = Office()
    office.desk.outage = OSError("unreachable")
    async with trio.open_nursery() as nursery:
        await nursery.start(office.auditor.run)
        await trio.sleep(100)
        office.desk.outage = None
        office.desk.held = {SYMBOL: Decimal(1)}
        await trio.sleep(22)
        assert office.auditor.frozen == frozenset()
        await trio.sleep(6)
        assert office.auditor.frozen == {SYMBOL}
        nursery.cancel_scope.cancel()


async def test_a_stray_has_the_positions_compared_soon(autojump_clock: MockClock) -> None:
    office = Office()
    async with trio.open_nursery() as nursery:
        await nursery.start(office.auditor.run)
        await trio.sleep(1)
        office.desk.held = {SYMBOL: Decimal(1)}
        fill = make_fill(make_order(7, client_order_id="web_1"), id="t1")
        office.bucket.take(stray_fill(fill, Decimal(1), "paper", "nobody's"))
        await trio.sleep(12)
        assert office.auditor.frozen == {SYMBOL}
        nursery.cancel_scope.cancel()


# The bucket.


async def test_the_bucket_outlives_a_restart_and_takes_each_thing_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    fill = make_fill(make_order(7, client_order_id="web_1"), id="t1")
    stray = stray_fill(fill, Decimal(1), "paper", "nobody's")
    async with at_home(tmp_path, scripted()) as home:
        home.bucket.take(stray)
        home.bucket.take(stray)
        await home.settle()
        assert home.bucket.total == 1

    async with at_home(tmp_path, scripted()) as home:
        assert home.bucket.found == {"t1": stray}
        home.bucket.settle([stray])
        await home.settle()

    async with at_home(tmp_path, scripted()) as home:
        assert home.bucket.found == {}
        assert home.stored("stray", Stray) == [stray]


async def test_the_bucket_has_a_bound_and_survives_a_full_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.unassigned.STRAYS_KEPT", 2)
    office = Office()
    strays = [
        stray_fill(make_fill(make_order(number), id=f"t{number}"), Decimal(1), "paper", "nobody's")
        for number in range(4)
    ]
    office.notebook.broken = True
    office.bucket.take(strays[0])
    assert office.bucket.total == 0

    office.notebook.broken = False
    for stray in strays:
        office.bucket.take(stray)
    assert (office.strays, office.bucket.total) == (["t2", "t3"], 4)
    assert len(office.notebook.rows) == 4


# Among strategies.


async def test_a_disputed_symbol_takes_no_entries_whatever_the_market_says_until_the_books_agree(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    template = scripted(on_candle=lambda view: [enter()] if not view.positions else [])
    async with at_home(tmp_path, template) as home:
        strategy = await home.deploy()
        alien = make_order(7, strategy_id="somebody else", symbol=SYMBOL)
        await home.venue.place(alien, expires_at_ms=0)
        await home.trade("100")
        await home.auditor.compare_positions()
        await home.auditor.compare_positions()

        await home.trade("100")
        await home.close()
        assert home.orders(strategy.id) == []
        assert home.told(strategy.id)[-1] == "risk_blocked"
        assert [stray.symbol for stray in home.stored("stray", Stray)] == [SYMBOL]

        home.venue.forget_lots([alien.position_id])
        await home.auditor.compare_positions()
        await home.settle()
        await home.close()
        assert len(home.orders(strategy.id)) == 1


async def test_lots_of_a_strategy_that_is_being_mended_are_still_ours(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    wishes = plan([enter()])

    def on_candle(view: Any) -> Any:
        if view.positions:
            raise ValueError("again and again")
        return wishes(view)

    async with at_home(tmp_path, scripted(on_candle=on_candle)) as home:
        await home.deploy()
        await home.close()
        await home.trade()
        await home.end_minute()
        await wait_all_tasks_blocked()
        assert [each for each in home.roster.employed() if not each.loaded]
        await home.auditor.compare_positions()
        await home.auditor.compare_positions()

        assert home.auditor.frozen == frozenset()


async def test_what_leaves_a_closed_lot_late_is_booked_frozen_and_halts_nobody(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([limit("100", stop_price=Decimal(90))]))) as home:
        strategy = await home.deploy()
        await home.close()
        await home.trade()
        (stop,) = home.orders(strategy.id)
        await home.trade("90")
        assert home.lots(strategy.id) == []
        expired = msgspec.structs.replace(stop, status=OrderStatus.EXPIRED, ended_at_ms=START_MS)
        row = Record("order", stop.id, Kind.PUT, msgspec.json.encode(expired), stop.strategy_id, "ended")
        await home.recorder.commit(Batch(records=[row]))
        late = make_fill(stop, id="late", quantity=Decimal("0.4"))
        for _ in range(2):
            home.venue._report(
                [Execution(client_order_id=stop.client_order_id, fact=OrderFact.FILL, time_ms=1, fill=late)]
            )
        await home.settle()

        assert home.member(strategy.id).failures.total == 0
        assert [each.unassigned for each in home.stored("fill", BookedFill) if each.fill.id == "late"] == [
            Decimal("0.4")
        ]
        assert home.bucket.found["late"].quantity == Decimal("-0.4")
