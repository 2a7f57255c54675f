"""From what is written in the dialect to a strategy's definition: pure functions of the body and of what is listed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final, cast

from pipaid.dialect.shapes import CreateAsked, UpdateAsked
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.model.money import AMOUNT_MAX
from pipaid.model.parsing import REQUIRED, invalid
from pipaid.model.strategy import StrategyDefinition

RULES: Final = "tpl_rules"
ANALYST: Final = "tpl_analyst"
REWARD_FACTOR: Final = 2.0
BALANCE: Final = Decimal(10_000)
QUOTE: Final = "USDT"
# Params of their own name, and the fields that are not params at all.
RULE_PARAMS: Final = ("entry", "exit", "reward_factor", "execution_config")
ANALYST_PARAMS: Final = (
    "strategy_type", "execution_mode", "maintenance_enabled", "llm_provider", "llm_model", "custom_prompt",
    "context_tfs", *RULE_PARAMS,
)  # fmt: skip
# What the template takes besides goes by its own names.
MORE_PARAMS: Final = "strategy_params"
# When it is asked is said to any template under one param, where these have other names.
SCHEDULE: Final = "schedule"
SCHEDULE_PARAMS: Final[Mapping[str, str]] = {
    "trigger_type": "trigger",
    "interval_minutes": "interval_minutes",
    "skip_hours": "skip_hours",
    "skip_hours_timezone": "skip_hours_timezone",
}
# What goes with one trigger alone.
_OF_TRIGGER: Final[Mapping[str, str]] = {"interval_minutes": "interval", "cron": "cron"}
# A body with one of these is of the second form.
_MARKS: Final = ("strategy_type", "execution_mode", "primary_tf")
_RULE_FIELDS: Final = frozenset({"name", "asset", "leverage", *RULE_PARAMS})
_ANALYST_FIELDS: Final = frozenset(
    {"name", "symbols", "primary_tf", "capital", "leverage", MORE_PARAMS, *ANALYST_PARAMS, *SCHEDULE_PARAMS}
)
_COMMON_FIELDS: Final = frozenset(
    {"name", "asset", "symbols", "primary_tf", "capital", "leverage", MORE_PARAMS, *SCHEDULE_PARAMS}
)
_CODE: Final = "names a template that is installed: POST /v1/strategies takes it as template_id"
# In which candles a strategy with such a rule decides: none has half an hour, and two quarters are one.
CANDLES: Final[Mapping[str, Timeframe]] = {
    "5m": Timeframe.M5, "15m": Timeframe.M15, "30m": Timeframe.M15, "1h": Timeframe.H1, "4h": Timeframe.H4,
    "1D": Timeframe.D1, "1d": Timeframe.D1, "M15": Timeframe.M15, "H1": Timeframe.H1,
    "H4": Timeframe.H4, "D1": Timeframe.D1,
}  # fmt: skip
_PRIMARY: Final[Mapping[str, Timeframe]] = {
    "1m": Timeframe.M1, "M1": Timeframe.M1, "M5": Timeframe.M5,
    **{name: candles for name, candles in CANDLES.items() if name != "30m"},
}  # fmt: skip

_Mistakes = list[tuple[str, str]]


def definition_of(asked: CreateAsked, instruments: Mapping[str, Instrument]) -> StrategyDefinition:
    """Return the definition that a body stands for; raise InvalidParameter with every bad field."""
    given = asked.given()
    if any(mark in given for mark in _MARKS):
        return _analyst(given)
    return _rules(given, instruments)


def changes_of(before: StrategyDefinition, asked: UpdateAsked, instruments: Mapping[str, Instrument]) -> dict[str, Any]:
    """Return what changes in a definition, by its fields; raise InvalidParameter with every bad field."""
    given = asked.given()
    own = {RULES: RULE_PARAMS, ANALYST: ANALYST_PARAMS}.get(before.template_id, ())
    mistakes = [(name, _foreign(before.template_id)) for name in given if name not in (*_COMMON_FIELDS, *own)]
    changes: dict[str, Any] = {
        name: given[name] for name in ("name", "symbols", "capital", "leverage") if name in given
    }
    if "asset" in given and "symbols" in given:
        mistakes.append(("symbols", "say what asset says already; give one of them"))
    if "asset" in given:
        changes["symbols"] = (_symbol(given["asset"], instruments, mistakes),)
    if "primary_tf" in given:
        changes["timeframe"] = _primary(given["primary_tf"], mistakes)
    params = {**given.get(MORE_PARAMS, {}), **{name: _plain(given[name]) for name in own if name in given}}
    if scheduled := _schedule(given):
        params[SCHEDULE] = _rescheduled({**_group(before.params), **_group(params)}, scheduled)
    if params:
        changes["params"] = {**before.params, **params}
    if before.template_id == RULES and ("entry" in params or "exit" in params):
        changes["timeframe"] = _decided_in({**before.params, **params}, mistakes)
    if "initial_balance" in given.get("execution_config", {}):
        changes["capital"] = _balance(given["execution_config"], mistakes)
    if mistakes:
        raise invalid(mistakes)
    return changes


def _rules(given: Mapping[str, Any], instruments: Mapping[str, Instrument]) -> StrategyDefinition:
    """Return what rules over an asset stand for."""
    mistakes = [
        (name, f"{REQUIRED}: {what}")
        for name, what in (("name", "text"), ("asset", "such as BTC"), ("entry", "a list of rules"))
        if name not in given
    ]
    mistakes += [
        (name, "belongs to a body with strategy_type and primary_tf") for name in given if name not in _RULE_FIELDS
    ]
    execution: dict[str, Any] = given.get("execution_config", {})
    params: dict[str, Any] = {
        "entry": list(given.get("entry", ())),
        "exit": list(given.get("exit", ())),
        "reward_factor": given.get("reward_factor", execution.get("reward_factor", REWARD_FACTOR)),
        "execution_config": execution,
    }
    timeframe = _decided_in(params, mistakes) if "entry" in given else Timeframe.H1
    symbol = _symbol(given["asset"], instruments, mistakes) if "asset" in given else ""
    capital = _balance(execution, mistakes)
    if mistakes:
        raise invalid(mistakes)
    return StrategyDefinition(
        name=given["name"],
        template_id=RULES,
        params=params,
        symbols=(symbol,),
        timeframe=timeframe,
        capital=capital,
        leverage=given.get("leverage", 1),
    )


def _analyst(given: Mapping[str, Any]) -> StrategyDefinition:
    """Return what a question about symbols stands for."""
    mistakes = [
        (name, f"{REQUIRED}: {what}")
        for name, what in (("name", "text"), ("symbols", "a list such as BTCUSDT"), ("primary_tf", "such as 1h or H1"))
        if name not in given
    ]
    mistakes += [(name, "belongs to a body with asset and entry") for name in given if name not in _ANALYST_FIELDS]
    if given.get("strategy_type") == "code":
        mistakes.append(("strategy_type", f"code {_CODE}"))
    timeframe = _primary(given["primary_tf"], mistakes) if "primary_tf" in given else Timeframe.H1
    capital = given.get("capital", _balance(given.get("execution_config", {}), mistakes))
    params = {**given.get(MORE_PARAMS, {}), **{name: _plain(given[name]) for name in ANALYST_PARAMS if name in given}}
    if scheduled := _schedule(given):
        params[SCHEDULE] = _rescheduled(_group(params), scheduled)
    if mistakes:
        raise invalid(mistakes)
    return StrategyDefinition(
        name=given["name"],
        template_id=ANALYST,
        params=params,
        symbols=given["symbols"],
        timeframe=timeframe,
        capital=capital,
        leverage=given.get("leverage", 1),
    )


def _schedule(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a body says of when a strategy is asked, as templates take it."""
    return {ours: _plain(given[theirs]) for theirs, ours in SCHEDULE_PARAMS.items() if theirs in given}


def _rescheduled(before: Mapping[str, Any], scheduled: Mapping[str, Any]) -> dict[str, Any]:
    """Return when a strategy is asked from now on: what went with another trigger goes; null is none."""
    trigger = scheduled.get("trigger")
    kept = (
        before
        if trigger is None
        else {name: value for name, value in before.items() if _OF_TRIGGER.get(name, trigger) == trigger}
    )
    return {name: value for name, value in {**kept, **scheduled}.items() if value is not None}


def _group(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what params say of that; what is no object says nothing."""
    found = params.get(SCHEDULE)
    return cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else {}


def _decided_in(params: Mapping[str, Any], mistakes: _Mistakes) -> Timeframe:
    """Return the candles in which rules are decided on: the shortest that any of them looks at."""
    found: list[Timeframe] = []
    for place, rule in _placed(params):
        timeframe = rule.get("timeframe")
        known = CANDLES.get(timeframe) if isinstance(timeframe, str) else None
        if known is not None:
            found.append(known)
        elif timeframe is None:
            mistakes.append((f"{place}.timeframe", f"{REQUIRED}: one of 5m, 15m, 30m, 1h, 4h, 1D"))
        else:
            mistakes.append((f"{place}.timeframe", f"must be one of 5m, 15m, 30m, 1h, 4h, 1D, got {timeframe!r:.60}"))
    if not params["entry"]:
        mistakes.append(("entry", "must hold rules: one TRIGGER and one FILTER"))
    return min(found, key=lambda timeframe: timeframe.ms, default=Timeframe.H1)


def _placed(params: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name in ("entry", "exit"):
        rules: Sequence[Mapping[str, Any]] = params.get(name, ())
        for at, rule in enumerate(rules):
            yield f"{name}[{at}]", rule


def _symbol(asset: str, instruments: Mapping[str, Instrument], mistakes: _Mistakes) -> str:
    """Return the symbol in which an asset is traded: against the usual quote if there are several, or the one named."""
    if asset in instruments:
        return asset
    found = sorted(
        (each.quote != QUOTE, len(each.symbol), each.symbol) for each in instruments.values() if each.base == asset
    )
    if found:
        return found[0][-1]
    known = ", ".join(sorted({each.base for each in instruments.values()})[:8])
    mistakes.append(("asset", f"{asset} is not listed; listed are {known}"))
    return ""


def _primary(timeframe: str, mistakes: _Mistakes) -> Timeframe:
    known = _PRIMARY.get(timeframe)
    if known is None:
        mistakes.append(("primary_tf", f"must be one of {', '.join(_PRIMARY)}, got {timeframe!r:.60}"))
    return known or Timeframe.H1


def _balance(execution: Mapping[str, Any], mistakes: _Mistakes) -> Decimal:
    """Return the capital that an execution config asks for; its numbers are the dialect's, so floats will do."""
    written = execution.get("initial_balance", BALANCE)
    try:
        balance = Decimal(str(written))
    except InvalidOperation:
        balance = Decimal("NaN")
    if isinstance(written, bool) or not (balance.is_finite() and 0 < balance < AMOUNT_MAX):
        mistakes.append(("execution_config.initial_balance", "must be an amount above zero"))
        return BALANCE
    return balance


def _foreign(template_id: str) -> str:
    return f"is none of {template_id} here: PATCH /v1/strategies/ID changes its params"


def _plain(value: Any) -> Any:
    """Return what a body held as JSON has it."""
    return [*value] if isinstance(value, tuple) else value
