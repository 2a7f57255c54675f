"""The doors of the daemon: its listening sockets, handed over by the service manager or opened here."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from ssl import SSLContext
from typing import Any, Final, Protocol

import trio
from attrs import define, field

from pipaid.config.sense import is_loopback
from pipaid.errors import InvalidParameter
from pipaid.logs import get_log
from pipaid.model.condition import Condition
from pipaid.seams import Clock, World

CONTROL: Final = "control"
OBSERVE: Final = "observe"
FORWARD: Final = "forward"
STREAM: Final = "stream"
RETRY_S: Final = 0.25
NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def unsafe_address(listeners: Iterable[trio.SocketListener]) -> str | None:
    """Return the address of a socket that other machines can reach, whatever it was called; nothing if none can be."""
    addresses = (address_of(each) for each in listeners)
    return next((host for host, _ in addresses if host and not is_loopback(host)), None)


def address_of(listener: trio.SocketListener) -> tuple[str, int]:
    """Return the address and the port of a socket; a Unix socket has none of both."""
    name: tuple[str, int] | str | bytes = listener.socket.getsockname()
    return (name[0], name[1]) if isinstance(name, tuple) else ("", 0)


class Watched(Protocol):
    """The conditions as the doors see them."""

    def enter(self, condition: Condition, detail: str) -> None:
        """Note that a condition holds."""
        ...

    def leave(self, condition: Condition) -> None:
        """Note that it does not."""
        ...


@define(eq=False)
class PatientListener(trio.abc.Listener[trio.SocketStream]):
    """A listener that waits while no connection can be taken for want of descriptors or memory, and says so.

    Whoever connects meanwhile waits in the system's queue, which is bounded.
    """

    inner: trio.SocketListener
    clock: Clock
    conditions: Watched

    async def accept(self) -> trio.SocketStream:
        """Wait for a connection, however long it takes until there is room for it."""
        patience_s = math.inf
        while True:
            try:
                with trio.move_on_after(patience_s):
                    stream = await self.inner.accept()
                    self.conditions.leave(Condition.DESCRIPTORS)
                    return stream
            except OSError as trouble:
                if trouble.errno not in NO_ROOM:
                    raise
                self.conditions.enter(Condition.DESCRIPTORS, f"no connection can be taken: {trouble.strerror}")
                patience_s = RETRY_S
                await self.clock.sleep(RETRY_S)
            else:
                # Nobody waits any more, and there would be room.
                self.conditions.leave(Condition.DESCRIPTORS)
                patience_s = math.inf

    async def aclose(self) -> None:
        """Listen no more."""
        await self.inner.aclose()


@define(eq=False)
class Doors:
    """Open each door once; `given` are sockets of the service manager by name, which win over anything configured.

    They are all bound before anything trades, because a start that fails on one of them must not have traded; whoever
    connects before the servers begin waits. A server that begins again opens its own anew.
    """

    world: World
    folder: Path
    mode: int
    host: str
    port: int
    tls: SSLContext | None
    given: Mapping[str, list[trio.SocketListener]]
    conditions: Watched
    streaming: bool = True
    stream_port: int = 0
    _control: dict[str, list[PatientListener]] = field(factory=dict[str, list[PatientListener]], init=False)
    _stream: list[trio.SocketListener] = field(factory=list[trio.SocketListener], init=False)

    def __attrs_post_init__(self) -> None:
        address = unsafe_address(self.given.get(STREAM, [])) if self.streaming and self.tls is None else None
        if address is not None:
            raise InvalidParameter(
                f"the service manager's socket for the event stream listens on {address}, which other machines can "
                "reach, and there is no TLS: change its ListenStream= to 127.0.0.1:5002, or set tls_certificate and "
                "tls_key in [stream]"
            )

    async def hold(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Bind all, and let go in the end of those that no server took."""
        try:
            self._control = await self._open_control()
            if self.streaming:
                self._stream = await self._open_stream()
            task_status.started()
            await trio.sleep_forever()
        finally:
            for each in (*(patient.inner for found in self._control.values() for patient in found), *self._stream):
                each.socket.close()
            self._control, self._stream = {}, []

    async def control(self) -> dict[str, list[PatientListener]]:
        """Return the listeners of the control sockets by name."""
        found, self._control = self._control, {}
        return found or await self._open_control()

    async def _open_control(self) -> dict[str, list[PatientListener]]:
        found: dict[str, list[PatientListener]] = {}
        try:
            for name in (CONTROL, OBSERVE, FORWARD):
                path = self.folder / f"{name}.sock"
                given = self.given.get(name) or [await self.world.net.listen_unix(path, mode=self.mode)]
                found[name] = [self._patient(each) for each in given]
        except BaseException:
            for each in (listener for opened in found.values() for listener in opened):
                each.inner.socket.close()
            raise
        return found

    async def stream(self) -> list[trio.abc.Listener[Any]]:
        """Return the listeners of the event stream, behind TLS if there is a certificate."""
        plain, self._stream = self._stream, []
        plain = plain or await self._open_stream()
        _, self.stream_port = address_of(plain[0])
        get_log().info("stream.listening", host=self.host, port=self.stream_port, tls=self.tls is not None)
        patient = [self._patient(each) for each in plain]
        if self.tls is None:
            return list(patient)
        return [trio.SSLListener(listener, self.tls) for listener in patient]

    def _patient(self, listener: trio.SocketListener) -> PatientListener:
        return PatientListener(listener, self.world.clock, self.conditions)

    async def _open_stream(self) -> list[trio.SocketListener]:
        if self.given.get(STREAM):
            return self.given[STREAM]
        try:
            opened = await self.world.net.listen_tcp(self.host, self.port)
        except OSError as trouble:
            raise OSError(
                trouble.errno,
                f"the event stream cannot listen on {self.host} port {self.port} ({trouble.strerror}): end what does, "
                "or set stream.port (PIPAID__STREAM__PORT; 0 takes any free one)",
            ) from None
        address = unsafe_address(opened) if self.tls is None else None
        if address is not None:
            for each in opened:
                each.socket.close()
            raise OSError(
                errno.EADDRNOTAVAIL,
                f"{self.host} is {address} here, which other machines can reach, and the event stream has no TLS: mend "
                '/etc/hosts, or set host = "127.0.0.1" in [stream]',
            )
        return opened
