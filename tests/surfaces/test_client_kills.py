"""A daemon that dies over a command: who sends it again learns what became of it, and nothing is done twice."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from pipaid.errors import InvalidState
from pipaid.sdk import Client
from tests.surfaces.api import Api, serving
from tests.surfaces.daemon import GRID

# A daemon that dies over the first command that carries a key, at one of three points of its way through.
DYING = """
import os, signal
from actors.remembered import JournalMemory
put = JournalMemory.put
async def dying(self, key, entry):
    point = "{point}"
    if point == ("heard" if entry.answer is None else "done"):
        os.kill(os.getpid(), signal.SIGKILL)
    await put(self, key, entry)
    if point == "noted" and entry.answer is not None:
        os.kill(os.getpid(), signal.SIGKILL)
JournalMemory.put = dying
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Generator[Api, None, None]:
    with serving(tmp_path_factory.mktemp("api")) as api:
        yield api


def ask_while_it_dies(api: Api, point: str) -> dict[str, object]:
    """Create a strategy with a daemon that dies over it, while another one is started in its place."""
    user = api.user()
    api.daemon.end()
    api.daemon.before = f"exec({DYING.format(point=point)!r})"
    api.daemon.start()
    assert api.daemon.process is not None
    dying, api.daemon.before = api.daemon.process, "pass"

    def restart() -> None:
        dying.wait()
        api.daemon.start()

    back = threading.Thread(target=restart)
    back.start()
    try:
        with Client(user.api_key, user.secret, api.url) as client:
            return client.ask("strategy.create", name=point, **GRID)
    finally:
        dying.kill()
        back.join()


def named(api: Api, name: str) -> list[str]:
    return [each["id"] for each in api.daemon.ask("strategy.list", limit=100)["data"] if each["name"] == name]


@pytest.mark.parametrize("point", ["heard", "noted"])
def test_a_command_whose_answer_was_lost_is_sent_again_and_carried_out_once(api: Api, point: str) -> None:
    made = ask_while_it_dies(api, point)

    assert named(api, point) == [made["id"]]


def test_a_command_in_whose_midst_the_daemon_died_is_not_carried_out_again_and_that_is_said(api: Api) -> None:
    with pytest.raises(InvalidState, match="ended while it carried this request out"):
        ask_while_it_dies(api, "done")

    assert len(named(api, "done")) == 1
