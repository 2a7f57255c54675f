"""What is played in a backtest: a definition, its candles as tracks, and the record of the strategy that is tried."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np
from attrs import field, frozen

from pipaid.engine.fees import Fees
from pipaid.engine.played import Track
from pipaid.engine.recorded import Answers
from pipaid.engine.template import Template
from pipaid.errors import InvalidParameter
from pipaid.model.columns import Candles
from pipaid.model.consult import Answer, Tariff
from pipaid.model.ident import derived_id
from pipaid.model.instrument import Instrument
from pipaid.model.moment import DAY_MS, iso_seconds
from pipaid.model.strategy import Run, Status, Strategy, StrategyDefinition
from pipaid.model.trades import Trades

ACCOUNT: Final = "acct_backtest"
# Moments are put in order so many days at a time.
PIECE_MS: Final = 16 * DAY_MS


@frozen(kw_only=True)
class Plan:
    """What to backtest, and on what: candles of every symbol, of the strategy's timeframe or of a smaller one.

    Candles that open from `begin_ms` on and before `end_ms` are played; those before are history. `funding` holds the
    rates of a symbol with the moments at which they fell due. With `trades` of every symbol these are played, and
    candles only close. `answers` are what models said, by symbol, venue time and role of the question; nobody is asked
    anew. They cost what `tariffs` say, nothing without any.
    """

    definition: StrategyDefinition
    template: type[Template]
    candles: Mapping[str, Candles]
    instruments: Mapping[str, Instrument]
    begin_ms: int
    end_ms: int
    fees: Fees = field(factory=Fees)
    funding: Mapping[str, Sequence[tuple[int, Decimal]]] = field(factory=dict[str, Any])
    trades: Mapping[str, Trades] = field(factory=dict[str, Trades])
    answers: Answers = field(factory=dict[tuple[str, int, str], Answer])
    tariffs: Mapping[tuple[str, str], Tariff] | None = None


def tracks_of(plan: Plan) -> dict[str, Track]:
    """Return the tracks of all symbols, of candles that are equally long: no close is known before another's."""
    symbols = plan.definition.symbols
    missing = [symbol for symbol in symbols if symbol not in plan.candles]
    if missing:
        have = ", ".join(sorted(plan.candles))
        raise InvalidParameter(f"{missing[0]}: there are no candles of it; have {have}")
    longest = max((plan.candles[symbol].timeframe for symbol in symbols), key=lambda each: each.ms)
    return {symbol: _track(plan, symbol, plan.candles[symbol].larger(longest)) for symbol in symbols}


def _track(plan: Plan, symbol: str, candles: Candles) -> Track:
    track = Track.of(candles, plan.definition.timeframe, plan.begin_ms, plan.end_ms)
    if track.begin == track.end:
        there = (
            f"from {iso_seconds(int(candles.time_ms[0]))} to {iso_seconds(int(candles.time_ms[-1]))}"
            if len(candles)
            else "empty"
        )
        raise InvalidParameter(
            f"{symbol}: no candle lies between {iso_seconds(plan.begin_ms)} and {iso_seconds(plan.end_ms)}; "
            f"what there is reaches {there}"
        )
    return track


def moments(tracks: Iterable[Track]) -> Iterator[int]:
    """Yield each moment at which a candle of any track opens, in order."""
    played = [track.candles.time_ms[track.begin : track.end] for track in tracks]
    first_ms, last_ms = min(int(times[0]) for times in played), max(int(times[-1]) for times in played)
    for start_ms in range(first_ms, last_ms + 1, PIECE_MS):
        parts = (times[slice(*np.searchsorted(times, (start_ms, start_ms + PIECE_MS)))] for times in played)
        yield from np.unique(np.concatenate(tuple(parts))).tolist()


def strategy_of(plan: Plan) -> Strategy:
    """Return the record of the strategy that is tried, deployed when the playing begins."""
    definition = plan.definition
    run_ = Run(
        id=derived_id("run", definition.name, plan.begin_ms),
        dry_run=True,
        capital=definition.capital,
        leverage=definition.leverage,
        started_at_ms=plan.begin_ms,
    )
    return Strategy(
        id=derived_id("strat", definition.name),
        number=1,
        account=ACCOUNT,
        definition=definition,
        status=Status.DEPLOYED,
        created_at_us=plan.begin_ms * 1000,
        updated_at_us=plan.begin_ms * 1000,
        deployed_at_ms=plan.begin_ms,
        run=run_,
    )
