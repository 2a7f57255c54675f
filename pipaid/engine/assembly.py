"""A session put together from what the journal holds: the same way after a deployment, a crash and a restart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from attrs import field, frozen

from pipaid.engine.definition import limits_of
from pipaid.engine.effects import Brain
from pipaid.engine.holdings import seniority
from pipaid.engine.params import structure_params, structure_schedule
from pipaid.engine.quotes import Quotes
from pipaid.engine.risk import Book, StrategyLimits
from pipaid.engine.schedule import Every, Schedule
from pipaid.engine.session import Session
from pipaid.engine.template import Template, Wakes
from pipaid.engine.wishes import Nonsense
from pipaid.model.consult import Tariff
from pipaid.model.instrument import MINUTE_MS, Instrument, Timeframe
from pipaid.model.order import Order
from pipaid.model.position import Position
from pipaid.model.run import RUNS_KEPT, Evaluation
from pipaid.model.strategy import Status, Strategy, StrategyDefinition
from pipaid.signals.features import make_indicator
from pipaid.signals.series import CONDITIONS, Condition, Feature, History, Series


class Inert(Template):
    """Stand in for the template of a strategy that is to wish nothing, while fills are still booked."""

    id = "tpl_inert"
    description = "Wishes nothing."

    def wakes(self) -> Wakes:
        """Be asked at no candle."""
        return Wakes()


@frozen(kw_only=True)
class Surroundings:
    """What a session shares with its neighbours; without any tariffs at all, asking models costs nothing."""

    instruments: Mapping[str, Instrument]
    series: Mapping[str, History]
    quotes: Quotes
    book: Book
    runs_kept: int = RUNS_KEPT
    tariffs: Mapping[tuple[str, str], Tariff] | None = field(factory=dict[tuple[str, str], Tariff])


@frozen(kw_only=True)
class Memory:
    """What the journal holds of a strategy besides its definition: working orders, open positions and evaluations."""

    brain: Brain = field(factory=Brain)
    orders: tuple[Order, ...] = ()
    positions: tuple[Position, ...] = ()
    asking: tuple[Evaluation, ...] = ()


def assemble(strategy: Strategy, template: type[Template], memory: Memory, around: Surroundings) -> Session:
    """Return the session of a strategy; one in `error` gets an inert template, and so does one that is given it."""
    definition = strategy.in_effect
    run = strategy.run
    capital = run.capital if run is not None else definition.capital
    leverage = run.leverage if run is not None else definition.leverage
    if strategy.status is Status.ERROR or issubclass(template, Inert):
        live: Template = Inert(None)
        limits, schedule = StrategyLimits(ceiling=capital * leverage), Schedule()
    else:
        params = structure_params(
            template, definition.params, symbols=definition.symbols, timeframe=definition.timeframe, capital=capital
        )
        live = template(params, _state(template, memory.brain))
        limits = limits_of(definition, template, params, capital=capital, leverage=leverage)
        schedule = structure_schedule(definition.params)
    wakes, features = _declared(live, definition.timeframe)
    return Session(
        wakes=wakes,
        features=features,
        runs_kept=around.runs_kept,
        schedule=schedule,
        maintenance=_maintenance(live),
        strategy=strategy,
        template=live,
        instruments=around.instruments,
        series=around.series,
        quotes=around.quotes,
        book=around.book,
        limits=limits,
        tariffs=around.tariffs,
        asking={run.symbol: run for run in memory.asking},
        brain=memory.brain,
        orders={order.client_order_id: order for order in _oldest_first(memory.orders)},
        positions={position.id: position for position in sorted(memory.positions, key=seniority)},
    )


def larger_timeframes(definition: StrategyDefinition, template: type[Template]) -> tuple[Timeframe, ...]:
    """Return the timeframes besides the strategy's own whose candles its template reads, smallest first.

    Raise InvalidParameter for params that do not fit.
    """
    if not template.reads_larger:
        return ()
    params = structure_params(
        template,
        definition.params,
        symbols=definition.symbols,
        timeframe=definition.timeframe,
        capital=definition.capital,
    )
    wakes, features = _declared(template(params), definition.timeframe)
    asked = {feature.timeframe for feature in features}
    asked |= {condition.timeframe for condition in (*wakes.flat, *wakes.holding)}
    return tuple(sorted((each for each in asked if each not in (None, definition.timeframe)), key=_length))


def first_read_ms(timeframes: Iterable[Timeframe], time_ms: int) -> int:
    """Return from which open time on candles are needed for every value of some timeframes as of a moment."""
    return min(Series.anchor_ms(time_ms, timeframe) for timeframe in timeframes)


def _length(timeframe: Timeframe) -> int:
    return timeframe.ms


def _declared(template: Template, own: Timeframe) -> tuple[Wakes, tuple[Feature, ...]]:
    """Return when a template is to be asked and what it reads; refuse what no series could ever serve."""
    wakes, features = template.wakes(), template.features()
    kind, least = type(template).__name__, own if template.reads_larger else None
    if not isinstance(wakes, Wakes):  # pyright: ignore[reportUnnecessaryIsInstance] - a stranger's code
        raise Nonsense(f"{kind}.wakes returned {wakes!r:.80}; return Wakes")
    if not isinstance(features, tuple):  # pyright: ignore[reportUnnecessaryIsInstance] - a stranger's code
        raise Nonsense(f"{kind}.features returned {features!r:.80}; return a tuple of features")
    for condition in (*wakes.flat, *wakes.holding):
        known = isinstance(condition, Condition)  # pyright: ignore[reportUnnecessaryIsInstance] - a stranger's code
        if not known or condition.kind not in CONDITIONS:
            raise Nonsense(f"{kind}.wakes holds {condition!r:.80}, which is no condition")
        sides = (condition.left, condition.right)
        features_asked = [side for side in sides if not isinstance(side, int | float)]
        _demand_features(f"{kind}.wakes", features_asked, least)
        if len({feature.timeframe for feature in features_asked}) > 1:
            raise Nonsense(f"{kind}.wakes holds {condition!r:.160}, whose sides are of different timeframes")
    _demand_features(f"{kind}.features", features, least)
    return wakes, features


def _maintenance(template: Template) -> Every | None:
    """Return when a template wants to look after what it holds; refuse what is no whole number of minutes."""
    period_ms = template.maintenance_ms()
    if period_ms is None:
        return None
    whole = type(period_ms) is int and period_ms > 0 and period_ms % MINUTE_MS == 0
    if not whole:
        raise Nonsense(
            f"{type(template).__name__}.maintenance_ms returned {period_ms!r:.80}; return whole minutes in ms"
        )
    return Every(period_ms)


def _demand_features(where: str, features: Iterable[Feature], least: Timeframe | None) -> None:
    """Refuse what is no feature, and one of another timeframe unless it is at least so large; nothing allows none."""
    for feature in features:
        if not isinstance(feature, Feature):  # pyright: ignore[reportUnnecessaryIsInstance] - a stranger's code
            raise Nonsense(f"{where} holds {feature!r:.80}, which is no feature")
        if feature.timeframe is not None:
            if least is None:
                raise Nonsense(f"{where} holds {feature!r:.120} of a timeframe of its own; set reads_larger = True")
            if feature.timeframe.ms < least.ms:
                raise Nonsense(f"{where} holds {feature!r:.120}, and its strategy has {least} candles only")
        make_indicator(feature.name, feature.params)


def _state(template: type[Template], brain: Brain) -> dict[str, msgspec.Struct]:
    return {symbol: msgspec.convert(state, template.state_type) for symbol, state in brain.state.items()}


def _oldest_first(orders: Iterable[Order]) -> list[Order]:
    return sorted(orders, key=lambda order: order.client_order_id)
