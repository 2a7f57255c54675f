"""Params of every template: refused by field, or good for a session that trades; nothing in between."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from random import Random
from typing import Any, Final, cast

import attrs
import msgspec

from pipaid.engine.definition import check_definition
from pipaid.engine.guards import RiskParams
from pipaid.engine.knobs import NESTED, ParamSpec
from pipaid.engine.params import OF_ALL, RISK, param_specs
from pipaid.engine.schedule import SCHEDULE, ScheduleParams
from pipaid.engine.template import Template
from pipaid.errors import InvalidParameter
from pipaid.model.instrument import Timeframe
from pipaid.model.order import OrderType
from pipaid.model.strategy import StrategyDefinition
from pipaid.plugins import load_templates
from pipaid.signals.catalogue.lookup import SIGNALS
from tests.builders import OTHER, SYMBOL, Bench, make_bench, make_definition, make_instrument, make_strategy
from tests.fuzz.literals import WORDS, damaged, json_text, nested, object_text, quoted
from tests.fuzz.target import Target

INSTRUMENTS: Final = {
    symbol: make_instrument(symbol, notional_min=Decimal(5)) for symbol in (SYMBOL, OTHER)
}  # fmt: skip
CRONS: Final = ("*/5 * * * *", "30 9 * * 1-5", "0 0 29 2 *", "0 12 LW * *", "0 0 31 2 *", "5 4 * * *  0", "@daily", "")
ZONES: Final = ("UTC", "Europe/Berlin", "Australia/Lord_Howe", "localtime", "../UTC", "Mars/Base")
# One in so many of the good ones trades.
TRADES_ONE_IN: Final = 40
CANDLES: Final = 40
_CAPITALS: Final = ("1000", "5000.00", "10", "0.01", "999999999999999999")


def make(chance: Random) -> bytes:
    """Write a definition: template, timeframe, symbols, capital and leverage on one line, the params on the next."""
    kind = chance.choice(tuple(templates().values()))
    symbols = SYMBOL if chance.random() < 0.8 else f"{SYMBOL},{OTHER}"
    timeframe = chance.choice(tuple(Timeframe))
    head = f"{kind.id} {timeframe} {symbols} {chance.choice(_CAPITALS)} {chance.choice((1, 1, 2, 20, 125))}\n"
    return head.encode() + _params_text(chance, kind)


def check(given: bytes) -> None:
    """Hold one definition to the promise."""
    head, _, text = given.partition(b"\n")
    try:
        words = head.decode().split(" ")
        raw = msgspec.json.decode(text)
        kind, symbols = templates()[words[0]], tuple(words[2].split(","))
        definition = make_definition(
            template_id=kind.id, params=raw, symbols=symbols, timeframe=Timeframe(words[1]),
            capital=Decimal(words[3]), leverage=int(words[4]),
        )  # fmt: skip
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, LookupError, ValueError, ArithmeticError):
        return  # No request: that is the business of the lines.
    if not isinstance(raw, dict):
        return
    sent = {str(name) for name in cast("dict[str, Any]", raw)}
    try:
        params = check_definition(definition, kind, INSTRUMENTS)
    except InvalidParameter as refused:
        _told_by_field(refused, kind, sent)
        return
    _finite(params)
    again = msgspec.json.decode(msgspec.json.encode(definition), type=StrategyDefinition)
    assert again == definition
    assert check_definition(again, kind, INSTRUMENTS) == params
    number = zlib.crc32(given)
    if number % TRADES_ONE_IN == 0:
        _trade(kind, definition, Random(number))


@cache
def templates() -> dict[str, type[Template]]:
    """Return the templates that are found."""
    return dict(load_templates().templates)


def _params_text(chance: Random, kind: type[Template]) -> bytes:
    draw = chance.random()
    members = dict(_members(chance, kind.params_type))
    if chance.random() < 0.3:
        members[RISK.encode()] = object_text(dict(_members(chance, RiskParams)))
    if chance.random() < 0.1:
        members[SCHEDULE.encode()] = object_text(dict(_members(chance, ScheduleParams)))
    for _ in range(0 if draw < 0.3 else chance.randrange(1, 4)):
        name = chance.choice((*members, chance.choice(WORDS), RISK.encode()))
        members[name] = nested(chance) if chance.random() < 0.02 else json_text(chance)
    text = object_text(members)
    return damaged(chance, text) if draw > 0.9 else text


def _members(chance: Random, params_type: type) -> Iterator[tuple[bytes, bytes]]:
    """Write values within the reach of each knob, at its ends more often than anywhere else."""
    for name, (attribute, spec) in param_specs(params_type).items():
        if attribute.default is attrs.NOTHING or chance.random() < 0.4:
            yield name.encode(), _within(chance, spec)


def _within(chance: Random, spec: ParamSpec) -> bytes:
    if spec.optional and chance.random() < 0.2:
        return b"null"
    if spec.kind in NESTED:
        return _nested_within(chance, spec)
    if spec.kind == "text":
        return quoted(chance.choice((*SIGNALS, *CRONS, *ZONES) if chance.random() < 0.5 else (*CRONS, *ZONES)))
    if spec.kind in ("free", "refused"):
        return b"{}" if spec.kind == "free" else b"null"
    if spec.kind == "flag":
        return chance.choice((b"true", b"false"))
    if spec.kind == "choice":
        return quoted(chance.choice(spec.choices))
    low = spec.low if spec.low is not None else spec.above or Decimal(0)
    high = spec.high if spec.high is not None else max(low, Decimal(0)) + chance.choice((1, 100, 10**6, 10**18))
    if spec.kind == "integer":
        near = [int(low), int(low) + 1, int(high), int(high) - 1, int(low) - 1, int(high) + 1]
        return b"%d" % (chance.choice(near) if chance.random() < 0.3 else _some(chance, int(low), int(high)))
    if spec.kind == "integers":
        return b"[%b]" % b",".join(b"%d" % _some(chance, int(low), int(high)) for _ in range(chance.randrange(5)))
    places = chance.choice((0, 1, 2, 4, 8, 18))
    number = chance.choice((low, high)) if chance.random() < 0.2 else _between(chance, low, high)
    return b'"%b"' % f"{number:.{places}f}".encode()


def _nested_within(chance: Random, spec: ParamSpec) -> bytes:
    assert spec.of is not None
    some = chance.choice((2, 2, 2, 1, 0)) if spec.kind == "list" else 1
    made = [object_text(dict(_members(chance, spec.of))) for _ in range(some)]
    if spec.kind == "list":
        return b"[%b]" % b",".join(made)
    return made[0] if spec.kind == "object" else object_text({chance.choice(spec.choices).encode(): made[0]})


def _some(chance: Random, low: int, high: int) -> int:
    """Return a whole number within, small ones as likely as large ones."""
    return min(high, low + chance.randrange(2 ** chance.randrange(1, max(2, (high - low).bit_length() + 1))))


def _between(chance: Random, low: Decimal, high: Decimal) -> Decimal:
    return low + (high - low) * Decimal(chance.randrange(10**6)).scaleb(-chance.randrange(6, 12))


def _told_by_field(refused: InvalidParameter, kind: type[Template], sent: set[str]) -> None:
    known = {*sent, *param_specs(kind.params_type), *OF_ALL, "params", "capital", "symbols", "leverage", "timeframe"}
    assert refused.details, refused.message
    for name, reason in refused.details:
        assert reason, name
        top = name.partition(".")[0].partition("[")[0]
        assert name in known or top in known or any(name == each[:60] for each in sent), name
    assert len(refused.message) < 100_000


def _finite(params: Any) -> None:
    for name, value in attrs.asdict(params, recurse=False).items():
        assert not isinstance(value, float), name
        assert not isinstance(value, Decimal) or value.is_finite(), name


def _trade(kind: type[Template], definition: StrategyDefinition, chance: Random) -> None:
    """Let a session trade a few candles, with a venue that fills most of what it gets and loses some."""
    bench = make_bench(kind, strategy=make_strategy(definition), instruments=INSTRUMENTS.values())
    for series in bench.series.values():
        for feature in bench.session.features:
            series.retain(feature)
    bench.settle(bench.session.on_start())
    price = Decimal(100)
    for _ in range(CANDLES):
        for symbol in definition.symbols:
            price = max(Decimal("0.1"), price + Decimal(chance.randrange(-40, 41)) / 10)
            bench.close(price, symbol)
            _venue(bench, price, chance)
    bench.rebuild()


def _venue(bench: Bench, price: Decimal, chance: Random) -> None:
    for order in list(bench.working):
        if order.client_order_id not in bench.session.orders:
            continue  # It went when another was filled.
        if order.cancelling or chance.random() < 0.05:
            bench.end(order)
        elif order.type is OrderType.MARKET or chance.random() < 0.2:
            lot = bench.session.positions.get(order.position_id)
            if order.reduce_only and (lot is None or lot.quantity < order.remaining):
                bench.end(order)
            else:
                bench.fill(order, price=str(price))


TARGET: Final = Target(name="params", make=make, check=check)
