"""An analyst: a model is asked what to do, alone, after rules, to check them, or after others have argued."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Final

import msgspec
from attrs import evolve

from pipaid.sdk import (
    Allowance,
    Answer,
    CloseReason,
    Conclude,
    Condition,
    Consult,
    Direction,
    Enter,
    Exit,
    Feature,
    Guards,
    Instrument,
    Intent,
    Position,
    Protect,
    Question,
    RiskParams,
    Template,
    Timeframe,
    Verdict,
    View,
    Wakes,
)
from templates.analysing import AnalystParams, AnalystState, Argument, Proposal
from templates.deciding import (
    APPROVE,
    ARGUING,
    BUY,
    CLOSE,
    DECISION,
    FORMS,
    HOLD,
    MAINTENANCE,
    SELL,
    TIGHTEN,
    VALIDATION,
    Said,
    Unreadable,
    read,
)
from templates.execution import DEFAULTS, surprises
from templates.prompting import indicators_of
from templates.protected import exact
from templates.rules import Rules, RulesState

MINUTE_MS: Final = 60_000
SIDES: Final = {BUY: Direction.LONG, SELL: Direction.SHORT}


class Analyst(Template):
    """Ask a model what to do, and wish it within bounds that the model cannot move.

    What it wishes passes the gate like any other wish. What cannot be read, comes late or was never said does nothing.
    The opposite of what is held closes that and opens nothing.
    """

    id = "tpl_analyst"
    description = "Asks a language model what to do, alone, after rules, to check rules, or after three have argued."
    params_type = AnalystParams
    state_type = AnalystState
    foretells: ClassVar[bool] = True
    reads_larger: ClassVar[bool] = True
    risk_defaults: ClassVar[RiskParams] = DEFAULTS
    params: AnalystParams

    def __init__(self, params: Any, state: Mapping[str, msgspec.Struct] | None = None) -> None:
        super().__init__(params, state)
        rules = self.params.rules
        self._rules = None if rules is None else Rules(rules)
        self._asker = self.params.asker
        self._span = Feature("atr", (self.params.execution_config.atr_period,))

    @classmethod
    def check(
        cls,
        params: AnalystParams,
        *,
        symbols: Sequence[str],
        timeframe: Timeframe,
        capital: Decimal,
        instruments: Mapping[str, Instrument],
    ) -> dict[str, str]:
        """Hold rules, context and bounds against the strategy and each other."""
        mistakes: dict[str, str] = {}
        if params.asks:
            for name in ("llm_provider", "llm_model"):
                if getattr(params, name) is None:
                    mistakes[name] = f"is required in execution_mode {params.execution_mode}"
        small = [each for each in params.context if each.ms <= timeframe.ms]
        if small:
            mistakes["context_tfs"] = f"must be larger than the strategy's {timeframe}, got {small[0]}"
        if params.stop_distance_min >= params.stop_distance_max:
            mistakes["stop_distance_min"] = f"must be below stop_distance_max, {params.stop_distance_max:f}"
        rules = params.rules
        if rules is not None:
            more = Rules.check(rules, symbols=symbols, timeframe=timeframe, capital=capital, instruments=instruments)
            mistakes |= more
        return mistakes

    @classmethod
    def guards(cls, params: AnalystParams, timeframe: Timeframe) -> Guards:
        """Return the limits of `execution_config`, and what may be spent."""
        spending = Allowance(money=params.budget_money_per_day, tokens=params.budget_tokens_per_day)
        return evolve(params.execution(timeframe).guards(timeframe), spending=spending)

    @classmethod
    def asks(cls, params: AnalystParams) -> Sequence[tuple[str, str]]:
        """Return the model that is asked, if one is."""
        return [(params.llm_provider or "", params.llm_model or "")] if params.asks else []

    @classmethod
    def remarks(cls, params: AnalystParams, capital: Decimal) -> Sequence[str]:
        """Return what has no effect, or may surprise."""
        told = list(surprises(params.execution_config, capital))
        if params.rules is None and (params.entry or params.exit):
            told.append(f"entry and exit have no effect in execution_mode {params.execution_mode}")
        if not params.asks and params.maintenance_enabled:
            told.append("maintenance_enabled has no effect in execution_mode rule_only: it asks nobody")
        if params.asks and not (params.budget_money_per_day and params.budget_tokens_per_day):
            told.append("nobody is ever asked: a budget of the day is zero")
        elif params.asks and params.budget_tokens_per_day <= params.tokens_max:
            needed = f"tokens_max, {params.tokens_max}, is set aside for one answer"
            told.append(f"nobody is ever asked: budget_tokens_per_day is {params.budget_tokens_per_day}, and {needed}")
        return told

    def enters_on(self) -> Mapping[str, Condition]:
        """Return the entry rules."""
        return {} if self._rules is None else self._rules.enters_on()

    def features(self) -> tuple[Feature, ...]:
        """Return the features that are shown or decided by."""
        shown = (self._span, *indicators_of(self.params.context)) if self.params.asks else ()
        ruled = () if self._rules is None else self._rules.features()
        return tuple(dict.fromkeys((*shown, *ruled)))

    def wakes(self) -> Wakes:
        """Wake at every candle, or where the rules want to be asked."""
        return Wakes(every=True) if self._rules is None else self._rules.wakes()

    def reasons(self, view: View) -> Mapping[str, bool]:
        """Return which rules hold."""
        return {} if self._rules is None else self._rules.reasons(view)

    def maintenance_ms(self) -> int | None:
        """Return how often to look after what is held."""
        params = self.params
        wanted = params.maintenance_enabled and params.asks
        return params.maintenance_interval_minutes * MINUTE_MS if wanted else None

    # Asking.

    def on_start(self, view: View) -> Iterator[Intent]:
        """Decide on the last candle; with a schedule, at its first occasion."""
        if view.candle is not None and not (view.scheduled and self._rules is None):
            yield from self._evaluated(view, start=True)

    def on_candle(self, view: View) -> Iterator[Intent]:
        """Leave what is to be left, and ask what else to do."""
        yield from self._evaluated(view, start=False)

    def on_maintenance(self, view: View) -> Iterator[Intent]:
        """Ask what to do about what is held."""
        if view.positions and self.params.asks:
            self._begin(view)
            yield self._question(view, MAINTENANCE)

    def on_opened(self, view: View, position: Position) -> Iterator[Intent]:
        """Remember which candle of the trigger has opened a position: it opens no other."""
        if self._rules is not None and position.tag[:1] == "E":
            yield from self._ruled(view, self._rules.on_opened(view, position))

    def _evaluated(self, view: View, *, start: bool) -> Iterator[Intent]:
        rules = self._rules
        if rules is None:
            leaving = list(self._overdue(view))
            yield from leaving
            if not leaving and view.tending:
                yield self._end(view, "skipped", "what is held is asked about at this very moment")
            elif not leaving:
                self._begin(view)
                first = ARGUING[0] if self.params.execution_mode == "multi_agent" else DECISION
                yield self._question(view, first)
            return
        for wish in self._ruled(view, rules.on_start(view) if start else rules.on_candle(view)):
            if isinstance(wish, Enter) and self.params.asks:
                yield from self._on_rule(view, wish)
            else:
                yield wish

    def _ruled(self, view: View, wishes: Iterator[Intent]) -> list[Intent]:
        """Return what the rules wish, which remember their own part of the state."""
        assert self._rules is not None
        self._rules.state[view.symbol] = self._of(view.symbol).rules
        found = list(wishes)
        rules = self._rules.state[view.symbol]
        if isinstance(rules, RulesState) and rules is not self._of(view.symbol).rules:
            self._remember(view.symbol, rules=rules)
        return found

    def _on_rule(self, view: View, wish: Enter) -> Iterator[Intent]:
        """Ask about an entry that rules wish, once for each candle of their trigger."""
        if self._of(view.symbol).tag == wish.tag and not view.asking:
            return
        assert wish.risk is not None
        assert wish.stop_price is not None
        assert wish.take_profit_price is not None
        proposal = Proposal(
            wish.tag,
            wish.risk,
            wish.stop_price,
            wish.take_profit_price,
            self._proposed(view, wish.risk, wish.stop_price),
        )
        self._begin(view, tag=wish.tag, proposal=proposal)
        validates = self.params.execution_mode == "hybrid_validator"
        told = (
            ("direction", wish.direction.value),
            ("stop", f"{wish.stop_price:f}"),
            ("target", f"{wish.take_profit_price:f}"),
            ("because", wish.reason),
        )
        yield self._question(view, VALIDATION if validates else DECISION, proposal=told)

    def _proposed(self, view: View, risk: Decimal, stop: Decimal) -> Decimal:
        """Return how much rules would enter now: what is made smaller later is made smaller than that.

        That the price has come closer to the stop since is no reason for more.
        """
        config, price = self.params.execution_config, view.price
        if stop == price:
            return Decimal(0)
        notional = min(config.max_trade_amount, view.capital * view.leverage)
        return min(view.equity * risk / abs(price - stop), config.max_units_per_trade, notional / price)

    def _begin(self, view: View, **changes: Any) -> None:
        """Note what the answer will be about, unless one is waited for: then nobody is asked."""
        if not view.asking:
            fresh: dict[str, Any] = {"price": view.price, "proposal": None, "arguments": (), **changes}
            self._remember(view.symbol, **fresh)

    def _question(self, view: View, role: str, *, proposal: Sequence[tuple[str, str]] = ()) -> Consult:
        params = self.params
        said = [(each.role, each.text) for each in self._of(view.symbol).arguments]
        return Consult(
            symbol=view.symbol,
            role=role,
            provider=params.llm_provider or "",
            model=params.llm_model or "",
            system=self._asker.system(role),
            prompt=self._asker.prompt(view, role, proposal=proposal, said=said),
            answer_schema=FORMS[role].schema,
            tokens_max=params.tokens_max,
            patience_ms=params.patience_s * 1_000,
        )

    # Answers.

    def on_answer(self, view: View, question: Question, answer: Answer) -> Iterator[Intent]:
        """Do what was said, as far as it may be done."""
        state, role = self._of(view.symbol), question.role
        if answer.verdict is not Verdict.ANSWERED:
            self._forget(view.symbol)
            return
        form = FORMS.get(role)
        try:
            if form is None:
                raise Unreadable(f"nobody asks for {role} any more")
            said = read(answer.text, form)
        except Unreadable as trouble:
            self._forget(view.symbol)
            yield self._end(view, "failed", f"the answer cannot be read: {trouble}")
            return
        moved = abs(view.price - state.price) / state.price if state.price else Decimal(0)
        if role != MAINTENANCE and moved > self.params.price_move_max:
            self._forget(view.symbol)
            yield self._end(view, "skipped", f"the price moved from {state.price:f} to {view.price:f} meanwhile")
        elif role in ARGUING:
            yield self._argued(view, role, said)
        else:
            self._forget(view.symbol)
            yield from self._said(view, role, said, state)

    def _argued(self, view: View, role: str, said: Said) -> Consult:
        """Have the next one argue, or decide after all have."""
        told = f"{said.action} ({said.confidence:f}): {said.text}"
        self._remember(view.symbol, arguments=(*self._of(view.symbol).arguments, Argument(role, told)))
        after = ARGUING[ARGUING.index(role) + 1 :]
        return self._question(view, after[0] if after else DECISION)

    def _said(self, view: View, role: str, said: Said, state: AnalystState) -> Iterator[Intent]:
        threshold = self.params.confidence_threshold
        if said.action == HOLD:
            yield self._end(view, "hold", said.text)
        elif said.confidence < threshold:
            yield self._end(view, "hold", f"confidence {said.confidence:f} is below {threshold:f}: {said.text}")
        elif role == VALIDATION:
            yield self._validated(view, said, state.proposal)
        elif said.action == CLOSE:
            yield from self._closed(view, said)
        elif said.action == TIGHTEN:
            yield from self._tightened(view, said)
        else:
            yield from self._decided(view, said, state)

    def _closed(self, view: View, said: Said) -> Iterator[Intent]:
        leaving = [Exit(position_id=lot.id) for lot in view.positions if not view.exiting(lot.id)]
        yield from leaving
        if not leaving:
            yield self._end(view, "hold", f"there is nothing to close: {said.text}")

    def _decided(self, view: View, said: Said, state: AnalystState) -> Iterator[Intent]:
        """Enter in the direction that was said; leave what is held in the other one first, and enter nothing then."""
        direction = SIDES[said.action]
        against = [lot for lot in view.positions if lot.direction is not direction]
        tag = state.proposal.tag if state.proposal is not None else direction.value
        if against:
            yield from (Exit(position_id=lot.id) for lot in against if not view.exiting(lot.id))
        elif direction is Direction.SHORT and not self.params.allow_short:
            yield self._end(view, "hold", f"it may not sell short: {said.text}")
        elif view.alive(tag):
            yield self._end(view, "hold", f"it is {direction} already: {said.text}")
        else:
            yield self._entry(view, direction, tag, said)

    def _entry(self, view: View, direction: Direction, tag: str, said: Said) -> Intent:
        config, price, sign = self.params.execution_config, view.price, direction.sign
        distance = self._distance(view) if said.stop is None else sign * (price - said.stop)
        if distance is None:
            return self._end(view, "skipped", "the stop is not known while its range warms up")
        if said.stop is not None:
            low, high = self.params.stop_distance_min, self.params.stop_distance_max
            if not low <= distance / price <= high:
                share = f"{distance / price:.4f} of the price"
                return self._end(view, "failed", f"the stop {said.stop:f} is {share} away, not {low:f} to {high:f}")
        if said.target is not None and not sign * (said.target - price) > 0:
            return self._end(view, "failed", f"the target {said.target:f} is on the wrong side of {price:f}")
        assert config.reward_factor is not None
        stop = view.instrument.price(price - sign * distance)
        wanted = price + sign * config.reward_factor * distance if said.target is None else said.target
        target = view.instrument.price(max(wanted, Decimal(0)))
        if not (stop > 0 and sign * (price - stop) > 0):
            return self._end(view, "failed", f"a stop at {stop:f} makes no sense at {price:f}")
        return Enter(
            symbol=view.symbol,
            direction=direction,
            tag=tag,
            risk=config.max_risk_per_trade,
            stop_price=stop,
            take_profit_price=target if sign * (target - price) > 0 and target > 0 else None,
            quantity_max=config.max_units_per_trade,
            notional_max=config.max_trade_amount,
            notional_min=config.min_trade_amount or None,
            reason=said.text[:200],
        )

    def _distance(self, view: View) -> Decimal | None:
        config = self.params.execution_config
        if config.stop_loss_calculation == "fixed":
            return view.price * config.stop_loss_pct
        span = view.feature(self._span)
        return None if span is None else config.atr_volatility_factor * exact(span)

    def _validated(self, view: View, said: Said, proposal: Proposal | None) -> Intent:
        """Open what the rules wished, or less of it."""
        if said.action != APPROVE or proposal is None:
            return self._end(view, "hold", f"vetoed: {said.text}")
        config = self.params.execution_config
        scale = Decimal(1) if said.scale is None else said.scale
        quantity = proposal.quantity * scale
        if view.alive(proposal.tag) or not quantity > 0:
            return self._end(view, "hold", "there is nothing left of what was proposed")
        return Enter(
            symbol=view.symbol,
            direction=Direction.LONG,
            tag=proposal.tag,
            risk=proposal.risk * scale,
            stop_price=proposal.stop,
            take_profit_price=proposal.target,
            quantity_max=quantity,
            notional_max=config.max_trade_amount,
            notional_min=config.min_trade_amount or None,
            reason=said.text[:200],
        )

    def _tightened(self, view: View, said: Said) -> Iterator[Intent]:
        """Move levels closer to the price on the lots on which that is tighter; what is tighter nowhere refuses all."""
        moves = [(lot, *_tighter(lot, said, view.price)) for lot in view.positions]
        looser = [
            name
            for name, level, moved in (
                ("stop", said.stop, any(stop is not None for _, stop, _ in moves)),
                ("target", said.target, any(target is not None for _, _, target in moves)),
            )
            if level is not None and not moved
        ]
        if looser or (said.stop, said.target) == (None, None):
            what = " and ".join(looser) or "a level"
            yield self._end(view, "failed", f"no position has {what} that would be tighter: {said.text}")
            return
        for lot, stop, target in moves:
            if (stop, target) != (None, None):
                levels = (stop or lot.stop_price, target or lot.take_profit_price)
                yield Protect(position_id=lot.id, stop_price=levels[0], take_profit_price=levels[1])

    def _overdue(self, view: View) -> Iterator[Exit]:
        """Leave what has been held for long enough."""
        candle = view.candle
        if candle is None or not view.positions:
            return
        execution = self.params.execution(view.timeframe)
        for lot in view.positions:
            if execution.is_over(lot, candle) and not view.exiting(lot.id):
                yield Exit(position_id=lot.id, reason=CloseReason.TIME_EXIT)

    def _end(self, view: View, status: Any, reason: str) -> Conclude:
        return Conclude(symbol=view.symbol, status=status, reason=reason[:200])

    def _of(self, symbol: str) -> AnalystState:
        state = self.state.get(symbol)
        return state if isinstance(state, AnalystState) else AnalystState()

    def _remember(self, symbol: str, **changes: Any) -> None:
        self.state[symbol] = msgspec.structs.replace(self._of(symbol), **changes)

    def _forget(self, symbol: str) -> None:
        """Let go of what the open question was about."""
        self._remember(symbol, price=Decimal(0), proposal=None, arguments=())


def _tighter(lot: Position, said: Said, price: Decimal) -> tuple[Decimal | None, Decimal | None]:
    """Return the stop and the target that were said, each if it is closer to the price than what a lot has."""
    sign, stop, target = lot.direction.sign, said.stop, said.target
    if stop is not None:
        closer = lot.stop_price is None or sign * (stop - lot.stop_price) > 0
        stop = stop if closer and sign * (price - stop) > 0 else None
    if target is not None:
        closer = lot.take_profit_price is None or sign * (lot.take_profit_price - target) > 0
        target = target if closer and sign * (target - price) > 0 else None
    return stop, target
