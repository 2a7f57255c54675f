"""All that a template author imports, and all that a script needs to try a template or to ask a daemon."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipaid.engine.guards import Guards, LossPause, RiskParams
from pipaid.engine.knobs import (
    choice_param,
    choices_param,
    decimal_param,
    flag_param,
    free_param,
    integer_param,
    list_param,
    object_param,
    optional_param,
    refused_param,
    table_param,
    text_param,
)
from pipaid.engine.spending import Allowance
from pipaid.engine.template import (
    Alarm,
    CancelEntries,
    Conclude,
    Consult,
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
from pipaid.errors import InvalidParameter
from pipaid.model.candle import Candle, MarketTrade
from pipaid.model.consult import Answer, Question, Verdict
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.model.order import Fill, OrderType, Side
from pipaid.model.position import CloseReason, Direction, Position
from pipaid.model.trades import Trades
from pipaid.signals.catalogue.lookup import Rule
from pipaid.signals.catalogue.lookup import find as find_signal
from pipaid.signals.catalogue.lookup import rule as signal_rule
from pipaid.signals.series import EVERY, Condition, Feature, Series

if TYPE_CHECKING:
    from pipaid.backtesting import Backtest, Candles, Result, answers_from_file, trades_from_csv
    from pipaid.client.awaiting import AsyncClient
    from pipaid.client.blocking import Client
    from pipaid.signals.catalogue.asking import signal

__all__ = [
    "EVERY",
    "Alarm",
    "Allowance",
    "Answer",
    "AsyncClient",
    "Backtest",
    "CancelEntries",
    "Candle",
    "Candles",
    "Client",
    "CloseReason",
    "Conclude",
    "Condition",
    "Consult",
    "Direction",
    "Enter",
    "Entry",
    "Exit",
    "ExitAll",
    "Feature",
    "Fill",
    "Guards",
    "Instrument",
    "Intent",
    "InvalidParameter",
    "LossPause",
    "MarketTrade",
    "NoState",
    "OrderType",
    "Position",
    "Protect",
    "Question",
    "Result",
    "RiskParams",
    "Rule",
    "Series",
    "Side",
    "Template",
    "Timeframe",
    "Trades",
    "Verdict",
    "View",
    "Wakes",
    "answers_from_file",
    "choice_param",
    "choices_param",
    "decimal_param",
    "find_signal",
    "flag_param",
    "free_param",
    "integer_param",
    "list_param",
    "object_param",
    "optional_param",
    "refused_param",
    "signal",
    "signal_rule",
    "table_param",
    "text_param",
    "trades_from_csv",
]

_LATE = {
    "AsyncClient": "pipaid.client.awaiting",
    "Backtest": "pipaid.backtesting",
    "Candles": "pipaid.backtesting",
    "Client": "pipaid.client.blocking",
    "Result": "pipaid.backtesting",
    "answers_from_file": "pipaid.backtesting",
    "signal": "pipaid.signals.catalogue.asking",
    "trades_from_csv": "pipaid.backtesting",
}


def __getattr__(name: str) -> Any:
    """Return what only scripts need, loaded when it is asked for: a daemon's templates do without it."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATE[name]), name)
