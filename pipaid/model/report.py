"""What the daemon reports: on a strategy's inside, on templates, switches, caps and keys, and on itself."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from pipaid.model.reply import OrderObject, PositionObject, Reply


class GateVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one gate said of one wish, with its limit and the value it saw.

    It is `passed`, `refused`, `off`, or `not recollected` where nobody knows any more what the whole account held.
    """

    gate: str
    verdict: str
    limit: str
    value: str


class CandleSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The candle on which an evaluation decided."""

    open_time: str
    open: str
    high: str
    low: str
    close: str
    volume: str


class Why(Reply, frozen=True, kw_only=True):
    """An evaluation computed anew: what it saw, what each gate said and what it decided; `at` in venue time.

    `status` is that of the strategy at the time, `run_status` that of the evaluation if it was recorded.
    A feature without a value was still warming up. `rules` are those that the template names, and whether each held.
    """

    id: str
    symbol: str
    at: str
    status: str
    candle: CandleSeen | None
    features: dict[str, float | None]
    rules: dict[str, bool]
    gates: tuple[GateVerdict, ...]
    decision: str
    intents: tuple[dict[str, Any], ...]
    run_id: str | None = None
    run_status: str | None = None


class TradeFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Figures over closed trades and open positions, amounts in quote currency.

    `profit_factor` is null where there are profits and no loss; `fees` and `funding` are those of closed trades.
    """

    total_trades: int
    winning_trades: int
    losing_trades: int
    win_rate: str
    total_pnl: str
    realised_pnl: str
    unrealised_pnl: str
    gross_profit: str
    gross_loss: str
    profit_factor: str | None
    max_drawdown: str
    expected_value: str
    avg_trade_duration_seconds: int
    fees: str
    funding: str
    fills: int
    open_positions: int


class ModeStatistics(TradeFigures, frozen=True, kw_only=True):
    """The part that the runs of one mode have in a strategy's figures."""

    mode: str


class AccountStatistics(TradeFigures, frozen=True, kw_only=True):
    """The part that one account has in a strategy's figures, and which strategies traded there for it."""

    account_id: str
    strategy_ids: tuple[str, ...]


class StrategyStatistics(TradeFigures, Reply, frozen=True, kw_only=True):
    """A strategy's figures, together and, where they were asked for or there are any, by mode and by account."""

    id: str
    mode: str
    account_id: str | UnsetType = UNSET
    modes: tuple[ModeStatistics, ...] | UnsetType = UNSET
    bindings: tuple[AccountStatistics, ...] | UnsetType = UNSET


class SymbolState(msgspec.Struct, frozen=True, kw_only=True):
    """What a strategy holds and remembers of one symbol; `state` is the template's own."""

    symbol: str
    price: str | None
    capital: str
    state: dict[str, Any]
    features: dict[str, float | None]
    positions: tuple[PositionObject, ...]
    orders: tuple[OrderObject, ...]
    evaluated_at: str | None


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """An evaluation that came to nothing."""

    at: str
    symbol: str


class StrategyState(Reply, frozen=True, kw_only=True):
    """The inside of a strategy; `limits` are the caps in effect, `may_not_enter` says why it may not, or nothing.

    `evaluations` counts those that were recorded, `held` those since the last start that came to nothing, of which
    `holds` are the last ones. `next_occasion` is when its schedule has it decide next.
    """

    id: str
    status: str
    may_not_enter: str
    next_occasion: str | None
    limits: dict[str, str | None]
    exposure: str
    evaluations: int
    held: int
    holds: tuple[Hold, ...]
    restarts: int
    last_seq: int
    symbols: tuple[SymbolState, ...]


class TemplateObject(Reply, frozen=True, kw_only=True):
    """A template; `params_schema` is a JSON Schema."""

    template_id: str
    version: int
    description: str
    min_capital: str
    multi_symbol: bool
    params_schema: dict[str, Any]


class RefusedTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """A plug-in that could not be taken in, and why."""

    template_id: str
    reason: str


class TemplateList(Reply, frozen=True, kw_only=True):
    """All templates, by id, and the plug-ins that were refused."""

    data: tuple[TemplateObject, ...]
    refused: tuple[RefusedTemplate, ...] = ()


class KillSwitch(Reply, frozen=True, kw_only=True):
    """Whether entries are blocked everywhere, since when, why and by whom."""

    is_active: bool
    reason: str | None
    activated_at: str | None
    activated_by: str | None


class KillLog(msgspec.Struct, frozen=True, kw_only=True):
    """One change of the kill switch."""

    id: str
    action: str
    reason: str
    timestamp: str
    by: str


class KillLogPage(Reply, frozen=True, kw_only=True):
    """Changes of the kill switch, newest first."""

    data: tuple[KillLog, ...]
    next_cursor: str | None


class Latch(msgspec.Struct, frozen=True, kw_only=True):
    """A breaker that has tripped and stays so until a person releases it."""

    scope: str
    limit: str
    value: str
    tripped_at: str
    release: str


class FrozenSymbol(msgspec.Struct, frozen=True, kw_only=True):
    """A symbol on which a desk enters nothing, with what the venue holds there beyond our lots (signed, in base)."""

    desk: str
    symbol: str
    unassigned: str


class RiskObject(Reply, frozen=True, kw_only=True):
    """The account's caps, null where there is none, the breakers that have tripped, and what is frozen."""

    drawdown_check_enabled: bool = False
    max_drawdown_pct: str = "10.0"
    position_limit_enabled: bool = False
    max_open_positions: int = 5
    rate_limit_enabled: bool = False
    rate_limit_max_trades: int = 3
    rate_limit_window_hours: str = "4.0"
    hedging_allowed: bool = True
    reduce_only: bool = False
    portfolio_drawdown_max: str | None = "0.30"
    order_notional_max: str | None = None
    exposure_max: str | None = None
    open_orders_max: int | None = None
    orders_per_second_max: int | None = None
    orders_per_minute_max: int | None = None
    identical_orders_per_minute_max: int | None = None
    notional_per_minute_max: str | None = None
    daily_loss_max: str | None = None
    price_collar_pct: str | None = None
    leverage_max: int | None = None
    latches: tuple[Latch, ...] = ()
    frozen: tuple[FrozenSymbol, ...] = ()


class KeyObject(Reply, frozen=True, kw_only=True):
    """An API key without its secret; `state` is active, expired or revoked."""

    api_key: str
    name: str
    account_id: str
    scopes: tuple[str, ...]
    state: str
    created_at: str
    expires_at: str | None
    rotated_at: str | None
    grace_until: str | None


class KeyWithSecret(KeyObject, frozen=True, kw_only=True):
    """An API key with its secret, which is shown this once: a repeated request is answered without it."""

    secret: str | None


class KeyPage(Reply, frozen=True, kw_only=True):
    """API keys, newest first."""

    data: tuple[KeyObject, ...]
    next_cursor: str | None


class TailsStopped(Reply, frozen=True, kw_only=True):
    """The tails that ended, by the ids of their requests; none of their events follows this answer."""

    stopped: tuple[int | str, ...]


class Pong(Reply, frozen=True, kw_only=True):
    """The daemon answers; `ts` is its wall clock."""

    ts: str
    pong: bool = True


class Health(Reply, frozen=True, kw_only=True):
    """`healthy`, or `degraded` for the reasons named, or `starting` or `draining`."""

    status: str
    timestamp: str
    degraded: tuple[str, ...] = ()


class MarketFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The market that is watched; `speed` is venue time over real time, or `max`."""

    name: str
    kind: str
    speed: str
    symbols: tuple[str, ...]
    candles: int
    stale_symbols: tuple[str, ...]
    ended: bool


class JournalFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The journal: its newest record, what it wrote since the start and what waits to be written."""

    n: int
    commits: int
    batches: int
    records: int
    refusals: int
    pending: int
    group_last: int
    group_largest: int
    latency_last_ms: float
    size_bytes: int


class ClientFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Who is connected."""

    control: int
    control_max: int
    stream: int
    stream_max: int


class WebhookFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The webhooks, what waits for them, and how their deliveries have ended since the start."""

    webhooks: int = 0
    broken: int = 0
    waiting: int = 0
    oldest_waiting_s: int = 0
    attempts: int = 0
    delivered: int = 0
    exhausted: int = 0


class ModelFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a model was asked since the start, and how many tokens of it were counted."""

    provider: str
    model: str
    questions: int = 0
    answered: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


class LlmFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The questions to models since the start, how they ended, and what this UTC day has cost.

    What is open counts at its worst, and so does what nobody counted.
    """

    providers: int = 0
    waiting: int = 0
    open: int = 0
    verdicts: dict[str, int] = {}
    models: tuple[ModelFigures, ...] = ()
    money_today: str = "0"
    money_per_day_max: str = "0"


class ConditionObject(msgspec.Struct, frozen=True, kw_only=True):
    """Something that keeps the daemon from doing all it should: what it means for trading, and what to do about it."""

    condition: str
    since: str
    detail: str
    means: str
    remedy: str
    blocks_entries: bool


class ConditionTurn(msgspec.Struct, frozen=True, kw_only=True):
    """A condition `entered` or `left`; then `lasted_s` says how long it held."""

    number: int
    timestamp: str
    condition: str
    turn: str
    detail: str
    lasted_s: float


class ConditionPage(Reply, frozen=True, kw_only=True):
    """Turns of conditions, newest first; the journal keeps the last few hundred."""

    data: tuple[ConditionTurn, ...]
    next_cursor: str | None


class DaemonStatus(Reply, frozen=True, kw_only=True):
    """All that an operator needs at a glance; `state` is starting, running, degraded, draining or stopping.

    It is degraded while any of `conditions` holds; `degraded` tells those and all else that is not as it should be.
    """

    version: str
    epoch: int
    pid: int
    state: str
    uptime_s: int
    venue_time: str | None
    market: MarketFigures
    strategies: dict[str, int]
    journal: JournalFigures
    clients: ClientFigures
    kill_switch: KillSwitch
    degraded: tuple[str, ...]
    log_level: str
    open_positions: int = 0
    working_orders: int = 0
    total_pnl: str = "0.00"
    conditions: tuple[ConditionObject, ...] = ()
    webhooks: WebhookFigures = WebhookFigures()
    llm: LlmFigures = LlmFigures()


class ActorObject(msgspec.Struct, frozen=True, kw_only=True):
    """One actor; `restarts` counts those within the current period, `mailbox` the letters that wait."""

    name: str
    kind: str
    state: str
    restarts: int
    last_failure: str | None
    mailbox: int
    mailbox_max: int | None
    children: tuple[ActorObject, ...] = ()


class ActorTree(Reply, frozen=True, kw_only=True):
    """The supervision tree, in start order."""

    data: tuple[ActorObject, ...]


class Metrics(Reply, frozen=True, kw_only=True):
    """Counters and gauges by name; labels stand in braces."""

    data: dict[str, int | float]


class Reloaded(Reply, frozen=True, kw_only=True):
    """What a reload changed, and what waits for a restart."""

    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]


class Draining(Reply, frozen=True, kw_only=True):
    """No entries and no commands that open anything are taken any more; exits go on."""

    state: str
    open_positions: int
    working_orders: int


class ShuttingDown(Reply, frozen=True, kw_only=True):
    """The daemon ends after this answer."""

    state: str


class FaultObject(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of fault at one simulated desk, or in the market data.

    `share` is how often it happens by chance, `ordered` how often it is going to happen next, `happened` how often it
    did since the start.
    """

    at: str
    kind: str
    share: str
    ordered: int
    happened: int
    means: str


class FaultList(Reply, frozen=True, kw_only=True):
    """Faults of the simulated venue, by place and kind."""

    data: tuple[FaultObject, ...]


class LogLevelSet(Reply, frozen=True, kw_only=True):
    """What is logged from now on, and what was until now."""

    level: str
    before: str
