"""What the journal takes: typed records and events, committed together or not at all."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from pipaid.model.event import EventDraft


class Kind(StrEnum):
    """What a record does to its table."""

    ADD = "add"
    PUT = "put"
    DROP = "drop"


class Record(msgspec.Struct, frozen=True, gc=False):
    """One change: `entity` names the table, `key` the row, `data` is the row's JSON.

    `owner` and `state` are indexed columns (whose row it is; `open` or `closed`, say); `sort` orders listings.
    ADD of a key that exists breaks the whole batch: it is how a fill is booked exactly once.
    """

    entity: str
    key: str
    kind: Kind
    data: bytes = b""
    owner: str = ""
    state: str = ""
    sort: int = 0


class Batch(msgspec.Struct, kw_only=True):
    """What is committed together, or not at all."""

    records: list[Record] = []
    events: list[EventDraft] = []
