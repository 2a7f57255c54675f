"""Exit codes: every refusal has one, none means two things, and the help shows the table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipaid.cli.exits import MEANINGS, Exit, exit_of, exit_table
from pipaid.errors import PipaidError
from tests.cli.answering import pipaid


def every_error(kind: type[PipaidError] = PipaidError) -> Iterator[type[PipaidError]]:
    """Yield the error tree, as far as `pipaid.errors` declares it."""
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == "pipaid.errors":
            yield from every_error(below)


EXPECTED = {
    "INVALID_PARAMETER": 1,
    "UNKNOWN_SYMBOL": 1,
    "INVALID_STATE": 1,
    "DUPLICATE_NAME": 1,
    "PAYLOAD_TOO_LARGE": 1,
    "BACKTEST_FAILED": 1,
    "METHOD_NOT_ALLOWED": 1,
    "NOT_FOUND": 4,
    "INVALID_SIGNATURE": 5,
    "KEY_EXPIRED": 5,
    "INSUFFICIENT_PERMISSION": 5,
    "RATE_LIMITED": 6,
    "EXCHANGE_ERROR": 6,
    "UNAVAILABLE": 6,
    "INTERNAL_ERROR": 7,
}


def test_every_code_of_the_error_tree_has_its_exit_code() -> None:
    assert {kind.code: exit_of(kind.code).value for kind in every_error()} == EXPECTED


def test_a_code_that_is_not_known_yet_is_a_refusal() -> None:
    assert exit_of("FROM_THE_FUTURE") is Exit.REFUSED


@pytest.mark.parametrize("code", list(Exit))
def test_every_exit_code_is_explained(code: Exit) -> None:
    assert MEANINGS[code]
    assert f"{code.value:>3}  {MEANINGS[code]}" in exit_table()


def test_the_help_shows_the_exit_codes_and_where_the_socket_is_looked_for() -> None:
    ended = pipaid("--help")

    assert ended.code == 0
    assert all(line in ended.out for line in exit_table().splitlines())
    assert "$PIPAID_SOCKET" in ended.out
