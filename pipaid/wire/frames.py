"""What clients of the event stream say, and what they are answered."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from pipaid.errors import InvalidParameter, PipaidError
from pipaid.model.event import EventDraft, Lagged, event_frame
from pipaid.wire.tap import WILDCARD, Bundle, Resumption
from pipaid.wire.websocket import text_frame

AUTH_CHANNEL: Final = "auth"
IDS_MAX: Final = 200

_Short = Annotated[str, msgspec.Meta(max_length=128)]
_Seq = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class ClientFrame(msgspec.Struct, frozen=True, kw_only=True):
    """Anything a client may send; which fields count depends on `op`."""

    op: _Short
    channel: _Short = ""
    id: _Short | Annotated[list[_Short], msgspec.Meta(min_length=1, max_length=IDS_MAX)] | None = None
    # Judged by the channel, so that a refusal names what is wrong in them.
    params: Any = None
    since_seq: _Seq | dict[_Short, _Seq] | None = None
    ext: bool = False
    # Whether the acknowledgement is to say where the subscription begins.
    position: bool = False
    req_id: _Short | int | None = None
    api_key: _Short = ""
    timestamp: _Seq | _Short = ""
    signature: _Short = ""

    @property
    def ids(self) -> list[str]:
        """Return what the frame names, be it one or several."""
        if self.id is None:
            return []
        return [self.id] if isinstance(self.id, str) else self.id


class _ReqId(msgspec.Struct, frozen=True):
    req_id: _Short | int | None = None


class ServerFrame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Anything but an event that the server says."""

    op: str
    channel: str | None = None
    id: str | None = None
    params: dict[str, Any] | None = None
    ok: bool | None = None
    code: str | None = None
    message: str | None = None
    oldest_seq: int | dict[str, int] | None = None
    position: dict[str, int] | None = None
    ts: int | None = None
    req_id: str | int | None = None


_DECODER: Final = msgspec.json.Decoder(ClientFrame)
_REQ_ID: Final = msgspec.json.Decoder(_ReqId)
_ENCODER: Final = msgspec.json.Encoder()


class Unparsable(InvalidParameter):
    """A frame that cannot be understood; `req_id` is echoed if at least that could be read."""

    def __init__(self, message: str, req_id: str | int | None) -> None:
        super().__init__(message)
        self.req_id = req_id


def parse_frame(text: str) -> ClientFrame:
    """Decode a client's frame."""
    try:
        return _DECODER.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Unparsable(f"the frame cannot be understood: {error}", _req_id_of(text)) from error


def encoded_once(bundle: Bundle) -> bytes:
    """Return a bundle's frames as they go over the wire, equal for all clients and therefore made once."""
    if not bundle.encoded:
        bundle.encoded = b"".join([text_frame(event.frame) for event in bundle.events])
    return bundle.encoded


def pong(req_id: str | int | None, *, now_ms: int) -> bytes:
    """Answer a ping frame."""
    return _ENCODER.encode(ServerFrame(op="pong", ts=now_ms, req_id=req_id))


def accepted(
    channel: str,
    strategy_id: str | None = None,
    *,
    params: dict[str, Any] | None = None,
    req_id: str | int | None = None,
) -> bytes:
    """Acknowledge a frame."""
    answer = ServerFrame(op="ack", channel=channel, id=strategy_id, params=params, ok=True, req_id=req_id)
    return _ENCODER.encode(answer)


def begun(frame: ClientFrame, strategy_id: str, resumption: Resumption) -> bytes:
    """Acknowledge a subscription: what of the wanted past is gone, and where it begins if that was asked for."""
    oldest_seqs = dict(resumption.oldest_seqs)
    answer = ServerFrame(
        op="ack",
        channel=frame.channel,
        id=strategy_id,
        ok=True,
        oldest_seq=(oldest_seqs if strategy_id == WILDCARD else oldest_seqs.get(strategy_id)) or None,
        position=resumption.position if frame.position else None,
        req_id=frame.req_id,
    )
    return _ENCODER.encode(answer)


def refused(frame: ClientFrame, error: PipaidError, *, strategy_id: str | None = None) -> bytes:
    """Acknowledge a frame that is not followed."""
    answer = ServerFrame(
        op="ack",
        channel=frame.channel if frame.op != "auth" else AUTH_CHANNEL,
        id=strategy_id,
        ok=False,
        code=error.code,
        message=error.message,
        req_id=frame.req_id,
    )
    return _ENCODER.encode(answer)


def not_understood(error: PipaidError, req_id: str | int | None) -> bytes:
    """Answer a frame that cannot be understood."""
    return _ENCODER.encode(ServerFrame(op="error", code=error.code, message=error.message, req_id=req_id))


def lagged(strategy_id: str, from_seq: int, to_seq: int, *, at_ms: int) -> bytes:
    """Tell a subscriber which numbers of a strategy it will not get."""
    data = Lagged(from_seq=from_seq, to_seq=to_seq)
    draft = EventDraft(strategy_id=strategy_id, data=data, at_ms=at_ms, run_id=None, dry_run=None)
    # Ordinals of stored events count upwards from 0, so that this one collides with none of them.
    return event_frame(draft, seq=from_seq - 1, ordinal=-to_seq)


def _req_id_of(text: str) -> str | int | None:
    try:
        return _REQ_ID.decode(text).req_id
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
