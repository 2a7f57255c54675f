"""Frames are encoded as the library would, and a client's bytes are followed however they are cut."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage

from pipaid.seams import SystemClock, SystemNet
from pipaid.wire.websocket import FRAME_BYTES_MAX, FrameMeter, Line, Refused, close_frame, text_frame
from tests.surfaces.streams import masked


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
def test_a_text_frame_is_what_the_library_would_send(size: int) -> None:
    text = "é" * (size // 2) + "x" * (size % 2)
    library = Connection(ConnectionType.SERVER)

    assert text_frame(text.encode()) == bytes(library.send(TextMessage(data=text)))


@pytest.mark.parametrize("reason", ["", "too slow", "é" * 100])
def test_a_close_frame_is_what_the_library_would_send(reason: str) -> None:
    library = Connection(ConnectionType.SERVER)

    assert close_frame(4429, reason) == bytes(library.send(CloseConnection(code=4429, reason=reason)))


@given(
    st.lists(st.tuples(st.sampled_from([1, 9, 10]), st.integers(0, 300) | st.just(60_000)), max_size=20), st.randoms()
)
def test_frames_are_counted_however_their_bytes_are_cut(frames: list[tuple[int, int]], rng: random.Random) -> None:
    data = b"".join(masked(b"x" * min(size, 125 if opcode > 2 else size), opcode=opcode) for opcode, size in frames)
    meter = FrameMeter()
    begun = position = 0
    while position < len(data):
        step = rng.choice([1, 2, 7, 100, 4_096, 70_000])
        begun += meter.feed(data[position : position + step], 1_000)
        position += step

    assert begun == len(frames)


def test_a_frame_too_many_is_refused() -> None:
    meter = FrameMeter()
    assert meter.feed(masked(b"x") * 3, 3) == 3

    with pytest.raises(Refused) as refused:
        meter.feed(masked(b"x") * 3, 2)
    assert refused.value.code == 4429


def test_the_pieces_of_a_message_count_together_and_control_frames_between_them_do_not() -> None:
    meter = FrameMeter()
    half = masked(b"x" * (FRAME_BYTES_MAX // 2), fin=False)
    meter.feed(half + masked(b"ping", opcode=9), 10)
    meter.feed(masked(b"x" * (FRAME_BYTES_MAX // 2), opcode=0), 10)
    meter.feed(half, 10)

    with pytest.raises(Refused) as refused:
        meter.feed(masked(b"x" * (FRAME_BYTES_MAX // 2 + 1), opcode=0), 10)
    assert refused.value.code == 1009


async def test_a_closed_client_that_has_not_read_gets_the_frame_begun_and_the_reason_and_nothing_between() -> None:
    (listener,) = await SystemNet().listen_tcp("127.0.0.1", 0)
    reader = trio.socket.socket()
    reader.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4_096)
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(reader.connect, listener.socket.getsockname())
        line = Line(await listener.accept(), SystemClock(), SystemNet(), close_s=0.2)
    line.upgraded = True
    begun, unbegun = text_frame(b"x" * 200_000), text_frame(b"never begun")
    with trio.move_on_after(0.05) as scope:
        await line.send(begun + unbegun)
    await line.finish(4429, "too slow")

    assert scope.cancelled_caught
    async with trio.SocketStream(reader) as stream:
        received = b"".join([data async for data in stream])
    assert received == begun + close_frame(4429, "too slow")


async def test_another_kind_of_stream_is_not_interrupted_within_a_frame() -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    line = Line(ours, SystemClock(), SystemNet(), close_s=0.2)
    line.upgraded = True
    received: list[bytes] = []

    async def read() -> None:
        await trio.sleep(0.05)
        received.extend([bytes(data) async for data in theirs])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        with trio.move_on_after(0.01):
            await line.send(text_frame(b"x" * 10_000))
        await line.finish(4429, "too slow")

    assert b"".join(received) == text_frame(b"x" * 10_000) + close_frame(4429, "too slow")
