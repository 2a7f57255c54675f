"""Who judges a world from outside of its daemon: by the venue's ledger, the journal on disk and what was heard."""

from __future__ import annotations

import sqlite3
import traceback
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from math import inf
from typing import TYPE_CHECKING, Any

import msgspec
import trio
from attrs import define, field

from actors.actor import REQUEST_WINDOW_MS
from actors.auditor import DeskMemory
from actors.daemon import JOURNAL, Daemon
from actors.posts import NAMES
from pipaid.engine.effects import Brain
from pipaid.model.event import is_notice
from pipaid.model.fault import QUESTION_FAULTS, REQUEST_FAULTS
from pipaid.model.money import ZERO
from pipaid.model.order import BookedFill, Fill, Order, OrderStatus
from pipaid.model.position import Position
from pipaid.model.record import Batch, Record
from pipaid.model.report import StrategyState
from pipaid.model.strategy import Binding, Status, Strategy
from tests.simulation.allowed import Allowed
from tests.simulation.seams import START_MS
from tests.simulation.traders import Clumsy
from tests.simulation.venue import MINUTE_MS, Ledger

if TYPE_CHECKING:
    from tests.simulation.world import World

VIOLATIONS_MAX = 20
HOUR_MS = 60 * MINUTE_MS
# So long a durable event may be on its way to who listens.
HEARD_S = 4.0
# What the configuration allows, and the steps in which the watch over it looks.
AGE_MS_MAX = 10_000 + 2_500
# A venue whose requests never expire is asked twice, the second time a minute after the first.
DOUBT_S_MAX = 90
# Exposure is reserved at a price with a margin; what a market order is filled at may be a little off.
TOLERANCE = Decimal("1.01")
# Why a strategy may be in error: the operator halted it.
HALTED = "SIM_HALT"
ENDED = (Status.STOPPED,)
# At so many looks in a row at the venue's positions a difference is none of a moment.
LOOKS_MAX = 3
# Where requests are not lost, the entries that a kill switch takes back are gone by then.
WITHDRAWN_S = 15.0
# A daemon waits for so long before it gives an order up that may come at any time.
RISEN_MS_MIN = 65_000


@define(eq=False)
class Checks:
    """Collect violations; each says what was promised and what happened."""

    world: World
    allowed: Allowed
    violations: list[str] = field(factory=list[str])
    sent_ids: dict[str, int] = field(factory=dict[str, int])
    intended: set[str] = field(factory=set[str])
    told: list[str] = field(factory=list[str])
    trace: list[str] = field(factory=list[str])
    # For how many looks in a row a life has seen an account differ from the journal on a symbol.
    looks: dict[tuple[bool, str], int] = field(factory=dict[tuple[bool, str], int])
    # What a life has been told by the venue.
    asked: dict[bool, set[str]] = field(factory=dict[bool, set[str]])
    # The orders that came to the venue so late that nobody could count on them any more.
    risen: set[str] = field(factory=set[str])
    _connection: sqlite3.Connection | None = None

    def violate(self, text: str, trouble: BaseException | None = None) -> None:
        """Note a violation."""
        if len(self.violations) < VIOLATIONS_MAX:
            if not self.violations:
                self.trace = list(self.world.last)
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
        if not order.reduce_only:
            self._check_decision(order)
            person = self.world.person
            if person.killed:
                self.violate(f"stopped: entry {order.id} was sent although the kill switch is thrown")
            if order.strategy_id in person.paused:
                self.violate(f"stopped: entry {order.id} was sent although its strategy is paused")
        if order.strategy_id in self.world.operator.ended:
            self.violate(f"stopped: order {order.id} was sent although its strategy has ended")

    def _check_decision(self, entry: Order) -> None:
        """An entry leaves: neither its price nor its decision is older than allowed, and nothing is in dispute."""
        market = self.world.market
        assert market is not None
        self._check_age(entry, market.now_ms(), "left on prices")
        decided_ms = market.now_ms() - entry.placed_at_ms
        if decided_ms > AGE_MS_MAX + REQUEST_WINDOW_MS:
            self.violate(f"T1 entry {entry.id} left {decided_ms / 1000:.1f} s after it was decided on")
        # What was asked for at the start is judged by its age alone.
        if market.heard_s.get(entry.symbol, inf) < self.world.jumped_s:
            self.violate(f"T1 entry {entry.id} left on a price from before the loop stood still")
        unasked = {"positions", "orders"} - self.asked.get(entry.dry_run, set())
        if unasked:
            self.violate(f"M4 entry {entry.id} left before anything was known of the venue's {', '.join(unasked)}")
        looks = self.looks.get((entry.dry_run, entry.symbol), 0)
        if looks >= LOOKS_MAX:
            self.violate(f"M4 entry {entry.id} left although {entry.symbol} differed at {looks} looks in a row")

    def compared(self, dry: bool, theirs: Mapping[str, Decimal]) -> None:
        """A daemon has been told the venue's positions: count in how many such looks in a row one differs from ours."""
        if self.world.hung_since_s <= trio.current_time():
            # What it has booked already may still be on its way to the disk.
            return
        ours = self._net(self._lots(dry))
        for symbol in self.world.symbols:
            differs = ours.get(symbol, ZERO) != theirs.get(symbol, ZERO)
            self.looks[dry, symbol] = self.looks.get((dry, symbol), 0) + 1 if differs else 0

    async def withdrawn(self) -> None:
        """The kill switch was thrown: where no request gets lost, no entry works any more after a while."""
        world, life, begun_s = self.world, self.world.life, trio.current_time()
        await trio.sleep(WITHDRAWN_S)
        undisturbed = life is world.life and not life.dead and world.jumped_s < begun_s and world.person.killed
        if not undisturbed or any(map(world.faults.may, (*REQUEST_FAULTS, *QUESTION_FAULTS))):
            return
        for ledger in world.ledgers:
            for each in ledger.book.orders():
                if not each.order.reduce_only:
                    self.violate(
                        f"stopped: entry {each.order.id} works {WITHDRAWN_S:.0f} s after the kill switch was thrown"
                    )

    def committing(self, batches: Sequence[Batch]) -> None:
        """A daemon has committed: nobody has taken the journal, no entry rests on old data, no end was invented."""
        if self.world.life.taken_over:
            self.violate("S5 a daemon commits after another one has taken the journal over")
        for record in (record for batch in batches for record in batch.records):
            self.world.trace.update(record.data)
            if record.entity == "order":
                self._check_order(record)

    def _check_order(self, record: Record) -> None:
        order = msgspec.json.decode(record.data, type=Order)
        if record.key not in self.intended:
            self.intended.add(record.key)
            if not order.reduce_only and order.status is OrderStatus.INTENDED:
                self._check_intent(order)
        if not order.working and self.world.lines[order.dry_run].venue.book.working(order.client_order_id) is not None:
            self.violate(f"O4 order {order.id} is booked as {order.status} and works at the venue")

    def _check_intent(self, order: Order) -> None:
        market = self.world.market
        if market is None or order.placed_at_ms < market.begun_ms:
            # It was decided by a daemon that died before anybody saw its commit.
            return
        # However long the commit took, what was decided rests on what was known by then.
        waited_ms = int(max(0.0, trio.current_time() - self.world.hung_since_s) * 1000)
        self._check_age(order, market.now_ms() - waited_ms, "rests on prices")

    def _check_age(self, order: Order, now_ms: int, what: str) -> None:
        market = self.world.market
        assert market is not None
        age_ms = now_ms - market.delivered_ms.get(order.symbol, market.begun_ms)
        if age_ms > AGE_MS_MAX:
            self.violate(f"T1 entry {order.id} {what} {age_ms / 1000:.1f} s old")

    def taken(self, ledger: Ledger, order: Order) -> None:
        """The venue took an order: it was not given up here, and no cap is exceeded by what the venue now knows.

        One that comes later than anybody waits for it is given up with good reason, and may exceed a cap until it is
        taken back.
        """
        if self.world.plan.long_line and ledger.now_ms - order.placed_at_ms > RISEN_MS_MIN:
            self.risen.add(order.id)
            return
        for (data,) in self._fetch("SELECT data FROM entity WHERE entity = 'order' AND key = ?", (order.id,)):
            status = msgspec.json.decode(data, type=Order).status
            if status in (OrderStatus.ABSENT, OrderStatus.REJECTED):
                self.violate(f"O4 order {order.id} was booked as {status} before the venue took it")
        if not order.reduce_only and not self.risen:
            self._check_caps(ledger, order)

    def _check_caps(self, ledger: Ledger, order: Order) -> None:
        """Count what the venue knows against the caps: whoever was decided on last counted all the others."""
        decided_s = (order.placed_at_ms - START_MS) / 1000
        lots = ledger.lots()
        entries = [each for each in ledger.book.orders() if not each.order.reduce_only]
        waiting = {each.order.position_id for each in entries} - {lot.id for lot in lots}
        value = sum((lot.quantity * lot.entry_value / lot.entry_quantity for lot in lots), ZERO)
        value += sum((each.remaining * each.order.price for each in entries), ZERO)
        for name, count, what in (
            ("max_open_positions", len(lots) + len(waiting), "positions are possible"),
            ("open_orders_max", len(entries), "entries work"),
            ("exposure_max", value / TOLERANCE, "are at risk"),
        ):
            allowed = self.allowed.loosest(name, decided_s)
            if allowed is not None and count > allowed:
                self.violate(f"M2 {count:.2f} {what}, {allowed} allowed, by {order.id}")

    def stated(self, state: StrategyState) -> None:
        """Somebody was told of the inside of a strategy: no crash may undo any of it."""
        for order in (order for symbol in state.symbols for order in symbol.orders):
            rows = self._fetch("SELECT data FROM entity WHERE entity = 'order' AND key = ?", (order.id,))
            if not rows or msgspec.json.decode(rows[0][0], type=Order).filled < Decimal(order.filled_qty):
                self.violate(
                    f"S1 order {order.id} with {order.filled_qty} filled was stated, and the journal has {rows}"
                )
        deleted = self._fetch(
            "SELECT 1 FROM entity WHERE entity = 'strategy' AND key = ? AND state = 'deleted'", (state.id,)
        )
        for lot in (lot for symbol in state.symbols for lot in symbol.positions):
            if not deleted and not self._is_durable("position", lot.id):
                self.violate(f"S1 position {lot.id} was stated, and the journal does not hold it")
        for (data,) in self._fetch("SELECT data FROM entity WHERE entity = 'brain' AND key = ?", (state.id,)):
            made = msgspec.json.decode(data, type=Brain).runs_made
            if made < state.evaluations:
                self.violate(f"S1 {state.evaluations} evaluations of {state.id} were stated, {made} are in the journal")
        ((last_seq,),) = self._fetch("SELECT max(sort) FROM record WHERE entity = 'event' AND owner = ?", (state.id,))
        if (last_seq or 0) < state.last_seq:
            self.violate(f"S1 event {state.last_seq} of {state.id} was stated, and {last_seq} is the last")

    def shown(self, strategy_id: str, seq: int, frame: bytes) -> None:
        """An event was seen by somebody: it must be in the journal, just so."""
        select = "SELECT data FROM record WHERE entity = 'event' AND owner = ? AND sort = ? AND state = ''"
        found = self._fetch(select, (strategy_id, seq))
        if found != [(frame,)]:
            self.violate(f"S1 event {seq} of {strategy_id} was shown, and the journal holds {found}")

    def left_behind(self, ledger: Ledger) -> list[str]:
        """Return the lots at the venue whose strategies the journal knows as ended."""
        owners = {order.position_id: order.strategy_id for _, order in ledger.taken}
        select = "SELECT key FROM entity WHERE entity = 'strategy' AND state IN ('stopped', 'deleted')"
        ended = {key for (key,) in self._fetch(select, ())}
        return [lot.id for lot in ledger.lots() if owners[lot.id] in ended]

    def let_go(self) -> None:
        """A life is over: close the journal, whose files are about to change under everybody."""
        self.looks.clear()
        self.asked.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _fetch(self, select: str, values: tuple[Any, ...]) -> list[Any]:
        if self._connection is None:
            self._connection = sqlite3.connect(f"file:{self.world.folder / JOURNAL}?mode=ro", uri=True)
        return self._connection.execute(select, values).fetchall()

    def _is_durable(self, entity: str, key: str) -> bool:
        return bool(self._fetch("SELECT 1 FROM entity WHERE entity = ? AND key = ?", (entity, key)))

    def followers(self, leader: str) -> set[str]:
        """Return who follows a strategy, as far as the journal knows, in a world where somebody may."""
        if not self.world.plan.scene.bound:
            return set()
        found = self._fetch("SELECT data FROM entity WHERE entity = 'strategy'", ())
        strategies = [msgspec.json.decode(data, type=Strategy) for (data,) in found]
        return {each.id for each in strategies if each.follows == leader}

    # The end.

    async def before_the_end(self, daemon: Daemon) -> None:
        """After the calm nothing may be in doubt, frozen or in error; nothing happens any more while that is judged."""
        self.world.still = True
        for post in daemon.posts.all.values():
            # Even on a good line a cancellation may cross the end of its order, and that takes its time to be sure of.
            old_s = trio.current_time() - DOUBT_S_MAX
            doubts = sorted(key for key, doubt in post.resolver.doubts.items() if doubt.since_s < old_s)
            if doubts:
                self.violate(f"M4 {post.name}: still in doubt about {doubts}")
            if post.auditor.frozen and not self.risen:
                self.violate(f"M4 {post.name}: still frozen {sorted(post.auditor.frozen)}, {post.auditor.amounts}")

        await self._everything_heard()

    async def _everything_heard(self) -> None:
        """Whoever follows all events has heard of each, whatever became of its strategy meanwhile."""
        last = dict(self._fetch("SELECT owner, max(sort) FROM record WHERE entity = 'event' GROUP BY owner", ()))
        await trio.sleep(HEARD_S)
        for strategy_id, seq in last.items():
            heard = self.world.person.last.get(strategy_id, 0)
            # Notices are for webhooks, of which a world has none.
            if heard < seq and self.world.person.listening and not is_notice(strategy_id):
                self.violate(f"S3 {strategy_id}: event {seq} was never heard of, {heard} was the last")

    def at_the_end(self) -> None:
        """Compare the journal with the venue's ledger."""
        rows = self._journal()
        orders = {each.client_order_id: each for each in rows["order"]}
        for dry, line in self.world.lines.items():
            ledger = line.venue
            assert isinstance(ledger, Ledger)
            self._compare_fills(ledger, [each for each in rows["fill"] if each.dry_run is dry])
            self._compare_orders(ledger, orders)
            # What a deleted strategy held on paper is forgotten, and that it was opened as well.
            self._check_rates(ledger, {each.id for each in rows["position"]})
            looked_after = {each.id for each in rows["strategy"] if each.status not in ENDED and not each.deleted_at_ms}
            self._compare_positions(ledger, self._lots(dry))
            for each in ledger.book.orders():
                if each.order.strategy_id not in looked_after:
                    self.violate(f"O4 order {each.order.id} works at the venue, and its strategy has ended")
        self._compare_lots(rows)
        self._compare_bindings(rows["strategy"])
        for (strategy_id, seq), frame in self.world.person.shown.items():
            self.shown(strategy_id, seq, frame)
        for state in self.world.operator.states:
            self.stated(state)
        for strategy in rows["strategy"]:
            if (
                strategy.status is Status.ERROR
                and strategy.fault is not None
                and strategy.fault.code != HALTED
                and strategy.definition.template_id != Clumsy.id
            ):
                self.violate(f"strategy {strategy.definition.name} is in error: {strategy.fault}")

    def _check_rates(self, ledger: Ledger, known: Collection[str]) -> None:
        """Count what was entered and opened within a time against the caps."""
        entries = sorted(order.placed_at_ms for _, order in ledger.taken if not order.reduce_only)
        for place, at_ms in enumerate(entries):
            allowed = self.allowed.loosest("orders_per_minute_max", (at_ms - START_MS) / 1000)
            count = place + 1 - bisect_right(entries, at_ms - MINUTE_MS)
            if allowed is not None and count > allowed:
                self.violate(f"M2 {count} entries within a minute, {allowed} allowed, at {(at_ms - START_MS) / 1000} s")
        caps = self.world.plan.caps
        for symbol, opened in ledger.openings(known).items():
            for place, at_ms in enumerate(opened):
                count = place + 1 - bisect_right(opened, at_ms - caps.rate_limit_window_hours * HOUR_MS)
                if caps.rate_limit_max_trades is not None and count > caps.rate_limit_max_trades:
                    self.violate(
                        f"M2 {count} openings on {symbol} in {caps.rate_limit_window_hours} h, "
                        f"{caps.rate_limit_max_trades} allowed, at {(at_ms - START_MS) / 1000} s"
                    )

    def _compare_fills(self, ledger: Ledger, booked: list[BookedFill]) -> None:
        theirs = {fill.id: fill for fill in ledger.filled}
        ours = {each.fill.id: each.fill for each in booked}
        for missing in sorted(theirs.keys() - ours.keys()):
            if not self._set_aside(ledger, theirs[missing]):
                self.violate(f"M1 fill {missing} was lost")
        for both in sorted(theirs.keys() & ours.keys()):
            if _amounts(theirs[both]) != _amounts(ours[both]):
                self.violate(f"M1 fill {both} is {theirs[both]} at the venue and {ours[both]} here")
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

    def _compare_lots(self, rows: Mapping[str, list[Any]]) -> None:
        """Add the booked fills up: they make the lots, and the closed lots make the profit of their strategy."""
        fills: dict[str, list[BookedFill]] = {}
        for booked in rows["fill"]:
            fills.setdefault(booked.position_id, []).append(booked)
        gained: dict[str, Decimal] = {}
        for lot in rows["position"]:
            sums = _sums(lot, fills.get(lot.id, []))
            kept = [lot.entry_quantity, lot.entry_value, lot.exit_quantity, lot.exit_value, lot.fees]
            if sums != kept or (lot.closed_at_ms != 0) is not (lot.entry_quantity == lot.exit_quantity):
                self.violate(f"M1 position {lot.id} holds {kept}, and its fills come to {sums}")
            if lot.closed_at_ms:
                gained[lot.strategy_id] = gained.get(lot.strategy_id, ZERO) + lot.pnl
        for key, data in self._fetch("SELECT key, data FROM entity WHERE entity = 'brain'", ()):
            told = msgspec.json.decode(data, type=Brain).tally.pnl
            if told != gained.get(key, ZERO):
                self.violate(f"M1 {key} tells of a profit of {told}, and its trades made {gained.get(key, ZERO)}")

    def _compare_bindings(self, strategies: Sequence[Strategy]) -> None:
        """No follower is without its binding, and none of these without its follower; what was promised is so."""
        living = {each.id: each for each in strategies if not each.deleted_at_ms}
        found = self._fetch("SELECT owner, data FROM entity WHERE entity = 'binding' ORDER BY key", ())
        bindings = [(owner, msgspec.json.decode(data, type=Binding)) for owner, data in found]
        for leader, binding in bindings:
            trades = living.get(binding.strategy_id)
            follows = "" if leader == binding.strategy_id else leader
            if leader not in living or trades is None or (trades.account, trades.follows) != (binding.account, follows):
                self.violate(f"B1 {leader} is bound to {binding}, where {trades} trades")
        there = {(leader, binding.account): binding.strategy_id for leader, binding in bindings}
        for each in living.values():
            if each.follows and there.get((each.follows, each.account)) != each.id:
                self.violate(f"B1 {each.id} follows {each.follows}, which is not bound to {each.account}")
        for place, promised in self.world.binder.bound.items():
            if there.get(place) != promised:
                self.violate(f"B2 {place} was bound by {promised}, and is by {there.get(place)}")
        for parted in sorted(self.world.binder.parted & living.keys()):
            self.violate(f"B2 {parted} was parted from its leader and is there")

    def _lots(self, dry: bool) -> list[Position]:
        """Return the lots in the journal that are looked after by a strategy."""
        select = "SELECT key FROM entity WHERE entity = 'strategy' AND state IN ('stopped', 'deleted')"
        ended = {key for (key,) in self._fetch(select, ())}
        lots = [
            msgspec.json.decode(data, type=Position)
            for (data,) in self._fetch("SELECT data FROM entity WHERE entity = 'position' AND state = 'open'", ())
        ]
        return [lot for lot in lots if lot.dry_run is dry and lot.strategy_id not in ended]

    def _net(self, lots: Iterable[Position]) -> dict[str, Decimal]:
        net: dict[str, Decimal] = {}
        for lot in lots:
            net[lot.symbol] = net.get(lot.symbol, ZERO) + lot.direction.sign * lot.quantity
        return net

    def _compare_positions(self, ledger: Ledger, lots: list[Position]) -> None:
        ours, theirs = self._net(lots), ledger.book.net()
        known = self._known_apart(ledger) if self.risen else {}
        for symbol in sorted({*ours, *theirs}):
            apart = theirs.get(symbol, ZERO) - ours.get(symbol, ZERO)
            if apart and apart != known.get(symbol):
                self.violate(f"M1 {symbol}: {theirs.get(symbol, ZERO)} at the venue, {ours.get(symbol, ZERO)} here")

    def _known_apart(self, ledger: Ledger) -> dict[str, Decimal]:
        """Return by how much the journal knows the account to hold more than its lots."""
        dry = ledger is self.world.ledger(True)
        for (data,) in self._fetch("SELECT data FROM entity WHERE entity = 'desk' AND key = ?", (NAMES[dry],)):
            return msgspec.json.decode(data, type=DeskMemory).amounts
        return {}

    def _set_aside(self, ledger: Ledger, fill: Fill) -> bool:
        """Tell whether a fill that no lot accounts for is known as such."""
        return bool(self.risen) and (self._is_durable("stray", fill.id) or fill.symbol in self._known_apart(ledger))

    def _journal(self) -> dict[str, list[Any]]:
        types = {"order": Order, "position": Position, "fill": BookedFill, "strategy": Strategy}
        select = "SELECT data FROM entity WHERE entity = ? ORDER BY key"
        return {
            entity: [msgspec.json.decode(data, type=kind) for (data,) in self._fetch(select, (entity,))]
            for entity, kind in types.items()
        }


def _amounts(fill: Fill) -> tuple[Any, ...]:
    return fill.symbol, fill.side, fill.quantity, fill.price, fill.fee, fill.fee_asset, fill.maker, fill.time_ms


def _sums(lot: Position, fills: Iterable[BookedFill]) -> list[Decimal]:
    """Return what the fills of a lot come to: entered, its value, left, its value, and the fees."""
    sums = [ZERO] * 5
    for booked in fills:
        fill = booked.fill
        at = 0 if fill.side is lot.direction.entry_side else 2
        sums[at] += fill.quantity
        sums[at + 1] += fill.quantity * fill.price
        sums[4] += fill.fee
    return sums
