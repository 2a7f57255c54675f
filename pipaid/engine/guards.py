"""What holds a strategy back besides its caps: losses in a row, a deep fall, a balance that is nearly gone."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from attrs import field, frozen

from pipaid.engine.params import RiskParams
from pipaid.engine.spending import Allowance
from pipaid.model.moment import DAY_MS
from pipaid.model.money import ZERO

WEEK_MS: Final = 7 * DAY_MS
MONDAY_MS: Final = 4 * DAY_MS  # The epoch was a Thursday, and a week begins on Monday.


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
