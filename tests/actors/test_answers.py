"""Answers about strategies: what is durable, of the asker's own account, page by page, also after the end."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from attrs import define
from msgspec import UNSET
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.answers import Answers
from actors.recorder import Recorder
from actors.records import Records
from actors.watchdog import Guard
from pipaid.engine.risk import Caps
from pipaid.errors import InvalidParameter, InvalidState, NotFound
from pipaid.model import request
from pipaid.model.instrument import Timeframe
from pipaid.model.moment import parse_iso
from pipaid.model.money import quote_text
from pipaid.model.strategy import Status
from tests.actors.homes import ACCOUNT, Home, at_home
from tests.actors.test_reports import NOTHING, reporting
from tests.builders import OTHER, SYMBOL, enter, limit, plan, scripted

pytestmark = pytest.mark.usefixtures("logged")


@define
class Person:
    """Somebody who asks."""

    account: str | None = ACCOUNT
    who: str = "somebody"


ME = Person()
STRANGER = Person("acct_other")
EVERYBODY = Person(None)


def answering(home: Home) -> Answers:
    return Answers(
        roster=home.roster,
        lifecycle=home.families,
        writer=home.recorder,
        quotes=home.quotes,
        catalogue=home.roster.catalogue,
        past=home.feed.past,
        instruments=lambda: home.feed.instruments,
        books=home.books.__getitem__,
        guard=Guard(home.world.clock),
    )


def recording(home: Home) -> Records:
    return Records(home.roster, home.recorder, home.quotes)


def write_nothing(_: Recorder) -> None:
    """Be a disk that hangs."""


async def all_pages(ask: Callable[..., Any], make: Callable[..., Any], **fields: Any) -> list[Any]:
    """Ask page by page until there is none."""
    found: list[Any] = []
    cursor: str | None = None
    while True:
        page = await ask(ME, make(limit=2, cursor=cursor, **fields))
        assert len(page.data) <= 2
        found.extend(page.data)
        cursor = page.next_cursor
        if cursor is None:
            return found


async def test_strategies_are_listed_newest_first_page_by_page(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        # All are of the same microsecond, so that the id decides.
        ids = {(await home.draft(f"number {number}")).id for number in range(5)}
        found = await all_pages(answering(home).strategy_list, request.StrategyList)

        assert [each.id for each in found] == sorted(ids, reverse=True)


async def test_listings_are_narrowed_by_status_template_and_account(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, [scripted(), scripted(id="tpl_other")]) as home:
        first = await home.deploy("runs")
        second = await home.draft("waits", template_id="tpl_other")
        answers = answering(home)

        async def ids(person: Person, **fields: Any) -> list[str]:
            return [each.id for each in (await answers.strategy_list(person, request.StrategyList(**fields))).data]

        assert await ids(ME, status=Status.DEPLOYED) == [first.id]
        assert await ids(ME, template_id="tpl_other") == [second.id]
        assert await ids(STRANGER) == []
        assert sorted(await ids(EVERYBODY)) == sorted([first.id, second.id])
        with pytest.raises(InvalidParameter, match="no template"):
            await ids(ME, template_id="tpl_unheard_of")


async def test_a_cursor_is_good_for_its_own_question_only(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        for number in range(3):
            await home.draft(f"number {number}")
        answers = answering(home)
        page = await answers.strategy_list(ME, request.StrategyList(limit=1))
        with pytest.raises(InvalidParameter, match="cursor"):
            await answers.strategy_list(ME, request.StrategyList(limit=1, cursor=page.next_cursor, status=Status.DRAFT))


async def test_nobody_learns_of_the_strategies_of_others(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter()]))) as home:
        strategy = await home.deploy()
        await home.close()
        answers, records = answering(home), recording(home)
        (run,) = (await records.strategy_runs(ME, request.StrategyRuns(id=strategy.id))).data
        addressed = request.Addressed(id=strategy.id)
        questions: list[tuple[Callable[..., Any], Any]] = [
            (answers.strategy_get, addressed),
            (answers.strategy_state, addressed),
            (records.strategy_orders, request.StrategyOrders(id=strategy.id)),
            (records.strategy_positions, request.StrategyPositions(id=strategy.id)),
            (records.strategy_trades, request.StrategyTrades(id=strategy.id)),
            (records.strategy_runs, request.StrategyRuns(id=strategy.id)),
            (records.strategy_stats, request.StrategyStats(id=strategy.id)),
            (answers.strategy_why, request.StrategyWhy(id=strategy.id)),
            (answers.strategy_delete, addressed),
            (records.run_get, request.Addressed(id=run.id)),
        ]
        for ask, asked in questions:
            with pytest.raises(NotFound):
                await ask(STRANGER, asked)
        assert home.member(strategy.id)


async def test_the_state_of_a_halted_strategy_is_shown_like_any_other(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter()]))) as home:
        strategy = await home.deploy(symbols=(SYMBOL, OTHER))
        await home.close()
        await home.trade()
        answers, asked = answering(home), request.Addressed(id=strategy.id)
        before = await answers.strategy_state(ME, asked)
        await answers.sim_halt(ME, asked)
        after = await answers.strategy_state(ME, asked)

        assert (before.status, after.status) == ("deployed", "error")
        assert before.limits["pauses"] == "[]", "what is made of several is JSON, like all that is told"
        assert [len(symbol.positions) for symbol in after.symbols] == [1, 0]
        assert after.may_not_enter == "error"
        assert (await answers.strategy_get(ME, asked)).stats.open_positions == 1


async def test_a_decision_that_waits_for_the_disk_is_shown_to_nobody(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([limit("90")], [limit("80")]))) as home:
        strategy = await home.deploy()
        await home.close()
        answers, reports, asked = answering(home), reporting(home), request.Addressed(id=strategy.id)
        before = await answers.strategy_state(ME, asked)
        with monkeypatch.context() as hanging:
            hanging.setattr(Recorder, "_write_waiting", write_nothing)
            await home.end_minute()
            await wait_all_tasks_blocked()
            assert len(home.session(strategy.id).orders) == 2
            waiting = await answers.strategy_state(ME, asked)
            assert (await reports.status(ME, NOTHING)).working_orders == 1
        home.recorder._lot.unpark_all()
        await home.settle()
        after = await answers.strategy_state(ME, asked)

        (was,), (shown,) = before.symbols, waiting.symbols
        # That it was asked is no decision, and nothing that could be undone.
        assert msgspec.structs.replace(shown, evaluated_at=was.evaluated_at) == was
        assert msgspec.structs.replace(waiting, symbols=()) == msgspec.structs.replace(before, symbols=())
        assert [len(state.symbols[0].orders) for state in (before, waiting, after)] == [1, 1, 2]
        assert [state.evaluations for state in (before, waiting, after)] == [1, 1, 2]
        assert Decimal(before.exposure) < Decimal(after.exposure)
        assert after.exposure == quote_text(home.session(strategy.id).exposure())
        assert (await reports.status(ME, NOTHING)).working_orders == 2


async def test_why_refuses_what_it_cannot_look_back_on(tmp_path: Path, autojump_clock: MockClock) -> None:
    moods: list[BaseException] = []

    def on_candle(_: Any) -> Any:
        if moods:
            raise moods[0]
        return ()

    async with at_home(tmp_path, scripted(on_candle=on_candle)) as home:
        strategy = await home.deploy()
        await home.close()
        answers = answering(home)
        with pytest.raises(InvalidParameter, match="symbol must be one of BTCUSDT"):
            await answers.strategy_why(ME, request.StrategyWhy(id=strategy.id, symbol="XRPUSDT"))
        with pytest.raises(InvalidParameter, match="later than venue time"):
            await answers.strategy_why(ME, request.StrategyWhy(id=strategy.id, at=home.quotes.now_ms + 1))
        assert (await answers.strategy_why(ME, request.StrategyWhy(id=strategy.id))).symbol == SYMBOL

        for mood in (ValueError("not again"), SystemExit("not again")):
            moods[:] = [mood]
            with pytest.raises(InvalidState, match="not again"):
                await answers.strategy_why(ME, request.StrategyWhy(id=strategy.id))
        assert home.member(strategy.id).failures.total == 0


async def test_why_says_of_each_refused_entry_what_the_stream_said(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=lambda _: [enter()])) as home:
        home.books[True].caps = Caps(exposure_max=Decimal(250), open_positions_max=9)
        ids = [(await home.deploy(f"number {number}")).id for number in range(3)]
        await home.close()
        await home.trade()
        await home.close()
        answers = answering(home)
        compared = 0
        for each in ids:
            for blocked in home.frames(each, "risk_blocked"):
                told = blocked["data"]
                at = parse_iso(blocked["ts"])
                why = await answers.strategy_why(ME, request.StrategyWhy(id=each, at=at))
                (refused,) = [gate for gate in why.gates if gate.verdict == "refused"]
                assert (refused.gate, refused.value, refused.limit) == (told["rule"], told["value"], told["limit"])
                assert why.decision == f"refused by {told['rule']}: {told['value']} against {told['limit']}"
                assert why.run_id is not None
                compared += 1
        assert compared == 4, "one entry of three is refused by the first candle, all by the second"


async def test_why_is_not_certain_of_an_entry_of_which_nothing_was_recorded(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    wishes: list[Any] = []
    async with at_home(tmp_path, scripted(on_candle=lambda _: list(wishes))) as home:
        home.books[True].caps = Caps(exposure_max=Decimal(250))
        strategy = await home.deploy()
        await home.close()
        wishes.append(enter())
        why = await answering(home).strategy_why(ME, request.StrategyWhy(id=strategy.id))

        (gate,) = [gate for gate in why.gates if gate.gate == "account_exposure"]
        assert (gate.verdict, gate.value) == ("not recollected", "this strategy alone: 101")
        assert why.decision.startswith("it would enter with a market buy of 1 BTCUSDT, unless the account's caps")


async def test_why_keeps_to_the_record_whatever_became_of_the_strategy_since(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=lambda _: [enter()])) as home:
        home.books[True].caps = Caps(exposure_max=Decimal(250))
        strategy = await home.deploy()
        await home.close()
        entered_ms = home.quotes.now_ms
        await home.trade()
        await home.lifecycle.pause(ACCOUNT, strategy.id, close_positions=False)
        home.books[True].blocked = "not today"
        why = await answering(home).strategy_why(ME, request.StrategyWhy(id=strategy.id, at=entered_ms + 900))

        assert why.decision == "ordered buy 1 BTCUSDT"
        assert {gate.verdict for gate in why.gates} == {"passed", "off"}


async def test_a_strategy_that_waits_for_its_next_start_says_so(tmp_path: Path, autojump_clock: MockClock) -> None:
    def on_candle(_: Any) -> Any:
        raise AttributeError("no such knob")

    async with at_home(tmp_path, scripted(on_candle=on_candle)) as home:
        strategy = await home.deploy()
        answers, asked = answering(home), request.Addressed(id=strategy.id)
        assert (await answers.strategy_get(ME, asked)).restarting is UNSET
        await home.end_minute()
        await wait_all_tasks_blocked()
        waits = await answers.strategy_get(ME, asked)
        await home.settle()

        assert waits.status == "deployed"
        assert str(waits.restarting).startswith("1 of 5: AttributeError: no such knob (in on_candle, ")
        assert (await answers.strategy_get(ME, asked)).restarting is UNSET


async def test_templates_are_listed_and_unknown_ones_are_named_as_such(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        answers = answering(home)
        (listed,) = (await answers.template_list(ME, request.Nothing())).data
        assert listed == await answers.template_get(ME, request.Addressed(id="tpl_scripted"))
        with pytest.raises(NotFound, match="known: tpl_scripted"):
            await answers.template_get(ME, request.Addressed(id="tpl_unheard_of"))


async def test_commands_are_answered_with_the_strategy_as_it_is_now(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        answers = answering(home)
        asked = request.StrategyCreate(
            name="made",
            template_id="tpl_scripted",
            params={},
            symbols=(SYMBOL,),
            timeframe=Timeframe.M1,
            capital=Decimal(1000),
        )
        made = await answers.strategy_create(ME, asked)
        ran = await answers.strategy_deploy(ME, request.StrategyDeploy(id=made.id, dry_run=True))
        paused = await answers.strategy_pause(ME, request.StrategyLeave(id=made.id))
        renamed = await answers.strategy_update(ME, request.StrategyUpdate(id=made.id, name="renamed"))
        stopped = await answers.strategy_stop(ME, request.StrategyLeave(id=made.id))
        with pytest.raises(InvalidState):
            await answers.strategy_reset(ME, request.Addressed(id=made.id))
        gone = await answers.strategy_delete(ME, request.Addressed(id=made.id))

        assert [each.status for each in (made, ran, paused, stopped)] == ["draft", "deployed", "paused", "stopped"]
        assert (renamed.name, gone.id) == ("renamed", made.id)


async def test_who_stops_a_strategy_is_told_what_that_leaves_to_nobody(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter(stop_price=Decimal(80))])), dry=False) as home:
        strategy, idle = await home.deploy(), await home.deploy(name="idle", symbols=(OTHER,))
        await home.close()
        await home.trade()

        stopped = [
            await answering(home).strategy_stop(ME, request.StrategyLeave(id=each.id)) for each in (strategy, idle)
        ]

        assert [each.status for each in stopped] == ["stopped", "stopped"]
        assert stopped[0].notes is not UNSET
        (note,) = stopped[0].notes
        assert note.startswith(f"1 live position of {strategy.id} on {ACCOUNT} stays open")
        assert stopped[1].notes is UNSET
