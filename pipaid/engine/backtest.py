"""A backtest: one strategy's own session over recorded candles, with the matching and the ledger of paper trading.

Three ways of playing the same candles come to the same fills: every candle and every question (`callback`), only the
candles on which something can happen (`skipping`), and a replay through a whole daemon, of which nothing is here. What
happens at one candle is the same code for both ways here: its first price, its range, its close.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import chain
from operator import itemgetter
from types import GeneratorType
from typing import Any, Final, Literal, cast

from attrs import define, field, frozen

from pipaid.engine.alarms import Touch
from pipaid.engine.assembly import Memory, Surroundings, assemble
from pipaid.engine.book import Book
from pipaid.engine.definition import check_definition
from pipaid.engine.effects import Effects
from pipaid.engine.fees import Fees
from pipaid.engine.matching import MatchingBook, Report
from pipaid.engine.outcome import Outcome
from pipaid.engine.played import PlayedQuotes, Track
from pipaid.engine.risk import Approved
from pipaid.engine.session import Session
from pipaid.engine.template import Template
from pipaid.engine.view import SymbolView
from pipaid.errors import BacktestFailed, InvalidParameter
from pipaid.model.backtest import BacktestResult
from pipaid.model.columns import Candles
from pipaid.model.ident import derived_id
from pipaid.model.instrument import Instrument
from pipaid.model.moment import iso_seconds
from pipaid.model.money import ZERO, plain
from pipaid.model.order import Execution, OrderFact, market_step
from pipaid.model.strategy import Run, Status, Strategy, StrategyDefinition
from pipaid.signals.series import EVERY

Driver = Literal["auto", "callback", "skipping"]
DRIVERS: Final[tuple[Driver, ...]] = ("auto", "callback", "skipping")
YEARS_MAX: Final = 5
SPAN_MS_MAX: Final = (365 * YEARS_MAX + 2) * 86_400_000
# How often somebody is told how far it is, in candles that were played or leapt over.
TOLD_EVERY: Final = 20_000
ACCOUNT: Final = "acct_backtest"
TOLD_SHARE: Final = 0.002
NOTHING: Final = object()
_Outcomes = tuple[tuple[str, OrderFact, str], ...]


@frozen(kw_only=True)
class Plan:
    """What to backtest, and on what: candles of every symbol, of the strategy's timeframe or of a smaller one.

    Candles that open from `begin_ms` on and before `end_ms` are played; those before are history. `funding` holds the
    rates of a symbol with the moments at which they fell due.
    """

    definition: StrategyDefinition
    template: type[Template]
    candles: Mapping[str, Candles]
    instruments: Mapping[str, Instrument]
    begin_ms: int
    end_ms: int
    fees: Fees = field(factory=Fees)
    funding: Mapping[str, Sequence[tuple[int, Decimal]]] = field(factory=dict[str, Any])


def run(
    plan: Plan, *, driver: Driver = "auto", on_progress: Callable[[float], object] = lambda _: None
) -> BacktestResult:
    """Play a plan to its end; `on_progress` is told now and then which share of it is done.

    Raise InvalidParameter for what cannot be played, BacktestFailed where the template fails.
    """
    trial = Trial(plan, on_progress)
    skips = not trial.session.wakes.every if driver == "auto" else driver == "skipping"
    trial.start()
    if skips:
        trial.leap()
    else:
        trial.walk()
    trial.tell_end()
    return trial.outcome.result(_config(plan, "skipping" if skips else "callback"))


@define(eq=False)
class Trial:
    """One strategy on one account of its own; what it decides is carried out at once."""

    plan: Plan
    on_progress: Callable[[float], object]
    tracks: dict[str, Track] = field(init=False)
    quotes: PlayedQuotes = field(init=False)
    session: Session = field(init=False)
    matching: MatchingBook = field(init=False)
    outcome: Outcome = field(init=False)
    _facts: deque[Report | _Outcomes] = field(factory=deque[Any])
    _rates: deque[tuple[int, str, Decimal]] = field(init=False)
    _started: bool = False
    _told: float = 0.0

    def __attrs_post_init__(self) -> None:
        plan = self.plan
        definition = plan.definition
        check_definition(definition, plan.template, plan.instruments)
        self.tracks = {symbol: self._track(symbol) for symbol in definition.symbols}
        self.quotes = PlayedQuotes(now_ms=plan.begin_ms, step=market_step(plan.begin_ms, 2), tracks=self.tracks)
        for track in self.tracks.values():
            track.stand(track.begin - 1)
        strategy = _strategy(definition, plan)
        book = Book()
        around = Surroundings(
            instruments=plan.instruments,
            series={symbol: track.series for symbol, track in self.tracks.items()},
            quotes=self.quotes,
            book=book,
        )
        self.session = assemble(strategy, plan.template, Memory(), around)
        self.session.tells = False
        self.matching = MatchingBook(plan.instruments, plan.fees.terms(ZERO))
        self.outcome = Outcome(plan.definition, self.tracks, plan.fees, book.refusals)
        due = ((time_ms, symbol, rate) for symbol, rates in plan.funding.items() for time_ms, rate in rates)
        self._rates = deque(sorted(each for each in due if plan.begin_ms <= each[0] < plan.end_ms))

    def _track(self, symbol: str) -> Track:
        plan, candles = self.plan, self.plan.candles.get(symbol)
        if candles is None:
            raise InvalidParameter(f"{symbol}: there are no candles of it; have {', '.join(sorted(plan.candles))}")
        track = Track.of(candles, plan.definition.timeframe, plan.begin_ms, plan.end_ms)
        if track.begin == track.end:
            there = (
                f"from {iso_seconds(int(candles.time_ms[0]))} to {iso_seconds(int(candles.time_ms[-1]))}"
                if len(candles)
                else "empty"
            )
            raise InvalidParameter(
                f"{symbol}: no candle lies between {iso_seconds(plan.begin_ms)} and {iso_seconds(plan.end_ms)}; "
                f"what there is reaches {there}"
            )
        return track

    # The two ways.

    def start(self) -> None:
        """Deploy the strategy if there is a price yet; otherwise that follows the first close."""
        if not self._started and any(track.price > ZERO for track in self.tracks.values()):
            self._started = True
            self._carry(self._ask(self.session.on_start))
            self._settle()

    def walk(self) -> None:
        """Play every candle, and ask the template at each close of its own."""
        if len(self.tracks) > 1:
            for time_ms in moments(self.tracks.values()):
                self.play(time_ms, self._due(time_ms), ask_all=True)
                self._tell(time_ms)
            return
        (track,) = self.tracks.values()
        place = track.begin
        while place < track.end:
            place = self._ask_quietly(track, place, self._next_stop(track, place - 1))
            if place < track.end:
                self.play(int(track.candles.time_ms[place]), [(track, place)], ask_all=True)
                place += 1
            self._tell(self.quotes.now_ms)

    def leap(self) -> None:
        """Play only the candles on which something can happen, in the order of time."""
        while True:
            nearest = [
                (int(track.candles.time_ms[place]), track, place)
                for track in self.tracks.values()
                if (place := self._next_event(track)) < track.end
            ]
            if not nearest:
                break
            time_ms, track, place = min(nearest, key=itemgetter(0))
            if len(self.tracks) > 1:
                for each in self.tracks.values():
                    each.stand(each.before(time_ms))
                self.play(time_ms, self._due(time_ms), ask_all=False)
            else:
                track.stand(place - 1)
                self.play(time_ms, [(track, place)], ask_all=False)
            self._tell(time_ms)

    def _due(self, time_ms: int) -> list[tuple[Track, int]]:
        """Return the tracks that have a candle which opens at a moment, each with its place."""
        return [(track, place) for track in self.tracks.values() if (place := track.at(time_ms)) >= 0]

    def _next_event(self, track: Track) -> int:
        """Return the place of the next candle on which something can happen, or the end."""
        place = track.reached
        nearest = self._next_stop(track, place)
        if nearest > place + 1:
            for condition in self.session.interest(track.symbol):
                nearest = min(nearest, track.next_holding(condition, place))
        return nearest

    def _next_stop(self, track: Track, place: int) -> int:
        """Return the place of the next candle that touches a level, fills what waits, or meets funding; or the end."""
        symbol, matching, session = track.symbol, self.matching, self.session
        if not self._started or matching.waits(symbol) or session.brain.exits:
            return min(place + 1, track.end)
        below, above = matching.bounds(symbol)
        alarm = session.alarm(symbol)
        if alarm is not None:
            below = below if alarm.below is None else max(below, alarm.below)
            above = above if alarm.above is None else min(above, alarm.above)
        found = track.next_touching(below, above, place)
        if self._rates and session.positions:
            found = min(found, max(place + 1, track.before(self._rates[0][0]) + 1))
        return found

    def _ask_quietly(self, track: Track, place: int, until: int) -> int:
        """Ask the template at each close of candles that touch nothing; return where the market matters again."""
        session, quotes, symbol = self.session, self.quotes, track.symbol
        series, closes, step_ms = track.series, track.closes, track.candles.timeframe.ms
        opens, on_candle, view = track.candles.time_ms, session.template.on_candle, SymbolView(session, symbol)
        while place < until:
            last = min(place + TOLD_EVERY, until)
            while place < last:
                own = closes.item(place)
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

    def play(self, time_ms: int, due: Sequence[tuple[Track, int]], *, ask_all: bool) -> None:
        """Play the candles that open at a moment."""
        quotes, matching = self.quotes, self.matching
        self._fund(time_ms)
        if self.plan.fees.moves:
            matching.terms = self.plan.fees.terms(self.outcome.volume(time_ms))
        for track, _ in due:
            matching.note_last(track.symbol, track.price)
        candles = tuple(track.reach(place) for track, place in due)
        quotes.now_ms, quotes.step = time_ms, market_step(time_ms, 0)
        self._facts.extend(matching.opened({candle.symbol: candle.open for candle in candles}, time_ms))
        self._touch((candle.symbol, candle.open, candle.open) for candle in candles)
        quotes.step = market_step(time_ms, 1)
        self._facts.extend(matching.ranged(candles, time_ms))
        self._touch((candle.symbol, candle.low, candle.high) for candle in candles)
        self._close(candles[0].close_time_ms, [track for track, _ in due], ask_all=ask_all)

    def _close(self, now_ms: int, due: Iterable[Track], *, ask_all: bool) -> None:
        quotes, session = self.quotes, self.session
        quotes.now_ms, quotes.step = now_ms, market_step(now_ms, 2)
        # All prices are known before anybody is asked.
        grown = [track for track in due if track.close()]
        if not self._started:
            self.start()
            return
        asked: list[str] = []
        for track in grown:
            conditions = (EVERY,) if ask_all else session.interest(track.symbol)
            if any(track.holds(condition) for condition in conditions):
                asked.append(track.symbol)
        for effects in [self._ask(session.on_candle, symbol) for symbol in sorted(asked)]:
            self._carry(effects)
        self._settle()

    def _fund(self, time_ms: int) -> None:
        """Settle what fell due up to a moment, at the last price before it."""
        while self._rates and self._rates[0][0] <= time_ms:
            at_ms, symbol, rate = self._rates.popleft()
            mark = self.tracks[symbol].mark_at(at_ms)
            if mark is not None:
                self.quotes.now_ms = max(self.quotes.now_ms, at_ms)
                self._facts.extend(self.matching.funding(symbol, rate, mark, at_ms))
                self._settle()

    def _touch(self, ranges: Iterable[tuple[str, Decimal, Decimal]]) -> None:
        """Ask about the alarms that prices touched, before what they filled is booked: so it is with a feed."""
        if not self.session.brain.alarms:
            self._settle()
            return
        decided: list[Effects | None] = []
        step = self.quotes.step
        for symbol, low, high in sorted(ranges):
            alarm = self.session.alarm(symbol)
            if alarm is not None:
                touch = Touch(symbol, step, low, high)
                if alarm.met(touch) is not None:
                    decided.append(self._ask(self.session.on_price, touch))
        for effects in decided:
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
        self.outcome.note(effects, self.quotes.now_ms)
        self.session.interest_changed.clear()
        matching, now_ms = self.matching, self.quotes.now_ms
        for order in effects.cancel:
            self._facts.extend(matching.cancel(order.client_order_id, now_ms))
        news: list[tuple[str, OrderFact, str]] = []
        for approved in sorted(effects.place, key=_entering):
            order = approved.order
            refusal = matching.place(order)
            fact, said = (OrderFact.ACK, "") if refusal is None else (OrderFact.REFUSE, refusal)
            news.append((order.client_order_id, fact, said))
        if news:
            self._facts.append(tuple(news))

    def _settle(self) -> None:
        """Book what the venue reports, and carry out what follows, until nothing follows any more."""
        facts, session = self._facts, self.session
        while facts:
            fact = facts.popleft()
            if isinstance(fact, tuple):
                self._carry(self._ask(session.on_outcomes, fact))
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


def moments(tracks: Iterable[Track]) -> Iterator[int]:
    """Yield each moment at which a candle of any track opens, in order."""
    last = -1
    for time_ms in heapq.merge(*(map(int, track.candles.time_ms[track.begin : track.end]) for track in tracks)):
        if time_ms != last:
            last = time_ms
            yield time_ms


def begun(wishes: Any) -> Any:
    """Return what a callback wishes, or NOTHING if that is known to be nothing: a generator is asked for its first."""
    if isinstance(wishes, GeneratorType):
        generator = cast("GeneratorType[Any, None, None]", wishes)
        first = next(generator, NOTHING)
        return NOTHING if first is NOTHING else chain((first,), generator)
    # Anything else that is empty is nonsense, and the session says so.
    return NOTHING if type(wishes) in (tuple, list) and not wishes else wishes


def _config(plan: Plan, driver: str) -> dict[str, Any]:
    """Return the resolved configuration, as a result tells it."""
    definition, fees = plan.definition, plan.fees
    return {
        "template_id": plan.template.id,
        "template_version": plan.template.version,
        "params": definition.params,
        "symbols": list(definition.symbols),
        "timeframe": definition.timeframe.value,
        "capital": plain(definition.capital),
        "leverage": definition.leverage,
        "fee_model": fees.model,
        "fee_bps": plain(fees.fee_bps),
        "slippage_bps": plain(fees.slippage_bps),
        "driver": driver,
    }


def _entering(approved: Approved) -> bool:
    return not approved.order.reduce_only


def _strategy(definition: StrategyDefinition, plan: Plan) -> Strategy:
    run_ = Run(
        id=derived_id("run", definition.name, plan.begin_ms),
        dry_run=True,
        capital=definition.capital,
        leverage=definition.leverage,
        started_at_ms=plan.begin_ms,
    )
    return Strategy(
        id=derived_id("strat", definition.name),
        number=1,
        account=ACCOUNT,
        definition=definition,
        status=Status.DEPLOYED,
        created_at_us=plan.begin_ms * 1000,
        updated_at_us=plan.begin_ms * 1000,
        deployed_at_ms=plan.begin_ms,
        run=run_,
    )
