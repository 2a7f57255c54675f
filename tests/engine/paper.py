"""Build orders and candles, and keep the journal that a session would keep of a matching book's reports."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from attrs import define, field

from pipaid.engine import ledger
from pipaid.engine.matching import AUTO_CLOSE, MatchingBook, Report, Terms
from pipaid.model.candle import Candle, MarketTrade
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.model.money import plain
from pipaid.model.order import Execution, Fill, FundingPaid, Order, OrderFact, OrderStatus, OrderType, Side, follow
from pipaid.model.position import Direction, Position

SYMBOL = "BTCUSDT"
MINUTE_MS = 60_000
START_MS = 1_700_000_040_000
INSTRUMENT = Instrument(
    symbol=SYMBOL,
    base="BTC",
    quote="USDT",
    tick_size=Decimal("0.1"),
    lot_size=Decimal("0.001"),
    notional_min=Decimal(5),
)


def make_book(**terms: Decimal) -> MatchingBook:
    return MatchingBook({SYMBOL: INSTRUMENT}, Terms(**terms))


def make_order(number: int = 1, **fields: Any) -> Order:
    given: dict[str, Any] = {
        "id": f"ord_{number}",
        "client_order_id": f"pp{number:04}",
        "strategy_id": "strat_1",
        "account": "acc",
        "dry_run": True,
        "run_id": "run_1",
        "position_id": f"pos_{number}",
        "symbol": SYMBOL,
        "side": Side.BUY,
        "type": OrderType.MARKET,
        "quantity": Decimal(1),
        "price": Decimal(100),
        "reduce_only": False,
    }
    return Order(**{**given, **fields})


def make_exit(number: int, lot: int, **fields: Any) -> Order:
    return make_order(number, position_id=f"pos_{lot}", reduce_only=True, **{"side": Side.SELL, **fields})


def make_candle(index: int, prices: str, volume: str = "10") -> Candle:
    """Make a candle out of `open high low close`."""
    first, high, low, close = map(Decimal, prices.split())
    return Candle(SYMBOL, Timeframe.M1, START_MS + index * MINUTE_MS, first, high, low, close, Decimal(volume))


def make_trade(index: int, price: str, quantity: str = "10") -> MarketTrade:
    return MarketTrade(SYMBOL, START_MS + index * 1000, Decimal(price), Decimal(quantity))


def play(book: MatchingBook, candle: Candle) -> list[Report]:
    """Open a candle and let it run its course."""
    return opened(book, candle) + ranged(book, candle)


def opened(book: MatchingBook, candle: Candle) -> list[Report]:
    return book.opened({candle.symbol: candle.open}, candle.open_time_ms)


def ranged(book: MatchingBook, candle: Candle) -> list[Report]:
    return book.ranged([candle], candle.open_time_ms)


def fills_of(reports: list[Report]) -> list[Fill]:
    return [report.fill for report in reports if isinstance(report, Execution) and report.fill is not None]


def told(reports: list[Report]) -> list[str]:
    """Say in short what happened to which order."""
    return [
        f"{report.client_order_id} {report.fact}{_filled(report.fill)}"
        for report in reports
        if isinstance(report, Execution)
    ]


def _filled(fill: Fill | None) -> str:
    return "" if fill is None else f" {plain(fill.quantity)}@{plain(fill.price)}"


def holding(book: MatchingBook, **fields: Any) -> MatchingBook:
    """Give the book lot `pos_1`, entered at the first price of candle 0."""
    assert book.place(make_order(1, **fields)) is None
    candle = make_candle(0, "100 100 100 100")
    assert len(fills_of(opened(book, candle))) == 1
    ranged(book, candle)
    return book


@define
class Journal:
    """Book reports with the ledger that sessions use."""

    orders: dict[str, Order] = field(factory=dict[str, Order])
    positions: dict[str, Position] = field(factory=dict[str, Position])
    fills: dict[str, Fill] = field(factory=dict[str, Fill])

    def working(self) -> list[Order]:
        return [order for order in self.orders.values() if order.working]

    def book(self, reports: list[Report]) -> None:
        for report in reports:
            if isinstance(report, FundingPaid):
                lot = self.positions[report.position_id]
                self.positions[lot.id] = ledger.funded(lot, report.amount, report.time_ms)
            elif report.fill is not None:
                self._book_fill(report, report.fill)
            else:
                order = self.orders[report.client_order_id]
                self.orders[order.client_order_id] = msgspec.structs.replace(
                    order, status=follow(order.status, report.fact)
                )

    def _book_fill(self, report: Execution, fill: Fill) -> None:
        assert fill.id not in self.fills, "a fill is reported once"
        self.fills[fill.id] = fill
        if not fill.client_order_id.startswith(AUTO_CLOSE):
            order = self.orders[fill.client_order_id] = ledger.filled_order(self.orders[fill.client_order_id], fill)
            assert (order.status is OrderStatus.FILLED) == (report.fact is OrderFact.COMPLETE)
            if not order.reduce_only:
                lot = self.positions.get(order.position_id) or ledger.opened_position(order, fill.time_ms)
                self.positions[lot.id] = ledger.entered(lot, fill)
                return
        lot = ledger.left(self.positions[report.position_id], fill)
        assert lot.direction is (Direction.LONG if fill.side is Side.SELL else Direction.SHORT)
        if not lot.quantity:
            del self.positions[lot.id]
            return
        self.positions[lot.id] = lot
