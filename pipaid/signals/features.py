"""Every indicator that a feature may name: those written by hand, and those that are formulas."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from inspect import Parameter
from types import MappingProxyType
from typing import Final

from pipaid.signals.formulas import averages, momentum, patterns, trend, volatility, volume
from pipaid.signals.indicator import INDICATORS, WINDOW_MAX, Indicator, Param
from pipaid.signals.line import Line, reach
from pipaid.signals.steps import Formula

# A feature takes at most so many params, where it takes as many as are given.
PARAMS_MAX: Final = 64
# What is neither a window nor any number from zero on.
_BOUNDS: Final[Mapping[str, tuple[float, float]]] = MappingProxyType(
    {
        "sigma": (0.01, 1_000),
        "offset": (0, 1),
        "constant": (1e-6, 1),
        "anchor": (1e-18, 1e18),
        "period_ms": (60_000, 366 * 86_400_000),
    }
)

LINES: Final[Mapping[str, Callable[..., Line]]] = MappingProxyType(
    {
        **averages.LINES,
        **momentum.LINES,
        **trend.LINES,
        **volatility.LINES,
        **volume.LINES,
        **patterns.LINES,
    }
)


@lru_cache(maxsize=4_096)
def line_of(name: str, params: tuple[int | float, ...]) -> Line:
    """Return the formula of an indicator that is one; raise ValueError for params outside their bounds."""
    make, values = LINES[name], _checked(name, params)
    named = [each.name for each in inspect.signature(make).parameters.values() if each.kind is Parameter.KEYWORD_ONLY]
    return make(**dict(zip(named, values, strict=True))) if named else make(*values)


def make_indicator(name: str, params: tuple[int | float, ...]) -> Indicator:
    """Return a fresh indicator; raise ValueError for an unknown name or params outside their bounds."""
    if name in LINES:
        return Formula(line_of(name, params))
    return INDICATORS[name].make(*_checked(name, params)) if name in INDICATORS else _unknown(name)


def reach_of(name: str, params: tuple[int | float, ...]) -> int | None:
    """Return of how many candles a value is made, or nothing if those before them count as well."""
    if name in LINES:
        return reach(line_of(name, params))
    made = INDICATORS[name].reach
    return None if made is None else made(*params)


def first_needed(name: str, params: tuple[int | float, ...], count: int) -> int:
    """Return from which of `count` candles on a fresh indicator must be fed to be as if it had been fed all of them."""
    candles = reach_of(name, params)
    # One more candle, because `previous` is kept.
    return 0 if candles is None else max(0, count - candles - 1)


def params_of_indicator(name: str, count: int) -> tuple[Param, ...]:
    """Return what an indicator takes: the signature of a formula tells, where it may be any number of windows."""
    if name in INDICATORS:
        return INDICATORS[name].params
    declared: list[Param] = []
    for param in inspect.signature(LINES[name]).parameters.values():
        declared += [_param(param)] * (count if param.kind is Parameter.VAR_POSITIONAL else 1)
    return tuple(declared)


def _unknown(name: str) -> Indicator:
    raise ValueError(f"no indicator is called {name!r}; known: {', '.join(sorted((*INDICATORS, *LINES)))}")


def _checked(name: str, params: tuple[int | float, ...]) -> list[int | float]:
    declared = params_of_indicator(name, min(len(params), PARAMS_MAX))
    if len(params) != len(declared):
        wanted = ", ".join(param.name for param in declared) or "no params"
        raise ValueError(f"{name} takes {wanted}, got {len(params)} params")
    values: list[int | float] = []
    for param, value in zip(declared, params, strict=True):
        if not (param.low <= value <= param.high) or (param.whole and value != int(value)):
            allowed = f"a {'whole ' if param.whole else ''}number from {param.low:g} to {param.high:g}"
            raise ValueError(f"{param.name} of {name} must be {allowed}, got {value!r}")
        values.append(int(value) if param.whole else float(value))
    return values


def _param(param: Parameter) -> Param:
    if param.annotation == "bool":
        return Param(param.name, 0, 1)
    if param.annotation == "int":
        return Param(param.name, 0 if param.name.endswith("offset") else 1, WINDOW_MAX)
    return Param(param.name, *_BOUNDS.get(param.name, (0, 1e18)), whole=False)
