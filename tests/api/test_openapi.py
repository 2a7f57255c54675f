"""The OpenAPI document says what is served: every operation, shapes that resolve, and examples that are accepted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Any, cast
from urllib.parse import urlencode

import msgspec
import pytest

from pipaid.api.openapi import document
from pipaid.api.page import page_of
from pipaid.dialect.shapes import CreateAsked
from pipaid.dialect.writing import definition_of
from pipaid.engine.params import structure_params
from pipaid.model.operation import OPERATIONS, Operation
from pipaid.model.reply import read_reply
from pipaid.model.route import names_in, request_of
from pipaid.plugins import load_templates
from tests.builders import make_instrument

DOCUMENT = document()
OFFERED = [operation for operation in OPERATIONS.values() if operation.path]
SIGNED = [operation for operation in OFFERED if operation.scope]


def described(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][operation.path][operation.method.lower()]
    return found


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a document."""
    inner: list[Any] = []
    if isinstance(node, dict):
        found = cast("dict[str, Any]", node)
        yield found
        inner = list(found.values())
    elif isinstance(node, list):
        inner = list(node)  # pyright: ignore[reportUnknownArgumentType] - it is JSON, and anything may stand in it
    for each in inner:
        yield from nodes(each)


def test_it_names_every_operation_that_has_a_path_and_no_other() -> None:
    named = {
        (path, method.upper(), operation["operationId"])
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    }

    assert DOCUMENT["openapi"] == "3.1.0"
    assert named == {(operation.path, operation.method, operation.name) for operation in OFFERED}


def test_everything_it_points_at_is_there_and_nothing_is_there_in_vain() -> None:
    pointed = {node["$ref"].rpartition("/")[2] for node in nodes(DOCUMENT) if isinstance(node.get("$ref"), str)}

    assert pointed == set(DOCUMENT["components"]["schemas"])


def test_its_patterns_are_read_alike_by_everybody() -> None:
    patterns = [node["pattern"] for node in nodes(DOCUMENT) if isinstance(node.get("pattern"), str)]

    assert patterns
    assert all(re.compile(pattern) and "(?!" not in pattern for pattern in patterns)


@pytest.mark.parametrize("operation", OFFERED, ids=lambda operation: operation.name)
def test_the_fields_of_an_operation_stand_where_they_are_read(operation: Operation) -> None:
    told = described(operation)
    places = {"path": set[str](), "query": set[str](), "header": set[str]()}
    for parameter in told["parameters"]:
        places[parameter["in"]].add(parameter["name"])
    body = told.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})

    in_path = set(names_in(operation.path))
    rest = set(operation.request.__struct_encode_fields__) - in_path
    assert places["path"] == in_path
    assert places["query"] == (rest if operation.method == "GET" else set())
    assert set(body.get("properties", {})) == (set() if operation.method == "GET" else rest)
    assert places["header"] == ({"Idempotency-Key"} if operation.mutating else set())


@pytest.mark.parametrize("operation", OFFERED, ids=lambda operation: operation.name)
def test_the_example_of_a_request_is_accepted(operation: Operation) -> None:
    told = described(operation)
    body = told.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    target = operation.path
    for parameter in told["parameters"]:
        if parameter["in"] == "path":
            target = target.replace(f"{{{parameter['name']}}}", parameter["example"])
    query = {each["name"]: each["example"] for each in told["parameters"] if each["in"] == "query" and each["required"]}
    target += f"?{urlencode(query)}" if query else ""

    request_of(operation, target, "" if body is None else msgspec.json.encode(body).decode())


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("strategy.get", "strat_"), ("run.get", "run_"), ("template.get", "tpl_"), ("signal.get", "rsi_oversold"),
        ("backtest.cancel", "bt_"), ("webhook.test", "wh_"), ("dialect.get", "strat_"),
    ],
)  # fmt: skip
def test_an_id_in_a_path_looks_like_those_of_its_kind(name: str, like: str) -> None:
    (told,) = (each for each in described(OPERATIONS[name])["parameters"] if each["in"] == "path")

    assert told["example"].startswith(like)
    assert told["description"].endswith(f", such as {told['example']}")


def test_the_example_of_a_deployment_is_a_dry_run() -> None:
    content = described(OPERATIONS["strategy.deploy"])["requestBody"]["content"]

    assert content["application/json"]["example"]["dry_run"] is True


@pytest.mark.parametrize("operation", OFFERED, ids=lambda operation: operation.name)
def test_the_example_of_an_answer_has_the_shape_of_one(operation: Operation) -> None:
    content = described(operation)["responses"][str(operation.http_status)]["content"]
    if operation.name == "metrics":
        assert "pipaid_up 1" in content["text/plain"]["example"]
    else:
        read_reply(operation.reply, msgspec.json.encode(content["application/json"]["example"]))


def test_the_example_of_a_strategy_of_rules_is_one() -> None:
    # No field of it is required by itself, as there are two forms of it.
    operation = OPERATIONS["dialect.create"]
    example = described(operation)["requestBody"]["content"]["application/json"]["example"]
    asked = msgspec.convert(example, CreateAsked)
    definition = definition_of(asked, {"SOLUSDT": make_instrument("SOLUSDT")})

    structure_params(
        load_templates().get(definition.template_id), definition.params, symbols=definition.symbols,
        timeframe=definition.timeframe, capital=definition.capital,
    )  # fmt: skip


@pytest.mark.parametrize("operation", SIGNED, ids=lambda operation: operation.name)
def test_what_is_signed_says_so_with_scope_weight_and_refusals(operation: Operation) -> None:
    told = described(operation)

    signed: dict[str, list[str]] = {"ApiKey": [], "Timestamp": [], "Signature": []}
    assert told["security"] == ([{"Bearer": []}, signed] if operation.dialect else [signed])
    assert f"Weight {operation.weight}." in told["description"]
    assert f"`{operation.scope}`" in told["description"]
    assert {"400", "401", "403", "404", "413", "429", "500", "503"} <= set(told["responses"])
    assert ("502" in told["responses"]) is operation.mutating


def test_money_may_be_text_or_a_whole_number_and_never_a_float() -> None:
    capital = described(OPERATIONS["strategy.create"])["requestBody"]["content"]["application/json"]["schema"]
    about = capital["properties"]["capital"]

    assert about["type"] == ["string", "integer"]
    assert re.search(about["pattern"], "2500.00")
    assert not any(re.search(about["pattern"], text) for text in ("2.5e3", "-1", "0.00", "1.", ".5", "٣"))


def test_the_page_names_every_operation_and_loads_nothing() -> None:
    page = page_of(DOCUMENT)

    assert all(f"<code>{operation.path}</code> {operation.summary}" in unescape(page) for operation in OFFERED)
    assert set(re.findall(r"(?:src|href)=.([^\"\']*)", page)) == {"/asyncapi.json", "/openapi.json"}
    assert "<script" not in page
    assert "url(" not in page
    assert "@import" not in page
