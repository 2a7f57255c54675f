"""A backtest over recorded market trades: orders and alarms meet each of them, and candles only close.

Each market trade does what it does with a feed: it is held against the orders, then against the alarms, then the
template is told of it, if it has a callback for that. Those that touch nothing are told without more, or leapt over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from itertools import pairwise, repeat
from typing import Any, Final

import numpy as np
from attrs import define, field

from pipaid.engine.asking import NOTHING, begun
from pipaid.engine.played import NEVER_MS, Track, units
from pipaid.engine.rings import SETTLE_MS
from pipaid.engine.template import hears
from pipaid.engine.trial import Trial
from pipaid.engine.view import SymbolView
from pipaid.errors import BacktestFailed, InvalidParameter
from pipaid.model.candle import MarketTrade
from pipaid.model.columns import Integers
from pipaid.model.moment import iso_seconds
from pipaid.model.order import market_step
from pipaid.model.trades import Trades, exact

# So many market trades of a symbol are looked at in one go.
WINDOW: Final = 4_096
EXACT_MAX: Final = 65_536


class Exact(dict[int, Decimal]):
    """Decimals by how many units of a step they are: prices come again and again."""

    def __init__(self, decimals: int) -> None:
        super().__init__()
        self._decimals = decimals

    def __missing__(self, units: int) -> Decimal:
        """Make one that was not asked for yet."""
        if len(self) >= EXACT_MAX:
            self.clear()
        made = self[units] = exact(units, self._decimals)
        return made


@define(eq=False)
class Tape:
    """The market trades of one symbol, and how many of them have been played: all before `at`."""

    symbol: str
    trades: Trades
    track: Track
    at: int
    end: int
    prices: Exact = field(init=False)
    quantities: Exact = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.prices, self.quantities = Exact(self.trades.price_decimals), Exact(self.trades.quantity_decimals)

    @property
    def price(self) -> Decimal:
        """Return the last price, that of the last candle of the past before any market trade; zero if none is known."""
        return self.prices[self.trades.price_units.item(self.at - 1)] if self.at else self.track.price

    def made(self, first: int, end: int) -> Iterator[MarketTrade]:
        """Make market trades of some rows, as fast as that goes."""
        trades = self.trades
        return map(
            MarketTrade,
            repeat(self.symbol),
            trades.time_ms[first:end].tolist(),
            map(self.prices.__getitem__, trades.price_units[first:end].tolist()),
            map(self.quantities.__getitem__, trades.quantity_units[first:end].tolist()),
            trades.buyer_is_maker[first:end].tolist(),
        )


@define(eq=False)
class Window:
    """Some market trades that come next, in the order of time: whose each is, and when it was."""

    tapes: Sequence[Tape]
    time_ms: Integers
    whose: Integers
    _begun: list[int] = field(init=False)
    _places: list[Integers] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._begun = [tape.at for tape in self.tapes]
        self._places = [np.flatnonzero(self.whose == number) for number in range(len(self.tapes))]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.time_ms)

    def row(self, number: int, place: int) -> int:
        """Return how many of one tape are over before a place in here."""
        return self._begun[number] + int(np.searchsorted(self._places[number], place))

    def first(self, number: int, low: int, high: int) -> int:
        """Return the place of the first of a tape that is at most so low or at least so high, or the end."""
        places, begun_ = self._places[number], self._begun[number]
        prices = self.tapes[number].trades.price_units[begun_ : begun_ + len(places)]
        met = np.flatnonzero((prices <= low) | (prices >= high))
        return int(places[met[0]]) if len(met) else len(self)

    def next_of(self, number: int) -> int:
        """Return the place of the first of a tape, or the end."""
        places = self._places[number]
        return int(places[0]) if len(places) else len(self)


@define(eq=False)
class TradedTrial(Trial):
    """A trial over market trades; `tapes` are in the order in which equal moments of several symbols are played."""

    tapes: dict[str, Tape] = field(init=False)
    _hears_each: bool = field(init=False)
    _hears_batches: bool = field(init=False)
    _stops_at_closes: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        missing = [symbol for symbol in self.tracks if symbol not in self.plan.trades]
        if missing:
            raise InvalidParameter(
                f"{missing[0]}: there are no market trades of it; have {', '.join(self.plan.trades)}"
            )
        self.tapes = {symbol: self._tape(self.tracks[symbol]) for symbol in sorted(self.tracks)}
        self.quotes.prices_of = self.tapes
        template = self.plan.template
        self._hears_each, self._hears_batches = hears(template, "on_trade"), hears(template, "on_trades")
        alone = len(self.tracks) == 1 and next(iter(self.tracks.values())).same
        self._stops_at_closes = self._hears_batches and (self._hears_each or not alone)

    def _tape(self, track: Track) -> Tape:
        trades, opens = self.plan.trades[track.symbol], track.candles.time_ms
        ends_ms = opens.item(track.end - 1) + self._step_ms
        first, end = (int(each) for each in np.searchsorted(trades.time_ms, (opens.item(track.begin), ends_ms)))
        return Tape(track.symbol, trades, track, first, end)

    # The two ways.

    def walk(self) -> None:
        """Play every market trade and every close."""
        self._play_closes(ask_all=True)

    def leap(self) -> None:
        """Play only the market trades and closes at which something can happen, or which are heard."""
        self._play_closes(ask_all=False)

    def _play_closes(self, *, ask_all: bool) -> None:
        tracks, nearest = self.tracks, dict[str, int]()
        self._stirred.update(tracks)
        while True:
            for symbol in self._stirred:
                nearest[symbol] = self._next_close(tracks[symbol], ask_all=ask_all)
            self._stirred.clear()
            opens_ms = min(*nearest.values(), self._due_from())
            if self._trades_until(opens_ms + self._step_ms):
                continue
            if opens_ms >= NEVER_MS:
                return
            present: list[Track] = []
            for track in tracks.values():
                place = track.first_from(opens_ms)
                if track.reached != place - 1:
                    track.stand(place - 1)
                if place < track.end and track.candles.time_ms.item(place) == opens_ms:
                    track.enter(place)
                    present.append(track)
            self._stirred.update(symbol for symbol, moment in nearest.items() if moment <= opens_ms)
            self._close(opens_ms + self._step_ms, present, ask_all=ask_all)
            self._tell(opens_ms)

    def _next_close(self, track: Track, *, ask_all: bool) -> int:
        """Return when the next candle opens at whose close something can happen."""
        place = track.reached + 1
        if not (ask_all or self._stops_at_closes or self._leaves(track.symbol)) and self._started:
            place = track.next_holding(self.session.interest(track.symbol), track.reached)
        return track.opens_at(place)

    # Market trades.

    def _trades_until(self, until_ms: int) -> bool:
        """Play market trades before a moment; tell whether something was decided, and so they were left early."""
        while window := self._window(until_ms):
            stop = min((self._first_met(window, number) for number in range(len(window.tapes))), default=len(window))
            if self._rates and self.session.positions:
                stop = min(stop, int(np.searchsorted(window.time_ms, self._rates[0][0])))
            call = self.session.call
            if call is not None:
                stop = min(stop, int(np.searchsorted(window.time_ms, call.due_ms + SETTLE_MS)))
            if self._hears_each and self._started and self._tell_each(window, stop):
                return True
            if self._tell_closed(window.time_ms.item(min(stop, len(window) - 1))):
                return True
            if stop < len(window):
                self._meet(window, stop)
                return True
            self._pass(window, stop)
            self._tell(window.time_ms.item(-1))
        return self._tell_closed(until_ms - 1)

    def _window(self, until_ms: int) -> Window | None:
        """Return the market trades that come next and before a moment, or nothing."""
        tapes, width = tuple(self.tapes.values()), WINDOW // len(self.tapes)
        while True:
            parts: list[Integers] = []
            whole_ms = until_ms
            for tape in tapes:
                times = tape.trades.time_ms[tape.at : min(tape.at + width, tape.end)]
                parts.append(times)
                if tape.at + width < tape.end and times[-1] < whole_ms and len(tapes) > 1:
                    # Of that moment there may be more.
                    whole_ms = times.item(-1)
            kept = [times[: np.searchsorted(times, whole_ms)] for times in parts]
            if any(map(len, kept)) or whole_ms == until_ms:
                break
            width *= 2
        if not any(map(len, kept)):
            return None
        if len(tapes) == 1:
            return Window(tapes, kept[0], np.zeros(len(kept[0]), dtype=np.int64))
        times, whose = np.concatenate(kept), np.repeat(np.arange(len(kept)), list(map(len, kept)))
        order = np.argsort(times, kind="stable")
        return Window(tapes, times[order], whose[order])

    def _first_met(self, window: Window, number: int) -> int:
        """Return the place of the first market trade of a tape that meets an order or an alarm, or the end."""
        tape = window.tapes[number]
        if self.matching.waits(tape.symbol):
            return window.next_of(number)
        below, above = self._bounds(tape.symbol)
        decimals = tape.trades.price_decimals
        return window.first(number, units(below, decimals, up=False), units(above, decimals, up=True))

    def _pass(self, window: Window, place: int) -> None:
        """Stand before a place of a window, as if all before had been played."""
        for number, tape in enumerate(window.tapes):
            tape.at = window.row(number, place)

    def _stand(self, time_ms: int) -> None:
        """Let the series of all symbols stand at the candles that had closed at a moment."""
        for track in self.tracks.values():
            place = track.first_from(time_ms - self._step_ms + 1) - 1
            if track.reached != place:
                track.stand(place)

    def _meet(self, window: Window, place: int) -> None:
        """Play one market trade: against orders and alarms, and to the template."""
        self._pass(window, place)
        tape, matching, quotes = window.tapes[int(window.whose[place])], self.matching, self.quotes
        trade = tape.trades.trade(tape.at)
        self._stand(trade.time_ms)
        self._fund(trade.time_ms)
        if self.plan.fees.moves:
            matching.terms = self.plan.fees.terms(self.outcome.volume(trade.time_ms))
        matching.note_last(tape.symbol, tape.price)
        tape.at += 1
        self._stirred.add(tape.symbol)
        quotes.now_ms, quotes.step = trade.time_ms, market_step(trade.time_ms, 2)
        self._facts.extend(matching.traded(trade))
        self._touch([(trade.symbol, trade.price, trade.price)])
        if self._hears_each and self._started:
            view = SymbolView(self.session, tape.symbol)
            self._take_wishes(tape.symbol, "on_trade", lambda: self.session.template.on_trade(view, trade))
        self._tell(trade.time_ms)

    def _tell_each(self, window: Window, stop: int) -> bool:
        """Tell the template of market trades before a place, one by one; tell whether it wished anything."""
        cuts = (np.diff(window.time_ms[:stop] // self._step_ms) != 0) | (np.diff(window.whose[:stop]) != 0)
        bounds = [0, *(np.flatnonzero(cuts) + 1).tolist(), stop]
        quotes, on_trade = self.quotes, self.session.template.on_trade
        for first, end in pairwise(bounds):
            if first == end:
                continue
            self._stand(window.time_ms.item(first))
            number = int(window.whose[first])
            tape = window.tapes[number]
            view, row = SymbolView(self.session, tape.symbol), window.row(number, first)
            times = window.time_ms[first:end].tolist()
            rows, prints = range(row + 1, row + 1 + len(times)), tape.made(row, row + len(times))
            for tape.at, quotes.now_ms, trade in zip(rows, times, prints, strict=True):
                try:
                    wishes = on_trade(view, trade)
                    if wishes is EMPTY or (wishes := begun(wishes)) is NOTHING:
                        continue
                except Exception as trouble:
                    raise self._failed(trouble) from trouble
                self._pass(window, first + tape.at - row)
                self._wish(tape.symbol, wishes, "on_trade")
                return True
        return False

    def _tell_closed(self, until_ms: int) -> bool:
        """Tell the template of the candles that close up to a moment, where nothing else happens at their close."""
        if not self._hears_batches or self._stops_at_closes or not self._started:
            return False
        ((symbol, tape),) = self.tapes.items()
        track, trades, on_trades = tape.track, tape.trades, self.session.template.on_trades
        first, step_ms = track.reached + 1, self._step_ms
        opens_ms = track.candles.time_ms
        last = int(np.searchsorted(opens_ms[: track.end], until_ms - step_ms, side="right"))
        closes_ms = opens_ms[first:last] + step_ms
        bounds = np.searchsorted(trades.time_ms, (closes_ms - step_ms, closes_ms)).tolist()
        view, series, quotes = SymbolView(self.session, symbol), track.series, self.quotes
        for place, quotes.now_ms, start, end in zip(
            range(first, max(first, last)), closes_ms.tolist(), *bounds, strict=True
        ):
            track.reached = series.index = place
            tape.at = end
            try:
                wishes = begun(on_trades(view, trades.part(start, end)))
            except Exception as trouble:
                raise self._failed(trouble) from trouble
            if wishes is not NOTHING:
                self._wish(symbol, wishes, "on_trades")
                return True
        return False

    def _tell_batches(self, grown: Sequence[Track]) -> None:
        if not self._hears_batches:
            return
        for track in sorted(grown, key=lambda each: each.symbol):
            own, tape, symbol = track.series.candles, self.tapes[track.symbol], track.symbol
            opened_ms = own.time_ms.item(track.series.index)
            bounds = np.searchsorted(tape.trades.time_ms, (opened_ms, opened_ms + own.timeframe.ms))
            batch = tape.trades.part(*(int(each) for each in bounds))
            view = SymbolView(self.session, symbol)
            self._take_wishes(symbol, "on_trades", lambda: self.session.template.on_trades(view, batch))  # noqa: B023

    def _take_wishes(self, symbol: str, callback: str, ask: Callable[[], Any]) -> None:
        try:
            wishes = begun(ask())
        except Exception as trouble:
            raise self._failed(trouble) from trouble
        if wishes is not NOTHING:
            self._wish(symbol, wishes, callback)

    def _wish(self, symbol: str, wishes: Any, callback: str) -> None:
        """Carry out what a template wishes at market trades."""
        self._stirred.add(symbol)
        self.quotes.step = market_step(self.quotes.now_ms, 2)
        self._carry(self._ask(self.session.on_trades, symbol, wishes, callback))
        self._settle()

    def _failed(self, trouble: Exception) -> BacktestFailed:
        places = ", ".join(f"market trade {tape.at - 1} of {tape.symbol}" for tape in self.tapes.values() if tape.at)
        return BacktestFailed(
            f"{self.plan.template.__name__} failed at {iso_seconds(self.quotes.now_ms)} ({places}): "
            f"{type(trouble).__name__}: {trouble}"
        )


# A callback that decides nothing mostly returns just this.
EMPTY: Final = ()
