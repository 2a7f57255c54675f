"""Identities say whose they are and are the same after every restart."""

from __future__ import annotations

import pytest

from pipaid.model.ident import CLIENT_ORDER_ID_MAX, client_order_id, mark_of, order_id, order_id_of, owner_mark


@pytest.mark.parametrize("number", [1, 2**40 - 1, 2**48])
def test_a_client_order_id_tells_its_owner_and_its_order(number: int) -> None:
    client_id = client_order_id("acct_1", "strat_1", number)

    assert len(client_id) <= CLIENT_ORDER_ID_MAX
    assert mark_of(client_id) == owner_mark("acct_1", "strat_1") != owner_mark("acct_2", "strat_1")
    assert order_id_of("strat_1", client_id) == order_id("strat_1", number)


@pytest.mark.parametrize("client_id", ["", "alien", "autoclose-pos_1", "pp0001", "pp" + "g" * 26, "pp" + "a" * 40])
def test_what_is_not_of_our_making_names_no_order(client_id: str) -> None:
    assert order_id_of("strat_1", client_id) is None
