"""Downloads: every candle once, whatever the pages, the gaps, the ends, and what is there already."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import pytest
import trio
from attrs import define, evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from pipaid.errors import Busy, ExchangeError, InvalidParameter, RateLimited
from pipaid.model.candle import Candle
from pipaid.model.columns import Candles
from pipaid.model.instrument import Timeframe
from pipaid.seams import HeldFile, SystemDisk
from pipaid.storage.candles import LOCK, CandleStore
from pipaid.venues import downloading
from pipaid.venues.downloading import SETTLE_MS, Download, Span, closed_span, missing
from tests.venues.asking import SYMBOL, VENUE, JumpingClock, asking
from tests.venues.candle_server import MINUTE_MS, START_MS, CandleServer, Fault, Reply, Row, candle_server, minutes

M1 = Timeframe.M1


@pytest.fixture(scope="module")
def shared() -> Generator[CandleServer]:
    with candle_server() as server:
        yield server


@pytest.fixture
def server(shared: CandleServer) -> CandleServer:
    shared.rows.clear()
    shared.cues.clear()
    shared.asked.clear()
    return shared


@define
class Fetched:
    """What a download did."""

    settled: int = 0
    fetched: int = 0

    def moved(self, count: int) -> None:
        self.settled += count


def at(place: int) -> int:
    return START_MS + place * MINUTE_MS


async def download(
    server: CandleServer, store: CandleStore, span: Span, *, page_max: int = 5, clock: JumpingClock | None = None,
    keep: Callable[[Candles], object] | None = None,
) -> Fetched:  # fmt: skip
    """Download what is missing of a span."""
    clock = clock or JumpingClock()
    held = store.held(VENUE, SYMBOL, M1)
    spans = [span] if held is None else missing(held.time_ms, M1, span)
    done = Fetched()
    async with asking(server, clock, page_max=page_max) as rest:
        keep = keep or (lambda candles: store.add(VENUE, candles))
        run = Download(rest, SYMBOL, M1, clock, keep=keep, moved=done.moved)
        try:
            await run.run(spans)
        finally:
            done.fetched = run.fetched
    return done


def kept(store: CandleStore) -> list[Candle]:
    held = store.held(VENUE, SYMBOL, M1)
    return [] if held is None else list(held)


def candle(row: Row) -> Candle:
    return Candle(SYMBOL, M1, row[0], *(Decimal(text) for text in row[1:6]))


def columns_of(rows: list[Row]) -> Candles:
    opened, *others = zip(*(row[:6] for row in rows), strict=True)
    columns = {
        name: [float(each) for each in column]
        for name, column in zip(("open", "high", "low", "close", "volume"), others, strict=True)
    }
    return Candles.from_rows(SYMBOL, M1, time_ms=list(opened), **columns)


@settings(max_examples=60, deadline=None)
@given(
    places=st.sets(st.integers(0, 40)),
    here=st.sets(st.integers(0, 40)),
    ends=st.tuples(st.integers(-3, 43), st.integers(-3, 43)).filter(lambda pair: pair[0] < pair[1]),
    page_max=st.integers(1, 9),
    server_max=st.integers(1, 9),
)
def test_every_candle_comes_once_and_none_that_is_there(
    shared: CandleServer, places: set[int], here: set[int], ends: tuple[int, int], page_max: int, server_max: int
) -> None:
    here &= places
    span = Span(at(ends[0]), at(ends[1]))
    shared.rows = {SYMBOL: minutes(sorted(places))}
    shared.page_max = server_max
    shared.asked.clear()
    with TemporaryDirectory() as folder:
        store = CandleStore(Path(folder))
        if here:
            store.add(VENUE, columns_of(minutes(sorted(here))))

        done = trio.run(lambda: download(shared, store, span, page_max=page_max))

        new = {place for place in places - here if ends[0] <= place < ends[1]}
        assert kept(store) == [candle(row) for row in minutes(sorted(here | new))]
        assert done.fetched == len(new)
        assert done.settled == ends[1] - ends[0] - sum(ends[0] <= place < ends[1] for place in here)
        for page in shared.pages():
            assert not any(int(page["startTime"]) <= at(place) <= int(page["endTime"]) for place in here)
            assert int(page["limit"]) <= page_max

        shared.asked.clear()
        again = trio.run(lambda: download(shared, store, span, page_max=page_max))
        assert again.fetched == 0
        there = sorted(here | new)
        gaps = missing(np.array([at(place) for place in there], dtype=np.int64), M1, span)
        assert len(shared.pages()) == len(gaps)
    shared.page_max = 1_000


@given(
    there=st.sets(st.integers(-5, 45)),
    ends=st.tuples(st.integers(0, 40), st.integers(0, 40)).filter(lambda pair: pair[0] < pair[1]),
)
def test_what_is_missing_is_what_is_not_there(there: set[int], ends: tuple[int, int]) -> None:
    times = np.array([at(place) for place in sorted(there)], dtype=np.int64)
    spans = missing(times, M1, Span(at(ends[0]), at(ends[1])))

    told = [time for span in spans for time in range(span.start_ms, span.end_ms, MINUTE_MS)]
    assert told == [at(place) for place in range(*ends) if place not in there]
    assert all(before.end_ms < after.start_ms for before, after in pairwise(spans))


def test_a_candle_that_is_not_closed_is_not_asked_for() -> None:
    settled = at(10) + SETTLE_MS
    assert closed_span(at(0), at(10), M1, now_ms=settled) == (Span(at(0), at(10)), False)
    assert closed_span(at(0), at(10), M1, now_ms=settled - 1) == (Span(at(0), at(9)), True)
    assert closed_span(at(0) + 1, at(2) + 1, M1, now_ms=settled) == (Span(at(1), at(3)), False)
    assert closed_span(at(-90), at(600), Timeframe.H1, now_ms=settled) == (Span(at(-60), at(0)), True)
    with pytest.raises(InvalidParameter, match="no candle of 1m opens from 2023-11-15T00:10:00Z on"):
        closed_span(at(10), at(20), M1, now_ms=settled)


async def test_a_page_that_is_refused_is_named_and_those_before_it_are_kept(
    server: CandleServer, tmp_path: Path
) -> None:
    server.rows[SYMBOL] = minutes(range(20))
    wrong = minutes(range(10, 15))
    wrong[2][4] = "-7"
    server.cues.extend([None, None, lambda reply: evolve(reply, body=repr(wrong).replace("'", '"').encode())])
    store = CandleStore(tmp_path)

    with pytest.raises(ExchangeError) as refused:
        await download(server, store, Span(at(0), at(20)))

    assert f"/klines?symbol={SYMBOL}&interval=1m&startTime={at(10)}&" in refused.value.message
    assert 'page 3, row 3 at 2023-11-15T00:12:00Z: close is "-7"' in refused.value.message
    assert kept(store) == [candle(row) for row in minutes(range(10))]

    server.asked.clear()
    assert (await download(server, store, Span(at(0), at(20)))).fetched == 10
    assert int(server.pages()[0]["startTime"]) == at(10)
    assert kept(store) == [candle(row) for row in minutes(range(20))]


async def test_what_came_is_kept_each_time_that_so_much_has_come(
    server: CandleServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "KEEP_CANDLES", 12)
    server.rows[SYMBOL] = minutes(range(32))
    store, sizes = CandleStore(tmp_path), list[int]()

    def keep(candles: Candles) -> None:
        sizes.append(len(candles))
        store.add(VENUE, candles)

    await download(server, store, Span(at(0), at(40)), keep=keep)

    assert sizes == [15, 15, 2]
    assert len(kept(store)) == 32


async def test_whoever_writes_there_too_is_waited_for(server: CandleServer, tmp_path: Path) -> None:
    server.rows[SYMBOL] = minutes(range(3))
    store, held = CandleStore(tmp_path), SystemDisk().hold(tmp_path / LOCK)

    @define
    class Releasing(JumpingClock):
        lock: HeldFile = held

        async def sleep(self, seconds: float) -> None:
            if len(self.waits) == 3:
                self.lock.release()
            await super().sleep(seconds)

    clock = Releasing()
    assert (await download(server, store, Span(at(0), at(3)), clock=clock)).fetched == 3
    assert len(clock.waits) == 4

    still = SystemDisk().hold(tmp_path / LOCK)
    server.rows[SYMBOL] = minutes(range(6))
    try:
        with pytest.raises(Busy):
            await download(server, store, Span(at(0), at(6)))
    finally:
        still.release()
    assert len(kept(store)) == 3


async def test_candles_of_another_symbol_that_do_not_fit_are_refused(server: CandleServer, tmp_path: Path) -> None:
    rows = minutes(range(10))
    for each in rows[5:]:
        each[1:5] = ["0.000000000101"] * 4
    for each in rows[:5]:
        each[1:5] = ["107731.5"] * 4
    server.rows[SYMBOL] = rows

    with pytest.raises(InvalidParameter, match="are they of the same symbol"):
        await download(server, CandleStore(tmp_path), Span(at(0), at(10)))


def rewritten(change: Callable[[list[Row]], list[Row]]) -> Fault:
    """Return a fault that shows other rows instead."""

    def fault(reply: Reply) -> Reply:
        return evolve(reply, body=msgspec.json.encode(change(msgspec.json.decode(reply.body))))

    return fault


def of_another_time(rows: list[Row]) -> list[Row]:
    return [[each[0] - 100 * MINUTE_MS, *each[1:6], each[6] - 100 * MINUTE_MS, *each[7:]] for each in rows]


# What goes wrong on the way, and what a venue, a mirror or whoever stands between might answer.
FAULTS: dict[str, Fault] = {
    "cut": lambda reply: evolve(reply, cut=True),
    "error": lambda reply: Reply(502, b"<html>Bad Gateway</html>"),
    "too many": lambda reply: Reply(429, b"{}", {"Retry-After": "3"}),
    "ban": lambda reply: Reply(418, b"{}", {"Retry-After": "7200"}),
    "page for people": lambda reply: Reply(body=b"<html>Log in to this network</html>"),
    "half": lambda reply: evolve(reply, body=reply.body[: len(reply.body) // 2]),
    "backwards": rewritten(lambda rows: rows[::-1] if len(rows) > 1 else [*rows, *rows]),
    "twice": rewritten(lambda rows: [each for row in rows for each in (row, row)]),
    "of another time": rewritten(of_another_time),
    "free": rewritten(lambda rows: [[*each[:4], "0", *each[5:]] for each in rows]),
    "first only": rewritten(lambda rows: rows[:1]),
    "none": rewritten(lambda rows: []),
}


@settings(max_examples=60, deadline=None)
@given(
    places=st.sets(st.integers(0, 40), min_size=1),
    cues=st.lists(st.sampled_from([None, *FAULTS]), max_size=12),
    page_max=st.integers(1, 9),
)
def test_whatever_goes_wrong_nothing_untrue_is_kept_and_the_next_ones_complete_it(
    shared: CandleServer, places: set[int], cues: list[str | None], page_max: int
) -> None:
    span, true = Span(at(0), at(41)), {each[0]: candle(each) for each in minutes(sorted(places))}
    shared.rows = {SYMBOL: minutes(sorted(places))}
    with TemporaryDirectory() as folder:
        store = CandleStore(Path(folder))
        shared.cues.clear()
        shared.cues.extend(None if cue is None else FAULTS[cue] for cue in cues)
        while shared.cues:
            before = len(shared.cues)
            with suppress(ExchangeError, RateLimited):
                trio.run(lambda: download(shared, store, span, page_max=page_max))
            assert len(shared.cues) < before
            assert kept(store) == [true[each.open_time_ms] for each in kept(store)]
        trio.run(lambda: download(shared, store, span, page_max=page_max))
        assert kept(store) == list(true.values())


async def test_a_lost_connection_costs_no_candle(server: CandleServer, tmp_path: Path) -> None:
    server.rows[SYMBOL] = minutes(range(20))

    def cut(reply: Reply) -> Reply:
        return evolve(reply, cut=True)

    server.cues.extend([None, cut, None, cut, cut])
    store = CandleStore(tmp_path)

    assert (await download(server, store, Span(at(0), at(20)))).fetched == 20
    assert kept(store) == [candle(row) for row in minutes(range(20))]
