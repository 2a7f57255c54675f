"""The portfolio: caps across strategies and the kill switch, both latched in the journal until a human releases them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import msgspec
import structlog
import trio
from attrs import define, field

from actors.actor import Employed, Writer
from pipaid.engine.effects import encode
from pipaid.engine.risk import Book, Caps
from pipaid.errors import InvalidState
from pipaid.model.ident import random_id
from pipaid.model.position import CloseReason
from pipaid.model.record import Batch, Kind, Record
from pipaid.model.strategy import Status
from pipaid.seams import World
from pipaid.storage.store import Reader

log = structlog.get_logger()
WATCH_EVERY_S: Final = 0.25
REASON_MAX: Final = 200


class KillState(msgspec.Struct, frozen=True, kw_only=True):
    """The kill switch as the journal keeps it."""

    is_active: bool = False
    reason: str = ""
    activated_at_us: int = 0
    activated_by: str = ""


class KillLog(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of the kill switch."""

    id: str
    action: str
    reason: str
    at_us: int
    by: str


class Stoppable(Protocol):
    """A gateway as the kill switch sees it."""

    stopped: str


class SavedCaps(msgspec.Struct, frozen=True, kw_only=True):
    """Account caps set at run time: what was changed against the configuration, in plain JSON values."""

    values: dict[str, Any] = {}


@define(eq=False)
class Portfolio:
    """Keep the books' caps and the kill switch. Stopping comes first and is journalled second; all else is durable first."""

    world: World
    writer: Writer
    books: list[Book]
    gateways: list[Stoppable]
    employed: Callable[[], Iterable[Employed]]
    caps: Caps
    kill: KillState = field(factory=KillState)

    async def load(self) -> None:
        """Take up the latches of the time before the restart."""
        self.kill, saved = await self.writer.read(_latches)
        self.caps = caps_with(self.caps, saved.values)
        self._apply()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Trip the kill switch when a book's drawdown latch closes, until cancelled."""
        task_status.started()
        while True:
            await self.world.clock.sleep(WATCH_EVERY_S)
            for book in self.books:
                if book.tripped and not self.kill.is_active:
                    await self.activate(book.tripped, by="portfolio", close_positions=False)

    async def activate(self, reason: str, *, by: str, close_positions: bool) -> KillState:
        """Stop all entries now, everywhere; then make it durable and withdraw what works."""
        reason = reason[:REASON_MAX] or "no reason given"
        self.kill = KillState(
            is_active=True, reason=reason, activated_at_us=self.world.clock.now_us(), activated_by=by
        )
        self._apply()
        log.warning("kill.activated", reason=reason, by=by, close_positions=close_positions)
        await self._save("activate", reason, by)
        async with trio.open_nursery() as nursery:
            for actor in self.employed():
                nursery.start_soon(_withdraw, actor, close_positions)
        return self.kill

    async def deactivate(self, *, by: str) -> KillState:
        """Let entries through again, once that is durable."""
        if not self.kill.is_active:
            raise InvalidState("the kill switch is not active")
        before = self.kill
        self.kill = KillState()
        try:
            await self._save("deactivate", before.reason, by)
        except BaseException:
            self.kill = before
            raise
        for book in self.books:
            book.release()
        self._apply()
        log.warning("kill.deactivated", by=by)
        return self.kill

    async def logs(self, limit: int) -> list[KillLog]:
        """Return the last turns of the kill switch, newest first."""
        rows = await self.writer.read(
            lambda reader: reader.page("kill_log", owner=None, state=None, before=None, limit=limit)
        )
        return [msgspec.json.decode(row.data, type=KillLog) for row in rows]

    async def set_caps(self, values: dict[str, Any], caps: Caps, *, by: str) -> Caps:
        """Put account caps in force; they outlive restarts."""
        record = Record("setting", "risk", Kind.PUT, encode(SavedCaps(values=values)))
        audit = Record(
            "audit", random_id("aud", self.world.ids.entropy(6)), Kind.ADD, encode({"risk": values, "by": by}),
            sort=self.world.clock.now_us(),
        )  # fmt: skip
        await self.writer.commit(Batch(records=[record, audit]))
        self.caps = caps
        self._apply()
        return caps

    def _apply(self) -> None:
        reason = f"kill switch: {self.kill.reason}" if self.kill.is_active else ""
        for book in self.books:
            book.caps = self.caps
            book.blocked = reason
        for gateway in self.gateways:
            gateway.stopped = reason

    async def _save(self, action: str, reason: str, by: str) -> None:
        entry = KillLog(
            id=random_id("kil", self.world.ids.entropy(6)),
            action=action,
            reason=reason,
            at_us=self.world.clock.now_us(),
            by=by,
        )
        records = [
            Record("latch", "kill", Kind.PUT, encode(self.kill)),
            Record("kill_log", entry.id, Kind.ADD, encode(entry), sort=entry.at_us),
        ]
        await self.writer.commit(Batch(records=records))


async def _withdraw(actor: Employed, close_positions: bool) -> None:
    if not actor.loaded or actor.session.strategy.status is Status.STOPPED:
        return
    if close_positions:
        await actor.perform(lambda session: session.close_positions(CloseReason.RISK))
    elif any(not order.reduce_only for order in actor.session.orders.values()):
        await actor.perform(lambda session: session.withdraw("engine", entries_only=True))


def caps_with(caps: Caps, values: dict[str, Any]) -> Caps:
    """Return caps with some replaced by plain JSON values, as `risk set` takes them."""
    return msgspec.convert({**_plain(caps), **values}, type=Caps, strict=False)


def _plain(caps: Caps) -> dict[str, Any]:
    return {name: value for name, value in msgspec.to_builtins(caps).items() if value is not None}


def _latches(reader: Reader) -> tuple[KillState, SavedCaps]:
    kill = reader.get("latch", "kill")
    saved = reader.get("setting", "risk")
    return (
        msgspec.json.decode(kill.data, type=KillState) if kill is not None else KillState(),
        msgspec.json.decode(saved.data, type=SavedCaps) if saved is not None else SavedCaps(),
    )
