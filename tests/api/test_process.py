"""The web process looks at its certificate by itself, and is not heard by other machines without one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from pipaid.api.app import Api
from pipaid.api.process import Server, make_server_config
from pipaid.api.upstream import Upstream
from pipaid.config.sections import Http, Sections
from pipaid.wire.identity import LOOK_EVERY_S
from tests.certificates import make_pair
from tests.wire.test_identity import Served
from tests.worlds import make_world


def server_of(folder: Path, http: Http, identity: Any = None) -> Server:
    api = Api(Upstream(folder / "forward.sock"), make_world(), identity)
    server = Server(make_server_config(Sections(http=http), api))
    server.identity = identity
    return server


async def started(server: Server) -> None:
    """Begin to listen, and end again."""
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    try:
        await server.startup()
    finally:
        await server.shutdown()


def test_a_file_that_changes_is_taken_without_a_word_from_anybody(tmp_path: Path) -> None:
    served = Served(make_pair(tmp_path, "first"), make_pair(tmp_path, "second"))
    config = server_of(tmp_path, Http(port=0), served.identity).config
    before = served.identity.context.in_force
    served.pair.become(served.other)
    look: Any = config.callback_notify

    asyncio.run(look())

    assert served.identity.context.in_force is not before
    assert config.timeout_notify == LOOK_EVERY_S


def test_a_name_that_stands_for_an_address_others_can_reach_is_not_served_without_tls(tmp_path: Path) -> None:
    # What the configuration would refuse stands here for a name that means more than it says.
    with capture_logs() as logged, pytest.raises(SystemExit):
        asyncio.run(started(server_of(tmp_path, Http(host="0.0.0.0", port=0))))

    assert logged[-1]["event"] == "http.refused"
    pair = make_pair(tmp_path)
    asyncio.run(started(server_of(tmp_path, Http(host="0.0.0.0", port=0), Served(pair, pair).identity)))
