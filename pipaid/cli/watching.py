"""What `top` and `demo` know of a daemon: its status, its strategies and its last events, fetched again and again."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final

from attrs import define, field, frozen

from pipaid.cli.tail import EventFrame, event_of
from pipaid.cli.terminal import Terminal
from pipaid.errors import PipaidError
from pipaid.model.reply import StrategyObject
from pipaid.model.report import DaemonStatus
from pipaid.seams import Clock

EVENTS_MAX: Final = 200
LAST_EVENTS_MAX: Final = 10_000
RETRY_S: Final = 1.0


@frozen
class View:
    """One look at the daemon; without a status nobody answered, and `trouble` says why."""

    status: DaemonStatus | None = None
    strategies: Sequence[StrategyObject] = ()
    events: Sequence[EventFrame] = ()
    last_events: dict[str, EventFrame] = field(factory=dict[str, EventFrame])
    commits_per_s: float | None = None
    trouble: str = ""

    def name_of(self, strategy_id: str) -> str:
        """Return a strategy's name, or its id while the name is not known."""
        return next((each.name for each in self.strategies if each.id == strategy_id), strategy_id)


@define(eq=False)
class Watch:
    """Looks at the daemon when told to, and listens to its events all the time in a thread of its own.

    A daemon that goes away and comes back is found again.
    """

    terminal: Terminal
    clock: Clock
    _ears: _Ears = field(init=False)
    _commits: tuple[float, int] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._ears = _Ears(self.terminal)

    def __enter__(self) -> Watch:
        self._ears.start()
        return self

    def __exit__(self, *trouble: object) -> None:
        self._ears.stop()

    def look(self) -> View:
        """Return what is known now."""
        events, last = self._ears.heard()
        try:
            status = self.terminal.ask("status", DaemonStatus)
            strategies = tuple(self.terminal.strategies())
        except PipaidError as trouble:
            self.terminal.close()
            self._commits = None
            return View(None, (), events, last, None, trouble.message.partition("\n")[0])
        return View(status, strategies, events, last, self._rate(status.journal.commits))

    def _rate(self, commits: int) -> float | None:
        now_s = self.clock.monotonic_s()
        before, self._commits = self._commits, (now_s, commits)
        if before is None or now_s <= before[0] or commits < before[1]:
            return None
        return (commits - before[1]) / (now_s - before[0])


class _Ears(threading.Thread):
    """Listens to all events; the newest are kept, and the last one of each strategy."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(name="events", daemon=True)
        self._terminal = terminal
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._events: deque[EventFrame] = deque(maxlen=EVENTS_MAX)
        self._last: OrderedDict[str, EventFrame] = OrderedDict()

    def run(self) -> None:
        while not self._stopped.is_set():
            try:
                with self._terminal.connect() as client:
                    for frame in client.tail(ext=True):
                        self._hear(event_of(frame))
                        if self._stopped.is_set():
                            return
            except PipaidError:
                # Whoever looks is told so by `look`; here it is enough to listen again.
                self._stopped.wait(RETRY_S)

    def stop(self) -> None:
        """Listen no more; a thread that waits for a silent daemon ends with the process."""
        self._stopped.set()

    def heard(self) -> tuple[list[EventFrame], dict[str, EventFrame]]:
        """Return the newest events, oldest first, and the last one of each strategy."""
        with self._lock:
            return list(self._events), dict(self._last)

    def _hear(self, event: EventFrame) -> None:
        with self._lock:
            self._events.append(event)
            self._last[event.id] = event
            self._last.move_to_end(event.id)
            while len(self._last) > LAST_EVENTS_MAX:
                self._last.popitem(last=False)
