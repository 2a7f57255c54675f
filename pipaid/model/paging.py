"""Pages of listings: the opaque cursor that says after which row the next page starts."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any, Final, NoReturn, cast

import msgspec

from pipaid.errors import InvalidParameter
from pipaid.model.moment import parse_iso
from pipaid.model.request import CURSOR_MAX, Page

VERSION: Final = 1
US_PER_MS: Final = 1_000
_TIME_MAX: Final = 2**62


def filters_hash(operation: str, request: Page) -> str:
    """Return eight hex digits of what a listing was asked for, besides where it starts and how long it is."""
    given = msgspec.structs.asdict(request)
    filters = {name: value for name, value in given.items() if name not in ("limit", "cursor")}
    text = msgspec.json.encode([operation, filters], order="deterministic")
    return hashlib.blake2b(text, digest_size=4).hexdigest()


def encode_cursor(sort: int, key: str, *, filters: str, unit_us: int = 1) -> str:
    """Return the cursor of the last row of a page; `unit_us` is how many microseconds the row's sort value counts."""
    content = {"v": VERSION, "k": str(sort * unit_us), "id": key, "f": filters}
    return base64.urlsafe_b64encode(msgspec.json.encode(content)).rstrip(b"=").decode()


def decode_cursor(
    cursor: str | None, *, filters: str, time_field: str = "created_at", unit_us: int = 1
) -> tuple[int, str] | None:
    """Return the (sort, key) below which the page starts, or nothing for the first page.

    Besides our own form the bare `{"created_at": "<ISO second>"}` is taken, under the listing's own name of the moment;
    rows that share that second are passed over.
    """
    if cursor is None:
        return None
    content = _content(cursor)
    if list(content) == [time_field]:
        return _bare(content[time_field], unit_us)
    sort, key, version = content.get("k"), content.get("id"), content.get("v")
    if version is True or version != VERSION or set(content) != {"v", "k", "id", "f"}:
        _refuse("is not a cursor of this listing")
    if not (isinstance(sort, str) and sort.isascii() and sort.isdigit() and len(sort) <= 19 and isinstance(key, str)):
        _refuse("is malformed")
    if content["f"] != filters:
        _refuse("belongs to a listing with other filters; start again without a cursor")
    return int(sort) // unit_us, key


def _content(cursor: str) -> dict[str, Any]:
    if len(cursor) > CURSOR_MAX:
        _refuse("is too long")
    if "=" in cursor:
        _refuse("is malformed")
    padded = cursor.encode("utf-8", "replace") + b"=" * (-len(cursor) % 4)
    try:
        content = msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        _refuse("is malformed")
    if not isinstance(content, dict):
        _refuse("is malformed")
    return cast("dict[str, Any]", content)


def _bare(moment: object, unit_us: int) -> tuple[int, str]:
    try:
        at_us = parse_iso(moment) * US_PER_MS if isinstance(moment, str) else -1
    except (ValueError, OverflowError):
        at_us = -1
    if not 0 <= at_us <= _TIME_MAX:
        _refuse("is malformed")
    return at_us // unit_us, ""


def _refuse(reason: str) -> NoReturn:
    raise InvalidParameter(f"cursor {reason}", details=(("cursor", reason),))
