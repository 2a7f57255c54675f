"""The composition root: a configuration becomes a supervision tree, and this is the only file that knows everybody."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import msgspec
import trio
from attrs import define, field

from actors.actor import Employed, Intensity
from actors.answers import Answers
from actors.backtests import Backtests
from actors.callers import Callers, callers_of
from actors.certificates import Certificates
from actors.checks import Checks
from actors.conditions import WORD, Conditions
from actors.consultant import Consultant
from actors.consulting import consultant_of
from actors.control import ControlServer, Door
from actors.declarer import Declarer
from actors.doors import CONTROL, FORWARD, OBSERVE, Doors
from actors.families import Families
from actors.feed import Feed, MarketPosition
from actors.front import Front
from actors.hooks import Hooks, hooks_of
from actors.hub import Hub
from actors.jobs import Owners, backtests_of
from actors.lifecycle import Lifecycle
from actors.lookout import Lookout
from actors.portfolio import Portfolio
from actors.posts import NAMES, Posts
from actors.recollection import recollect
from actors.recorder import Recorder
from actors.rehearsal import Rehearsal
from actors.remembered import JournalMemory, Repeats
from actors.reports import Reports, operations_of
from actors.roster import Roster, halt
from actors.scales import Scales, memory_limit
from actors.strategy import StrategyActor
from actors.stream import StreamServer
from actors.supervisor import ChildSpec, Supervisor
from actors.surfaces import (
    bindings_of,
    certificates_of,
    checks_of,
    dialect_of,
    gate_of,
    gauges_of,
    known_of,
    records_of,
    retention_of,
    stream_of,
)
from actors.upkeep import Upkeep
from actors.vitals import Carrying, Heartbeat, Vital
from actors.watchdog import BlackBox, Guard
from pipaid.config import Config, load_config, master_key
from pipaid.engine.quotes import Quotes
from pipaid.engine.risk import Book
from pipaid.engine.session import Session
from pipaid.logs import get_log, set_level
from pipaid.model.account import OWNER
from pipaid.model.condition import Condition
from pipaid.model.report import Reloaded
from pipaid.model.strategy import Strategy
from pipaid.plugins import Catalogue, load_templates
from pipaid.seams import World
from pipaid.storage.derived import holders
from pipaid.storage.sqlite import SqliteJournal
from pipaid.storage.store import JournalLost
from pipaid.venues.opening import SimulatedVenues, Venues
from pipaid.venues.venue import Market
from pipaid.wire.activity import Activity
from pipaid.wire.caller import Limits as ControlLimits
from pipaid.wire.caller import Role
from pipaid.wire.systemd import Notifier, activated, listeners

JOURNAL: Final = "journal.db"
KILL_FILE: Final = "KILL"
SHUTDOWN_ANSWER_S: Final = 1.0


@define(eq=False)
class Daemon:
    """Hold the parts, in the order in which they depend on each other; unless `threaded`, in one thread alone.

    `front` runs with it and is none of it.
    """

    config: Config
    world: World
    journal: SqliteJournal
    guard: Guard
    box: BlackBox
    venues: Venues = field(factory=SimulatedVenues)
    catalogue: Catalogue = field(factory=load_templates)
    threaded: bool = True
    front: Front | None = None
    activity: Activity = field(factory=Activity)
    quotes: Quotes = field(factory=Quotes)
    ending: trio.Event = field(factory=trio.Event)
    heartbeat: Heartbeat = field(factory=Heartbeat)
    notifier: Notifier = field(init=False)
    hub: Hub = field(init=False)
    recorder: Recorder = field(init=False)
    conditions: Conditions = field(init=False)
    feed: Feed = field(init=False)
    roster: Roster = field(init=False)
    posts: Posts = field(init=False)
    rehearsal: Rehearsal = field(init=False)
    portfolio: Portfolio = field(init=False)
    checks: Checks = field(init=False)
    lifecycle: Lifecycle = field(init=False)
    families: Families = field(init=False)
    backtests: Backtests = field(init=False)
    callers: Callers = field(init=False)
    hooks: Hooks = field(init=False)
    consultant: Consultant = field(init=False)
    control: ControlServer = field(init=False)
    stream: StreamServer | None = field(init=False, default=None)
    reports: Reports = field(init=False)
    certificates: Certificates = field(init=False)
    doors: Doors = field(init=False)
    upkeep: Upkeep = field(init=False)
    lookout: Lookout = field(init=False)
    declarer: Declarer = field(init=False)
    supervisor: Supervisor = field(init=False)
    books: dict[bool, Book] = field(init=False)

    # Building, in the order of dependence.

    async def build(self) -> None:
        """Make every part and read what the journal knows; nothing runs yet."""
        config, world = self.config, self.world
        self.notifier = Notifier.from_environment(world.env.variables())
        self.recorder = Recorder(
            self.journal,
            lambda events: self.hub.publish(events),
            world.clock,
            self.activity,
            threaded=self.threaded,
        )
        self.conditions = Conditions(world, self.recorder, config.daemon.state_dir / WORD)
        await self.conditions.load()
        market = self._market()
        # A replay waits for what it causes at any speed: no back-off holds it up, and its data cannot go stale.
        lockstep = config.market.speed == "max" or config.market.kind == "replay"
        self.feed = Feed(
            market=market,
            quotes=self.quotes,
            writer=self.recorder,
            guard=self.guard,
            clock=world.clock,
            activity=self.activity,
            stale_after_s=0.0 if lockstep else float(config.risk.data_age_max_s),
        )
        await self.feed.prepare()
        self.books = {dry: Book(caps=config.risk.caps(), name=name) for dry, name in NAMES.items()}
        self._build_roster(lockstep=lockstep)
        await self.roster.load()
        await recollect(self.recorder, self.books.__getitem__, self.roster.working(), self.quotes.now_ms)
        self.posts = Posts(self.venues, config.desk, world.clock, self.activity, self.feed, self.roster, self.recorder)
        await self.posts.open()
        self._build_commands()
        await self.portfolio.load()
        await self.backtests.load()
        await self.callers.load()
        await self.hooks.load()
        await self.consultant.load()
        await self._build_surfaces()
        self.supervisor = Supervisor(self._tree(), world, Intensity.of(config), stop_s=float(config.daemon.shutdown_s))

    def _market(self) -> Market:
        row = self.journal.get("market", self.config.market.kind)
        known = msgspec.json.decode(row.data, type=MarketPosition) if row is not None else None
        return self.venues.market(
            self.config.market,
            self.world,
            self.activity,
            resume_ms=known.time_ms if known is not None else None,
            listed_ms=known.listed_ms if known is not None else None,
        )

    def _build_roster(self, *, lockstep: bool) -> None:
        self.roster = Roster(
            world=self.world,
            writer=self.recorder,
            keeper=self.feed,
            catalogue=self.catalogue,
            quotes=self.quotes,
            guard=self.guard,
            activity=self.activity,
            books=self.books.__getitem__,
            make_actor=self._actor,
            intensity=Intensity.of(self.config),
            overruns_max=self.config.guard.overruns_max,
            lockstep=lockstep,
            runs_kept=self.config.journal.runs_kept,
            tariffs=self.config.llm.tariffs,
        )

    def _actor(self, strategy: Strategy, load: Callable[[], Awaitable[Session]]) -> Employed:
        return StrategyActor(
            id=strategy.id,
            number=strategy.number,
            writer=self.recorder,
            guard=self.guard,
            clock=self.world.clock,
            activity=self.activity,
            load=load,
            carriers=lambda dry: self.posts[dry].gateway,
            on_interest=self._seat,
            on_become=self.roster.became,
            on_stray=lambda stray: self.posts.take(stray),
            consult=lambda question, answered: self.consultant.consult(question, answered),
        )

    def _seat(self, actor: Employed, symbol: str) -> None:
        self.feed.seat(actor, symbol, actor.session.strategy.in_effect.timeframe)

    def _build_commands(self) -> None:
        roster = self.roster
        self.portfolio = Portfolio(
            world=self.world,
            writer=self.recorder,
            books=self.books,
            gateways=[post.gateway for post in self.posts.all.values()],
            employed=roster.employed,
            configured=self.config.risk.caps(),
            kill_file=self.config.daemon.state_dir / KILL_FILE,
            conditions=self.conditions,
        )
        self.conditions.on_change = self.portfolio.heed
        self.consultant = consultant_of(self)
        self.checks = checks_of(self)
        self.lifecycle = Lifecycle(
            world=self.world,
            writer=self.recorder,
            roster=roster,
            checked=self.checks.checked,
            venue_ms=lambda: self.quotes.now_ms,
            halt_session=halt,
            forget_lots=lambda dry, lots: self.posts[dry].desk.forget_lots(lots),
            short=lambda: self.conditions.holds(Condition.MEMORY),
            permit=lambda account, dry_run: self.callers.accounts.permit(account, dry_run=dry_run),
            able=self.checks.able,
        )
        self.backtests = backtests_of(self)
        master = master_key(self.config.daemon.state_dir, self.world, holders=holders(self.journal)).reveal()
        self.hooks = hooks_of(self, master)
        self.hub = Hub(self.recorder, Owners(roster, self.backtests), self.hooks.notice)
        self.callers = callers_of(self.recorder, self.world, master, self._expel)
        self.families = Families(self.lifecycle, self.roster)

    def _expel(self, api_key: str) -> None:
        if self.stream is not None:
            self.stream.expel(api_key)

    async def _build_surfaces(self) -> None:
        config, world = self.config, self.world
        self.reports = Reports(
            world=world,
            quotes=self.quotes,
            gauge=gauges_of(self, config.daemon.state_dir / JOURNAL),
            switch=self.portfolio,
            conditions=self.conditions,
            members=self.roster.members.values,
            epoch=self.journal.epoch,
            end=self.end,
            reread=self.reread,
            stop_entries=self._drain,
            started_s=world.clock.monotonic_s(),
        )
        answers = Answers(
            roster=self.roster,
            lifecycle=self.families,
            writer=self.recorder,
            quotes=self.quotes,
            catalogue=self.roster.catalogue,
            past=self.feed.past,
            instruments=lambda: self.feed.instruments,
            books=self.books.__getitem__,
            guard=self.guard,
            lacking=self.checks.lacking,
        )
        self.rehearsal = Rehearsal({post.name: post.desk for post in self.posts.all.values()}, self.feed.market)
        repeats = Repeats(JournalMemory(self.recorder), world.clock)
        await repeats.load()
        gate = gate_of(config.ratelimit, world.clock, self.callers.keys, self.callers.tokens)
        (board, signals), bindings, records = known_of(self.feed, world.clock), bindings_of(self), records_of(self)
        spoken = dialect_of(self, answers, records, bindings)
        surfaces = (records, spoken, bindings, self.reports, self.rehearsal, board, signals)
        self.control = ControlServer(
            operations=operations_of(answers, *surfaces, *self.callers.all, self.backtests, self.hooks.webhooks),
            events=self.hub,
            owner_of=self.hub.owners.owner_of,
            repeats=repeats,
            gate=gate,
            clock=world.clock,
            ids=world.ids,
            limits=ControlLimits(clients_max=config.control.clients_max, idle_s=float(config.control.idle_s)),
        )
        self._build_doors()
        if config.stream.enabled:
            known, keys = self.hub.owners.owner_of, self.callers.keys
            self.stream = stream_of(config.stream, world, self.hub, keys, gate=gate, owner_of=known, board=board)

    def _build_doors(self) -> None:
        config, world = self.config, self.world
        self.certificates = certificates_of(config, world, self.conditions, self.front)
        self.doors = Doors(
            world=world,
            folder=config.runtime_dir,
            mode=config.control.mode_bits,
            host=config.stream.host,
            port=config.stream.port,
            tls=self.certificates.context_of("stream"),
            given=listeners(activated(world.env.variables(), pid=world.env.pid())),
            conditions=self.conditions,
            streaming=config.stream.enabled,
        )
        self.upkeep = Upkeep(
            world=world,
            recorder=self.recorder,
            switch=self.portfolio,
            market=self.feed.market,
            kill_file=config.daemon.state_dir / KILL_FILE,
            events_kept=config.journal.events_kept,
            events_kept_us=config.journal.events_kept_us,
            prune_every_s=config.journal.prune_every_s,
            held_n=self.hooks.held_n,
            prune_rows=retention_of(self).prune,
        )
        self.lookout = Lookout(
            world=world,
            conditions=self.conditions,
            recorder=self.recorder,
            state_dir=config.daemon.state_dir,
            free_bytes_min=config.journal.free_bytes_min,
        )

    def vitals(self) -> dict[str, Vital]:
        """Return what has to go on while the daemon lives."""
        return {"loop": self.heartbeat, "journal": Carrying(self.recorder), "callbacks": self.box}

    def _scales(self) -> Scales:
        return Scales(
            clock=self.world.clock,
            env=self.world.env,
            guard=self.guard,
            limit=memory_limit(self.config.guard.memory_mib_max, self.world.disk),
            enter=lambda detail: self.conditions.enter(Condition.MEMORY, detail),
            leave=lambda: self.conditions.leave(Condition.MEMORY),
            named=self._name_of,
        )

    def _name_of(self, number: int) -> str:
        found = (each.strategy for each in self.roster.members.values() if each.strategy.number == number)
        return next((f"{strategy.definition.name} ({strategy.id})" for strategy in found), f"number {number}")

    # The tree, in start order.

    def _tree(self) -> list[ChildSpec]:
        self.declarer = Declarer(
            account=OWNER,
            declarations=self.config.declarations,
            commands=self.families,
            found=self.roster.named,
            wait_for=None if self.quotes.prices else self.feed.first_close,
            gate=self.feed.gate,
        )
        posts = list(self.posts.all.values())
        tree = [ChildSpec(name="recorder", start=self._record, restart="vital")]
        # A gateway brings news from its first moment, so those whom it concerns are there before it.
        tree += [ChildSpec(name="roster", start=self.roster.run)]
        tree += [ChildSpec(name=f"gateway/{post.name}", start=post.gateway.run) for post in posts]
        tree += [
            ChildSpec(name="reconciliation", start=self._reconcile, restart="transient"),
            ChildSpec(name="portfolio", start=self.portfolio.run),
            ChildSpec(name="lookout", start=self.lookout.run),
        ]
        tree += [ChildSpec(name=f"resolver/{post.name}", start=post.resolver.run) for post in posts]
        tree += [ChildSpec(name=f"auditor/{post.name}", start=post.auditor.run) for post in posts]
        tree += [
            # A start that cannot have its sockets ends before it trades.
            ChildSpec(name="doors", start=self.doors.hold),
            ChildSpec(name="declarer", start=self.declarer.run, restart="transient"),
            ChildSpec(name="feed", start=self.feed.run, restart="transient"),
            ChildSpec(name="control", start=self._serve_control),
            ChildSpec(name="stream", start=self._serve_stream, restart="transient"),
            *([ChildSpec(name="http", start=self.front.run)] if self.front is not None else []),
            *([ChildSpec(name="certificates", start=self.certificates.run)] if self.certificates else []),
            ChildSpec(name="upkeep", start=self.upkeep.run),
            ChildSpec(name="scales", start=self._scales().run),
            ChildSpec(name="backtests", start=self.backtests.run),
            *self.hooks.children(),
            *([ChildSpec(name="consultant", start=self.consultant.run)] if self.consultant.lines else []),
            ChildSpec(name="readiness", start=self._be_ready, restart="transient"),
        ]
        return tree

    async def _record(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            await self.recorder.run(task_status=task_status)
        except JournalLost as lost:
            # Nothing that follows can be made durable: what rests is taken back while the parts for it still stand.
            self.conditions.enter(Condition.JOURNAL, lost.message)
            await self.portfolio.forsake(lost)
            self.conditions.leave_word(lost)
            raise

    async def _reconcile(self, task_status: trio.TaskStatus[None]) -> None:
        for post in self.posts.all.values():
            await post.reconcile(patience=lambda: self.notifier.extend(60))
        task_status.started()

    async def _serve_control(self, task_status: trio.TaskStatus[None]) -> None:
        roles = {CONTROL: Role.OPERATE, OBSERVE: Role.OBSERVE, FORWARD: Role.FORWARD}
        found = await self.doors.control()
        doors = [Door(listener=each, role=roles[name]) for name, given in found.items() for each in given]
        await self.control.run(doors, task_status)

    async def _serve_stream(self, task_status: trio.TaskStatus[None]) -> None:
        if self.stream is None:
            task_status.started()
            return
        given = await self.doors.stream()
        task_status.started()
        await self.stream.run(given)

    async def _be_ready(self, task_status: trio.TaskStatus[None]) -> None:
        """Say that the daemon trades."""
        self.reports.state = "running"
        strategies = len(self.roster.members)
        self.notifier.ready(f"{strategies} strategies on {self.feed.market.name}")
        get_log().info("daemon.ready", strategies=strategies, market=self.feed.market.name, epoch=self.journal.epoch)
        task_status.started()

    # The end.

    def end(self) -> None:
        """Begin to end, in order."""
        self.ending.set()

    def _drain(self) -> None:
        self.lifecycle.closed = "draining"
        self.portfolio.drain()

    async def reread(self) -> Reloaded:
        """Read the configuration again: new certificates, log level and tighter caps at once, all else at a restart."""
        self.notifier.reloading(monotonic_us=round(self.world.clock.monotonic_s() * 1_000_000))
        try:
            taken = self.certificates.reload()
            before = self.config
            fresh = load_config(before.path, self.world, overrides={"daemon.state_dir": str(before.daemon.state_dir)})
        finally:
            self.notifier.ready()
        set_level(fresh.log.level)
        reloaded = attrs.evolve(before, log=attrs.evolve(before.log, level=fresh.log.level))
        if not self.portfolio.loosens(fresh.risk.caps()):
            # What loosens a cap needs two steps and is audited: that is `risk set`, or a restart.
            self.portfolio.reconfigure(fresh.risk.caps())
            risk = attrs.evolve(before.risk, account=fresh.risk.account, daemon=fresh.risk.daemon)
            reloaded = attrs.evolve(reloaded, risk=risk)
        self.config = reloaded
        changed, waiting = [*taken, *reloaded.differences(before)], fresh.differences(reloaded)
        get_log().info("daemon.reloaded", changed=changed, needs_restart=waiting)
        return Reloaded(changed=tuple(changed), needs_restart=tuple(waiting))

    async def wind_down(self) -> None:
        """Wait until the daemon is to end, then give the last request its answer."""
        if self.config.daemon.exit_at_end:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_with_market)
                await self.ending.wait()
                nursery.cancel_scope.cancel()
        await self.ending.wait()
        self.reports.state = "stopping"
        self.notifier.stopping("stopping")
        get_log().info("daemon.stopping")
        with trio.move_on_after(SHUTDOWN_ANSWER_S):
            await self.control.quiet()

    async def _end_with_market(self) -> None:
        await self.feed.ended.wait()
        self.end()
