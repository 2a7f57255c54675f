"""A position is a lot: opened by one entry intent, closed by exits that name it."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

from pipaid.model.money import ZERO, exact_difference, exact_sum
from pipaid.model.order import Side


class Direction(StrEnum):
    """Which way a position gains."""

    LONG = "long"
    SHORT = "short"

    @property
    def sign(self) -> int:
        """Return +1 for long and -1 for short."""
        return 1 if self is Direction.LONG else -1

    @property
    def entry_side(self) -> Side:
        """Return the side of the order that opens it."""
        return Side.BUY if self is Direction.LONG else Side.SELL

    @property
    def exit_side(self) -> Side:
        """Return the side of the order that closes it."""
        return self.entry_side.opposite


class CloseReason(StrEnum):
    """Why a position was closed."""

    EXIT_RULE = "exit_rule"
    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"
    TIME_EXIT = "time_exit"
    PAUSE_CLOSE = "pause_close"
    STOP_CLOSE = "stop_close"
    RISK = "risk"
    LIQUIDATION = "liquidation"
    MANUAL = "manual"


class Position(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One lot: quantities in base, values, fees and funding in quote currency; funding received is positive.

    `market_step` is the step of the market in which it was last entered: a simulated desk liquidates it in later steps
    only, so that going through a step again after a crash changes nothing.
    """

    id: str
    strategy_id: str
    account: str
    dry_run: bool
    run_id: str
    symbol: str
    direction: Direction
    leverage: int
    tag: str = ""
    entry_quantity: Decimal = ZERO
    entry_value: Decimal = ZERO
    exit_quantity: Decimal = ZERO
    exit_value: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    stop_price: Decimal | None = None
    take_profit_price: Decimal | None = None
    opened_at_ms: int = 0
    closed_at_ms: int = 0
    reason: CloseReason | None = None
    funded_at_ms: int = 0
    market_step: int = 0

    @property
    def quantity(self) -> Decimal:
        """Return what is still open."""
        return self.entry_quantity - self.exit_quantity

    @property
    def is_open(self) -> bool:
        """Tell whether the lot has been entered and not yet wholly left."""
        return self.closed_at_ms == 0

    @property
    def entry_price(self) -> Decimal:
        """Return the average entry price, zero before the first fill."""
        return self.entry_value / self.entry_quantity if self.entry_quantity else ZERO

    @property
    def exit_price(self) -> Decimal:
        """Return the average exit price, zero before the first exit."""
        return self.exit_value / self.exit_quantity if self.exit_quantity else ZERO

    @property
    def pnl(self) -> Decimal:
        """Return the realised profit of the closed part, after all fees and funding so far.

        For a lot that is partly left, the entry value of the closed part is its share by quantity.
        """
        if self.exit_quantity == self.entry_quantity:
            entry_value = self.entry_value
        else:
            entry_value = self.entry_value * self.exit_quantity / self.entry_quantity if self.entry_quantity else ZERO
        gained = exact_difference(self.exit_value, entry_value)
        if self.direction.sign < 0:
            gained = gained.copy_negate()
        return exact_sum(exact_difference(gained, self.fees), self.funding)

    @property
    def open_value(self) -> Decimal:
        """Return the entry notional of the open part."""
        if not self.exit_quantity:
            return self.entry_value
        return self.entry_value * self.quantity / self.entry_quantity

    def unrealised(self, mark: Decimal) -> Decimal:
        """Return the profit of the open part at a mark price, before the fees of leaving."""
        return self.direction.sign * self.quantity * (mark - self.entry_price)

    def margin(self) -> Decimal:
        """Return the initial margin bound by the open part: its entry notional over the leverage."""
        return self.open_value / self.leverage
