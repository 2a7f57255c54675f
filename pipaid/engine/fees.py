"""What trading costs in a backtest: nothing, a fixed share, by what was traded lately, or as the venue charges."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Final, get_args

from attrs import frozen

from pipaid.engine.matching import Terms
from pipaid.errors import InvalidParameter
from pipaid.model.backtest import FeeModel as FeeModel
from pipaid.model.moment import DAY_MS
from pipaid.model.money import ZERO, plain

FEE_MODELS: Final[tuple[FeeModel, ...]] = get_args(FeeModel)
FEE_BPS_DEFAULT: Final = Decimal(5)
FEE_BPS_MAX: Final = Decimal(1_000)
SLIPPAGE_BPS_MAX: Final = Decimal(1_000)
# The volume that decides on the tier is that of so long.
TRAILING_MS: Final = 30 * DAY_MS


@frozen
class Tier:
    """From which trailing volume on (quote currency) makers and takers pay how much (basis points)."""

    volume: Decimal
    maker_bps: Decimal
    taker_bps: Decimal


TIERS: Final = (
    Tier(ZERO, Decimal(2), Decimal(5)),
    Tier(Decimal(15_000_000), Decimal("1.6"), Decimal(4)),
    Tier(Decimal(50_000_000), Decimal("1.4"), Decimal("3.5")),
    Tier(Decimal(100_000_000), Decimal("1.2"), Decimal("3.2")),
    Tier(Decimal(600_000_000), Decimal(1), Decimal(3)),
)


def tiers_objection(tiers: Sequence[Tier]) -> str:
    """Say why tiers leave open what somebody pays, or nothing: the first begins at 0, each other one above the last."""
    if not tiers or tiers[0].volume != ZERO:
        return "no tier begins at a volume of 0"
    for lower, tier in pairwise(tiers):
        if tier.volume <= lower.volume:
            return f"the tier from {plain(tier.volume)} on stands after the one from {plain(lower.volume)} on"
    return ""


@frozen(kw_only=True)
class Fees:
    """How fills are charged, and what the market takes beyond its price: `slippage_bps` on market orders.

    `fee_bps` is for `fixed_bps` alone, `venue` for `match_exchange`: what the venue charges makers and takers.
    """

    model: FeeModel = "fixed_bps"
    fee_bps: Decimal = FEE_BPS_DEFAULT
    slippage_bps: Decimal = ZERO
    venue: tuple[Decimal, Decimal] | None = None
    tiers: tuple[Tier, ...] = TIERS

    def __attrs_post_init__(self) -> None:
        if self.model not in FEE_MODELS:
            raise InvalidParameter(f"fee_model: must be one of {', '.join(FEE_MODELS)}, got {self.model!r:.40}")
        for name, value, most in (
            ("fee_bps", self.fee_bps, FEE_BPS_MAX),
            ("slippage_bps", self.slippage_bps, SLIPPAGE_BPS_MAX),
        ):
            if not (value.is_finite() and ZERO <= value <= most):
                raise InvalidParameter(f"{name}: must be 0 to {plain(most)} basis points, got {value}")
        objection = tiers_objection(self.tiers)
        if objection:
            raise InvalidParameter(f"tiers: {objection}")
        if self.model == "match_exchange" and self.venue is None:
            raise InvalidParameter("fee_model: match_exchange needs a venue whose fees are known; choose another one")

    @property
    def moves(self) -> bool:
        """Tell whether what is charged depends on what was traded."""
        return self.model == "tiered_maker_taker"

    def terms(self, volume: Decimal) -> Terms:
        """Return what is charged after so much was traded in the trailing 30 days."""
        maker, taker = self._rates(volume)
        return Terms(maker_bps=maker, taker_bps=taker, slippage_bps=self.slippage_bps)

    def _rates(self, volume: Decimal) -> tuple[Decimal, Decimal]:
        match self.model:
            case "none":
                return ZERO, ZERO
            case "fixed_bps":
                return self.fee_bps, self.fee_bps
            case "match_exchange":
                assert self.venue is not None
                return self.venue
            case "tiered_maker_taker":
                tier = max((tier for tier in self.tiers if tier.volume <= volume), key=lambda tier: tier.volume)
                return tier.maker_bps, tier.taker_bps
