"""Examples that fit their schemas: plausible values by the name of the field, else whatever the schema allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

REF_PREFIX: Final = "#/components/schemas/"
DEPTH_MAX: Final = 8
_MOMENT: Final = "2026-01-02T09:30:00Z"
_GRID: Final = {"grid_levels": 6, "upper_price": "190", "lower_price": "150"}
# What a reader expects under a name; used where the schema allows it.
_BY_NAME: Final[Mapping[str, Any]] = {
    "account_id": "acct_7d1e5b0c2a44",
    "action": "activate", "api_key": "pk_4f1c0a9be27d53816f0e", "capital": "2500.00", "client_order_id": "pp7d1e5b0c7",
    "code": "INVALID_STATE", "description": "Says what it is for", "entry_price": "158.40",
    "evaluated_at": _MOMENT, "exit_price": "161.20", "fee": "0.09", "id": "strat_5e07c1d9",
    "message": "cannot pause a paused strategy", "mode": "paper", "name": "sol range 15m", "params": _GRID,
    "pnl": "-3.18", "position_id": "pos_c4471bb2e905", "price": "158.40", "qty": "4.20", "reason": "rehearsal",
    "request_id": "req_91c0de77aa31", "run_id": "run_7d1e5b0c2a44", "side": "long", "state": "open",
    "status": "deployed", "strategy_id": "strat_5e07c1d9", "symbol": "SOLUSDT", "template_id": "tpl_grid",
    "timeframe": "15m", "timestamp": _MOMENT, "total_pnl": "-3.18", "total_trades": 9, "type": "limit",
    "win_rate": "0.556", "leverage": 2, "dry_run": True, "at": _MOMENT, "next_cursor": None, "error": None,
    "ended_at": None, "limit": 20, "cursor": "eyJ2IjoxfQ", "start": "2026-01-02T00:00:00Z",
    "end": "2026-01-09T00:00:00Z", "url": "https://hooks.example/pipaid",
}  # fmt: skip
# It says on its own what other fields say, so an example that has those does not show it.
_INSTEAD_OF_OTHERS: Final = "strategy_id"
_BY_TYPE: Final[Mapping[str, Any]] = {
    "string": "text", "integer": 1, "number": 1.5, "boolean": False, "object": {}, "array": [], "null": None,
}  # fmt: skip


def example_of(
    schema: Schema, components: Mapping[str, Schema] | None = None, *, name: str = "", depth: int = 0
) -> Any:
    """Return a value that the schema of a field of this name allows."""
    known = components or {}
    if "$ref" in schema:
        return example_of(known[schema["$ref"].removeprefix(REF_PREFIX)], known, name=name, depth=depth)
    if "enum" in schema:
        expected = _BY_NAME.get(name)
        return expected if expected in schema["enum"] else schema["enum"][0]
    if "anyOf" in schema:
        is_nothing = {"type": "null"} in schema["anyOf"] and (depth >= DEPTH_MAX or _BY_NAME.get(name, "") is None)
        return None if is_nothing else example_of(schema["anyOf"][0], known, name=name, depth=depth)
    kinds = schema.get("type", "object")
    if name in _BY_NAME and _fits(_BY_NAME[name], kinds):
        return _BY_NAME[name]
    return _of_kind(kinds if isinstance(kinds, str) else kinds[0], schema, known, name=name, depth=depth + 1)


def _of_kind(kind: str, schema: Schema, known: Mapping[str, Schema], *, name: str, depth: int) -> Any:
    if kind == "array" and "prefixItems" in schema:
        return [example_of(each, known, depth=depth) for each in schema["prefixItems"]]
    if kind == "array":
        return (
            [] if depth > DEPTH_MAX else [example_of(schema["items"], known, name=name.removesuffix("s"), depth=depth)]
        )
    if kind == "object" and "properties" in schema:
        fields = schema["properties"]
        # What may be left out stands there where it says something.
        told = [each for each in fields if each in schema.get("required", ()) or _says_something(each)]
        return {field: example_of(fields[field], known, name=field, depth=depth) for field in told or list(fields)[:1]}
    if name.endswith("_at") and kind == "string":
        return _MOMENT
    if "pattern" in schema:
        return "2500.00"
    return max(1, schema.get("minimum", 1)) if kind == "integer" else _BY_TYPE[kind]


def _says_something(name: str) -> bool:
    return name != _INSTEAD_OF_OTHERS and (name in _BY_NAME or name.removesuffix("s") in _BY_NAME)


def _fits(value: object, kinds: str | list[str]) -> bool:
    allowed = [kinds] if isinstance(kinds, str) else kinds
    # A flag is a whole number to Python, so it comes first.
    names = ((bool, "boolean"), (int, "integer"), (str, "string"), (dict, "object"))
    return next((name for kind, name in names if isinstance(value, kind)), "null") in allowed
