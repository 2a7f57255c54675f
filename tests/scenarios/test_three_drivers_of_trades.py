"""Market trades come to the same fills in a backtest, whether leapt over or not, and in a replay through a daemon."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from pipaid.engine.backtest import run
from pipaid.engine.fees import Fees
from pipaid.engine.plan import Plan
from pipaid.model.instrument import Timeframe
from pipaid.model.order import BookedFill, Fill
from pipaid.model.strategy import StrategyDefinition
from pipaid.plugins import load_templates
from pipaid.seams import SystemDisk
from pipaid.storage.reading import SqliteReader
from pipaid.venues.importing import read_trades
from pipaid.venues.recorded import load
from tests.scenarios.recordings import START_MS
from tests.scenarios.test_three_drivers import MAKER_BPS, SLIPPAGE_BPS, TAKER_BPS, inline, told
from tests.surfaces.daemon import running

COUNT = 20_000
SYMBOLS = ("BTCUSDT", "ETHUSDT")
TWO_MINUTES = {"trigger": "interval", "interval_minutes": 2}
CLOCK = {"trigger": "cron", "cron": "*/3 * * * *", "timezone": "Australia/Lord_Howe", "skip_hours": [5]}
CASES: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "momentum": ("tpl_momentum", SYMBOLS, {"fast": 3, "slow": 8, "rsi_min": "0"}),
    "breakout": ("tpl_breakout", SYMBOLS[1:], {}),
    "dca": ("tpl_dca", SYMBOLS[:1], {"interval": "15m", "buy_amount": "200", "take_profit_pct": "0.002",
                                     "stop_loss_pct": "0.005"}),
    "momentum by the clock": ("tpl_momentum", SYMBOLS, {"fast": 3, "slow": 8, "rsi_min": "0", "schedule": CLOCK}),
    "breakout at intervals": ("tpl_breakout", SYMBOLS[1:], {"schedule": TWO_MINUTES}),
    "grid": ("tpl_grid", SYMBOLS[1:], {"grid_levels": 12, "lower_price": "96", "upper_price": "104"}),
}  # fmt: skip


def definition_of(name: str) -> StrategyDefinition:
    template_id, symbols, params = CASES[name]
    return StrategyDefinition(
        name=name, template_id=template_id, params=params, symbols=symbols, timeframe=Timeframe.M1,
        capital=Decimal(10_000), leverage=2,
    )  # fmt: skip


def declared(name: str) -> str:
    template_id, symbols, params = CASES[name]
    return f"""
[[strategy]]
name = "{name}"
template_id = "{template_id}"
symbols = {list(symbols)}
timeframe = "1m"
capital = "10000"
leverage = 2
deploy = true
params = {inline(params)}
"""


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write market trades that come in bursts, some in one millisecond, with minutes in which there are none.

    They are so large that the share of them that one order may take on paper is enough: a backtest knows no such share.
    """
    folder = tmp_path_factory.mktemp("trades")
    for seed, symbol in enumerate(SYMBOLS):
        chance = np.random.default_rng(seed)
        times = START_MS + chance.choice([0, 40, 900, 4_000, 150_000], COUNT, p=[0.2, 0.3, 0.3, 0.199, 0.001]).cumsum()
        prices = 100 + 5 * np.sin(np.arange(COUNT) / 900) + chance.normal(0, 0.02, COUNT).cumsum() / 4
        rows = zip(
            times, prices, chance.integers(2_000_000, 9_000_000, COUNT), chance.integers(0, 2, COUNT), strict=True
        )
        lines = [f"{time},{price:.2f},{size / 1000:.3f},{maker}" for time, price, size, maker in rows]
        text = "\n".join(["time_ms,price,size,is_buyer_maker", *lines]) + "\n"
        (folder / f"{symbol}-trades-made.csv").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def replayed(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Fill]]:
    """Play the recording through a real daemon, and return the fills of each strategy."""
    folder = tmp_path_factory.mktemp("daemon")
    strategies = folder / "strategies.toml"
    strategies.write_text("".join(map(declared, CASES)), encoding="utf-8")
    config = f"""
[daemon]
strategies = ["{strategies}"]
[market]
kind = "replay"
speed = "max"
symbols = []
files = ["{recording}/*-trades-*.csv"]
"""
    with running(folder / "life", config) as daemon:
        daemon.wait_for(lambda: daemon.ask("status")["market"]["ended"], within_s=180)
        ids = {one["name"]: one["id"] for one in daemon.ask("strategy.list", limit=100)["data"]}
        reader = SqliteReader(daemon.state / "journal.db")
        try:
            return {
                name: [
                    msgspec.json.decode(row.data, type=BookedFill).fill for row in reader.rows("fill", owner=ids[name])
                ]
                for name in CASES
            }
        finally:
            reader.close()


@pytest.mark.parametrize("name", sorted(CASES))
def test_three_drivers_of_market_trades_come_to_the_same_fills(
    name: str, recording: Path, replayed: dict[str, list[Fill]]
) -> None:
    definition = definition_of(name)
    trades = {
        symbol: read_trades(SystemDisk(), recording / f"{symbol}-trades-made.csv") for symbol in definition.symbols
    }
    candles = {symbol: each.candles() for symbol, each in trades.items()}
    plan = Plan(
        definition=definition,
        template=load_templates().templates[definition.template_id],
        candles=candles,
        instruments=load(SystemDisk(), [f"{recording}/*-trades-*.csv"]).instruments,
        begin_ms=START_MS,
        end_ms=max(int(each.time_ms[-1]) for each in candles.values()) + 60_000,
        fees=Fees(model="match_exchange", slippage_bps=SLIPPAGE_BPS, venue=(MAKER_BPS, TAKER_BPS)),
        trades=trades,
    )

    every, skipped = run(plan, driver="callback"), run(plan, driver="skipping")

    assert len(every.fills) > 5
    assert every.digest == skipped.digest
    # Fills of one moment have no order among them in a journal.
    assert sorted(told(replayed[name])) == sorted(told(every.fills))
