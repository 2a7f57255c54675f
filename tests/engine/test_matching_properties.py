"""Whatever is ordered and whatever the market does: prices, quantities, fees and restarts of the matching book."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from pipaid.engine.matching import MatchingBook, Report, Terms
from pipaid.model.candle import Candle, MarketTrade
from pipaid.model.instrument import Timeframe
from pipaid.model.money import BPS, ZERO
from pipaid.model.order import Execution, Fill, Order, OrderType, Side, TimeInForce, market_step
from pipaid.model.position import Direction, Position
from tests.engine.paper import INSTRUMENT, MINUTE_MS, START_MS, SYMBOL, Journal, fills_of, make_exit, make_order

TERMS = [Terms(), Terms(fill_ratio_max=Decimal("0.05")), Terms(maker_bps=Decimal("1.5"), taker_bps=Decimal("4.5"))]

prices = st.integers(900, 1100).map(lambda ticks: ticks * INSTRUMENT.tick_size)
quantities = st.integers(100, 2000).map(lambda lots: lots * INSTRUMENT.lot_size)
sides = st.sampled_from(list(Side))
entries = st.fixed_dictionaries(
    {
        "side": sides,
        "type": st.sampled_from([OrderType.MARKET, OrderType.LIMIT]),
        "time_in_force": st.sampled_from([TimeInForce.GTC, TimeInForce.GTC, TimeInForce.IOC]),
        "price": prices,
        "quantity": quantities,
        "leverage": st.sampled_from([1, 5, 20]),
        "placed_at_ms": st.integers(0, 3),
    }
)
exits = st.fixed_dictionaries(
    {
        "lot": st.integers(0, 5),
        "type": st.sampled_from(list(OrderType)),
        "price": prices,
        "quantity": quantities,
        "placed_at_ms": st.integers(0, 3),
    }
)
candles = st.tuples(prices, prices, prices, prices, st.integers(0, 50).map(Decimal))
actions = st.one_of(
    st.tuples(st.just("enter"), entries),
    st.tuples(st.just("exit"), exits),
    st.tuples(st.just("cancel"), st.integers(0, 10)),
    st.tuples(st.just("candle"), candles),
    st.tuples(st.just("candle"), candles),
    st.tuples(st.just("trade"), st.tuples(prices, quantities)),
    st.tuples(st.just("funding"), st.integers(-5, 5)),
)
streams = st.lists(actions, min_size=1, max_size=40)


@define
class Run:
    """Carry a stream of actions out, stopping the book and restoring it before those whose index is in `cuts`.

    With `kept`, each phase of a candle crashes after so many reports: the others are lost, the book is restored from
    the journal and the phase is gone through again.
    """

    terms: Terms
    cuts: frozenset[int] = frozenset()
    kept: int | None = None
    journal: Journal = field(factory=Journal)
    reports: list[Report] = field(factory=list[Report])
    windows: list[tuple[Decimal, Decimal, list[Fill]]] = field(factory=list[Any])
    now_ms: int = START_MS
    step: int = 0
    made: int = 0
    book: MatchingBook = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.book = MatchingBook({SYMBOL: INSTRUMENT}, self.terms)

    def carry_out(self, stream: list[tuple[str, Any]]) -> Run:
        for index, (kind, detail) in enumerate(stream):
            if index in self.cuts:
                self.book = self.restored(self.book)
            getattr(self, kind)(self.book, detail)
        return self

    def restored(self, book: MatchingBook) -> MatchingBook:
        fresh = MatchingBook({SYMBOL: INSTRUMENT}, self.terms)
        orders = msgspec.json.decode(msgspec.json.encode(self.journal.working()), type=list[Order])
        lots = msgspec.json.decode(msgspec.json.encode(list(self.journal.positions.values())), type=list[Position])
        assert fresh.restore(orders[::-1], lots[::-1], book.last_prices(), self.now_ms) == []
        return fresh

    def note(self, reports: list[Report]) -> list[Report]:
        self.journal.book(reports)
        self.reports.extend(reports)
        return reports

    def place(self, book: MatchingBook, order: Order) -> None:
        order = msgspec.structs.replace(
            order,
            market_step=self.step,
            placed_at_ms=START_MS + order.placed_at_ms,
            client_order_id=f"pp{self.made:04}",
        )
        if book.place(order) is None:
            self.journal.orders[order.client_order_id] = order

    def enter(self, book: MatchingBook, fields: dict[str, Any]) -> None:
        self.made += 1
        self.place(book, make_order(self.made, **fields))

    def exit(self, book: MatchingBook, fields: dict[str, Any]) -> None:
        self.made += 1
        lots = sorted(self.journal.positions)
        if lots:
            fields = dict(fields)
            lot = self.journal.positions[lots[fields.pop("lot") % len(lots)]]
            self.place(book, make_exit(self.made, int(lot.id[4:]), side=lot.direction.exit_side, **fields))

    def cancel(self, book: MatchingBook, number: int) -> None:
        self.note(book.cancel(f"pp{number:04}", self.now_ms))

    def candle(self, book: MatchingBook, row: tuple[Decimal, ...]) -> None:
        first, _, _, last, volume = row
        high, low = max(row[:4]), min(row[:4])
        candle = Candle(SYMBOL, Timeframe.M1, self.now_ms, first, high, low, last, volume)
        self.step = market_step(self.now_ms, 0)
        book = self.phase(book, lambda book: book.opened({SYMBOL: first}, self.now_ms), (first, first))
        self.step = market_step(self.now_ms, 1)
        self.book = self.phase(book, lambda book: book.ranged([candle], self.now_ms), (low, high))
        self.now_ms += MINUTE_MS
        self.step = market_step(self.now_ms, 2)

    def phase(
        self, book: MatchingBook, go: Callable[[MatchingBook], list[Report]], window: tuple[Decimal, Decimal]
    ) -> MatchingBook:
        before = book.last_prices()
        reports = go(book)
        if self.kept is not None:
            self.note(reports[: self.kept])
            book = MatchingBook({SYMBOL: INSTRUMENT}, self.terms)
            lots = self.journal.positions.values()
            self.note(book.restore(self.journal.working(), lots, before, self.now_ms))
            reports = go(book)
        self.windows.append((*window, fills_of(self.note(reports))))
        return book

    def trade(self, book: MatchingBook, print_: tuple[Decimal, Decimal]) -> None:
        before = book.last_prices().get(SYMBOL, print_[0])
        self.step = market_step(self.now_ms, 2)
        fills = fills_of(self.note(book.traded(MarketTrade(SYMBOL, self.now_ms, *print_))))
        self.windows.append((min(before, print_[0]), max(before, print_[0]), fills))
        self.now_ms += MINUTE_MS

    def funding(self, book: MatchingBook, rate: int) -> None:
        self.note(book.funding(SYMBOL, rate * BPS, Decimal(100), self.now_ms))


@given(stream=streams, terms=st.sampled_from(TERMS), data=st.data())
@settings(max_examples=400)
def test_a_restored_book_goes_on_as_one_that_never_stopped(
    stream: list[tuple[str, Any]], terms: Terms, data: st.DataObject
) -> None:
    cuts = data.draw(st.frozensets(st.integers(0, len(stream) - 1), min_size=1))

    assert Run(terms, cuts).carry_out(stream).reports == Run(terms).carry_out(stream).reports


@given(stream=streams, terms=st.sampled_from(TERMS), kept=st.integers(0, 4))
@settings(max_examples=400)
def test_a_crash_anywhere_in_a_phase_costs_nothing_and_doubles_nothing(
    stream: list[tuple[str, Any]], terms: Terms, kept: int
) -> None:
    whole, crashing = Run(terms).carry_out(stream).journal, Run(terms, kept=kept).carry_out(stream).journal

    assert crashing.fills == whole.fills
    assert crashing.orders == whole.orders
    assert crashing.positions == whole.positions


@given(stream=streams, terms=st.sampled_from(TERMS))
def test_nothing_is_filled_outside_the_prices_of_its_phase(stream: list[tuple[str, Any]], terms: Terms) -> None:
    run = Run(terms).carry_out(stream)

    # With no price known before, a limit that waits is filled at its own price: there is no window to hold it to.
    for low, high, fills in run.windows[1:]:
        assert all(low <= fill.price <= high for fill in fills)


@given(stream=streams, terms=st.sampled_from(TERMS))
def test_fees_are_exact_and_no_limit_is_filled_beyond_its_price(stream: list[tuple[str, Any]], terms: Terms) -> None:
    run = Run(terms).carry_out(stream)

    for fill in fills_of(run.reports):
        assert fill.fee == fill.quantity * fill.price * (terms.maker_bps if fill.maker else terms.taker_bps) * BPS
        order = run.journal.orders.get(fill.client_order_id)
        if order is not None and order.type in (OrderType.LIMIT, OrderType.TAKE_PROFIT):
            assert fill.side.sign * (order.price - fill.price) >= ZERO


@given(stream=streams, terms=st.sampled_from(TERMS))
def test_quantities_are_conserved_and_no_lot_turns_around(stream: list[tuple[str, Any]], terms: Terms) -> None:
    # The journal's ledger raises when an order is filled beyond its quantity or a lot is left by more than it holds.
    run = Run(terms)
    for action in stream:
        book = run.carry_out([action]).book

        signed: dict[str, Decimal] = defaultdict(Decimal)
        for lot in run.journal.positions.values():
            assert lot.quantity > ZERO
            signed[lot.symbol] += (1 if lot.direction is Direction.LONG else -1) * lot.quantity
        assert book.net() == signed
        traded = sum((fill.side.sign * fill.quantity for fill in fills_of(run.reports)), ZERO)
        assert traded == sum(signed.values(), ZERO)


@given(stream=streams, terms=st.sampled_from(TERMS))
def test_the_book_works_on_exactly_the_orders_that_the_journal_calls_working(
    stream: list[tuple[str, Any]], terms: Terms
) -> None:
    run = Run(terms).carry_out(stream)

    assert {working.order.client_order_id: working.filled for working in run.book.orders()} == {
        order.client_order_id: order.filled for order in run.journal.working()
    }
    assert all(isinstance(report, Execution) or report.amount != ZERO for report in run.reports)
