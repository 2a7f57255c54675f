"""What the surfaces are made of: parts that the composition root puts together out of the configuration alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from actors.actor import Phase
from actors.answers import Answers
from actors.bindings import Bindings
from actors.broadcast import Broadcast
from actors.callers import Callers
from actors.certificates import Certificates, Watched
from actors.checks import Checks
from actors.conditions import Conditions
from actors.consultant import Consultant
from actors.control import ControlServer
from actors.declarer import Declarer
from actors.dialect import Dialect
from actors.families import Families
from actors.feed import Feed
from actors.front import Front
from actors.gauges import Gauges
from actors.hooks import Hooks
from actors.keys import KeyRing
from actors.lifecycle import Lifecycle
from actors.market import Board
from actors.posts import Posts
from actors.quarantine import stalled
from actors.recorder import Recorder
from actors.records import Records
from actors.rehearsal import Rehearsal
from actors.retention import Retention
from actors.roster import Roster
from actors.signals import Signals
from actors.stream import StreamLimits, StreamServer
from actors.supervisor import Supervisor
from actors.tokens import Tokens
from actors.watchdog import Guard
from pipaid.config import Config
from pipaid.config.sections import RateLimit, Sections, Stream
from pipaid.engine.quotes import Quotes
from pipaid.engine.risk import Book
from pipaid.model.strategy import QUARANTINED
from pipaid.seams import Clock, World
from pipaid.storage.sqlite import SqliteJournal
from pipaid.wire.activity import Activity
from pipaid.wire.budget import Budgets
from pipaid.wire.gate import Gate
from pipaid.wire.identity import Identity
from pipaid.wire.tap import EventSource


class Parts(Protocol):
    """The parts of a daemon that its commands, and the dialect of them, depend on."""

    config: Config
    world: World
    journal: SqliteJournal
    guard: Guard
    lifecycle: Lifecycle
    families: Families
    roster: Roster
    callers: Callers
    recorder: Recorder
    feed: Feed
    consultant: Consultant
    quotes: Quotes


def checks_of(parts: Parts) -> Checks:
    """Return the check of definitions, which knows what held the daemon up before, and which models can be asked."""
    stood = stalled(parts.journal, Phase.CHECKING)
    lacks = parts.consultant.lacks
    return Checks(parts.roster.catalogue.get, lambda: parts.feed.instruments, parts.guard, stood, lacks)


def bindings_of(parts: Parts) -> Bindings:
    """Return what binds strategies to accounts of their organisation."""
    neighbours = parts.callers.accounts.neighbours_of
    return Bindings(parts.lifecycle, parts.families, parts.roster, parts.world.clock, neighbours)


def records_of(parts: Parts) -> Records:
    """Return what tells of the past of strategies."""
    return Records(parts.roster, parts.recorder, parts.quotes)


def retention_of(parts: Parts) -> Retention:
    """Return what drops the evaluations that are kept no more."""
    kept = parts.config.journal
    return Retention(parts.recorder, parts.roster, parts.world.clock, kept.runs_kept, kept.deleted_runs_kept_us)


class Measured(Protocol):
    """The parts of a daemon that have figures, some of which are there only once all are built."""

    config: Config
    feed: Feed
    quotes: Quotes
    recorder: Recorder
    books: dict[bool, Book]
    posts: Posts
    activity: Activity
    conditions: Conditions
    control: ControlServer
    stream: StreamServer | None
    hooks: Hooks
    consultant: Consultant
    declarer: Declarer
    rehearsal: Rehearsal
    guard: Guard
    roster: Roster
    supervisor: Supervisor


def gauges_of(parts: Measured, journal: Path) -> Gauges:
    """Return the figures of a daemon that keeps its journal there."""
    config, posts = parts.config, parts.posts.all.values()
    return Gauges(
        kind=config.market.kind,
        speed=str(config.market.speed),
        market_name=parts.feed.market.name,
        feed=parts.feed,
        quotes=parts.quotes,
        recorder=parts.recorder,
        journal_path=journal,
        last_record=lambda: parts.recorder.last_n,
        books=parts.books.values(),
        gateways=[post.gateway for post in posts],
        resolvers=[post.resolver for post in posts],
        auditors=[post.auditor for post in posts],
        activity=parts.activity,
        children=lambda: parts.supervisor.children,
        control_clients=lambda: parts.control.clients,
        control_clients_max=config.control.clients_max,
        stream_clients=lambda: parts.stream.clients if parts.stream is not None else 0,
        stream_clients_max=config.stream.clients_max,
        complaints=lambda: _complaints(parts),
        conditions=parts.conditions.current,
        webhooks=lambda: parts.hooks.courier.figures(),
        llm=lambda: parts.consultant.figures(),
    )


def _complaints(parts: Measured) -> list[str]:
    found = [f"declaration {name}: {reason}" for name, reason in parts.declarer.refused.items()]
    found += parts.rehearsal.told()
    if parts.guard.limitation:
        found.append(parts.guard.limitation)
    faults = ((each.strategy.definition.name, each.strategy.fault) for each in parts.roster.members.values())
    found += [f"quarantine: {name}" for name, fault in faults if fault is not None and fault.code == QUARANTINED]
    return found


def dialect_of(parts: Parts, answers: Answers, records: Records, bindings: Bindings) -> Dialect:
    """Return the dialect in front of the operations that everybody has."""
    return Dialect(
        operations=answers,
        records=records,
        binder=bindings,
        lifecycle=parts.families,
        roster=parts.roster,
        organisations=parts.callers.accounts,
        writer=parts.recorder,
        instruments=lambda: parts.feed.instruments,
    )


def gate_of(wanted: RateLimit, clock: Clock, keys: KeyRing, tokens: Tokens) -> Gate:
    """Return the gate for what clients signed and what they bear, with whole budgets."""
    return Gate(
        keys,
        clock,
        keys=Budgets(wanted.key_weight_max, float(wanted.key_weight_per_s)),
        addresses=Budgets(wanted.address_weight_max, float(wanted.address_weight_per_s)),
        bearers=tokens,
    )


def known_of(feed: Feed, clock: Clock) -> tuple[Board, Signals]:
    """Return what there is to know of the market that a feed follows, and of signals on any."""
    return board_of(feed, clock), Signals()


def board_of(feed: Feed, clock: Clock) -> Board:
    """Return what the public sees of the market that a feed follows."""
    board = Board(feed.market, feed.quotes, clock, lambda: feed.instruments, over=lambda: feed.over)
    feed.desks.append(board)
    return board


def stream_of(
    wanted: Stream,
    world: World,
    hub: EventSource,
    keys: KeyRing,
    *,
    gate: Gate,
    owner_of: Callable[[str], str | None],
    board: Board,
) -> StreamServer:
    """Return the event stream; who does not sign takes no more than half of the places."""
    limits = StreamLimits(
        auth_s=float(wanted.authentication_s),
        ping_s=float(wanted.ping_s),
        stuck_s=float(wanted.stuck_s),
        frames_per_s=float(wanted.frames_per_second_max),
        subscriptions_max=wanted.subscriptions_max,
        connections_per_key_max=wanted.clients_per_key_max,
        clients_max=wanted.clients_max,
        strangers_max=max(1, wanted.clients_max // 2),
    )
    return StreamServer(
        hub=hub,
        authority=keys,
        owned=lambda account, strategy_id: owner_of(strategy_id) == account,
        clock=world.clock,
        net=world.net,
        toll=gate.told_after_paying,
        market=Broadcast(board, world.clock),
        limits=limits,
        # A page that has its own name point here cannot have our certificate speak for that name.
        hosts=frozenset() if wanted.tls_certificate is None else None,
        origins=frozenset(wanted.allowed_origins),
    )


def certificates_of(config: Sections, world: World, conditions: Watched, front: Front | None) -> Certificates:
    """Return what keeps the certificates of the listeners; the stream's comes first, if it has one."""
    stream, http = config.stream, config.http
    identities: list[Identity] = []
    foreign: list[tuple[str, Path]] = []
    if stream.enabled and stream.tls_certificate and stream.tls_key:
        identities.append(Identity("stream", stream.tls_certificate, stream.tls_key, world))
    if http.mode == "child" and http.tls_certificate and http.tls_key:
        identities.append(Identity("http", http.tls_certificate, http.tls_key, world, quiet=True))
    elif http.mode == "separate" and http.tls_certificate:
        foreign.append(("http", http.tls_certificate))
    return Certificates(identities, foreign, world, conditions, front.reload if front is not None else lambda: None)
