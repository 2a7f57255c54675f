"""What may be asked in the dialect, and what is answered: the fields of both forms on the same strategies."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pipaid.dialect.status import Spoken
from pipaid.model.binding import BindingList, BindingObject, Unbound
from pipaid.model.reply import BindingSummary, FaultSummary, Reply, RunPage, Triggered
from pipaid.model.report import StrategyStatistics, TemplateList
from pipaid.model.request import Capital, Id, Leverage, Name, Request, StrategyRuns, StrategyStats, Symbols

LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 1_000
SKIP_MAX: Final = 1_000_000
# Whoever goes further back goes by a cursor, which passes over nothing.
RUNS_SKIP_MAX: Final = 10_000
RULES_MAX: Final = 16
TIMEFRAMES: Final = ("5m", "15m", "30m", "1h", "4h", "1D")

Skip = Annotated[int, Meta(ge=0, le=SKIP_MAX, description=f"a whole number from 0 to {SKIP_MAX}")]
Limit = Annotated[int, Meta(ge=1, le=LIMIT_MAX, description=f"a whole number from 1 to {LIMIT_MAX}")]
Asset = Annotated[
    str, Meta(pattern=r"^[A-Z0-9]{1,20}$(?!\n)", description="what is traded, in capital letters, such as BTC")
]
Rules = Annotated[
    tuple[dict[str, Any], ...],
    Meta(max_length=RULES_MAX, description="a list of rules, each with name, signal_type, timeframe and params"),
]
Factor = Annotated[float, Meta(gt=0, le=1_000_000, description="a number above 0")]
Execution = Annotated[dict[str, Any], Meta(description="an object with execution parameters")]
Timeframe = Annotated[str, Meta(pattern=r"^[0-9A-Za-z]{2,3}$(?!\n)", description="a timeframe, such as 1h or H1")]
Text = Annotated[str, Meta(max_length=20_000, description="text of at most 20000 characters")]
Word = Annotated[str, Meta(min_length=1, max_length=64, description="1 to 64 characters")]
Kind = Literal["config", "prompt", "code"]
ExecutionMode = Literal["llm_only", "rule_then_llm", "rule_only", "hybrid_validator", "multi_agent"]
Minutes = Annotated[int, Meta(ge=1, le=10_080, description="a whole number of minutes from 1 to 10080")]
Hours = Annotated[
    tuple[Annotated[int, Meta(ge=0, le=23)], ...],
    Meta(max_length=24, description="hours of the day from 0 to 23 in which nothing is entered"),
]


class ListAsked(Request, frozen=True, kw_only=True):
    """Strategies, newest first, from the one after the first `skip` on."""

    skip: Skip = 0
    limit: Limit = LIMIT_DEFAULT


class Described(Request, frozen=True, kw_only=True):
    """What makes a strategy: rules over an asset, or a question that a model is asked about symbols."""

    name: Name | UnsetType = UNSET
    asset: Asset | UnsetType = UNSET
    entry: Rules | UnsetType = UNSET
    exit: Rules | UnsetType = UNSET
    reward_factor: Factor | UnsetType = UNSET
    execution_config: Execution | UnsetType = UNSET
    symbols: Symbols | UnsetType = UNSET
    primary_tf: Timeframe | UnsetType = UNSET
    strategy_type: Kind | UnsetType = UNSET
    execution_mode: ExecutionMode | UnsetType = UNSET
    maintenance_enabled: bool | UnsetType = UNSET
    llm_provider: Word | UnsetType = UNSET
    llm_model: Word | UnsetType = UNSET
    custom_prompt: Text | UnsetType = UNSET
    context_tfs: Annotated[tuple[Timeframe, ...], Meta(max_length=8, description="timeframes")] | UnsetType = UNSET
    trigger_type: Literal["candle_close", "interval"] | UnsetType = UNSET
    interval_minutes: Minutes | UnsetType | None = UNSET
    skip_hours: Hours | UnsetType = UNSET
    skip_hours_timezone: Word | UnsetType = UNSET
    strategy_params: Annotated[dict[str, Any], Meta(description="an object of the template's params")] | UnsetType = (
        UNSET
    )
    capital: Capital | UnsetType = UNSET
    leverage: Leverage | UnsetType = UNSET

    def given(self) -> dict[str, Any]:
        """Return the fields that were given."""
        fields = msgspec.structs.asdict(self)
        return {name: value for name, value in fields.items() if name != "id" and value is not UNSET}


class CreateAsked(Described, frozen=True, kw_only=True):
    """A new strategy in either form."""

    example: ClassVar[dict[str, Any]] = {
        "name": "sol momentum",
        "asset": "SOL",
        "entry": [
            {"name": "macd_bullish_cross", "signal_type": "TRIGGER", "timeframe": "1h", "params": {}},
            {"name": "is_above_sma", "signal_type": "FILTER", "timeframe": "4h", "params": {"window": 50}},
        ],
        "exit": [],
        "reward_factor": 2.0,
    }


class UpdateAsked(Described, frozen=True, kw_only=True):
    """Changes to a strategy; what is absent stays."""

    id: Id


class StatusAsked(Request, frozen=True, kw_only=True):
    """A status that a strategy is to be brought to."""

    id: Id
    status: Annotated[Spoken, Meta(description=f"one of {', '.join(Spoken)}")]


class ActivateAsked(Request, frozen=True, kw_only=True):
    """A deployment on every account; in the mode of the last run unless it is said."""

    id: Id
    dry_run: bool | None = None


class RunsAsked(StrategyRuns, frozen=True, kw_only=True):
    """A strategy's evaluations, newest first, from the one after the first `skip` on, or from a cursor on."""

    skip: Annotated[int, Meta(ge=0, le=RUNS_SKIP_MAX, description=f"a whole number from 0 to {RUNS_SKIP_MAX}")] = 0


class StatsAsked(StrategyStats, frozen=True, kw_only=True):
    """A strategy's figures over its live runs, its paper runs or all."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy in a listing."""

    id: str
    name: str
    asset: str
    status: str
    created_at: str


class Listing(Reply, frozen=True, kw_only=True):
    """A part of the strategies that the caller sees, and how many there are in all."""

    success: bool = True
    strategies: tuple[Row, ...]
    total: int
    skip: int
    limit: int


class RuleSet(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of a strategy, as they were written."""

    name: str
    asset: str
    entry: tuple[dict[str, Any], ...]
    exit: tuple[dict[str, Any], ...]
    reward_factor: float


class ExecutionState(msgspec.Struct, frozen=True, kw_only=True):
    """What a strategy has; the dialect writes amounts as numbers."""

    cash_balance: float
    account_value: float
    total_trades: int
    num_open_positions: int


class StrategyTold(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy with the fields of both forms; `rules` and `execution_config` are there where rules decide.

    `owner` is the user who made it, if a user did and not a key; `notes`, where it is made or changed, what to know of
    it; `bindings` are the accounts that it is bound to, if it is; `follows` is whom it is bound to this account for.
    """

    id: str
    name: str
    asset: str
    status: str
    rules: RuleSet | None
    execution_config: dict[str, Any] | None
    execution_state: ExecutionState
    strategy_type: str
    execution_mode: str
    primary_tf: str
    symbols: tuple[str, ...]
    is_active: bool
    maintenance_enabled: bool
    llm_provider: str | None
    llm_model: str | None
    trigger_type: str
    interval_minutes: int | None
    skip_hours: tuple[int, ...]
    skip_hours_timezone: str
    template_id: str
    account_id: str
    owner: str | None
    error: FaultSummary | None
    created_at: str
    updated_at: str
    notes: tuple[str, ...] | UnsetType = UNSET
    follows: str | UnsetType = UNSET
    bindings: tuple[BindingSummary, ...] | UnsetType = UNSET


class Told(Reply, frozen=True, kw_only=True):
    """One strategy."""

    success: bool = True
    strategy: StrategyTold


class Gone(Reply, frozen=True, kw_only=True):
    """The strategy is deleted."""

    success: bool = True
    id: str
    deleted: bool = True


class Registry(TemplateList, frozen=True, kw_only=True):
    """The templates, and the plug-ins that were refused."""

    success: bool = True


class Evaluated(Triggered, frozen=True, kw_only=True):
    """The evaluations that were asked for; they stand among the runs."""

    success: bool = True


class Runs(RunPage, frozen=True, kw_only=True):
    """Evaluations, newest first."""

    success: bool = True


class Stats(StrategyStatistics, frozen=True, kw_only=True):
    """The figures of a strategy."""

    success: bool = True


class Bound(BindingObject, frozen=True, kw_only=True):
    """An account that a strategy is bound to."""

    success: bool = True


class Parted(Unbound, frozen=True, kw_only=True):
    """The binding is gone."""

    success: bool = True


class Bindings(BindingList, frozen=True, kw_only=True):
    """The accounts that a strategy is bound to."""

    success: bool = True


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Why something was refused, in the words of the dialect; `success` is never true."""

    success: Literal[False]
    code: str
    message: str
    details: tuple[Any, ...] = ()
    request_id: str = ""
    retry_after_ms: int = 0
    repeat: bool = False
