"""The lookout: watches what the daemon depends on and cannot help, and says which conditions hold.

Time that went by without the loop, a wall clock that was stepped, a disk that fills up, a journal that does not answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

import trio
from attrs import define, field

from actors.actor import REQUEST_WINDOW_MS
from pipaid.model.condition import Condition
from pipaid.seams import Clock, World

LOOK_EVERY_S: Final = 0.25
# The loop stood still if a look comes so much later than it should.
GAP_MAX_S: Final = 1.0
# Of a pause in which it computed for so large a share, the daemon itself is the cause.
BUSY_SHARE: Final = 0.5
# A request is signed with the wall clock; an error beyond a quarter of the window may cost it its validity.
CLOCK_ERROR_MAX_S: Final = REQUEST_WINDOW_MS / 4_000
# A wall clock that stays where it was stepped to is believed in the end.
BELIEVED_AFTER_S: Final = 900.0
DISK_EVERY_S: Final = 5.0
COMMIT_MAX_S: Final = 3.0
MIB: Final = 1024 * 1024


class Watched(Protocol):
    """The conditions as the lookout sees them."""

    def enter(self, condition: Condition, detail: str) -> None:
        """Note that a condition holds."""
        ...

    def leave(self, condition: Condition) -> None:
        """Note that it does not."""
        ...

    def note(self, condition: Condition, detail: str) -> None:
        """Note one that was over when it was seen."""
        ...

    def look(self) -> None:
        """Let conditions leave that have not held for long enough."""
        ...


class Written(Protocol):
    """The recorder as the lookout sees it."""

    @property
    def lost(self) -> bool:
        """Tell whether the journal was lost."""
        ...

    @property
    def short(self) -> bool:
        """Tell whether fewer readers could be opened than are wanted."""
        ...

    @property
    def waited_s(self) -> float:
        """Return for how long the oldest batch has been waiting."""
        ...


@define(eq=False)
class WallClock:
    """The wall clock held against the monotonic one: how far it is from where it should be.

    What it gains or loses a little at a time is followed, for that is how clocks are set right.
    """

    clock: Clock
    _ahead_s: float = field(init=False)
    _wrong_since_s: float | None = None

    def __attrs_post_init__(self) -> None:
        self._ahead_s = self._now_ahead_s()

    def error_s(self) -> float:
        """Return by how much it was stepped, 0 if it was not or if it has stayed there for so long that it is right."""
        error_s = self._now_ahead_s() - self._ahead_s
        now_s = self.clock.monotonic_s()
        if abs(error_s) <= CLOCK_ERROR_MAX_S:
            self._ahead_s += error_s
            self._wrong_since_s = None
            return 0.0
        if self._wrong_since_s is None:
            self._wrong_since_s = now_s
        if now_s - self._wrong_since_s >= BELIEVED_AFTER_S:
            self._ahead_s += error_s
            self._wrong_since_s = None
            return 0.0
        return error_s

    def _now_ahead_s(self) -> float:
        return self.clock.now_us() / 1e6 - self.clock.monotonic_s()


@define(eq=False)
class Lookout:
    """Look around a few times a second, and tell the conditions what there is to see."""

    world: World
    conditions: Watched
    recorder: Written
    state_dir: Path
    free_bytes_min: int

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled."""
        clock = self.world.clock
        wall = WallClock(clock)
        self._look_at_disk()
        task_status.started()
        looked_s = disk_s = clock.monotonic_s()
        cpu_s = clock.cpu_s()
        while True:
            await clock.sleep(LOOK_EVERY_S)
            now_s, now_cpu_s = clock.monotonic_s(), clock.cpu_s()
            pause_s = now_s - looked_s - LOOK_EVERY_S
            if pause_s > GAP_MAX_S:
                self._note_pause(pause_s, now_cpu_s - cpu_s)
            else:
                # After a pause the journal's thread has to come to its turn first.
                self._judge_journal()
            looked_s, cpu_s = now_s, now_cpu_s
            self._judge_clock(wall.error_s())
            if self.recorder.short:
                self.conditions.note(
                    Condition.DESCRIPTORS, "the journal cannot be opened for as many readers as wanted"
                )
            if now_s - disk_s >= DISK_EVERY_S:
                disk_s = now_s
                self._look_at_disk()
            self.conditions.look()

    def _note_pause(self, pause_s: float, busy_s: float) -> None:
        if busy_s >= pause_s * BUSY_SHARE:
            self.conditions.note(Condition.STALLED, f"one thing took {pause_s:.1f} s, {busy_s:.1f} s of it computing")
        else:
            self.conditions.note(Condition.SUSPENDED, f"it did not run for {pause_s:.1f} s")

    def _judge_journal(self) -> None:
        waited_s = self.recorder.waited_s
        if waited_s > COMMIT_MAX_S:
            self.conditions.enter(Condition.JOURNAL, f"a commit has taken {waited_s:.0f} s and is not done")
        elif not self.recorder.lost:
            self.conditions.leave(Condition.JOURNAL)

    def _judge_clock(self, error_s: float) -> None:
        if error_s:
            self.conditions.enter(Condition.CLOCK, f"it is {error_s:+.1f} s from where it should be")
        else:
            self.conditions.leave(Condition.CLOCK)

    def _look_at_disk(self) -> None:
        try:
            free = self.world.disk.free_bytes(self.state_dir)
        except OSError as trouble:
            self.conditions.enter(Condition.DISK, f"nobody can tell how much is free: {trouble}")
            return
        if free < self.free_bytes_min:
            told = f"{free // MIB} MiB are free, and {self.free_bytes_min // MIB} MiB should be"
            self.conditions.enter(Condition.DISK, told)
        else:
            self.conditions.leave(Condition.DISK)
