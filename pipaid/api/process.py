"""The process of the HTTP API: its arguments, its exit codes, and how it ends."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn

from pipaid.api.app import Api
from pipaid.api.connection import connections
from pipaid.api.upstream import Upstream
from pipaid.config import Mistake, examine
from pipaid.config.sections import Sections
from pipaid.config.sense import is_loopback
from pipaid.errors import InvalidParameter
from pipaid.logs import configure, get_log
from pipaid.seams import World
from pipaid.wire.identity import LOOK_EVERY_S, Identity

EXIT_OK: Final = 0
EXIT_TEMPORARY: Final = 75
EXIT_CONFIGURATION: Final = 78
HEAD_BYTES_MAX: Final = 32 * 1024
KEEP_ALIVE_S: Final = 30
# What this process has open besides its clients.
OWN_DESCRIPTORS: Final = 64
# What is under way may go on for so long once the process was told to end.
GRACE_S: Final = 8
# Whoever holds the other end of standard input may have said something so often before it is heard.
WORDS_MAX: Final = 65_536


def run() -> None:
    """Run `pipaid-api`: serve until told to stop, and leave with an exit code systemd knows."""
    parser = argparse.ArgumentParser(prog="pipaid-api", description="The HTTP API of the pipaid daemon.")
    parser.add_argument("--config", type=Path, required=True, help="the daemon's configuration")
    parser.add_argument("--state", type=Path, default=None, help="the daemon's state (default: daemon.state_dir)")
    parser.add_argument("--child", action="store_true", help="end when standard input does: for the daemon's own use")
    asked = parser.parse_args()
    # Told before it listens, it has nothing to read again.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    world = World()
    overrides = {} if asked.state is None else {"daemon.state_dir": str(asked.state)}
    examined = examine(asked.config, world, overrides=overrides)
    mistakes = [str(mistake) for mistake in examined.mistakes if concerns(mistake)]
    config = examined.sections
    if config.http.mode == "off":
        mistakes.append('http.mode is "off"; write: mode = "separate" in [http]')
    if mistakes:
        parser.exit(EXIT_CONFIGURATION, "\n".join(mistakes) + "\n")
    configure(clock=world.clock, variables=world.env.variables(), level=config.log.level, format=config.log.format)
    try:
        identity = identity_of(config, world)
    except InvalidParameter as trouble:
        parser.exit(EXIT_CONFIGURATION, f"{trouble.message}\n")
    have_descriptors(config.http.connections_max)
    raise SystemExit(asyncio.run(serve(config, world, identity, child=asked.child)))


def have_descriptors(connections_max: int) -> None:
    """Raise the limit of open files to what clients may need, those who are turned away included, as far as allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections_max + OWN_DESCRIPTORS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def concerns(mistake: Mistake) -> bool:
    """Tell whether a mistake is this process's: it may not even read what is the daemon's alone."""
    return not mistake.key or mistake.key.startswith(("http.", "log.", "daemon.state_dir", "daemon.runtime_dir"))


def identity_of(config: Sections, world: World) -> Identity | None:
    """Return what is shown to clients, if they are to be shown anything."""
    http = config.http
    if http.tls_certificate is None or http.tls_key is None:
        return None
    return Identity("http", http.tls_certificate, http.tls_key, world)


async def serve(config: Sections, world: World, identity: Identity | None, *, child: bool) -> int:
    """Serve until told to stop and return the exit code."""
    upstream = Upstream(config.forward_socket)
    server = Server(make_server_config(config, Api(upstream, world, identity, float(config.http.head_s))))
    server.heeds_input = child
    server.identity = identity
    try:
        await server.serve()
    except SystemExit:
        # The library said into the log why it cannot listen.
        return EXIT_TEMPORARY
    finally:
        await upstream.close()
    get_log().info("http.stopped")
    return EXIT_OK


def make_server_config(config: Sections, api: Api) -> uvicorn.Config:
    """Return how the library serves: within bounds, and saying nothing of itself."""
    http, identity = config.http, api.identity

    async def look() -> None:
        if identity is not None:
            identity.look()

    return uvicorn.Config(
        api.app(),
        http=connections(api.refuse, head_s=float(http.head_s), connections_max=http.connections_max),
        host=http.host,
        port=http.port,
        ssl_context_factory=None if identity is None else lambda _config, _default: identity.context,
        callback_notify=look,
        timeout_notify=round(LOOK_EVERY_S),
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )


class Server(uvicorn.Server):
    """The library's server, which says where it listens and ends in order when it is told to, or left alone."""

    heeds_input: bool = False
    identity: Identity | None = None

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Heed signals in the loop, and do not die of them once everything has ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        if self.heeds_input:
            loop.add_reader(sys.stdin.fileno(), self._heed_input)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End in order; at once when told so twice."""
        super().handle_exit(sig, frame)
        self.force_exit = self.force_exit or len(self._captured_signals) > 1

    async def startup(self, sockets: Any = None) -> None:
        """Begin to listen, and say where."""
        await super().startup(sockets)
        for server in self.servers:
            for listener in server.sockets:
                host, port = listener.getsockname()[:2]
                if self.identity is None and not is_loopback(host):
                    # A name may stand for more than it says.
                    get_log().error("http.refused", reason=f"{host} can be reached from other machines without TLS")
                    raise SystemExit
                get_log().info("http.listening", host=host, port=port, tls=self.config.is_ssl)

    def _reload(self) -> None:
        """Take a new certificate, if there is one; all else is for a restart."""
        renewed = self.identity is not None and self.identity.look()
        get_log().info("http.reloaded", certificate_renewed=renewed)

    def _heed_input(self) -> None:
        """Look at the certificate when told to, and end with whoever tells: its death closes standard input."""
        if os.read(sys.stdin.fileno(), WORDS_MAX):
            self._reload()
            return
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        self.should_exit = True
