"""The handshake of the event stream: whose pages may connect, to which host, and what a signed URL says."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qs, urlsplit

import h11

from pipaid.errors import InvalidParameter
from pipaid.wire.websocket import Refused

PATHS: Final = frozenset({"/v1/ws", "/ws"})
_QUERY_MAX: Final = 16
# What the WebSocket library reads of a request.
_READ_AS_ASCII: Final = frozenset(
    {b"connection", b"upgrade", b"sec-websocket-extensions", b"sec-websocket-key", b"sec-websocket-protocol",
     b"sec-websocket-version"}
)  # fmt: skip
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_\-]{1,63}(?:\.[A-Za-z0-9_\-]{1,63})*)(?::[0-9]{1,5})?")


def judge_request(request: h11.Request, *, hosts: frozenset[str] | None, origins: frozenset[str]) -> str:
    """Return the target of a request whose host, origin and path are in order; raise Refused otherwise.

    `hosts` are names that are safe besides addresses and localhost, None where a certificate has proved the name;
    `origins` are those that are safe besides the host's own.
    """
    headers: dict[bytes, list[str]] = {}
    for name, value in request.headers:
        if not value.isascii() and name in _READ_AS_ASCII:
            raise Refused(400, f"the header {name.decode('ascii')} holds more than ASCII")
        headers.setdefault(name, []).append(value.decode("latin-1"))
    target = request.target.decode("ascii")
    hostname = hostname_of(headers.get(b"host", [""])[0])
    if hostname is None or (hosts is not None and not host_is_safe(hostname, hosts)):
        raise Refused(403, "a request names this host by an address or as localhost, got another Host header")
    for origin in headers.get(b"origin", []):
        if not origin_is_safe(origin, hostname, origins):
            raise Refused(
                403,
                "pages of this origin may not connect; stream.allowed_origins lists those that may",
            )
    if target.partition("?")[0] not in PATHS:
        raise Refused(404, "the event stream is at /v1/ws and /ws")
    if b"upgrade" not in headers:
        raise Refused(400, "this is a WebSocket: connect with one; docs/stream.md says how")
    return target


def credentials_of(target: str) -> dict[str, str] | None:
    """Return key, timestamp and signature of a signed URL; None if it carries none of them."""
    query = target.partition("?")[2]
    if not query:
        return None
    try:
        given = parse_qs(query, keep_blank_values=True, max_num_fields=_QUERY_MAX)
    except ValueError as error:
        raise InvalidParameter(f"the query cannot be read: {error}") from error
    found = {name: given[name] for name in ("api_key", "timestamp", "signature") if name in given}
    if any(len(values) > 1 for values in found.values()):
        raise InvalidParameter("each parameter of a signed URL stands there once")
    return {name: values[0] for name, values in found.items()} or None


def hostname_of(host: str) -> str | None:
    """Return the name or address of a Host header in lower case, None if it is malformed."""
    match = _HOST.fullmatch(host)
    return match[1].strip("[]").lower() if match else None


def host_is_safe(hostname: str, names: frozenset[str]) -> bool:
    """Tell whether a request for this host was meant for this server.

    A page can make its own name point here, an address and `localhost` it cannot.
    """
    if hostname == "localhost" or hostname in names:
        return True
    try:
        ip_address(hostname)
    except ValueError:
        return False
    return True


def origin_is_safe(origin: str, hostname: str, origins: frozenset[str]) -> bool:
    """Tell whether a page may connect: one of the same host, or of an origin that was allowed."""
    if origin.lower() in origins:
        return True
    try:
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and parts.hostname == hostname
    except ValueError:
        return False
