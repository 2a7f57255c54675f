"""What a template is: a vetted algorithm with params, wishes and a state, and what it is allowed to see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Final, Literal, Protocol

import msgspec

from pipaid.engine.guards import Guards, RiskParams
from pipaid.model.candle import Candle, MarketTrade
from pipaid.model.consult import Answer, Question
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.model.money import ZERO
from pipaid.model.order import OrderType
from pipaid.model.position import CloseReason, Direction, Position
from pipaid.model.trades import Trades
from pipaid.signals.series import Condition, Feature

# Of these, an entry says just one.
AMOUNTS: Final = ("quantity", "notional", "risk")
# An exit that a template wishes for, as against the stop and the target that guard a lot.
WISHED_EXITS: Final = frozenset({OrderType.MARKET, OrderType.LIMIT})


class Enter(msgspec.Struct, frozen=True, kw_only=True):
    """Wish to open a position.

    Exactly one of `quantity` (base), `notional` (quote) and `risk` (share of the symbol's capital lost if the stop is
    hit; needs `stop_price`) says how much; the last two are cut down to `quantity_max` and `notional_max`, and an entry
    that comes to less than `notional_min` is refused. A limit entry needs `price`. `tag` is the template's own word for
    the position; while an entry or position with a tag is alive on a symbol, the same tag is not entered again.
    """

    symbol: str
    direction: Direction
    tag: str = ""
    type: OrderType = OrderType.MARKET
    price: Decimal | None = None
    quantity: Decimal | None = None
    notional: Decimal | None = None
    risk: Decimal | None = None
    stop_price: Decimal | None = None
    take_profit_price: Decimal | None = None
    quantity_max: Decimal | None = None
    notional_max: Decimal | None = None
    notional_min: Decimal | None = None
    reason: str = ""


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """Wish to close a position: at the market, or with a limit `price` that replaces its resting exit."""

    position_id: str
    price: Decimal | None = None
    reason: CloseReason = CloseReason.EXIT_RULE


class ExitAll(msgspec.Struct, frozen=True, kw_only=True):
    """Wish to close all positions on a symbol at the market, however many there are."""

    symbol: str
    reason: CloseReason = CloseReason.EXIT_RULE


class CancelEntries(msgspec.Struct, frozen=True, kw_only=True):
    """Wish to withdraw the working entry orders of a symbol: those with the given tags, or all."""

    symbol: str
    tags: frozenset[str] | None = None


class Protect(msgspec.Struct, frozen=True, kw_only=True):
    """Wish to move a position's stop and target; nothing means without one."""

    position_id: str
    stop_price: Decimal | None = None
    take_profit_price: Decimal | None = None


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """Wish to be asked by `on_price` once the price is at or below one level, or at or above the other.

    It takes the place of the symbol's earlier alarm, holds until it has fired, over restarts and redeployments too, and
    is compared with prices that come after it was wished for. Without any level there is no alarm any more. One that
    `exits` guards the symbol's lots: should the strategy have been halted by then, the engine leaves them by itself.
    """

    symbol: str
    below: Decimal | None = None
    above: Decimal | None = None
    exits: bool = False


class Consult(msgspec.Struct, frozen=True, kw_only=True):
    """Wish to ask a model, whose answer comes to `on_answer`; what is wished then passes the gate as ever.

    One question is open on a symbol at a time. It is not sent where nothing could be entered and nothing is held, nor
    beyond what `Guards.spending` allows for the day at its worst. `role` says who is to answer, `answer_schema` which
    JSON is expected. A model of which nobody has told the price is not asked.
    """

    symbol: str
    role: str
    provider: str
    model: str
    prompt: str
    system: str = ""
    answer_schema: dict[str, Any] = {}
    tokens_max: int = 1_024
    patience_ms: int = 60_000


class Conclude(msgspec.Struct, frozen=True, kw_only=True):
    """Say what an evaluation came to that wishes nothing else: `hold`, `skipped` or `failed`, and why."""

    symbol: str
    status: Literal["hold", "skipped", "failed"]
    reason: str


Intent = Enter | Exit | ExitAll | CancelEntries | Protect | Alarm | Consult | Conclude


class Entry(msgspec.Struct, frozen=True):
    """A working entry order as a template sees it."""

    tag: str
    direction: Direction
    quantity: Decimal
    filled: Decimal
    price: Decimal


class View(Protocol):
    """What a template sees of one symbol at one moment."""

    @property
    def symbol(self) -> str:
        """Return the symbol this call is about."""
        ...

    @property
    def timeframe(self) -> Timeframe:
        """Return the strategy's timeframe."""
        ...

    @property
    def now_ms(self) -> int:
        """Return venue time."""
        ...

    @property
    def scheduled(self) -> bool:
        """Tell whether `on_candle` is called at the occasions of a schedule, and so for the first time at the first."""
        ...

    @property
    def instrument(self) -> Instrument:
        """Return the symbol's filters."""
        ...

    @property
    def candle(self) -> Candle | None:
        """Return the last closed candle, or nothing if none is known yet."""
        ...

    def candles(self, count: int, timeframe: Timeframe | None = None) -> Sequence[Candle]:
        """Return the last closed candles, oldest first and as many as are kept, of a larger timeframe if one is named.

        Of a larger one a feature has to be declared. All but the last are made of floats, good to 15 digits.
        """
        ...

    @property
    def price(self) -> Decimal:
        """Return the last known price, zero if none is known yet."""
        ...

    @property
    def capital(self) -> Decimal:
        """Return the capital allotted to this symbol, in quote currency, before leverage."""
        ...

    @property
    def equity(self) -> Decimal:
        """Return the allotted capital plus this run's realised and unrealised profit on the symbol."""
        ...

    @property
    def leverage(self) -> int:
        """Return the leverage in effect."""
        ...

    @property
    def positions(self) -> Sequence[Position]:
        """Return the strategy's open positions on the symbol, oldest first."""
        ...

    @property
    def entries(self) -> Sequence[Entry]:
        """Return the strategy's working entry orders on the symbol, oldest first."""
        ...

    def alive(self, tag: str) -> bool:
        """Tell whether an entry works, or a position is open, on the symbol under a tag: it is not entered again."""
        ...

    @property
    def asking(self) -> bool:
        """Tell whether a model is being asked about the symbol; until it has answered, no other question is sent."""
        ...

    @property
    def tending(self) -> bool:
        """Tell whether `on_maintenance` is to be called at this moment, once this is decided."""
        ...

    def exiting(self, position_id: str) -> bool:
        """Tell whether an exit the template wished for is working on that position."""
        ...

    def feature(self, feature: Feature) -> float | None:
        """Return a declared feature's value at the last closed candle, or nothing while it warms up."""
        ...

    def feature_before(self, feature: Feature) -> float | None:
        """Return a declared feature's value one candle earlier."""
        ...

    def holds(self, condition: Condition) -> bool:
        """Tell whether a condition on declared features holds at the last closed candle."""
        ...


class Wakes(msgspec.Struct, frozen=True, kw_only=True):
    """When a template wants to be asked; a candle on which no condition holds costs it nothing.

    `flat` conditions are watched while the strategy holds no position on the symbol, `holding` ones while it holds
    one; `every` asks at each candle, `holding_every` at each while it holds one, `aged_ms` at each that closes so long
    after the oldest of the symbol's positions was opened, or later. Skipping a candle must never change what the
    template would have wished: a property test holds every template to it.
    """

    flat: tuple[Condition, ...] = ()
    holding: tuple[Condition, ...] = ()
    every: bool = False
    holding_every: bool = False
    aged_ms: int | None = None


class NoState(msgspec.Struct, frozen=True):
    """The state of a template that remembers nothing of its own."""


class Template:
    """A vetted algorithm. Subclasses set the class variables, declare their features and return intents.

    One that `foretells` is asked, when a strategy is made, what `remarks` and `enters_on` say. Only one that
    `reads_larger` may name features of larger timeframes than its strategy's. One instance serves one strategy; `state`
    holds one value of `state_type` per symbol, saved with each commit and handed back after a restart. Callbacks are
    synchronous, see a View, and never do I/O.
    """

    id: ClassVar[str]
    version: ClassVar[int] = 1
    description: ClassVar[str]
    params_type: ClassVar[type]
    state_type: ClassVar[type[msgspec.Struct]] = NoState
    risk_defaults: ClassVar[RiskParams] = RiskParams()
    capital_min: ClassVar[Decimal] = Decimal(100)
    multi_symbol: ClassVar[bool] = True
    reads_larger: ClassVar[bool] = False
    foretells: ClassVar[bool] = False

    def __init__(self, params: Any, state: Mapping[str, msgspec.Struct] | None = None) -> None:
        self.params = params
        self.state: dict[str, msgspec.Struct] = dict(state or {})

    @classmethod
    def check(
        cls,
        params: Any,
        *,
        symbols: Sequence[str],
        timeframe: Timeframe,
        capital: Decimal,
        instruments: Mapping[str, Instrument],
    ) -> dict[str, str]:
        """Return what is wrong with valid params given the strategy around them, by field.

        `instruments` holds the symbols' filters as far as they are known.
        """
        return {}

    @classmethod
    def guards(cls, params: Any, timeframe: Timeframe) -> Guards:
        """Return what holds a strategy of some params back, on top of which come the caps of `params.risk`."""
        return Guards(risk=cls.risk_defaults)

    @classmethod
    def asks(cls, params: Any) -> Sequence[tuple[str, str]]:
        """Return the models that a strategy of some params asks, by provider and name: it runs where all are known."""
        return ()

    @classmethod
    def remarks(cls, params: Any, capital: Decimal) -> Sequence[str]:
        """Return what to know about valid params, such as those that have no effect."""
        return ()

    def enters_on(self) -> Mapping[str, Condition]:
        """Return the conditions that hold together where a position is entered, each with its name."""
        return {}

    def features(self) -> tuple[Feature, ...]:
        """Return the features of the strategy's series that `on_candle` reads."""
        return ()

    def wakes(self) -> Wakes:
        """Return when `on_candle` is to be called."""
        return Wakes(every=True)

    def reasons(self, view: View) -> Mapping[str, bool]:
        """Return by which rules it decides, and whether each holds now: for the record of a decision."""
        return {}

    def allocation(self, symbols: Sequence[str]) -> Mapping[str, Decimal]:
        """Return each symbol's share of the capital; equal weights unless the template says otherwise."""
        share = Decimal(1) / len(symbols)
        return dict.fromkeys(symbols, share)

    def on_start(self, view: View) -> Iterable[Intent]:
        """Decide at deployment, once per symbol; by default what `on_candle` decides on the last closed candle."""
        return self.on_candle(view) if view.candle is not None else ()

    def on_released(self, view: View) -> Iterable[Intent]:
        """Decide when the kill switch lets entries through again: those that worked were withdrawn by it."""
        return ()

    def on_candle(self, view: View) -> Iterable[Intent]:
        """Decide at the close of a candle, or at an occasion of the strategy's schedule instead."""
        return ()

    def maintenance_ms(self) -> int | None:
        """Return how often `on_maintenance` is to be called, in whole minutes; nothing means never."""
        return None

    def on_maintenance(self, view: View) -> Iterable[Intent]:
        """Look after what is held on the symbol: asked at whole multiples of `maintenance_ms`, while something is."""
        return ()

    def on_price(self, view: View, level: Decimal) -> Iterable[Intent]:
        """Decide when the price has touched a level of the symbol's alarm, which is used up by it.

        `view.price` is the last price that is known for certain. Where candles are played instead of market trades and
        the level lies within a candle's range, that is the candle's open, and a market order is filled at the next one.
        If one range held both levels, the one that loses on what is held counts, as stops go before targets.
        """
        return ()

    def on_trade(self, view: View, trade: MarketTrade) -> Iterable[Intent]:
        """Decide at a market trade of the symbol, after it was held against orders and alarms.

        Only backtests over recorded market trades ask this and `on_trades` as yet.
        """
        return ()

    def on_trades(self, view: View, trades: Trades) -> Iterable[Intent]:
        """Decide at the close of a candle on the market trades within it, as columns, before `on_candle` is asked."""
        return ()

    def on_answer(self, view: View, question: Question, answer: Answer) -> Iterable[Intent]:
        """Decide when it is known what came of a question, which may be that there is no answer.

        Only `Verdict.ANSWERED` holds a text, and that is a stranger's. Time has passed since it was asked.
        """
        return ()

    def on_opened(self, view: View, position: Position) -> Iterable[Intent]:
        """Decide when an entry order ended with something filled: the position stands as it is."""
        return ()

    def on_closed(self, view: View, position: Position) -> Iterable[Intent]:
        """Decide when a position was closed, for whatever reason."""
        return ()

    def on_entry_lost(self, view: View, tag: str) -> Iterable[Intent]:
        """Decide when an entry order ended unfilled without having been asked to."""
        return ()


def hears(template: type[Template], callback: str) -> bool:
    """Tell whether a template has a callback of its own."""
    return getattr(template, callback) is not getattr(Template, callback)


def required(intent: Enter) -> str | None:
    """Return what is contradictory or missing in an entry wish, or nothing."""
    if (intent.quantity, intent.notional, intent.risk).count(None) != len(AMOUNTS) - 1:
        amounts = [name for name in AMOUNTS if getattr(intent, name) is not None]
        return f"exactly one of quantity, notional and risk must be given, got {', '.join(amounts) or 'none'}"
    if intent.type is OrderType.LIMIT and (intent.price is None or intent.price <= ZERO):
        return "a limit entry needs a price above zero"
    if intent.type not in (OrderType.LIMIT, OrderType.MARKET):
        return f"an entry is a market or a limit order, not {intent.type}"
    if intent.risk is not None and intent.stop_price is None:
        return "sizing by risk needs a stop price"
    return None
