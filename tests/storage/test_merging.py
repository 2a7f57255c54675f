"""Rows of several owners read as one listing, and how many each owner has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from pipaid.storage.merging import PORTION, newest
from pipaid.storage.sqlite import SqliteJournal
from tests.storage.journals import committed, drop, open_journal, put

# Every owner has rows of every moment, in no order of their keys.
COUNTS = {"a": 3 * PORTION, "b": PORTION, "c": 5}


def key(owner: str, place: int) -> str:
    return f"{place * 7_919 % 1_000:03}{owner}"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    with closing(open_journal(tmp_path)) as opened:
        for owner, count in COUNTS.items():
            rows = [
                put("run", key(owner, place), owner=owner, state="odd" if place % 2 else "even", sort=place // 3)
                for place in range(count)
            ]
            committed(opened, *rows)
        committed(opened, put("other", "x", owner="a", sort=1))
        yield opened


def everything(*owners: str) -> list[tuple[int, str]]:
    rows = [(place // 3, key(owner, place)) for owner in owners for place in range(COUNTS[owner])]
    return sorted(rows, reverse=True)


@pytest.mark.parametrize("owners", [("a",), ("b", "a"), ("c", "b", "a"), ("nobody", "c")])
def test_all_rows_of_all_owners_come_once_newest_first(journal: SqliteJournal, owners: tuple[str, ...]) -> None:
    found = [(row.sort, row.key) for row in newest(journal, "run", owners)]

    assert found == everything(*(owner for owner in owners if owner in COUNTS))


def test_a_listing_is_narrowed_by_state_by_place_and_by_what_is_chosen(journal: SqliteJournal) -> None:
    whole = everything("a", "b")
    before, since = whole[100], 20

    found = list(newest(journal, "run", ("a", "b"), before=before, since=since))
    odd = list(newest(journal, "run", ("a", "b"), state="odd"))
    chosen = list(newest(journal, "run", ("a", "b"), chosen=lambda row: row.key.endswith("b")))

    assert [(row.sort, row.key) for row in found] == [row for row in whole[101:] if row[0] >= since]
    assert {row.state for row in odd} == {"odd"}
    assert len(odd) == (COUNTS["a"] + COUNTS["b"]) // 2
    assert [(row.sort, row.key) for row in chosen] == everything("b")


def test_what_comes_and_goes_while_it_is_read_moves_nothing_else(journal: SqliteJournal) -> None:
    whole = everything("a")
    listing = newest(journal, "run", ("a",))
    begun = [row.key for row in islice(listing, 10)]
    _, oldest = whole[-1]
    committed(journal, put("run", "zzz", owner="a", sort=10_000), drop("run", oldest), drop("run", begun[3]))

    rest = [row.key for row in listing]

    assert begun + rest == [row_key for _, row_key in whole[:-1]]


def test_each_owners_rows_are_counted_and_the_oldest_named(journal: SqliteJournal) -> None:
    assert journal.counts("run") == COUNTS
    assert journal.counts("nothing") == {}
    assert journal.oldest("run", "a", limit=4) == [row_key for _, row_key in everything("a")[::-1][:4]]
    assert journal.oldest("run", "nobody", limit=4) == []
