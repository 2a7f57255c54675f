"""How rule strategies size, protect, limit and end their trades: the fields of `execution_config`, with defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from attrs import evolve, fields, frozen

from pipaid.sdk import (
    Candle,
    Guards,
    LossPause,
    Position,
    RiskParams,
    Timeframe,
    choice_param,
    decimal_param,
    flag_param,
    integer_param,
    optional_param,
    refused_param,
    table_param,
)

DAY_MS: Final = 86_400_000
CANDLES_MAX: Final = 1_000_000
INITIAL_BALANCE: Final = Decimal(10_000)
BLEND: Final = "is not implemented: how several ATRs are blended was never published; use atr_period"
# What rules may call their timeframe, and what that is here.
TIMEFRAMES: Final[Mapping[str, Timeframe]] = MappingProxyType(
    {
        "5m": Timeframe.M5,
        "15m": Timeframe.M15,
        "30m": Timeframe.M30,
        "1h": Timeframe.H1,
        "4h": Timeframe.H4,
        "1d": Timeframe.D1,
        "1D": Timeframe.D1,
        "M15": Timeframe.M15,
        "H1": Timeframe.H1,
        "H4": Timeframe.H4,
        "D1": Timeframe.D1,
    }
)


@frozen(kw_only=True)
class Cooldown:
    """After so many losses in a row within a window, nothing is entered for as long as that window is."""

    short_loss_limit: int | None = optional_param(
        integer_param("Losses in a row within the short window", low=1, high=100)
    )
    long_loss_limit: int | None = optional_param(
        integer_param("Losses in a row within the long window", low=1, high=100)
    )
    short_window: int | None = optional_param(
        integer_param("Candles of the short window", low=1, high=CANDLES_MAX, name="short_window_bars")
    )
    long_window: int | None = optional_param(
        integer_param("Candles of the long window", low=1, high=CANDLES_MAX, name="long_window_bars")
    )


def _cooldown(short_window: int, long_window: int) -> Cooldown:
    told: dict[str, Any] = {"short_window_bars": short_window, "long_window_bars": long_window}
    return Cooldown(short_loss_limit=4, long_loss_limit=6, **told)


# Those of 30m and 4h lie between their neighbours: nobody published any.
COOLDOWNS: Final[Mapping[Timeframe, Cooldown]] = MappingProxyType(
    {
        Timeframe.M5: _cooldown(180, 480),
        Timeframe.M15: _cooldown(120, 320),
        Timeframe.M30: _cooldown(80, 220),
        Timeframe.H1: _cooldown(48, 144),
        Timeframe.H4: _cooldown(30, 90),
        Timeframe.D1: _cooldown(20, 60),
    }
)


@frozen(kw_only=True)
class ExecutionConfig:
    """Sizing, stops, limits and time exits; candles are those of the smallest timeframe among the rules."""

    max_risk_per_trade: Decimal = decimal_param(
        "Share of the account value lost if the stop is hit", low="0.0001", high="1", default="0.01", floats=True
    )
    reward_factor: Decimal | None = optional_param(
        decimal_param("Distance of the target in stop distances; 2 by default", low="0.9", high="10", floats=True)
    )
    stop_loss_calculation: str = choice_param(
        "Stop at a distance in average true ranges, or at a fixed share of the entry price",
        choices=("dynamic_atr", "fixed"),
        default="dynamic_atr",
    )
    stop_loss_pct: Decimal = decimal_param(
        "Distance of a fixed stop as a share of the entry price", low="0.0001", high="0.99", default="0.02", floats=True
    )
    atr_period: int = integer_param("Window of the average true range", low=2, high=500, default=14)
    atr_volatility_factor: Decimal = decimal_param(
        "Stop distance in average true ranges", low="0.1", high="20", default="2", floats=True
    )
    max_open_positions: int = integer_param("Most positions at once", low=1, high=10_000, default=10)
    max_trades_per_day: int = integer_param("Most trades a UTC day", low=1, high=100_000, default=50)
    cooldown_candles: int = integer_param(
        "Candles without entries after each closed trade", low=0, high=10_000, default=24, name="cooldown_bars"
    )
    max_hold_candles: int = integer_param(
        "Candles after which a position is closed", low=1, high=CANDLES_MAX, default=1_000, name="max_hold_bars"
    )
    loss_candles: int = integer_param(
        "Candles after which a position that is losing is closed",
        low=1,
        high=CANDLES_MAX,
        default=1_000,
        name="exit_on_loss_after_bars",
    )
    profit_candles: int = integer_param(
        "Candles after which a position with a profit of profit_threshold_pct is closed",
        low=1,
        high=CANDLES_MAX,
        default=1_000,
        name="exit_on_profit_after_bars",
    )
    profit_threshold_pct: Decimal = decimal_param(
        "Least profit for exit_on_profit_after_bars, as a share of the entry price",
        low="0",
        high="10",
        default="0.05",
        floats=True,
    )
    min_balance_threshold: Decimal = decimal_param(
        "Share of the capital below which nothing is entered, 0 for none", low="0", high="1", default="0.1", floats=True
    )
    min_trade_amount: Decimal = decimal_param(
        "Least notional of an entry, in quote currency", low="0", default="25", floats=True
    )
    max_units_per_trade: Decimal = decimal_param(
        "Largest quantity of an entry, in base currency", above="0", default="1000000", floats=True
    )
    max_trade_amount: Decimal = decimal_param(
        "Largest notional of an entry, in quote currency", above="0", default="10000000", floats=True
    )
    initial_balance: Decimal = decimal_param(
        "Capital of strategies that are created without one", above="0", default=str(INITIAL_BALANCE), floats=True
    )
    volatility_window: int = integer_param("Candles of the volatility that sizes go by", low=2, high=500, default=24)
    target_volatility: Decimal = decimal_param(
        "Volatility above which less is risked, as a share of the price",
        low="0.0001",
        high="10",
        default="0.02",
        floats=True,
    )
    volatility_mode: str = choice_param(
        "Volatility as the standard deviation of closes, or as the average true range, both over the price",
        choices=("stddev", "atr"),
        default="stddev",
    )
    enable_volatility_adjustment: bool = flag_param("Risk less while it is more volatile than wanted", default=False)
    daily_momentum_limit: int | None = optional_param(
        integer_param("Losses in a row within a UTC day that end it; replaced by cooldown_config", low=1, high=100)
    )
    weekly_momentum_limit: int | None = optional_param(
        integer_param("Losses in a row within a UTC week that end it; replaced by cooldown_config", low=1, high=100)
    )
    cooldown_config: dict[str, Cooldown] = table_param(
        "Pauses after losses in a row by timeframe; that of the smallest among the rules counts",
        of=Cooldown,
        keys=tuple(TIMEFRAMES),
        default={timeframe.value: cooldown for timeframe, cooldown in COOLDOWNS.items()},
    )
    max_drawdown_limit: Decimal = decimal_param(
        "Fall of the equity from its peak, as a fraction, after which entries pause",
        above="0",
        high="1",
        default="0.2",
        floats=True,
    )
    slippage_pct: Decimal | None = optional_param(
        decimal_param("Of no effect: the venue or the backtest tells slippage", low="0", high="1", floats=True)
    )
    fee_pct: Decimal | None = optional_param(
        decimal_param("Of no effect: the venue or the backtest tells fees", low="0", high="1", floats=True)
    )
    atr_short_weight: None = refused_param(BLEND)
    atr_long_weight: None = refused_param(BLEND)
    atr_cap_multiplier: None = refused_param(BLEND)


def settled(config: ExecutionConfig, reward: Decimal) -> ExecutionConfig:
    """Return a config with the target's distance and every pause told, those that were left out as they usually are."""
    given = {TIMEFRAMES[name]: each for name, each in config.cooldown_config.items()}
    pauses: dict[str, Cooldown] = {}
    for timeframe, usual in COOLDOWNS.items():
        mine = given.get(timeframe, usual)
        told: dict[str, Any] = {
            str(knob.alias): each for knob in fields(Cooldown) if (each := getattr(mine, knob.name)) is not None
        }
        pauses[timeframe.value] = evolve(usual, **told)
    own = config.reward_factor if config.reward_factor is not None else reward
    return evolve(config, cooldown_config=pauses, reward_factor=own)


def surprises(config: ExecutionConfig, capital: Decimal) -> Iterator[str]:
    """Yield what of a config has no effect, or another one than its name may tell."""
    for name, value in (("slippage_pct", config.slippage_pct), ("fee_pct", config.fee_pct)):
        if value is not None:
            yield f"execution_config.{name} has no effect: the venue or the backtest tells it"
    if config.initial_balance not in (INITIAL_BALANCE, capital):
        yield f"execution_config.initial_balance has no effect: the capital is {capital:f}"
    for name, limit in (("daily", config.daily_momentum_limit), ("weekly", config.weekly_momentum_limit)):
        if limit is not None:
            yield f"execution_config.{name}_momentum_limit holds beside cooldown_config, which replaces it elsewhere"


def _caps(config: ExecutionConfig, cooldown_candles: int) -> RiskParams:
    told: dict[str, Any] = {"cooldown_bars": cooldown_candles}
    return RiskParams(
        max_open_positions=config.max_open_positions,
        max_trades_per_day=config.max_trades_per_day,
        max_drawdown_pct=config.max_drawdown_limit,
        max_order_rate=60,
        **told,
    )


DEFAULTS: Final = _caps(ExecutionConfig(), 24)


@frozen(kw_only=True)
class Execution:
    """A settled `execution_config` for rules of which the smallest timeframe is `candle`."""

    config: ExecutionConfig
    candle: Timeframe

    @property
    def cooldown(self) -> Cooldown:
        """Return the pauses after losses in a row."""
        return self.config.cooldown_config[self.candle.value]

    @property
    def aged_ms(self) -> int:
        """Return after what time a position may be closed for its age."""
        config = self.config
        least = min(config.max_hold_candles, config.loss_candles, config.profit_candles)
        return least * self.candle.ms

    def is_over(self, lot: Position, candle: Candle) -> bool:
        """Tell whether a position has been held for long enough at the close of a candle, for what it gained there."""
        config, age = self.config, (candle.close_time_ms - lot.opened_at_ms) // self.candle.ms
        gain = lot.direction.sign * (candle.close - lot.entry_price) / lot.entry_price
        return (
            age >= config.max_hold_candles
            or (age >= config.loss_candles and gain < 0)
            or (age >= config.profit_candles and gain > 0 and gain >= config.profit_threshold_pct)
        )

    def guards(self, timeframe: Timeframe) -> Guards:
        """Return what holds a strategy of some timeframe back."""
        config, cooldown = self.config, self.cooldown
        assert cooldown.long_window is not None
        return Guards(
            risk=_caps(config, config.cooldown_candles * self.candle.ms // timeframe.ms),
            pauses=tuple(self._pauses()),
            drawdown_pause_ms=cooldown.long_window * self.candle.ms,
            balance_min_pct=config.min_balance_threshold,
        )

    def _pauses(self) -> Iterator[LossPause]:
        cooldown, config = self.cooldown, self.config
        windows = (
            (cooldown.short_loss_limit, cooldown.short_window),
            (cooldown.long_loss_limit, cooldown.long_window),
        )
        for losses, window in windows:
            assert losses is not None
            assert window is not None
            yield LossPause(losses=losses, length_ms=window * self.candle.ms)
        for losses, days in ((config.daily_momentum_limit, 1), (config.weekly_momentum_limit, 7)):
            if losses is not None:
                yield LossPause(losses=losses, length_ms=days * DAY_MS, calendar=True)
