"""Price alarms: the levels that sessions leave with the feed, found by price, however many wait."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from attrs import define, field

from pipaid.engine.levels import Level, Levels


class Touch(msgspec.Struct, frozen=True):
    """The lowest and the highest price of a symbol in one market step, which reached somebody's alarm."""

    symbol: str
    step: int
    low: Decimal
    high: Decimal


class PriceAlarm(msgspec.Struct, frozen=True):
    """The levels waited for on one symbol, and the market step they were set in.

    Only later steps touch it. So a market that is played again after a crash passes an alarm in the steps before it was
    set, and one that fired and was committed is not there to fire again. One that `exits` is heeded without a template.
    """

    step: int
    below: Decimal | None = None
    above: Decimal | None = None
    exits: bool = False

    def met(self, touch: Touch, *, upper_first: bool = False) -> Decimal | None:
        """Return the level that was touched, or nothing; `upper_first` tells which one if it was both in one step."""
        if touch.step <= self.step:
            return None
        below = self.below if self.below is not None and touch.low <= self.below else None
        above = self.above if self.above is not None and touch.high >= self.above else None
        first, second = (above, below) if upper_first else (below, above)
        return second if first is None else first


class Named(Protocol):
    """Whoever waits for prices."""

    @property
    def id(self) -> str:
        """Return the id under which the alarms are kept."""
        ...


Owner = TypeVar("Owner", bound=Named)


@define(eq=False)
class Waiter(Generic[Owner]):
    """One owner's alarm on one symbol, with its level or its two among those of the others."""

    owner: Owner
    symbol: str
    alarm: PriceAlarm
    levels: tuple[Level[Any], ...] = ()


@define(eq=False)
class Alarms(Generic[Owner]):
    """Keep the alarms by symbol in two heaps, so that a price that touches none costs two comparisons.

    A touched alarm is gone from here at once; the session decides for itself whether it still stands, and has a new one
    kept if it wants to be asked again.
    """

    _levels: dict[str, Levels[Waiter[Owner]]] = field(factory=dict[str, Any])
    _waiters: dict[str, dict[str, Waiter[Owner]]] = field(factory=dict[str, Any])

    def keep(self, owner: Owner, symbol: str, alarm: PriceAlarm | None) -> None:
        """Wait for an owner's alarm on a symbol, and no longer for an earlier one; without one, for none."""
        before = self._waiters.get(owner.id, {}).get(symbol)
        if before is not None:
            if before.alarm == alarm and before.owner is owner:
                return
            self._forget(before)
        if alarm is None:
            return
        waiter = self._waiters.setdefault(owner.id, {})[symbol] = Waiter(owner, symbol, alarm)
        sides = ((alarm.below, True), (alarm.above, False))
        waiter.levels = tuple(Level(price, falling, waiter) for price, falling in sides if price is not None)
        levels = self._levels.setdefault(symbol, Levels[Waiter[Owner]]())
        for level in waiter.levels:
            levels.add(level)

    def forget(self, owner_id: str) -> None:
        """Wait no longer for any alarm of an owner."""
        for waiter in list(self._waiters.get(owner_id, {}).values()):
            self._forget(waiter)

    def take(self, symbol: str, low: Decimal, high: Decimal, *, step: int) -> list[tuple[Owner, Touch]]:
        """Remove the alarms that the prices of one step touched, and return their owners, each once."""
        levels = self._levels.get(symbol)
        if levels is None or (levels.below < low and high < levels.above):
            return []
        early: list[Level[Waiter[Owner]]] = []
        touched: dict[str, Waiter[Owner]] = {}
        for level in levels.take(low, high):
            waiter = level.item
            if waiter.alarm.step >= step:
                early.append(level)
            else:
                touched[waiter.owner.id] = waiter
        for level in early:
            levels.add(level)
        for waiter in touched.values():
            self._forget(waiter)
        touch = Touch(symbol, step, low, high)
        return [(waiter.owner, touch) for waiter in touched.values()]

    def _forget(self, waiter: Waiter[Owner]) -> None:
        mine = self._waiters[waiter.owner.id]
        del mine[waiter.symbol]
        if not mine:
            del self._waiters[waiter.owner.id]
        levels = self._levels[waiter.symbol]
        for level in waiter.levels:
            levels.drop(level)
