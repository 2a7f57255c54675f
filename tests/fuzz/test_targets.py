"""Whatever chance makes, each target holds; what was interesting once holds again; and a planted defect is found."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Callable, Generator
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pipaid.storage.chain import GENESIS
from tests.fuzz import configs, fills, journals, params, signatures
from tests.fuzz.__main__ import Asked, campaign, replay
from tests.fuzz.scales import Scales
from tests.fuzz.siege import grown
from tests.fuzz.target import CORPUS, Target, dump, fuzz, load, shrunk

COUNTS = {"fills": 3_000, "params": 20_000, "signatures": 10_000, "configs": 500, "journals": 500}
TARGETS = {each.TARGET.name: each.TARGET for each in (fills, params, signatures, configs, journals)}
SEED = "tests"


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_chance_makes_holds(name: str) -> None:
    assert fuzz(TARGETS[name], seed=SEED, count=COUNTS[name]) == []


@pytest.mark.parametrize(
    ("name", "path"), [(path.parent.name, path) for name in TARGETS for path in sorted((CORPUS / name).glob("*"))]
)
def test_what_was_interesting_once_holds(name: str, path: Path) -> None:
    target = TARGETS[name]

    assert target.trouble(load(path)) == ""
    target.tidy()


@pytest.mark.parametrize("name", TARGETS)
def test_an_input_is_a_pure_function_of_seed_and_number(name: str) -> None:
    target = TARGETS[name]
    made = [target.input(SEED, number) for number in range(50)]

    assert made == [target.input(SEED, number) for number in range(50)]
    assert len({dump(each) for each in made}) > 20
    assert all(literal_eval(dump(each)) == each for each in made)


def test_memory_is_flat_over_many_inputs() -> None:
    scales = Scales()
    for part in range(9):
        for name in ("fills", "params", "signatures"):
            fuzz(TARGETS[name], seed=SEED, start=part * 100, count=100)
        scales.weigh()

    assert scales.growth == ""


# The checks have teeth: each planted defect is found.


def rounded(*values: Decimal) -> Decimal:
    return sum(values[1:], values[0])


def as_python_reads_it(value: object, *, field: str) -> Decimal:
    return Decimal(str(value))


def unchecked_end(connection: Any, path: object, witness: object) -> tuple[int, bytes]:
    found = connection.execute("SELECT n, hash FROM record ORDER BY n DESC LIMIT 1").fetchone()
    return found or (0, GENESIS)


def first(given: object, *_: object) -> object:
    return given


def nothing(*_: object, **__: object) -> None:
    return None


def no_mistakes(*_: object, **__: object) -> dict[str, str]:
    return {}


def none_of_them(*_: object) -> tuple[()]:
    return ()


def always(*_: object, **__: object) -> bool:
    return True


DEFECTS: list[tuple[str, str, Callable[..., Any], int]] = [
    ("fills", "pipaid.engine.ledger.exact_sum", rounded, 3_000),
    ("fills", "pipaid.engine.ledger._objection", nothing, 3_000),
    ("fills", "pipaid.engine.ledger.left", first, 3_000),
    ("params", "templates.grid.Grid.check", no_mistakes, 40_000),
    ("params", "pipaid.engine.knobs.parse_decimal", as_python_reads_it, 3_000),
    ("signatures", "actors.keys.matches", always, 100),
    ("signatures", "actors.keys.check_form", nothing, 3_000),
    ("configs", "pipaid.config.toml.vast_integers", none_of_them, 3_000),
    ("journals", "pipaid.storage.sqlite._checked_end", unchecked_end, 300),
    ("journals", "pipaid.storage.sqlite._doubts", none_of_them, 300),
]


@pytest.mark.parametrize(("name", "place", "defect", "count"), DEFECTS)
def test_a_planted_defect_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, place: str, defect: Callable[..., Any], count: int
) -> None:
    target = TARGETS[name]
    monkeypatch.setattr(place, defect)

    broken = next((each for each in (target.input(SEED, n) for n in range(count)) if target.trouble(each)), None)
    target.tidy()

    assert broken is not None


# Shrinking and keeping.


def test_an_input_is_shrunk_to_what_is_needed_to_fail() -> None:
    def check(given: bytes) -> None:
        assert not (b"x" in given and b"y" in given)

    target = Target(name="letters", make=lambda chance: chance.randbytes(2_000) + b"x" + bytes(70) + b"y", check=check)
    (failure, *_) = fuzz(target, seed="1", count=1)

    assert sorted(literal_eval(failure.input)) == sorted(b"xy")
    assert failure.trouble.startswith("AssertionError")


def test_shrinking_keeps_to_the_same_kind_of_failure() -> None:
    def check(given: bytes) -> None:
        if len(given) > 3:
            raise LookupError
        assert given

    target = Target(name="kinds", make=lambda chance: bytes(100), check=check)

    assert target.shrunk(bytes(100)) == bytes(4)
    assert shrunk([1, 2, 3], lambda items: 2 in items) == [2]


def test_a_campaign_on_several_processes_keeps_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = Asked(seed="1", count=1_000, seconds_max=60.0, jobs=2)
    advanced: list[int] = []

    found = campaign("signatures", asked, lambda name, by: advanced.append(by))
    assert (found.problems, found.count, sum(advanced)) == ((), 1_000, 1_000)

    # The processes are forked, so that they have the defect as well.
    monkeypatch.setattr("actors.keys.matches", always)
    broken = campaign("signatures", asked, nothing)
    kept = sorted((tmp_path / "build/fuzz/signatures").glob("*.case"))
    assert kept
    assert str(kept[0].relative_to(tmp_path)) in " ".join(broken.problems)
    assert replay(kept[0]).startswith("AssertionError")
    monkeypatch.undo()
    assert replay(kept[0]) == ""


def test_growth_is_told_and_noise_is_not() -> None:
    assert grown([60.0] * 50 + [70.0] * 50) == 0.0
    assert grown([60.0 + number / 10 for number in range(100)]) == pytest.approx(4.0)
    scales = Scales(objects=[1, 10_000, 10_000, 10_100, 10_500], mib=[1.0] * 5)
    assert scales.growth == ""
    assert Scales(objects=[1, 10_000, 20_000], mib=[1.0] * 3).growth.startswith("10000 more objects")
    assert Scales(objects=[1] * 3, mib=[1.0, 2.0, 20.0]).growth.startswith("18.0 MiB more")


# The same accounts and the same damage, as hypothesis has them.


class Fills(RuleBasedStateMachine):
    """A session, told of fills in any order, any number of times, true and untrue."""

    @initialize()
    def begin(self) -> None:
        self.account = fills.Account()
        self.account.enter(0, 1_000, 0)

    @rule(
        name=st.sampled_from(["enter", "exit", "fill", "fill", "fill", "again", "twin", "odd", "fact", "crash"]),
        pick=st.integers(0, 99),
        amount=st.integers(1, 2_000),
        more=st.integers(-50, 100),
    )
    def happen(self, name: str, pick: int, amount: int, more: int) -> None:
        getattr(self.account, name)(pick, amount, more)

    @invariant()
    def agree(self) -> None:
        if hasattr(self, "account"):
            self.account.compare()


TestFills = Fills.TestCase
TestFills.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["flip", "noise", "zero", "cut", "grow", "page", "shift", "older", "drop"]),
            st.integers(0, 2),
            st.integers(0, 9_999),
            st.integers(0, 999),
        ),
        max_size=5,
    )
)
@example(case=[("cut", 1, 0, 0), ("cut", 2, 0, 0), ("drop", 0, 0, 0)])
@settings(max_examples=100)
def test_a_damaged_journal_is_refused_or_whole(case: list[tuple[str, int, int, int]]) -> None:
    journals.check(case)


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left() -> Generator[None]:
    yield
    journals.forget()


@given(seed=st.integers(0, 10**6))
def test_params_within_reach_make_a_session_that_trades(seed: int) -> None:
    chance = Random(seed)
    for _ in range(5):
        params.check(params.make(chance))
