"""From the name that a person knows a strategy by to the id that the daemon knows it by."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Final

from msgspec import UNSET

from pipaid.cli.terminal import Terminal
from pipaid.errors import InvalidParameter, NotFound
from pipaid.model.reply import StrategyObject

# A backtest's events are followed under its own id.
ID: Final = re.compile(r"(?:strat|bt)_[0-9a-f]{6,8}", re.ASCII)
EVERYTHING: Final = "*"
SUGGESTED_MAX: Final = 3


def strategy_id(terminal: Terminal, typed: str) -> str:
    """Return the id that was typed, or that of the strategy with the name that was typed."""
    if typed == EVERYTHING or ID.fullmatch(typed):
        return typed
    return named(typed, terminal.strategies())


def named(typed: str, strategies: Iterable[StrategyObject]) -> str:
    """Return the id of the one strategy with this name, as it is written or else whatever its capitals.

    Those that follow another one bear its name, and whoever says that means the one.
    """
    ids = {strategy.id: strategy.name for strategy in strategies if strategy.follows is UNSET}
    if typed in ids:
        return typed
    found = [each for each, name in ids.items() if name == typed]
    found = found or [each for each, name in ids.items() if name.casefold() == typed.casefold()]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(f"{each} {ids[each]!r}" for each in found)
        raise InvalidParameter(f"{typed!r} may be any of {several}: name one by its id")
    near = difflib.get_close_matches(typed, sorted(frozenset(ids.values())), n=SUGGESTED_MAX)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else "; `pipaid list --all` shows all"
    raise NotFound(f"there is no strategy {typed!r:.80}{hint}")
