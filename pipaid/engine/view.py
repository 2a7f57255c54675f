"""What a template sees: one symbol of one session at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from pipaid.engine.template import Entry
from pipaid.model.candle import Candle
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.model.money import ZERO
from pipaid.model.position import Direction, Position
from pipaid.signals.series import RECENT_MAX, Condition, Feature, met

if TYPE_CHECKING:
    from pipaid.engine.holdings import Holdings


class SymbolView:
    """Answer a template's questions from the session's state; made for one callback and thrown away."""

    __slots__ = ("_series", "_session", "symbol")

    def __init__(self, session: Holdings, symbol: str) -> None:
        self._session = session
        self._series = session.series[symbol]
        self.symbol = symbol

    @property
    def timeframe(self) -> Timeframe:
        """Return the strategy's timeframe."""
        return self._session.strategy.in_effect.timeframe

    @property
    def now_ms(self) -> int:
        """Return venue time."""
        return self._session.quotes.now_ms

    @property
    def scheduled(self) -> bool:
        """Tell whether `on_candle` is called at the occasions of a schedule."""
        return self._session.scheduled

    @property
    def instrument(self) -> Instrument:
        """Return the symbol's filters."""
        return self._session.instruments[self.symbol]

    @property
    def candle(self) -> Candle | None:
        """Return the last closed candle."""
        return self._series.last

    def candles(self, count: int, timeframe: Timeframe | None = None) -> Sequence[Candle]:
        """Return the last closed candles, oldest first, of a larger timeframe if one is named."""
        return self._series.recent(min(count, RECENT_MAX), timeframe)

    @property
    def price(self) -> Decimal:
        """Return the last price, or the last close if no price has come yet."""
        price = self._session.quotes.price(self.symbol)
        if price == ZERO and self._series.last is not None:
            return self._series.last.close
        return price

    @property
    def capital(self) -> Decimal:
        """Return the capital allotted to this symbol."""
        return self._session.capital[self.symbol]

    @property
    def equity(self) -> Decimal:
        """Return the allotted capital plus the run's profit on the symbol."""
        return self._session.equity(self.symbol)

    @property
    def leverage(self) -> int:
        """Return the leverage in effect."""
        return self._session.leverage

    @property
    def positions(self) -> Sequence[Position]:
        """Return the open positions on the symbol, oldest first."""
        return [position for position in self._session.positions.values() if position.symbol == self.symbol]

    @property
    def entries(self) -> Sequence[Entry]:
        """Return the working entry orders on the symbol, oldest first."""
        return [
            Entry(
                order.tag,
                Direction.LONG if order.side.sign > 0 else Direction.SHORT,
                order.quantity,
                order.filled,
                order.price,
            )
            for order in self._session.orders.values()
            if order.symbol == self.symbol and not order.reduce_only
        ]

    def alive(self, tag: str) -> bool:
        """Tell whether an entry works, or a position is open, on the symbol under a tag."""
        return self._session.alive(self.symbol, tag)

    @property
    def asking(self) -> bool:
        """Tell whether a model is being asked about the symbol."""
        return self.symbol in self._session.brain.questions

    @property
    def tending(self) -> bool:
        """Tell whether `on_maintenance` is to be called at this moment, once this is decided."""
        return self._session.tends(self.symbol)

    def exiting(self, position_id: str) -> bool:
        """Tell whether an exit the template wished for is working on that position."""
        return self._session.working_exit(position_id) is not None

    def feature(self, feature: Feature) -> float | None:
        """Return a feature's value at the last closed candle."""
        return self._series.feature(feature).value

    def feature_before(self, feature: Feature) -> float | None:
        """Return a feature's value one candle earlier."""
        return self._series.feature(feature).previous

    def holds(self, condition: Condition) -> bool:
        """Tell whether a condition holds at the last closed candle."""
        return met(condition, self._series.feature)
