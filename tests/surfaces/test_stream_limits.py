"""Every bound of the stream holds, and a connection that breaks one is closed with the code that says which."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from actors.stream import StreamLimits
from pipaid.model.request import KeyCreate, KeyRotate
from pipaid.wire.budget import Budgets
from pipaid.wire.gate import Gate
from pipaid.wire.websocket import FRAME_BYTES_MAX, HEAD_BYTES_MAX
from tests.surfaces.streams import (
    ACCOUNT,
    UNHURRIED,
    MemoryListener,
    masked,
    open_desk,
    raw_client,
    strategy_ids,
    until,
)

(ONE,) = strategy_ids(1)
CHANNEL = "strategy.status"


async def test_who_does_not_authenticate_within_five_seconds_is_closed(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_desk(tmp_path, memory=MemoryListener()) as desk, desk.connected(signed=False) as client:
        begun = trio.current_time()
        assert await client.close_code() == 4401
        assert trio.current_time() - begun == pytest.approx(5.0, abs=0.1)


async def test_who_authenticates_in_time_stays(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with open_desk(tmp_path, memory=MemoryListener()) as desk, desk.connected(signed=False) as client:
        await trio.sleep(4.9)
        assert (await client.ask(op="auth", **desk.credentials()))["ok"] is True
        await trio.sleep(30)
        assert (await client.subscribe(ONE))["ok"] is True


@pytest.mark.parametrize("signed", [True, False])
async def test_a_failed_authentication_is_told_and_closed(signed: bool, tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk:
        good = desk.secret
        desk.secret = "wrong" if signed else good
        async with desk.connected(signed=signed) as client:
            desk.secret = "wrong"
            if not signed:
                await client.say(op="auth", req_id="q", **desk.credentials())
            answer = await client.hear()

            assert (answer["channel"], answer["ok"], answer["code"]) == ("auth", False, "INVALID_SIGNATURE")
            assert answer.get("req_id") == (None if signed else "q")
            assert await client.close_code() == 4401


async def test_an_address_pays_for_signatures_that_fail_out_of_the_budget_of_all_surfaces(tmp_path: Path) -> None:
    addresses = Budgets(2, 0.001)
    async with open_desk(tmp_path) as desk:
        gate = Gate(desk.keys, desk.clock, keys=Budgets(2, 0.001), addresses=addresses)
        desk.server.toll = gate.told_after_paying
        good, desk.secret = desk.secret, "wrong"
        told: list[tuple[str, int | None]] = []
        for _ in range(3):
            async with desk.connected(signed=False) as client:
                answer = await client.ask(op="auth", **desk.credentials())
                told.append((answer["code"], await client.close_code()))
        desk.secret = good
        async with desk.connected() as client:
            assert (await client.subscribe(ONE))["ok"] is True

    assert told == [("INVALID_SIGNATURE", 4401), ("INVALID_SIGNATURE", 4401), ("RATE_LIMITED", 4409)]
    assert addresses.standing("127.0.0.1", now_s=desk.clock.monotonic_s()).remaining == 0


async def test_a_stale_timestamp_is_refused(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, desk.connected(signed=False) as client:
        answer = await client.ask(op="auth", **desk.credentials(skew_ms=-31_000))
        assert "behind" in answer["message"]
        assert await client.close_code() == 4401


async def test_a_signed_url_with_a_parameter_twice_is_refused(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, raw_client(desk) as client:
        target = desk.url().partition(f":{desk.port}")[2]
        await client.shake_hands(f"{target}&api_key=pk_other")
        assert await client.close_code() == 4401


async def test_revoking_a_key_closes_its_connections_and_no_others(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, desk.connected() as revoked:
        other = await desk.keys.create(KeyCreate(name="other", scopes=("trade",)), account=ACCOUNT)
        first, (desk.api_key, desk.secret) = desk.api_key, (other.api_key, str(other.secret))
        async with desk.connected() as staying:
            await desk.keys.revoke(first)
            assert await revoked.close_code() == 4401
            assert (await staying.subscribe(ONE))["ok"] is True


async def test_a_key_that_expires_is_closed_at_the_next_heartbeat(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_desk(tmp_path, memory=MemoryListener()) as desk:
        expires_at = desk.clock.now_us() // 1000 + 50_000
        made = await desk.keys.create(KeyCreate(name="x", scopes=("trade",), expires_at=expires_at), account=ACCOUNT)
        desk.api_key, desk.secret = made.api_key, str(made.secret)
        async with desk.connected() as client:
            assert await client.close_code(within_s=65) == 4401
            assert desk.clock.now_us() // 1000 > expires_at


async def test_a_rotated_key_keeps_its_connections(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, desk.connected() as client:
        await desk.keys.rotate(KeyRotate(id=desk.api_key, grace_s=0))
        assert (await client.subscribe(ONE))["ok"] is True


async def test_two_missed_pings_close_and_an_answering_client_stays(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with (
        open_desk(tmp_path, memory=MemoryListener()) as desk,
        desk.connected() as lively,
        raw_client(desk) as mute,
    ):
        begun = trio.current_time()
        await mute.shake_hands(desk.url().partition(f":{desk.port}")[2])
        pings: list[float] = []
        code = 0
        while frame := await mute.next_frame():
            if frame[0] == 9:
                pings.append(trio.current_time() - begun)
            if frame[0] == 8:
                code = int.from_bytes(frame[1][:2])
                break

        assert pings == pytest.approx([20.0, 40.0], abs=0.5)
        assert code == 4408
        assert trio.current_time() - begun == pytest.approx(60.0, abs=0.5)
        assert (await lively.subscribe(ONE))["ok"] is True


async def test_one_missed_ping_is_forgiven(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with open_desk(tmp_path, memory=MemoryListener()) as desk, raw_client(desk) as client:
        await client.shake_hands(desk.url().partition(f":{desk.port}")[2])
        heard = 0
        with trio.move_on_after(300):
            while frame := await client.next_frame():
                assert frame[0] == 9
                heard += 1
                if heard % 2 == 0:
                    await client.send(frame[1], opcode=10)
        assert heard >= 12


async def test_the_fifty_first_connection_of_a_key_is_closed_and_room_is_made_again(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk:
        async with trio.open_nursery() as nursery:
            ready: list[bool] = []

            async def stay() -> None:
                async with desk.connected() as client:
                    ready.append((await client.subscribe(ONE))["ok"])
                    await trio.sleep_forever()

            for _ in range(50):
                nursery.start_soon(stay)
            await until(lambda: len(ready) == 50)
            assert all(ready)
            async with desk.connected() as client:
                answer = await client.hear()
                assert (answer["ok"], answer["code"]) == (False, "RATE_LIMITED")
                assert await client.close_code() == 4409
            nursery.cancel_scope.cancel()
        await until(lambda: not desk.server.clients)
        async with desk.connected() as client:
            assert (await client.subscribe(ONE))["ok"] is True


async def test_twenty_frames_in_a_second_are_fine_and_a_flood_is_closed(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_desk(tmp_path, memory=MemoryListener()) as desk, desk.connected() as client:
        for _ in range(3):
            for number in range(20):
                assert (await client.ask(op="ping", req_id=number))["req_id"] == number
            await trio.sleep(1.01)
        for _ in range(21):
            await client.say(op="ping")
        assert await client.close_code() == 4429


@pytest.mark.parametrize(("opcode", "fin"), [(9, True), (10, True), (0, False), (2, False)])
async def test_no_kind_of_frame_escapes_the_limit(opcode: int, fin: bool, tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, raw_client(desk) as client:
        await client.shake_hands(desk.url().partition(f":{desk.port}")[2])
        if opcode == 0:
            await client.send(b"", fin=False)
        await client.stream.send_all(masked(b"", opcode=opcode, fin=fin) * 1_000)
        assert await client.close_code() in {4429, 1002}
        assert desk.server.closed[4429] + desk.server.closed[1002] == 1


@pytest.mark.parametrize("pieces", [1, 5])
async def test_a_message_over_64_kib_is_closed_however_it_is_cut(pieces: int, tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, raw_client(desk) as client:
        await client.shake_hands(desk.url().partition(f":{desk.port}")[2])
        size = FRAME_BYTES_MAX // pieces + 1
        for piece in range(pieces):
            await client.send(b"x" * size, opcode=0 if piece else 1, fin=piece == pieces - 1)
        assert await client.close_code() == 1009


async def test_a_message_of_64_kib_is_read(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, desk.connected() as client:
        padding = " " * (FRAME_BYTES_MAX - len('{"op":"ping"}'))
        await client.socket.send_message('{"op":"ping"}' + padding)
        assert (await client.hear())["op"] == "pong"


async def test_an_announced_length_is_judged_before_the_bytes_arrive(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, raw_client(desk) as client:
        await client.shake_hands(desk.url().partition(f":{desk.port}")[2])
        await client.stream.send_all(b"\x81\xff" + (2**62).to_bytes(8) + bytes(4))
        assert await client.close_code() == 1009


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (masked(b"\x00\x01", opcode=2), 1003),
        (masked(b"\xff\xfe", opcode=1), 1007),
        (masked(b"", opcode=3), 1002),
        (b"\x81\x02{}", 1002),
        (b"\xc1\x80" + bytes(4), 1002),
        (masked(b"x" * 126, opcode=9), 1002),
        (masked(b"", opcode=0), 1002),
        (masked(b"\x03\xe8bye", opcode=8), 1000),
        (masked(b"\x0f\xa0", opcode=8), 4000),
    ],
)
async def test_the_protocols_own_errors_have_the_protocols_own_codes(data: bytes, code: int, tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, raw_client(desk) as client:
        await client.shake_hands(desk.url().partition(f":{desk.port}")[2])
        await client.stream.send_all(data)
        assert await client.close_code() == code


async def test_a_handshake_that_takes_its_time_is_cut_off(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_desk(tmp_path, memory=MemoryListener()) as desk, raw_client(desk) as slow:
        begun = trio.current_time()
        await slow.stream.send_all(b"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        assert await slow.read_head() == b""
        assert trio.current_time() - begun < 8


@pytest.mark.parametrize(
    "head",
    [
        b"x" * (2 * HEAD_BYTES_MAX),
        b"\x00\xff\xfe\r\n\r\n",
        b"GET /v1/ws HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /v1/ws\xff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /v1/ws HTTP/1.1\r\n\r\n",
        b"GET /v1/ws HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"GET / HTTP/9\r\n\r\n",
        b"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Up\xd9rade\r\n\r\n",
        b"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: web\xff\r\nConnection: Upgrade\r\n\r\n",
    ],
)
async def test_a_broken_request_gets_an_answer_and_no_connection(head: bytes, tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk, raw_client(desk) as client:
        await client.stream.send_all(head)
        assert int((await client.read_head()).split(b" ")[1]) in (400, 403)


async def test_a_server_that_ends_tells_everybody(tmp_path: Path) -> None:
    codes: list[int] = []
    async with trio.open_nursery() as nursery:
        ready = trio.Event()
        async with open_desk(tmp_path) as desk:

            async def stay(signed: bool) -> None:
                async with desk.connected(signed=signed) as client:
                    ready.set()
                    codes.append(await client.close_code())

            nursery.start_soon(stay, True)
            nursery.start_soon(stay, False)
            await ready.wait()
            await trio.sleep(0.05)
    assert codes == [1001, 1001]


async def test_above_the_limit_of_clients_new_ones_are_turned_away_at_once(tmp_path: Path) -> None:
    limits = StreamLimits(clients_max=3, strangers_max=2)
    async with open_desk(tmp_path, limits=limits) as desk:
        async with raw_client(desk) as one, raw_client(desk) as two:
            await one.shake_hands()
            await two.shake_hands()
            async with raw_client(desk) as stranger:
                assert await stranger.shake_hands() == b""
        assert desk.server.turned_away == 1
        await until(lambda: not desk.server.clients)
        async with desk.connected(), desk.connected(), desk.connected(), raw_client(desk) as fourth:
            await until(lambda: desk.server.clients == 3)
            assert await fourth.shake_hands() == b""


async def test_who_leaves_answers_unread_is_closed(tmp_path: Path) -> None:
    async with open_desk(tmp_path, limits=UNHURRIED) as desk, raw_client(desk) as client:
        await client.shake_hands(desk.url().partition(f":{desk.port}")[2])
        # Each answer echoes the id; nobody reads them.
        frame = b'{"op":"subscribe","channel":"%s","id":[%s]}' % (
            b"c" * 128,
            b",".join([b'"' + b"i" * 128 + b'"'] * 200),
        )
        with trio.fail_after(20), suppress(trio.BrokenResourceError):
            for _ in range(2_000):
                await client.send(frame)
                if desk.server.closed[4429]:
                    break
        await until(lambda: desk.server.closed[4429] == 1)
