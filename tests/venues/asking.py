"""Asking the candle server as a download does, on a clock that jumps."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2
import msgspec
import trio
from attrs import define, field

from pipaid.seams import SystemRandom
from pipaid.venues.binance_rest import PRODUCTS, BinanceRest
from pipaid.wire.http import Web
from tests.venues.candle_server import START_MS, CandleServer

SYMBOL = "BTCUSDT"
VENUE = "binance-usdm"
# Nobody is spoken to in secret here, and making one takes longer than all that is asked.
_TLS = ssl.create_default_context()


@define
class JumpingClock:
    """Time that passes only while somebody waits, and how long they did."""

    now_s: float = START_MS / 1000
    waits: list[float] = field(factory=list[float])

    def now_us(self) -> int:
        return round(self.now_s * 1_000_000)

    def monotonic_s(self) -> float:
        return self.now_s

    def cpu_s(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_s += seconds
        await trio.lowlevel.checkpoint()


@define
class Told:
    """What a person would have read."""

    lines: list[str] = field(factory=list[str])

    def __call__(self, text: str) -> None:
        self.lines.append(text)


@asynccontextmanager
async def asking(
    server: CandleServer,
    clock: JumpingClock,
    *,
    venue: str = VENUE,
    page_max: int | None = None,
    told: Told | None = None,
) -> AsyncGenerator[BinanceRest]:
    """Ask a server while the block runs."""
    product = PRODUCTS[venue]
    if page_max is not None:
        product = msgspec.structs.replace(product, page_max=page_max)
    async with httpx2.AsyncClient(verify=_TLS, trust_env=False) as client:
        yield BinanceRest(venue, product, Web(server.base, client), clock, SystemRandom(1), told or Told())
