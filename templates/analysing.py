"""The knobs of an analyst, and what it remembers."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final

import msgspec
from attrs import frozen

from pipaid.sdk import (
    Timeframe,
    choice_param,
    choices_param,
    decimal_param,
    flag_param,
    integer_param,
    list_param,
    object_param,
    optional_param,
    text_param,
)
from templates.execution import TIMEFRAMES, Execution, ExecutionConfig, settled
from templates.prompting import Asker
from templates.rules import RULES_MAX, RuleParams, RulesParams, RulesState

MODES: Final = ("llm_only", "rule_then_llm", "rule_only", "hybrid_validator", "multi_agent")
# In these the entry rules say when.
RULED: Final = frozenset({"rule_then_llm", "rule_only", "hybrid_validator"})
CONTEXT: Final[Mapping[str, Timeframe]] = MappingProxyType({**TIMEFRAMES, "M5": Timeframe.M5, "M30": Timeframe.M30})


@frozen(kw_only=True)
class AnalystParams:
    """The knobs of an analyst."""

    execution_mode: str = choice_param(
        "llm_only asks at every evaluation; rule_then_llm where the entry rules hold; hybrid_validator has the rules "
        "decide and the model veto or shrink; multi_agent lets three argue before one decides; rule_only asks nobody",
        choices=MODES,
        default="llm_only",
    )
    strategy_type: str = choice_param(
        "Of no effect: how the strategy was described", choices=("config", "prompt"), default="prompt"
    )
    llm_provider: str | None = optional_param(text_param("Provider of the model, as [llm.providers] names it"))
    llm_model: str | None = optional_param(text_param("Model to ask, as its provider names it", most=128))
    custom_prompt: str | None = optional_param(text_param("What the model is to go by, in your own words", most=8_000))
    symbols_note: str | None = optional_param(text_param("What to know of the symbols", most=1_000))
    context_tfs: tuple[str, ...] = choices_param("Larger candles that are shown, too", choices=tuple(CONTEXT))
    candles_shown: int = integer_param("Candles that are shown, as far as there is room", low=4, high=200, default=48)
    confidence_threshold: Decimal = decimal_param(
        "Confidence below which nothing is done", low="0", high="1", default="0.70", floats=True
    )
    allow_short: bool = flag_param("Let the model sell short, too", default=True)
    stop_distance_min: Decimal = decimal_param(
        "Least distance of a stop that the model names, as a share of the price", low="0", high="1", default="0.0005"
    )
    stop_distance_max: Decimal = decimal_param(
        "Largest distance of a stop that the model names, as a share of the price", above="0", high="1", default="0.2"
    )
    price_move_max: Decimal = decimal_param(
        "Largest move of the price between question and answer, as a share, after which nothing is entered",
        above="0",
        high="1",
        default="0.01",
    )
    maintenance_enabled: bool = flag_param("Ask from time to time what to do about what is held", default=False)
    maintenance_interval_minutes: int = integer_param(
        "Minutes between two such questions", low=1, high=10_080, default=60
    )
    budget_money_per_day: Decimal = decimal_param(
        "Most that questions may cost on a UTC day, in the currency of the prices", low="0", default="1"
    )
    budget_tokens_per_day: int = integer_param(
        "Most tokens, read and written, that questions may come to on a UTC day", low=0, high=10**9, default=500_000
    )
    tokens_max: int = integer_param("Most tokens of an answer", low=64, high=32_000, default=1_024)
    patience_s: int = integer_param("Seconds after which an answer is too old", low=1, high=600, default=60)
    entry: tuple[RuleParams, ...] = list_param(
        "Rules that hold together where a position may be entered, as those of tpl_rules", of=RuleParams, most=RULES_MAX
    )
    exit: tuple[RuleParams, ...] = list_param(
        "Rules that hold together where positions are left, as those of tpl_rules", of=RuleParams, most=RULES_MAX
    )
    reward_factor: Decimal = decimal_param(
        "Distance of a target that the model does not name, in stop distances",
        low="0.9",
        high="10",
        default="2",
        floats=True,
    )
    execution_config: ExecutionConfig = object_param(
        "Sizing, stops that the model does not name, limits and time exits, as those of tpl_rules", of=ExecutionConfig
    )
    composition: str = choice_param(
        "How many rules there may be, as in tpl_rules", choices=("strict", "extended"), default="strict"
    )

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "execution_config", settled(self.execution_config, self.reward_factor))

    @property
    def rules(self) -> RulesParams | None:
        """Return the rules that say when, unless the model is asked at every evaluation."""
        if self.execution_mode not in RULED:
            return None
        return RulesParams(
            entry=self.entry,
            exit=self.exit,
            reward_factor=self.reward_factor,
            execution_config=self.execution_config,
            composition=self.composition,
        )

    @property
    def asks(self) -> bool:
        """Tell whether any model is asked."""
        return self.execution_mode != "rule_only"

    @property
    def context(self) -> tuple[Timeframe, ...]:
        """Return the larger candles that are shown, the smallest first."""
        return tuple(sorted({CONTEXT[name] for name in self.context_tfs}, key=lambda each: each.ms))

    @property
    def asker(self) -> Asker:
        """Return what the model is told besides figures."""
        config = self.execution_config
        return Asker(
            guidance=self.custom_prompt or "",
            symbols_note=self.symbols_note or "",
            context=self.context,
            candles=self.candles_shown,
            limits=(
                ("directions", "long and short" if self.allow_short else "long"),
                ("share of capital lost at a stop", f"{config.max_risk_per_trade:f}"),
                ("positions at most", str(config.max_open_positions)),
                ("stop distance as a share of the price", f"{self.stop_distance_min:f} to {self.stop_distance_max:f}"),
            ),
        )

    def execution(self, timeframe: Timeframe) -> Execution:
        """Return the execution in a strategy of some timeframe: bars of minutes count in fives."""
        rules = self.rules
        if rules is not None:
            return rules.execution
        return Execution(config=self.execution_config, candle=max(timeframe, Timeframe.M5, key=lambda each: each.ms))


class Proposal(msgspec.Struct, frozen=True):
    """The position that rules want to open, which a model may veto or shrink."""

    tag: str
    risk: Decimal
    stop: Decimal
    target: Decimal
    quantity: Decimal


class Argument(msgspec.Struct, frozen=True):
    """What one of those who argue has said."""

    role: str
    text: str


class AnalystState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is remembered of a symbol: of the rules, and of the question that is open.

    `price` is that of the moment at which the evaluation began to ask, `tag` the trigger that was asked about last.
    """

    rules: RulesState = RulesState()
    price: Decimal = Decimal(0)
    tag: str = ""
    proposal: Proposal | None = None
    arguments: tuple[Argument, ...] = ()
