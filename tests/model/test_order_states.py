"""The order state table is closed: what it does not hold is an invariant broken."""

from __future__ import annotations

from itertools import product

import pytest

from pipaid.errors import InvariantBroken
from pipaid.model.order import ORDER_TRANSITIONS, PHASES, WORKING, OrderFact, OrderStatus, Side, follow, market_step
from tests.builders import make_order

EVERY_PAIR = set(product(OrderStatus, OrderFact))
ENDINGS = (OrderFact.CANCEL, OrderFact.EXPIRE, OrderFact.REFUSE, OrderFact.COMPLETE)


@pytest.mark.parametrize(("status", "fact"), sorted(EVERY_PAIR - set(ORDER_TRANSITIONS)))
def test_every_unlisted_fact_is_an_invariant_broken(status: OrderStatus, fact: OrderFact) -> None:
    with pytest.raises(InvariantBroken, match=f"an order that is {status} cannot {fact}"):
        follow(status, fact)


@pytest.mark.parametrize(("status", "fact"), sorted(ORDER_TRANSITIONS))
def test_every_listed_fact_leads_on(status: OrderStatus, fact: OrderFact) -> None:
    assert follow(status, fact) is ORDER_TRANSITIONS[status, fact]


@pytest.mark.parametrize("status", [OrderStatus.INTENDED, OrderStatus.UNKNOWN])
@pytest.mark.parametrize("fact", OrderFact)
def test_anything_may_be_learned_of_an_order_of_which_nothing_is_known(status: OrderStatus, fact: OrderFact) -> None:
    assert follow(status, fact) in OrderStatus


def test_an_open_order_cannot_be_refused_any_more() -> None:
    with pytest.raises(InvariantBroken):
        follow(OrderStatus.OPEN, OrderFact.REFUSE)


def test_an_open_order_of_which_the_venue_knows_nothing_any_more_has_ended() -> None:
    assert follow(OrderStatus.OPEN, OrderFact.DENY) is OrderStatus.CANCELLED


def test_an_answer_lost_after_a_fill_leaves_the_order_open() -> None:
    assert follow(follow(OrderStatus.INTENDED, OrderFact.FILL), OrderFact.LOSE) is OrderStatus.OPEN


@pytest.mark.parametrize("status", [OrderStatus.CANCELLED, OrderStatus.EXPIRED])
def test_late_fills_do_not_wake_an_ended_order(status: OrderStatus) -> None:
    assert follow(status, OrderFact.FILL) is status
    assert follow(status, OrderFact.COMPLETE) is OrderStatus.FILLED


@pytest.mark.parametrize("fact", [OrderFact.ACK, OrderFact.FILL])
def test_an_absent_order_that_appears_is_adopted(fact: OrderFact) -> None:
    assert follow(OrderStatus.ABSENT, fact) is OrderStatus.OPEN


@pytest.mark.parametrize("fact", OrderFact)
def test_a_filled_order_takes_nothing_but_its_acknowledgement(fact: OrderFact) -> None:
    if fact is OrderFact.ACK:
        assert follow(OrderStatus.FILLED, fact) is OrderStatus.FILLED
    else:
        with pytest.raises(InvariantBroken):
            follow(OrderStatus.FILLED, fact)


@pytest.mark.parametrize("status", OrderStatus)
def test_an_order_works_until_something_ended_it(status: OrderStatus) -> None:
    ended = {follow(OrderStatus.INTENDED, fact) for fact in (*ENDINGS, OrderFact.DENY)}

    assert make_order(status=status).working is (status in WORKING)
    assert (status in WORKING) is (status not in ended)


def test_the_sides_are_opposite() -> None:
    assert (Side.BUY.opposite, Side.SELL.opposite) == (Side.SELL, Side.BUY)
    assert (Side.BUY.sign, Side.SELL.sign) == (1, -1)


def test_a_candle_closes_before_the_next_one_opens() -> None:
    opened, ranged, closed = (market_step(60_000, phase) for phase in (0, 1, 2))

    assert closed < opened < ranged < market_step(60_001, 2)
    assert len({opened, ranged, closed}) == 3 < PHASES
