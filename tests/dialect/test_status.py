"""The table of statuses: each way leads where it says, and what is not in it is refused."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipaid.dialect.status import SPOKEN, WAYS, Spoken, Standing, Step, standing_of, way
from pipaid.errors import InvalidState
from pipaid.model.strategy import Action, Status, advance

# What each step asks of the lifecycle, and whether the run that follows is a dry one.
ASKED = {
    Step.DEPLOY: (Action.DEPLOY, False),
    Step.DEPLOY_DRY: (Action.DEPLOY, True),
    Step.PAUSE: (Action.PAUSE, None),
    Step.RESET: (Action.RESET, None),
    Step.STOP: (Action.STOP, None),
}
STATUS = {
    Standing.DRAFT: (Status.DRAFT, None),
    Standing.PAPER: (Status.DEPLOYED, True),
    Standing.LIVE: (Status.DEPLOYED, False),
    Standing.PAUSED: (Status.PAUSED, True),
    Standing.ERROR: (Status.ERROR, False),
    Standing.STOPPED: (Status.STOPPED, True),
}


def walked(standing: Standing, wanted: Spoken) -> Standing:
    """Return where a way ends by the lifecycle's own table, which refuses a step that it does not hold."""
    status, dry_run = STATUS[standing]
    for step in way(standing, wanted):
        action, dry = ASKED[step]
        status = advance(status, action)
        dry_run = dry_run if dry is None else dry
    return standing_of(status, dry_run=dry_run)


@given(st.sampled_from(sorted(WAYS)))
def test_each_way_is_one_that_the_lifecycle_goes_and_ends_where_it_was_to(pair: tuple[Standing, Spoken]) -> None:
    standing, wanted = pair
    reached = SPOKEN[walked(standing, wanted)]

    assert reached == (Spoken.INACTIVE if wanted is Spoken.DRAFT else wanted)


@given(st.sampled_from(Standing), st.lists(st.sampled_from(Spoken), max_size=8))
def test_however_statuses_follow_each_other_each_is_reached_or_nothing_changes(
    standing: Standing, wishes: list[Spoken]
) -> None:
    for wanted in wishes:
        try:
            after = walked(standing, wanted)
        except InvalidState:
            assert (standing, wanted) not in WAYS
            continue
        assert SPOKEN[after] == (Spoken.INACTIVE if wanted is Spoken.DRAFT else wanted)
        assert standing is not Standing.STOPPED or after is Standing.STOPPED
        # To ask for what is there already takes no step.
        assert after is Standing.ERROR or way(after, SPOKEN[after]) == ()
        standing = after


@pytest.mark.parametrize(("standing", "wanted"), sorted(set(product(Standing, Spoken)) - set(WAYS)))
def test_what_the_table_does_not_hold_is_refused_with_what_to_do_instead(standing: Standing, wanted: Spoken) -> None:
    with pytest.raises(InvalidState, match=f"that is {SPOKEN[standing]} cannot become {wanted}: "):
        way(standing, wanted)


def test_from_paper_to_live_leads_through_a_pause() -> None:
    assert way(Standing.PAPER, Spoken.LIVE) == (Step.PAUSE, Step.DEPLOY)
    assert way(Standing.PAPER, Spoken.INACTIVE) == way(Standing.LIVE, Spoken.INACTIVE) == (Step.PAUSE,)
    assert {way(each, Spoken.ARCHIVED) for each in (Standing.PAPER, Standing.LIVE, Standing.PAUSED)} == {(Step.STOP,)}


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("dry_run", [None, True, False])
def test_every_status_has_a_word(status: Status, dry_run: bool | None) -> None:
    spoken = SPOKEN[standing_of(status, dry_run=dry_run)]

    assert (spoken in (Spoken.PAPER, Spoken.LIVE)) is (status is Status.DEPLOYED)
    assert (spoken is Spoken.PAPER) is (status is Status.DEPLOYED and bool(dry_run))
