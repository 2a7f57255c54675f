"""The seams to the world: clock, chance, identity, disk, network and environment, with their real halves.

Nothing else in pipaid reads the world, so that a simulation can stand in for it. trio is imported where it is used: the
command line reads files through here and never waits.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import random
import secrets
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import WeakSet

from attrs import define, field

from pipaid.unixname import unix_name

if TYPE_CHECKING:
    import trio

RESOLVING_MAX: Final = 32
RESOLVING_OF_HOLDER_MAX: Final = 4
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Clock(Protocol):
    """Time as the daemon sees it."""

    def now_us(self) -> int:
        """Return the wall clock in UTC microseconds: for display and signing only."""
        ...

    def monotonic_s(self) -> float:
        """Return a clock that never goes back: for durations."""
        ...

    def cpu_s(self) -> float:
        """Return the CPU time of the calling thread in seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Random(Protocol):
    """Chance that need not be secret: jitter of back-off."""

    def uniform(self, low: float, high: float) -> float:
        """Return a number between the two."""
        ...


class Ids(Protocol):
    """Fresh identities and secrets."""

    def entropy(self, size: int) -> bytes:
        """Return random bytes from the system's secure source."""
        ...


class HeldFile(Protocol):
    """A small file that this process alone may write; the lock ends with `release` or with the process."""

    def read(self) -> bytes:
        """Return the content."""
        ...

    def rewrite(self, data: bytes) -> None:
        """Replace the content in place: it survives the death of the process, that of the machine only after `sync`."""
        ...

    def sync(self) -> None:
        """Force the content to the disk."""
        ...

    def release(self) -> None:
        """End the lock; the file stays."""
        ...


class Disk(Protocol):
    """Files other than the journal's database, which SQLite opens itself."""

    def read(self, path: Path) -> bytes:
        """Return a file's content."""
        ...

    def write_atomically(self, path: Path, data: bytes, *, mode: int = 0o600) -> None:
        """Replace a file durably: either the old or the new content survives a crash."""
        ...

    def append(self, path: Path, data: bytes) -> None:
        """Add to a file and force it to the disk."""
        ...

    def hold(self, path: Path) -> HeldFile:
        """Lock a small file for this process, making it if need be; raise BlockingIOError while another holds it."""
        ...

    def exists(self, path: Path) -> bool:
        """Tell whether something is there."""
        ...

    def find(self, pattern: str) -> list[Path]:
        """Return the files whose path matches a shell pattern, sorted; `**` stands for any folders."""
        ...

    def free_bytes(self, path: Path) -> int:
        """Return the space left on the file system that holds the path."""
        ...


class Net(Protocol):
    """Listening and connecting."""

    async def listen_tcp(self, host: str, port: int) -> list[trio.SocketListener]:
        """Listen on a TCP address."""
        ...

    async def listen_unix(self, path: Path, *, mode: int) -> trio.SocketListener:
        """Listen on a Unix socket, replacing a stale file that nobody answers on."""
        ...

    async def connect_unix(self, path: Path) -> trio.SocketStream:
        """Connect to a Unix socket."""
        ...

    async def resolve(self, host: str, port: int, holder: str = "") -> list[str]:
        """Return the addresses of a host, best first; raise OSError without any.

        However slowly the name servers answer that one holder asks for, others are not kept waiting.
        """
        ...

    async def connect_address(self, address: str, port: int) -> trio.SocketStream:
        """Connect to just this address."""
        ...

    async def trust(self) -> ssl.SSLContext:
        """Return what judges the certificates of others by the authorities that this machine trusts."""
        ...

    def bound_send_buffer(self, stream: trio.SocketStream, size_bytes: int) -> None:
        """Let the system take about so many bytes that the other side has not taken yet."""
        ...


class Env(Protocol):
    """The process environment."""

    def variables(self) -> Mapping[str, str]:
        """Return the environment variables."""
        ...

    def pid(self) -> int:
        """Return the process id."""
        ...

    def uid(self) -> int:
        """Return the effective user id."""
        ...

    def resident_bytes(self) -> int:
        """Return how much memory the process holds, or 0 if nobody can tell."""
        ...

    def leave(self, code: int) -> None:
        """End the process at once, without any goodbye."""
        ...


class Described(Protocol):
    """Something open."""

    def fileno(self) -> int:
        """Return its descriptor, or -1 once it is closed."""
        ...


# What a child that is forked and goes on without another program would hold for us, even after our end.
_UNSHARED: Final[WeakSet[Described]] = WeakSet()


def unshared(opened: Described) -> None:
    """Have a forked child close this at once; whatever locks hang on it stay the parent's."""
    _UNSHARED.add(opened)


def _close_in_child() -> None:
    for opened in _UNSHARED:
        with suppress(OSError, ValueError):
            os.close(opened.fileno())


os.register_at_fork(after_in_child=_close_in_child)


class SystemClock:
    """The machine's clocks."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        # This one goes on while the machine sleeps: time that went by without us is seen, whatever the cause.
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def cpu_s(self) -> float:
        return time.thread_time()

    async def sleep(self, seconds: float) -> None:
        import trio

        await trio.sleep(seconds)


@define
class SystemRandom:
    """A generator seeded by the system, or by the given number."""

    seed: int | None = None
    _generator: random.Random = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._generator = random.Random(self.seed)  # noqa: S311 - jitter is no secret

    def uniform(self, low: float, high: float) -> float:
        return self._generator.uniform(low, high)


class SystemIds:
    """The system's secure source."""

    def entropy(self, size: int) -> bytes:
        return secrets.token_bytes(size)


class SystemDisk:
    """The real file system."""

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def write_atomically(self, path: Path, data: bytes, *, mode: int = 0o600) -> None:
        temporary = path.with_name(f".{path.name}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            try:
                _write_all(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, path)
        except OSError:
            # What is left of it would take the room whose lack may be the reason.
            with suppress(OSError):
                os.unlink(temporary)
            raise
        _sync_directory(path.parent)

    def append(self, path: Path, data: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def hold(self, path: Path) -> HeldFile:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
        held = _SystemHeldFile(descriptor)
        unshared(held)
        return held

    def exists(self, path: Path) -> bool:
        try:
            return path.exists()
        except OSError as error:
            # What no file can be called is not there; any other trouble says nothing about that.
            if error.errno == errno.ENAMETOOLONG:
                return False
            raise

    def find(self, pattern: str) -> list[Path]:
        return [path for name in sorted(glob.glob(pattern, recursive=True)) if (path := Path(name)).is_file()]

    def free_bytes(self, path: Path) -> int:
        figures = os.statvfs(path)
        return figures.f_bavail * figures.f_frsize


@define(eq=False)
class _SystemHeldFile:
    _descriptor: int

    def fileno(self) -> int:
        return self._descriptor

    def read(self) -> bytes:
        return os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)

    def rewrite(self, data: bytes) -> None:
        os.pwrite(self._descriptor, data, 0)
        os.ftruncate(self._descriptor, len(data))

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Room:
    """Room for a thread among those of its holder and among all, until it ends, whoever has given it up by then."""

    def __init__(self, own: trio.CapacityLimiter, all: trio.CapacityLimiter) -> None:
        self._own = own
        self._all = all

    async def acquire_on_behalf_of(self, thread: object) -> None:
        await self._own.acquire_on_behalf_of(thread)
        try:
            await self._all.acquire_on_behalf_of(thread)
        except BaseException:
            self._own.release_on_behalf_of(thread)
            raise

    def release_on_behalf_of(self, thread: object) -> None:
        self._all.release_on_behalf_of(thread)
        self._own.release_on_behalf_of(thread)


class SystemNet:
    """Real sockets through trio."""

    _resolving: trio.CapacityLimiter | None = None
    _resolving_of: dict[str, trio.CapacityLimiter] | None = None

    async def listen_tcp(self, host: str, port: int) -> list[trio.SocketListener]:
        import trio

        listeners = await trio.open_tcp_listeners(port, host=host)
        for listener in listeners:
            unshared(listener.socket)
        return listeners

    async def listen_unix(self, path: Path, *, mode: int) -> trio.SocketListener:
        import trio

        if path.exists():
            try:
                stream = await self.connect_unix(path)
            except OSError:
                path.unlink()
            else:
                await stream.aclose()
                raise FileExistsError(f"another process answers on {path}")
        sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        try:
            with unix_name(path) as name:
                await sock.bind(name)
            path.chmod(mode)
            sock.listen(128)
        except BaseException:
            sock.close()
            raise
        unshared(sock)
        return trio.SocketListener(sock)

    async def connect_unix(self, path: Path) -> trio.SocketStream:
        import trio

        with unix_name(path) as name:
            return await trio.open_unix_socket(name)

    async def resolve(self, host: str, port: int, holder: str = "") -> list[str]:
        import trio

        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        room: Any = self._room_to_resolve(holder)
        found = await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=room)
        return list(dict.fromkeys(str(place[0]) for *_, place in found))

    def _room_to_resolve(self, holder: str) -> _Room:
        import trio

        # Apart from all other threads: a name server that does not answer holds one up for as long as it likes.
        if self._resolving is None or self._resolving_of is None:
            self._resolving, self._resolving_of = trio.CapacityLimiter(RESOLVING_MAX), {}
        own = self._resolving_of.setdefault(holder, trio.CapacityLimiter(RESOLVING_OF_HOLDER_MAX))
        return _Room(own, self._resolving)

    async def connect_address(self, address: str, port: int) -> trio.SocketStream:
        import trio

        family = trio.socket.AF_INET6 if ":" in address else trio.socket.AF_INET
        sock = trio.socket.socket(family, trio.socket.SOCK_STREAM)
        try:
            await sock.connect((address, port))
        except BaseException:
            sock.close()
            raise
        unshared(sock)
        return trio.SocketStream(sock)

    async def trust(self) -> ssl.SSLContext:
        import trio

        # Reading all the authorities takes longer than anybody may be held up.
        return await trio.to_thread.run_sync(ssl.create_default_context)

    def bound_send_buffer(self, stream: trio.SocketStream, size_bytes: int) -> None:
        import trio

        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, size_bytes)
        # trio keeps what is not even on its way yet much smaller than that.
        stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NOTSENT_LOWAT, size_bytes)


class SystemEnv:
    """The process itself."""

    _statm: int | None = None

    def variables(self) -> Mapping[str, str]:
        return os.environ

    def pid(self) -> int:
        return os.getpid()

    def uid(self) -> int:
        return os.geteuid()

    def resident_bytes(self) -> int:
        try:
            if self._statm is None:
                # Kept open: this is asked between any two calls of strategies when memory is short.
                self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
            return int(os.pread(self._statm, 128, 0).split()[1]) * _PAGE_BYTES
        except (OSError, IndexError, ValueError):
            return 0

    def leave(self, code: int) -> None:
        os._exit(code)


@define(frozen=True)
class World:
    """All seams in one value; the default halves are real."""

    clock: Clock = field(factory=SystemClock)
    random: Random = field(factory=SystemRandom)
    ids: Ids = field(factory=SystemIds)
    disk: Disk = field(factory=SystemDisk)
    net: Net = field(factory=SystemNet)
    env: Env = field(factory=SystemEnv)
