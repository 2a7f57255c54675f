"""What strategies did, as it is asked for: page by page over all their accounts, and as figures."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from trio.testing import MockClock

from actors.records import Records
from pipaid.engine.effects import run_id
from pipaid.engine.template import Intent, View
from pipaid.errors import NotFound
from pipaid.model import request
from pipaid.model.record import Batch, Kind, Record
from pipaid.model.run import Cause, Evaluation, RunStatus, TaskType
from tests.actors.homes import ACCOUNT, Home, at_home
from tests.actors.test_answers import EVERYBODY, ME, STRANGER, Person, all_pages, answering, recording
from tests.actors.test_bindings import OTHER as SISTER
from tests.actors.test_bindings import a_family, deploy, follower_of, unbind
from tests.builders import OTHER, START_MS, SYMBOL, enter, limit, plan, scripted

pytestmark = pytest.mark.usefixtures("logged")


async def test_orders_and_positions_are_shown_with_what_became_of_them(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    template = scripted(on_candle=plan([enter(stop_price=Decimal(80)), limit("90"), limit("70")]))
    async with at_home(tmp_path, template) as home:
        strategy = await home.deploy()
        await home.close()
        await home.trade("100")
        records = recording(home)
        orders = await all_pages(records.strategy_orders, request.StrategyOrders, id=strategy.id)
        working = await all_pages(records.strategy_orders, request.StrategyOrders, id=strategy.id, state="working")
        assert (len(orders), len(working)) == (4, 3)
        assert {order.status for order in working} == {"open"}

        await home.trade("79")
        (open_lot,) = (
            await records.strategy_positions(ME, request.StrategyPositions(id=strategy.id, state="open"))
        ).data
        (trade,) = (await records.strategy_trades(ME, request.StrategyTrades(id=strategy.id))).data
        assert Decimal(open_lot.entry_price) <= 90
        assert Decimal(trade.pnl) < -19


async def test_trades_of_a_deleted_strategy_stay_readable_for_its_owner(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter(stop_price=Decimal(95))]))) as home:
        strategy = await home.deploy()
        await home.close()
        await home.trade("100")
        await home.trade("90")
        await home.lifecycle.pause(ACCOUNT, strategy.id, close_positions=False)
        await home.lifecycle.delete(ACCOUNT, strategy.id)
        (answers, records), asked = (answering(home), recording(home)), request.StrategyTrades(id=strategy.id)

        assert len((await records.strategy_trades(ME, asked)).data) == 1
        with pytest.raises(NotFound):
            await records.strategy_trades(STRANGER, asked)
        with pytest.raises(NotFound):
            await answers.strategy_get(ME, request.Addressed(id=strategy.id))


async def test_an_evaluation_can_be_looked_at(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.deploy()
        await home.close()
        answers, records = answering(home), recording(home)
        triggered = await answers.strategy_trigger(ME, request.Addressed(id=strategy.id))
        runs = await all_pages(records.strategy_runs, request.StrategyRuns, id=strategy.id)

        assert [run.id for run in runs] == list(triggered.run_ids)
        assert (await records.run_get(ME, request.Addressed(id=runs[0].id))).id == runs[0].id
        with pytest.raises(NotFound, match="newer ones have taken its place"):
            await records.run_get(ME, request.Addressed(id="run_00000000"))


# Evaluations, page by page.


def evaluation(strategy_id: str, number: int, **fields: Any) -> Evaluation:
    """Make an evaluation; two at a time began at the same moment."""
    given: dict[str, Any] = {
        "id": run_id(strategy_id, number),
        "number": number,
        "strategy_id": strategy_id,
        "account": ACCOUNT,
        "symbol": SYMBOL,
        "timeframe": "1m",
        "cause": Cause.CANDLE,
        "status": RunStatus.COMPLETED,
        "final_action": "HOLD",
        "at_ms": START_MS + number // 2 * 1_000,
        "steps": (),
    }
    return Evaluation(**{**given, **fields})


def stored(run: Evaluation) -> Record:
    return Record("run", run.id, Kind.PUT, msgspec.json.encode(run), run.strategy_id, run.status.value, run.at_ms)


async def keep(home: Home, *runs: Evaluation) -> None:
    await home.recorder.commit(Batch(records=[stored(run) for run in runs]))


async def ids_of(records: Records, strategy_id: str, person: Person = ME, **fields: Any) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        asked = request.StrategyRuns(id=strategy_id, cursor=cursor, limit=3, **fields)
        page = await records.strategy_runs(person, asked)
        assert 0 < len(page.data) <= 3 or not found
        found += [run.id for run in page.data]
        cursor = page.next_cursor
        if cursor is None:
            return found


FILTERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"symbol": OTHER}, {"symbol": OTHER}),
    ({"status": RunStatus.FAILED}, {"status": RunStatus.FAILED}),
    ({"cause": Cause.TRIGGER}, {"cause": Cause.TRIGGER}),
    ({"task_type": TaskType.MAINTENANCE}, {"task_type": TaskType.MAINTENANCE}),
    (
        {"symbol": OTHER, "cause": Cause.PRICE, "status": RunStatus.SKIPPED},
        {"symbol": OTHER, "cause": Cause.PRICE, "status": RunStatus.SKIPPED},
    ),
]


@pytest.mark.parametrize(("asked", "like"), FILTERS)
async def test_evaluations_are_narrowed(
    asked: dict[str, Any], like: dict[str, Any], tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.draft()
        # More of the others than are read at a time, before, between and after.
        runs = [evaluation(strategy.id, number, **(like if number % 67 == 5 else {})) for number in range(400)]
        await keep(home, *runs)
        wanted = {run.id for run in runs[5::67]}

        found = await ids_of(recording(home), strategy.id, **asked)

        assert len(found) == len(wanted) == 6
        assert set(found) == wanted


async def test_evaluations_are_those_that_began_within_a_span(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.draft()
        await keep(home, *(evaluation(strategy.id, number) for number in range(20)))
        records = recording(home)

        async def numbers(**fields: Any) -> set[int]:
            found = await ids_of(records, strategy.id, **fields)
            return {number for number in range(20) if run_id(strategy.id, number) in found}

        assert await numbers(start=START_MS + 8_000) == {16, 17, 18, 19}
        assert await numbers(end=START_MS + 1_000) == {0, 1}
        assert await numbers(start=START_MS + 2_000, end=START_MS + 5_000) == set(range(4, 10))
        assert await numbers(start=START_MS + 5_000, end=START_MS + 5_000) == set()


async def test_no_evaluation_comes_twice_or_not_at_all_while_others_come_and_go(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.draft()
        await keep(home, *(evaluation(strategy.id, number) for number in range(300)))
        records, seen, cursor, more = recording(home), list[str](), None, 300
        gone: set[str] = set()
        while True:
            page = await records.strategy_runs(ME, request.StrategyRuns(id=strategy.id, limit=7, cursor=cursor))
            seen += [run.id for run in page.data]
            cursor = page.next_cursor
            if cursor is None:
                break
            # Three come at the moment of the newest and later, and the three oldest go.
            dropped = [run_id(strategy.id, number) for number in range(len(gone), len(gone) + 3)]
            gone.update(dropped)
            await keep(home, *(evaluation(strategy.id, number) for number in range(more, more + 3)))
            await home.recorder.commit(Batch(records=[Record("run", each, Kind.DROP) for each in dropped]))
            more += 3

        there_all_along = {run_id(strategy.id, number) for number in range(300)} - gone
        assert len(seen) == len(set(seen))
        assert set(seen) >= there_all_along
        assert len(gone) > 60


async def test_some_of_the_first_can_be_passed_over(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        strategy = await home.draft()
        await keep(home, *(evaluation(strategy.id, number) for number in range(10)))
        records, asked = recording(home), request.StrategyRuns(id=strategy.id, limit=3)
        everything = await ids_of(records, strategy.id)

        skipped = await records.strategy_runs(ME, asked, skip=4)
        assert [run.id for run in skipped.data] == everything[4:7]
        after = await records.strategy_runs(ME, msgspec.structs.replace(asked, cursor=skipped.next_cursor))
        assert [run.id for run in after.data] == everything[7:]
        assert (await records.strategy_runs(ME, asked, skip=11)).data == ()


# Several accounts.


def stopped_out(view: View) -> Iterable[Intent]:
    return [] if view.positions else [enter(stop_price=Decimal(95))]


async def a_trading_family(home: Home) -> tuple[str, str]:
    """Return a leader on its own account and its follower on another one; each has entered."""
    leader = await a_family(home, ACCOUNT, SISTER)
    await deploy(home, leader)
    await home.close()
    await home.trade()
    return leader, follower_of(home, leader)


async def test_a_strategy_is_asked_about_on_all_its_accounts_or_on_one(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=lambda view: [] if view.positions else [enter()])) as home:
        leader, follower = await a_trading_family(home)
        records = recording(home)
        questions: list[tuple[Any, Any]] = [
            (records.strategy_runs, request.StrategyRuns),
            (records.strategy_orders, request.StrategyOrders),
            (records.strategy_positions, request.StrategyPositions),
        ]
        for ask, asked in questions:

            async def who(ask: Any = ask, asked: Any = asked, **fields: Any) -> list[str]:
                return [each.strategy_id for each in (await ask(ME, asked(**fields))).data]

            assert sorted(await who(id=leader)) == sorted([leader, follower])
            assert await who(id=leader, account_id=SISTER) == [follower]
            assert await who(id=leader, account_id=ACCOUNT) == [leader]
            with pytest.raises(NotFound, match="has nothing on account 'acct_elsewhere'"):
                await who(id=leader, account_id="acct_elsewhere")
            assert await who(id=follower) == [follower]
            with pytest.raises(NotFound):
                await ask(STRANGER, asked(id=follower))
        (run,) = (await records.strategy_runs(ME, request.StrategyRuns(id=follower))).data
        assert (await records.run_get(ME, request.Addressed(id=run.id))).account_id == SISTER
        with pytest.raises(NotFound, match="newer ones"):
            await records.run_get(STRANGER, request.Addressed(id=run.id))


async def test_the_figures_of_the_accounts_add_up_also_when_one_is_left(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=stopped_out)) as home:
        leader, follower = await a_trading_family(home)
        records, asked = recording(home), request.StrategyStats(id=leader)
        await home.trade("90")
        before = await records.strategy_stats(ME, asked)
        await unbind(home, leader)
        after = await records.strategy_stats(ME, asked)
        gone = await records.strategy_stats(ME, request.StrategyStats(id=follower))

        assert before.bindings is not msgspec.UNSET
        assert after.bindings is not msgspec.UNSET
        assert [each.account_id for each in before.bindings] == [ACCOUNT, SISTER]
        assert [each.total_trades for each in before.bindings] == [1, 1]
        assert after == before
        (sister,) = [each for each in after.bindings if each.account_id == SISTER]
        assert (gone.total_trades, gone.realised_pnl) == (sister.total_trades, sister.realised_pnl)
        assert sum(each.total_trades for each in after.bindings) == after.total_trades
        one = await records.strategy_stats(ME, request.StrategyStats(id=leader, account_id=SISTER))
        assert (one.account_id, one.bindings, one.realised_pnl) == (SISTER, msgspec.UNSET, sister.realised_pnl)


async def test_what_a_deleted_strategy_did_stays_readable_for_its_owner(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter(stop_price=Decimal(95))]))) as home:
        strategy = await home.deploy()
        await home.close()
        await home.trade("100")
        await home.trade("90")
        records, asked = recording(home), request.StrategyStats(id=strategy.id, mode="paper,all")
        before = await records.strategy_stats(ME, asked)
        await home.lifecycle.pause(ACCOUNT, strategy.id, close_positions=False)
        await home.lifecycle.delete(ACCOUNT, strategy.id)

        assert await records.strategy_stats(ME, asked) == before
        assert (before.total_trades, before.losing_trades) == (1, 1)
        by_mode = [
            await records.strategy_stats(ME, msgspec.structs.replace(asked, mode=mode))
            for mode in ("paper", "live", "all")
        ]
        assert [(each.total_trades, each.fills) for each in by_mode] == [(1, 2), (0, 0), (1, 2)]
        (run,) = (await records.strategy_runs(ME, request.StrategyRuns(id=strategy.id))).data
        assert (await records.run_get(EVERYBODY, request.Addressed(id=run.id))).order_ids
        for ask in (records.strategy_stats, records.strategy_runs):
            with pytest.raises(NotFound):
                await ask(STRANGER, asked if ask == records.strategy_stats else request.StrategyRuns(id=strategy.id))  # type: ignore[arg-type]
        with pytest.raises(NotFound):
            await records.strategy_orders(ME, request.StrategyOrders(id=strategy.id))
        with pytest.raises(NotFound, match="no strategy"):
            await records.strategy_stats(ME, request.StrategyStats(id="strat_nobody"))


async def test_what_followed_a_deleted_strategy_stays_readable_for_who_owned_that_one(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=stopped_out)) as home:
        leader, follower = await a_trading_family(home)
        records, asked = recording(home), request.StrategyRuns(id=follower)
        (run,) = (await records.strategy_runs(ME, asked)).data
        await home.families.pause(None, leader, close_positions=False)
        await home.families.delete(None, leader)

        assert [each.id for each in (await records.strategy_runs(ME, asked)).data] == [run.id]
        assert (await records.run_get(ME, request.Addressed(id=run.id))).account_id == SISTER
        with pytest.raises(NotFound):
            await records.strategy_runs(STRANGER, asked)
