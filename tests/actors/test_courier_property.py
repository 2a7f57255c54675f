"""Whatever happens to receivers, webhooks and the daemon: each event that matches is delivered, and to nobody else."""

from __future__ import annotations

import tempfile
from pathlib import Path

import trio
from attrs import define, field
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from trio.testing import MockClock

from pipaid.model.webhook import Outcome
from tests.actors.couriers import BROKE, TAKEN, Letter, Postroom

ACCOUNTS = ("acct_1", "acct_2")
STEPS = st.one_of(
    st.tuples(st.just("tell"), st.integers(0, 1), st.integers(1, 6)),
    st.tuples(st.just("mood"), st.integers(0, 2), st.sampled_from([0, 1, 2, 3])),
    st.tuples(st.just("slow"), st.integers(0, 0), st.sampled_from([0, 3])),
    st.tuples(st.just("wait"), st.integers(0, 0), st.sampled_from([0, 1, 7, 40])),
    st.tuples(st.just("create"), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("pause"), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("crash"), st.integers(0, 0), st.just(0)),
)


@define(eq=False)
class Expected:
    """One webhook, and what it has to hear: what was told while it was there and active."""

    id: str
    account: str
    url: str
    active: bool = True
    told: set[str] = field(factory=set[str])
    silent: set[str] = field(factory=set[str])


@define(eq=False)
class Course:
    """A postroom through which steps are taken, life after life."""

    room: Postroom
    strategies: list[str] = field(factory=list[str])
    hooks: list[Expected] = field(factory=list[Expected])
    # How many attempts at an event each receiver lets fail.
    moods: dict[str, int] = field(factory=dict[str, int])
    failed: dict[tuple[str, str], int] = field(factory=dict[tuple[str, str], int])

    def answer(self, letter: Letter) -> Outcome:
        key = (letter.url, letter.event_id)
        self.failed[key] = self.failed.get(key, 0) + 1
        return BROKE if self.failed[key] <= self.moods.get(letter.url, 0) else TAKEN

    async def take(self, step: tuple[str, int, int]) -> None:
        kind, which, much = step
        if kind == "tell":
            told = await self.room.tell(self.strategies[which], much)
            for hook in self.hooks:
                if hook.account == ACCOUNTS[which]:
                    (hook.told if hook.active else hook.silent).update(told)
        elif kind == "mood":
            self.moods[f"https://r{which}.example.com/"] = much
        elif kind == "slow":
            self.room.answer_s = float(much)
        elif kind == "wait":
            await trio.sleep(much)
        elif kind == "create" and len(self.hooks) < 4:
            await self.create(which)
        elif kind == "pause" and which < len(self.hooks):
            hook = self.hooks[which]
            hook.active = not hook.active
            await self.room.update(hook.id, status="active" if hook.active else "paused")

    async def create(self, which: int) -> None:
        url = f"https://r{len(self.hooks)}.example.com/"
        self.room.receivers[url] = self.answer
        made = await self.room.create(account=ACCOUNTS[which], url=url)
        self.hooks.append(Expected(made, ACCOUNTS[which], url))


async def course_of(steps: list[tuple[str, int, int]], folder: Path) -> tuple[Course, int]:
    """Take the steps, life after life, then let everybody take what comes; return also how many letters are left."""
    course = Course(Postroom(folder))
    lives: list[list[tuple[str, int, int]]] = [[]]
    for step in steps:
        if step[0] == "crash":
            lives.append([])
        else:
            lives[-1].append(step)
    for number, life in enumerate(lives):
        async with course.room.open():
            if number == 0:
                course.strategies = [await course.room.strategy(account) for account in ACCOUNTS]
                await course.create(0)
            for step in life:
                await course.take(step)
    course.moods.clear()
    async with course.room.open():
        for hook in course.hooks:
            await course.room.update(hook.id, status="active")
        await trio.sleep(3_600)
        return course, course.room.rows("letter")


@settings(max_examples=40)
@given(steps=st.lists(STEPS, max_size=20))
@example(steps=[("create", 0, 0), ("wait", 0, 1), ("tell", 0, 1), ("pause", 1, 0), ("pause", 1, 0)])
def test_each_event_that_matches_is_delivered(steps: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder, capture_logs():
        course, left = trio.run(course_of, steps, Path(folder), clock=MockClock(autojump_threshold=0))

    taken = {hook.url: set(course.room.events_of(hook.url)) for hook in course.hooks}
    for hook in course.hooks:
        assert hook.told <= taken[hook.url], hook
        # What was told around a pause may be heard; what belongs to others never.
        assert taken[hook.url] <= hook.told | hook.silent, hook
    assert left == 0
