"""Lines that are no requests: each is refused with what is allowed."""

from __future__ import annotations

import pytest

from pipaid.wire.envelope import BadLine, read_ask


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "the line is empty"),
        (b" \r", "the line is empty"),
        (b'{"op": "status"}', "required field `id`"),
        (b'{"id": 1, "op": "status", "ags": {}}', "unknown field `ags`"),
        (b"status", "malformed"),
    ],
)
def test_a_line_that_is_no_request_is_refused_with_what_is_allowed(line: bytes, why: str) -> None:
    with pytest.raises(BadLine) as refused:
        read_ask(line)

    assert why in refused.value.message
    assert refused.value.message.partition("a request is ")[2].startswith('{"id": 1, "op": "status", "args": {}}')
