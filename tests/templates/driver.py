"""A small market for one template and one symbol: candles in, intents carried out, every wish written down."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from attrs import define, field

from pipaid.engine.alarms import PriceAlarm, Touch
from pipaid.engine.template import required
from pipaid.model.candle import Candle
from pipaid.sdk import (
    Alarm,
    CancelEntries,
    CloseReason,
    Conclude,
    Condition,
    Consult,
    Enter,
    Entry,
    Exit,
    ExitAll,
    Feature,
    Instrument,
    Intent,
    OrderType,
    Position,
    Protect,
    Series,
    Template,
    Timeframe,
)
from pipaid.signals.series import met

EURO = Instrument(
    symbol="EURUSD",
    base="EUR",
    quote="USD",
    tick_size=Decimal("0.00001"),
    lot_size=Decimal("0.00001"),
    notional_min=Decimal(5),
)


class Wish(msgspec.Struct, frozen=True):
    """One intent, with the candle and the callback it came from."""

    index: int
    callback: str
    intent: Intent


@define
class Driver:
    """Feed candles to a template as the engine does: opens, then touched orders and alarms, then the close's decision.

    With `every` the template is asked at each candle, otherwise only when its wakes say so. The entries numbered in
    `lost` are turned away, and at the candles of `closed_by_hand` all positions are closed by somebody else.
    """

    template: Template
    every: bool = False
    instrument: Instrument = EURO
    timeframe: Timeframe = Timeframe.H1
    capital: Decimal = Decimal(10_000)
    leverage: int = 1
    lost: Collection[int] = ()
    closed_by_hand: Collection[int] = ()
    scheduled: bool = False

    series: Series = field(init=False)
    price: Decimal = field(default=Decimal(0), init=False)
    now_ms: int = field(default=0, init=False)
    candle: Candle | None = field(default=None, init=False)
    wishes: list[Wish] = field(factory=list[Wish], init=False)
    calls: int = field(default=0, init=False)
    trades: list[Position] = field(factory=list[Position], init=False)
    _held: dict[str, Position] = field(factory=dict[str, Position], init=False)
    _entering: dict[int, Enter] = field(factory=dict[int, Enter], init=False)
    _exiting: dict[str, Exit] = field(factory=dict[str, Exit], init=False)
    _number: int = field(default=0, init=False)
    _watched: tuple[Any, ...] = field(default=(), init=False)
    _step: int = field(default=0, init=False)
    _alarm: PriceAlarm | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.series = Series(self.instrument.symbol, self.timeframe)
        for feature in self.template.features():
            self.series.retain(feature)

    # What the template sees.

    @property
    def symbol(self) -> str:
        return self.instrument.symbol

    @property
    def equity(self) -> Decimal:
        realised = sum((trade.pnl for trade in self.trades), Decimal(0))
        return self.capital + realised + sum((lot.unrealised(self.price) for lot in self._held.values()), Decimal(0))

    @property
    def positions(self) -> Sequence[Position]:
        return list(self._held.values())

    @property
    def entries(self) -> Sequence[Entry]:
        return [
            Entry(wish.tag, wish.direction, self._quantity(wish), Decimal(0), wish.price or self.price)
            for wish in self._entering.values()
        ]

    @property
    def alarm(self) -> PriceAlarm | None:
        """Return the levels that are waited for."""
        return self._alarm

    def alive(self, tag: str) -> bool:
        tags = {wish.tag for wish in self._entering.values()} | {lot.tag for lot in self._held.values()}
        return tag in tags

    def exiting(self, position_id: str) -> bool:
        return position_id in self._exiting

    def feature(self, feature: Feature) -> float | None:
        assert feature in self.template.features(), f"{feature} is not declared"
        return self.series.feature(feature).value

    def feature_before(self, feature: Feature) -> float | None:
        assert feature in self.template.features(), f"{feature} is not declared"
        return self.series.feature(feature).previous

    def holds(self, condition: Condition) -> bool:
        assert set(condition.features) <= set(self.template.features()), f"{condition} is not declared"
        return met(condition, self.series.feature)

    # What happens to it.

    def know(self, candles: Iterable[Candle]) -> None:
        """Take candles from before the deployment."""
        for candle in candles:
            self._close_of(candle)

    def deploy(self) -> None:
        """Ask for the first decision."""
        self._ask(self.template.on_start)

    def run(self, candles: Iterable[Candle]) -> Driver:
        """Play candles."""
        for candle in candles:
            self._open(candle)
            self._range(candle)
            self._close_of(candle)
            if candle.open_time_ms // self.timeframe.ms in self.closed_by_hand:
                for position in self.positions:
                    self._leave(position, self.price, CloseReason.MANUAL)
            if self._is_due():
                self.calls += 1
                self._ask(self.template.on_candle)
        return self

    def wished(self, kind: type[Intent] | None = None) -> list[Any]:
        """Return the intents so far, of one kind or all."""
        return [wish.intent for wish in self.wishes if kind is None or isinstance(wish.intent, kind)]

    def _open(self, candle: Candle) -> None:
        self._step += 1
        self.price, self.now_ms = candle.open, candle.open_time_ms
        for position_id, exit_wish in list(self._exiting.items()):
            if exit_wish.price is None:
                self._leave(self._held[position_id], candle.open, exit_wish.reason)
        for number, wish in list(self._entering.items()):
            if wish.type is OrderType.MARKET:
                self._enter(number, candle.open)
        self._hold_against_alarm(candle.open, candle.open)

    def _range(self, candle: Candle) -> None:
        """Touch what rested before this candle: stops first, then targets and exits, then entries."""
        self._step += 1
        held, exits, entries = self.positions, dict(self._exiting), dict(self._entering)
        for position in held:
            if position.stop_price is not None:
                price = _touched(candle, position.stop_price, position.direction.sign)
                self._leave_at(position, price, CloseReason.STOP_LOSS)
        for position in held:
            wish = exits.get(position.id)
            limit = position.take_profit_price if wish is None else wish.price
            if limit is not None:
                price = _touched(candle, limit, -position.direction.sign)
                self._leave_at(position, price, CloseReason.TAKE_PROFIT if wish is None else wish.reason)
        for number, entry in entries.items():
            if number in self._entering and entry.price is not None:
                price = _touched(candle, entry.price, entry.direction.sign)
                if price is not None:
                    self._enter(number, price)
        self._hold_against_alarm(candle.low, candle.high)

    def _hold_against_alarm(self, low: Decimal, high: Decimal) -> None:
        alarm = self._alarm
        level = None if alarm is None else alarm.met(Touch(self.symbol, self._step, low, high))
        if level is not None:
            self._alarm = None
            self._ask(self.template.on_price, level)

    def _leave_at(self, position: Position, price: Decimal | None, reason: CloseReason) -> None:
        if price is not None and position.id in self._held:
            self._leave(position, price, reason)

    def _close_of(self, candle: Candle) -> None:
        self._step += 1
        self.series.append(candle)
        self.candle, self.price, self.now_ms = candle, candle.close, candle.close_time_ms

    def _is_due(self) -> bool:
        wakes = self.template.wakes()
        conditions = wakes.holding if self._held else wakes.flat
        if conditions != self._watched:
            for condition in conditions:
                self.series.watch(condition, "template")
            for condition in set(self._watched) - set(conditions):
                self.series.unwatch(condition, "template")
            self._watched = conditions
        every = self.every or wakes.every or (wakes.holding_every and bool(self._held))
        opened_ms = min((lot.opened_at_ms for lot in self._held.values()), default=None)
        aged = opened_ms is not None and wakes.aged_ms is not None and self.now_ms - opened_ms >= wakes.aged_ms
        return every or aged or "template" in self.series.due()

    def _ask(self, callback: Callable[..., Iterable[Intent]], *facts: object) -> None:
        for intent in list(callback(self, *facts)):
            self.wishes.append(Wish(self.series.index, callback.__name__, intent))
            self._carry(intent)

    def _carry(self, intent: Intent) -> None:
        match intent:
            case Enter():
                assert required(intent) is None
                self._check_prices(intent)
                alive = {wish.tag for wish in self._entering.values()} | {lot.tag for lot in self._held.values()}
                quantity = self._quantity(intent)
                least = intent.notional_min or Decimal(0)
                if intent.tag in alive or not quantity or quantity * (intent.price or self.price) < least:
                    return
                self._number += 1
                self._entering[self._number] = intent
                if self._number in self.lost:
                    del self._entering[self._number]
                    self._ask(self.template.on_entry_lost, intent.tag)
            case Exit():
                if intent.position_id in self._held:
                    self._exiting[intent.position_id] = intent
            case ExitAll():
                for position in self._held.values():
                    self._exiting[position.id] = Exit(position_id=position.id, reason=intent.reason)
            case Alarm():
                somewhere = intent.below is not None or intent.above is not None
                self._alarm = PriceAlarm(self._step, intent.below, intent.above) if somewhere else None
            case CancelEntries():
                self._entering = {
                    number: wish
                    for number, wish in self._entering.items()
                    if intent.tags is not None and wish.tag not in intent.tags
                }
            case Protect():
                self._held[intent.position_id] = msgspec.structs.replace(
                    self._held[intent.position_id],
                    stop_price=intent.stop_price,
                    take_profit_price=intent.take_profit_price,
                )
            case Consult() | Conclude():
                raise AssertionError(f"nobody is there to be asked: {intent}")

    def _check_prices(self, intent: Enter) -> None:
        """Fail on prices no venue takes: off the tick, not positive, or protecting the wrong side."""
        sign, entry = intent.direction.sign, intent.price or self.price
        for price in (intent.price, intent.stop_price, intent.take_profit_price):
            assert price is None or (price > 0 and price == self.instrument.price(price))
        assert intent.stop_price is None or sign * intent.stop_price < sign * entry
        assert intent.take_profit_price is None or sign * intent.take_profit_price > sign * entry

    def _quantity(self, wish: Enter) -> Decimal:
        price = wish.price or self.price
        if wish.quantity is not None:
            return self.instrument.quantity(wish.quantity)
        if wish.notional is not None:
            return self.instrument.quantity(wish.notional / price)
        assert wish.risk is not None
        assert wish.stop_price is not None
        distance = max(abs(price - wish.stop_price), self.instrument.tick_size)
        return self.instrument.quantity(min(self.equity * wish.risk / distance, self.capital / price))

    def _enter(self, number: int, price: Decimal) -> None:
        wish = self._entering[number]
        quantity = self._quantity(wish)
        del self._entering[number]
        position = Position(
            id=f"pos_{number}",
            strategy_id="strat_000001",
            account="main",
            dry_run=True,
            run_id="run_1",
            symbol=self.symbol,
            direction=wish.direction,
            leverage=self.leverage,
            tag=wish.tag,
            entry_quantity=quantity,
            entry_value=quantity * price,
            stop_price=wish.stop_price,
            take_profit_price=wish.take_profit_price,
            opened_at_ms=self.now_ms,
        )
        self._held[position.id] = position
        self._ask(self.template.on_opened, position)

    def _leave(self, position: Position, price: Decimal, reason: CloseReason) -> None:
        position = self._held.pop(position.id)
        self._exiting.pop(position.id, None)
        closed = msgspec.structs.replace(
            position,
            exit_quantity=position.entry_quantity,
            exit_value=position.entry_quantity * price,
            closed_at_ms=self.now_ms,
            reason=reason,
        )
        self.trades.append(closed)
        self._ask(self.template.on_closed, closed)


def _touched(candle: Candle, level: Decimal, sign: int) -> Decimal | None:
    """Return at which price a candle meets a level: one waited for from above (sign 1) or from below (-1).

    A candle that opens beyond the level meets it at its open, which is worse for a stop and better for a limit order.
    """
    reach = candle.low if sign > 0 else candle.high
    if sign * reach > sign * level:
        return None
    gapped = sign * candle.open < sign * level
    return candle.open if gapped else level
