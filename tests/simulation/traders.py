"""Templates that trade a lot and decide by hashing, so that every kind of order happens soon and the same each time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import ClassVar

from attrs import frozen

from pipaid.plugins import Catalogue
from pipaid.sdk import (
    Alarm,
    CancelEntries,
    CloseReason,
    Direction,
    Enter,
    Exit,
    Intent,
    OrderType,
    Protect,
    RiskParams,
    Template,
    View,
    integer_param,
)
from pipaid.signals.series import Feature

STEP = Decimal("0.001")


@frozen(kw_only=True)
class TraderParams:
    """Which of many traders this is, and in how many of ten candles it acts."""

    nature: int = integer_param("What its decisions are hashed with", low=0, high=999)
    zeal: int = integer_param("In how many of ten candles it acts", low=1, high=10)


class Trader(Template):
    """Do at each candle what a hash of nature, symbol and time says."""

    id: ClassVar[str] = "tpl_trader"
    description: ClassVar[str] = "Trades by hash."
    params_type: ClassVar[type] = TraderParams
    risk_defaults: ClassVar[RiskParams] = RiskParams(
        max_open_positions=4, max_trades_per_day=500, max_drawdown_pct=Decimal("0.9"), max_order_rate=1_000
    )
    params: TraderParams

    def on_candle(self, view: View) -> Iterator[Intent]:
        """Enter, leave, move protection, leave alarms or withdraw."""
        drawn = self._drawn(view)
        if next(drawn) % 10 >= self.params.zeal:
            return
        choice = next(drawn) % 8
        if view.positions and choice in (0, 1, 2):
            position = view.positions[next(drawn) % len(view.positions)]
            if choice == 0:
                yield Exit(position_id=position.id, reason=CloseReason.EXIT_RULE)
            elif choice == 1:
                sign = position.direction.sign
                yield Exit(position_id=position.id, price=view.price * (1 + sign * STEP))
            else:
                sign = position.direction.sign
                yield Protect(
                    position_id=position.id,
                    stop_price=view.price * (1 - 3 * sign * STEP),
                    take_profit_price=view.price * (1 + 3 * sign * STEP),
                )
        elif choice == 3:
            yield CancelEntries(symbol=view.symbol)
        elif choice == 4:
            yield Alarm(symbol=view.symbol, below=view.price * (1 - STEP), above=view.price * (1 + STEP))
        else:
            yield self._entry(view, drawn)

    def on_price(self, view: View, level: Decimal) -> Iterator[Intent]:
        """Enter at a touched level."""
        yield self._entry(view, self._drawn(view))

    def _entry(self, view: View, drawn: Iterator[int]) -> Enter:
        direction = Direction.LONG if next(drawn) % 2 else Direction.SHORT
        sign = direction.sign
        limit = next(drawn) % 3 == 0
        guarded = next(drawn) % 2 == 0
        return Enter(
            symbol=view.symbol,
            direction=direction,
            type=OrderType.LIMIT if limit else OrderType.MARKET,
            price=view.price * (1 - sign * STEP) if limit else None,
            notional=view.capital * view.leverage * Decimal(1 + next(drawn) % 6) / 10,
            stop_price=view.price * (1 - 4 * sign * STEP) if guarded else None,
            take_profit_price=view.price * (1 + 4 * sign * STEP) if guarded else None,
        )

    def _drawn(self, view: View) -> Iterator[int]:
        text = f"{self.params.nature} {view.symbol} {view.now_ms}".encode()
        yield from hashlib.blake2b(text, digest_size=32).digest()


class Clumsy(Trader):
    """Raise something now and then, while it is asked what it looks at as well."""

    id: ClassVar[str] = "tpl_clumsy"
    description: ClassVar[str] = "Trades by hash, and stumbles."

    def features(self) -> tuple[Feature, ...]:
        """Declare nothing, if it gets that far."""
        self._step()
        return ()

    def on_candle(self, view: View) -> Iterator[Intent]:
        """Do as all do, or stumble before or after it."""
        self._step()
        yield from super().on_candle(view)
        self._step()

    def stumbles(self) -> bool:
        """Tell whether to raise now."""
        return False

    def _step(self) -> None:
        if self.stumbles():
            raise SystemExit("a stumble")


def traders(stumbles: Callable[[], bool]) -> Catalogue:
    """Return the templates of one world; `stumbles` draws whether a clumsy one raises."""

    class Fated(Clumsy):
        def stumbles(self) -> bool:
            return stumbles()

    return Catalogue(templates={Trader.id: Trader, Clumsy.id: Fated})
