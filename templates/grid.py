"""Grid: rest entries at the levels of a price range, leave each filled one at the next level, and place it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import ClassVar, Final

import msgspec
from attrs import frozen

from pipaid.sdk import (
    CancelEntries,
    CloseReason,
    Condition,
    Direction,
    Enter,
    Exit,
    Feature,
    Instrument,
    Intent,
    OrderType,
    Position,
    RiskParams,
    Template,
    Timeframe,
    View,
    Wakes,
    choice_param,
    decimal_param,
    integer_param,
)
from templates.levels import Rung, ladder, rungs, target_of

CLOSE: Final = Feature("close")
_Edge = tuple[Decimal, CloseReason]
LOST_MAX: Final = 3  # Entries lost in a row at one level before it waits for the price to come by again.


@frozen(kw_only=True)
class GridParams:
    """The knobs of a grid."""

    grid_levels: int = integer_param("Number of price levels, both edges included", low=2, high=200)
    upper_price: Decimal = decimal_param("Highest level", above="0")
    lower_price: Decimal = decimal_param("Lowest level", above="0", less_than="upper_price")
    rebalance_threshold: Decimal = decimal_param(
        "How far the price must have left a level before its entry is placed again, as a fraction of the distance to "
        "the level where that entry would be closed",
        low="0",
        high="0.5",
        default="0.01",
    )
    spacing: str = choice_param(
        "Levels at equal distances or at equal ratios", choices=("arithmetic", "geometric"), default="arithmetic"
    )
    side: str = choice_param(
        "Buy low and sell higher, sell short high and buy back lower, or both around the price at deployment",
        choices=("long", "short", "neutral"),
        default="long",
    )
    stop_loss_pct: Decimal = decimal_param(
        "How far beyond the losing edge of the range everything is closed and the grid ends, as a fraction of that "
        "edge, 0 for never; a neutral grid loses beyond either edge",
        low="0",
        high="1",
        default="0",
    )
    take_profit_pct: Decimal = decimal_param(
        "How far beyond the winning edge of the range everything is closed and the grid ends, as a fraction of that "
        "edge, 0 for never; a neutral grid has no winning edge",
        low="0",
        high="1",
        default="0",
    )


class GridState(msgspec.Struct, frozen=True, kw_only=True):
    """What a grid remembers of a symbol: the price it began at, whether it has ended, entries lost in a row by tag."""

    start: Decimal = Decimal(0)
    ended: bool = False
    lost: dict[str, int] = {}


class Grid(Template):
    """Keep one resting entry or one position per level.

    Entries are placed at deployment where the price is clear of their level, again when their position has been closed
    at the next level, and otherwise when a close shows that the price has come by and left the level. Nothing is asked
    at candles between two levels. A filled entry is closed by a resting limit order one level further.
    """

    id = "tpl_grid"
    description = "Buys and sells at the levels of a price range, long, short or neutral."
    params_type = GridParams
    state_type = GridState
    # The levels bound the number of positions, and all of them may be placed at once.
    risk_defaults: ClassVar[RiskParams] = RiskParams(max_drawdown_pct=Decimal("0.3"))
    params: GridParams

    def __init__(self, params: GridParams, state: Mapping[str, msgspec.Struct] | None = None) -> None:
        super().__init__(params, state)
        self._prices: dict[str, tuple[Decimal, ...]] = {}
        self._ladders: dict[str, tuple[Decimal, dict[str, Rung]]] = {}
        self._marks = tuple((side, _ladder_feature(params, side)) for side in _sides(params))
        self._edges = _edges(params)

    @classmethod
    def check(
        cls,
        params: GridParams,
        *,
        symbols: Sequence[str],
        timeframe: Timeframe,
        capital: Decimal,
        instruments: Mapping[str, Instrument],
    ) -> dict[str, str]:
        """Hold the levels against the venue's filters."""
        mistakes: dict[str, str] = {}
        if params.side == "neutral" and params.take_profit_pct:
            mistakes["take_profit_pct"] = "must be 0 for a neutral grid, which has no winning edge"
        if params.lower_price >= params.upper_price:
            return mistakes
        narrowest = min(high - low for low, high in pairwise(_ladder(params)))
        amount = capital / len(symbols) / _most_entries(params)
        for symbol in symbols:
            instrument = instruments.get(symbol)
            if instrument is not None and not instrument.price(params.lower_price):
                mistakes["lower_price"] = f"is no price of {symbol}, whose tick is {instrument.tick_size}"
            elif instrument is not None and narrowest < instrument.tick_size:
                mistakes["grid_levels"] = f"puts levels of {symbol} closer than its tick {instrument.tick_size}"
            elif instrument is not None and amount < instrument.notional_min:
                least = f"the minimum notional {instrument.notional_min} of {symbol}"
                mistakes["grid_levels"] = f"leaves {amount:.2f} of the capital per level, below {least}"
        return mistakes

    def features(self) -> tuple[Feature, ...]:
        """Return the features of the strategy's series that `on_candle` reads."""
        return CLOSE, *(mark for _, mark in self._marks)

    def wakes(self) -> Wakes:
        """Wake where the close has moved from one level to another, and beyond the edges that end the grid."""
        conditions = [Condition("changes", mark) for _, mark in self._marks]
        bottom, top = self._edges
        if bottom is not None:
            conditions.append(Condition("at_most", CLOSE, float(bottom[0])))
        if top is not None:
            conditions.append(Condition("at_least", CLOSE, float(top[0])))
        return Wakes(flat=tuple(conditions), holding=tuple(conditions))

    def on_start(self, view: View) -> Iterator[Intent]:
        """Begin anew at the current price, with whatever is still held."""
        if view.price > 0:
            self.state[view.symbol] = GridState(start=view.price)
            yield from self._all_exits(view)
            yield from self._placed(view, self._clear(view))

    def on_released(self, view: View) -> Iterator[Intent]:
        """Place the levels again that were withdrawn; what is alive stays as it is."""
        if view.price > 0 and view.symbol in self.state:
            yield from self._placed(view, self._clear(view))

    def on_candle(self, view: View) -> Iterator[Intent]:
        """End the grid beyond its edges; place what the price has just left behind."""
        state = self._state(view)
        reason = self._verdict(view)
        if reason is not None:
            yield from self._ended(view, reason)
            return
        moves = self._moves(view)
        if state.ended or not moves:
            return
        if not state.start:
            # There was no price at deployment, so the grid begins at the first level that a close has left.
            yield from self.on_start(view)
        else:
            yield from self._all_exits(view)
            yield from self._placed(
                view, [rung for rung in self._rungs(view).values() if (rung.direction, rung.number) in moves]
            )

    def on_opened(self, view: View, position: Position) -> Iterator[Intent]:
        """Rest the exit one level further."""
        state = self._state(view)
        if position.tag in state.lost:
            self._set(view, lost={tag: count for tag, count in state.lost.items() if tag != position.tag})
        if state.ended:
            yield Exit(position_id=position.id)
        else:
            yield from self._exit(view, position)

    def on_closed(self, view: View, position: Position) -> Iterator[Intent]:
        """Place the entry again if it was closed at its target; end the grid if its stop was hit."""
        if self._state(view).ended:
            return
        if position.reason is CloseReason.STOP_LOSS:
            yield from self._ended(view, CloseReason.STOP_LOSS)
        elif position.reason is CloseReason.TAKE_PROFIT:
            rung = self._rungs(view).get(position.tag)
            yield from self._placed(view, [] if rung is None else [rung])

    def on_entry_lost(self, view: View, tag: str) -> Iterator[Intent]:
        """Try again a few times, as long as the price is clear of the level."""
        state = self._state(view)
        count = state.lost.get(tag, 0) + 1
        self._set(view, lost={**state.lost, tag: count})
        if count <= LOST_MAX and not state.ended:
            yield from self._placed(view, [rung for rung in self._clear(view) if rung.tag == tag])

    def _placed(self, view: View, wanted: Sequence[Rung]) -> Iterator[Enter]:
        """Yield the entries of rungs that have neither an entry nor a position yet, the nearest to the price first."""
        free = [rung for rung in wanted if not view.alive(rung.tag)]
        bottom, top = self._edges
        for rung in sorted(free, key=lambda rung: abs(rung.price - view.price)):
            edge = bottom if rung.direction is Direction.LONG else top
            guarded = edge is not None and edge[1] is CloseReason.STOP_LOSS
            yield Enter(
                symbol=view.symbol,
                direction=rung.direction,
                tag=rung.tag,
                type=OrderType.LIMIT,
                price=rung.price,
                notional=view.capital * view.leverage / _most_entries(self.params),
                stop_price=view.instrument.price(edge[0]) if guarded and edge is not None else None,
                reason=f"level {rung.number}",
            )

    def _all_exits(self, view: View) -> Iterator[Exit]:
        """Yield the exits that are missing, such as that of an entry which is still being filled."""
        for position in view.positions:
            if not view.exiting(position.id):
                yield from self._exit(view, position)

    def _exit(self, view: View, position: Position) -> Iterator[Exit]:
        number = int(position.tag.removeprefix("L"))
        target = target_of(self._levels(view), number, position.direction, position.entry_price)
        yield Exit(position_id=position.id, price=view.instrument.price(target), reason=CloseReason.TAKE_PROFIT)

    def _ended(self, view: View, reason: CloseReason) -> Iterator[Intent]:
        if not self._state(view).ended:
            self._set(view, ended=True)
            yield CancelEntries(symbol=view.symbol)
            for position in view.positions:
                yield Exit(position_id=position.id, reason=reason)
        else:
            for position in view.positions:
                if not view.exiting(position.id):
                    yield Exit(position_id=position.id, reason=reason)

    def _verdict(self, view: View) -> CloseReason | None:
        """Return why the last close ends the grid, if it does."""
        bottom, top = self._edges
        if bottom is None and top is None:
            return None
        close = view.feature(CLOSE)
        if close is not None and bottom is not None and close <= float(bottom[0]):
            return bottom[1]
        if close is not None and top is not None and close >= float(top[0]):
            return top[1]
        return None

    def _moves(self, view: View) -> frozenset[tuple[Direction, int]]:
        """Return the rungs whose levels the last close left on the side where their entries rest."""
        left: set[tuple[Direction, int]] = set()
        for side, mark in self._marks:
            now, before = view.feature(mark), view.feature_before(mark)
            if now is None or before is None:
                continue
            if side is Direction.LONG:
                left.update((side, rung) for rung in range(int(before), int(now)))
            else:
                # The mark of a short entry stands in the interval below its level.
                left.update((side, rung + 1) for rung in range(int(now), int(before)))
        return frozenset(left)

    def _clear(self, view: View) -> list[Rung]:
        """Return the rungs on whose waiting side the price is."""
        price = view.price
        return [rung for rung in self._rungs(view).values() if rung.is_clear_of(price)]

    def _rungs(self, view: View) -> dict[str, Rung]:
        """Return the symbol's rungs by tag, from the lowest up; they stay the same until the grid begins anew."""
        params, start = self.params, self._state(view).start
        known = self._ladders.get(view.symbol)
        if known is None or known[0] != start:
            made = rungs(self._levels(view), side=params.side, start=start, threshold=params.rebalance_threshold)
            known = self._ladders[view.symbol] = start, {rung.tag: rung for rung in made}
        return known[1]

    def _levels(self, view: View) -> tuple[Decimal, ...]:
        """Return the levels on the symbol's tick."""
        prices = self._prices.get(view.symbol)
        if prices is None:
            prices = self._prices[view.symbol] = tuple(map(view.instrument.price, _ladder(self.params)))
        return prices

    def _state(self, view: View) -> GridState:
        state = self.state.get(view.symbol)
        return state if isinstance(state, GridState) else GridState()

    def _set(self, view: View, *, ended: bool | None = None, lost: dict[str, int] | None = None) -> None:
        state = self._state(view)
        self.state[view.symbol] = GridState(
            start=state.start,
            ended=state.ended if ended is None else ended,
            lost=state.lost if lost is None else lost,
        )


def _ladder(params: GridParams) -> tuple[Decimal, ...]:
    geometric = params.spacing == "geometric"
    return ladder(params.lower_price, params.upper_price, params.grid_levels, geometric=geometric)


def _most_entries(params: GridParams) -> int:
    """Return how many entries may rest at once: one for each interval, and one more where both sides meet."""
    return params.grid_levels - (params.side != "neutral")


def _sides(params: GridParams) -> tuple[Direction, ...]:
    return tuple(Direction) if params.side == "neutral" else (Direction(params.side),)


def _ladder_feature(params: GridParams, side: Direction) -> Feature:
    threshold = float(params.rebalance_threshold)
    shift = threshold if side is Direction.LONG else 1.0 - threshold
    name = f"{params.spacing}_rung"
    return Feature(name, (float(params.lower_price), float(params.upper_price), params.grid_levels, shift))


def _edges(params: GridParams) -> tuple[_Edge | None, _Edge | None]:
    """Return the prices below and above which a grid ends, each with the reason, where there are any."""
    stop, target = params.stop_loss_pct, params.take_profit_pct
    down, up = (target, stop) if params.side == "short" else (stop, target)
    if params.side == "neutral":
        up = stop
    loss, profit = CloseReason.STOP_LOSS, CloseReason.TAKE_PROFIT
    below = (params.lower_price * (1 - down), profit if params.side == "short" else loss)
    above = (params.upper_price * (1 + up), profit if params.side == "long" else loss)
    return below if down and below[0] > 0 else None, above if up else None
