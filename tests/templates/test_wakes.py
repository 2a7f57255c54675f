"""To ask a template only when it wants to be asked gives the same intents as to ask it at every candle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipaid.engine.params import structure_params
from pipaid.model.candle import Candle
from pipaid.sdk import Template, Timeframe
from templates.breakout import Breakout
from templates.dca import Dca
from templates.grid import Grid
from templates.meanrev import MeanReversion
from templates.momentum import Momentum
from templates.rules import Rules
from tests.signals.candles import eurusd_hours, walks
from tests.templates.driver import Driver

BUILT_IN: tuple[type[Template], ...] = (Grid, Dca, Momentum, MeanReversion, Breakout, Rules)


def make_template(kind: type[Template], raw: Mapping[str, Any]) -> Template:
    """Return a template with params as a client would send them."""
    params = structure_params(kind, raw, symbols=("EURUSD",), timeframe=Timeframe.H1, capital=Decimal(10_000))
    return kind(params)


def fraction(low: float, high: float) -> st.SearchStrategy[str]:
    """Draw a decimal string with one digit after the point."""
    return st.integers(round(low * 10), round(high * 10)).map(lambda tenths: f"{tenths // 10}.{tenths % 10}")


DRAWN: dict[type[Template], st.SearchStrategy[dict[str, Any]]] = {
    Grid: st.fixed_dictionaries(
        {
            "grid_levels": st.integers(2, 20),
            "lower_price": fraction(92, 99),
            "upper_price": fraction(100, 108),
            "spacing": st.sampled_from(["arithmetic", "geometric"]),
            "side": st.sampled_from(["long", "short", "neutral"]),
            "rebalance_threshold": fraction(0, 0.5),
            "stop_loss_pct": st.sampled_from(["0", "0.01", "0.03"]),
        }
    ),
    Dca: st.fixed_dictionaries(
        {
            "interval": st.sampled_from(["1h", "4h", "1d"]),
            "buy_amount": st.sampled_from(["100", "2000", "9999"]),
            "max_buys": st.integers(0, 4),
            "take_profit_pct": st.sampled_from(["0", "0.01", "0.1"]),
            "stop_loss_pct": st.sampled_from(["0", "0.02", "10"]),
        }
    ),
    Momentum: st.fixed_dictionaries(
        {
            "fast": st.integers(2, 4),
            "slow": st.integers(5, 9),
            "rsi_period": st.integers(2, 5),
            "rsi_min": st.sampled_from(["0", "40", "55"]),
            "atr_period": st.integers(2, 5),
            "stop_atr": fraction(0.5, 5),
            "take_atr": fraction(0, 5),
            "allow_short": st.booleans(),
        }
    ),
    MeanReversion: st.fixed_dictionaries(
        {
            "window": st.integers(5, 9),
            "entry_z": fraction(0.6, 2),
            "exit_z": fraction(0, 0.5),
            "stop_z": st.sampled_from(["0", "2.5", "6"]),
            "max_hold_bars": st.integers(0, 6),
            "allow_short": st.booleans(),
        }
    ),
    Breakout: st.fixed_dictionaries(
        {
            "lookback": st.integers(2, 8),
            "exit_lookback": st.integers(1, 6),
            "atr_period": st.integers(2, 5),
            "stop_atr": fraction(0.5, 5),
            "allow_short": st.booleans(),
        }
    ),
}


def drawn_rules(timeframes: Sequence[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw rules of signals with small windows, so that they hold now and then within few candles."""

    def rule(signal_type: str, *signals: tuple[str, dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
        made = [
            {"name": name, "signal_type": signal_type, "timeframe": timeframe, "params": params}
            for name, params in signals
            for timeframe in timeframes
        ]
        return st.sampled_from(made)

    average = {"window": 3}
    triggers = rule(
        "TRIGGER",
        ("rsi_oversold", {"window": 2, "threshold": 40}),
        ("sma_cross_up", {"window_fast": 1, "window_slow": 3}),
        ("price_above_ema", average),
        ("rsi_cross_down", {"window": 3, "threshold": 60}),
    )
    filters = rule("FILTER", ("is_above_sma", average), ("natr_low_volatility", {"window": 5, "threshold": 5}))
    execution = st.fixed_dictionaries(
        {
            "atr_period": st.integers(2, 4),
            "atr_volatility_factor": st.sampled_from([0.5, 1.5, "3"]),
            "stop_loss_calculation": st.sampled_from(["dynamic_atr", "fixed"]),
            "stop_loss_pct": st.just(0.01),
            "max_open_positions": st.integers(1, 3),
            "cooldown_bars": st.integers(0, 2),
            "max_hold_bars": st.sampled_from([3, 9, 1_000]),
            "exit_on_loss_after_bars": st.sampled_from([2, 6, 1_000]),
            "exit_on_profit_after_bars": st.sampled_from([1, 4]),
            "profit_threshold_pct": st.just(0.001),
            "enable_volatility_adjustment": st.booleans(),
            "volatility_window": st.just(4),
            "target_volatility": st.just(0.01),
            "cooldown_config": st.just({"1h": {"short_loss_limit": 2, "short_window_bars": 4}}),
            "max_drawdown_limit": st.sampled_from([0.01, 0.9]),
        }
    )
    return st.fixed_dictionaries(
        {
            "entry": st.tuples(triggers, filters).map(list),
            "exit": st.one_of(st.just([]), triggers.map(lambda one: [one]), st.tuples(triggers, filters).map(list)),
            "reward_factor": st.sampled_from([0.9, 2, "3.5"]),
            "execution_config": execution,
        }
    )


DRAWN[Rules] = drawn_rules(["1h"])

# Params that trade the real hours of 2017 and 2018, which run from 1.04 to 1.25.
CHOSEN: list[tuple[type[Template], dict[str, Any]]] = [
    (Grid, {"grid_levels": 41, "lower_price": "1.05", "upper_price": "1.25"}),
    (Grid, {"grid_levels": 25, "lower_price": "1.14", "upper_price": "1.24", "side": "neutral"}),
    (Grid, {"grid_levels": 30, "lower_price": "1.10", "upper_price": "1.24", "side": "short", "spacing": "geometric"}),
    (Dca, {"interval": "1d", "buy_amount": "500", "take_profit_pct": "0.01", "stop_loss_pct": "0.02"}),
    (Dca, {"interval": "1w", "buy_amount": "200"}),
    (Momentum, {"allow_short": True}),
    (Momentum, {"fast": 5, "slow": 50, "rsi_min": "50", "take_atr": "0"}),
    (MeanReversion, {"allow_short": True}),
    (MeanReversion, {"window": 50, "stop_z": "0", "max_hold_bars": 0}),
    (Breakout, {"allow_short": True}),
    (Breakout, {"lookback": 100, "exit_lookback": 50}),
    (Rules, {"entry": [{"name": "ema_cross_up", "signal_type": "TRIGGER", "timeframe": "1h", "params": {}},
                       {"name": "is_above_sma", "signal_type": "FILTER", "timeframe": "1h", "params": {"window": 50}}],
             "exit": [{"name": "rsi_cross_up", "signal_type": "TRIGGER", "timeframe": "1h", "params": {}}]}),
]  # fmt: skip


def both_ways(
    kind: type[Template], raw: Mapping[str, Any], candles: Sequence[Candle], **trouble: Any
) -> tuple[Driver, Driver]:
    """Play the same candles to two of a kind: one is asked at every candle, the other when it wants to be."""
    ways: list[Driver] = []
    for every in (True, False):
        driver = Driver(make_template(kind, raw), every=every, **trouble)
        driver.know(candles[:10])
        driver.deploy()
        ways.append(driver.run(candles[10:]))
    return ways[0], ways[1]


@pytest.mark.parametrize("kind", BUILT_IN)
@settings(max_examples=150)
@given(data=st.data())
def test_sleeping_through_candles_changes_no_intent(kind: type[Template], data: st.DataObject) -> None:
    raw = data.draw(DRAWN[kind])
    candles = data.draw(walks(count=80, gap_max=3))
    trouble = {
        "lost": data.draw(st.sets(st.integers(1, 15), max_size=5)),
        "closed_by_hand": data.draw(st.sets(st.integers(0, 200), max_size=5)),
    }

    asked, woken = both_ways(kind, raw, candles, **trouble)

    assert woken.wishes == asked.wishes
    assert woken.trades == asked.trades


@pytest.mark.parametrize(("kind", "raw"), CHOSEN)
def test_sleeping_through_real_hours_changes_no_intent(
    kind: type[Template], raw: dict[str, Any], eurusd_hours_csv: Path
) -> None:
    asked, woken = both_ways(kind, raw, eurusd_hours(eurusd_hours_csv))

    assert woken.wishes == asked.wishes
    assert woken.trades == asked.trades
    assert len(woken.wishes) > 20
    assert woken.calls < asked.calls / 2


@pytest.mark.parametrize("kind", BUILT_IN)
@settings(max_examples=60)
@given(data=st.data())
def test_a_template_goes_on_from_its_saved_state(kind: type[Template], data: st.DataObject) -> None:
    raw = data.draw(DRAWN[kind])
    candles = data.draw(walks(count=60))
    stop = data.draw(st.integers(10, 59))

    driver = Driver(make_template(kind, raw), lost={2})
    driver.know(candles[:10])
    driver.deploy()
    driver.run(candles[10:stop])
    saved = {symbol: msgspec.json.encode(state) for symbol, state in driver.template.state.items()}
    state = {symbol: msgspec.json.decode(text, type=kind.state_type) for symbol, text in saved.items()}
    driver.template = kind(driver.template.params, state)
    driver.run(candles[stop:])

    whole = Driver(make_template(kind, raw), lost={2})
    whole.know(candles[:10])
    whole.deploy()
    assert driver.wishes == whole.run(candles[10:]).wishes
