"""What a session decided: records and events for the journal first, orders and cancellations for the gateway after."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import msgspec

from pipaid.engine.alarms import PriceAlarm
from pipaid.engine.book import Book
from pipaid.engine.risk import Approved
from pipaid.engine.spending import OpenQuestion, Spending
from pipaid.engine.template import Exit
from pipaid.model.consult import Question
from pipaid.model.event import EventData, EventDraft
from pipaid.model.ident import derived_id
from pipaid.model.money import ZERO
from pipaid.model.order import BookedFill, Order
from pipaid.model.position import Position
from pipaid.model.record import Batch, Kind, Record
from pipaid.model.run import Evaluation
from pipaid.model.strategy import Strategy, Tally
from pipaid.model.stray import Stray

# It is written with every commit.
BRAIN_BYTES_MAX: Final = 262_144
_ENCODER: Final = msgspec.json.Encoder()
encode: Final = _ENCODER.encode


class DayFigures(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a strategy did on a UTC day in one mode."""

    day: int = 0
    trades: int = 0
    orders: int = 0
    pnl: Decimal = ZERO


class Dealt(msgspec.Struct, frozen=True):
    """The last occasion of a timer that was dealt with, and the plan by which it came."""

    plan: str
    last_ms: int


class Brain(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a session remembers besides its orders and positions; written with every commit.

    `started` names the run whose `on_start` has been carried out; `evaluated` holds, by symbol, the close time of the
    last candle decided on; `run_pnl` the realised profit of the current run by symbol; `losses_ms` when the last trades
    were closed as far as they lost in a row; `fallen_until_ms` until when a fall of the equity is waited out;
    `order_times_ms` the entries of the last minute, for the rate cap; `entries_until_ms` until when the pace of entries
    counts those made; `exits` the exits that wait, for the end of the one they replace or for the next candle, by
    position; `alarms` the prices waited for, by symbol; `questions` what models were asked and have not answered, by
    symbol, and `spending` what asking cost today; `timers` how far each timer is, by name. The figures of the day are
    those of the mode (dry or not) that `dry_run` tells; `other_mode` keeps those of the other one.
    """

    at_ms: int = 0
    dry_run: bool | None = None
    started: str = ""
    tally: Tally = Tally()
    orders_made: int = 0
    runs_made: int = 0
    state: dict[str, Any] = {}
    evaluated: dict[str, int] = {}
    run_pnl: dict[str, Decimal] = {}
    run_peak: Decimal = ZERO
    day: int = 0
    day_trades: int = 0
    day_orders: int = 0
    day_pnl: Decimal = ZERO
    other_mode: DayFigures = DayFigures()
    cooldown_until_ms: int = 0
    losses_ms: tuple[int, ...] = ()
    fallen_until_ms: int = 0
    order_times_ms: tuple[int, ...] = ()
    entries_until_ms: int = 0
    exits: dict[str, Exit] = {}
    alarms: dict[str, PriceAlarm] = {}
    questions_made: int = 0
    questions: dict[str, OpenQuestion] = {}
    spending: Spending = Spending()
    timers: dict[str, Dealt] = {}


def remains_of(brain: Brain) -> Brain:
    """Return what is still asked for when a strategy is gone: its counts, and what its account's caps go by."""
    return Brain(
        at_ms=brain.at_ms,
        dry_run=brain.dry_run,
        tally=brain.tally,
        orders_made=brain.orders_made,
        runs_made=brain.runs_made,
        day=brain.day,
        day_trades=brain.day_trades,
        day_orders=brain.day_orders,
        day_pnl=brain.day_pnl,
        other_mode=brain.other_mode,
    )


class Effects(msgspec.Struct):
    """Collect one decision; `batch` is what must be durable before `place`, `cancel` and `questions` are carried out.

    `book` is the account's, if the decision closed a trade and so moved its profit.
    """

    strategy: Strategy
    at_ms: int
    orders: dict[str, Order] = {}
    positions: dict[str, Position] = {}
    fills: list[BookedFill] = []
    strays: list[Stray] = []
    events: list[EventDraft] = []
    runs: list[Evaluation] = []
    runs_dropped: list[int] = []
    place: list[Approved] = []
    cancel: list[Order] = []
    questions: list[Question] = []
    brain: Brain | None = None
    strategy_changed: bool = False
    book: Book | None = None

    def event(self, data: EventData) -> None:
        """Add an event of this strategy at this moment."""
        run = self.strategy.run
        self.events.append(
            EventDraft(
                strategy_id=self.strategy.id,
                data=data,
                at_ms=self.at_ms,
                run_id=run.id if run is not None else None,
                dry_run=run.dry_run if run is not None else None,
            )
        )

    @property
    def empty(self) -> bool:
        """Tell whether there is nothing to commit and nothing to carry."""
        return not (
            self.orders or self.positions or self.fills or self.events or self.runs or self.strategy_changed
            or self.cancel or self.brain is not None
        )  # fmt: skip

    def batch(self) -> Batch:
        """Return the journal's share of the decision."""
        records = [
            Record("fill", fill.fill.id, Kind.ADD, encode(fill), fill.strategy_id, "", fill.fill.time_ms)
            for fill in self.fills
        ]
        records.extend(stray_record(stray) for stray in self.strays)
        records.extend(order_record(order) for order in self.orders.values())
        records.extend(position_record(position) for position in self.positions.values())
        records.extend(self._run_records())
        if self.brain is not None:
            remembered = self._encoded_brain(self.brain)
            records.append(Record("brain", self.strategy.id, Kind.PUT, remembered, self.strategy.id))
        if self.strategy_changed:
            records.append(strategy_record(self.strategy))
        if self.book is not None and self.book.name:
            records.append(Record("book", self.book.name, Kind.PUT, encode(self.book.memory())))
        return Batch(records=records, events=self.events)

    def _encoded_brain(self, brain: Brain) -> bytes:
        try:
            encoded = encode(brain)
        except Exception as trouble:
            raise TypeError(f"what the template remembers cannot be stored: {trouble}") from trouble
        if len(encoded) > BRAIN_BYTES_MAX:
            raise TypeError(f"what the template remembers takes {len(encoded)} bytes, of at most {BRAIN_BYTES_MAX}")
        return encoded

    def _run_records(self) -> list[Record]:
        kept = [
            Record("run", run.id, Kind.PUT, encode(run), run.strategy_id, run.status, run.at_ms) for run in self.runs
        ]
        dropped = [Record("run", run_id(self.strategy.id, number), Kind.DROP) for number in self.runs_dropped]
        return kept + dropped


def run_id(strategy_id: str, number: int) -> str:
    """Return the id of a strategy's evaluation by its number."""
    return derived_id("run", strategy_id, "evaluation", number)


def dropped_run(number: int, kept: int) -> int | None:
    """Return the number of the evaluation that leaves when this one comes and so many stay, or nothing."""
    return number - kept if number > kept else None


def order_record(order: Order) -> Record:
    """Return the journal record of an order."""
    state = "working" if order.working else "ended"
    return Record("order", order.id, Kind.PUT, encode(order), order.strategy_id, state, order.placed_at_ms)


def stray_record(stray: Stray) -> Record:
    """Return the journal record of something that nobody accounts for."""
    return Record("stray", stray.id, Kind.PUT, encode(stray), stray.strategy_id, stray.desk, stray.time_ms)


def position_record(position: Position) -> Record:
    """Return the journal record of a position."""
    state = "open" if position.is_open else "closed"
    sort = position.opened_at_ms if position.is_open else position.closed_at_ms
    return Record("position", position.id, Kind.PUT, encode(position), position.strategy_id, state, sort)


def strategy_record(strategy: Strategy) -> Record:
    """Return the journal record of a strategy."""
    state = "deleted" if strategy.deleted_at_ms else strategy.status.value
    return Record("strategy", strategy.id, Kind.PUT, encode(strategy), strategy.account, state, strategy.created_at_us)


def name_record(account: str, name: str, kind: Kind, id: str = "") -> Record:
    """Return the journal record that gives a name of an account to a strategy, or takes it back."""
    return Record("name", f"{account}/{name}", kind, id.encode(), account)
