"""A market whose daemon is killed, suspended and restarted ends as if nothing had been; the judges would see it."""

from __future__ import annotations

from pathlib import Path

from tests.soak.kills import Size, run
from tests.soak.lives import Ending

SIZE = Size(strategies=10, minutes=240, kills=6, restarts=1, twice=1, suspensions=1, life_s_max=0.3, at_once_s_max=10.0)


async def test_kills_and_restarts_change_nothing_and_lose_nothing(tmp_path: Path) -> None:
    ended = 0

    def advance(lives: int) -> None:
        nonlocal ended
        ended += lives

    outcome = await run(tmp_path, SIZE, advance)

    assert outcome.wrong == []
    begun = outcome.begun
    assert ended >= SIZE.lives
    assert begun.kills >= SIZE.kills
    assert set(begun.ends) == set(Ending)
    assert begun.verdicts[-1].ledger.fills > 0
    assert begun.socket.connections > 1
    assert begun.tail.connections > 1
    assert {"done", "refused", "unanswered"} <= set(begun.commander.outcomes)
