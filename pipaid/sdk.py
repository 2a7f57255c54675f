"""All that a template author imports."""

from __future__ import annotations

from pipaid.engine.params import RiskParams, choice_param, decimal_param, flag_param, integer_param
from pipaid.engine.template import (
    Alarm,
    CancelEntries,
    Enter,
    Entry,
    Exit,
    ExitAll,
    Intent,
    NoState,
    Protect,
    Template,
    View,
    Wakes,
)
from pipaid.model.candle import Candle
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.model.order import Fill, OrderType, Side
from pipaid.model.position import CloseReason, Direction, Position
from pipaid.signals.series import EVERY, Condition, Feature, Series

__all__ = [
    "EVERY",
    "Alarm",
    "CancelEntries",
    "Candle",
    "CloseReason",
    "Condition",
    "Direction",
    "Enter",
    "Entry",
    "Exit",
    "ExitAll",
    "Feature",
    "Fill",
    "Instrument",
    "Intent",
    "NoState",
    "OrderType",
    "Position",
    "Protect",
    "RiskParams",
    "Series",
    "Side",
    "Template",
    "Timeframe",
    "View",
    "Wakes",
    "choice_param",
    "decimal_param",
    "flag_param",
    "integer_param",
]
