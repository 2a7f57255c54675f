"""Hostile WebSocket clients: handshakes, frames and messages of every kind of wrongness, and how they leave."""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import StrEnum
from random import Random
from typing import Final

from attrs import define, field, frozen

from pipaid.wire.websocket import FRAME_BYTES_MAX
from tests.fuzz.literals import damaged, json_text, nested, object_text, quoted
from tests.fuzz.target import CORPUS

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
# After so many messages that cannot be understood one that can follows, so that the connection lives on.
PATIENCE: Final = 7
GOOD_PING: Final = b'{"op":"ping"}'
_HEAD: Final = (
    "GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_FIELDS: Final = (b"op", b"channel", b"id", b"since_seq", b"ext", b"req_id", b"api_key", b"timestamp", b"signature")


class Leaving(StrEnum):
    """How a hostile client ends."""

    CLOSE = "close"
    LISTEN = "listen"
    VANISH = "vanish"
    RESET = "reset"
    HALF = "half"


@frozen
class Conversation:
    """What one connection says: its head, its writes, how many frames there are in them, and how it leaves."""

    head: bytes
    writes: tuple[bytes, ...]
    frames: int
    leaving: Leaving


@frozen
class Signed:
    """What a key's holder says of itself at one moment."""

    query: str
    frame: bytes


@define
class Frames:
    """Make conversations; `sign` gives the credentials of some key at this moment."""

    sign: Callable[[Random], Signed]
    ids: list[str] = field(factory=lambda: [f"strat_{number:08x}" for number in range(1, 7)])
    # How many frames a connection says, at the most, if it does not mean to flood.
    most: int = 20
    corpus: tuple[bytes, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.corpus = tuple(path.read_bytes() for path in sorted((CORPUS / "frames").glob("*")))

    def conversation(self, chance: Random) -> Conversation:
        """Make what one hostile client says."""
        signed = self.sign(chance)
        draw = chance.random()
        target = f"/v1/ws?{signed.query}" if draw < 0.6 else "/v1/ws"
        head = _HEAD.format(target=target).encode()
        if draw > 0.97:
            head = damaged(chance, head)
        said: list[bytes] = [frame(chance, signed.frame)] if 0.6 < draw < 0.9 else []
        wanted = self.most * 3 if chance.random() < 0.03 else chance.randrange(1, self.most)
        lost = 0
        while len(said) < wanted:
            message, understood = self.message(chance, signed)
            if chance.random() < 0.98:  # Anything but UTF-8 ends a connection at once.
                message = message.decode("utf-8", "replace").encode()
            lost = 0 if understood else lost + 1
            said.extend(framed(chance, message))
            if lost >= PATIENCE:
                said.append(frame(chance, GOOD_PING))
                lost = 0
        if chance.random() < 0.4:
            said.append(self.breach(chance))
        return Conversation(head, _writes(chance, said), len(said), _leaving(chance))

    def message(self, chance: Random, signed: Signed) -> tuple[bytes, bool]:
        """Return the payload of a message, and whether it is one that can be understood."""
        draw = chance.random()
        if draw < 0.45:
            return self.request(chance, hostile=0), True
        if draw < 0.7:
            return self.request(chance, hostile=1), False
        if draw < 0.82:
            return damaged(chance, self.request(chance, hostile=chance.randrange(3))), False
        if draw < 0.86:
            return b'{"op":"subscribe","id":' + nested(chance) + b"}", False
        if draw < 0.9:
            return json_text(chance, 3), False
        if draw < 0.93:
            return damaged(chance, signed.frame), False
        return chance.choice(self.corpus) if self.corpus and draw < 0.96 else GOOD_PING, draw >= 0.96

    def request(self, chance: Random, *, hostile: int) -> bytes:
        """Return a message of which so many members, at most, are not what they should be."""
        ids = [quoted(chance.choice(self.ids)) for _ in range(chance.choice((1, 1, 2, 5)))]
        members = {
            b"op": chance.choice((b'"subscribe"',) * 5 + (b'"unsubscribe"', b'"unsubscribe"', b'"ping"')),
            b"channel": chance.choice((b'"strategy.status"',) * 8 + (b'"market.klines"', b'"nowhere"')),
            b"id": chance.choice((ids[0], b"[%b]" % b",".join(ids), b'"*"')),
        }
        if chance.random() < 0.3:
            # From the beginning means all that there is, which after a while is a lot.
            often = (b"100000", b"9223372036854775807", b"{%b:100000}" % ids[0], b"null")
            members[b"since_seq"] = chance.choice(often if chance.random() < 0.95 else (b"0", b"1", b"{%b:0}" % ids[0]))
        if chance.random() < 0.3:
            members[b"ext"] = chance.choice((b"true", b"false"))
        if chance.random() < 0.5:
            members[b"req_id"] = chance.choice((b"7", b'"r"', b"null"))
        for _ in range(hostile):
            members[chance.choice(_FIELDS)] = json_text(chance)
        return object_text(members)

    def breach(self, chance: Random) -> bytes:
        """Return bytes that break the protocol itself, after which nothing more is read."""
        match chance.randrange(10):
            case 0:
                return frame(chance, chance.randbytes(chance.randrange(60)), opcode=BINARY)
            case 1:
                return frame(chance, chance.randbytes(chance.randrange(1, 60)), opcode=TEXT)
            case 2:
                return frame(chance, b"x", opcode=chance.choice((3, 4, 5, 6, 7, 11, 12, 15)))
            case 3:
                return frame(chance, GOOD_PING, reserved=chance.randrange(1, 8))
            case 4:
                return b"\x81\x0d" + GOOD_PING  # A client's frame without a mask.
            case 5:
                return frame(chance, b"x" * chance.choice((126, 300)), opcode=chance.choice((CLOSE, PING, PONG)))
            case 6:
                return frame(chance, b"", opcode=chance.choice((CLOSE, PING)), final=False)
            case 7:
                length = chance.choice((FRAME_BYTES_MAX + 1, 2**31, 2**62, 2**64 - 1))
                return b"\x81\xff" + struct.pack("!Q", length) + chance.randbytes(4 + chance.randrange(40))
            case 8:
                code = chance.choice((0, 999, 1000, 1005, 1006, 1015, 2999, 4000, 5000, 65535))
                return frame(chance, struct.pack("!H", code) + chance.randbytes(chance.randrange(4)), opcode=CLOSE)
            case _:
                return damaged(chance, frame(chance, GOOD_PING)) + chance.randbytes(chance.randrange(30))


def frame(chance: Random, payload: bytes, *, opcode: int = TEXT, final: bool = True, reserved: int = 0) -> bytes:
    """Return a client's frame, masked with whatever comes."""
    length = len(payload)
    first = opcode | 0x80 * final | reserved << 4
    if length < 126:
        head = bytes((first, 0x80 | length))
    elif length < 65_536:
        head = struct.pack("!BBH", first, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, length)
    mask = chance.randbytes(4)
    pad = (mask * (length // 4 + 1))[:length]
    return head + mask + (int.from_bytes(payload) ^ int.from_bytes(pad)).to_bytes(length)


def framed(chance: Random, message: bytes) -> list[bytes]:
    """Return a message as one frame, or as several with others between them."""
    message = message[:FRAME_BYTES_MAX]
    if chance.random() < 0.85:
        return [frame(chance, message)]
    cuts = sorted(chance.randrange(len(message) + 1) for _ in range(chance.randrange(1, 4)))
    parts = [message[start:end] for start, end in zip([0, *cuts], [*cuts, len(message)], strict=True)]
    said: list[bytes] = []
    for number, part in enumerate(parts):
        said.append(frame(chance, part, opcode=0 if number else TEXT, final=number == len(parts) - 1))
        if chance.random() < 0.3:
            said.append(frame(chance, chance.randbytes(chance.randrange(9)), opcode=chance.choice((PING, PONG))))
    return said


def _writes(chance: Random, said: list[bytes]) -> tuple[bytes, ...]:
    """Cut what is said into writes: all at once, frame by frame, or wherever it comes."""
    whole = b"".join(said)
    if chance.random() < 0.6:
        return (whole,)
    if chance.random() < 0.5:
        return tuple(said)
    cuts = sorted(chance.randrange(len(whole) + 1) for _ in range(4))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    return tuple(piece for piece in pieces if piece)


def _leaving(chance: Random) -> Leaving:
    return chance.choices(tuple(Leaving), (40, 20, 15, 10, 15))[0]
