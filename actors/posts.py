"""A post: one desk with the gateway that sends to it and the resolver that asks it. Part of the composition root."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from attrs import define, field

from actors.feed import Feed
from actors.gateway import Gateway
from actors.resolver import Resolver
from actors.roster import Roster
from pipaid.config.sections import Desk as Costs
from pipaid.logs import get_log
from pipaid.model.order import OrderStatus
from pipaid.seams import Clock
from pipaid.venues.opening import MatchingDesk, Venues
from pipaid.wire.activity import Activity

NAMES: Final[Mapping[bool, str]] = {True: "paper", False: "simulated"}


@define(eq=False)
class Post:
    """The parts around one desk; `unsettled` are the client ids of orders that worked when the daemon started."""

    dry: bool
    desk: MatchingDesk
    gateway: Gateway
    resolver: Resolver
    roster: Roster
    unsettled: frozenset[str]

    @property
    def name(self) -> str:
        """Return the name that the desk, its book and its records share."""
        return self.gateway.name

    async def reconcile(self) -> None:
        """Compare every order of the time before the start with the desk; a new one may be on its way there."""
        orders = [
            order
            for actor in self.roster.employed()
            if actor.loaded and actor.session.dry_run is self.dry
            for order in actor.session.orders.values()
            if order.status is not OrderStatus.OPEN and order.client_order_id in self.unsettled
        ]
        settled = await self.resolver.reconcile(orders)
        if settled:
            get_log().info("orders.reconciled", desk=self.name, orders=settled)


@define(eq=False)
class Posts:
    """Open a post for each desk, restored from what the journal knows."""

    venues: Venues
    costs: Costs
    clock: Clock
    activity: Activity
    feed: Feed
    roster: Roster
    all: dict[bool, Post] = field(factory=dict[bool, Post])

    def open(self) -> None:
        """Make every post."""
        for dry, name in NAMES.items():
            self.all[dry] = self._opened(dry, name)

    def __getitem__(self, dry: bool) -> Post:
        return self.all[dry]

    def _opened(self, dry: bool, name: str) -> Post:
        feed, roster, quotes = self.feed, self.roster, self.feed.quotes
        orders, positions = roster.working()
        orders = [order for order in orders if order.dry_run is dry]
        desk = self.venues.desk(self.costs, feed.instruments, self.activity, dry=dry)
        desk.restore(orders, [each for each in positions if each.dry_run is dry], quotes.prices, quotes.now_ms)
        feed.desks.append(desk)
        resolver = Resolver(
            name=name,
            desk=desk,
            quotes=quotes,
            clock=self.clock,
            activity=self.activity,
            inbox=roster.inbox,
            lots=partial(roster.lots, dry=dry),
            ended=lambda client_id: gateway.note_end(client_id),
        )
        gateway = Gateway(
            name=name,
            desk=desk,
            quotes=quotes,
            activity=self.activity,
            inbox=roster.inbox,
            owner_of_position=roster.owner_of_position,
            doubt=resolver.doubt,
            reconnected=resolver.reconnected,
        )
        for order in orders:
            gateway.know(order)
        return Post(dry, desk, gateway, resolver, roster, frozenset(order.client_order_id for order in orders))
