"""Rules: enter where a trigger and a filter hold together, leave by rules, at a stop, at a target, or in time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Final

import msgspec
from attrs import field, frozen

from pipaid.sdk import (
    CloseReason,
    Condition,
    Direction,
    Enter,
    Exit,
    Feature,
    Guards,
    Instrument,
    Intent,
    InvalidParameter,
    Position,
    RiskParams,
    Template,
    Timeframe,
    View,
    Wakes,
    choice_param,
    decimal_param,
    find_signal,
    free_param,
    list_param,
    object_param,
    signal_rule,
    text_param,
)
from templates.execution import DEFAULTS, TIMEFRAMES, Execution, ExecutionConfig, settled, surprises
from templates.protected import exact

RULES_MAX: Final = 20
REWARD: Final = Decimal(2)
TRIGGER, FILTER = "TRIGGER", "FILTER"
# Of a signal that adds up returns, any price does to look at its params.
ANY_PRICE: Final = 1.0


@frozen(kw_only=True)
class RuleParams:
    """One rule: a signal of the catalogue, asked of the candles of a timeframe."""

    name: str = text_param("Name of the signal; docs/signals.md lists them")
    signal_type: str = choice_param(
        "TRIGGER where it happens, FILTER while it lasts; a FILTER asked for as a TRIGGER is one where it begins",
        choices=(TRIGGER, FILTER),
    )
    timeframe: str = choice_param("Candles of the rule", choices=tuple(TIMEFRAMES))
    params: dict[str, Any] = free_param("Params of the signal; those with a default may be left out")

    @property
    def candles(self) -> Timeframe:
        """Return whose candles the rule is about."""
        return TIMEFRAMES[self.timeframe]

    @property
    def title(self) -> str:
        """Return what people read."""
        return f"{self.name} ({self.signal_type}, {self.timeframe})"

    @property
    def anchored(self) -> bool:
        """Tell whether it needs the price at deployment."""
        return find_signal(self.name).anchored

    def condition(self, anchor: float | None = None) -> Condition:
        """Return the rule as a question to a series."""
        rule = signal_rule(self.name, self.params, timeframe=self.candles, type=self.signal_type, anchor=anchor)
        return rule.condition.of(rule.timeframe)


@frozen(kw_only=True)
class RulesParams:
    """The knobs of a rule strategy."""

    entry: tuple[RuleParams, ...] = list_param(
        "Rules that hold together where a position is entered: one TRIGGER and one FILTER",
        of=RuleParams,
        most=RULES_MAX,
        required=True,
    )
    exit: tuple[RuleParams, ...] = list_param(
        "Rules that hold together where positions are left: none, or one TRIGGER and at most one FILTER",
        of=RuleParams,
        most=RULES_MAX,
    )
    reward_factor: Decimal = decimal_param(
        "Distance of the target in stop distances", low="0.9", high="10", default="2", floats=True
    )
    execution_config: ExecutionConfig = object_param("Sizing, stops, limits and time exits", of=ExecutionConfig)
    composition: str = choice_param(
        "How many rules there may be: strict, or extended for one TRIGGER and any number of FILTERs to enter, and at "
        "most one TRIGGER and any number of FILTERs to leave",
        choices=("strict", "extended"),
        default="strict",
    )

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "execution_config", settled(self.execution_config, self.reward_factor))

    @property
    def rules(self) -> Iterator[tuple[str, RuleParams]]:
        """Yield every rule with the name of its place."""
        for where, rules in (("entry", self.entry), ("exit", self.exit)):
            for number, rule in enumerate(rules):
                yield f"{where}[{number}]", rule

    @property
    def execution(self) -> Execution:
        """Return the execution for the smallest timeframe among the rules."""
        smallest = min((rule.candles for _, rule in self.rules), key=lambda each: each.ms, default=Timeframe.D1)
        return Execution(config=self.execution_config, candle=smallest)


class RulesState(msgspec.Struct, frozen=True):
    """What is remembered of a symbol: the close of the last trigger that opened a position, the price at deployment."""

    opened_ms: int = 0
    anchor: float | None = None


class Rules(Template):
    """Enter long where all entry rules hold, once for each candle of the trigger; leave where all exit rules do.

    Each rule is asked of its own last closed candle. Stop and target are distances from the close on which the entry
    was decided. On a candle, what is left goes before what is entered.
    """

    id = "tpl_rules"
    description = "Enters where a trigger and a filter signal hold together, with ATR stops, targets and risk sizing."
    params_type = RulesParams
    state_type = RulesState
    foretells: ClassVar[bool] = True
    reads_larger: ClassVar[bool] = True
    # Those of an `execution_config` of which nothing is told.
    risk_defaults: ClassVar[RiskParams] = DEFAULTS
    params: RulesParams

    def __init__(self, params: Any, state: Mapping[str, msgspec.Struct] | None = None) -> None:
        super().__init__(params, state)
        self._execution = self.params.execution
        self._entry = _Rules(tuple(sorted(self.params.entry, key=_last_filters)))
        self._exit = _Rules(tuple(sorted(self.params.exit, key=_last_filters)))
        smallest = self._execution.candle
        config = self._execution.config
        self._span = Feature("atr", (config.atr_period,), smallest)
        spread = "atr" if config.volatility_mode == "atr" else "stddev"
        self._volatility = Feature(spread, (config.volatility_window,), smallest)
        self._happened = Feature("period", (1, 0), self._entry.leading.candles)

    @classmethod
    def check(
        cls,
        params: RulesParams,
        *,
        symbols: Sequence[str],
        timeframe: Timeframe,
        capital: Decimal,
        instruments: Mapping[str, Instrument],
    ) -> dict[str, str]:
        """Hold the rules against the catalogue, against how many there may be, and against the strategy's candles."""
        mistakes = dict(_composed(params))
        for place, rule in params.rules:
            if rule.candles.ms < timeframe.ms:
                mistakes[f"{place}.timeframe"] = f"must be at least the strategy's, {timeframe}, got {rule.timeframe}"
            try:
                rule.condition(ANY_PRICE)
            except InvalidParameter as wrong:
                for name, reason in wrong.details:
                    mistakes[f"{place}.{name}"] = reason
        config = params.execution_config
        if params.reward_factor not in (REWARD, config.reward_factor):
            mistakes["execution_config.reward_factor"] = (
                f"is {config.reward_factor} and reward_factor is {params.reward_factor}; give one of them"
            )
        return mistakes

    @classmethod
    def guards(cls, params: RulesParams, timeframe: Timeframe) -> Guards:
        """Return the limits of `execution_config`."""
        return params.execution.guards(timeframe)

    @classmethod
    def remarks(cls, params: RulesParams, capital: Decimal) -> Sequence[str]:
        """Return what of `execution_config` has no effect, or may surprise."""
        return tuple(surprises(params.execution_config, capital))

    def enters_on(self) -> Mapping[str, Condition]:
        """Return the entry rules, unless they depend on the price at deployment."""
        return dict(zip((rule.title for rule in self._entry.rules), self._entry.conditions, strict=False))

    def reasons(self, view: View) -> Mapping[str, bool]:
        """Return every rule, and whether it holds at its last closed candle."""
        anchor = self._of(view.symbol).anchor
        rules = (("enter", self._entry), ("leave", self._exit))
        return {f"{what}: {name}": holds for what, each in rules for name, holds in each.told(view, anchor)}

    def features(self) -> tuple[Feature, ...]:
        """Return the features that `on_candle` reads."""
        features = [self._span, self._happened]
        if self._execution.config.enable_volatility_adjustment:
            features.append(self._volatility)
        for condition in (*self._entry.conditions, *self._exit.conditions):
            features += condition.features
        return tuple(dict.fromkeys(features))

    def wakes(self) -> Wakes:
        """Wake where the first entry rule holds; while holding, where the first exit rule does, and when it is time."""
        if self._entry.anchored or self._exit.anchored:
            # What they compare with is known at deployment only.
            return Wakes(every=True)
        enters, leaves = self._entry.conditions[:1], self._exit.conditions[:1]
        return Wakes(flat=enters, holding=tuple(dict.fromkeys((*enters, *leaves))), aged_ms=self._execution.aged_ms)

    def on_start(self, view: View) -> Iterator[Intent]:
        """Decide on the last candle, from whose close returns add up; with a schedule, at its first occasion."""
        if view.candle is not None:
            if self._entry.anchored or self._exit.anchored:
                self._remember(view.symbol, anchor=float(view.candle.close))
            if not view.scheduled:
                yield from self.on_candle(view)

    def on_candle(self, view: View) -> Iterator[Intent]:
        """Leave by rule or for age, then enter by rule."""
        leaving = False
        for exit_ in self._exits(view):
            leaving = True
            yield exit_
        # What is left now is a trade that has to be closed before the pause after it begins.
        if not (leaving and self._execution.config.cooldown_candles):
            yield from self._entries(view)

    def on_opened(self, view: View, position: Position) -> Iterator[Intent]:
        """Remember which candle of the trigger has opened a position: it opens no other."""
        self._remember(view.symbol, opened_ms=int(position.tag[1:]))
        yield from ()

    def _exits(self, view: View) -> Iterator[Exit]:
        candle, lots = view.candle, view.positions
        if not lots or candle is None:
            return
        told = self._exit.hold(view, self._of(view.symbol).anchor)
        for lot in lots:
            if view.exiting(lot.id):
                continue
            if told:
                yield Exit(position_id=lot.id)
            elif self._execution.is_over(lot, candle):
                yield Exit(position_id=lot.id, reason=CloseReason.TIME_EXIT)

    def _entries(self, view: View) -> Iterator[Enter]:
        state, candle = self._of(view.symbol), view.candle
        happened = view.feature(self._happened)
        if candle is None or happened is None or not self._entry.hold(view, state.anchor):
            return
        tag = f"E{int(happened)}"
        distance = self._distance(view, candle.close)
        if distance is None or happened <= state.opened_ms or view.alive(tag):
            return
        config = self._execution.config
        assert config.reward_factor is not None
        stop = view.instrument.price(candle.close - distance)
        target = view.instrument.price(candle.close + config.reward_factor * distance)
        # A distance that rounds to less than a tick, or a stop at or below zero, would size the entry absurdly.
        if not 0 < stop < candle.close < target:
            return
        yield Enter(
            symbol=view.symbol,
            direction=Direction.LONG,
            tag=tag,
            risk=config.max_risk_per_trade * self._scale(view, candle.close),
            stop_price=stop,
            take_profit_price=target,
            quantity_max=config.max_units_per_trade,
            notional_max=config.max_trade_amount,
            notional_min=config.min_trade_amount or None,
            reason=" and ".join(rule.name for rule in self.params.entry)[:200],
        )

    def _distance(self, view: View, close: Decimal) -> Decimal | None:
        """Return how far from the close the stop lies, nothing if that is not known yet."""
        config = self._execution.config
        if config.stop_loss_calculation == "fixed":
            return close * config.stop_loss_pct
        span = view.feature(self._span)
        return None if span is None else config.atr_volatility_factor * exact(span)

    def _scale(self, view: View, close: Decimal) -> Decimal:
        """Return which share of the usual risk to take: less where it is more volatile than wanted, never more."""
        config = self._execution.config
        volatility = view.feature(self._volatility) if config.enable_volatility_adjustment else None
        if not volatility:
            return Decimal(1)
        return min(Decimal(1), config.target_volatility * close / exact(volatility))

    def _of(self, symbol: str) -> RulesState:
        state = self.state.get(symbol)
        return state if isinstance(state, RulesState) else RulesState()

    def _remember(self, symbol: str, **changes: Any) -> None:
        self.state[symbol] = msgspec.structs.replace(self._of(symbol), **changes)


@frozen
class _Rules:
    """Rules that have to hold together, the one that is asked first before the others; none never do."""

    rules: tuple[RuleParams, ...]
    anchored: bool = field(init=False)
    conditions: tuple[Condition, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        anchored = any(rule.anchored for rule in self.rules)
        object.__setattr__(self, "anchored", anchored)
        known = () if anchored else tuple(rule.condition() for rule in self.rules)
        object.__setattr__(self, "conditions", known)

    @property
    def leading(self) -> RuleParams:
        """Return the trigger, or the first of rules without one."""
        return self.rules[0]

    def hold(self, view: View, anchor: float | None) -> bool:
        """Tell whether all of them hold at the last closed candles."""
        conditions = self._asked(anchor)
        return bool(conditions) and all(map(view.holds, conditions))

    def told(self, view: View, anchor: float | None) -> Iterator[tuple[str, bool]]:
        """Yield each with whether it holds; none does that waits for the price at deployment."""
        conditions = self._asked(anchor)
        for place, rule in enumerate(self.rules):
            yield rule.title, bool(conditions) and view.holds(conditions[place])

    def _asked(self, anchor: float | None) -> tuple[Condition, ...]:
        if self.anchored and anchor is not None:
            return tuple(rule.condition(anchor) for rule in self.rules)
        return self.conditions


def _last_filters(rule: RuleParams) -> bool:
    return rule.signal_type != TRIGGER


def _composed(params: RulesParams) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with how many rules there are of each kind."""
    strict = params.composition == "strict"
    counts = {
        where: tuple(sum(rule.signal_type == kind for rule in rules) for kind in (TRIGGER, FILTER))
        for where, rules in (("entry", params.entry), ("exit", params.exit))
    }
    triggers, filters = counts["entry"]
    got = f"got {triggers} TRIGGER and {filters} FILTER"
    if triggers != 1 or (strict and filters != 1):
        more = "any number of FILTERs" if not strict else "exactly one FILTER"
        hint = "" if not strict or triggers != 1 else '; composition = "extended" allows any number of FILTERs'
        yield "entry", f"must have exactly one TRIGGER and {more}, {got}{hint}"
    triggers, filters = counts["exit"]
    got = f"got {triggers} TRIGGER and {filters} FILTER"
    if strict and (triggers, filters) not in ((0, 0), (1, 0), (1, 1)):
        yield "exit", f"must be empty, or have exactly one TRIGGER and at most one FILTER, {got}"
    elif triggers > 1:
        yield "exit", f"must have at most one TRIGGER, {got}"
