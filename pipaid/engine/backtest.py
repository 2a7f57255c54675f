"""A backtest: one strategy's own session over what was recorded, in one of the ways that come to the same fills.

Three ways of playing the same candles come to the same fills: every candle and every question (`callback`), only the
candles on which something can happen (`skipping`), and a replay through a whole daemon, of which nothing is here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

from pipaid.engine.plan import Plan
from pipaid.engine.traded import TradedTrial
from pipaid.engine.trial import Trial
from pipaid.model.backtest import BacktestResult
from pipaid.model.money import plain

Driver = Literal["auto", "callback", "skipping"]
DRIVERS: Final[tuple[Driver, ...]] = ("auto", "callback", "skipping")
YEARS_MAX: Final = 5
SPAN_MS_MAX: Final = (365 * YEARS_MAX + 2) * 86_400_000


def run(
    plan: Plan, *, driver: Driver = "auto", on_progress: Callable[[float], object] = lambda _: None
) -> BacktestResult:
    """Play a plan to its end; `on_progress` is told now and then which share of it is done.

    Raise InvalidParameter for what cannot be played, BacktestFailed where the template fails.
    """
    trial = TradedTrial(plan, on_progress) if plan.trades else Trial(plan, on_progress)
    leaps = trial.session.scheduled or not trial.session.wakes.every
    skips = leaps if driver == "auto" else driver == "skipping"
    trial.start()
    if skips:
        trial.leap()
    else:
        trial.walk()
    trial.tell_end()
    return trial.outcome.result(config_of(plan, "skipping" if skips else "callback"))


def config_of(plan: Plan, driver: str) -> dict[str, Any]:
    """Return the resolved configuration, as a result tells it."""
    definition, fees = plan.definition, plan.fees
    return {
        "template_id": plan.template.id,
        "template_version": plan.template.version,
        "params": definition.params,
        "symbols": list(definition.symbols),
        "timeframe": definition.timeframe.value,
        "capital": plain(definition.capital),
        "leverage": definition.leverage,
        "fee_model": fees.model,
        "fee_bps": plain(fees.fee_bps),
        "slippage_bps": plain(fees.slippage_bps),
        "driver": driver,
    }
