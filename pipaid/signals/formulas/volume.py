"""What the volume says about prices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from pipaid.signals.formulas.shared import RANGE, TYPICAL
from pipaid.signals.line import (
    CLOSE,
    HIGH,
    LOW,
    NOTHING,
    VOLUME,
    Line,
    change,
    defined,
    ema,
    mean,
    number,
    otherwise,
    product,
    running,
    steady,
    total,
    where,
)

# A typical price that differs by at most this share is the same: what rounding leaves of equal prices.
FLAT_PRICE: Final = 1e-12
# Where in its range a candle closed, from -1 to 1; in the middle of none.
PLACE: Final = where(RANGE > 0.0, ((2.0 * CLOSE - HIGH) - LOW) / RANGE, 0.0)
FLOW: Final = PLACE * VOLUME


def vwma(window: int) -> Line:
    """Return the average of closes weighted by volume."""
    return steady(total(CLOSE * VOLUME, window) / total(VOLUME, window), CLOSE, window)


def vwap(window: int) -> Line:
    """Return the average of typical prices weighted by volume, over a rolling window."""
    return steady(total(TYPICAL * VOLUME, window) / total(VOLUME, window), TYPICAL, window)


def adosc(fast: int, slow: int) -> Line:
    """Return Chaikin's oscillator: how much faster accumulation runs than usual."""
    accumulated = running(FLOW)
    return ema(accumulated, fast) - ema(accumulated, slow)


def kvo_histogram(fast: int, slow: int, signal_window: int) -> Line:
    """Return how far the volume oscillator lies above its signal line."""
    up, down = _typical_moves()
    signed = where(up, VOLUME, where(down, 0.0 - VOLUME, 0.0))
    oscillator = ema(signed, fast) - ema(signed, slow)
    return oscillator - ema(oscillator, signal_window)


def _typical_moves() -> tuple[Line, Line]:
    moved, least = otherwise(change(TYPICAL), number(0.0)), FLAT_PRICE * TYPICAL
    return moved > least, moved < 0.0 - least


def _since(added: Line, begun: Line, window: int) -> Line:
    """Return by how much a running total has grown since the oldest candle of a window, where it had begun by then."""
    return where(defined(begun[-(window - 1)]), total(added, window - 1), NOTHING)


def adi_growth(window: int) -> Line:
    """Return by how much accumulation and distribution has grown over a window."""
    return _since(FLOW, FLOW, window)


def obv_growth(window: int) -> Line:
    """Return by how much the balance of volume has grown over a window."""
    up, down = CLOSE[-1] < CLOSE, CLOSE[-1] > CLOSE
    return _since(where(up, VOLUME, where(down, 0.0 - VOLUME, 0.0)), CLOSE, window)


def vpt_growth(window: int) -> Line:
    """Return by how much the trend of price times volume has grown over a window."""
    added = VOLUME * (CLOSE / CLOSE[-1] - 1.0)
    return _since(added, added, window)


def cmf(window: int) -> Line:
    """Return Chaikin's money flow."""
    return total(FLOW, window) / total(VOLUME, window)


def force(window: int) -> Line:
    """Return Elder's force index."""
    return ema(change(CLOSE) * VOLUME, window)


def ease(window: int) -> Line:
    """Return how easily prices move: far on little volume."""
    moved = 1e8 * (change(HIGH) + change(LOW)) * RANGE
    return mean(moved / (2.0 * VOLUME), window)


def nvi_lead(window: int) -> Line:
    """Return how far the index of days of falling volume lies above its average."""
    index = product(where(VOLUME[-1] > VOLUME, CLOSE / CLOSE[-1], 1.0))
    return index - ema(index, window)


def mfi(window: int) -> Line:
    """Return the money flow index: relative strength weighted by volume."""
    up, down = _typical_moves()
    flow = TYPICAL * VOLUME
    gained, lost = total(where(up, flow, 0.0), window), total(where(down, flow, 0.0), window)
    return 100.0 * gained / (gained + lost)


def cumulative_return(anchor: float) -> Line:
    """Return how far the close lies above a price, in percent."""
    return 100.0 * (CLOSE / anchor - 1.0)


LINES: Final[Mapping[str, Callable[..., Line]]] = MappingProxyType(
    {
        "vwma": vwma,
        "vwap": vwap,
        "adosc": adosc,
        "kvo_histogram": kvo_histogram,
        "adi_growth": adi_growth,
        "obv_growth": obv_growth,
        "vpt_growth": vpt_growth,
        "cmf": cmf,
        "force": force,
        "ease": ease,
        "nvi_lead": nvi_lead,
        "mfi": mfi,
        "cumulative_return": cumulative_return,
    }
)
