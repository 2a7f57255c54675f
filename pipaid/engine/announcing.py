"""Notices of strategies that come, change and go, as their account's webhooks hear of them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from pipaid.model.event import (
    EventDraft,
    StrategyCreated,
    StrategyDeleted,
    StrategyNotice,
    StrategyUpdated,
    notice,
)
from pipaid.model.money import ZERO
from pipaid.model.reply import strategy_object
from pipaid.model.strategy import Binding, Strategy, Tally

# A strategy's tally, the number of its open positions and their unrealised profit.
Figures = tuple[Tally, int, Decimal]
_NONE_YET: Figures = (Tally(), 0, ZERO)


def created(strategy: Strategy) -> EventDraft:
    """Tell that there is a new draft."""
    return _noticed(StrategyCreated, strategy, _NONE_YET)


def updated(strategy: Strategy, figures: Figures, bindings: Sequence[Binding] = ()) -> EventDraft:
    """Tell that a definition was changed to this."""
    return _noticed(StrategyUpdated, strategy, figures, bindings)


def rebound(strategy: Strategy, figures: Figures, bindings: Sequence[Binding], *, at_us: int) -> EventDraft:
    """Tell that where it trades was changed at this moment, of which its own record knows nothing."""
    return msgspec.structs.replace(updated(strategy, figures, bindings), at_ms=at_us // 1000)


def deleted(strategy: Strategy, figures: Figures) -> EventDraft:
    """Tell that a strategy is gone, and how it was."""
    return _noticed(StrategyDeleted, strategy, figures)


def _noticed(
    kind: type[StrategyNotice], strategy: Strategy, figures: Figures, bindings: Sequence[Binding] = ()
) -> EventDraft:
    tally, held, unrealised = figures
    told = strategy_object(strategy, tally, open_positions=held, unrealised=unrealised, bindings=bindings)
    data = kind(strategy_id=strategy.id, name=strategy.definition.name, strategy=told)
    return notice(strategy.account, data, strategy.updated_at_us // 1000)
