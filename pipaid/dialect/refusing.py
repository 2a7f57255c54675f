"""The codes of the dialect: its own five for what they say, ours for everything else."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from pipaid import errors
from pipaid.model.parsing import REQUIRED

MISSING_FIELD: Final = "MISSING_FIELD"
VALIDATION_ERROR: Final = "VALIDATION_ERROR"
CODES: Final[dict[str, str]] = {
    errors.InvalidSignature.code: "AUTH_REQUIRED",
    errors.KeyExpired.code: "AUTH_REQUIRED",
    errors.InsufficientPermission.code: "PERMISSION_DENIED",
    errors.NotFound.code: "RESOURCE_NOT_FOUND",
    errors.InvalidParameter.code: VALIDATION_ERROR,
    errors.UnknownSymbol.code: VALIDATION_ERROR,
}


def code_of(code: str, reasons: Collection[str]) -> str:
    """Return the code under which the dialect knows a refusal; `reasons` are those of the fields it names."""
    spoken = CODES.get(code, code)
    if spoken == VALIDATION_ERROR and reasons and all(reason.startswith(REQUIRED) for reason in reasons):
        return MISSING_FIELD
    return spoken
