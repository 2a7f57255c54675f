"""The watcher outside: a small process that notes in the black box what holds its daemon up, and ends the daemon.

No thread of the daemon can do that: C code that never returns keeps the whole interpreter to itself. This process maps
the same black box, counts its own looks instead of time, so that a suspended machine blames nobody, and starts with the
standard library alone (`python -I -S sentry.py`). It ends with its daemon, whose death closes its standard input.
"""

from __future__ import annotations

import mmap
import os
import select
import struct
import sys
import time
from typing import Final

BOX_BYTES: Final = 4_096
MAGIC: Final = b"pipaid-blackbox2"
# The count of entries, the number concerned, the phase, and the count again: a record cut in half is known as such.
RECORD: Final = struct.Struct("<QQQQ")
RECORD_AT: Final = len(MAGIC)
WORD: Final = struct.Struct("<Q")
# How often everything was seen to move.
FED_AT: Final = RECORD_AT + RECORD.size
# The entry during which nothing moved for too long; it counts only as long as no other entry follows.
STALLED_AT: Final = FED_AT + WORD.size
PHASES: Final = ("idle", "callback", "loading", "checking", "importing")
LOOKS_PER_LIMIT: Final = 8
SIGABRT: Final = 6
SIGKILL: Final = 9


class Watch:
    """What is seen of a daemon from look to look."""

    def __init__(self, box: mmap.mmap) -> None:
        self.still = 0
        self._box = box
        self._fed = -1
        self._event = -1
        self._same = 0

    def look(self, *, stopped: bool = False) -> int:
        """Look once and return for how many looks nothing has moved; one that is stopped from outside is let be.

        Once that is half of what is allowed, the entry that has stood all the time is noted as the one that holds.
        """
        (fed,) = WORD.unpack_from(self._box, FED_AT)
        event, number, phase, seal = RECORD.unpack_from(self._box, RECORD_AT)
        if stopped or fed != self._fed:
            self.still, self._fed, self._event = 0, fed, -1
            return 0
        self.still += 1
        self._same = self._same + 1 if event == self._event else 1
        self._event = event
        if self._same >= LOOKS_PER_LIMIT // 2 and phase and number and event == seal:
            WORD.pack_into(self._box, STALLED_AT, event)
        return self.still

    def subject(self) -> tuple[int, str]:
        """Return the number and the phase of the latest entry."""
        record: tuple[int, ...] = RECORD.unpack_from(self._box, RECORD_AT)
        return record[1], PHASES[min(record[2], len(PHASES) - 1)]


def main(path: str, pid: int, limit_s: float, style: str) -> None:
    """Watch until the daemon is gone; end it when nothing has moved for the limit, and for good after twice that."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    box = mmap.mmap(descriptor, BOX_BYTES)
    os.close(descriptor)
    watch = Watch(box)
    while not select.select([0], [], [], limit_s / LOOKS_PER_LIMIT)[0]:
        still = watch.look(stopped=is_stopped(pid))
        if os.getppid() != pid:
            return
        if still == LOOKS_PER_LIMIT // 2:
            _say(style, "daemon.stalled", watch, limit_s / 2)
        elif still == LOOKS_PER_LIMIT:
            _say(style, "daemon.aborted", watch, limit_s)
            os.kill(pid, SIGABRT)
        elif still >= 2 * LOOKS_PER_LIMIT:
            os.kill(pid, SIGKILL)


def is_stopped(pid: int) -> bool:
    """Tell whether somebody stopped a process, with a signal or a debugger."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            # The name in brackets may hold anything; the state is the first word after it.
            state = os.read(descriptor, 1_024).rpartition(b")")[2].split()[:1]
        finally:
            os.close(descriptor)
    except OSError:
        return False
    return state in ([b"T"], [b"t"])


def _say(style: str, event: str, watch: Watch, still_s: float) -> None:
    """Write one line to standard error that looks like the daemon's log: for people, or as JSON."""
    number, phase = watch.subject()
    now_ms = time.time_ns() // 1_000_000
    ts = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now_ms // 1_000))}.{now_ms % 1_000:03d}Z"
    if style == "console":
        line = f"{ts[11:-1]} critical {event:<28} strategy_number={number} phase={phase} still_s={still_s:g}\n"
    else:
        priority = "<2>" if style == "journald" else ""
        line = (
            f'{priority}{{"ts":"{ts}","level":"critical","event":"{event}","strategy_number":{number},'
            f'"phase":"{phase}","still_s":{still_s:g}}}\n'
        )
    try:
        os.write(2, line.encode())
    except OSError:
        # Nobody reads any more; the box tells the next start.
        return


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
