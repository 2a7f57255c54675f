"""One subscriber's bounded place in the event stream: what waits for it, what it lost, what it still has to catch up.

The publishing side only ever appends and never waits; the subscriber's one sender takes at its own pace.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

import trio
from attrs import define, field

RING_FRAMES_MAX: Final = 4_096
RING_BYTES_MAX: Final = 4 * 1024 * 1024
# One subscriber lost events of at most this many strategies that it has not been told of; then it is closed.
LOST_STRATEGIES_MAX: Final = 16_384
TAKE_BYTES: Final = 64 * 1024
WILDCARD: Final = "*"


class Numbered(Protocol):
    """An event as the journal stored it; see `pipaid.storage.store.StoredEvent`."""

    @property
    def n(self) -> int: ...
    @property
    def strategy_id(self) -> str: ...
    @property
    def seq(self) -> int: ...
    @property
    def opt_in(self) -> bool: ...
    @property
    def frame(self) -> bytes: ...


@define(eq=False)
class Bundle:
    """Events that travel together; every subscriber gets the same object, so what its sender makes of it is shared."""

    events: tuple[Numbered, ...]
    size_bytes: int
    # The bytes as they go over the wire, made by the first sender that needs them.
    encoded: bytes = b""
    _ranges: dict[str, tuple[int, int]] | None = None

    @property
    def ranges(self) -> dict[str, tuple[int, int]]:
        """Return the first and the last number of each strategy in here; extended events have none."""
        if self._ranges is None:
            self._ranges = {}
            for event in self.events:
                if event.seq:
                    first, _ = self._ranges.get(event.strategy_id, (event.seq, 0))
                    self._ranges[event.strategy_id] = (first, event.seq)
        return self._ranges


@define(frozen=True)
class Lost:
    """A range of one strategy's events that this subscriber will not get, both ends included."""

    strategy_id: str
    from_seq: int
    to_seq: int
    ext: bool


@define(frozen=True)
class Delivery:
    """What a subscriber gets next: first what it lost, then what came after."""

    lost: tuple[Lost, ...] = ()
    bundles: tuple[Bundle, ...] = ()


@define(frozen=True)
class Resumption:
    """Where a subscription starts: the oldest retained number of each strategy whose wanted past is gone in part.

    `position` is the number that each strategy goes on after; those that it does not name begin at their first.
    """

    oldest_seqs: tuple[tuple[str, int], ...] = ()
    position: dict[str, int] = field(factory=dict[str, int])


@define(eq=False)
class Gate:
    """Holds back one strategy's live events until its past has been read up to them."""

    after_seq: int
    # The journal's number of the last event that the subscriber knows or was sent from the past.
    after_n: int = 0
    # The journal's number of the last event that was published and held back.
    head_n: int = 0
    replaying: bool = True
    # Whatever is retained is all that was asked for: where it begins, nothing counts as lost.
    whole_past: bool = False


class EventSource(Protocol):
    """The hub as the surfaces see it."""

    def open(self, account: str | None) -> Tap:
        """Return a new subscriber; None sees every account."""
        ...

    async def subscribe(
        self,
        tap: Tap,
        strategy_id: str,
        *,
        since: int | dict[str, int] | None = None,
        ext: bool = False,
        located: bool = False,
    ) -> Resumption:
        """Let the subscriber have a strategy's events, or everybody's under `*`, from now or from a number on.

        `located` asks for the position that now is, so that the subscriber can come back to it.
        """
        ...

    def unsubscribe(self, tap: Tap, strategy_id: str) -> bool:
        """End a subscription, and take back what waits for it; tell whether there was one."""
        ...

    async def take(self, tap: Tap) -> Delivery:
        """Wait for what the subscriber gets next; an empty delivery means that it was woken for something else."""
        ...

    def close(self, tap: Tap) -> None:
        """Forget the subscriber."""
        ...


@define(eq=False)
class Tap:
    """A subscriber: a ring of live events that drops its oldest when full, and gates for what is still replayed."""

    account: str | None
    frames_max: int = RING_FRAMES_MAX
    bytes_max: int = RING_BYTES_MAX
    # Called when events are lost, at most once until the ring has been emptied again; it must not wait.
    on_overflow: Callable[[], None] | None = None
    # Called instead of waking a sleeping sender when events have come, once until `take_if_idle`; it must not wait.
    on_ready: Callable[[], None] | None = None
    # What is subscribed, and whether with extended events.
    subscriptions: dict[str, bool] = field(factory=dict[str, bool])
    gates: dict[str, Gate] = field(factory=dict[str, Gate])
    # The ring ran over and has not been emptied since; and how often that began.
    overflowed: bool = False
    overflows: int = 0
    too_far_behind: bool = False
    _replays: deque[str] = field(factory=deque[str])
    _settled: list[str] = field(factory=list[str])
    # What waits of a strategy up to this number was taken back; `_floor_n` is for strategies not listed.
    _floors: dict[str, int] = field(factory=dict[str, int])
    _floor_n: int = 0
    _past_first: bool = False
    _ring: deque[Bundle] = field(factory=deque[Bundle])
    _frames: int = 0
    _bytes: int = 0
    _lost: dict[str, tuple[int, int]] = field(factory=dict[str, tuple[int, int]])
    _sleeper: trio.lowlevel.Task | None = None
    _woken: bool = False
    _announced: bool = False

    @property
    def pending_frames(self) -> int:
        """Return how many live events wait."""
        return self._frames

    def offer(self, bundle: Bundle) -> None:
        """Append live events; never waits."""
        if self.gates:
            passed = self._through_gates(bundle)
            if passed is None:
                return
            bundle = passed
        self._ring.append(bundle)
        self._frames += len(bundle.events)
        self._bytes += bundle.size_bytes
        if self._frames > self.frames_max or self._bytes > self.bytes_max:
            self._drop_oldest()
        if self._sleeper is not None:
            self.nudge()

    def nudge(self) -> None:
        """Say that there is something to send, be it an event or not."""
        if self._sleeper is None or self.on_ready is None:
            self.wake()
        elif not self._announced:
            self._announced = True
            self.on_ready()

    def take_if_idle(self) -> tuple[Bundle, ...] | None:
        """Take what came while the sender slept, for somebody who can write it without waking the sender.

        Nothing is returned if the sender is awake or has to be, since then all is the sender's to take.
        """
        self._announced = False
        if self._sleeper is None:
            return None
        if self._lost or self._replays:
            self.wake()
            return None
        return self.take_live().bundles

    def wake(self) -> None:
        """Make the subscriber's sender look again, now or at its next wait."""
        if self._sleeper is None:
            self._woken = True
        else:
            sleeper, self._sleeper = self._sleeper, None
            trio.lowlevel.reschedule(sleeper)

    async def wait(self) -> None:
        """Wait until there is something to take; only the subscriber's one sender calls this."""
        if self._ring or self._lost or self._replays or self._woken:
            self._woken = False
            await trio.lowlevel.checkpoint()
            return

        def abort(_: object) -> trio.lowlevel.Abort:
            self._sleeper = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._sleeper = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)
        self._woken = False

    def take_live(self) -> Delivery:
        """Take what was lost and what came after it, up to about `TAKE_BYTES`."""
        lost = tuple(Lost(key, first, last, self.is_ext(key)) for key, (first, last) in self._lost.items())
        self._lost.clear()
        bundles: list[Bundle] = []
        size = 0
        while self._ring and size < TAKE_BYTES:
            bundle = self._ring.popleft()
            size += bundle.size_bytes
            self._frames -= len(bundle.events)
            fresh = self._fresh(bundle)
            if fresh is not None:
                bundles.append(fresh)
        self._bytes -= size
        if not self._ring:
            self.overflowed = False
            self._floors.clear()
            self._floor_n = 0
        return Delivery(lost, tuple(bundles))

    def begin_replay(self, strategy_id: str, gate: Gate) -> None:
        """Hold back a strategy's live events until its past has been read."""
        self.gates[strategy_id] = gate
        self._replays.append(strategy_id)
        self.wake()

    def next_replay(self) -> tuple[str, Gate] | None:
        """Return the strategy whose past is to be read next, if it is the past's turn; strategies take turns."""
        self._past_first = not self._past_first
        if self._ring and not self._past_first:
            return None
        while self._replays:
            strategy_id = self._replays.popleft()
            gate = self.gates.get(strategy_id)
            if gate is not None and gate.replaying:
                return strategy_id, gate
        return None

    def resume_replay(self, strategy_id: str, gate: Gate) -> None:
        """Queue a strategy whose past goes on."""
        if self.gates.get(strategy_id) is gate:
            self._replays.append(strategy_id)

    def end_replay(self, strategy_id: str, gate: Gate) -> None:
        """Let live events through again, except those that the past contained."""
        gate.replaying = False
        self._settled.append(strategy_id)

    def open_gates(self, published_n: int) -> bool:
        """Remove the gates that have nothing left to hold back once so much is published; tell whether any remains."""
        still_settled: list[str] = []
        for strategy_id in self._settled:
            gate = self.gates.get(strategy_id)
            if gate is None or gate.replaying:
                continue
            if gate.after_n <= published_n:
                del self.gates[strategy_id]
            else:
                still_settled.append(strategy_id)
        self._settled = still_settled
        return bool(still_settled)

    def note_lost(self, strategy_id: str, from_seq: int, to_seq: int) -> None:
        """Extend the range that this subscriber will be told it lost."""
        before = self._lost.get(strategy_id)
        if before is not None:
            from_seq, to_seq = min(before[0], from_seq), max(before[1], to_seq)
        elif len(self._lost) >= LOST_STRATEGIES_MAX:
            self.too_far_behind = True
            return
        self._lost[strategy_id] = (from_seq, to_seq)

    def is_ext(self, strategy_id: str) -> bool:
        """Tell whether the subscriber gets a strategy's extended events; under `*`, asking once is asking for all."""
        if WILDCARD in self.subscriptions:
            return any(self.subscriptions.values())
        return self.subscriptions.get(strategy_id, False)

    def lost_untold(self) -> bool:
        """Tell whether something was lost of a strategy whose subscription does not ask for `lagged`."""
        return any(not self.is_ext(strategy_id) for strategy_id in self._lost)

    def forget(self, strategy_id: str) -> None:
        """Take back what waits of one strategy; it is left out when its turn comes."""
        if self._ring:
            self._floors[strategy_id] = self._ring[-1].events[-1].n
        self._lost.pop(strategy_id, None)
        self.gates.pop(strategy_id, None)

    def forget_all_but(self, kept: Collection[str]) -> None:
        """Take back what waits of every other strategy."""
        if self._ring:
            self._floors = {strategy_id: self._floors.get(strategy_id, self._floor_n) for strategy_id in kept}
            self._floor_n = self._ring[-1].events[-1].n
        self._lost = {key: lost for key, lost in self._lost.items() if key in kept}
        self.gates = {key: gate for key, gate in self.gates.items() if key in kept}

    def _fresh(self, bundle: Bundle) -> Bundle | None:
        """Leave out what was taken back while it waited."""
        if not self._floors and not self._floor_n:
            return bundle
        return narrowed(bundle, lambda event: event.n > self._floors.get(event.strategy_id, self._floor_n))

    def _through_gates(self, bundle: Bundle) -> Bundle | None:
        def passes(event: Numbered) -> bool:
            gate = self.gates.get(event.strategy_id)
            if gate is None:
                return True
            if gate.replaying:
                gate.head_n = event.n
                return False
            return event.n > gate.after_n

        return narrowed(bundle, passes)

    def _drop_oldest(self) -> None:
        while self._ring and (self._frames > self.frames_max or self._bytes > self.bytes_max):
            dropped = self._ring.popleft()
            self._frames -= len(dropped.events)
            self._bytes -= dropped.size_bytes
            fresh = self._fresh(dropped)
            if fresh is None:
                continue
            # Extended events carry no number: the loss of nothing but such events is not told.
            for strategy_id, (from_seq, to_seq) in fresh.ranges.items():
                self.note_lost(strategy_id, from_seq, to_seq)
        if not self.overflowed:
            self.overflowed = True
            self.overflows += 1
            if self.on_overflow is not None:
                self.on_overflow()


def narrowed(bundle: Bundle, wanted: Callable[[Numbered], bool]) -> Bundle | None:
    """Return the part of a bundle that is wanted; the bundle itself if that is all of it."""
    kept = tuple(event for event in bundle.events if wanted(event))
    if len(kept) == len(bundle.events):
        return bundle
    return bundle_of(kept) if kept else None


def bundle_of(events: Sequence[Numbered]) -> Bundle:
    """Put events together."""
    return Bundle(tuple(events), sum(len(event.frame) for event in events))
