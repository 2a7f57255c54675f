"""The venue's REST: it is paced, waited for, asked again within bounds, and believed only when it makes sense."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from attrs import evolve

from pipaid.errors import ExchangeError, RateLimited, UnknownSymbol
from pipaid.model.columns import Candles
from pipaid.model.instrument import Timeframe
from pipaid.venues.binance_rest import BACKOFF_S_MAX, BACKOFF_S_MIN, PRODUCTS, TRIES_MAX, WAIT_S_MAX, WEIGHT_SHARE
from tests.venues.asking import SYMBOL, JumpingClock, Told, asking
from tests.venues.candle_server import MINUTE_MS, NOW_MS, START_MS, CandleServer, Fault, Reply, candle_server, minutes

MINUTE_S = 60.0


@pytest.fixture(scope="module")
def shared() -> Generator[CandleServer]:
    with candle_server() as server:
        yield server


@pytest.fixture
def server(shared: CandleServer) -> CandleServer:
    shared.rows = {SYMBOL: minutes(range(20))}
    shared.cues.clear()
    shared.asked.clear()
    shared.used_weight = None
    shared.now_ms = NOW_MS
    return shared


def answering(status: int, body: bytes = b"{}", **headers: str) -> Fault:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda reply: Reply(status, body, named)


def cut(reply: Reply) -> Reply:
    return evolve(reply, cut=True)


async def page(server: CandleServer, clock: JumpingClock, told: Told | None = None, symbol: str = SYMBOL) -> Candles:
    """Ask for the first ten candles."""
    async with asking(server, clock, told=told) as rest:
        end_ms = START_MS + 10 * MINUTE_MS
        found = await rest.candles(symbol, Timeframe.M1, start_ms=START_MS, end_ms=end_ms, count=10)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("cue", "waits_s"),
    [
        (answering(500), 0.0),
        (answering(502, b"<html>Bad Gateway</html>"), 0.0),
        (answering(503, b'{"code":-1008,"msg":"Server is currently overloaded"}'), 0.0),
        (answering(503, Retry_After="7"), 7.0),
        (answering(408, b'{"code":-1007,"msg":"Timeout waiting for response from backend server."}'), 0.0),
        (answering(400, b'{"code":-1001,"msg":"Internal error"}'), 0.0),
        (answering(429, Retry_After="17"), 17.0),
        (answering(429), MINUTE_S),
        (answering(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), MINUTE_S),
        (answering(418, Retry_After="120"), 120.0),
        (answering(418), 120.0),
        (cut, 0.0),
    ],
)
async def test_what_may_pass_is_waited_for_and_asked_again(server: CandleServer, cue: Fault, waits_s: float) -> None:
    server.cues.append(cue)
    clock, told = JumpingClock(), Told()

    assert len(await page(server, clock, told)) == 10

    assert len(server.pages()) == 2
    assert len(clock.waits) == 1
    assert clock.waits[0] == waits_s or 0.25 <= clock.waits[0] <= 0.5
    assert clock.waits[0] >= waits_s
    assert len(told.lines) == 1
    assert f"{server.base}/fapi/v1/klines?" in told.lines[0]


async def test_what_does_not_pass_is_given_up_after_a_while(server: CandleServer) -> None:
    server.cues.extend([answering(500, b"oops")] * (TRIES_MAX + 5))
    clock = JumpingClock()

    with pytest.raises(ExchangeError, match=f"answers 500: 'oops'; given up after {TRIES_MAX} tries"):
        await page(server, clock)

    assert len(server.pages()) == TRIES_MAX
    assert all(BACKOFF_S_MIN / 2 <= wait_s <= BACKOFF_S_MAX for wait_s in clock.waits)
    assert 60 < sum(clock.waits) < 180


async def test_a_host_that_is_not_there_is_given_up_too(server: CandleServer) -> None:
    clock, nowhere = JumpingClock(), CandleServer("http://127.0.0.1:9")

    with pytest.raises(ExchangeError, match=f"ConnectError: .*; given up after {TRIES_MAX} tries"):
        await page(nowhere, clock)
    assert len(clock.waits) == TRIES_MAX - 1


@pytest.mark.parametrize(
    "cue",
    [
        answering(418, Retry_After=str(int(WAIT_S_MAX) + 1)),
        answering(418, b'{"code":-1003,"msg":"Way too many requests; IP banned until %d."}' % (START_MS + 3_600_000)),
        answering(429, Retry_After="3600"),
    ],
)
async def test_a_long_ban_is_not_sat_out(server: CandleServer, cue: Fault) -> None:
    server.cues.append(cue)
    clock = JumpingClock()

    with pytest.raises(RateLimited, match=r"left alone until 2023-11-15T\d\d:\d\d:\d\dZ: try again then"):
        await page(server, clock)
    assert (len(server.asked), clock.waits) == (1, [])


async def test_a_short_ban_whose_end_the_venue_tells_is_sat_out(server: CandleServer) -> None:
    server.cues.append(answering(418, b'{"code":-1003,"msg":"IP banned until %d. Please."}' % (START_MS + 90_000)))
    clock = JumpingClock()

    assert len(await page(server, clock)) == 10
    assert clock.waits == [90.0]


@pytest.mark.parametrize(
    ("cue", "told"),
    [
        (
            answering(400, b'{"code":-1130,"msg":"Data sent for parameter limit is not valid."}'),
            "400: -1130, Data sent",
        ),
        (answering(403, b"<html>Request blocked</html>"), "answers 403: '<html>Request blocked</html>'"),
        (answering(404, b""), "answers 404: ''"),
        (
            answering(451, b'{"code":0,"msg":"Service unavailable from a restricted location"}'),
            "--base-url names another",
        ),
        (answering(302, Location="https://elsewhere.example/"), "elsewhere, which is not followed: https://elsewhere"),
    ],
)
async def test_what_will_not_pass_is_told_at_once(server: CandleServer, cue: Fault, told: str) -> None:
    server.cues.append(cue)
    clock = JumpingClock()

    with pytest.raises(ExchangeError) as refused:
        await page(server, clock)
    assert told in refused.value.message
    assert (len(server.asked), clock.waits) == (1, [])


async def test_a_symbol_that_is_not_listed_is_told_with_those_near_it(server: CandleServer) -> None:
    server.rows |= {"PEPEUSDT": [], "BTCUSDC": [], "DOGEUSDT": []}

    with pytest.raises(UnknownSymbol, match="binance-usdm lists no BTCUSD; near it are BTCUSDT, BTCUSDC"):
        await page(server, JumpingClock(), symbol="BTCUSD")
    server.rows.clear()
    with pytest.raises(UnknownSymbol, match=r"^binance-usdm lists no BTCUSD$"):
        await page(server, JumpingClock(), symbol="BTCUSD")


async def test_the_venues_count_is_believed_and_half_of_its_budget_is_left_to_others(server: CandleServer) -> None:
    share = int(PRODUCTS["binance-usdm"].weight_per_minute_max * WEIGHT_SHARE)
    clock = JumpingClock(now_s=START_MS / 1000 + 20)
    by_minute: dict[int, int] = {}

    def used(_: int) -> str:
        minute = int(clock.now_s // MINUTE_S)
        # Somebody else asks from this address, too.
        by_minute[minute] = by_minute.get(minute, 0) + 300
        return str(by_minute[minute])

    server.used_weight = used
    told = Told()
    async with asking(server, clock, told=told) as rest:
        for _ in range(9):
            await rest.candles(SYMBOL, Timeframe.M1, start_ms=START_MS, end_ms=START_MS + 10 * MINUTE_MS, count=10)

    assert sorted(by_minute.values()) == [300, share, share]
    assert clock.waits == [41.0, MINUTE_S]
    assert told.lines[0] == "1200 of 2400 request weight are used; 41 s pause"


async def test_without_the_venues_count_our_own_holds(server: CandleServer) -> None:
    clock = JumpingClock()
    async with asking(server, clock) as rest:
        for _ in range(241):
            await rest.candles(
                SYMBOL, Timeframe.M1, start_ms=START_MS, end_ms=START_MS + 1_000 * MINUTE_MS, count=1_000
            )

    # A page of a thousand weighs 5, and 240 of them are half of 2400.
    assert clock.waits == [MINUTE_S + 1.0]


@pytest.mark.parametrize("count", ["-5", "x", "9" * 40, ""])
async def test_a_count_that_is_none_is_passed_over(server: CandleServer, count: str) -> None:
    server.used_weight = lambda _: count
    clock = JumpingClock()

    await page(server, clock)
    await page(server, clock)
    assert clock.waits == []


async def test_the_venues_minute_counts_not_ours(server: CandleServer) -> None:
    server.now_ms = START_MS + 50_000
    server.used_weight = lambda asked: "1200" if asked < 3 else "5"
    clock = JumpingClock()
    async with asking(server, clock) as rest:
        assert await rest.now_ms() == START_MS + 50_000
        await rest.candles(SYMBOL, Timeframe.M1, start_ms=START_MS, end_ms=START_MS + MINUTE_MS, count=1)

    assert clock.waits == [11.0]


@pytest.mark.parametrize("now_ms", [0, -1, 10**17])
async def test_a_time_that_is_none_is_refused(server: CandleServer, now_ms: int) -> None:
    server.now_ms = now_ms
    with pytest.raises(ExchangeError, match="/fapi/v1/time: the time expected"):
        async with asking(server, JumpingClock()) as rest:
            await rest.now_ms()


async def test_spot_is_asked_where_spot_is(server: CandleServer) -> None:
    async with asking(server, JumpingClock(), venue="binance-spot") as rest:
        await rest.now_ms()
        await rest.candles(SYMBOL, Timeframe.M1, start_ms=START_MS, end_ms=START_MS + MINUTE_MS, count=1)

    assert [each["path"] for each in server.asked] == ["/api/v3/time", "/api/v3/klines"]


@pytest.mark.parametrize(("venue", "weights"), [("binance-usdm", [1, 1, 2, 2, 5, 5]), ("binance-spot", [2] * 6)])
def test_a_page_weighs_what_the_venue_says(venue: str, weights: list[int]) -> None:
    product = PRODUCTS[venue]

    assert [product.weight(count) for count in (1, 99, 100, 499, 500, 1_000)] == weights
    assert product.page_max == 1_000
