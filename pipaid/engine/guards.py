"""What holds a strategy back: its caps, losses in a row, a deep fall, a balance that is nearly gone."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, Literal

from attrs import field, frozen

from pipaid.engine.knobs import ParamSpec, declared
from pipaid.engine.spending import Allowance
from pipaid.model.moment import DAY_MS
from pipaid.model.money import ZERO

POSITIONS_MAX: Final = 10_000
CANDLES_MAX: Final = 10_000
WEEK_MS: Final = 7 * DAY_MS
MONDAY_MS: Final = 4 * DAY_MS  # The epoch was a Thursday, and a week begins on Monday.


def _cap(
    description: str,
    *,
    kind: Literal["integer", "decimal"],
    low: int | None = None,
    high: int | None = None,
    name: str | None = None,
) -> Any:
    """Declare a cap that null switches off; one without a lower bound is above zero."""
    spec = ParamSpec(
        kind=kind,
        description=description,
        low=None if low is None else Decimal(low),
        high=None if high is None else Decimal(high),
        above=Decimal(0) if low is None else None,
        optional=True,
    )
    return declared(spec, None, name)


@frozen(kw_only=True)
class RiskParams:
    """The caps every template takes under `risk`; nothing means no cap of the strategy's own."""

    max_open_positions: int | None = _cap(
        "Most positions at once, working entries included", kind="integer", low=1, high=POSITIONS_MAX
    )
    max_trades_per_day: int | None = _cap("Most trades a UTC day", kind="integer", low=1, high=100_000)
    max_position_notional: Decimal | None = _cap("Largest notional of one position, in quote currency", kind="decimal")
    max_daily_loss: Decimal | None = _cap(
        "Realised loss of a UTC day, in quote currency, after which nothing is entered until the next", kind="decimal"
    )
    max_drawdown_pct: Decimal | None = _cap(
        "Fall of the equity from its peak, as a fraction, after which nothing more is entered", kind="decimal", high=1
    )
    cooldown_candles: int | None = _cap(
        "Candles without entries after each closed trade",
        kind="integer",
        low=0,
        high=CANDLES_MAX,
        name="cooldown_bars",
    )
    max_order_rate: int | None = _cap("Most entry orders a minute", kind="integer", low=1, high=10_000)


@frozen(kw_only=True)
class LossPause:
    """Enter nothing for some time after so many losses in a row within as long.

    With `calendar` these are a day or a week of UTC: losses within it count, and it lasts until the next begins.
    """

    losses: int
    length_ms: int
    calendar: bool = False

    def until_ms(self, losses_ms: tuple[int, ...], now_ms: int) -> int:
        """Return until when nothing is entered, given when the last losses in a row were; zero if that is open."""
        if len(losses_ms) < self.losses:
            return 0
        begun_ms = now_ms - self.length_ms
        if self.calendar:
            offset_ms = MONDAY_MS if self.length_ms == WEEK_MS else 0
            begun_ms = now_ms - (now_ms - offset_ms) % self.length_ms
        first_ms = losses_ms[-self.losses]
        return 0 if first_ms < begun_ms else (begun_ms if self.calendar else now_ms) + self.length_ms


@frozen(kw_only=True)
class Guards:
    """The defaults of `params.risk`, and what a template adds to it.

    A fall of the equity to `risk.max_drawdown_pct` is taken as the new normal once `drawdown_pause_ms` have passed, or
    never if that is zero. Nothing is entered below `balance_min_pct` of the capital.
    `spending` bounds what asking models may cost in a day.
    """

    risk: RiskParams = field(factory=RiskParams)
    pauses: tuple[LossPause, ...] = ()
    drawdown_pause_ms: int = 0
    balance_min_pct: Decimal = ZERO
    spending: Allowance = field(factory=Allowance)
