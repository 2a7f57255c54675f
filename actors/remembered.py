"""The memory of idempotency keys: what was done under a key is answered again for a day, and never done twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import msgspec
import trio
from attrs import define, field

from actors.actor import Writer
from pipaid.errors import InvalidState, RateLimited, Unavailable
from pipaid.logs import get_log
from pipaid.model.record import Batch, Kind, Record
from pipaid.seams import Clock
from pipaid.storage.store import Reader
from pipaid.wire.envelope import Outcome

KEPT_US: Final = 24 * 3_600 * 1_000_000
# When so many keys have been used within a day, further ones are refused: forgetting one early could repeat a command.
KEYS_MAX: Final = 100_000
FORGOTTEN_AT_ONCE: Final = 256
ENTITY: Final = "answer"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored under a key: first that its request was begun, then how it was answered, as JSON text."""

    body: bytes
    at_us: int
    ok: bool = False
    answer: str | None = None


class Remembered(Protocol):
    """Where entries survive the process."""

    async def load(self) -> Sequence[tuple[str, int]]:
        """Return all keys with their moments."""
        ...

    async def get(self, key: str) -> Entry | None:
        """Return the entry of a key."""
        ...

    async def put(self, key: str, entry: Entry) -> None:
        """Store an entry durably, over the one before."""
        ...

    async def drop(self, keys: Sequence[str]) -> None:
        """Forget entries."""
        ...


@define(eq=False)
class _Begun:
    """A request under way, and who else waits for what becomes of it."""

    body: bytes
    over: trio.Event = field(factory=trio.Event)
    outcome: Outcome | None = None


@define(eq=False)
class Repeats:
    """Carry each keyed request out once, over restarts too: it is noted before it begins and again when it is over.

    What was refused without effect is forgotten, so that it may be tried again under the same key. A request that the
    daemon did not survive is not repeated: nobody knows how far it came.
    """

    store: Remembered
    clock: Clock
    keys_max: int = KEYS_MAX
    _known: dict[str, int] = field(factory=dict[str, int], init=False)
    _begun: dict[str, _Begun] = field(factory=dict[str, _Begun], init=False)

    async def load(self) -> None:
        """Take over what an earlier process stored."""
        self._known = dict(sorted(await self.store.load(), key=lambda known: known[1]))

    async def once(self, key: str, body: bytes, act: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Return what became of the request with this key and body, acting only if it is the first."""
        under_way = self._begun.get(key)
        if under_way is not None:
            _require_same(under_way.body, body)
            await under_way.over.wait()
            if under_way.outcome is None:
                raise Unavailable("the first request with this idempotency key was cut short; look before repeating it")
            return under_way.outcome
        begun = self._begun[key] = _Begun(body)
        try:
            begun.outcome = await self._again(key, body) or await self._first(key, body, act)
            return begun.outcome
        finally:
            begun.over.set()
            del self._begun[key]

    async def _again(self, key: str, body: bytes) -> Outcome | None:
        """Return the stored answer of a key, or nothing if it is new."""
        await self._forget_old()
        entry = await self.store.get(key) if key in self._known else None
        if entry is None:
            return None
        _require_same(entry.body, body)
        if entry.answer is None:
            raise InvalidState("the daemon ended while it carried this request out; look, then use another key")
        return Outcome(ok=entry.ok, body=entry.answer.encode())

    async def _first(self, key: str, body: bytes, act: Callable[[], Awaitable[Outcome]]) -> Outcome:
        if len(self._known) >= self.keys_max:
            raise RateLimited(f"{self.keys_max} idempotency keys were used within a day; send this without one")
        entry = Entry(body=body, at_us=self.clock.now_us())
        self._known[key] = entry.at_us
        await self.store.put(key, entry)
        outcome = await act()
        try:
            if outcome.lasting:
                answer = outcome.body if outcome.kept is None else outcome.kept
                await self.store.put(key, msgspec.structs.replace(entry, ok=outcome.ok, answer=answer.decode()))
            else:
                del self._known[key]
                await self.store.drop([key])
        except Unavailable as lost:
            # What was done stays done, and is told; who asks again hears that it was begun, and looks.
            get_log().warning("answer.unremembered", reason=lost.message)
        return outcome

    async def _forget_old(self) -> None:
        """Forget some of what is older than a day; keys were noted in the order of their moments."""
        horizon_us = self.clock.now_us() - KEPT_US
        old: list[str] = []
        for key, at_us in self._known.items():
            if at_us > horizon_us or len(old) >= FORGOTTEN_AT_ONCE:
                break
            old.append(key)
        if old:
            for key in old:
                del self._known[key]
            await self.store.drop(old)


@define(eq=False)
class JournalMemory:
    """Entries as records of the journal."""

    writer: Writer

    async def load(self) -> list[tuple[str, int]]:
        """Return all keys with their moments."""
        return await self.writer.read(lambda reader: [(row.key, row.sort) for row in reader.rows(ENTITY)])

    async def get(self, key: str) -> Entry | None:
        """Return the entry of a key."""

        def question(reader: Reader) -> Entry | None:
            row = reader.get(ENTITY, key)
            return None if row is None else msgspec.json.decode(row.data, type=Entry)

        return await self.writer.read(question)

    async def put(self, key: str, entry: Entry) -> None:
        """Store an entry durably, over the one before."""
        record = Record(ENTITY, key, Kind.PUT, msgspec.json.encode(entry), sort=entry.at_us)
        await self.writer.commit(Batch(records=[record]))

    async def drop(self, keys: Sequence[str]) -> None:
        """Forget entries."""
        await self.writer.commit(Batch(records=[Record(ENTITY, key, Kind.DROP) for key in keys]))


def _require_same(before: bytes, body: bytes) -> None:
    if before != body:
        raise InvalidState("this idempotency key was used for another request; use a new one")
