"""Whoever waits for another process here waits for a minute at most."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

WAIT_S = 60


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    def give_up(*_: object) -> None:
        raise TimeoutError(f"nothing came for {WAIT_S} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(WAIT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
