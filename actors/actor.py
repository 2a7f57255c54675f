"""What actors know of each other: mailboxes, and the few protocols through which they meet."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar, cast

import msgspec
import trio
from attrs import define, field, frozen

from pipaid import engine
from pipaid.config.sections import Sections
from pipaid.engine.alarms import PriceAlarm
from pipaid.engine.effects import Effects
from pipaid.engine.rings import Call
from pipaid.engine.rings import Occasion as Occasion
from pipaid.engine.risk import Approved
from pipaid.engine.session import Session
from pipaid.errors import ExchangeError, Unavailable
from pipaid.model.consult import Answer, Question, Verdict
from pipaid.model.order import Execution, FundingPaid, Order, OrderFact
from pipaid.model.record import Batch
from pipaid.model.run import Evaluation
from pipaid.model.strategy import Tally
from pipaid.signals.series import Condition
from pipaid.storage.store import Committed, JournalRefused, Reader

T = TypeVar("T")
Result = TypeVar("Result")

MAILBOX_MAX: Final = 1_024
# A venue may accept a request until so long after it was sent.
REQUEST_WINDOW_MS: Final = 5_000
# The world's trouble, not ours: what was not answered is asked again.
OUTAGES: Final = (ExchangeError, Unavailable, OSError)
RESTARTS_MAX: Final = 5
PERIOD_S: Final = 600.0
CAUSE_MAX: Final = 500
# Where a traceback passes through on its way to a template.
_OURS: Final = tuple(f"{Path(file).parent}/" for file in (__file__, engine.__file__))


class MailboxFull(Exception):
    """A mailbox holds all it may; the sender waits for room or refuses what it was asked."""


@define(eq=False)
class Mailbox(Generic[T]):
    """A bounded queue with one reader, who takes a letter off only when it has been dealt with.

    When it is full, `tell` raises MailboxFull and `room` waits. `hold` keeps the reader waiting whatever comes.
    """

    letters_max: int = MAILBOX_MAX
    held: bool = False
    _letters: list[T] = field(factory=list[T])
    _alarm: bool = False
    _reader: trio.lowlevel.Task | None = None
    _space: trio.Event | None = None

    def __len__(self) -> int:
        return len(self._letters)

    @property
    def full(self) -> bool:
        """Tell whether there is no room."""
        return len(self._letters) >= self.letters_max

    def tell(self, letter: T) -> None:
        """Put a letter in; raise MailboxFull without room."""
        if self.full:
            raise MailboxFull(f"{self.letters_max} letters wait already")
        self.admit(letter)

    def admit(self, letter: T) -> None:
        """Put a letter in whether or not there is room: one of which there are few, because it was asked for."""
        self._letters.append(letter)
        self._wake()

    async def room(self) -> None:
        """Wait until there is room."""
        while self.full:
            if self._space is None:
                self._space = trio.Event()
            await self._space.wait()

    def alarm(self) -> None:
        """Wake the reader although no letter came; it looks around and goes on waiting."""
        self._alarm = True
        self._wake()

    def hold(self) -> None:
        """Let the reader wait until `release`."""
        self.held = True

    def release(self) -> None:
        """Let the reader go on."""
        self.held = False
        self._wake()

    async def first(self) -> T | None:
        """Wait for the oldest letter and return it without taking it off; return nothing after an alarm."""
        while self.held or not (self._letters or self._alarm):
            self._reader = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._leave)
        if self._alarm:
            self._alarm = False
            return None
        return self._letters[0]

    def _leave(self, _: object) -> trio.lowlevel.Abort:
        """Forget a reader as soon as it is cancelled: a letter that comes before it has run must not wake it again."""
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED

    def done(self) -> None:
        """Take the oldest letter off."""
        del self._letters[0]
        self._make_room()

    def clear(self) -> list[T]:
        """Take all letters off and return them."""
        letters, self._letters = self._letters, []
        self._make_room()
        return letters

    def _make_room(self) -> None:
        if self._space is not None:
            self._space.set()
            self._space = None

    def _wake(self) -> None:
        if self._reader is not None and not self.held:
            trio.lowlevel.reschedule(self._reader)
            self._reader = None


class OrderNews(msgspec.Struct, frozen=True):
    """What is known of orders without an execution: each by client id, with the fact and what was said of it."""

    facts: tuple[tuple[str, OrderFact, str], ...]


class CancelNews(msgspec.Struct, frozen=True):
    """The venue still works an order some time after it was asked to cancel it."""

    client_order_id: str


DeskFact = Execution | FundingPaid | OrderNews | CancelNews


class Asker(Protocol):
    """Who asks for an operation."""

    @property
    def account(self) -> str | None:
        """Return the account that is spoken for, or nothing for all of them."""
        ...

    @property
    def who(self) -> str:
        """Return the caller in words, for the records that people read."""
        ...


class Inbox(Protocol):
    """A strategy actor as the gateway and the resolver see it."""

    id: str

    def tell(self, fact: DeskFact) -> None:
        """Put in a fact; raise MailboxFull without room."""
        ...

    async def deliver(self, fact: DeskFact) -> None:
        """Put in a fact that must not be lost, waiting for room."""
        ...


class Swept(Protocol):
    """A strategy actor as the feed sees it."""

    id: str
    number: int

    def interest(self, symbol: str) -> tuple[Condition, ...]:
        """Return the conditions on which the actor wants to be asked about a symbol."""
        ...

    def alarm(self, symbol: str) -> PriceAlarm | None:
        """Return the levels whose touch the actor wants to be told of."""
        ...

    def call(self) -> Call | None:
        """Return when the actor wants to be asked whatever the market says."""
        ...

    def on_market(self, occasion: Occasion) -> Effects | None:
        """Decide on an occasion; what comes back is to be made durable and `settled`."""
        ...

    def go_on(self, occasion: Occasion) -> Effects | None:
        """Decide on a further occasion of the same sweep."""
        ...

    def settled(self, effects: list[Effects], outcome: Committed | JournalRefused | BaseException) -> None:
        """Take note of what became of the decisions."""
        ...


class Writer(Protocol):
    """The recorder as other actors see it."""

    def submit(
        self, batch: Batch, then: Callable[[Committed | JournalRefused | BaseException], None] | None = None
    ) -> None:
        """Hand over a batch; `then` is called once it is durable or refused."""
        ...

    async def commit(self, batch: Batch) -> Committed:
        """Make a batch durable; raise its refusal."""
        ...

    async def read(self, function: Callable[[Reader], Result]) -> Result:
        """Run a query beside the writer."""
        ...


class Carrier(Protocol):
    """The gateway as strategy actors see it."""

    def send(self, approved: Approved, proof: Committed, decided_s: float) -> None:
        """Take an order that risk approved and the journal holds; it was decided on at that monotonic moment."""
        ...

    def cancel(self, order: Order, proof: Committed) -> None:
        """Take a cancellation that the journal holds."""
        ...


# Who carries a question to a model and gives its answer back: once, later or at once, whatever comes of it.
Consultant = Callable[[Question, Callable[[Answer], None]], None]


def unconfigured(question: Question, answered: Callable[[Answer], None]) -> None:
    """Stand in where there is no model to ask."""
    error = f"no provider of models named {question.provider} is configured"
    answered(Answer(question_id=question.id, verdict=Verdict.UNCONFIGURED, error=error, tokens_in=0, tokens_out=0))


class Phase(IntEnum):
    """What a template's code is asked for; the black box knows it by its number."""

    IDLE = 0
    CALLBACK = 1
    LOADING = 2
    CHECKING = 3
    IMPORTING = 4


class Crashed(Exception):
    """What went wrong in a template, told in our words; nothing of the template's hangs on it."""


class Guard(Protocol):
    """The budget of strategy callbacks."""

    def rest(self) -> None:
        """Note that no callback runs any more."""
        ...

    def run(self, number: int, callback: Callable[..., Result], *args: object) -> Result:
        """Call back within the budget; an overrun is raised inside the callback and comes out of here."""
        ...

    def run_patiently(self, number: int, callback: Callable[..., Result], *args: object) -> Result:
        """Call back what nobody trades on within a multiple of the budget."""
        ...

    def run_as(self, phase: Phase, number: int, callback: Callable[..., Result], *args: object) -> Result:
        """Do so in a phase of its own; `number` is the strategy's, or stands for what is checked."""
        ...


class Pending(Protocol):
    """Something asked of a session that waits for its turn."""

    async def obeyed(self) -> None:
        """Return once it is durable; raise why it never will be."""
        ...


class Employed(Inbox, Swept, Protocol):
    """A strategy actor as those see it who employ and command it."""

    session: Session
    shown: tuple[Tally, int]
    shown_orders: int
    loaded: bool
    known: bool
    waiting_max: int
    missed: dict[Occasion, None]
    on_load: Callable[[Session], Effects | None] | None
    failed_runs: tuple[Evaluation, ...]

    @property
    def waiting(self) -> int:
        """Return how many letters wait."""
        ...

    def holds(self, position_id: str) -> bool:
        """Tell whether an open position is this strategy's, as far as is known, which may be from before a crash."""
        ...

    async def run(self) -> None:
        """Work until cancelled; raise what a callback raised."""
        ...

    async def up(self) -> None:
        """Wait until the session is loaded."""
        ...

    async def reload(self) -> None:
        """Start anew from the journal, keeping the mailbox."""
        ...

    def retire(self) -> None:
        """Let go of what was not dealt with, once `run` has been cancelled for good."""
        ...

    def command(self, act: Callable[[Session], Effects | None]) -> Pending:
        """Have the session do something after all that it has been told until now; raise Unavailable without room."""
        ...

    async def perform(self, act: Callable[[Session], Effects | None]) -> None:
        """Have the session do something between two facts, and return once it is durable."""
        ...

    async def until(self, condition: Callable[[Session], bool]) -> None:
        """Wait until something holds of the session."""
        ...


@frozen(kw_only=True)
class Intensity:
    """How often a child may fail within a period, and how long to wait in between (seconds)."""

    restarts_max: int = RESTARTS_MAX
    period_s: float = PERIOD_S
    backoff_min_s: float = 0.1
    backoff_max_s: float = 30.0

    @classmethod
    def of(cls, config: Sections) -> Intensity:
        """Return what a configuration asks for."""
        limits = config.supervision
        return cls(
            restarts_max=limits.restarts_max,
            period_s=float(limits.period_s),
            backoff_min_s=float(limits.backoff_min_s),
            backoff_max_s=float(limits.backoff_max_s),
        )


@define
class Failures:
    """The failures of one child within the period, and the back-off that follows from them."""

    intensity: Intensity
    total: int = 0
    last: str = ""
    # A list, because it is nearly always empty, and an empty deque takes ten times the room.
    _times_s: list[float] = field(factory=list[float])

    def note(self, cause: BaseException, now_s: float) -> bool:
        """Note a failure; tell whether the child may be restarted."""
        self.total += 1
        self.last = said_by(cause) if isinstance(cause, Crashed) else f"{type(cause).__name__}: {said_by(cause)}"[:500]
        self._times_s.append(now_s)
        while self._times_s and self._times_s[0] <= now_s - self.intensity.period_s:
            del self._times_s[0]
        return len(self._times_s) <= self.intensity.restarts_max

    def forgive(self) -> None:
        """Begin a new period: a person has looked."""
        self._times_s.clear()

    @property
    def recent(self) -> int:
        """Return how many failures the current period has."""
        return len(self._times_s)

    def backoff_s(self, jitter: float) -> float:
        """Return the wait before the next start: doubled with each failure in the period, times 0.5 to 1."""
        exponent = min(max(len(self._times_s) - 1, 0), 16)
        full = min(self.intensity.backoff_max_s, self.intensity.backoff_min_s * float(2**exponent))
        return full * (0.5 + 0.5 * jitter)


def said_by(trouble: BaseException) -> str:
    """Return an exception's message, whatever a stranger made of it, as text that can be stored."""
    try:
        text = str(trouble)
    except Exception:  # noqa: BLE001 - A message that cannot be made must not end whoever asks for it.
        text = "its message cannot be read"
    return text.encode(errors="replace").decode()


def told_cause(cause: BaseException) -> str:
    """Say what went wrong in words a person understands: the error, and where in the template it came from."""
    if isinstance(cause, Crashed):
        return said_by(cause)
    if isinstance(cause, BaseExceptionGroup):
        leaves = list(_leaves(cast("BaseExceptionGroup[BaseException]", cause)))
        return f"{len(leaves)} errors: " + "; ".join(told_cause(leaf) for leaf in leaves[:3])[:CAUSE_MAX]
    place = ""
    for frame in traceback.extract_tb(cause.__traceback__):
        if not frame.filename.startswith(_OURS):
            place = f" (in {frame.name}, {frame.filename.rpartition('/')[2]} line {frame.lineno})"
    text = said_by(cause) or "no message"
    return f"{type(cause).__name__}: {text[:CAUSE_MAX]}{place}"


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(cast("BaseExceptionGroup[BaseException]", each))
        else:
            yield each


def forget_frames(trouble: BaseException) -> None:
    """Let go of the frames that an error came through, once it has been told: they hold whole sessions."""
    trouble.__traceback__ = trouble.__context__ = trouble.__cause__ = None
    if isinstance(trouble, BaseExceptionGroup):
        for each in cast("BaseExceptionGroup[BaseException]", trouble).exceptions:
            forget_frames(each)


def without_cancelled(trouble: BaseException) -> BaseException | None:
    """Return what is left of a failure when cancellation is taken out of it, or nothing."""
    if isinstance(trouble, trio.Cancelled):
        return None
    if isinstance(trouble, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", trouble)
        return group.split(trio.Cancelled)[1]
    return trouble
