"""What a client is told of signals."""

from __future__ import annotations

import pytest

from actors.signals import Signals
from pipaid.errors import InvalidParameter, NotFound
from pipaid.model.request import Nothing
from pipaid.model.signal import SignalGet, SignalParam
from tests.actors.test_answers import ME


async def test_all_signals_are_listed_in_the_published_order() -> None:
    told = await Signals().signal_list(ME, Nothing())

    assert len(told.data) == 223
    assert [each.name for each in told.data[:2]] == ["rsi_cross_up", "rsi_cross_down"]
    assert {each.signal_type for each in told.data} == {"TRIGGER", "FILTER"}


async def test_one_is_shown_with_its_condition_and_params() -> None:
    told = await Signals().signal_get(ME, SignalGet(id="rsi_oversold"))

    assert (told.group, told.signal_type, told.condition) == ("momentum", "FILTER", "rsi(window) below threshold")
    assert told.params == (
        SignalParam(name="window", kind="whole", required=False, default=14, minimum=2.0, maximum=100.0),
        SignalParam(name="threshold", kind="number", required=False, default=30.0, minimum=0.0, maximum=50.0),
    )


async def test_an_unknown_one_is_not_found_and_a_near_one_is_named() -> None:
    with pytest.raises(NotFound, match="did you mean rsi_oversold"):
        await Signals().signal_get(ME, SignalGet(id="rsi_oversolt"))


async def test_one_of_other_data_names_what_is_missing() -> None:
    with pytest.raises(InvalidParameter, match="funding rates"):
        await Signals().signal_get(ME, SignalGet(id="funding_flip_positive"))
