"""What venues publish that trading costs there, for an account of their lowest tier (venue-binance.md, section 10)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from pipaid.errors import InvalidParameter

# What makers and takers pay, in basis points of the notional.
PUBLISHED: Final[Mapping[str, tuple[Decimal, Decimal]]] = MappingProxyType(
    {
        "binance-usdm": (Decimal(2), Decimal(5)),
        "binance-spot": (Decimal(10), Decimal(10)),
    }
)


def published_fees(venue: str) -> tuple[Decimal, Decimal]:
    """Return what makers and takers pay at a venue; raise InvalidParameter where nothing is published of that."""
    if venue not in PUBLISHED:
        raise InvalidParameter(
            f"fee_model: match_exchange needs a venue whose fees are known ({', '.join(PUBLISHED)}), and the candles "
            f"are of {venue!r:.40}; choose another fee model"
        )
    return PUBLISHED[venue]
