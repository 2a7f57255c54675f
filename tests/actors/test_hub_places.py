"""Where a subscription begins: told to who asks, and a place to come back to."""

from __future__ import annotations

from pathlib import Path

from tests.actors.test_hub import FOREIGN, ONE, TWO, open_scene
from tests.surfaces.streams import ACCOUNT

NEW = "strat_ffffff01"


async def test_who_asked_where_it_began_comes_back_to_everything_since_and_nothing_before(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        await scene.emit(ONE, ONE, TWO, FOREIGN)
        await scene.delete(TWO)
        first, again = scene.hub.open(ACCOUNT), scene.hub.open(ACCOUNT)
        begun = await scene.hub.subscribe(first, "*", located=True)
        scene.owners.accounts[NEW] = ACCOUNT
        await scene.emit(ONE, NEW, NEW)
        heard = await scene.hear(first, 3)
        scene.hub.close(first)
        await scene.hub.subscribe(again, "*", since={**begun.position, "*": 0})

        assert begun.position == {ONE: 2, TWO: 1}
        assert sorted(heard) == sorted(await scene.hear(again, 3)) == [(ONE, 3), (NEW, 1), (NEW, 2)]


async def test_one_strategys_place_is_its_last_number_or_the_one_it_is_resumed_after(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        await scene.emit(ONE, ONE, ONE)
        tap = scene.hub.open(ACCOUNT)
        places = [await scene.hub.subscribe(tap, ONE, since=since, located=True) for since in (None, 1, 99)]

        assert [place.position for place in places] == [{ONE: 3}, {ONE: 1}, {ONE: 3}]
