"""Rows of several owners as one listing, newest first, however many of them a filter leaves out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from operator import attrgetter
from typing import Final

from pipaid.storage.store import Reader, Row

PORTION: Final = 128


def newest(
    reader: Reader,
    entity: str,
    owners: Sequence[str],
    *,
    state: str | None = None,
    before: tuple[int, str] | None = None,
    since: int | None = None,
    chosen: Callable[[Row], bool] | None = None,
) -> Iterator[Row]:
    """Yield the rows of all owners by (sort, key) descending, from just below `before` down to the sort `since`.

    They are read in portions as they are asked for, each from below the last row of the one before: what is added or
    dropped meanwhile makes no other row come twice or not at all.
    """

    def of(owner: str) -> Iterator[Row]:
        place, found = before, [None] * PORTION
        while len(found) == PORTION:
            rows = reader.page(entity, owner=owner, state=state, before=place, limit=PORTION, since=since)
            yield from rows
            found = [None] * len(rows)
            place = (rows[-1].sort, rows[-1].key) if rows else place

    streams = [of(owner) for owner in owners]
    rows = streams[0] if len(streams) == 1 else merge(*streams, key=attrgetter("sort", "key"), reverse=True)
    return rows if chosen is None else filter(chosen, rows)
