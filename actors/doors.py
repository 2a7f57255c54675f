"""The doors of the daemon: its listening sockets, handed over by the service manager or opened here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from ssl import Purpose, SSLContext, create_default_context
from typing import Any, Final

import trio
from attrs import define

from pipaid.config import Config
from pipaid.logs import get_log
from pipaid.seams import World

CONTROL: Final = "control"
OBSERVE: Final = "observe"
STREAM: Final = "stream"


def tls_context(config: Config) -> SSLContext | None:
    """Return how the stream proves who it is: certificate and key from files or credentials, or nothing."""
    certificate, key = config.stream.tls_certificate, config.stream.tls_key
    if certificate is None or key is None:
        return None
    context = create_default_context(Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


@define(eq=False)
class Doors:
    """Open each door once; `given` are sockets of the service manager by name, which win over anything configured."""

    world: World
    folder: Path
    mode: int
    host: str
    port: int
    tls: SSLContext | None
    given: Mapping[str, list[trio.SocketListener]]
    stream_port: int = 0

    async def control(self) -> dict[str, list[trio.SocketListener]]:
        """Return the listeners of the two control sockets by name."""
        found: dict[str, list[trio.SocketListener]] = {}
        for name in (CONTROL, OBSERVE):
            path = self.folder / f"{name}.sock"
            given = self.given.get(name)
            found[name] = given or [await self.world.net.listen_unix(path, mode=self.mode)]
        return found

    async def stream(self) -> list[trio.abc.Listener[Any]]:
        """Return the listeners of the event stream, behind TLS if there is a certificate."""
        plain = self.given.get(STREAM) or await self._listen()
        self.stream_port = plain[0].socket.getsockname()[1]
        get_log().info("stream.listening", host=self.host, port=self.stream_port, tls=self.tls is not None)
        if self.tls is None:
            return list(plain)
        return [trio.SSLListener(listener, self.tls) for listener in plain]

    async def _listen(self) -> list[trio.SocketListener]:
        try:
            return await self.world.net.listen_tcp(self.host, self.port)
        except OSError as trouble:
            raise OSError(
                trouble.errno,
                f"the event stream cannot listen on {self.host} port {self.port} ({trouble.strerror}): end what does, "
                "or set stream.port (PIPAID__STREAM__PORT; 0 takes any free one)",
            ) from None
