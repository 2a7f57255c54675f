"""The scales: how much memory the daemon holds, which strategy made it more, and what follows from too much of it."""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal, Protocol

import structlog
import trio
from attrs import define, field

from pipaid.seams import Clock, Disk, Env

log = structlog.get_logger()
MIB: Final = 1024 * 1024
LOOK_EVERY_S: Final = 0.25
# Of the limit: from here on calls are weighed one by one.
WEIGHED_SHARE: Final = 0.5
# Of the limit: the condition is over below this.
CALM_SHARE: Final = 0.9
# Of what the control group may take before the kernel slows it down or kills it.
GROUP_SHARE: Final = 0.8
MACHINE_SHARE: Final = 0.5
DATA_SHARE: Final = 2
DATA_MIN: Final = 1024 * MIB
_GROUP_FILES: Final = ("memory.high", "memory.max")


class Weighing(Protocol):
    """The guard as the scales see it."""

    @property
    def grown(self) -> Mapping[int, int]:
        """Return by how many bytes the calls of each strategy made the daemon grow since weighing began."""
        ...

    def weigh(self, resident: Callable[[], int] | None) -> None:
        """Ask before each call what is held, and charge whoever was called last with the growth; or do so no more."""
        ...


@define(eq=False)
class Scales:
    """Look a few times a second; above the limit nothing is entered and nobody new comes, until it is well below again.

    `limit` is in bytes, 0 for none. `enter` and `leave` tell whether too much is held, `named` returns how people know
    a strategy by its number.
    """

    clock: Clock
    env: Env
    guard: Weighing
    limit: int
    enter: Callable[[str], None]
    leave: Callable[[], None]
    named: Callable[[int], str]
    held: int = 0
    _weighing: bool = field(default=False, init=False)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled."""
        task_status.started()
        try:
            while True:
                self.look()
                await self.clock.sleep(LOOK_EVERY_S)
        finally:
            self.guard.weigh(None)

    def look(self) -> None:
        """Look once."""
        self.held = held = self.env.resident_bytes()
        if not self.limit:
            return
        weighing = held >= WEIGHED_SHARE * self.limit
        if weighing is not self._weighing:
            self._weighing = weighing
            self.guard.weigh(self.env.resident_bytes if weighing else None)
        if held >= self.limit:
            self.enter(f"{held // MIB} MiB are held, of at most {self.limit // MIB}{self._grown()}")
        elif held < CALM_SHARE * self.limit:
            self.leave()

    def _grown(self) -> str:
        grown = sorted(self.guard.grown.items(), key=lambda each: -each[1])[:3]
        told = ", ".join(f"{self.named(number)} by {size // MIB} MiB" for number, size in grown if size >= MIB)
        return f"; what grew most lately: {told}" if told else ""


def memory_limit(wanted: int | Literal["auto"], disk: Disk) -> int:
    """Return how many bytes the daemon may hold: so many MiB, or what the machine and its control group leave to it.

    Return 0 if nobody can tell.
    """
    if wanted != "auto":
        return wanted * MIB
    limits = [round(GROUP_SHARE * size) for size in _group_limits(disk)]
    try:
        words = disk.read(Path("/proc/meminfo")).split()
        limits.append(round(MACHINE_SHARE * 1024 * int(words[words.index(b"MemTotal:") + 1])))
    except (OSError, ValueError):
        # A service may not see it; its control group has limits then.
        pass
    return min(limits, default=0)


def bound_memory(limit: int) -> bool:
    """Have one huge allocation fail in the call that asks for it, instead of ending the daemon; tell whether it will.

    It is far above the limit: what grows little by little is to be dealt with long before.
    """
    if not limit:
        return False
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = max(DATA_MIN, DATA_SHARE * limit)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    except (OSError, ValueError):
        # Not every sandbox lets a process do that.
        return False
    return True


def _group_limits(disk: Disk) -> list[int]:
    """Return the limits of the control group and of those around it; only the unified hierarchy is known."""
    found: list[int] = []
    try:
        groups = disk.read(Path("/proc/self/cgroup")).decode().splitlines()
    except (OSError, ValueError):
        return found
    for line in groups:
        if line.startswith("0::/"):
            inner = Path("/sys/fs/cgroup", line.removeprefix("0::/"))
            for folder in (inner, *inner.parents)[:8]:
                for name in _GROUP_FILES:
                    try:
                        found.append(int(disk.read(folder / name)))
                    except (OSError, ValueError):
                        # Not there, or "max": no limit.
                        continue
    return found
