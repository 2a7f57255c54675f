"""Which fault befalls what: those that were ordered first, the others by their shares, each only what it can."""

from __future__ import annotations

from pipaid.model.fault import MEANING, QUESTION_FAULTS, REPORT_FAULTS, REQUEST_FAULTS, Fault
from pipaid.seams import SystemRandom
from pipaid.venues.faults import LATE_MS_MAX, Faults


def test_every_kind_has_a_meaning_and_one_thing_that_it_happens_to() -> None:
    assert sorted([*REQUEST_FAULTS, *REPORT_FAULTS, *QUESTION_FAULTS]) == sorted(Fault)
    assert MEANING.keys() == set(Fault)


def test_what_is_ordered_comes_before_what_happens_by_chance() -> None:
    faults = Faults(SystemRandom(seed=1), {Fault.LOST: 1.0})
    faults.order(Fault.REFUSED, 2)

    drawn = [faults.drawn(REQUEST_FAULTS) for _ in range(4)]

    assert drawn == [Fault.REFUSED, Fault.REFUSED, Fault.LOST, Fault.LOST]
    assert faults.happened == {Fault.REFUSED: 2, Fault.LOST: 2}


def test_a_fault_happens_to_nothing_but_what_it_can_happen_to() -> None:
    faults = Faults(SystemRandom(seed=1))
    faults.order(Fault.DROPPED)

    assert faults.drawn(REQUEST_FAULTS) is None
    assert faults.drawn(QUESTION_FAULTS) is None
    assert faults.drawn(REPORT_FAULTS) is Fault.DROPPED


def test_calm_ends_what_was_ordered_and_what_happens_by_chance() -> None:
    faults = Faults(SystemRandom(seed=1), {Fault.LOST: 1.0})
    faults.order(Fault.REFUSED, 2)
    assert faults.may(Fault.LOST)
    assert faults.may(Fault.REFUSED)

    faults.calm()

    assert not any(map(faults.may, Fault))
    assert faults.drawn(REQUEST_FAULTS) is None


def test_shares_are_kept_in_the_long_run() -> None:
    faults = Faults(SystemRandom(seed=3), {Fault.LOST: 0.1, Fault.REFUSED: 0.3})

    for _ in range(10_000):
        faults.drawn(REQUEST_FAULTS)

    assert 900 < faults.happened[Fault.LOST] < 1_100
    assert 2_800 < faults.happened[Fault.REFUSED] < 3_200


def test_lateness_has_a_bound() -> None:
    faults = Faults(SystemRandom(seed=1))

    assert all(1 <= faults.lateness_ms(Fault.LATE) <= LATE_MS_MAX + 1 for _ in range(1_000))
