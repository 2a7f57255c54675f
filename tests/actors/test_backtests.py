"""Backtest jobs: the table of their states, fair turns, what a death of the daemon leaves, and whose they are."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from decimal import Decimal
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from trio_parallel import BrokenWorkerError  # pyright: ignore[reportMissingTypeStubs] - it has none

from actors.backtests import QUEUED_MAX
from pipaid.config.sections import Market
from pipaid.engine.fees import Fees
from pipaid.errors import InvalidParameter, InvalidState, NotFound, PipaidError, Unavailable
from pipaid.jobs import NOTE, Played, Task, gathered
from pipaid.model.instrument import Timeframe
from pipaid.model.job import (
    JOB_TRANSITIONS,
    BacktestCancel,
    BacktestCreate,
    BacktestList,
    JobAction,
    JobConfig,
    JobError,
    JobStatus,
    job_after,
)
from pipaid.model.request import Addressed
from tests.actors.jobs import DAY_MS, DONE, RESULT, Caller, Office, asked
from tests.builders import START_MS, make_definition


@pytest.fixture
async def office(tmp_path: Path) -> AsyncGenerator[Office]:
    async with Office(tmp_path).open() as opened:
        yield opened


def test_every_cell_of_the_table_of_states() -> None:
    allowed = {
        ("queued", "start"): "running",
        ("queued", "cancel"): "cancelled",
        ("running", "finish"): "done",
        ("running", "fail"): "failed",
        ("running", "cancel"): "cancelled",
        ("running", "requeue"): "queued",
    }

    assert {(status.value, action.value): after.value for (status, action), after in JOB_TRANSITIONS.items()} == allowed
    for status, action in product(JobStatus, JobAction):
        if (status.value, action.value) not in allowed:
            with pytest.raises(InvalidState, match=f"cannot {action} a backtest that is {status}"):
                job_after(status, action)


async def test_a_job_goes_from_queued_to_done_and_has_its_result(office: Office) -> None:
    first, second = await office.create(), await office.create()

    assert [await office.status(first), await office.status(second)] == ["running", "queued"]
    await office.hand.say(0, DONE)
    job = await office.jobs.backtest_get(Caller(), Addressed(id=first))

    assert (job.status, job.progress, job.error) == ("done", 1.0, None)
    assert msgspec.json.decode(msgspec.json.encode(job.result)) == RESULT | {"metrics_365": RESULT["metrics"]}
    assert job.started_at is not None
    assert job.finished_at is not None
    assert await office.status(second) == "running"
    assert office.events(first) == ["queued", "running", "done"]


async def test_how_far_a_job_has_come_is_told_in_steps(office: Office, autojump_clock: trio.testing.MockClock) -> None:
    job = await office.create()
    note = office.hand.begun[0].note
    for share in (0.01, 0.3, 0.31, 0.9, 1.0):
        note.write_bytes(NOTE.pack(job.encode(), share))
        await trio.sleep(1)
        assert (await office.jobs.backtest_get(Caller(), Addressed(id=job))).progress == share
    await office.hand.say(0, DONE)

    frames = [msgspec.json.decode(event.frame) for event in office.told]
    assert [frame["data"]["progress"] for frame in frames] == [0, 0, 0.3, 0.9, 1]
    assert {frame["channel"] for frame in frames} == {"backtest.status"}


async def test_accounts_take_turns_and_each_has_its_own_in_order(office: Office) -> None:
    blocker = await office.create("acct_c")
    mine = [await office.create("acct_a") for _ in range(4)]
    theirs = [await office.create("acct_b") for _ in range(2)]
    order: list[str] = []
    for number in range(7):
        (running,) = [job for job in (blocker, *mine, *theirs) if await office.status(job) == "running"]
        order.append(running)
        await office.hand.say(number, DONE)

    assert order == [blocker, mine[0], theirs[0], mine[1], theirs[1], mine[2], mine[3]]


@pytest.mark.parametrize("slots", [1, 3])
async def test_no_more_run_than_there_are_slots_and_each_has_a_note_of_its_own(tmp_path: Path, slots: int) -> None:
    async with Office(tmp_path, slots=slots).open() as office:
        for _ in range(5):
            await office.create()

        assert len(office.hand.begun) == slots
        assert len({task.note for task in office.hand.begun}) == slots
        await office.hand.say(0, DONE)
        assert len(office.hand.begun) == slots + 1


async def test_a_thousand_wait_and_no_more(office: Office) -> None:
    await office.create()
    for _ in range(QUEUED_MAX):
        await office.jobs.backtest_create(Caller(), asked())

    with pytest.raises(Unavailable, match="1000 backtests wait already"):
        await office.jobs.backtest_create(Caller(), asked())
    await office.hand.say(0, DONE)
    await office.create()


async def test_one_that_waits_can_be_cancelled_and_is_never_begun(office: Office) -> None:
    await office.create()
    waiting = await office.create()
    job = await office.jobs.backtest_cancel(Caller(), BacktestCancel(id=waiting, reason="never mind"))
    await office.hand.say(0, DONE)

    assert (job.status, job.started_at, job.result, job.error) == ("cancelled", None, None, None)
    assert job.finished_at is not None
    assert len(office.hand.begun) == 1
    assert office.events(waiting) == ["queued", "cancelled"]


async def test_one_that_runs_is_ended_before_its_cancellation_is_answered(
    office: Office, autojump_clock: trio.testing.MockClock
) -> None:
    running = await office.create()
    office.hand.begun[0].note.write_bytes(NOTE.pack(running.encode(), 0.5))
    await trio.sleep(1)
    job = await office.jobs.backtest_cancel(Caller(), BacktestCancel(id=running))

    assert (job.status, job.progress, office.hand.ended) == ("cancelled", 0.5, 1)
    row = office.journal.get("backtest", running)
    assert row is not None
    assert row.state == "cancelled"


@pytest.mark.parametrize("verdict", [DONE, Played(error=JobError(code="NOT_FOUND", message="no candles"))])
async def test_what_has_ended_cannot_be_cancelled(office: Office, verdict: Played) -> None:
    ended = await office.create()
    await office.hand.say(0, verdict)

    with pytest.raises(InvalidState, match="allowed from: queued, running"):
        await office.jobs.backtest_cancel(Caller(), BacktestCancel(id=ended))


async def test_cancelled_twice_at_once_it_is_cancelled_once(office: Office) -> None:
    running = await office.create()
    found: list[str] = []

    async def cancel() -> None:
        try:
            found.append((await office.jobs.backtest_cancel(Caller(), BacktestCancel(id=running))).status)
        except InvalidState:
            found.append("refused")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel)
        nursery.start_soon(cancel)

    assert "cancelled" in found
    assert set(found) <= {"cancelled", "refused"}
    assert office.events(running) == ["queued", "running", "cancelled"]


async def test_one_that_was_cancelled_while_it_waited_costs_its_account_no_turn(office: Office) -> None:
    await office.create("acct_c")
    given_up, mine = await office.create("acct_a"), await office.create("acct_a")
    theirs = await office.create("acct_b")
    await office.jobs.backtest_cancel(Caller(), BacktestCancel(id=given_up))
    await office.hand.say(0, DONE)

    assert [await office.status(job) for job in (mine, theirs)] == ["running", "queued"]


@pytest.mark.parametrize(
    ("verdict", "code", "said"),
    [
        (
            BrokenWorkerError("it died", SimpleNamespace(exitcode=-40)),
            "BACKTEST_FAILED",
            "its process was ended by signal 40",
        ),
        (Played(error=JobError(code="BACKTEST_FAILED", message="Rider failed")), "BACKTEST_FAILED", "Rider failed"),
        (OSError("too many open files"), "BACKTEST_FAILED", "no worker could play it: OSError: too many open files"),
    ],
)
async def test_one_that_fails_says_why_and_the_next_is_played(
    office: Office, verdict: Played | Exception, code: str, said: str
) -> None:
    failing, following = await office.create(), await office.create()
    await office.hand.say(0, verdict)
    job = await office.jobs.backtest_get(Caller(), Addressed(id=failing))

    assert (job.status, job.error) == ("failed", JobError(code=code, message=said))
    assert await office.status(following) == "running"
    (*_, last) = [msgspec.json.decode(event.frame) for event in office.told if event.strategy_id == failing]
    assert (last["event"], last["data"]["code"], last["data"]["message"]) == ("failed", code, said)


async def test_one_that_takes_too_long_is_ended(office: Office, autojump_clock: trio.testing.MockClock) -> None:
    endless = await office.create()
    await trio.sleep(101)
    job = await office.jobs.backtest_get(Caller(), Addressed(id=endless))

    assert job.error is not None
    assert "longer than the 100 s of backtest.run_s_max" in job.error.message
    assert office.hand.ended == 1


async def test_what_the_job_before_left_in_the_slot_says_nothing_of_this_one(
    office: Office, autojump_clock: trio.testing.MockClock
) -> None:
    job = await office.create()
    office.hand.begun[0].note.write_bytes(NOTE.pack(b"bt_00000000", 1.0))
    await trio.sleep(1)

    assert (await office.jobs.backtest_get(Caller(), Addressed(id=job))).progress == 0.0


async def test_one_that_is_cancelled_as_the_daemon_ends_stays_cancelled(tmp_path: Path) -> None:
    async with Office(tmp_path).open() as office:
        job = await office.create()
        office.hand.on_end = office.life.cancel
        answer = await office.jobs.backtest_cancel(Caller(), BacktestCancel(id=job, reason="enough"))

        assert answer.status == "cancelled"
    async with Office(tmp_path).open() as office:
        assert await office.status(job) == "cancelled"


async def test_an_orderly_end_costs_a_job_nothing(tmp_path: Path) -> None:
    async with Office(tmp_path).open() as office:
        job = await office.create()
    for _ in range(3):
        async with Office(tmp_path).open() as office:
            assert await office.status(job) == "running"
            assert len(office.hand.begun) == 1
    async with Office(tmp_path).open() as office:
        await office.hand.say(0, DONE)
        assert await office.status(job) == "done"


def left_behind(office: Office, folder: Path) -> dict[str, str]:
    """Copy what a daemon that dies right now leaves on the disk, and return where its jobs stand there."""
    folder.mkdir()
    for path in office.folder.iterdir():
        if path.is_file():
            shutil.copy(path, folder / path.name)
    return {row.key: row.state for row in office.journal.rows("backtest")}


async def test_a_death_of_the_daemon_queues_a_job_once_more_and_a_second_one_ends_it(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    first.mkdir()
    async with Office(first).open() as office:
        job, waiting = await office.create(), await office.create()
        assert left_behind(office, second) == {job: "running", waiting: "queued"}
    async with Office(second).open() as office:
        assert [await office.status(each) for each in (job, waiting)] == ["running", "queued"]
        assert office.events(job) == ["queued", "running"]
        left_behind(office, third)
    async with Office(third).open() as office:
        found = await office.jobs.backtest_get(Caller(), Addressed(id=job))
        assert (found.status, found.error and found.error.code) == ("failed", "INTERRUPTED")
        assert await office.status(waiting) == "running"
        assert office.events(job) == ["failed"]


async def test_a_strategy_supplies_what_the_request_leaves_out(office: Office) -> None:
    office.strategies["acct_a", "strat_1"] = make_definition(capital=Decimal(777), leverage=3)
    config = (
        await office.jobs.backtest_create(
            Caller("acct_a"),
            BacktestCreate(start=START_MS - DAY_MS, end=START_MS, strategy_id="strat_1", capital=Decimal(5)),
        )
    ).config
    base = make_definition()

    assert (config.template_id, config.params, config.symbols) == (base.template_id, base.params, base.symbols)
    assert (config.capital, config.leverage, config.strategy_id) == ("5", 3, "strat_1")
    with pytest.raises(NotFound):
        await office.create("acct_b", strategy_id="strat_1")


async def test_who_names_no_params_gets_those_of_the_template(office: Office) -> None:
    job = await office.create(template_id="tpl_meanrev", params=None)

    assert (await office.jobs.backtest_get(Caller(), Addressed(id=job))).config.params == {}


@pytest.mark.parametrize(
    ("changed", "field_", "said"),
    [
        ({"template_id": None}, "template_id", "is required unless strategy_id names"),
        ({"capital": None}, "capital", "is required unless strategy_id names"),
        ({"symbols": ("DOGEUSDT",)}, "symbols", "not listed"),
        ({"start": START_MS}, "start", "must be before end"),
        ({"start": START_MS - 366 * 6 * DAY_MS}, "start", "at most 5 years before end"),
        ({"end": START_MS + 1}, "end", "must not be in the future"),
    ],
)
async def test_what_cannot_be_played_is_refused_by_field(
    office: Office, changed: dict[str, Any], field_: str, said: str
) -> None:
    with pytest.raises(InvalidParameter, match=said) as refused:
        await office.create(**changed)

    assert [name for name, _ in refused.value.details] == [field_]
    assert office.told == []


async def test_fees_that_nobody_knows_are_refused(office: Office) -> None:
    with pytest.raises(InvalidParameter, match="match_exchange needs a venue"):
        await office.create(fee_model="match_exchange")


async def test_nobody_sees_the_backtests_of_another_account(office: Office) -> None:
    job = await office.create("acct_a")

    for operation, asking in (
        (office.jobs.backtest_get, Addressed(id=job)),
        (office.jobs.backtest_cancel, BacktestCancel(id=job)),
    ):
        with pytest.raises(NotFound):
            await operation(Caller("acct_b"), asking)  # type: ignore[arg-type]
    assert (await office.jobs.backtest_list(Caller("acct_b"), BacktestList())).data == ()
    assert len((await office.jobs.backtest_list(Caller("acct_a"), BacktestList())).data) == 1
    assert office.jobs.owner_of(job) == "acct_a"


async def test_a_listing_pages_through_all_of_them_newest_first_while_more_come(
    office: Office, autojump_clock: trio.testing.MockClock
) -> None:
    submitted: list[str] = []
    for _ in range(25):
        submitted.append(await office.create())
        await trio.sleep(0.4)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await office.jobs.backtest_list(Caller(), BacktestList(limit=4, cursor=cursor))
        seen += [job.id for job in page.data]
        await office.create()
        cursor = page.next_cursor
        if cursor is None:
            break

    assert seen == submitted[::-1]


async def test_a_listing_can_be_narrowed(office: Office, autojump_clock: trio.testing.MockClock) -> None:
    moments: list[int] = []
    jobs: list[str] = []
    for template in ("tpl_dca", "tpl_grid", "tpl_dca"):
        moments.append(START_MS + round(trio.current_time() * 1000))
        jobs.append(await office.create(template_id=template))
        await trio.sleep(10)
    await office.hand.say(0, DONE)

    async def listed(**filters: Any) -> list[str]:
        return [job.id for job in (await office.jobs.backtest_list(Caller(), BacktestList(**filters))).data]

    assert await listed(status="done") == jobs[:1]
    assert await listed(status="queued") == jobs[2:]
    assert await listed(template_id="tpl_dca") == [jobs[2], jobs[0]]
    assert await listed(from_=moments[1]) == [jobs[2], jobs[1]]
    assert await listed(to=moments[1]) == jobs[:1]
    (done,) = (await office.jobs.backtest_list(Caller(), BacktestList(status="done"))).data
    assert done.result is not None
    assert list(msgspec.to_builtins(done.result)) == ["metrics"]


async def test_the_oldest_that_ended_make_room(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.backtests.KEPT_MAX", 3)
    jobs: list[str] = []
    for number in range(5):
        jobs.append(await office.create())
        await office.hand.say(number, DONE)

    assert [job.id for job in (await office.jobs.backtest_list(Caller(), BacktestList())).data] == jobs[:1:-1]
    with pytest.raises(PipaidError, match="there is no backtest"):
        await office.status(jobs[0])
    assert office.journal.get("backtest_result", jobs[0]) is None


def test_the_past_of_a_market_listed_within_a_minute_has_no_holes(tmp_path: Path) -> None:
    listed_ms, days = START_MS + 12_345, 45
    config = JobConfig(
        template_id="tpl_dca", params={}, symbols=("SOLUSDT",), timeframe=Timeframe.D1, capital=Decimal(1000),
        leverage=1, start_ms=START_MS + DAY_MS, end_ms=START_MS + days * DAY_MS, fee_model="none", fee_bps=Decimal(0),
        slippage_bps=Decimal(0), seed=0,
    )  # fmt: skip
    task = Task(
        id="bt_00000000",
        config=config, fees=Fees(model="none"), store=tmp_path, market=Market(), now_ms=listed_ms + days * DAY_MS,
        listed_ms=listed_ms, note=tmp_path / "note", memory_bytes_max=1, run_s_max=1.0,
    )  # fmt: skip
    candles, _ = gathered(task)

    assert candles["SOLUSDT"].time_ms.tolist() == list(
        range(START_MS + 60_000, START_MS + days * DAY_MS, Timeframe.M1.ms)
    )
