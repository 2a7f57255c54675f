"""The control-socket server: bounded lines in, one answer a request out, whatever a client does to itself alone.

Order on one connection: requests are begun in the order of their lines, and each answer carries its request's id.
Mutations are carried out one after another, urgent ones excepted; what only reads, and the requests of other
connections, run beside them. Whoever needs to see the effect of a mutation reads after its answer. A mutation that was
begun is finished even if its sender leaves. Forwarded requests have senders of their own, so none waits for another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeAlias, cast

import msgspec
import structlog
import trio
from attrs import define, field, frozen

from pipaid.errors import (
    ExchangeError,
    InsufficientPermission,
    InvalidParameter,
    NotFound,
    PayloadTooLarge,
    PipaidError,
    RateLimited,
    Unavailable,
)
from pipaid.model.event import EventDraft, Lagged, event_frame
from pipaid.model.ident import random_id
from pipaid.model.job import is_job
from pipaid.model.operation import Operation, decode_request, operation_named
from pipaid.model.reply import Reply, wire_form
from pipaid.model.report import TailsStopped
from pipaid.model.request import EventsStop, EventsTail, Request
from pipaid.seams import Clock, Ids
from pipaid.wire.activity import Activity
from pipaid.wire.caller import FORWARD_LIMITS, Caller, Limits, Role
from pipaid.wire.envelope import (
    ANSWER_BYTES_MAX,
    Ask,
    BadLine,
    Outcome,
    RequestId,
    Standing,
    error_body,
    error_line,
    event_prefix,
    read_ask,
)
from pipaid.wire.gate import Gate, Refused
from pipaid.wire.lines import Gone, LineReader, Outlet, peer_of
from pipaid.wire.tap import WILDCARD, Delivery, EventSource, Lost, Tap

log = structlog.get_logger()

# Mutations whose senders left go on; beyond so many in all, further ones are refused.
MUTATIONS_MAX: Final = 512
# A client that is being closed for what it sent may send on for so long without losing its answer.
LINGER_S: Final = 1.0
LINGER_BYTES_MAX: Final = 1024 * 1024

# However many requests came at once, trading waits for so many of them at a time.
TURN_MAX: Final = 4
# An answer is a little longer than its result.
RESULT_BYTES_MAX: Final = ANSWER_BYTES_MAX - 1_024

_encode: Final = msgspec.json.Encoder(order="deterministic").encode


@frozen(kw_only=True)
class Door:
    """A listening socket and what may be asked through it; the server closes it when it ends."""

    listener: trio.abc.Listener[trio.SocketStream]
    role: Role


class Repeats(Protocol):
    """The memory of mutations that carried an idempotency key."""

    async def once(self, key: str, body: bytes, act: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Return what became of the request with this key and body, acting only if it is the first."""
        ...


# Each takes the request type that the operation table names, and returns the reply type.
Perform: TypeAlias = Callable[[Caller, Any], Awaitable[Reply]]


@define(eq=False)
class _Tail:
    """One streaming answer."""

    id: RequestId
    tap: Tap
    stopped: bool = False
    ended: trio.Event = field(factory=trio.Event)


@define(eq=False)
class _Client:
    """One connection: what it asked and is still owed."""

    caller: Caller
    reader: LineReader
    outlet: Outlet
    nursery: trio.Nursery
    room: trio.Semaphore
    activity: Activity
    under_way: Activity = field(factory=Activity)
    tails: list[_Tail] = field(factory=list[_Tail])
    last_mutation: trio.Event | None = None

    @property
    def busy(self) -> bool:
        """Tell whether it is owed anything, so that its silence is no idleness."""
        return bool(self.under_way.count or self.tails)

    def begin(self) -> None:
        """Note that a request is under way."""
        self.under_way.begin()
        self.activity.begin()

    def end(self) -> None:
        """Note that a request has been answered."""
        self.under_way.end()
        self.activity.end()
        self.room.release()

    async def send(self, lines: bytes) -> None:
        """Write whole lines; a client that does not take them in time is dropped with all it asked to read."""
        if not await self.outlet.send(lines):
            if self.outlet.stuck:
                self.drop("it did not take what was written in time")
            self.nursery.cancel_scope.cancel()

    def drop(self, why: str) -> None:
        """Disconnect it, and let the log say so: it cannot be told any more."""
        if not self.nursery.cancel_scope.cancel_called:
            peer = self.caller.peer
            log.warning("client.dropped", reason=why, pid=peer.pid, uid=peer.uid, tails=len(self.tails))
        self.nursery.cancel_scope.cancel()


@frozen
class _Job:
    """One request on its way to its answer."""

    client: _Client
    ask: Ask
    operation: Operation
    request: Request
    caller: Caller
    standing: Standing | None = None

    @property
    def request_id(self) -> str:
        """Return under which number its sender speaks of it, if it was forwarded."""
        return self.ask.forwarded.request_id if self.ask.forwarded is not None else ""

    @property
    def told(self) -> dict[str, Any]:
        """Return what the log says of it: who asks, and under which number."""
        peer = self.caller.peer
        told: dict[str, Any] = {"operation": self.operation.name, "target": getattr(self.request, "id", None)}
        if self.ask.forwarded is None:
            return {**told, "uid": peer.uid, "pid": peer.pid}
        who = {"user": self.caller.user} if self.caller.user else {"api_key": self.caller.api_key}
        own = {**who, "account": self.caller.account, "address": self.ask.forwarded.address}
        return {**told, "request_id": self.request_id, **own}


@define(eq=False)
class ControlServer:
    """Serve clients: check, dispatch and answer, each client within its limits."""

    operations: Mapping[str, Perform]
    events: EventSource
    owner_of: Callable[[str], str | None]
    repeats: Repeats
    gate: Gate
    clock: Clock
    ids: Ids
    limits: Limits = field(factory=Limits)
    forward_limits: Limits = FORWARD_LIMITS
    requests: int = field(default=0, init=False)
    _clients: dict[_Client, None] = field(factory=dict[_Client, None], init=False)
    _activity: Activity = field(factory=Activity, init=False)
    _mutations: int = field(default=0, init=False)

    @property
    def clients(self) -> int:
        """Return how many are connected."""
        return len(self._clients)

    async def run(self, doors: Sequence[Door], task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            for door in doors:
                meet = partial(self._meet, nursery, door.role)
                serve = partial(trio.serve_listeners, handler_nursery=nursery)
                nursery.start_soon(serve, meet, [door.listener])
            task_status.started()

    async def quiet(self) -> None:
        """Wait until every request has been answered: for the end of the daemon, which was asked for by one."""
        await self._activity.idle()

    async def _meet(self, works: trio.Nursery, role: Role, stream: trio.SocketStream) -> None:
        limits = self._limits(role)
        async with stream:
            outlet = Outlet(stream, limits.write_s)
            # Counted by role: whoever may only look must not lock out whoever has to act.
            if sum(client.caller.role is role for client in self._clients) >= limits.clients_max:
                await outlet.send(error_line(None, Unavailable(f"{limits.clients_max} clients are connected")))
                return
            async with trio.open_nursery() as nursery:
                client = _Client(
                    Caller(role=role, peer=peer_of(stream)),
                    LineReader(stream, limits.line_bytes_max),
                    outlet,
                    nursery,
                    trio.Semaphore(limits.asks_max),
                    self._activity,
                )
                self._clients[client] = None
                try:
                    await self._converse(works, client)
                except Gone:
                    nursery.cancel_scope.cancel()
                finally:
                    del self._clients[client]

    def _limits(self, role: Role) -> Limits:
        return self.forward_limits if role is Role.FORWARD else self.limits

    async def _converse(self, works: trio.Nursery, client: _Client) -> None:
        """Take requests until the client ends, and answer what is still open before the connection closes."""
        too_long: PayloadTooLarge | None = None
        try:
            while (line := await self._next_line(client)) is not None:
                await self._take(works, client, line)
                if not self.requests % TURN_MAX:
                    await trio.lowlevel.checkpoint()
        except PayloadTooLarge as trouble:
            too_long = trouble
        for tail in client.tails:
            _stop(tail)
        await client.under_way.idle()
        if too_long is not None:
            await client.send(error_line(None, too_long))
            await self._linger(client)

    async def _next_line(self, client: _Client) -> bytes | None:
        if (line := client.reader.line_at_hand()) is not None:
            return line
        while True:
            with trio.move_on_after(self._limits(client.caller.role).idle_s):
                return await client.reader.next_line()
            if not client.busy:
                log.info("client.idle", pid=client.caller.peer.pid, uid=client.caller.peer.uid)
                return None

    async def _linger(self, client: _Client) -> None:
        """Read away what comes before closing: a socket closed over unread input takes the last answer with it."""
        stream = client.reader.stream
        assert isinstance(stream, trio.SocketStream)
        await stream.send_eof()
        left = LINGER_BYTES_MAX
        with trio.move_on_after(LINGER_S):
            while left > 0 and (received := await stream.receive_some(min(left, 65_536))):
                left -= len(received)

    async def _take(self, works: trio.Nursery, client: _Client, line: bytes) -> None:
        """Begin one request, or refuse it."""
        self.requests += 1
        try:
            client.room.acquire_nowait()
        except trio.WouldBlock:
            await client.room.acquire()
        client.begin()
        begun = False
        ask_id: RequestId | None = None
        request_id = ""
        try:
            ask = read_ask(line)
            ask_id = ask.id
            operation = operation_named(ask.op)
            if operation.mutating and client.caller.role is Role.OBSERVE:
                raise InsufficientPermission(f"{operation.name} changes something; this socket is for looking only")
            if ask.forwarded is not None:
                request_id = ask.forwarded.request_id
                job = await self._admitted(client, ask, operation)
                begun = job is not None and self._start(works, job)
                return
            if client.caller.role is Role.FORWARD:
                raise InsufficientPermission("this socket takes what somebody sent over HTTP, and nothing else")
            job = _Job(client, ask, operation, decode_request(operation, ask.args), client.caller)
            if isinstance(job.request, EventsTail):
                await self._begin_tail(client, ask.id, job.request)
            elif isinstance(job.request, EventsStop):
                await self._stop_tails(client, ask.id, job.request)
            else:
                begun = self._start(works, job)
        except BadLine as trouble:
            await client.send(error_line(trouble.id, trouble))
        except BaseException as trouble:  # noqa: BLE001 - What ends the task is raised again in `_failed`.
            outcome = self._failed(trouble, "request", request_id)
            await client.send(outcome.line(ask_id))
        finally:
            if not begun:
                client.end()

    async def _admitted(self, client: _Client, ask: Ask, operation: Operation) -> _Job | None:
        """Return a forwarded request that may be carried out; answer the others."""
        assert ask.forwarded is not None
        if bytes(ask.args) != b"{}":
            raise InvalidParameter("the arguments of a forwarded request stand in its target and its body")
        verdict = self.gate.judge(operation, ask.forwarded)
        if isinstance(verdict, Refused):
            forwarded, code = ask.forwarded, verdict.error.code
            # Who has no budget left has been in the log often enough.
            note = log.debug if isinstance(verdict.error, RateLimited) else log.info
            told = {"operation": operation.name, "request_id": forwarded.request_id, "address": forwarded.address}
            note("request.refused", code=code, reason=verdict.error.message, **told)
            outcome = self._failed(verdict.error, operation.name, forwarded.request_id)
            await client.send(outcome.line(ask.id, verdict.standing))
            return None
        peer = client.caller.peer
        caller = Caller(
            role=client.caller.role,
            peer=peer,
            account=verdict.account,
            api_key=verdict.api_key,
            user=verdict.user,
            organisation=verdict.organisation,
        )
        return _Job(client, ask, operation, verdict.request, caller, verdict.standing)

    def _start(self, works: trio.Nursery, job: _Job) -> bool:
        if not job.operation.mutating:
            job.client.nursery.start_soon(self._look, job)
            return True
        if self._mutations >= MUTATIONS_MAX:
            raise Unavailable(f"{MUTATIONS_MAX} commands are under way; try again")
        self._mutations += 1
        before, done = job.client.last_mutation, trio.Event()
        if job.operation.urgent or job.ask.forwarded is not None:
            before = None
        else:
            job.client.last_mutation = done
        works.start_soon(self._change, job, before, done)
        return True

    async def _look(self, job: _Job) -> None:
        try:
            outcome = await self._outcome(job)
            if job.ask.forwarded is not None:
                log.debug("request.answered", ok=outcome.ok, **job.told)
            await job.client.send(outcome.line(job.ask.id, job.standing))
        finally:
            job.client.end()

    async def _change(self, job: _Job, before: trio.Event | None, done: trio.Event) -> None:
        """Carry out a mutation in its turn, and write it into the log."""
        try:
            if before is not None:
                await before.wait()
            outcome = await self._once(job)
            refusal = None if outcome.ok else outcome.body.decode()
            log.info("command.answered", ok=outcome.ok, refusal=refusal, **job.told)
            done.set()
            await job.client.send(outcome.line(job.ask.id, job.standing))
        finally:
            done.set()
            self._mutations -= 1
            job.client.end()

    async def _once(self, job: _Job) -> Outcome:
        """Carry out a mutation, unless its idempotency key says that this has been done."""
        given = job.ask.idempotency_key
        if given is None:
            return await self._outcome(job)
        key = f"{job.caller.keeper}/{given}"
        body = hashlib.blake2b(_encode([job.operation.name, job.request]), digest_size=16).digest()
        try:
            return await self.repeats.once(key, body, partial(self._outcome, job))
        except BaseException as trouble:  # noqa: BLE001 - What ends the task is raised again in `_failed`.
            return self._failed(trouble, job.operation.name, job.request_id)

    async def _outcome(self, job: _Job) -> Outcome:
        """Carry out an operation; whatever it raises becomes its caller's answer and ends nothing else."""
        operation = job.operation
        try:
            perform = self.operations.get(operation.name)
            if perform is None:
                raise NotFound(f"this daemon does not offer {operation.name}")
            reply = await perform(job.caller, job.request)
            body = _encode(wire_form(reply))
            if len(body) > RESULT_BYTES_MAX:
                raise PayloadTooLarge(f"the answer measures {len(body)} bytes; ask for fewer at once")
            kept = _encode(msgspec.structs.replace(reply, **{operation.shown_once: None})) if operation.secret else None
            return Outcome(ok=True, body=body, lasting=True, kept=kept)
        except BaseException as trouble:  # noqa: BLE001 - What ends the task is raised again in `_failed`.
            return self._failed(trouble, operation.name, job.request_id)

    def _failed(self, trouble: BaseException, operation: str, request_id: str = "") -> Outcome:
        """Return the answer to whatever was raised: a template's own code may raise SystemExit, or groups.

        What should not have happened goes into the log, and its number there into the answer.
        """
        if _is_cancellation(trouble):
            raise trouble
        if isinstance(trouble, PipaidError) and trouble.http_status != PipaidError.http_status:
            return Outcome(ok=False, body=error_body(trouble, request_id), lasting=isinstance(trouble, ExchangeError))
        request_id = request_id or random_id("req", self.ids.entropy(6))
        log.error("operation.failed", operation=operation, request_id=request_id, exc_info=trouble)
        answer = PipaidError(f"{operation} failed inside the daemon; its log has the cause under {request_id}")
        return Outcome(ok=False, body=error_body(answer, request_id))

    async def _begin_tail(self, client: _Client, ask_id: RequestId, request: EventsTail) -> None:
        """Subscribe before the client's next line is read, so that what it asks for afterwards is on the tail."""
        if len(client.tails) >= self.limits.tails_max:
            raise RateLimited(f"a connection may have {self.limits.tails_max} tails; stop one, or connect again")
        if request.id != WILDCARD and self.owner_of(request.id) is None:
            raise NotFound(f"there is no {'backtest' if is_job(request.id) else 'strategy'} {request.id}")
        tail = _Tail(ask_id, self.events.open(client.caller.account))
        try:
            await self.events.subscribe(tail.tap, request.id, since=request.since_seq, ext=request.ext)
        except BaseException:
            self.events.close(tail.tap)
            raise
        client.tails.append(tail)
        client.nursery.start_soon(self._follow, client, tail)

    async def _follow(self, client: _Client, tail: _Tail) -> None:
        """Pass events on. The tap drops its oldest when the client is slow, and the client is told which.

        A strict one, which no event tells that, has its tail ended: it knows its last number and asks for what follows.
        """
        prefix = event_prefix(tail.id)
        try:
            while not tail.stopped:
                delivery = await self.events.take(tail.tap)
                if tail.tap.too_far_behind:
                    client.drop("it read its events too slowly")
                if not tail.stopped and any(not lost.ext for lost in delivery.lost):
                    raise RateLimited("events were lost because this client reads too slowly; resume with since_seq")
                lines = [] if tail.stopped else self._frames(delivery)
                if lines:
                    await client.send(b"".join([b"%b%b}\n" % (prefix, frame) for frame in lines]))
        except BaseException as trouble:  # noqa: BLE001 - What ends the task is raised again in `_failed`.
            await client.send(self._failed(trouble, "events.tail").line(tail.id))
        finally:
            self.events.close(tail.tap)
            client.tails.remove(tail)
            tail.ended.set()

    def _frames(self, delivery: Delivery) -> list[bytes]:
        frames = [self._lagged(lost) for lost in delivery.lost]
        frames.extend(event.frame for bundle in delivery.bundles for event in bundle.events)
        return frames

    def _lagged(self, lost: Lost) -> bytes:
        data = Lagged(from_seq=lost.from_seq, to_seq=lost.to_seq)
        at_ms = self.clock.now_us() // 1_000
        draft = EventDraft(strategy_id=lost.strategy_id, data=data, at_ms=at_ms, run_id=None, dry_run=None)
        return event_frame(draft, seq=lost.from_seq - 1, ordinal=0)

    async def _stop_tails(self, client: _Client, ask_id: RequestId, request: EventsStop) -> None:
        """Stop tails between two writes, so that what was begun is whole and nothing follows the answer."""
        stopping = [tail for tail in client.tails if request.tail is None or tail.id == request.tail]
        for tail in stopping:
            _stop(tail)
        for tail in stopping:
            await tail.ended.wait()
        reply = TailsStopped(stopped=tuple(tail.id for tail in stopping))
        await client.send(Outcome(ok=True, body=_encode(reply)).line(ask_id))


def _stop(tail: _Tail) -> None:
    tail.stopped = True
    tail.tap.wake()


def _is_cancellation(trouble: BaseException) -> bool:
    """Tell whether a failure is nothing but the end of the task, or of the program."""
    if isinstance(trouble, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", trouble)
        return group.split((trio.Cancelled, KeyboardInterrupt))[1] is None
    return isinstance(trouble, trio.Cancelled | KeyboardInterrupt)
