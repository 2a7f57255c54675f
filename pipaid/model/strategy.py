"""What a strategy is, and the table of its lifecycle."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

import msgspec

from pipaid.errors import InvalidState
from pipaid.model.instrument import Timeframe
from pipaid.model.money import ONE, ZERO, exact_sum

NAME_MAX: Final = 64
SYMBOLS_MAX: Final = 10
LEVERAGE_MAX: Final = 20
# The fault of a strategy that held the whole daemon up: none of its template's code runs until a person resets it.
QUARANTINED: Final = "QUARANTINED"


class Status(StrEnum):
    """Where a strategy stands."""

    DRAFT = "draft"
    DEPLOYED = "deployed"
    PAUSED = "paused"
    STOPPED = "stopped"
    ERROR = "error"


# In these states an actor looks after what a strategy has at the venue.
EMPLOYED: Final = frozenset({Status.DEPLOYED, Status.PAUSED, Status.ERROR})


class Action(StrEnum):
    """What may be asked of a strategy, and the engine's own verdict `halt`."""

    UPDATE = "update"
    DEPLOY = "deploy"
    PAUSE = "pause"
    STOP = "stop"
    DELETE = "delete"
    RESET = "reset"
    TRIGGER = "trigger"
    HALT = "halt"
    BIND = "bind"
    UNBIND = "unbind"


TRANSITIONS: Final[dict[tuple[Status, Action], Status]] = {
    (Status.DRAFT, Action.UPDATE): Status.DRAFT,
    (Status.DRAFT, Action.DEPLOY): Status.DEPLOYED,
    (Status.DRAFT, Action.DELETE): Status.DRAFT,
    (Status.DEPLOYED, Action.PAUSE): Status.PAUSED,
    (Status.DEPLOYED, Action.STOP): Status.STOPPED,
    (Status.DEPLOYED, Action.TRIGGER): Status.DEPLOYED,
    (Status.DEPLOYED, Action.HALT): Status.ERROR,
    (Status.PAUSED, Action.UPDATE): Status.PAUSED,
    (Status.PAUSED, Action.DEPLOY): Status.DEPLOYED,
    (Status.PAUSED, Action.STOP): Status.STOPPED,
    (Status.PAUSED, Action.DELETE): Status.PAUSED,
    (Status.PAUSED, Action.HALT): Status.ERROR,
    (Status.STOPPED, Action.DELETE): Status.STOPPED,
    (Status.ERROR, Action.STOP): Status.STOPPED,
    (Status.ERROR, Action.DELETE): Status.ERROR,
    (Status.ERROR, Action.RESET): Status.PAUSED,
    (Status.DRAFT, Action.BIND): Status.DRAFT,
    (Status.DEPLOYED, Action.BIND): Status.DEPLOYED,
    (Status.PAUSED, Action.BIND): Status.PAUSED,
    (Status.ERROR, Action.BIND): Status.ERROR,
    **{(status, Action.UNBIND): status for status in Status},
}

# What to do about the refusals that people meet most.
WAYS: Final[dict[tuple[Status, Action], str]] = {
    (Status.DEPLOYED, Action.UPDATE): "pause it first",
    (Status.DEPLOYED, Action.DELETE): "pause it first, or stop it for good",
    (Status.DEPLOYED, Action.DEPLOY): "it trades already; pause it first to deploy it otherwise",
    (Status.PAUSED, Action.TRIGGER): "deploy it first",
    (Status.DRAFT, Action.TRIGGER): "deploy it first",
    (Status.ERROR, Action.DEPLOY): "mend the cause and reset it first: `pipaid strategy reset ID`",
    (Status.ERROR, Action.UPDATE): "reset it first: `pipaid strategy reset ID`",
    (Status.ERROR, Action.PAUSE): "mend the cause and reset it, which leaves it paused: `pipaid strategy reset ID`",
    (Status.ERROR, Action.TRIGGER): "mend the cause and reset it first: `pipaid strategy reset ID`",
    (Status.STOPPED, Action.DEPLOY): "it was stopped for good; create another one",
    (Status.STOPPED, Action.UPDATE): "it was stopped for good; create another one",
    (Status.STOPPED, Action.RESET): "it was stopped for good; create another one",
    (Status.STOPPED, Action.BIND): "it was stopped for good; create another one",
}


def advance(status: Status, action: Action) -> Status:
    """Return the status after an action; refuse what the table does not hold, naming what is allowed instead."""
    try:
        return TRANSITIONS[status, action]
    except KeyError:
        where = sorted(before.value for before, allowed in TRANSITIONS if allowed is action)
        allowed = f"allowed from: {', '.join(where)}"
        way = WAYS.get((status, action))
        told = f"{allowed}; {way}" if way else allowed
        raise InvalidState(f"cannot {action} a strategy that is {status}; {told}") from None


class StrategyDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """What the user wrote: which template, with which params, on what and with how much (quote currency)."""

    name: str
    template_id: str
    params: dict[str, Any]
    symbols: tuple[str, ...]
    timeframe: Timeframe
    capital: Decimal
    leverage: int = 1


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a deployment may say besides the definition; of the capital given or stored, the run has this share."""

    dry_run: bool
    capital: Decimal | None = None
    leverage: int | None = None
    share: Decimal = ONE


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment, with the values in effect; `whole` is the capital of which `capital` is a share, if it is one."""

    id: str
    dry_run: bool
    capital: Decimal
    leverage: int
    started_at_ms: int
    ended_at_ms: int = 0
    whole: Decimal | None = None

    @property
    def shared(self) -> Decimal:
        """Return the capital of which every bound account has its share."""
        return self.capital if self.whole is None else self.whole


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Why a strategy is in `error`."""

    code: str
    message: str
    at_ms: int


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """An account that a strategy is bound to; there, `strategy_id` trades with a share of its capital.

    On the strategy's own account that is itself, on any other one a strategy that follows it.
    """

    account: str
    strategy_id: str
    bound_at_us: int
    enabled: bool = True
    capital_share: Decimal = ONE


class Strategy(msgspec.Struct, frozen=True, kw_only=True):
    """One strategy as the journal keeps it; `number` is small, dense and never reused.

    `running` is the definition with which the last run was deployed: a change to a paused strategy waits for the next
    deployment. `source` names the file that declared it, if one did; `user` made it, if a user did and not a key.
    `follows` is the strategy that leads it, if it is there because that one is bound to its account.
    """

    id: str
    number: int
    account: str
    definition: StrategyDefinition
    status: Status
    created_at_us: int
    updated_at_us: int
    deployed_at_ms: int = 0
    template_version: int = 0
    run: Run | None = None
    running: StrategyDefinition | None = None
    fault: Fault | None = None
    deleted_at_ms: int = 0
    source: str = ""
    user: str = ""
    follows: str = ""

    @property
    def in_effect(self) -> StrategyDefinition:
        """Return the definition that the engine works with."""
        return self.running or self.definition


class Tally(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The lifetime sums of a strategy's closed trades, in quote currency; `pnl` is net of fees and funding."""

    trades: int = 0
    wins: int = 0
    pnl: Decimal = ZERO
    gross_profit: Decimal = ZERO
    gross_loss: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    fills: int = 0
    peak: Decimal = ZERO
    drawdown: Decimal = ZERO

    def with_trade(self, pnl: Decimal) -> Tally:
        """Return the tally after one more closed trade with this net profit."""
        total = exact_sum(self.pnl, pnl)
        peak = max(self.peak, total)
        return msgspec.structs.replace(
            self,
            trades=self.trades + 1,
            wins=self.wins + (pnl > 0),
            pnl=total,
            gross_profit=exact_sum(self.gross_profit, max(pnl, ZERO)),
            gross_loss=exact_sum(self.gross_loss, max(pnl.copy_negate(), ZERO)),
            peak=peak,
            drawdown=max(self.drawdown, peak - total),
        )

    @property
    def win_rate(self) -> Decimal:
        """Return the share of winning trades, zero without trades."""
        return Decimal(self.wins) / self.trades if self.trades else ZERO
