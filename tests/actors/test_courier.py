"""The courier brings every event to whom it concerns, as often as it takes, and nothing makes it forget one."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.courier import SETTLE_S
from pipaid.engine.lines import AT_ONCE_MAX, AT_ONCE_OF_ACCOUNT_MAX, AT_ONCE_OF_WEBHOOK_MAX
from pipaid.model.request import Addressed
from pipaid.model.webhook import ATTEMPTS_MAX, FAILURES_IN_A_ROW_MAX, RETRY_DELAYS_S, Outcome
from tests.actors.couriers import ACCOUNT, BROKE, TAKEN, URL, Letter, Postroom
from tests.actors.homes import TrioClock
from tests.actors.jobs import Caller

DAY_S = 86_400.0
OTHER = "https://other.example.com/"

pytestmark = pytest.mark.usefixtures("logged")


async def test_an_event_is_delivered_once_with_its_headers_and_its_signature(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Postroom(tmp_path).open() as room:
        webhook = await room.create()
        secret = room.webhooks.secret_of(room.webhooks.hooks[webhook])
        strategy = await room.strategy(name="sol range")
        (event,) = await room.tell(strategy)
        await room.settled()

    (letter,) = room.letters
    assert set(letter.headers) == {
        "X-PipAI-Event-Id", "X-PipAI-Event-Type", "X-PipAI-Webhook-Id", "X-PipAI-Delivery-Id",
        "X-PipAI-Delivery-Attempt", "X-PipAI-Timestamp", "X-PipAI-Signature",
    }  # fmt: skip
    assert (letter.url, letter.event_id, letter.attempt) == (URL, event, 1)
    assert letter.headers["X-PipAI-Webhook-Id"] == webhook
    assert letter.headers["X-PipAI-Event-Type"] == "strategy.order_cancelled"
    assert letter.is_signed_with(secret)
    assert list(letter.content) == ["id", "type", "created_at", "data"]
    assert letter.content == {
        "id": event,
        "type": "strategy.order_cancelled",
        "created_at": "2026-01-01T00:00:00.000Z",
        "data": {
            "strategy_id": strategy, "name": "sol range", "run_id": "run_1", "dry_run": True, "seq": 1,
            "order_id": "ord_1", "client_order_id": "pp1", "symbol": "SOLUSDT", "reason": "engine",
            "filled_qty": "0", "cancelled_at": "2026-01-01T00:00:00Z",
        },
    }  # fmt: skip


async def test_a_letter_that_nobody_takes_is_tried_ten_times_at_the_documented_moments(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Postroom(tmp_path, receivers={URL: lambda _: BROKE}).open() as room:
        webhook = await room.create()
        secret = room.webhooks.secret_of(room.webhooks.hooks[webhook])
        await room.tell(await room.strategy())
        await trio.sleep(3 * DAY_S)
        shown = await room.get(webhook)
        (delivery,) = await room.deliveries(webhook)

    began_s = room.letters[0].at_s
    waits = [
        round(after.at_s - before.at_s, 3) for before, after in zip(room.letters, room.letters[1:-1], strict=False)
    ]
    assert waits == list(RETRY_DELAYS_S)
    assert round(room.letters[-1].at_s - began_s, 3) == DAY_S
    assert [letter.attempt for letter in room.letters] == list(range(1, ATTEMPTS_MAX + 1))
    assert len({letter.headers["X-PipAI-Delivery-Id"] for letter in room.letters}) == 1
    assert len({letter.headers["X-PipAI-Timestamp"] for letter in room.letters}) == ATTEMPTS_MAX
    assert all(letter.is_signed_with(secret) for letter in room.letters)
    assert (delivery.state, delivery.attempts, delivery.next_attempt_at) == ("exhausted", ATTEMPTS_MAX, None)
    assert (shown.status, shown.consecutive_failures) == ("active", ATTEMPTS_MAX)


async def test_a_letter_that_is_taken_at_last_leaves_nothing_that_waits(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    def fourth(letter: Letter) -> Outcome:
        return TAKEN if letter.attempt == 4 else BROKE

    async with Postroom(tmp_path, receivers={URL: fourth}).open() as room:
        webhook = await room.create()
        await room.tell(await room.strategy())
        await trio.sleep(20)
        assert (room.rows("delivery", "waiting"), room.rows("letter")) == (1, 1)
        (waiting,) = await room.deliveries(webhook)
        await trio.sleep(60)
        shown = await room.get(webhook)

    assert (waiting.state, waiting.attempts, waiting.error) == ("waiting", 3, "it answered 503")
    assert (shown.consecutive_failures, shown.last_success_at) == (0, shown.last_delivery_at)
    assert len(room.letters) == 4


async def test_what_goes_well_is_written_down_nowhere_but_in_the_last_ones_that_were_delivered(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Postroom(tmp_path).open() as room:
        await room.create()
        strategy = await room.strategy()
        for _ in range(70):
            await room.tell(strategy)
        await room.settled()
        assert (room.rows("letter"), room.rows("delivery"), room.rows("delivery", "waiting")) == (0, 50, 0)
        assert room.position > 70
        assert len(room.letters) == 70


async def test_an_account_hears_of_its_own_alone(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Postroom(tmp_path).open() as room:
        await room.create(url=URL)
        await room.create(account="acct_2", url=OTHER)
        mine, theirs = await room.strategy(), await room.strategy(account="acct_2")
        own, others = await room.tell(mine, 3), await room.tell(theirs, 2)
        await room.settled()

    assert sorted(room.events_of(URL)) == sorted(own)
    assert sorted(room.events_of(OTHER)) == sorted(others)


@pytest.mark.parametrize(
    ("patterns", "heard"),
    [
        (("strategy.order_cancelled",), True),
        (("strategy.*",), True),
        (("*",), True),
        (("backtest.*", "account.*"), False),
        (("strategy.paused",), False),
    ],
)
async def test_a_webhook_hears_of_what_it_asked_for(
    tmp_path: Path, autojump_clock: MockClock, patterns: tuple[str, ...], heard: bool
) -> None:
    async with Postroom(tmp_path).open() as room:
        await room.create(*patterns)
        await room.tell(await room.strategy())
        await room.settled()

    assert bool(room.letters) is heard


async def test_what_happened_before_a_webhook_was_made_is_not_delivered(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Postroom(tmp_path).open() as room:
        strategy = await room.strategy()
        await room.tell(strategy, 5)
        await room.create()
        later = await room.tell(strategy, 2)
        await room.settled()

    assert sorted(room.events_of()) == sorted(later)


async def test_a_life_that_ends_suddenly_loses_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    told: list[str] = []
    room = Postroom(tmp_path, answer_s=5.0)
    async with room.open():
        await room.create()
        strategy = await room.strategy()
        told += await room.tell(strategy, 30)
        await trio.sleep(0.1)
    sent_before = len(room.letters)
    room.answer_s = 0.0
    async with room.open():
        told += await room.tell(strategy, 5)
        await room.settled()

    assert sent_before == AT_ONCE_OF_WEBHOOK_MAX
    assert set(room.events_of()) == set(told)


async def test_a_backlog_survives_with_its_schedule(tmp_path: Path, autojump_clock: MockClock) -> None:
    room = Postroom(tmp_path, receivers={URL: lambda _: BROKE})
    async with room.open():
        webhook = await room.create()
        await room.tell(await room.strategy())
        await trio.sleep(100)
    before = len(room.letters)
    async with room.open():
        await trio.sleep(30)
        between = len(room.letters)
        await trio.sleep(100)
        (delivery,) = await room.deliveries(webhook)

    assert (before, between) == (4, 4)
    assert (room.letters[4].attempt, delivery.attempts) == (5, 5)
    assert round(room.letters[4].at_s - room.letters[3].at_s, 3) == 120.0


async def test_no_more_is_under_way_at_once_than_is_allowed(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Postroom(tmp_path, answer_s=1.0).open() as room:
        for number in range(12):
            await room.create(account=f"acct_{number % 3}", url=f"https://r{number}.example.com/")
        strategies = [await room.strategy(account=f"acct_{number}") for number in range(3)]
        for strategy in strategies:
            await room.tell(strategy, 40)
        await trio.sleep(60)

    assert room.at_once_most == AT_ONCE_MAX
    assert len(room.letters) == 12 * 40


async def test_attempts_are_paced(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Postroom(tmp_path, per_s_max=10.0).open() as room:
        await room.create()
        await room.tell(await room.strategy(), 50)
        await trio.sleep(3)
        assert 25 <= len(room.letters) <= 31
        await trio.sleep(10)

    assert len(room.letters) == 50


async def test_fifty_failures_in_a_row_over_an_hour_break_a_webhook_and_nothing_is_sent_any_more(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Postroom(tmp_path, receivers={URL: lambda _: BROKE}).open() as room:
        webhook = await room.create()
        strategy = await room.strategy()
        await room.tell(strategy, 60)
        # So long a receiver may be away while it starts anew, however many events there are meanwhile.
        await trio.sleep(3_000)
        away, before = await room.get(webhook), len(room.letters)
        await trio.sleep(3 * 3_600)
        broken, sent = await room.get(webhook), len(room.letters)
        await room.tell(strategy, 5)
        await trio.sleep(3_600)
        assert len(room.letters) == sent

    assert (away.status, broken.status) == ("active", "broken")
    assert before > 60 * 5 > FAILURES_IN_A_ROW_MAX
    # Those that were under way at the moment run to their end.
    assert 1 <= sent - before <= AT_ONCE_OF_WEBHOOK_MAX


async def test_three_exhausted_deliveries_in_a_row_break_a_webhook(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Postroom(tmp_path, receivers={URL: lambda _: BROKE}).open() as room:
        webhook = await room.create()
        strategy = await room.strategy()
        await room.tell(strategy, 2)
        await trio.sleep(2 * DAY_S)
        still = (await room.get(webhook)).status
        await room.tell(strategy)
        await trio.sleep(2 * DAY_S)
        now = (await room.get(webhook)).status

    assert (still, now) == ("active", "broken")


async def test_a_webhook_that_is_made_active_again_gets_what_waits_and_nothing_of_meanwhile(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room = Postroom(tmp_path, receivers={URL: lambda _: BROKE})
    async with room.open():
        webhook = await room.create()
        strategy = await room.strategy()
        first = await room.tell(strategy, 60)
        await trio.sleep(3 * 3_600)
        await room.tell(strategy, 5)
        room.receivers[URL] = lambda _: TAKEN
        room.letters.clear()
        shown = await room.update(webhook, status="active")
        later = await room.tell(strategy, 2)
        await trio.sleep(12 * 3_600)

    assert (shown.status, shown.consecutive_failures) == ("active", 0)
    assert set(room.events_of()) == {*first, *later}


async def test_a_paused_webhook_keeps_what_happened_before_and_hears_of_nothing_meanwhile(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room = Postroom(tmp_path)
    async with room.open():
        webhook = await room.create()
        strategy = await room.strategy()
        before = await room.tell(strategy, 3)
        await room.update(webhook, status="paused")
        await room.tell(strategy, 3)
        await room.settled()
    async with room.open():
        await trio.sleep(60)
        await room.update(webhook, status="active")
        after = await room.tell(strategy, 3)
        await room.settled()

    assert set(room.events_of()) == {*before, *after}


async def test_what_a_paused_webhook_keeps_is_given_up_after_a_day(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Postroom(tmp_path, receivers={URL: lambda _: BROKE}).open() as room:
        webhook = await room.create()
        await room.tell(await room.strategy())
        await trio.sleep(2)
        await room.update(webhook, status="paused")
        sent = len(room.letters)
        await trio.sleep(2 * DAY_S)
        (delivery,) = await room.deliveries(webhook)
        assert room.rows("letter") == 0

    assert (delivery.state, delivery.attempts) == ("exhausted", sent)


async def test_a_deleted_webhook_leaves_nothing_behind(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Postroom(
        tmp_path, receivers={URL: lambda letter: BROKE if letter.attempt < 3 else TAKEN}
    ).open() as room:
        webhook = await room.create()
        strategy = await room.strategy()
        await room.tell(strategy, 20)
        await trio.sleep(20)
        await room.tell(strategy, 5)
        await room.settled()
        await room.webhooks.webhook_delete(Caller(ACCOUNT), Addressed(id=webhook))
        sent = len(room.letters)
        await trio.sleep(DAY_S)
        assert [room.rows(each) for each in ("webhook", "webhook_standing", "delivery", "letter")] == [0, 0, 0, 0]

    assert len(room.letters) == sent


async def test_the_journal_forgets_no_event_that_has_still_to_be_delivered(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Postroom(tmp_path, answer_s=5.0).open() as room:
        before = room.courier.held_n
        await room.create()
        strategy = await room.strategy()
        await room.settled()
        held = room.courier.held_n
        await room.tell(strategy)
        await wait_all_tasks_blocked()
        under_way = room.courier.held_n
        await trio.sleep(5 + 3 * SETTLE_S)
        passed = room.courier.held_n

    assert before is None
    assert (under_way, held is None) == (held, False)
    assert (passed or 0) > (held or 0)


async def test_a_receiver_that_cannot_keep_up_is_given_up_before_what_waits_fills_the_memory(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.courier.WAITING_MAX", 100)
    async with Postroom(tmp_path, answer_s=9.0).open() as room:
        webhook = await room.create()
        other = await room.create(account="acct_2", url=OTHER)
        strategy, quiet = await room.strategy(), await room.strategy(account="acct_2")
        for _ in range(6):
            await room.tell(strategy, 50)
            await trio.sleep(2)
        told = await room.tell(quiet)
        await trio.sleep(60)
        figures, shown, fine = room.courier.figures(), await room.get(webhook), await room.get(other)

    assert (shown.status, fine.status) == ("broken", "active")
    assert set(room.events_of(OTHER)) == set(told)
    assert (figures.webhooks, figures.broken) == (2, 1)
    assert 100 < figures.waiting < 300
    assert figures.oldest_waiting_s > 60


async def test_the_one_with_the_most_gives_way_when_too_much_waits_for_all(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.courier.WAITING_IN_ALL_MAX", 100)
    async with Postroom(tmp_path, receivers={URL: lambda _: BROKE}, answer_s=9.0).open() as room:
        first = await room.create()
        strategy = await room.strategy()
        await room.tell(strategy, 60)
        await trio.sleep(1)
        second = await room.create(url=OTHER)
        await room.tell(strategy, 30)
        await trio.sleep(1)
        states = [(await room.get(each)).status for each in (first, second)]

    assert states == ["broken", "active"]


async def test_what_waits_for_all_is_bounded_however_many_webhooks_it_waits_for(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.courier.WAITING_IN_ALL_MAX", 100)
    async with Postroom(tmp_path, answer_s=9.0).open() as room:
        strategy = await room.strategy()
        first = await room.create(url=f"{URL}/0")
        small = await room.create(account="acct_2", url=OTHER)
        await room.tell(await room.strategy(account="acct_2"), 8)
        await room.tell(strategy, 110)
        await trio.sleep(1)
        others = [await room.create(url=f"{URL}/{number}") for number in range(1, 6)]
        await room.tell(strategy, 60)
        await trio.sleep(1)
        waiting, states = room.courier.figures().waiting, [(await room.get(each)).status for each in (first, *others)]
        spared = (await room.get(small)).status
        await room.settled()
        rows = room.rows("delivery", "waiting")
        (given_up, *_) = await room.deliveries(first, state="exhausted")

    assert (waiting, spared) == (100, "active")
    assert "broken" in states
    assert rows <= 100
    assert given_up.error == "too much waited for all webhooks, most of it for this one"


async def test_one_slow_account_leaves_places_for_others(tmp_path: Path, autojump_clock: MockClock) -> None:
    room = Postroom(tmp_path, answer_s=9.0)
    async with room.open():
        for number in range(10):
            await room.create(url=f"https://slow{number}.example.com/")
        await room.create(account="acct_2", url=OTHER)
        slow, quick = await room.strategy(), await room.strategy(account="acct_2")
        await room.tell(slow, 20)
        await trio.sleep(1)
        before = room.at_once
        await room.tell(quick)
        await trio.sleep(0.5)

    assert before == AT_ONCE_OF_ACCOUNT_MAX
    assert len(room.events_of(OTHER)) == 1


async def test_accounts_take_turns_however_many_webhooks_one_of_them_has(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room = Postroom(tmp_path, per_s_max=1.0)
    async with room.open():
        for number in range(20):
            await room.create(url=f"https://many{number}.example.com/")
        await room.create(account="acct_2", url=OTHER)
        many, one = await room.strategy(), await room.strategy(account="acct_2")
        await room.tell(many, 3)
        await trio.sleep(1.5)
        await room.tell(one, 2)
        await trio.sleep(5)

    assert len(room.events_of(OTHER)) == 2


async def test_a_clock_that_was_far_ahead_keeps_no_delivery_waiting_for_longer_than_a_day(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    class Ahead(TrioClock):
        def now_us(self) -> int:
            return super().now_us() + 30 * int(DAY_S) * 1_000_000

    async with Postroom(tmp_path, clock=Ahead(), receivers={URL: lambda _: BROKE}).open() as room:
        await room.create()
        told = await room.tell(await room.strategy(), 3)
        await trio.sleep(60)
    async with Postroom(tmp_path).open() as room:
        await trio.sleep(DAY_S + 60)

    assert set(room.events_of()) == set(told)
