"""The venue's public questions over REST: paced by its request weight, and asked again while that may help."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Annotated, Final

import msgspec
from attrs import define, field

from pipaid.errors import ExchangeError, RateLimited, UnknownSymbol
from pipaid.model.columns import Candles
from pipaid.model.instrument import MINUTE_MS, Timeframe
from pipaid.model.moment import iso_seconds
from pipaid.seams import Clock, Random
from pipaid.venues.binance_candles import PageAsked, candles_of
from pipaid.wire.http import Answer, NoAnswer, Web

TRIES_MAX: Final = 10
BACKOFF_S_MIN: Final = 0.5
BACKOFF_S_MAX: Final = 30.0
# A venue that wants to be left alone for longer is left alone: whoever comes back later goes on from there.
WAIT_S_MAX: Final = 300.0
# The budget belongs to the address: what trades from here needs the rest of it more.
WEIGHT_SHARE: Final = 0.5
# The venue counts by its own minutes, which are known to within a round trip.
MINUTE_MARGIN_S: Final = 1.0
TIME_WEIGHT: Final = 1
NAMES_WEIGHT: Final = 4
NEAR_NAMES_MAX: Final = 3

_OK: Final = 200
_TOO_MANY: Final = 429
_BANNED: Final = 418
_TIMED_OUT: Final = 408
_ELSEWHERE: Final = range(300, 400)
_NOT_SERVED_HERE: Final = 451
_FAILED: Final = 500
_UNKNOWN_SYMBOL: Final = -1121
# Too much weight, disconnected, overloaded, timed out, in maintenance: none is about what was asked.
_PASSING: Final = frozenset({-1000, -1001, -1003, -1006, -1007, -1008, -1016})
_BANNED_UNTIL: Final = re.compile(r"until (\d{13})\b")
_DEFAULT_WAIT_S: Final[Mapping[int, float]] = MappingProxyType({_TOO_MANY: 60.0, _BANNED: 120.0})


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """One of the venue's markets: where it is asked, and what that weighs.

    `page_weights` are the weights of pages up to so many candles.
    """

    base: str
    root: str
    names: str
    page_max: int
    page_weights: tuple[tuple[int, int], ...]
    weight_per_minute_max: int

    def weight(self, count: int) -> int:
        """Return what a page of so many candles weighs."""
        return next(weight for most, weight in self.page_weights if count <= most)


PRODUCTS: Final[Mapping[str, Product]] = MappingProxyType(
    {
        "binance-usdm": Product(
            base="https://fapi.binance.com",
            root="/fapi/v1",
            names="/fapi/v2/ticker/price",
            # It would give 1500, which weigh twice as much: a minute's budget brings a third less of them.
            page_max=1_000,
            page_weights=((99, 1), (499, 2), (1_000, 5)),
            weight_per_minute_max=2_400,
        ),
        "binance-spot": Product(
            base="https://api.binance.com",
            root="/api/v3",
            names="/api/v3/ticker/price",
            page_max=1_000,
            page_weights=((1_000, 2),),
            weight_per_minute_max=6_000,
        ),
    }
)


class LeftAlone(RateLimited):
    """The venue wants to hear nothing from this address until a moment; whoever asks before makes it later."""

    def __init__(self, message: str, until_ms: int) -> None:
        super().__init__(message)
        self.until_ms = until_ms


class _Complaint(msgspec.Struct, frozen=True):
    code: int = 0
    msg: str = ""


class _Time(msgspec.Struct, frozen=True):
    server_time: Annotated[int, msgspec.Meta(gt=0, lt=10**14)] = msgspec.field(name="serverTime")


class _Name(msgspec.Struct, frozen=True):
    symbol: str


class _Denied(ExchangeError):
    """The venue answered, and the answer is no."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.venue_code = code


@define
class BinanceRest:
    """The public REST of one product; `told` hears of each wait that a person would notice."""

    venue: str
    product: Product
    web: Web
    clock: Clock
    random: Random
    told: Callable[[str], None]
    pages: int = field(default=0, init=False)
    _ahead_ms: int = field(default=0, init=False)
    _minute: int = field(default=0, init=False)
    _used: int = field(default=0, init=False)

    @property
    def page_max(self) -> int:
        """Return how many candles a page may hold."""
        return self.product.page_max

    async def now_ms(self) -> int:
        """Ask for the venue's time."""
        before_ms = self.clock.now_us() // 1000
        address, body = await self._ask(f"{self.product.root}/time", TIME_WEIGHT, {})
        try:
            time_ms = msgspec.json.decode(body, type=_Time).server_time
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise ExchangeError(f"{address}: the time expected, {body[:60]!r} came") from None
        self._ahead_ms = time_ms - (before_ms + self.clock.now_us() // 1000) // 2
        return time_ms

    async def candles(
        self, symbol: str, timeframe: Timeframe, *, start_ms: int, end_ms: int, count: int
    ) -> Candles | None:
        """Return the first candles of a span, up to `count`, or nothing if the venue has none there."""
        query = {"symbol": symbol, "interval": timeframe.value, "startTime": start_ms, "endTime": end_ms - 1}
        try:
            address, body = await self._ask(
                f"{self.product.root}/klines", self.product.weight(count), {**query, "limit": count}
            )
        except _Denied as denied:
            if denied.venue_code == _UNKNOWN_SYMBOL:
                raise await self._unknown(symbol) from None
            raise
        self.pages += 1
        where = f"{address}, page {self.pages}"
        return candles_of(body, PageAsked(symbol, timeframe, start_ms, end_ms, count, where))

    async def _unknown(self, symbol: str) -> UnknownSymbol:
        try:
            _, body = await self._ask(self.product.names, NAMES_WEIGHT, {})
            names = [each.symbol for each in msgspec.json.decode(body, type=list[_Name])]
        except (ExchangeError, RateLimited, msgspec.MsgspecError, UnicodeDecodeError):
            names = []
        near = get_close_matches(symbol, names, NEAR_NAMES_MAX)
        hint = f"; near it are {', '.join(near)}" if near else ""
        return UnknownSymbol(f"{self.venue} lists no {symbol}{hint}")

    async def _ask(self, path: str, weight: int, query: Mapping[str, str | int]) -> tuple[str, bytes]:
        """Return the address and the answer; ask again, a bounded number of times, while the trouble may pass."""
        address = self.web.address(path, query)
        trouble: ExchangeError | None = None
        for tried in range(TRIES_MAX):
            await self._pace(weight)
            asked_to_wait_s = 0.0
            try:
                answer = await self.web.get(address)
            except NoAnswer as nothing:
                trouble = nothing
            else:
                self._count(answer)
                if answer.status == _OK:
                    return address, answer.body
                complaint = _complaint(answer)
                trouble = _trouble(address, answer, complaint)
                asked_to_wait_s = self._asked_to_wait_s(answer, complaint)
                if asked_to_wait_s > WAIT_S_MAX:
                    until_ms = self.clock.now_us() // 1000 + int(asked_to_wait_s * 1000)
                    told = f"it asks to be left alone until {iso_seconds(until_ms)}: try again then"
                    raise LeftAlone(f"{trouble.message}; {told}", until_ms)
            if tried < TRIES_MAX - 1:
                high = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2**tried)
                wait_s = max(asked_to_wait_s, self.random.uniform(high / 2, high))
                self.told(f"{trouble.message}; asking again in {wait_s:.1f} s")
                await self.clock.sleep(wait_s)
        assert trouble is not None
        raise ExchangeError(f"{trouble.message}; given up after {TRIES_MAX} tries")

    async def _pace(self, weight: int) -> None:
        """Wait for the venue's next minute if this one's share would be exceeded."""
        now_ms = self._venue_ms()
        if now_ms // MINUTE_MS != self._minute:
            self._minute, self._used = now_ms // MINUTE_MS, 0
        share = int(self.product.weight_per_minute_max * WEIGHT_SHARE)
        if self._used + weight > share:
            wait_s = (MINUTE_MS - now_ms % MINUTE_MS) / 1000 + MINUTE_MARGIN_S
            self.told(
                f"{self._used} of {self.product.weight_per_minute_max} request weight are used; {wait_s:.0f} s pause"
            )
            await self.clock.sleep(wait_s)
            self._minute, self._used = self._venue_ms() // MINUTE_MS, 0
        self._used += weight

    def _count(self, answer: Answer) -> None:
        # Others may ask from this address too: what the venue says is true, our own count a guess until it does.
        used = answer.headers.get("x-mbx-used-weight-1m", "")
        if used.isdecimal() and len(used) < len(str(10**9)):
            self._used = int(used)

    def _asked_to_wait_s(self, answer: Answer, complaint: _Complaint) -> float:
        after = answer.headers.get("retry-after", "").strip()
        if after.isdecimal() and len(after) < len(str(10**9)):
            return float(after)
        until = _BANNED_UNTIL.search(complaint.msg)
        if until is not None:
            return max(0.0, (int(until[1]) - self._venue_ms()) / 1000)
        return _DEFAULT_WAIT_S.get(answer.status, 0.0)

    def _venue_ms(self) -> int:
        return self.clock.now_us() // 1000 + self._ahead_ms


def _complaint(answer: Answer) -> _Complaint:
    try:
        return msgspec.json.decode(answer.body, type=_Complaint)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _Complaint()


def _trouble(address: str, answer: Answer, complaint: _Complaint) -> ExchangeError:
    """Return what is wrong if it may pass; raise it if it will not."""
    said = (
        f"{complaint.code}, {complaint.msg[:200]}"
        if complaint.code
        else repr(answer.body[:60].decode("ascii", "replace"))
    )
    message = f"{address}: the venue answers {answer.status}: {said}"
    if answer.status in (_TOO_MANY, _BANNED, _TIMED_OUT) or answer.status >= _FAILED or complaint.code in _PASSING:
        return ExchangeError(message)
    if answer.status in _ELSEWHERE:
        message = (
            f"{address}: the venue sends elsewhere, which is not followed: {answer.headers.get('location', '')[:200]}"
        )
    elif answer.status == _NOT_SERVED_HERE:
        message = f"{message}; it does not serve this place; --base-url names another of its addresses, or a mirror"
    raise _Denied(message, complaint.code)
