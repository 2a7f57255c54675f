"""The AsyncAPI document says what goes over the stream: every event and frame, pointers that resolve, true examples."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from actors.stream import CHANNELS as SERVED
from pipaid.api.asyncapi import ADDRESS, CHANNELS, stream_document
from pipaid.api.page import page_of
from pipaid.model.event import EVENT_NAMES, Notice
from pipaid.model.interval import Interval
from pipaid.model.market import (
    PARAMS,
    CandleEvent,
    DepthEvent,
    Levels,
    Places,
    TickerEvent,
    pushed,
    ticker_object,
)
from pipaid.model.turnover import Turnover
from pipaid.wire import frames
from pipaid.wire.frames import parse_frame
from pipaid.wire.handshake import PATHS
from tests.api.test_openapi import DOCUMENT as OPENAPI
from tests.api.test_openapi import nodes
from tests.builders import SYMBOL, make_instrument

DOCUMENT = stream_document()
MESSAGES: dict[str, dict[str, Any]] = DOCUMENT["components"]["messages"]
# What the specification asks of the objects that this document has.
REFERENCE: dict[str, Any] = {
    "type": "object",
    "required": ["$ref"],
    "additionalProperties": False,
    "properties": {"$ref": {}},
}
NAMED_REFERENCES: dict[str, Any] = {"type": "object", "additionalProperties": REFERENCE}
REFERENCES: dict[str, Any] = {"type": "array", "items": REFERENCE, "minItems": 1}
ESSENTIALS: dict[str, Any] = {
    "type": "object",
    "required": ["asyncapi", "info"],
    "additionalProperties": False,
    "properties": {
        "asyncapi": {"const": "3.0.0"},
        "defaultContentType": {"type": "string"},
        "info": {
            "required": ["title", "version"],
            "additionalProperties": False,
            "properties": {"title": {}, "version": {}, "description": {}, "license": {"required": ["name"]}},
        },
        "servers": {
            "additionalProperties": {
                "required": ["host", "protocol"],
                "additionalProperties": False,
                "properties": {"host": {}, "protocol": {}, "pathname": {}, "description": {}, "variables": {}},
            }
        },
        "channels": {
            "additionalProperties": {
                "additionalProperties": False,
                "properties": {
                    "address": {"type": "string"}, "summary": {}, "description": {}, "messages": NAMED_REFERENCES,
                },
            }
        },
        "operations": {
            "additionalProperties": {
                "required": ["action", "channel"],
                "additionalProperties": False,
                "properties": {
                    "action": {"enum": ["send", "receive"]}, "channel": REFERENCE, "summary": {},
                    "messages": REFERENCES,
                    "reply": {
                        "additionalProperties": False, "properties": {"channel": REFERENCE, "messages": REFERENCES}
                    },
                },
            }
        },
        "components": {
            "additionalProperties": False,
            "properties": {
                "schemas": {"propertyNames": {"pattern": r"^[a-zA-Z0-9._-]+$"}},
                "messages": {
                    "propertyNames": {"pattern": r"^[a-zA-Z0-9._-]+$"},
                    "additionalProperties": {
                        "required": ["payload", "examples"],
                        "additionalProperties": False,
                        "properties": {
                            "name": {}, "title": {}, "summary": {}, "payload": {"type": "object"},
                            "examples": {"minItems": 1, "items": {"required": ["payload"]}},
                        },
                    },
                },
            },
        },
    },
}  # fmt: skip


def resolve(pointer: str) -> Any:
    found: Any = DOCUMENT
    for step in pointer.removeprefix("#/").split("/"):
        found = found[step]
    return found


def fits(name: str, payload: Any) -> None:
    """Hold a payload to the schema of its message, with every pointer in it."""
    schema = {**MESSAGES[name]["payload"], "components": DOCUMENT["components"]}
    jsonschema_rs.validate(schema, payload)


def test_it_has_the_form_that_the_specification_asks_for() -> None:
    jsonschema_rs.validate(ESSENTIALS, DOCUMENT)


def test_every_pointer_leads_somewhere_and_nothing_is_there_in_vain() -> None:
    pointers = {node["$ref"] for node in nodes(DOCUMENT) if isinstance(node.get("$ref"), str)}
    for pointer in sorted(pointers):
        assert resolve(pointer) is not None

    for kind in ("messages", "schemas"):
        there = {f"#/components/{kind}/{name}" for name in DOCUMENT["components"][kind]}
        assert there <= pointers


@pytest.mark.parametrize("name", DOCUMENT["operations"])
def test_an_operation_speaks_of_messages_of_its_own_channel(name: str) -> None:
    operation = DOCUMENT["operations"][name]
    for part in (operation, operation.get("reply", {"channel": operation["channel"], "messages": []})):
        for message in part["messages"]:
            assert message["$ref"].startswith(f"{part['channel']['$ref']}/messages/")


def test_every_event_of_the_stream_is_in_it() -> None:
    described = {kind for row in CHANNELS if row.scope for kind in row.payloads.values()}

    assert described == {kind for kind in EVENT_NAMES if not issubclass(kind, Notice)}


def test_every_channel_that_is_served_is_in_it_with_its_scope() -> None:
    assert {row.name: row.scope for row in CHANNELS if row.scope} == SERVED
    assert {row.name: row.params for row in CHANNELS if not row.scope} == PARAMS
    assert ADDRESS in PATHS


@pytest.mark.parametrize("name", MESSAGES)
def test_the_example_of_a_message_fits_its_schema(name: str) -> None:
    for example in MESSAGES[name]["examples"]:
        fits(name, example["payload"])


@pytest.mark.parametrize(
    "name", [name for name in MESSAGES if name in ("auth", "ping") or name.endswith(("subscribe", "unsubscribe"))]
)
def test_the_example_of_what_a_client_says_is_understood(name: str) -> None:
    payload = MESSAGES[name]["examples"][0]["payload"]
    parsed = parse_frame(msgspec.json.encode(payload).decode())

    assert {key: getattr(parsed, key) for key in payload} == payload


def test_what_the_server_says_fits() -> None:
    frame = parse_frame('{"op":"subscribe","channel":"strategy.status","id":"strat_1","req_id":7}')
    fits("pong", msgspec.json.decode(frames.pong(7, now_ms=1)))
    fits("ack", msgspec.json.decode(frames.accepted("auth")))
    fits("error", msgspec.json.decode(frames.not_understood(frames.Unparsable("what?", 7), 7)))
    fits("strategy.status.lagged", msgspec.json.decode(frames.lagged("strat_1", 3, 9, at_ms=0)))
    assert frame.req_id == 7


def test_what_is_told_of_the_market_fits() -> None:
    instrument = make_instrument()
    places, price = Places.of(instrument), Decimal(100)
    whole = Turnover(0, price, price, price, price, price, price)
    row, book = places.row(whole, Interval.H1), places.depth(7, Levels(((price, price),), ((price, price),)))
    candle = CandleEvent(ts=1, symbol=SYMBOL, interval=Interval.H1, candle=pushed(row, is_closed=True))
    depth = DepthEvent(ts=1, symbol=SYMBOL, last_update_id=7, bids=book.bids, asks=book.asks)
    day = ticker_object(instrument, whole, price, (price, price), at_ms=1)
    ticker = TickerEvent(ts=1, **msgspec.structs.asdict(day))

    for event in (candle, depth, ticker):
        told = msgspec.json.decode(msgspec.json.encode(event))
        name = next(row.name for row in CHANNELS if told["event"] in row.payloads)
        fits(f"{name}.{told['event']}", told)
    fits("ack", msgspec.json.decode(frames.accepted("market.depth", params={"symbol": SYMBOL, "depth": 5})))


def test_a_payload_that_is_another_one_does_not_fit() -> None:
    filled: dict[str, Any] = MESSAGES["strategy.status.order_filled"]["examples"][0]["payload"]
    wrongs: list[dict[str, Any]] = [{**filled, "data": {}}]
    for wrong in (*wrongs, {**filled, "event": "paused"}, {**filled, "seq": "1"}, {**filled, "x": 1}):
        with pytest.raises(jsonschema_rs.ValidationError):
            fits("strategy.status.order_filled", wrong)


def test_the_page_leads_to_it() -> None:
    assert '<a href="/asyncapi.json">' in page_of(OPENAPI)
