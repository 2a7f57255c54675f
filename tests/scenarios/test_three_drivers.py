"""Three ways to play the same candles come to the same fills: every candle, only those that matter, a whole daemon."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from pipaid.engine.backtest import run
from pipaid.engine.fees import Fees
from pipaid.engine.plan import Plan
from pipaid.model.columns import Candles
from pipaid.model.instrument import Timeframe
from pipaid.model.order import BookedFill, Fill
from pipaid.model.strategy import StrategyDefinition
from pipaid.plugins import load_templates
from pipaid.seams import SystemDisk
from pipaid.storage.reading import SqliteReader
from pipaid.venues.importing import read_candles
from pipaid.venues.recorded import Recorded, load
from tests.scenarios.recordings import MINUTE_MS, START_MS, replay_config, write_recording
from tests.surfaces.daemon import running

MINUTES = 2_000
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
# What the paper desk charges, which a backtest matches.
MAKER_BPS, TAKER_BPS, SLIPPAGE_BPS = Decimal(2), Decimal(5), Decimal(1)
CROSSED = {"name": "sma_cross_up", "signal_type": "TRIGGER", "params": {"window_fast": 1, "window_slow": 3}}
ABOVE = {"name": "price_above_ema", "signal_type": "FILTER", "params": {"window": 2}}
WEAK = {"name": "rsi_overbought", "signal_type": "TRIGGER", "params": {"window": 3, "threshold": 60}}
CASES: dict[str, dict[str, Any]] = {
    "momentum": {"template_id": "tpl_momentum", "symbols": SYMBOLS[:1], "timeframe": "1m"},
    "momentum of many": {"template_id": "tpl_momentum", "symbols": SYMBOLS, "timeframe": "5m", "leverage": 3},
    "meanrev": {"template_id": "tpl_meanrev", "symbols": SYMBOLS[1:2], "timeframe": "1m", "leverage": 5},
    "breakout": {"template_id": "tpl_breakout", "symbols": SYMBOLS[2:], "timeframe": "1m"},
    "dca": {
        "template_id": "tpl_dca",
        "symbols": SYMBOLS[:2],
        "timeframe": "1m",
        "params": {"interval": "1h", "buy_amount": "200", "take_profit_pct": "0.004", "stop_loss_pct": "0.01"},
    },
    "grid": {
        "template_id": "tpl_grid",
        "symbols": SYMBOLS[2:],
        "timeframe": "1m",
        "params": {"grid_levels": 12, "lower_price": "154", "upper_price": "166"},
    },
    "rules": {
        "template_id": "tpl_rules",
        "symbols": SYMBOLS[1:],
        "timeframe": "5m",
        "params": {
            "entry": [{**CROSSED, "timeframe": "5m"}, {**ABOVE, "timeframe": "M15"}],
            "exit": [{**WEAK, "timeframe": "30m"}],
            "execution_config": {"cooldown_bars": 1, "max_hold_bars": 20, "exit_on_loss_after_bars": 9},
        },
    },
    "momentum by the clock": {
        "template_id": "tpl_momentum",
        "symbols": SYMBOLS,
        "timeframe": "1m",
        "leverage": 2,
        "params": {
            "schedule": {
                "trigger": "cron",
                "cron": "*/2 * * * *",
                "timezone": "Asia/Kathmandu",
                "skip_hours": [3, 4, 17],
                "skip_hours_timezone": "Europe/Berlin",
            },
        },
    },
    "meanrev at intervals": {
        "template_id": "tpl_meanrev",
        "symbols": SYMBOLS[1:],
        "timeframe": "1m",
        "params": {"schedule": {"trigger": "interval", "interval_minutes": 3}},
    },
    "grid at intervals": {
        "template_id": "tpl_grid",
        "symbols": SYMBOLS[2:],
        "timeframe": "5m",
        "params": {
            "grid_levels": 12,
            "lower_price": "154",
            "upper_price": "166",
            "schedule": {"trigger": "interval", "interval_minutes": 30},
        },
    },
    "rules by the clock": {
        "template_id": "tpl_rules",
        "symbols": SYMBOLS[:1],
        "timeframe": "1m",
        "params": {
            "entry": [{**CROSSED, "timeframe": "5m"}, {**ABOVE, "timeframe": "M15"}],
            "execution_config": {"cooldown_bars": 1, "max_hold_bars": 20, "exit_on_loss_after_bars": 9},
            "schedule": {"trigger": "cron", "cron": "0,5,12,25,31,40 * * * *"},
        },
    },
    "rules above minutes": {
        "template_id": "tpl_rules",
        "symbols": SYMBOLS[:1],
        "timeframe": "1m",
        "leverage": 3,
        "params": {
            "entry": [{**CROSSED, "timeframe": "15m"}, {**ABOVE, "timeframe": "5m"}],
            "execution_config": {
                "cooldown_bars": 0,
                "stop_loss_calculation": "fixed",
                "stop_loss_pct": "0.003",
                "exit_on_profit_after_bars": 3,
                "profit_threshold_pct": "0.0005",
                "enable_volatility_adjustment": True,
                "volatility_mode": "atr",
                "target_volatility": "0.0005",
                "cooldown_config": {"5m": {"short_loss_limit": 3, "short_window_bars": 12}},
            },
        },
    },
}


def definition_of(name: str) -> StrategyDefinition:
    case = CASES[name]
    return StrategyDefinition(
        name=name,
        template_id=case["template_id"],
        params=case.get("params", {}),
        symbols=case["symbols"],
        timeframe=Timeframe(case["timeframe"]),
        capital=Decimal(10_000),
        leverage=case.get("leverage", 1),
    )


def declared(name: str) -> str:
    definition = definition_of(name)
    return f"""
[[strategy]]
name = "{name}"
template_id = "{definition.template_id}"
symbols = {list(definition.symbols)}
timeframe = "{definition.timeframe}"
capital = "{definition.capital}"
leverage = {definition.leverage}
deploy = true
params = {inline(definition.params)}
"""


def inline(value: object) -> str:
    """Write a value as TOML does on one line."""
    if isinstance(value, dict):
        members = cast("dict[str, object]", value).items()
        return "{ " + ", ".join(f"{key} = {inline(each)}" for key, each in members) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(inline, cast('list[object]', value)))}]"
    return msgspec.json.encode(value).decode()


def with_gaps(path: Path) -> None:
    """Leave minutes out, let one stretch stand still and one spike, as recordings of real markets do."""
    head, *rows = path.read_text(encoding="utf-8").splitlines()
    flat = rows[700].split(",")[4]
    for place in range(700, 730):
        time, *_, volume = rows[place].split(",")
        rows[place] = ",".join((time, flat, flat, flat, flat, volume))
    time, first, _, _, last, volume = rows[900].split(",")
    rows[900] = ",".join((time, first, _times(first, "1.06"), _times(first, "0.95"), last, volume))
    kept = [row for place, row in enumerate(rows) if not (300 <= place < 317 or place in (405, 1200, 1205))]
    path.write_text("\n".join([head, *kept]) + "\n", encoding="utf-8")


def _times(price: str, factor: str) -> str:
    decimals = len(price.partition(".")[2])
    return f"{Decimal(price) * Decimal(factor):.{decimals}f}"


def told(fills: Sequence[Fill]) -> list[tuple[Any, ...]]:
    return [(each.time_ms, each.symbol, each.side, each.quantity, each.price, each.fee) for each in fills]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recording")
    write_recording(folder, minutes=MINUTES, seed=4, symbols=SYMBOLS)
    with_gaps(folder / f"{SYMBOLS[1]}-1m-made.csv")
    with_gaps(folder / f"{SYMBOLS[2]}-1m-made.csv")
    return folder


@pytest.fixture(scope="module")
def replayed(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Fill]]:
    """Play the recording through a real daemon, and return the fills of each strategy."""
    folder = tmp_path_factory.mktemp("daemon")
    strategies = folder / "strategies.toml"
    strategies.write_text("".join(map(declared, CASES)), encoding="utf-8")
    with running(folder / "life", replay_config(recording, strategies)) as daemon:
        daemon.wait_for(lambda: daemon.ask("status")["market"]["ended"], within_s=180)
        ids = {one["name"]: one["id"] for one in daemon.ask("strategy.list", limit=100)["data"]}
        reader = SqliteReader(daemon.state / "journal.db")
        try:
            return {
                name: [
                    booked.fill
                    for row in reader.rows("fill", owner=ids[name])
                    for booked in [msgspec.json.decode(row.data, type=BookedFill)]
                ]
                for name in CASES
            }
        finally:
            reader.close()


def planned(name: str, recording: Path) -> Plan:
    definition = definition_of(name)
    recorded = loaded(recording)
    return Plan(
        definition=definition,
        template=load_templates().templates[definition.template_id],
        candles={symbol: candles_of(recording, symbol) for symbol in definition.symbols},
        instruments=recorded.instruments,
        begin_ms=START_MS,
        end_ms=START_MS + MINUTES * MINUTE_MS,
        fees=Fees(model="match_exchange", slippage_bps=SLIPPAGE_BPS, venue=(MAKER_BPS, TAKER_BPS)),
        funding={symbol: recorded.funding[symbol] for symbol in definition.symbols},
    )


def loaded(recording: Path) -> Recorded:
    return load(SystemDisk(), [f"{recording}/*-1m-*.csv", f"{recording}/*-funding-*.csv"])


def candles_of(recording: Path, symbol: str) -> Candles:
    return read_candles(SystemDisk(), recording / f"{symbol}-1m-made.csv")


@pytest.mark.parametrize("name", sorted(CASES))
def test_three_drivers_come_to_the_same_fills(name: str, recording: Path, replayed: dict[str, list[Fill]]) -> None:
    plan = planned(name, recording)
    every, skipped = run(plan, driver="callback"), run(plan, driver="skipping")

    assert len(every.fills) > 20
    assert every.digest == skipped.digest
    # Fills of one moment have no order among them in a journal.
    assert sorted(told(replayed[name])) == sorted(told(every.fills))
