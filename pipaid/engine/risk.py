"""The one gate in front of the wire: an intent becomes Approved or Refused, and only here."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

from attrs import frozen

from pipaid.engine.book import Book as Book
from pipaid.engine.book import Caps as Caps
from pipaid.engine.book import StrategyExposure as StrategyExposure
from pipaid.engine.book import SymbolExposure
from pipaid.model.instrument import Instrument
from pipaid.model.money import ZERO, plain
from pipaid.model.order import Order, OrderType, Side
from pipaid.model.position import Direction, Position

MINUTE_MS: Final = 60_000
SECOND_MS: Final = 1_000


class Refused(NamedTuple):
    """Risk's no: which rule, what it allows, what was asked."""

    rule: str
    limit: str
    value: str


_MINT: Final = object()


class Approved:
    """Risk's yes for one order; only `review` can make one, and the gateway takes nothing else."""

    __slots__ = ("order",)

    def __init__(self, order: Order, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("only risk.review approves orders")
        self.order = order


@frozen(kw_only=True)
class StrategyLimits:
    """The caps of one strategy: those of its params, and the ceiling capital x leverage."""

    ceiling: Decimal
    position_notional_max: Decimal | None = None
    open_positions_max: int | None = None
    trades_per_day_max: int | None = None
    daily_loss_max: Decimal | None = None
    drawdown_pct_max: Decimal | None = None
    cooldown_ms: int = 0
    orders_per_minute_max: int | None = None


@frozen(kw_only=True)
class Situation:
    """All that the gate looks at besides the order: the strategy's own figures at this moment of venue time."""

    now_ms: int
    day: int
    may_enter: str
    stale: bool
    last_price: Decimal
    limits: StrategyLimits
    room: Decimal
    equity_drawdown_pct: Decimal
    trades_today: int
    pnl_today: Decimal
    cooldown_until_ms: int
    orders_last_minute: int


def exposure_of(
    positions: Sequence[Position], entries: Sequence[tuple[Order, Decimal]], *, orders: int
) -> StrategyExposure:
    """Sum lots at their entry value and working entries at their reserve price; `orders` is how many orders work."""
    held = {position.id for position in positions}
    symbols: dict[str, SymbolExposure] = {}
    for position in positions:
        seen = symbols.get(position.symbol, SymbolExposure())
        symbols[position.symbol] = seen.with_lot(position.direction)
    waiting = 0
    for order, _ in entries:
        if order.position_id not in held:
            waiting += 1
            seen = symbols.get(order.symbol, SymbolExposure())
            symbols[order.symbol] = seen.with_entry(direction_of(order))
    return StrategyExposure(
        positions=len(positions),
        position_value=sum((position.open_value for position in positions), ZERO),
        entries=waiting,
        entry_value=sum((order.remaining * price for order, price in entries), ZERO),
        orders=orders,
        symbols=symbols,
    )


def direction_of(entry: Order) -> Direction:
    """Return the direction of the lot that an entry opens."""
    return Direction.LONG if entry.side is Side.BUY else Direction.SHORT


def review(
    order: Order, *, reserve: Decimal, instrument: Instrument, situation: Situation, book: Book
) -> Approved | Refused:
    """Judge one order. Reducing orders pass everything but the venue's filters; entries pass every cap or none.

    A value that cannot be compared refuses: whatever is asked is `within`, never its negation.
    """
    market = order.type is OrderType.MARKET
    objection = instrument.objection(
        quantity=order.quantity, price=order.price, reduce_only=order.reduce_only, market=market or order.reduce_only
    )
    if objection is not None:
        return Refused("venue_filter", objection.partition(":")[0], objection)
    if order.reduce_only:
        return Approved(order, _MINT)
    if not within(order.quantity, instrument.market_quantity_max):
        # A lot must be one that a single market order can close.
        return Refused("venue_filter", plain(instrument.market_quantity_max), plain(order.quantity))
    notional = order.quantity * reserve
    refusal = (
        _standing(order, situation, book)
        or _strategy_caps(notional, situation, book.exposure(order.strategy_id))
        or _account_caps(order, notional, situation, book)
        or _symbol_caps(order, situation, book)
    )
    return refusal if refusal is not None else Approved(order, _MINT)


def within(value: Decimal | int, limit: Decimal | int) -> bool:
    """Tell whether a value is at most a limit; what is not a number is not."""
    try:
        return value <= limit
    except InvalidOperation:
        return False


def _standing(order: Order, situation: Situation, book: Book) -> Refused | None:
    if situation.may_enter:
        return Refused("status", "deployed", situation.may_enter)
    if book.blocked or book.tripped:
        return Refused("kill_switch", "off", book.blocked or book.tripped)
    if situation.stale or within(situation.last_price, ZERO) or not situation.last_price.is_finite():
        return Refused("stale_data", "fresh prices", order.symbol)
    if not situation.now_ms >= situation.cooldown_until_ms:
        return Refused("cooldown", str(situation.cooldown_until_ms), str(situation.now_ms))
    return None


def _strategy_caps(notional: Decimal, situation: Situation, own: StrategyExposure) -> Refused | None:
    """Judge by the strategy's own caps; whatever is open may be closed today, hence counts as a trade of the day."""
    limits = situation.limits
    return _first_over(
        ("allocation", situation.room, notional),
        ("exposure", limits.ceiling, own.total + notional),
        ("max_position_notional", limits.position_notional_max, notional),
        ("max_positions", limits.open_positions_max, own.count + 1),
        ("daily_limit", limits.trades_per_day_max, situation.trades_today + own.count + 1),
        ("daily_loss", limits.daily_loss_max, -situation.pnl_today),
        ("max_drawdown", limits.drawdown_pct_max, situation.equity_drawdown_pct),
        ("order_rate", limits.orders_per_minute_max, situation.orders_last_minute + 1),
    )


def _account_caps(order: Order, notional: Decimal, situation: Situation, book: Book) -> Refused | None:
    caps = book.caps
    today = book.day == situation.day
    refusal = _first_over(
        ("account_order_notional", caps.order_notional_max, notional),
        ("account_exposure", caps.exposure_max, book.value + notional),
        ("account_positions", caps.open_positions_max, book.positions + 1),
        ("account_orders", caps.open_orders_max, book.orders + 1),
        ("account_daily_loss", caps.daily_loss_max, -book.day_pnl if today else ZERO),
        ("account_leverage", caps.leverage_max, order.leverage),
        ("price_collar", caps.price_collar_pct, abs(order.price - situation.last_price) / situation.last_price),
        ("orders_per_day", caps.orders_per_day_max, (book.day_orders if today else 0) + 1),
    )
    return refusal or _account_rates(notional, situation.now_ms, book)


def _account_rates(notional: Decimal, now_ms: int, book: Book) -> Refused | None:
    caps, refusal = book.caps, None
    if caps.orders_per_second_max is not None:
        second, _ = book.rates.within(now_ms, SECOND_MS)
        refusal = _first_over(("orders_per_second", caps.orders_per_second_max, second + 1))
    if refusal is None and (caps.orders_per_minute_max, caps.notional_per_minute_max) != (None, None):
        minute, value = book.rates.within(now_ms, MINUTE_MS)
        refusal = _first_over(
            ("orders_per_minute", caps.orders_per_minute_max, minute + 1),
            ("notional_per_minute", caps.notional_per_minute_max, value + notional),
        )
    return refusal


def _symbol_caps(order: Order, situation: Situation, book: Book) -> Refused | None:
    """Judge by what the account holds and did on this symbol; a working entry may open a lot at any moment."""
    caps = book.caps
    here = book.symbol(order.symbol)
    against = here.against(direction_of(order))
    if not caps.hedging_allowed and against:
        return Refused("hedging", "one direction", f"{direction_of(order)} against {against} the other way")
    if caps.rate_limit_max_trades is None:
        return None
    opened = book.opened_within(order.symbol, situation.now_ms)
    return _first_over(("trade_rate", caps.trades_max, opened + here.waiting + 1))


def _first_over(*checks: tuple[str, Decimal | int | None, Decimal | int]) -> Refused | None:
    for rule, limit, value in checks:
        if limit is not None and not within(value, limit):
            return Refused(rule, _text(limit), _text(value))
    return None


def _text(value: Decimal | int) -> str:
    return plain(value) if isinstance(value, Decimal) else str(value)
