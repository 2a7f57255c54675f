"""Values find their places in params within params, and whoever names a place that is not there is told."""

from __future__ import annotations

from typing import Any

import pytest

from pipaid.errors import InvalidParameter
from pipaid.optimising.placing import path_of, placed

PARAMS: dict[str, Any] = {
    "fast": 5,
    "entry": [
        {"name": "rsi_oversold", "params": {"window": 14, "threshold": 30.0}},
        {"name": "is_above_sma", "params": {}},
    ],
}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("fast", ("fast",)),
        ("params.fast", ("fast",)),
        ("params", ("params",)),
        ("entry[0].params.window", ("entry", 0, "params", "window")),
        ("params.entry[1].params.window", ("entry", 1, "params", "window")),
        ("grid[1][2]", ("grid", 1, 2)),
    ],
)
def test_a_name_is_a_path(name: str, path: tuple[str | int, ...]) -> None:
    assert path_of(name) == path


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b", "a[", "a[]", "a[x]", "a[-1]", "[0]", "a]b", "a[0]b"])
def test_what_is_no_path_is_refused(name: str) -> None:
    with pytest.raises(InvalidParameter, match="write a name, or a path"):
        path_of(name)


def test_each_value_goes_where_its_name_leads_and_all_else_stays() -> None:
    before = repr(PARAMS)
    after = placed(
        PARAMS, {"fast": 8, "params.entry[0].params.window": 21, "entry[1].params.window": 50, "execution.period": 7}
    )

    assert after == {
        "fast": 8,
        "entry": [
            {"name": "rsi_oversold", "params": {"window": 21, "threshold": 30.0}},
            {"name": "is_above_sma", "params": {"window": 50}},
        ],
        "execution": {"period": 7},
    }
    assert repr(PARAMS) == before


def test_a_number_stays_a_number() -> None:
    (rule, _) = placed(PARAMS, {"entry[0].params.threshold": "27.5", "fast": "many"})["entry"]

    assert rule["params"]["threshold"] == 27.5
    assert isinstance(rule["params"]["threshold"], float)


@pytest.mark.parametrize("name", ["entry[2].params.window", "fast.window", "fast[0]", "entry.window", "other[0]"])
def test_a_place_that_is_not_there_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(InvalidParameter, match="has nothing at") as refused:
        placed(PARAMS, {name: 1})

    assert name in refused.value.message
