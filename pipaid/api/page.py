"""The reference page: the OpenAPI document as one page of HTML that needs nothing else, neither script nor network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

import msgspec

from pipaid.api.examples import REF_PREFIX

_STYLE: Final = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h2{margin-top:2.5rem;border-bottom:1px solid #8884}
summary{cursor:pointer;padding:.3rem 0}
code,pre{font:14px/1.45 ui-monospace,monospace}
pre{background:#8881;padding:.75rem;overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:15px}
th,td{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #8883}
.method{display:inline-block;min-width:4.5rem;font-weight:600}
section{padding:0 0 1rem 1rem}
"""
_SIGNING: Final = """ts=$(date +%s%3N)
sig=$(printf '%s' "$ts$METHOD$TARGET$BODY" | openssl dgst -sha256 -hmac "$SECRET" | sed 's/.* //')
curl -X "$METHOD" "$URL$TARGET" --data-binary "$BODY" \\
  -H "X-PipAI-API-Key: $API_KEY" -H "X-PipAI-Timestamp: $ts" -H "X-PipAI-Signature: $sig\""""


def page_of(document: Mapping[str, Any]) -> str:
    """Return the page of an OpenAPI document."""
    info = document["info"]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(info['title'])} API {escape(info['version'])}</h1><p>{escape(info['description'])} "
        'Programs read <a href="/openapi.json">/openapi.json</a>, and of the event stream '
        '<a href="/asyncapi.json">/asyncapi.json</a>.</p>'
        "<h2>Signing</h2><p>The signature is an HMAC-SHA256 with the secret over timestamp, method, path with query "
        f"and body, one after the other.</p><pre>{escape(_SIGNING)}</pre>"
        f"{''.join(_groups(document))}</body></html>"
    )


def _groups(document: Mapping[str, Any]) -> Iterator[str]:
    offered = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    for tag in document["tags"]:
        yield f"<h2>{escape(tag['name'])}</h2>"
        for method, path, operation in offered:
            if operation["tags"] == [tag["name"]]:
                yield "".join(_operation(method, path, operation, document["components"]["schemas"]))


def _operation(method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    yield f'<details><summary><span class="method">{method}</span> <code>{escape(path)}</code> '
    yield f"{escape(operation['summary'])}</summary><section><p>{_coded(operation['description'])}</p>"
    rows = [(each["name"], each["in"], each["required"], each) for each in operation["parameters"]]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    required = body.get("schema", {}).get("required", [])
    rows += [
        (name, "body", name in required, about) for name, about in body.get("schema", {}).get("properties", {}).items()
    ]
    if rows:
        yield "<table><tr><th>field</th><th>in</th><th></th><th>what</th></tr>"
        for name, place, is_required, about in rows:
            yield f"<tr><td><code>{escape(name)}</code></td><td>{place}</td>"
            yield f"<td>{'required' if is_required else ''}</td><td>{escape(_meaning(about, schemas))}</td></tr>"
        yield "</table>"
    if "example" in body:
        yield f"<p>Body</p><pre>{_json(body['example'])}</pre>"
    for status, answer in operation["responses"].items():
        for content in answer.get("content", {}).values():
            if "example" in content:
                shown = content["example"]
                text = escape(shown) if isinstance(shown, str) else _json(shown)
                yield f"<p>{status}</p><pre>{text}</pre>"
    refused = [f"{code}: {answer['description']}" for code, answer in operation["responses"].items() if code >= "400"]
    yield "".join(f"<div>{escape(line)}</div>" for line in refused)
    yield "</section></details>"


def _meaning(about: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """Say what is allowed in a field: in its own words, else by its values or its type."""
    if "description" in about:
        return str(about["description"])
    schema = about.get("schema", about)
    if "anyOf" in schema:
        return _meaning(schema["anyOf"][0], schemas)
    if "$ref" in schema:
        return _meaning(schemas[schema["$ref"].removeprefix(REF_PREFIX)], schemas)
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    return str(schema.get("description") or schema.get("type", ""))


def _coded(text: str) -> str:
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))


def _json(value: object) -> str:
    return escape(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
