"""What a request is charged: its own weight where it has one, the least if nobody can read it, nothing if refused."""

from __future__ import annotations

import pytest
from attrs import define, field

from pipaid.errors import InsufficientPermission, InvalidParameter, InvalidSignature, RateLimited
from pipaid.model.operation import OPERATIONS
from pipaid.wire.budget import Budgets
from pipaid.wire.envelope import Forwarded
from pipaid.wire.gate import Admitted, Gate, Refused
from pipaid.wire.signing import Caller, Scope, SignedRequest
from tests.venues.following import TrioClock

ADDRESS = "192.0.2.1"
KEY = "pk_1"
KLINES = "/v1/market/klines?symbol=BTCUSDT&interval=1m"
DEPTH = "/v1/market/depth?symbol=BTCUSDT"
TICKER = "/v1/market/ticker"
INFO = "/v1/market/exchange-info"
TRADES = "/v1/market/trades?symbol=BTCUSDT"


@define
class Keys:
    """One key with a scope, for whoever writes it as signature."""

    scopes: frozenset[Scope] = frozenset()

    def authenticate(self, request: SignedRequest, *, mutating: bool = False) -> Caller:
        if request.signature != "good":
            raise InvalidSignature("no")
        return Caller(api_key=request.api_key, account="acct_1", scopes=self.scopes)


@define
class Entrance:
    """A gate with small budgets."""

    gate: Gate = field(
        factory=lambda: Gate(Keys(), TrioClock(), keys=Budgets(1_200, 20.0), addresses=Budgets(300, 5.0))
    )

    def asked(self, op: str, target: str, signature: str = "") -> Admitted | Refused:
        return self.gate.judge(
            OPERATIONS[op],
            Forwarded(
                method="GET",
                target=target,
                address=ADDRESS,
                request_id="req_000000000000",
                api_key=KEY if signature else "",
                timestamp="1" if signature else "",
                signature=signature,
            ),
        )


def op_of(target: str) -> str:
    path = target.partition("?")[0]
    return next(name for name, each in OPERATIONS.items() if each.path == path)


@pytest.mark.parametrize(
    ("target", "weight"),
    [
        (INFO, 10),
        (f"{INFO}?symbol=BTCUSDT", 10),
        (KLINES, 2),
        (f"{KLINES}&limit=1", 1),
        (f"{KLINES}&limit=100", 1),
        (f"{KLINES}&limit=101", 2),
        (f"{KLINES}&limit=500", 2),
        (f"{KLINES}&limit=501", 5),
        (f"{KLINES}&limit=1000", 5),
        (f"{KLINES}&limit=1001", 10),
        (f"{KLINES}&limit=1500", 10),
        (DEPTH, 2),
        (f"{DEPTH}&limit=5", 2),
        (f"{DEPTH}&limit=500", 5),
        (f"{DEPTH}&limit=1000", 10),
        (f"{TICKER}?symbol=BTCUSDT", 2),
        (TICKER, 40),
        (f"{TICKER}?symbols=%5B%22BTCUSDT%22,%22ETHUSDT%22%5D", 4),
        (f"{TICKER}?symbols=[{','.join(f'%22S{number}%22' for number in range(10, 31))}]", 40),
        (TRADES, 5),
        (f"{TRADES}&limit=1000", 5),
    ],
)
async def test_each_request_weighs_what_the_contract_says(target: str, weight: int) -> None:
    entrance = Entrance()
    verdict = entrance.asked(op_of(target), target)

    assert isinstance(verdict, Admitted)
    assert (verdict.standing.limit, verdict.standing.remaining) == (300, 300 - weight)
    assert (verdict.account, verdict.api_key) == ("", "")


@pytest.mark.parametrize(
    ("target", "field_name", "weight"),
    [
        (f"{KLINES}&limit=1501", "limit", 1),
        (f"{KLINES}&limit=0", "limit", 1),
        (f"{KLINES}&limit=many", "limit", 1),
        (f"{KLINES}&colour=red", "colour", 1),
        (f"{KLINES}&endTime=-1", "endTime", 1),
        ("/v1/market/klines?symbol=BTCUSDT&interval=1H", "interval", 1),
        ("/v1/market/klines?symbol=btcusdt&interval=1h", "symbol", 1),
        ("/v1/market/klines?interval=1h", "symbol", 1),
        ("/v1/market/klines?symbol=BTCUSDT", "interval", 1),
        (f"{DEPTH}&limit=7", "limit", 2),
        (f"{DEPTH}&limit=5.0", "limit", 2),
        (f"{TICKER}?symbols=BTCUSDT", "symbols", 2),
        (f"{TICKER}?symbols=%5B%5D", "symbols", 2),
        (f"{TICKER}?symbols=[%22BTCUSDT%22,%22BTCUSDT%22]", "symbols", 2),
        (f"{TICKER}?symbols={'[' * 5000}", "symbols", 2),
        (f"{TRADES}&limit=1001", "limit", 5),
        (f"{INFO}?symbol=btcusdt", "symbol", 10),
    ],
)
async def test_what_cannot_be_read_is_refused_by_name_and_costs_the_least(
    target: str, field_name: str, weight: int
) -> None:
    verdict = Entrance().asked(op_of(target), target)

    assert isinstance(verdict, Refused)
    assert isinstance(verdict.error, InvalidParameter)
    assert [name for name, _ in verdict.error.details] == [field_name]
    assert verdict.standing is not None
    assert verdict.standing.remaining == 300 - weight


async def test_a_signature_is_not_needed_but_judged_and_the_key_pays() -> None:
    entrance = Entrance()
    signed = entrance.asked("market.klines", KLINES, "good")
    forged = entrance.asked("market.klines", KLINES, "bad")

    assert isinstance(signed, Admitted)
    assert (signed.api_key, signed.standing.limit, signed.standing.remaining) == (KEY, 1_200, 1_198)
    assert isinstance(forged, Refused)
    assert isinstance(forged.error, InvalidSignature)
    assert forged.standing is not None
    assert (forged.standing.limit, forged.standing.remaining) == (300, 299)


async def test_a_charge_that_is_refused_costs_nothing_and_a_lighter_request_still_passes() -> None:
    entrance = Entrance()
    for _ in range(7):
        assert isinstance(entrance.asked("market.ticker", TICKER), Admitted)

    heavy, light = entrance.asked("market.ticker", TICKER), entrance.asked("market.klines", f"{KLINES}&limit=1500")

    assert isinstance(heavy, Refused)
    assert isinstance(heavy.error, RateLimited)
    assert heavy.error.retry_after_ms == 4_000
    assert isinstance(light, Admitted)
    assert light.standing.remaining == 300 - 7 * 40 - 10


async def test_who_has_nothing_left_is_told_so_before_what_is_wrong_with_the_request() -> None:
    entrance = Entrance()
    entrance.gate.addresses.charge(ADDRESS, 300, now_s=entrance.gate.clock.monotonic_s())

    verdict = entrance.asked("market.klines", f"{KLINES}&limit=0")

    assert isinstance(verdict, Refused)
    assert isinstance(verdict.error, RateLimited)


async def test_a_scope_is_asked_for_before_the_arguments_are_looked_at() -> None:
    verdict = Entrance().asked("strategy.list", "/v1/strategies?limit=0", "good")

    assert isinstance(verdict, Refused)
    assert isinstance(verdict.error, InsufficientPermission)
