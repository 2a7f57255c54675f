"""The one gate in front of the wire: an intent becomes Approved or Refused, and only here."""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from typing import Final, NamedTuple

from attrs import define, field, frozen

from pipaid.model.instrument import Instrument
from pipaid.model.money import ZERO, plain
from pipaid.model.order import Order
from pipaid.model.position import Position

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
class Caps:
    """Limits of an account or of the whole daemon; nothing means no limit.

    Notional in quote currency, rates per venue time, `drawdown_pct_max` a share of the capital deployed.
    """

    order_notional_max: Decimal | None = None
    exposure_max: Decimal | None = None
    open_positions_max: int | None = None
    open_orders_max: int | None = None
    orders_per_second_max: int | None = None
    orders_per_minute_max: int | None = None
    notional_per_minute_max: Decimal | None = None
    daily_loss_max: Decimal | None = None
    drawdown_pct_max: Decimal | None = None
    price_collar_pct: Decimal | None = None
    leverage_max: int | None = None


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


@define
class StrategyExposure:
    """What one strategy has at risk now: open lots at entry value, working entries at their reserved price."""

    positions: int = 0
    position_value: Decimal = ZERO
    entries: int = 0
    entry_value: Decimal = ZERO

    @property
    def total(self) -> Decimal:
        """Return the worst case: every working entry filled."""
        return self.position_value + self.entry_value

    @property
    def count(self) -> int:
        """Return how many lots there would be if every working entry were filled."""
        return self.positions + self.entries


@define
class RateWindow:
    """Count orders and notional over the last minute of venue time; bounded by what the caps let through."""

    _entries: deque[tuple[int, Decimal]] = field(factory=lambda: deque[tuple[int, Decimal]](maxlen=100_000))

    def add(self, time_ms: int, notional: Decimal) -> None:
        """Note one order."""
        self._entries.append((time_ms, notional))

    def within(self, now_ms: int, span_ms: int) -> tuple[int, Decimal]:
        """Return how many orders, and how much notional, fall into the span that ends now."""
        entries = self._entries
        while entries and entries[0][0] <= now_ms - MINUTE_MS:
            entries.popleft()
        count, notional = 0, ZERO
        for time_ms, value in reversed(entries):
            if time_ms <= now_ms - span_ms:
                break
            count += 1
            notional += value
        return count, notional


@define
class Book:
    """The exposure of one account, kept in step by its sessions; caps over strategies are judged on it.

    `blocked` is the reason why no strategy of the account may enter (the kill switch), or empty; `tripped` says why
    the breaker closed by itself: realised losses since the last peak reached `drawdown_pct_max` of `capital`, which is
    what the account's running strategies were given.
    """

    caps: Caps = field(factory=Caps)
    blocked: str = ""
    tripped: str = ""
    capital: Decimal = ZERO
    pnl: Decimal = ZERO
    peak: Decimal = ZERO
    value: Decimal = ZERO
    positions: int = 0
    orders: int = 0
    day: int = 0
    day_pnl: Decimal = ZERO
    rates: RateWindow = field(factory=RateWindow)
    exposures: dict[str, StrategyExposure] = field(factory=dict)

    def exposure(self, strategy_id: str) -> StrategyExposure:
        """Return a strategy's own share, made on first use."""
        return self.exposures.setdefault(strategy_id, StrategyExposure())

    def set_exposure(self, strategy_id: str, new: StrategyExposure) -> None:
        """Replace a strategy's share and keep the sums."""
        old = self.exposures.get(strategy_id)
        if old is not None:
            self.value -= old.total
            self.positions -= old.count
        self.value += new.total
        self.positions += new.count
        self.exposures[strategy_id] = new

    def forget(self, strategy_id: str) -> None:
        """Drop a strategy that has nothing at risk any more, or is about to be rebuilt."""
        old = self.exposures.pop(strategy_id, None)
        if old is not None:
            self.value -= old.total
            self.positions -= old.count

    def note_pnl(self, day: int, pnl: Decimal) -> None:
        """Add a closed trade to the account's day."""
        if day != self.day:
            self.day, self.day_pnl = day, ZERO
        self.day_pnl += pnl
        self.pnl += pnl
        self.peak = max(self.peak, self.pnl)
        limit = self.caps.drawdown_pct_max
        fall = self.peak - self.pnl
        if limit is not None and self.capital > ZERO and not fall <= limit * self.capital and not self.tripped:
            self.tripped = f"portfolio drawdown {plain(fall)} is over {plain(limit)} of {plain(self.capital)}"

    def release(self) -> None:
        """Open the breaker again; the fall is counted anew from here."""
        self.tripped = ""
        self.peak = self.pnl


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
    tag_alive: bool = False


def exposure_of(positions: list[Position], entries: list[tuple[Order, Decimal]]) -> StrategyExposure:
    """Sum lots at their entry value and working entries at their reserve price."""
    held = {position.id for position in positions}
    return StrategyExposure(
        positions=len(positions),
        position_value=sum((p.quantity * p.entry_price for p in positions), ZERO),
        entries=sum(1 for order, _ in entries if order.position_id not in held),
        entry_value=sum((order.remaining * price for order, price in entries), ZERO),
    )


def review(
    order: Order, *, reserve: Decimal, instrument: Instrument, situation: Situation, book: Book
) -> Approved | Refused:
    """Judge one order. Reducing orders pass everything but the venue's filters; entries pass every cap or none.

    Comparisons are written so that a value that cannot be compared refuses: caps ask `value <= limit`, never its
    negation.
    """
    market = order.type.value == "market"
    objection = instrument.objection(
        quantity=order.quantity, price=order.price, reduce_only=order.reduce_only, market=market or order.reduce_only
    )
    if objection is not None:
        return Refused("venue_filter", objection.partition(":")[0], objection)
    if order.reduce_only:
        return Approved(order, _MINT)
    notional = order.quantity * reserve
    refusal = (
        _standing(order, situation, book)
        or _strategy_caps(notional, situation, book.exposure(order.strategy_id))
        or _account_caps(order, notional, situation, book)
    )
    return refusal if refusal is not None else Approved(order, _MINT)


def _standing(order: Order, situation: Situation, book: Book) -> Refused | None:
    if situation.may_enter:
        return Refused("status", "deployed", situation.may_enter)
    if book.blocked or book.tripped:
        return Refused("kill_switch", "off", book.blocked or book.tripped)
    if situation.stale or not situation.last_price > ZERO:
        return Refused("stale_data", "fresh prices", order.symbol)
    if not situation.now_ms >= situation.cooldown_until_ms:
        return Refused("cooldown", str(situation.cooldown_until_ms), str(situation.now_ms))
    return None


def _strategy_caps(notional: Decimal, situation: Situation, own: StrategyExposure) -> Refused | None:
    limits = situation.limits
    if not notional <= situation.room:
        return Refused("allocation", plain(situation.room), plain(notional))
    if not own.total + notional <= limits.ceiling:
        return Refused("exposure", plain(limits.ceiling), plain(own.total + notional))
    checks = (
        ("max_position_notional", limits.position_notional_max, notional),
        ("max_positions", limits.open_positions_max, own.count + 1),
        ("daily_limit", limits.trades_per_day_max, situation.trades_today + 1),
        ("daily_loss", limits.daily_loss_max, -situation.pnl_today),
        ("max_drawdown", limits.drawdown_pct_max, situation.equity_drawdown_pct),
        ("order_rate", limits.orders_per_minute_max, situation.orders_last_minute + 1),
    )
    return _first_over(checks)


def _account_caps(order: Order, notional: Decimal, situation: Situation, book: Book) -> Refused | None:
    caps = book.caps
    loss = -book.day_pnl if book.day == situation.day else ZERO
    checks: list[tuple[str, Decimal | int | None, Decimal | int]] = [
        ("account_order_notional", caps.order_notional_max, notional),
        ("account_exposure", caps.exposure_max, book.value + notional),
        ("account_positions", caps.open_positions_max, book.positions + 1),
        ("account_orders", caps.open_orders_max, book.orders + 1),
        ("account_daily_loss", caps.daily_loss_max, loss),
        ("account_leverage", caps.leverage_max, order.leverage),
    ]
    if caps.price_collar_pct is not None:
        checks.append(
            ("price_collar", caps.price_collar_pct, abs(order.price - situation.last_price) / situation.last_price)
        )
    if caps.orders_per_second_max is not None:
        checks.append(
            ("orders_per_second", caps.orders_per_second_max, book.rates.within(situation.now_ms, SECOND_MS)[0] + 1)
        )
    if caps.orders_per_minute_max is not None or caps.notional_per_minute_max is not None:
        count, value = book.rates.within(situation.now_ms, MINUTE_MS)
        checks.append(("orders_per_minute", caps.orders_per_minute_max, count + 1))
        checks.append(("notional_per_minute", caps.notional_per_minute_max, value + notional))
    return _first_over(checks)


def _first_over(
    checks: list[tuple[str, Decimal | int | None, Decimal | int]]
    | tuple[tuple[str, Decimal | int | None, Decimal | int], ...],
) -> Refused | None:
    for rule, limit, value in checks:
        if limit is not None and not value <= limit:
            return Refused(rule, _text(limit), _text(value))
    return None


def _text(value: Decimal | int) -> str:
    return plain(value) if isinstance(value, Decimal) else str(value)
