"""What a deployment makes of a strategy: a run with the values in effect, and the record that tells of it."""

from __future__ import annotations

import msgspec

from pipaid.engine.following import share_of
from pipaid.model.event import Deployed
from pipaid.model.moment import iso_seconds
from pipaid.model.strategy import Action, Run, Strategy, Terms, advance


def run_of(strategy: Strategy, terms: Terms, *, id: str, now_ms: int) -> Run:
    """Return the run that a deployment on these terms is."""
    definition = strategy.definition
    whole = definition.capital if terms.capital is None else terms.capital
    capital = share_of(whole, terms.share)
    return Run(
        id=id,
        dry_run=terms.dry_run,
        capital=capital,
        leverage=definition.leverage if terms.leverage is None else terms.leverage,
        started_at_ms=now_ms,
        whole=None if capital == whole else whole,
    )


def deployed(before: Strategy, run: Run, *, template_version: int, now_us: int) -> Strategy:
    """Return a strategy in its run."""
    return msgspec.structs.replace(
        before,
        status=advance(before.status, Action.DEPLOY),
        run=run,
        running=before.definition,
        deployed_at_ms=run.started_at_ms,
        template_version=template_version,
        updated_at_us=now_us,
    )


def deployed_event(strategy: Strategy) -> Deployed:
    """Return what is told of a strategy that was just deployed."""
    run = strategy.run
    assert run is not None, "what is deployed has a run"
    return Deployed(
        status=strategy.status.value,
        deployed_at=iso_seconds(run.started_at_ms),
        dry_run=run.dry_run,
        capital=run.capital,
        leverage=run.leverage,
        template_version=strategy.template_version,
    )
