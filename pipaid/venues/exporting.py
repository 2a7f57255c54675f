"""Columns of candles as the rows of a file that a replay and everybody else reads."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from pipaid.model.columns import COLUMNS, Candles

HEADER: Final = "open_time_ms,open,high,low,close,volume"


def csv_rows(candles: Candles) -> Iterator[str]:
    """Yield the header and a row for each candle, with all the decimals that its symbol is told in."""
    yield HEADER
    # In whole numbers up to the last moment, so that no price is rounded on its way.
    columns = [getattr(candles, name).tolist() for name in COLUMNS]
    for time_ms, *prices, volume in zip(*columns, strict=True):
        texts = [f"{candles.price(units):f}" for units in prices]
        yield f"{time_ms},{','.join(texts)},{Decimal(volume).scaleb(-candles.volume_decimals):f}"
