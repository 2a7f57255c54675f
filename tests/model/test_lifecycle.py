"""The lifecycle of a strategy is a table; a tally is the sum of its trades."""

from __future__ import annotations

from decimal import Decimal
from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipaid.errors import InvalidState
from pipaid.model.strategy import TRANSITIONS, WAYS, Action, Status, Tally, advance
from tests.builders import make_definition, make_strategy

EVERY_PAIR = set(product(Status, Action))


@pytest.mark.parametrize(("status", "action"), sorted(EVERY_PAIR - set(TRANSITIONS)))
def test_every_unlisted_transition_is_refused(status: Status, action: Action) -> None:
    with pytest.raises(InvalidState, match=f"cannot {action} a strategy that is {status}"):
        advance(status, action)


@pytest.mark.parametrize(("status", "action"), sorted(TRANSITIONS))
def test_every_listed_transition_leads_on(status: Status, action: Action) -> None:
    assert advance(status, action) is TRANSITIONS[status, action]


def test_a_refusal_says_from_where_the_action_is_allowed() -> None:
    with pytest.raises(InvalidState, match=r"allowed from: deployed$"):
        advance(Status.PAUSED, Action.PAUSE)


def test_a_refusal_says_what_to_do_about_it() -> None:
    with pytest.raises(InvalidState, match=r"allowed from: draft, paused; pause it first$"):
        advance(Status.DEPLOYED, Action.UPDATE)
    with pytest.raises(InvalidState, match="mend the cause and reset it first: `pipaid strategy reset ID`"):
        advance(Status.ERROR, Action.DEPLOY)
    assert not set(WAYS) & set(TRANSITIONS)


@pytest.mark.parametrize("action", sorted(set(Action) - {Action.DELETE, Action.UNBIND}))
def test_a_stopped_strategy_can_only_be_deleted_and_let_go_by_accounts(action: Action) -> None:
    with pytest.raises(InvalidState):
        advance(Status.STOPPED, action)


def test_a_dry_run_becomes_live_by_way_of_a_pause_only() -> None:
    with pytest.raises(InvalidState):
        advance(Status.DEPLOYED, Action.DEPLOY)

    assert advance(advance(Status.DEPLOYED, Action.PAUSE), Action.DEPLOY) is Status.DEPLOYED


def test_an_error_is_left_by_stop_and_reset_only() -> None:
    left = {action for action in Action if TRANSITIONS.get((Status.ERROR, action), Status.ERROR) is not Status.ERROR}

    assert left == {Action.STOP, Action.RESET}
    assert advance(Status.ERROR, Action.RESET) is Status.PAUSED


def test_the_definition_of_the_last_deployment_is_in_effect() -> None:
    deployed, changed = make_definition(leverage=2), make_definition(leverage=3)

    assert make_strategy(changed, running=deployed).in_effect is deployed
    assert make_strategy(changed, running=None).in_effect is changed


def test_a_strategy_survives_the_journal() -> None:
    strategy = make_strategy(make_definition(params={"levels": 5, "price": "1.10"}))

    assert msgspec.json.decode(msgspec.json.encode(strategy), type=type(strategy)) == strategy


@given(st.lists(st.integers(-1000, 1000).map(lambda cents: Decimal(cents) / 100), max_size=20))
def test_a_tally_is_the_sum_of_its_trades(profits: list[Decimal]) -> None:
    tally = Tally()
    equity = peak = deepest = Decimal(0)

    for profit in profits:
        tally = tally.with_trade(profit)
        equity += profit
        peak = max(peak, equity)
        deepest = max(deepest, peak - equity)

    wins = [profit for profit in profits if profit > 0]
    losses = [profit for profit in profits if profit < 0]
    assert (tally.trades, tally.wins, tally.pnl) == (len(profits), len(wins), sum(profits))
    assert (tally.gross_profit, tally.gross_loss) == (sum(wins), -sum(losses))
    assert (tally.peak, tally.drawdown) == (peak, deepest)


def test_the_win_rate_is_zero_without_trades() -> None:
    assert Tally().win_rate == 0
    assert Tally(trades=4, wins=1).win_rate == Decimal("0.25")
