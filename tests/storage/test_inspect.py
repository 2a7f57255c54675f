"""Verifying, digesting and copying a journal from outside."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipaid.errors import InvalidParameter
from pipaid.model.instrument import Timeframe
from pipaid.model.order import BookedFill, Fill, Side
from pipaid.model.position import CloseReason, Direction, Position
from pipaid.model.record import Batch, Record
from pipaid.model.strategy import Status, Strategy, StrategyDefinition, Tally
from pipaid.storage.inspect import Digest, backup, digest, verify
from pipaid.storage.sqlite import SqliteJournal
from tests.storage.journals import HandClock, add, committed, drop, journal_path, numbered, open_journal, opt_in, put


def write_all_kinds(folder: Path) -> None:
    with closing(open_journal(folder)) as journal:
        committed(journal, add("order", "o1", b'{"q":"1"}', owner="s", state="working", sort=1), numbered("s"))
        committed(journal, put("order", "o1", b'{"q":"2"}', owner="s", state="ended", sort=1), opt_in("s"))
        committed(journal, add("name", "a/x"), drop("name", "a/x"), numbered("s"), numbered("t"))
        committed(journal, put("brain", "s", b'{"tally":{}}'))


def test_a_sound_journal_has_no_problems(tmp_path: Path) -> None:
    write_all_kinds(tmp_path)

    report = verify(journal_path(tmp_path))

    assert report.ok
    assert (report.records, report.last_n, report.events, report.streams, report.rows) == (9, 9, 4, 2, 2)
    assert report.epoch == 1


def test_a_journal_in_use_can_be_verified_and_copied(tmp_path: Path) -> None:
    with closing(open_journal(tmp_path)) as journal:
        committed(journal, add("fill", "f1"), numbered("s"))
        report = verify(journal_path(tmp_path))
        backup(journal_path(tmp_path), tmp_path / "copy.db")
        committed(journal, add("fill", "f2"), numbered("s"))

    assert report.ok, report.problems
    assert report.records == 2
    copied = verify(tmp_path / "copy.db")
    assert copied.ok, copied.problems
    assert copied.records == 2


def test_a_backup_overwrites_nothing(tmp_path: Path) -> None:
    write_all_kinds(tmp_path)
    target = tmp_path / "precious"
    target.write_bytes(b"mine")

    with pytest.raises(InvalidParameter, match="exists already"):
        backup(journal_path(tmp_path), target)

    assert target.read_bytes() == b"mine"


def test_a_backup_becomes_a_journal_again(tmp_path: Path) -> None:
    write_all_kinds(tmp_path)
    (tmp_path / "other").mkdir()
    backup(journal_path(tmp_path), journal_path(tmp_path / "other"))

    with closing(open_journal(tmp_path / "other")) as journal:
        assert committed(journal, numbered("s")).events[0].seq == 3


@pytest.mark.parametrize(
    ("tampering", "finding"),
    [
        ("UPDATE record SET data = x'7b7d' WHERE n = 1", "record 1 (order o1) differs from what was written"),
        ("UPDATE record SET owner = 't' WHERE n = 1", "record 1 (order o1) differs from what was written"),
        ("UPDATE record SET hash = zeroblob(16) WHERE n = 4", "record 5 does not follow record 4"),
        ("DELETE FROM record WHERE n = 5", "records 5 to 5 are missing and were not pruned"),
        ("DELETE FROM record WHERE n = 2", "event 1 of s where 0 is due"),
        ("DELETE FROM record WHERE n = 9", "ends at record 8, but record 9 was durable"),
        ("DELETE FROM record WHERE n = 1; UPDATE fence SET horizon = 1", "1 records are missing, 0 were pruned"),
        ("UPDATE entity SET data = x'00' WHERE key = 'o1'", "the row order o1 differs"),
        ("UPDATE entity SET state = 'working' WHERE key = 'o1'", "the row order o1 differs"),
        ("UPDATE entity SET n = 1 WHERE key = 'o1'", "the newest record of order o1 is not in the table"),
        ("DELETE FROM entity WHERE key = 's'", "the newest record of brain s is not in the table"),
        (
            "INSERT INTO entity (entity, key, owner, state, sort, data, n) VALUES ('name', 'a/x', '', '', 0, x'', 5)",
            "the newest record of name a/x is not in the table",
        ),
        ("INSERT INTO entity (entity, key, owner, state, sort, data) VALUES ('a', 'b', '', '', 0, x'')", "the row a b"),
        ("UPDATE record SET data = x'22' WHERE n = 2", "the frame of event 1 of s cannot be read"),
        ("UPDATE record SET data = x'7b226964223a2278227d' WHERE n = 2", "bears another id or number"),
        (
            "DROP INDEX record_opt_in; PRAGMA writable_schema = 1; DELETE FROM sqlite_schema WHERE name = 'mark'",
            "SQLite",
        ),
    ],
)
def test_verify_finds_what_was_tampered_with(tmp_path: Path, tampering: str, finding: str) -> None:
    write_all_kinds(tmp_path)
    with closing(sqlite3.connect(journal_path(tmp_path))) as hand:
        hand.executescript(tampering)

    problems = verify(journal_path(tmp_path)).problems

    assert any(finding in problem for problem in problems), problems


def test_verify_finds_a_flipped_bit_anywhere_in_the_records(tmp_path: Path) -> None:
    write_all_kinds(tmp_path)
    path = journal_path(tmp_path)
    good = path.read_bytes()
    frame = good.index(b'{"channel"')

    for place in range(frame, frame + 200, 17):
        damaged = bytearray(good)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        assert not verify(path).ok, place


def test_verify_of_nothing_says_so(tmp_path: Path) -> None:
    assert "there is no journal" in verify(journal_path(tmp_path)).problems[0]


class Story:
    """One strategy's trading as the journal keeps it, with ids of its own."""

    def __init__(self, prefix: str, name: str = "alpha", *, deleted: bool = False) -> None:
        self.prefix = prefix
        self.id = f"strat_{prefix * 8}"
        self.name = name
        self.deleted = deleted
        self.price = Decimal("100.5")
        self.tally = Tally(trades=1, wins=1, pnl=Decimal("1.50"), fills=2)

    def records(self) -> list[Record]:
        fills = [self._fill(number) for number in range(2)]
        return [
            add("strategy", self.id, msgspec.json.encode(self._strategy()), owner="main"),
            *(add("fill", each.fill.id, msgspec.json.encode(each), owner=self.id) for each in fills),
            add("position", f"pos_{self.prefix}", msgspec.json.encode(self._position()), owner=self.id, state="closed"),
            put("brain", self.id, msgspec.json.encode({"tally": self.tally, "series": [1, 2]})),
        ]

    def _strategy(self) -> Strategy:
        definition = StrategyDefinition(
            name=self.name,
            template_id="tpl_dca",
            params={},
            symbols=("BTCUSDT",),
            timeframe=next(iter(Timeframe)),
            capital=Decimal(1000),
        )
        return Strategy(
            id=self.id,
            number=1,
            account="main",
            definition=definition,
            status=Status.DEPLOYED,
            created_at_us=ord(self.prefix),
            updated_at_us=ord(self.prefix),
            deleted_at_ms=1 if self.deleted else 0,
        )

    def _fill(self, number: int) -> BookedFill:
        fill = Fill(
            id=f"{self.prefix}-{'ba'[number]}",
            client_order_id=f"pp{self.prefix}",
            symbol="BTCUSDT",
            side=Side.BUY if number == 0 else Side.SELL,
            quantity=Decimal("1.20" if self.prefix == "a" else "1.2"),
            price=self.price + number,
            fee=Decimal("0.01"),
            fee_asset="USDT",
            maker=False,
            time_ms=1000 + number,
        )
        return BookedFill(
            fill=fill,
            strategy_id=self.id,
            order_id=f"ord_{self.prefix}",
            position_id=f"pos_{self.prefix}",
            dry_run=True,
            trade_id=f"trd_{self.prefix}",
        )

    def _position(self) -> Position:
        return Position(
            id=f"pos_{self.prefix}",
            strategy_id=self.id,
            account="main",
            dry_run=True,
            run_id=f"run_{self.prefix}",
            symbol="BTCUSDT",
            direction=Direction.LONG,
            leverage=1,
            entry_quantity=Decimal("1.2"),
            entry_value=Decimal("120.6"),
            exit_quantity=Decimal("1.2"),
            exit_value=Decimal("121.8"),
            opened_at_ms=1000,
            closed_at_ms=1001,
            reason=CloseReason.TAKE_PROFIT,
        )


def digest_of(folder: Path, *stories: Story, in_one: bool = True) -> Digest:
    folder.mkdir()
    batches = [story.records() for story in stories]
    with closing(open_journal(folder, HandClock(at_us=len(str(folder))))) as journal:
        commit_in_pieces(journal, [record for records in batches for record in records], in_one)
    return digest(journal_path(folder))


def commit_in_pieces(journal: SqliteJournal, records: list[Record], in_one: bool) -> None:
    if in_one:
        journal.commit([Batch(records=records)])
    else:
        for record in records:
            committed(journal, record, numbered("noise"))


def test_the_digest_ignores_ids_order_numbers_and_deleted_strategies(tmp_path: Path) -> None:
    one = digest_of(tmp_path / "1", Story("a"), Story("b", "beta"))
    two = digest_of(tmp_path / "22", Story("d", "beta"), Story("c"), Story("e", "gone", deleted=True), in_one=False)

    assert one == two
    assert [(each.name, each.fills, each.positions) for each in one.strategies] == [("alpha", 2, 1), ("beta", 2, 1)]


@pytest.mark.parametrize(
    "change",
    [
        {"price": Decimal("100.51")},
        {"tally": Tally(trades=1, wins=1, pnl=Decimal("1.51"), fills=2)},
        {"name": "gamma"},
    ],
)
def test_the_digest_tells_trading_apart(tmp_path: Path, change: dict[str, Any]) -> None:
    changed = Story("a")
    for name, value in change.items():
        setattr(changed, name, value)

    one = digest_of(tmp_path / "1", Story("a"), Story("b", "beta"))
    two = digest_of(tmp_path / "2", changed, Story("b", "beta"))

    assert one.digest != two.digest
    assert one.strategies[1] in two.strategies
    assert one.strategies[0] not in two.strategies
