"""The portfolio: caps across strategies and the kill switch, latched in the journal until a human releases them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import structlog
import trio
from attrs import define, field

from actors.actor import Employed, Pending, Writer
from pipaid.engine.book import Book, BookMemory, Caps
from pipaid.engine.effects import Effects, encode
from pipaid.engine.loosening import loosened
from pipaid.engine.session import Session
from pipaid.errors import InvalidState, PipaidError, Unavailable
from pipaid.model.condition import Condition
from pipaid.model.event import KillSwitched, notice
from pipaid.model.ident import random_id
from pipaid.model.moment import iso_millis
from pipaid.model.money import ZERO, plain
from pipaid.model.order import Order
from pipaid.model.position import CloseReason
from pipaid.model.record import Batch, Kind, Record
from pipaid.model.report import Latch, RiskObject
from pipaid.model.strategy import Status
from pipaid.seams import World
from pipaid.storage.store import JournalLost, JournalTaken, Reader

log = structlog.get_logger()
WATCH_EVERY_S: Final = 0.25
# What `risk` shows beside the caps.
STANDING: Final = ("latches", "frozen")
REASON_MAX: Final = 200
WITHDRAW_DEADLINE_S: Final = 10.0
# So long a stop waits for the journal before it leaves word in a file.
SAVED_S: Final = 2.0
# Without a journal the daemon ends, and this is how long it waits for venues to answer first.
FORSAKEN_S: Final = 3.0


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

    async def withdraw(self, orders: Iterable[Order]) -> None:
        """Take back what may rest of entries, whatever the journal knows of it."""
        ...


class Watched(Protocol):
    """The conditions as the portfolio sees them."""

    @property
    def blocking(self) -> str:
        """Return why nothing may be entered, or nothing."""
        ...

    def enter(self, condition: Condition, detail: str) -> None:
        """Note that a condition holds."""
        ...

    def lift(self, condition: Condition) -> None:
        """Note that a condition is over for good."""
        ...


class SavedCaps(msgspec.Struct, frozen=True, kw_only=True):
    """Account caps set at run time: what was changed against the configuration, in the words of `risk set`."""

    values: dict[str, Any] = {}


@define(eq=False)
class Portfolio:
    """Keep the books' caps and the kill switch.

    Stopping comes first and is journalled second; all else is durable first. `conditions` say why else nothing may be
    entered, and are told of breakers that have closed.
    """

    world: World
    writer: Writer
    books: dict[bool, Book]
    gateways: list[Stoppable]
    employed: Callable[[], Iterable[Employed]]
    configured: Caps
    conditions: Watched
    kill: KillState = field(factory=KillState)
    kill_file: Path | None = None
    draining: str = ""
    changed: dict[str, Any] = field(factory=dict[str, Any])
    lost: str = ""
    _unsaved: bool = False
    # When the breakers closed of which the log tells already, by book.
    _told: dict[str, str] = field(factory=dict[str, str])
    _changing: trio.Lock = field(factory=trio.Lock)

    async def load(self) -> None:
        """Take up the latches of the time before the restart, and the one that only a file tells of."""
        self.kill, saved = await self.writer.read(_latches)
        for book in self.books.values():
            memory = await self.writer.read(partial(_book_memory, name=book.name))
            if memory is not None:
                book.recall(memory)
        self.changed = dict(saved.values)
        if self.kill_file is not None and not self.kill.is_active and self.world.disk.exists(self.kill_file):
            now_us = self.world.clock.now_us()
            self.kill = KillState(is_active=True, reason=self._standing(), activated_at_us=now_us, activated_by="file")
            self._unsaved = True
        self._apply()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Say in the log when a book's breaker closes, until cancelled; the breaker itself needs nobody."""
        kept = {book.name: (book.tripped, book.tripped_at_us) for book in self.books.values()}
        self._tell_breakers()
        task_status.started()
        if self._unsaved:
            self._unsaved = False
            with suppress(Unavailable):
                await self.activate(self.kill.reason, by=self.kill.activated_by, close_positions=False)
        elif self.kill.is_active:
            # The life that threw it may have ended before everything was withdrawn.
            await self._withdraw(False)
        while True:
            await self.world.clock.sleep(WATCH_EVERY_S)
            self._tell_breakers()
            for book in self.books.values():
                tripped = book.tripped, book.tripped_at_us
                if tripped != kept[book.name]:
                    # No trade tells when it closed, nor that it did because less is allowed now.
                    record = Record("book", book.name, Kind.PUT, encode(book.memory()))
                    with suppress(Unavailable):
                        await self.writer.commit(Batch(records=[record]))
                        kept[book.name] = tripped

    def _tell_breakers(self) -> None:
        """Say which breakers have closed: once in the log, and in a condition until a person opens them."""
        closed = {book.name: (self._closed_at(book), book.tripped) for book in self.books.values() if book.tripped}
        for name, (at, reason) in closed.items():
            if self._told.get(name) != at:
                log.error("portfolio.tripped", book=name, reason=reason, at=at)
        self._told = {name: at for name, (at, _) in closed.items()}
        if closed:
            found = (f"{name}, since {at}: {reason}" for name, (at, reason) in closed.items())
            self.conditions.enter(Condition.DRAWDOWN, "; ".join(found))
        else:
            self.conditions.lift(Condition.DRAWDOWN)

    def _closed_at(self, book: Book) -> str:
        """Say when a breaker closed, which is when it was first seen closed."""
        book.tripped_at_us = book.tripped_at_us or self.world.clock.now_us()
        return _iso(book.tripped_at_us)

    async def activate(self, reason: str, *, by: str, close_positions: bool) -> KillState:
        """Stop all entries now, everywhere, and take back what rests at the desks; make it durable meanwhile.

        A strategy that is being restarted withdraws when it is back, which nobody waits for beyond a deadline. If the
        journal does not take the latch, a file does, and Unavailable says so.
        """
        reason = reason[:REASON_MAX] or "no reason given"
        self.kill = KillState(is_active=True, reason=reason, activated_at_us=self.world.clock.now_us(), activated_by=by)
        self._apply()
        log.warning("kill.activated", reason=reason, by=by, close_positions=close_positions)
        saved = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._withdraw, close_positions)
            with trio.move_on_after(SAVED_S):
                saved = await self._saved(reason, by)
        if not saved:
            raise Unavailable(
                f"entries are blocked and withdrawn, but the journal did not take it: {self._left_word()}"
            )
        return self.kill

    async def _withdraw(self, close_positions: bool) -> None:
        """Withdraw every entry, with the sessions and at the desks at once."""
        # The sessions are told first, so that they know the executions that follow for what they are.
        asked = [(actor.id, pending) for actor in self.employed() if (pending := _asked(actor, close_positions))]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take_back, WITHDRAW_DEADLINE_S)
            nursery.start_soon(_await_all, asked)

    async def forsake(self, lost: JournalLost) -> None:
        """Stop for want of a journal: nothing opens anything any more, and what rests is taken back, within a bound.

        If another daemon has the journal, what rests is in its hands.
        """
        self.lost = lost.message
        self._apply()
        if not isinstance(lost, JournalTaken):
            await self._take_back(FORSAKEN_S)

    async def _take_back(self, deadline_s: float) -> None:
        orders = [order for actor in self.employed() if actor.known for order in actor.session.orders.values()]
        with trio.move_on_after(deadline_s) as patience:
            async with trio.open_nursery() as nursery:
                for gateway in self.gateways:
                    nursery.start_soon(gateway.withdraw, orders)
        if patience.cancelled_caught:
            log.error("withdrawal.incomplete", deadline_s=deadline_s)

    async def _saved(self, reason: str, by: str) -> bool:
        try:
            await self._save(self.kill, "activate", reason=reason, by=by)
        except PipaidError as trouble:
            log.error("kill.unwritten", reason=trouble.message)
            return False
        return True

    def _left_word(self) -> str:
        """Leave the latch in an empty file, for which a full disk has room; say what will become of it."""
        if self.kill_file is None:
            return "it ends with this process"
        try:
            self.world.disk.append(self.kill_file, b"")
        except OSError as trouble:
            log.error("kill.unwritten", path=str(self.kill_file), reason=str(trouble))
            if self.world.disk.exists(self.kill_file):
                return f"the file {self.kill_file} keeps it over a restart of the daemon, if not of the machine"
            return f"it ends with this process, for {self.kill_file} could not be made ({trouble})"
        return f"the file {self.kill_file} keeps it over a restart"

    def _standing(self) -> str:
        return f"the file {self.kill_file} exists"

    @property
    def active(self) -> bool:
        """Tell whether the kill switch is on."""
        return self.kill.is_active

    def reconfigure(self, configured: Caps) -> None:
        """Take the caps of a configuration that was read again; what was set at run time stays."""
        self.configured = configured
        self._apply()

    def loosens(self, configured: Caps) -> bool:
        """Tell whether other configured caps would loosen anything that is in force."""
        return bool(loosened(_words(self.configured), _words(configured)))

    def heed(self) -> None:
        """Let entries through or not, as conditions have it now."""
        self._apply()

    def drain(self) -> None:
        """Let no entry through any more until the daemon ends."""
        self.draining = "draining"
        self._apply()

    async def deactivate(self, *, by: str) -> KillState:
        """Let entries through again, once that is durable."""
        if not self.kill.is_active and not any(book.tripped for book in self.books.values()):
            raise InvalidState("the kill switch is not active, and no breaker has closed")
        if self.kill_file is not None and self.world.disk.exists(self.kill_file):
            raise InvalidState(f"the file {self.kill_file} still stands and would throw it again; remove it first")
        before = self.kill
        opened = [
            Record("book", book.name, Kind.PUT, encode(BookMemory(pnl=book.pnl, peak=book.pnl, base=book.base)))
            for book in self.books.values()
        ]
        await self._save(KillState(), "deactivate", reason=before.reason, by=by, more=opened)
        if self.kill is not before:
            # It was thrown again in the meantime, and that stands.
            return self.kill
        self.kill = KillState()
        for book in self.books.values():
            book.release()
        self._tell_breakers()
        self._apply()
        log.warning("kill.deactivated", by=by)
        with trio.move_on_after(WITHDRAW_DEADLINE_S):
            async with trio.open_nursery() as nursery:
                for actor in self.employed():
                    nursery.start_soon(_release, actor)
        return self.kill

    async def logs(self, limit: int, before: tuple[int, str] | None = None) -> list[KillLog]:
        """Return the last turns of the kill switch, newest first."""
        rows = await self.writer.read(
            lambda reader: reader.page("kill_log", owner=None, state=None, before=before, limit=limit)
        )
        return [msgspec.json.decode(row.data, type=KillLog) for row in rows]

    def risk(self) -> RiskObject:
        """Return the caps in force, and the breakers that have closed."""
        values = {**_words(self.configured), **self.changed}
        latches = [
            Latch(
                scope="account",
                limit=plain(self._caps().drawdown_pct_max or ZERO),
                value=book.tripped,
                tripped_at=self._closed_at(book),
                release="pipaid kill deactivate",
            )
            for book in self.books.values()
            if book.tripped
        ]
        return RiskObject(**{name: _wire(value) for name, value in values.items()}, latches=tuple(latches))

    async def set_caps(self, values: dict[str, Any], *, by: str, looser: Collection[str] = ()) -> None:
        """Put account caps in force, once they are durable; they outlive restarts. Only those named may be loosened."""
        async with self._changing:
            await self._set_caps(values, by, frozenset(looser))

    async def _set_caps(self, values: dict[str, Any], by: str, looser: frozenset[str]) -> None:
        found = set(loosened(msgspec.structs.asdict(self.risk()), values)) - looser
        if found:
            raise InvalidState(f"the caps were changed meanwhile: this would loosen {', '.join(sorted(found))} now")
        changed = {**self.changed, **values}
        audit = Record(
            "audit",
            random_id("aud", self.world.ids.entropy(6)),
            Kind.ADD,
            encode({"risk": values, "by": by}),
            sort=self.world.clock.now_us(),
        )
        record = Record("setting", "risk", Kind.PUT, encode(SavedCaps(values=changed)))
        await self.writer.commit(Batch(records=[record, audit]))
        self.changed = changed
        self._apply()

    def _caps(self) -> Caps:
        values = {**_words(self.configured), **self.changed}
        falls = [values["portfolio_drawdown_max"]]
        if values["drawdown_check_enabled"]:
            falls.append(Decimal(str(values["max_drawdown_pct"])) / 100)
        limits = [Decimal(str(fall)) for fall in falls if fall is not None]
        limited, rated = values["position_limit_enabled"], values["rate_limit_enabled"]
        return Caps(
            order_notional_max=_decimal(values["order_notional_max"]),
            exposure_max=_decimal(values["exposure_max"]),
            open_positions_max=values["max_open_positions"] if limited else None,
            open_orders_max=values["open_orders_max"],
            orders_per_second_max=values["orders_per_second_max"],
            orders_per_minute_max=values["orders_per_minute_max"],
            orders_per_day_max=self.configured.orders_per_day_max,
            notional_per_minute_max=_decimal(values["notional_per_minute_max"]),
            daily_loss_max=_decimal(values["daily_loss_max"]),
            drawdown_pct_max=min(limits, default=None),
            price_collar_pct=_decimal(values["price_collar_pct"]),
            leverage_max=values["leverage_max"],
            rate_limit_max_trades=values["rate_limit_max_trades"] if rated else None,
            rate_limit_window_hours=Decimal(str(values["rate_limit_window_hours"])),
            hedging_allowed=values["hedging_allowed"],
            reduce_only=values["reduce_only"],
            identical_orders_per_minute_max=values["identical_orders_per_minute_max"],
        )

    def _apply(self) -> None:
        reason = f"kill switch: {self.kill.reason}" if self.kill.is_active else self.lost
        caps = self._caps()
        for book in self.books.values():
            book.caps = caps
            book.watch_fall()
            book.blocked = reason or self.draining or self.conditions.blocking
        for gateway in self.gateways:
            gateway.stopped = reason

    async def _save(self, kill: KillState, action: str, *, reason: str, by: str, more: Iterable[Record] = ()) -> None:
        entry = KillLog(
            id=random_id("kil", self.world.ids.entropy(6)),
            action=action,
            reason=reason,
            at_us=self.world.clock.now_us(),
            by=by,
        )
        records = [
            Record("latch", "kill", Kind.PUT, encode(kill)),
            Record("kill_log", entry.id, Kind.ADD, encode(entry), sort=entry.at_us),
            *more,
        ]
        switched = KillSwitched(
            is_active=kill.is_active,
            reason=reason,
            activated_at=_iso(kill.activated_at_us) if kill.is_active else None,
        )
        await self.writer.commit(Batch(records=records, events=[notice(None, switched, entry.at_us // 1000)]))


async def _release(actor: Employed) -> None:
    try:
        await actor.perform(lambda session: session.on_released())
    except PipaidError as refused:
        log.error("release.incomplete", strategy_id=actor.id, reason=refused.message)


def _asked(actor: Employed, close_positions: bool) -> Pending | None:
    def act(session: Session) -> Effects | None:
        if session.strategy.status is Status.STOPPED:
            return None
        if close_positions:
            return session.close_positions(CloseReason.RISK)
        if any(not order.reduce_only for order in session.orders.values()):
            return session.withdraw("engine", entries_only=True)
        return None

    try:
        return actor.command(act)
    except PipaidError as refused:
        # One that cannot must not keep the others from it.
        log.error("kill.incomplete", strategy_id=actor.id, reason=refused.message)
        return None


async def _await_all(asked: Iterable[tuple[str, Pending]]) -> None:
    with trio.move_on_after(WITHDRAW_DEADLINE_S):
        for strategy_id, pending in asked:
            try:
                await pending.obeyed()
            except PipaidError as refused:
                log.error("kill.incomplete", strategy_id=strategy_id, reason=refused.message)


def _words(caps: Caps) -> dict[str, Any]:
    """Return configured caps in the words of `risk set`, with that operation's defaults for the rest."""
    values = {name: value for name, value in msgspec.structs.asdict(RiskObject()).items() if name not in STANDING}
    for name in ("order_notional_max", "exposure_max", "open_orders_max", "orders_per_second_max",
                 "orders_per_minute_max", "identical_orders_per_minute_max", "notional_per_minute_max",
                 "daily_loss_max", "price_collar_pct", "leverage_max"):  # fmt: skip
        values[name] = getattr(caps, name)
    values["portfolio_drawdown_max"] = caps.drawdown_pct_max
    values.update(hedging_allowed=caps.hedging_allowed, reduce_only=caps.reduce_only)
    if caps.open_positions_max is not None:
        values.update(position_limit_enabled=True, max_open_positions=caps.open_positions_max)
    if caps.rate_limit_max_trades is not None:
        values.update(rate_limit_enabled=True, rate_limit_max_trades=caps.rate_limit_max_trades)
        values["rate_limit_window_hours"] = plain(caps.rate_limit_window_hours)
    return values


def _iso(at_us: int) -> str:
    return iso_millis(at_us // 1000)


def _decimal(value: object) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def _wire(value: Any) -> Any:
    return plain(value) if isinstance(value, Decimal) else value


def _book_memory(reader: Reader, *, name: str) -> BookMemory | None:
    row = reader.get("book", name)
    return None if row is None else msgspec.json.decode(row.data, type=BookMemory)


def _latches(reader: Reader) -> tuple[KillState, SavedCaps]:
    kill = reader.get("latch", "kill")
    saved = reader.get("setting", "risk")
    return (
        msgspec.json.decode(kill.data, type=KillState) if kill is not None else KillState(),
        msgspec.json.decode(saved.data, type=SavedCaps) if saved is not None else SavedCaps(),
    )
