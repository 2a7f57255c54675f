"""Ten thousand strategies of one microsecond, listed page by page while others come and go: each is seen once."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from random import Random

import pytest
import trio
from trio.testing import MockClock

from pipaid.model import request
from tests.actors.homes import ACCOUNT, Home, at_home
from tests.actors.test_answers import ME, answering
from tests.builders import scripted

pytestmark = pytest.mark.usefixtures("logged")

STRATEGIES = 10_000
PAGE = 100
# So many are created at once, and share a commit.
AT_ONCE = 500
# With each page, so many come and so many go.
CHANGED = 5


async def drafts(home: Home, numbers: range, found: set[str]) -> None:
    """Create strategies that share their commits."""

    async def draft(number: int) -> None:
        found.add((await home.draft(f"number {number}")).id)

    for first in range(numbers.start, numbers.stop, AT_ONCE):
        async with trio.open_nursery() as nursery:
            for number in range(first, min(first + AT_ONCE, numbers.stop)):
                nursery.start_soon(partial(draft, number))


async def test_each_of_ten_thousand_is_seen_once_whoever_comes_and_goes_meanwhile(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    chance = Random(7)
    async with at_home(tmp_path, scripted()) as home:
        there: set[str] = set()
        await drafts(home, range(STRATEGIES), there)
        assert len({home.member(each).strategy.created_at_us for each in there}) == 1
        answers = answering(home)

        seen: list[str] = []
        came: set[str] = set()
        went: set[str] = set()
        cursor: str | None = None
        while True:
            page = await answers.strategy_list(ME, request.StrategyList(limit=PAGE, cursor=cursor))
            seen += [each.id for each in page.data]
            cursor = page.next_cursor
            if cursor is None:
                break
            await drafts(home, range(STRATEGIES + len(came), STRATEGIES + len(came) + CHANGED), came)
            leaving = chance.sample(sorted(there - went), CHANGED)
            # The last one shown, which the cursor names, is among them.
            leaving = [each for each in {seen[-1], *leaving} if each in home.roster.members]
            async with trio.open_nursery() as nursery:
                for each in leaving:
                    nursery.start_soon(home.lifecycle.delete, ACCOUNT, each)
            went |= set(leaving)

    assert len(seen) == len(set(seen))
    assert set(seen) >= there - went
    assert set(seen) <= there | came
    assert len(went) > STRATEGIES // PAGE
    assert came & set(seen)
