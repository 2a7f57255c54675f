"""A venue in two halves: the market that is watched, and the desk that takes an account's orders."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal
from typing import Literal, Protocol

import msgspec

from pipaid.model.candle import Candle, MarketTrade
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.model.interval import Interval
from pipaid.model.order import Execution, Fill, FundingPaid, Order, OrderFact
from pipaid.model.turnover import Print, Turnover


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a desk can do; behaviour follows this record, never the venue's name.

    `acts_in_call` says that a request is carried out, or is lost, before the call that makes it returns: none is ever
    under way afterwards. Without it, a request can be accepted until it expires, and where requests do not expire
    (`request_expiry`), at any time. `answers_at_once` says that nobody has to wait for an answer. What a desk cannot
    do (`lookup`, `fills_since`) is not asked of it.
    """

    id_unique: Literal["forever", "open", "none"]
    request_expiry: bool
    acts_in_call: bool = False
    answers_at_once: bool = False
    lookup_by_client_id: bool
    fills_since: bool
    countdown_cancel: bool
    max_id_len: int
    stop_orders: bool

    @property
    def tells_fills_by_order(self) -> bool:
        """Tell whether an order is the only place to learn of a fill that the stream has lost."""
        return self.lookup_by_client_id and not self.fills_since


class Opened(msgspec.Struct, frozen=True, gc=False):
    """Recorded candles begin: the first price of each symbol is known, nothing of what follows."""

    time_ms: int
    prices: dict[str, Decimal]


class Ranged(msgspec.Struct, frozen=True, gc=False):
    """The same candles ran their course: highs and lows are known, resting orders may have been touched."""

    time_ms: int
    candles: tuple[Candle, ...]


class Closed(msgspec.Struct, frozen=True, gc=False):
    """Base candles are final at `time_ms`; strategies may decide."""

    time_ms: int
    candles: tuple[Candle, ...]


class Funding(msgspec.Struct, frozen=True, gc=False):
    """A funding rate fell due; a positive one is paid by longs to shorts, as a share of notional."""

    time_ms: int
    symbol: str
    rate: Decimal
    mark: Decimal


class Ended(msgspec.Struct, frozen=True, gc=False):
    """A recorded market has no more data."""

    time_ms: int


MarketUpdate = Opened | Ranged | Closed | MarketTrade | Funding | Ended


class Market(Protocol):
    """The half of a venue that is watched.

    `listed_ms` is where its history begins, `ends_ms` where a recorded one ends; 0 if it does not say.
    """

    name: str
    listed_ms: int
    ends_ms: int

    async def instruments(self) -> Mapping[str, Instrument]:
        """Return what is listed."""
        ...

    async def history(self, symbol: str, timeframe: Timeframe, *, end_ms: int, count: int) -> list[Candle]:
        """Return up to `count` closed candles that end at or before `end_ms`, oldest first."""
        ...

    async def turnover(self, symbol: str, interval: Interval, *, first_ms: int, end_ms: int) -> list[Turnover]:
        """Return what was traded from one moment until now or before another, cut into intervals, oldest first.

        Both moments are whole minutes; an interval in which nothing was traded is left out.
        """
        ...

    async def trades(self, symbol: str, *, end_ms: int, count: int) -> list[Print]:
        """Return up to `count` of the market trades that came last before a moment, oldest first, if it knows any."""
        ...

    def begins_ms(self, symbol: str) -> int:
        """Return when what it can tell of a symbol begins."""
        ...

    async def prices(self) -> Mapping[str, Decimal]:
        """Return the last known price of each symbol that has one."""
        ...

    def now_ms(self) -> int:
        """Return the venue's time."""
        ...

    def updates(self) -> AsyncIterator[MarketUpdate]:
        """Yield what happens, in order."""
        ...


class Confirmed(msgspec.Struct, frozen=True):
    """The venue has the order."""


class Refused(msgspec.Struct, frozen=True):
    """The venue said no, and `proof` is the answer that says so beyond doubt."""

    proof: str


class Unknown(msgspec.Struct, frozen=True):
    """The order may or may not be there."""

    detail: str


Outcome = Confirmed | Refused | Unknown


class Reconnected(msgspec.Struct, frozen=True):
    """The stream of updates was interrupted and goes on from here: whatever happened meanwhile may be missing in it."""

    detail: str = ""


DeskUpdate = Execution | FundingPaid | Reconnected


class OrderView(msgspec.Struct, frozen=True, kw_only=True):
    """An order as the venue shows it when asked."""

    client_order_id: str
    symbol: str
    fact: OrderFact
    filled: Decimal
    fills: tuple[Fill, ...]


class Desk(Protocol):
    """The half of a venue that takes one account's orders.

    What the venue does not answer, or answers so that nobody can read it, is an unknown outcome of a request, and an
    ExchangeError of a question.

    A desk nets by lot: a reduce-only order never takes more than is left of the lot it names, and the desk itself ends
    what still names a lot that is gone, whether or not its venue can.
    """

    @property
    def capabilities(self) -> Capabilities:
        """Return what the desk can do; it is read each time that it matters, for it may change."""
        ...

    async def place(self, order: Order, *, expires_at_ms: int) -> Outcome:
        """Send one order; the outcome is unknown unless the venue's answer proves otherwise."""
        ...

    async def cancel(self, order: Order) -> Outcome:
        """Ask for a cancellation; what became of the order is told by its executions."""
        ...

    async def lookup(self, order: Order) -> OrderView | None:
        """Return the order as the venue knows it now, or nothing if the venue denies knowing it."""
        ...

    async def open_orders(self) -> Sequence[OrderView]:
        """Return every working order of the account."""
        ...

    async def fills_since(self, time_ms: int) -> Sequence[Fill]:
        """Return the account's fills from a moment on, oldest first."""
        ...

    async def positions(self) -> Mapping[str, Decimal]:
        """Return the signed net position of each symbol in base currency."""
        ...

    def updates(self) -> AsyncIterator[DeskUpdate]:
        """Yield what happens to the account's orders as the venue tells it, which may be late, twice or never.

        Each update counts as activity until whoever took it has dealt with it.
        """
        ...
