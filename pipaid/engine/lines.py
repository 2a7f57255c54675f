"""Which delivery goes out next: accounts in turn, and of each its webhooks, none of them at the cost of the others."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count
from typing import Final

from attrs import define, field

from pipaid.model.webhook import GIVEN_UP_AFTER_MS, Delivery

AT_ONCE_MAX: Final = 32
AT_ONCE_OF_WEBHOOK_MAX: Final = 4
AT_ONCE_OF_ACCOUNT_MAX: Final = 16


@define(eq=False)
class Errand:
    """A delivery that has not ended; `n` is its event's record, and `body` its letter, until its row is durable.

    `has_row` tells that a row is there or on its way, `is_under_way` that it is being sent, and `is_gone` that nobody
    waits for it any more.
    """

    delivery: Delivery
    account: str
    added_s: float
    n: int = 0
    body: bytes | None = None
    has_row: bool = False
    is_under_way: bool = False
    is_gone: bool = False


@define(eq=False)
class Lines:
    """Hold what has not ended by webhook, and say what goes next. Moments are of the monotonic clock."""

    _all: dict[str, dict[str, Errand]] = field(factory=dict[str, dict[str, Errand]])
    # What is due, by account and webhook.
    _ready: dict[str, dict[str, deque[Errand]]] = field(factory=dict[str, dict[str, deque[Errand]]])
    _later: list[tuple[float, int, Errand]] = field(factory=list[tuple[float, int, Errand]])
    _sent: dict[str, Errand] = field(factory=dict[str, Errand])
    _of_webhook: Counter[str] = field(factory=Counter[str])
    _of_account: Counter[str] = field(factory=Counter[str])
    _order: Iterator[int] = field(factory=count)
    # Webhooks whose deliveries wait until somebody says otherwise.
    _held: set[str] = field(factory=set[str])

    def __len__(self) -> int:
        return sum(map(len, self._all.values()))

    def waiting(self, webhook_id: str) -> dict[str, Errand]:
        """Return what has not ended of one webhook, by delivery, oldest first."""
        return self._all.get(webhook_id, {})

    def longest(self) -> str:
        """Return the webhook with the most that waits."""
        return max(self._all, key=lambda webhook_id: len(self._all[webhook_id]))

    def oldest_ms(self) -> int:
        """Return when the oldest of all was begun, 0 if there is none."""
        firsts = (next(iter(line.values())) for line in self._all.values())
        return min((errand.delivery.taken_at_ms for errand in firsts), default=0)

    def add(self, errand: Errand, due_s: float, now_s: float) -> None:
        """Take an errand in, or back after an attempt, to be sent when it is due."""
        delivery = errand.delivery
        self._all.setdefault(delivery.webhook_id, {})[delivery.id] = errand
        if due_s <= now_s:
            self._stand_in_line(errand)
        else:
            heappush(self._later, (due_s, next(self._order), errand))

    def take(self, now_s: float) -> Errand | None:
        """Return what goes next, or nothing if all that is due has to wait for a place."""
        while self._later and self._later[0][0] <= now_s:
            _, _, due = heappop(self._later)
            if not due.is_gone:
                self._stand_in_line(due)
        if len(self._sent) >= AT_ONCE_MAX:
            return None
        for account in list(self._ready):
            if self._of_account[account] >= AT_ONCE_OF_ACCOUNT_MAX:
                continue
            errand = self._first_of(account)
            # Whoever has had a turn stands behind the others.
            lines = self._ready.pop(account) if errand is not None or not self._ready[account] else None
            if lines:
                self._ready[account] = lines
            if errand is not None:
                self._begin(errand)
                return errand
        return None

    def back(self, errand: Errand) -> None:
        """Give the place of an errand that was sent free."""
        errand.is_under_way = False
        del self._sent[errand.delivery.id]
        self._of_webhook[errand.delivery.webhook_id] -= 1
        self._of_account[errand.account] -= 1

    def end(self, errand: Errand) -> None:
        """Forget an errand that has ended."""
        line = self._all.get(errand.delivery.webhook_id, {})
        if line.pop(errand.delivery.id, None) is not None and not line:
            del self._all[errand.delivery.webhook_id]

    def forget(self, webhook_id: str) -> list[Errand]:
        """Drop the line of a webhook and return it; what is being sent runs to its end."""
        line = list(self._all.pop(webhook_id, {}).values())
        for errand in line:
            errand.is_gone = True
            self._ready.get(errand.account, {}).pop(webhook_id, None)
        self._held.discard(webhook_id)
        return line

    def hold(self, webhook_id: str, *, held: bool) -> None:
        """Let the deliveries of a webhook wait, or go on."""
        (self._held.add if held else self._held.discard)(webhook_id)

    def late(self, now_ms: int) -> list[Errand]:
        """Return what was held back until its day had passed."""
        return [
            errand
            for webhook_id in sorted(self._held)
            for errand in self._all.get(webhook_id, {}).values()
            if not errand.is_under_way and errand.delivery.taken_at_ms + GIVEN_UP_AFTER_MS <= now_ms
        ]

    def due_s(self) -> float | None:
        """Return when something comes due next that is not due yet."""
        return self._later[0][0] if self._later else None

    @property
    def holds_back(self) -> bool:
        """Tell whether anything waits for its webhook."""
        return any(webhook_id in self._all for webhook_id in sorted(self._held))

    def _stand_in_line(self, errand: Errand) -> None:
        self._ready.setdefault(errand.account, {}).setdefault(errand.delivery.webhook_id, deque()).append(errand)

    def _first_of(self, account: str) -> Errand | None:
        """Take what goes next of an account out of its line, if a webhook of it has a place."""
        lines = self._ready[account]
        for webhook_id in list(lines):
            line = lines[webhook_id]
            while line and line[0].is_gone:
                line.popleft()
            if not line:
                del lines[webhook_id]
                continue
            if webhook_id in self._held or self._of_webhook[webhook_id] >= AT_ONCE_OF_WEBHOOK_MAX:
                continue
            errand = line.popleft()
            del lines[webhook_id]
            if line:
                lines[webhook_id] = line
            return errand
        return None

    def _begin(self, errand: Errand) -> None:
        errand.is_under_way = True
        self._sent[errand.delivery.id] = errand
        self._of_webhook[errand.delivery.webhook_id] += 1
        self._of_account[errand.account] += 1
