"""Who is to be called at which moment of venue time, found without looking at anybody whose moment has not come."""

from __future__ import annotations

from collections.abc import Container, Mapping
from heapq import heappop, heappush
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

import msgspec
from attrs import define, field

from pipaid.engine.alarms import Touch
from pipaid.model.instrument import MINUTE_MS

# A candle that closes at an occasion is waited for so long, where it does not come at all.
SETTLE_MS: Final = 5_000
NEVER_MS: Final = 2**62
# Calls that were given up are left where they are, until there are so many and more of them than of the others.
GIVEN_UP_MAX: Final = 64


class Ring(msgspec.Struct, frozen=True):
    """A session is called because its time has come; at which occasions, it knows by itself."""


RING: Final = Ring()
# What a session is told to decide at: a symbol whose candle closed, the touch of an alarm, or its time.
Occasion = str | Touch | Ring


def concerns(occasion: Occasion, symbols: Container[str]) -> bool:
    """Tell whether an occasion means anything to whoever trades some symbols."""
    return isinstance(occasion, Ring) or (occasion.symbol if isinstance(occasion, Touch) else occasion) in symbols


class Call(NamedTuple):
    """When somebody wants to be called, and the symbols whose candles have to be closed by then."""

    due_ms: int
    symbols: tuple[str, ...]


def is_settled(call: Call, now_ms: int, closed_ms: Mapping[str, int]) -> bool:
    """Tell whether all that closes at a moment has closed, or is not waited for any longer."""
    if now_ms >= call.due_ms + SETTLE_MS:
        return True
    minute_ms = call.due_ms - call.due_ms % MINUTE_MS
    return now_ms >= call.due_ms and all(closed_ms.get(symbol, 0) >= minute_ms for symbol in call.symbols)


class Named(Protocol):
    """Whoever is called."""

    @property
    def id(self) -> str:
        """Return the id under which the call is kept."""
        ...


Owner = TypeVar("Owner", bound=Named)


@define(eq=False)
class Rings(Generic[Owner]):
    """Keep one call for each owner, in a queue for each set of symbols; before `next_ms` none is due."""

    next_ms: int = NEVER_MS
    _calls: dict[str, tuple[Call, Owner]] = field(factory=dict[str, tuple[Call, Owner]])
    _queues: dict[tuple[str, ...], list[tuple[int, str]]] = field(factory=dict[tuple[str, ...], list[tuple[int, str]]])
    _given_up: int = 0

    def keep(self, owner: Owner, call: Call | None) -> None:
        """Call an owner then, and not at an earlier wish; without one, never."""
        before = self._calls.get(owner.id)
        if (before is None and call is None) or before == (call, owner):
            return
        self.forget(owner.id)
        if call is not None:
            self._calls[owner.id] = call, owner
            heappush(self._queues.setdefault(call.symbols, []), (call.due_ms, owner.id))
            self.next_ms = min(self.next_ms, call.due_ms)

    def forget(self, owner_id: str) -> None:
        """Call an owner no more."""
        if self._calls.pop(owner_id, None) is None:
            return
        self._given_up += 1
        if self._given_up > max(GIVEN_UP_MAX, len(self._calls)):
            self._given_up = 0
            self._queues = {}
            for owner, (call, _) in self._calls.items():
                heappush(self._queues.setdefault(call.symbols, []), (call.due_ms, owner))

    def take(self, now_ms: int, closed_ms: Mapping[str, int]) -> list[Owner]:
        """Return whose time has come, each once; they are not called again until they want to be."""
        taken: list[Owner] = []
        self.next_ms = NEVER_MS
        for symbols, queue in list(self._queues.items()):
            while queue:
                due_ms, owner_id = queue[0]
                call, kept = Call(due_ms, symbols), self._calls.get(owner_id)
                if kept is None or kept[0] != call:
                    heappop(queue)
                elif is_settled(call, now_ms, closed_ms):
                    heappop(queue)
                    del self._calls[owner_id]
                    taken.append(kept[1])
                else:
                    self.next_ms = min(self.next_ms, due_ms)
                    break
            else:
                del self._queues[symbols]
        return taken
