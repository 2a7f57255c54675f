"""How far prices move, and the channels drawn by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from pipaid.signals.formulas.shared import atr
from pipaid.signals.line import CLOSE, Line


def natr(window: int) -> Line:
    """Return the average true range in percent of the close."""
    return 100.0 * atr(window) / CLOSE


LINES: Final[Mapping[str, Callable[..., Line]]] = MappingProxyType({"natr": natr})
