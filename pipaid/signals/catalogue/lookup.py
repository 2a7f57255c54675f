"""From a signal's name and params to the condition that a series answers; what cannot be is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from math import isfinite
from types import MappingProxyType
from typing import Any, Final, cast

import msgspec

from pipaid.errors import InvalidParameter
from pipaid.model.instrument import Timeframe
from pipaid.signals.catalogue import momentum, patterns, trend_filters, trend_triggers, volatility, volume
from pipaid.signals.catalogue.declare import (
    BEARISH,
    BULLISH,
    PERIODS,
    WINDOWS_MAX,
    Knob,
    Signal,
    SignalType,
    Value,
    spelled,
)
from pipaid.signals.series import Condition

SIGNALS: Final[Mapping[str, Signal]] = MappingProxyType(
    {
        **momentum.TRIGGERS,
        **momentum.FILTERS,
        **trend_triggers.TRIGGERS,
        **trend_filters.FILTERS,
        **volatility.TRIGGERS,
        **volatility.FILTERS,
        **volume.TRIGGERS,
        **volume.FILTERS,
        **patterns.TRIGGERS,
        **patterns.FILTERS,
    }
)
# Signals that other systems have and no candle tells, by the data that they are made of.
SOURCES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "on-chain flows of labelled wallets": (
            "smart_money_inflow_spike",
            "smart_money_holdings_cross",
            "smart_money_net_positive",
            "smart_money_holdings_rising",
            "whale_accumulation_trigger",
            "whale_net_accumulation",
        ),
        "on-chain flows to and from exchanges": ("exchange_outflow_spike", "exchange_net_outflow"),
        "on-chain holdings by address": ("holder_concentration_low", "holder_concentration_falling"),
        "token unlock schedules": ("token_unlock_pressure_low", "token_unlock_cliff_ahead"),
        "funding rates": ("funding_negative_regime", "funding_flip_positive"),
        "flows of exchange-traded funds": ("etf_inflow_streak", "etf_inflow_spike"),
        "holdings of corporate treasuries": ("treasury_growing", "treasury_accumulation_trigger"),
        "rates of lending protocols": ("lending_spread_low", "lending_spread_widening"),
    }
)
EXTERNAL: Final[Mapping[str, str]] = MappingProxyType(
    {name: source for source, names in SOURCES.items() for name in names}
)
# What params were called in older releases of other systems.
OLD_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {"short_period": "window_fast", "long_period": "window_slow", "lookback": "window", "period": "window"}
)
FAST_AND_SLOW: Final = (("window_fast", "window_slow"), ("fast", "slow"))
NAME_SHOWN_MAX: Final = 60
NAMES_TRIED_MAX: Final = 64
MISTAKES_SHOWN_MAX: Final = 20


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A signal with params, put as a question to a series: the condition, and of which timeframe's candles."""

    signal: str
    type: SignalType
    timeframe: Timeframe
    condition: Condition
    params: dict[str, Value]


def find(name: str) -> Signal:
    """Return a signal by name; refuse one that is unknown, or made of data that there is none of."""
    signal = SIGNALS.get(name)
    if signal is not None:
        return signal
    source = EXTERNAL.get(name)
    if source is not None:
        raise _refused("name", f"{name} is made of {source}, which no venue here tells; only candles are known")
    from difflib import get_close_matches  # Importing it takes longer than most look-ups.

    near = get_close_matches(name.lower()[:NAMES_TRIED_MAX], SIGNALS, n=3, cutoff=0.6)
    hint = f"did you mean {', '.join(near)}?" if near else "`pipaid signals list` shows them"
    raise _refused("name", f"no signal is called {name[:NAME_SHOWN_MAX]!r}; {hint}")


def checked(signal: Signal, params: Mapping[str, Any]) -> dict[str, Value]:
    """Return a value for every param, as given or by default; refuse all that is wrong, each by name."""
    wrong: list[tuple[str, str]] = []
    given: dict[str, Any] = {}
    for name, value in sorted(params.items(), key=lambda item: item[0] not in signal.knob):
        known = OLD_NAMES.get(name, name) if name not in signal.knob else name
        if known not in signal.knob:
            takes = f"it takes {', '.join(signal.knob)}" if signal.knobs else "it takes none"
            wrong.append((_shown(name), f"is no param of {signal.name}; {takes}"))
        elif known in given:
            wrong.append((_shown(name), f"is another name of {known}, which is given as well"))
        else:
            given[known] = value
    values: dict[str, Value] = {}
    for knob in signal.knobs:
        try:
            values[knob.name] = _value(knob, given[knob.name]) if knob.name in given else _default(knob)
        except ValueError as refused:
            wrong.append((knob.name, str(refused)))
    for fast, slow in FAST_AND_SLOW:
        if fast in values and slow in values and not cast("int", values[fast]) < cast("int", values[slow]):
            wrong.append((fast, f"must be less than {slow}, got {values[fast]} and {values[slow]}"))
    if wrong:
        wrong = wrong[:MISTAKES_SHOWN_MAX]
        told = "; ".join(f"{name} {what}" for name, what in wrong)
        raise InvalidParameter(
            f"{signal.name}: {told}", details=tuple((f"params.{name}", what) for name, what in wrong)
        )
    return values


def rule(
    name: str,
    params: Mapping[str, Any] | None = None,
    *,
    timeframe: Timeframe,
    type: SignalType | str | None = None,
    anchor: float | None = None,
) -> Rule:
    """Return a signal as a question to the series of a timeframe.

    `type` says what it is used as: a FILTER used as a TRIGGER is asked where it begins to hold, and a TRIGGER is no
    FILTER. `anchor` is the price from which the signals of cumulative returns add up.
    """
    signal = find(name)
    used = signal.type if type is None else _type(signal, type)
    values = checked(signal, params or {})
    if signal.anchored and anchor is None:
        raise _refused("anchor", f"{name} needs the price from which returns add up")
    for knob in signal.knobs:
        if knob.kind == "timeframe":
            timeframe = _larger(name, knob.name, timeframe, str(values[knob.name]))
    edge = used is SignalType.TRIGGER and signal.type is SignalType.FILTER
    condition = signal.condition(values, anchor=anchor, edge=edge)
    return Rule(signal=name, type=used, timeframe=timeframe, condition=condition, params=values)


def _larger(name: str, param: str, timeframe: Timeframe, told: str) -> Timeframe:
    """Return the timeframe whose candles make up a longer period, which is whole candles of the rule's own."""
    period = PERIODS[told]
    if period.ms % timeframe.ms:
        what = f"must be made of whole {timeframe} candles, got {told}"
        raise InvalidParameter(f"{name}: {param} {what}", details=((f"params.{param}", what),))
    return period.made_of


def _type(signal: Signal, told: str) -> SignalType:
    try:
        used = SignalType(told)
    except ValueError:
        raise _refused("signal_type", f"must be {' or '.join(SignalType)}, got {told!r:.60}") from None
    if used is SignalType.FILTER and signal.type is SignalType.TRIGGER:
        raise _refused(
            "signal_type", f"{signal.name} is a TRIGGER: it tells a moment and never lasts, so it is no FILTER"
        )
    return used


def _default(knob: Knob) -> Value:
    if knob.default is None:
        raise ValueError(f"is required: {knob.allowed()}")
    return _value(knob, knob.default)


def _value(knob: Knob, value: object) -> Value:
    match knob.kind:
        case "flag":
            found: Value | None = value if isinstance(value, bool) else None
        case "direction":
            lowered = value.lower() if isinstance(value, str) else None
            found = lowered if lowered in (BULLISH, BEARISH) else None
        case "windows":
            found = _windows(knob, value)
        case "timeframe":
            found = spelled(value) if isinstance(value, str) else None
        case _:
            found = _number(knob, value)
    if found is None:
        raise ValueError(f"must be {knob.allowed()}, got {value!r:.60}")
    return found


def _number(knob: Knob, value: object) -> int | float | None:
    """Return what a client told as a number within the bounds, if it is one; decimals may come as text."""
    if isinstance(value, str):
        try:
            value = Decimal(value)
        except InvalidOperation:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    # An integer of any size is finite, and may be too large to ask.
    if not isinstance(value, int) and not (value.is_finite() if isinstance(value, Decimal) else isfinite(value)):
        return None
    if not knob.encloses(value):
        return None
    if knob.kind == "number":
        return float(value)
    return int(value) if value == int(value) else None


def _windows(knob: Knob, value: object) -> tuple[int, ...] | None:
    if not isinstance(value, list | tuple) or not 2 <= len(cast("list[object]", value)) <= WINDOWS_MAX:
        return None
    windows: list[int] = []
    for each in cast("list[object]", value):
        if isinstance(each, bool) or not isinstance(each, int) or not knob.encloses(each):
            return None
        windows.append(each)
    return tuple(windows) if all(shorter < longer for shorter, longer in pairwise(windows)) else None


def _shown(name: str) -> str:
    return name if len(name) <= NAME_SHOWN_MAX else f"{name[: NAME_SHOWN_MAX - 1]}…"


def _refused(field: str, what: str) -> InvalidParameter:
    return InvalidParameter(what, details=((field, what),))
