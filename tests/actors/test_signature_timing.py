"""Nobody learns from the time an answer takes whether a key exists: a statistic that a slow machine does not upset.

Both kinds of request are judged in pairs, in an order drawn for each pair, and each is given the CPU time of the
fastest of a few tries. If neither takes longer, each wins a pair with the same chance however noisy the machine is, so
the count of pairs in which one takes longer by more than the margin is at most binomial with one half: the bound below
is passed by chance once in a million runs. A planted difference of a tenth shows that a real one would be seen.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from math import comb
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from attrs import define

from actors.keys import KeyRing
from pipaid.model.operation import Operation, operation_named
from pipaid.model.request import KeyCreate
from pipaid.wire.budget import Budgets
from pipaid.wire.envelope import Forwarded
from pipaid.wire.gate import Admitted, Authority, Gate
from pipaid.wire.signing import Caller, SignedRequest
from tests.actors.controls import open_control

PAIRS: Final = 1_500
TRIES: Final = 3
MARGIN: Final = 1.05
PLANTED: Final = 0.10
# Once in so many runs.
FALSE_ALARM: Final = 1_000_000

FORMS: Final = (
    ("strategy.list", "GET", "/v1/strategies?status=paused&limit=5", ""),
    ("strategy.deploy", "POST", "/v1/strategies/strat_5e07c1d9/deploy", '{"dry_run":true}'),
)


def alarm() -> int:
    """Return the number of pairs that one kind wins by chance alone no more often than half of the false alarms."""
    allowed = 2**PAIRS // FALSE_ALARM // 2
    count, ways = PAIRS, 1
    while ways <= allowed:
        count -= 1
        ways += comb(PAIRS, count)
    return count


@define
class Slower:
    """An authority that takes longer where a key is not known."""

    keys: KeyRing
    known: str
    by_ns: int

    def authenticate(self, request: SignedRequest, *, mutating: bool = False) -> Caller:
        until = time.thread_time_ns() + (0 if request.api_key == self.known else self.by_ns)
        while time.thread_time_ns() < until:
            pass
        return self.keys.authenticate(request, mutating=mutating)


def gate_of(authority: Authority, keys: KeyRing) -> Gate:
    plenty = 100 * PAIRS
    return Gate(authority, keys.clock, keys=Budgets(plenty, 1.0), addresses=Budgets(plenty, 1.0))


def cost_ns(judge: Callable[[], Any]) -> int:
    """Return the CPU time of the fastest of a few tries."""
    least = 0
    for _ in range(TRIES):
        began = time.thread_time_ns()
        judge()
        took = time.thread_time_ns() - began
        least = min(least or took, took)
    return least


def longer(one: Callable[[], Any], other: Callable[[], Any]) -> tuple[int, int]:
    """Return in how many pairs the one took longer by more than the margin, and in how many the other did."""
    chance = Random(20_260_101)
    first = second = 0
    gc.disable()
    try:
        for _ in range(PAIRS):
            if chance.random() < 0.5:
                left, right = cost_ns(one), cost_ns(other)
            else:
                right, left = cost_ns(other), cost_ns(one)
            first += left > right * MARGIN
            second += right > left * MARGIN
    finally:
        gc.enable()
    return first, second


@pytest.mark.parametrize(("name", "method", "target", "body"), FORMS)
async def test_an_unknown_key_is_judged_in_the_time_of_a_bad_signature_and_told_the_same(
    tmp_path: Path, name: str, method: str, target: str, body: str
) -> None:
    async with open_control(tmp_path) as control:
        key = await control.keys.create(KeyCreate(name="one", scopes=("trade",)), account="acct_main")
        operation = operation_named(name)
        bad = Forwarded(
            method=method, target=target, body=body, address="192.0.2.7", request_id="req_0123456789ab",
            api_key=key.api_key, timestamp=str(control.clock.us // 1_000), signature="0" * 64,
        )  # fmt: skip
        unknown = _signed_by(bad, key.api_key[:-1] + ("0" if key.api_key[-1] != "0" else "1"))
        honest = gate_of(control.keys, control.keys)
        judged = _judging(honest, operation, unknown), _judging(honest, operation, bad)

        told = [each().error for each in judged]
        found = longer(*judged)
        slower = gate_of(Slower(control.keys, key.api_key, by_ns=round(PLANTED * cost_ns(judged[1]))), control.keys)
        planted = longer(_judging(slower, operation, unknown), _judging(slower, operation, bad))

    assert type(told[0]) is type(told[1])
    assert told[0].message == told[1].message
    assert max(found) <= alarm(), f"{found} of {PAIRS}"
    assert planted[0] > alarm(), f"{planted} of {PAIRS}"


def _signed_by(request: Forwarded, api_key: str) -> Forwarded:
    """Return the same request from somebody else."""
    fields = {name: getattr(request, name) for name in request.__struct_fields__}
    return Forwarded(**{**fields, "api_key": api_key})


def _judging(gate: Gate, operation: Operation, request: Forwarded) -> Callable[[], Any]:
    def judge() -> Any:
        verdict = gate.judge(operation, request)
        assert not isinstance(verdict, Admitted)
        return verdict

    return judge
