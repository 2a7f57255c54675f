"""What a client of the event stream decides without waiting: where to go on, what comes twice, and what is missing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import httpcore2
import httpx2
import msgspec
from attrs import define, evolve, field

from pipaid.client.asking import AGAIN_S, Patience, Way, nobody, pause_after
from pipaid.client.framing import Framing
from pipaid.errors import InvalidParameter, NotFound, PipaidError, Unavailable
from pipaid.model.event import BACKTEST_CHANNEL, STATUS_CHANNEL
from pipaid.model.job import is_job
from pipaid.model.moment import iso_millis
from pipaid.wire.envelope import Trouble, refusal
from pipaid.wire.frames import AUTH_CHANNEL, IDS_MAX
from pipaid.wire.tap import WILDCARD

Event: TypeAlias = dict[str, Any]
# Where somebody is in the stream: the last number of each strategy and backtest. Under `*` stands who is not named.
Position: TypeAlias = Mapping[str, int]

STREAM_URL: Final = "ws://127.0.0.1:5002/v1/ws"
READ_BYTES: Final = 64 * 1024
# The server says something every 20 s.
QUIET_S: Final = 45.0
PAUSE_S_MAX: Final = 5.0
FAILURES_MAX: Final = 16
# So many numbers fill half of the largest frame that the server takes.
NUMBERS_PER_FRAME: Final = 1_200
# Extended events since the last numbered one of each strategy: so many are known when they come again.
KNOWN_MAX: Final = 1_024
# What a connection ends with: the other side is gone, or has refused something.
GONE: Final = (
    httpx2.TransportError,
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    PipaidError,
)


@define(frozen=True)
class Subscription:
    """What is followed on one channel: strategies or backtests by their ids, or a market by its params."""

    channel: str
    ids: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(factory=dict[str, Any])


class Hole(Unavailable):
    """Events are missing that the journal may still have."""


def subscriptions_to(ids: Sequence[str]) -> tuple[Subscription, ...]:
    """Return the subscriptions to strategies, to all of them under `*`, and to backtests."""
    if not 0 < len(ids) <= IDS_MAX:
        raise InvalidParameter(
            f"1 to {IDS_MAX} ids of strategies and backtests are followed at once; * is all strategies"
        )
    jobs = tuple(each for each in dict.fromkeys(ids) if is_job(each))
    strategies = tuple(each for each in dict.fromkeys(ids) if not is_job(each))
    if WILDCARD in strategies:
        strategies = (WILDCARD,)
    both = (Subscription(STATUS_CHANNEL, strategies), Subscription(BACKTEST_CHANNEL, jobs))
    return tuple(each for each in both if each.ids)


@define(eq=False)
class Following:
    """A stream over any number of connections: each event once and in its order, and what is lost by name.

    Numbered events that are missing or come again are told by their numbers. For what is missing a new connection is
    asked; only what that does not bring either is lost, and told as an event `lagged`.
    """

    way: Way
    url: str
    subscriptions: tuple[Subscription, ...]
    after: int | Position | None = None
    ext: bool = False
    # What has been handed out, which is where its reader may go on another time.
    position: dict[str, int] = field(factory=dict[str, int], init=False)
    _heads: dict[str, int] = field(factory=dict[str, int], init=False)
    _events: deque[Event] = field(factory=deque[Event], init=False)
    _framing: Framing = field(factory=Framing, init=False)
    _unanswered: int = field(default=0, init=False)
    # What this connection was asked to go on after.
    _asked: dict[str, int] = field(factory=dict[str, int], init=False)
    # The number after which something was missing, where a new connection has been asked for it.
    _holes: dict[str, int] = field(factory=dict[str, int], init=False)
    # Of these whatever is retained is all that was asked for: where it begins, nothing counts as lost.
    _whole_past: bool = field(default=False, init=False)
    _known: dict[str, dict[str, None]] = field(factory=dict[str, dict[str, None]], init=False)
    _trouble: Exception | None = field(default=None, init=False)
    _patience: Patience | None = field(default=None, init=False)
    _failures: int = field(default=0, init=False)
    _was_open: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        if self.after == 0:
            self._whole_past = True
            self.after = {key: 0 for each in self.subscriptions for key in each.ids}
        elif isinstance(self.after, int):
            raise InvalidParameter(
                "after is 0 for everything retained, or a position: the last number of each strategy"
            )
        self._heads = dict(self.after or {})
        self.position = dict(self._heads)

    def next(self) -> Event | None:
        """Hand out an event if there is one, and count it as dealt with."""
        if not self._events:
            return None
        event = self._events.popleft()
        seq = event["data"]["to_seq"] if event["event"] == "lagged" else event.get("seq")
        if seq is not None:
            self.position[event["id"]] = seq
        return event

    def headers(self) -> dict[str, str]:
        """Return what a request for a new connection says."""
        self._framing = Framing()
        return self._framing.headers()

    def opened(self, answer: httpx2.Response) -> bytes:
        """Return what is said first on a new connection; raise the refusal if the answer is none."""
        self._framing.judge(answer)
        timestamp, signature = self.way.signed("GET", urlsplit(self.url).path)
        auth = {"op": "auth", "api_key": self.way.api_key, "timestamp": timestamp, "signature": signature}
        frames = [auth, *(frame for each in self.subscriptions for frame in self._frames_of(each))]
        self._asked = dict(self._heads)
        self._unanswered = sum(_answers_to(frame) for frame in frames)
        return b"".join([self._framing.said(msgspec.json.encode(frame)) for frame in frames])

    def received(self, data: bytes) -> bytes:
        """Take in what came, and return what has to be said to it; raise what ends the connection."""
        for text in self._framing.heard(data):
            try:
                frame = msgspec.json.decode(text, type=dict[str, Any])
            except msgspec.MsgspecError as broken:
                raise Unavailable(f"what was received is no frame of the stream: {broken}") from None
            self._take(frame)
        if self._framing.ended is not None:
            raise self._framing.ended
        due, self._framing.due = self._framing.due, b""
        return due

    def fail(self, trouble: Exception) -> None:
        """Note what ended a connection, or came instead of one."""
        self._trouble = trouble

    def pause(self) -> float:
        """Return for how many seconds to do nothing: none, but for a while after each failure.

        Raise a failure that will not end by itself, and any once patience is out.
        """
        trouble, self._trouble = self._trouble, None
        if trouble is None:
            return 0.0
        known = trouble if isinstance(trouble, PipaidError) else nobody(self.url, trouble)
        pause_s = pause_after(known)
        if pause_s is None:
            raise known
        if self._patience is None:
            self._patience = self.way.patience()
        self._failures = min(self._failures + 1, FAILURES_MAX)
        longest_s = min(PAUSE_S_MAX, AGAIN_S * 2**self._failures)
        pause_s = max(pause_s, self.way.world.random.uniform(longest_s / 2, longest_s))
        if not self._patience.allows(pause_s):
            raise known
        return pause_s

    def _frames_of(self, subscription: Subscription) -> Iterator[dict[str, Any]]:
        """Yield the frames that subscribe, each to what has begun already or to what has not."""
        frame: dict[str, Any] = {"op": "subscribe", "channel": subscription.channel}
        if not subscription.ids:
            yield {**frame, "params": subscription.params}
            return
        frame |= {"ext": self.ext, "position": True}
        if subscription.ids == (WILDCARD,):
            yield from self._frames_of_all({**frame, "id": WILDCARD})
            return
        begun = [key for key in subscription.ids if key in self._heads or WILDCARD in self._heads]
        fresh = [key for key in subscription.ids if key not in begun]
        if begun:
            yield {**frame, "id": begun, "since_seq": {key: self._heads.get(key, 0) for key in begun}}
        if fresh:
            yield {**frame, "id": fresh}

    def _frames_of_all(self, frame: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the frames that name every place, for the whole of which one may be too small."""
        if not self._heads:
            yield frame
            return
        numbers = iter([(key, seq) for key, seq in self._heads.items() if key != WILDCARD and not is_job(key)])
        yield {**frame, "since_seq": {WILDCARD: 0, **dict(islice(numbers, NUMBERS_PER_FRAME))}}
        while some := dict(islice(numbers, NUMBERS_PER_FRAME)):
            yield {**frame, "since_seq": some}

    def _take(self, frame: Event) -> None:
        match frame.get("op"):
            case None:
                self._take_event(frame)
            case "ack":
                self._take_answer(frame)
            case "error":
                raise InvalidParameter(str(frame.get("message")))
            case _:
                pass  # Nothing else is said to who asks for nothing else.

    def _take_answer(self, frame: Event) -> None:
        self._unanswered -= 1
        if not frame["ok"]:
            self._refused(frame)
        elif frame["channel"] != AUTH_CHANNEL:
            self._begin(frame)
        if not self._unanswered:
            self._was_open, self._patience, self._failures = True, None, 0

    def _refused(self, frame: Event) -> None:
        """Raise a refusal; what was deleted while nobody was connected is left out, if there is anything else."""
        refused = refusal(Trouble(frame["code"], frame["message"]))
        some = [
            evolve(each, ids=tuple(key for key in each.ids if key != frame.get("id"))) for each in self.subscriptions
        ]
        left = tuple(each for each in some if each.ids)
        if not isinstance(refused, NotFound) or not self._was_open or not left:
            raise refused
        self.subscriptions = left

    def _begin(self, frame: Event) -> None:
        """Note where a subscription begins, and what of its past is gone."""
        position: dict[str, int] = frame.get("position", {})
        for key, seq in position.items():
            if seq < self._asked.get(key, seq):  # The journal has gone back: an old copy of it was restored.
                self._heads[key] = self.position[key] = seq
            self._heads.setdefault(key, seq)
            self.position.setdefault(key, seq)
        if frame.get("id") == WILDCARD:
            self._heads[WILDCARD] = self.position[WILDCARD] = 0
        oldest: int | dict[str, int] = frame.get("oldest_seq", {})
        for key, seq in (oldest if isinstance(oldest, dict) else {frame["id"]: oldest}).items():
            if seq - 1 > self._heads[key]:
                if self._heads[key] or not self._whole_past:
                    self._note_lost(key, seq - 1)
                self._heads[key] = seq - 1

    def _take_event(self, event: Event) -> None:
        key, name = event.get("id", ""), event["event"]
        if name == "lagged":
            self._look_behind(key, int(event["data"]["to_seq"]))
        elif "seq" in event:
            self._take_numbered(event, key, int(event["seq"]))
        elif "after_seq" not in event or self._is_new(event, key, int(event["after_seq"])):
            self._events.append(event)

    def _take_numbered(self, event: Event, key: str, seq: int) -> None:
        # Whoever is not named has had no event before, unless the past is wanted for as far as it goes back.
        if seq <= self._heads.setdefault(key, seq - 1 if self._whole_past else 0):
            return
        if self._look_behind(key, seq - 1):
            self._heads[key] = seq
            self._known.pop(key, None)
            self._events.append(event)

    def _is_new(self, event: Event, key: str, after_seq: int) -> bool:
        """Tell of an event without a number whether it has not come before."""
        if after_seq < self._heads.setdefault(key, after_seq if self._whole_past else 0) or not self._look_behind(
            key, after_seq
        ):
            return False
        known = self._known.setdefault(key, {})
        if event["event_id"] in known:
            return False
        known[event["event_id"]] = None
        if len(known) > KNOWN_MAX:
            del known[next(iter(known))]
        return True

    def _look_behind(self, key: str, seq: int) -> bool:
        """Tell whether everything up to a number has come or is lost; raise Hole while the journal may have it."""
        head = self._heads.setdefault(key, 0)
        if seq <= head:
            return True
        if self._unanswered:
            return False  # It comes once more, with what is before it.
        if self._holes.get(key) != head:
            self._holes[key] = head
            raise Hole(f"events {head + 1} to {seq} of {key} are missing")
        self._note_lost(key, seq)
        self._heads[key] = seq
        return True

    def _note_lost(self, key: str, to_seq: int) -> None:
        """Hand out that events are lost, in the words in which the server would say it."""
        from_seq = self._heads[key] + 1
        self._events.append(
            {
                "channel": BACKTEST_CHANNEL if is_job(key) else STATUS_CHANNEL,
                "event": "lagged",
                "id": key,
                "after_seq": from_seq - 1,
                "ts": iso_millis(self.way.world.clock.now_us() // 1_000),
                "data": {"from_seq": from_seq, "to_seq": to_seq},
            }
        )


def _answers_to(frame: Event) -> int:
    """Return how often a frame is acknowledged: once for each id."""
    ids: str | list[str] = frame.get("id", "")
    return 1 if isinstance(ids, str) else len(ids)
