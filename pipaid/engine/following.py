"""What a strategy and those that follow it owe each other: definitions, shares of the capital, and who trades where."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import msgspec

from pipaid.engine.effects import encode
from pipaid.model.money import ONE, exact_product, floor_to_step
from pipaid.model.record import Kind, Record
from pipaid.model.strategy import Binding, Strategy, StrategyDefinition, Terms

ENTITY: Final = "binding"
# Of a capital in quote currency, no share is told in smaller steps.
STEP: Final = Decimal("0.00000001")


def share_of(capital: Decimal, share: Decimal) -> Decimal:
    """Return a share of a capital, rounded down."""
    return capital if share == ONE else floor_to_step(exact_product(capital, share), STEP)


def follower_definition(leader: StrategyDefinition, share: Decimal) -> StrategyDefinition:
    """Return what a follower with this share of the capital is: all else is its leader's."""
    return msgspec.structs.replace(leader, capital=share_of(leader.capital, share))


def terms_of(leader: Strategy, binding: Binding) -> Terms:
    """Return on which terms a binding of a strategy runs that does so itself."""
    run = leader.run
    assert run is not None, "who is deployed has a run"
    return Terms(dry_run=run.dry_run, capital=run.shared, leverage=run.leverage, share=binding.capital_share)


def trades_itself(strategy: Strategy, bindings: Sequence[Binding]) -> bool:
    """Tell whether a strategy with these bindings trades on its own account: unless it is bound to others alone."""
    return not bindings or any(each.enabled and each.strategy_id == strategy.id for each in bindings)


def own_share(strategy: Strategy, bindings: Sequence[Binding]) -> Decimal:
    """Return the share of its capital with which a strategy trades on its own account."""
    return next((each.capital_share for each in bindings if each.strategy_id == strategy.id), ONE)


def with_binding(bindings: Sequence[Binding], binding: Binding) -> tuple[Binding, ...]:
    """Return bindings with one more, or with the one of the same account changed."""
    kept = without_account(bindings, binding.account)
    return tuple(sorted((*kept, binding), key=lambda each: (each.bound_at_us, each.account)))


def without_account(bindings: Sequence[Binding], account: str) -> tuple[Binding, ...]:
    """Return bindings without the one of an account."""
    return tuple(each for each in bindings if each.account != account)


def binding_record(leader: str, binding: Binding, kind: Kind = Kind.PUT) -> Record:
    """Return the journal record of a binding, or of its end."""
    data = b"" if kind is Kind.DROP else encode(binding)
    return Record(ENTITY, f"{leader}/{binding.account}", kind, data, leader, "", binding.bound_at_us)
