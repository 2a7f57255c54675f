"""A mailbox holds so many letters, each until it has been dealt with, and never lets its one reader sleep on one."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.actor import Mailbox, MailboxFull


async def test_a_letter_stays_until_it_has_been_dealt_with() -> None:
    mailbox = Mailbox[str]()
    mailbox.tell("a")
    mailbox.tell("b")

    assert [await mailbox.first(), await mailbox.first(), len(mailbox)] == ["a", "a", 2]

    mailbox.done()
    assert [await mailbox.first(), len(mailbox)] == ["b", 1]


async def test_a_full_mailbox_refuses_and_room_waits_for_the_reader() -> None:
    mailbox = Mailbox[int](letters_max=2)
    mailbox.tell(1)
    mailbox.tell(2)
    with pytest.raises(MailboxFull, match="2 letters"):
        mailbox.tell(3)
    entered: list[int] = []

    async def enter(letter: int) -> None:
        await mailbox.room()
        mailbox.tell(letter)
        entered.append(letter)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(enter, 3)
        nursery.start_soon(enter, 4)
        await wait_all_tasks_blocked()
        assert entered == []

        mailbox.done()
        await wait_all_tasks_blocked()
        assert len(entered) == 1
        mailbox.done()

    assert sorted(entered) == [3, 4]


async def test_clearing_makes_room_for_whoever_waits() -> None:
    mailbox = Mailbox[int](letters_max=1)
    mailbox.tell(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.room)
        await wait_all_tasks_blocked()

        assert mailbox.clear() == [1]


async def test_a_held_reader_sleeps_whatever_comes() -> None:
    mailbox = Mailbox[str]()
    read: list[str | None] = []

    async def reader() -> None:
        read.append(await mailbox.first())
        read.append(await mailbox.first())

    async with trio.open_nursery() as nursery:
        mailbox.hold()
        nursery.start_soon(reader)
        await wait_all_tasks_blocked()
        mailbox.tell("a")
        mailbox.alarm()
        await wait_all_tasks_blocked()
        assert read == []

        mailbox.release()

    assert read == [None, "a"]


async def test_a_reader_that_was_woken_in_vain_goes_on_sleeping() -> None:
    mailbox = Mailbox[str]()
    read: list[str | None] = []

    async def reader() -> None:
        read.append(await mailbox.first())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await wait_all_tasks_blocked()
        mailbox.tell("a")
        mailbox.hold()
        await wait_all_tasks_blocked()
        assert read == []

        mailbox.release()

    assert read == ["a"]


async def test_a_letter_to_a_reader_that_was_just_cancelled_waits_for_the_next() -> None:
    mailbox = Mailbox[str]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.first)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

        mailbox.tell("late")

    assert await mailbox.first() == "late"


@pytest.mark.parametrize("seed", range(20))
async def test_no_letter_is_lost_repeated_or_slept_on_in_a_storm(seed: int, autojump_clock: MockClock) -> None:
    chance = random.Random(seed)
    mailbox = Mailbox[tuple[int, int]](letters_max=4)
    read: list[tuple[int, int]] = []

    async def sender(number: int) -> None:
        for turn in range(50):
            await mailbox.room()
            mailbox.tell((number, turn))
            if chance.random() < 0.3:
                await trio.sleep(chance.random())

    async def disturb() -> None:
        while True:
            await trio.sleep(chance.random() / 10)
            chance.choice([mailbox.hold, mailbox.release, mailbox.release, mailbox.alarm])()

    async def read_some() -> None:
        """Read for a while; whatever cuts it short leaves the letter where it was."""
        with trio.move_on_after(chance.random()):
            while len(read) < 200:
                letter = await mailbox.first()
                if letter is None:
                    continue
                if chance.random() < 0.5:
                    await trio.sleep(chance.random() / 20)
                read.append(letter)
                mailbox.done()

    with trio.fail_after(1_000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(disturb)
            for number in range(4):
                nursery.start_soon(sender, number)
            while len(read) < 200:
                await read_some()
            nursery.cancel_scope.cancel()

    for number in range(4):
        assert [turn for sent, turn in read if sent == number] == list(range(50))
    assert len(mailbox) == 0
