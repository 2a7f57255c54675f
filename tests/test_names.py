"""Tests have names that stay the same from process to process, so that several can share them."""

from __future__ import annotations

import pytest

from tests.conftest import demand_lasting


def test_a_name_with_a_place_in_memory_is_refused() -> None:
    with pytest.raises(pytest.UsageError, match="names a place in memory"):
        demand_lasting("tests/test_names.py::test_it[<object object at 0x7f3c1e0b4a50>]")


def test_any_other_name_will_do() -> None:
    demand_lasting("tests/test_names.py::test_it[at 0 of 5]")
