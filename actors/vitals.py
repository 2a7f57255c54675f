"""Whether the daemon lives: what has to go on, and the thread that feeds those who end it when something does not."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from attrs import define, field

from pipaid import sentry
from pipaid.logs import get_log
from pipaid.seams import Clock, unshared
from pipaid.wire.systemd import Notifier

LOOKS_PER_PERIOD: Final = 4
BEATS_PER_PERIOD: Final = 16
BEAT_S_MAX: Final = 0.5
SENTRY_ENDS_S: Final = 5.0


class Fed(Protocol):
    """The black box as the watchdog sees it."""

    def feed(self) -> None:
        """Show the sentry that everything moves."""
        ...


class Vital(Protocol):
    """Something that must go on while the daemon lives."""

    def moved(self) -> bool:
        """Tell whether it has gone on since the last look, or had nothing to do."""
        ...


class Written(Protocol):
    """The recorder as the watchdog sees it."""

    commits: int

    @property
    def pending(self) -> int:
        """Return how many batches wait."""
        ...


@define
class Carrying:
    """A vital of its own for the watchdog: the journal goes on, or has nothing to do."""

    recorder: Written
    _seen: int = -1

    def moved(self) -> bool:
        """Tell whether anything was committed since the last look, or nothing waits."""
        before, self._seen = self._seen, self.recorder.commits
        return self._seen != before or not self.recorder.pending


@define
class Heartbeat:
    """A vital that beats by itself: one that does so no longer is stuck."""

    _beats: int = 0
    _seen: int = -1

    def beat(self) -> None:
        """Show life."""
        self._beats += 1

    def moved(self) -> bool:
        """Tell whether it beat since the last look, or never has yet."""
        before, self._seen = self._seen, self._beats
        return self._seen != before or not self._beats


@define(eq=False)
class Sentinel:
    """The sentry's process as its daemon holds it; one that was lost is replaced."""

    path: Path
    limit_s: float
    pid: int
    style: str
    _process: subprocess.Popen[bytes] | None = None

    def stand(self) -> None:
        """See to it that a sentry watches."""
        if self._process is not None and self._process.poll() is None:
            return
        words = ["-I", "-S", sentry.__file__, str(self.path), str(self.pid), f"{self.limit_s:g}", self.style]
        # A session of its own: what is typed at a terminal is meant for the daemon.
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own file and our own arguments
                [sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
            )
            assert self._process.stdin is not None
            unshared(self._process.stdin)
        except OSError as trouble:
            # There is another look, and the service manager looks on as well.
            get_log().error("sentry.missing", reason=str(trouble))

    def dismiss(self) -> None:
        """Let the sentry go."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.communicate(timeout=SENTRY_ENDS_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@define(eq=False)
class Watchdog:
    """A thread that feeds the sentry and the service manager while every vital moves, and says which one does not.

    It begins with what is vital from the start; what else is, and who else is to be fed, comes with the daemon.
    """

    box: Fed
    period_s: float
    vitals: Mapping[str, Vital]
    sentinel: Sentinel | None = None
    notifier: Notifier = field(factory=Notifier)
    stalled: tuple[str, ...] = ()
    _enough: threading.Event = field(factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def beat_s(self) -> float:
        """Return how often a heart has to beat to be seen at every look."""
        return min(BEAT_S_MAX, self.period_s / BEATS_PER_PERIOD)

    def attend(self, notifier: Notifier, vitals: Mapping[str, Vital]) -> None:
        """Watch these from now on, and feed the service manager as well."""
        self.notifier, self.vitals = notifier, vitals

    def start(self) -> None:
        """Begin to look, a few times a period."""
        self._thread = threading.Thread(target=self._look_on, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more, and let the sentry go."""
        self._enough.set()
        if self._thread is not None:
            self._thread.join(timeout=self.period_s)
        if self.sentinel is not None:
            self.sentinel.dismiss()

    def look(self) -> bool:
        """Look once: feed if every vital moved, and log a vital that stopped or goes on again."""
        if self.sentinel is not None:
            self.sentinel.stand()
        still = tuple(name for name, vital in self.vitals.items() if not vital.moved())
        if still != self.stalled:
            if still:
                get_log().warning("watchdog.stalled", vitals=list(still))
            else:
                get_log().info("watchdog.recovered", vitals=list(self.stalled))
            self.stalled = still
        if still:
            return False
        self.box.feed()
        return self.notifier.feed()

    def _look_on(self) -> None:
        # Signals are for the main thread; a watchdog that took one would delay it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGTERM, signal.SIGINT})
        while not self._enough.is_set():
            self.look()
            self._enough.wait(self.period_s / LOOKS_PER_PERIOD)


async def beat_forever(heartbeat: Heartbeat, clock: Clock, *, every_s: float = BEAT_S_MAX) -> None:
    """Beat as long as the loop turns."""
    while True:
        heartbeat.beat()
        await clock.sleep(every_s)
