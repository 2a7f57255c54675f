"""The codes of the dialect."""

from __future__ import annotations

import pytest

from pipaid import errors
from pipaid.dialect.refusing import code_of
from pipaid.errors import PipaidError

OURS = {
    kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PipaidError)
}  # fmt: skip


@pytest.mark.parametrize(
    ("code", "reasons", "spoken"),
    [
        ("INVALID_SIGNATURE", [], "AUTH_REQUIRED"),
        ("KEY_EXPIRED", [], "AUTH_REQUIRED"),
        ("INSUFFICIENT_PERMISSION", [], "PERMISSION_DENIED"),
        ("NOT_FOUND", [], "RESOURCE_NOT_FOUND"),
        ("INVALID_PARAMETER", [], "VALIDATION_ERROR"),
        ("INVALID_PARAMETER", ["is required: text"], "MISSING_FIELD"),
        ("INVALID_PARAMETER", ["is required: text", "is required: a list"], "MISSING_FIELD"),
        ("INVALID_PARAMETER", ["is required: text", "must be a list"], "VALIDATION_ERROR"),
        ("UNKNOWN_SYMBOL", [], "VALIDATION_ERROR"),
        ("INVALID_STATE", [], "INVALID_STATE"),
    ],
)
def test_a_refusal_has_the_dialects_code_where_it_has_one(code: str, reasons: list[str], spoken: str) -> None:
    assert code_of(code, reasons) == spoken


def test_what_the_dialect_has_no_word_for_keeps_ours() -> None:
    kept = {code for code in OURS if code_of(code, []) == code}

    assert OURS - kept == {
        "INVALID_SIGNATURE", "KEY_EXPIRED", "INSUFFICIENT_PERMISSION", "NOT_FOUND", "INVALID_PARAMETER",
        "UNKNOWN_SYMBOL",
    }  # fmt: skip
