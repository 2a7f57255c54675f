"""Numbered event fan-out: what the journal stored goes to every subscriber, live and from the past without a seam."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Final, Protocol, TypeVar

from attrs import define, field

from actors.actor import Writer
from pipaid.errors import InvalidParameter
from pipaid.model.event import is_notice
from pipaid.model.job import is_job
from pipaid.storage.store import Reader, StoredEvent
from pipaid.wire.tap import WILDCARD, Delivery, Gate, Lost, Numbered, Resumption, Tap, bundle_of

# Live events travel in bundles of at most so many: what a full ring drops at once.
BUNDLE_FRAMES_MAX: Final = 256
REPLAY_FRAMES: Final = 256
# One question to the journal asks for the bounds of at most so many strategies.
BOUNDS_MAX: Final = 1_024
LOOKED_THROUGH_AT_ONCE: Final = 16
# Who asks for everything retained gets the past of at most so many deleted strategies.
DELETED_MAX: Final = 16_384
# A number that no event has: who knows everything up to it begins with what comes next.
NEVER_GIVEN: Final = 2**63 - 1

K = TypeVar("K", str, str | None)


class Owners(Protocol):
    """Who knows whose strategy is whose."""

    def owner_of(self, strategy_id: str) -> str | None:
        """Return the account that owns a strategy."""
        ...

    def strategies_of(self, account: str | None) -> Sequence[str]:
        """Return the strategies of an account, or of all."""
        ...


@define(eq=False)
class _Audience:
    """Who hears the same events: with the extended ones or without."""

    strict: dict[Tap, None] = field(factory=dict[Tap, None])
    ext: dict[Tap, None] = field(factory=dict[Tap, None])

    def add(self, tap: Tap, *, ext: bool) -> None:
        self.remove(tap)
        (self.ext if ext else self.strict)[tap] = None

    def remove(self, tap: Tap) -> None:
        self.strict.pop(tap, None)
        self.ext.pop(tap, None)

    def hear(self, events: Sequence[StoredEvent]) -> None:
        if self.ext:
            _offer(self.ext, events)
        if self.strict:
            _offer(self.strict, [event for event in events if not event.opt_in])

    def __bool__(self) -> bool:
        return bool(self.strict or self.ext)


def _offer(taps: Iterable[Tap], events: Sequence[StoredEvent]) -> None:
    for start in range(0, len(events), BUNDLE_FRAMES_MAX):
        bundle = bundle_of(events[start : start + BUNDLE_FRAMES_MAX])
        for tap in taps:
            tap.offer(bundle)


@define(eq=False)
class Hub:
    """Publish stored events to taps, and read the past for those that ask for it.

    What is said of a strategy holds of a backtest job as well, but for `*`, which is for strategies alone.

    `publish` is called with everything the journal commits, in its order, and never waits. A full ring drops its
    oldest events and remembers exactly which. `on_published` tells whoever reads the journal alone that there is more.
    """

    journal: Writer
    owners: Owners
    on_published: Callable[[], object] = field(default=lambda: None)
    _taps: dict[Tap, None] = field(factory=dict[Tap, None], init=False)
    # Those with gates that hold back no more than what has been read ahead of its publication.
    _settling: dict[Tap, None] = field(factory=dict[Tap, None], init=False)
    _published_n: int = field(default=0, init=False)
    _by_strategy: dict[str, _Audience] = field(factory=dict[str, _Audience], init=False)
    _by_account: dict[str | None, _Audience] = field(factory=dict[str | None, _Audience], init=False)

    @property
    def subscribers(self) -> int:
        """Return how many subscribers there are."""
        return len(self._taps)

    def publish(self, events: Sequence[StoredEvent]) -> None:
        """Hand stored events to everybody who subscribed to them."""
        if self._settling:
            # Events come in the order of their numbers, but within one call each audience hears its own in turn.
            self._settling = {tap: None for tap in self._settling if tap.open_gates(self._published_n)}
        self._published_n = events[-1].n
        self.on_published()
        if self._by_account:
            # Who listens to all listens to all strategies: backtests are subscribed to one by one.
            traded = [each for each in events if not (is_job(each.strategy_id) or is_notice(each.strategy_id))]
            everybody = self._by_account.get(None)
            if everybody and traded:
                everybody.hear(traded)
            for account, theirs in self._grouped_by_account(traded).items():
                self._by_account[account].hear(theirs)
        if self._by_strategy:
            for strategy_id, its in _grouped_by_strategy(events, self._by_strategy).items():
                self._by_strategy[strategy_id].hear(its)

    def open(self, account: str | None) -> Tap:
        """Return a new subscriber; None sees every account."""
        tap = Tap(account)
        self._taps[tap] = None
        return tap

    def close(self, tap: Tap) -> None:
        """Forget the subscriber."""
        _leave(self._by_account, tap.account, tap)
        for strategy_id in tap.subscriptions:
            _leave(self._by_strategy, strategy_id, tap)
        self._taps.pop(tap, None)
        self._settling.pop(tap, None)

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

        Nothing is delivered between the return and the caller's next wait, so its acknowledgement can come first.
        `located` asks for the position that now is, so that the subscriber can come back to it.
        """
        if located and since is None:
            since = NEVER_GIVEN if strategy_id != WILDCARD else await self._heads(tap.account)
        named, everything = _asked(strategy_id, since)
        known = {key: seq for key, seq in named.items() if strategy_id != WILDCARD or self._may_see(tap, key)}
        retained = self.owners.strategies_of(tap.account) if everything else ()
        deleted = await self._deleted(tap.account, [key for key in named if key not in known], everything=everything)
        known |= {key: named[key] for key in deleted if key in named}
        short = await self._cut_short(known)
        # Once more: a strategy created while the journal was asked is to be read as well.
        fresh = self.owners.strategies_of(tap.account) if everything else ()
        if tap not in self._taps:
            return Resumption()
        tap.subscriptions[strategy_id] = ext
        self._place(tap, strategy_id)
        unknown = dict.fromkeys(chain(retained, fresh, deleted), 0)
        for key, after_seq in (unknown | known).items():
            tap.forget(key)
            # Even who seems up to date reads once: more may have been published since the journal was asked.
            tap.begin_replay(key, Gate(after_seq=after_seq, whole_past=key not in known))
        return Resumption(short, known)

    def unsubscribe(self, tap: Tap, strategy_id: str) -> bool:
        """End a subscription; tell whether there was one."""
        if tap.subscriptions.pop(strategy_id, None) is None:
            return False
        if strategy_id == WILDCARD:
            _leave(self._by_account, tap.account, tap)
            for other in tap.subscriptions:
                self._place(tap, other)
            tap.forget_all_but(tap.subscriptions)
        elif WILDCARD in tap.subscriptions and not is_job(strategy_id):
            self._place(tap, WILDCARD)
        else:
            _leave(self._by_strategy, strategy_id, tap)
            tap.forget(strategy_id)
        return True

    async def take(self, tap: Tap) -> Delivery:
        """Wait for what the subscriber gets next; an empty delivery means that it was woken for something else."""
        await tap.wait()
        replay = tap.next_replay()
        if replay is None:
            return tap.take_live()
        return await self._replayed(tap, *replay)

    async def _replayed(self, tap: Tap, strategy_id: str, gate: Gate) -> Delivery:
        """Read on in a strategy's past, and join it to the present once it has been read up to what was published.

        Whatever was published before the question was asked is durable, so that the answer covers it.
        """
        published_n = gate.head_n
        known_n, events = await self.journal.read(partial(_past, strategy_id=strategy_id, gate=gate))
        if tap.gates.get(strategy_id) is not gate:
            return Delivery()
        ext = tap.is_ext(strategy_id)
        # What retention took is no fault of the subscriber: a strict one has been told by the acknowledgement.
        lost = _hole(strategy_id, gate, events) if ext else ()
        gate.after_n = known_n
        for event in events:
            gate.after_seq = max(gate.after_seq, event.seq)
            gate.after_n = max(gate.after_n, event.n)
        if len(events) < REPLAY_FRAMES and gate.head_n <= max(published_n, gate.after_n):
            tap.end_replay(strategy_id, gate)
            self._settling[tap] = None
        else:
            tap.resume_replay(strategy_id, gate)
        told = [event for event in events if ext or not event.opt_in]
        return Delivery(lost, (bundle_of(told),) if told else ())

    def _may_see(self, tap: Tap, strategy_id: str) -> bool:
        owner = self.owners.owner_of(strategy_id)
        return owner is not None and tap.account in (None, owner)

    async def _heads(self, account: str | None) -> dict[str, int]:
        """Return the last number of each strategy that has had events: who goes on after these has missed nothing.

        Of deleted ones only those are named that still have any, since they will have no others.
        """
        keys = [*self.owners.strategies_of(account), *await self.journal.read(partial(_all_deleted, account=account))]
        heads = {WILDCARD: 0}
        for start in range(0, len(keys), BOUNDS_MAX):
            some = keys[start : start + BOUNDS_MAX]
            bounds = await self.journal.read(partial(_bounds_of, strategy_ids=some))
            owned = self.owners.owner_of
            heads |= {
                key: last
                for key, (oldest, last) in zip(some, bounds, strict=True)
                if oldest <= last or (last and owned(key) is not None)
            }
        return heads

    async def _deleted(self, account: str | None, ids: list[str], *, everything: bool) -> list[str]:
        """Return which of these the journal still knows as the account's, with all other deleted ones if asked."""
        found: list[str] = []
        for start in range(0, len(ids), BOUNDS_MAX):
            some = ids[start : start + BOUNDS_MAX]
            found += await self.journal.read(partial(_owned, strategy_ids=some, account=account))
        if everything:
            found += await self.journal.read(partial(_all_deleted, account=account))
        return found

    async def _cut_short(self, wanted: dict[str, int]) -> tuple[tuple[str, int], ...]:
        """Return the oldest retained number of each strategy whose wanted past is gone in part.

        A number that was never given, as after an old copy of the journal was restored, is taken to mean from now on.
        """
        short: list[tuple[str, int]] = []
        keys = list(wanted)
        for start in range(0, len(keys), BOUNDS_MAX):
            some = keys[start : start + BOUNDS_MAX]
            bounds = await self.journal.read(partial(_bounds_of, strategy_ids=some))
            for key, (oldest_seq, last_seq) in zip(some, bounds, strict=True):
                wanted[key] = min(wanted[key], last_seq)
                if wanted[key] + 1 < oldest_seq:
                    short.append((key, oldest_seq))
        return tuple(short)

    def _place(self, tap: Tap, strategy_id: str) -> None:
        """Put the subscriber where it hears each event once: under `*`, its other subscriptions wait their turn."""
        if WILDCARD not in tap.subscriptions or is_job(strategy_id):
            self._by_strategy.setdefault(strategy_id, _Audience()).add(tap, ext=tap.is_ext(strategy_id))
            return
        self._by_account.setdefault(tap.account, _Audience()).add(tap, ext=tap.is_ext(WILDCARD))
        if strategy_id == WILDCARD:
            for other in tap.subscriptions:
                if not is_job(other):
                    _leave(self._by_strategy, other, tap)

    def _grouped_by_account(self, events: Sequence[StoredEvent]) -> dict[str | None, list[StoredEvent]]:
        groups: dict[str | None, list[StoredEvent]] = {}
        for event in events:
            account = self.owners.owner_of(event.strategy_id)
            if account is not None and account in self._by_account:
                groups.setdefault(account, []).append(event)
        return groups


def _grouped_by_strategy(events: Sequence[StoredEvent], listened: dict[str, _Audience]) -> dict[str, list[StoredEvent]]:
    groups: dict[str, list[StoredEvent]] = {}
    for event in events:
        if event.strategy_id in listened:
            groups.setdefault(event.strategy_id, []).append(event)
    return groups


def _past(reader: Reader, *, strategy_id: str, gate: Gate) -> tuple[int, list[StoredEvent]]:
    """Return the journal's number of the last event that the subscriber knows, and the next ones.

    A subscriber may know events that are durable and not yet published: without that number it would hear them again.
    """
    after_n = gate.after_n
    if after_n == 0 and gate.after_seq > 0:
        after_n = _number_of(reader, strategy_id, gate.after_seq)
    return after_n, reader.events(strategy_id, after_seq=gate.after_seq, after_n=after_n, limit=REPLAY_FRAMES)


def _number_of(reader: Reader, strategy_id: str, seq: int) -> int:
    """Return the journal's number of an event, 0 if it is no longer retained."""
    passed_n = 0
    while page := reader.events(strategy_id, after_seq=seq - 1, after_n=passed_n, limit=LOOKED_THROUGH_AT_ONCE):
        numbered = next((event for event in page if event.seq), None)
        if numbered is not None:
            return numbered.n if numbered.seq == seq else 0
        # Extended events that follow the number before come first.
        passed_n = page[-1].n
    return 0


def _asked(strategy_id: str, since: int | dict[str, int] | None) -> tuple[dict[str, int], bool]:
    """Return the number up to which a subscriber knows each strategy that it names, and whether it wants the rest."""
    if strategy_id != WILDCARD:
        seq = since.get(strategy_id) if isinstance(since, dict) else since
        return ({} if seq is None else {strategy_id: seq}), False
    # Backtests are subscribed to one by one, on a channel with a scope of its own.
    named = {key: seq for key, seq in since.items() if not is_job(key)} if isinstance(since, dict) else {}
    rest = named.pop(WILDCARD, None) if isinstance(since, dict) else since
    if rest not in (None, 0):
        raise InvalidParameter(
            'under * since_seq is 0 for everything retained, or an object of numbers in which "*":0 may stand for '
            "the strategies that it does not name"
        )
    return named, rest == 0


def _owned(reader: Reader, *, strategy_ids: list[str], account: str | None) -> list[str]:
    rows = [reader.get("strategy", key) for key in strategy_ids]
    return [row.key for row in rows if row is not None and account in (None, row.owner)]


def _all_deleted(reader: Reader, *, account: str | None) -> list[str]:
    """Return the deleted strategies of an account, or of all, that were created last: their events outlive them."""
    page = reader.page("strategy", owner=account, state="deleted", before=None, limit=DELETED_MAX)
    return [row.key for row in page]


def _bounds_of(reader: Reader, *, strategy_ids: list[str]) -> list[tuple[int, int]]:
    """Return the oldest retained and the last number; where nothing is retained, the oldest is the one to come."""
    last_seqs = [reader.last_seq(key) for key in strategy_ids]
    return [(reader.oldest_seq(key) or last + 1, last) for key, last in zip(strategy_ids, last_seqs, strict=True)]


def _leave(audiences: dict[K, _Audience], key: K, tap: Tap) -> None:
    audience = audiences.get(key)
    if audience is not None:
        audience.remove(tap)
        if not audience:
            del audiences[key]


def _hole(strategy_id: str, gate: Gate, events: Sequence[Numbered]) -> tuple[Lost, ...]:
    """Tell what retention took between the last number that was delivered and the first that is left."""
    first = next((event.seq for event in events if event.seq), 0)
    whole_past, gate.whole_past = gate.whole_past, gate.whole_past and not first
    if whole_past or first <= gate.after_seq + 1:
        return ()
    return (Lost(strategy_id, gate.after_seq + 1, first - 1, ext=True),)
