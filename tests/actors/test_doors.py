"""The stream is not heard by other machines without TLS, whoever opens its socket and whatever it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from attrs import define

from actors.doors import STREAM, Doors
from pipaid.errors import InvalidParameter
from pipaid.seams import SystemNet, World
from tests.certificates import make_pair
from tests.wire.test_identity import Served

pytestmark = pytest.mark.usefixtures("logged")


@define(eq=False)
class Quiet:
    """Conditions that nobody looks at."""

    def enter(self, condition: Any, detail: str) -> None: ...

    def leave(self, condition: Any) -> None: ...


class Misled(SystemNet):
    """A network on whose machine every name stands for all addresses."""

    async def listen_tcp(self, host: str, port: int) -> list[trio.SocketListener]:
        return await super().listen_tcp("0.0.0.0", port)


def doors(folder: Path, *given: trio.SocketListener, **changed: Any) -> Doors:
    fields: dict[str, Any] = {"host": "localhost", "port": 0, "tls": None, **changed}
    return Doors(
        world=fields.pop("world", World()),
        folder=folder,
        mode=0o600,
        given={STREAM: list(given)} if given else {},
        conditions=Quiet(),
        **fields,
    )


async def test_a_socket_of_the_service_manager_that_others_can_reach_needs_tls(tmp_path: Path) -> None:
    (given,) = await trio.open_tcp_listeners(0, host="0.0.0.0")
    async with given:
        with pytest.raises(InvalidParameter, match=r"on 0\.0\.0\.0, .* change its ListenStream= to 127\.0\.0\.1:5002"):
            doors(tmp_path, given)

        pair = make_pair(tmp_path)
        assert await doors(tmp_path, given, tls=Served(pair, pair).identity.context).stream()
        assert not doors(tmp_path, given, streaming=False).stream_port


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_one_on_loopback_needs_none(tmp_path: Path, host: str) -> None:
    (given,) = await trio.open_tcp_listeners(0, host=host)
    async with given:
        opened = doors(tmp_path, given)
        assert await opened.stream()
        assert opened.stream_port == given.socket.getsockname()[1]


async def test_a_unix_socket_needs_none(tmp_path: Path) -> None:
    given = await SystemNet().listen_unix(tmp_path / "stream.sock", mode=0o600)
    async with given:
        opened = doors(tmp_path, given)
        assert await opened.stream()
        assert opened.stream_port == 0


async def test_a_name_that_stands_for_an_address_others_can_reach_is_not_listened_on(tmp_path: Path) -> None:
    misled = attrs.evolve(World(), net=Misled())

    with pytest.raises(OSError, match=r'localhost is 0\.0\.0\.0 here, .* set host = "127\.0\.0\.1" in \[stream\]'):
        await doors(tmp_path, world=misled).stream()
