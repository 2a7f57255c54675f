"""A mailbox wakes its one reader, and leaves one alone that is on its way out."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from actors.actor import Mailbox


async def test_a_letter_to_a_reader_that_was_just_cancelled_waits_for_the_next() -> None:
    mailbox = Mailbox[str]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.first)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

        mailbox.tell("late")

    assert await mailbox.first() == "late"
