"""How many connections are taken, how many are told to come again, and that the rest costs nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from attrs import define
from starlette.responses import PlainTextResponse, Response
from uvicorn.server import ServerState

from pipaid.api.connection import connections
from pipaid.errors import PipaidError

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@define(eq=False)
class Wire(asyncio.Transport):
    """What one client hears."""

    heard: bytes = b""
    over: bool = False

    def write(self, data: Any) -> None:
        self.heard += data

    def close(self) -> None:
        self.over = True

    def abort(self) -> None:
        self.over = True

    def is_closing(self) -> bool:
        return self.over

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


def refuse(trouble: PipaidError) -> Response:
    return Response(trouble.message, trouble.http_status, headers={"Connection": "close"})


async def wires(count: int, connections_max: int) -> list[Wire]:
    """Connect so many clients one after the other, and let each ask for something."""
    config = uvicorn.Config(PlainTextResponse("served"), lifespan="off", log_config=None)
    protocol = connections(refuse, head_s=60.0, connections_max=connections_max)
    state = ServerState()
    made: list[Wire] = []
    for _ in range(count):
        wire = Wire()
        one = protocol(config, state, {})
        one.connection_made(wire)
        if not wire.over:
            one.data_received(REQUEST)
        made.append(wire)
    await asyncio.gather(*state.tasks)
    for each in list(state.connections):
        each.connection_lost(None)
    return made


def test_the_first_are_served_the_next_told_to_come_again_and_the_rest_told_nothing() -> None:
    found = asyncio.run(wires(5, connections_max=2))

    assert [each.heard[9:12] for each in found] == [b"200", b"200", b"503", b"503", b""]
    assert b"too many clients" in found[2].heard
