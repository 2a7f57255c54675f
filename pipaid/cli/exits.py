"""The exit codes: what a script learns from `pipaid` without reading what it printed."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from pipaid.errors import (
    BacktestFailed,
    DuplicateName,
    ExchangeError,
    InsufficientPermission,
    InvalidParameter,
    InvalidSignature,
    InvalidState,
    InvariantBroken,
    KeyExpired,
    NotFound,
    PayloadTooLarge,
    PipaidError,
    RateLimited,
    Unavailable,
    UnknownSymbol,
)


class Exit(IntEnum):
    """How a call of `pipaid` ended."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    NOT_REACHABLE = 3
    NOT_FOUND = 4
    NOT_PERMITTED = 5
    TRY_LATER = 6
    INTERNAL = 7
    INTERRUPTED = 130
    PIPE_CLOSED = 141


MEANINGS: Final[Mapping[Exit, str]] = MappingProxyType(
    {
        Exit.OK: "done",
        Exit.REFUSED: "refused, or a check found something wrong; the code is on standard error",
        Exit.USAGE: "the command line makes no sense",
        Exit.NOT_REACHABLE: "no daemon answers on the control socket",
        Exit.NOT_FOUND: "there is no such strategy, template, evaluation, key or file",
        Exit.NOT_PERMITTED: "the daemon does not allow this on this socket",
        Exit.TRY_LATER: "the daemon is starting, draining or over its budget, or it or the venue did not answer",
        Exit.INTERNAL: "a fault in pipaid itself; the daemon's log has the details",
        Exit.INTERRUPTED: "interrupted with Ctrl-C (`top`, `demo` and `events tail` end so, with 0)",
        Exit.PIPE_CLOSED: "whoever read the output has gone",
    }
)

_OF_ERRORS: Final[tuple[tuple[Exit, tuple[type[PipaidError], ...]], ...]] = (
    (Exit.REFUSED, (InvalidParameter, UnknownSymbol, InvalidState, DuplicateName, PayloadTooLarge, BacktestFailed)),
    (Exit.NOT_FOUND, (NotFound,)),
    (Exit.NOT_PERMITTED, (InvalidSignature, KeyExpired, InsufficientPermission)),
    (Exit.TRY_LATER, (RateLimited, ExchangeError, Unavailable)),
    (Exit.INTERNAL, (PipaidError, InvariantBroken)),
)
_OF_CODES: Final[Mapping[str, Exit]] = MappingProxyType(
    {kind.code: code for code, kinds in _OF_ERRORS for kind in kinds}
)


def exit_of(code: str) -> Exit:
    """Return the exit code for the code of a refusal; one that is not known yet is still a refusal."""
    return _OF_CODES.get(code, Exit.REFUSED)


def exit_table() -> str:
    """Return the table as the help shows it."""
    return "\n".join(f"  {code.value:>3}  {meaning}" for code, meaning in MEANINGS.items())
