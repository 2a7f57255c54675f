"""Control lines of every kind of wrongness, out of the operation table, and what one hostile client does with them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from random import Random
from typing import Final

import msgspec
from attrs import define, field, frozen

from pipaid.errors import PipaidError
from pipaid.model.fault import Fault
from pipaid.model.operation import OPERATIONS, decode_request, operation_named
from pipaid.wire.envelope import LINE_BYTES_MAX, Ask, BadLine, read_ask
from tests.fuzz.literals import damaged, json_text, nested, object_text, quoted
from tests.fuzz.target import CORPUS

# These would end what is being fuzzed, all trading in it, or the soundness of its venue: good ones are not sent.
SPARED: Final = frozenset({"shutdown", "drain", "sim.fault"})
# These hold up all trading, or cost the daemon a hundred times as much as any other; they come now and then.
_SELDOM: Final = frozenset({"kill.activate", "risk.set", "reload", "strategy.why", "strategy.deploy"})
_OFTEN: Final = tuple(name for name in OPERATIONS if name not in _SELDOM)
NAMES: Final = (
    b"", b"strategy", b"strategy.create ", b"STRATEGY.LIST", b"__class__", b"ping\\u0000", b"\\ud800", b"x" * 64,
    b"x" * 70, b"events.",
)  # fmt: skip
JUNK: Final = (
    b"", b" ", b"\r", b"\t", b"\xff\xfe", b"\xef\xbb\xbf{}", b"null", b"[]", b"{}", b'"', b"NaN", b"1", b'{"id":1',
    b'{"id":1,"op":"\xc0"}',
    b"GET / HTTP/1.1\r", b"\x16\x03\x01\x02\x00\x01\x00", b'{"id":1,"op":"ping"}{"id":2,"op":"ping"}', b"\x00" * 64,
    b"[" * 60_000,
    b'{"id":' + b"1" * 5_000 + b',"op":"ping"}', b'{"id":1,"op":"ping","args":"' + b"\\u0000" * 9_000 + b'"}',
)  # fmt: skip
IDS: Final = (
    b"1", b"0", b"-1", b"9223372036854775807", b"9223372036854775808", b"1.5", b"null", b"[]", b"{}", b"true", b'""',
    b'"a"', b'"\\ud800"',
    b'"' + b"i" * 64 + b'"', b'"' + b"i" * 65 + b'"', b'"\\u0000"',
)  # fmt: skip

_SHAPES: Final = (
    ("tpl_grid", {"grid_levels": 6, "upper_price": "190000", "lower_price": "50000"}),
    ("tpl_dca", {"interval": "5m", "buy_amount": "20"}),
    ("tpl_momentum", {"fast": 5, "slow": 12}),
    ("tpl_meanrev", {"lookback": 20}),
    ("tpl_breakout", {"lookback": 20, "risk": {"max_open_positions": 2}}),
)
_AMOUNTS: Final = (b'"1000"', b'"2500.00"', b"500", b"null", b'"0.5"')
# What a field may hold so that the request is a good one, as raw JSON; caps are taken from the amounts.
GOOD: Final[dict[str, Sequence[bytes]]] = {
    "name": [quoted(f"hostile {number}") for number in range(30)],
    "symbols": (b'["BTCUSDT"]', b'["ETHUSDT"]', b'["BTCUSDT","ETHUSDT"]'),
    "timeframe": (b'"1m"', b'"5m"', b'"1h"'),
    "capital": (b'"5000.00"', b"800", b'"5000"'),
    "leverage": (b"1", b"2", b"3"),
    "limit": (b"1", b"20", b"100"),
    "cursor": (b"null",),
    "state": (b"null",),
    "status": (b"null",),
    "close_positions": (b"true", b"false"),
    "dry_run": (b"true", b"true", b"false"),
    "symbol": (b'"BTCUSDT"', b"null"),
    "at": (b"null", b"1748736000000", b'"2025-06-01T00:05:00Z"'),
    "mode": (b'"all"', b'"live"', b'"paper"'),
    "reason": (b'"because"',),
    "confirm": (b"null", b'"00000000"'),
    # From the beginning means all that there is, which after a while is a lot.
    "since_seq": (*(b"null", b"100000") * 9, b"0", b"5"),
    "ext": (b"true", b"false"),
    "tail": (b"null", b"1", b'"a"'),
    "scopes": (b'["read-only"]', b'["trade"]', b'["strategies:read","admin"]'),
    "account_id": (b"null", b'"acct_main"', b'"acct_other"'),
    "enabled": (b"true", b"false"),
    "capital_share": (b'"1"', b'"0.5"'),
    "expires_at": (b"null", b'"2040-01-01T00:00:00Z"'),
    "grace_s": (b"null", b"0", b"60"),
    "kind": [quoted(fault.value) for fault in Fault],
    "times": (b"1", b"3"),
    "desk": (b"null", b'"paper"'),
    "level": (b'"info"', b'"warning"'),
    "rate_limit_window_hours": (b'"4"',),
    "max_drawdown_pct": (b'"30"', b'"100"'),
    "portfolio_drawdown_max": (b'"0.9"', b"null"),
    "price_collar_pct": (b'"0.9"', b"null"),
    "max_open_positions": (b"1000",),
    "rate_limit_max_trades": (b"1000000",),
    "leverage_max": (b"20", b"null"),
    "drawdown_check_enabled": (b"false",),
    "position_limit_enabled": (b"true", b"false"),
    "rate_limit_enabled": (b"true", b"false"),
    "hedging_allowed": (b"true",),
    "reduce_only": (b"false",),
    "open_orders_max": (b"100000", b"null"),
    "orders_per_second_max": (b"100000", b"null"),
    "orders_per_minute_max": (b"100000", b"null"),
    "identical_orders_per_minute_max": (b"100000", b"null"),
    # A time to come: well said, and nothing is played.
    "start": (b'"2090-01-01T00:00:00Z"',),
    "end": (b'"2090-01-02T00:00:00Z"',),
    "fee_model": (b'"fixed_bps"', b'"none"'),
    "fee_bps": (b'"5"',),
    "slippage_bps": (b'"0"',),
    "seed": (b"1",),
    "strategy_id": (b"null",),
    "interval": (b'"1m"', b'"4h"', b'"1M"'),
    "startTime": (b"null", b"1748736000000"),
    "endTime": (b"null", b"1748739600000"),
    # Nobody is called so.
    "url": (b'"https://hooks.invalid/hooks"',),
    "events": (b'["account.kill_switch"]', b'["account.*","strategy.error"]'),
    "asset": (b'"BTC"',),
    "entry": (b"[]",),
    "exit": (b"[]",),
    "reward_factor": (b"2.0",),
    "execution_config": (b"{}",),
    "primary_tf": (b'"1h"', b'"H1"'),
    "strategy_type": (b'"config"',),
    "execution_mode": (b'"rule_only"',),
    "maintenance_enabled": (b"true", b"false"),
    "llm_provider": (b'"anthropic"',),
    "llm_model": (b'"a model"',),
    "custom_prompt": (b'"Say hold."',),
    "context_tfs": (b'["4h"]',),
    "trigger_type": (b'"candle_close"',),
    "interval_minutes": (b"60",),
}
# What the same names hold in operations that mean something else by them.
ELSEWHERE: Final[dict[tuple[str, str], Sequence[bytes]]] = {
    ("dialect.status", "status"): (b'"inactive"', b'"paper"'),
    ("strategy.bind", "account_id"): (b'"acct_main"',),
    ("strategy.unbind", "account_id"): (b'"acct_main"',),
    ("dialect.bind", "account_id"): (b'"acct_main"',),
    ("dialect.unbind", "account_id"): (b'"acct_main"',),
    ("webhook.update", "status"): (b'"active"', b'"paused"'),
    ("market.klines", "symbol"): (b'"BTCUSDT"', b'"ETHUSDT"'),
}


@define
class Lines:
    """Make lines; `ids` are the objects that there are, which whoever runs this may keep up to date."""

    ids: list[str] = field(factory=lambda: [f"strat_{number:08x}" for number in range(1, 7)])
    corpus: tuple[bytes, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        found = [path.read_bytes() for path in sorted((CORPUS / "lines").glob("*"))]
        self.corpus = tuple(line for data in found for line in data.split(b"\n"))

    def line(self, chance: Random) -> bytes:
        """Return one line without its end, of at most the length that is taken."""
        draw = chance.random()
        if draw < 0.35:
            line = self.request(chance, hostile=0)
        elif draw < 0.62:
            line = self.request(chance, hostile=1)
        elif draw < 0.74:
            line = self.request(chance, hostile=4)
        elif draw < 0.88:
            line = damaged(chance, self.request(chance, hostile=chance.randrange(2)))
        elif draw < 0.92:
            line = b'{"id":1,"op":"ping","args":{"x":' + nested(chance) + b"}}"
        elif draw < 0.95:
            line = chance.choice(JUNK) if chance.random() < 0.5 else chance.randbytes(chance.randrange(60))
        elif draw < 0.97:
            line = json_text(chance, 3)
        else:
            line = damaged(chance, chance.choice(self.corpus)) if chance.random() < 0.5 else chance.choice(self.corpus)
        line = line.replace(b"\n", b" ")[:LINE_BYTES_MAX]
        return b'{"id":1,"op":"ping"}' if is_spared(line) else line

    def request(self, chance: Random, *, hostile: int) -> bytes:
        """Return a request of which so many parts, at most, are not what they should be."""
        name = chance.choice(_OFTEN if chance.random() < 0.85 else tuple(OPERATIONS))
        args = self.args(chance, name)
        whole = {b"id": quoted(chance.randrange(10_000)), b"op": quoted(name)}
        if OPERATIONS[name].mutating and chance.random() < 0.1:
            whole[b"idempotency_key"] = quoted(f"key {chance.randrange(200)}")
        for _ in range(hostile):
            kind = chance.randrange(12)
            if kind < 8 and args:
                args[chance.choice(tuple(args))] = json_text(chance)
            elif kind == 8:
                args[chance.choice((b"surprise", b"id", b"\\ud800", b"", b"limit"))] = json_text(chance)
            elif kind == 9:
                whole[b"id"] = chance.choice(IDS)
            elif kind == 10:
                whole[b"op"] = b'"%b"' % chance.choice(NAMES)
            else:
                whole[chance.choice((b"idempotency_key", b"surprise", b"op", b"id"))] = json_text(chance, 1)
        whole[b"args"] = object_text(args) if hostile < 4 or chance.random() < 0.8 else json_text(chance, 3)
        if chance.random() < 0.1:
            whole = dict(chance.sample(list(whole.items()), len(whole)))
        return object_text(whole)

    def args(self, chance: Random, name: str) -> dict[bytes, bytes]:
        """Return good arguments of an operation, without some of those that may be left out."""
        args: dict[bytes, bytes] = {}
        template, params = chance.choice(_SHAPES)
        for known, required in fields_of(name):
            if not required and chance.random() < 0.6:
                continue
            if known == "id":
                value = quoted("*" if name == "events.tail" and chance.random() < 0.3 else chance.choice(self.ids))
            elif known == "template_id":
                value = quoted(template)
            elif known == "params":
                value = quoted(params)
            else:
                value = chance.choice(ELSEWHERE.get((name, known)) or GOOD.get(known, _AMOUNTS))
            args[known.encode()] = value
        return args


@cache
def fields_of(name: str) -> tuple[tuple[str, bool], ...]:
    """Return the arguments of an operation, and which of them it needs."""
    return tuple((about.encode_name, about.required) for about in msgspec.structs.fields(OPERATIONS[name].request))


def is_spared(line: bytes) -> bool:
    """Tell whether a line is a good request for something that is not to happen."""
    if b"\\u" not in line and not any(name.encode() in line for name in SPARED):
        return False
    ask = asked(line)
    return ask is not None and ask.op in SPARED and is_good(ask)


def asked(line: bytes) -> Ask | None:
    """Return the request on a line, if it is one."""
    try:
        return read_ask(line)
    except BadLine:
        return None


def is_good(ask: Ask) -> bool:
    """Tell whether the arguments are what the operation wants."""
    try:
        decode_request(operation_named(ask.op), ask.args)
    except PipaidError:
        return False
    return True


class Manner(StrEnum):
    """How a hostile client ends."""

    LISTEN = "listen"
    OVERLONG = "overlong"
    UNTERMINATED = "unterminated"
    VANISH = "vanish"


@frozen
class Attack:
    """What one connection sends, in pieces of so many bytes, and how it ends."""

    lines: tuple[bytes, ...]
    manner: Manner
    piece_bytes: int

    @property
    def sent(self) -> bytes:
        """Return all bytes of the connection."""
        whole = b"".join([line + b"\n" for line in self.lines])
        if self.manner is Manner.OVERLONG:
            return whole + b"x" * (LINE_BYTES_MAX + 1) + b"\n"
        return whole + b'{"id":1,"op":"pi' if self.manner is Manner.UNTERMINATED else whole

    @property
    def pieces(self) -> list[bytes]:
        """Return the bytes as they are written."""
        sent = self.sent
        return [sent[at : at + self.piece_bytes] for at in range(0, len(sent), self.piece_bytes)]

    @property
    def tails(self) -> int:
        """Return how many lines may be answered by nothing, or by events."""
        return sum(b"tail" in line or b"\\u" in line for line in self.lines)


def attack(lines: Lines, chance: Random, *, most: int = 150) -> Attack:
    """Make what one hostile client does."""
    manner = chance.choice((Manner.LISTEN,) * 7 + (Manner.OVERLONG, Manner.UNTERMINATED, Manner.VANISH))
    piece_bytes = chance.choice((1 << 16, 1 << 16, 1 << 16, 4_096, 1_000, 333))
    return Attack(tuple(lines.line(chance) for _ in range(chance.randrange(1, most))), manner, piece_bytes)
