"""The AsyncAPI document of the event stream: made out of its channels, their events and the frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import msgspec
from attrs import define

from pipaid import __version__
from pipaid.api.examples import example_of
from pipaid.api.openapi import DECIMAL, JSON, REF
from pipaid.model.event import (
    BACKTEST_CHANNEL,
    EVENT_NAMES,
    OPT_IN_EVENTS,
    STATUS_CHANNEL,
    BacktestMoved,
    EventData,
    EventDraft,
    EventFrame,
    Notice,
    event_frame,
)
from pipaid.model.market import PARAMS, CandleEvent, DepthEvent, TickerEvent
from pipaid.model.request import Request
from pipaid.wire.frames import AUTH_CHANNEL, ClientFrame, ServerFrame
from pipaid.wire.signing import Scope

Schema = dict[str, Any]

ADDRESS: Final = "/v1/ws"
SESSION: Final = "session"
ABOUT: Final = (
    "What happens, as it happens. Numbers count up by one for each strategy and each backtest, so that a hole shows; "
    "`since_seq` goes on after one. Amounts are decimal strings, moments ISO 8601 in UTC, and those of the "
    "market Unix milliseconds."
)
# What is said on every connection: the meaning of a frame, the members that it has, and those that it may have.
AUTH: Final = ("api_key", "timestamp", "signature")
SAID: Final[Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]]] = {
    "auth": ("Sign in: an HMAC-SHA256 over timestamp, GET and the path", AUTH, ("req_id",)),
    "ping": ("Ask whether the server is there", (), ("req_id",)),
}
ANSWERED: Final[Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]]] = {
    "pong": ("The server is there", ("ts",), ("req_id",)),
    "error": ("The frame could not be understood", ("code", "message"), ("req_id",)),
}
ACK: Final = ("channel", "ok"), ("id", "params", "code", "message", "oldest_seq", "position", "req_id")
_EXAMPLES: Final[Mapping[str, Any]] = {
    "api_key": "pk_4f1c0a9be27d53816f0e", "timestamp": 1767225600000, "signature": "5e" * 32, "since_seq": 4181,
    "ext": True, "position": {"strat_5e07c1d9": 4181}, "ts": 1767225600000, "req_id": "a",
    "code": "INVALID_PARAMETER", "message": "op is auth, subscribe, unsubscribe or ping",
}  # fmt: skip
AT_MS: Final = 1_767_225_600_412
RUN: Final = "run_7d1e5b0c2a44"


@define(frozen=True, kw_only=True)
class Channel:
    """One row of what the stream offers: what is subscribed with, and what comes.

    Events of the journal come in an envelope with their numbers, anything else as it is.
    """

    name: str
    summary: str
    payloads: Mapping[str, type[msgspec.Struct]]
    required: tuple[str, ...] = ("id",)
    optional: tuple[str, ...] = ("since_seq", "ext", "position", "req_id")
    scope: Scope | None = None
    example_id: str = "strat_5e07c1d9"
    # What it is subscribed with in place of an id.
    params: type[Request] | None = None


CHANNELS: Final = (
    Channel(
        name=STATUS_CHANNEL,
        summary="What strategies do: one, several, or all of the account under `*`",
        payloads={name: kind for kind, name in EVENT_NAMES.items() if not issubclass(kind, (BacktestMoved, Notice))},
        scope=Scope.STRATEGIES_READ,
    ),
    Channel(
        name=BACKTEST_CHANNEL,
        summary="How far backtests have come, one or several",
        payloads={name: kind for kind, name in EVENT_NAMES.items() if issubclass(kind, BacktestMoved)},
        scope=Scope.BACKTEST_READ,
        example_id="bt_d538a381",
    ),
    *(
        Channel(
            name=name,
            summary=summary,
            payloads={event: kind},
            required=("params",),
            optional=("req_id",),
            params=PARAMS[name],
        )
        for name, event, summary, kind in (
            ("market.klines", "kline", "A candle as it forms, and once when it has closed", CandleEvent),
            ("market.depth", "depth", "The whole book, ten times a second", DepthEvent),
            (
                "market.ticker",
                "ticker",
                "The last 24 hours of one symbol, or of all under `*`, every second",
                TickerEvent,
            ),
        )
    ),
)


def stream_document(channels: tuple[Channel, ...] = CHANNELS) -> Schema:
    """Return the document of the stream."""
    messages = _session_messages() | {name: each for row in channels for name, each in _messages_of(row).items()}
    types = dict.fromkeys(kind for row in channels for kind in (*row.payloads.values(), row.params) if kind is not None)
    _, schemas = msgspec.json.schema_components(list(types), ref_template=REF)
    for schema in schemas.values():
        _mend(schema)
    _add_examples(messages, channels, schemas)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "pipaid event stream",
            "version": __version__,
            "description": ABOUT,
            "license": {"name": "Apache 2.0"},
        },
        "defaultContentType": JSON,
        "servers": {"stream": _server()},
        "channels": {SESSION: _session()} | {row.name: _channel(row) for row in channels},
        "operations": _session_operations() | {key: each for row in channels for key, each in _operations(row)},
        "components": {"messages": messages, "schemas": schemas},
    }


def _server() -> Schema:
    return {
        "host": "{host}:{port}",
        "pathname": ADDRESS,
        "protocol": "ws",
        "description": "Sign in with the first frame, or with the same three values in the query. Over TLS it is wss.",
        "variables": {"host": {"default": "127.0.0.1"}, "port": {"default": "5002"}},
    }


def _session() -> Schema:
    return {
        "address": ADDRESS,
        "summary": "What is said on every connection, whatever is subscribed",
        "messages": {name: _ref("messages", name) for name in (*SAID, *ANSWERED, "ack")},
    }


def _channel(row: Channel) -> Schema:
    scope = f" The key needs the scope `{row.scope}`." if row.scope else " Nobody has to sign in."
    own = [f"{row.name}.{name}" for name in ("subscribe", "unsubscribe", *row.payloads)]
    return {
        "address": ADDRESS,
        "summary": row.summary,
        "description": f"{row.summary}.{scope}",
        "messages": {name: _ref("messages", name) for name in (*own, "ack")},
    }


def _session_operations() -> Schema:
    def answered(said: str, answer: str) -> Schema:
        reply = {"channel": _ref(name=SESSION), "messages": [_ref(SESSION, "messages", answer, top="channels")]}
        return {
            "action": "receive",
            "channel": _ref(name=SESSION),
            "summary": SAID[said][0],
            "messages": [_ref(SESSION, "messages", said, top="channels")],
            "reply": reply,
        }

    errors = {
        "action": "send",
        "channel": _ref(name=SESSION),
        "summary": ANSWERED["error"][0],
        "messages": [_ref(SESSION, "messages", "error", top="channels")],
    }
    return {"auth": answered("auth", "ack"), "ping": answered("ping", "pong"), "error": errors}


def _operations(row: Channel) -> Iterator[tuple[str, Schema]]:
    def own(name: str) -> Schema:
        return _ref(row.name, "messages", name, top="channels")

    channel = _ref(name=row.name)
    for op in ("subscribe", "unsubscribe"):
        yield (
            f"{row.name}.{op}",
            {
                "action": "receive",
                "channel": channel,
                "summary": f"{op.capitalize()}; each id is acknowledged by itself",
                "messages": [own(f"{row.name}.{op}")],
                "reply": {"channel": channel, "messages": [own("ack")]},
            },
        )
    yield (
        f"{row.name}.events",
        {
            "action": "send",
            "channel": channel,
            "summary": row.summary,
            "messages": [own(f"{row.name}.{name}") for name in row.payloads],
        },
    )


def _session_messages() -> dict[str, Schema]:
    made = {op: _frame(ClientFrame, op, told[0], told[1:]) for op, told in SAID.items()}
    made |= {op: _frame(ServerFrame, op, told[0], told[1:]) for op, told in ANSWERED.items()}
    made["ack"] = _frame(ServerFrame, "ack", "A frame is followed, or refused with a code", ACK)
    made["ack"]["examples"] = [
        {"payload": {"op": "ack", "channel": AUTH_CHANNEL, "ok": True}},
        {"payload": {"op": "ack", "channel": STATUS_CHANNEL, "id": "strat_5e07c1d9", "ok": True, "req_id": "a"}},
        {"payload": {"op": "ack", "channel": STATUS_CHANNEL, "id": "strat_00000000", "ok": False, "code": "NOT_FOUND",
                     "message": "there is no strategy strat_00000000"}},
    ]  # fmt: skip
    return made


def _messages_of(row: Channel) -> dict[str, Schema]:
    made: dict[str, Schema] = {}
    optional = tuple(name for name in row.optional if name == "req_id")
    for op, rest in (("subscribe", row.optional), ("unsubscribe", optional)):
        fixed = {"channel": row.name} | ({} if row.params else {"id": row.example_id})
        frame = _frame(ClientFrame, op, f"{op.capitalize()}", (row.required, rest), fixed=fixed)
        if row.params is not None:
            frame["payload"]["properties"]["params"] = {"$ref": REF.format(name=row.params.__name__)}
        made[f"{row.name}.{op}"] = frame
    for name, kind in row.payloads.items():
        own = {"$ref": REF.format(name=kind.__name__)}
        about = " ".join((kind.__doc__ or "").split())
        payload = _envelope(row.name, name, own) if issubclass(kind, EventData) else own
        made[f"{row.name}.{name}"] = {
            "name": name,
            "title": f"{row.name}: {name}",
            "summary": about,
            "payload": payload,
        }
    return made


def _frame(
    kind: type[msgspec.Struct],
    op: str,
    summary: str,
    members: tuple[tuple[str, ...], ...],
    *,
    fixed: Mapping[str, str] | None = None,
) -> Schema:
    """Return the message of a frame: of all its members those that count for its `op`."""
    required, optional = members
    _, found = msgspec.json.schema_components([kind], ref_template=REF)
    fields: dict[str, Schema] = found[kind.__name__]["properties"]
    known = {} if fixed is None else {"channel": {"const": fixed["channel"]}}
    shown = {
        name: {key: value for key, value in fields[name].items() if key != "default"} for name in (*required, *optional)
    }
    example = (
        {"op": op} | dict(fixed or {}) | {name: _EXAMPLES[name] for name in (*required, *optional) if name in _EXAMPLES}
    )
    if isinstance(example.get("position"), dict) and kind is ClientFrame:
        example["position"] = True
    payload = {
        "type": "object",
        "required": ["op", *known, *required],
        "properties": {"op": {"const": op}, **known, **shown},
    }
    return {"name": op, "title": op, "summary": summary, "payload": payload, "examples": [{"payload": example}]}


def _envelope(channel: str, name: str, data: Schema) -> Schema:
    """Return the schema of an event's frame: one with a number of its own has `seq`, any other one `after_seq`."""
    _, found = msgspec.json.schema_components([EventFrame], ref_template=REF)
    fields: dict[str, Schema] = found[EventFrame.__name__]["properties"]
    absent = "seq" if name in OPT_IN_EVENTS else "after_seq"
    properties = {key: schema for key, schema in fields.items() if key != absent}
    properties |= {"channel": {"const": channel}, "event": {"const": name}, "data": data}
    return {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": False}


def _add_examples(messages: dict[str, Schema], channels: tuple[Channel, ...], schemas: Mapping[str, Schema]) -> None:
    """Show each event as the daemon would send it, and with what the market is subscribed."""
    for row in channels:
        if row.params is not None:
            params = example_of(schemas[row.params.__name__], schemas)
            for op in ("subscribe", "unsubscribe"):
                messages[f"{row.name}.{op}"]["examples"][0]["payload"]["params"] = params
        for name, kind in row.payloads.items():
            shown = example_of(schemas[kind.__name__], schemas)
            if issubclass(kind, EventData):
                data = msgspec.convert(shown, kind)
                draft = EventDraft(strategy_id=row.example_id, data=data, at_ms=AT_MS, run_id=RUN, dry_run=True)
                shown = msgspec.json.decode(event_frame(draft, seq=4182, ordinal=0))
            messages[f"{row.name}.{name}"]["examples"] = [{"payload": shown}]


def _mend(node: Any) -> None:
    """Say in a schema, in place, what our types mean: amounts that we send are strings and nothing else."""
    if isinstance(node, list):
        for each in node:  # pyright: ignore[reportUnknownVariableType] - it is JSON, and anything may stand in it
            _mend(each)
    if not isinstance(node, dict):
        return
    schema = cast(Schema, node)
    if schema.get("format") == "decimal":
        del schema["format"]
        schema["pattern"] = DECIMAL
    for each in schema.values():
        _mend(each)


def _ref(*path: str, name: str = "", top: str = "") -> Schema:
    """Return a pointer: to a channel by its name, below one, or to a component."""
    if name:
        return {"$ref": f"#/channels/{name}"}
    return {"$ref": "/".join(("#", top or "components", *path))}
