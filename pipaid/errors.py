"""The error tree: every refusal a client can meet, each with the code that is the API contract."""

from __future__ import annotations

from typing import ClassVar


class PipaidError(Exception):
    """Carry a code for programs and a message for people: what was asked, what is allowed, what to do."""

    code: ClassVar[str] = "INTERNAL_ERROR"
    http_status: ClassVar[int] = 500
    # The same request may be sent again, signed anew and under the Idempotency-Key that it had.
    repeat: bool = False

    def __init__(self, message: str, *, details: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class InvalidParameter(PipaidError):
    """A field is missing, malformed, out of range or unknown; `details` names each one."""

    code = "INVALID_PARAMETER"
    http_status = 400


class UnknownSymbol(PipaidError):
    """A market-data request names a symbol the venue does not list."""

    code = "UNKNOWN_SYMBOL"
    http_status = 400


class InvalidSignature(PipaidError):
    """Authentication failed."""

    code = "INVALID_SIGNATURE"
    http_status = 401


class SignedTooEarly(InvalidSignature):
    """The signature is right and older than the daemon, which cannot tell whether it has been heard before."""

    repeat = True


class KeyExpired(PipaidError):
    """The key was valid once and is revoked or past its expiry."""

    code = "KEY_EXPIRED"
    http_status = 401


class InsufficientPermission(PipaidError):
    """The caller is known and lacks the scope."""

    code = "INSUFFICIENT_PERMISSION"
    http_status = 403


class NotFound(PipaidError):
    """The object does not exist or belongs to somebody else; the two look the same."""

    code = "NOT_FOUND"
    http_status = 404


class MethodNotAllowed(PipaidError):
    """What stands at this path is not asked for with this method."""

    code = "METHOD_NOT_ALLOWED"
    http_status = 405


class InvalidState(PipaidError):
    """The lifecycle forbids the action now."""

    code = "INVALID_STATE"
    http_status = 409


class Busy(InvalidState):
    """Another process holds what is needed, and will be done with it."""


class DuplicateName(PipaidError):
    """Another strategy of the account already bears the name."""

    code = "DUPLICATE_NAME"
    http_status = 409


class PayloadTooLarge(PipaidError):
    """A request is larger than its surface allows."""

    code = "PAYLOAD_TOO_LARGE"
    http_status = 413


class RateLimited(PipaidError):
    """The caller's budget is spent; `retry_after_ms` is when it will do, where that is known."""

    code = "RATE_LIMITED"
    http_status = 429

    def __init__(self, message: str, *, details: tuple[tuple[str, str], ...] = (), retry_after_ms: int = 0) -> None:
        super().__init__(message, details=details)
        self.retry_after_ms = retry_after_ms


class ExchangeError(PipaidError):
    """The venue refused or did not answer during a synchronous operation; effects may exist there."""

    code = "EXCHANGE_ERROR"
    http_status = 502


class AnswerLost(ExchangeError):
    """The daemon ended or fell silent before it answered; under an idempotency key, asking again is safe."""

    def __init__(self, message: str, *, repeat: bool) -> None:
        super().__init__(message)
        self.repeat = repeat


class Unavailable(PipaidError):
    """The daemon is starting, draining or has lost its journal."""

    code = "UNAVAILABLE"
    http_status = 503


class BacktestFailed(PipaidError):
    """The template of a backtest failed; the message names it, the moment and the candle."""

    code = "BACKTEST_FAILED"
    http_status = 422


class InvariantBroken(PipaidError):
    """Something that must never happen did; the evidence is kept and trading stops there."""

    code = "INTERNAL_ERROR"
    http_status = 500
