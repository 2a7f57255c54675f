"""Things to test with: values with defaults, templates out of functions, a session between market and journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import wraps
from typing import Any

import msgspec
from attrs import define, field, frozen

from pipaid.engine.assembly import Memory, Surroundings, assemble, larger_timeframes
from pipaid.engine.book import Book, Caps
from pipaid.engine.effects import Brain, Effects, run_id
from pipaid.engine.quotes import Quotes
from pipaid.engine.session import Session
from pipaid.engine.template import Enter, Exit, Intent, NoState, Template, View, Wakes
from pipaid.model.candle import Candle, CandleBuilder
from pipaid.model.consult import Answer, Question, Tariff, Verdict
from pipaid.model.event import EventData, EventDraft, RiskBlocked
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.model.order import Execution, Fill, FundingPaid, Order, OrderFact, OrderType, Side, market_step
from pipaid.model.position import Direction, Position
from pipaid.model.record import Batch, Kind, Record
from pipaid.model.run import Evaluation
from pipaid.model.strategy import Run, Status, Strategy, StrategyDefinition
from pipaid.signals.series import Series

SYMBOL = "BTCUSDT"
OTHER = "ETHUSDT"
MINUTE_MS = 60_000
DAY_MS = 86_400_000
START_MS = 19_676 * DAY_MS
STRATEGY_ID = "strat_5e07c1d9"

Wished = Callable[..., Any]
Wish = Callable[[Position], Intent]


def make_instrument(symbol: str = SYMBOL, **fields: Any) -> Instrument:
    given: dict[str, Any] = {
        "symbol": symbol,
        "base": symbol[:3],
        "quote": "USDT",
        "tick_size": Decimal("0.1"),
        "lot_size": Decimal("0.001"),
    }
    return Instrument(**{**given, **fields})


def make_definition(**fields: Any) -> StrategyDefinition:
    given: dict[str, Any] = {
        "name": "a strategy",
        "template_id": "tpl_scripted",
        "params": {},
        "symbols": (SYMBOL,),
        "timeframe": Timeframe.M1,
        "capital": Decimal(1000),
        "leverage": 1,
    }
    return StrategyDefinition(**{**given, **fields})


def make_run(**fields: Any) -> Run:
    given: dict[str, Any] = {
        "id": "run_1",
        "dry_run": True,
        "capital": Decimal(1000),
        "leverage": 1,
        "started_at_ms": START_MS,
    }
    return Run(**{**given, **fields})


def make_strategy(definition: StrategyDefinition | None = None, **fields: Any) -> Strategy:
    """Make a deployed strategy whose run has the capital and leverage of its definition."""
    definition = definition or make_definition()
    given: dict[str, Any] = {
        "id": STRATEGY_ID,
        "number": 1,
        "account": "acct_1",
        "definition": definition,
        "status": Status.DEPLOYED,
        "created_at_us": START_MS * 1000,
        "updated_at_us": START_MS * 1000,
        "run": make_run(capital=definition.capital, leverage=definition.leverage),
    }
    return Strategy(**{**given, **fields})


def make_order(number: int = 1, **fields: Any) -> Order:
    given: dict[str, Any] = {
        "id": f"ord_{number}",
        "client_order_id": f"pp{number:04}",
        "strategy_id": STRATEGY_ID,
        "account": "acct_1",
        "dry_run": True,
        "run_id": "run_1",
        "position_id": f"pos_{number}",
        "symbol": SYMBOL,
        "side": Side.BUY,
        "type": OrderType.LIMIT,
        "quantity": Decimal(1),
        "price": Decimal(100),
        "reduce_only": False,
        "placed_at_ms": START_MS,
    }
    return Order(**{**given, **fields})


def make_fill(order: Order, **fields: Any) -> Fill:
    """Make the fill of all that is left of an order, at its own price and without a fee."""
    given: dict[str, Any] = {
        "id": f"{order.client_order_id}-{order.filled}",
        "client_order_id": order.client_order_id,
        "symbol": order.symbol,
        "side": order.side,
        "quantity": order.remaining,
        "price": order.price,
        "fee": Decimal(0),
        "fee_asset": "USDT",
        "maker": order.type is OrderType.LIMIT,
        "time_ms": START_MS,
    }
    return Fill(**{**given, **fields})


def make_position(number: int = 1, **fields: Any) -> Position:
    """Make a long lot of one at a hundred."""
    given: dict[str, Any] = {
        "id": f"pos_{number}",
        "strategy_id": STRATEGY_ID,
        "account": "acct_1",
        "dry_run": True,
        "run_id": "run_1",
        "symbol": SYMBOL,
        "direction": Direction.LONG,
        "leverage": 1,
        "entry_quantity": Decimal(1),
        "entry_value": Decimal(100),
        "opened_at_ms": START_MS,
    }
    return Position(**{**given, **fields})


def make_candle(index: int, close: str | Decimal, symbol: str = SYMBOL, timeframe: Timeframe = Timeframe.M1) -> Candle:
    """Make a candle that stood still at its close."""
    price = Decimal(close)
    return Candle(symbol, timeframe, START_MS + index * timeframe.ms, price, price, price, price, Decimal(10))


def enter(**fields: Any) -> Enter:
    """Wish a long market entry of one."""
    given: dict[str, Any] = {"symbol": SYMBOL, "direction": Direction.LONG}
    if not {"quantity", "notional", "risk"} & set(fields):
        given["quantity"] = Decimal(1)
    return Enter(**{**given, **fields})


def limit(price: str, **fields: Any) -> Enter:
    """Wish a long limit entry of one."""
    return enter(type=OrderType.LIMIT, price=Decimal(price), **fields)


@frozen
class NoParams:
    """The params of a template without knobs."""


def _quiet(*_: Any) -> tuple[()]:
    return ()


def _always(_: Any) -> Wakes:
    return Wakes(every=True)


def scripted(
    *,
    on_start: Callable[[View], Any] = _quiet,
    on_candle: Callable[[View], Any] = _quiet,
    on_price: Callable[[View, Decimal], Any] = _quiet,
    on_answer: Callable[[View, Question, Answer], Any] = _quiet,
    on_opened: Callable[[View, Position], Any] = _quiet,
    on_closed: Callable[[View, Position], Any] = _quiet,
    on_entry_lost: Callable[[View, str], Any] = _quiet,
    wakes: Callable[[Template], Wakes] = _always,
    **members: Any,
) -> type[Template]:
    """Make a template out of functions of a view and, for reactions, a fact; other members are taken as they are."""

    def calling(function: Wished) -> Wished:
        @wraps(function)
        def callback(_: Template, *facts: Any) -> Any:
            return function(*facts)

        return callback

    told: dict[str, Wished] = {
        "on_start": on_start,
        "on_candle": on_candle,
        "on_price": on_price,
        "on_answer": on_answer,
        "on_opened": on_opened,
        "on_closed": on_closed,
        "on_entry_lost": on_entry_lost,
    }
    whole: dict[str, Any] = {
        "id": "tpl_scripted",
        "description": "Does what a test says.",
        "params_type": NoParams,
        "state_type": NoState,
        "wakes": wakes,
        **{name: calling(function) for name, function in told.items()},
        **members,
    }
    return type("Scripted", (Template,), whole)


def plan(*wishes: Sequence[Any]) -> Wished:
    """Return a callback that wishes one sequence after the other, and then nothing."""
    left = list(wishes)
    return lambda *_: left.pop(0) if left else ()


class Repeated(Exception):
    """A record to be added was there already, so the whole batch was refused."""


@define
class Journal:
    """The journal's records and events in memory, with its one rule: what is added twice breaks its batch."""

    rows: dict[tuple[str, str], Record] = field(factory=dict[tuple[str, str], Record])
    events: list[EventDraft] = field(factory=list[EventDraft])

    def commit(self, batch: Batch) -> None:
        for record in batch.records:
            if record.kind is Kind.ADD and (record.entity, record.key) in self.rows:
                raise Repeated(record.key)
        for record in batch.records:
            if record.kind is Kind.DROP:
                self.rows.pop((record.entity, record.key), None)
            else:
                self.rows[record.entity, record.key] = record
        self.events.extend(batch.events)

    def read(self, entity: str, type: Any, state: str | None = None) -> list[Any]:
        return [
            msgspec.json.decode(row.data, type=type)
            for (name, _), row in self.rows.items()
            if name == entity and state in (None, row.state)
        ]

    def memory(self) -> Memory:
        brains = self.read("brain", Brain)
        waiting = brains[0].questions.values() if brains else ()
        runs = {run.id: run for run in self.read("run", Evaluation)}
        return Memory(
            brain=brains[0] if brains else Brain(),
            orders=tuple(self.read("order", Order, "working")),
            positions=tuple(self.read("position", Position, "open")),
            asking=tuple(runs[run_id(STRATEGY_ID, each.evaluation)] for each in waiting),
        )


@define(eq=False)
class Bench:
    """One session with a market that a test moves and a venue that does what the test says, each fact journalled."""

    template: type[Template]
    strategy: Strategy
    instruments: Mapping[str, Instrument]
    book: Book = field(factory=Book)
    quotes: Quotes = field(factory=Quotes)
    series: dict[str, Series] = field(factory=dict[str, Series])
    journal: Journal = field(factory=Journal)
    tariffs: Mapping[tuple[str, str], Tariff] | None = None
    placed: list[Order] = field(factory=list[Order])
    asked: list[Question] = field(factory=list[Question])
    cancels: list[Order] = field(factory=list[Order])
    index: int = 0
    session: Session = field(init=False)
    _builders: dict[str, list[CandleBuilder]] = field(factory=dict[str, list[CandleBuilder]])

    def __attrs_post_init__(self) -> None:
        definition = self.strategy.in_effect
        read = larger_timeframes(definition, self.template)
        for symbol in definition.symbols:
            larger = {timeframe: Series(symbol, timeframe) for timeframe in read}
            self.series[symbol] = Series(symbol, definition.timeframe, larger=larger)
            self._builders[symbol] = [CandleBuilder(symbol, timeframe) for timeframe in read]
        self.session = self.assembled()

    def assembled(self) -> Session:
        """Put a session together from the journal, as after a crash; the one in use stays."""
        around = Surroundings(
            instruments=self.instruments,
            series=self.series,
            quotes=self.quotes,
            book=self.book,
            tariffs=self.tariffs,
        )
        return assemble(self.strategy, self.template, self.journal.memory(), around)

    def rebuild(self) -> None:
        """Crash and start anew from the journal."""
        self.book.forget(self.strategy.id)
        self.session = self.assembled()
        self.settle(self.session.interrupt())

    def settle(self, effects: Effects | None) -> Effects:
        """Journal what was decided and note what goes to the venue."""
        if effects is None:
            return Effects(self.strategy, self.quotes.now_ms)
        self.journal.commit(effects.batch())
        self.placed.extend(approved.order for approved in effects.place)
        self.cancels.extend(effects.cancel)
        self.asked.extend(effects.questions)
        return effects

    # The market.

    def price(self, price: str | Decimal, symbol: str = SYMBOL) -> None:
        """Let a market trade be heard of."""
        self.quotes.prices[symbol] = Decimal(price)

    def wait(self, ms: int) -> None:
        """Let venue time pass."""
        self.quotes.now_ms += ms

    def close(self, price: str | Decimal = "100", symbol: str = SYMBOL) -> Effects:
        """Close the next candle and let the session decide on it."""
        timeframe = self.strategy.in_effect.timeframe
        start_ms = max(self.quotes.now_ms, START_MS)
        self.index = -((START_MS - start_ms) // timeframe.ms)
        candle = make_candle(self.index, price, symbol, timeframe)
        self.quotes.now_ms = candle.close_time_ms
        self.quotes.step = market_step(candle.close_time_ms, 2)
        self.price(price, symbol)
        series = self.series[symbol]
        for builder in self._builders[symbol]:
            for large in builder.add(candle):
                series.larger[large.timeframe].append(large)
        series.append(candle)
        return self.settle(self.session.on_candle(symbol))

    # The venue.

    def ack(self, order: Order) -> Effects:
        return self.settle(self.session.on_outcomes([(order.client_order_id, OrderFact.ACK, "")]))

    def news(self, order: Order, fact: OrderFact, detail: str = "") -> Effects:
        """Tell what became of sending an order."""
        return self.settle(self.session.on_outcomes([(order.client_order_id, fact, detail)]))

    def fill(self, order: Order, quantity: str | None = None, price: str | None = None, **fields: Any) -> Effects:
        """Fill an order, as it stands in the session or else as given: all that is left, or some of it."""
        order = self.session.orders.get(order.client_order_id, order)
        if quantity is not None:
            fields["quantity"] = Decimal(quantity)
        if price is not None:
            fields["price"] = Decimal(price)
        fill = make_fill(order, **{"time_ms": self.quotes.now_ms, **fields})
        return self.settle(self.session.on_execution(execution(fill, order.position_id)))

    def end(self, order: Order, fact: OrderFact = OrderFact.CANCEL, detail: str = "") -> Effects:
        """End an order without a fill."""
        told = Execution(client_order_id=order.client_order_id, fact=fact, time_ms=self.quotes.now_ms, detail=detail)
        return self.settle(self.session.on_execution(told))

    def answer(self, text: str = "", question: Question | None = None, **fields: Any) -> Effects:
        """Have a model answer, the last question unless another one is named."""
        told: dict[str, Any] = {"verdict": Verdict.ANSWERED, "text": text, "tokens_in": 100, "tokens_out": 10}
        question = question or self.asked[-1]
        return self.settle(self.session.on_answer(Answer(question_id=question.id, **{**told, **fields})))

    def fund(self, position: Position, amount: str, time_ms: int) -> Effects:
        paid = FundingPaid(
            id=f"{position.id}-{time_ms}",
            position_id=position.id,
            symbol=position.symbol,
            amount=Decimal(amount),
            time_ms=time_ms,
        )
        return self.settle(self.session.on_funding(paid))

    # What there is to see.

    @property
    def working(self) -> list[Order]:
        return list(self.session.orders.values())

    @property
    def lots(self) -> list[Position]:
        return list(self.session.positions.values())

    @property
    def trades(self) -> list[Position]:
        """Return the closed positions, the oldest first."""
        return sorted(self.journal.read("position", Position, "closed"), key=lambda trade: trade.closed_at_ms)

    @property
    def runs(self) -> list[Evaluation]:
        """Return the evaluations that were kept, the oldest first."""
        return self.journal.read("run", Evaluation)

    @property
    def told(self) -> list[str]:
        """Return the names of all events so far."""
        return [event.name for event in self.journal.events]

    def said(self, kind: type[EventData]) -> list[Any]:
        """Return the data of all events of a kind."""
        return [event.data for event in self.journal.events if isinstance(event.data, kind)]


def execution(fill: Fill, position_id: str = "") -> Execution:
    """Report a fill as the venue does."""
    return Execution(
        client_order_id=fill.client_order_id,
        fact=OrderFact.FILL,
        time_ms=fill.time_ms,
        fill=fill,
        position_id=position_id,
    )


def make_bench(
    template: type[Template] | None = None,
    *,
    caps: Caps | None = None,
    book: Book | None = None,
    risk: Mapping[str, Any] | None = None,
    tariffs: Mapping[tuple[str, str], Tariff] | None = None,
    instruments: Iterable[Instrument] | None = None,
    strategy: Strategy | None = None,
    **definition: Any,
) -> Bench:
    """Make a bench of a deployed strategy with its price at a hundred; `risk` are the caps in its params."""
    if risk is not None:
        definition["params"] = {**definition.get("params", {}), "risk": dict(risk)}
    listed = instruments or (make_instrument(SYMBOL), make_instrument(OTHER))
    quotes = Quotes(now_ms=START_MS, step=market_step(START_MS, 2))
    bench = Bench(
        template=template or scripted(),
        strategy=strategy or make_strategy(make_definition(**definition)),
        instruments={instrument.symbol: instrument for instrument in listed},
        book=book or Book(caps=caps or Caps()),
        quotes=quotes,
        tariffs=tariffs,
    )
    for symbol in bench.series:
        bench.price("100", symbol)
    return bench


def wishing(*wishes: Any, **more: Any) -> Bench:
    """Make a bench whose template wishes all this on the first candle, which closes at a hundred."""
    bench = make_bench(scripted(on_candle=plan(wishes)), **more)
    bench.close()
    return bench


def opened(entry: Enter | None = None, *later: Sequence[Intent | Wish], **more: Any) -> Bench:
    """Make a bench with one open lot of one at a hundred; `later` are the wishes of the candles that follow.

    A wish may be a function of the only open position, which has no id before it is there.
    """
    steps: list[Sequence[Intent | Wish]] = [[entry or enter()], *later]

    def on_candle(view: View) -> list[Intent]:
        wishes = steps.pop(0) if steps else ()
        return [wish(view.positions[0]) if callable(wish) else wish for wish in wishes]

    bench = make_bench(scripted(on_candle=on_candle), **more)
    bench.close()
    bench.fill(bench.placed[0])
    return bench


def refusal(bench: Bench) -> tuple[str, str, str]:
    (blocked,) = bench.said(RiskBlocked)
    return blocked.rule, blocked.limit, blocked.value


def held_of(**fields: Any) -> Wish:
    """Wish, once it is known, to leave the only open position."""

    def wish(position: Position) -> Intent:
        return held(position, **fields)

    return wish


def held(position: Position, **fields: Any) -> Intent:
    """Wish to leave a position."""
    return Exit(position_id=position.id, **fields)
