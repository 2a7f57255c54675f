"""The bad line to a simulated desk: what each fault does, that nothing is left under way, and that a seed decides."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
import trio
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

import pipaid.venues.faults as faults_module
from pipaid.engine.matching import MatchingBook, Terms
from pipaid.errors import ExchangeError
from pipaid.model.fault import Fault
from pipaid.model.order import Execution, Order, OrderType
from pipaid.seams import SystemRandom
from pipaid.venues.faults import BAN_MS, LATE_MS_MAX, STALL_MS, Faults, UnreliableDesk
from pipaid.venues.simulated import CAPABILITIES, SimulatedDesk
from pipaid.venues.venue import Confirmed, Desk, DeskUpdate, Outcome, Reconnected, Refused, Unknown
from pipaid.wire.activity import Activity
from tests.engine.paper import INSTRUMENT, START_MS, SYMBOL, make_exit, make_order, make_trade

FOREVER_MS = START_MS * 2
EXPIRES_MS = START_MS + 5_000


@define(eq=False)
class Line:
    """A line to a desk of its own, with its market: a trade at 100 each time that a second passes."""

    desk: UnreliableDesk = field(init=False)
    activity: Activity = field(factory=Activity)
    faults: Faults = field(factory=lambda: Faults(SystemRandom(seed=1)))
    slept: list[float] = field(factory=list[float])
    expiring: bool = False

    def __attrs_post_init__(self) -> None:
        able = msgspec.structs.replace(CAPABILITIES, request_expiry=self.expiring)
        venue = SimulatedDesk(MatchingBook({SYMBOL: INSTRUMENT}, Terms()), self.activity, able)
        self.desk = UnreliableDesk(venue, self.faults, self._sleep, timeout_s=10.0)
        self.at(0)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await trio.lowlevel.checkpoint()

    def at(self, second: int, price: str = "100") -> None:
        """Let the market trade."""
        self.desk.on_market(make_trade(second, price))

    async def place(self, order: Order, expires_at_ms: int = FOREVER_MS) -> Outcome:
        return await self.desk.place(order, expires_at_ms=expires_at_ms)

    def works(self) -> list[str]:
        return [each.order.client_order_id for each in self.desk.venue.book.orders()]

    async def heard(self) -> list[str]:
        """Take what came over the line and deal with it, and say it in short."""
        updates, words = self.desk.updates(), list[str]()
        for _ in range(self.activity.count):
            words.append(_word(await updates.__anext__()))
            self.activity.end()
        return words


def _word(update: DeskUpdate) -> str:
    if isinstance(update, Execution):
        return f"{update.client_order_id} {update.fact}"
    return "reconnected" if isinstance(update, Reconnected) else "funding"


def resting(number: int = 1) -> Order:
    return make_order(number, type=OrderType.LIMIT, price=Decimal(90))


async def test_without_faults_it_is_the_desk_itself() -> None:
    line = Line()
    desk: Desk = line.desk

    assert await desk.place(make_order(1), expires_at_ms=0) == Confirmed()
    assert await desk.place(resting(2), expires_at_ms=0) == Confirmed()
    assert await desk.cancel(resting(2)) == Confirmed()
    line.at(1)

    assert await line.heard() == ["pp0002 cancel", "pp0001 complete"]
    view = await desk.lookup(make_order(1))
    assert view is not None
    assert view.filled == 1
    assert await desk.open_orders() == []
    assert [fill.client_order_id for fill in await desk.fills_since(0)] == ["pp0001"]
    assert await desk.positions() == {SYMBOL: Decimal(1)}
    assert desk.capabilities == CAPABILITIES
    assert (line.faults.happened, line.slept) == ({}, [])


# Requests.


@pytest.mark.parametrize(
    ("kind", "answer", "arrives", "waits"),
    [
        (Fault.LOST, Unknown, False, True),
        (Fault.UNANSWERED, Unknown, True, True),
        (Fault.LATE, Unknown, False, True),
        (Fault.GARBLED, Unknown, True, True),
        (Fault.BANNED, Refused, False, False),
        (Fault.REFUSED, Refused, False, False),
    ],
)
async def test_a_request_goes_wrong_once_for_each_order_of_a_fault(
    kind: Fault, answer: type[Outcome], arrives: bool, waits: bool
) -> None:
    line = Line()
    line.faults.order(kind)

    outcome = await line.place(resting())

    assert type(outcome) is answer
    assert (line.works() == ["pp0001"]) is arrives
    assert line.slept == ([10.0] if waits else [])
    assert (line.faults.happened, line.faults.ordered) == ({kind: 1}, {})
    line.at(60)
    assert await line.place(resting(2)) == Confirmed()


@pytest.mark.parametrize(
    ("kind", "answer", "arrives"),
    [
        (Fault.LOST, Unknown, False),
        (Fault.UNANSWERED, Unknown, True),
        (Fault.LATE, Unknown, False),
        (Fault.GARBLED, Unknown, True),
        (Fault.BANNED, Refused, False),
        (Fault.REFUSED, Refused, False),
    ],
)
async def test_a_cancellation_goes_wrong_as_an_order_does(kind: Fault, answer: type[Outcome], arrives: bool) -> None:
    line = Line()
    await line.place(resting())
    line.faults.order(kind)

    outcome = await line.desk.cancel(resting())

    assert type(outcome) is answer
    assert (line.works() == []) is arrives
    assert await line.heard() == (["pp0001 cancel"] if arrives else [])


async def test_a_503_says_nothing_about_what_became_of_the_request() -> None:
    line = Line()
    line.faults.order(Fault.BROKEN, 40)

    outcomes = [await line.place(resting(number)) for number in range(40)]

    assert all(isinstance(each, Unknown) for each in outcomes)
    assert 10 < len(line.works()) < 30


async def test_a_ban_refuses_all_requests_and_questions_until_it_ends() -> None:
    line = Line()
    line.faults.order(Fault.BANNED)
    await line.place(resting(1))

    line.at(BAN_MS // 1000 - 1)
    assert isinstance(await line.place(resting(2)), Refused)
    assert isinstance(await line.desk.cancel(resting(2)), Refused)
    with pytest.raises(ExchangeError, match="429"):
        await line.desk.lookup(resting(2))
    line.at(BAN_MS // 1000)

    assert await line.place(resting(3)) == Confirmed()
    assert await line.desk.lookup(resting(2)) is None
    assert line.faults.happened == {Fault.BANNED: 1}


async def test_a_late_request_arrives_within_its_time_and_no_sooner_than_the_market_moves() -> None:
    line = Line()
    line.faults.order(Fault.LATE, 20)
    for number in range(20):
        await line.place(resting(number))

    arrived = list[int]()
    for second in range(1, LATE_MS_MAX // 1000 + 2):
        assert line.desk.capabilities.acts_in_call is (len(line.works()) == 20)
        line.at(second)
        arrived.append(len(line.works()))

    assert arrived[-1] == 20
    assert len(set(arrived)) > 5
    assert line.desk.capabilities.acts_in_call


async def test_a_late_request_that_has_expired_is_not_taken_where_requests_expire() -> None:
    taken = {}
    for expiring in (True, False):
        line = Line(expiring=expiring)
        line.faults.order(Fault.LATE, 40)
        for number in range(40):
            await line.place(resting(number), expires_at_ms=EXPIRES_MS)
        worked = list[int]()
        for second in range(1, 40):
            line.at(second)
            worked.append(len(line.works()))
        taken[expiring] = (worked[5], worked[-1])

    assert taken[True][0] == taken[True][1] > 0
    assert taken[False][0] < taken[False][1] == 40


async def test_a_late_request_that_reaches_the_venue_after_the_market_moved_on_meets_its_expiry() -> None:
    line = Line(expiring=True)
    line.faults.order(Fault.LATE, 10)
    for number in range(10):
        await line.place(resting(number), expires_at_ms=EXPIRES_MS)

    line.at(31)

    assert line.works() == []


async def test_a_late_cancellation_comes_late() -> None:
    line = Line()
    await line.place(resting())
    line.faults.order(Fault.LATE)
    assert isinstance(await line.desk.cancel(resting()), Unknown)
    assert line.works() == ["pp0001"]

    line.at(31)

    assert line.works() == []
    assert await line.heard() == ["pp0001 cancel"]


async def test_while_requests_may_be_late_none_acts_in_the_call() -> None:
    line = Line()
    line.faults.rates[Fault.LATE] = 0.001
    said = [line.desk.capabilities.acts_in_call]

    line.faults.calm()
    said.append(line.desk.capabilities.acts_in_call)
    line.faults.order(Fault.LATE)
    said.append(line.desk.capabilities.acts_in_call)

    assert said == [False, True, False]


async def test_a_full_line_loses_what_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults_module, "ARRIVALS_MAX", 3)
    line = Line()
    line.faults.order(Fault.LATE, 5)
    for number in range(5):
        assert isinstance(await line.place(resting(number)), Unknown)

    line.at(31)

    assert len(line.works()) == 3


# Reports.


@pytest.mark.parametrize(
    ("kind", "at_once", "later"),
    [
        (Fault.DROPPED, [], []),
        (Fault.DOUBLED, ["pp0001 complete", "pp0001 complete"], []),
        (Fault.DELAYED, [], ["pp0001 complete"]),
        (Fault.SILENT, [], ["pp0001 complete"]),
        (Fault.CUT, ["reconnected"], []),
    ],
)
async def test_a_report_goes_wrong_on_its_way(kind: Fault, at_once: list[str], later: list[str]) -> None:
    line = Line()
    await line.place(make_order(1))
    line.faults.order(kind)

    line.at(1)
    first = await line.heard()
    line.at(40)

    assert (first, await line.heard()) == (at_once, later)
    assert line.faults.happened == {kind: 1}
    assert await line.desk.positions() == {SYMBOL: Decimal(1)}


async def test_what_is_delayed_is_overtaken_by_what_follows() -> None:
    line = Line()
    await line.place(make_order(1))
    line.faults.order(Fault.DELAYED)
    line.at(1)
    await line.place(make_order(2))

    line.at(2)
    line.at(40)

    assert await line.heard() == ["pp0002 complete", "pp0001 complete"]


async def test_a_silent_stream_tells_everything_at_once_and_in_order_when_it_speaks_again() -> None:
    line = Line()
    line.faults.order(Fault.SILENT)
    for number in range(1, 4):
        await line.place(make_order(number))
        line.at(number)
    line.at(STALL_MS // 1000)
    assert await line.heard() == []

    line.at(STALL_MS // 1000 + 1)

    assert await line.heard() == ["pp0001 complete", "pp0002 complete", "pp0003 complete"]


async def test_a_cut_loses_what_is_on_its_way_and_ends_a_silence() -> None:
    line = Line()
    line.faults.order(Fault.SILENT)
    await line.place(make_order(1))
    line.at(1)
    line.faults.order(Fault.CUT)
    await line.place(make_order(2))
    line.at(2)
    await line.place(make_order(3))
    line.at(3)

    assert await line.heard() == ["reconnected", "pp0003 complete"]
    line.at(60)
    assert await line.heard() == []


async def test_what_is_held_back_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults_module, "HELD_MAX", 2)
    line = Line()
    line.faults.order(Fault.SILENT)
    for number in range(1, 5):
        await line.place(make_order(number))
    line.at(1)

    assert len(await line.heard()) == 2


async def test_what_is_held_back_holds_up_no_market() -> None:
    line = Line()
    line.faults.order(Fault.SILENT)
    await line.place(make_order(1))
    line.at(1)

    assert line.activity.count == 0


async def test_a_reader_is_woken_by_what_comes_over_the_line() -> None:
    line = Line()
    await line.place(make_order(1))
    heard = list[str]()

    async def read() -> None:
        heard.append(_word(await line.desk.updates().__anext__()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        line.at(1)

    assert heard == ["pp0001 complete"]


async def test_a_new_stream_begins_with_nothing_of_the_old_one() -> None:
    line = Line()
    line.faults.order(Fault.SILENT)
    for number in range(1, 3):
        await line.place(make_order(number))
        line.at(number)
        line.faults.order(Fault.DELAYED)
    line.at(50)
    assert line.activity.count == 2

    line.desk.reconnect()
    line.at(100)

    assert (line.activity.count, await line.heard()) == (0, [])


# Questions.


@pytest.mark.parametrize("question", ["lookup", "open orders", "fills", "positions"])
async def test_a_question_is_not_answered(question: str) -> None:
    line = Line()
    line.faults.order(Fault.OUTAGE)

    with pytest.raises(ExchangeError, match="not answered"):
        await _asked(line.desk, question)
    assert line.slept == [10.0]
    await _asked(line.desk, question)


async def _asked(desk: Desk, question: str) -> object:
    match question:
        case "lookup":
            return await desk.lookup(make_order(1))
        case "open orders":
            return await desk.open_orders()
        case "fills":
            return await desk.fills_since(0)
        case _:
            return await desk.positions()


# Seeds.


async def _day(line: Line) -> list[str]:
    """Trade for a while and return all that was heard, with what was answered."""
    heard = list[str]()
    for number in range(1, 120):
        order = resting(number) if number % 3 else make_order(number)
        heard.append(type(await line.place(order, expires_at_ms=START_MS + number * 1000 + 5_000)).__name__)
        if number % 5 == 0:
            heard.append(type(await line.desk.cancel(resting(number - 4))).__name__)
        if number % 7 == 0:
            await line.place(make_exit(1_000 + number, lot=number - 4))
        try:
            heard.append(str(len(await line.desk.open_orders())))
        except ExchangeError as outage:
            heard.append(outage.message)
        line.at(number, "89" if number % 11 == 0 else "100")
        heard.extend(await line.heard())
    for second in range(200, 300):
        line.at(second)
        heard.extend(await line.heard())
    return heard


async def test_the_same_seed_gives_the_same_faults() -> None:
    rates = dict.fromkeys(Fault, 0.05)
    days = [await _day(Line(faults=Faults(SystemRandom(seed=seed), dict(rates)))) for seed in (7, 7, 8)]

    assert days[0] == days[1]
    assert days[0] != days[2]


@given(st.integers(0, 10**6), st.dictionaries(st.sampled_from(Fault), st.floats(0, 1)))
def test_whatever_goes_wrong_nothing_stays_under_way(seed: int, rates: dict[Fault, float]) -> None:
    line = Line(faults=Faults(SystemRandom(seed=seed), rates))

    trio.run(_day, line)

    assert line.activity.count == 0
    venue = line.desk.venue
    assert (venue.waiting, len(line.desk._held), len(line.desk._arrivals)) == (0, 0, 0)
