"""An answer is one JSON object of the form that was asked for, with at most one fence around it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from templates.deciding import ARGUMENT_MAX, FORMS, REASON_MAX, Unreadable, read

DECISION = FORMS["decision"]
GOOD: dict[str, Any] = {"action": "BUY", "confidence": 0.8, "stop": 98.5, "target": None, "reason": "up"}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOOD),
        f"\n  {json.dumps(GOOD, indent=2)} \t\n",
        f"```json\n{json.dumps(GOOD)}\n```",
        f"```\n{json.dumps(GOOD)}\n```\n",
        '{"action":"BUY","confidence":0.8,"stop":98.5,"reason":"up"}',
    ],
)
def test_what_may_stand_around_an_answer(text: str) -> None:
    said = read(text, DECISION)

    assert (said.action, said.confidence, said.stop, said.target) == ("BUY", Decimal("0.8"), Decimal("98.5"), None)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        ("```json\n\n```", "it is empty"),
        ("BUY", "not one JSON object and nothing else"),
        (f"Here you are: {json.dumps(GOOD)}", "not one JSON object and nothing else"),
        (f"{json.dumps(GOOD)} I hope that helps.", "not one JSON object and nothing else"),
        (f"{json.dumps(GOOD)}\n{json.dumps(GOOD)}", "not one JSON object and nothing else"),
        (f"```json\n{json.dumps(GOOD)}\n```\n```json\n{json.dumps(GOOD)}\n```", "not one JSON object"),
        (json.dumps([GOOD]), "a JSON list and no object"),
        ('"BUY"', "a JSON str and no object"),
        ("null", "a JSON NoneType and no object"),
        ("[" * 15_000, "not one JSON object"),
        ('{"action":"HOLD","action":"BUY","confidence":1,"reason":""}', "stands there twice"),
        (json.dumps({**GOOD, "size": 5}), "holds 'size'"),
        (json.dumps({**GOOD, "action": "buy"}), "action is not one of BUY, SELL, HOLD, CLOSE"),
        (json.dumps({**GOOD, "action": "APPROVE"}), "action is not one of"),
        (json.dumps({**GOOD, "action": ["BUY"]}), "action is not one of"),
        (json.dumps({"confidence": 1, "reason": ""}), "action is not one of"),
        (json.dumps({**GOOD, "confidence": 1.01}), "confidence is not a number from 0 to 1"),
        (json.dumps({**GOOD, "confidence": -0.1}), "confidence is not a number from 0 to 1"),
        (json.dumps({**GOOD, "confidence": None}), "confidence is not a number from 0 to 1"),
        (json.dumps({**GOOD, "confidence": True}), "confidence is no number"),
        (json.dumps({**GOOD, "confidence": "0.9"}), "confidence is no number"),
        (json.dumps({**GOOD, "stop": float("nan")}), "NaN is no number"),
        (json.dumps({**GOOD, "stop": float("inf")}), "Infinity is no number"),
        (json.dumps(GOOD).replace("98.5", "1e999999"), "stop is no number that can be meant"),
        (json.dumps(GOOD).replace("98.5", "1e99999999999999999999"), "not one JSON object"),
        (json.dumps(GOOD).replace("98.5", "9" * 9_000), "stop is no number that can be meant"),
        (json.dumps(GOOD).replace("98.5", f"0.{'9' * 40}1"), "stop is no number that can be meant"),
        (json.dumps({**GOOD, "stop": 0}), "stop is not above zero"),
        (json.dumps({**GOOD, "stop": -5}), "stop is not above zero"),
        (json.dumps({**GOOD, "stop": "98"}), "stop is no number"),
        (json.dumps({**GOOD, "reason": None}), "reason is no text"),
        (json.dumps({**GOOD, "reason": {}}), "reason is no text"),
        ('{"action":"BUY","confidence":0.8}', "reason is no text"),
    ],
)
def test_what_is_not_asked_for_is_refused(text: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        read(text, DECISION)


def test_a_text_that_is_too_long_is_cut() -> None:
    reason = read(json.dumps({**GOOD, "reason": "x" * 9_000}), DECISION).text
    argument = read(json.dumps({"action": "BUY", "confidence": 1, "argument": "x" * 9_000}), FORMS["risk"]).text

    assert (len(reason), len(argument)) == (REASON_MAX, ARGUMENT_MAX)


def test_half_a_character_becomes_a_mark() -> None:
    assert read('{"action":"HOLD","confidence":1,"reason":"\\ud83d!"}', DECISION).text == "?!"


@pytest.mark.parametrize("role", sorted(FORMS))
def test_a_form_says_in_its_schema_what_is_read(role: str) -> None:
    form = FORMS[role]
    schema = form.schema

    assert schema["additionalProperties"] is False
    assert schema["required"] == list(schema["properties"])
    given = {"action": form.actions[0], "confidence": 1, form.text: "so", **dict.fromkeys(form.numbers)}
    assert set(given) == set(schema["properties"])
    assert read(json.dumps(given), form).text == "so"
