"""Webhooks and their courier on a journal, and receivers that answer as a test says."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import trio
from attrs import define, field, frozen
from trio.testing import wait_all_tasks_blocked

from actors.courier import SETTLE_S, Courier
from actors.recorder import Recorder
from actors.webhooks import Webhooks
from pipaid.engine.effects import strategy_record
from pipaid.model.event import EventData, EventDraft, OrderCancelled
from pipaid.model.record import Batch
from pipaid.model.request import Addressed
from pipaid.model.webhook import Outcome, WebhookCreate, WebhookDeliveries, WebhookUpdate
from pipaid.seams import SystemIds, SystemRandom, World
from pipaid.storage.sqlite import SqliteJournal
from pipaid.storage.store import StoredEvent
from tests.actors.homes import TrioClock
from tests.actors.jobs import Caller
from tests.builders import make_definition, make_strategy
from tests.storage.journals import open_journal

MASTER = bytes(range(32))
ACCOUNT = "acct_1"
URL = "https://receiver.example.com/hooks"
TAKEN = Outcome(status=200, time_ms=3)
BROKE = Outcome(status=503, time_ms=3, error="it answered 503")


@frozen
class Letter:
    """One attempt as the receiver saw it, at a moment of the clock."""

    at_s: float
    url: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def event_id(self) -> str:
        return self.headers["X-PipAI-Event-Id"]

    @property
    def attempt(self) -> int:
        return int(self.headers["X-PipAI-Delivery-Attempt"])

    @property
    def content(self) -> Any:
        return msgspec.json.decode(self.body)

    def is_signed_with(self, secret: str) -> bool:
        text = self.headers["X-PipAI-Timestamp"].encode() + b"." + self.body
        expected = hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected, self.headers["X-PipAI-Signature"])


Receiver = Callable[[Letter], Outcome]


@define(eq=False)
class Postroom:
    """A journal, and the webhooks of one life of a daemon on it; each address answers as its receiver says."""

    folder: Path
    clock: TrioClock = field(factory=TrioClock)
    private: bool = False
    per_s_max: float = 1_000.0
    answer_s: float = 0.0
    receivers: dict[str, Receiver] = field(factory=dict[str, Receiver])
    letters: list[Letter] = field(factory=list[Letter])
    told: list[StoredEvent] = field(factory=list[StoredEvent])
    at_once: int = 0
    at_once_most: int = 0
    made: int = 0
    journal: SqliteJournal = field(init=False)
    recorder: Recorder = field(init=False)
    webhooks: Webhooks = field(init=False)
    courier: Courier = field(init=False)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Postroom]:
        """Live until the block is left, at once and with no goodbye to anybody."""
        world = World(clock=self.clock, random=SystemRandom(seed=1))
        self.journal = open_journal(self.folder)
        self.recorder = Recorder(self.journal, self._publish, world.clock, threaded=False)
        self.webhooks = Webhooks(
            writer=self.recorder,
            clock=world.clock,
            ids=SystemIds(),
            master_key=MASTER,
            owner=ACCOUNT,
            last_n=lambda: self.recorder.last_n,
            private=self.private,
        )
        self.courier = Courier(
            webhooks=self.webhooks,
            writer=self.recorder,
            clock=world.clock,
            last_n=lambda: self.recorder.last_n,
            send=self._send,
            per_s_max=self.per_s_max,
        )
        self.webhooks.courier, self.webhooks.attempt = self.courier, self.courier.post
        try:
            async with trio.open_nursery() as recording:
                await recording.start(self._record)
                await self.webhooks.load()
                async with trio.open_nursery() as nursery:
                    await nursery.start(self.courier.run)
                    yield self
                    nursery.cancel_scope.cancel()
                recording.cancel_scope.cancel()
        finally:
            self.journal.close()

    async def _record(self, task_status: trio.TaskStatus[None]) -> None:
        await self.recorder.run(task_status=task_status)

    def _publish(self, events: Any) -> None:
        self.told.extend(events)
        self.courier.notice()

    async def _send(self, url: str, headers: Mapping[str, str], body: bytes, account: str) -> Outcome:
        letter = Letter(trio.current_time(), url, dict(headers), body)
        self.letters.append(letter)
        self.at_once += 1
        self.at_once_most = max(self.at_once_most, self.at_once)
        try:
            await trio.sleep(self.answer_s)
        finally:
            self.at_once -= 1
        answer = self.receivers.get(url)
        return TAKEN if answer is None else answer(letter)

    # What a test does.

    async def create(self, *events: str, account: str = ACCOUNT, url: str = URL, **more: Any) -> str:
        patterns: Any = events or ("*",)
        asked = WebhookCreate(url=url, events=patterns, **more)
        return (await self.webhooks.webhook_create(Caller(account), asked)).id

    async def update(self, webhook_id: str, **changes: Any) -> Any:
        return await self.webhooks.webhook_update(Caller(), WebhookUpdate(id=webhook_id, **changes))

    async def get(self, webhook_id: str) -> Any:
        return await self.webhooks.webhook_get(Caller(), Addressed(id=webhook_id))

    async def deliveries(self, webhook_id: str, **asked: Any) -> Any:
        return (await self.webhooks.webhook_deliveries(Caller(), WebhookDeliveries(id=webhook_id, **asked))).data

    async def strategy(self, account: str = ACCOUNT, name: str = "a strategy") -> str:
        """Keep a strategy and return its id."""
        self.made += 1
        definition = make_definition(name=name)
        strategy = make_strategy(definition, id=f"strat_{self.made:08x}", account=account, number=self.made)
        await self.recorder.commit(Batch(records=[strategy_record(strategy)]))
        return strategy.id

    async def tell(self, strategy_id: str, count: int = 1) -> list[str]:
        """Have events of a strategy happen; return their ids."""
        drafts = [draft_of(strategy_id) for _ in range(count)]
        committed = await self.recorder.commit(Batch(events=drafts))
        return [msgspec.json.decode(event.frame)["event_id"] for event in committed.events]

    async def settled(self) -> None:
        """Wait until what has ended by now is in the journal."""
        await wait_all_tasks_blocked()
        await trio.sleep(3 * SETTLE_S)
        await wait_all_tasks_blocked()

    def events_of(self, url: str = URL) -> list[str]:
        return [letter.event_id for letter in self.letters if letter.url == url]

    @property
    def position(self) -> int:
        row = self.journal.get("courier", "position")
        return 0 if row is None else msgspec.json.decode(row.data)["n"]

    def rows(self, entity: str, state: str | None = None) -> int:
        return len(list(self.journal.rows(entity, state=state)))


def draft_of(strategy_id: str, data: EventData | None = None) -> EventDraft:
    data = data or OrderCancelled(
        order_id="ord_1", client_order_id="pp1", symbol="SOLUSDT", reason="engine", filled_qty=Decimal(0),
        cancelled_at="2026-01-01T00:00:00Z",
    )  # fmt: skip
    return EventDraft(strategy_id=strategy_id, data=data, at_ms=1_767_225_600_000, run_id="run_1", dry_run=True)
