"""Upkeep: forgets what is past its retention, and heeds the kill file that an operator may drop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

import trio
from attrs import define, field

from pipaid.errors import Unavailable
from pipaid.logs import get_log
from pipaid.model.moment import iso_seconds
from pipaid.seams import World

UPKEEP_EVERY_S: Final = 0.2
# Sooner than the period: a daemon that is started again and again must come to it too.
FIRST_PRUNE_S: Final = 60.0
PROGRESS_EVERY_S: Final = 5.0


class Pruned(Protocol):
    """The recorder as the upkeep sees it."""

    async def prune(
        self, *, older_than_us: int | None = None, keep_events: int = ..., held_n: int | None = None
    ) -> int:
        """Forget what is past its retention."""
        ...


class Followed(Protocol):
    """The market as the upkeep sees it."""

    ends_ms: int

    def now_ms(self) -> int:
        """Return venue time."""
        ...


class Switch(Protocol):
    """The kill switch as the upkeep sees it."""

    @property
    def active(self) -> bool:
        """Tell whether entries are blocked."""
        ...

    async def activate(self, reason: str, *, by: str, close_positions: bool) -> Any:
        """Block entries everywhere."""
        ...


async def _nothing() -> int:
    return 0


@define(eq=False)
class Upkeep:
    """Look for the kill file a few times a second, tell how far a recorded market has come, prune now and then.

    `held_n` is the last record that everybody has read who reads the log, or nothing if nobody does. `prune_rows` drops
    what is kept no more of the tables.
    """

    world: World
    recorder: Pruned
    switch: Switch
    market: Followed
    kill_file: Path
    events_kept: int
    events_kept_us: int
    prune_every_s: float = 3_600.0
    held_n: Callable[[], int | None] = field(default=lambda: None)
    prune_rows: Callable[[], Awaitable[int]] = field(default=_nothing)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled."""
        async with trio.open_nursery() as nursery:
            # Apart from the rest: it may take seconds, and the kill file cannot wait for it.
            nursery.start_soon(self._prune)
            task_status.started()
            await self._look_after()

    async def _prune(self) -> None:
        clock = self.world.clock
        await clock.sleep(min(FIRST_PRUNE_S, self.prune_every_s))
        while True:
            await self.prune_rows()
            older_than_us = clock.now_us() - self.events_kept_us
            await self.recorder.prune(older_than_us=older_than_us, keep_events=self.events_kept, held_n=self.held_n())
            await clock.sleep(self.prune_every_s)

    async def _look_after(self) -> None:
        clock = self.world.clock
        told_s = clock.monotonic_s()
        begun_ms = self.market.now_ms()
        while True:
            await clock.sleep(UPKEEP_EVERY_S)
            if not self.switch.active and self.world.disk.exists(self.kill_file):
                # It is latched, whether or not that could be made durable.
                with suppress(Unavailable):
                    await self.switch.activate(f"the file {self.kill_file} exists", by="file", close_positions=False)
            if self.market.ends_ms and clock.monotonic_s() - told_s >= PROGRESS_EVERY_S:
                told_s = clock.monotonic_s()
                now_ms = self.market.now_ms()
                share = (now_ms - begun_ms) / max(1, self.market.ends_ms - begun_ms)
                get_log().info("market.progress", venue_time=iso_seconds(now_ms), done_pct=round(100 * share, 1))
