"""One line of the control protocol, both ways: requests, answers and events as JSON, read within bounds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import accumulate
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta, Raw

from pipaid import errors
from pipaid.errors import InvalidParameter, PipaidError, RateLimited

LINE_BYTES_MAX: Final = 64 * 1024
NESTING_MAX: Final = 16
# What an answer may measure, for both sides: a page of a hundred strategies whose params fill a line each.
ANSWER_BYTES_MAX: Final = 8 * 1024 * 1024
KEY_CHARS_MAX: Final = 64
# What a client of the HTTP API may send as a body, and what the line measures at most that carries it on, where each
# character may need six.
BODY_BYTES_MAX: Final = 64 * 1024
FORWARDED_LINE_BYTES_MAX: Final = 512 * 1024
REQUEST_ID: Final = r"^req_[0-9a-f]{12}$(?!\n)"

RequestId: TypeAlias = int | str
Undecodable: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

# Always matches at a quote, even where the string never ends, so that the search stays linear.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEP: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}

_Id: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | Annotated[str, Meta(max_length=64)]
_encode: Final = msgspec.json.Encoder().encode


class Forwarded(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """An HTTP request as its sender sent it, passed on whole: who receives it judges the signature over all of it.

    `target` is the path with its query, byte for byte; `address` is where it came from, and under `request_id` both
    sides speak of it in their logs. Without `api_key`, `timestamp` and `signature` nobody in particular asks, unless an
    `authorization` says who does: what bears it opens what its owner may, so nobody writes it down.
    """

    method: Annotated[str, Meta(min_length=1, max_length=16)]
    target: Annotated[str, Meta(min_length=1)]
    address: Annotated[str, Meta(max_length=64)]
    request_id: Annotated[str, Meta(pattern=REQUEST_ID)]
    body: str = ""
    api_key: str = ""
    timestamp: str = ""
    signature: str = ""
    authorization: str = ""


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A request; `id` only correlates within its connection. A forwarded one carries its arguments within itself."""

    id: _Id
    op: Annotated[str, Meta(min_length=1, max_length=64)]
    args: Raw = Raw(b"{}")
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=KEY_CHARS_MAX)] | None = None
    forwarded: Forwarded | None = None


class Detail(msgspec.Struct, frozen=True):
    """One field of a request, and what is wrong with it."""

    field: str
    reason: str


class Trouble(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request was refused; `request_id` finds it in the log.

    `repeat` says that it may be sent again, signed anew and under the same idempotency key.
    """

    code: str
    message: str
    details: tuple[Detail, ...] = ()
    request_id: str = ""
    retry_after_ms: int = 0
    repeat: bool = False


class Standing(msgspec.Struct, frozen=True):
    """What is left of a budget: `limit` is all it can hold, and in `full_in_ms` it holds that again."""

    limit: int
    remaining: int
    full_in_ms: int


class Answer(msgspec.Struct, frozen=True):
    """An answer or an event; `id` is null where the request was too broken to have one, what is absent is empty.

    `budget` is what is left to whom a forwarded request was charged.
    """

    id: RequestId | None
    ok: bool
    result: Raw = Raw()
    error: Trouble | None = None
    event: Raw = Raw()
    budget: Standing | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request: a result or a refusal as JSON, whichever `ok` says.

    `lasting` tells whether anything was done, so that doing it again would be wrong; `kept` is what may be stored of
    the answer where that is less than all of it.
    """

    ok: bool
    body: bytes
    lasting: bool = False
    kept: bytes | None = None

    def line(self, id: RequestId | None, budget: Standing | None = None) -> bytes:
        """Return the answer as its line."""
        return b'{"id":%b,"ok":%b,%b"%b":%b}\n' % (
            _encode(id),
            b"true" if self.ok else b"false",
            b"" if budget is None else b'"budget":%b,' % _encode(budget),
            b"result" if self.ok else b"error",
            self.body,
        )


class BadLine(InvalidParameter):
    """A line that is no request; `id` is the one it carried, if that could be told."""

    def __init__(self, message: str, *, id: RequestId | None = None) -> None:
        super().__init__(message)
        self.id = id


class _Named(msgspec.Struct, frozen=True):
    id: RequestId | None = None


ALLOWED: Final = 'a request is {"id": 1, "op": "status", "args": {}}, with "idempotency_key" if it is to be done once'
_asks: Final = msgspec.json.Decoder(Ask)
_named: Final = msgspec.json.Decoder(_Named)
_answers: Final = msgspec.json.Decoder(Answer)


def read_ask(line: bytes) -> Ask:
    """Return the request on a line; raise BadLine for everything else."""
    if too_deep(line):
        raise BadLine(f"the line is nested deeper than {NESTING_MAX}")
    try:
        return _asks.decode(line)
    except Undecodable as trouble:
        reason = "the line is empty" if not line.strip() else f"the line is no request: {trouble}"
        reason = f"{reason[:140]}; {ALLOWED}"
    raise BadLine(reason, id=_id_of(line))


def too_deep(line: bytes) -> bool:
    """Tell whether arrays and objects stand deeper in each other than is allowed; linear in the line's length."""
    if line.count(b"[") + line.count(b"{") <= NESTING_MAX:
        return False
    brackets = _STRING.sub(b"", line).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > NESTING_MAX


def ask_line(id: RequestId, op: str, args: Mapping[str, Any] | None, idempotency_key: str | None = None) -> bytes:
    """Return a request as its line; raise PayloadTooLarge if the daemon would not take it."""
    content: dict[str, Any] = {"id": id, "op": op, "args": args or {}}
    if idempotency_key is not None:
        content["idempotency_key"] = idempotency_key
    line = _encode(content)
    if len(line) > LINE_BYTES_MAX:
        raise errors.PayloadTooLarge(f"the request measures {len(line)} bytes, at most {LINE_BYTES_MAX} are taken")
    return line + b"\n"


def forwarded_line(id: RequestId, op: str, forwarded: Forwarded, idempotency_key: str | None) -> bytes:
    """Return a forwarded request as its line; raise PayloadTooLarge if the daemon would not take it."""
    line = _encode(Ask(id, op, idempotency_key=idempotency_key, forwarded=forwarded))
    if len(line) > FORWARDED_LINE_BYTES_MAX:
        raise errors.PayloadTooLarge(f"the request measures {len(line)} bytes, at most {FORWARDED_LINE_BYTES_MAX}")
    return line + b"\n"


def error_line(id: RequestId | None, trouble: PipaidError, request_id: str = "") -> bytes:
    """Return the answer of a request that was refused, as its line."""
    return b'{"id":%b,"ok":false,"error":%b}\n' % (_encode(id), error_body(trouble, request_id))


def error_body(trouble: PipaidError, request_id: str = "") -> bytes:
    """Return a refusal as JSON, the same on every surface."""
    return _encode(trouble_of(trouble, request_id))


def trouble_of(trouble: PipaidError, request_id: str = "") -> Trouble:
    """Return a refusal as it goes over the wire."""
    details = tuple(Detail(field, reason) for field, reason in trouble.details)
    retry_after_ms = trouble.retry_after_ms if isinstance(trouble, RateLimited) else 0
    return Trouble(trouble.code, trouble.message, details, request_id, retry_after_ms, trouble.repeat)


def event_prefix(id: RequestId) -> bytes:
    """Return what stands before an event's frame on its line; `}` and a line break come after it."""
    return b'{"id":%b,"ok":true,"event":' % _encode(id)


def read_answer(line: bytes) -> Answer:
    """Return the answer on a line; raise Unavailable if whoever answers does not speak the protocol."""
    try:
        return _answers.decode(line)
    except Undecodable as trouble:
        raise errors.Unavailable(f"what answers is no pipaid daemon: {trouble}"[:200]) from None


def refusal(trouble: Trouble | None) -> PipaidError:
    """Return a refusal as the exception that it was on the other side."""
    if trouble is None:
        return errors.Unavailable("what answers is no pipaid daemon: it refuses without a reason")
    kind = _KINDS.get(trouble.code, PipaidError)
    message = trouble.message if kind is not PipaidError else f"{trouble.code}: {trouble.message}"
    if trouble.request_id:
        message = f"{message} ({trouble.request_id})"
    refused = kind(message, details=tuple((detail.field, detail.reason) for detail in trouble.details))
    refused.repeat = trouble.repeat
    if isinstance(refused, RateLimited):
        refused.retry_after_ms = trouble.retry_after_ms
    return refused


_KINDS: Final[dict[str, type[PipaidError]]] = {
    kind.code: kind
    for kind in (
        errors.InvalidParameter,
        errors.UnknownSymbol,
        errors.InvalidSignature,
        errors.KeyExpired,
        errors.InsufficientPermission,
        errors.NotFound,
        errors.InvalidState,
        errors.DuplicateName,
        errors.PayloadTooLarge,
        errors.RateLimited,
        errors.ExchangeError,
        errors.Unavailable,
    )
}


def _id_of(line: bytes) -> RequestId | None:
    """Return the id of a line that is no request, if it has one to which an answer can be addressed."""
    try:
        found = _named.decode(line).id
    except Undecodable:
        return None
    return found if isinstance(found, int) or found is None or len(found) <= KEY_CHARS_MAX else None
