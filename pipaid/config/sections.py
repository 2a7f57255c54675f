"""The sections of the configuration: every key with its type, its range and its default."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from attrs import asdict, astuple, field, frozen

from pipaid.config.fields import Beside, Between, Needed, Spelled
from pipaid.engine.book import Caps
from pipaid.engine.fees import TIERS, Tier
from pipaid.model.consult import Tariff
from pipaid.model.fault import Fault
from pipaid.model.moment import parse_iso
from pipaid.model.money import ZERO
from pipaid.model.run import RUNS_KEPT

Symbol = Annotated[str, Spelled("[A-Z0-9]{2,20}", "a symbol in capital letters and digits, such as BTCUSDT")]
Glob = Annotated[str, Spelled(".+", "a path in which * stands for any characters, relative to this file")]
Seconds = Annotated[float, Between("0.001", 86_400)]
Count = Annotated[int, Between(1, 1_000_000_000)]
Amount = Annotated[Decimal, Between(0, 10**15)]
Share = Annotated[Decimal, Between("0.000001", 1)]
Chance = Annotated[Decimal, Between(0, 1)]
Bps = Annotated[Decimal, Between(0, 1_000)]
Price = Annotated[Decimal, Between(0, 1_000_000), Needed('"3.00"')]


@frozen(kw_only=True)
class Daemon:
    """Where the daemon keeps its state, and when it ends."""

    state_dir: Path = Path("var")
    runtime_dir: Path | None = None
    exit_at_end: bool = False
    strategies: Annotated[tuple[Glob, ...], Beside()] = ()
    shutdown_s: Annotated[float, Between(1, 60)] = 10.0


@frozen(kw_only=True)
class Market:
    """The market of the simulated venue: made from a seed, or replayed from files."""

    kind: Literal["synthetic", "replay"] = "synthetic"
    seed: Annotated[int, Between(0, 2**63 - 1)] = 1
    symbols: tuple[Symbol, ...] = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT")
    speed: Annotated[float | Literal["max"], Between("0.001", 1_000_000)] = 1.0
    start: Annotated[str, Spelled(r"|\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?Z?)?", "such as 2025-06-01T00:00:00Z")] = ""
    files: Annotated[tuple[Glob, ...], Beside()] = ()
    funding_files: Annotated[tuple[Glob, ...], Beside()] = ()
    instruments_file: Annotated[Path | None, Beside()] = None

    @property
    def start_ms(self) -> int:
        """Return the venue time of the first candle, 0 when it is left open."""
        return parse_iso(self.start) if self.start else 0


@frozen(kw_only=True)
class Faults:
    """What goes wrong at the simulated venue, and how often: the share of requests, reports or questions it befalls."""

    seed: Annotated[int, Between(0, 2**63 - 1)] = 1
    lost: Chance = ZERO
    unanswered: Chance = ZERO
    late: Chance = ZERO
    broken: Chance = ZERO
    garbled: Chance = ZERO
    banned: Chance = ZERO
    refused: Chance = ZERO
    dropped: Chance = ZERO
    doubled: Chance = ZERO
    delayed: Chance = ZERO
    silent: Chance = ZERO
    cut: Chance = ZERO
    outage: Chance = ZERO

    def shares(self) -> dict[Fault, Decimal]:
        """Return how often each kind happens that does."""
        shares: dict[Fault, Decimal] = {kind: getattr(self, kind.value) for kind in Fault}
        return {kind: share for kind, share in shares.items() if share}


@frozen(kw_only=True)
class Desk:
    """How the simulated venue fills orders, what it can do, and what goes wrong there.

    `fill_ratio_max` is the share of a candle's volume one order may take; "off" for as much as it wants.
    """

    maker_bps: Bps = Decimal(2)
    taker_bps: Bps = Decimal(5)
    slippage_bps: Bps = Decimal(1)
    fill_ratio_max: Share | None = Decimal("0.25")
    client_ids: Literal["forever", "open", "none"] = "open"
    request_expiry: bool = False
    faults: Faults = field(factory=Faults)


@frozen(kw_only=True)
class Control:
    """The control socket and the read-only one beside it."""

    mode: Annotated[str, Spelled("0[0-7]{3}", 'four octal digits in quotes, such as "0660"')] = "0660"
    clients_max: Annotated[int, Between(1, 1_024)] = 32
    idle_s: Seconds = 30.0

    @property
    def mode_bits(self) -> int:
        """Return the mode as a number."""
        return int(self.mode, 8)


@frozen(kw_only=True)
class Stream:
    """The event stream over WebSocket."""

    enabled: bool = True
    host: Annotated[str, Spelled("[0-9A-Za-z.:-]{1,253}", "an address or a host name")] = "127.0.0.1"
    port: Annotated[int, Between(0, 65_535)] = 5002
    allowed_origins: tuple[
        Annotated[str, Spelled(r"https?://[^/\s]+", "scheme, host and port: https://a.b:8443")], ...
    ] = ()
    tls_certificate: Annotated[Path | None, Beside()] = None
    tls_key: Annotated[Path | None, Beside()] = None
    clients_max: Annotated[int, Between(1, 100_000)] = 1_000
    clients_per_key_max: Annotated[int, Between(1, 10_000)] = 50
    subscriptions_max: Annotated[int, Between(1, 10_000)] = 200
    frames_per_second_max: Annotated[int, Between(1, 10_000)] = 20
    authentication_s: Annotated[float, Between(1, 60)] = 5.0
    ping_s: Annotated[float, Between(1, 3_600)] = 20.0
    stuck_s: Annotated[float, Between(1, 600)] = 10.0


@frozen(kw_only=True)
class Http:
    """The HTTP API, a process of its own: a child of the daemon, one that somebody else starts, or none."""

    mode: Literal["child", "separate", "off"] = "child"
    host: Annotated[str, Spelled("[0-9A-Za-z.:-]{1,253}", "an address or a host name")] = "127.0.0.1"
    port: Annotated[int, Between(0, 65_535)] = 5001
    tls_certificate: Annotated[Path | None, Beside()] = None
    tls_key: Annotated[Path | None, Beside()] = None
    connections_max: Annotated[int, Between(1, 100_000)] = 1_000
    head_s: Annotated[float, Between("0.1", 600)] = 10.0


@frozen(kw_only=True)
class RateLimit:
    """How much weight a key may spend at once and how fast it comes back, and the same of who does not sign."""

    key_weight_max: Annotated[int, Between(100, 1_000_000)] = 1_200
    key_weight_per_s: Annotated[float, Between("0.1", 1_000_000)] = 20.0
    address_weight_max: Annotated[int, Between(100, 1_000_000)] = 300
    address_weight_per_s: Annotated[float, Between("0.1", 1_000_000)] = 5.0


@frozen(kw_only=True)
class RiskCaps(Caps):
    """Caps over many strategies, of one account or of all; "off" means no limit. Amounts in quote currency."""

    order_notional_max: Amount | None = Decimal(1_000_000)
    exposure_max: Amount | None = None
    open_positions_max: Count | None = None
    open_orders_max: Count | None = 20_000
    orders_per_second_max: Count | None = None
    orders_per_minute_max: Count | None = None
    orders_per_day_max: Count | None = None
    identical_orders_per_minute_max: Count | None = 30
    notional_per_minute_max: Amount | None = None
    daily_loss_max: Amount | None = None
    drawdown_pct_max: Share | None = Decimal("0.30")
    price_collar_pct: Share | None = Decimal("0.50")
    leverage_max: Annotated[int, Between(1, 125)] | None = 20
    rate_limit_max_trades: Count | None = None
    rate_limit_window_hours: Annotated[Decimal, Between("0.01", 168)] = Decimal(4)
    hedging_allowed: bool = True
    reduce_only: bool = False


@frozen(kw_only=True)
class Risk:
    """What no strategy may exceed together with the others, and how old a price may be for an entry."""

    account: RiskCaps = field(factory=RiskCaps)
    daemon: RiskCaps = field(factory=RiskCaps)
    data_age_max_s: Seconds = 10.0

    def caps(self) -> Caps:
        """Return the tighter of the account's and the daemon's caps: all accounts share one book per mode."""
        values: dict[str, Any] = asdict(self.account)
        for name, limit in asdict(self.daemon).items():
            own = values[name]
            if name == "reduce_only":
                values[name] = own or limit
            elif isinstance(limit, bool):
                values[name] = own and limit
            elif limit is not None:
                values[name] = limit if own is None else min(own, limit)
        return Caps(**values)


@frozen(kw_only=True)
class Supervision:
    """How often a crashed strategy is started again before it is given up, and how long each start waits."""

    restarts_max: Annotated[int, Between(0, 1_000)] = 5
    period_s: Seconds = 600.0
    backoff_min_s: Seconds = 0.5
    backoff_max_s: Seconds = 30.0


@frozen(kw_only=True)
class Guard:
    """How long one callback of a strategy may take, in CPU time and while it blocks, how long the daemon may stall, and
    how much memory it and each strategy may take: "auto" is what the machine and the service manager leave to it."""

    budget_ms: Annotated[int, Between(5, 1_000)] = 20
    blocked_ms: Annotated[int, Between(50, 5_000)] = 60
    stall_s: Annotated[float, Between(2, 600)] = 10.0
    overruns_max: Annotated[int, Between(1, 100)] = 3
    memory_mib_max: Annotated[int | Literal["auto"], Between(32, 1_000_000)] = "auto"
    strategy_memory_mib_max: Annotated[int, Between(1, 1_000_000)] = 64


@frozen
class FeeTier(Tier):
    """One row of the table of `tiered_maker_taker`."""

    volume: Amount
    maker_bps: Bps
    taker_bps: Bps


@frozen(kw_only=True)
class Backtest:
    """How many backtests are played at once, each in a process of its own, what each may take, and what trading costs.

    Candles come from the folder `candles`, which is that of the state directory unless something else is set.
    `tiers` say from which volume of the trailing 30 days on (quote currency) makers and takers pay how much.
    """

    slots: Annotated[int, Between(1, 64)] = 1
    candles: Annotated[Path | None, Beside()] = None
    memory_mib_max: Annotated[int, Between(64, 1_000_000)] = 1_024
    run_s_max: Annotated[float, Between(1, 604_800)] = 3_600.0
    tiers: tuple[FeeTier, ...] = tuple(FeeTier(*astuple(tier)) for tier in TIERS)


@frozen(kw_only=True)
class Webhooks:
    """Where events may be delivered, and how fast.

    `allow_private_targets` lets webhooks lead to this machine and its networks, over plain http too: for development.
    """

    allow_private_targets: bool = False
    attempts_per_second_max: Annotated[float, Between("0.1", 1_000)] = 50.0


@frozen(kw_only=True)
class LlmModel:
    """What a model costs: money for a million tokens, those it reads and those it writes."""

    read: Price = ZERO
    written: Price = ZERO

    @property
    def tariff(self) -> Tariff:
        """Return it as a value."""
        return Tariff(read=self.read, written=self.written)


@frozen(kw_only=True)
class LlmProvider:
    """An endpoint whose models may be asked, in which API, how often, and for how much.

    `answers` says how an answer of a certain form is asked for, `tokens_key` how chat completions are told how much may
    be written; "auto" is what the endpoint is known to want, if it is known.
    """

    kind: Annotated[Literal["anthropic", "openai"], Needed('"anthropic"')] = "anthropic"
    base_url: Annotated[
        str, Spelled(r"|https?://[^\s?#]{1,500}", "https://HOST, with a port and a path if need be")
    ] = ""
    key_file: Annotated[Path | None, Beside()] = None
    allow_private_targets: bool = False
    answers: Literal["auto", "tool", "schema", "object", "text"] = "auto"
    tokens_key: Literal["auto", "max_tokens", "max_completion_tokens"] = "auto"
    patience_s: Annotated[float, Between(1, 600)] = 60.0
    concurrent_max: Annotated[int, Between(1, 64)] = 4
    requests_per_minute_max: Annotated[int, Between(1, 10_000)] = 60
    models: Annotated[
        Mapping[str, LlmModel], Spelled(r"[A-Za-z0-9._:/@+-]{1,128}", "the name that the provider has for a model")
    ] = field(factory=dict[str, LlmModel])


@frozen(kw_only=True)
class Llm:
    """Whom strategies may ask for an opinion, and what that may cost on a UTC day, in the currency of the prices."""

    money_per_day_max: Amount = Decimal(10)
    waiting_max: Annotated[int, Between(1, 1_000)] = 64
    providers: Annotated[
        Mapping[str, LlmProvider], Spelled("[a-z][a-z0-9-]{0,31}", "a name in small letters, digits and hyphens")
    ] = field(factory=dict[str, LlmProvider])

    @property
    def tariffs(self) -> dict[tuple[str, str], Tariff]:
        """Return what each model of each provider costs."""
        return {
            (name, model): priced.tariff
            for name, provider in self.providers.items()
            for model, priced in provider.models.items()
        }


@frozen(kw_only=True)
class Log:
    """What is logged to standard error, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


@frozen(kw_only=True)
class Journal:
    """How much of the past stays at hand, of events and of evaluations, and how much room there should be."""

    events_kept: Annotated[int, Between(10, 10_000_000)] = 10_000
    events_kept_hours: Annotated[float, Between("0.001", 8_760)] = 24.0
    runs_kept: Annotated[int, Between(10, 100_000)] = RUNS_KEPT
    deleted_runs_kept_hours: Annotated[float, Between("0.001", 87_600)] = 720.0
    prune_every_s: Seconds = 3_600.0
    free_mib_min: Annotated[int, Between(0, 10_000_000)] = 100

    @property
    def free_bytes_min(self) -> int:
        """Return how much of the disk should be free, in bytes."""
        return self.free_mib_min * 1024 * 1024

    @property
    def events_kept_us(self) -> int:
        """Return for how long events stay, in microseconds."""
        return round(self.events_kept_hours * 3_600_000_000)

    @property
    def deleted_runs_kept_us(self) -> int:
        """Return for how long the evaluations of a deleted strategy stay, in microseconds."""
        return round(self.deleted_runs_kept_hours * 3_600_000_000)


@frozen(kw_only=True)
class Sections:
    """All that can be configured; every key has a default, so an empty file works."""

    daemon: Daemon = field(factory=Daemon)
    market: Market = field(factory=Market)
    desk: Desk = field(factory=Desk)
    control: Control = field(factory=Control)
    stream: Stream = field(factory=Stream)
    http: Http = field(factory=Http)
    ratelimit: RateLimit = field(factory=RateLimit)
    risk: Risk = field(factory=Risk)
    supervision: Supervision = field(factory=Supervision)
    guard: Guard = field(factory=Guard)
    log: Log = field(factory=Log)
    journal: Journal = field(factory=Journal)
    backtest: Backtest = field(factory=Backtest)
    webhooks: Webhooks = field(factory=Webhooks)
    llm: Llm = field(factory=Llm)

    @property
    def runtime_dir(self) -> Path:
        """Return the folder of the sockets: the state directory unless something else is set."""
        return self.daemon.runtime_dir or self.daemon.state_dir

    @property
    def control_socket(self) -> Path:
        """Return where commands are taken."""
        return self.runtime_dir / "control.sock"

    @property
    def observe_socket(self) -> Path:
        """Return where questions are answered and commands refused."""
        return self.runtime_dir / "observe.sock"

    @property
    def forward_socket(self) -> Path:
        """Return where requests are taken that somebody else signed."""
        return self.runtime_dir / "forward.sock"
