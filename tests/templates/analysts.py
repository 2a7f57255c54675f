"""Analysts on a bench, with a test for a model."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from pipaid.model.consult import Question
from pipaid.model.instrument import Timeframe
from pipaid.model.order import Order
from templates.analyst import Analyst
from tests.builders import Bench, make_bench
from tests.engine.consults import MODEL, PROVIDER, TARIFFS

# Stops of two in a hundred, and nothing that holds an entry back.
EXECUTION = {"stop_loss_calculation": "fixed", "stop_loss_pct": "0.02", "cooldown_bars": 0}
ABOVE: dict[str, Any] = {
    "name": "price_above_ema",
    "signal_type": "FILTER",
    "timeframe": "5m",
    "params": {"window": 2},
}
UP: dict[str, Any] = {
    "name": "price_above_ema",
    "signal_type": "TRIGGER",
    "timeframe": "5m",
    "params": {"window": 3},
}
RULES = {"entry": [UP, ABOVE]}


def analyst(more: dict[str, Any] | None = None, **params: Any) -> Bench:
    """Make a bench of an analyst that has not seen a candle."""
    given: dict[str, Any] = {
        "llm_provider": PROVIDER,
        "llm_model": MODEL,
        "execution_config": EXECUTION,
        "price_move_max": "0.5",
        **params,
    }
    given = {name: value for name, value in given.items() if value is not None}
    around: dict[str, Any] = {"tariffs": TARIFFS, "timeframe": Timeframe.M5, **(more or {})}
    return make_bench(Analyst, params=given, **around)


def asked(**params: Any) -> Bench:
    """Make a bench of an analyst that has just asked."""
    bench = analyst(**params)
    bench.close()
    assert len(bench.asked) == 1
    return bench


def ruled(mode: str, **params: Any) -> Bench:
    """Make a bench of an analyst whose entry rules have just come to hold."""
    given: dict[str, Any] = {**RULES, **params}
    bench = analyst(execution_mode=mode, **given)
    for price in ("100", "99", "98", "97", "105"):
        bench.close(price)
    return bench


def decision(action: str, confidence: float = 0.9, **more: Any) -> str:
    return json.dumps({"action": action, "confidence": confidence, "reason": "so it seems", **more})


def argument(action: str, text: str, confidence: float = 0.9) -> str:
    return json.dumps({"action": action, "confidence": confidence, "argument": text})


def held(direction: str = "BUY", **params: Any) -> Bench:
    """Make a bench of an analyst with one lot."""
    bench = asked(**params)
    bench.answer(decision(direction))
    bench.fill(bench.placed[0])
    return bench


def levels(order: Order) -> tuple[Decimal | None, Decimal | None]:
    return order.stop_price, order.take_profit_price


def last(bench: Bench) -> tuple[str, str]:
    """Return how the last evaluation ended, and why."""
    return bench.runs[-1].status.value, bench.runs[-1].detail


def prompt_of(question: Question) -> str:
    return f"{question.system}\n{question.prompt}"
