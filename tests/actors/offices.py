"""An auditor's surroundings: a desk whose fills a test decides, a journal of rows, a strategy that listens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import trio
from attrs import define, field

from actors.auditor import Auditor
from actors.unassigned import Unassigned
from pipaid.engine.quotes import Quotes
from pipaid.errors import Unavailable
from pipaid.model.ident import client_order_id, order_id
from pipaid.model.order import Execution, Fill, Order, OrderFact, OrderStatus
from pipaid.model.position import Position
from pipaid.model.record import Batch, Kind, Record
from pipaid.model.stray import stray_fill
from pipaid.storage.store import Committed
from pipaid.venues.venue import OrderView
from pipaid.wire.activity import Activity
from tests.actors.desks import EXPIRING, Box, HandDesk
from tests.actors.homes import TrioClock
from tests.builders import (
    START_MS,
    STRATEGY_ID,
    make_order,
)


@define
class Notebook:
    """A journal of rows, without strategies around it."""

    rows: dict[tuple[str, str], bytes] = field(factory=dict[tuple[str, str], bytes])
    states: dict[tuple[str, str], str] = field(factory=dict[tuple[str, str], str])
    commits: int = 0
    broken: bool = False

    def submit(self, batch: Batch, then: Any = None) -> None:
        if self.broken:
            raise Unavailable("the line is full")
        self.commits += 1
        for record in batch.records:
            self.rows[record.entity, record.key] = record.data
            self.states[record.entity, record.key] = record.state

    async def commit(self, batch: Batch) -> Committed:
        raise NotImplementedError

    async def read(self, function: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(self)

    def get(self, entity: str, key: str) -> Any:
        data = self.rows.get((entity, key))
        return None if data is None else Record(entity, key, Kind.PUT, data)

    def rows_of(self, entity: str, state: str) -> list[Record]:
        return [
            Record(entity, key, Kind.PUT, data)
            for (kind, key), data in self.rows.items()
            if kind == entity and self.states[kind, key] == state
        ]


def ours(number: int = 1, **fields: Any) -> Order:
    """Return an order that bears the strategy's mark."""
    given: dict[str, Any] = {
        "id": order_id(STRATEGY_ID, number),
        "client_order_id": client_order_id("acct_1", STRATEGY_ID, number),
        "status": OrderStatus.OPEN,
    }
    return make_order(number, **{**given, **fields})


@define(eq=False)
class Desk(HandDesk):
    """A desk whose list of fills is its own."""

    happened: list[Fill] = field(factory=list[Fill])
    asked_since: list[int] = field(factory=list[int])
    asked: list[tuple[str, float]] = field(factory=list[tuple[str, float]])

    async def open_orders(self) -> Sequence[OrderView]:
        self.asked.append(("orders", trio.current_time()))
        return await HandDesk.open_orders(self)

    async def positions(self) -> Mapping[str, Decimal]:
        self.asked.append(("positions", trio.current_time()))
        return await HandDesk.positions(self)

    async def fills_since(self, time_ms: int) -> list[Fill]:
        await trio.lowlevel.checkpoint()
        if self.outage is not None:
            raise self.outage
        self.asked_since.append(time_ms)
        self.asked.append(("fills", trio.current_time()))
        return [fill for fill in self.happened if fill.time_ms >= time_ms]


@define(eq=False)
class Office:
    """An auditor between a desk, a notebook and a strategy."""

    quotes: Quotes = field(factory=lambda: Quotes(now_ms=START_MS))
    box: Box = field(factory=lambda: Box(STRATEGY_ID))
    notebook: Notebook = field(factory=Notebook)
    working: list[Order] = field(factory=list[Order])
    lots: list[Position] = field(factory=list[Position])
    carried: set[str] = field(factory=set[str])
    doubts: dict[str, int] = field(factory=dict[str, int])
    employed: bool = True
    can: dict[str, Any] = field(factory=dict[str, Any])
    desk: Desk = field(init=False)
    bucket: Unassigned = field(init=False)
    auditor: Auditor = field(init=False)

    def __attrs_post_init__(self) -> None:
        writer: Any = self.notebook
        self.desk = Desk(Activity(), capabilities=msgspec.structs.replace(EXPIRING, **self.can))
        self.bucket = Unassigned(name="paper", writer=writer)
        self.auditor = Auditor(
            name="paper",
            desk=self.desk,
            quotes=self.quotes,
            clock=TrioClock(),
            writer=writer,
            bucket=self.bucket,
            working=lambda: self.working,
            lots=lambda: self.lots,
            carries=self.carried.__contains__,
            doubts=self.doubts,
            doubt=self.doubt,
            deliver=lambda _, fact: self.box.tell(fact),
            pass_on=self.pass_on,
            inbox=lambda _: self.box if self.employed else None,
            owner_of_order=self.owner,
        )

    def doubt(self, order: Order, expires_at_ms: int) -> None:
        self.doubts[order.client_order_id] = expires_at_ms

    def owner(self, client_id: str) -> str | None:
        return STRATEGY_ID if client_id.startswith(ours().client_order_id[:18]) else None

    def pass_on(self, execution: Execution) -> bool:
        if self.owner(execution.client_order_id) is None:
            assert execution.fill is not None
            self.bucket.take(stray_fill(execution.fill, execution.fill.quantity, "paper", "nobody's"))
            return False
        self.box.tell(execution)
        return True

    def keep(self, entity: str, key: str, row: Any = None) -> None:
        """Have the journal know something."""
        self.notebook.rows[entity, key] = msgspec.json.encode(row)

    def show(self, order: Order, fact: OrderFact = OrderFact.ACK, filled: str = "0") -> None:
        self.desk.shown[order.client_order_id] = OrderView(
            client_order_id=order.client_order_id, symbol=order.symbol, fact=fact, filled=Decimal(filled), fills=()
        )

    @property
    def strays(self) -> list[str]:
        return list(self.bucket.found)
