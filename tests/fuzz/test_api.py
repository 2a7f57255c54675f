"""A small run of schemathesis against a real daemon: no check fails, and nothing is answered with a failure of ours."""

from __future__ import annotations

import pytest

from pipaid.model.operation import OPERATIONS
from tests.fuzz.api import Examined, examine
from tests.fuzz.foreseen import is_foreseen


@pytest.fixture(scope="module")
def examined(tmp_path_factory: pytest.TempPathFactory) -> Examined:
    # Every bound of every field is four times as much; `make fuzz ARGS=api` tries them.
    phases = "examples,fuzzing,stateful"
    return examine(tmp_path_factory.mktemp("examined"), seed=1, examples=8, seconds_max=600, phases=phases)


def test_everything_that_is_offered_does_as_the_document_says(examined: Examined) -> None:
    assert examined.problems == ()
    assert examined.operations == sum(1 for operation in OPERATIONS.values() if operation.path)
    assert examined.cases > 500


def test_requests_get_as_far_as_they_can(examined: Examined) -> None:
    assert {200, 201, 400, 401, 404, 409} <= set(examined.answers)
    assert max(examined.answers) < 500


@pytest.mark.parametrize(
    ("operation", "target", "body", "foreseen"),
    [
        ("strategy.list", "/v1/strategies?cursor=invented", "", False),
        ("strategy.list", "/v1/strategies?limit=0", "", True),
        ("strategy.list", "/v1/strategies?unknown=1", "", True),
        ("strategy.deploy", "/v1/strategies/strat_1/deploy", '{"leverage":13.0}', False),
        ("strategy.deploy", "/v1/strategies/strat_1/deploy", '{"leverage":13.0,"capital":"x"}', True),
        ("strategy.deploy", "/v1/strategies/strat_1/deploy", '{"leverage":13.5}', True),
        ("strategy.deploy", "/v1/strategies/strat_1/deploy", "{", True),
        ("dialect.update", "/api/v1/strategies/strat_1", '{"skip_hours":[7,18.0]}', False),
        ("dialect.update", "/api/v1/strategies/strat_1", '{"skip_hours":[7,18.5]}', True),
    ],
)
def test_a_refusal_for_the_form_of_a_request_is_one_that_the_document_has_to_foresee(
    operation: str, target: str, body: str, foreseen: bool
) -> None:
    assert is_foreseen(operation, target, body) is foreseen
