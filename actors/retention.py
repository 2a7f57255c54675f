"""Evaluations leave once newer ones have taken their place, and some time after their strategy has gone."""

from __future__ import annotations

from collections.abc import Container
from functools import partial
from typing import Final, Protocol

import msgspec
from attrs import define

from actors.actor import Writer
from pipaid.model.record import Batch, Kind, Record
from pipaid.model.strategy import Strategy
from pipaid.seams import Clock
from pipaid.storage.store import Reader

# In one commit, so that others get their turns in between.
DROPPED_AT_ONCE: Final = 256
RUN: Final = "run"


class Listing(Protocol):
    """The roster as far as it says who is there."""

    @property
    def members(self) -> Container[str]:
        """Return all strategies by id."""
        ...


@define(eq=False)
class Retention:
    """Keep so many evaluations of each strategy, and those of a deleted one for so long.

    A session drops one for each that it adds. What is left to do here follows from a lower number in the configuration,
    and from deletions.
    """

    writer: Writer
    roster: Listing
    clock: Clock
    runs_kept: int
    deleted_kept_us: int

    async def prune(self) -> int:
        """Drop what is kept no more; return how much that was."""
        dropped = 0
        for owner, count in (await self.writer.read(lambda reader: reader.counts(RUN))).items():
            surplus = count - await self._kept(owner)
            while surplus > 0:
                keys = await self.writer.read(partial(_oldest, owner=owner, limit=min(surplus, DROPPED_AT_ONCE)))
                if not keys:
                    break
                await self.writer.commit(Batch(records=[Record(RUN, key, Kind.DROP) for key in keys]))
                dropped += len(keys)
                surplus -= len(keys)
        return dropped

    async def _kept(self, owner: str) -> int:
        if owner in self.roster.members:
            return self.runs_kept
        row = await self.writer.read(lambda reader: reader.get("strategy", owner))
        deleted_ms = msgspec.json.decode(row.data, type=Strategy).deleted_at_ms if row is not None else 0
        return self.runs_kept if deleted_ms * 1_000 > self.clock.now_us() - self.deleted_kept_us else 0


def _oldest(reader: Reader, *, owner: str, limit: int) -> list[str]:
    return reader.oldest(RUN, owner, limit=limit)
