"""Why a strategy did what it did: the candle, the features, each gate's verdict, and the decision in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pipaid.cli.sheet import Column, Heading, Kind, Sheet, cell, listing, moment
from pipaid.model.moment import iso_millis
from pipaid.model.report import Why

_GATES: Final = (
    Column("GATE", lambda gate: gate.gate),
    Column("VERDICT", lambda gate: gate.verdict, Kind.STATUS),
    Column("VALUE", lambda gate: _seen(gate.gate, gate.value), Kind.NUMBER),
    Column("LIMIT", lambda gate: _seen(gate.gate, gate.limit), Kind.NUMBER),
)
_CANDLE: Final = (
    Column("OPENED", lambda candle: moment(candle.open_time)),
    Column("OPEN", lambda candle: candle.open, Kind.NUMBER),
    Column("HIGH", lambda candle: candle.high, Kind.NUMBER),
    Column("LOW", lambda candle: candle.low, Kind.NUMBER),
    Column("CLOSE", lambda candle: candle.close, Kind.NUMBER),
    Column("VOLUME", lambda candle: candle.volume, Kind.NUMBER),
)


def explained(why: Why) -> Iterator[Sheet]:
    """Yield what was seen, wished, judged and decided, in this order."""
    yield Sheet(f"{why.id}, {why.status}, on {why.symbol} at {moment(why.at)} (venue time)", (), ())
    if why.candle is None:
        yield Sheet("", (), (), "no candle had closed yet")
    else:
        yield listing("candle", [why.candle], _CANDLE)
    if why.features:
        rows = tuple((name, "warming up" if value is None else cell(value)) for name, value in why.features.items())
        yield Sheet("what it saw", (Heading("FEATURE"), Heading("VALUE", Kind.NUMBER)), rows)
    if why.rules:
        rows = tuple((name, "held" if held else "did not hold") for name, held in why.rules.items())
        yield Sheet("which rules held", (Heading("RULE"), Heading("", Kind.STATUS)), rows)
    wishes = tuple((wish_in_words(wish),) for wish in why.intents)
    yield Sheet("what it wished", (Heading("WISH", Kind.PROSE, 0),), wishes, "" if wishes else "nothing", headed=False)
    if why.gates:
        yield listing("what risk said", why.gates, _GATES)
    yield Sheet("decision", (), (), decision_in_words(why))


def decision_in_words(why: Why) -> str:
    """Return the decision as a sentence, with the gates that stood in its way."""
    refused = [gate for gate in why.gates if gate.verdict == "refused"]
    text = why.decision or "hold"
    refused = [gate for gate in refused if f"refused by {gate.gate}:" not in text]
    if refused:
        reasons = ", ".join(
            f"{gate.gate} (value {_seen(gate.gate, gate.value)}, limit {_seen(gate.gate, gate.limit)})"
            for gate in refused
        )
        text = f"{text}; refused by {reasons}"
    elif why.decision == "hold" and not why.intents:
        text = f"{text}; the template wished nothing"
    return f"{text}; `pipaid run get {why.run_id}` shows the record" if why.run_id else text


def _seen(gate: str, value: str) -> str:
    """Return what a gate saw as people read it: a cooldown ends at a moment, not at a number of milliseconds."""
    if gate != "cooldown" or not value.isdigit():
        return value
    return moment(iso_millis(int(value))) if int(value) else "none"


def wish_in_words(wish: dict[str, Any]) -> str:
    """Return a wish as one line."""
    rest = ", ".join(f"{name} {cell(value)}" for name, value in wish.items() if name != "intent")
    kind = cell(wish.get("intent", "wish")).replace("_", " ")
    return f"{kind}: {rest}" if rest else kind
