"""What a strategy has at risk and what its lots have gained, followed change by change."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipaid.engine.stakes import Gains, Stakes, exposure_of
from tests.builders import OTHER, SYMBOL, make_order, make_position

PRICE = Decimal(110)


def test_gains_follow_lots_that_open_change_and_close() -> None:
    gains, first, second = Gains(), make_position(1), make_position(2, fees=Decimal(1))
    gains.hold(first)
    gains.hold(second)

    assert gains.at(SYMBOL, PRICE) == sum(lot.unrealised(PRICE) + lot.pnl for lot in (first, second)) != 0
    assert gains.at(OTHER, PRICE) == 0

    half = msgspec.structs.replace(first, exit_quantity=Decimal("0.5"), exit_value=Decimal(60))
    gains.hold(half)
    assert gains.at(SYMBOL, PRICE) == sum(lot.unrealised(PRICE) + lot.pnl for lot in (half, second))

    gains.leave(half)
    assert gains.at(SYMBOL, PRICE) == second.unrealised(PRICE) + second.pnl
    gains.leave(second)
    assert gains.at(SYMBOL, PRICE) == 0


def test_without_a_price_lots_are_worth_what_they_cost() -> None:
    gains, lot = Gains(), make_position(1, fees=Decimal(1))
    gains.hold(lot)

    assert gains.at(SYMBOL, Decimal(0)) == lot.pnl == -1


def test_a_lot_that_came_and_went_unasked_leaves_nothing_behind() -> None:
    gains, lot = Gains(), make_position(1)
    gains.hold(lot)
    gains.leave(lot)

    assert not list(gains.symbols())


def test_an_entry_waits_until_its_lot_is_open_and_again_when_that_is_gone() -> None:
    stakes, entry = Stakes(), make_order(1)
    lot = make_position(1, id=entry.position_id)

    stakes.work(entry, entry.price)
    assert (stakes.exposure(1).entries, stakes.holds(SYMBOL)) == (1, False)
    stakes.hold(lot)
    assert (stakes.exposure(1).entries, stakes.exposure(1).positions, stakes.holds(SYMBOL)) == (0, 1, True)
    stakes.leave(lot)
    assert (stakes.exposure(1).entries, stakes.holds(SYMBOL)) == (1, False)
    stakes.end(entry)
    assert stakes.exposure(0) == exposure_of((), (), orders=0)
    assert stakes.bound[SYMBOL] == 0


def test_a_tag_is_alive_as_long_as_anything_bears_it() -> None:
    stakes, entry = Stakes(), make_order(1, tag="L3")
    lot = make_position(1, id=entry.position_id, tag="L3")

    stakes.work(entry, entry.price)
    stakes.hold(lot)
    stakes.end(entry)
    assert stakes.tagged(SYMBOL, "L3")
    assert not stakes.tagged(OTHER, "L3")
    stakes.leave(lot)
    assert not stakes.tagged(SYMBOL, "L3")
