"""The one gate in front of the wire: an intent becomes Approved or Refused, and only here."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from decimal import ROUND_CEILING, Decimal, InvalidOperation
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
_SMALLEST: Final = Decimal("1e-12")


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
    frozen: bool = False
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
        position_value=sum((counted(position.open_value) for position in positions), ZERO),
        entries=waiting,
        entry_value=sum((counted(order.remaining * price) for order, price in entries), ZERO),
        orders=orders,
        symbols=symbols,
    )


def counted(value: Decimal) -> Decimal:
    """Return a value as exposures count it: rounded up to twelve decimals, so that adding and taking away is exact."""
    return value.quantize(_SMALLEST, ROUND_CEILING)


def likeness_of(entry: Order) -> Hashable:
    """Return what two entries have in common that ask for the same; at the market, the price is not asked for."""
    price = None if entry.type is OrderType.MARKET else entry.price
    return entry.strategy_id, entry.symbol, entry.side, entry.type, entry.quantity, price


def direction_of(entry: Order) -> Direction:
    """Return the direction of the lot that an entry opens."""
    return Direction.LONG if entry.side is Side.BUY else Direction.SHORT


class Gate(NamedTuple):
    """What one gate asks of an entry: the limit, which may be off, the value it sees, and its verdict."""

    rule: str
    limit: Decimal | int | str | None
    value: Decimal | int | str
    passed: bool

    @property
    def verdict(self) -> str:
        """Say `passed`, `refused` or `off`."""
        if self.limit is None:
            return "off"
        return "passed" if self.passed else "refused"

    def refusal(self) -> Refused:
        """Return the gate's no."""
        return Refused(self.rule, text_of(self.limit), text_of(self.value))


def review(
    order: Order, *, reserve: Decimal, instrument: Instrument, situation: Situation | None, book: Book
) -> Approved | Refused:
    """Judge one order. Reducing orders pass everything but the venue's filters; entries pass every gate or none.

    Only an entry needs a situation.
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
    assert situation is not None, "an entry is judged in its situation"
    for gate in gates(order, reserve=reserve, situation=situation, book=book):
        if not gate.passed:
            return gate.refusal()
    return Approved(order, _MINT)


def gates(order: Order, *, reserve: Decimal, situation: Situation, book: Book) -> Iterator[Gate]:
    """Yield every gate that an entry has to pass, in the order in which they are asked.

    A value that cannot be compared is refused: whatever is asked is `within`, never its negation.
    """
    notional = order.quantity * reserve
    yield from _standing(order, situation, book)
    yield from _strategy_caps(notional, situation, book.exposure(order.strategy_id))
    yield from _account_caps(order, notional, situation, book)
    yield from _symbol_caps(order, situation, book)


def within(value: Decimal | int, limit: Decimal | int) -> bool:
    """Tell whether a value is at most a limit; what is not a number is not."""
    try:
        return value <= limit
    except InvalidOperation:
        return False


def _standing(order: Order, situation: Situation, book: Book) -> Iterator[Gate]:
    blocked = book.blocked or book.tripped
    stale = situation.stale or within(situation.last_price, ZERO) or not situation.last_price.is_finite()
    disputed = order.symbol if situation.frozen else "agreed positions"
    cooled = situation.now_ms >= situation.cooldown_until_ms
    yield Gate("status", "deployed", situation.may_enter or "deployed", not situation.may_enter)
    yield Gate("kill_switch", "off", blocked or "off", not blocked)
    yield Gate("stale_data", "fresh prices", order.symbol if stale else "fresh prices", not stale)
    yield Gate("unassigned", "agreed positions", disputed, not situation.frozen)
    yield Gate("reduce_only", "off", "on" if book.caps.reduce_only else "off", not book.caps.reduce_only)
    yield Gate("cooldown", str(situation.cooldown_until_ms), str(situation.now_ms), cooled)


def _strategy_caps(notional: Decimal, situation: Situation, own: StrategyExposure) -> Iterator[Gate]:
    """Judge by the strategy's own caps; whatever is open may be closed today, hence counts as a trade of the day."""
    limits = situation.limits
    yield _cap("allocation", situation.room, notional)
    yield _cap("exposure", limits.ceiling, own.total + notional)
    yield _cap("max_position_notional", limits.position_notional_max, notional)
    yield _cap("max_positions", limits.open_positions_max, own.count + 1)
    yield _cap("daily_limit", limits.trades_per_day_max, situation.trades_today + own.count + 1)
    yield _cap("daily_loss", limits.daily_loss_max, -situation.pnl_today)
    yield _cap("max_drawdown", limits.drawdown_pct_max, situation.equity_drawdown_pct)
    yield _cap("order_rate", limits.orders_per_minute_max, situation.orders_last_minute + 1)


def _account_caps(order: Order, notional: Decimal, situation: Situation, book: Book) -> Iterator[Gate]:
    caps = book.caps
    today = book.day == situation.day
    yield _cap("account_order_notional", caps.order_notional_max, notional)
    yield _cap("account_exposure", caps.exposure_max, book.value + notional)
    yield _cap("account_positions", caps.open_positions_max, book.positions + 1)
    yield _cap("account_orders", caps.open_orders_max, book.orders + 1)
    yield _cap("account_daily_loss", caps.daily_loss_max, -book.day_pnl if today else ZERO)
    yield _cap("account_leverage", caps.leverage_max, order.leverage)
    away = abs(order.price - situation.last_price) / situation.last_price
    yield _cap("price_collar", caps.price_collar_pct, away)
    yield _cap("orders_per_day", caps.orders_per_day_max, (book.day_orders if today else 0) + 1)
    now_ms = situation.now_ms
    if caps.identical_orders_per_minute_max is not None:
        alike = book.rates.alike(now_ms, likeness_of(order))
        yield _cap("identical_orders", caps.identical_orders_per_minute_max, alike + 1)
    if caps.orders_per_second_max is not None:
        yield _cap("orders_per_second", caps.orders_per_second_max, book.rates.within(now_ms, SECOND_MS)[0] + 1)
    if (caps.orders_per_minute_max, caps.notional_per_minute_max) != (None, None):
        minute, value = book.rates.within(now_ms, MINUTE_MS)
        yield _cap("orders_per_minute", caps.orders_per_minute_max, minute + 1)
        yield _cap("notional_per_minute", caps.notional_per_minute_max, value + notional)


def _symbol_caps(order: Order, situation: Situation, book: Book) -> Iterator[Gate]:
    """Judge by what the account holds and did on this symbol; a working entry may open a lot at any moment."""
    caps = book.caps
    here = book.symbol(order.symbol)
    direction = direction_of(order)
    against = here.against(direction)
    if not caps.hedging_allowed:
        value = f"{direction} against {against} the other way"
        yield Gate("hedging", "one direction", value, not against)
    if caps.rate_limit_max_trades is not None:
        opened = book.opened_within(order.symbol, situation.now_ms)
        yield _cap("trade_rate", caps.trades_max, opened + here.waiting + 1)


def _cap(rule: str, limit: Decimal | int | None, value: Decimal | int) -> Gate:
    return Gate(rule, limit, value, limit is None or within(value, limit))


def text_of(value: Decimal | int | str | None) -> str:
    """Return a limit or a value in words."""
    if value is None:
        return "none"
    return plain(value) if isinstance(value, Decimal) and value.is_finite() else str(value)
