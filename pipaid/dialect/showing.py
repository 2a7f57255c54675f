"""A strategy as the dialect shows it: the fields of both forms, whatever template it has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import UNSET

from pipaid.dialect.shapes import ExecutionState, Row, RuleSet, StrategyTold
from pipaid.dialect.status import SPOKEN, Spoken, standing_of
from pipaid.dialect.writing import ANALYST, REWARD_FACTOR, RULES, SCHEDULE
from pipaid.model.instrument import Instrument
from pipaid.model.moment import iso_seconds
from pipaid.model.money import ZERO, exact_sum
from pipaid.model.position import Position
from pipaid.model.reply import binding_summary, fault_summary
from pipaid.model.strategy import Binding, Strategy, Tally

_BREAKS: Final = re.compile(r"[^0-9a-z]+")


def spoken_status(strategy: Strategy) -> Spoken:
    """Return the status of a strategy in the words of the dialect."""
    return SPOKEN[standing_of(strategy.status, dry_run=None if strategy.run is None else strategy.run.dry_run)]


def row_of(strategy: Strategy, instruments: Mapping[str, Instrument]) -> Row:
    """Return a strategy as listings show it."""
    return Row(
        id=strategy.id,
        name=strategy.definition.name,
        asset=asset_of(strategy, instruments),
        status=spoken_status(strategy).value,
        created_at=iso_seconds(strategy.created_at_us // 1_000),
    )


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What a strategy comes to on one account: its capital and closed trades, what is open, and what that gained."""

    capital: Decimal
    tally: Tally
    positions: tuple[Position, ...]
    unrealised: Decimal


class Whereabouts(msgspec.Struct, frozen=True, kw_only=True):
    """Where a strategy trades: the accounts it is bound to, whether it is active on any, and what it comes to there."""

    active: bool
    figures: tuple[Figures, ...]
    bindings: tuple[Binding, ...] = ()


def strategy_told(
    strategy: Strategy, place: Whereabouts, instruments: Mapping[str, Instrument], defaults: Mapping[str, Any]
) -> StrategyTold:
    """Return a strategy whole; `defaults` are in force where an execution config says nothing."""
    definition = strategy.definition
    analyst = definition.template_id == ANALYST
    rules, asked = definition.template_id == RULES, definition.params if analyst else {}
    # An analyst may have rules that say when it asks.
    ruled = rules or bool(asked.get("entry"))
    schedule: Mapping[str, Any] = definition.params.get(SCHEDULE) or {}
    kind = "config" if rules else "prompt" if analyst else "code"
    return StrategyTold(
        id=strategy.id,
        name=definition.name,
        asset=asset_of(strategy, instruments),
        status=spoken_status(strategy).value,
        rules=_rules(strategy, instruments) if ruled else None,
        execution_config=_execution(definition.params, defaults) if rules or analyst else None,
        execution_state=_state(place.figures),
        strategy_type=str(asked.get("strategy_type", kind)),
        execution_mode=str(asked.get("execution_mode", "llm_only" if analyst else "rule_only")),
        primary_tf=definition.timeframe.value,
        symbols=definition.symbols,
        is_active=place.active,
        maintenance_enabled=bool(asked.get("maintenance_enabled", False)),
        llm_provider=_text(asked.get("llm_provider")),
        llm_model=_text(asked.get("llm_model")),
        trigger_type=str(schedule.get("trigger", "candle_close")),
        interval_minutes=schedule.get("interval_minutes"),
        skip_hours=tuple(schedule.get("skip_hours") or ()),
        skip_hours_timezone=str(schedule.get("skip_hours_timezone") or schedule.get("timezone", "UTC")),
        template_id=definition.template_id,
        account_id=strategy.account,
        owner=strategy.user or None,
        error=None if strategy.fault is None else fault_summary(strategy.fault),
        created_at=iso_seconds(strategy.created_at_us // 1_000),
        updated_at=iso_seconds(strategy.updated_at_us // 1_000),
        follows=strategy.follows or UNSET,
        bindings=tuple(map(binding_summary, place.bindings)) or UNSET,
    )


def asset_of(strategy: Strategy, instruments: Mapping[str, Instrument]) -> str:
    """Return what a strategy trades first: the symbol itself where it is not listed any more."""
    symbol = strategy.definition.symbols[0]
    return instruments[symbol].base if symbol in instruments else symbol


def _rules(strategy: Strategy, instruments: Mapping[str, Instrument]) -> RuleSet:
    params = strategy.definition.params
    return RuleSet(
        name=_BREAKS.sub("_", strategy.definition.name.lower()).strip("_"),
        asset=asset_of(strategy, instruments),
        entry=tuple(params.get("entry", ())),
        exit=tuple(params.get("exit", ())),
        reward_factor=float(params.get("reward_factor", REWARD_FACTOR)),
    )


def defaults_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the schema of a template of rules says is in force where an execution config says nothing."""
    execution: Mapping[str, Any] = schema.get("properties", {}).get("execution_config", {})
    found = {name: each.get("default") for name, each in execution.get("properties", {}).items()}
    return {name: default for name, default in found.items() if default is not None}


def _execution(params: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    given: Mapping[str, Any] = params.get("execution_config") or {}
    # The inner one is in force where there are two.
    factor = float(given.get("reward_factor") or params.get("reward_factor", REWARD_FACTOR))
    return {**defaults, **given, "reward_factor": int(factor) if factor.is_integer() else factor}


def _state(figures: Iterable[Figures]) -> ExecutionState:
    """Return what a strategy has on all its accounts together."""
    figures = list(figures)
    earned = _sum(exact_sum(each.capital, each.tally.pnl) for each in figures)
    bound = _sum(position.margin() for each in figures for position in each.positions)
    return ExecutionState(
        cash_balance=_number(earned - bound),
        account_value=_number(exact_sum(earned, _sum(each.unrealised for each in figures))),
        total_trades=sum(each.tally.trades for each in figures),
        num_open_positions=sum(len(each.positions) for each in figures),
    )


def _sum(values: Iterable[Decimal]) -> Decimal:
    return sum(values, ZERO)


def _number(value: Decimal) -> float:
    return round(float(value), 2)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
