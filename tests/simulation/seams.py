"""The seams of a simulated world: time that jumps, chance from a seed, a disk that may die with its owner at a step."""

from __future__ import annotations

import heapq
import socket
from collections.abc import Callable, Mapping, Sequence
from math import ceil, floor, inf
from pathlib import Path
from random import Random
from typing import Any, Protocol

import trio
from attrs import define, field

from pipaid.model.record import Batch
from pipaid.seams import HeldFile, SystemDisk, SystemNet, World
from pipaid.storage.sqlite import SqliteJournal
from pipaid.storage.store import Committed, JournalRefused

WEIGHTS = {"question": 0.02, "told": 0.02, "market": 0.1, "witness": 0.3, "answer": 0.5}
START_MS = 1_748_736_000_000
FREE_BYTES = 2**40


class Crash(BaseException):
    """The daemon is dead; whatever it still tries to do to the world raises this."""


@define(eq=False)
class Crossings:
    """Count what a daemon does to the world, and end its life at crossing `ends_at`, or when enough weight has passed.

    What happens all the time weighs little, so that lives drawn by weight end at every kind of crossing.
    """

    ends_at: int = 0
    ends_after: float = inf
    count: int = 0
    weight: float = 0.0
    dead: bool = False
    taken_over: bool = False
    died_of: str = ""
    trace: Callable[[str], None] = field(default=lambda _: None)
    ended: trio.Event = field(factory=trio.Event)

    def cross(self, name: str) -> None:
        """Go through a seam, or die at it."""
        if self.dead:
            raise Crash(f"dead since {self.died_of}")
        self.count += 1
        self.weight += WEIGHTS.get(name, 1.0)
        self.trace(name)
        if self.count == self.ends_at or self.weight >= self.ends_after:
            self.die(name)
            raise Crash(name)

    @property
    def next_is_last(self) -> bool:
        """Tell whether the next crossing ends this life."""
        return not self.dead and (self.count + 1 == self.ends_at or self.weight + 1.0 >= self.ends_after)

    def die(self, name: str) -> None:
        """End this life."""
        if not self.dead:
            self.dead, self.died_of = True, name
            self.ended.set()


@define(eq=False)
class Timekeeper:
    """Wake whoever sleeps, at whole seconds only: a wait may be longer than asked, and one timer serves them all."""

    _sleepers: list[tuple[float, int, trio.lowlevel.Task]] = field(factory=list[tuple[float, int, trio.lowlevel.Task]])
    _count: int = 0

    async def sleep(self, seconds: float) -> None:
        """Sleep to the next whole second that is late enough."""
        due_s = ceil(trio.current_time() + max(seconds, 0.001))
        self._count += 1
        entry = (due_s, self._count, trio.lowlevel.current_task())
        heapq.heappush(self._sleepers, entry)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._sleepers.remove(entry)
            heapq.heapify(self._sleepers)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    async def run(self) -> None:
        """Keep time until cancelled."""
        while True:
            await trio.sleep_until(floor(trio.current_time()) + 1)
            while self._sleepers and self._sleepers[0][0] <= trio.current_time():
                trio.lowlevel.reschedule(heapq.heappop(self._sleepers)[2])


class Times(Protocol):
    """What the clocks of all lives share."""

    timekeeper: Timekeeper
    skew_s: float


@define
class SimulatedClock:
    """Time that trio's clock tells; the wall clock may be wrong."""

    times: Times

    def now_us(self) -> int:
        return START_MS * 1000 + round((trio.current_time() + self.times.skew_s) * 1e6)

    def monotonic_s(self) -> float:
        return trio.current_time()

    def cpu_s(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await self.times.timekeeper.sleep(seconds)


@define
class SeededIds:
    """Identities that follow from a seed."""

    chance: Random

    def entropy(self, size: int) -> bytes:
        return self.chance.randbytes(size)


@define
class SimulatedEnv:
    """A process that holds nothing but its number."""

    process: int

    def variables(self) -> Mapping[str, str]:
        return {}

    def pid(self) -> int:
        return self.process

    def uid(self) -> int:
        return World().env.uid()

    def resident_bytes(self) -> int:
        return 0

    def leave(self, code: int) -> None:
        raise Crash(f"left with {code}")


@define
class _Held:
    """A held file; nothing more is written once its holder is dead, and the lock goes with the life."""

    file: HeldFile
    crossings: Crossings
    unseen: bool = False

    def read(self) -> bytes:
        return self.file.read()

    def rewrite(self, data: bytes) -> None:
        if not self.unseen:
            self.crossings.cross("witness")
        self.file.rewrite(data)

    def sync(self) -> None:
        if not self.crossings.dead:
            self.file.sync()

    def release(self) -> None:
        self.file.release()


@define(eq=False)
class SimulatedDisk(SystemDisk):
    """The real file system through crossings."""

    crossings: Crossings

    def write_atomically(self, path: Path, data: bytes, *, mode: int = 0o600) -> None:
        self.crossings.cross(f"write {path.name}")
        super().write_atomically(path, data, mode=mode)

    def append(self, path: Path, data: bytes) -> None:
        self.crossings.cross(f"append {path.name}")
        super().append(path, data)

    def hold(self, path: Path) -> HeldFile:
        return _Held(super().hold(path), self.crossings)

    def free_bytes(self, path: Path) -> int:
        return FREE_BYTES


@define(eq=False)
class SimulatedNet(SystemNet):
    """Real sockets; what is sent over those that were accepted crosses a seam."""

    crossings: Crossings
    opened: list[trio.SocketListener] = field(factory=list[trio.SocketListener])

    def close(self) -> None:
        """Do what the system does when a process is dead."""
        for listener in self.opened:
            listener.socket.close()

    async def listen_unix(self, path: Path, *, mode: int) -> trio.SocketListener:
        await trio.lowlevel.checkpoint()
        path.unlink(missing_ok=True)
        # trio would bind in a thread.
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        plain.bind(str(path))
        plain.listen(128)
        plain.setblocking(False)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(plain))
        self.opened.append(listener)
        accept = listener.accept

        async def crossing() -> trio.SocketStream:
            stream = await accept()
            send_all = stream.send_all

            async def send(data: Any) -> None:
                self.crossings.cross("answer")
                await send_all(data)

            setattr(stream, "send_all", send)  # noqa: B010 - an assignment would be of the wrong type to the checkers
            return stream

        setattr(listener, "accept", crossing)  # noqa: B010 - as above
        return listener


@define(eq=False)
class Torn:
    """What a crash in the middle of a commit leaves: the database, and the write-ahead log cut somewhere in it."""

    database: bytes
    log: bytes
    witness: bytes


class Unlocked(SystemDisk):
    """A disk whose locks hold nobody off, as on a network's file system that has lost them."""

    def hold(self, path: Path) -> HeldFile:
        return _Lockless(path)


@define
class _Lockless:
    path: Path

    def read(self) -> bytes:
        return self.path.read_bytes() if self.path.exists() else b""

    def rewrite(self, data: bytes) -> None:
        self.path.write_bytes(data)

    def sync(self) -> None:
        """Leave it to the system."""

    def release(self) -> None:
        """There is nothing to let go of."""


class SimulatedJournal(SqliteJournal):
    """The real journal; its owner may die before a commit, in the middle of its bytes, or right after it."""

    crossings: Crossings
    chance: Random
    on_commit: Callable[[Sequence[Batch]], None]
    torn: Torn | None = None

    @property
    def held(self) -> _Held:
        """Return the witness through its seam."""
        assert isinstance(self._held, _Held)
        return self._held

    def commit(self, batches: Sequence[Batch]) -> list[Committed | JournalRefused]:
        """Commit, or die."""
        crossings = self.crossings
        crossings.cross("commit")
        if crossings.next_is_last:
            self._tear(batches)
            crossings.cross("in the commit")
        crossings.cross("in the commit")
        outcomes = super().commit(batches)
        self.on_commit(batches)
        crossings.cross("committed")
        return outcomes

    def _tear(self, batches: Sequence[Batch]) -> None:
        log = self._path.with_name(f"{self._path.name}-wal")
        before, witness = _size(log), self.held.read()
        self.held.unseen = True
        super().commit(batches)
        content = log.read_bytes()
        kept = self.chance.randrange(before, len(content) + 1) if len(content) > before else len(content)
        self.torn = Torn(self._path.read_bytes(), content[:kept], witness)

    def abandon(self) -> None:
        """Leave the files as the death of their owner leaves them."""
        self._writing.close()
        super(SqliteJournal, self).close()
        if self.torn is not None:
            self._path.write_bytes(self.torn.database)
            self._path.with_name(f"{self._path.name}-wal").write_bytes(self.torn.log)
            self._path.with_name(f"{self._path.name}-shm").unlink(missing_ok=True)
            self.held.file.rewrite(self.torn.witness)
        self.held.release()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
