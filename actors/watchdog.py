"""Who watches the callbacks: the guard, and the black box for what the guard cannot help.

The guard interrupts a strategy's callback that runs too long. It cannot interrupt C code; for that the black box
remembers, in a mapped file that survives any death of the process, whose callback ran last. The daemon's own watchdog
(`vitals.py`) has the daemon aborted then, and the next start reads the box.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import cache
from inspect import currentframe
from pathlib import Path
from types import FrameType
from typing import Final, TypeVar, TypeVarTuple

from attrs import frozen

from actors.actor import Crashed, Phase, told_cause
from pipaid.model.money import apart
from pipaid.seams import Clock, Disk
from pipaid.sentry import BOX_BYTES, FED_AT, MAGIC, RECORD, RECORD_AT, STALLED_AT, WORD

TICK_S: Final = 0.005
# How many budgets there are for what nobody trades on, and how long that is at the most.
PATIENCE: Final = 10
PATIENCE_S_MAX: Final = 1.0
# A tick in which a callback used less than this share of it: it waited for something.
IDLE_SHARE: Final = 0.1
MIB: Final = 1024 * 1024
# What outlives the call that begins it, by the audit event that tells of it, and what it is called.
BEGINNINGS: Final = {
    **dict.fromkeys(("_thread.start_new_thread", "_thread.start_joinable_thread"), "threads"),
    **dict.fromkeys(("os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"), "processes"),
}
IMPORTING: Final = "<frozen importlib._bootstrap>"

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
            # Without room for it a write into the map would be the end of the process.
            os.posix_fallocate(descriptor, 0, BOX_BYTES)
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


class Hoarded(BaseException):
    """A strategy's calls made the daemon's memory grow by more than one strategy may take."""

    fault_code = "MEMORY_OVERRUN"

    def __init__(self, number: int, size: int) -> None:
        super().__init__(f"callbacks of strategy number {number} took {size // MIB} MiB of memory and kept them")


class Guard:
    """Run callbacks one after the other, and interrupt one that takes more than its budget.

    An interval timer ticks while callbacks run and stops by itself soon after the last one. Its signal handler, which
    runs in the main thread between two bytecodes, measures from the first tick inside a callback and raises Overrun
    into it; it looks for the guard's own frame on the stack, so nothing outside a guarded call is ever interrupted.

    What goes wrong in a call comes out as an error of ours: a stranger's exception can run code of its own as soon as
    anybody asks it for its text, and keeps alive whatever its frames held. An interruption that was swallowed comes out
    at the end of the call. No call begins a thread or a process: that would go on where no guard looks.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        budget_ms: int = 20,
        blocked_ms: int = 60,
        tick_s: float = TICK_S,
        box: BlackBox | None = None,
        hoard_max: int = 64 * MIB,
    ) -> None:
        self.limitation = ""
        self.overruns = 0
        self.grown: dict[int, int] = {}
        self._hoard_max = hoard_max
        self._resident: Callable[[], int] | None = None
        self._held = 0
        self._weighed = 0
        self._box = box
        self._clock = clock
        self._budget_s = self._allowed_s = budget_ms / 1000
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
        _forbid_beginnings()
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
            result = apart().run(callback, *args)
        except BaseException as trouble:  # noqa: BLE001 - a stranger's code raises whatever it likes
            failure = self._failure(trouble)
        else:
            if self._struck is None:
                return result
            failure = self._struck  # type: ignore[unreachable] # a signal handler sets it meanwhile
        finally:
            if self._resident is not None:
                self._account(self._number, called=True)
        try:
            raise failure
        finally:
            # The failure knows this frame: what the frame knew would live on with it.
            del failure, callback, args

    def run_patiently(self, number: int, callback: Callable[[*Arguments], Result], *args: *Arguments) -> Result:
        """Run a callback on which nobody trades, such as looking back: it may take several budgets, up to a second."""
        self._allowed_s = max(self._budget_s, min(PATIENCE * self._budget_s, PATIENCE_S_MAX))
        try:
            return self.run(number, callback, *args)
        finally:
            self._allowed_s = self._budget_s

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
            return Crashed(apart().run(told_cause, trouble))
        except Overrun as overrun:
            return overrun
        except BaseException:  # noqa: BLE001 - it objects to being looked at
            return Crashed(f"{type(trouble).__name__}: its message cannot be read")

    def forgive(self) -> None:
        """Measure the callback under way from now: what was spent so far was not its own doing."""
        self._seen = None
        self._last_cpu_s = self._clock.cpu_s()

    def rest(self) -> None:
        """Note that no callback runs any more: at the end of a sweep. The next tick would do it too, a little later."""
        self._rest()
        if self._resident is not None:
            self._account(0)

    def weigh(self, resident: Callable[[], int] | None) -> None:
        """Ask before and after each call what is held, and charge whoever is called with the growth; or do so no more.

        What is taken between two calls is nobody's; what is given back is credited to whoever was called last, because
        what a call returns is let go of after it. Memory comes and goes by the million bytes, so it is the sum over
        many calls that tells who hoards.
        """
        self._resident, self._weighed = resident, 0
        self.grown.clear()
        plain = self._box.note if self._box is not None else _nothing
        self._note = self._note_weighed if resident is not None else plain

    def _note_weighed(self, number: int, phase: int) -> None:
        # A check is nobody's call, though it has a number for the box.
        self._account(self._number)
        if self._box is not None:
            self._box.note(number, phase)
        if self.grown.get(number, 0) > self._hoard_max:
            raise Hoarded(number, self.grown.pop(number))

    def _account(self, number: int, *, called: bool = False) -> None:
        assert self._resident is not None
        held = self._resident()
        change, last = held - self._held, self._weighed
        if last and (called or change < 0):
            grown = self.grown.get(last, 0) + change
            if grown > 0:
                self.grown[last] = grown
            else:
                self.grown.pop(last, None)
        self._held, self._weighed = held, number

    def _arm(self) -> None:
        self._armed = True
        self._last_cpu_s = self._clock.cpu_s()
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
        cpu_s = self._clock.cpu_s()
        gained_s, self._last_cpu_s = cpu_s - self._last_cpu_s, cpu_s
        if guarded is not self._seen:
            # The first tick inside this call: whatever ran before it is not its doing. The frame is noted last, because
            # on a starved machine the next tick may come before this one is over, and must not find half a measure.
            self._idle_ticks = 0
            self._seen_cpu_s = cpu_s
            self._seen = guarded
            if gained_s >= self._allowed_s + self._tick_s:
                # Ticks come late only out of C code, and it is this call that has just come out of it.
                self._interrupt(gained_s, blocked=False)
            return
        if gained_s < IDLE_SHARE * self._tick_s:
            self._idle_ticks += 1
        if cpu_s - self._seen_cpu_s >= self._allowed_s:
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


@cache
def _forbid_beginnings() -> None:
    """See to it that no guarded call begins a thread or a process; once, for the interpreter keeps its hooks."""
    begin = threading.Thread.start

    def start(self: threading.Thread) -> None:
        # Before Python 3.12 no event tells of it.
        _forbid("_thread.start_new_thread", ())
        begin(self)

    threading.Thread.start = start  # type: ignore[method-assign] # every way to a thread but the lowest leads through it
    sys.addaudithook(_forbid)


def _forbid(event: str, _: object) -> None:
    """Refuse a beginning inside a guarded call, unless a library that is being imported there needs it."""
    begun = BEGINNINGS.get(event)
    if begun is None:
        return
    frame = currentframe()
    while frame is not None and frame.f_code is not _GUARDED:
        if frame.f_code.co_filename == IMPORTING:
            return
        frame = frame.f_back
    if frame is not None:
        raise RuntimeError(
            f"a template may not start {begun}: they outlive the callback, and every strategy pays for them"
        )


def _nothing(*_: int) -> None:
    """Note nothing, where no box was given."""
