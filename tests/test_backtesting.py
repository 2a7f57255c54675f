"""Backtests as scripts and notebooks run them: what comes out, and what is said of what cannot be played."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import frozen

from pipaid.engine import outcome
from pipaid.errors import BacktestFailed, InvalidParameter
from pipaid.model.money import ZERO
from pipaid.sdk import (
    Backtest,
    Candles,
    Direction,
    Enter,
    Exit,
    Intent,
    RiskParams,
    Template,
    View,
    Wakes,
)
from tests.oracles.crossover import START_MS, Crossover, synthetic

MINUTE_MS = 60_000


@frozen(kw_only=True)
class NoParams:
    """Nothing to choose."""


class Scripted(Template):
    """Enter at the first candle with a stop and a target, and leave after five."""

    id = "tpl_scripted"
    description = "Does the same each time."
    params_type = NoParams
    risk_defaults = RiskParams(max_trades_per_day=1_000, max_drawdown_pct=Decimal("0.99"), max_order_rate=1_000)
    stop: str | None = None
    target: str | None = None
    fails_at = 0

    def wakes(self) -> Wakes:
        return Wakes(every=True)

    def on_candle(self, view: View) -> Iterator[Intent]:
        number = (view.now_ms - START_MS) // MINUTE_MS
        if self.fails_at and number == self.fails_at:
            raise ZeroDivisionError("a mistake")
        if number == 1:
            stop = None if self.stop is None else Decimal(self.stop)
            target = None if self.target is None else Decimal(self.target)
            yield Enter(
                symbol=view.symbol,
                direction=Direction.LONG,
                quantity=Decimal(2),
                stop_price=stop,
                take_profit_price=target,
            )
        for position in view.positions:
            if number == 7:
                yield Exit(position_id=position.id)


def walk(rows: list[tuple[float, float, float, float]], start_ms: int = START_MS) -> Candles:
    first, high, low, last = np.array(rows, dtype=np.float64).T
    times = start_ms + MINUTE_MS * np.arange(len(rows))
    return Candles({"time_ms": times, "open": first, "high": high, "low": low, "close": last}, timeframe="1m")


CALM = [(100.0, 101.0, 99.0, 100.5)] * 10
MIXED = [(100.0, 101.0, 99.0, 100.5), (100.25, 101.0, 99.5, 100.0), *[(100.0, 101.0, 99.0, 100.5)] * 8]


def scripted(rows: list[tuple[float, float, float, float]], *, stop: str = "", target: str = "", **more: Any) -> Any:
    fields: dict[str, Any] = {"fee_model": "none", **more}
    kind = type("Scripted", (Scripted,), {"stop": stop or None, "target": target or None})
    return Backtest(template=kind, candles={"BTCUSDT": walk(rows)}, **fields).run()


def prices(result: Any) -> list[tuple[int, Decimal]]:
    return [((fill.time_ms - START_MS) // MINUTE_MS, fill.price) for fill in result.raw.fills]


def test_a_market_order_is_filled_at_the_next_open_and_costs_its_fee_and_slippage() -> None:
    plain = scripted(MIXED)
    dear = scripted(MIXED, fee_model="fixed_bps", fee_bps="10", slippage_bps="100")

    assert prices(plain) == [(1, Decimal("100.25")), (7, Decimal("100"))]
    # A hundredth worse on the tick of 0.25 cents, both ways.
    assert prices(dear) == [(1, Decimal("101.26")), (7, Decimal("99"))]
    assert [fill.fee for fill in dear.raw.fills] == [Decimal("0.20252"), Decimal("0.198")]
    assert dear.trades[0].pnl == 2 * (Decimal("99") - Decimal("101.26")) - Decimal("0.20252") - Decimal("0.198")


def test_the_stop_goes_before_the_target_that_the_same_candle_touches() -> None:
    rows = [*CALM[:3], (100.0, 120.0, 80.0, 100.0), *CALM[:6]]

    result = scripted(rows, stop="90", target="110")

    assert prices(result)[-1] == (3, Decimal("90"))
    assert result.trades[0].reason == "stop_loss"


def test_a_gap_fills_a_stop_at_the_open() -> None:
    rows = [*CALM[:3], (70.0, 71.0, 69.0, 70.0), *CALM[:6]]

    assert prices(scripted(rows, stop="90"))[-1] == (3, Decimal("70"))


def test_leverage_is_liquidated_where_the_margin_is_used_up() -> None:
    rows = [*CALM[:3], (100.0, 100.0, 80.0, 85.0), *CALM[:6]]

    result = scripted(rows, leverage=10, capital="100")

    assert result.trades[0].reason == "liquidation"
    # (1 - 1/10) / (1 - 0.005) of the entry is 90.452; on the tick, the first price that is no better.
    assert result.trades[0].exit_price == Decimal("90.4")
    (level,) = result.raw.levels
    assert (level.kind, level.price, level.position_id) == (
        "liquidation",
        Decimal("90.4"),
        result.trades[0].position_id,
    )
    assert ((level.from_ms - START_MS) // MINUTE_MS, (level.until_ms - START_MS) // MINUTE_MS) == (1, 3)


def test_levels_beyond_the_room_for_them_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*CALM[:3], (100.0, 120.0, 80.0, 100.0), *CALM[:6]]
    whole = scripted(rows, stop="90", target="110", leverage=5).raw
    monkeypatch.setattr(outcome, "SPANS_MAX", 1)

    bounded = scripted(rows, stop="90", target="110", leverage=5).raw

    assert [level.kind for level in whole.levels] == ["stop", "target", "liquidation"]
    assert whole.levels_left_out == 0
    assert (bounded.levels, bounded.levels_left_out) == (whole.levels[:1], 2)
    assert bounded.digest == whole.digest


def test_funding_is_paid_on_what_was_open_then() -> None:
    due = (START_MS + 3 * MINUTE_MS, Decimal("0.001"))

    result = scripted(CALM, funding={"BTCUSDT": [due]})

    assert result.trades[0].pnl == 2 * (Decimal("100") - Decimal("100")) - 2 * Decimal("100.5") * Decimal("0.001")


def test_what_is_open_at_the_end_is_in_the_equity_and_is_no_trade() -> None:
    result = scripted(CALM[:4])

    assert result.trades == ()
    assert result.equity_curve[-1] == (datetime(2024, 1, 1, 0, 4, tzinfo=UTC), Decimal(10_000) + 2 * Decimal("0.5"))
    assert result.metrics.total_trades == 0


def test_without_any_trade_everything_is_told_all_the_same(tmp_path: Path) -> None:
    result = Backtest(template=Crossover, candles={"BTCUSDT": walk(CALM)}).run()

    assert result.to_dict()["metrics"]["sharpe"] == "0.00"
    assert result.to_frame().empty
    assert result.report(tmp_path / "out.html").stat().st_size > 10_000


def test_trades_are_a_frame_with_a_row_each() -> None:
    result = Backtest(template=Crossover, candles={"BTCUSDT": synthetic(5_000)}, capital=1_000_000).run()

    frame = result.to_frame()

    assert len(frame) == len(result.trades) > 20
    assert frame["pnl"].sum() == pytest.approx(float(sum((each.pnl for each in result.trades), ZERO)))
    assert str(frame["entry_time"].iloc[0]).endswith("+00:00")


def test_progress_goes_from_nothing_to_all() -> None:
    for driver in ("callback", "skipping"):
        told: list[float] = []
        Backtest(template=Crossover, candles={"BTCUSDT": synthetic(60_000)}).run(driver=driver, on_progress=told.append)

        assert told == sorted(told)
        assert told[-1] == 1.0
        assert len(told) > 2


@pytest.mark.parametrize("driver", ["callback", "skipping"])
def test_a_template_that_fails_is_told_with_moment_and_candle(driver: Any) -> None:
    kind = type("Clumsy", (Scripted,), {"fails_at": 300_001})
    candles = synthetic(300_100)

    with pytest.raises(BacktestFailed) as failed:
        Backtest(template=kind, candles={"BTCUSDT": candles}).run(driver=driver)

    assert "Clumsy failed at 2024-07-27T08:01:00Z (candle 300000 of BTCUSDT)" in failed.value.message
    assert "ZeroDivisionError: a mistake" in failed.value.message


@pytest.mark.parametrize("nonsense", [None, False, 0])
def test_nonsense_of_a_template_is_told_alike(nonsense: object) -> None:
    class Mute(Scripted):
        def on_candle(self, view: View) -> Any:
            return nonsense

    with pytest.raises(BacktestFailed, match="return intents"):
        Backtest(template=Mute, candles={"BTCUSDT": walk(CALM)}).run(driver="callback")


ROWS: dict[str, Any] = {
    "time_ms": [START_MS + MINUTE_MS * at for at in range(4)],
    "open": [1.0] * 4,
    "high": [1.0] * 4,
    "low": [1.0] * 4,
    "close": [1.0] * 4,
}


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"time_ms": [], "open": [], "high": [], "low": [], "close": []}, "no candles"),
        ({"time_ms": ROWS["time_ms"][::-1]}, "candle 1 at 2024-01-01T00:02:00Z: the time goes back"),
        ({"time_ms": [*ROWS["time_ms"][:3], ROWS["time_ms"][2]]}, "candle 3 at 2024-01-01T00:02:00Z: a second candle"),
        ({"close": [1.0, float("nan"), 1.0, 1.0]}, "candle 1: close is nan, not a number"),
        ({"low": [1.0, 0.0, 1.0, 1.0]}, "candle 1 at 2024-01-01T00:01:00Z: a price is not above zero"),
        (
            {"time_ms": [*ROWS["time_ms"][:2], ROWS["time_ms"][1] + 30_000, ROWS["time_ms"][2]]},
            "candle 2 at 2024-01-01T00:01:30Z: it and the one before are 30 s apart, which is none of 1m",
        ),
        (
            {"time_ms": [ROWS["time_ms"][each] for each in (0, 2, 1, 3)]},
            "candle 2 at 2024-01-01T00:01:00Z: the time goes",
        ),
        ({"open": [1.0, 1.0, float("inf"), 1.0]}, "candle 2: open is inf, not a number"),
        ({"high": [1.0, 0.5, 1.0, 1.0]}, "high and low do not enclose open and close"),
        ({"open": [1.0] * 3}, "columns of different lengths: 3, 4"),
    ],
)
def test_candles_that_cannot_be_true_are_refused_by_candle(changed: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        Candles({**ROWS, **changed})

    assert complaint in refused.value.message


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"candles": {}}, "candles: none were given"),
        ({"candles": {"BTCUSDT": [1, 2, 3]}}, "give Candles(columns) or Candles.from_csv(path)"),
        ({"template": "tpl_moon"}, "no template is called 'tpl_moon'"),
        ({"template": dict}, "is no subclass of pipaid.sdk.Template"),
        ({"params": {"speed": 9}}, "speed: is unknown"),
        ({"params": {"fast": 1}}, "fast: must be"),
        ({"timeframe": "7m"}, "timeframe: must be one of 1m, 5m"),
        ({"capital": 0.5}, "capital: 0.5 is no exact number"),
        ({"capital": "much"}, "capital: 'much' is no number"),
        ({"capital": 1}, "capital: must be at least 100"),
        ({"leverage": 50}, "leverage: must be 1 to 20, got 50"),
        ({"fee_model": "free"}, "fee_model: must be one of none, fixed_bps"),
        ({"fee_bps": "-1"}, "fee_bps: must be 0 to 1000 basis points, got -1"),
        ({"slippage_bps": "1e9"}, "slippage_bps: must be 0 to 1000"),
        ({"start": "soon"}, "start: 'soon' is no moment"),
        ({"start": datetime(2024, 1, 1)}, "has no time zone"),  # noqa: DTZ001 - that is the point
        ({"start": "2030-01-01"}, "is not before the end"),
        ({"end": "2020-01-01"}, "is not before the end"),
        ({"end": "2999-01-01"}, "end: 2999-01-01T00:00:00Z is in the future"),
    ],
)
def test_what_cannot_be_played_is_refused_by_name(given: dict[str, Any], complaint: str) -> None:
    asked: dict[str, Any] = {"template": Crossover, "candles": {"BTCUSDT": walk(CALM)}}

    with pytest.raises(InvalidParameter) as refused:
        Backtest(**{**asked, **given}).run()

    assert complaint in refused.value.message


@pytest.mark.parametrize("name", ["candles", "trades"])
def test_what_is_not_mapped_to_its_symbol_is_refused(name: str) -> None:
    columns = {each: np.ones(2) for each in ("open", "high", "low", "close")}
    candles: Any = Candles({"time_ms": START_MS + 60_000 * np.arange(2), **columns}, timeframe="1m")

    with pytest.raises(InvalidParameter, match=f"^{name}: map each symbol to its own"):
        Backtest(template=Crossover, **{name: candles}).run()


def test_more_than_five_years_are_refused() -> None:
    days = 365 * 6
    columns = {name: np.ones(days) for name in ("open", "high", "low", "close")}
    candles = Candles({"time_ms": START_MS - 86_400_000 * np.arange(days, 0, -1), **columns}, timeframe="1d")

    with pytest.raises(InvalidParameter, match="more than 5 years; play them in parts"):
        Backtest(template=Crossover, candles={"BTCUSDT": candles}).run()


def test_a_template_in_a_daemon_does_without_what_scripts_need() -> None:
    code = "import sys, pipaid.sdk; sys.exit('pipaid.backtesting' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
