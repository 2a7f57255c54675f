"""What strategies did, as the journal tells it: their orders, positions, trades, evaluations and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeVar, cast

import msgspec
from attrs import define

from actors.actor import Asker, Writer
from pipaid.engine.effects import Brain
from pipaid.engine.quotes import Quotes
from pipaid.engine.session import Session
from pipaid.engine.statistics import Mode, Share, strategy_statistics
from pipaid.errors import NotFound
from pipaid.model import paging, reply, report, request
from pipaid.model.order import Order
from pipaid.model.position import Position
from pipaid.model.run import Cause, Evaluation, TaskType
from pipaid.model.strategy import Strategy, Tally
from pipaid.storage.merging import newest
from pipaid.storage.store import Reader, Row

T = TypeVar("T", bound=msgspec.Struct)


class Listed(Protocol):
    """One strategy as its records see it."""

    strategy: Strategy

    @property
    def session(self) -> Session | None:
        """Return the session while it may be looked at."""
        ...


class Listing(Protocol):
    """The roster as the records see it."""

    @property
    def members(self) -> Mapping[str, Listed]:
        """Return all strategies by id."""
        ...

    def member(self, account: str | None, strategy_id: str) -> Listed:
        """Return one that belongs to the account."""
        ...

    def owner_of(self, strategy_id: str) -> str | None:
        """Return the account that owns a strategy."""
        ...

    def lineage(self, strategy_id: str) -> tuple[str, ...]:
        """Return a strategy and all that ever followed it, those that are gone as well."""
        ...


class _Sought(msgspec.Struct, frozen=True):
    """As much of an evaluation as filters ask about."""

    symbol: str
    cause: Cause
    task_type: TaskType = TaskType.SIGNAL


class _Made(msgspec.Struct, frozen=True):
    """As much of a fill as is asked about it."""

    dry_run: bool


@define(eq=False)
class Records:
    """Answer what is asked about the past of strategies; each method is named after its operation.

    What is asked of a strategy is answered for all that follow it, or ever did, as well. The trades, figures and
    evaluations of one that is gone stay readable as long as their records are kept.
    """

    roster: Listing
    writer: Writer
    quotes: Quotes

    async def strategy_orders(self, caller: Asker, asked: request.StrategyOrders) -> reply.OrderPage:
        """List its orders."""
        self.roster.member(caller.account, asked.id)
        rows, cursor = await self._page("order", caller, asked, state=asked.state, time_field="placed_at")
        orders = map(self._acknowledged, _decoded(rows, Order))
        return reply.OrderPage(data=tuple(map(reply.order_object, orders)), next_cursor=cursor)

    async def strategy_positions(self, caller: Asker, asked: request.StrategyPositions) -> reply.PositionPage:
        """List its positions."""
        self.roster.member(caller.account, asked.id)
        rows, cursor = await self._page("position", caller, asked, state=asked.state, time_field="opened_at")
        price = self.quotes.price
        data = tuple(reply.position_object(each, price(each.symbol) or None) for each in _decoded(rows, Position))
        return reply.PositionPage(data=data, next_cursor=cursor)

    async def strategy_trades(self, caller: Asker, asked: request.StrategyTrades) -> reply.TradePage:
        """List its closed positions."""
        rows, cursor = await self._page("position", caller, asked, state="closed", time_field="closed_at")
        return reply.TradePage(data=tuple(map(reply.trade_object, _decoded(rows, Position))), next_cursor=cursor)

    async def strategy_runs(self, caller: Asker, asked: request.StrategyRuns, *, skip: int = 0) -> reply.RunPage:
        """List its evaluations, from the one after the first `skip` on."""
        decode = msgspec.json.Decoder(_Sought).decode
        sought = (asked.symbol, asked.cause, asked.task_type)

        def chosen(row: Row) -> bool:
            run = decode(row.data)
            of_run = (run.symbol, run.cause, run.task_type)
            return all(wanted in (None, found) for wanted, found in zip(sought, of_run, strict=True))

        rows, cursor = await self._page(
            "run",
            caller,
            asked,
            state=None if asked.status is None else asked.status.value,
            time_field="created_at",
            since=asked.start,
            until=asked.end,
            chosen=None if sought == (None, None, None) else chosen,
            skip=skip,
        )
        return reply.RunPage(data=tuple(map(reply.run_object, _decoded(rows, Evaluation))), next_cursor=cursor)

    async def run_get(self, caller: Asker, asked: request.Addressed) -> reply.RunObject:
        """Show one evaluation."""
        row = await self.writer.read(lambda reader: reader.get("run", asked.id))
        if row is not None:
            # What is hidden from the caller looks like what is not there, and so does what was dropped.
            try:
                await self._lineage(caller, row.owner)
                return reply.run_object(msgspec.json.decode(row.data, type=Evaluation), steps=True)
            except NotFound:
                pass
        raise NotFound(
            f"there is no evaluation {asked.id!r:.60}: it never was, or newer ones have taken its place; [journal] "
            "runs_kept says how many of each strategy are kept, and those of a deleted one go after a while"
        )

    async def strategy_stats(self, caller: Asker, asked: request.StrategyStats) -> report.StrategyStatistics:
        """Show its figures."""
        accounts = await self._lineage(caller, asked.id, asked.account_id)
        shares = await self.writer.read(partial(_shares, accounts=accounts, apart=asked.mode != "all"))
        symbols = {position.symbol for share in shares for position in share.positions if position.is_open}
        marks = {symbol: self.quotes.price(symbol) for symbol in sorted(symbols)}
        modes = cast("list[Mode]", asked.mode.split(","))
        return strategy_statistics(asked.id, modes, shares, marks=marks, account=asked.account_id or "")

    # What they share.

    async def _lineage(self, caller: Asker, id: str, account: str | None = None) -> dict[str, str]:
        """Return the account of a strategy and of all that ever followed it, by id, or those on one account only."""
        ids = self.roster.lineage(id)
        members = self.roster.members
        gone = [each for each in ids if each not in members]
        strategies = await self.writer.read(partial(_strategies, ids=gone)) if gone else {}
        strategies.update({each: members[each].strategy for each in ids if each in members})
        first = strategies.get(id)
        if first is None or caller.account not in (None, first.account, await self._owner_of(first.follows)):
            raise NotFound(f"there is no strategy {id!r:.60}")
        accounts = {each: strategies[each].account for each in ids if each in strategies}
        if account is not None and account not in accounts.values():
            raise NotFound(f"strategy {id!r:.60} has nothing on account {account!r:.60}, and never had")
        return {each: own for each, own in accounts.items() if account in (None, own)}

    async def _owner_of(self, id: str) -> str | None:
        """Return the account of whom another strategy follows, if it follows anybody."""
        if not id or id in self.roster.members:
            return self.roster.owner_of(id)
        leader = (await self.writer.read(partial(_strategies, ids=[id]))).get(id)
        return None if leader is None else leader.account

    async def _page(
        self,
        entity: str,
        caller: Asker,
        asked: request.StrategyOrders | request.StrategyPositions | request.StrategyTrades | request.StrategyRuns,
        *,
        state: str | None,
        time_field: str,
        since: int | None = None,
        until: int | None = None,
        chosen: Callable[[Row], bool] | None = None,
        skip: int = 0,
    ) -> tuple[list[Row], str | None]:
        owners = list(await self._lineage(caller, asked.id, asked.account_id))
        filters = paging.filters_hash(f"{entity}.{asked.id}", asked)
        unit = paging.US_PER_MS
        before = paging.decode_cursor(asked.cursor, filters=filters, time_field=time_field, unit_us=unit)
        if until is not None and (before is None or before[0] >= until):
            before = (until, "")

        def page(reader: Reader) -> list[Row]:
            rows = newest(reader, entity, owners, state=state, before=before, since=since, chosen=chosen)
            return list(islice(rows, skip, skip + asked.limit + 1))

        rows = await self.writer.read(page)
        if len(rows) <= asked.limit:
            return rows, None
        last = rows[asked.limit - 1]
        return rows[: asked.limit], paging.encode_cursor(last.sort, last.key, filters=filters, unit_us=unit)

    def _acknowledged(self, order: Order) -> Order:
        member = self.roster.members.get(order.strategy_id)
        session = None if member is None else member.session
        return order if session is None else session.acknowledged(order)


def _strategies(reader: Reader, *, ids: Sequence[str]) -> dict[str, Strategy]:
    rows = [reader.get("strategy", each) for each in ids]
    return {row.key: msgspec.json.decode(row.data, type=Strategy) for row in rows if row is not None}


def _shares(reader: Reader, *, accounts: Mapping[str, str], apart: bool) -> list[Share]:
    """Return all positions that strategies ever had, and what is durable of their lifetime sums.

    Their fills on paper are counted only if they are told apart from the live ones.
    """
    shares: list[Share] = []
    for each, account in accounts.items():
        brain = reader.get("brain", each)
        tally = msgspec.json.decode(brain.data, type=Brain).tally if brain is not None else Tally()
        positions = _decoded(reader.rows("position", owner=each), Position)
        fills: list[_Made] = _decoded(reader.rows("fill", owner=each), _Made) if apart else []
        paper = sum(fill.dry_run for fill in fills)
        shares.append(Share(strategy_id=each, account=account, positions=positions, tally=tally, paper_fills=paper))
    return shares


def _decoded(rows: Iterable[Row], kind: type[T]) -> list[T]:
    decoder: Any = msgspec.json.Decoder(kind)
    return [decoder.decode(row.data) for row in rows]
