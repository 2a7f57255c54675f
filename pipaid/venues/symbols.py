"""What a symbol's text says, and what is taken for granted where a source says nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

NOTIONAL_MIN: Final = Decimal(5)
_QUOTES: Final = ("FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USD", "EUR", "GBP", "JPY", "BTC", "ETH", "BNB")


def base_and_quote(symbol: str) -> tuple[str, str]:
    """Split `BTCUSDT` into `BTC` and `USDT`; a symbol that ends in no known currency is quoted in USDT."""
    for quote in _QUOTES:
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return symbol.removesuffix(quote), quote
    return symbol, "USDT"
