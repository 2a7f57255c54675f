"""Which changes of an account's caps loosen anything, in the words of `risk set`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

# A cap that is set higher, or lifted, is loosened; of these, lower is looser.
_ON_IS_TIGHTER: Final = frozenset(
    {"drawdown_check_enabled", "position_limit_enabled", "rate_limit_enabled", "reduce_only"}
)


def loosened(before: dict[str, Any], changes: dict[str, Any]) -> list[str]:
    """Return the names of the caps that a change loosens."""
    names: list[str] = []
    for name, after in changes.items():
        now = before[name]
        if name == "hedging_allowed":
            looser = after and not now
        elif name in _ON_IS_TIGHTER:
            looser = now and not after
        elif name == "rate_limit_window_hours":
            looser = Decimal(str(after)) < Decimal(str(now))
        elif now is None:
            looser = False
        else:
            looser = after is None or Decimal(str(after)) > Decimal(str(now))
        if looser:
            names.append(name)
    return names
