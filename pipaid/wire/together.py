"""Several things done at once, of which none keeps the others from being done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from pipaid.errors import PipaidError


async def together(*acts: Callable[[], Awaitable[object]]) -> None:
    """Do several things at once; raise the first refusal once all of them have ended."""
    refusals: list[PipaidError] = []

    async def do(act: Callable[[], Awaitable[object]]) -> None:
        try:
            await act()
        except PipaidError as refusal:
            refusals.append(refusal)

    async with trio.open_nursery() as nursery:
        for act in acts:
            nursery.start_soon(do, act)
    if refusals:
        raise refusals[0]
