"""What keeps the daemon from doing all it should is told once, kept in the journal within a bound, and shown."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import actors.conditions as conditions_module
from actors.conditions import CALM_S, DETAIL_MAX, ENDED, WORD, Conditions
from actors.recorder import Recorder
from pipaid.model.condition import MEANINGS, Condition
from pipaid.model.strategy import Status
from pipaid.storage.store import JournalLost, JournalTaken
from tests.actors.homes import Home, at_home
from tests.builders import enter, plan, scripted

Logged = list[MutableMapping[str, Any]]

pytestmark = pytest.mark.usefixtures("logged")


def held(home: Home) -> list[str]:
    return [each.condition for each in home.conditions.current()]


async def told(home: Home) -> list[tuple[str, str]]:
    await home.settle()
    return [(turn.condition, turn.turn) for turn in await home.conditions.turns(1_000)]


def test_every_condition_says_what_it_means_and_what_to_do() -> None:
    assert set(MEANINGS) == set(Condition)
    assert all(meaning.means and meaning.remedy for meaning in MEANINGS.values())


async def test_each_turn_is_told_once_in_the_log_and_in_the_journal(
    tmp_path: Path, autojump_clock: MockClock, logged: Logged
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        home.conditions.enter(Condition.DISK, "9 MiB are left")
        await trio.sleep(30)
        home.conditions.enter(Condition.DISK, "8 MiB are left")
        assert [each.detail for each in home.conditions.current()] == ["8 MiB are left"]
        home.conditions.leave(Condition.DISK)
        await trio.sleep(CALM_S)
        home.conditions.look()
        home.conditions.look()

        assert held(home) == []
        assert await told(home) == [("disk", "left"), ("disk", "entered")]
        (left, _) = await home.conditions.turns(10)
        assert left.lasted_s == pytest.approx(30, abs=1)
    turns = [entry["event"] for entry in logged if str(entry["event"]).startswith("condition.")]
    assert turns == ["condition.entered", "condition.left"]


async def test_a_condition_that_flaps_holds_on_and_is_told_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        for _ in range(20):
            home.conditions.enter(Condition.DESCRIPTORS, "none is free")
            await trio.sleep(CALM_S / 2)
            home.conditions.leave(Condition.DESCRIPTORS)
            await trio.sleep(CALM_S / 2)
            home.conditions.look()

        assert held(home) == ["descriptors"]
        assert await told(home) == [("descriptors", "entered")]


async def test_one_that_was_over_when_it_was_seen_shows_for_a_while(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        home.conditions.note(Condition.SUSPENDED, "it did not run for 5 s")
        await trio.sleep(CALM_S - 1)
        home.conditions.look()
        assert held(home) == ["suspended"]
        await trio.sleep(1)
        home.conditions.look()

        assert held(home) == []


async def test_entries_are_blocked_while_a_condition_says_so_and_exits_go_on(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([], [enter()], [enter()]))) as home:
        strategy = await home.deploy()
        await home.close()
        home.conditions.enter(Condition.DISK, "9 MiB are left")
        await home.close()
        assert home.orders(strategy.id) == []
        assert home.books[True].blocked == "disk: 9 MiB are left"

        home.conditions.leave(Condition.DISK)
        await trio.sleep(CALM_S)
        home.conditions.look()
        await home.close()

        assert len(home.orders(strategy.id)) == 1
        assert home.member(strategy.id).strategy.status is Status.DEPLOYED


async def test_one_that_does_not_concern_entries_blocks_none(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted(on_candle=plan([enter()]))) as home:
        strategy = await home.deploy()
        home.conditions.enter(Condition.DESCRIPTORS, "none is free")
        await home.close()

        assert len(home.orders(strategy.id)) == 1


async def test_the_journal_keeps_the_last_turns_only(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditions_module, "TURNS_KEPT", 4)
    async with at_home(tmp_path, scripted()) as home:
        for _ in range(5):
            home.conditions.note(Condition.STALLED, "x" * 1_000)
            await trio.sleep(CALM_S)
            home.conditions.look()
        await home.settle()

        turns = await home.conditions.turns(1_000)

        assert [turn.number for turn in turns] == [10, 9, 8, 7]
        assert all(len(turn.detail) == DETAIL_MAX for turn in turns)


async def test_turns_are_counted_on_after_a_restart_and_what_held_left_with_the_daemon(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        home.conditions.enter(Condition.DISK, "9 MiB are left")
    for _ in range(2):
        async with at_home(tmp_path, scripted()) as home:
            assert held(home) == []
            assert await told(home) == [("disk", "left"), ("disk", "entered")]
            (left, _) = await home.conditions.turns(10)
            assert (left.number, left.detail) == (2, ENDED)
            assert left.lasted_s >= 0

    async with at_home(tmp_path, scripted()) as home:
        home.conditions.enter(Condition.CLOCK, "it was stepped by 3600 s")
        await home.settle()

        assert [turn.number for turn in await home.conditions.turns(10)] == [3, 2, 1]


async def test_a_life_that_lost_its_journal_leaves_word_of_it_for_the_next(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        home.conditions.leave_word(JournalTaken("another daemon has it"))
        assert not (tmp_path / WORD).exists()
        home.conditions.leave_word(JournalLost("the disk is full"))
    for _ in range(2):
        async with at_home(tmp_path, scripted()) as home:
            assert await told(home) == [("journal", "left"), ("journal", "entered")]
            turns = await home.conditions.turns(10)
            assert [turn.detail for turn in turns] == [ENDED, "the disk is full"]
            assert held(home) == []


async def test_word_that_cannot_be_left_is_told_in_the_log(
    tmp_path: Path, autojump_clock: MockClock, logged: Logged
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        home.conditions.word = tmp_path / "nowhere" / WORD
        home.conditions.leave_word(JournalLost("the disk is full"))

    assert [entry["event"] for entry in logged if entry["event"] == "condition.unwritten"] == ["condition.unwritten"]


async def test_a_journal_that_takes_nothing_does_not_keep_one_from_being_told(
    tmp_path: Path, autojump_clock: MockClock, logged: Logged
) -> None:
    async with at_home(tmp_path, scripted()) as home:
        recorder = Recorder(home.journal, home.events.extend, home.world.clock)
        recorder._end(JournalLost("the disk is full"))
        conditions = Conditions(home.world, recorder)

        conditions.enter(Condition.JOURNAL, "the disk is full")

        assert [each.condition for each in conditions.current()] == ["journal"]
        assert conditions.blocking == "journal: the disk is full"
    assert [entry["condition"] for entry in logged if entry["event"] == "condition.entered"] == ["journal"]
