"""What trading costs in a backtest: each way of charging, and tiers that leave nothing open."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest

from pipaid.engine.fees import TIERS, FeeModel, Fees, Tier
from pipaid.errors import InvalidParameter

OWN = (Tier(Decimal(0), Decimal(9), Decimal(8)), Tier(Decimal(100), Decimal(7), Decimal(6)))


@pytest.mark.parametrize(
    ("model", "volume", "rates"),
    [
        ("none", "0", ("0", "0")),
        ("fixed_bps", "1e9", ("4", "4")),
        ("match_exchange", "1e9", ("1", "3")),
        ("tiered_maker_taker", "0", ("9", "8")),
        ("tiered_maker_taker", "99.99", ("9", "8")),
        ("tiered_maker_taker", "100", ("7", "6")),
    ],
)
def test_each_model_charges_by_its_own_rates(model: FeeModel, volume: str, rates: tuple[str, str]) -> None:
    fees = Fees(model=model, fee_bps=Decimal(4), venue=(Decimal(1), Decimal(3)), tiers=OWN)

    terms = fees.terms(Decimal(volume))

    assert (terms.maker_bps, terms.taker_bps) == (Decimal(rates[0]), Decimal(rates[1]))


@pytest.mark.parametrize("tiers", [(), TIERS[1:], (*TIERS, TIERS[-1]), TIERS[::-1]])
def test_tiers_that_do_not_begin_at_nothing_and_rise_are_refused(tiers: Sequence[Tier]) -> None:
    with pytest.raises(InvalidParameter, match=r"^tiers: "):
        Fees(model="tiered_maker_taker", tiers=tuple(tiers))
