"""Without free descriptors new clients wait, those there are go on, queries make do with the readers there are."""

from __future__ import annotations

import errno
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.conditions import Conditions
from actors.doors import RETRY_S, PatientListener
from actors.recorder import READERS_MAX, SHORT_S, Recorder
from pipaid.errors import Unavailable
from pipaid.seams import SystemClock, World
from pipaid.storage.store import JournalUnusable, Reader
from tests.actors.controls import SetClock
from tests.actors.homes import TrioClock
from tests.actors.test_strategy import Watched
from tests.storage.journals import open_journal

pytestmark = pytest.mark.usefixtures("logged")


# Connections.


@define(eq=False)
class Scarce:
    """A listener that cannot take connections as long as a test says why."""

    trouble: OSError | None = None
    waiting: trio.Event = field(factory=trio.Event)
    asked: int = 0

    async def accept(self) -> str:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        if self.trouble is not None:
            raise self.trouble
        await self.waiting.wait()
        return "a connection"


class Told:
    """Conditions that write down what they are told."""

    def __init__(self) -> None:
        self.turns: list[str] = []

    def enter(self, condition: Any, detail: str) -> None:
        self.turns.append(f"+{condition}")

    def leave(self, condition: Any) -> None:
        self.turns.append(f"-{condition}")


def patient(inner: Scarce, told: Told) -> PatientListener:
    return PatientListener(cast("Any", inner), TrioClock(), told)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_a_connection_that_cannot_be_taken_waits_until_it_can(number: int, autojump_clock: MockClock) -> None:
    inner, told = Scarce(OSError(number, "no room")), Told()
    with trio.move_on_after(10):
        await patient(inner, told).accept()
    assert 10 / RETRY_S - 2 <= inner.asked <= 10 / RETRY_S + 2
    assert set(told.turns) == {"+descriptors"}

    inner.trouble = None
    inner.waiting.set()
    assert cast("Any", await patient(inner, told).accept()) == "a connection"
    assert told.turns[-1] == "-descriptors"


async def test_with_room_again_and_nobody_waiting_it_waits_in_peace(autojump_clock: MockClock) -> None:
    inner, told = Scarce(OSError(errno.EMFILE, "no room")), Told()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(patient(inner, told).accept)
        await trio.sleep(0.1)
        inner.trouble = None
        await trio.sleep(10)
        assert (inner.asked, told.turns) == (3, ["+descriptors", "-descriptors"])
        nursery.cancel_scope.cancel()


async def test_any_other_error_is_raised() -> None:
    with pytest.raises(OSError, match="broken"):
        await patient(Scarce(OSError(errno.EBADF, "broken")), Told()).accept()


# Readers of the journal.


@define(eq=False)
class Post:
    """A recorder over a journal that can be opened for `left` more readers."""

    recorder: Recorder
    clock: SetClock
    left: int = 0


@asynccontextmanager
async def recording(folder: Path, left: int) -> AsyncGenerator[Post]:
    journal = open_journal(folder)
    post = Post(cast("Any", None), SetClock(), left)

    def reader() -> Reader:
        if post.left <= 0:
            raise JournalUnusable("unable to open database file")
        post.left -= 1
        return journal.reader()

    post.recorder = Recorder(cast("Any", Watched(journal, reader=reader)), lambda _: None, post.clock)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(post.recorder.run)
            yield post
            nursery.cancel_scope.cancel()
    finally:
        journal.close()


def is_short(post: Post) -> bool:
    return post.recorder.short


async def read_at_once(post: Post, count: int) -> int:
    """Ask so many questions at once; return how many were answered at the same time at most."""
    lock, now, most, answered = threading.Lock(), 0, 0, 0
    all_in = threading.Semaphore(0)

    def question(_: Reader) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        all_in.acquire(timeout=0.05)
        with lock:
            now -= 1

    async def ask() -> None:
        nonlocal answered
        await post.recorder.read(question)
        answered += 1

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(ask)
    assert answered == count
    return most


async def test_queries_make_do_with_the_readers_that_could_be_opened(tmp_path: Path) -> None:
    async with recording(tmp_path, left=2) as post:
        assert await read_at_once(post, 12) <= 2
        assert is_short(post)

        post.left = 10
        assert await read_at_once(post, 12) <= 2
        post.clock.us += round((SHORT_S + 1) * 1e6)
        await read_at_once(post, 12)
        assert not is_short(post)
        assert post.left >= 10 - READERS_MAX


async def test_with_one_reader_every_question_is_answered(tmp_path: Path) -> None:
    async with recording(tmp_path, left=1) as post:
        assert await read_at_once(post, 20) == 1


async def test_without_any_reader_a_question_is_refused_and_the_next_one_tried(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    try:
        recorder = Recorder(journal, lambda _: None, SystemClock())
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(type(journal), "reader", refuse)
            with pytest.raises(Unavailable, match="unable to open"):
                await recorder.read(lambda _: None)
        assert await recorder.read(lambda reader: reader.last_seq("x")) == 0
        recorder._readers.pop().close()
    finally:
        journal.close()


def refuse(_: object) -> Reader:
    raise JournalUnusable("unable to open database file")


async def test_the_condition_is_one_for_all_doors(tmp_path: Path, autojump_clock: MockClock) -> None:
    journal = open_journal(tmp_path)
    try:
        clock = TrioClock()
        conditions = Conditions(World(clock=clock), Recorder(journal, lambda _: None, clock, threaded=False))
        inners = [Scarce(OSError(errno.EMFILE, "no room")) for _ in range(3)]
        async with trio.open_nursery() as nursery:
            for inner in inners:
                nursery.start_soon(PatientListener(cast("Any", inner), clock, conditions).accept)
            await wait_all_tasks_blocked()
            (condition,) = conditions.current()
            assert (condition.condition, condition.blocks_entries) == ("descriptors", False)
            nursery.cancel_scope.cancel()
    finally:
        journal.close()
