"""What a follower of the stream says first, and what it makes of answers that are not every day's."""

from __future__ import annotations

from typing import Any

import httpx2
import msgspec
import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage
from wsproto.utilities import generate_accept_token

from pipaid.client.following import NUMBERS_PER_FRAME, Following, Position, Subscription, subscriptions_to
from pipaid.errors import InvalidParameter, NotFound, Unavailable
from pipaid.wire.frames import ClientFrame, parse_frame
from pipaid.wire.websocket import FRAME_BYTES_MAX, text_frame
from tests.client.test_asking import StillClock, way

ONE, TWO = "strat_00000001", "strat_00000002"


def following(*ids: str, after: int | Position | None = None, clock: StillClock | None = None) -> Following:
    return Following(way(clock), "ws://here/v1/ws", subscriptions_to(ids), after)


def open_up(follower: Following) -> list[ClientFrame]:
    """Let a follower connect, and return what it says first."""
    nonce = follower.headers()["Sec-WebSocket-Key"].encode()
    request = httpx2.Request("GET", follower.url)
    accept = {"Sec-WebSocket-Accept": generate_accept_token(nonce).decode()}
    said = follower.opened(httpx2.Response(101, headers=accept, request=request))
    server = Connection(ConnectionType.SERVER)
    server.receive_data(said)
    texts = [event.data for event in server.events() if isinstance(event, TextMessage)]
    assert max(map(len, texts)) <= FRAME_BYTES_MAX
    return [parse_frame(text) for text in texts]


def tell(follower: Following, *frames: dict[str, Any]) -> None:
    follower.received(b"".join([text_frame(msgspec.json.encode(frame)) for frame in frames]))


def ack(key: str, channel: str = "strategy.status", **more: Any) -> dict[str, Any]:
    return {"op": "ack", "channel": channel, "id": key, "ok": True, **more}


AUTH = {"op": "ack", "channel": "auth", "ok": True}


def event(key: str, seq: int) -> dict[str, Any]:
    return {"channel": "strategy.status", "event": "paused", "id": key, "seq": seq, "data": {}}


def heard(follower: Following) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    while each := follower.next():
        found.append((each["event"], each.get("seq", 0)))
    return found


def test_it_signs_in_with_its_first_frame_and_puts_no_secret_anywhere() -> None:
    follower = following(ONE)
    auth, subscribe = open_up(follower)

    assert (auth.op, auth.api_key, len(auth.signature)) == ("auth", "pk_1", 64)
    assert (subscribe.op, subscribe.channel, subscribe.ids) == ("subscribe", "strategy.status", [ONE])
    assert "pk_1" not in follower.url


def test_more_numbers_than_one_frame_may_hold_are_said_in_several() -> None:
    position = {f"strat_{number:08x}": 10**18 for number in range(2 * NUMBERS_PER_FRAME + 5)}
    _, *frames = open_up(following("*", after={**position, "*": 0, "bt_00000001": 4}))
    named = [frame.since_seq for frame in frames if isinstance(frame.since_seq, dict)]

    assert [len(each) for each in named] == [NUMBERS_PER_FRAME + 1, NUMBERS_PER_FRAME, 5]
    assert {key: seq for each in named for key, seq in each.items()} == {**position, "*": 0}


def test_what_comes_before_all_is_subscribed_is_not_taken_for_a_hole() -> None:
    follower = following(ONE, TWO, after={ONE: 3, TWO: 7})
    open_up(follower)
    tell(follower, AUTH, ack(ONE, position={ONE: 3}), event(TWO, 9), ack(TWO, position={TWO: 7}))
    tell(follower, event(TWO, 8), event(TWO, 9), event(ONE, 4))

    assert heard(follower) == [("paused", 8), ("paused", 9), ("paused", 4)]
    assert follower.position == {ONE: 4, TWO: 9}


def test_a_hole_is_asked_for_once_and_then_told() -> None:
    follower = following(ONE, after={ONE: 3})
    open_up(follower)
    tell(follower, AUTH, ack(ONE, position={ONE: 3}))
    with pytest.raises(Unavailable, match="events 4 to 5") as hole:
        tell(follower, event(ONE, 6))
    follower.fail(hole.value)
    assert follower.pause() > 0
    open_up(follower)
    tell(follower, AUTH, ack(ONE, position={ONE: 3}), event(ONE, 6))

    assert heard(follower) == [("lagged", 0), ("paused", 6)]
    assert follower.position == {ONE: 6}


def test_a_position_counts_what_was_handed_out_and_nothing_else() -> None:
    follower = following(ONE, after={ONE: 3})
    open_up(follower)
    tell(follower, AUTH, ack(ONE, position={ONE: 3}), event(ONE, 4), event(ONE, 5))

    assert follower.position == {ONE: 3}
    assert (follower.next() or {})["seq"] == 4
    assert follower.position == {ONE: 4}


def test_a_journal_that_went_back_is_followed_from_where_it_is() -> None:
    follower = following(ONE, after={ONE: 30})
    open_up(follower)
    tell(follower, AUTH, ack(ONE, position={ONE: 12}), event(ONE, 13))

    assert heard(follower) == [("paused", 13)]


def test_what_was_deleted_meanwhile_is_left_out_if_there_is_anything_else() -> None:
    gone = {**ack(TWO), "ok": False, "code": "NOT_FOUND", "message": "there is no strategy"}
    follower = following(ONE, TWO, after=0)
    open_up(follower)
    with pytest.raises(NotFound):
        tell(follower, AUTH, ack(ONE, position={ONE: 0}), gone)

    follower = following(ONE, TWO, after=0)
    open_up(follower)
    tell(follower, AUTH, ack(ONE, position={ONE: 0}), ack(TWO, position={TWO: 0}))
    open_up(follower)
    tell(follower, AUTH, ack(ONE, position={ONE: 0}), gone)
    _, only = open_up(follower)

    assert only.ids == [ONE]
    with pytest.raises(NotFound):
        tell(follower, AUTH, {**gone, "id": ONE})


def test_pings_are_answered() -> None:
    follower = following(ONE)
    open_up(follower)

    assert follower.received(b"\x89\x04ping")[:2] == b"\x8a\x84"


@pytest.mark.parametrize("data", [b"", b"\xff\xff", b"\x82\x01x", text_frame(b"no json"), b"\x88\x02\x03\xe9"])
def test_what_makes_no_sense_and_what_ends_cost_the_connection(data: bytes) -> None:
    follower = following(ONE)
    open_up(follower)

    with pytest.raises(Unavailable):
        follower.received(data)


def test_pauses_grow_and_patience_ends_until_a_connection_is_whole_again() -> None:
    clock = StillClock()
    follower = following(ONE, clock=clock)
    pauses: list[float] = []
    for _ in range(8):
        follower.fail(httpx2.ConnectError("refused"))
        pauses.append(follower.pause())

    assert follower.pause() == 0.0
    assert 0.25 <= pauses[0] <= 0.5 < pauses[-1] <= 5.0
    clock.us += 29_900_000
    follower.fail(httpx2.ConnectError("refused"))
    with pytest.raises(Unavailable, match="nobody answers at ws://here/v1/ws: refused"):
        follower.pause()
    open_up(follower)
    tell(follower, AUTH, ack(ONE, position={ONE: 0}))
    follower.fail(httpx2.ConnectError("refused"))
    assert follower.pause() <= 0.5


def test_a_refused_upgrade_is_raised_as_what_it_is() -> None:
    follower = following(ONE)
    follower.headers()
    answer = httpx2.Response(
        404, content=b'{"code":"NOT_FOUND","message":"no"}', request=httpx2.Request("GET", "ws://x")
    )

    with pytest.raises(NotFound):
        follower.opened(answer)


def test_a_market_is_followed_by_its_params_and_has_no_numbers() -> None:
    follower = Following(way(), "ws://here/v1/ws", (Subscription("market.ticker", params={"symbol": "BTCUSDT"}),))
    open_up(follower)
    tell(follower, AUTH, {"op": "ack", "channel": "market.ticker", "ok": True})
    tell(follower, {"event": "ticker", "ts": 1, "symbol": "BTCUSDT"})

    assert heard(follower) == [("ticker", 0)]
    assert follower.position == {}


@pytest.mark.parametrize("ids", [(), tuple(f"strat_{number:08x}" for number in range(201))])
def test_nobody_follows_nothing_or_too_much(ids: tuple[str, ...]) -> None:
    with pytest.raises(InvalidParameter):
        following(*ids)
    with pytest.raises(InvalidParameter):
        following(ONE, after=7)
