"""One bucket per desk: what happened at the venue that nobody here accounts for, kept until the books agree again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
import structlog
from attrs import define, field

from actors.actor import Writer
from pipaid.engine.effects import stray_record
from pipaid.errors import Unavailable
from pipaid.model.record import Batch
from pipaid.model.stray import Stray
from pipaid.storage.store import Reader

log = structlog.get_logger()
STRAYS_KEPT: Final = 1_000
SETTLED: Final = "settled"


@define(eq=False)
class Unassigned:
    """Keep strays in the journal, each once, and tell of each once; nothing of ours touches them.

    `found` holds those that are open, the newest STRAYS_KEPT of them; older ones stay in the journal. `total` counts
    what was found since the start.
    """

    name: str
    writer: Writer
    found: dict[str, Stray] = field(factory=dict[str, Stray])
    total: int = 0
    _fresh: set[str] = field(factory=set[str])

    async def load(self) -> None:
        """Take up what was open before a restart."""
        for stray in await self.writer.read(self._open):
            self._keep(stray)

    def take(self, stray: Stray) -> None:
        """Keep something that nobody accounts for, unless it is here already."""
        if stray.id in self.found:
            return
        try:
            self.writer.submit(Batch(records=[stray_record(stray)]))
        except Unavailable as trouble:
            # It is found again by the next comparison.
            log.error("stray.unwritten", desk=self.name, id=stray.id, reason=str(trouble))
            return
        self.total += 1
        self._fresh.add(stray.id)
        self._keep(stray)
        log.error("stray.found", **msgspec.to_builtins(stray))

    def settle(self, strays: Iterable[Stray]) -> None:
        """Let go of what is accounted for now; the journal keeps it as settled."""
        gone = [stray for stray in strays if stray.id in self.found]
        if not gone:
            return
        records = [msgspec.structs.replace(stray_record(stray), state=SETTLED) for stray in gone]
        try:
            self.writer.submit(Batch(records=records))
        except Unavailable:
            return
        for stray in gone:
            del self.found[stray.id]
            self._fresh.discard(stray.id)
        log.warning("strays.settled", desk=self.name, ids=[stray.id for stray in gone])

    def seasoned(self) -> list[Stray]:
        """Return what was here already when this was last asked, and so before whatever was learned since."""
        known = [stray for stray in self.found.values() if stray.id not in self._fresh]
        self._fresh.clear()
        return known

    def _keep(self, stray: Stray) -> None:
        self.found[stray.id] = stray
        while len(self.found) > STRAYS_KEPT:
            oldest = next(iter(self.found))
            del self.found[oldest]
            self._fresh.discard(oldest)

    def _open(self, reader: Reader) -> list[Stray]:
        return [msgspec.json.decode(row.data, type=Stray) for row in reader.rows("stray", state=self.name)]
