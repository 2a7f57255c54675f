"""The event stream says what the contract says, frame by frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from actors.stream import StreamLimits
from pipaid.model.event import event_frame
from pipaid.model.request import KeyCreate
from pipaid.storage.store import StoredEvent
from tests.surfaces.streams import ACCOUNT, UNHURRIED, cancelled, open_desk, raw_client, strategy_ids

ONE, TWO, THREE = strategy_ids(3)
FOREIGN = "strat_ffffff00"
CHANNEL = "strategy.status"
BACKTESTS = "backtest.status"
JOB = "bt_0a1b2c3d"


def ack(strategy_id: str, **more: Any) -> dict[str, Any]:
    return {"op": "ack", "channel": CHANNEL, "id": strategy_id, "ok": True, **more}


@pytest.mark.parametrize("path", ["/v1/ws", "/ws"])
async def test_both_paths_take_both_ways_to_authenticate(path: str, tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk:
        async with desk.connected(path) as client:
            assert await client.subscribe(ONE) == ack(ONE)
        async with desk.connected(path, signed=False) as client:
            answer = await client.ask(op="auth", req_id="a1", **desk.credentials(path))
            assert answer == {"op": "ack", "channel": "auth", "ok": True, "req_id": "a1"}
            assert await client.subscribe(ONE) == ack(ONE)


async def test_a_signature_for_the_other_path_is_none(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, desk.connected("/ws", signed=False) as client:
        answer = await client.ask(op="auth", **desk.credentials("/v1/ws"))
        assert answer["ok"] is False
        assert await client.close_code() == 4401


async def test_an_event_arrives_as_it_was_stored(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, desk.connected() as client:
        await client.subscribe(ONE)
        await desk.emit(ONE)
        frame = await client.hear()

    assert list(frame) == ["channel", "event", "id", "seq", "ts", "event_id", "run_id", "dry_run", "data"]
    assert (frame["channel"], frame["event"], frame["id"], frame["seq"]) == (CHANNEL, "order_cancelled", ONE, 1)


async def test_several_ids_are_acknowledged_one_by_one(tmp_path: Path) -> None:
    async with open_desk(tmp_path, strategies=[ONE, TWO]) as desk, desk.connected() as client:
        await client.say(op="subscribe", channel=CHANNEL, id=[ONE, FOREIGN, TWO], req_id=7)
        answers = [await client.hear() for _ in range(3)]
        assert answers[0] == ack(ONE, req_id=7)
        assert (answers[1]["id"], answers[1]["ok"], answers[1]["code"]) == (FOREIGN, False, "NOT_FOUND")
        assert answers[2] == ack(TWO, req_id=7)

        await desk.emit(ONE, TWO)
        assert [(await client.hear())["id"] for _ in range(2)] == [ONE, TWO]


async def test_the_wildcard_covers_the_account_later_strategies_included_and_no_other(tmp_path: Path) -> None:
    async with open_desk(tmp_path, strategies=[ONE]) as desk, desk.connected() as client:
        assert await client.subscribe("*") == ack("*")
        desk.owners.accounts |= {TWO: ACCOUNT, FOREIGN: "acct_other"}
        await desk.emit(FOREIGN, ONE, TWO)

        assert [(await client.hear())["id"] for _ in range(2)] == [ONE, TWO]
        assert (await client.subscribe(FOREIGN))["code"] == "NOT_FOUND"


async def test_a_backtest_is_followed_by_its_id_and_the_wildcard_is_for_strategies_alone(tmp_path: Path) -> None:
    async with open_desk(tmp_path, strategies=[ONE, JOB]) as desk, desk.connected() as client:
        await desk.emit_progress(JOB, 0.25)
        assert await client.subscribe("*") == ack("*")
        followed = await client.ask(op="subscribe", channel=BACKTESTS, id=JOB, since_seq=0)
        assert followed == {**ack(JOB), "channel": BACKTESTS}
        await desk.emit_progress(JOB, 0.5)
        await desk.emit(ONE)
        heard = [await client.hear() for _ in range(3)]

        assert sorted((frame["channel"], frame["id"], frame["seq"]) for frame in heard) == [
            (BACKTESTS, JOB, 1), (BACKTESTS, JOB, 2), (CHANNEL, ONE, 1),
        ]  # fmt: skip
        await client.ask(op="unsubscribe", channel=BACKTESTS, id=JOB)
        await desk.emit_progress(JOB, 0.75)
        await desk.emit(ONE)
        assert (await client.hear())["seq"] == 2


async def test_the_wildcard_alone_brings_no_backtest(tmp_path: Path) -> None:
    async with open_desk(tmp_path, strategies=[ONE, JOB]) as desk, desk.connected() as client:
        await client.subscribe("*")
        await desk.emit_progress(JOB, 0.5)
        await desk.emit(ONE)

        assert (await client.hear())["id"] == ONE


async def test_the_wildcard_brings_no_past_of_a_backtest_that_it_is_asked_for(tmp_path: Path) -> None:
    async with open_desk(tmp_path, strategies=[ONE, JOB]) as desk, desk.connected() as client:
        await desk.emit_progress(JOB, 0.5)
        await desk.emit(ONE)
        await client.subscribe("*", since_seq={JOB: 0, ONE: 0})
        await desk.emit(ONE)

        assert [(frame["id"], frame["seq"]) for frame in [await client.hear() for _ in range(2)]] == [
            (ONE, 1),
            (ONE, 2),
        ]


@pytest.mark.parametrize(
    ("channel", "id", "code"),
    [
        (BACKTESTS, "*", "INVALID_PARAMETER"),
        (BACKTESTS, ONE, "NOT_FOUND"),
        (CHANNEL, JOB, "NOT_FOUND"),
        (BACKTESTS, "bt_00000000", "NOT_FOUND"),
    ],
)
async def test_each_channel_has_its_own_ids(tmp_path: Path, channel: str, id: str, code: str) -> None:
    async with open_desk(tmp_path, strategies=[ONE, JOB]) as desk, desk.connected() as client:
        assert (await client.ask(op="subscribe", channel=channel, id=id))["code"] == code


async def test_unsubscribing_ends_the_events_of_that_id(tmp_path: Path) -> None:
    async with open_desk(tmp_path, strategies=[ONE, TWO]) as desk, desk.connected() as client:
        await client.subscribe(ONE)
        await client.subscribe(TWO)
        answer = await client.ask(op="unsubscribe", channel=CHANNEL, id=ONE, req_id="u")
        assert answer == ack(ONE, req_id="u")
        await desk.emit(ONE, TWO)

        assert (await client.hear())["id"] == TWO
        assert (await client.ask(op="unsubscribe", channel=CHANNEL, id=ONE))["code"] == "NOT_FOUND"


async def test_a_resumed_subscription_is_acknowledged_before_its_replay(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk:
        for _ in range(5):
            await desk.emit(ONE)
        async with desk.connected() as client:
            assert await client.subscribe(ONE, since_seq=2) == ack(ONE)
            await desk.emit(ONE)
            assert [(await client.hear())["seq"] for _ in range(4)] == [3, 4, 5, 6]


async def test_the_wildcard_resumes_from_an_object_or_from_everything(tmp_path: Path) -> None:
    async with open_desk(tmp_path, strategies=[ONE, TWO]) as desk:
        for _ in range(3):
            await desk.emit(ONE, TWO)
        async with desk.connected() as client:
            assert await client.subscribe("*", since_seq={ONE: 1}) == ack("*")
            assert [(await client.hear())["seq"] for _ in range(2)] == [2, 3]
            assert await client.subscribe("*", since_seq=0) == ack("*")
            heard = sorted([(frame["id"], frame["seq"]) for frame in [await client.hear() for _ in range(6)]])
            assert heard == [(key, seq) for key in (ONE, TWO) for seq in (1, 2, 3)]
            assert (await client.subscribe("*", since_seq=4))["code"] == "INVALID_PARAMETER"


async def test_extended_events_come_with_after_seq_to_those_who_asked(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, desk.connected() as strict, desk.connected() as extended:
        await strict.subscribe(ONE)
        await extended.subscribe(ONE, ext=True)
        await desk.emit(ONE)
        await desk.emit(ONE, opt_in=True)
        await desk.emit(ONE)

        assert [(await strict.hear())["seq"] for _ in range(2)] == [1, 2]
        frames = [await extended.hear() for _ in range(3)]
        assert [frame.get("seq") for frame in frames] == [1, None, 2]
        assert frames[1]["after_seq"] == 1


async def test_ping_frames_of_both_kinds_are_answered(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, desk.connected(signed=False) as client:
        answer = await client.ask(op="ping", req_id="p")
        assert (answer["op"], answer["req_id"]) == ("pong", "p")
        assert abs(answer["ts"] - desk.clock.now_us() // 1000) < 5_000
        with trio.fail_after(5):
            await client.socket.ping(b"hello")


async def test_a_private_subscription_before_authentication_is_refused_and_the_connection_stays(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, desk.connected(signed=False) as client:
        answer = await client.subscribe(ONE, req_id=1)
        assert (answer["ok"], answer["code"], answer["req_id"]) == (False, "INVALID_SIGNATURE", 1)
        assert (await client.ask(op="auth", **desk.credentials()))["ok"] is True
        assert await client.subscribe(ONE) == ack(ONE)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"op": "subscribe", "channel": "market.klines", "params": {"symbol": "BTCUSDT"}}, "INVALID_PARAMETER"),
        ({"op": "subscribe", "channel": "strategy.orders", "id": ONE}, "INVALID_PARAMETER"),
        ({"op": "subscribe", "channel": CHANNEL}, "INVALID_PARAMETER"),
        ({"op": "unsubscribe", "channel": CHANNEL, "id": ONE}, "NOT_FOUND"),
        ({"op": "subscribe", "channel": CHANNEL, "id": "nonsense"}, "NOT_FOUND"),
    ],
)
async def test_what_cannot_be_followed_is_refused_with_a_code(frame: dict[str, Any], code: str, tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, desk.connected() as client:
        answer = await client.ask(**frame, req_id="r")

        assert (answer["op"], answer["channel"], answer["ok"]) == ("ack", frame["channel"], False)
        assert (answer["code"], answer["req_id"]) == (code, "r")
        assert (await client.subscribe(ONE))["ok"] is True


async def test_a_key_without_the_scope_may_connect_but_not_subscribe(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk:
        made = await desk.keys.create(KeyCreate(name="hooks", scopes=("webhooks:read",)), account=ACCOUNT)
        assert isinstance(made.secret, str)
        desk.api_key, desk.secret = made.api_key, made.secret
        async with desk.connected() as client:
            assert (await client.subscribe(ONE))["code"] == "INSUFFICIENT_PERMISSION"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        '{"op":7}',
        '{"op":"dance"}',
        '{"op":"subscribe","channel":"strategy.status","id":[]}',
        '{"op":"subscribe","channel":"strategy.status","id":"x","since_seq":-1}',
        '{"op":"subscribe","channel":"strategy.status","id":"x","since_seq":NaN}',
        '{"op":"auth","timestamp":1e999}',
        "[" * 60_000,
        '{"op":' * 10_000,
    ],
)
async def test_an_unparsable_frame_costs_an_error_and_nothing_else(text: str, tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, desk.connected() as client:
        await client.socket.send_message(text)
        answer = await client.hear()

        assert (answer["op"], answer["code"]) == ("error", "INVALID_PARAMETER")
        assert answer["message"]
        assert (await client.subscribe(ONE))["ok"] is True


async def test_the_error_echoes_a_req_id_that_can_be_read(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, desk.connected() as client:
        assert (await client.ask(op="dance", req_id=5))["req_id"] == 5
        assert (await client.ask(op=["subscribe"], req_id="x"))["req_id"] == "x"


async def test_ten_unparsable_frames_in_a_row_close_the_connection_and_nine_do_not(tmp_path: Path) -> None:
    async with open_desk(tmp_path, limits=UNHURRIED) as desk, desk.connected() as client:
        for _ in range(2):
            for _ in range(9):
                await client.ask(op="dance")
            assert (await client.ask(op="ping"))["op"] == "pong"
        for _ in range(10):
            await client.say(op="dance")
        assert await client.close_code() == 1003


async def test_at_most_so_many_subscriptions_per_connection(tmp_path: Path) -> None:
    strategies = strategy_ids(202)
    async with open_desk(tmp_path, strategies=strategies) as desk, desk.connected() as client:
        await client.say(op="subscribe", channel=CHANNEL, id=strategies[:200])
        assert all([(await client.hear())["ok"] for _ in range(200)])
        assert (await client.subscribe(strategies[200]))["code"] == "RATE_LIMITED"
        assert (await client.subscribe(strategies[0]))["ok"] is True
        await client.ask(op="unsubscribe", channel=CHANNEL, id=strategies[0])
        assert (await client.subscribe(strategies[201]))["ok"] is True
        await client.say(op="subscribe", channel=CHANNEL, id=strategies[:201])
        assert (await client.hear())["op"] == "error"


async def test_pages_of_other_origins_and_hosts_that_are_not_ours_are_refused_at_the_handshake(tmp_path: Path) -> None:
    async with open_desk(
        tmp_path, hosts=frozenset({"desk.example"}), origins=frozenset({"https://panel.example"})
    ) as desk:
        for host, origin, status in [
            ("127.0.0.1:5002", "", 101),
            ("localhost", "", 101),
            ("[::1]:5002", "", 101),
            ("DESK.example", "", 101),
            ("127.0.0.1:5002", "http://127.0.0.1:5001", 101),
            ("desk.example", "https://desk.example", 101),
            ("127.0.0.1", "https://panel.example", 101),
            ("127.0.0.1", "https://evil.example", 403),
            ("127.0.0.1", "null", 403),
            ("127.0.0.1", "http://127.0.0.1.evil.example", 403),
            ("127.0.0.1", "http://[", 403),
            # A page that made its own name point to this machine.
            ("evil.example", "http://evil.example", 403),
            ("evil.example", "", 403),
            ("127.0.0.1:5002:1", "", 403),
            ("a..b", "", 403),
        ]:
            async with raw_client(desk) as client:
                head = await client.shake_hands(host=host, extra=f"Origin: {origin}\r\n" if origin else "")
                assert int(head.split(b" ")[1]) == status, (host, origin)


async def test_other_paths_and_plain_requests_are_refused(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk:
        async with raw_client(desk) as client:
            assert b" 404 " in await client.shake_hands("/v2/ws")
        for target, host, told in [
            ("/", "127.0.0.1", (b'"NOT_FOUND"', b"/v1/ws")),
            ("/v1/ws", "127.0.0.1", (b'"INVALID_PARAMETER"', b"this is a WebSocket")),
            ("/v1/ws", "evil.example", (b'"INSUFFICIENT_PERMISSION"', b"by an address or as localhost")),
        ]:
            async with raw_client(desk) as client:
                await client.stream.send_all(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                answer = b"".join([chunk async for chunk in client.stream])
                assert all(each in answer for each in told), answer
        for head in (b"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"POST /v1/ws HTTP/1.1\r\nHost: a\r\n\r\n"):
            async with raw_client(desk) as client:
                await client.stream.send_all(head)
                assert int((await client.read_head()).split(b" ")[1]) in (400, 403)


async def test_compression_is_never_agreed_upon(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, raw_client(desk) as client:
        head = await client.shake_hands(extra="Sec-WebSocket-Extensions: permessage-deflate\r\n")

    assert b"101" in head
    assert b"deflate" not in head


async def test_an_unknown_field_of_a_later_release_is_ignored(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, desk.connected() as client:
        assert (await client.subscribe(ONE, depth=7))["ok"] is True


async def test_a_second_authentication_keeps_the_first(tmp_path: Path) -> None:
    async with open_desk(tmp_path, limits=StreamLimits(connections_per_key_max=1)) as desk, desk.connected() as client:
        assert (await client.ask(op="auth", **desk.credentials()))["ok"] is True
        other = await desk.keys.create(KeyCreate(name="other", scopes=("trade",)), account="acct_other")
        assert isinstance(other.secret, str)
        desk.api_key, desk.secret = other.api_key, other.secret
        assert (await client.ask(op="auth", **desk.credentials()))["code"] == "INVALID_STATE"
        assert (await client.subscribe(ONE))["ok"] is True


async def test_a_burst_larger_than_one_write_arrives_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipaid.wire.tap.TAKE_BYTES", 3_000)
    async with open_desk(tmp_path) as desk, desk.connected() as client:
        await client.subscribe(ONE)
        for seq in range(1, 101):
            frame = event_frame(cancelled(ONE, "x" * 2_000), seq=seq, ordinal=0)
            desk.hub.publish([StoredEvent(seq, ONE, seq, False, frame)])

        assert [(await client.hear())["seq"] for _ in range(100)] == list(range(1, 101))
