"""The book of a market that has none: made up around the last price, a pure function of symbol, price and time."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Final

import numpy as np

from pipaid.model.instrument import Instrument
from pipaid.model.market import Level, Levels
from pipaid.model.money import ZERO
from pipaid.venues.path import Integers, scattered, unit

# What rests at a level stays for so long; levels take turns in changing.
RESTS_MS: Final = 2_000
# What rests at a level is worth so much on average, in quote currency; more of it further away from the price.
LEVEL_WORTH: Final = Decimal(8_000)
FARTHER: Final = 40


def best(instrument: Instrument, price: Decimal, *, sold: bool) -> tuple[Decimal, Decimal]:
    """Return the best bid and ask one tick apart: the last trade met the bid if it was sold, else the ask."""
    tick = instrument.tick_size
    at = instrument.price(price)
    bid = at if sold or at <= tick else at - tick
    return bid, bid + tick


def levels(instrument: Instrument, price: Decimal, count: int, *, sold: bool, at_ms: int) -> Levels:
    """Return up to so many levels on each side of the last price; bids end above zero."""
    bid, ask = best(instrument, price, sold=sold)
    steps = np.arange(count, dtype=np.int64)
    lowest = int(bid / instrument.tick_size)
    downwards = lowest - steps[: min(count, lowest)]
    upwards = int(ask / instrument.tick_size) + steps
    return Levels(_side(instrument, price, downwards, at_ms), _side(instrument, price, upwards, at_ms))


def _side(instrument: Instrument, price: Decimal, ticks: Integers, at_ms: int) -> tuple[Level, ...]:
    name = hashlib.blake2b(instrument.symbol.encode(), digest_size=8).digest()
    places = scattered(np.uint64(int.from_bytes(name, "little")), ticks)
    turns = ((places % np.uint64(RESTS_MS)).astype(np.int64) + at_ms) // RESTS_MS
    drawn = unit(scattered(np.uint64(0), (places ^ turns.astype(np.uint64)).astype(np.int64)))
    lot, tick = instrument.lot_size, instrument.tick_size
    usual = max(1, int(LEVEL_WORTH / price / lot)) if price > ZERO else 1
    away = 1.0 + np.arange(len(ticks)) / FARTHER
    lots = np.maximum(1, np.rint(usual * away * (0.1 + 1.8 * drawn * drawn))).astype(np.int64)
    return tuple((at * tick, many * lot) for at, many in zip(ticks.tolist(), lots.tolist(), strict=True))
