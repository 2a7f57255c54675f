"""What strategies' operations answer: commands go to the lifecycle, questions to the roster and the journal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from heapq import nlargest
from typing import Any, Final, Protocol, TypeVar

import msgspec
import structlog
import trio
from attrs import define, field

from actors.actor import Asker, Employed, Failures, Guard, Writer, told_cause, without_cancelled
from pipaid.engine.assembly import Memory, larger_timeframes
from pipaid.engine.book import Book
from pipaid.engine.effects import Brain
from pipaid.engine.explanation import Past, Standing, explain, memory_at, recollect, warmed
from pipaid.engine.foretelling import notes_on
from pipaid.engine.holdings import reserve_of, seniority
from pipaid.engine.params import params_schema
from pipaid.engine.quotes import Quotes
from pipaid.engine.session import Session
from pipaid.engine.stakes import exposure_of
from pipaid.engine.template import Template
from pipaid.errors import InvalidParameter, InvalidState, NotFound, PipaidError, Unavailable
from pipaid.foretelling import pasts_of
from pipaid.model import paging, reply, report, request
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.model.moment import iso_millis, parse_iso
from pipaid.model.money import plain, quote_text
from pipaid.model.order import Order
from pipaid.model.position import Position
from pipaid.model.run import Cause, Evaluation, TaskType
from pipaid.model.strategy import QUARANTINED, Binding, Status, Strategy, StrategyDefinition, Tally
from pipaid.plugins import Catalogue
from pipaid.signals.series import Series
from pipaid.storage.store import Reader, Row

log = structlog.get_logger()
T = TypeVar("T", bound=msgspec.Struct)
# A strategy that commits every minute for ten days; beyond, the oldest that is known has to do.
VERSIONS_MAX: Final = 15_000
EVENTS_AT_ONCE: Final = 1_000
LOOKED_AT_MAX: Final = 100
SKIPPED_MAX: Final = 1_000
UNFORETOLD: Final = "how often it would have entered could not be counted"
# The events after which a strategy stands elsewhere.
STANDINGS: Final = frozenset({"deployed", "paused", "stopped", "error"})


class Listed(Protocol):
    """One strategy as the answers see it."""

    strategy: Strategy
    bindings: tuple[Binding, ...]
    failures: Failures
    actor: Employed | None

    @property
    def session(self) -> Session | None:
        """Return the session while it may be looked at."""
        ...

    @property
    def restarts(self) -> int:
        """Return how often the actor was restarted in the current period."""
        ...

    def figures(self) -> tuple[Tally, int, Decimal]:
        """Return the tally, the number of open positions and their unrealised profit."""
        ...


class Listing(Protocol):
    """The roster as the answers see it."""

    @property
    def members(self) -> Mapping[str, Listed]:
        """Return all strategies by id."""
        ...

    def member(self, account: str | None, strategy_id: str) -> Listed:
        """Return one that belongs to the account."""
        ...


class Commands(Protocol):
    """The lifecycle as the answers see it."""

    async def create(self, account: str | None, definition: StrategyDefinition, *, source: str = "") -> Strategy: ...

    async def update(self, account: str | None, id: str, changes: Mapping[str, Any]) -> Strategy: ...

    async def deploy(
        self, account: str | None, id: str, *, capital: Decimal | None, leverage: int | None, dry_run: bool
    ) -> Strategy: ...

    async def pause(self, account: str | None, id: str, *, close_positions: bool) -> Strategy: ...

    async def stop(self, account: str | None, id: str, *, close_positions: bool) -> Strategy: ...

    async def reset(self, account: str | None, id: str) -> Strategy: ...

    async def delete(self, account: str | None, id: str) -> None: ...

    async def trigger(self, account: str | None, id: str) -> list[str]: ...

    async def halt(self, account: str | None, id: str, *, code: str, message: str) -> Strategy: ...


@define(eq=False)
class Answers:
    """Answer the operations on strategies and templates; each method is named after its operation."""

    roster: Listing
    lifecycle: Commands
    writer: Writer
    quotes: Quotes
    catalogue: Catalogue
    past: Callable[[str, Timeframe, int], Awaitable[Series]]
    instruments: Callable[[], Mapping[str, Instrument]]
    books: Callable[[bool], Book]
    guard: Guard
    lacking: Callable[[StrategyDefinition, type[Template]], tuple[str, ...]] = field(
        default=lambda definition, template: ()
    )

    async def strategy_create(self, caller: Asker, asked: request.StrategyCreate) -> reply.StrategyObject:
        """Create a draft."""
        fields = msgspec.structs.asdict(asked)
        return await self._noted(await self.lifecycle.create(caller.account, StrategyDefinition(**fields)), caller)

    async def _noted(self, strategy: Strategy, caller: Asker) -> reply.StrategyObject:
        """Return a strategy with what to know of it."""
        made, notes = self._object(strategy.id, caller), await self.notes(strategy)
        return msgspec.structs.replace(made, notes=notes) if notes else made

    async def notes(self, strategy: Strategy) -> tuple[str, ...]:
        """Return what to know of a strategy as it is defined, if only that it could not be found out."""
        definition, template = strategy.definition, self.catalogue.get(strategy.definition.template_id)
        lacking: tuple[str, ...] = ()
        try:
            lacking = self.lacking(definition, template)
            if not template.foretells:
                return lacking
            read = self.guard.run_patiently(0, larger_timeframes, definition, template)
            timeframes = (definition.timeframe, *read)
            pasts = await pasts_of(self.past, definition.symbols, timeframes, self.quotes.now_ms)
            return (*lacking, *self.guard.run_patiently(0, notes_on, definition, template, pasts))
        except (PipaidError, OSError) as trouble:
            reason = str(trouble)
        except BaseException as trouble:  # a template's code runs in there, with all it may do
            if without_cancelled(trouble) is None:
                raise
            reason = told_cause(trouble)
        log.warning("strategy.unforetold", strategy_id=strategy.id, reason=reason)
        return (*lacking, UNFORETOLD)

    async def strategy_list(self, caller: Asker, asked: request.StrategyList) -> reply.StrategyPage:
        """List strategies, newest first."""
        if asked.template_id is not None:
            self.catalogue.get(asked.template_id)
        filters = paging.filters_hash("strategy.list", asked)
        before = paging.decode_cursor(asked.cursor, filters=filters)
        chosen = (
            member
            for member in self.roster.members.values()
            if caller.account in (None, member.strategy.account)
            and asked.status in (None, member.strategy.status)
            and asked.template_id in (None, member.strategy.definition.template_id)
            and (before is None or (member.strategy.created_at_us, member.strategy.id) < before)
        )
        found = nlargest(
            asked.limit + 1, chosen, key=lambda member: (member.strategy.created_at_us, member.strategy.id)
        )
        page, cursor = found[: asked.limit], None
        if len(found) > asked.limit:
            last = page[-1].strategy
            cursor = paging.encode_cursor(last.created_at_us, last.id, filters=filters)
        return reply.StrategyPage(data=tuple(shown(member) for member in page), next_cursor=cursor)

    async def strategy_get(self, caller: Asker, asked: request.Addressed) -> reply.StrategyObject:
        """Show one."""
        return self._object(asked.id, caller)

    async def strategy_update(self, caller: Asker, asked: request.StrategyUpdate) -> reply.StrategyObject:
        """Change one."""
        return await self._noted(await self.lifecycle.update(caller.account, asked.id, asked.changes()), caller)

    async def strategy_deploy(self, caller: Asker, asked: request.StrategyDeploy) -> reply.StrategyObject:
        """Let one trade."""
        await self.lifecycle.deploy(
            caller.account, asked.id, capital=asked.capital, leverage=asked.leverage, dry_run=asked.dry_run
        )
        return self._object(asked.id, caller)

    async def strategy_pause(self, caller: Asker, asked: request.StrategyLeave) -> reply.StrategyObject:
        """Let one open nothing new."""
        await self.lifecycle.pause(caller.account, asked.id, close_positions=asked.close_positions)
        return self._object(asked.id, caller)

    async def strategy_stop(self, caller: Asker, asked: request.StrategyLeave) -> reply.StrategyObject:
        """End one for good, and say what that leaves behind."""
        await self.lifecycle.stop(caller.account, asked.id, close_positions=asked.close_positions)
        stopped, member = self._object(asked.id, caller), self.roster.member(caller.account, asked.id)
        family = dict.fromkeys((asked.id, *(each.strategy_id for each in member.bindings)))
        notes = tuple(filter(None, (left_behind(self.roster.members[each]) for each in family)))
        return msgspec.structs.replace(stopped, notes=notes) if notes else stopped

    async def strategy_reset(self, caller: Asker, asked: request.Addressed) -> reply.StrategyObject:
        """Bring one back from error."""
        await self.lifecycle.reset(caller.account, asked.id)
        return self._object(asked.id, caller)

    async def strategy_delete(self, caller: Asker, asked: request.Addressed) -> reply.Deleted:
        """Delete one."""
        await self.lifecycle.delete(caller.account, asked.id)
        return reply.Deleted(id=asked.id)

    async def strategy_trigger(self, caller: Asker, asked: request.Addressed) -> reply.Triggered:
        """Evaluate one now."""
        return reply.Triggered(run_ids=tuple(await self.lifecycle.trigger(caller.account, asked.id)))

    async def sim_halt(self, caller: Asker, asked: request.Addressed) -> reply.StrategyObject:
        """Halt one as if beyond repair."""
        await self.lifecycle.halt(caller.account, asked.id, code="SIM_HALT", message="halted by an operator's request")
        return self._object(asked.id, caller)

    async def strategy_state(self, caller: Asker, asked: request.Addressed) -> report.StrategyState:
        """Show what it holds and remembers, all of it durable: what waits for the disk may be undone."""
        member = self.roster.member(caller.account, asked.id)
        seq, kept = await self.writer.read(partial(_kept, strategy_id=asked.id))
        session = member.session
        symbols: tuple[report.SymbolState, ...] = ()
        limits: dict[str, str | None] = {}
        next_ms: int | None = None
        entries = [(order, reserve_of(order)) for order in kept.orders if not order.reduce_only]
        if session is not None:
            symbols = tuple(self._symbol_state(session, kept, name) for name in session.strategy.in_effect.symbols)
            limits = {name: _text(value) for name, value in msgspec.to_builtins(session.limits).items()}
            if session.strategy.status is Status.DEPLOYED:
                next_ms = session.schedule.after(self.quotes.now_ms)
        return report.StrategyState(
            id=asked.id,
            status=member.strategy.status.value,
            may_not_enter=session.may_not_enter() if session is not None else member.strategy.status.value,
            next_occasion=None if next_ms is None else iso_millis(next_ms),
            limits=limits,
            exposure=quote_text(exposure_of(kept.positions, entries, orders=len(kept.orders)).total),
            evaluations=kept.brain.runs_made,
            held=session.held if session is not None else 0,
            holds=_holds(session) if session is not None else (),
            restarts=member.restarts,
            last_seq=seq,
            symbols=symbols,
        )

    async def strategy_why(self, caller: Asker, asked: request.StrategyWhy) -> report.Why:
        """Compute a past evaluation anew."""
        member = self.roster.member(caller.account, asked.id)
        strategy = member.strategy
        if strategy.fault is not None and strategy.fault.code == QUARANTINED:
            raise InvalidState(strategy.fault.message)
        symbol = asked.symbol or strategy.in_effect.symbols[0]
        if symbol not in strategy.in_effect.symbols:
            allowed = ", ".join(strategy.in_effect.symbols)
            reason = f"must be one of {allowed}, got {symbol}"
            raise InvalidParameter(f"symbol {reason}", details=(("symbol", reason),))
        at_ms = self.quotes.now_ms if asked.at is None else asked.at
        if at_ms > self.quotes.now_ms:
            reason = f"must not be later than venue time {iso_millis(self.quotes.now_ms)}"
            raise InvalidParameter(f"at {reason}", details=(("at", reason),))
        series = await self.past(symbol, strategy.in_effect.timeframe, at_ms)
        since_ms = at_ms if series.last is None else min(series.last.close_time_ms, at_ms)
        seen = partial(_evaluated, strategy_id=strategy.id, symbol=symbol, since_ms=since_ms, until_ms=at_ms)
        kept = await self.writer.read(seen)
        if kept is not None and kept.at_ms < at_ms:
            at_ms = kept.at_ms
        standing = await self.writer.read(partial(_standing_at, strategy=strategy, at_ms=at_ms))
        memory = await self.writer.read(partial(_memory_at, strategy_id=strategy.id, at_ms=at_ms))
        book = self.books(strategy.run is None or strategy.run.dry_run)
        past = Past(
            at_ms=at_ms,
            memory=memory,
            series=series,
            instrument=self.instruments()[symbol],
            caps=book.caps,
            blocked=book.blocked or book.tripped,
            kept=kept,
            standing=standing,
            asked=_was_asked(member.session, symbol, since_ms, at_ms),
        )
        template = self.catalogue.get(strategy.in_effect.template_id)
        shield = partial(self.guard.run_patiently, strategy.number)
        try:
            read = shield(larger_timeframes, strategy.in_effect, template)
            series.larger = {timeframe: await self.past(symbol, timeframe, at_ms) for timeframe in read}
            again = recollect(strategy, template, past, shield=shield)
            for _ in warmed(again, series):
                # Trading goes on meanwhile.
                await trio.lowlevel.checkpoint()
            return explain(strategy, again, past)
        except PipaidError:
            raise
        except BaseException as trouble:  # a template's code runs in there, with all it may do
            if without_cancelled(trouble) is None:
                raise
            spent_ms = getattr(trouble, "spent_ms", None)
            if spent_ms is not None:
                within = f"could not be computed again within {spent_ms} ms; try again"
                raise Unavailable(f"what {strategy.id} did {within}") from None
            raise InvalidState(f"the template failed at that candle: {told_cause(trouble)}") from None

    async def template_list(self, caller: Asker, asked: request.Nothing) -> report.TemplateList:
        """List templates."""
        refused = tuple(
            report.RefusedTemplate(template_id=name, reason=reason)
            for name, reason in sorted(self.catalogue.broken.items())
        )
        data = tuple(template_object(template) for _, template in sorted(self.catalogue.templates.items()))
        return report.TemplateList(data=data, refused=refused)

    async def template_get(self, caller: Asker, asked: request.Addressed) -> report.TemplateObject:
        """Show a template."""
        template = self.catalogue.templates.get(asked.id)
        if template is None:
            known = ", ".join(sorted(self.catalogue.templates))
            raise NotFound(f"there is no template {asked.id!r:.60}; known: {known}")
        return template_object(template)

    # What they share.

    def _object(self, id: str, caller: Asker) -> reply.StrategyObject:
        return shown(self.roster.member(caller.account, id))

    def _position(self, position: Position) -> reply.PositionObject:
        return reply.position_object(position, self.quotes.price(position.symbol) or None)

    def _symbol_state(self, session: Session, kept: Memory, symbol: str) -> report.SymbolState:
        series = session.series[symbol]
        price = self.quotes.price(symbol)
        # When it was last asked is no decision: one that came to nothing is not journalled.
        evaluated_ms = session.brain.evaluated.get(symbol)
        orders = [session.acknowledged(order) for order in kept.orders if order.symbol == symbol]
        return report.SymbolState(
            symbol=symbol,
            price=plain(price) if price else None,
            capital=quote_text(session.capital[symbol]),
            state=kept.brain.state.get(symbol, {}),
            features={feature.title: series.feature(feature).value for feature in session.features},
            positions=tuple(self._position(lot) for lot in kept.positions if lot.symbol == symbol),
            orders=tuple(map(reply.order_object, orders)),
            evaluated_at=iso_millis(evaluated_ms) if evaluated_ms else None,
        )


def _evaluated(reader: Reader, *, strategy_id: str, symbol: str, since_ms: int, until_ms: int) -> Evaluation | None:
    """Return the last evaluation that was kept of a symbol between two moments, seconds counted whole."""
    first_ms, end_ms = since_ms - since_ms % 1_000, until_ms - until_ms % 1_000 + 1_000
    rows = reader.page("run", owner=strategy_id, state=None, before=(end_ms, ""), limit=LOOKED_AT_MAX, since=first_ms)
    found = [run for run in _decoded(rows, Evaluation) if run.symbol == symbol]
    last = max(found, key=lambda run: (run.at_ms, run.number), default=None)
    # An occasion that was missed is told of later.
    rows = reader.page("run", owner=strategy_id, state="skipped", before=None, limit=SKIPPED_MAX, since=until_ms)
    for run in _decoded(rows, Evaluation):
        begun_ms = _missed_since_ms(run, symbol, until_ms)
        if begun_ms is not None and (last is None or last.at_ms < begun_ms):
            return run
    return last


def _missed_since_ms(run: Evaluation, symbol: str, at_ms: int) -> int | None:
    """Return the first of the occasions that a record says were missed on a symbol, if a moment lies among them."""
    told = run.steps[0].output if run.steps else {}
    decides = run.cause is Cause.SCHEDULE and run.task_type is TaskType.SIGNAL
    if not decides or symbol not in told.get("symbols", ()):
        return None
    first_ms, last_ms = parse_iso(told["first"]), parse_iso(told["last"])
    return first_ms if first_ms <= at_ms < last_ms + 1_000 else None


def left_behind(member: Listed) -> str:
    """Say which positions a strategy that was stopped leaves to nobody, if it does."""
    strategy, (_, count, _) = member.strategy, member.figures()
    if not count:
        return ""
    what = f"{'paper' if strategy.run is not None and strategy.run.dry_run else 'live'} position{'s' * (count > 1)}"
    stay = f"{count} {what} of {strategy.id} on {strategy.account} stay{'s' * (count == 1)} open"
    return f"{stay}, and nobody looks after what it left: its stops and targets are gone, so close it at the venue"


def _kept(reader: Reader, *, strategy_id: str) -> tuple[int, Memory]:
    """Return the number of a strategy's newest event, and what is durable of its memory since then at least."""
    seq, brain = reader.last_seq(strategy_id), reader.get("brain", strategy_id)
    orders = _decoded(reader.rows("order", owner=strategy_id, state="working"), Order)
    positions = _decoded(reader.rows("position", owner=strategy_id, state="open"), Position)
    return seq, Memory(
        brain=msgspec.json.decode(brain.data, type=Brain) if brain is not None else Brain(),
        orders=tuple(sorted(orders, key=lambda order: order.client_order_id)),
        positions=tuple(sorted(positions, key=seniority)),
    )


class _Told(msgspec.Struct, frozen=True):
    """As much of an event as says where a strategy stands."""

    event: str
    ts: str
    data: dict[str, Any]


def _standing_at(reader: Reader, *, strategy: Strategy, at_ms: int) -> Standing | None:
    """Return where a strategy stood at a moment, by the last event before that, as far as the log still knows."""
    decode, known, seq, n = msgspec.json.Decoder(_Told).decode, None, 0, 0
    while events := reader.events(strategy.id, after_seq=seq, after_n=n, limit=EVENTS_AT_ONCE):
        for event in events:
            seq, n = event.seq or seq, event.n
            if b'"status":' not in event.frame:
                continue
            told = decode(event.frame)
            if told.event not in STANDINGS:
                continue
            if parse_iso(told.ts) > at_ms:
                return known
            known = Standing(Status(told.data["status"]), parse_iso(told.ts), told.data.get("message", ""))
    return known or Standing(strategy.status, 0, strategy.fault.message if strategy.fault is not None else "")


def _was_asked(session: Session | None, symbol: str, since_ms: int, until_ms: int) -> bool | None:
    """Tell whether a template was asked about a symbol in a span and wished nothing, if that is still known."""
    holds = session.holds if session is not None else ()
    if any(of == symbol and since_ms <= at_ms <= until_ms for at_ms, of in holds):
        return True
    return False if any(at_ms < since_ms for at_ms, _ in holds) else None


def _holds(session: Session) -> tuple[report.Hold, ...]:
    return tuple(report.Hold(at=iso_millis(at_ms), symbol=symbol) for at_ms, symbol in reversed(session.holds))


def _memory_at(reader: Reader, *, strategy_id: str, at_ms: int) -> Memory:
    known = Memory()
    for data in reader.versions("brain", strategy_id, limit=VERSIONS_MAX):
        known = Memory(brain=msgspec.json.decode(data, type=Brain))
        if known.brain.at_ms < at_ms:
            break
    positions = _decoded(reader.rows("position", owner=strategy_id), Position)
    orders = _decoded(reader.rows("order", owner=strategy_id), Order)
    return memory_at(known, positions, orders, at_ms)


def shown(member: Listed) -> reply.StrategyObject:
    """Return a strategy with its figures of this moment."""
    tally, open_positions, unrealised = member.figures()
    return reply.strategy_object(
        member.strategy,
        tally,
        open_positions=open_positions,
        unrealised=unrealised,
        restarting=_restarting(member),
        bindings=member.bindings,
    )


def _restarting(member: Listed) -> str | msgspec.UnsetType:
    """Say why an actor is not there at the moment, and how many of its starts are used up."""
    failures = member.failures
    if member.actor is None or member.actor.loaded or not failures.recent or member.strategy.fault is not None:
        return msgspec.UNSET
    return f"{failures.recent} of {failures.intensity.restarts_max}: {failures.last}"


def template_object(template: type[Template]) -> report.TemplateObject:
    """Return a template as listings show it."""
    return report.TemplateObject(
        template_id=template.id,
        version=template.version,
        description=template.description,
        min_capital=quote_text(template.capital_min),
        multi_symbol=template.multi_symbol,
        params_schema=params_schema(template),
    )


def _decoded(rows: Iterable[Row], kind: type[T]) -> list[T]:
    decoder = msgspec.json.Decoder(kind)
    return [decoder.decode(row.data) for row in rows]


def _text(value: Any) -> str | None:
    if isinstance(value, dict | list | tuple):
        return msgspec.json.encode(value).decode()
    return None if value is None else str(value)
