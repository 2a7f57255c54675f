"""Who judges a world from outside of its daemon: by the venue's ledger, the journal on disk and what was heard."""

from __future__ import annotations

import sqlite3
import traceback
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import trio
from attrs import define, field

from actors.daemon import JOURNAL, Daemon
from pipaid.model.money import ZERO
from pipaid.model.order import BookedFill, Order, OrderStatus
from pipaid.model.position import Position
from pipaid.model.strategy import Status, Strategy
from tests.simulation.venue import Ledger

if TYPE_CHECKING:
    from tests.simulation.world import World

VIOLATIONS_MAX = 20


@define(eq=False)
class Checks:
    """Collect violations; each says what was promised and what happened."""

    world: World
    violations: list[str] = field(factory=list[str])
    sent_ids: dict[str, int] = field(factory=dict[str, int])
    told: list[str] = field(factory=list[str])

    def violate(self, text: str, trouble: BaseException | None = None) -> None:
        """Note a violation."""
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(f"at {trio.current_time():.2f} s in life {self.world.lives}: {text}")
            if trouble is not None:
                self.told.append("".join(traceback.format_exception(trouble)))

    # Moments.

    def sent(self, order: Order, *, dry: bool) -> None:
        """An order leaves for the venue: its intent must be durable, and it must not have left before."""
        client_id = order.client_order_id
        times = self.sent_ids[client_id] = self.sent_ids.get(client_id, 0) + 1
        if times > 1:
            self.violate(f"O1 order {client_id} was sent {times} times")
        if not self._is_durable("order", order.id):
            self.violate(f"O2 order {order.id} was sent before its intent was durable")
        if order.dry_run is not dry:
            self.violate(f"T3 order {order.id} went to the wrong desk")

    def _is_durable(self, entity: str, key: str) -> bool:
        with sqlite3.connect(self.world.folder / JOURNAL) as connection:
            found = connection.execute("SELECT 1 FROM entity WHERE entity = ? AND key = ?", (entity, key)).fetchone()
        connection.close()
        return found is not None

    # The end.

    async def before_the_end(self, daemon: Daemon) -> None:
        """After the calm nothing may be in doubt, frozen or in error."""
        for post in daemon.posts.all.values():
            if post.resolver.doubts:
                self.violate(f"{post.name}: still in doubt about {sorted(post.resolver.doubts)}")
            if post.auditor.frozen:
                self.violate(f"{post.name}: still frozen {sorted(post.auditor.frozen)}, {post.auditor.amounts}")

    def at_the_end(self) -> None:
        """Compare the journal with the venue's ledger."""
        rows = self._journal()
        orders = {each.client_order_id: each for each in rows["order"]}
        for dry, line in self.world.lines.items():
            ledger = line.venue
            assert isinstance(ledger, Ledger)
            self._compare_fills(ledger, [each for each in rows["fill"] if each.dry_run is dry])
            self._compare_orders(ledger, orders)
            self._compare_positions(ledger, [each for each in rows["position"] if each.dry_run is dry])
        for strategy in rows["strategy"]:
            if strategy.status is Status.ERROR:
                self.violate(f"strategy {strategy.definition.name} is in error: {strategy.fault}")

    def _compare_fills(self, ledger: Ledger, booked: list[BookedFill]) -> None:
        theirs = {fill.id: fill for fill in ledger.filled}
        ours = {each.fill.id: each.fill for each in booked}
        for missing in sorted(theirs.keys() - ours.keys()):
            self.violate(f"M1 fill {missing} was lost")
        for invented in sorted(ours.keys() - theirs.keys()):
            self.violate(f"M1 fill {invented} never happened")

    def _compare_orders(self, ledger: Ledger, orders: dict[str, Order]) -> None:
        seen: set[str] = set()
        working = {each.order.client_order_id for each in ledger.book.orders()}
        for _, taken in ledger.taken:
            client_id = taken.client_order_id
            if client_id in seen:
                self.violate(f"O1 the venue took order {client_id} twice")
            seen.add(client_id)
            ours = orders.get(client_id)
            if ours is None:
                self.violate(f"O2 the journal does not know order {client_id}, which the venue took")
            elif ours.status is OrderStatus.REJECTED:
                self.violate(f"O3 order {client_id} was taken by the venue and is booked as rejected: {ours.detail}")
            elif ours.working is not (client_id in working):
                there = "works" if client_id in working else "has ended"
                self.violate(f"O4 order {client_id} {there} at the venue and is {ours.status} here")

    def _compare_positions(self, ledger: Ledger, positions: list[Position]) -> None:
        ours: dict[str, Decimal] = {}
        for lot in positions:
            if lot.is_open:
                ours[lot.symbol] = ours.get(lot.symbol, ZERO) + lot.direction.sign * lot.quantity
        theirs = ledger.book.net()
        for symbol in sorted({*ours, *theirs}):
            if ours.get(symbol, ZERO) != theirs.get(symbol, ZERO):
                self.violate(f"M1 {symbol}: {theirs.get(symbol, ZERO)} at the venue, {ours.get(symbol, ZERO)} here")

    def _journal(self) -> dict[str, list[Any]]:
        types = {"order": Order, "position": Position, "fill": BookedFill, "strategy": Strategy}
        select = "SELECT data FROM entity WHERE entity = ? ORDER BY key"
        connection = sqlite3.connect(self.world.folder / JOURNAL)
        try:
            return {
                entity: [msgspec.json.decode(data, type=kind) for (data,) in connection.execute(select, (entity,))]
                for entity, kind in types.items()
            }
        finally:
            connection.close()
