"""Webhooks: made, listed, changed, tested and ended; what becomes of their deliveries is the courier's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import msgspec
import trio
from attrs import define, field

from actors.actor import Asker, Writer
from pipaid.errors import InvalidParameter, InvalidState, NotFound, Unavailable
from pipaid.logs import get_log, register_secret
from pipaid.model import paging
from pipaid.model.ident import random_id
from pipaid.model.letter import sealed
from pipaid.model.moment import iso_millis
from pipaid.model.record import Batch, Kind, Record
from pipaid.model.reply import Deleted
from pipaid.model.request import Addressed
from pipaid.model.samples import sample_of
from pipaid.model.target import checked_target
from pipaid.model.webhook import (
    BALANCE_LOW,
    PREFIX,
    WEBHOOKS_PER_ACCOUNT_MAX,
    Delivery,
    DeliveryPage,
    DeliveryState,
    Outcome,
    Standing,
    Webhook,
    WebhookAction,
    WebhookCreate,
    WebhookDeliveries,
    WebhookList,
    WebhookObject,
    WebhookPage,
    WebhookStatus,
    WebhookTest,
    WebhookTested,
    WebhookUpdate,
    WebhookWithSecret,
    covers,
    delivery_object,
    webhook_after,
    webhook_object,
    webhook_with_secret,
)
from pipaid.seams import Clock, Ids
from pipaid.storage.derived import WEBHOOK as ENTITY
from pipaid.storage.store import Reader
from pipaid.wire.signing import derive_secret

DELIVERY: Final = "delivery"
WEBHOOKS_MAX: Final = 10_000
TESTS_AT_ONCE_MAX: Final = 16
TESTS_OF_ACCOUNT_MAX: Final = 4


class Carrying(Protocol):
    """The courier as the webhooks see it."""

    @property
    def passed_n(self) -> int:
        """Return the record up to which every event is delivered or has a row, whatever happens now."""
        ...

    def standing_of(self, webhook_id: str) -> Standing:
        """Return how its deliveries went."""
        ...

    def delivery(self, webhook_id: str, delivery_id: str) -> Delivery | None:
        """Return a delivery that waits, as it stands now."""
        ...

    def heed(self, webhook: Webhook, *, forgive: bool = False) -> None:
        """Take note of a webhook that is new, or not as it was; `forgive` begins counting its failures anew."""
        ...

    def forget(self, webhook_id: str) -> None:
        """Drop what waits for a webhook that is gone."""
        ...


Attempt = Callable[[Webhook, Delivery, bytes], Awaitable[Outcome]]


@define(eq=False)
class Webhooks:
    """Answer the operations on webhooks, each method named after its operation.

    What changes is durable before it counts. `attempt` sends one letter; `last_n` is the journal's last record;
    `private` allows receivers that are not public.
    """

    writer: Writer
    clock: Clock
    ids: Ids
    master_key: bytes = field(repr=False)
    owner: str
    last_n: Callable[[], int]
    private: bool
    # Told of every change, once it counts.
    on_change: Callable[[], object] = field(default=lambda: None)
    courier: Carrying = field(init=False)
    attempt: Attempt = field(init=False)
    hooks: dict[str, Webhook] = field(factory=dict[str, Webhook], init=False)
    # One change at a time: each starts from what the one before it has made durable.
    _changing: trio.Lock = field(factory=trio.Lock, init=False)
    # How many tests of each account are under way.
    _tests: Counter[str] = field(factory=Counter[str], init=False)

    async def load(self) -> None:
        """Read the webhooks from the journal."""
        self.hooks = {hook.id: hook for hook in await self.writer.read(_stored_webhooks)}

    def secret_of(self, webhook: Webhook) -> str:
        """Return the secret that signs what a webhook is sent."""
        return derive_secret(self.master_key, webhook.id, webhook.version)

    # The operations.

    async def webhook_create(self, caller: Asker, asked: WebhookCreate) -> WebhookWithSecret:
        """Make a webhook; its secret is told this once."""
        checked_target(asked.url, private=self.private)
        account = caller.account or self.owner
        threshold = _threshold(asked.events, asked.balance_low_threshold)
        async with self._changing:
            if len(self._of(account)) >= WEBHOOKS_PER_ACCOUNT_MAX:
                raise InvalidState(f"the account has {WEBHOOKS_PER_ACCOUNT_MAX} webhooks already; delete one first")
            if len(self.hooks) >= WEBHOOKS_MAX:
                raise Unavailable(f"this daemon serves {WEBHOOKS_MAX} webhooks and takes no more")
            fresh = f"{PREFIX}_{self.ids.entropy(4).hex()}"
            while fresh in self.hooks:
                fresh = f"{PREFIX}_{self.ids.entropy(4).hex()}"
            webhook = Webhook(
                id=fresh,
                account=account,
                url=asked.url,
                events=asked.events,
                description=asked.description,
                balance_low_threshold=threshold,
                created_at_us=self.clock.now_us(),
                since_n=self.last_n(),
            )
            await self._store(webhook, Kind.ADD)
        return self._with_secret(webhook)

    async def webhook_list(self, caller: Asker, asked: WebhookList) -> WebhookPage:
        """List webhooks, newest first."""
        filters = paging.filters_hash("webhook.list", asked)
        before = paging.decode_cursor(asked.cursor, filters=filters)
        found = [
            hook
            for hook in self._of(caller.account)
            if asked.status in (None, hook.status.value)
            and (asked.event is None or covers(hook.events, asked.event))
            and (before is None or (hook.created_at_us, hook.id) < before)
        ]
        found.sort(key=lambda hook: (hook.created_at_us, hook.id), reverse=True)
        page = found[: asked.limit]
        cursor = None
        if len(found) > asked.limit:
            cursor = paging.encode_cursor(page[-1].created_at_us, page[-1].id, filters=filters)
        return WebhookPage(data=tuple(map(self._shown, page)), next_cursor=cursor)

    async def webhook_get(self, caller: Asker, asked: Addressed) -> WebhookObject:
        """Show a webhook."""
        return self._shown(self._known(caller, asked.id))

    async def webhook_update(self, caller: Asker, asked: WebhookUpdate) -> WebhookObject:
        """Change a webhook; made active again, it hears of what happens from then on."""
        if isinstance(asked.url, str):
            checked_target(asked.url, private=self.private)
        async with self._changing:
            before = self._known(caller, asked.id)
            after = msgspec.structs.replace(before, **asked.changes())
            threshold = _threshold(after.events, after.balance_low_threshold)
            after = msgspec.structs.replace(after, balance_low_threshold=threshold)
            if isinstance(asked.status, str):
                wanted = asked.status == WebhookStatus.ACTIVE.value
                after = self._moved(after, WebhookAction.ACTIVATE if wanted else WebhookAction.PAUSE)
            if after != before:
                await self._store(after, Kind.PUT, forgive=after.status is not before.status)
        return self._shown(after)

    async def webhook_delete(self, caller: Asker, asked: Addressed) -> Deleted:
        """Delete a webhook, with what waits for it."""
        async with self._changing:
            webhook = self._known(caller, asked.id)
            with trio.CancelScope(shield=True):
                await self.writer.commit(Batch(records=[Record(ENTITY, webhook.id, Kind.DROP)]))
            del self.hooks[webhook.id]
            self.courier.forget(webhook.id)
        return Deleted(id=webhook.id)

    async def webhook_rotate_secret(self, caller: Asker, asked: Addressed) -> WebhookWithSecret:
        """Give a webhook a new secret, which signs every attempt from now on."""
        async with self._changing:
            before = self._known(caller, asked.id)
            after = msgspec.structs.replace(before, version=before.version + 1)
            await self._store(after, Kind.PUT)
        return self._with_secret(after)

    async def webhook_test(self, caller: Asker, asked: WebhookTest) -> WebhookTested:
        """Send made-up data once; that it was taken revives a webhook that is broken."""
        webhook = self._known(caller, asked.id)
        if self._tests[webhook.account] >= TESTS_OF_ACCOUNT_MAX:
            raise Unavailable(
                f"{TESTS_OF_ACCOUNT_MAX} webhooks of this account are being tested; try again in a moment"
            )
        if self._tests.total() >= TESTS_AT_ONCE_MAX:
            raise Unavailable(f"{TESTS_AT_ONCE_MAX} webhooks are being tested; try again in a moment")
        now_ms = self.clock.now_us() // 1000
        event_id = f"evt_test_{self.ids.entropy(6).hex()}"
        body = sealed(event_id, asked.event_type, iso_millis(now_ms), sample_of(asked.event_type))
        delivery = Delivery(
            id=random_id("dlv", self.ids.entropy(6)),
            webhook_id=webhook.id,
            event_id=event_id,
            type=asked.event_type,
            taken_at_ms=now_ms,
        )
        self._tests[webhook.account] += 1
        try:
            outcome = await self.attempt(webhook, delivery, body)
        finally:
            self._tests -= Counter((webhook.account,))
        if outcome.is_taken:
            await self.apply(webhook.id, WebhookAction.PROVE)
        return WebhookTested(
            test_event_id=event_id,
            delivered=outcome.is_taken,
            response_status=outcome.status,
            response_time_ms=outcome.time_ms,
            error=outcome.error,
        )

    async def webhook_deliveries(self, caller: Asker, asked: WebhookDeliveries) -> DeliveryPage:
        """List what was delivered and what waits, newest first."""
        webhook = self._known(caller, asked.id)
        filters = paging.filters_hash("webhook.deliveries", asked)
        before = paging.decode_cursor(asked.cursor, filters=filters)
        rows = await self.writer.read(
            lambda reader: reader.page(
                DELIVERY, owner=webhook.id, state=asked.state, before=before, limit=asked.limit + 1
            )
        )
        page = rows[: asked.limit]
        cursor = None
        if len(rows) > asked.limit:
            cursor = paging.encode_cursor(page[-1].sort, page[-1].key, filters=filters)
        is_sent = webhook.status is WebhookStatus.ACTIVE
        stored = [msgspec.json.decode(row.data, type=Delivery) for row in page]
        # What waits may have been tried since its row was written.
        shown = [self._as_it_stands(each) for each in stored]
        return DeliveryPage(data=tuple(delivery_object(each, is_sent=is_sent) for each in shown), next_cursor=cursor)

    # What the courier asks.

    async def apply(self, webhook_id: str, action: WebhookAction) -> None:
        """Let follow for a webhook what its deliveries showed, if it is still there and the table holds it."""
        async with self._changing:
            before = self.hooks.get(webhook_id)
            if before is None:
                return
            try:
                after = self._moved(before, action)
            except InvalidState:
                # It was paused meanwhile, or broken by another delivery.
                return
            revived = action is WebhookAction.PROVE
            if after.status is before.status:
                self.courier.heed(after, forgive=revived)
                return
            await self._store(after, Kind.PUT, forgive=revived)
        get_log().warning("webhook.changed", webhook=webhook_id, status=after.status.value)

    # What they share.

    def _of(self, account: str | None) -> list[Webhook]:
        return [hook for hook in self.hooks.values() if account in (None, hook.account)]

    def _known(self, caller: Asker, webhook_id: str) -> Webhook:
        webhook = self.hooks.get(webhook_id)
        if webhook is None or caller.account not in (None, webhook.account):
            raise NotFound(f"there is no webhook {webhook_id!r:.60}")
        return webhook

    def _moved(self, webhook: Webhook, action: WebhookAction) -> Webhook:
        """Return a webhook after an action, with the records from which and up to which it hears."""
        status = webhook_after(webhook.status, action)
        was_active, is_active = (each is WebhookStatus.ACTIVE for each in (webhook.status, status))
        changes: dict[str, Any] = {}
        if was_active and not is_active:
            changes = {"until_n": self.last_n()}
        elif is_active and not was_active:
            # What it has still to hear from before counts more than that it hears of nothing meanwhile: after a crash
            # that would be looked for again from here on.
            caught_up = self.courier.passed_n >= webhook.until_n
            changes = {"until_n": 0, "since_n": self.last_n() if caught_up else webhook.since_n}
        return msgspec.structs.replace(webhook, status=status, **changes)

    async def _store(self, webhook: Webhook, kind: Kind, *, forgive: bool = False) -> None:
        record = Record(
            ENTITY,
            webhook.id,
            kind,
            msgspec.json.encode(webhook),
            owner=webhook.account,
            state=webhook.status.value,
            sort=webhook.created_at_us,
        )
        # What is being made durable is not left before anybody knows what became of it.
        with trio.CancelScope(shield=True):
            await self.writer.commit(Batch(records=[record]))
        self.hooks[webhook.id] = webhook
        self.courier.heed(webhook, forgive=forgive)
        self.on_change()

    def _shown(self, webhook: Webhook) -> WebhookObject:
        return webhook_object(webhook, self.courier.standing_of(webhook.id))

    def _with_secret(self, webhook: Webhook) -> WebhookWithSecret:
        secret = self.secret_of(webhook)
        register_secret(secret)
        return webhook_with_secret(webhook, self.courier.standing_of(webhook.id), secret)

    def _as_it_stands(self, stored: Delivery) -> Delivery:
        if stored.state is not DeliveryState.WAITING:
            return stored
        return self.courier.delivery(stored.webhook_id, stored.id) or stored


def _threshold(events: tuple[str, ...], threshold: Any) -> Any:
    """Return a threshold where it is of any use; refuse to do without where it is needed."""
    if BALANCE_LOW in events and threshold is None:
        why = f"is required by {BALANCE_LOW}: an amount above zero as a decimal string"
        raise InvalidParameter(f"balance_low_threshold {why}", details=(("balance_low_threshold", why),))
    return threshold if covers(events, BALANCE_LOW) else None


def _stored_webhooks(reader: Reader) -> list[Webhook]:
    return [msgspec.json.decode(row.data, type=Webhook) for row in reader.rows(ENTITY)]
