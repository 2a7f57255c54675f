"""Rate budgets: what is charged, what comes back, what a refusal says, and that memory stays bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipaid.wire.budget import Budgets, Spent, holder_of
from pipaid.wire.envelope import Standing


def test_a_charge_leaves_the_rest_and_says_when_it_is_whole_again() -> None:
    budgets = Budgets(1_200, 20.0)

    assert budgets.charge("key", 10, now_s=100.0) == Standing(limit=1_200, remaining=1_190, full_in_ms=500)
    assert budgets.standing("key", now_s=100.25) == Standing(limit=1_200, remaining=1_195, full_in_ms=250)
    assert budgets.standing("key", now_s=101.0) == Standing(limit=1_200, remaining=1_200, full_in_ms=0)


def test_a_refused_charge_costs_nothing_and_says_when_it_will_do() -> None:
    budgets = Budgets(100, 10.0)
    budgets.charge("key", 95, now_s=0.0)

    with pytest.raises(Spent) as refused:
        budgets.charge("key", 10, now_s=0.0)

    assert refused.value.retry_after_ms == 500
    assert refused.value.standing.remaining == 5
    assert budgets.charge("key", 5, now_s=0.0).remaining == 0
    assert budgets.charge("key", 10, now_s=1.0).remaining == 0


@pytest.mark.parametrize("refill_per_s", [0.3, 5.0, 7.0, 20.0])
def test_many_small_charges_come_to_the_same_as_a_large_one(refill_per_s: float) -> None:
    budgets = Budgets(300, refill_per_s)

    assert [budgets.charge("key", 1, now_s=1.7e9).remaining for _ in range(300)] == list(reversed(range(300)))
    with pytest.raises(Spent):
        budgets.charge("key", 1, now_s=1.7e9)


def test_holders_do_not_share() -> None:
    budgets = Budgets(100, 10.0)
    budgets.charge("one", 100, now_s=0.0)

    assert budgets.charge("other", 100, now_s=0.0).remaining == 0


def test_what_weighs_nothing_is_never_refused() -> None:
    budgets = Budgets(100, 10.0)
    budgets.charge("key", 100, now_s=0.0)

    assert budgets.charge("key", 0, now_s=0.0).remaining == 0


@given(st.lists(st.tuples(st.integers(1, 60), st.floats(0, 3)), max_size=60))
def test_no_more_is_spent_than_there_was_at_first_and_came_back(asked: list[tuple[int, float]]) -> None:
    budgets = Budgets(100, 10.0)
    now_s = 0.0
    spent = 0
    for weight, pause_s in asked:
        now_s += pause_s
        try:
            standing = budgets.charge("key", weight, now_s=now_s)
        except Spent as refused:
            standing = refused.standing
            assert standing.remaining < weight
        else:
            spent += weight
        assert 0 <= standing.remaining <= 100
        assert spent <= 100 + now_s * 10.0 + 1e-3


def test_holders_whose_budget_is_whole_again_are_forgotten() -> None:
    budgets = Budgets(100, 10.0)
    for number in range(1_000):
        budgets.charge(f"address {number}", 1, now_s=float(number))

    assert len(budgets) <= 2


def test_a_flood_of_holders_takes_no_more_memory_than_the_bound() -> None:
    budgets = Budgets(100, 10.0, holders_max=50)
    for number in range(1_000):
        budgets.charge(f"address {number}", 100, now_s=0.0)

    assert len(budgets) <= 50
    with pytest.raises(Spent):
        budgets.charge("address 999", 1, now_s=0.0)


@pytest.mark.parametrize(
    ("address", "holder"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("::1", "::"),
        ("", ""),
    ],
)
def test_addresses_of_one_network_hold_one_budget(address: str, holder: str) -> None:
    assert holder_of(address) == holder
