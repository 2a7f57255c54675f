"""The WebSocket event stream: who may listen to what, and one sender per client that nobody else waits for."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec
import structlog
import trio
from attrs import define, field
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from pipaid.errors import (
    InsufficientPermission,
    InvalidParameter,
    InvalidSignature,
    InvalidState,
    KeyExpired,
    NotFound,
    PipaidError,
    RateLimited,
)
from pipaid.model.event import BACKTEST_CHANNEL, STATUS_CHANNEL
from pipaid.model.job import is_job
from pipaid.seams import Clock, Net
from pipaid.wire import frames
from pipaid.wire.frames import AUTH_CHANNEL, ClientFrame, encoded_once
from pipaid.wire.handshake import credentials_of, judge_request
from pipaid.wire.lines import address_of
from pipaid.wire.signing import Authority, Caller, Scope, SignedRequest
from pipaid.wire.tap import WILDCARD, Bundle, Delivery, EventSource, Tap
from pipaid.wire.watcher import Channels, NoChannels, Watcher
from pipaid.wire.websocket import (
    CLOSE_S,
    FRAME_BYTES_MAX,
    FRAMES_PER_S,
    GOING_AWAY,
    INVALID_PAYLOAD,
    PROTOCOL_ERROR,
    TOO_BIG,
    TOO_FAST_OR_SLOW,
    UNSUPPORTED,
    Line,
    Refused,
    text_frame,
)

log = structlog.get_logger()

UNAUTHENTICATED: Final = 4401
HEARTBEAT_LOST: Final = 4408
TOO_MANY_CONNECTIONS: Final = 4409
INTERNAL_ERROR: Final = 1011
_SAID_BY_LIBRARY: Final = frozenset({PROTOCOL_ERROR, UNSUPPORTED, INVALID_PAYLOAD, TOO_BIG})
_NOBODY: Final = ""
# What a key needs to subscribe.
CHANNELS: Final = {STATUS_CHANNEL: Scope.STRATEGIES_READ, BACKTEST_CHANNEL: Scope.BACKTEST_READ}
CHANNELS_SERVED: Final = f"{', '.join(CHANNELS)}, market.klines, market.depth and market.ticker"
# So many clients are written to between two looks at everything else that goes on.
WRITES_AT_ONCE: Final = 64

# What a request that does not become a connection is refused with.
REFUSALS: Final = {each.http_status: each for each in (InsufficientPermission, NotFound)}


@define(frozen=True, kw_only=True)
class StreamLimits:
    """The bounds of the stream; each is part of what clients are promised."""

    handshake_s: float = 5.0
    auth_s: float = 5.0
    ping_s: float = 20.0
    pings_missed_max: int = 2
    stuck_s: float = 10.0
    close_s: float = CLOSE_S
    frame_bytes_max: int = FRAME_BYTES_MAX
    frames_per_s: float = FRAMES_PER_S
    unparsable_max: int = 10
    subscriptions_max: int = 200
    connections_per_key_max: int = 50
    # Above these, new connections are closed at once; strangers are those that have not authenticated yet.
    clients_max: int = 4_096
    strangers_max: int = 1_024
    # A storm of reconnections is let in at this pace.
    accepts_per_s: float = 1_000.0


@define(eq=False)
class StreamServer:
    """Serve the event stream on listeners until cancelled; then every client is told that the server goes away.

    `hosts` are names under which the server is reached besides addresses and localhost, `origins` are origins of pages
    that may connect besides those of the same host.
    """

    hub: EventSource
    authority: Authority
    owned: Callable[[str, str], bool]
    clock: Clock
    net: Net
    limits: StreamLimits = field(factory=StreamLimits)
    hosts: frozenset[str] | None = frozenset()
    origins: frozenset[str] = frozenset()
    # What a client is told whose signature failed, after its address has paid for that.
    toll: Callable[[PipaidError, str], PipaidError] = field(default=lambda failed, _: failed)
    market: Channels = field(factory=NoChannels)
    accepted: int = 0
    turned_away: int = 0
    closed: Counter[int] = field(factory=Counter[int])
    # Values are not used: a dict keeps the order of arrival, which a set does not.
    _clients: dict[_Client, None] = field(factory=lambda: dict[_Client, None](), init=False)
    _per_key: Counter[str] = field(factory=Counter[str], init=False)
    # Each client stands here at most once.
    _announced: deque[_Client] = field(factory=lambda: deque[_Client](), init=False)
    _somebody_waits: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)
    _next_accept_s: float = field(default=0.0, init=False)

    @property
    def clients(self) -> int:
        """Return how many connections there are."""
        return len(self._clients)

    async def run(
        self,
        listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
        *,
        task_status: trio.TaskStatus[list[trio.abc.Listener[trio.abc.Stream]]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept connections."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_at_once)
            nursery.start_soon(self.market.run)
            await trio.serve_listeners(self._serve, list(listeners), task_status=task_status)

    def announce(self, client: _Client) -> None:
        """Note that there are events for a client whose sender sleeps."""
        self._announced.append(client)
        self._somebody_waits.unpark_all()

    def expel(self, api_key: str) -> None:
        """Close every connection of a key that has just been revoked."""
        for client in list(self._clients):
            if client.caller is not None and client.caller.api_key == api_key:
                client.end(UNAUTHENTICATED, "the key was revoked")

    def admit(self, api_key: str) -> None:
        """Count a connection of a key, or refuse it."""
        if self._per_key[api_key] >= self.limits.connections_per_key_max:
            raise RateLimited(f"at most {self.limits.connections_per_key_max} connections per key")
        self._per_key[api_key] += 1

    async def _write_at_once(self) -> None:
        """Write events to those whose sender sleeps: most can take them at once, and it need not wake.

        The others cost one system call here; their own senders do the waiting.
        """
        written = 0
        bundles: tuple[Bundle, ...] = ()
        data = b""
        while True:
            if not self._announced:
                await self._somebody_waits.park()
            elif written >= WRITES_AT_ONCE:
                written = 0
                await trio.lowlevel.checkpoint()
            else:
                written += 1
                client = self._announced.popleft()
                theirs = client.tap.take_if_idle()
                if theirs is None:
                    continue
                # Most get the same bundles, so the bytes of the one before will do.
                if theirs != bundles:
                    bundles, data = theirs, b"".join([encoded_once(bundle) for bundle in theirs])
                whole = client.watcher.take() + data
                if whole and (not client.line.send_now(whole) or client.tap.pending_frames):
                    client.tap.wake()

    async def _serve(self, stream: trio.abc.Stream) -> None:
        strangers = len(self._clients) - self._per_key.total()
        if len(self._clients) >= self.limits.clients_max or strangers >= self.limits.strangers_max:
            self.turned_away += 1
            await trio.aclose_forcefully(stream)
            return
        self.accepted += 1
        line = Line(
            stream,
            self.clock,
            self.net,
            frame_bytes_max=self.limits.frame_bytes_max,
            frames_per_s=self.limits.frames_per_s,
            close_s=self.limits.close_s,
        )
        tap = self.hub.open(_NOBODY)
        client = _Client(self, line, tap, Watcher(tap.nudge))
        self._clients[client] = None
        try:
            await self._pace()
            await client.run()
        finally:
            self.hub.close(client.tap)
            self.market.leave(client.watcher)
            del self._clients[client]
            if client.caller is not None:
                self._per_key[client.caller.api_key] -= 1
                self._per_key += Counter()  # Keys without connections are forgotten.

    async def _pace(self) -> None:
        now_s = self.clock.monotonic_s()
        self._next_accept_s = max(now_s, self._next_accept_s + 1.0 / self.limits.accepts_per_s)
        if self._next_accept_s > now_s:
            await self.clock.sleep(self._next_accept_s - now_s)


@define(eq=False)
class _Client:
    """One connection."""

    server: StreamServer
    line: Line
    tap: Tap
    watcher: Watcher
    caller: Caller | None = None
    _path: str = ""
    _ending: Refused | None = None
    _scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _socket: WebSocketConnection | None = None
    _recovering: bool = False

    def end(self, code: int, reason: str) -> None:
        """Close the connection with a code; the first reason counts. Never waits."""
        if self._ending is None:
            self._ending = Refused(code, reason)
        self._scope.cancel()

    async def run(self) -> None:
        """Serve the client until either side has had enough.

        This is where a client is supervised: whatever goes wrong with one costs that one its connection.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    await self._converse(nursery)
                    nursery.cancel_scope.cancel()
        except* (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # The other side has gone.
        except* Exception as group:  # noqa: BLE001 - the library's parsers raise much on bytes made to break them
            log.warning("stream.client_failed", error=repr(group.exceptions[0]))
            self._ending = self._ending or Refused(INTERNAL_ERROR, "internal error")
        finally:
            word = self._last_word()
            if self.line.upgraded:
                self.server.closed[word.code] += 1
            await self.line.finish(word.code, word.reason)

    async def _converse(self, nursery: trio.Nursery) -> None:
        self.line.on_end = self._scope.cancel
        target = ""
        with trio.move_on_after(self.server.limits.handshake_s) as handshake:
            try:
                request_head = await self.line.read_request()
                target = judge_request(request_head, hosts=self.server.hosts, origins=self.server.origins)
            except Refused as refused:
                body = {"code": REFUSALS.get(refused.code, InvalidParameter).code, "message": refused.reason}
                await self.line.reply(refused.code, msgspec.json.encode(body))
                return
            self._path = target.partition("?")[0]
            request = await wrap_server_stream(nursery, self.line, max_message_size=self.server.limits.frame_bytes_max)
            self._socket = await request.accept()
        if handshake.cancelled_caught:
            return
        assert self._socket is not None
        self.line.upgraded = True
        self.line.on_post = self.tap.wake
        if self.line.writes_at_once:
            self.tap.on_ready = partial(self.server.announce, self)
        self.tap.on_overflow = partial(self._fall_behind, nursery)
        nursery.start_soon(self._send)
        nursery.start_soon(self._beat, self._socket)
        if not await self._authenticate_by_url(target):
            return
        if self.caller is None:
            nursery.start_soon(self._await_authentication)
        await self._listen(self._socket)

    async def _listen(self, socket: WebSocketConnection) -> None:
        unparsable = 0
        while True:
            message = await socket.get_message()
            if isinstance(message, bytes):
                return self.end(UNSUPPORTED, "frames are text")
            try:
                await self._answer(frames.parse_frame(message))
                unparsable = 0
            except frames.Unparsable as error:
                self._say(frames.not_understood(error, error.req_id))
                unparsable += 1
                if unparsable >= self.server.limits.unparsable_max:
                    return self.end(UNSUPPORTED, f"{unparsable} frames in a row could not be understood")

    async def _answer(self, frame: ClientFrame) -> None:
        match frame.op:
            case "auth":
                self._authenticate(frame)
            case "ping":
                self._say(frames.pong(frame.req_id, now_ms=self._now_ms()))
            case "subscribe" | "unsubscribe":
                ids: list[str | None] = [*frame.ids] or [None]
                for strategy_id in ids:
                    try:
                        await self._change(frame, strategy_id)
                    except PipaidError as error:
                        self._say(frames.refused(frame, error, strategy_id=strategy_id))
            case _:
                message = "op is auth, subscribe, unsubscribe or ping"
                raise frames.Unparsable(message, frame.req_id)

    async def _change(self, frame: ClientFrame, strategy_id: str | None) -> None:
        """Follow a subscribe or unsubscribe frame for one id."""
        if frame.channel.startswith("market."):
            self._watch(frame)
            return
        needed = CHANNELS.get(frame.channel)
        if needed is None:
            raise InvalidParameter(f"there is no channel {frame.channel!r}; {CHANNELS_SERVED} are served")
        if self.caller is None:
            raise InvalidSignature(f"authenticate before subscribing to {frame.channel}")
        if needed not in self.caller.scopes:
            raise InsufficientPermission(f"the key lacks the scope {needed}")
        jobs = frame.channel == BACKTEST_CHANNEL
        if strategy_id is None or (jobs and strategy_id == WILDCARD):
            some = "that of a backtest, or several" if jobs else "a strategy's id, several, or * for all of the account"
            raise InvalidParameter(f"id is missing: {some}")
        owned = strategy_id == WILDCARD or self.server.owned(self.caller.account, strategy_id)
        if not owned or is_job(strategy_id) is not jobs:
            raise NotFound(f"there is no {'backtest' if jobs else 'strategy'} {strategy_id}")
        if frame.op == "unsubscribe":
            if not self.server.hub.unsubscribe(self.tap, strategy_id):
                raise NotFound(f"{strategy_id} is not subscribed")
            self._say(frames.accepted(frame.channel, strategy_id, req_id=frame.req_id))
            return
        if strategy_id not in self.tap.subscriptions and self._room() < 1:
            raise RateLimited(f"at most {self.server.limits.subscriptions_max} subscriptions per connection")
        resumption = await self.server.hub.subscribe(
            self.tap, strategy_id, since=frame.since_seq, ext=frame.ext, located=frame.position
        )
        # The sender takes what is said before any event, so that this comes before the first replayed one.
        self._say(frames.begun(frame, strategy_id, resumption))

    def _watch(self, frame: ClientFrame) -> None:
        """Follow a frame about the market, which is there for everybody."""
        if frame.op == "subscribe":
            params = self.server.market.subscribe(self.watcher, frame, room=self._room())
        else:
            params = self.server.market.unsubscribe(self.watcher, frame)
        self._say(frames.accepted(frame.channel, req_id=frame.req_id, params=params))

    def _room(self) -> int:
        """Return how much more may be subscribed."""
        return self.server.limits.subscriptions_max - len(self.tap.subscriptions) - len(self.watcher.topics)

    def _authenticate(self, frame: ClientFrame) -> None:
        request = SignedRequest(
            api_key=frame.api_key,
            timestamp=str(frame.timestamp),
            signature=frame.signature,
            method="GET",
            target=self._path,
        )
        try:
            if self.caller is not None and self.caller.api_key != frame.api_key:
                raise InvalidState("this connection belongs to another key; open a new one")
            self._let_in(request)
            self._say(frames.accepted(AUTH_CHANNEL, req_id=frame.req_id))
        except PipaidError as error:
            self._turn_down(frame, error)

    async def _authenticate_by_url(self, target: str) -> bool:
        """Judge a signed URL, if it is one; tell whether the connection goes on."""
        try:
            given = credentials_of(target)
            if given is None:
                return True
            request = SignedRequest(
                api_key=given.get("api_key", ""),
                timestamp=given.get("timestamp", ""),
                signature=given.get("signature", ""),
                method="GET",
                target=self._path,
            )
            self._let_in(request)
        except PipaidError as error:
            self._turn_down(ClientFrame(op="auth"), error)
        return self.caller is not None

    def _let_in(self, request: SignedRequest) -> None:
        try:
            caller = self.server.authority.authenticate(request)
        except (InvalidSignature, KeyExpired) as failed:
            raise self.server.toll(failed, address_of(self.line.stream)) from None
        if self.caller is None:
            self.server.admit(caller.api_key)
            self.caller = caller
            self.tap.account = caller.account

    def _turn_down(self, frame: ClientFrame, error: PipaidError) -> None:
        self._say(frames.refused(frame, error))
        if self.caller is None:
            full = isinstance(error, RateLimited)
            self.end(TOO_MANY_CONNECTIONS if full else UNAUTHENTICATED, error.message)

    async def _await_authentication(self) -> None:
        """Close whoever does not say who it is; as long as it watches the market, and a while longer, it need not."""
        watched = False
        while self.caller is None:
            await self.server.clock.sleep(self.server.limits.auth_s)
            before, watched = watched, bool(self.watcher.topics)
            if self.caller is None and not (before or watched):
                self.end(UNAUTHENTICATED, f"authenticate within {self.server.limits.auth_s:g} s")

    async def _send(self) -> None:
        """Write everything that goes to this client."""
        while True:
            delivery = await self.server.hub.take(self.tap)
            events = self._encoded(delivery)
            if self._ending is not None:
                return
            await self.line.send(self.line.take_posted() + self.watcher.take() + events)

    def _encoded(self, delivery: Delivery) -> bytes:
        if self.tap.too_far_behind:
            self._give_up()
        parts: list[bytes] = []
        for lost in delivery.lost:
            if not lost.ext:
                self._give_up()
            told = frames.lagged(lost.strategy_id, lost.from_seq, lost.to_seq, at_ms=self._now_ms())
            parts.append(text_frame(told))
        parts += [encoded_once(bundle) for bundle in delivery.bundles]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _beat(self, socket: WebSocketConnection) -> None:
        """Ping the client, and see to it that its key is still good."""
        limits = self.server.limits
        clock = self.server.clock
        missed = sent = 0
        next_s = clock.monotonic_s()
        while missed < limits.pings_missed_max:
            next_s += limits.ping_s
            await clock.sleep(max(0.0, next_s - clock.monotonic_s()))
            if self.caller is not None and not self.server.authority.is_live(self.caller):
                self.end(UNAUTHENTICATED, "the key is no longer valid")
                return
            with trio.move_on_after(limits.ping_s) as patience:
                sent += 1
                await socket.ping(sent.to_bytes(4))
            missed = missed + 1 if patience.cancelled_caught else 0
        self.end(HEARTBEAT_LOST, f"{missed} pings without an answer")

    def _fall_behind(self, nursery: trio.Nursery) -> None:
        """Take note that the ring ran over: strict clients could not be told what they lost, the others get time."""
        if self.tap.lost_untold():
            self._give_up()
        elif not self._recovering:
            self._recovering = True
            nursery.start_soon(self._await_recovery)

    async def _await_recovery(self) -> None:
        while self.tap.overflowed:
            overflows = self.tap.overflows
            await self.server.clock.sleep(self.server.limits.stuck_s)
            if self.tap.overflowed and self.tap.overflows == overflows:
                self._give_up()
        self._recovering = False

    def _give_up(self) -> None:
        self.end(TOO_FAST_OR_SLOW, "events were lost because this client reads too slowly; resume with since_seq")

    def _say(self, frame: bytes) -> None:
        self.line.post(text_frame(frame))

    def _now_ms(self) -> int:
        return self.server.clock.now_us() // 1000

    def _last_word(self) -> Refused:
        """Decide what the connection is closed with."""
        for known in (self._ending, self.line.refused):
            if known is not None:
                return known
        said = self._socket.closed if self._socket is not None else None
        if said is None:
            return Refused(GOING_AWAY, "the server is going away")
        if said.code in _SAID_BY_LIBRARY:
            return Refused(said.code, said.reason or "")
        return Refused(1000, "")
