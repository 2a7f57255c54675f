"""The book of one account: what all its strategies have at risk together, and what they did today and just now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from decimal import Decimal
from operator import itemgetter
from typing import Final

import msgspec
from attrs import define, field, frozen

from pipaid.model.money import ZERO, plain, quote_text
from pipaid.model.position import Direction

HOUR_MS: Final = 3_600_000
MINUTE_MS: Final = 60_000
# Openings are remembered by count, not by time, so that a window can be widened at any moment. A trade rate that allows
# more than this is held at this.
OPENINGS_KEPT: Final = 1_000
RATES_KEPT: Final = 100_000


@frozen(kw_only=True)
class Caps:
    """Limits of an account or of the whole daemon; nothing means no limit.

    Notional in quote currency, rates per venue time, days in UTC, `drawdown_pct_max` a share of the capital that was
    deployed when it was lost. `rate_limit_max_trades` is how many positions may be opened on one symbol within the
    window; without `hedging_allowed` no entry goes against what is open or working on its symbol; with `reduce_only`
    there is none.
    `identical_orders_per_minute_max` bounds the entries of one strategy that ask for just the same.
    """

    order_notional_max: Decimal | None = None
    exposure_max: Decimal | None = None
    open_positions_max: int | None = None
    open_orders_max: int | None = None
    orders_per_second_max: int | None = None
    orders_per_minute_max: int | None = None
    orders_per_day_max: int | None = None
    identical_orders_per_minute_max: int | None = None
    notional_per_minute_max: Decimal | None = None
    daily_loss_max: Decimal | None = None
    drawdown_pct_max: Decimal | None = None
    price_collar_pct: Decimal | None = None
    leverage_max: int | None = None
    rate_limit_max_trades: int | None = None
    rate_limit_window_hours: Decimal = Decimal(4)
    hedging_allowed: bool = True
    reduce_only: bool = False

    @property
    def trades_max(self) -> int | None:
        """Return how many openings within the window are allowed, as far as they are remembered."""
        asked = self.rate_limit_max_trades
        return None if asked is None else min(asked, OPENINGS_KEPT)


class SymbolExposure(msgspec.Struct, frozen=True):
    """What is at risk on one symbol: lots and entries that may open one, by direction; `waiting` are those entries."""

    longs: int = 0
    shorts: int = 0
    waiting: int = 0

    def moved(self, longs: int, shorts: int, waiting: int) -> SymbolExposure:
        """Return this with so many more of each."""
        return SymbolExposure(self.longs + longs, self.shorts + shorts, self.waiting + waiting)

    def against(self, direction: Direction) -> int:
        """Return how many lots and entries go the other way."""
        return self.shorts if direction is Direction.LONG else self.longs


_NONE_HERE: Final = SymbolExposure()


class StrategyExposure(msgspec.Struct, frozen=True, kw_only=True):
    """What one strategy has at risk now: open lots at entry value, working entries at their reserved price.

    `entries` counts the working entries that have not opened their lot yet, `orders` all that works.
    """

    positions: int = 0
    position_value: Decimal = ZERO
    entries: int = 0
    entry_value: Decimal = ZERO
    orders: int = 0
    symbols: Mapping[str, SymbolExposure] = {}

    @property
    def total(self) -> Decimal:
        """Return the worst case: every working entry filled."""
        return self.position_value + self.entry_value

    @property
    def count(self) -> int:
        """Return how many lots there would be if every working entry were filled."""
        return self.positions + self.entries


_NOTHING: Final = StrategyExposure()


class Deeds(msgspec.Struct, frozen=True, kw_only=True):
    """What one strategy did in a run as its account counts it: profit and entries of a UTC day.

    `pnl` is the profit of its life; only how it moves within a run is the account's.
    """

    run_id: str = ""
    day: int = 0
    day_pnl: Decimal = ZERO
    day_orders: int = 0
    pnl: Decimal = ZERO


class BookMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What must outlive a restart and follows from nothing else: the account's profit, its fall and its breaker."""

    pnl: Decimal = ZERO
    peak: Decimal = ZERO
    fall: Decimal = ZERO
    base: Decimal = ZERO
    tripped: str = ""
    tripped_at_us: int = 0


@define
class RateWindow:
    """The entries of the last minute of venue time by client order id; the oldest leave when there are too many."""

    _entries: dict[str, tuple[int, Decimal, Hashable]] = field(factory=dict[str, tuple[int, Decimal, Hashable]])

    def add(self, client_order_id: str, time_ms: int, notional: Decimal, likeness: Hashable = None) -> None:
        """Note one order; orders of the same `likeness` ask for the same. To note it again changes nothing."""
        entries = self._entries
        while entries:
            oldest = next(iter(entries))
            if entries[oldest][0] > time_ms - MINUTE_MS and len(entries) < RATES_KEPT:
                break
            del entries[oldest]
        entries.setdefault(client_order_id, (time_ms, notional, likeness))

    def within(self, now_ms: int, span_ms: int) -> tuple[int, Decimal]:
        """Return how many orders, and how much notional, fall into the span that ends now."""
        count, notional = 0, ZERO
        for time_ms, value, _ in self._entries.values():
            if time_ms > now_ms - span_ms:
                count += 1
                notional += value
        return count, notional

    def alike(self, now_ms: int, likeness: Hashable) -> int:
        """Return how many orders of the minute that ends now ask for the same."""
        since_ms = now_ms - MINUTE_MS
        return sum(1 for time_ms, _, other in self._entries.values() if time_ms > since_ms and other == likeness)


@define
class Book:
    """The exposure of one account, kept in step by its sessions; caps over strategies are judged on it.

    `blocked` is the reason why no strategy of the account may enter (the kill switch), or empty; `tripped` says why
    the breaker closed by itself: the `fall`, which is what was realised in losses since the last peak, was over
    `drawdown_pct_max` of `base`, which is what the `capital` was at the last profit or loss. `capital` is what those
    strategies of the account were given that may still win or lose. Whoever sees a breaker closed first notes when that
    was. A book with a `name` has its memory journalled under it.

    What a strategy contributes is replaced as a whole, never added to, so that a session rebuilt from the journal takes
    the place of the one that crashed, with whatever that one had decided in vain. `refusals` counts the entries
    that were refused since the start, by rule, for metrics; `openings` holds by symbol when lots were opened,
    the oldest first.
    """

    caps: Caps = field(factory=Caps)
    name: str = ""
    blocked: str = ""
    tripped: str = ""
    tripped_at_us: int = 0
    capital: Decimal = ZERO
    pnl: Decimal = ZERO
    peak: Decimal = ZERO
    fall: Decimal = ZERO
    base: Decimal = ZERO
    value: Decimal = ZERO
    positions: int = 0
    orders: int = 0
    day: int = 0
    day_pnl: Decimal = ZERO
    day_orders: int = 0
    rates: RateWindow = field(factory=RateWindow)
    exposures: dict[str, StrategyExposure] = field(factory=dict[str, StrategyExposure])
    symbols: dict[str, SymbolExposure] = field(factory=dict[str, SymbolExposure])
    deeds: dict[str, Deeds] = field(factory=dict[str, Deeds])
    openings: dict[str, dict[str, int]] = field(factory=dict[str, dict[str, int]])
    refusals: Counter[str] = field(factory=Counter[str])

    # What is at risk.

    def exposure(self, strategy_id: str) -> StrategyExposure:
        """Return a strategy's own share."""
        return self.exposures.get(strategy_id, _NOTHING)

    def symbol(self, symbol: str) -> SymbolExposure:
        """Return what the account has at risk on a symbol."""
        return self.symbols.get(symbol, _NONE_HERE)

    def set_exposure(self, strategy_id: str, new: StrategyExposure) -> None:
        """Replace a strategy's share and keep the sums."""
        old = self.exposure(strategy_id)
        self.exposures[strategy_id] = new
        self._move(old, new)

    def forget(self, strategy_id: str) -> None:
        """Drop the share of a strategy that has nothing at risk any more, or is about to be rebuilt."""
        old = self.exposures.pop(strategy_id, None)
        if old is not None:
            self._move(old, _NOTHING)

    def _move(self, old: StrategyExposure, new: StrategyExposure) -> None:
        self.value += (new.position_value - old.position_value) + (new.entry_value - old.entry_value)
        self.positions += new.positions - old.positions + new.entries - old.entries
        self.orders += new.orders - old.orders
        if new.symbols is old.symbols:
            return
        for symbol in {**old.symbols, **new.symbols}:
            before, after = old.symbols.get(symbol, _NONE_HERE), new.symbols.get(symbol, _NONE_HERE)
            if before is after:
                continue
            total = self.symbol(symbol).moved(
                after.longs - before.longs, after.shorts - before.shorts, after.waiting - before.waiting
            )
            if total == _NONE_HERE:
                self.symbols.pop(symbol, None)
            else:
                self.symbols[symbol] = total

    # What was done.

    def note_deeds(self, strategy_id: str, new: Deeds) -> None:
        """Replace what a strategy did and keep the sums; the profit with which it comes into a run is no news."""
        if new.day > self.day:
            self.day, self.day_pnl, self.day_orders = new.day, ZERO, 0
        old = self.deeds.get(strategy_id)
        if old is not None and old.run_id == new.run_id:
            self._earn(new.pnl - old.pnl)
        if old is not None and old.day == self.day:
            self.day_pnl -= old.day_pnl
            self.day_orders -= old.day_orders
        if new.day == self.day:
            self.day_pnl += new.day_pnl
            self.day_orders += new.day_orders
        self.deeds[strategy_id] = new
        self.watch_fall()

    def note_opening(self, symbol: str, position_id: str, time_ms: int) -> None:
        """Note that a lot was opened; to note it again changes nothing."""
        openings = self.openings.setdefault(symbol, {})
        if position_id in openings:
            return
        latest_ms = next(reversed(openings.values()), time_ms)
        openings[position_id] = time_ms
        if time_ms < latest_ms:
            openings = self.openings[symbol] = dict(sorted(openings.items(), key=itemgetter(1)))
        if len(openings) > OPENINGS_KEPT:
            del openings[next(iter(openings))]

    def opened_within(self, symbol: str, now_ms: int) -> int:
        """Return how many lots were opened on a symbol in the window of the trade rate that ends now."""
        since_ms = now_ms - self.caps.rate_limit_window_hours * HOUR_MS
        return sum(1 for time_ms in self.openings.get(symbol, {}).values() if time_ms > since_ms)

    # The breaker.

    def release(self) -> None:
        """Open the breaker again; the fall is counted anew from here."""
        self.tripped, self.tripped_at_us = "", 0
        self.peak, self.fall = self.pnl, ZERO

    def memory(self) -> BookMemory:
        """Return what is to be journalled."""
        return BookMemory(
            pnl=self.pnl,
            peak=self.peak,
            fall=self.fall,
            base=self.base,
            tripped=self.tripped,
            tripped_at_us=self.tripped_at_us,
        )

    def recall(self, memory: BookMemory) -> None:
        """Take up what was journalled before a restart."""
        self.pnl, self.peak, self.base = memory.pnl, memory.peak, memory.base
        # Without a base, nobody has noted yet of how much it was lost.
        self.fall = memory.fall if memory.base else memory.peak - memory.pnl
        self.tripped, self.tripped_at_us = memory.tripped, memory.tripped_at_us

    def watch_fall(self) -> None:
        """Close the breaker if too large a share of the capital was lost since the last peak."""
        limit = self.caps.drawdown_pct_max
        if limit is not None and self.base and self.fall > limit * self.base and not self.tripped:
            self.tripped = (
                f"portfolio drawdown {quote_text(self.fall)} is over {plain(limit)} of {plain(self.base)}; "
                f"the profit was {quote_text(self.peak)} at its peak and is {quote_text(self.pnl)}"
            )

    def _earn(self, profit: Decimal) -> None:
        """Count a profit or a loss, as a share of the capital that is deployed now."""
        self.pnl += profit
        if profit and self.capital > ZERO and self.capital != self.base:
            # What was lost before stays the share that it was of what was deployed then.
            self.fall = self.fall * self.capital / self.base if self.base else self.fall
            self.base = self.capital
        self.fall = max(ZERO, self.fall - profit)
        if not self.fall:
            self.peak = self.pnl
