"""The judges of what a daemon left behind have teeth: each thing that must not be is planted, and found."""

from __future__ import annotations

from contextlib import closing
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from pipaid.engine.effects import Brain, encode, order_record, position_record, strategy_record
from pipaid.model.order import BookedFill, Order, OrderStatus
from pipaid.model.record import Kind, Record
from pipaid.model.strategy import Status, Tally
from tests.builders import STRATEGY_ID, make_definition, make_fill, make_order, make_position, make_strategy
from tests.soak.books import Ledger, Told, Verdict, copy_journal, judge
from tests.soak.commander import PREFIX, State
from tests.soak.listeners import TailListener
from tests.storage.journals import committed, journal_path, numbered, open_journal

ONE = Decimal(1)
NAME = f"{PREFIX} 1"
DRAFT = State(id=STRATEGY_ID, status=Status.DRAFT, capital="1000.00")
TOLD = Told({STRATEGY_ID: 2}, {NAME: [DRAFT]})


def test_a_journal_in_which_all_is_well_passes(tmp_path: Path) -> None:
    verdict = judged(tmp_path, *consistent(), told=TOLD)

    assert verdict.problems == ()
    assert (verdict.ledger.fills, verdict.orders, verdict.trades, verdict.events) == (2, 2, 0, 2)
    assert judged(tmp_path, before=verdict.ledger, told=TOLD).problems == ()


def test_a_fill_that_was_there_before_and_is_not_any_more_is_found(tmp_path: Path) -> None:
    before = judged(tmp_path / "one", *consistent(), told=TOLD).ledger

    fewer = judged(tmp_path / "two", told=TOLD, before=before)
    other = judged(tmp_path / "three", *consistent(fee="0.1"), told=TOLD, before=before)

    assert "there are 0 fills, and there were 2" in fewer.problems
    assert "the first 2 fills are not those that were there before" in other.problems


def test_what_was_told_and_is_not_there_is_found(tmp_path: Path) -> None:
    (problem,) = judged(tmp_path, *consistent(), told=Told({STRATEGY_ID: 3}, TOLD.commanded)).problems

    assert "event 3 of" in problem
    assert "ends at 2" in problem


@pytest.mark.parametrize(
    "possible",
    [
        {NAME: [State(id=STRATEGY_ID, status=Status.DEPLOYED, capital="1000.00")]},
        {NAME: [State()]},
        {NAME: [DRAFT], f"{PREFIX} 2": [State(id="strat_2", status=Status.DRAFT, capital="1000.00")]},
        {},
    ],
    ids=["another status", "deleted", "one that is missing", "one that nobody asked for"],
)
def test_a_strategy_that_is_not_as_it_was_answered_is_found(tmp_path: Path, possible: dict[str, list[State]]) -> None:
    assert len(judged(tmp_path, *consistent(), told=Told({}, possible)).problems) == 1


@pytest.mark.parametrize("possible", [[State(), State(status=Status.DRAFT, capital="1000.00")], [DRAFT, State()]])
def test_what_a_command_under_way_leaves_open_may_be_either(tmp_path: Path, possible: list[State]) -> None:
    assert judged(tmp_path, *consistent(), told=Told({}, {NAME: possible})).problems == ()


def test_books_that_do_not_add_up_are_found(tmp_path: Path) -> None:
    twice = order_record(make_order(3, client_order_id="pp0001"))
    overfilled = order_record(make_order(1, status=OrderStatus.FILLED, filled=Decimal(2)))
    larger = position_record(make_position(entry_quantity=Decimal(3)))
    miscounted = brain(fills=7)
    stray = booked(make_order(9), id="stray")

    found = [
        judged(tmp_path / str(number), *consistent(), each, told=TOLD).problems
        for number, each in enumerate((twice, overfilled, larger, miscounted, stray))
    ]

    assert [len(problems) for problems in found[:4]] == [1, 1, 1, 1]
    words = ("was used 2 times", "says 2 of 1", "says 3 and 0", "counts 7 fills", "has no order ord_9")
    assert all(any(word in problem for problem in problems) for word, problems in zip(words, found, strict=True))


def test_a_log_left_by_an_orderly_end_is_found(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with closing(open_journal(tmp_path / "state")) as journal:
        committed(journal, *consistent())
        copy_journal(tmp_path / "state", tmp_path / "copy")

    (problem,) = judge(tmp_path / "copy", Ledger(), Told({}, TOLD.commanded), closed=True).problems

    assert "an orderly end left" in problem


def test_a_torn_journal_is_found(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with closing(open_journal(state)) as journal:
        committed(journal, *consistent())
    content = journal_path(state).read_bytes()
    journal_path(state).write_bytes(content[: len(content) // 2])
    copy_journal(state, tmp_path / "copy")

    assert judge(tmp_path / "copy", Ledger(), TOLD, closed=True).problems != ()


def test_a_listener_notices_holes_repeats_and_gaps() -> None:
    listener = TailListener()
    listener.expect(["s"])
    for seq in (1, 2, 2, 4):
        listener.hear(msgspec.json.encode({"event": "paused", "id": "s", "seq": seq}))
    listener.hear(msgspec.json.encode({"event": "lagged", "id": "s", "after_seq": 4, "data": {"to_seq": 9}}))
    listener.hear(msgspec.json.encode({"event": "resumed", "id": "s", "after_seq": 9}))
    listener.hear(msgspec.json.encode({"event": "paused", "id": "s", "seq": 10}))
    listener.hear(msgspec.json.encode({"op": "ack", "ok": True, "oldest_seq": {"s": 12}}))

    assert listener.holes == ["s: 2 came after 2", "s: 4 came after 2"]
    assert (listener.gaps, listener.last, listener.frames) == (2, {"s": 11}, 6)


def consistent(*, fee: str = "0") -> list[Record]:
    """Return a draft with one lot, opened by two orders and both of their fills."""
    orders = [
        make_order(number, status=OrderStatus.FILLED, filled=ONE, position_id="pos_1", fee=Decimal(fee))
        for number in (1, 2)
    ]
    strategy = make_strategy(make_definition(name=NAME), status=Status.DRAFT)
    return [
        strategy_record(strategy),
        *(order_record(order) for order in orders),
        *(booked(order, fee=Decimal(fee)) for order in orders),
        position_record(make_position(entry_quantity=Decimal(2))),
        brain(fills=2),
    ]


def booked(order: Order, *, id: str = "", fee: Decimal = ONE) -> Record:
    fill = make_fill(msgspec.structs.replace(order, filled=Decimal(0)), fee=fee)
    fill = msgspec.structs.replace(fill, id=id or fill.id)
    data = BookedFill(
        fill=fill, strategy_id=STRATEGY_ID, order_id=order.id, position_id="pos_1", dry_run=True, trade_id=""
    )
    return Record("fill", fill.id, Kind.ADD, encode(data), STRATEGY_ID)


def brain(*, fills: int) -> Record:
    return Record("brain", STRATEGY_ID, Kind.PUT, encode(Brain(tally=Tally(fills=fills))), STRATEGY_ID)


def judged(folder: Path, *records: Record, told: Told, before: Ledger | None = None) -> Verdict:
    """Commit records one after the other, two events beside the first of them, and judge what that leaves."""
    state = folder / "state"
    state.mkdir(parents=True, exist_ok=True)
    with closing(open_journal(state)) as journal:
        for number, record in enumerate(records):
            committed(journal, record, *([numbered(STRATEGY_ID)] * 2 if number == 0 else []))
    copy_journal(state, folder / "copy")
    return judge(folder / "copy", before or Ledger(), told, closed=True)
