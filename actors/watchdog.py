"""Who watches the callbacks, and who watches the daemon: the guard, the black box, and the thread that feeds.

The guard interrupts a strategy's callback that runs too long. It cannot interrupt C code; for that the black box
remembers, in a mapped file that survives any death of the process, whose callback ran last, and the watchdog thread
stops feeding the sentry (`sentry.py`) and the service manager, who then abort the daemon. The next start reads the box.
"""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Final, Protocol, TypeVar, TypeVarTuple

from attrs import define, field, frozen

from actors.actor import Crashed, Phase, told_cause
from pipaid import sentry
from pipaid.logs import get_log
from pipaid.seams import Clock, Disk
from pipaid.sentry import BOX_BYTES, FED_AT, MAGIC, RECORD, RECORD_AT, STALLED_AT, WORD
from pipaid.wire.systemd import Notifier

TICK_S: Final = 0.005
# A tick in which a callback used less than this share of it: it waited for something.
IDLE_SHARE: Final = 0.1
LOOKS_PER_PERIOD: Final = 4
BEATS_PER_PERIOD: Final = 16
BEAT_S_MAX: Final = 0.5
SENTRY_ENDS_S: Final = 5.0

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


@frozen
class BoxRecord:
    """What the black box held when the daemon died: whose number, the count of entries, the phase.

    `stalled` tells that the daemon had stood still in it for so long that it was about to be aborted: one that dies
    otherwise was in the middle of something, too, and that is nobody's fault.
    """

    number: int
    event: int
    phase: Phase
    stalled: bool = False


class BlackBox:
    """4 KiB of mapped file; a write is a copy into memory, and the kernel keeps it whatever becomes of the process.

    The count of entries is written twice, around the rest, so that a record cut in half by a kill is known as such.
    """

    __slots__ = ("_event", "_fed", "_map", "_phase", "_seen", "path")

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, BOX_BYTES)
            self._map = mmap.mmap(descriptor, BOX_BYTES)
        finally:
            os.close(descriptor)
        self.path = path
        self._map[:] = MAGIC.ljust(BOX_BYTES, b"\0")
        self._fed = 0
        self._event = 0
        self._seen = -1
        self._phase = 0
        self.note(0, 0)

    def note(self, number: int, phase: int) -> None:
        """Note what begins: the number of the strategy concerned, 0 for none, and the phase."""
        self._event = event = self._event + 1
        self._phase = phase
        RECORD.pack_into(self._map, RECORD_AT, event, number, phase, event)

    def rest(self) -> None:
        """Note that the callback noted last is over."""
        if self._phase:
            self.note(0, Phase.IDLE)

    def moved(self) -> bool:
        """Tell whether anything was noted since the last look, or nothing is going on."""
        before, self._seen = self._seen, self._event
        return self._seen != before or self._phase == 0

    def feed(self) -> None:
        """Show the sentry that everything moves."""
        self._fed += 1
        WORD.pack_into(self._map, FED_AT, self._fed)

    def close(self) -> None:
        """Note that the daemon ended by itself, and let go of the file."""
        self.note(0, 0)
        self._map.close()


def read_black_box(path: Path, disk: Disk) -> BoxRecord | None:
    """Return what was going on when the daemon died, or nothing: no box, idle, or a record cut in half."""
    try:
        data = disk.read(path)
    except OSError:
        return None
    if len(data) != BOX_BYTES or not data.startswith(MAGIC):
        return None
    event, number, phase, seal = RECORD.unpack_from(data, RECORD_AT)
    if event != seal or not 0 < phase <= max(Phase):
        return None
    (stalled,) = WORD.unpack_from(data, STALLED_AT)
    return BoxRecord(number=number, event=event, phase=Phase(phase), stalled=stalled == event)


class Overrun(BaseException):
    """A callback exceeded its budget; `except Exception` in it does not catch this."""

    fault_code = "CALLBACK_OVERRUN"

    def __init__(self, number: int, spent_ms: int, *, blocked: bool) -> None:
        whose = f"a callback of strategy number {number}" if number else "a template's check"
        how = "blocked" if blocked else "ran"
        super().__init__(f"{whose} {how} for {spent_ms} ms and was interrupted")
        self.number = number
        self.spent_ms = spent_ms
        self.blocked = blocked


class Guard:
    """Run callbacks one after the other, and interrupt one that takes more than its budget.

    An interval timer ticks while callbacks run and stops by itself soon after the last one. Its signal handler, which
    runs in the main thread between two bytecodes, measures from the first tick inside a callback and raises Overrun
    into it; it looks for the guard's own frame on the stack, so nothing outside a guarded call is ever interrupted.

    What goes wrong in a call comes out as an error of ours: a stranger's exception can run code of its own as soon as
    anybody asks it for its text, and keeps alive whatever its frames held. An interruption that was swallowed comes out
    at the end of the call.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        budget_ms: int = 20,
        blocked_ms: int = 60,
        tick_s: float = TICK_S,
        box: BlackBox | None = None,
    ) -> None:
        self.limitation = ""
        self.overruns = 0
        self._clock = clock
        self._budget_s = budget_ms / 1000
        # Ticks that came with hardly any work done in between, not time on a clock: a stopped process gets none, and
        # one that is starved of CPU works whenever it gets one. Neither blames anybody.
        self._ticks_max = round(blocked_ms / 1000 / tick_s)
        self._tick_s = tick_s
        self._note = box.note if box is not None else _nothing
        self._rest = box.rest if box is not None else _nothing
        self._number = 0
        self._armed = True
        self._seen: FrameType | None = None
        self._seen_cpu_s = 0.0
        self._last_cpu_s = 0.0
        self._idle_ticks = 0
        self._struck: Overrun | None = None
        self._before: Callable[[int, FrameType | None], object] | int | None = None
        self._open = False

    def open(self) -> None:
        """Take the alarm signal. Where that is impossible, `limitation` says why and callbacks run unguarded."""
        if threading.current_thread() is not threading.main_thread():
            self.limitation = "callbacks are not guarded: signals reach the main thread, and this is another one"
            return
        self._before = signal.signal(signal.SIGALRM, self._on_tick)
        self._armed = False
        self._open = True

    def close(self) -> None:
        """Stop the timer and give the signal back; before the interpreter ends, and never later."""
        if not self._open:
            return
        self._open = False
        self._armed = True
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, self._before)

    def run(self, number: int, callback: Callable[[*Arguments], Result], *args: *Arguments) -> Result:
        """Return what the callback returns; raise Overrun when it took too long, and its own error told by us."""
        self._number = number
        self._struck = None
        if not self._armed:
            self._arm()
        self._note(number, 1)
        try:
            result = callback(*args)
        except BaseException as trouble:  # noqa: BLE001 - a stranger's code raises whatever it likes
            failure = self._failure(trouble)
        else:
            if self._struck is None:
                return result
            failure = self._struck  # type: ignore[unreachable] # a signal handler sets it meanwhile
        raise failure

    def run_as(self, phase: Phase, number: int, callback: Callable[[*Arguments], Result], *args: *Arguments) -> Result:
        """Run a callback in a phase of its own; `number` is whose it is, or what is checked."""
        return self.run(0 if phase is Phase.CHECKING else number, self._phased, phase, number, callback, args)

    def _phased(
        self, phase: Phase, number: int, callback: Callable[[*Arguments], Result], args: tuple[*Arguments]
    ) -> Result:
        self._note(number, phase)
        return callback(*args)

    def _failure(self, trouble: BaseException) -> BaseException:
        """Return what to raise for what a call raised; asking it for its text still belongs to the call."""
        if self._struck is not None:
            return self._struck
        if type(trouble).__module__.startswith(_TRUSTED):
            return trouble
        try:
            return Crashed(told_cause(trouble))
        except Overrun as overrun:
            return overrun
        except BaseException:  # noqa: BLE001 - it objects to being looked at
            return Crashed(f"{type(trouble).__name__}: its message cannot be read")

    def forgive(self) -> None:
        """Measure the callback under way from now: what was spent so far was not its own doing."""
        self._seen = None

    def rest(self) -> None:
        """Note that no callback runs any more: at the end of a sweep. The next tick would do it too, a little later."""
        self._rest()

    def _arm(self) -> None:
        self._armed = True
        signal.setitimer(signal.ITIMER_REAL, self._tick_s, self._tick_s)

    def _on_tick(self, signum: int, frame: FrameType | None) -> None:
        guarded = _guarded_frame(frame)
        if guarded is None:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            self._seen = None
            self._rest()
            # A guarded call that begins after this line arms the timer anew.
            self._armed = not self._open
            return
        if guarded is not self._seen:
            # The first tick inside this call: whatever ran before it is not its doing. The frame is noted last, because
            # on a starved machine the next tick may come before this one is over, and must not find half a measure.
            self._idle_ticks = 0
            self._seen_cpu_s = self._last_cpu_s = self._clock.cpu_s()
            self._seen = guarded
            return
        cpu_s = self._clock.cpu_s()
        if cpu_s - self._last_cpu_s < IDLE_SHARE * self._tick_s:
            self._idle_ticks += 1
        self._last_cpu_s = cpu_s
        if cpu_s - self._seen_cpu_s >= self._budget_s:
            self._interrupt(cpu_s - self._seen_cpu_s, blocked=False)
        if self._idle_ticks >= self._ticks_max:
            self._interrupt(self._idle_ticks * self._tick_s, blocked=True)

    def _interrupt(self, spent_s: float, *, blocked: bool) -> None:
        # Code that swallows this one meets the next at the next tick, because the measure goes on.
        self.overruns += 1
        self._struck = overrun = Overrun(self._number, round(spent_s * 1000), blocked=blocked)
        raise overrun


_GUARDED: Final = Guard.run.__code__
# Whose exceptions come out as they are.
_TRUSTED: Final = ("pipaid.", "actors.", "trio.")


def _guarded_frame(frame: FrameType | None) -> FrameType | None:
    """Return the guarded call under way: one frame object is one call, and no flag can be out of step with it."""
    while frame is not None and frame.f_code is not _GUARDED:
        frame = frame.f_back
    return frame


def _nothing(*_: int) -> None:
    """Note nothing, where no box was given."""


class Vital(Protocol):
    """Something that must go on while the daemon lives."""

    def moved(self) -> bool:
        """Tell whether it has gone on since the last look, or had nothing to do."""
        ...


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


@define
class Labour:
    """A vital that works when there is work: stuck is what began the same piece before the last look and this one."""

    _pieces: int = 0
    _busy: bool = False
    _seen: int = -1

    def begin(self) -> None:
        """Show that a piece of work begins."""
        self._pieces += 1
        self._busy = True

    def end(self) -> None:
        """Show that it is done."""
        self._busy = False

    def moved(self) -> bool:
        """Tell whether it idles or is at another piece than at the last look."""
        before, self._seen = self._seen, self._pieces
        return not self._busy or self._seen != before


@define(eq=False)
class Sentinel:
    """The sentry's process as its daemon holds it; one that was lost is replaced."""

    box: BlackBox
    limit_s: float
    pid: int
    style: str
    _process: subprocess.Popen[bytes] | None = None

    def stand(self) -> None:
        """See to it that a sentry watches."""
        if self._process is not None and self._process.poll() is None:
            return
        words = ["-I", "-S", sentry.__file__, str(self.box.path), str(self.pid), f"{self.limit_s:g}", self.style]
        # A session of its own: what is typed at a terminal is meant for the daemon.
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own file and our own arguments
                [sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
            )
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

    box: BlackBox
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
