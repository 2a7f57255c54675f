"""What is asked of a daemon again and again, and how its answer is waited for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

import trio

from pipaid.errors import PipaidError
from tests.surfaces.daemon import Daemon

T = TypeVar("T")
LOOK_S: Final = 0.02


async def apart(function: Callable[[], T]) -> T:
    """Run what waits for another process beside the loop."""
    return await trio.to_thread.run_sync(function)


async def until(condition: Callable[[], bool], *, within_s: float = 240.0) -> None:
    """Wait for something that comes about in another process."""
    with trio.fail_after(within_s):
        while not await apart(condition):  # noqa: ASYNC110 - another process cannot be awaited
            await trio.sleep(LOOK_S)


def answered(daemon: Daemon, op: str) -> Any:
    """Return what a daemon answers, nothing while it does not."""
    with suppress(PipaidError):
        return daemon.ask(op)
    return None


def deployed(daemon: Daemon) -> int:
    """Return how many strategies trade."""
    status = answered(daemon, "status")
    return status["strategies"].get("deployed", 0) if status is not None else 0


def ended(daemon: Daemon) -> bool:
    """Tell whether the market has come to its end."""
    status = answered(daemon, "status")
    return status is not None and status["market"]["ended"]


def strategies(daemon: Daemon) -> list[Any]:
    """Return every strategy."""
    found: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = daemon.ask("strategy.list", limit=100, **cursor)
        found += page["data"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def last_seqs(daemon: Daemon) -> dict[str, int]:
    """Return the number of the last event of each strategy."""
    return {one["id"]: daemon.ask("strategy.state", id=one["id"])["last_seq"] for one in strategies(daemon)}


def counted(times: Mapping[Any, int]) -> str:
    """Return counts in words, the most frequent first."""
    return ", ".join(f"{count:,} {what}" for what, count in sorted(times.items(), key=lambda each: -each[1]))


def has(last: Mapping[str, int], goal: Mapping[str, int]) -> bool:
    """Tell whether somebody has heard so far of every strategy."""
    return all(last.get(key, 0) >= seq for key, seq in goal.items())
