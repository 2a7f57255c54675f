"""The courier: reads the journal's events behind a position of its own and brings them to the webhooks that hear them.

What goes well the first time leaves no trace but the position, which follows a moment behind. What fails, or has to
wait for longer than that moment, gets a row of its own with its letter, and the position goes on without it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from itertools import islice
from typing import Final, Protocol

import msgspec
import trio
from attrs import define, field

from actors.actor import Writer
from pipaid.engine.lines import Errand, Lines
from pipaid.logs import get_log
from pipaid.model.ident import derived_id
from pipaid.model.letter import signed_text
from pipaid.model.record import Batch, Record
from pipaid.model.report import WebhookFigures
from pipaid.model.webhook import (
    DELIVERY_TRANSITIONS,
    GIVEN_UP_AFTER_MS,
    Delivery,
    DeliveryState,
    Outcome,
    Standing,
    Verdict,
    Webhook,
    WebhookAction,
    WebhookStatus,
    after_attempt,
    standing_after,
)
from pipaid.seams import Clock
from pipaid.storage.deliveries import (
    KEPT,
    body_of,
    delivery_record,
    dropped_records,
    kept_key,
    letter_record,
    position_record,
    remembered,
    standing_record,
)
from pipaid.storage.letters import Found, found_letters
from pipaid.wire.signing import sign

# One look at the log takes in at most so many records.
SCANNED_MAX: Final = 50_000
# So many deliveries without a row may be under way; the reading waits for them.
FRESH_MAX: Final = 512
# A webhook with more that waits is broken; so is the one with the most when there are so many of all.
WAITING_MAX: Final = 10_000
WAITING_IN_ALL_MAX: Final = 50_000
SETTLE_S: Final = 0.5
SETTLED_AT_ONCE: Final = 256
# The position is written without any other reason when it has come so far.
POSITION_EVERY: Final = 1_000
LOOK_FOR_LATE_S: Final = 60.0
# However often something is committed, the log is looked at no more often than this.
READ_EVERY_S: Final = 0.05


class Subscriptions(Protocol):
    """The webhooks as the courier sees them."""

    hooks: dict[str, Webhook]

    def secret_of(self, webhook: Webhook) -> str:
        """Return the secret that signs what it is sent."""
        ...

    async def apply(self, webhook_id: str, action: WebhookAction) -> None:
        """Let follow for a webhook what its deliveries showed."""
        ...


_UNTRIED: Final = Standing()
# To an address, for an account.
Send = Callable[[str, Mapping[str, str], bytes, str], Awaitable[Outcome]]


class _Bell:
    """Something to wait for that may ring before anybody waits."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self) -> None:
        await self._rung.wait()
        self._rung = trio.Event()


@define(eq=False)
class Courier:
    """Deliver; `last_n` is the journal's last record, `send` posts one letter and raises nothing.

    `per_s_max` bounds the attempts of a second, and with them the time that they take from trading.
    """

    webhooks: Subscriptions
    writer: Writer
    clock: Clock
    last_n: Callable[[], int]
    send: Send
    per_s_max: float
    read_n: int = 0
    attempts: int = 0
    delivered: int = 0
    exhausted: int = 0
    _saved_n: int = 0
    _lines: Lines = field(factory=Lines)
    # How many deliveries without a row hang on each event, in the order of the log.
    _open: dict[int, int] = field(factory=dict[int, int])
    _fresh: dict[str, Errand] = field(factory=dict[str, Errand])
    # What the journal has still to be told: rows as they stand now, or nothing for those that go.
    _unsaved: dict[str, Errand | None] = field(factory=dict[str, Errand | None])
    _ended: dict[str, Delivery] = field(factory=dict[str, Delivery])
    _standings: dict[str, Standing] = field(factory=dict[str, Standing])
    _unsaved_standings: dict[str, None] = field(factory=dict[str, None])
    # When the next attempt may be made, and when what is held back is looked through again.
    _next_s: float = 0.0
    _late_s: float = 0.0
    _news: _Bell = field(factory=_Bell)
    _due: _Bell = field(factory=_Bell)
    _dirt: _Bell = field(factory=_Bell)

    # What others ask.

    def notice(self) -> None:
        """Take note that events were published; it costs nothing, and nobody is waited for."""
        self._news.ring()

    def standing_of(self, webhook_id: str) -> Standing:
        """Return how a webhook's deliveries went."""
        return self._standings.get(webhook_id, _UNTRIED)

    def delivery(self, webhook_id: str, delivery_id: str) -> Delivery | None:
        """Return a delivery that waits, as it stands now."""
        errand = self._lines.waiting(webhook_id).get(delivery_id)
        return None if errand is None else errand.delivery

    def heed(self, webhook: Webhook, *, forgive: bool = False) -> None:
        """Take note of a webhook that is new, or not as it was; `forgive` begins counting its failures anew."""
        self._lines.hold(webhook.id, held=webhook.status is not WebhookStatus.ACTIVE)
        if forgive and webhook.id in self._standings:
            self._stand(webhook.id, msgspec.structs.replace(self._standings[webhook.id], failures=0, exhausted=0))
        self._news.ring()
        self._due.ring()
        self._dirt.ring()

    def forget(self, webhook_id: str) -> None:
        """Drop what waits for a webhook that is gone."""
        for errand in self._lines.forget(webhook_id):
            self._close(errand)
        standing = self._standings.pop(webhook_id, _UNTRIED)
        self._unsaved_standings[webhook_id] = None
        for number in range(min(standing.ended, KEPT)):
            key = kept_key(webhook_id, standing.ended - number)
            self._ended.pop(key, None)
            self._unsaved[key] = None
        self._dirt.ring()

    @property
    def passed_n(self) -> int:
        """Return the record up to which every event is delivered or has a row, whatever happens now."""
        return self._saved_n

    @property
    def held_n(self) -> int | None:
        """Return the last record that the journal may forget, nothing if no webhook listens."""
        return self._saved_n if self._listeners() else None

    def figures(self) -> WebhookFigures:
        """Return what waits, and for how long already."""
        oldest_ms = self._lines.oldest_ms()
        hooks = self.webhooks.hooks.values()
        return WebhookFigures(
            webhooks=len(hooks),
            broken=sum(hook.status is WebhookStatus.BROKEN for hook in hooks),
            waiting=len(self._lines),
            oldest_waiting_s=max(0, self._now_ms() - oldest_ms) // 1000 if oldest_ms else 0,
            attempts=self.attempts,
            delivered=self.delivered,
            exhausted=self.exhausted,
        )

    # The work.

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Deliver until cancelled; what was under way then is delivered again after the next start."""
        await self._load()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read)
            nursery.start_soon(self._dispatch, nursery)
            nursery.start_soon(self._settle)
            task_status.started()

    async def _load(self) -> None:
        # Whatever the life before this one decided has to be durable before it is read.
        await self.writer.commit(Batch())
        known = await self.writer.read(remembered)
        hooks = self.webhooks.hooks
        self._lines, self._open, self._fresh = Lines(), {}, {}
        self._unsaved, self._ended, self._unsaved_standings = {}, {}, {}
        self._standings = {key: standing for key, standing in known.standings.items() if key in hooks}
        self._unsaved_standings = dict.fromkeys(key for key in known.standings if key not in hooks)
        # What a deleted webhook leaves goes a little at a time.
        self._unsaved = dict.fromkeys(key for key, webhook_id in known.kept.items() if webhook_id not in hooks)
        now_ms, now_s = self._now_ms(), self.clock.monotonic_s()
        for hook in hooks.values():
            self._lines.hold(hook.id, held=hook.status is not WebhookStatus.ACTIVE)
        for delivery in known.waiting:
            if delivery.webhook_id in hooks:
                # No pause is longer than a day, however far ahead the clock was when it began.
                due_s = now_s + min(delivery.due_ms - now_ms, GIVEN_UP_AFTER_MS) / 1_000
                errand = Errand(delivery, hooks[delivery.webhook_id].account, now_s, has_row=True)
                self._lines.add(errand, due_s, now_s)
        listening = [hook.since_n for hook in self._listeners(known.position.n)]
        self._saved_n = self.read_n = max(known.position.n, min(listening, default=0))
        if self._unsaved or self._unsaved_standings:
            self._dirt.ring()

    def _listeners(self, read_n: int | None = None) -> list[Webhook]:
        """Return the webhooks for which something in the log may be, from where it is read on."""
        from_n = self.read_n if read_n is None else read_n
        return [
            hook
            for hook in self.webhooks.hooks.values()
            if hook.status is WebhookStatus.ACTIVE or hook.until_n > from_n
        ]

    # From the log into the lines.

    async def _read(self) -> None:
        while True:
            until_n = min(self.last_n(), self.read_n + SCANNED_MAX)
            listeners = self._listeners()
            if not listeners:
                # Nobody has to hear of what there is: who comes hears of what comes after.
                self.read_n = self.last_n()
                self._save_far(bool(self.webhooks.hooks))
                await self._news.wait()
            elif until_n <= self.read_n or len(self._fresh) >= FRESH_MAX:
                await self._news.wait()
            else:
                accounts: dict[str, list[Webhook]] = {}
                for hook in listeners:
                    accounts.setdefault(hook.account, []).append(hook)
                look = partial(found_letters, after_n=self.read_n, until_n=until_n, accounts=accounts)
                through_n, found = await self.writer.read(look)
                for each in found:
                    self._take_in(each)
                self.read_n = through_n
                if found:
                    self._due.ring()
                    self._dirt.ring()
                self._save_far(True)
                await self._break_flooded({each.webhook_id: None for each in found})
                if through_n >= self.last_n():
                    await self.clock.sleep(READ_EVERY_S)

    def _save_far(self, wanted: bool) -> None:
        """Have the position written although nothing else is, if that is wanted and it has come far."""
        if wanted and self._position() - self._saved_n >= POSITION_EVERY:
            self._dirt.ring()

    def _take_in(self, found: Found) -> None:
        hook = self.webhooks.hooks.get(found.webhook_id)
        delivery_id = derived_id("dlv", found.webhook_id, found.event_id)
        if hook is None or delivery_id in self._lines.waiting(found.webhook_id):
            return
        now_ms, now_s = self._now_ms(), self.clock.monotonic_s()
        delivery = Delivery(
            id=delivery_id,
            webhook_id=hook.id,
            event_id=found.event_id,
            type=found.type,
            taken_at_ms=now_ms,
            due_ms=now_ms,
        )
        errand = Errand(delivery, hook.account, now_s, n=found.n, body=found.body)
        self._open[found.n] = self._open.get(found.n, 0) + 1
        self._fresh[delivery_id] = errand
        self._lines.add(errand, now_s, now_s)

    async def _break_flooded(self, webhook_ids: Mapping[str, None]) -> None:
        for webhook_id in webhook_ids:
            if len(self._lines.waiting(webhook_id)) > WAITING_MAX:
                await self._break(webhook_id, f"{WAITING_MAX} deliveries wait for it")
        while (excess := len(self._lines) - WAITING_IN_ALL_MAX) > 0:
            longest = self._lines.longest()
            await self._break(longest, f"{WAITING_IN_ALL_MAX} deliveries wait, most of them for it")
            kept = [each for each in self._lines.waiting(longest).values() if not each.is_under_way]
            for errand in kept[: min(excess, SETTLED_AT_ONCE)]:
                self._give_up(errand, "too much waited for all webhooks, most of it for this one")
            if not kept:
                break
            await trio.lowlevel.checkpoint()

    async def _break(self, webhook_id: str, reason: str) -> None:
        hook = self.webhooks.hooks.get(webhook_id)
        if hook is None or hook.status is not WebhookStatus.ACTIVE:
            return
        get_log().warning("webhook.breaks", webhook=webhook_id, reason=reason)
        await self.webhooks.apply(webhook_id, WebhookAction.BREAK)

    # From the lines to the receivers.

    async def _dispatch(self, nursery: trio.Nursery) -> None:
        while True:
            now_s = self.clock.monotonic_s()
            wait_s = self._next_s - now_s
            if wait_s <= 0:
                errand = self._lines.take(now_s)
                if errand is not None:
                    # What could not be sent in time is not sent all at once afterwards.
                    self._next_s = max(self._next_s, now_s) + 1.0 / self.per_s_max
                    nursery.start_soon(self._attempt, errand)
                    continue
                if now_s >= self._late_s:
                    self._late_s = now_s + LOOK_FOR_LATE_S
                    self._end_late()
                due_s = self._lines.due_s()
                wait_s = float("inf") if due_s is None else max(0.0, due_s - now_s)
                if self._lines.holds_back:
                    wait_s = min(wait_s, self._late_s - now_s)
                with trio.move_on_after(wait_s):
                    await self._due.wait()
            else:
                await self.clock.sleep(wait_s)

    async def _attempt(self, errand: Errand) -> None:
        delivery = errand.delivery
        hook = self.webhooks.hooks.get(delivery.webhook_id)
        outcome = Outcome(error="its letter is lost")
        try:
            body = errand.body
            if body is None:
                body = await self.writer.read(partial(body_of, delivery_id=delivery.id))
            if hook is not None and body is not None:
                outcome = await self.post(hook, delivery, body)
        finally:
            self._lines.back(errand)
            self._due.ring()
        if not errand.is_gone:
            await self._judge(errand, outcome)

    async def post(self, hook: Webhook, delivery: Delivery, body: bytes) -> Outcome:
        """Make one attempt, signed for the moment at which it is made."""
        self.attempts += 1
        timestamp = str(self._now_ms())
        heads = {
            "X-PipAI-Event-Id": delivery.event_id,
            "X-PipAI-Event-Type": delivery.type,
            "X-PipAI-Webhook-Id": hook.id,
            "X-PipAI-Delivery-Id": delivery.id,
            "X-PipAI-Delivery-Attempt": str(delivery.attempts + 1),
            "X-PipAI-Timestamp": timestamp,
            "X-PipAI-Signature": sign(self.webhooks.secret_of(hook).encode(), signed_text(timestamp, body)),
        }
        return await self.send(hook.url, heads, body, hook.account)

    async def _judge(self, errand: Errand, outcome: Outcome) -> None:
        """Note what an attempt came to, and what follows from it."""
        now_ms, now_s = self._now_ms(), self.clock.monotonic_s()
        errand.delivery = delivery = after_attempt(errand.delivery, outcome, now_ms)
        standing = standing_after(self.standing_of(delivery.webhook_id), delivery)
        self._stand(delivery.webhook_id, standing)
        if delivery.state is DeliveryState.WAITING:
            self._unsaved[delivery.id] = errand
            self._lines.add(errand, now_s + (delivery.due_ms - now_ms) / 1_000, now_s)
        else:
            self._end(errand, standing.ended)
        self._dirt.ring()
        if standing.is_hopeless:
            await self._break(delivery.webhook_id, f"{standing.failures} attempts failed in a row: {delivery.error}")

    def _end_late(self) -> None:
        """End what was held back until it was too late."""
        for errand in self._lines.late(self._now_ms()):
            self._give_up(errand, errand.delivery.error or "its webhook was not active for a day")

    def _give_up(self, errand: Errand, error: str) -> None:
        state = DELIVERY_TRANSITIONS[errand.delivery.state, Verdict.LATE]
        errand.delivery = msgspec.structs.replace(errand.delivery, state=state, due_ms=0, error=error)
        errand.is_gone = True
        standing = self.standing_of(errand.delivery.webhook_id)
        standing = msgspec.structs.replace(standing, ended=standing.ended + 1)
        self._stand(errand.delivery.webhook_id, standing)
        self._end(errand, standing.ended)
        self._dirt.ring()

    def _end(self, errand: Errand, number: int) -> None:
        delivery = errand.delivery
        if delivery.state is DeliveryState.DELIVERED:
            self.delivered += 1
        else:
            self.exhausted += 1
            get_log().warning("delivery.exhausted", webhook=delivery.webhook_id, event_id=delivery.event_id)
        self._lines.end(errand)
        self._close(errand)
        self._ended[kept_key(delivery.webhook_id, number)] = delivery

    def _close(self, errand: Errand) -> None:
        """Let the position go on without an errand; its row goes, if it has one."""
        delivery_id = errand.delivery.id
        self._fresh.pop(delivery_id, None)
        self._unsaved.pop(delivery_id, None)
        if errand.n:
            self._detach(errand)
        if errand.has_row:
            self._unsaved[delivery_id] = None

    def _detach(self, errand: Errand) -> None:
        """Take an errand off its event, which the position may pass with the last one."""
        left = self._open[errand.n] - 1
        if left:
            self._open[errand.n] = left
        else:
            del self._open[errand.n]
        errand.n = 0
        # Room for more.
        self._news.ring()

    def _stand(self, webhook_id: str, standing: Standing) -> None:
        self._standings[webhook_id] = standing
        self._unsaved_standings[webhook_id] = None
        self._dirt.ring()

    def _now_ms(self) -> int:
        return self.clock.now_us() // 1_000

    # From memory into the journal.

    async def _settle(self) -> None:
        while True:
            await self._dirt.wait()
            await self.clock.sleep(SETTLE_S)
            while await self._save_some():
                pass
            if self._fresh:
                # What is under way now has a row the next time, unless it has ended by then.
                self._dirt.ring()

    def _position(self) -> int:
        return next(iter(self._open)) - 1 if self._open else self.read_n

    async def _save_some(self) -> bool:
        """Write some of what the journal does not know yet; tell whether there is more."""
        before_s = self.clock.monotonic_s() - SETTLE_S
        for fresh in self._fresh.values():
            if fresh.added_s <= before_s or fresh.delivery.attempts:
                self._unsaved.setdefault(fresh.delivery.id, fresh)
        records: list[Record] = []
        given: list[Errand] = []
        for key in list(islice(self._unsaved, SETTLED_AT_ONCE)):
            errand = self._unsaved.pop(key)
            if errand is None:
                records += dropped_records(key)
                continue
            if not errand.has_row:
                errand.has_row = True
                given.append(errand)
                del self._fresh[key]
                records.append(letter_record(key, errand.body or b""))
            records.append(delivery_record(key, errand.delivery))
        for key in list(islice(self._ended, SETTLED_AT_ONCE)):
            records.append(delivery_record(key, self._ended.pop(key)))
        for webhook_id in list(islice(self._unsaved_standings, SETTLED_AT_ONCE)):
            del self._unsaved_standings[webhook_id]
            records.append(standing_record(webhook_id, self._standings.get(webhook_id)))
        position = self._position()
        if position != self._saved_n:
            records.append(position_record(position))
        if not records:
            return False
        await self.writer.commit(Batch(records=records))
        self._saved_n = position
        for each in given:
            each.body = None
            if each.n:
                self._detach(each)
        # What these held the position back for is durable now, and so may that be.
        return bool(self._unsaved or self._ended or self._unsaved_standings or given)
