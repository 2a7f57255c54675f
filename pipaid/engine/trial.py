"""One strategy's own session over recorded candles, with the matching and the ledger of paper trading.

What happens at one candle is the same code whether all are played or only those on which something can happen: its
first price, its range, its close.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
from attrs import define, field

from pipaid.engine.alarms import Touch
from pipaid.engine.asking import NOTHING, begun
from pipaid.engine.assembly import Memory, Surroundings, assemble
from pipaid.engine.book import Book
from pipaid.engine.definition import check_definition
from pipaid.engine.effects import Effects
from pipaid.engine.matching import MatchingBook, Report
from pipaid.engine.outcome import Outcome
from pipaid.engine.plan import Plan, moments, strategy_of, tracks_of
from pipaid.engine.played import NEVER_MS, PlayedQuotes, Track
from pipaid.engine.recorded import answer_again
from pipaid.engine.rings import is_settled
from pipaid.engine.risk import Approved
from pipaid.engine.session import Session
from pipaid.engine.view import SymbolView
from pipaid.errors import BacktestFailed
from pipaid.model.candle import Candle
from pipaid.model.consult import Answer
from pipaid.model.moment import iso_seconds
from pipaid.model.money import ZERO
from pipaid.model.order import Execution, OrderFact, market_step
from pipaid.signals.series import EVERY

# How often somebody is told how far it is, in candles that were played or leapt over.
TOLD_EVERY: Final = 20_000
TOLD_SHARE: Final = 0.002
_Outcomes = tuple[tuple[str, OrderFact, str], ...]


@define(eq=False)
class Trial:
    """One strategy on one account of its own; what it decides is carried out at once.

    `_moved` tells whether anything was decided since it was last looked for what stops the leaping.
    """

    plan: Plan
    on_progress: Callable[[float], object]
    tracks: dict[str, Track] = field(init=False)
    quotes: PlayedQuotes = field(init=False)
    session: Session = field(init=False)
    matching: MatchingBook = field(init=False)
    outcome: Outcome = field(init=False)
    _facts: deque[Report | _Outcomes | Answer] = field(factory=deque[Any])
    _rates: deque[tuple[int, str, Decimal]] = field(init=False)
    _stirred: set[str] = field(factory=set[str])
    _moved: bool = True
    _step_ms: int = field(init=False)
    _started: bool = False
    _told: float = 0.0

    def __attrs_post_init__(self) -> None:
        plan = self.plan
        definition = plan.definition
        check_definition(definition, plan.template, plan.instruments, with_trades=bool(plan.trades))
        self.tracks = tracks_of(plan)
        self._step_ms = next(iter(self.tracks.values())).candles.timeframe.ms
        self.quotes = PlayedQuotes(now_ms=plan.begin_ms, step=market_step(plan.begin_ms, 2), prices_of=self.tracks)
        for track in self.tracks.values():
            track.stand(track.begin - 1)
        strategy = strategy_of(plan)
        book = Book()
        around = Surroundings(
            instruments=plan.instruments,
            series={symbol: track.series for symbol, track in self.tracks.items()},
            quotes=self.quotes,
            book=book,
            tariffs=plan.tariffs,
        )
        self.session = assemble(strategy, plan.template, Memory(), around)
        self.session.tells = False
        self.matching = MatchingBook(plan.instruments, plan.fees.terms(ZERO))
        self.outcome = Outcome(plan.definition, self.tracks, plan.fees, book.refusals, plan.instruments)
        due = ((time_ms, symbol, rate) for symbol, rates in plan.funding.items() for time_ms, rate in rates)
        self._rates = deque(sorted(each for each in due if plan.begin_ms <= each[0] < plan.end_ms))

    # The two ways.

    def start(self) -> None:
        """Deploy the strategy if there is a price yet; otherwise that follows the first close."""
        if not self._started and any(track.price > ZERO for track in self.tracks.values()):
            self._started = True
            session, now_ms = self.session, self.quotes.now_ms
            run = session.strategy.run
            assert run is not None, "a trial is one run"
            run = msgspec.structs.replace(run, started_at_ms=now_ms)
            session.strategy = msgspec.structs.replace(session.strategy, run=run)
            self._carry(self._ask(session.on_start))
            self._settle()

    def walk(self) -> None:
        """Play every candle, and ask the template at each close of its own."""
        if len(self.tracks) > 1:
            self._play_all(moments(self.tracks.values()))
            return
        (track,) = self.tracks.values()
        self._stirred.add(track.symbol)
        place = track.begin
        while place < track.end:
            stop = place if self.session.scheduled else self._stop_after(track, place - 1)
            place = self._ask_quietly(track, place, stop)
            if place < track.end:
                self.play(track.candles.time_ms.item(place), [(track, place)], ask_all=True)
                place += 1
            self._tell(self.quotes.now_ms)

    def leap(self) -> None:
        """Play only the candles on which something can happen, in the order of time."""
        if len(self.tracks) > 1:
            self._play_all(None)
            return
        (track,) = self.tracks.values()
        self._stirred.add(track.symbol)
        stop = -1
        while True:
            place = track.reached
            if self._moved or stop <= place:
                self._moved = False
                stop = self._stop_after(track, place)
            nearest = stop
            if stop > place + 1:
                nearest = min(stop, track.next_holding(self.session.interest(track.symbol), place))
            if nearest >= track.end:
                return
            track.stand(nearest - 1)
            time_ms = track.opens_at(nearest)
            if nearest < stop:
                self._pass_by(time_ms, [(track, nearest)], ask_all=False)
            else:
                self.play(time_ms, [(track, nearest)], ask_all=False)
            self._tell(time_ms)

    def _play_all(self, every: Iterator[int] | None) -> None:
        """Play the candles of all symbols in the order of time: at given moments, or where something can happen."""
        tracks = self.tracks
        # When something can happen next on each symbol, and when that is more than a question at a close.
        nearest: dict[str, int] = {}
        stops: dict[str, int] = {}
        self._stirred.update(tracks)
        while True:
            for symbol in self._stirred:
                stops[symbol], nearest[symbol] = self._next_moments(tracks[symbol], ask_all=every is not None)
            self._stirred.clear()
            stops_ms = min(*stops.values(), self._due_from())
            time_ms = min(*nearest.values(), stops_ms) if every is None else next(every, NEVER_MS)
            if time_ms >= NEVER_MS:
                return
            present: list[tuple[Track, int]] = []
            for track in tracks.values():
                place = track.first_from(time_ms)
                if track.reached != place - 1:
                    track.stand(place - 1)
                if place < track.end and track.candles.time_ms.item(place) == time_ms:
                    present.append((track, place))
            self._stirred.update(symbol for symbol, moment in nearest.items() if moment <= time_ms)
            if time_ms < stops_ms:
                self._pass_by(time_ms, present, ask_all=every is not None)
            else:
                self.play(time_ms, present, ask_all=every is not None)
            self._tell(time_ms)

    def _next_moments(self, track: Track, *, ask_all: bool) -> tuple[int, int]:
        """Return when the next candle opens that can move anything, and the next one on which anything can happen."""
        place = track.reached
        stop = nearest = self._next_stop(track, place)
        if stop > place + 1 and not ask_all:
            nearest = min(stop, track.next_holding(self.session.interest(track.symbol), place))
        return track.opens_at(stop), track.opens_at(nearest)

    def _stop_after(self, track: Track, place: int) -> int:
        """Return the place of the only track's next candle that can move anything, or the end."""
        stop, due_ms = self._next_stop(track, place), self._due_from()
        return stop if due_ms == NEVER_MS else min(stop, track.first_from(due_ms))

    def _next_stop(self, track: Track, place: int) -> int:
        """Return the place of the next candle that touches a level or fills what waits, or the end."""
        symbol = track.symbol
        if not self._started or self.matching.waits(symbol) or self._leaves(symbol):
            return min(place + 1, track.end)
        return track.next_touching(*self._bounds(symbol), place)

    def _bounds(self, symbol: str) -> tuple[Decimal, Decimal]:
        """Return the prices between which nothing of a symbol is touched, neither an order nor an alarm."""
        below, above = self.matching.bounds(symbol)
        alarm = self.session.alarm(symbol)
        if alarm is not None:
            below = below if alarm.below is None else max(below, alarm.below)
            above = above if alarm.above is None else min(above, alarm.above)
        return below, above

    def _leaves(self, symbol: str) -> bool:
        """Tell whether an exit of a symbol waits for something."""
        exits, positions = self.session.brain.exits, self.session.positions
        return bool(exits) and any(key in positions and positions[key].symbol == symbol for key in exits)

    def _due_from(self) -> int:
        """Return when the first candle opens at which what is held is funded, or at which the session's time comes."""
        due_ms = NEVER_MS
        if self._rates and self.session.positions:
            due_ms = self._rates[0][0]
        call = self.session.call
        if call is not None:
            due_ms = min(due_ms, call.due_ms - self._step_ms)
        if due_ms == NEVER_MS:
            return NEVER_MS
        return min(track.opens_at(max(track.reached + 1, track.first_from(due_ms))) for track in self.tracks.values())

    def _ring(self) -> list[Effects | None]:
        """Have the session decide if its time has come."""
        call = self.session.call
        if call is None or call.due_ms > self.quotes.now_ms or not self._started:
            return []
        closed_ms = {symbol: track.closed_ms for symbol, track in self.tracks.items()}
        return [self._ask(self.session.on_due)] if is_settled(call, self.quotes.now_ms, closed_ms) else []

    def _ask_quietly(self, track: Track, place: int, until: int) -> int:
        """Ask the template at each close of candles that touch nothing; return where the market matters again."""
        session, quotes, symbol = self.session, self.quotes, track.symbol
        series, closes, step_ms = track.series, track.closes, track.candles.timeframe.ms
        opens, on_candle, view = track.candles.time_ms, session.template.on_candle, SymbolView(session, symbol)
        # However long a callback takes, who looks on sees that it goes on.
        told_every = max(1, min(TOLD_EVERY, int((track.end - track.begin) * TOLD_SHARE)))
        while place < until:
            last = min(place + told_every, until)
            while place < last:
                own = closes[place]
                track.reached = place
                place += 1
                if own == series.index:
                    continue
                series.index = own
                quotes.now_ms = opens.item(track.reached) + step_ms
                quotes.step = market_step(quotes.now_ms, 2)
                try:
                    wishes = begun(on_candle(view))
                except Exception as trouble:
                    raise self._failed(trouble) from trouble
                if wishes is not NOTHING:
                    self._carry(self._ask(session.on_candle, symbol, wishes))
                    self._settle()
                    return place
            self._tell(quotes.now_ms)
        return until

    # One candle.

    def play(self, time_ms: int, present: Sequence[tuple[Track, int]], *, ask_all: bool) -> None:
        """Play the candles that open at a moment; on those of symbols that nothing stirs only the price goes on."""
        quotes, matching = self.quotes, self.matching
        self._fund(time_ms)
        if self.plan.fees.moves:
            matching.terms = self.plan.fees.terms(self.outcome.volume(time_ms))
        met = self._met(present)
        for track, place in present:
            track.enter(place)
        quotes.now_ms, quotes.step = time_ms, market_step(time_ms, 0)
        self._facts.extend(matching.opened({candle.symbol: candle.open for candle in met.values()}, time_ms))
        self._touch((candle.symbol, candle.open, candle.open) for candle in met.values())
        if len(self._stirred) > len(met):
            # What was decided at the first prices may rest on symbols that nothing had touched.
            met = self._met(present)
        quotes.step = market_step(time_ms, 1)
        self._facts.extend(matching.ranged(met.values(), time_ms))
        self._touch((candle.symbol, candle.low, candle.high) for candle in met.values())
        self._close(time_ms + self._step_ms, [track for track, _ in present], ask_all=ask_all)

    def _pass_by(self, time_ms: int, present: Sequence[tuple[Track, int]], *, ask_all: bool) -> None:
        """Play candles that touch nothing: only their close can matter."""
        for track, place in present:
            track.enter(place)
        self._close(time_ms + self._step_ms, [track for track, _ in present], ask_all=ask_all)

    def _met(self, present: Iterable[tuple[Track, int]]) -> dict[str, Candle]:
        """Return the candles that something may meet, and tell their book where the price was before."""
        met: dict[str, Candle] = {}
        for track, place in present:
            if track.symbol in self._stirred:
                self.matching.note_last(track.symbol, track.price)
                met[track.symbol] = track.candles.candle(place)
        return met

    def _close(self, now_ms: int, present: Iterable[Track], *, ask_all: bool) -> None:
        quotes = self.quotes
        quotes.now_ms, quotes.step = now_ms, market_step(now_ms, 2)
        # All prices are known before anybody is asked.
        grown = [track for track in present if track.close()]
        if not self._started:
            self.start()
            return
        ask_all = ask_all and not self.session.scheduled
        asked = [track.symbol for track in grown if ask_all or self._is_due(track)]
        self._tell_batches(grown)
        for effects in [*[self._decide(symbol) for symbol in sorted(asked)], *self._ring()]:
            self._carry(effects)
        self._settle()

    def _decide(self, symbol: str) -> Effects | None:
        """Ask the template at a close, and have the session decide if there is anything to decide."""
        session = self.session
        if session.brain.exits:
            return self._ask(session.on_candle, symbol)
        try:
            wishes = begun(session.template.on_candle(SymbolView(session, symbol)))
        except Exception as trouble:
            raise self._failed(trouble) from trouble
        return None if wishes is NOTHING else self._ask(session.on_candle, symbol, wishes)

    def _tell_batches(self, grown: Sequence[Track]) -> None:
        """Ask about the market trades of the candles that have just closed, where any were recorded."""

    def _is_due(self, track: Track) -> bool:
        """Tell whether the template wants to be asked at the close of a track's last candle."""
        wanted = self.session.interest(track.symbol) if track.symbol in self._stirred else ()
        return any(condition is EVERY or track.series.holds(condition) for condition in wanted)

    def _fund(self, time_ms: int) -> None:
        """Settle what fell due up to a moment, at the last price before it."""
        while self._rates and self._rates[0][0] <= time_ms:
            at_ms, symbol, rate = self._rates.popleft()
            mark = self.tracks[symbol].mark_at(at_ms)
            if mark is not None:
                self._stirred.add(symbol)
                self.quotes.now_ms = max(self.quotes.now_ms, at_ms)
                self._facts.extend(self.matching.funding(symbol, rate, mark, at_ms))
                self._settle()

    def _touch(self, ranges: Iterable[tuple[str, Decimal, Decimal]]) -> None:
        """Ask about alarms that prices touched, and what is due, before what they filled is booked: as a feed does."""
        decided: list[Effects | None] = []
        step = self.quotes.step
        for symbol, low, high in sorted(ranges) if self.session.brain.alarms else ():
            alarm = self.session.alarm(symbol)
            if alarm is not None:
                touch = Touch(symbol, step, low, high)
                if alarm.met(touch) is not None:
                    decided.append(self._ask(self.session.on_price, touch))
        for effects in [*decided, *self._ring()]:
            self._carry(effects)
        self._settle()

    # What was decided.

    def _ask(self, fact: Callable[..., Effects | None], *args: object) -> Effects | None:
        try:
            return fact(*args)
        except BacktestFailed:
            raise
        except Exception as trouble:
            raise self._failed(trouble) from trouble

    def _failed(self, trouble: Exception) -> BacktestFailed:
        places = ", ".join(
            f"candle {track.reached} of {track.symbol}" for track in self.tracks.values() if track.reached >= 0
        )
        return BacktestFailed(
            f"{self.plan.template.__name__} failed at {iso_seconds(self.quotes.now_ms)} ({places}): "
            f"{type(trouble).__name__}: {trouble}"
        )

    def _carry(self, effects: Effects | None) -> None:
        if effects is None:
            return
        self._moved = True
        self.outcome.note(effects, self.quotes.now_ms)
        changed, stirred = self.session.interest_changed, self._stirred
        if changed:
            stirred.update(changed)
            changed.clear()
        for order in effects.orders.values():
            stirred.add(order.symbol)
        matching, now_ms = self.matching, self.quotes.now_ms
        for order in effects.cancel:
            self._facts.extend(matching.cancel(order.client_order_id, now_ms))
        self._facts.extend(
            answer_again(self.plan.answers, each, self.session.book.refusals) for each in effects.questions
        )
        if not effects.place:
            return
        news: list[tuple[str, OrderFact, str]] = []
        for approved in sorted(effects.place, key=_entering):
            order = approved.order
            refusal = matching.place(order)
            fact, said = (OrderFact.ACK, "") if refusal is None else (OrderFact.REFUSE, refusal)
            news.append((order.client_order_id, fact, said))
        self._facts.append(tuple(news))

    def _settle(self) -> None:
        """Book what the venue reports, and carry out what follows, until nothing follows any more."""
        facts, session = self._facts, self.session
        while facts:
            fact = facts.popleft()
            if isinstance(fact, tuple):
                self._carry(self._ask(session.on_outcomes, fact))
            elif isinstance(fact, Answer):
                self._carry(self._ask(session.on_answer, fact))
            elif isinstance(fact, Execution):
                if fact.client_order_id in session.orders or fact.fill is not None:
                    self._carry(self._ask(session.on_execution, fact))
            else:
                self.outcome.funding.append(fact)
                self._carry(self._ask(session.on_funding, fact))

    def tell_end(self) -> None:
        """Tell that all is done, unless that was told already."""
        if self._told < 1.0:
            self.on_progress(1.0)

    def _tell(self, time_ms: int) -> None:
        share = (time_ms - self.plan.begin_ms) / (self.plan.end_ms - self.plan.begin_ms)
        if share - self._told >= TOLD_SHARE:
            self._told = min(1.0, share)
            self.on_progress(self._told)


def _entering(approved: Approved) -> bool:
    return not approved.order.reduce_only
