"""Journals, batches and events with defaults, for tests of whatever writes or reads a journal."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

from attrs import define

from pipaid.model.event import EventData, EventDraft, OrderCancelled, Resumed
from pipaid.model.record import Batch, Kind, Record
from pipaid.seams import SystemClock, SystemDisk
from pipaid.storage.sqlite import SqliteJournal
from pipaid.storage.store import Committed, JournalRefused

START_US = 1_767_225_600_000_000


@define
class HandClock(SystemClock):
    """A clock that stands still until it is moved."""

    at_us: int = START_US

    def now_us(self) -> int:
        return self.at_us


def open_journal(folder: Path, clock: SystemClock | None = None) -> SqliteJournal:
    return SqliteJournal.open(journal_path(folder), disk=SystemDisk(), clock=clock or HandClock(), pid=os.getpid())


def journal_path(folder: Path) -> Path:
    return folder / "journal.db"


def numbered(strategy_id: str, symbol: str = "BTCUSDT") -> EventDraft:
    data = OrderCancelled(
        order_id="ord_1",
        client_order_id="pp1",
        symbol=symbol,
        reason="engine",
        filled_qty=Decimal(0),
        cancelled_at="2026-01-01T00:00:00Z",
    )
    return _draft(strategy_id, data)


def opt_in(strategy_id: str) -> EventDraft:
    return _draft(strategy_id, Resumed(status="deployed"))


def add(entity: str, key: str, data: bytes = b"{}", *, owner: str = "", state: str = "", sort: int = 0) -> Record:
    return Record(entity, key, Kind.ADD, data, owner, state, sort)


def put(entity: str, key: str, data: bytes = b"{}", *, owner: str = "", state: str = "", sort: int = 0) -> Record:
    return Record(entity, key, Kind.PUT, data, owner, state, sort)


def drop(entity: str, key: str) -> Record:
    return Record(entity, key, Kind.DROP)


def committed(journal: SqliteJournal, *items: Record | EventDraft) -> Committed:
    """Commit one batch and insist on it."""
    batch = Batch(
        records=[item for item in items if isinstance(item, Record)],
        events=[item for item in items if isinstance(item, EventDraft)],
    )
    (outcome,) = journal.commit([batch])
    assert isinstance(outcome, Committed), outcome
    return outcome


def refused(outcome: Committed | JournalRefused) -> JournalRefused:
    assert isinstance(outcome, JournalRefused)
    return outcome


def _draft(strategy_id: str, data: EventData) -> EventDraft:
    return EventDraft(strategy_id=strategy_id, data=data, at_ms=START_US // 1000, run_id=None, dry_run=True)
