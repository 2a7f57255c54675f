"""The status of a strategy in the words of the dialect, and what it takes to bring one to another: a table."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pipaid.errors import InvalidState
from pipaid.model.strategy import Status


class Spoken(StrEnum):
    """Where a strategy stands, as the dialect says it."""

    DRAFT = "draft"
    INACTIVE = "inactive"
    PAPER = "paper"
    LIVE = "live"
    ARCHIVED = "archived"


class Step(StrEnum):
    """One operation on the way to a status."""

    DEPLOY_DRY = "deploy with dry_run true"
    DEPLOY = "deploy with dry_run false"
    PAUSE = "pause"
    RESET = "reset"
    STOP = "stop"


class Standing(StrEnum):
    """Where a strategy stands, as far as it matters to the dialect: a deployed one trades on paper or live."""

    DRAFT = "draft"
    PAPER = "paper"
    LIVE = "live"
    PAUSED = "paused"
    ERROR = "error"
    STOPPED = "stopped"


SPOKEN: Final[dict[Standing, Spoken]] = {
    Standing.DRAFT: Spoken.INACTIVE,
    Standing.PAPER: Spoken.PAPER,
    Standing.LIVE: Spoken.LIVE,
    Standing.PAUSED: Spoken.INACTIVE,
    Standing.ERROR: Spoken.INACTIVE,
    Standing.STOPPED: Spoken.ARCHIVED,
}

# What is not in here is forbidden; no step at all leaves everything as it is.
WAYS: Final[dict[tuple[Standing, Spoken], tuple[Step, ...]]] = {
    (Standing.DRAFT, Spoken.DRAFT): (),
    (Standing.DRAFT, Spoken.INACTIVE): (),
    (Standing.DRAFT, Spoken.PAPER): (Step.DEPLOY_DRY,),
    (Standing.DRAFT, Spoken.LIVE): (Step.DEPLOY,),
    (Standing.PAPER, Spoken.DRAFT): (Step.PAUSE,),
    (Standing.PAPER, Spoken.INACTIVE): (Step.PAUSE,),
    (Standing.PAPER, Spoken.PAPER): (),
    (Standing.PAPER, Spoken.LIVE): (Step.PAUSE, Step.DEPLOY),
    (Standing.PAPER, Spoken.ARCHIVED): (Step.STOP,),
    (Standing.LIVE, Spoken.DRAFT): (Step.PAUSE,),
    (Standing.LIVE, Spoken.INACTIVE): (Step.PAUSE,),
    (Standing.LIVE, Spoken.PAPER): (Step.PAUSE, Step.DEPLOY_DRY),
    (Standing.LIVE, Spoken.LIVE): (),
    (Standing.LIVE, Spoken.ARCHIVED): (Step.STOP,),
    (Standing.PAUSED, Spoken.DRAFT): (),
    (Standing.PAUSED, Spoken.INACTIVE): (),
    (Standing.PAUSED, Spoken.PAPER): (Step.DEPLOY_DRY,),
    (Standing.PAUSED, Spoken.LIVE): (Step.DEPLOY,),
    (Standing.PAUSED, Spoken.ARCHIVED): (Step.STOP,),
    (Standing.ERROR, Spoken.DRAFT): (Step.RESET,),
    (Standing.ERROR, Spoken.INACTIVE): (Step.RESET,),
    (Standing.ERROR, Spoken.ARCHIVED): (Step.STOP,),
    (Standing.STOPPED, Spoken.ARCHIVED): (),
}
_WHY_NOT: Final[dict[Standing, str]] = {
    Standing.DRAFT: "it never traded, so there is nothing to keep: delete it instead",
    Standing.ERROR: "mend the cause and make it inactive first",
    Standing.STOPPED: "what is archived stays so; create another one",
}


def standing_of(status: Status, *, dry_run: bool | None) -> Standing:
    """Return where a strategy stands; `dry_run` is that of its last run."""
    if status is Status.DEPLOYED:
        return Standing.PAPER if dry_run else Standing.LIVE
    return Standing(status.value)


def way(standing: Standing, wanted: Spoken) -> tuple[Step, ...]:
    """Return what has to be done, in order; raise InvalidState where nothing leads there."""
    try:
        return WAYS[standing, wanted]
    except KeyError:
        spoken = SPOKEN[standing]
        raise InvalidState(f"a strategy that is {spoken} cannot become {wanted}: {_WHY_NOT[standing]}") from None
