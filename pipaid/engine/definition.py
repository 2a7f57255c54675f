"""What a strategy's definition must satisfy before it may be stored or deployed: every mistake at once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from pipaid.engine.params import structure_params, structure_risk
from pipaid.engine.risk import StrategyLimits
from pipaid.engine.template import Template, hears
from pipaid.errors import InvalidParameter
from pipaid.model.instrument import STRATEGY_TIMEFRAMES, Instrument
from pipaid.model.money import AMOUNT_MAX, ONE, plain
from pipaid.model.strategy import LEVERAGE_MAX, NAME_MAX, SYMBOLS_MAX, StrategyDefinition


def check_definition(
    definition: StrategyDefinition,
    template: type[Template],
    instruments: Mapping[str, Instrument],
    *,
    capital: Decimal | None = None,
    leverage: int | None = None,
    with_trades: bool = False,
) -> Any:
    """Return the structured params; raise InvalidParameter with every bad field. Overrides are of one deployment.

    A template that hears of market trades is refused where nobody tells it of any.
    """
    mistakes = list(_frame_mistakes(definition, template, instruments, capital=capital, leverage=leverage))
    heard = [name for name in ("on_trade", "on_trades") if hears(template, name)]
    if heard and not with_trades:
        reason = f"{template.id} has {heard[0]}, which is asked in backtests over the market trades of its symbols only"
        mistakes.append(("template_id", reason))
    params: Any = None
    try:
        params = structure_params(
            template,
            definition.params,
            symbols=definition.symbols,
            timeframe=definition.timeframe,
            capital=definition.capital if capital is None else capital,
            instruments=instruments,
        )
    except InvalidParameter as trouble:
        mistakes.extend(trouble.details or (("params", trouble.message),))
    if mistakes:
        text = "; ".join(f"{name}: {reason}" for name, reason in mistakes)
        raise InvalidParameter(text, details=tuple(mistakes))
    return params


def asks_models(template: type[Template]) -> bool:
    """Tell whether strategies of a template may ask any models."""
    return next(kind for kind in template.__mro__ if "asks" in vars(kind)) is not Template


def models_of(definition: StrategyDefinition, template: type[Template]) -> tuple[tuple[str, str], ...]:
    """Return the models that a strategy asks, each once, by provider and name; the params must be valid."""
    params: Any = structure_params(
        template,
        definition.params,
        symbols=definition.symbols,
        timeframe=definition.timeframe,
        capital=definition.capital,
    )
    return tuple(dict.fromkeys((str(provider), str(model)) for provider, model in template.asks(params)))


def definition_number(definition: StrategyDefinition, template: type[Template]) -> int:
    """Return the number that stands for this definition, whatever its name, under this version of its template."""
    what = (msgspec.structs.replace(definition, name=""), template.version)
    return int.from_bytes(hashlib.blake2b(msgspec.json.encode(what, order="sorted"), digest_size=8).digest(), "little")


def _frame_mistakes(
    definition: StrategyDefinition,
    template: type[Template],
    instruments: Mapping[str, Instrument],
    *,
    capital: Decimal | None,
    leverage: int | None,
) -> list[tuple[str, str]]:
    mistakes: list[tuple[str, str]] = []
    name = definition.name
    if not 1 <= len(name) <= NAME_MAX or not name.isprintable() or name != name.strip():
        mistakes.append(("name", f"must be 1 to {NAME_MAX} printable characters without blanks at either end"))
    symbols = definition.symbols
    if not 1 <= len(symbols) <= SYMBOLS_MAX or len(set(symbols)) != len(symbols):
        mistakes.append(("symbols", f"must be 1 to {SYMBOLS_MAX} different symbols"))
    elif len(symbols) > 1 and not template.multi_symbol:
        mistakes.append(("symbols", f"{template.id} trades one symbol only"))
    for symbol in symbols:
        if symbol not in instruments:
            known = ", ".join(sorted(instruments)[:8])
            mistakes.append(("symbols", f"{symbol!r:.40} is not listed; listed are {known}"))
    if definition.timeframe not in STRATEGY_TIMEFRAMES:
        allowed = ", ".join(STRATEGY_TIMEFRAMES)
        mistakes.append(("timeframe", f"must be one of {allowed}, got {definition.timeframe}"))
    least = template.capital_min
    asked = definition.capital if capital is None else capital
    if not asked >= least:
        mistakes.append(("capital", f"must be at least {plain(least)} for {template.id}, got {plain(asked)}"))
    times = definition.leverage if leverage is None else leverage
    if not 1 <= times <= LEVERAGE_MAX:
        mistakes.append(("leverage", f"must be 1 to {LEVERAGE_MAX}, got {times}"))
    elif not asked * times < AMOUNT_MAX:
        mistakes.append(
            ("capital", f"times the leverage must have at most 18 digits before the point, got {asked * times}")
        )
    return mistakes


def limits_of(
    definition: StrategyDefinition, template: type[Template], params: Any, *, capital: Decimal, leverage: int
) -> StrategyLimits:
    """Return the caps of one run: those of `params.risk`, what the template makes of its params, the hard ceiling."""
    guards = template.guards(params, definition.timeframe)
    risk = structure_risk(template, definition.params, guards.risk)
    return StrategyLimits(
        ceiling=capital * leverage,
        position_notional_max=risk.max_position_notional,
        open_positions_max=risk.max_open_positions,
        trades_per_day_max=risk.max_trades_per_day,
        daily_loss_max=risk.max_daily_loss,
        drawdown_pct_max=risk.max_drawdown_pct,
        cooldown_ms=(risk.cooldown_candles or 0) * definition.timeframe.ms,
        orders_per_minute_max=risk.max_order_rate,
        loss_pct_max=ONE - guards.balance_min_pct if guards.balance_min_pct else None,
        drawdown_pause_ms=guards.drawdown_pause_ms,
        pauses=guards.pauses,
        spending=guards.spending,
    )
