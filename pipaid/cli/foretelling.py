"""What is foretold of the strategies that a configuration declares, from the past of the market that it names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import trio

from pipaid.config import Config, Declaration
from pipaid.engine.assembly import larger_timeframes
from pipaid.engine.foretelling import notes_on
from pipaid.errors import PipaidError
from pipaid.foretelling import pasts_of, series_at
from pipaid.model.columns import Candles
from pipaid.model.instrument import Timeframe
from pipaid.model.strategy import StrategyDefinition
from pipaid.plugins import load_templates
from pipaid.seams import World
from pipaid.venues.opening import open_market
from pipaid.wire.activity import Activity


def foretold(config: Config, declarations: Sequence[Declaration]) -> Iterator[tuple[str, str]]:
    """Yield what to know of each declared strategy, by its name; those must be without mistakes."""
    catalogue = load_templates()
    for declared in declarations:
        template = catalogue.get(declared.template_id)
        if not template.foretells:
            continue
        definition = StrategyDefinition(
            name=declared.name,
            template_id=declared.template_id,
            params=declared.params,
            symbols=declared.symbols,
            timeframe=declared.timeframe,
            capital=declared.capital,
            leverage=declared.leverage,
        )
        timeframes = (definition.timeframe, *larger_timeframes(definition, template))
        try:
            pasts = trio.run(_pasts, config, definition.symbols, timeframes)
        except (PipaidError, OSError) as trouble:
            yield declared.name, f"its past cannot be read: {trouble}"
            continue
        yield from ((declared.name, note) for note in notes_on(definition, template, pasts))


async def _pasts(
    config: Config, symbols: Sequence[str], timeframes: Sequence[Timeframe]
) -> dict[str, dict[Timeframe, Candles]]:
    market = open_market(config.market, World(), Activity(), resume_ms=None, listed_ms=None)
    listed = await market.instruments()
    known = [symbol for symbol in symbols if symbol in listed]
    return await pasts_of(partial(series_at, market), known, timeframes, market.now_ms(), within_s=math.inf)
