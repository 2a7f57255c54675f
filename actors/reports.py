"""What the daemon answers about itself: status, health, actors, metrics, kill switch, caps, log level."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable
from decimal import Decimal
from typing import Any, Final, Protocol

import msgspec
from attrs import define, field

from actors.actor import Asker, Employed, Failures
from pipaid import __version__
from pipaid.engine.loosening import loosened
from pipaid.engine.quotes import Quotes
from pipaid.errors import InvalidState
from pipaid.logs import Level, level, set_level
from pipaid.model import paging, reply, report, request
from pipaid.model.ident import derived_id
from pipaid.model.moment import iso_millis
from pipaid.model.money import ZERO, quote_text
from pipaid.model.operation import OPERATIONS
from pipaid.model.strategy import Strategy, Tally
from pipaid.seams import World

CONFIRM_S: Final = 300.0
# Beyond, the oldest token is not good any more.
CONFIRMATIONS_MAX: Final = 64


class Gauge(Protocol):
    """Where figures come from; the daemon wires these to its parts."""

    def market(self) -> report.MarketFigures:
        """Return what the market does."""
        ...

    def journal(self) -> report.JournalFigures:
        """Return what the journal does."""
        ...

    def clients(self) -> report.ClientFigures:
        """Return who is connected."""
        ...

    def infrastructure(self) -> list[report.ActorObject]:
        """Return the children of the root, in start order."""
        ...

    def degraded(self) -> tuple[str, ...]:
        """Return why the daemon does not do all it should, or nothing."""
        ...

    def webhooks(self) -> report.WebhookFigures:
        """Return how webhooks fare."""
        ...

    def llm(self) -> report.LlmFigures:
        """Return how questions to models fare."""
        ...

    def frozen(self) -> tuple[report.FrozenSymbol, ...]:
        """Return the symbols on which nothing is entered, and by how much their positions differ."""
        ...

    def counters(self) -> dict[str, int | float]:
        """Return counters and gauges by name."""
        ...


class Watched(Protocol):
    """The conditions as the reports see them."""

    def current(self) -> tuple[report.ConditionObject, ...]: ...

    async def turns(self, limit: int, before: tuple[int, str] | None) -> list[report.ConditionTurn]: ...


class Switch(Protocol):
    """The portfolio as the reports see it."""

    kill: Any

    async def activate(self, reason: str, *, by: str, close_positions: bool) -> Any: ...

    async def deactivate(self, *, by: str) -> Any: ...

    async def logs(self, limit: int, before: tuple[int, str] | None) -> list[Any]: ...

    async def set_caps(self, values: dict[str, Any], *, by: str, looser: Collection[str] = ()) -> None: ...

    def risk(self) -> report.RiskObject: ...


class Reported(Protocol):
    """One strategy as the reports see it."""

    strategy: Strategy
    actor: Employed | None
    failures: Failures

    def figures(self) -> tuple[Tally, int, Decimal]: ...


@define(eq=False)
class Reports:
    """Answer the daemon's own operations; each method is named after its operation."""

    world: World
    quotes: Quotes
    gauge: Gauge
    switch: Switch
    conditions: Watched
    members: Callable[[], Iterable[Reported]]
    epoch: int
    end: Callable[[], None]
    reread: Callable[[], Awaitable[report.Reloaded]]
    stop_entries: Callable[[], None]
    started_s: float
    state: str = "starting"
    _confirmations: dict[str, float] = field(factory=dict[str, float])

    async def ping(self, caller: Asker, asked: request.Nothing) -> report.Pong:
        """Answer."""
        return report.Pong(ts=iso_millis(self.world.clock.now_us() // 1000))

    async def status(self, caller: Asker, asked: request.Nothing) -> report.DaemonStatus:
        """Show everything at a glance."""
        statuses: Counter[str] = Counter()
        positions, orders, total = 0, 0, ZERO
        for member in self.members():
            statuses[member.strategy.status.value] += 1
            tally, held, unrealised = member.figures()
            positions += held
            total += tally.pnl + unrealised
            orders += member.actor.shown_orders if member.actor is not None else 0
        conditions = self.conditions.current()
        return report.DaemonStatus(
            version=__version__,
            epoch=self.epoch,
            pid=self.world.env.pid(),
            state="degraded" if conditions and self.state == "running" else self.state,
            uptime_s=int(self.world.clock.monotonic_s() - self.started_s),
            venue_time=iso_millis(self.quotes.now_ms) if self.quotes.now_ms else None,
            market=self.gauge.market(),
            strategies=dict(sorted(statuses.items())),
            journal=self.gauge.journal(),
            clients=self.gauge.clients(),
            kill_switch=self._kill(),
            degraded=self.gauge.degraded(),
            log_level=level(),
            open_positions=positions,
            working_orders=orders,
            total_pnl=quote_text(total),
            conditions=conditions,
            webhooks=self.gauge.webhooks(),
            llm=self.gauge.llm(),
        )

    async def health(self, caller: Asker, asked: request.Nothing) -> report.Health:
        """Tell whether all is well."""
        degraded = self.gauge.degraded()
        verdict = "degraded" if degraded else "healthy"
        return report.Health(
            status=verdict if self.state == "running" else self.state,
            timestamp=iso_millis(self.world.clock.now_us() // 1000),
            degraded=degraded,
        )

    async def actors(self, caller: Asker, asked: request.Nothing) -> report.ActorTree:
        """Show the supervision tree."""
        strategies = tuple(_actor(member) for member in self.members() if member.actor is not None)
        rows: list[report.ActorObject] = []
        for row in self.gauge.infrastructure():
            mine = strategies if row.name == "roster" else ()
            rows.append(msgspec.structs.replace(row, children=mine))
        return report.ActorTree(data=tuple(rows))

    async def metrics(self, caller: Asker, asked: request.Nothing) -> report.Metrics:
        """Show counters and gauges."""
        return report.Metrics(data=self.gauge.counters())

    async def reload(self, caller: Asker, asked: request.Nothing) -> report.Reloaded:
        """Read the configuration again."""
        return await self.reread()

    async def drain(self, caller: Asker, asked: request.Nothing) -> report.Draining:
        """Take nothing new."""
        self.state = "draining"
        self.stop_entries()
        status = await self.status(caller, asked)
        return report.Draining(
            state=self.state, open_positions=status.open_positions, working_orders=status.working_orders
        )

    async def shutdown(self, caller: Asker, asked: request.Nothing) -> report.ShuttingDown:
        """End after this answer."""
        self.end()
        return report.ShuttingDown(state="stopping")

    async def log_level(self, caller: Asker, asked: request.LogLevel) -> report.LogLevelSet:
        """Change what is logged."""
        before = level()
        wanted: Level = asked.level
        set_level(wanted)
        return report.LogLevelSet(level=wanted, before=before)

    async def kill_get(self, caller: Asker, asked: request.Nothing) -> report.KillSwitch:
        """Show the kill switch."""
        return self._kill()

    async def kill_activate(self, caller: Asker, asked: request.KillActivate) -> report.KillSwitch:
        """Block entries everywhere."""
        await self.switch.activate(asked.reason, by=caller.who, close_positions=asked.close_positions)
        return self._kill()

    async def kill_deactivate(self, caller: Asker, asked: request.KillDeactivate) -> report.KillSwitch:
        """Allow entries again."""
        await self.switch.deactivate(by=caller.who)
        return self._kill()

    async def kill_logs(self, caller: Asker, asked: request.KillLogs) -> report.KillLogPage:
        """List what was done to it."""
        filters = paging.filters_hash("kill.logs", asked)
        before = paging.decode_cursor(asked.cursor, filters=filters, time_field="timestamp")
        found = await self.switch.logs(asked.limit + 1, before)
        page = found[: asked.limit]
        cursor = None
        if len(found) > asked.limit:
            cursor = paging.encode_cursor(page[-1].at_us, page[-1].id, filters=filters)
        return report.KillLogPage(data=tuple(_turn(entry) for entry in page), next_cursor=cursor)

    async def condition_logs(self, caller: Asker, asked: request.ConditionLogs) -> report.ConditionPage:
        """List turns of conditions."""
        filters = paging.filters_hash("condition.logs", asked)
        before = paging.decode_cursor(asked.cursor, filters=filters, time_field="")
        found = await self.conditions.turns(asked.limit + 1, before)
        page = found[: asked.limit]
        cursor = None
        if len(found) > asked.limit:
            cursor = paging.encode_cursor(page[-1].number, "", filters=filters)
        return report.ConditionPage(data=tuple(page), next_cursor=cursor)

    async def risk_get(self, caller: Asker, asked: request.Nothing) -> report.RiskObject:
        """Show the caps, and what stands against entries beside them."""
        return msgspec.structs.replace(self.switch.risk(), frozen=self.gauge.frozen())

    async def risk_set(self, caller: Asker, asked: request.RiskSet) -> report.RiskObject:
        """Change the caps: tightening at once, loosening when it is sent again with the token of its refusal."""
        changes = asked.changes()
        looser = sorted(loosened(msgspec.structs.asdict(self.switch.risk()), changes))
        if looser:
            self._confirm(changes, looser, asked.confirm)
        await self.switch.set_caps(changes, by=caller.who, looser=looser)
        return await self.risk_get(caller, request.Nothing())

    def _confirm(self, changes: dict[str, Any], loosened: list[str], token: str | None) -> None:
        now_s = self.world.clock.monotonic_s()
        self._confirmations = {key: until for key, until in self._confirmations.items() if until > now_s}
        if token is not None and self._confirmations.pop(f"{token}{sorted(changes.items())!r}", None) is not None:
            return
        fresh = derived_id("cfm", self.world.ids.entropy(8).hex())
        while len(self._confirmations) >= CONFIRMATIONS_MAX:
            del self._confirmations[next(iter(self._confirmations))]
        self._confirmations[f"{fresh}{sorted(changes.items())!r}"] = now_s + CONFIRM_S
        raise InvalidState(
            f"this loosens {', '.join(loosened)}; to confirm, send it again within {CONFIRM_S:.0f} s with "
            f'"confirm": "{fresh}"'
        )

    def _kill(self) -> report.KillSwitch:
        kill = self.switch.kill
        return report.KillSwitch(
            is_active=kill.is_active,
            reason=kill.reason or None,
            activated_at=iso_millis(kill.activated_at_us // 1000) if kill.activated_at_us else None,
            activated_by=kill.activated_by or None,
        )


def _actor(member: Reported) -> report.ActorObject:
    actor = member.actor
    assert actor is not None
    return report.ActorObject(
        name=f"strategy/{member.strategy.id}",
        kind="strategy",
        state="running" if actor.loaded else "restarting",
        restarts=member.failures.recent,
        last_failure=member.failures.last or None,
        mailbox=actor.waiting,
        mailbox_max=actor.waiting_max,
    )


def _turn(entry: Any) -> report.KillLog:
    return report.KillLog(
        id=entry.id, action=entry.action, reason=entry.reason, timestamp=iso_millis(entry.at_us // 1000), by=entry.by
    )


def operations_of(*answering: object) -> dict[str, Callable[[Asker, Any], Awaitable[reply.Reply]]]:
    """Return the operations that objects answer, by name: `strategy_create` answers `strategy.create`."""
    found: dict[str, Callable[[Asker, Any], Awaitable[reply.Reply]]] = {}
    for name in OPERATIONS:
        for each in answering:
            method = getattr(each, name.replace(".", "_"), None)
            if method is not None:
                found[name] = method
    return found
