"""The candle files: what was written is read, a crash leaves the old or the new, damage is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipaid.errors import Busy, InvalidParameter, NotFound
from pipaid.model.instrument import Timeframe
from pipaid.seams import SystemDisk
from pipaid.storage.candles import HEADER_BYTES, LOCK, CandleStore
from tests.model.test_columns import START_MS, SYMBOL, made

VENUE = "binance-usdm"
ROWS = ("100 102 99 101.5 5", "101.5 103 101 102 0.25", "102 102 102 102 0")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    store = CandleStore(tmp_path)
    header = store.add(VENUE, made(*ROWS))

    assert (header.rows, header.first_ms, header.last_ms) == (3, START_MS, START_MS + 120_000)
    assert list(store.read(VENUE, SYMBOL, Timeframe.M1)) == list(made(*ROWS))
    assert store.names() == [header]
    store.verify(header)


def test_what_is_added_joins_what_is_there_also_in_finer_steps(tmp_path: Path) -> None:
    store = CandleStore(tmp_path)
    store.add(VENUE, made(*ROWS))
    header = store.add(VENUE, made("102 102 102 102 0", "102 102 101.125 102 1.5", at=[2, 3]))

    assert (header.rows, header.price_decimals) == (4, 3)
    assert list(store.read(VENUE, SYMBOL, Timeframe.M1)) == list(made(*ROWS, "102 102 101.125 102 1.5"))
    with pytest.raises(InvalidParameter, match="differ from those already there"):
        store.add(VENUE, made("1 1 1 1 1", at=[0]))
    assert store.names() == [header]


def test_larger_candles_are_made_of_the_largest_there_are(tmp_path: Path) -> None:
    store = CandleStore(tmp_path)
    store.add(VENUE, made(*ROWS))
    hours = made(*ROWS).larger(Timeframe.H1)
    assert list(store.read(VENUE, SYMBOL, Timeframe.H1)) == list(hours)

    store.add(VENUE, hours)
    assert list(store.read(VENUE, SYMBOL, Timeframe.D1)) == list(hours.larger(Timeframe.D1))
    assert [header.timeframe for header in store.names()] == [Timeframe.H1, Timeframe.M1]


def test_who_asks_for_what_is_not_there_is_told_what_is(tmp_path: Path) -> None:
    store = CandleStore(tmp_path)
    with pytest.raises(NotFound, match="there are none yet; `pipaid data import FILE`"):
        store.read(VENUE, SYMBOL, Timeframe.M1)
    store.add(VENUE, made(*ROWS).larger(Timeframe.H1))
    with pytest.raises(NotFound, match=f"it holds those of {SYMBOL} of {VENUE}"):
        store.read(VENUE, SYMBOL, Timeframe.M1)


@pytest.mark.parametrize(("venue", "symbol"), [("..", SYMBOL), ("a/b", SYMBOL), ("", SYMBOL), (VENUE, "../x")])
def test_a_name_leads_nowhere_else(tmp_path: Path, venue: str, symbol: str) -> None:
    with pytest.raises(InvalidParameter, match="letters, digits"):
        CandleStore(tmp_path).read(venue, symbol, Timeframe.M1)


def test_a_reader_keeps_what_it_mapped_while_the_file_is_replaced(tmp_path: Path) -> None:
    store = CandleStore(tmp_path)
    store.add(VENUE, made(*ROWS))
    before = store.read(VENUE, SYMBOL, Timeframe.M1)
    store.add(VENUE, made("1 1 1 1 1", at=[0]), replace=True)

    assert list(before) == list(made(*ROWS))
    assert store.read(VENUE, SYMBOL, Timeframe.M1).candle(0).close == 1


def test_two_do_not_write_at_once(tmp_path: Path) -> None:
    held = SystemDisk().hold(tmp_path / LOCK)
    try:
        with pytest.raises(Busy, match="another process is writing"):
            CandleStore(tmp_path).add(VENUE, made(*ROWS))
    finally:
        held.release()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CandleStore(tmp_path)
    store.add(VENUE, made(*ROWS))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InvalidParameter, match="No space left on device; what was there before still is"):
        store.add(VENUE, made("1 1 1 1 1", at=[9]))
    monkeypatch.undo()

    assert list(store.read(VENUE, SYMBOL, Timeframe.M1)) == list(made(*ROWS))
    assert sorted(path.name for path in (tmp_path / VENUE).iterdir()) == [f"{SYMBOL}-1m.candles"]


def test_damage_is_told(tmp_path: Path) -> None:
    store = CandleStore(tmp_path)
    header = store.add(VENUE, made(*ROWS))
    path = store.path(VENUE, SYMBOL, Timeframe.M1)
    whole = path.read_bytes()

    path.write_bytes(whole[:-1])
    with pytest.raises(InvalidParameter, match="4239 bytes instead of 4240"):
        store.read(VENUE, SYMBOL, Timeframe.M1)
    path.write_bytes(b"something else" + whole[14:])
    with pytest.raises(InvalidParameter, match="not a candle file of pipaid"):
        store.names()
    path.write_bytes(whole[:8] + b"#" + whole[9:])
    with pytest.raises(InvalidParameter, match="its header cannot be read"):
        store.names()
    flipped = bytearray(whole)
    flipped[HEADER_BYTES + 30] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(InvalidParameter, match="the column open is damaged"):
        store.verify(header)


def test_what_is_wrong_with_other_files_is_no_concern_of_who_asks_for_some(tmp_path: Path) -> None:
    store = CandleStore(tmp_path)
    header = store.add(VENUE, made(*ROWS))
    (tmp_path / VENUE / f"X{SYMBOL}-1m.candles").write_bytes(b"something else")

    assert store.finest(SYMBOL, Timeframe.H1) == header
    with pytest.raises(InvalidParameter, match="not a candle file of pipaid"):
        store.finest(f"X{SYMBOL}", Timeframe.H1)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    store = CandleStore(tmp_path)
    path = store.path(VENUE, SYMBOL, Timeframe.M1)
    path.mkdir(parents=True)

    for ask in (
        store.names,
        lambda: store.finest(SYMBOL, Timeframe.M1),
        lambda: store.held(VENUE, SYMBOL, Timeframe.M1),
    ):
        with pytest.raises(InvalidParameter, match=f"{path}: it cannot be read: Is a directory"):
            ask()
