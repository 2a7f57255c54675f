"""Hostile clients at work: they do what was made for them and note what they were answered."""

from __future__ import annotations

import socket
import struct
from collections import Counter
from contextlib import suppress

import msgspec
import trio
from attrs import define, field

from pipaid.wire.envelope import ANSWER_BYTES_MAX
from pipaid.wire.lines import LineReader
from tests.fuzz.frames import Conversation, Leaving
from tests.fuzz.lines import Attack, Manner
from tests.surfaces.streams import RawClient, masked

# An answer that is not there by then will not come.
ANSWER_S_MAX = 60.0
# What a client reads before it leaves without another word.
GLANCE_S = 0.02
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
# The daemon's own failures, which no client may be able to bring about.
FAILURE = "INTERNAL_ERROR"
CLOSED_FOR_FAILURE = 1011
# No client can be told this, so none may be.
CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1009, 4401, 4408, 4409, 4429})
_EVENT = b'"ok":true,"event":'


class _Error(msgspec.Struct):
    code: str


class _Answered(msgspec.Struct):
    ok: bool
    error: _Error | None = None


_answers = msgspec.json.Decoder(_Answered)


@define
class Heard:
    """What hostile clients were answered; `defects` are what must never happen, with what was sent."""

    sent: int = 0
    connections: int = 0
    answers: Counter[str] = field(factory=Counter[str])
    events: int = 0
    defects: list[tuple[str, bytes]] = field(factory=list[tuple[str, bytes]])


async def carry_out(attack: Attack, stream: trio.SocketStream, heard: Heard) -> None:
    """Send what one hostile client sends to the control socket, and hold the answers to what was promised."""
    heard.sent += len(attack.lines)
    heard.connections += 1
    answers = Counter[str]()
    async with stream:
        async with trio.open_nursery() as nursery:
            if attack.manner is not Manner.VANISH:
                nursery.start_soon(_listen, attack, stream, answers, heard)
            with suppress(*GONE):
                for piece in attack.pieces:
                    await stream.send_all(piece)
                if attack.manner is not Manner.VANISH:
                    await stream.send_eof()
    heard.answers += answers
    if answers[FAILURE]:
        heard.defects.append((FAILURE, attack.sent))
    if attack.manner is Manner.VANISH:
        return
    told = answers.total() - (attack.manner is Manner.OVERLONG)
    if attack.tails and told < len(attack.lines) - attack.tails:
        heard.answers["cut off"] += 1  # As whoever follows a tail and reads too slowly is.
    elif not len(attack.lines) - attack.tails <= told <= len(attack.lines) + attack.tails:
        heard.defects.append((f"{told} answers to {len(attack.lines)} lines, {attack.manner}", attack.sent))


async def _listen(attack: Attack, stream: trio.SocketStream, answers: Counter[str], heard: Heard) -> None:
    reader = LineReader(stream, ANSWER_BYTES_MAX)
    try:
        with trio.fail_after(ANSWER_S_MAX), suppress(*GONE):
            while (line := await reader.next_line()) is not None:
                if _EVENT in line[:100]:
                    heard.events += 1
                    continue
                answer = _answers.decode(line)
                answers[answer.error.code if answer.error else "ok"] += 1
    except (trio.TooSlowError, msgspec.MsgspecError) as trouble:
        heard.defects.append((f"{type(trouble).__name__}: {trouble}", attack.sent))


async def converse(conversation: Conversation, stream: trio.SocketStream, heard: Heard) -> None:
    """Say what one hostile client says to the stream, and hold what comes back to the protocol."""
    heard.sent += conversation.frames
    heard.connections += 1
    client = RawClient(stream)
    async with stream:
        with suppress(*GONE):
            await stream.send_all(conversation.head)
            try:
                head = await client.read_head()
            except trio.TooSlowError:
                heard.defects.append(("the handshake was not answered", conversation.head))
                return
            if not head.startswith(b"HTTP/1.1 101"):
                heard.answers[f"http {head[9:12].decode('ascii', 'replace') or 'closed'}"] += 1
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_hear, client, conversation, heard, nursery)
                with suppress(*GONE):
                    for write in conversation.writes:
                        await stream.send_all(write)
                    await _leave(conversation.leaving, stream)
                if conversation.leaving in (Leaving.LISTEN, Leaving.VANISH, Leaving.RESET):
                    nursery.cancel_scope.cancel()


async def _leave(leaving: Leaving, stream: trio.SocketStream) -> None:
    match leaving:
        case Leaving.CLOSE:
            # What was said before may have ended in the middle of a frame, which then swallows this one.
            await stream.send_all(masked(struct.pack("!H", 1000), opcode=8))
            await stream.send_eof()
        case Leaving.LISTEN:
            await trio.sleep(GLANCE_S)
        case Leaving.HALF:
            await stream.send_eof()
        case Leaving.RESET:
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        case Leaving.VANISH:
            pass


async def _hear(client: RawClient, conversation: Conversation, heard: Heard, nursery: trio.Nursery) -> None:
    """Read frames up to the close frame, or the end."""
    code = 0
    with trio.move_on_after(ANSWER_S_MAX) as patience, suppress(*GONE):
        while frame := await client.next_frame():
            if frame[0] == 8:
                code = int.from_bytes(frame[1][:2])
                break
            heard.events += 1
    if patience.cancelled_caught:
        heard.defects.append((f"not closed after {conversation.leaving}", conversation.head))
    heard.answers[f"close {code or 'without a word'}"] += 1
    if code and code not in CLOSE_CODES and not 3000 <= code < 5000:
        heard.defects.append((f"closed with {code}", conversation.head + b"".join(conversation.writes)))
    nursery.cancel_scope.cancel()
