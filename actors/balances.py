"""Balances: has an account told, once, when what it has available falls below what one of its webhooks named."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Final, Protocol

import msgspec
import trio
from attrs import define, field

from actors.actor import Writer
from pipaid.engine.session import Session
from pipaid.model.event import BalanceLow, notice
from pipaid.model.money import CENT, ZERO
from pipaid.model.record import Batch, Kind, Record
from pipaid.model.strategy import Strategy
from pipaid.model.webhook import BALANCE_LOW, Webhook, WebhookStatus, covers
from pipaid.seams import Clock
from pipaid.storage.store import Reader

ENTITY: Final = "balance"
ASSET: Final = "USDT"
LOOK_EVERY_S: Final = 1.0


class Told(msgspec.Struct, frozen=True):
    """That a webhook was told of falling below this, and that it has not risen again since."""

    threshold: Decimal


class Subscriptions(Protocol):
    """The webhooks as the balances see them."""

    hooks: dict[str, Webhook]


class Traded(Protocol):
    """One strategy as the balances see it."""

    strategy: Strategy

    @property
    def session(self) -> Session | None:
        """Return the session while it may be looked at."""
        ...


@define(eq=False)
class Balances:
    """Look at what accounts have available as long as a webhook wants to know; `asset` is what all of it counts in.

    What was told is remembered with the event in one commit, so that a restart tells nothing twice.
    """

    webhooks: Subscriptions
    members: Callable[[], Iterable[Traded]]
    writer: Writer
    clock: Clock
    asset: str = ASSET
    _told: dict[str, Told] = field(factory=dict[str, Told])
    _changed: trio.Event = field(factory=trio.Event)

    def notice(self) -> None:
        """Take note that webhooks changed."""
        self._changed.set()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled."""
        self._told = await self.writer.read(_told_before)
        task_status.started()
        while True:
            wanted = self._wanted()
            if not wanted and not self._told:
                await self._changed.wait()
                self._changed = trio.Event()
                continue
            await self._look(wanted)
            await self.clock.sleep(LOOK_EVERY_S)

    def _wanted(self) -> list[Webhook]:
        return [
            hook
            for hook in self.webhooks.hooks.values()
            if hook.balance_low_threshold is not None
            and hook.status is WebhookStatus.ACTIVE
            and covers(hook.events, BALANCE_LOW)
        ]

    async def _look(self, wanted: list[Webhook]) -> None:
        balances = available(self.members())
        batch = Batch(records=[], events=[])
        after = {key: told for key, told in self._told.items() if key in self.webhooks.hooks}
        for hook in wanted:
            threshold, balance = hook.balance_low_threshold, balances.get(hook.account)
            if threshold is None or balance is None:
                continue
            if balance >= threshold:
                after.pop(hook.id, None)
            elif hook.id not in after or after[hook.id].threshold != threshold:
                after[hook.id] = Told(threshold)
                low = BalanceLow(webhook_id=hook.id, asset=self.asset, available=balance, threshold=threshold)
                batch.events.append(notice(hook.account, low, self.clock.now_us() // 1000))
        batch.records += [_record(key, told) for key, told in after.items() if self._told.get(key) != told]
        batch.records += [Record(ENTITY, key, Kind.DROP) for key in self._told if key not in after]
        if batch.records:
            await self.writer.commit(batch)
            self._told = after


def available(members: Iterable[Traded]) -> dict[str, Decimal]:
    """Return what each account has available: the equity of what it trades in earnest, less the margin that is bound.

    An account with nothing but dry runs has none; what is being restarted leaves its account out until it is back.
    """
    found: dict[str, Decimal] = {}
    unknown: set[str] = set()
    for member in members:
        run = member.strategy.run
        if run is None or run.dry_run or run.ended_at_ms:
            continue
        session = member.session
        if session is None:
            unknown.add(member.strategy.account)
            continue
        free = sum(map(session.equity, session.capital), ZERO) - session.exposure() / session.leverage
        found[member.strategy.account] = found.get(member.strategy.account, ZERO) + free
    return {account: balance.quantize(CENT) for account, balance in found.items() if account not in unknown}


def _record(webhook_id: str, told: Told) -> Record:
    return Record(ENTITY, webhook_id, Kind.PUT, msgspec.json.encode(told))


def _told_before(reader: Reader) -> dict[str, Told]:
    return {row.key: msgspec.json.decode(row.data, type=Told) for row in reader.rows(ENTITY)}
