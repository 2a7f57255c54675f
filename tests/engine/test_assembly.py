"""A session out of the journal: what it takes up, and what stands in for a template that was halted."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from pipaid.engine.assembly import Inert, Memory, Surroundings, assemble
from pipaid.engine.book import Book
from pipaid.engine.effects import Brain
from pipaid.engine.quotes import Quotes
from pipaid.engine.session import Session
from pipaid.engine.template import Exit, Template
from pipaid.errors import InvalidParameter
from pipaid.model.order import Side
from pipaid.model.strategy import Status, Strategy, Tally
from pipaid.signals.series import Series
from tests.builders import (
    OTHER,
    START_MS,
    SYMBOL,
    make_definition,
    make_instrument,
    make_order,
    make_position,
    make_run,
    make_strategy,
    scripted,
)

DAY = START_MS // 86_400_000


class Levels(msgspec.Struct, frozen=True):
    """A state with a decimal and a moment."""

    top: Decimal = Decimal(0)
    since_ms: int = 0


def put_together(
    strategy: Strategy | None = None,
    memory: Memory | None = None,
    *,
    template: type[Template] | None = None,
    book: Book | None = None,
) -> Session:
    strategy = strategy or make_strategy()
    definition = strategy.in_effect
    around = Surroundings(
        instruments={symbol: make_instrument(symbol) for symbol in definition.symbols},
        series={symbol: Series(symbol, definition.timeframe) for symbol in definition.symbols},
        quotes=Quotes(now_ms=START_MS),
        book=book or Book(),
    )
    return assemble(strategy, template or scripted(), memory or Memory(), around)


def test_a_fresh_session_holds_nothing() -> None:
    session = put_together()

    assert (session.orders, session.positions, session.brain) == ({}, {}, Brain())
    assert session.capital == {SYMBOL: Decimal(1000)}


def test_orders_and_positions_come_the_oldest_first() -> None:
    orders = tuple(make_order(number) for number in (3, 1, 2))
    positions = (
        make_position(3, opened_at_ms=START_MS + 1),
        make_position(2, opened_at_ms=START_MS),
        make_position(1, opened_at_ms=START_MS),
    )

    session = put_together(memory=Memory(orders=orders, positions=positions))

    assert list(session.orders) == ["pp0001", "pp0002", "pp0003"]
    assert list(session.positions) == ["pos_1", "pos_2", "pos_3"]


def test_the_run_says_how_much_and_the_definition_where_there_is_none() -> None:
    definition = make_definition(capital=Decimal(500), leverage=3, symbols=(SYMBOL, OTHER))
    deployed = make_strategy(definition, run=make_run(capital=Decimal(2000), leverage=2))

    running, never = put_together(deployed), put_together(make_strategy(definition, run=None))

    assert (running.capital, running.leverage, running.limits.ceiling) == (
        {SYMBOL: Decimal(1000), OTHER: Decimal(1000)},
        2,
        Decimal(4000),
    )
    assert (never.capital[SYMBOL], never.leverage, never.dry_run) == (Decimal(250), 3, True)


def test_the_state_of_a_template_comes_back_as_it_was() -> None:
    written = msgspec.json.decode(
        msgspec.json.encode(Brain(state={SYMBOL: Levels(Decimal("1.50"), START_MS)})), type=Brain
    )

    session = put_together(memory=Memory(brain=written), template=scripted(state_type=Levels))

    assert session.template.state == {SYMBOL: Levels(Decimal("1.50"), START_MS)}


def test_a_state_that_no_longer_fits_is_an_error_and_no_guess() -> None:
    brain = Brain(state={SYMBOL: {"top": "high"}})

    with pytest.raises(msgspec.ValidationError):
        put_together(memory=Memory(brain=brain), template=scripted(state_type=Levels))


def test_a_memory_survives_the_journal() -> None:
    brain = Brain(
        tally=Tally(trades=2, pnl=Decimal("-0.10")),
        run_pnl={SYMBOL: Decimal("1E-8")},
        exits={"pos_1": Exit(position_id="pos_1", price=Decimal("120.0"))},
        order_times_ms=(START_MS,),
        dry_run=False,
    )

    assert msgspec.json.decode(msgspec.json.encode(brain), type=Brain) == brain


def test_params_that_no_longer_fit_are_refused() -> None:
    strategy = make_strategy(make_definition(params={"unknown": 1}))

    with pytest.raises(InvalidParameter, match="unknown"):
        put_together(strategy)


def test_a_halted_strategy_needs_neither_good_params_nor_a_good_state() -> None:
    strategy = make_strategy(make_definition(params={"unknown": 1}), status=Status.ERROR)
    memory = Memory(brain=Brain(state={SYMBOL: {"top": "high"}}), positions=(make_position(),))

    session = put_together(strategy, memory, template=scripted(state_type=Levels))

    assert isinstance(session.template, Inert)
    assert list(session.positions) == ["pos_1"]


def test_the_book_learns_what_the_session_brings_along() -> None:
    book = Book()
    memory = Memory(
        brain=Brain(day=DAY, day_pnl=Decimal(-5), day_orders=2, tally=Tally(pnl=Decimal(-50))),
        orders=(make_order(2, placed_at_ms=START_MS - 1), make_order(3, reduce_only=True, side=Side.SELL)),
        positions=(make_position(1),),
    )

    for _ in range(2):
        put_together(memory=memory, book=book)

    assert (book.value, book.positions, book.orders) == (Decimal(200), 2, 2)
    assert (book.day_pnl, book.day_orders, book.pnl) == (Decimal(-5), 2, Decimal(0))
    assert (book.symbol(SYMBOL).longs, book.symbol(SYMBOL).waiting) == (2, 1)
    assert book.opened_within(SYMBOL, START_MS) == 1
    assert book.rates.within(START_MS, 1000) == (1, Decimal(100))


def test_a_session_with_nothing_at_risk_leaves_no_trace_in_the_book() -> None:
    book = Book()

    put_together(book=book)

    assert book.exposures == {}
