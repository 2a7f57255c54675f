"""The service manager: readiness and watchdog datagrams to it, listening sockets from it."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Final

import trio
from attrs import define

from pipaid.errors import InvalidParameter

FIRST_DESCRIPTOR: Final = 3
DESCRIPTORS_MAX: Final = 16
SEND_S_MAX: Final = 0.25
STATUS_CHARS_MAX: Final = 200
# The names that our socket units give their sockets with FileDescriptorName=.
SOCKET_NAMES: Final = ("control", "observe", "forward", "stream")


@define
class Notifier:
    """Tells the service manager how the daemon is; without one it says nothing and costs nothing.

    Each method returns whether the manager was told. It may be used from any thread.
    """

    _socket: socket.socket | None = None

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> Notifier:
        """Connect to the socket that `NOTIFY_SOCKET` names, if there is one."""
        address = variables.get("NOTIFY_SOCKET", "")
        if not address:
            return cls(None)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        # A manager that does not read must not hold the daemon up.
        sock.settimeout(SEND_S_MAX)
        try:
            # A leading @ stands for the zero byte of an abstract address.
            sock.connect("\0" + address[1:] if address.startswith("@") else address)
        except OSError as trouble:
            sock.close()
            raise InvalidParameter(f"NOTIFY_SOCKET={address} cannot be connected to: {trouble}") from None
        return cls(sock)

    @property
    def connected(self) -> bool:
        """Tell whether anybody listens."""
        return self._socket is not None

    def ready(self, status: str = "") -> bool:
        """Say that the daemon trades: everything is reconciled and every door is open."""
        return self._tell("READY=1", *_status(status))

    def stopping(self, status: str = "") -> bool:
        """Say that the daemon is on its way out."""
        return self._tell("STOPPING=1", *_status(status))

    def reloading(self, *, monotonic_us: int) -> bool:
        """Say that the configuration is being read again; `ready` ends it. The clock is CLOCK_MONOTONIC."""
        return self._tell("RELOADING=1", f"MONOTONIC_USEC={monotonic_us}")

    def status(self, text: str) -> bool:
        """Set the line that `systemctl status` shows."""
        return self._tell(*_status(text))

    def feed(self) -> bool:
        """Say that the daemon is alive; the watchdog starts counting again."""
        return self._tell("WATCHDOG=1")

    def extend(self, seconds: float) -> bool:
        """Ask for more time to start or to stop, counted from now."""
        return self._tell(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")

    def close(self) -> None:
        """Say nothing any more."""
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    def _tell(self, *assignments: str) -> bool:
        if self._socket is None or not assignments:
            return False
        try:
            self._socket.send("\n".join(assignments).encode())
        except OSError:
            # The next datagram says it again or comes too late; nothing here may end the daemon.
            return False
        return True


def watchdog_s(variables: Mapping[str, str], *, pid: int) -> float | None:
    """Return how often at least the watchdog of this process must be fed, or nothing if none watches it."""
    usec, owner = variables.get("WATCHDOG_USEC", ""), variables.get("WATCHDOG_PID", "")
    if not _is_number(usec) or int(usec) == 0 or (owner and owner != str(pid)):
        return None
    return int(usec) / 1_000_000


def activated(variables: Mapping[str, str], *, pid: int) -> dict[str, list[socket.socket]]:
    """Return the listening sockets handed over to this process, by name; they are not inherited any further.

    Raise InvalidParameter for a socket nobody here asked for: to serve the wrong door is worse than not to start.
    """
    if variables.get("LISTEN_PID") != str(pid):
        return {}
    count = variables.get("LISTEN_FDS", "0")
    if not _is_number(count) or int(count) > DESCRIPTORS_MAX:
        raise InvalidParameter(f"LISTEN_FDS={count} is not a number from 0 to {DESCRIPTORS_MAX}")
    names = variables.get("LISTEN_FDNAMES", "").split(":")
    if len(names) != int(count):
        names = ["unknown"] * int(count)
    found: dict[str, list[socket.socket]] = {}
    for descriptor, name in enumerate(names[: int(count)], start=FIRST_DESCRIPTOR):
        if name not in SOCKET_NAMES:
            known = ", ".join(SOCKET_NAMES)
            raise InvalidParameter(f"a socket unit hands over {name!r}; set FileDescriptorName= to one of {known}")
        found.setdefault(name, []).append(_listening(descriptor, name))
    return found


def listeners(sockets: Mapping[str, list[socket.socket]]) -> dict[str, list[trio.SocketListener]]:
    """Return the same sockets as trio serves them."""
    return {
        name: [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in each]
        for name, each in sockets.items()
    }


def _listening(descriptor: int, name: str) -> socket.socket:
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as trouble:
        raise InvalidParameter(f"descriptor {descriptor}, handed over as {name!r}, is no socket: {trouble}") from None
    sock.set_inheritable(False)
    sock.setblocking(False)
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        raise InvalidParameter(f"descriptor {descriptor}, handed over as {name!r}, does not listen: use ListenStream=")
    return sock


def _status(text: str) -> tuple[str, ...]:
    # One assignment a line: a line break in the text would start another one.
    return (f"STATUS={' '.join(text.split())[:STATUS_CHARS_MAX]}",) if text else ()


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19
