"""The HTTP form of operations: where arguments stand, and what each refusal names."""

from __future__ import annotations

import pytest

from pipaid.errors import InvalidParameter, NotFound
from pipaid.model import request
from pipaid.model.operation import ADMIN, OPERATIONS, PUBLIC, operation_named
from pipaid.model.route import is_addressed, names_in, request_of
from pipaid.model.strategy import Status

WITH_PATH = [operation for operation in OPERATIONS.values() if operation.path]


def test_every_path_and_method_asks_for_one_operation() -> None:
    places = [(operation.method, operation.path) for operation in WITH_PATH]

    assert len(set(places)) == len(places)
    for operation in WITH_PATH:
        path = operation.path.replace("{id}", "strat_5e07c1d9")
        found = [each for each in WITH_PATH if is_addressed(each, operation.method, path)]
        # A path without a name in it is meant before one in which anything may stand.
        assert min(found, key=lambda each: "{" in each.path).name == operation.name


def test_names_in_a_path_are_arguments_of_its_operation() -> None:
    for operation in WITH_PATH:
        assert set(names_in(operation.path)) <= set(operation.request.__struct_fields__)


def test_nothing_that_only_an_operator_may_do_has_a_path_except_what_everybody_may() -> None:
    assert {each.name for each in WITH_PATH if each.admin_only} == {"health", "metrics"}
    assert all(each.scope == PUBLIC for each in WITH_PATH if each.admin_only)
    assert all(each.scope == ADMIN for each in OPERATIONS.values() if each.admin_only and not each.path)


def test_only_reads_are_asked_for_with_get() -> None:
    assert all(each.mutating is (each.method != "GET") for each in WITH_PATH)


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("GET", "/v1/strategies/strat_1", True),
        ("HEAD", "/v1/strategies/strat_1", True),
        ("POST", "/v1/strategies/strat_1", False),
        ("get", "/v1/strategies/strat_1", False),
        ("GET", "/v1/strategies/", False),
        ("GET", "/v1/strategies/strat_1/", False),
        ("GET", "/v1/strategies/a/b", False),
        ("GET", "/V1/strategies/a", False),
    ],
)
def test_a_path_is_matched_whole(method: str, path: str, found: bool) -> None:
    assert is_addressed(operation_named("strategy.get"), method, path) is found


def test_an_operation_without_a_path_is_nowhere() -> None:
    assert not is_addressed(operation_named("shutdown"), "", "")


def test_arguments_come_from_path_and_query_with_their_types() -> None:
    asked = request_of(operation_named("strategy.orders"), "/v1/strategies/strat_1/orders?limit=7&state=working", "")

    assert asked == request.StrategyOrders(id="strat_1", limit=7, state="working")


def test_arguments_come_from_path_and_body() -> None:
    asked = request_of(operation_named("strategy.deploy"), "/v1/strategies/strat_1/deploy", '{"dry_run": true}')

    assert asked == request.StrategyDeploy(id="strat_1", dry_run=True)


def test_an_empty_body_stands_for_no_arguments() -> None:
    asked = request_of(operation_named("strategy.pause"), "/v1/strategies/strat_1/pause", "")

    assert asked == request.StrategyLeave(id="strat_1")


def test_what_is_escaped_in_path_and_query_is_read() -> None:
    addressed = request_of(operation_named("strategy.get"), "/v1/strategies/strat%5f1", "")
    listed = request_of(operation_named("strategy.list"), "/v1/strategies?status=p%61used&template_id=tpl_grid", "")

    assert addressed == request.Addressed(id="strat_1")
    assert listed == request.StrategyList(status=Status.PAUSED, template_id="tpl_grid")


@pytest.mark.parametrize("at", ["1767225600000", "2026-01-01T00:00:00Z", "2026-01-01T00%3A00%3A00Z"])
def test_a_moment_in_a_query_may_be_written_both_ways(at: str) -> None:
    asked = request_of(operation_named("strategy.why"), f"/v1/strategies/strat_1/why?at={at}", "")

    assert asked == request.StrategyWhy(id="strat_1", at=1_767_225_600_000)


@pytest.mark.parametrize(
    ("name", "target", "body", "fields"),
    [
        ("strategy.list", "/v1/strategies?limit=0", "", ["limit"]),
        ("strategy.list", "/v1/strategies?limit=101&status=gone&x=1", "", ["limit", "status", "x"]),
        ("strategy.list", "/v1/strategies?limit=1&limit=2", "", ["limit"]),
        ("strategy.list", "/v1/strategies?limit", "", []),
        ("strategy.list", "/v1/strategies?%ff=1", "", []),
        ("strategy.list", "/v1/strategies?" + "&".join(f"a{n}=1" for n in range(40)), "", []),
        ("strategy.list", "/v1/strategies", "{}", []),
        ("strategy.get", "/v1/strategies/strat_1?id=strat_2", "", ["id"]),
        ("strategy.deploy", "/v1/strategies/strat_1/deploy?dry_run=true", "", []),
        ("strategy.deploy", "/v1/strategies/strat_1/deploy?", "", []),
        ("strategy.deploy", "/v1/strategies/strat_1/deploy", '{"id": "strat_2"}', ["id"]),
        ("strategy.deploy", "/v1/strategies/x/deploy", '{"dry_run": "true", "leverage": 2.5}', ["leverage", "dry_run"]),
        ("strategy.deploy", "/v1/strategies/strat_1/deploy", "[]", []),
        ("strategy.deploy", "/v1/strategies/strat_1/deploy", "{", []),
        ("strategy.delete", "/v1/strategies/strat_1", '{"force": true}', ["force"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(name: str, target: str, body: str, fields: list[str]) -> None:
    with pytest.raises(InvalidParameter) as refused:
        request_of(operation_named(name), target, body)

    assert [field for field, _ in refused.value.details] == fields


def test_a_path_that_is_not_utf_8_leads_nowhere() -> None:
    with pytest.raises(NotFound):
        request_of(operation_named("strategy.get"), "/v1/strategies/%ff", "")
