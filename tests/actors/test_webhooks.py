"""Webhooks are made, shown, changed, tried out and ended; strangers see nothing of them, and no secret is kept."""

from __future__ import annotations

import re
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from actors.webhooks import TESTS_AT_ONCE_MAX, TESTS_OF_ACCOUNT_MAX
from pipaid.errors import InvalidParameter, InvalidState, NotFound, Unavailable
from pipaid.model.letter import TYPE_OF
from pipaid.model.operation import OPERATIONS, decode_request
from pipaid.model.request import Addressed
from pipaid.model.samples import sample_of
from pipaid.model.webhook import (
    EVENT_TYPES,
    WEBHOOK_TRANSITIONS,
    WEBHOOKS_PER_ACCOUNT_MAX,
    WebhookAction,
    WebhookCreate,
    WebhookList,
    WebhookStatus,
    WebhookTest,
    WebhookUpdate,
    webhook_after,
)
from tests.actors.couriers import ACCOUNT, BROKE, TAKEN, URL, Postroom
from tests.actors.jobs import Caller

pytestmark = pytest.mark.usefixtures("logged")

STRANGER = Caller("acct_2")


async def test_a_new_webhook_is_shown_with_its_secret_this_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Postroom(tmp_path).open() as room:
        asked = WebhookCreate(url=URL, events=("strategy.*",), description="mine")
        made = await room.webhooks.webhook_create(Caller(ACCOUNT), asked)
        wire: Any = msgspec.json.decode(msgspec.json.encode(made))
        shown: Any = msgspec.json.decode(msgspec.json.encode(await room.get(made.id)))

    secret, warning = wire.pop("secret"), wire.pop("_secret_warning")
    assert re.fullmatch(r"[0-9A-Za-z]{40}", secret)
    assert "once" in warning
    assert wire == shown
    assert re.fullmatch(r"wh_[0-9a-f]{8}", wire.pop("id"))
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", wire.pop("created_at"))
    assert wire == {
        "url": URL, "events": ["strategy.*"], "description": "mine", "balance_low_threshold": None, "status": "active",
        "consecutive_failures": 0, "last_delivery_at": None, "last_success_at": None,
    }  # fmt: skip


async def test_no_secret_is_on_the_disk_and_each_restart_derives_the_same(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room = Postroom(tmp_path)
    async with room.open():
        made = await room.webhooks.webhook_create(Caller(ACCOUNT), WebhookCreate(url=URL, events=("*",)))
    async with room.open():
        await room.tell(await room.strategy())
        await room.settled()

    assert isinstance(made.secret, str)
    assert room.letters[0].is_signed_with(made.secret)
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert made.secret.encode() not in content


async def test_a_new_secret_signs_from_then_on(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Postroom(tmp_path).open() as room:
        made = await room.webhooks.webhook_create(Caller(ACCOUNT), WebhookCreate(url=URL, events=("*",)))
        strategy = await room.strategy()
        await room.tell(strategy)
        await room.settled()
        fresh = await room.webhooks.webhook_rotate_secret(Caller(ACCOUNT), Addressed(id=made.id))
        await room.tell(strategy)
        await room.settled()

    before, after = room.letters
    assert made.secret != fresh.secret
    assert before.is_signed_with(made.secret or "")
    assert after.is_signed_with(fresh.secret or "")
    assert not after.is_signed_with(made.secret or "")


async def test_to_a_stranger_a_webhook_is_not_there(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Postroom(tmp_path).open() as room:
        webhook = await room.create()
        asks = (
            room.webhooks.webhook_get(STRANGER, Addressed(id=webhook)),
            room.webhooks.webhook_update(STRANGER, WebhookUpdate(id=webhook, status="paused")),
            room.webhooks.webhook_delete(STRANGER, Addressed(id=webhook)),
            room.webhooks.webhook_test(STRANGER, WebhookTest(id=webhook)),
            room.webhooks.webhook_rotate_secret(STRANGER, Addressed(id=webhook)),
            room.webhooks.webhook_deliveries(STRANGER, decoded("webhook.deliveries", id=webhook)),
        )
        for ask in asks:
            with pytest.raises(NotFound):
                await ask
        listed = await room.webhooks.webhook_list(STRANGER, WebhookList())
        everybody = await room.webhooks.webhook_list(Caller(), WebhookList())

    assert listed.data == ()
    assert [each.id for each in everybody.data] == [webhook]
    assert room.letters == []


def decoded(operation: str, **args: Any) -> Any:
    return decode_request(OPERATIONS[operation], args)


@pytest.mark.parametrize(
    ("args", "field"),
    [
        ({"events": ["*"]}, "url"),
        ({"url": URL}, "events"),
        ({"url": URL, "events": []}, "events"),
        ({"url": URL, "events": ["strategy.*", "strategy.*"]}, "events"),
        ({"url": URL, "events": ["strategy.exploded"]}, "events"),
        ({"url": URL, "events": "*"}, "events"),
        ({"url": URL, "events": ["*"], "description": "x" * 201}, "description"),
        ({"url": URL, "events": ["*"], "balance_low_threshold": "-1"}, "balance_low_threshold"),
        ({"url": URL, "events": ["*"], "balance_low_threshold": 1.5}, "balance_low_threshold"),
        ({"url": URL, "events": ["*"], "secret": "x"}, "secret"),
        ({"url": URL, "events": ["*"], "status": "paused"}, "status"),
        ({"url": f"{URL}/{'x' * 2048}", "events": ["*"]}, "url"),
    ],
)
def test_what_is_missing_or_malformed_is_named(args: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        decoded("webhook.create", **args)

    assert [name for name, _ in refused.value.details] == [field]


@pytest.mark.parametrize(
    "url", ["http://example.com/", "https://127.0.0.1/", "https://10.1.2.3/", "https://localhost/"]
)
async def test_no_webhook_leads_where_nothing_is_delivered(tmp_path: Path, autojump_clock: MockClock, url: str) -> None:
    async with Postroom(tmp_path).open() as room:
        webhook = await room.create()
        with pytest.raises(InvalidParameter):
            await room.create(url=url)
        with pytest.raises(InvalidParameter):
            await room.update(webhook, url=url)
        kept = (await room.get(webhook)).url
    async with Postroom(tmp_path / "..", private=True).open() as lenient:
        await lenient.create(url=url)

    assert kept == URL


async def test_a_low_balance_needs_a_threshold_where_it_is_named(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Postroom(tmp_path).open() as room:
        with pytest.raises(InvalidParameter, match="balance_low_threshold"):
            await room.create("account.balance_low")
        named = await room.create("account.balance_low", balance_low_threshold=Decimal("12.50"))
        covered = await room.create("account.*")
        ignored = await room.create("strategy.*", balance_low_threshold=Decimal(5))
        with pytest.raises(InvalidParameter):
            await room.update(named, balance_low_threshold=None)
        thresholds = [(await room.get(each)).balance_low_threshold for each in (named, covered, ignored)]

    assert thresholds == ["12.5", None, None]


async def test_an_account_has_fifty_at_most(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Postroom(tmp_path).open() as room:
        webhook, *_ = [await room.create() for _ in range(WEBHOOKS_PER_ACCOUNT_MAX)]
        with pytest.raises(InvalidState, match="50 webhooks"):
            await room.create()
        await room.create(account="acct_2")
        await room.webhooks.webhook_delete(Caller(ACCOUNT), Addressed(id=webhook))
        await room.create()


async def test_a_listing_is_narrowed_and_paged_newest_first(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Postroom(tmp_path).open() as room:
        made = [await room.create(*events) for events in (["strategy.*"], ["backtest.job_done"], ["*"], ["account.*"])]
        await room.update(made[0], status="paused")
        by_event = await room.webhooks.webhook_list(Caller(ACCOUNT), WebhookList(event="backtest.job_done"))
        paused = await room.webhooks.webhook_list(Caller(ACCOUNT), WebhookList(status="paused"))
        pages: list[str] = []
        cursor = None
        while True:
            page = await room.webhooks.webhook_list(Caller(ACCOUNT), WebhookList(limit=1, cursor=cursor))
            pages += [each.id for each in page.data]
            cursor = page.next_cursor
            if cursor is None:
                break
        with pytest.raises(InvalidParameter, match="cursor"):
            await room.webhooks.webhook_list(Caller(ACCOUNT), WebhookList(cursor="x"))

    assert {each.id for each in by_event.data} == {made[1], made[2]}
    assert [each.id for each in paused.data] == [made[0]]
    assert sorted(pages) == sorted(made)
    assert WebhookList().limit == 25


async def test_changes_leave_the_rest_as_it_is_and_survive(tmp_path: Path, autojump_clock: MockClock) -> None:
    room = Postroom(tmp_path)
    async with room.open():
        webhook = await room.create("strategy.*", description="mine")
        changed = await room.update(webhook, url="https://other.example.com/", events=("backtest.*",))
        cleared = await room.update(webhook, description=None)
    async with room.open():
        found = await room.get(webhook)

    assert (changed.url, changed.events, changed.description) == (
        "https://other.example.com/", ("backtest.*",), "mine",
    )  # fmt: skip
    assert cleared.description is None
    assert found == cleared


async def test_a_test_sends_one_signed_letter_and_says_what_came_of_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Postroom(tmp_path).open() as room:
        webhook = await room.create("backtest.*")
        secret = room.webhooks.secret_of(room.webhooks.hooks[webhook])
        good = await room.webhooks.webhook_test(Caller(ACCOUNT), WebhookTest(id=webhook))
        room.receivers[URL] = lambda _: BROKE
        bad = await room.webhooks.webhook_test(Caller(ACCOUNT), WebhookTest(id=webhook, event_type="strategy.paused"))
        await trio.sleep(3_600)
        shown = await room.get(webhook)

    first, second = room.letters
    assert re.fullmatch(r"evt_test_[0-9a-f]{12}", good.test_event_id)
    assert (good.delivered, good.response_status, good.response_time_ms, good.error) == (True, 200, 3, None)
    assert (bad.delivered, bad.response_status, bad.error) == (False, 503, "it answered 503")
    assert (first.event_id, first.attempt) == (good.test_event_id, 1)
    assert (first.content["type"], second.content["type"]) == ("webhook.test", "strategy.paused")
    assert first.is_signed_with(secret)
    assert (shown.status, shown.consecutive_failures) == ("active", 0)


async def test_a_test_that_is_taken_revives_what_is_broken_and_leaves_paused_what_is_paused(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Postroom(tmp_path, receivers={URL: lambda _: BROKE}).open() as room:
        webhook = await room.create()
        await room.tell(await room.strategy(), 60)
        await trio.sleep(3 * 3_600)
        failed = await room.webhooks.webhook_test(Caller(ACCOUNT), WebhookTest(id=webhook))
        still = (await room.get(webhook)).status
        room.receivers[URL] = lambda _: TAKEN
        await room.webhooks.webhook_test(Caller(ACCOUNT), WebhookTest(id=webhook))
        revived = await room.get(webhook)
        await room.update(webhook, status="paused")
        await room.webhooks.webhook_test(Caller(ACCOUNT), WebhookTest(id=webhook))
        paused = (await room.get(webhook)).status

    assert not failed.delivered
    assert (still, revived.status, revived.consecutive_failures, paused) == ("broken", "active", 0, "paused")


@pytest.mark.parametrize(
    ("accounts", "of_each", "sent"),
    [
        (1, TESTS_OF_ACCOUNT_MAX + 2, TESTS_OF_ACCOUNT_MAX),
        (2, TESTS_OF_ACCOUNT_MAX + 2, 2 * TESTS_OF_ACCOUNT_MAX),
        (TESTS_AT_ONCE_MAX, 2, TESTS_AT_ONCE_MAX),
    ],
)
async def test_only_so_many_are_tested_at_once_and_no_account_takes_all_the_places(
    tmp_path: Path, autojump_clock: MockClock, accounts: int, of_each: int, sent: int
) -> None:
    refused: list[Unavailable] = []
    async with Postroom(tmp_path, answer_s=5.0).open() as room:
        hooks = {f"acct_{number}": await room.create(account=f"acct_{number}") for number in range(accounts)}

        async def test_it(account: str) -> None:
            try:
                await room.webhooks.webhook_test(Caller(account), WebhookTest(id=hooks[account]))
            except Unavailable as trouble:
                refused.append(trouble)

        for _ in range(2):
            async with trio.open_nursery() as nursery:
                for account in hooks:
                    for _ in range(of_each):
                        nursery.start_soon(test_it, account)

    assert (len(refused), len(room.letters)) == (2 * (accounts * of_each - sent), 2 * sent)


async def test_deliveries_are_listed_newest_first_and_by_state(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Postroom(tmp_path).open() as room:
        webhook = await room.create()
        strategy = await room.strategy()
        await room.tell(strategy, 2)
        await room.settled()
        room.receivers[URL] = lambda _: BROKE
        await room.tell(strategy)
        await room.settled()
        listed = await room.deliveries(webhook)
        waiting = await room.deliveries(webhook, state="waiting")
        first = await room.webhooks.webhook_deliveries(
            Caller(ACCOUNT), decoded("webhook.deliveries", id=webhook, limit=1)
        )
        rest = await room.deliveries(webhook, limit=100, cursor=first.next_cursor)

    assert [each.state for each in listed] == ["waiting", "delivered", "delivered"]
    assert [each.id for each in waiting] == [listed[0].id]
    assert [each.id for each in (*first.data, *rest)] == [each.id for each in listed]
    assert (listed[0].attempts, listed[0].response_status, listed[0].error) == (2, 503, "it answered 503")
    assert listed[0].next_attempt_at is not None


@pytest.mark.parametrize(
    ("status", "action"), sorted(set(product(WebhookStatus, WebhookAction)) - set(WEBHOOK_TRANSITIONS))
)
def test_every_unlisted_transition_is_refused(status: WebhookStatus, action: WebhookAction) -> None:
    with pytest.raises(InvalidState):
        webhook_after(status, action)


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_there_is_a_sample_of_every_type_and_each_comes_from_some_event(event_type: str) -> None:
    assert isinstance(sample_of(event_type), dict)
    assert (event_type in TYPE_OF.values()) == (event_type != "webhook.test")
