"""Desks that misbehave as venues do, strategies' inboxes to hear of it, and orders that risk let through."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import trio
from attrs import define, field

from actors.actor import CancelNews, DeskFact, MailboxFull, OrderNews
from pipaid.engine import risk
from pipaid.engine.risk import Approved
from pipaid.model.order import Execution, Fill, FundingPaid, Order, OrderFact
from pipaid.storage.store import Committed
from pipaid.venues.simulated import CAPABILITIES, SimulatedDesk
from pipaid.venues.venue import Capabilities, Confirmed, DeskUpdate, OrderView, Outcome, Unknown
from pipaid.wire.activity import Activity
from tests.builders import make_order

PROOF = Committed(n=1, events=())
EXPIRING = msgspec.structs.replace(CAPABILITIES, request_expiry=True, acts_in_call=False, answers_at_once=False)
PROMPT = msgspec.structs.replace(EXPIRING, answers_at_once=True)
SILENCE = Unknown("no answer in time")

Say = Callable[[Order], Outcome]


def approved(number: int = 1, **fields: Any) -> Approved:
    """Return an order as the gate lets it through."""
    return Approved(make_order(number, **fields), risk._MINT)


def leaving(number: int = 1, **fields: Any) -> Approved:
    """Return a reducing order as the gate lets it through."""
    return approved(number, reduce_only=True, **fields)


@define
class Box:
    """A strategy that writes down what it is told; without `room` it takes nothing."""

    id: str
    letters: list[DeskFact] = field(factory=list[DeskFact])
    room: trio.Event = field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self.room.set()

    def tell(self, fact: DeskFact) -> None:
        if not self.room.is_set():
            raise MailboxFull("no room")
        self.letters.append(fact)

    async def deliver(self, fact: DeskFact) -> None:
        await self.room.wait()
        self.tell(fact)

    @property
    def heard(self) -> list[str]:
        """Say in short what was told."""
        return [word for letter in self.letters for word in _words(letter)]


def _words(fact: DeskFact) -> list[str]:
    match fact:
        case OrderNews():
            return [f"{client_id} {news}" for client_id, news, _ in fact.facts]
        case CancelNews():
            return [f"{fact.client_order_id} stays"]
        case Execution():
            filled = "" if fact.fill is None else f" {fact.fill.quantity}"
            return [f"{fact.client_order_id} {fact.fact}!{filled}"]
        case FundingPaid():
            return [f"{fact.position_id} paid"]


@define(eq=False)
class HandDesk:
    """A desk that answers as a test says: each call waits for `gate`, and is written down with its order's id."""

    activity: Activity
    capabilities: Capabilities = PROMPT
    calls: list[str] = field(factory=list[str])
    place_with: Say = field(default=lambda _: Confirmed())
    cancel_with: Say = field(default=lambda _: Confirmed())
    shown: dict[str, OrderView] = field(factory=dict[str, OrderView])
    outage: BaseException | None = None
    meanwhile: Callable[[], None] = field(default=lambda: None)
    held: dict[str, Decimal] = field(factory=dict[str, Decimal])
    gate: trio.Event = field(factory=trio.Event)
    _send: trio.MemorySendChannel[DeskUpdate] = field(init=False)
    _receive: trio.MemoryReceiveChannel[DeskUpdate] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[DeskUpdate](1_000)
        self.gate.set()

    async def place(self, order: Order, *, expires_at_ms: int) -> Outcome:
        self.calls.append(order.client_order_id)
        await self.gate.wait()
        return self.place_with(order)

    async def cancel(self, order: Order) -> Outcome:
        self.calls.append(f"-{order.client_order_id}")
        await self.gate.wait()
        return self.cancel_with(order)

    async def lookup(self, order: Order) -> OrderView | None:
        await trio.lowlevel.checkpoint()
        if self.outage is not None:
            raise self.outage
        self.calls.append(f"?{order.client_order_id}")
        view = self.shown.get(order.client_order_id)
        self.meanwhile()
        return view

    async def open_orders(self) -> Sequence[OrderView]:
        await trio.lowlevel.checkpoint()
        if self.outage is not None:
            raise self.outage
        return [view for view in self.shown.values() if view.fact in (OrderFact.ACK, OrderFact.FILL)]

    async def fills_since(self, time_ms: int) -> Sequence[Fill]:
        await trio.lowlevel.checkpoint()
        return [fill for view in self.shown.values() for fill in view.fills if fill.time_ms >= time_ms]

    async def positions(self) -> Mapping[str, Decimal]:
        await trio.lowlevel.checkpoint()
        if self.outage is not None:
            raise self.outage
        return dict(self.held)

    def updates(self) -> trio.MemoryReceiveChannel[DeskUpdate]:
        return self._receive

    def report(self, update: DeskUpdate) -> None:
        """Let the venue report something; it is under way until somebody has dealt with it."""
        self.activity.begin()
        self._send.send_nowait(update)


@define(eq=False)
class LossyDesk:
    """A simulated desk behind a bad line: what `lost` says of an order's request or answer, happens to it.

    `reports` says what happens to each of the venue's reports: it is lost, comes twice, or is held until `let_go`; the
    next cancellations get lost, and `cancels` is what is said of them. What the desk cannot do, by its capabilities,
    nobody may ask of it.
    """

    venue: SimulatedDesk
    lost: dict[str, str] = field(factory=dict[str, str])
    late: list[Order] = field(factory=list[Order])
    capabilities: Capabilities = EXPIRING
    default: str = ""
    reports: Callable[[DeskUpdate], str] = field(default=lambda _: "")
    placed: list[str] = field(factory=list[str])
    cancels: list[Outcome] = field(factory=list[Outcome])
    held: list[DeskUpdate] = field(factory=list[DeskUpdate])

    async def place(self, order: Order, *, expires_at_ms: int) -> Outcome:
        self.placed.append(order.client_order_id)
        fate = self.lost.get(order.client_order_id, self.default)
        if fate == "request":
            return SILENCE
        if fate == "late":
            self.late.append(order)
            return SILENCE
        outcome = await self.venue.place(order, expires_at_ms=expires_at_ms)
        return SILENCE if fate == "answer" else outcome

    async def arrive(self) -> None:
        """Let the requests that took their time reach the venue."""
        while self.late:
            await self.venue.place(self.late.pop(0), expires_at_ms=0)

    async def cancel(self, order: Order) -> Outcome:
        if self.cancels:
            return self.cancels.pop(0)
        return await self.venue.cancel(order)

    async def lookup(self, order: Order) -> OrderView | None:
        assert self.capabilities.lookup_by_client_id, "this desk cannot look an order up"
        return await self.venue.lookup(order)

    async def open_orders(self) -> Sequence[OrderView]:
        return await self.venue.open_orders()

    async def fills_since(self, time_ms: int) -> Sequence[Fill]:
        assert self.capabilities.fills_since, "this desk cannot list its fills"
        return await self.venue.fills_since(time_ms)

    async def positions(self) -> Mapping[str, Decimal]:
        return await self.venue.positions()

    async def updates(self) -> AsyncGenerator[DeskUpdate]:
        async for update in self.venue.updates():
            fate = self.reports(update)
            if fate == "held":
                self.held.append(update)
            if fate in ("lost", "held"):
                self.venue.activity.end()
                continue
            yield update
            if fate == "twice":
                self.venue.activity.begin()
                yield update

    def let_go(self, *, newest_first: bool = False) -> None:
        """Let everything come that was held."""
        updates = [self.held.pop() for _ in range(len(self.held))]
        self.reports = lambda _: ""
        self.venue._report(updates if newest_first else updates[::-1])

    def say(self, update: DeskUpdate) -> None:
        """Have the stream bring something that the venue did not say."""
        self.venue._report([update])
