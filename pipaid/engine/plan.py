"""What to backtest, and on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from attrs import field, frozen

from pipaid.engine.fees import Fees
from pipaid.engine.recorded import Answers
from pipaid.engine.template import Template
from pipaid.model.columns import Candles
from pipaid.model.consult import Answer, Tariff
from pipaid.model.instrument import Instrument
from pipaid.model.strategy import StrategyDefinition
from pipaid.model.trades import Trades


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
