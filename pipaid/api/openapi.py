"""The OpenAPI document: made out of the operation table and the types that it names, and of nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import msgspec

from pipaid import __version__
from pipaid.api.examples import example_of
from pipaid.dialect.shapes import Refusal
from pipaid.model.operation import ADMIN, OPERATIONS, PUBLIC, Operation
from pipaid.model.reply import Bare
from pipaid.model.route import names_in
from pipaid.wire.envelope import KEY_CHARS_MAX, Trouble

Schema = dict[str, Any]

REF: Final = "#/components/schemas/{name}"
JSON: Final = "application/json"
METRICS: Final = "text/plain"
ERROR: Final = "Error"
BEARER: Final = "Bearer"
DECIMAL: Final = r"^-?[0-9]{1,18}(\.[0-9]{1,18})?$"
SIGNED: Final = {"ApiKey": "X-PipAI-API-Key", "Timestamp": "X-PipAI-Timestamp", "Signature": "X-PipAI-Signature"}
# What an id stands for besides a strategy, by what the operation is about.
_IDS: Final = {
    "backtest": "bt_d538a381",
    "run": "run_7d1e5b0c2a44",
    "signal": "rsi_oversold",
    "template": "tpl_grid",
    "webhook": "wh_9f356a69",
}
MEANINGS: Final = {
    "400": "Something in the request is missing, malformed, out of range or unknown; `details` names each field",
    "401": "The signature does not fit, or the key is not good any more",
    "403": "The key lacks the scope",
    "404": "There is no such object, or it belongs to another account",
    "409": "The state of the object forbids it, or its name is taken",
    "413": "The body is too large",
    "429": "The budget is spent; `Retry-After` says when to come again",
    "500": "A failure inside; nothing happened, and the log knows the number of the request",
    "502": "The venue or the daemon did not answer: it may have happened",
    "503": "The daemon is starting, ending or down; nothing happened",
}
_BUDGET: Final = {
    "X-RateLimit-Limit": "what the budget can hold",
    "X-RateLimit-Remaining": "what is left of it",
    "X-RateLimit-Reset": "when it is whole again, in Unix seconds",
}
# Python reads `$` before a last line break as well, hence what follows it in our patterns; others do not.
_PYTHONS_END: Final = r"$(?!\n)"
_TITLES: Final = re.compile(r"\s+")


def document(operations: Iterable[Operation] = OPERATIONS.values()) -> Schema:
    """Return the document of the operations that have a path."""
    offered = [operation for operation in operations if operation.path]
    components = _components(offered)
    paths: dict[str, Schema] = {}
    for operation in offered:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, components)
    kept = _reachable(paths, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "pipaid",
            "version": __version__,
            "description": "Strategies that one daemon hosts. Amounts are decimal strings, moments ISO 8601 in UTC.",
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(tag_of(operation) for operation in offered)],
        "paths": paths,
        "components": {
            "schemas": kept,
            "securitySchemes": {
                **{name: {"type": "apiKey", "in": "header", "name": header} for name, header in SIGNED.items()},
                BEARER: {"type": "http", "scheme": "bearer", "description": "a token, or KEY:SECRET"},
            },
        },
    }


def tag_of(operation: Operation) -> str:
    """Return what an operation is about."""
    return operation.name.partition(".")[0] if "." in operation.name else "daemon"


def _components(offered: Iterable[Operation]) -> dict[str, Schema]:
    """Return the schemas of all types that the operations name."""
    types = dict.fromkeys([each for operation in offered for each in (operation.request, operation.reply)])
    _, found = msgspec.json.schema_components([*types, Trouble, Refusal], ref_template=REF)
    found[ERROR] = {**found.pop("Trouble"), "title": ERROR}
    for each in types:
        if issubclass(each, Bare):
            whole = found[each.__name__]
            found[each.__name__] = {"description": whole["description"], **whole["properties"]["content"]}
    for schema in found.values():
        _mend(schema)
    return found


def _mend(node: Any) -> None:
    """Say in a schema, in place, what our types mean and JSON Schema spells otherwise."""
    if isinstance(node, list):
        for each in node:  # pyright: ignore[reportUnknownVariableType] - it is JSON, and anything may stand in it
            _mend(each)
    if not isinstance(node, dict):
        return
    schema = cast(Schema, node)
    if schema.get("format") == "decimal":
        del schema["format"]
        schema["type"] = ["string", "integer"]
        schema.setdefault("pattern", DECIMAL)
    elif schema.get("format") == "moment":
        schema |= {"type": ["integer", "string"], "format": "date-time"}
    if isinstance(schema.get("pattern"), str):
        schema["pattern"] = schema["pattern"].replace(_PYTHONS_END, "$")
    if isinstance(schema.get("description"), str):
        schema["description"] = _TITLES.sub(" ", schema["description"])
    for each in schema.values():
        _mend(each)


def _operation(operation: Operation, components: Mapping[str, Schema]) -> Schema:
    asked = components[operation.request.__name__]
    fields: dict[str, Schema] = asked.get("properties", {})
    in_path = names_in(operation.path)
    rest = {name: schema for name, schema in fields.items() if name not in in_path}
    required = [name for name in asked.get("required", []) if name not in in_path]
    parameters = [_in_path(operation, name, fields[name], components) for name in in_path]
    made: Schema = {
        "operationId": operation.name,
        "tags": [tag_of(operation)],
        "summary": operation.summary,
        "description": _described(operation),
        "security": _security(operation),
    }
    if operation.method == "GET":
        parameters += [
            _parameter(name, "query", _not_null(schema), components, required=name in required)
            for name, schema in rest.items()
        ]
    elif rest:
        made["requestBody"] = _body(rest, required, operation.request.example, components)
    if operation.mutating:
        key = {"type": "string", "minLength": 1, "maxLength": KEY_CHARS_MAX, "pattern": "^[!-~]*$"}
        parameters.append(_parameter("Idempotency-Key", "header", key, components, required=False))
    return {**made, "parameters": parameters, "responses": _responses(operation, components)}


def _security(operation: Operation) -> list[Schema]:
    """Return what a request may bear: a signature, a token, or where nobody has to say who it is, nothing."""
    signed: Schema = {name: [] for name in SIGNED}
    if operation.scope != PUBLIC:
        return [{BEARER: []}, signed] if operation.dialect else [signed]
    return [{}, signed] if operation.weight else []


def _described(operation: Operation) -> str:
    told = f"Weight {operation.weight}."
    if operation.weight_max:
        told = f"Weight {operation.weight} to {operation.weight_max}, by what is asked for."
    if operation.scope == PUBLIC:
        return told
    if operation.daemon_wide:
        told = f"{told} Acts on the whole daemon: a key of another account than the owner's needs the scope `{ADMIN}`."
    return f"{told} The key needs the scope `{operation.scope}`."


def _parameter(
    name: str, place: str, schema: Schema, components: Mapping[str, Schema], *, required: bool = True
) -> Schema:
    own = dict(schema)
    described = {"description": own.pop("description")} if "description" in own and "$ref" not in own else {}
    # A list stands in a query as what it is in JSON.
    told: Schema = {"content": {JSON: {"schema": own}}} if own.get("type") == "array" else {"schema": own}
    made: Schema = {"name": name, "in": place, "required": required, **described, **told}
    if place == "path" or (place == "query" and required):
        made["example"] = example_of(schema, components, name=name)
    return made


def _in_path(operation: Operation, name: str, schema: Schema, components: Mapping[str, Schema]) -> Schema:
    """Return a parameter of the path; an id looks like those of what the operation is about."""
    made = _parameter(name, "path", schema, components)
    example = _IDS.get(tag_of(operation), made["example"])
    return {**made, "description": made["description"].replace(made["example"], example), "example": example}


def _not_null(schema: Schema) -> Schema:
    """Return a schema without null, for which there is no word in a query."""
    chosen = [each for each in schema.get("anyOf", []) if each != {"type": "null"}]
    if len(chosen) == 1:
        return dict(chosen[0])
    return {name: value for name, value in schema.items() if name != "default" or value is not None}


def _body(
    fields: Mapping[str, Schema], required: list[str], example: Schema, components: Mapping[str, Schema]
) -> Schema:
    schema: Schema = {"type": "object", "properties": dict(fields), "additionalProperties": False}
    if required:
        schema["required"] = required
    content = {JSON: {"schema": schema, "example": example or example_of(schema, components)}}
    return {"required": bool(required), "content": content}


def _responses(operation: Operation, components: Mapping[str, Schema]) -> Schema:
    name = operation.reply.__name__
    content: Schema = {
        JSON: {"schema": {"$ref": REF.format(name=name)}, "example": example_of(components[name], components)}
    }
    if operation.name == "metrics":
        content = {METRICS: {"schema": {"type": "string"}, "example": "# TYPE pipaid_up gauge\npipaid_up 1\n"}}
    codes = ["400", "401", "403", "404", "413", "429", "500", "503"]
    if operation.scope == PUBLIC and operation.weight:
        codes = ["400", "401", "413", "429", "500", "502", "503"]
    elif operation.scope == PUBLIC:
        codes = ["400", "413", "500"] if operation.name == "metrics" else ["400", "413", "500", "503"]
    if operation.mutating:
        codes += ["409", "502"]
    refusals = {code: _refusal(code, Refusal.__name__ if operation.dialect else ERROR) for code in sorted(codes)}
    if operation.name == "health":
        either = {"anyOf": [{"$ref": REF.format(name=name)}, {"$ref": REF.format(name=ERROR)}]}
        refusals["503"]["content"] = {JSON: {"schema": either}}
    headers = {"X-Request-Id": _text("the number under which the daemon's log knows the request")}
    budget = {header: _text(meaning, "integer") for header, meaning in _BUDGET.items()}
    done = {"description": operation.summary, "headers": {**headers, **budget}, "content": content}
    return {str(operation.http_status): done, **refusals}


def _refusal(code: str, name: str) -> Schema:
    headers = {"X-Request-Id": _text("the number under which the daemon's log knows the request")}
    if code in ("429", "503"):
        headers["Retry-After"] = _text("seconds", "integer")
    content = {JSON: {"schema": {"$ref": REF.format(name=name)}}}
    return {"description": MEANINGS[code], "headers": headers, "content": content}


def _text(description: str, kind: str = "string") -> Schema:
    return {"description": description, "schema": {"type": kind}}


def _reachable(paths: Schema, components: Mapping[str, Schema]) -> dict[str, Schema]:
    """Return the schemas that something points at, in the order of their names."""
    found: set[str] = set()
    waiting = _pointed_at(paths)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting |= _pointed_at(components[name])
    return {name: components[name] for name in sorted(found)}


def _pointed_at(node: Any) -> set[str]:
    text = msgspec.json.encode(node).decode()
    return set(re.findall(r'"\$ref":"#/components/schemas/([^"]+)"', text))
