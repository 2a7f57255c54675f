"""What a document can foresee of a refusal: everything about the form of a request, and nothing of what it meets."""

from __future__ import annotations

from typing import Final

import msgspec

from pipaid.errors import InvalidParameter
from pipaid.model.operation import operation_named
from pipaid.model.route import request_of

# Where the one who fuzzes finds the key that it signs with.
API_KEY: Final = "FUZZ_API_KEY"
SECRET: Final = "FUZZ_SECRET"


def is_foreseen(operation: str, target: str, body: str) -> bool:
    """Tell whether a schema says that a refused request is one, since something is wrong with its form.

    Not foreseen are a cursor that the API did not make, a template or a symbol that is not there, params that the
    template does not take, and spans without candles.
    """
    try:
        request_of(operation_named(operation), target, _whole_as_integers(body))
    except InvalidParameter:
        return True
    return False


def _whole_as_integers(body: str) -> str:
    """Return a body in which 13.0 is 13, as it is to JSON Schema; the contract takes nothing written as a float."""
    try:
        return msgspec.json.encode(msgspec.json.Decoder(float_hook=_number).decode(body)).decode()
    except ValueError:
        return body


def _number(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number
