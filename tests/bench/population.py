"""Strategies by the thousand: the five templates with ordinary params, spread over a synthetic market's symbols."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from pipaid.config import Declaration
from pipaid.model.instrument import Timeframe

KNOWN: Final = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT")
CAPITAL: Final = Decimal(20_000)

# What people run on candles of one minute: windows from one hour to a day, positions held for hours.
_MOMENTUM: Final[tuple[dict[str, Any], ...]] = (
    {"fast": 60, "slow": 240},
    {"fast": 60, "slow": 180, "rsi_min": "52", "take_atr": "8", "stop_atr": "4"},
    {"fast": 90, "slow": 360, "rsi_min": "50", "stop_atr": "5", "take_atr": "10"},
    {"fast": 120, "slow": 400, "rsi_min": "50", "stop_atr": "6", "take_atr": "0", "allow_short": True},
)
_REVERSION: Final[tuple[dict[str, Any], ...]] = (
    {"window": 120, "entry_z": "2.5"},
    {"window": 240, "entry_z": "3", "exit_z": "0.5", "max_hold_bars": 480},
    {"window": 360, "entry_z": "3", "exit_z": "0", "stop_z": "5", "allow_short": True},
    {"window": 480, "entry_z": "2.8", "exit_z": "0.3", "max_hold_bars": 0},
)
_BREAKOUT: Final[tuple[dict[str, Any], ...]] = (
    {"lookback": 240, "exit_lookback": 120, "stop_atr": "4"},
    {"lookback": 360, "exit_lookback": 180, "stop_atr": "6"},
    {"lookback": 480, "exit_lookback": 120, "stop_atr": "5", "allow_short": True},
    {"lookback": 500, "exit_lookback": 240, "stop_atr": "8"},
)
_DCA: Final[tuple[dict[str, Any], ...]] = (
    {"interval": "1h", "buy_amount": "100"},
    {"interval": "4h", "buy_amount": "250", "take_profit_pct": "0.03"},
    {"interval": "1d", "buy_amount": "400"},
    {"interval": "1d", "buy_amount": "200", "stop_loss_pct": "0.12"},
)
_ABOVE: Final = {"name": "is_above_sma", "params": {"window": 50}}
_CALM: Final = {"name": "natr_low_volatility", "params": {"window": 14, "threshold": 5}}
_RULES: Final[tuple[tuple[dict[str, Any], dict[str, Any]], ...]] = (
    ({"name": "rsi_cross_up", "params": {"window": 14, "threshold": 50}}, _ABOVE),
    ({"name": "rsi_oversold", "params": {"window": 14, "threshold": 30}}, _CALM),
    ({"name": "ema_cross_up", "params": {"window_fast": 9, "window_slow": 21}}, _ABOVE),
    ({"name": "macd_bullish_cross", "params": {}}, _CALM),
)
# Half the width of the ladder as a share of the price, and how many levels it has.
_GRIDS: Final = ((Decimal("0.04"), 9), (Decimal("0.06"), 13), (Decimal("0.08"), 17), (Decimal("0.10"), 21))


def symbols_of(count: int) -> tuple[str, ...]:
    """Return the five symbols everybody knows, and made-up ones."""
    return (*KNOWN, *(f"MADE{number:02}USDT" for number in range(count - len(KNOWN))))[:count]


def declared(count: int, prices: Mapping[str, Decimal]) -> Iterator[Declaration]:
    """Declare strategies on paper, one symbol each, templates and symbols in turn."""
    symbols = tuple(prices)
    for number in range(count):
        symbol = symbols[number // 5 % len(symbols)]
        variant = number // (5 * len(symbols)) % 4
        template, params = _chosen(number % 5, variant, prices[symbol])
        yield Declaration(
            name=f"{template.removeprefix('tpl_')} {number}",
            template_id=template,
            symbols=(symbol,),
            timeframe=Timeframe.M1,
            capital=CAPITAL,
            params=params,
            deploy=True,
            source=f"population:{number}",
        )


def ruled(count: int, prices: Mapping[str, Decimal]) -> Iterator[Declaration]:
    """Declare rule strategies on paper that share four pairs of signals and differ in how they trade on them."""
    symbols = tuple(prices)
    for number in range(count):
        trigger, filter_ = _RULES[number % len(_RULES)]
        yield Declaration(
            name=f"rules {number}",
            template_id="tpl_rules",
            symbols=(symbols[number // len(_RULES) % len(symbols)],),
            timeframe=Timeframe.M5,
            capital=CAPITAL,
            params={
                "entry": [
                    {**trigger, "signal_type": "TRIGGER", "timeframe": "5m"},
                    {**filter_, "signal_type": "FILTER", "timeframe": "5m"},
                ],
                "reward_factor": f"{1 + number % 40 / 10}",
                "execution_config": {"atr_volatility_factor": f"{2 + number % 7}", "cooldown_bars": number % 24},
            },
            deploy=True,
            source=f"population:{number}",
        )


def _chosen(template: int, variant: int, price: Decimal) -> tuple[str, dict[str, Any]]:
    if template == 0:
        half, levels = _GRIDS[variant]
        low, high = (f"{price * (1 + sign * half):.4f}" for sign in (-1, 1))
        return "tpl_grid", {"grid_levels": levels, "lower_price": low, "upper_price": high}
    return (
        ("tpl_momentum", _MOMENTUM[variant]),
        ("tpl_meanrev", _REVERSION[variant]),
        ("tpl_breakout", _BREAKOUT[variant]),
        ("tpl_dca", _DCA[variant]),
    )[template - 1]
