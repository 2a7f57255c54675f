"""What a document can foresee of a refusal: everything about the form of a request, and nothing of what it meets."""

from __future__ import annotations

import re
from typing import Final

from pipaid.errors import InvalidParameter
from pipaid.model.operation import operation_named
from pipaid.model.route import request_of

# Where the one who fuzzes finds the key that it signs with.
API_KEY: Final = "FUZZ_API_KEY"
SECRET: Final = "FUZZ_SECRET"
# To JSON Schema 13.0 is a whole number; the contract takes nothing that is written as a float.
_WHOLE_FLOAT: Final = re.compile(r"must be .*, got -?[0-9]+\.0(e\+[0-9]+)?")


def is_foreseen(operation: str, target: str, body: str) -> bool:
    """Tell whether a schema says that a refused request is one, since something is wrong with its form.

    Not foreseen are a cursor that the API did not make, a template or a symbol that is not there, params that the
    template does not take, and spans without candles.
    """
    try:
        request_of(operation_named(operation), target, body)
    except InvalidParameter as refused:
        reasons = [reason for _, reason in refused.details]
        return not reasons or not all(map(_WHOLE_FLOAT.fullmatch, reasons))
    return False
