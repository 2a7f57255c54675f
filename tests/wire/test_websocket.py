"""Frames are encoded as the library would, and a client's bytes are followed however they are cut."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage

from pipaid.wire.websocket import FRAME_BYTES_MAX, FrameMeter, Refused, close_frame, text_frame
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
