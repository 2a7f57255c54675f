"""A post: one desk with the gateway that sends to it and the resolver that asks it. Part of the composition root."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from attrs import define, field

from actors.actor import REQUEST_WINDOW_MS, Writer
from actors.auditor import Auditor
from actors.feed import Feed
from actors.gateway import Gateway
from actors.resolver import Resolver
from actors.roster import Roster
from actors.unassigned import Unassigned
from pipaid.config.sections import Desk as Costs
from pipaid.model.stray import Stray
from pipaid.seams import Clock
from pipaid.venues.opening import MatchingDesk, Venues
from pipaid.wire.activity import Activity

NAMES: Final[Mapping[bool, str]] = {True: "paper", False: "simulated"}


@define(eq=False)
class Post:
    """The parts around one desk; `unsettled` are the client ids of orders that worked when the daemon started."""

    desk: MatchingDesk
    gateway: Gateway
    resolver: Resolver
    auditor: Auditor
    bucket: Unassigned
    unsettled: frozenset[str]

    @property
    def name(self) -> str:
        """Return the name that the desk, its book and its records share."""
        return self.gateway.name

    async def load(self) -> None:
        """Read what the journal knows of the desk."""
        await self.bucket.load()
        await self.auditor.load()

    async def reconcile(self, *, patience: Callable[[], object]) -> None:
        """Hold what the journal knows against the desk; a new order may be on its way there, but no entry leaves."""
        await self.auditor.reconcile(self.unsettled, patience=patience)
        await self.resolver.ask()
        self.gateway.let_enter()


@define(eq=False)
class Posts:
    """Open a post for each desk, restored from what the journal knows."""

    venues: Venues
    costs: Costs
    clock: Clock
    activity: Activity
    feed: Feed
    roster: Roster
    writer: Writer
    all: dict[bool, Post] = field(factory=dict[bool, Post])

    async def open(self) -> None:
        """Make every post."""
        for dry, name in NAMES.items():
            self.all[dry] = self._opened(dry, name)
            await self.all[dry].load()

    def take(self, stray: Stray) -> None:
        """Put something that nobody accounts for into the bucket of its desk."""
        for post in self.all.values():
            if post.name == stray.desk:
                post.bucket.take(stray)

    def __getitem__(self, dry: bool) -> Post:
        return self.all[dry]

    def _opened(self, dry: bool, name: str) -> Post:
        feed, roster, quotes = self.feed, self.roster, self.feed.quotes
        orders, positions = roster.working()
        orders = [order for order in orders if order.dry_run is dry]
        desk = self.venues.desk(self.costs, feed.instruments, self.activity, dry=dry)
        desk.restore(orders, [each for each in positions if each.dry_run is dry], quotes.prices, quotes.now_ms)
        feed.desks.append(desk)
        bucket = Unassigned(name=name, writer=self.writer)
        gateway = Gateway(
            name=name,
            dry=dry,
            desk=desk,
            quotes=quotes,
            clock=self.clock,
            # What waits for everything it causes has no moment that could pass.
            wait_max_s=REQUEST_WINDOW_MS / 1_000 if feed.stale_after_s else math.inf,
            activity=self.activity,
            inbox=roster.inbox,
            owner_of_order=roster.owner_of_order,
            owner_of_position=roster.owner_of_position,
            doubt=lambda order, expires_at_ms: resolver.doubt(order, expires_at_ms),
            reconnected=lambda: auditor.reconnected(),
            ended=lambda client_id: auditor.ended(client_id),
            stray=bucket.take,
            awaits_reconciliation=True,
        )
        resolver = Resolver(
            name=name,
            desk=desk,
            quotes=quotes,
            clock=self.clock,
            deliver=gateway.delivery.hand,
            unbooked=lambda fills: auditor.unbooked(fills),
            agrees=lambda symbol: auditor.agrees(symbol),
        )
        auditor = Auditor(
            name=name,
            desk=desk,
            quotes=quotes,
            clock=self.clock,
            writer=self.writer,
            bucket=bucket,
            working=partial(roster.working_orders, dry=dry),
            lots=partial(roster.lots, dry=dry),
            carries=gateway.carries,
            doubts=resolver.doubts,
            doubt=resolver.doubt,
            deliver=gateway.delivery.hand,
            pass_on=gateway.pass_on,
            inbox=roster.inbox,
            owner_of_order=roster.owner_of_order,
        )
        return Post(desk, gateway, resolver, auditor, bucket, frozenset(order.client_order_id for order in orders))
