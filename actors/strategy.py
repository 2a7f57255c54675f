"""The shell around one Session: takes facts in, makes what it decides durable, and only then carries it out."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import msgspec
import structlog
import trio
from attrs import define, field

from actors.actor import (
    MAILBOX_MAX,
    CancelNews,
    Carrier,
    Consultant,
    DeskFact,
    Guard,
    Mailbox,
    MailboxFull,
    Occasion,
    OrderNews,
    Writer,
    said_by,
    told_cause,
    unconfigured,
    without_cancelled,
)
from pipaid.engine.alarms import PriceAlarm
from pipaid.engine.effects import Effects
from pipaid.engine.rings import Call, concerns
from pipaid.engine.session import AUTO_CLOSE, Session
from pipaid.engine.tracing import Trace
from pipaid.errors import InvariantBroken, PipaidError, Unavailable
from pipaid.model.consult import Answer, Question
from pipaid.model.ident import order_id_of
from pipaid.model.order import Execution, FundingPaid, Order, OrderFact, OrderStatus
from pipaid.model.run import Evaluation
from pipaid.model.strategy import Status, Strategy, Tally
from pipaid.model.stray import Stray, stray_fill
from pipaid.seams import Clock
from pipaid.signals.series import Condition
from pipaid.storage.store import Committed, JournalRefused
from pipaid.wire.activity import Activity
from pipaid.wire.commands import Command

log = structlog.get_logger()
# A venue that repeats itself does so soon; whatever it repeats later is found in the journal.
BOOKED_KEPT: Final = 64
Fact = DeskFact | Command | Answer

_ENDS = frozenset({OrderFact.CANCEL, OrderFact.EXPIRE})
_ENDED_UNFILLED = frozenset({OrderStatus.CANCELLED, OrderStatus.EXPIRED, OrderStatus.ABSENT})


def _nothing(_: object) -> None:
    """Tell nobody."""


@define(eq=False)
class StrategyActor:
    """One task and one mailbox around one Session: the unit of supervision, caps, commands, fills and restarts.

    The feed's sweep calls `on_market` directly; everything else comes by mailbox and is dealt with in order by `run`.
    While a decision is being made durable the actor is busy, and what the market says meanwhile waits in `missed`.
    `on_load` is done once, right after the next load and before anything else; `on_become` is told as soon as a changed
    strategy record is durable, `on_stray` of what the venue did and the strategy cannot account for. `known` tells
    whether there is a session to look at, if only one that crashed.
    """

    id: str
    number: int
    writer: Writer
    guard: Guard
    clock: Clock
    activity: Activity
    load: Callable[[], Awaitable[Session]]
    carriers: Callable[[bool], Carrier]
    on_interest: Callable[[StrategyActor, str], None]
    on_become: Callable[[Strategy], None] = _nothing
    on_stray: Callable[[Stray], None] = _nothing
    consult: Consultant = unconfigured
    session: Session = field(init=False)
    mailbox: Mailbox[Fact] = field(factory=Mailbox[Fact])
    missed: dict[Occasion, None] = field(factory=dict[Occasion, None])
    on_load: Callable[[Session], Effects | None] | None = None
    loaded: bool = False
    known: bool = False
    shown: tuple[Tally, int] = field(factory=lambda: (Tally(), 0))
    shown_orders: int = 0
    retired: bool = False
    crashed: BaseException | None = None
    failed_runs: tuple[Evaluation, ...] = ()
    changed: trio.Event | None = None
    _broken: tuple[list[Trace], str] | None = None
    _outdated: bool = False
    _decided_s: float = 0.0
    _asked: dict[str, None] = field(factory=dict[str, None])
    _booked: deque[str] = field(factory=partial(deque[str], maxlen=BOOKED_KEPT))

    waiting_max: int = MAILBOX_MAX

    @property
    def waiting(self) -> int:
        """Return how many letters wait."""
        return len(self.mailbox)

    @property
    def busy(self) -> bool:
        """Tell whether the session may not be called now."""
        return self.mailbox.held or not self.loaded or len(self.mailbox) > 0

    # What others tell.

    def tell(self, fact: Fact) -> None:
        """Put a fact into the mailbox; raise MailboxFull without room."""
        if self.retired:
            self._drop(fact)
            return
        self.mailbox.tell(fact)
        self.activity.begin()

    async def deliver(self, fact: Fact) -> None:
        """Put a fact that must not be lost into the mailbox, waiting for room."""
        await self.mailbox.room()
        self.tell(fact)

    def command(self, act: Callable[[Session], Effects | None]) -> Command:
        """Have the session do something after all that it has been told until now; raise Unavailable without room."""
        command = Command(act)
        try:
            self.tell(command)
        except MailboxFull:
            raise Unavailable(f"strategy {self.id} has more to do than it can take; try again") from None
        return command

    async def perform(self, act: Callable[[Session], Effects | None]) -> None:
        """Have the session do something between two facts, and return once it is durable."""
        await self.command(act).obeyed()

    async def up(self) -> None:
        """Wait until the session is loaded."""
        await self.until(lambda _: True)

    async def until(self, condition: Callable[[Session], bool]) -> None:
        """Wait until something holds of the session."""
        while not (self.loaded and condition(self.session)):
            if self.retired:
                raise self._retired()
            if self.changed is None:
                self.changed = trio.Event()
            await self.changed.wait()

    def holds(self, position_id: str) -> bool:
        """Tell whether an open position is this strategy's, as far as is known, which may be from before a crash."""
        return self.known and position_id in self.session.positions

    # The sweep.

    def interest(self, symbol: str) -> tuple[Condition, ...]:
        """Return the conditions on which the session wants to be asked about a symbol."""
        return self.session.interest(symbol) if self.loaded else ()

    def alarm(self, symbol: str) -> PriceAlarm | None:
        """Return the levels whose touch the session wants to be told of."""
        return self.session.alarm(symbol) if self.loaded else None

    def call(self) -> Call | None:
        """Return when the session wants to be asked whatever the market says."""
        return self.session.call if self.loaded else None

    def on_market(self, occasion: Occasion) -> Effects | None:
        """Let the session decide on a candle or an alarm; what it returns must be committed and `settled`.

        Whatever is raised is this actor's crash: it is kept for `run` to raise, and nobody else notices.
        """
        if self.busy:
            self.missed[occasion] = None
            return None
        effects = self._guarded(occasion)
        if effects is not None:
            self.mailbox.hold()
            self.activity.begin()
        return effects

    def go_on(self, occasion: Occasion) -> Effects | None:
        """Decide on a further occasion of the same sweep; it joins the batch that `on_market` began."""
        if self.crashed is not None:
            self.missed[occasion] = None
            return None
        return self._guarded(occasion)

    def settled(self, effects: list[Effects], outcome: Committed | JournalRefused | BaseException) -> None:
        """Carry out what the sweep made durable and go on with the mailbox."""
        if isinstance(outcome, Committed):
            try:
                for each in effects:
                    self._carry(each, outcome, self._decided_s)
            except Exception as trouble:  # noqa: BLE001 - the recorder calls this and must not fall with one strategy
                self._crash(trouble)
        else:
            self._crash(outcome)
        self.mailbox.release()
        if self.missed:
            self.mailbox.alarm()
        self.activity.end()

    def _guarded(self, occasion: Occasion) -> Effects | None:
        try:
            self._decided_s = self.clock.monotonic_s()
            return self.session.on_occasion(occasion)
        except BaseException as trouble:  # noqa: BLE001 - the supervisor's broad catch, for code that the sweep calls
            self.missed[occasion] = None
            self._crash(trouble)
            return None

    def _crash(self, trouble: BaseException) -> None:
        """Remember why to start anew; until that has been done, the market has this actor to wait for."""
        if self.crashed is None:
            self.activity.begin()
        if self._broken is None and self.known and self.session.under_way:
            self._broken = (list(self.session.under_way), told_cause(trouble))
        self.crashed = trouble
        self.loaded = False
        self.mailbox.alarm()

    # The task.

    async def run(self) -> None:
        """Load the session from the journal and deal with the mailbox until cancelled; raise what callbacks raise."""
        try:
            await self._live()
        except BaseException as trouble:
            cause = without_cancelled(trouble)
            if cause is not None:
                self._crash(cause)
            raise

    async def reload(self) -> None:
        """Start anew from the journal, keeping the mailbox, and return once that is done."""
        self.loaded = False
        self._outdated = True
        self.mailbox.alarm()
        await self.up()

    def retire(self) -> None:
        """Let go of what was not dealt with, once `run` has been cancelled for good."""
        self.retired, self.loaded = True, False
        for fact in self.mailbox.clear():
            self._drop(fact)
            self.activity.end()
        self.activity.end(len(self._asked))
        self._asked.clear()
        self._end_crash()
        self._tell_change()

    def _retired(self) -> Unavailable:
        return Unavailable(f"strategy {self.id} is not running any more")

    def _drop(self, fact: Fact) -> None:
        if isinstance(fact, Command):
            fact.trouble = self._retired()
            fact.answered.set()
        elif not isinstance(fact, Answer):
            self._put_aside(fact, "its strategy does not run any more")

    async def _live(self) -> None:
        while True:
            await self._load()
            await self._begin()
            await self._catch_up()
            while self.loaded:
                fact = await self.mailbox.first()
                if self.crashed is not None:
                    raise self.crashed
                if fact is not None and self.loaded:
                    await self._take(fact)
                await self._catch_up()

    async def _load(self) -> None:
        self.loaded = False
        while True:
            self._outdated = False
            self.session = await self.load()
            self.known = True
            self._show()
            self.session.shield = partial(self.guard.run, self.number)
            self.session.lap = self.clock.monotonic_s
            if self._broken is not None:
                await self._record_failed(*self._broken)
            if self.on_load is not None:
                effects = self.on_load(self.session)
                self.on_load = None
                await self._settle(effects)
            await self._settle(self.session.interrupt())
            if not self._outdated:
                break
        symbols = self.session.strategy.in_effect.symbols
        self.missed = {occasion: None for occasion in self.missed if concerns(occasion, symbols)}
        self.loaded = True
        self._end_crash()
        for symbol in symbols:
            self.on_interest(self, symbol)
        self._tell_change()

    async def _record_failed(self, begun: list[Trace], reason: str) -> None:
        """Record over which evaluations the session before this one broke down, unless the journal does not take it."""
        self._broken = None
        failed = self.session.on_failed(begun, reason)
        try:
            await self._settle(failed)
        except (JournalRefused, Unavailable) as trouble:
            log.warning("runs.unrecorded", strategy_id=self.id, reason=said_by(trouble))
        else:
            self.failed_runs = tuple(failed.runs)

    def _end_crash(self) -> None:
        if self.crashed is not None:
            self.crashed = None
            self.activity.end()

    async def _begin(self) -> None:
        """Have a deployed strategy decide for the first time, unless it did so before a restart."""
        session = self.session
        run = session.strategy.run
        if session.strategy.status is Status.DEPLOYED and run is not None and session.brain.started != run.id:
            await self._decide(session.on_start)

    async def _take(self, fact: Fact) -> None:
        self.mailbox.hold()
        # A command is answered whatever becomes of it, and therefore never carried out a second time.
        dealt = isinstance(fact, Command)
        try:
            if isinstance(fact, Command):
                await self._obey(fact)
            else:
                await self._note(fact)
            dealt = True
        finally:
            if dealt:
                self.mailbox.done()
                self.activity.end()
            self.mailbox.release()
        self._tell_change()

    async def _note(self, fact: DeskFact | Answer) -> None:
        """Book what the desk reports or a model answers, once."""
        try:
            if not isinstance(fact, Execution) or await self._recover(fact):
                await self._settle(self._effects_of(fact))
        except (JournalRefused, InvariantBroken) as trouble:
            if await self._is_booked(fact):
                # What is durable is right, and the session is rebuilt from it.
                log.warning("fact.repeated", strategy_id=self.id, fact=repr(fact)[:300])
            elif self.session.strategy.status is Status.ERROR:
                # Halting for it is all that can be done; it stays in the log, and a person has to look.
                log.error("fact.impossible", strategy_id=self.id, fact=repr(fact), reason=said_by(trouble))
                self._put_aside(fact, f"its strategy cannot book it: {said_by(trouble)}")
            else:
                raise
            await self._load()

    async def _is_booked(self, fact: DeskFact | Answer) -> bool:
        fill = fact.fill if isinstance(fact, Execution) else None
        if fill is None:
            return False
        return fill.id in self._booked or await self.writer.read(lambda reader: reader.get("fill", fill.id)) is not None

    def _put_aside(self, fact: DeskFact | Answer, reason: str) -> None:
        """Give away what the venue did and the strategy cannot account for; of the rest the venue is asked again."""
        fill = fact.fill if isinstance(fact, Execution) else None
        if fill is not None and self.known:
            self.on_stray(stray_fill(fill, fill.quantity, self.session.book.name, reason, strategy_id=self.id))
        else:
            log.error("fact.unassigned", strategy_id=self.id, fact=repr(fact)[:300], reason=reason)

    async def _obey(self, command: Command) -> None:
        """Do what is asked; a refusal is the asker's, whatever else goes wrong is this actor's crash as well."""
        try:
            try:
                effects = command.act(self.session)
            except PipaidError as refusal:
                if isinstance(refusal, InvariantBroken) or self.session.deciding:
                    raise
                command.trouble = refusal
                return
            await self._settle(effects)
        except BaseException as trouble:
            command.trouble = (
                trouble if isinstance(trouble, PipaidError) else Unavailable(f"it failed: {said_by(trouble)}")
            )
            raise
        finally:
            command.answered.set()

    async def _recover(self, execution: Execution) -> bool:
        """Bring back the ended order that a late execution is about; tell whether there is anything to book."""
        client_id = execution.client_order_id
        if client_id in self.session.orders:
            return execution.fill is None or execution.fill.id not in self._booked
        if client_id.startswith(AUTO_CLOSE) and execution.position_id in self.session.positions:
            return True
        if await self._is_booked(execution):
            return False
        key = order_id_of(self.id, client_id)
        row = await self.writer.read(lambda reader: reader.get("order", key)) if key is not None else None
        if row is None:
            self._put_aside(execution, "neither an order nor a lot of its strategy")
            return False
        order = msgspec.json.decode(row.data, type=Order)
        if execution.fact in _ENDS and order.status in _ENDED_UNFILLED:
            # That it ended was known already, from another source.
            return False
        self.session.adopt(order)
        return True

    def _effects_of(self, fact: DeskFact | Answer) -> Effects | None:
        session = self.session
        match fact:
            case Execution():
                return session.on_execution(fact)
            case FundingPaid():
                return session.on_funding(fact)
            case OrderNews():
                return session.on_outcomes(fact.facts)
            case CancelNews():
                return session.on_cancel_lost(fact.client_order_id)
            case Answer():
                return session.on_answer(fact)

    async def _catch_up(self) -> None:
        """Decide on what the market said while the actor was busy or down, in the order it was said."""
        while self.missed and self.loaded and not len(self.mailbox):
            occasion = next(iter(self.missed))
            del self.missed[occasion]
            await self._decide(partial(self._guarded, occasion))

    async def _decide(self, decide: Callable[[], Effects | None]) -> None:
        """Have the session decide, and let nobody else call it before that is durable."""
        self.mailbox.hold()
        self.activity.begin()
        try:
            effects = decide()
            if self.crashed is not None:
                raise self.crashed
            await self._settle(effects)
        finally:
            self.mailbox.release()
            self.activity.end()

    async def _settle(self, effects: Effects | None) -> None:
        """Make a decision durable, then visible."""
        if effects is None or effects.empty:
            return
        decided_s = self.clock.monotonic_s()
        committed = await self.writer.commit(effects.batch())
        self._carry(effects, committed, decided_s)

    def _carry(self, effects: Effects, proof: Committed, decided_s: float) -> None:
        self.session.under_way.clear()
        self._show()
        if effects.strategy_changed:
            self.on_become(effects.strategy)
        self._booked.extend(booked.fill.id for booked in effects.fills)
        for stray in effects.strays:
            self.on_stray(stray)
        for order in effects.cancel:
            self.carriers(order.dry_run).cancel(order, proof)
        for approved in effects.place:
            self.carriers(approved.order.dry_run).send(approved, proof, decided_s)
        for question in effects.questions:
            self._ask(question)
        for symbol in sorted(self.session.interest_changed):
            self.on_interest(self, symbol)
        self.session.interest_changed.clear()

    def _ask(self, question: Question) -> None:
        """Have a question carried to its model; until that is answered there is work in flight."""
        self._asked[question.id] = None
        self.activity.begin()
        self.consult(question, self._answered)

    def _answered(self, answer: Answer) -> None:
        if answer.question_id in self._asked:
            del self._asked[answer.question_id]
            # It goes on being in flight until it has been dealt with.
            self.mailbox.admit(answer)

    def _show(self) -> None:
        """Take note of what is durable now: nothing else of the session's figures is told to anybody."""
        self.shown = (self.session.brain.tally, len(self.session.positions))
        self.shown_orders = len(self.session.orders)

    def _tell_change(self) -> None:
        if self.changed is not None:
            self.changed.set()
            self.changed = None
