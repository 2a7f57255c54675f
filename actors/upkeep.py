"""Upkeep: forgets what is past its retention, and heeds the kill file that an operator may drop."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Protocol

import trio
from attrs import define

from pipaid.logs import get_log
from pipaid.model.moment import iso_seconds
from pipaid.seams import World

UPKEEP_EVERY_S: Final = 0.2
PRUNE_EVERY_S: Final = 3_600.0
PROGRESS_EVERY_S: Final = 5.0
US_PER_HOUR: Final = 3_600_000_000


class Pruned(Protocol):
    """The recorder as the upkeep sees it."""

    async def prune(self, *, older_than_us: int | None = None, keep_events: int = ...) -> int:
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


@define(eq=False)
class Upkeep:
    """Look for the kill file a few times a second, tell how far a recorded market has come, prune once an hour."""

    world: World
    recorder: Pruned
    switch: Switch
    market: Followed
    kill_file: Path
    events_kept: int
    events_kept_hours: int

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled."""
        task_status.started()
        clock = self.world.clock
        pruned_s = told_s = clock.monotonic_s()
        begun_ms = self.market.now_ms()
        while True:
            await clock.sleep(UPKEEP_EVERY_S)
            if not self.switch.active and self.world.disk.exists(self.kill_file):
                await self.switch.activate(f"the file {self.kill_file} exists", by="file", close_positions=False)
            if self.market.ends_ms and clock.monotonic_s() - told_s >= PROGRESS_EVERY_S:
                told_s = clock.monotonic_s()
                now_ms = self.market.now_ms()
                share = (now_ms - begun_ms) / max(1, self.market.ends_ms - begun_ms)
                get_log().info("market.progress", venue_time=iso_seconds(now_ms), done_pct=round(100 * share, 1))
            if clock.monotonic_s() - pruned_s >= PRUNE_EVERY_S:
                pruned_s = clock.monotonic_s()
                older_than_us = clock.now_us() - self.events_kept_hours * US_PER_HOUR
                await self.recorder.prune(older_than_us=older_than_us, keep_events=self.events_kept)
