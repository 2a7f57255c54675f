"""Bugs to plant into the daemon, so that it is known which ones the worlds would find."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest.mock import patch

import msgspec
import trio

import actors.lifecycle as lifecycle_module
from actors.actor import OrderNews
from actors.answers import Answers
from actors.auditor import Auditor
from actors.feed import Feed
from actors.gateway import Gateway
from actors.portfolio import Portfolio
from actors.recorder import Recorder
from actors.resolver import Resolver
from actors.strategy import StrategyActor
from pipaid.engine.book import StrategyExposure
from pipaid.engine.effects import Effects
from pipaid.engine.quotes import Quotes
from pipaid.engine.stakes import Stakes
from pipaid.model.money import ZERO
from pipaid.model.order import Fill, Order, OrderFact
from pipaid.model.record import Batch
from pipaid.model.report import StrategyState
from pipaid.storage import staging
from pipaid.storage.sqlite import SqliteJournal
from pipaid.storage.staging import Staging
from pipaid.storage.store import Committed, JournalLost, StoredEvent
from pipaid.venues.venue import Outcome, Refused
from tests.simulation.judging import Verdict, judged
from tests.simulation.plan import Scene

TURNS: Final = 10
PROOF: Final = Committed(n=1, events=())
Patches = list[tuple[Any, str, Any]]


def _always(*_: Any) -> bool:
    return True


def _never(*_: Any) -> bool:
    return False


def send_before_commit() -> Patches:
    """Carry a decision out, and make it durable then."""

    async def settle(self: Any, effects: Effects | None) -> None:
        if effects is not None and not effects.empty:
            self._carry(effects, PROOF, self.clock.monotonic_s())
            # Who waits for its turn gets it before the disk does.
            for _ in range(TURNS):
                await trio.lowlevel.checkpoint()
            await self.writer.commit(effects.batch())

    def commit(self: Any, batch: Batch, decided: Any) -> None:
        for actor, effects in decided.items():
            actor.settled(effects, PROOF)
        self.writer.submit(batch)

    return [(StrategyActor, "_settle", settle), (Feed, "_commit", commit)]


def resend_on_timeout() -> Patches:
    """Send an order again if nobody answered."""
    place = Gateway._place

    async def twice(self: Any, order: Order) -> tuple[OrderFact, str]:
        fact, detail = await place(self, order)
        return await place(self, order) if fact is OrderFact.LOSE else (fact, detail)

    return [(Gateway, "_place", twice)]


def unknown_booked_as_rejected() -> Patches:
    """Take silence for a no."""
    place = Gateway._place

    async def rejected(self: Any, order: Order) -> tuple[OrderFact, str]:
        fact, detail = await place(self, order)
        return (OrderFact.REFUSE if fact is OrderFact.LOSE else fact), detail

    return [(Gateway, "_place", rejected)]


def asking_before_the_fence() -> Patches:
    """Believe a denial while the request may still arrive."""

    async def gone(self: Any, doubt: Any) -> bool:
        return True

    return [(Resolver, "_fenced", _always), (Resolver, "_is_gone", gone)]


def fill_key_marked_too_early() -> Patches:
    """Mark a fill as booked in a commit of its own, before what follows from it."""
    settle = StrategyActor._settle

    async def apart(self: Any, effects: Effects | None) -> None:
        if effects is not None and effects.fills:
            records = [record for record in effects.batch().records if record.entity == "fill"]
            await self.writer.commit(Batch(records=records))
            effects.fills.clear()
        await settle(self, effects)

    return [(StrategyActor, "_settle", apart)]


def cap_checked_without_open_orders() -> Patches:
    """Count what is held, and not what may be held when working orders fill."""
    exposure = Stakes.exposure

    def held(self: Stakes, orders: int) -> StrategyExposure:
        return msgspec.structs.replace(exposure(self, orders), entries=0, entry_value=ZERO, orders=0)

    return [(Stakes, "exposure", held)]


def seq_from_a_rolled_back_counter() -> Patches:
    """Number events from a counter that goes on although the commit is lost."""
    counter: dict[str, Any] = {}
    number = staging._Draft.number
    count = staging._Draft._count

    def counted(self: Any, strategy_id: str) -> Any:
        return max(count(self, strategy_id), counter.get(strategy_id, (0, 0)))

    def numbered(self: Any, draft: Any) -> StoredEvent:
        event = number(self, draft)
        counter[draft.strategy_id] = self._counts[draft.strategy_id]
        return event

    return [(staging._Draft, "_count", counted), (staging._Draft, "number", numbered)]


def publish_before_commit() -> Patches:
    """Tell the world what is about to be durable."""
    enqueue = Recorder._enqueue

    def told(self: Any, item: Any) -> None:
        journal = self.journal
        early = Staging(journal._n, journal._hash, frozenset(), journal._counted)
        outcome = early.stage(Batch(events=item.batch.events))
        if isinstance(outcome, Committed) and outcome.events and not self._line:
            self.publish(outcome.events)
            # They are not told twice, so that nothing but the order of things is wrong.
            self.publish = _once_more_without(self.publish, outcome.events)
        enqueue(self, item)

    return [(Recorder, "_enqueue", told)]


def _once_more_without(publish: Callable[[Any], object], told: Any) -> Callable[[Any], object]:
    known = {(event.strategy_id, event.seq) for event in told}

    def rest(events: Any) -> None:
        fresh = tuple(event for event in events if (event.strategy_id, event.seq) not in known)
        if fresh:
            publish(fresh)

    return rest


def stale_candle_accepted() -> Patches:
    """Decide on a candle however old it is."""
    return [(Feed, "_too_old", _never), (Feed, "_is_aged", _never)]


def latch_lost_on_restart() -> Patches:
    """Forget the kill switch over a restart."""
    load = Portfolio.load

    async def forgetful(self: Any) -> None:
        await load(self)
        self.kill = msgspec.structs.replace(self.kill, is_active=False)
        self._apply()

    return [(Portfolio, "load", forgetful)]


def cancel_done_on_unknown_order() -> Patches:
    """Take the refusal of a cancellation for the end of the order."""
    withdraw = Gateway._withdraw_one

    async def done(self: Any, order: Order) -> Outcome:
        outcome = await withdraw(self, order)
        if isinstance(outcome, Refused):
            ended = OrderNews(((order.client_order_id, OrderFact.CANCEL, outcome.proof),))
            self.delivery.hand(order.strategy_id, ended)
        return outcome

    return [(Gateway, "_withdraw_one", done)]


def lease_not_fenced() -> Patches:
    """Commit whoever has taken the journal over meanwhile."""

    @contextmanager
    def unfenced(self: Any) -> Generator[None]:
        if self._lost is not None:
            raise JournalLost(self._lost)
        try:
            self._writing.execute("BEGIN IMMEDIATE")
            newest = self._writing.execute("SELECT n, hash FROM record ORDER BY n DESC LIMIT 1").fetchone()
            self._n, self._hash = newest or (self._n, self._hash)
            yield
            self._writing.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)
            raise JournalLost(str(error)) from error

    return [(SqliteJournal, "_transaction", unfenced)]


def old_decision_sent() -> Patches:
    """Send an entry however long ago it was decided on."""

    def stopped(self: Gateway, entry: Order) -> str:
        return self.stopped

    return [(Gateway, "_too_late", stopped)]


def state_told_from_memory() -> Patches:
    """Tell the inside of a strategy as its session has it, before that is durable."""
    answer = Answers.strategy_state

    async def told(self: Any, caller: Any, asked: Any) -> StrategyState:
        state = await answer(self, caller, asked)
        session = self.roster.members[asked.id].session
        return state if session is None else msgspec.structs.replace(state, evaluations=session.brain.runs_made)

    return [(Answers, "strategy_state", told)]


def stop_walks_away() -> Patches:
    """End a strategy whatever becomes of its orders."""

    async def ended(_: object) -> bool:
        return True

    return [(lifecycle_module, "end_orders_of", ended)]


def risen_orders_not_met() -> Patches:
    """Look away from an order that works at the venue although it was given up."""

    async def looked_away(self: Any, views: Any) -> None:
        await trio.lowlevel.checkpoint()

    return [(Auditor, "_meet", looked_away)]


def missed_fill_without_fee() -> Patches:
    """Book a fill that the stream lost without what it cost."""
    offer = Auditor._offer

    def cheaper(self: Any, fill: Fill) -> bool:
        return offer(self, msgspec.structs.replace(fill, fee=ZERO))

    return [(Auditor, "_offer", cheaper)]


def dispute_not_heeded() -> Patches:
    """Enter although the venue holds something else than we do."""
    return [(Quotes, "is_frozen", _never)]


def gap_of_the_loop_forgiven() -> Patches:
    """Trust what was known before the loop stood still."""
    return [(Feed, "_mind_gap", _never)]


def kill_leaves_entries_working() -> Patches:
    """Stop sending, and leave at the venue what is there."""

    async def left(self: Any, close_positions: bool) -> None:
        await trio.lowlevel.checkpoint()

    return [(Portfolio, "_withdraw", left)]


def start_without_reconciling() -> Patches:
    """Trade at once after a start."""

    async def skipped(self: Any, unsettled: Any, *, patience: Any) -> None:
        await trio.lowlevel.checkpoint()

    return [(Auditor, "reconcile", skipped)]


# What each breaks: how one of the violations has to begin for the bug to count as found.
PROMISES: Final[Mapping[Callable[[], Patches], str]] = {
    send_before_commit: "O2",
    resend_on_timeout: "O1",
    unknown_booked_as_rejected: "O",
    asking_before_the_fence: "O4",
    fill_key_marked_too_early: "M1",
    cap_checked_without_open_orders: "M2",
    seq_from_a_rolled_back_counter: "S3",
    publish_before_commit: "S1",
    stale_candle_accepted: "T1",
    latch_lost_on_restart: "stopped:",
    cancel_done_on_unknown_order: "O4",
    lease_not_fenced: "S5",
    old_decision_sent: "T1",
    state_told_from_memory: "S1",
    stop_walks_away: "O4",
    risen_orders_not_met: "O",
    missed_fill_without_fee: "M1",
    dispute_not_heeded: "M4",
    gap_of_the_loop_forgiven: "T1",
    kill_leaves_entries_working: "stopped:",
    start_without_reconciling: "M4",
}
PLANTED: Final[Mapping[str, Callable[[], Patches]]] = {each.__name__.replace("_", " "): each for each in PROMISES}


@contextmanager
def planted(name: str) -> Generator[None]:
    """Run the daemon with a bug."""
    with ExitStack() as stack:
        for owner, attribute, replacement in PLANTED[name]():
            stack.enter_context(patch.object(owner, attribute, replacement))
        yield


def first_found(name: str, seeds: Iterable[int]) -> Verdict | None:
    """Return the first world in which a planted bug breaks the promise that it is known to break, or nothing."""
    for seed in seeds:
        with planted(name):
            verdict = judged(Scene(seed))
        if told_by(name, verdict):
            return verdict
    return None


def told_by(name: str, verdict: Verdict) -> str:
    """Return the first violation of the promise that a planted bug is known to break, or nothing."""
    promise = PROMISES[PLANTED[name]]
    told = zip(verdict.promises, verdict.violations, strict=True)
    return next((violation for broken, violation in told if broken.startswith(promise)), "")
