"""Calls at moments: each owner once, when all that closes has closed, however many wait and change their minds."""

from __future__ import annotations

from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from pipaid.engine.rings import GIVEN_UP_MAX, NEVER_MS, SETTLE_MS, Call, Rings, is_settled

MINUTE_MS = 60_000
BTC, ETH = "BTCUSDT", "ETHUSDT"


@define(eq=False)
class Owner:
    """Whoever is called."""

    id: str


def test_an_owner_is_called_once_when_its_time_has_come_and_its_candle_has_closed() -> None:
    rings, owner = Rings[Owner](), Owner("a")
    rings.keep(owner, Call(10 * MINUTE_MS, (BTC,)))

    assert rings.next_ms == 10 * MINUTE_MS
    assert rings.take(10 * MINUTE_MS - 1, {BTC: 9 * MINUTE_MS}) == []
    assert rings.take(10 * MINUTE_MS, {BTC: 10 * MINUTE_MS}) == [owner]
    assert rings.take(10 * MINUTE_MS, {BTC: 10 * MINUTE_MS}) == []
    assert rings.next_ms == NEVER_MS


def test_a_candle_that_does_not_come_is_not_waited_for_any_longer() -> None:
    rings, owner = Rings[Owner](), Owner("a")
    rings.keep(owner, Call(10 * MINUTE_MS, (BTC, ETH)))
    closed_ms = {BTC: 10 * MINUTE_MS, ETH: 9 * MINUTE_MS}

    assert rings.take(10 * MINUTE_MS + SETTLE_MS - 1, closed_ms) == []
    assert rings.next_ms == 10 * MINUTE_MS
    assert rings.take(10 * MINUTE_MS + SETTLE_MS, closed_ms) == [owner]


def test_a_symbol_of_which_nothing_is_known_has_closed_nothing() -> None:
    assert not is_settled(Call(MINUTE_MS, (BTC,)), MINUTE_MS, {})
    assert is_settled(Call(MINUTE_MS, (BTC,)), MINUTE_MS + SETTLE_MS, {})


def test_what_closed_early_does_not_make_the_time_come() -> None:
    assert not is_settled(Call(MINUTE_MS, (BTC,)), MINUTE_MS - 1, {BTC: 2 * MINUTE_MS})


def test_an_owner_that_starts_anew_is_called_in_the_place_of_the_one_before() -> None:
    rings, before, after = Rings[Owner](), Owner("a"), Owner("a")
    rings.keep(before, Call(MINUTE_MS, (BTC,)))
    rings.keep(after, Call(MINUTE_MS, (BTC,)))

    (called,) = rings.take(2 * MINUTE_MS, {})
    assert called is after


STEPS = st.lists(
    st.tuples(
        st.sampled_from("abcdefgh"),
        st.one_of(st.none(), st.just("forget"), st.integers(0, 30)),
        st.sampled_from(((BTC,), (ETH,), (BTC, ETH))),
        st.integers(0, 2),
    ),
    max_size=300,
)


@given(STEPS)
def test_calls_are_those_that_a_list_of_them_would_make(
    steps: list[tuple[str, int | str | None, tuple[str, ...], int]],
) -> None:
    rings, owners, now_ms = Rings[Owner](), {name: Owner(name) for name in "abcdefgh"}, 0
    wanted: dict[str, Call] = {}
    for name, what, symbols, on in steps:
        if what is None:
            rings.keep(owners[name], None)
            wanted.pop(name, None)
        elif isinstance(what, str):
            rings.forget(name)
            wanted.pop(name, None)
        else:
            wanted[name] = Call(now_ms + what * 10_000, symbols)
            rings.keep(owners[name], wanted[name])
        now_ms += on * 20_000
        closed_ms = {BTC: now_ms - now_ms % MINUTE_MS, ETH: now_ms - now_ms % (2 * MINUTE_MS)}
        due = sorted(each for each, call in wanted.items() if is_settled(call, now_ms, closed_ms))
        assert rings.next_ms <= min((call.due_ms for call in wanted.values()), default=NEVER_MS)
        assert sorted(owner.id for owner in rings.take(now_ms, closed_ms)) == due
        for each in due:
            del wanted[each]
        assert rings.next_ms == min((call.due_ms for call in wanted.values()), default=NEVER_MS)


def test_whoever_changes_their_mind_without_end_takes_no_more_room_for_it() -> None:
    rings, owner = Rings[Owner](), Owner("a")
    for minute in range(1, 5_001):
        rings.keep(owner, Call(minute * MINUTE_MS, (BTC,)))

    # All that is kept can be read there: a call that was given up takes some twenty characters.
    assert len(repr(rings)) < 40 * GIVEN_UP_MAX
    assert rings.take(5_000 * MINUTE_MS, {BTC: 5_000 * MINUTE_MS}) == [owner]
