"""The one gate in front of the wire: an intent becomes Approved or Refused, and only here."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from decimal import Decimal, InvalidOperation
from itertools import starmap
from typing import Final, NamedTuple

import msgspec
from attrs import field, frozen

from pipaid.engine.book import Book as Book
from pipaid.engine.book import Caps as Caps
from pipaid.engine.book import StrategyExposure as StrategyExposure
from pipaid.engine.guards import LossPause
from pipaid.engine.spending import Allowance
from pipaid.engine.stakes import direction_of
from pipaid.model.instrument import Instrument
from pipaid.model.moment import iso_seconds
from pipaid.model.money import ZERO, plain
from pipaid.model.order import Order, OrderType

FALLEN: Final = "max_drawdown"
COOLDOWN: Final = "cooldown"
CONSULTING: Final = "consulting"
LLM_BUDGET: Final = "llm_budget"
# What these see is said in words, the limit among them.
_IN_WORDS: Final = frozenset({CONSULTING, LLM_BUDGET})
MINUTE_MS: Final = 60_000
SECOND_MS: Final = 1_000
# How far any price is away from none.
_BEYOND: Final = Decimal("Infinity")


class Refused(NamedTuple):
    """Risk's no: which rule, what it allows, what was asked."""

    rule: str
    limit: str
    value: str

    @property
    def told(self) -> str:
        """Say it; a cooldown's numbers are moments."""
        if self.rule == COOLDOWN:
            return f"refused by {self.rule}: until {iso_seconds(int(self.limit))}"
        if self.rule in _IN_WORDS:
            return f"refused by {self.rule}: {self.value}"
        return f"refused by {self.rule}: {self.value} against {self.limit}"


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
    loss_pct_max: Decimal | None = None
    drawdown_pause_ms: int = 0
    pauses: tuple[LossPause, ...] = ()
    spending: Allowance = field(factory=Allowance)


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """All that the gate looks at besides the order: the strategy's own figures at this moment of venue time.

    `hour` is the local hour, if the strategy skips any.
    """

    now_ms: int
    day: int
    may_enter: str
    stale: bool
    frozen: bool = False
    last_price: Decimal
    limits: StrategyLimits
    skip_hours: tuple[int, ...] = ()
    hour: int | None = None
    room: Decimal
    equity_drawdown_pct: Decimal
    loss_pct: Decimal = ZERO
    trades_today: int
    pnl_today: Decimal
    cooldown_until_ms: int
    orders_last_minute: int


def likeness_of(entry: Order) -> Hashable:
    """Return what two entries have in common that ask for the same; at the market, the price is not asked for."""
    price = None if entry.type is OrderType.MARKET else entry.price
    return entry.strategy_id, entry.symbol, entry.side, entry.type, entry.quantity, price


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


# Rule, limit and value of a cap, which is off without a limit; and of any gate, with what it says.
_Cap = tuple[str, Decimal | int | None, Decimal | int]
Judged = tuple[str, Decimal | int | str | None, Decimal | int | str, bool]


def review(
    order: Order,
    *,
    reserve: Decimal,
    instrument: Instrument,
    situation: Situation | None,
    book: Book,
    judged: list[Judged] | None = None,
) -> Approved | Refused:
    """Judge one order. Reducing orders pass everything but the venue's filters; entries pass every gate or none.

    Only an entry needs a situation. What its gates said is noted in `judged`; once what forbids any entry has refused,
    the caps are not asked.
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
    for judge in (_standing, _capped):
        said = judge(order, reserve, situation, book)
        if judged is not None:
            judged.extend(said)
        for rule, limit, value, passed in said:
            if not passed:
                return Refused(rule, text_of(limit), text_of(value))
    return Approved(order, _MINT)


def gates(order: Order, *, reserve: Decimal, situation: Situation, book: Book) -> list[Gate]:
    """Return what every gate says of an entry, in the order in which they are asked."""
    judged = (*_standing(order, reserve, situation, book), *_capped(order, reserve, situation, book))
    return list(starmap(Gate, judged))


def within(value: Decimal | int, limit: Decimal | int) -> bool:
    """Tell whether a value is at most a limit; what is not a number is not."""
    try:
        return value <= limit
    except InvalidOperation:
        return False


def _standing(order: Order, _: Decimal, situation: Situation, book: Book) -> list[Judged]:
    """Judge by what forbids any entry at this moment."""
    blocked = book.blocked or book.tripped
    price, symbol = situation.last_price, order.symbol
    stale = situation.stale or not price.is_finite() or price <= ZERO
    closing, shut, in_doubt = book.caps.reduce_only, situation.may_enter, situation.frozen
    return [
        ("status", "deployed", shut or "deployed", not shut),
        ("kill_switch", "off", blocked or "off", not blocked),
        ("stale_data", "fresh prices", symbol if stale else "fresh prices", not stale),
        ("unassigned", "agreed positions", symbol if in_doubt else "agreed positions", not in_doubt),
        ("reduce_only", "off", "on" if closing else "off", not closing),
        (
            COOLDOWN,
            str(situation.cooldown_until_ms),
            str(situation.now_ms),
            situation.now_ms >= situation.cooldown_until_ms,
        ),
        _skipping(situation),
    ]


def _skipping(situation: Situation) -> Judged:
    skipped, hour = situation.skip_hours, situation.hour
    limit = f"not in {', '.join(f'{each:02}' for each in sorted(skipped))}" if skipped else None
    return "skip_hours", limit, "any" if hour is None else f"{hour:02}", hour not in skipped


def _capped(order: Order, reserve: Decimal, situation: Situation, book: Book) -> list[Judged]:
    """Judge by every cap. What cannot be compared is refused: it is `within` that counts, never its negation."""
    notional = order.quantity * reserve
    caps = (
        *_strategy_caps(notional, situation, book.exposure(order.strategy_id)),
        *_account_caps(order, notional, situation, book),
        *_rate_caps(order, notional, situation, book),
    )
    judged: list[Judged] = [(rule, limit, value, limit is None or within(value, limit)) for rule, limit, value in caps]
    if not book.caps.hedging_allowed:
        judged.append(_hedging(order, book))
    if book.caps.rate_limit_max_trades is not None:
        # A working entry may open a lot at any moment.
        limit = book.caps.trades_max
        opened = book.opened_within(order.symbol, situation.now_ms) + book.symbol(order.symbol).waiting + 1
        judged.append(("trade_rate", limit, opened, limit is None or opened <= limit))
    return judged


def _hedging(order: Order, book: Book) -> Judged:
    direction = direction_of(order)
    against = book.symbol(order.symbol).against(direction)
    return "hedging", "one direction", f"{direction} against {against} the other way", not against


def _strategy_caps(notional: Decimal, situation: Situation, own: StrategyExposure) -> tuple[_Cap, ...]:
    """Return the strategy's own caps; whatever is open may be closed today, hence counts as a trade of the day."""
    limits, count = situation.limits, own.count + 1
    return (
        ("allocation", situation.room, notional),
        ("exposure", limits.ceiling, own.total + notional),
        ("max_position_notional", limits.position_notional_max, notional),
        ("max_positions", limits.open_positions_max, count),
        ("daily_limit", limits.trades_per_day_max, situation.trades_today + count),
        ("daily_loss", limits.daily_loss_max, -situation.pnl_today),
        (FALLEN, limits.drawdown_pct_max, situation.equity_drawdown_pct),
        ("min_balance", limits.loss_pct_max, situation.loss_pct),
        ("order_rate", limits.orders_per_minute_max, situation.orders_last_minute + 1),
    )


def _account_caps(order: Order, notional: Decimal, situation: Situation, book: Book) -> tuple[_Cap, ...]:
    caps = book.caps
    today = book.day == situation.day
    last = situation.last_price
    away = abs(order.price - last) / last if last else _BEYOND
    return (
        ("account_order_notional", caps.order_notional_max, notional),
        ("account_exposure", caps.exposure_max, book.value + notional),
        ("account_positions", caps.open_positions_max, book.positions + 1),
        ("account_orders", caps.open_orders_max, book.orders + 1),
        ("account_daily_loss", caps.daily_loss_max, -book.day_pnl if today else ZERO),
        ("account_leverage", caps.leverage_max, order.leverage),
        ("price_collar", caps.price_collar_pct, away),
        ("orders_per_day", caps.orders_per_day_max, (book.day_orders if today else 0) + 1),
    )


def _rate_caps(order: Order, notional: Decimal, situation: Situation, book: Book) -> Iterator[_Cap]:
    """Yield the account's caps on what was done lately, which has to be counted: only those that are on."""
    caps, now_ms = book.caps, situation.now_ms
    if caps.identical_orders_per_minute_max is not None:
        alike = book.rates.alike(now_ms, likeness_of(order))
        yield "identical_orders", caps.identical_orders_per_minute_max, alike + 1
    if caps.orders_per_second_max is not None:
        yield "orders_per_second", caps.orders_per_second_max, book.rates.within(now_ms, SECOND_MS)[0] + 1
    if (caps.orders_per_minute_max, caps.notional_per_minute_max) != (None, None):
        minute, value = book.rates.within(now_ms, MINUTE_MS)
        yield "orders_per_minute", caps.orders_per_minute_max, minute + 1
        yield "notional_per_minute", caps.notional_per_minute_max, value + notional


def text_of(value: Decimal | int | str | None) -> str:
    """Return a limit or a value in words."""
    if value is None:
        return "none"
    return plain(value) if isinstance(value, Decimal) and value.is_finite() else str(value)
