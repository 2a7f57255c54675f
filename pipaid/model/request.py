"""What may be asked: the arguments of each operation."""

from __future__ import annotations

from decimal import Decimal
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Literal,
    get_args,
)

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pipaid.model.fault import Fault
from pipaid.model.instrument import STRATEGY_TIMEFRAMES, Timeframe
from pipaid.model.run import Cause, RunStatus, TaskType
from pipaid.model.strategy import LEVERAGE_MAX, NAME_MAX, SYMBOLS_MAX, Status

ID_MAX: Final = 64
LIMIT_MAX: Final = 100
LIMIT_DEFAULT: Final = 20
RUNS_LIMIT_DEFAULT: Final = 50
LOGS_LIMIT_DEFAULT: Final = 50
REASON_MAX: Final = 200
CURSOR_MAX: Final = 512
GRACE_S_MAX: Final = 30 * 86_400
SINCE_STRATEGIES_MAX: Final = 1_000
TIMES_MAX: Final = 1_000_000
MOMENT_MS_MAX: Final = 253_402_300_799_999

# The description of each type says what is allowed: it stands in refusals and in the published schema. A lone `$` also
# matches before a final line break, hence what follows it in the patterns.
Id = Annotated[str, Meta(min_length=1, max_length=ID_MAX, description="an id, such as strat_5e07c1d9")]
TemplateId = Annotated[str, Meta(min_length=1, max_length=ID_MAX, description="a template, such as tpl_grid")]
Name = Annotated[
    str, Meta(pattern=rf"^[^\x00-\x1f\x7f]{{1,{NAME_MAX}}}$(?!\n)", description=f"1 to {NAME_MAX} printable characters")
]
Symbol = Annotated[
    str, Meta(pattern=r"^[A-Z0-9]{2,20}$(?!\n)", description="a symbol in capital letters, such as BTCUSDT")
]
Symbols = Annotated[
    tuple[Symbol, ...],
    Meta(
        min_length=1,
        max_length=SYMBOLS_MAX,
        description=f"1 to {SYMBOLS_MAX} different symbols in capital letters, such as BTCUSDT",
        extra={"distinct": True},
        extra_json_schema={"uniqueItems": True},
    ),
]
# What `extra` says below, as a published schema says it: amounts may be written as whole numbers or as text.
_ABOVE_ZERO: Final = {
    "exclusiveMinimum": 0, "maximum": 10**18 - 1, "pattern": r"^(?=.*[1-9])[0-9]{1,18}(\.[0-9]{1,18})?$",
}  # fmt: skip
_PERCENT: Final = {
    "exclusiveMinimum": 0, "maximum": 100, "pattern": r"^(?=.*[1-9])(100(\.0{1,18})?|[0-9]{1,2}(\.[0-9]{1,18})?)$",
}  # fmt: skip
_SHARE: Final = {
    "exclusiveMinimum": 0, "maximum": 1, "pattern": r"^(?=.*[1-9])(1(\.0{1,18})?|0(\.[0-9]{1,18})?)$",
}  # fmt: skip
_BASIS_POINTS: Final = {
    "minimum": 0, "maximum": 1_000, "pattern": r"^(1000(\.0{1,18})?|[0-9]{1,3}(\.[0-9]{1,18})?)$",
}  # fmt: skip
Params = Annotated[dict[str, Any], Meta(description="an object with the template's params")]
Candles = Annotated[
    Timeframe,
    Meta(
        description=f"one of {', '.join(STRATEGY_TIMEFRAMES)}",
        extra={"among": STRATEGY_TIMEFRAMES},
        extra_json_schema={"enum": list(STRATEGY_TIMEFRAMES)},
    ),
]
Capital = Annotated[
    Decimal,
    Meta(
        description='an amount above zero as a decimal string, such as "2500.00"',
        extra={"above": Decimal(0)},
        extra_json_schema=_ABOVE_ZERO,
    ),
]
Leverage = Annotated[int, Meta(ge=1, le=LEVERAGE_MAX, description=f"a whole number from 1 to {LEVERAGE_MAX}")]
Limit = Annotated[int, Meta(ge=1, le=LIMIT_MAX, description=f"a whole number from 1 to {LIMIT_MAX}")]
Cursor = Annotated[
    str, Meta(min_length=1, max_length=CURSOR_MAX, description="the next_cursor of the page before, unchanged")
]
# Held as Unix milliseconds, however it was written.
Moment = Annotated[
    int,
    Meta(
        ge=0,
        le=MOMENT_MS_MAX,
        description="a moment in ISO 8601, such as 2026-02-03T04:05:06Z, or in Unix milliseconds",
        extra={"moment": True},
        extra_json_schema={"format": "moment"},
    ),
]
Token = Annotated[str, Meta(min_length=1, max_length=ID_MAX, description="the token that the refusal named")]
Everything = Annotated[str, Meta(min_length=1, max_length=ID_MAX, description="the id of a strategy, or * for all")]
Reason = Annotated[str, Meta(max_length=REASON_MAX, description=f"text of at most {REASON_MAX} characters")]
Amount = Annotated[
    Decimal,
    Meta(
        description="an amount above zero as a decimal string",
        extra={"above": Decimal(0)},
        extra_json_schema=_ABOVE_ZERO,
    ),
]
Percent = Annotated[
    Decimal,
    Meta(
        description='a percentage above 0 up to 100 as a decimal string, such as "10.0"',
        extra={"above": Decimal(0), "most": Decimal(100)},
        extra_json_schema=_PERCENT,
    ),
]
BasisPoints = Annotated[
    Decimal,
    Meta(
        description='basis points from 0 to 1000 as a decimal string, such as "5"',
        extra={"least": Decimal(0), "most": Decimal(1_000)},
        extra_json_schema=_BASIS_POINTS,
    ),
]
Share = Annotated[
    Decimal,
    Meta(
        description='a share above 0 up to 1 as a decimal string, such as "0.30"',
        extra={"above": Decimal(0), "most": Decimal(1)},
        extra_json_schema=_SHARE,
    ),
]
Modes = Annotated[
    str,
    Meta(
        pattern=r"^(all|live|paper)(,(all|live|paper)){0,2}$(?!\n)",
        description="all, live or paper, or several of them with commas",
    ),
]
Count = Annotated[int, Meta(ge=1, le=1_000_000_000, description="a whole number from 1 on")]
Seq = Annotated[int, Meta(ge=0)]
Since = Annotated[
    Seq | Annotated[dict[Id, Seq], Meta(max_length=SINCE_STRATEGIES_MAX)],
    Meta(
        description='the number of the last event already known; under "*" an object of such numbers by strategy, '
        'in which "*":0 may stand for the ones it does not name, or 0 for everything retained'
    ),
]
ScopeName = Literal[
    "strategies:read", "strategies:write", "backtest:read", "backtest:write", "webhooks:read", "webhooks:write",
    "admin", "read-only", "trade", "withdraw",
]  # fmt: skip
Scopes = Annotated[
    tuple[ScopeName, ...],
    Meta(
        min_length=1,
        max_length=len(get_args(ScopeName)),
        description=f"different ones of {', '.join(get_args(ScopeName))}",
        extra={"distinct": True},
        extra_json_schema={"uniqueItems": True},
    ),
]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of an operation; what is not declared is refused.

    `aliases` maps other names that are taken as well to the fields that they stand for. `example` is shown where fields
    do not show by themselves which of them go together.
    """

    aliases: ClassVar[dict[str, str]] = {}
    example: ClassVar[dict[str, Any]] = {}

    @property
    def weight(self) -> int | None:
        """Return what this request weighs, where that is not what every one for its operation does."""
        return None


class Nothing(Request, frozen=True, kw_only=True):
    """An operation without arguments."""


class Addressed(Request, frozen=True, kw_only=True):
    """An operation that needs nothing but the object's id."""

    id: Id


class Page(Request, frozen=True, kw_only=True):
    """A listing without filters."""

    limit: Limit = LIMIT_DEFAULT
    cursor: Cursor | None = None


class StrategyCreate(Request, frozen=True, kw_only=True):
    """A new strategy."""

    name: Name
    template_id: TemplateId
    params: Params
    symbols: Symbols
    timeframe: Candles
    capital: Capital
    leverage: Leverage = 1


class StrategyList(Page, frozen=True, kw_only=True):
    """Strategies, newest first."""

    status: Annotated[Status, Meta(description=f"one of {', '.join(Status)}")] | None = None
    template_id: TemplateId | None = None


class StrategyUpdate(Request, frozen=True, kw_only=True):
    """Changes to a definition; what is absent stays, `params` and `symbols` are replaced in full."""

    id: Id
    name: Name | UnsetType = UNSET
    template_id: TemplateId | UnsetType = UNSET
    params: Params | UnsetType = UNSET
    symbols: Symbols | UnsetType = UNSET
    timeframe: Candles | UnsetType = UNSET
    capital: Capital | UnsetType = UNSET
    leverage: Leverage | UnsetType = UNSET

    def changes(self) -> dict[str, Any]:
        """Return the fields that were given, by the names of the definition."""
        given = msgspec.structs.asdict(self)
        return {name: value for name, value in given.items() if name != "id" and value is not UNSET}


class StrategyDeploy(Request, frozen=True, kw_only=True):
    """A deployment; `capital` and `leverage` hold for this run only."""

    id: Id
    capital: Capital | None = None
    leverage: Leverage | None = None
    dry_run: bool = False


Closing = Annotated[
    bool,
    Meta(description="true or false: close all positions first; without it nobody looks after those of a stopped one"),
]


class StrategyLeave(Request, frozen=True, kw_only=True):
    """A pause or a stop, with or without closing what is open."""

    id: Id
    close_positions: Closing = False


class StrategyOrders(Page, frozen=True, kw_only=True):
    """A strategy's orders on all its accounts, or on one, newest first."""

    id: Id
    account_id: Id | None = None
    state: Literal["working", "ended"] | None = None


class StrategyPositions(Page, frozen=True, kw_only=True):
    """A strategy's positions on all its accounts, or on one, newest first."""

    id: Id
    account_id: Id | None = None
    state: Literal["open", "closed"] | None = None


class StrategyTrades(Page, frozen=True, kw_only=True):
    """A strategy's closed positions on all its accounts, or on one, newest first; for deleted strategies as well."""

    id: Id
    account_id: Id | None = None


class StrategyRuns(Page, frozen=True, kw_only=True):
    """A strategy's evaluations on all its accounts, newest first; they began at `start` or later, and before `end`."""

    aliases: ClassVar[dict[str, str]] = {"from": "start", "to": "end"}
    id: Id
    account_id: Id | None = None
    symbol: Symbol | None = None
    status: Annotated[RunStatus, Meta(description=f"one of {', '.join(RunStatus)}")] | None = None
    cause: Annotated[Cause, Meta(description=f"one of {', '.join(Cause)}")] | None = None
    task_type: Annotated[TaskType, Meta(description=f"one of {', '.join(TaskType)}")] | None = None
    start: Moment | None = None
    end: Moment | None = None
    limit: Limit = RUNS_LIMIT_DEFAULT


class StrategyWhy(Request, frozen=True, kw_only=True):
    """A past evaluation computed anew: the last one, or the one at or before a moment."""

    id: Id
    symbol: Symbol | None = None
    at: Moment | None = None


class StrategyStats(Request, frozen=True, kw_only=True):
    """A strategy's figures on all its accounts, or on one, over its live runs, its paper runs or all."""

    id: Id
    mode: Modes = "all"
    account_id: Id | None = None


class KillActivate(Request, frozen=True, kw_only=True):
    """Block entries everywhere; exits go on, or all positions are closed."""

    reason: Annotated[Reason, Meta(min_length=1)]
    close_positions: bool = False


class KillDeactivate(Request, frozen=True, kw_only=True):
    """Allow entries again."""

    reason: Reason = ""


class KillLogs(Page, frozen=True, kw_only=True):
    """What was done to the kill switch, newest first."""

    limit: Limit = LOGS_LIMIT_DEFAULT


class ConditionLogs(Page, frozen=True, kw_only=True):
    """What kept the daemon from doing all it should, newest first."""

    limit: Limit = LOGS_LIMIT_DEFAULT


class RiskSet(Request, frozen=True, kw_only=True):
    """Changes to the account's caps; what is absent stays, null lifts a cap.

    A change that loosens anything is first refused with a token and takes effect when it is sent again as `confirm`.
    """

    drawdown_check_enabled: bool | UnsetType = UNSET
    max_drawdown_pct: Percent | UnsetType = UNSET
    position_limit_enabled: bool | UnsetType = UNSET
    max_open_positions: Count | UnsetType = UNSET
    rate_limit_enabled: bool | UnsetType = UNSET
    rate_limit_max_trades: Count | UnsetType = UNSET
    rate_limit_window_hours: Amount | UnsetType = UNSET
    hedging_allowed: bool | UnsetType = UNSET
    reduce_only: bool | UnsetType = UNSET
    portfolio_drawdown_max: Share | UnsetType | None = UNSET
    order_notional_max: Amount | UnsetType | None = UNSET
    exposure_max: Amount | UnsetType | None = UNSET
    open_orders_max: Count | UnsetType | None = UNSET
    orders_per_second_max: Count | UnsetType | None = UNSET
    orders_per_minute_max: Count | UnsetType | None = UNSET
    identical_orders_per_minute_max: Count | UnsetType | None = UNSET
    notional_per_minute_max: Amount | UnsetType | None = UNSET
    daily_loss_max: Amount | UnsetType | None = UNSET
    price_collar_pct: Share | UnsetType | None = UNSET
    leverage_max: Leverage | UnsetType | None = UNSET
    confirm: Token | None = None

    def changes(self) -> dict[str, Any]:
        """Return the caps that were given."""
        given = msgspec.structs.asdict(self)
        return {name: value for name, value in given.items() if name != "confirm" and value is not UNSET}


class EventsTail(Request, frozen=True, kw_only=True):
    """The events of one strategy or of all, from now or from a number on; `ext` adds the extended ones."""

    id: Everything = "*"
    since_seq: Since | None = None
    ext: bool = False


class EventsStop(Request, frozen=True, kw_only=True):
    """The end of one tail of the same connection, named by the id of its request, or of all."""

    tail: int | Id | None = None


class KeyCreate(Request, frozen=True, kw_only=True):
    """A new API key."""

    name: Name
    scopes: Scopes
    account_id: Id | None = None
    expires_at: Moment | None = None


class KeyRotate(Request, frozen=True, kw_only=True):
    """A new secret for a key; the old one is good for the grace time."""

    id: Id
    grace_s: (
        Annotated[int, Meta(ge=0, le=GRACE_S_MAX, description=f"a number of seconds from 0 to {GRACE_S_MAX}")] | None
    ) = None


class SimFault(Request, frozen=True, kw_only=True):
    """A fault that befalls the next things it can at the simulated venue: at a desk or both, or in the market data."""

    kind: Annotated[Fault, Meta(description=f"one of {', '.join(Fault)}")]
    times: Annotated[int, Meta(ge=1, le=TIMES_MAX, description=f"a whole number from 1 to {TIMES_MAX}")] = 1
    at: Literal["desks", "paper", "simulated", "market"] = "desks"


class LogLevel(Request, frozen=True, kw_only=True):
    """What is logged from now on."""

    level: Literal["debug", "info", "warning", "error"]
