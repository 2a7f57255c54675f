"""Order matching of the simulated venue: prices in, fills out; one book serves one account.

A phase of the market matches in this order: market orders, then stops and liquidations, then take-profits, then limits;
among equals what the price meets first, then what was placed first. So a stop goes before a target that the same candle
touches. Nothing depends on the order in which orders arrived, only on what they say: a book restored from the journal
goes on exactly as one that never stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final

import msgspec
from attrs import define, field

from pipaid.engine.levels import NEVER, Level
from pipaid.engine.standing import (
    RANK_STOP,
    Lot,
    SymbolBook,
    Working,
    ended,
    executed,
    lay_ahead,
    liquidation_price,
    lot_objection,
    lot_of,
    new_lot,
    seniority,
)
from pipaid.model.candle import Candle, MarketTrade
from pipaid.model.instrument import Instrument
from pipaid.model.money import BPS, ONE, ZERO, floor_to_step, plain, price_on_tick
from pipaid.model.order import (
    Execution,
    Fill,
    FundingPaid,
    Order,
    OrderFact,
    OrderType,
    Side,
    TimeInForce,
    market_step,
)
from pipaid.model.position import Position

ORDERS_MAX: Final = 200_000
AUTO_CLOSE: Final = "autoclose-"
LOT_GONE: Final = "its lot is gone"

OPENED: Final = 0
RANGED: Final = 1
TRADED: Final = 2

Report = Execution | FundingPaid


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What trading costs.

    Slippage is added to market orders. `fill_ratio_max` is the share of a candle's or trade's volume that one waiting
    limit or take-profit may take from it (at least one lot), zero for no limit; what takes liquidity is filled whole.
    """

    maker_bps: Decimal = Decimal(2)
    taker_bps: Decimal = Decimal(5)
    slippage_bps: Decimal = ZERO
    fill_ratio_max: Decimal = ZERO


@define(eq=False)
class _Phase:
    """One step of the market on one symbol, and what it led to.

    `share` is how much of the volume one order may take, nothing for any amount; `resting` whether limits and
    take-profits are matched at all.
    """

    kind: int
    step: int
    time_ms: int
    first: Decimal
    low: Decimal
    high: Decimal
    reports: list[Report]
    share: Decimal | None = None
    resting: bool = True


class _Portion(msgspec.Struct, frozen=True):
    """What one order is about to get."""

    quantity: Decimal
    price: Decimal
    maker: bool


@define(eq=False)
class MatchingBook:
    """Match one account's orders against what the market does.

    Prices: a market order gets the next first price (of a candle or a market trade) plus slippage. In a candle, stops,
    take-profits and limits are filled at their own price once low or high reaches it, and at the open if that is
    already beyond. A market trade fills a limit or take-profit that waited for it at its own price, and everything
    else at the price of the trade. A lot is liquidated like a stop where its margin is used up down to the maintenance
    margin; whatever still names a lot expires when the lot is gone.
    """

    instruments: Mapping[str, Instrument]
    terms: Terms = field(factory=Terms)
    _books: dict[str, SymbolBook] = field(factory=dict[str, SymbolBook])
    _working: dict[str, Working] = field(factory=dict[str, Working])
    _by_lot: dict[str, dict[str, Working]] = field(factory=dict[str, dict[str, Working]])

    # Orders.

    def place(self, order: Order) -> str | None:
        """Accept an order, or return why not; a known client order id changes nothing."""
        if order.client_order_id in self._working:
            return None
        book = self._book_of(order.symbol)
        if book is None:
            return f"UNKNOWN_SYMBOL: {order.symbol} is not listed"
        if len(self._working) >= ORDERS_MAX:
            return f"MAX_NUM_ORDERS: {ORDERS_MAX} orders are working"
        objection = book.instrument.objection(
            quantity=order.quantity,
            price=order.price,
            reduce_only=order.reduce_only,
            market=order.type is OrderType.MARKET or order.reduce_only,
        )
        objection = objection or lot_objection(order, book.lots.get(order.position_id))
        if objection is None:
            self._accept(book, Working(order, order.filled, order.market_step))
        return objection

    def cancel(self, client_order_id: str, time_ms: int) -> list[Report]:
        """Withdraw an order; nothing comes back if it is not working."""
        working = self._working.get(client_order_id)
        if working is None:
            return []
        self._forget(working)
        return [ended(working, OrderFact.CANCEL, time_ms, "")]

    def working(self, client_order_id: str) -> Working | None:
        """Return a working order, or nothing."""
        return self._working.get(client_order_id)

    def orders(self) -> Iterator[Working]:
        """Go through the working orders."""
        return iter(self._working.values())

    def net(self) -> dict[str, Decimal]:
        """Return the signed net position of each symbol that has any lot."""
        return {
            symbol: sum((lot.side.sign * lot.quantity for lot in book.lots.values()), ZERO)
            for symbol, book in self._books.items()
            if book.lots
        }

    def last_prices(self) -> dict[str, Decimal]:
        """Return the last price of each symbol, as `restore` wants it."""
        return {symbol: book.last for symbol, book in self._books.items() if book.last is not None}

    def note_last(self, symbol: str, price: Decimal) -> None:
        """Take note of the last price where the market was leapt over, for it touched nothing."""
        book = self._book_of(symbol)
        if book is not None and price > ZERO:
            book.last = price

    def waits(self, symbol: str) -> bool:
        """Tell whether an order waits for the next price, whatever it is."""
        book = self._books.get(symbol)
        return book is not None and bool(book.waiting)

    def bounds(self, symbol: str) -> tuple[Decimal, Decimal]:
        """Return the prices between which nothing of a symbol is touched; zero and infinity without any level."""
        book = self._books.get(symbol)
        return (ZERO, NEVER) if book is None else (book.levels.below, book.levels.above)

    def restore(
        self, orders: Iterable[Order], positions: Iterable[Position], prices: Mapping[str, Decimal], time_ms: int
    ) -> list[Report]:
        """Take back working orders and open lots as the journal knows them, and the last prices.

        Return the ends of those orders whose lot was gone before they could be told of it.
        """
        for position in positions:
            book = self._book_of(position.symbol)
            if book is not None and position.is_open and position.quantity > ZERO:
                lot = book.lots[position.id] = lot_of(position)
                self._watch_margin(book, lot)
        for symbol, price in prices.items():
            book = self._book_of(symbol)
            if book is not None:
                book.last = price
        reports: list[Report] = []
        for order in sorted(orders, key=seniority):
            working = Working(order, order.filled, order.market_step)
            book = self._book_of(order.symbol)
            if book is None:
                reports.append(ended(working, OrderFact.EXPIRE, time_ms, "the symbol is not listed"))
            elif (order.reduce_only or order.filled) and order.position_id not in book.lots:
                reports.append(ended(working, OrderFact.EXPIRE, time_ms, LOT_GONE))
            elif order.filled and order.time_in_force is TimeInForce.IOC:
                reports.append(ended(working, OrderFact.EXPIRE, time_ms, "nothing more to take at once"))
            else:
                self._accept(book, working)
        return reports

    # The market.

    def forget_lots(self, ids: Iterable[str]) -> None:
        """Drop lots that their owner gave up, with the orders that name them: a paper strategy was deleted."""
        wanted = frozenset(ids)
        for book in self._books.values():
            for lot in [lot for lot in book.lots.values() if lot.id in wanted]:
                del book.lots[lot.id]
                if lot.level is not None:
                    book.levels.drop(lot.level)
                for working in list(self._by_lot.get(lot.id, {}).values()):
                    self._forget(working)

    def opened(self, prices: Mapping[str, Decimal], time_ms: int) -> list[Report]:
        """Match against the first prices of candles."""
        reports: list[Report] = []
        step = market_step(time_ms, OPENED)
        resting = not self.terms.fill_ratio_max  # A candle's volume is not known at its opening.
        for symbol, price in prices.items():
            book = self._book_of(symbol)
            if book is not None:
                if book.waiting or not book.levels.below < price < book.levels.above:
                    self._match(book, _Phase(OPENED, step, time_ms, price, price, price, reports, None, resting))
                book.last = price
        return reports

    def ranged(self, candles: Iterable[Candle], time_ms: int) -> list[Report]:
        """Match what rests against the highs and lows of candles."""
        reports: list[Report] = []
        step = market_step(time_ms, RANGED)
        for candle in candles:
            book = self._book_of(candle.symbol)
            if book is not None:
                low, high = candle.low, candle.high
                if book.waiting or not (book.levels.below < low and high < book.levels.above):
                    share = self._share(candle.volume, book.instrument)
                    self._match(book, _Phase(RANGED, step, time_ms, candle.open, low, high, reports, share))
                book.last = candle.close
        return reports

    def traded(self, trade: MarketTrade) -> list[Report]:
        """Match against a market trade."""
        price = trade.price
        book = self._books.get(trade.symbol) or self._book_of(trade.symbol)
        if book is None:
            return []
        reports: list[Report] = []
        if book.waiting or not book.levels.below < price < book.levels.above:
            step = market_step(trade.time_ms, TRADED)
            share = self._share(trade.quantity, book.instrument)
            self._match(book, _Phase(TRADED, step, trade.time_ms, price, price, price, reports, share))
        book.last = price
        return reports

    def funding(self, symbol: str, rate: Decimal, mark: Decimal, time_ms: int) -> list[Report]:
        """Settle funding on the lots that were open before this moment and have not settled it yet; longs pay."""
        book = self._books.get(symbol)
        lots = sorted(book.lots.values(), key=_seniority) if book is not None and rate else []
        reports: list[Report] = []
        for lot in lots:
            if lot.opened_at_ms < time_ms and lot.funded_at_ms < time_ms:
                lot.funded_at_ms = time_ms
                amount = -lot.side.sign * lot.quantity * mark * rate
                paid_id = f"{lot.id}-funding-{time_ms}"
                reports.append(
                    FundingPaid(id=paid_id, position_id=lot.id, symbol=symbol, amount=amount, time_ms=time_ms)
                )
        return reports

    # Matching.

    def _match(self, book: SymbolBook, phase: _Phase) -> None:
        due: list[tuple[int, Decimal, int, str, Level[Working | Lot]]] = []
        kept: list[Level[Working | Lot]] = []
        for level in book.levels.take(phase.low, phase.high):
            rank = level.item.rank
            kept.append(level)
            if level.item.step < phase.step and (phase.resting or rank == RANK_STOP):
                distance = abs(level.price - phase.first)
                # A candle meets what is nearest to its open first; a single price has come past the farthest first.
                due.append((rank, distance if phase.kind == RANGED else -distance, *level.item.seniority, level))
        if phase.kind != RANGED:
            self._match_market_orders(book, phase)
        for *_, level in sorted(due):
            if level.alive:
                self._meet(book, level, phase)
        for level in kept:
            if level.alive:
                book.levels.add(level)
        if phase.resting and book.waiting:
            self._expire_immediate(book, phase)

    def _match_market_orders(self, book: SymbolBook, phase: _Phase) -> None:
        for working in sorted(book.waiting.values(), key=_seniority):
            order = working.order
            # Whoever comes first may end the lot that the others name.
            alive = order.client_order_id in self._working
            if alive and order.type is OrderType.MARKET and working.step < phase.step:
                price = phase.first
                slip = self.terms.slippage_bps * BPS * order.side.sign
                if slip:
                    price = price_on_tick(price * (ONE + slip), book.instrument.tick_size, up=order.side is Side.BUY)
                self._fill(book, working, _Portion(working.remaining, price, False), phase)

    def _meet(self, book: SymbolBook, level: Level[Working | Lot], phase: _Phase) -> None:
        """Fill what waited for a level that was touched."""
        beyond = min(level.price, phase.first) if level.falling else max(level.price, phase.first)
        item = level.item
        if isinstance(item, Lot):
            self._liquidate(book, item, beyond, phase)
            return
        kind = item.order.type
        if kind is OrderType.STOP:
            self._fill(book, item, _Portion(item.remaining, beyond, False), phase)
            return
        ahead = lay_ahead(level, book.last)
        quantity = item.remaining if phase.share is None else min(item.remaining, phase.share)
        price = level.price if ahead and phase.kind == TRADED else beyond
        maker = kind is OrderType.LIMIT and (ahead or item.filled > ZERO)
        self._fill(book, item, _Portion(quantity, price, maker), phase)

    def _expire_immediate(self, book: SymbolBook, phase: _Phase) -> None:
        for working in sorted(book.waiting.values(), key=_seniority):
            if working.order.type is not OrderType.MARKET and working.order.market_step < phase.step:
                self._forget(working)
                phase.reports.append(ended(working, OrderFact.EXPIRE, phase.time_ms, "nothing more to take at once"))

    def _fill(self, book: SymbolBook, working: Working, portion: _Portion, phase: _Phase) -> None:
        order = working.order
        lot = book.lots.get(order.position_id)
        quantity = portion.quantity
        if order.reduce_only:
            assert lot is not None, "what reduces a lot is gone when the lot is"
            quantity = min(quantity, lot.quantity)
        working.filled += quantity
        working.step = phase.step
        complete = working.filled == order.quantity
        if complete:
            self._forget(working)
        fill = Fill(
            id=f"{order.client_order_id}-{plain(working.filled)}",
            client_order_id=order.client_order_id,
            symbol=order.symbol,
            side=order.side,
            quantity=quantity,
            price=portion.price,
            fee=quantity * portion.price * (self.terms.maker_bps if portion.maker else self.terms.taker_bps) * BPS,
            fee_asset=book.instrument.quote,
            maker=portion.maker,
            time_ms=phase.time_ms,
            market_step=phase.step,
        )
        fact = OrderFact.COMPLETE if complete else OrderFact.FILL
        phase.reports.append(executed(fill, fact, order.position_id))
        if not order.reduce_only:
            self._enter(book, lot or new_lot(order, phase.time_ms), fill)
        elif lot is not None:
            lot.quantity -= quantity
            if not lot.quantity:
                self._end_lot(book, lot, phase)

    def _liquidate(self, book: SymbolBook, lot: Lot, price: Decimal, phase: _Phase) -> None:
        client_order_id = AUTO_CLOSE + lot.id
        fill = Fill(
            id=f"{client_order_id}-{plain(lot.quantity)}",
            client_order_id=client_order_id,
            symbol=book.instrument.symbol,
            side=lot.side.opposite,
            quantity=lot.quantity,
            price=price,
            fee=lot.quantity * price * self.terms.taker_bps * BPS,
            fee_asset=book.instrument.quote,
            maker=False,
            time_ms=phase.time_ms,
            market_step=phase.step,
            liquidation=True,
        )
        phase.reports.append(executed(fill, OrderFact.COMPLETE, lot.id))
        self._end_lot(book, lot, phase)

    # Bookkeeping.

    def _book_of(self, symbol: str) -> SymbolBook | None:
        book = self._books.get(symbol)
        if book is None:
            instrument = self.instruments.get(symbol)
            if instrument is None:
                return None
            book = self._books[symbol] = SymbolBook(instrument)
        return book

    def _accept(self, book: SymbolBook, working: Working) -> None:
        order = working.order
        self._working[order.client_order_id] = working
        self._by_lot.setdefault(order.position_id, {})[order.client_order_id] = working
        if order.type is OrderType.MARKET or order.time_in_force is TimeInForce.IOC:
            book.waiting[order.client_order_id] = working
        if order.type is not OrderType.MARKET:
            # Stops wait on the far side of the price, limits and take-profits on the near one.
            falling = (order.side is Side.BUY) != (order.type is OrderType.STOP)
            level: Level[Working | Lot] = Level(order.price, falling, working)
            working.level = level
            book.levels.add(level)

    def _forget(self, working: Working) -> None:
        order = working.order
        book = self._books[order.symbol]
        del self._working[order.client_order_id]
        book.waiting.pop(order.client_order_id, None)
        siblings = self._by_lot[order.position_id]
        del siblings[order.client_order_id]
        if not siblings:
            del self._by_lot[order.position_id]
        if working.level is not None:
            book.levels.drop(working.level)

    def _enter(self, book: SymbolBook, lot: Lot, fill: Fill) -> None:
        lot.quantity += fill.quantity
        lot.entry_quantity += fill.quantity
        lot.entry_value += fill.quantity * fill.price
        lot.step = fill.market_step
        book.lots[lot.id] = lot
        self._watch_margin(book, lot)

    def _watch_margin(self, book: SymbolBook, lot: Lot) -> None:
        price = liquidation_price(lot, book.instrument)
        if lot.level is not None:
            if lot.level.price == price:
                return
            book.levels.drop(lot.level)
        lot.level = None
        if price > ZERO:
            level: Level[Working | Lot] = Level(price, lot.side is Side.BUY, lot)
            lot.level = level
            book.levels.add(level)

    def _end_lot(self, book: SymbolBook, lot: Lot, phase: _Phase) -> None:
        del book.lots[lot.id]
        if lot.level is not None:
            book.levels.drop(lot.level)
        for working in sorted(self._by_lot.get(lot.id, {}).values(), key=_seniority):
            self._forget(working)
            phase.reports.append(ended(working, OrderFact.EXPIRE, phase.time_ms, LOT_GONE))

    def _share(self, volume: Decimal, instrument: Instrument) -> Decimal | None:
        ratio = self.terms.fill_ratio_max
        return max(floor_to_step(volume * ratio, instrument.lot_size), instrument.lot_size) if ratio else None


def _seniority(item: Working | Lot) -> tuple[int, str]:
    return item.seniority
