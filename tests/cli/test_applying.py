"""`pipaid apply`: what it does to the daemon, what it says, and what it leaves behind when something is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from attrs import define, field

from pipaid.errors import InvalidParameter, InvalidState
from pipaid.model.reply import RunSummary, StrategyObject, StrategyPage
from tests.cli.answering import Answering, control, pipaid, strategy

DECLARED = """
[[strategy]]
name = "sol range"
template_id = "tpl_grid"
symbols = ["SOLUSDT"]
timeframe = "15m"
capital = "2500"
leverage = {leverage}
deploy = {deploy}
params = {{ grid_levels = 6, upper_price = "190", lower_price = "150" }}
"""


@define
class Strategies:
    """A daemon's strategies, as far as applying needs them; `refused` operations are."""

    held: dict[str, StrategyObject] = field(factory=dict[str, StrategyObject])
    done: list[str] = field(factory=list[str])
    refused: dict[str, Exception] = field(factory=dict[str, Exception])
    notes: tuple[str, ...] = ()

    def answers(self) -> dict[str, Answering]:
        names = ("create", "update", "deploy", "pause")
        return {"strategy.list": self._list, **{f"strategy.{name}": self._doing(name) for name in names}}

    def _list(self, asked: Any) -> StrategyPage:
        return StrategyPage(data=tuple(self.held.values()), next_cursor=None)

    def _doing(self, name: str) -> Answering:
        def answer(asked: Any) -> StrategyObject:
            if name in self.refused:
                raise self.refused.pop(name)
            self.done.append(name)
            changed: StrategyObject = getattr(self, f"_{name}")(asked)
            self.held[changed.id] = changed
            return changed

        return answer

    def _create(self, asked: Any) -> StrategyObject:
        fields = {name: getattr(asked, name) for name in asked.__struct_fields__}
        fields |= {"capital": f"{asked.capital:.2f}", "timeframe": asked.timeframe.value}
        return strategy(**fields, status="draft", dry_run=None, run=None, notes=self.notes)

    def _update(self, asked: Any) -> StrategyObject:
        return msgspec.structs.replace(self.held[asked.id], **asked.changes())

    def _deploy(self, asked: Any) -> StrategyObject:
        before = self.held[asked.id]
        run = RunSummary(
            id="run_1", dry_run=asked.dry_run, capital=before.capital, leverage=asked.leverage or before.leverage,
            started_at="2026-01-01T00:00:00Z", ended_at=None,
        )  # fmt: skip
        return msgspec.structs.replace(before, status="deployed", dry_run=asked.dry_run, run=run)

    def _pause(self, asked: Any) -> StrategyObject:
        return msgspec.structs.replace(self.held[asked.id], status="paused")


def written(folder: Path, *, leverage: int = 2, deploy: bool = True, text: str = DECLARED) -> str:
    path = folder / "strategies.toml"
    path.write_text(text.format(leverage=leverage, deploy=str(deploy).lower()), encoding="utf-8")
    return str(path)


def test_applying_twice_does_nothing_the_second_time(tmp_path: Path) -> None:
    strategies = Strategies()
    with control(tmp_path, strategies.answers()) as served:
        first = pipaid("apply", written(tmp_path), socket_path=served.path)
        second = pipaid("apply", written(tmp_path), socket_path=served.path)

    assert (first.code, second.code) == (0, 0)
    assert strategies.done == ["create", "deploy"]
    assert "1 created" in first.out
    assert "1 unchanged" in second.out


def test_what_is_to_be_known_of_a_strategy_is_told(tmp_path: Path) -> None:
    note = "its rules never held together in the candles that are known"
    strategies = Strategies(notes=(note,))
    with control(tmp_path, strategies.answers()) as served:
        told = pipaid("apply", written(tmp_path), socket_path=served.path)
        strategies.held.clear()
        data = pipaid("apply", written(tmp_path), "--json", socket_path=served.path)

    assert f"sol range: {note}\n" in told.out
    assert msgspec.json.decode(data.out)["data"][0]["notes"] == [note]


def test_a_changed_file_changes_the_strategy(tmp_path: Path) -> None:
    strategies = Strategies({strategy().id: strategy()})
    with control(tmp_path, strategies.answers()) as served:
        ended = pipaid("apply", written(tmp_path, leverage=5), socket_path=served.path)

    assert ended.code == 0
    assert strategies.done == ["pause", "update", "deploy"]
    assert "leverage 2 → 5" in ended.out
    assert strategies.held[strategy().id].leverage == 5


def test_a_dry_run_says_all_and_does_nothing(tmp_path: Path) -> None:
    strategies = Strategies({strategy().id: strategy()})
    with control(tmp_path, strategies.answers()) as served:
        ended = pipaid("apply", written(tmp_path, leverage=5), "--dry-run", socket_path=served.path)

    assert ended.code == 0
    assert strategies.done == []
    assert "pause, update, deploy" in ended.out
    assert "nothing was done" in ended.out


def test_a_refused_change_lets_the_strategy_go_on_as_before(tmp_path: Path) -> None:
    refusal = InvalidParameter("leverage is too high", details=(("leverage", "is too high"),))
    strategies = Strategies({strategy().id: strategy()}, refused={"update": refusal})
    with control(tmp_path, strategies.answers()) as served:
        ended = pipaid("apply", written(tmp_path, leverage=5), socket_path=served.path)

    held = strategies.held[strategy().id]
    assert ended.code == 1
    assert strategies.done == ["pause", "deploy"]
    assert (held.status, held.dry_run, held.leverage) == ("deployed", True, 2)
    assert "INVALID_PARAMETER: leverage is too high" in ended.out
    assert "deployed again as it was" in ended.out


def test_a_strategy_that_cannot_go_on_is_reported_as_paused(tmp_path: Path) -> None:
    strategies = Strategies({strategy().id: strategy()}, refused={"deploy": InvalidState("no")})
    strategies.refused["update"] = InvalidState("not now")
    with control(tmp_path, strategies.answers()) as served:
        ended = pipaid("apply", written(tmp_path, leverage=5), "--json", socket_path=served.path)

    (applied,) = msgspec.json.decode(ended.out)["data"]
    assert (ended.code, applied["outcome"], applied["steps"]) == (1, "changed in part", ["pause"])
    assert applied["why"][1:] == [
        "INVALID_STATE: not now", "it stays paused, because it could not be deployed again: INVALID_STATE: no",
    ]  # fmt: skip


def test_a_change_that_is_refused_half_way_says_what_was_changed_and_how_to_go_on(tmp_path: Path) -> None:
    strategies = Strategies({strategy().id: strategy()}, refused={"deploy": InvalidState("no room")})
    with control(tmp_path, strategies.answers()) as served:
        ended = pipaid("apply", written(tmp_path, leverage=5), socket_path=served.path)

    assert ended.code == 1
    assert strategies.done == ["pause", "update"]
    assert "1 changed in part" in ended.out
    assert "0 refused" in ended.out
    assert "it is paused now, with what was changed" in ended.out
    assert f"pipaid resume {strategy().id}" in ended.out


@pytest.mark.parametrize("status", ["deployed", "paused"])
def test_a_mode_that_open_positions_forbid_is_refused_before_anything_is_done(tmp_path: Path, status: str) -> None:
    strategies = Strategies({strategy().id: strategy(status=status)})
    other_mode = DECLARED.replace("deploy = {deploy}", "deploy = {deploy}\ndry_run = false")
    with control(tmp_path, strategies.answers()) as served:
        ended = pipaid("apply", written(tmp_path, leverage=5, text=other_mode), socket_path=served.path)

    assert (ended.code, strategies.done) == (1, [])
    assert f"pipaid pause {strategy().id} --close-positions" in ended.out


def test_one_that_is_refused_does_not_keep_the_others_from_being_applied(tmp_path: Path) -> None:
    stopped = strategy(status="stopped")
    strategies = Strategies({stopped.id: stopped})
    other = DECLARED + DECLARED.replace("sol range", "sol other")
    with control(tmp_path, strategies.answers()) as served:
        ended = pipaid("apply", written(tmp_path, text=other), "--json", socket_path=served.path)

    outcomes = [each["outcome"] for each in msgspec.json.decode(ended.out)["data"]]
    assert (ended.code, outcomes, strategies.done) == (1, ["refused", "created"], ["create", "deploy"])


def test_files_with_mistakes_change_nothing_and_name_them_all(tmp_path: Path) -> None:
    strategies = Strategies()
    broken = '[[strategy]]\nname = "x"\ncapital = 12.5\nwhat = 1\n'
    with control(tmp_path, strategies.answers()) as served:
        ended = pipaid("apply", written(tmp_path, text=broken), socket_path=served.path)

    assert (ended.code, served.asked) == (1, [])
    assert "error: INVALID_PARAMETER: 6 mistakes" in ended.err
    for key in ("capital", "what", "template_id", "symbols", "timeframe", "params"):
        assert key in ended.err


@pytest.mark.parametrize("words", [("apply",), ("apply", "--dry-run")])
def test_applying_no_file_is_a_mistake_of_usage(words: tuple[str, ...]) -> None:
    assert pipaid(*words).code == 2


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    ended = pipaid("apply", str(tmp_path / "none.toml"), socket_path=tmp_path / "none.sock")

    assert (ended.code, ended.err) == (4, f"error: NOT_FOUND: there is no file {tmp_path / 'none.toml'}\n")
