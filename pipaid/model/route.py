"""The HTTP form of an operation: where it is addressed, and which arguments stand in path, query and body."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final, cast
from urllib.parse import parse_qsl, unquote

import msgspec

from pipaid.errors import InvalidParameter, NotFound
from pipaid.model.operation import Operation
from pipaid.model.parsing import DETAILS_MAX, invalid, parse_request
from pipaid.model.request import Request

QUERY_FIELDS_MAX: Final = 32
_NAME: Final = re.compile(r"\{([a-z_]+)\}")
_Undecodable: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def names_in(path: str) -> list[str]:
    """Return the names of the arguments that stand in a path."""
    return _NAME.findall(path)


def is_addressed(operation: Operation, method: str, path: str) -> bool:
    """Tell whether a request with this method and path asks for the operation; HEAD asks for what GET does."""
    asked = "GET" if method == "HEAD" else method
    return bool(operation.path) and asked == operation.method and _pattern(operation.path).fullmatch(path) is not None


def request_of(operation: Operation, target: str, body: str) -> Request:
    """Return what a request asks of an operation at whose path it came; raise InvalidParameter for every bad field."""
    path, mark, query = target.partition("?")
    found = _pattern(operation.path).fullmatch(path)
    assert found is not None, "whoever asks for the arguments knows that the path is the operation's"
    in_path = {name: _unquoted(name, text) for name, text in found.groupdict().items()}
    if operation.method == "GET":
        if body:
            raise InvalidParameter("a GET takes no body; its arguments stand in the query")
        given = _query(query)
    else:
        if mark:
            raise InvalidParameter("a request that changes something takes no query; its arguments stand in the body")
        given = _body(body)
    doubled = [name for name in in_path if name in given]
    if doubled:
        raise invalid([(name, "stands in the path already") for name in doubled[:DETAILS_MAX]])
    return parse_request(operation.request, {**in_path, **given}, as_text=operation.method == "GET")


def _query(query: str) -> dict[str, Any]:
    if not query:
        return {}
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=QUERY_FIELDS_MAX
        )
    except ValueError as trouble:
        raise InvalidParameter(f"the query cannot be read: {trouble}"[:200]) from None
    given = dict(pairs)
    if len(given) < len(pairs):
        names = [name for name, _ in pairs]
        raise invalid([(name, "stands in the query more than once") for name in given if names.count(name) > 1])
    return given


def _body(body: str) -> dict[str, Any]:
    if not body:
        return {}
    try:
        given = msgspec.json.decode(body)
    except _Undecodable as trouble:
        raise InvalidParameter(f"the body is no JSON: {trouble}"[:200]) from None
    if not isinstance(given, dict):
        raise InvalidParameter("the body must be a JSON object")
    return cast("dict[str, Any]", given)


def _unquoted(name: str, text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise NotFound(f"{name} in the path is not UTF-8") from None


@cache
def _pattern(path: str) -> re.Pattern[str]:
    """Return what the path part of a target looks like."""
    parts = _NAME.split(path)
    # Every other part is a name.
    return re.compile("".join(f"(?P<{part}>[^/]+)" if at % 2 else re.escape(part) for at, part in enumerate(parts)))
