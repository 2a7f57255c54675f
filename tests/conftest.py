"""What every test may ask for: the real candles that ship inside a test dependency, and patient property tests."""

from __future__ import annotations

import gc
import importlib.util
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The wall clock of a shared machine says nothing about the code, so no example is failed for being slow.
settings.register_profile("pipaid", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pipaid")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Look at each name that a test is given."""
    demand_lasting(item.nodeid)


def demand_lasting(name: str) -> None:
    """Refuse a name that is another one in the next process: those who share the tests could not agree on them."""
    if " at 0x" in name:
        raise pytest.UsageError(f"{name} names a place in memory: give its parameters ids that stay the same")


def pytest_runtest_setup() -> None:
    """Leave nothing of hypothesis in the collector: what interrupts a callback there would be lost and not ours."""
    gc.callbacks.clear()


@pytest.fixture(scope="session")
def eurusd_hours_csv() -> Path:
    """Return the file of 5,000 real EURUSD hours (2017-2018): time, Open, High, Low, Close, Volume.

    The package that carries it is found and not imported: importing it would want pandas and a plotting library.
    """
    spec = importlib.util.find_spec("backtesting")
    assert spec is not None, "the data wheel is missing: run `make test`, which installs requirements/data.txt"
    assert spec.origin is not None
    path = Path(spec.origin).parent / "test" / "EURUSD.csv"
    assert path.is_file(), f"the data wheel carries no {path.name}"
    return path
